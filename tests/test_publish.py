from __future__ import annotations

import hashlib
import json
import os
import random
import secrets
import shutil
import signal
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import copick
import fsspec
import mlcroissant
import numpy as np
import pytest
import trimesh
import zarr
from copick.impl.cryoet_data_portal import CopickRootCDP
from fsspec.implementations.memory import MemoryFileSystem

from copick_mlc import CopickRootMLC, CroissantIndex, export_croissant, from_croissant, publish
from copick_mlc.__main__ import main
from copick_mlc._copying import staging_path
from copick_mlc._project import Project
from copick_mlc._tables import TABLES, Row
from copick_mlc.errors import CroissantError, CroissantWarning
from tests.portal import add_overlay_artifacts
from tests.projects import inventory, make_full_project, tree

VOLUME = np.arange(6**3, dtype=np.float32).reshape(6, 6, 6)


def quietly(function: Any, *arguments: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CroissantWarning)
        return function(*arguments, **options)


def published(root: Any, target: Any, **options: Any) -> Path:
    return Path(quietly(publish, root, target, **{"validate": False, **options}))


def define(root: Any) -> Any:
    return root.new_object("virus", True, label=7)


def fill(root: Any) -> None:
    """An artifact of every kind, in a published run and in a new one; and picks that shadow published ones."""
    define(root).from_numpy(VOLUME, 10.0)
    for name in ("TS_001", "mine"):
        run = root.get_run(name) or root.new_run(name)
        spacing = run.get_voxel_spacing(10.0) or run.new_voxel_spacing(10.0)
        tomogram = spacing.new_tomogram("ours")
        tomogram.from_numpy(VOLUME, levels=1)
        zarr.group(store=tomogram.new_features("edges").zarr()).create_dataset("0", data=VOLUME[None])
        picks = run.new_picks("virus", "5", "me")
        picks.meta.voxel_spacing = 10.0
        picks.from_numpy(np.ones((2, 3)))
        mesh = run.new_mesh("membrane", "5", "me")
        mesh.mesh = trimesh.Scene(trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]))
        mesh.store()
        labels = (VOLUME % 2).astype(np.uint8)
        run.new_segmentation(10.0, "virus", "5", user_id="me").from_numpy(labels)
        run.new_segmentation(10.0, "all", "5", is_multilabel=True, user_id="me").from_numpy(labels)
        run.new_segmentation(10.0, "virus", "6", user_id="me", is_instance=True).from_numpy(labels)
        run.new_segmentation(10.0, "scene", "5", user_id="me", is_panoptic=True).from_numpy(np.stack([labels, labels]))


def shadow(overlay: Path, source: Path) -> None:
    """Have fewer points in the overlay's picks of the same name as published ones."""
    name = "ExperimentRuns/TS_001/Picks/demo_1_ribosome.json"
    content = json.loads((source / name).read_text())
    content["points"] = content["points"][:1]
    (overlay / name).parent.mkdir(parents=True, exist_ok=True)
    (overlay / name).write_text(json.dumps(content))


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    return tmp_path / "overlay"


@pytest.fixture(scope="session")
def filled(full_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An overlay with an artifact of every kind."""
    directory = tmp_path_factory.mktemp("filled") / "overlay"
    fill(from_croissant(full_template / "Croissant" / "metadata.json", overlay_root=directory))
    shadow(directory, full_template)
    return directory


@pytest.fixture
def mode_b(overlay_root: CopickRootMLC, overlay: Path, filled: Path) -> CopickRootMLC:
    """The published project with a copy of that overlay."""
    shutil.copytree(filled, overlay)
    define(overlay_root)
    overlay_root.refresh()
    return overlay_root


@pytest.fixture
def web_b(mode_b: CopickRootMLC, manifest: Path, overlay: Path) -> CopickRootMLC:
    """The same, published on the web, as what is republished elsewhere has to be."""
    root = from_croissant(manifest, overlay_root=overlay, croissant_base_url="https://data.invalid/project")
    define(root)
    root.refresh()
    return root


def artifacts(manifest: Path | str, *, below: str = "") -> dict[tuple[str, Any], str]:
    """The URL cells of the artifacts of a manifest, by table and key; those that begin with `below`."""
    index = CroissantIndex.from_url(str(manifest))
    rows: list[Row] = [row for table in TABLES.values() if table.has_url for row in index.rows(table.name)]
    urls = {(row.table.name, row.key): row.url for row in rows}  # type: ignore[attr-defined]
    return {key: url for key, url in urls.items() if url.startswith(below)}


def data(directory: Path) -> dict[str, bytes]:
    """The files of a project's artifacts by relative path, and what looks like them."""
    files = {name: content for name, content in tree(directory).items() if name.startswith(("Exp", "Obj"))}
    return {name: content for name, content in files.items() if not name.endswith("/.meta")}  # copick's, of runs


def stamps(directory: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}


def staged(directory: Path) -> list[Path]:
    return [path for path in directory.rglob(".*") if path.name.startswith(".") and ".tmp" in path.name]


# --- what is published -----------------------------------------------------------------------------------


def test_an_overlay_is_published_elsewhere_and_read_by_all(
    mode_b: CopickRootMLC, overlay: Path, project: Path, tmp_path: Path
) -> None:
    before = tree(project), tree(overlay)
    target = tmp_path / "release"
    manifest = published(mode_b, target, license="MIT", validate=True)
    assert manifest == target / "Croissant" / "metadata.json"
    wanted = inventory(mode_b)
    assert inventory(from_croissant(manifest)) == wanted
    # Without an overlay, copick looks for volumes at their canonical paths, whatever their rows say.
    assert inventory(copick.from_croissant(str(manifest), overlay_root=str(tmp_path / "mine"))) == wanted
    assert data(target) == data(overlay)
    assert (tree(project), tree(overlay)) == before
    document = json.loads(manifest.read_text())
    assert "copick:baseUrl" not in document
    assert document["name"] == json.loads((project / "Croissant" / "metadata.json").read_text())["name"]
    copied = artifacts(manifest, below="ExperimentRuns/")
    assert len(copied) == 2 * 8 + 1
    assert all(
        table in {name for name, _ in copied} for table in TABLES if TABLES[table].has_url and table != "objects"
    )
    assert artifacts(manifest, below="Objects/") == {("objects", ("virus",)): "Objects/virus.zarr"}
    assert artifacts(manifest, below=f"file://{project}/")
    assert len(list(mlcroissant.Dataset(jsonld=str(manifest)).records("copick/picks"))) == len(
        [None for table, _ in artifacts(manifest) if table == "picks"]
    )
    for row in CroissantIndex.from_url(str(manifest)).rows("picks", "mine"):
        assert row.sha256 == hashlib.sha256((target / str(row.url)).read_bytes()).hexdigest()  # type: ignore[attr-defined]


def test_a_published_project_can_be_moved(mode_b: CopickRootMLC, overlay: Path, tmp_path: Path) -> None:
    manifest = published(mode_b, tmp_path / "release")
    wanted = inventory(mode_b)
    shutil.rmtree(overlay)
    (tmp_path / "release").rename(tmp_path / "moved")
    moved = tmp_path / "moved" / manifest.relative_to(tmp_path / "release")
    assert inventory(from_croissant(moved)) == wanted


def test_an_overlay_is_taken_into_the_published_project(mode_b: CopickRootMLC, overlay: Path, project: Path) -> None:
    wanted = inventory(mode_b)
    manifest = project / "Croissant" / "metadata.json"
    document = json.loads(manifest.read_text())
    before = data(project)
    published(mode_b, project, force=True)
    assert data(project) == before | data(overlay)
    assert before["ExperimentRuns/TS_001/Picks/demo_1_ribosome.json"] not in data(project).values()
    assert inventory(from_croissant(manifest)) == wanted
    assert inventory(copick.from_croissant(str(manifest))) == wanted
    urls = artifacts(manifest)
    assert all(url.startswith(("ExperimentRuns/", "Objects/")) for url in urls.values())
    new = json.loads(manifest.read_text())
    assert new["copick:baseUrl"] == document["copick:baseUrl"]
    assert from_croissant(manifest).splits == {"train": ["TS_001"], "val": ["TS_002"]}
    assert list(Project(str(manifest)).check_data()) == []
    assert list(Project(str(manifest)).unnamed()) == []


def test_the_base_url_is_the_given_one_or_that_of_what_is_replaced(mode_b: CopickRootMLC, tmp_path: Path) -> None:
    target = tmp_path / "release"
    manifest = published(mode_b, target, base_url="https://example.org/release/")
    assert json.loads(manifest.read_text())["copick:baseUrl"] == "https://example.org/release"
    first = artifacts(manifest)
    published(mode_b, target, force=True)
    document = json.loads(manifest.read_text())
    assert document["copick:baseUrl"] == "https://example.org/release"
    assert document["distribution"][0]["contentUrl"] == "https://example.org/release/Croissant/runs.csv"
    assert artifacts(manifest) == first
    published(mode_b, target, force=True, base_url="s3://bucket/release")
    assert json.loads(manifest.read_text())["copick:baseUrl"] == "s3://bucket/release"


def test_a_base_url_that_is_another_local_directory_is_dropped(mode_b: CopickRootMLC, tmp_path: Path) -> None:
    published(mode_b, tmp_path / "release", base_url=f"file://{tmp_path}/release")
    (tmp_path / "release").rename(tmp_path / "moved")
    with pytest.warns(CroissantWarning) as caught:
        manifest = publish(mode_b, tmp_path / "moved", force=True)
    assert "which is another directory" in str([str(warning.message) for warning in caught])
    assert "copick:baseUrl" not in json.loads(Path(manifest).read_text())
    assert inventory(from_croissant(manifest)) == inventory(mode_b)


def files_root(path: Path, overlay: Path, static: Path | None = None) -> Any:
    """A filesystem project of the objects of another one."""
    config: dict[str, Any] = {
        "config_type": "filesystem",
        "name": "files",
        "pickable_objects": json.loads((path.parent / "project" / "copick_config.json").read_text())[
            "pickable_objects"
        ],
        "overlay_root": f"local://{overlay}",
        "overlay_fs_args": {"auto_mkdir": True},
    }
    if static:
        config |= {"static_root": f"local://{static}"}
    path.write_text(json.dumps(config))
    return copick.from_file(str(path))


def test_a_filesystem_project_that_is_all_overlay(project: Path, tmp_path: Path) -> None:
    root = files_root(tmp_path / "config.json", project)
    calls: list[tuple[int, int]] = []
    manifest = published(root, tmp_path / "release", progress=lambda *call: calls.append(call))
    total = len(artifacts(manifest))
    assert calls == [(done, total) for done in range(total + 1)]
    wanted = inventory(root)
    assert inventory(from_croissant(manifest)) == wanted
    again = inventory(files_root(tmp_path / "again.json", tmp_path / "release"))
    wanted["runs"].pop("empty")  # there is no data of it
    assert again == wanted


def test_of_a_filesystem_project_with_static_data_only_the_overlay_is_copied(
    project: Path, overlay: Path, tmp_path: Path
) -> None:
    shadow(overlay, project)
    root = files_root(tmp_path / "config.json", overlay, project)
    root.get_run("TS_002").new_picks("ribosome", "5", "me").from_numpy(np.ones((2, 3)))
    manifest = published(root, tmp_path / "release")
    assert data(tmp_path / "release") == data(overlay)
    assert len(data(overlay)) == len(artifacts(manifest, below="ExperimentRuns/")) == 2
    opened = from_croissant(manifest)
    run = opened.get_run("TS_001")
    assert run is not None
    (picks,) = run.get_picks("ribosome", "demo")
    assert len(picks.points) == 1
    assert len(opened.runs) == 3


def test_only_what_is_selected_is_copied(mode_b: CopickRootMLC, overlay: Path, tmp_path: Path) -> None:
    manifest = published(
        mode_b,
        tmp_path / "release",
        runs=["mine"],
        picks=["virus"],
        segmentations=[],
        tomograms=[],
        features=[],
        objects=[],
    )
    assert set(data(tmp_path / "release")) == {
        "ExperimentRuns/mine/Picks/me_5_virus.json",
        "ExperimentRuns/mine/Meshes/me_5_membrane.glb",
    }
    assert len(artifacts(manifest)) == 2


def test_renamed_artifacts_lie_where_a_project_has_them(mode_b: CopickRootMLC, tmp_path: Path) -> None:
    maps = {"tomo_type_map": {"ours": "wbp-2", "wbp": "ours"}, "object_name_map": {"virus": "HIV"}}
    manifest = published(mode_b, tmp_path / "release", **maps)
    copied = {**artifacts(manifest, below="ExperimentRuns/"), **artifacts(manifest, below="Objects/")}
    index = CroissantIndex.from_url(str(manifest))
    for table, key in copied:
        (row,) = (row for row in index.rows(table) if row.key == key)
        assert copied[table, key] == row.canonical_url
    wanted = inventory(mode_b)["runs"]["mine"]
    found = inventory(from_croissant(manifest))["runs"]["mine"]
    assert found["spacings"]["10.000"] == {"wbp-2": wanted["spacings"]["10.000"]["ours"]}
    assert found["picks"] == {("me", "5", "HIV"): wanted["picks"]["me", "5", "virus"]}
    files = files_root(tmp_path / "config.json", tmp_path / "release")
    objects = from_croissant(manifest).config.pickable_objects
    files.config.pickable_objects = [item for item in objects if item.name != "ribosome"]  # its map is elsewhere
    assert inventory(files)["runs"]["mine"] == found


def test_nothing_is_copied_where_the_overlay_is_the_target(mode_b: CopickRootMLC, overlay: Path) -> None:
    before = data(overlay), stamps(overlay)
    wanted = inventory(mode_b)
    manifest = published(mode_b, f"{overlay}/../overlay")
    assert data(overlay) == before[0]
    assert {path: stamps(overlay)[path] for path in before[1]} == before[1]
    assert inventory(from_croissant(manifest)) == wanted
    assert len(artifacts(manifest, below="ExperimentRuns/")) == 17


def test_a_project_without_overlay_is_exported_with_a_word(root: CopickRootMLC, project: Path, tmp_path: Path) -> None:
    with pytest.warns(CroissantWarning) as caught:
        manifest = publish(root, tmp_path / "release")
    assert "nothing is copied" in str([str(warning.message) for warning in caught])
    assert len(artifacts(manifest)) == len(artifacts(manifest, below=f"file://{project}/")) > 0
    assert not data(tmp_path / "release")


def test_what_lies_in_the_overlay_of_a_portal_project(portal: CopickRootCDP, tmp_path: Path) -> None:
    add_overlay_artifacts(portal)
    manifest = published(portal, tmp_path / "release", base_url="https://example.org/release")
    assert json.loads(manifest.read_text())["copick:baseUrl"] == "https://example.org/release"
    copied = data(tmp_path / "release")
    assert copied == data(tmp_path / "portal")
    urls = artifacts(manifest)
    assert {url.partition("/")[0] for url in urls.values()} == {"ExperimentRuns", "Objects", "s3:"}
    assert all(any(name.startswith(url) for name in copied) for url in urls.values() if "://" not in url)
    root = from_croissant(manifest, croissant_base_url=tmp_path / "release")
    run = root.get_run("16463")
    assert run is not None
    assert {picks.user_id for picks in run.picks} > {"me"}
    assert all(len(picks.points) for picks in run.picks)


# --- again, and after kills ------------------------------------------------------------------------------


def test_nothing_changes_when_it_is_done_twice(mode_b: CopickRootMLC, tmp_path: Path) -> None:
    manifest = published(mode_b, tmp_path / "release")
    files, before = tree(tmp_path / "release"), stamps(tmp_path / "release")
    document = json.loads(manifest.read_text())
    published(mode_b, tmp_path / "release", force=True)
    assert json.loads(manifest.read_text()) == document
    assert {**tree(tmp_path / "release"), "Croissant/metadata.json": b""} == {**files, "Croissant/metadata.json": b""}
    after = stamps(tmp_path / "release")
    assert {path for path in after if after[path] != before[path]} <= {path for path in after if "/Croissant/" in path}


def test_what_changed_since_is_copied_and_nothing_else(mode_b: CopickRootMLC, overlay: Path, tmp_path: Path) -> None:
    target = tmp_path / "release"
    manifest = published(mode_b, target)
    before = stamps(target)
    run = mode_b.get_run("mine")
    assert run is not None
    run.get_picks("virus")[0].from_numpy(np.zeros((3, 3)))
    run.get_segmentations(name="all")[0].from_numpy(np.ones((4, 4, 4), np.uint8))
    surplus = target / "ExperimentRuns/mine/Segmentations/10.000_me_5_virus.zarr/surplus"
    surplus.write_text("x")
    with pytest.raises(FileExistsError, match="force") as caught:
        published(mode_b, target)
    assert isinstance(caught.value, CroissantError)
    (target / "ExperimentRuns/mine/Picks/me_5_virus.json").chmod(0o600)
    published(mode_b, target, force=True)
    assert data(target) == data(overlay)
    assert inventory(from_croissant(manifest)) == inventory(mode_b)
    after = stamps(target)
    changed = {path for path in after if after[path] != before.get(path) and "/Croissant/" not in path}
    stores = {path.partition(".zarr")[0].rpartition("/")[2] for path in changed}
    assert stores == {"me_5_virus.json", "10.000_me_5_all-multilabel", "10.000_me_5_virus"}
    assert (target / "ExperimentRuns/mine/Picks/me_5_virus.json").stat().st_mode & 0o777 == 0o600
    assert not staged(target)


def write_store(path: Path, files: int, content: str) -> None:
    for number in range(files):
        chunk = path / "0" / str(number // 20) / str(number % 20)
        chunk.parent.mkdir(parents=True, exist_ok=True)
        chunk.write_text(f"{content} {number}")
    (path / ".zgroup").write_text("{}")


@pytest.fixture
def many(project: Path, tmp_path: Path) -> Path:
    """An overlay with volumes of many chunks, and many picks."""
    directory = tmp_path / "many"
    for name in ("a", "b", "c"):
        write_store(directory / f"ExperimentRuns/TS_1/VoxelSpacing10.000/{name}.zarr", 150, "new")
    (directory / "ExperimentRuns/TS_1/Picks").mkdir()
    for number in range(10):
        (directory / f"ExperimentRuns/TS_1/Picks/me_{number}_ribosome.json").write_text('{"points": []}')
    assert project.is_dir()
    return directory


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_whoever_is_killed_leaves_old_stores_or_new_ones_and_goes_on(many: Path, tmp_path: Path) -> None:
    from tests.storm import in_process, said_by

    chance, target = random.Random(5), tmp_path / "release"
    spacing = target / "ExperimentRuns/TS_1/VoxelSpacing10.000"
    write_store(spacing / "b.zarr", 90, "old")
    old, new = tree(spacing / "b.zarr"), tree(many / "ExperimentRuns/TS_1/VoxelSpacing10.000/b.zarr")
    root = files_root(tmp_path / "config.json", many)
    seen: set[str] = set()

    def work(say: Any) -> None:
        quietly(publish, root, target, force=True, validate=False, progress=lambda done, _: say(str(done)))
        say("done")

    for turn in range(500):
        if turn > 12 and {"part", "staged"} <= seen:
            break
        process = in_process(work)
        os.read(process[1], 1)  # it is copying now
        time.sleep(chance.uniform(0, 0.06))
        os.kill(process[0], signal.SIGKILL)
        said = said_by(process)
        seen |= {"all" if "done" in said else "part", *("staged" for _ in staged(target))}
        assert not [line for line in said if line.startswith("error")]
        for name in ("a", "b", "c"):
            assert tree(spacing / f"{name}.zarr") in ([old, new] if name == "b" else [{}, new])
        if (manifest := target / "Croissant" / "metadata.json").exists():
            assert not list(Project(str(manifest)).check_data())
        if "done" in said:
            shutil.rmtree(target)
            write_store(spacing / "b.zarr", 90, "old")
    assert {"part", "staged"} <= seen
    published(root, target, force=True, validate=False)
    assert data(target) == data(many)
    assert not staged(target)


def test_what_a_killed_one_staged_is_checked_and_used(mode_b: CopickRootMLC, overlay: Path, tmp_path: Path) -> None:
    target, secret = tmp_path / "release", tmp_path / "secret"
    secret.write_text("mine")
    place = "ExperimentRuns/mine/VoxelSpacing10.000/ours.zarr"
    left = Path(staging_path(str(target / place)))
    shutil.copytree(overlay / place, left)
    chunk = next(path for path in left.rglob("*") if path.is_file() and path.name == "0")
    good = left / ".zattrs"
    untouched = good.stat().st_mtime_ns
    chunk.write_bytes(chunk.read_bytes()[:-1])
    (left / "surplus").write_text("x")
    (left / "more").mkdir()
    (left / "more" / "surplus").write_text("x")
    (left / ".zgroup").unlink()
    (left / ".zgroup").symlink_to(secret)
    (left / "link").symlink_to(tmp_path)
    file = Path(staging_path(str(target / "ExperimentRuns/mine/Picks/me_5_virus.json")))
    file.parent.mkdir()
    file.symlink_to(secret)
    store = Path(staging_path(str(target / "ExperimentRuns/mine/Segmentations/10.000_me_5_virus.zarr")))
    store.parent.mkdir()
    store.write_text("a file")
    former = Path(f"{left}.former")
    former.mkdir()
    published(mode_b, target)
    assert data(target) == data(overlay)
    assert not staged(target)
    assert secret.read_text() == "mine"
    assert (target / place / ".zattrs").stat().st_mtime_ns == untouched


def test_verify_names_what_a_killed_one_staged(mode_b: CopickRootMLC, project: Path) -> None:
    left = Path(staging_path(str(project / "ExperimentRuns/TS_001/VoxelSpacing10.000/ours.zarr")))
    left.mkdir()
    assert Project(str(project / "Croissant" / "metadata.json")).staged_data() == [str(left)]
    published(mode_b, project, force=True)
    assert Project(str(project / "Croissant" / "metadata.json")).staged_data() == []


def test_an_executor_copies(mode_b: CopickRootMLC, overlay: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    with ThreadPoolExecutor(2) as executor:
        published(mode_b, tmp_path / "release", executor=executor, progress=lambda *call: calls.append(call))
    assert data(tmp_path / "release") == data(overlay)
    assert calls[-1] == (18, 18)


# --- other storage ---------------------------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[str]:
    """The URL of a directory in memory."""
    name = f"publish-{secrets.token_hex(6)}"
    yield f"memory://{name}"
    fs = fsspec.filesystem("memory")
    if fs.exists(f"/{name}"):
        fs.rm(f"/{name}", recursive=True)


def in_memory(url: str) -> dict[str, bytes]:
    fs = fsspec.filesystem("memory")
    base = "/" + url.partition("://")[2]
    return {name.removeprefix(f"{base}/"): fs.cat_file(name) for name in fs.find(base)}


def test_publish_to_object_storage(web_b: CopickRootMLC, overlay: Path, memory: str) -> None:
    manifest = quietly(publish, web_b, memory, validate=False)
    found = in_memory(memory)
    assert {name: content for name, content in found.items() if not name.startswith("Croissant/")} == data(overlay)
    assert manifest == f"{memory}/Croissant/metadata.json"
    opened = from_croissant(manifest)
    run = opened.get_run("mine")
    assert run is not None
    assert len(run.get_picks("virus")[0].points) == 2

    fs, base = fsspec.filesystem("memory"), "/" + memory.partition("://")[2]
    store = f"{base}/ExperimentRuns/mine/Segmentations/10.000_me_5_virus.zarr"
    fs.rm_file(f"{store}/.zattrs")
    fs.rm(f"{base}/Croissant", recursive=True)
    quietly(publish, web_b, memory, validate=False)  # goes on without force, where a part is missing
    assert in_memory(memory) == found

    fs.rm(f"{base}/Croissant", recursive=True)
    size = len(found["ExperimentRuns/mine/Segmentations/10.000_me_5_virus.zarr/.zattrs"])
    for change in ({"surplus": b"x"}, {".zattrs": b"x"}, {".zattrs": b"x" * size}):
        for name, content in change.items():
            fs.pipe_file(f"{store}/{name}", content)
        before = in_memory(memory)
        with pytest.raises(FileExistsError, match="force"):
            quietly(publish, web_b, memory, validate=False)
        assert in_memory(memory) == before
    quietly(publish, web_b, memory, validate=False, force=True)
    assert in_memory(memory) == found


def test_publish_to_s3(web_b: CopickRootMLC, overlay: Path, s3: str) -> None:
    options = {"runs": ["mine"], "tomograms": [], "segmentations": ["all?multilabel=true"]}
    fs, base = fsspec.url_to_fs(s3)
    times = []
    for force in (False, True):
        manifest = quietly(publish, web_b, s3, validate=False, force=force, **options)
        fs.invalidate_cache()
        found = fs.find(f"{base}/ExperimentRuns", detail=True)
        times.append({name: entry["LastModified"] for name, entry in found.items()})
    assert times[0] == times[1]
    copied = {name.removeprefix(f"{base}/"): fs.cat_file(name) for name in times[0]}
    assert copied.items() <= data(overlay).items()
    run = from_croissant(manifest).get_run("mine")
    assert run is not None
    assert run.get_segmentations(name="all")[0].numpy().shape == VOLUME.shape


class Forgetful(MemoryFileSystem):
    """A storage that loses the last byte of what is big."""

    protocol = "forgetful"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        super().pipe_file(path, value[: max(len(value) - 1, 100)], **options)


def test_a_copy_that_is_not_like_its_source_is_an_error(web_b: CopickRootMLC) -> None:
    fsspec.register_implementation("forgetful", Forgetful, clobber=True)
    with pytest.raises(OSError, match=r"sha256 [0-9a-f]{64} where the source has [0-9a-f]{64}") as caught:
        quietly(publish, web_b, "forgetful://target", validate=False)
    assert isinstance(caught.value, CroissantError)
    assert caught.value.code == "storage-failed"
    assert "overlay" in str(caught.value)
    assert "target" in str(caught.value)
    assert not [name for name in Forgetful.store if "Croissant" in name]
    Forgetful.store.clear()


# --- what goes wrong -------------------------------------------------------------------------------------


def refused(root: Any, target: Any, where: Path, **options: Any) -> CroissantError:
    """The error of a publication, which changes nothing."""
    before = tree(where)
    with pytest.raises(CroissantError) as caught:
        published(root, target, **options)
    assert tree(where) == before
    return caught.value


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"picks": ["a:b:c"]}, "option-invalid"),
        ({"splits": {"train": ["nope"]}}, "option-invalid"),
        ({"picks_author": ["x"]}, "option-invalid"),
        ({"tomo_type_map": {"ours": "features"}}, "option-invalid"),
        ({"tomo_type_map": {"ours": "wbp"}}, "option-invalid"),
        ({"base_url": "https://me:secret@example.org/"}, "option-invalid"),
    ],
)
def test_options_that_make_no_sense_change_nothing(
    mode_b: CopickRootMLC, tmp_path: Path, options: dict[str, Any], code: str
) -> None:
    assert refused(mode_b, tmp_path / "release", tmp_path, **options).code == code
    assert not (tmp_path / "release").exists()


def test_an_unknown_option_is_one_as_everywhere(mode_b: CopickRootMLC, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="colour"):
        publish(mode_b, tmp_path, colour=1)


def test_a_manifest_is_replaced_only_by_force(mode_b: CopickRootMLC, project: Path, tmp_path: Path) -> None:
    error = refused(mode_b, project, tmp_path)
    assert error.code == "exists"
    assert isinstance(error, FileExistsError)


def test_a_manifest_that_mlcroissant_rejects_changes_nothing(
    mode_b: CopickRootMLC, project: Path, tmp_path: Path
) -> None:
    manifest = project / "Croissant" / "metadata.json"
    document = json.loads(manifest.read_text())
    document["recordSet"].append({"@type": "cr:RecordSet", "@id": "a", "name": "a", "field": [{"@type": "cr:Field"}]})
    manifest.write_text(json.dumps(document))
    assert refused(mode_b, project, tmp_path, force=True, validate=True).code == "manifest-rejected"


@pytest.mark.parametrize("target", ["http://127.0.0.1:9/project", "{tmp_path}/file", "{tmp_path}/file/below"])
def test_what_cannot_be_written_is_read_only(mode_b: CopickRootMLC, tmp_path: Path, target: str) -> None:
    (tmp_path / "file").write_text("x")
    error = refused(mode_b, target.format(tmp_path=tmp_path), tmp_path)
    assert error.code == "read-only"
    assert isinstance(error, PermissionError)


def test_a_file_where_a_directory_of_data_goes_is_read_only(mode_b: CopickRootMLC, tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "ExperimentRuns").write_text("x")
    assert refused(mode_b, tmp_path / "release", tmp_path).code == "read-only"


@pytest.mark.parametrize("kind", ["a file for a store", "a directory for a file"])
def test_a_thing_of_another_kind_is_not_replaced(mode_b: CopickRootMLC, tmp_path: Path, kind: str) -> None:
    run = tmp_path / "release" / "ExperimentRuns" / "TS_001"
    if kind == "a file for a store":
        place = run / "VoxelSpacing10.000" / "ours.zarr"
        place.parent.mkdir(parents=True)
        place.write_text("x")
    else:
        place = run / "Picks" / "me_5_virus.json"
        (place / "sub").mkdir(parents=True)
    with pytest.raises(CroissantError, match="where something else is to be copied"):
        published(mode_b, tmp_path / "release", force=True)
    assert place.exists()
    assert not (tmp_path / "release" / "Croissant").exists()


def test_other_data_is_replaced_only_by_force(mode_b: CopickRootMLC, overlay: Path, tmp_path: Path) -> None:
    place = tmp_path / "release" / "ExperimentRuns" / "TS_001" / "Picks" / "me_5_virus.json"
    place.parent.mkdir(parents=True)
    place.write_text("somebody's")
    with pytest.raises(FileExistsError, match="that is not that of"):
        published(mode_b, tmp_path / "release")
    assert place.read_text() == "somebody's"
    assert not (tmp_path / "release" / "Croissant").exists()
    published(mode_b, tmp_path / "release", force=True)
    assert data(tmp_path / "release") == data(overlay)


def test_data_of_another_artifact_is_never_replaced(project: Path, tmp_path: Path, overlay: Path) -> None:
    """A renamed tomogram may lie where one of its old name would be copied."""
    files = files_root(tmp_path / "config.json", project)
    manifest = quietly(export_croissant, files, project, force=True, tomo_type_map={"wbp": "raw"})
    root = from_croissant(manifest, overlay_root=overlay)
    run = root.get_run("TS_001")
    assert run is not None
    run.voxel_spacings[0].new_tomogram("wbp").from_numpy(VOLUME, levels=1)
    error = refused(root, project, tmp_path, force=True)
    assert error.code == "exists"
    assert "raw" in str(error)
    published(root, project, force=True, tomo_type_map={"wbp": "mine"})
    assert inventory(from_croissant(manifest))["runs"]["TS_001"]["spacings"]["10.000"].keys() == {
        *("raw", "denoised", "mine")
    }


def test_a_source_that_changes_meanwhile_is_an_error(mode_b: CopickRootMLC, overlay: Path, tmp_path: Path) -> None:
    place = overlay / "ExperimentRuns" / "mine" / "Picks" / "me_5_virus.json"

    def change(done: int, _: int) -> None:
        if done == 0:
            place.write_text(place.read_text() + " ")

    with pytest.raises(OSError, match="changed while it was to be published"):
        published(mode_b, tmp_path / "release", progress=change)
    assert not (tmp_path / "release" / "Croissant").exists()
    published(mode_b, tmp_path / "release")
    assert data(tmp_path / "release") == data(overlay)


def test_a_source_that_vanishes_meanwhile_is_an_error(mode_b: CopickRootMLC, overlay: Path, tmp_path: Path) -> None:
    def remove(done: int, _: int) -> None:
        if done == 0:
            shutil.rmtree(overlay / "Objects")

    with pytest.raises(FileNotFoundError, match="does not exist") as caught:
        published(mode_b, tmp_path / "release", progress=remove)
    assert isinstance(caught.value, CroissantError)


# --- the command -----------------------------------------------------------------------------------------


def test_the_command(mode_b: CopickRootMLC, overlay: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"config_type": "mlcroissant", **mode_b.config.model_dump(mode="json")}))
    arguments = ["publish", "--config", str(config), "--project-root", str(tmp_path / "release")]
    before = tree(tmp_path)
    assert main([*arguments, "--dry-run"]) == 0
    said = capsys.readouterr().out
    size = sum(map(len, data(overlay).values()))
    assert f"would copy 18 artifacts, {len(data(overlay))} files, {size} bytes" in said
    assert said.endswith("nothing is written\n")
    assert tree(tmp_path) == before

    assert main([*arguments, "--jobs", "2", "--license", "MIT", "--split", "test=mine", "--runs", "mine,TS_001"]) == 0
    captured = capsys.readouterr()
    assert f"wrote {tmp_path}/release/Croissant/metadata.json" in captured.out
    assert "Traceback" not in captured.err
    assert data(tmp_path / "release") == data(overlay)
    opened = from_croissant(tmp_path / "release" / "Croissant" / "metadata.json")
    assert opened.splits == {"train": ["TS_001"], "test": ["mine"]}

    assert main(arguments) == 1
    assert "[exists]" in capsys.readouterr().err
    assert main([*arguments, "--force", "--quiet", "--no-validate"]) == 0
    assert capsys.readouterr().out == ""


def test_the_api_makes_what_the_command_makes(project: Path, tmp_path: Path) -> None:
    assert make_full_project(tmp_path / "other").exists()
    root = copick.from_file(str(tmp_path / "other" / "copick_config.json"))
    published(root, tmp_path / "api")
    arguments = ["publish", "--config", str(tmp_path / "other" / "copick_config.json"), "--quiet"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main([*arguments, "--project-root", str(tmp_path / "command")]) == 0
    assert tree(tmp_path / "api") == tree(tmp_path / "command")
