"""The root: configuration, pickable objects, refresh, splits, where a project may lie, names."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import copick
import numpy as np
import pytest

import copick_mlc
from copick_mlc import CopickConfigMLCroissant, CopickRootMLC, CroissantError, from_croissant, from_file
from copick_mlc.errors import CroissantWarning
from tests.projects import tree
from tests.test_mode_a import (
    BOX,
    check_tables,
    commits,
    contents,
    full_disk,
    labels,
    names,
    row,
    rows,
    table,
    the_picks,
    the_run,
    the_spacing,
    the_tomogram,
)


def published(manifest: Path) -> dict[str, Any]:
    """`copick:config` in the manifest."""
    config = json.loads(manifest.read_bytes())["copick:config"]
    assert isinstance(config, dict)
    return config


def definition(manifest: Path, name: str) -> dict[str, Any] | None:
    """A pickable object's definition in the manifest."""
    return next((item for item in published(manifest)["pickable_objects"] if item["name"] == name), None)


def opened(manifest: Path, **config: Any) -> CopickRootMLC:
    return CopickRootMLC(CopickConfigMLCroissant(**{"pickable_objects": [], "croissant_url": str(manifest), **config}))


# --- configuration ----------------------------------------------------------------------------------------


def test_the_manifest_completes_the_configuration(manifest: Path) -> None:
    root = opened(manifest)
    config = published(manifest)
    for name in ("name", "description", "version", "user_id", "session_id"):
        assert getattr(root.config, name) == config[name], name
    assert (root.user_id, root.session_id) == ("demo", "1")
    assert [item.name for item in root.pickable_objects] == ["ribosome", "membrane"]


def test_what_the_user_gives_wins(manifest: Path) -> None:
    given = {"name": "mine", "description": "", "version": "9.9.9", "user_id": "me", "session_id": "7"}
    root = opened(manifest, **given)
    for _ in range(2):
        assert {name: getattr(root.config, name) for name in given} == given
        root.refresh()
    assert opened(manifest, user_id=None).user_id == "demo", "nothing was given"


def test_what_the_user_sets_later_stays(root: CopickRootMLC, manifest: Path) -> None:
    root.user_id = "me"
    root.config.description = "my description"
    root.refresh()
    assert (root.user_id, root.session_id, root.config.description) == ("me", "1", "my description")
    assert pickle.loads(pickle.dumps(root)).user_id == "me"
    assert from_croissant(manifest).user_id == "demo"


def test_pickable_objects_are_the_union(manifest: Path) -> None:
    mine = [
        {"name": "proteasome", "is_particle": True, "label": 5},
        {"name": "ribosome", "is_particle": True, "label": 7, "radius": 1.0},
    ]
    root = opened(manifest, pickable_objects=mine)
    for _ in range(2):
        assert [(item.name, item.label) for item in root.pickable_objects] == [
            ("proteasome", 5),
            ("ribosome", 7),
            ("membrane", 2),
        ]
        root.refresh()
    assert root.get_object("ribosome").radius == 1.0
    ribosome = definition(manifest, "ribosome")
    assert ribosome is not None
    assert ribosome["label"] == 1, "it is the user's own"


def test_redefining_an_object_of_the_configuration(manifest: Path) -> None:
    root = opened(manifest, pickable_objects=[{"name": "ribosome", "is_particle": True, "label": 7, "radius": 1.0}])
    root.new_object("ribosome", is_particle=True, radius=99.0, exist_ok=True)
    root.refresh()
    assert root.get_object("ribosome").radius == 99.0
    assert from_croissant(manifest).get_object("ribosome").radius == 99.0


def test_unknown_keys_are_named(manifest: Path) -> None:
    with pytest.warns(CroissantWarning, match="croisant_base_url, overlay_rot"):
        root = opened(manifest, overlay_rot="/somewhere", croisant_base_url="x")
    assert root.mode == "A"


def test_bad_objects_in_the_manifest(manifest: Path) -> None:
    document = json.loads(manifest.read_bytes())
    document["copick:config"]["pickable_objects"][0]["label"] = 0
    manifest.write_text(json.dumps(document))
    with pytest.raises(CroissantError, match="background") as raised:
        from_croissant(manifest)
    assert isinstance(raised.value, ValueError)
    assert raised.value.code == "manifest-invalid"


# --- configuration files ----------------------------------------------------------------------------------


def test_output_path(manifest: Path, tmp_path: Path) -> None:
    """The configuration that `from_croissant` saves opens the same project, with us and with copick."""
    file = tmp_path / "new" / "config.json"
    root = from_croissant(manifest, overlay_root=tmp_path / "overlay", output_path=file)
    the_run(root).new_picks("membrane", "7", "me")
    assert json.loads(file.read_bytes())["config_type"] == "mlcroissant"
    expected = names(root)
    for path in (file, str(file), f"file://{file}"):
        again = from_file(path)
        assert (again.mode, again.target.path) == ("B", str(tmp_path / "overlay"))
        assert names(again) == expected
    assert names(CopickRootMLC.from_file(file)) == expected
    assert names(copick.from_file(str(file))) == expected


@pytest.mark.parametrize("dump", [lambda config: config.model_dump(), lambda config: config.model_dump(mode="json")])
def test_dumped_configuration(root: CopickRootMLC, tmp_path: Path, dump: Callable[[Any], Any]) -> None:
    """As napari-copick and copick's commands write it."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(dump(root.config)))
    assert names(copick.from_file(str(file))) == names(root)
    assert names(from_file(file)) == names(root)
    root.save_config(str(file))
    assert from_file(file).config == root.config


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"config_type": "filesystem"}', '{"config_type": "mlcroissant"}', '{"croissant_url": 5}', "\xff"],
)
def test_bad_configuration_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config\.json") as raised:
        from_file(file)
    assert isinstance(raised.value, CroissantError)
    assert (raised.value.code, raised.value.path) == ("config-invalid", str(file))


def test_missing_configuration_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        from_file(tmp_path / "config.json")
    assert isinstance(raised.value, CroissantError)


# --- pickable objects -------------------------------------------------------------------------------------


def test_new_object_is_published(root: CopickRootMLC, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with commits(monkeypatch) as made:
        root.new_object(
            "proteasome", is_particle=True, color=(1, 2, 3, 4), radius=60.0, identifier="GO:1", metadata={"a": [1]}
        )
    assert len(made) == 1
    written = definition(manifest, "proteasome")
    assert written is not None
    assert (written["label"], written["color"], written["radius"]) == (3, [1, 2, 3, 4], 60.0)
    assert (written["identifier"], written["metadata"]) == ("GO:1", {"a": [1]})
    fresh = from_croissant(manifest).get_object("proteasome").meta
    assert fresh == root.get_object("proteasome").meta
    assert copick.from_croissant(str(manifest)).get_object("proteasome").meta == fresh
    assert the_run(root).new_picks("proteasome", "1").user_id == "demo"
    check_tables(manifest)


def test_new_object_that_exists(root: CopickRootMLC, manifest: Path) -> None:
    before = tree(manifest.parent)
    with pytest.raises(ValueError, match="already exists"):
        root.new_object("ribosome", is_particle=True)
    with pytest.raises(ValueError, match="label"):
        root.new_object("proteasome", is_particle=True, label=1)
    with pytest.warns(UserWarning, match="sanitized"), pytest.raises(ValueError, match="invalid"):
        root.new_object("a_b", is_particle=True)
    assert tree(manifest.parent) == before
    root.new_object("ribosome", is_particle=True, radius=99.0, exist_ok=True)
    written = definition(manifest, "ribosome")
    assert written is not None
    assert (written["radius"], written["pdb_id"], written["label"]) == (99.0, "4V9D", 1)
    assert [item["name"] for item in published(manifest)["pickable_objects"]] == ["ribosome", "membrane"]


def test_new_object_that_cannot_be_published(
    root: CopickRootMLC, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [item.meta.model_dump() for item in root.pickable_objects]
    for arguments in ({"name": "proteasome"}, {"name": "ribosome", "radius": 1.0, "exist_ok": True}):
        with full_disk(monkeypatch, manifest.parent), pytest.raises(OSError, match="cannot write"):
            root.new_object(is_particle=True, **arguments)
        assert [item.meta.model_dump() for item in root.pickable_objects] == before
        assert [item.model_dump() for item in root.config.pickable_objects] == before


def test_new_object_in_a_batch(root: CopickRootMLC, manifest: Path) -> None:
    with root.batch():
        root.new_object("proteasome", is_particle=True).from_numpy(BOX, 1.0)
        the_run(root).new_picks("proteasome", "1")
        assert definition(manifest, "proteasome") is None
    assert definition(manifest, "proteasome") is not None
    assert row(manifest, "objects", name="proteasome")


# --- refresh, reconnect -----------------------------------------------------------------------------------


def test_refresh_sees_what_others_wrote(root: CopickRootMLC, manifest: Path) -> None:
    assert len(root.runs) == 3
    assert len(the_run(root).picks) == 2
    other = copick.from_croissant(str(manifest))
    other.new_run("TS_9").new_picks("ribosome", "1", "them").from_numpy(np.eye(3))
    other.get_run("TS_001").delete_picks(user_id="demo")
    other.set_splits({"test": ["TS_9"]})
    from_croissant(manifest).new_object("proteasome", is_particle=True)
    assert len(root.runs) == 3, "until asked to"
    root.refresh()
    assert [run.name for run in root.runs] == ["TS_001", "TS_002", "TS_9", "empty"]
    assert [picks.user_id for picks in the_run(root).picks] == ["template-matching"]
    assert len(the_run(root, "TS_9").picks[0].points) == 3
    assert root.splits == {"test": ["TS_9"], "train": ["TS_001"], "val": ["TS_002"]}
    assert root.get_object("proteasome") is not None
    assert names(root) == names(from_croissant(manifest))


def test_two_writers_both_keep_their_rows(root: CopickRootMLC, manifest: Path) -> None:
    other = from_croissant(manifest)
    assert len(root.runs) == len(other.runs) == 3
    root.new_run("ours")
    other.new_run("theirs")
    the_run(root).new_picks("membrane", "1", "us")
    the_run(other).new_picks("membrane", "1", "them")
    root.new_object("our-object", is_particle=True)
    other.new_object("their-object", is_particle=True)
    assert {line["name"] for line in table(manifest, "runs")} >= {"ours", "theirs"}
    assert {line["user_id"] for line in rows(manifest, "picks", object_name="membrane")} == {"us", "them"}
    assert {item["name"] for item in published(manifest)["pickable_objects"]} >= {"our-object", "their-object"}
    check_tables(manifest)


def test_refresh_commits_first(root: CopickRootMLC, manifest: Path) -> None:
    with root.batch():
        root.new_run("TS_9")
        assert not rows(manifest, "runs", name="TS_9")
        root.refresh()
        assert row(manifest, "runs", name="TS_9")
        assert root.get_run("TS_9") is not None


def test_refresh_that_fails_changes_nothing(root: CopickRootMLC, manifest: Path) -> None:
    listed = names(root)
    kept = manifest.read_bytes()
    manifest.write_text("{")
    with pytest.raises(CroissantError) as raised:
        root.refresh()
    assert raised.value.code == "manifest-invalid"
    assert names(root) == listed
    manifest.unlink()
    with pytest.raises(FileNotFoundError):
        root.refresh()
    assert names(root) == listed
    manifest.write_bytes(kept)
    root.refresh()
    assert names(root) == listed


def test_refresh_takes_over_another_base(root: CopickRootMLC, manifest: Path, project: Path, tmp_path: Path) -> None:
    shutil.move(project / "ExperimentRuns", tmp_path / "moved" / "ExperimentRuns")
    shutil.move(project / "Objects", tmp_path / "moved" / "Objects")
    document = json.loads(manifest.read_bytes())
    document["copick:baseUrl"] = f"file://{tmp_path}/moved"
    manifest.write_text(json.dumps(document))
    root.refresh()
    assert len(the_picks(root).points) == 8
    the_run(root).new_picks("membrane", "1", "me")
    assert (tmp_path / "moved/ExperimentRuns/TS_001/Picks/me_1_membrane.json").is_file()


def test_entities_refresh_themselves(root: CopickRootMLC, manifest: Path) -> None:
    run, spacing, tomogram = the_run(root), the_spacing(root), the_tomogram(root)
    counts = len(run.picks), len(run.segmentations), len(spacing.tomograms), len(tomogram.features)
    with root.batch():
        same = from_croissant(manifest)
        the_run(same).new_picks("membrane", "1", "them")
        the_spacing(same).new_tomogram("ctf")
        the_tomogram(same).new_features("edges")
    root.index.reload()
    run.refresh()
    spacing.refresh()
    tomogram.refresh()
    assert (len(run.picks), len(run.segmentations)) == (counts[0] + 1, counts[1])
    assert (len(spacing.tomograms), len(tomogram.features)) == (counts[2] + 1, counts[3] + 1)


def test_reconnect_forgets_what_was_listed(overlay_root: CopickRootMLC, tmp_path: Path) -> None:
    assert len(the_run(overlay_root).picks) == 2
    directory = tmp_path / "overlay/ExperimentRuns/TS_001/Picks"
    directory.mkdir(parents=True)
    shutil.copy(the_picks(overlay_root).path, directory / "me_1_ribosome.json")
    assert len(the_run(overlay_root).picks) == 2
    overlay_root.reconnect()
    assert len(the_run(overlay_root).picks) == 3


# --- splits -----------------------------------------------------------------------------------------------


def test_split_of_a_run(root: CopickRootMLC, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = the_run(root)
    assert run.split == "train"
    assert the_run(root, "empty").split is None
    with commits(monkeypatch) as made:
        run.split = "fold 1"
    assert len(made) == 1
    assert row(manifest, "runs", name="TS_001")["split"] == "fold 1"
    assert the_run(from_croissant(manifest)).split == "fold 1"
    assert copick.from_croissant(str(manifest)).get_run("TS_001").split == "fold 1"
    for value in (None, ""):
        run.split = "train"
        run.split = value
        assert run.split is None
        assert row(manifest, "runs", name="TS_001")["split"] == ""


def test_runs_in_a_split(root: CopickRootMLC) -> None:
    assert root.splits == {"train": ["TS_001"], "val": ["TS_002"]}
    assert root.get_runs_in_split("train") == [the_run(root)]
    assert root.get_runs_in_split("test") == []


def test_set_splits(root: CopickRootMLC, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with commits(monkeypatch) as made:
        root.set_splits({"test": ["TS_002", "empty"]})
        assert root.splits == {"test": ["TS_002", "empty"], "train": ["TS_001"]}
        root.set_splits({"val": "TS_001"}, clear_existing=True)
        assert root.splits == {"val": ["TS_001"]}
    assert len(made) == 2
    assert {line["name"]: line["split"] for line in table(manifest, "runs")} == {
        "TS_001": "val",
        "TS_002": "",
        "empty": "",
    }
    assert copick.from_croissant(str(manifest)).splits == root.splits


def test_clear_splits(root: CopickRootMLC, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.set_splits({"test": ["empty"]})
    with commits(monkeypatch) as made:
        root.clear_splits("TS_001")
        assert root.splits == {"test": ["empty"], "val": ["TS_002"]}
        root.clear_splits(["TS_002"])
        assert root.splits == {"test": ["empty"]}
        root.clear_splits()
        root.clear_splits()
    assert root.splits == {}
    assert len(made) == 3
    identifiers = [entry["@id"] for entry in json.loads(manifest.read_bytes())["recordSet"]]
    assert "copick/splits" not in identifiers


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        (lambda root: root.set_splits({"a": ["TS_001", "no such run"]}), KeyError, "run-unknown"),
        (lambda root: root.set_splits({"a": ["TS_001"], "b": ["TS_002", "TS_001"]}), ValueError, "option-invalid"),
        (lambda root: root.set_splits({"a": ["TS_001"], "": ["TS_002"]}), ValueError, "option-invalid"),
        (lambda root: root.set_splits({"a": ["TS_001"], "b\0": ["TS_002"]}), ValueError, "name-invalid"),
        (lambda root: root.clear_splits(["TS_001", "no such run"]), KeyError, "run-unknown"),
        (lambda root: setattr(the_run(root), "split", "b\0"), ValueError, "name-invalid"),
    ],
)
def test_splits_all_or_none(
    root: CopickRootMLC,
    project: Path,
    change: Callable[[CopickRootMLC], None],
    error: type[Exception],
    code: str,
) -> None:
    before, splits = tree(project), root.splits
    with pytest.raises(error) as raised:
        change(root)
    assert isinstance(raised.value, CroissantError)
    assert raised.value.code == code
    assert root.splits == splits
    root.sync()
    assert tree(project) == before


def test_splits_when_the_disk_is_full(
    root: CopickRootMLC, manifest: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, splits = tree(project), root.splits
    with full_disk(monkeypatch, manifest.parent), pytest.raises(OSError, match="cannot write"):
        root.set_splits({"test": ["TS_001", "TS_002"]})
    assert root.splits == splits
    assert tree(project) == before


# --- where a project may lie ------------------------------------------------------------------------------

FORMS: dict[str, Callable[[Path], Any]] = {
    "text": str,
    "pathlib": lambda path: path,
    "file://": lambda path: f"file://{path}",
    "local://": lambda path: f"local://{path}",
    "relative": lambda path: str(path.relative_to(Path.cwd())),
    "relative with dots": lambda path: f"./x/../{path.relative_to(Path.cwd())}",
    "pathlib, relative": lambda path: path.relative_to(Path.cwd()),
    "home": lambda path: f"~/{path.relative_to(Path('~').expanduser())}",
    "pathlib, home": lambda path: Path("~") / path.relative_to(Path("~").expanduser()),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_a_path(
    manifest: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    say = FORMS[form]
    moved = tmp_path / "manifest" / "Croissant"
    shutil.move(manifest.parent, moved)

    root = from_croissant(say(moved / "metadata.json"), croissant_base_url=say(project))
    assert root.index.url == str(moved / "metadata.json")
    assert root.index.base_url == str(project)
    assert len(the_picks(root).points) == 8
    the_run(root).new_picks("membrane", "1", "me")
    assert (project / "ExperimentRuns/TS_001/Picks/me_1_membrane.json").is_file()
    root.refresh()
    assert len(the_run(root).picks) == 3

    root = from_croissant(
        say(moved / "metadata.json"), overlay_root=say(tmp_path / "overlay"), croissant_base_url=say(project)
    )
    the_run(root).new_picks("membrane", "2", "me")
    assert (tmp_path / "overlay/ExperimentRuns/TS_001/Picks/me_2_membrane.json").is_file()
    assert from_croissant(moved / "metadata.json", say(project), project).static_is_overlay
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest", "overlay", "project"]


def test_moved_project(manifest: Path, project: Path, tmp_path: Path) -> None:
    """Without a base URL in the manifest, a project can be moved."""
    document = json.loads(manifest.read_bytes())
    del document["copick:baseUrl"]
    manifest.write_text(json.dumps(document))
    expected = contents(from_croissant(manifest), "TS_001")
    moved = Path(shutil.move(project, tmp_path / "moved"))
    root = from_croissant(moved / "Croissant/metadata.json")
    assert root.index.base_url == str(moved)
    assert contents(root, "TS_001") == expected


def test_project_behind_a_link(manifest: Path, project: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(project)
    root = from_croissant(tmp_path / "link/Croissant/metadata.json", croissant_base_url=tmp_path / "link")
    the_tomogram(root).set_region(np.zeros((1, 1, 1)), x=slice(1), y=slice(1), z=slice(1))
    the_picks(root).delete()
    assert not (project / "ExperimentRuns/TS_001/Picks/demo_1_ribosome.json").exists()
    assert (tmp_path / "link").is_symlink()
    check_tables(manifest)


# --- copies and processes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda root: pickle.loads(pickle.dumps(root))])
@pytest.mark.parametrize("mode", ["A", "B"])
def test_copies(manifest: Path, tmp_path: Path, mode: str, duplicate: Callable[[Any], Any]) -> None:
    root = from_croissant(manifest, overlay_root=None if mode == "A" else tmp_path / "overlay")
    root.new_object("proteasome", is_particle=True)
    the_run(root).new_picks("proteasome", "1", "me")
    listed = names(root)
    again = duplicate(root)
    assert again is not root
    assert (type(again), again.mode, again.user_id) == (CopickRootMLC, mode, "demo")
    assert names(again) == listed
    the_run(again).new_picks("membrane", "1", "me")
    root.refresh()
    assert len(the_run(root).picks) == 4

    run = duplicate(the_run(root))
    assert (run.name, run.root is root) == ("TS_001", False)
    assert len(run.picks) == 4
    picks = duplicate(the_picks(root))
    assert np.array_equal(picks.numpy()[0], the_picks(root).numpy()[0])
    picks.points = picks.points[:2]
    if mode == "A":
        picks.store()
        assert len(the_picks(from_croissant(manifest)).points) == 2
    volume = duplicate(the_tomogram(root))
    assert np.array_equal(volume.numpy(), the_tomogram(root).numpy())


def _work(run: Any) -> tuple[str, int]:
    made = run.new_picks("membrane", "1", "worker")
    made.from_numpy(np.eye(3))
    return run.name, len(run.picks)


def test_worker_processes(root: CopickRootMLC, manifest: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        done = list(pool.map(_work, root.runs))
    assert done == [("TS_001", 3), ("TS_002", 3), ("empty", 1)]
    assert len(rows(manifest, "picks", user_id="worker")) == 3
    root.refresh()
    assert [len(run.get_picks(user_id="worker")[0].points) for run in root.runs] == [3, 3, 3]


# --- names ------------------------------------------------------------------------------------------------

RUN_NAMES = [
    "007",
    "1e5",
    "NA",
    "nan",
    "true",
    "None",
    "a b",
    " a ",
    "ü",
    "日本",
    "a,b",
    'x"y',
    "a_b",
    "-1",
    "#",
    "%41",
]
NAMES = ["007", "1e5", "NA", "true", "ü", "a,b", "x'y", "#", "1.0"]


def test_run_names(root: CopickRootMLC, manifest: Path, project: Path) -> None:
    with root.batch():
        for name in RUN_NAMES:
            root.new_run(name).new_voxel_spacing(10.0)
            the_run(root, name).new_picks("ribosome", "1", "me")
    for _ in range(2):
        fresh = from_croissant(manifest)
        assert {run.name for run in fresh.runs} == {*RUN_NAMES, "TS_001", "TS_002", "empty"}
        for name in RUN_NAMES:
            run = the_run(fresh, name)
            assert [picks.points for picks in run.picks] == [[]]
            assert run.get_voxel_spacing(10) is not None
            assert (project / "ExperimentRuns" / name / "Picks/me_1_ribosome.json").is_file()
        assert {line["name"] for line in table(manifest, "runs")} >= set(RUN_NAMES)
        fresh.set_splits({"test": RUN_NAMES})
        assert sorted(fresh.splits["test"]) == sorted(RUN_NAMES)
    for name in RUN_NAMES:
        fresh.delete_run(name)
    assert [run.name for run in from_croissant(manifest).runs] == ["TS_001", "TS_002", "empty"]
    assert sorted(path.name for path in (project / "ExperimentRuns").iterdir()) == ["TS_001", "TS_002", "empty"]


def test_run_names_in_an_overlay(overlay_root: CopickRootMLC, manifest: Path, tmp_path: Path) -> None:
    for name in RUN_NAMES:
        overlay_root.new_run(name).new_picks("ribosome", "1", "me")
    fresh = from_croissant(manifest, overlay_root=tmp_path / "overlay")
    assert {run.name for run in fresh.runs} == {*RUN_NAMES, "TS_001", "TS_002", "empty"}
    assert all(the_run(fresh, name).picks[0].points == [] for name in RUN_NAMES)


@pytest.mark.parametrize("mode", ["A", "B"])
def test_names_of_users_and_sessions(manifest: Path, tmp_path: Path, mode: str) -> None:
    overlay = None if mode == "A" else tmp_path / "overlay"
    root = from_croissant(manifest, overlay_root=overlay)
    run = the_run(root, "empty")
    with root.batch():
        spacing = run.new_voxel_spacing(10.0)
        for name in NAMES:
            run.new_picks("ribosome", name, name)
            run.new_mesh("ribosome", name, name)
            run.new_segmentation(10.0, name, name, True, name).from_numpy(labels("multilabel"))
            spacing.new_tomogram(name).new_features(name)
    fresh = from_croissant(manifest, overlay_root=overlay)
    run = the_run(fresh, "empty")
    keys = {(name, name) for name in NAMES}
    assert {(picks.user_id, picks.session_id) for picks in run.picks} == keys
    assert {(mesh.user_id, mesh.session_id) for mesh in run.meshes} == keys
    assert {(item.user_id, item.session_id) for item in run.segmentations} == keys
    assert {item.name for item in run.segmentations} == set(NAMES)
    assert all(item.numpy().any() for item in run.segmentations)
    tomograms = the_spacing(fresh, "empty").tomograms
    assert {(tomogram.tomo_type, tomogram.features[0].feature_type) for tomogram in tomograms} == keys
    for name in NAMES:
        (picks,) = run.get_picks("ribosome", name, name)
        assert picks.points == []
        assert picks.meta.session_id == name
    if mode == "A":
        assert {line["user_id"] for line in rows(manifest, "picks", run="empty")} == set(NAMES)


def test_names_that_copick_mends(root: CopickRootMLC, manifest: Path) -> None:
    with pytest.warns(UserWarning, match="sanitized"):
        made = the_run(root).new_picks("ribosome", "my session", "a_b")
    assert (made.user_id, made.session_id) == ("a-b", "my-session")
    assert row(manifest, "picks", user_id="a-b")["session_id"] == "my-session"


def test_public_names() -> None:
    for name in ("CopickRootMLC", "from_croissant", "from_file", "CopickConfigMLCroissant"):
        assert name in copick_mlc.__all__
        assert getattr(copick_mlc, name).__module__.startswith("copick_mlc.")
