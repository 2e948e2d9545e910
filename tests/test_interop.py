"""What we write copick and mlcroissant read, and what they write we read, on real projects with all kinds of data."""

from __future__ import annotations

import csv
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import copick
import mlcroissant
import numpy as np
import pytest
from copick.ops.croissant import export_croissant as copick_export

from copick_mlc import CopickRootMLC, demo, export_croissant, from_croissant
from copick_mlc.errors import CroissantWarning
from tests.projects import inventory, make_full_project, tree

Open = Callable[..., Any]


@pytest.fixture(autouse=True)
def _silence_absl() -> None:
    logging.getLogger("absl").setLevel(logging.ERROR)  # mlcroissant logs what it warns of


@pytest.fixture
def bare(project: Path) -> Path:
    """A filesystem project that nobody has exported."""
    for path in (project / "Croissant").iterdir():
        path.unlink()
    (project / "Croissant").rmdir()
    return project


def export(project: Path, **options: Any) -> Path:
    source = copick.from_file(str(project / "copick_config.json"))
    with pytest.warns(CroissantWarning, match="license"):
        return Path(export_croissant(source, project, splits=demo.SPLITS, **options))


@pytest.mark.parametrize("make", [demo.make_project, lambda path: make_full_project(Path(path))], ids=["demo", "full"])
def test_the_same_inventory_whoever_exports_and_opens(make: Callable[[str], Any], tmp_path: Path) -> None:
    config = str(make(str(tmp_path / "project")))
    source = copick.from_file(config)
    wanted = inventory(source)
    ours = export(tmp_path / "project")
    assert inventory(from_croissant(ours)) == wanted
    assert inventory(copick.from_croissant(str(ours))) == wanted
    assert from_croissant(ours).splits == copick.from_croissant(str(ours)).splits == demo.SPLITS

    theirs = copick_export(source, str(tmp_path / "project"), base_url=str(tmp_path / "project"), force=True)
    for run in wanted["runs"].values():  # copick exports no voxel spacing without volumes
        run["spacings"] = {size: tomograms for size, tomograms in run["spacings"].items() if tomograms}
    assert inventory(from_croissant(theirs)) == wanted
    assert inventory(copick.from_croissant(theirs)) == wanted


def test_mlcroissant_reads_every_record_set_row_for_row(bare: Path) -> None:
    path = export(bare)
    dataset = mlcroissant.Dataset(jsonld=str(path))
    assert not dataset.metadata.ctx.issues.errors
    declared = [record_set.uuid for record_set in dataset.metadata.record_sets]
    assert len(declared) == 12
    for name in declared:
        records = [{k: _text(v) for k, v in record.items()} for record in dataset.records(name)]
        if name == "copick/splits":
            assert [record["copick/splits/name"] for record in records] == ["train", "val"]
            continue
        if name == "copick/pickable_objects":
            assert [record[f"{name}/name"] for record in records] == ["ribosome", "membrane"]
            continue
        with (path.parent / f"{name.split('/')[1]}.csv").open(newline="", encoding="utf-8") as file:
            rows = [{f"{name}/{column}": cell for column, cell in row.items()} for row in csv.DictReader(file)]
        assert rows
        assert _sorted(records) == _sorted(rows)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if value is None or value != value:
        return ""
    return str(value).lower() if isinstance(value, (bool, np.bool_)) else str(value)


def _sorted(rows: list[dict[str, str]]) -> list[list[tuple[str, str]]]:
    return sorted(sorted(row.items()) for row in rows)


def test_mlcroissant_finds_the_checksums_right_after_a_write(bare: Path) -> None:
    path = export(bare)
    run = from_croissant(path).get_run("TS_001")
    assert run is not None
    run.new_picks("ribosome", "2", "me").from_numpy(np.ones((2, 3)))
    run.new_segmentation(10, "membrane", "2", user_id="me").from_numpy(np.ones((4, 4, 4), np.uint8))
    dataset = mlcroissant.Dataset(jsonld=str(path))
    assert len(list(dataset.records("copick/picks"))) == 5
    assert len(list(dataset.records("copick/segmentations"))) == 5


def _write_something(root: Any, session: str) -> None:
    """A write of every kind, by either backend."""
    run = root.new_run(f"new-{session}")
    spacing = run.new_voxel_spacing(5.0)
    tomogram = spacing.new_tomogram("wbp")
    tomogram.from_numpy(np.arange(64, dtype=np.float32).reshape(4, 4, 4), levels=1)
    picks = run.new_picks("ribosome", session, "me")
    picks.from_numpy(np.ones((3, 3)), np.stack([np.eye(4)] * 3))
    run.new_segmentation(5.0, "membrane", session, user_id="me").from_numpy(np.ones((4, 4, 4), np.uint8))
    run.new_segmentation(5.0, "ribosome", session, user_id="me", is_instance=True).from_numpy(
        np.full((4, 4, 4), 300, np.uint16)
    )
    run.split = "test"
    old = root.get_run("TS_001")
    old.get_picks("ribosome", "demo")[0].from_numpy(np.zeros((1, 3)))
    old.delete_meshes()


@pytest.mark.parametrize("theirs_first", [True, False])
def test_after_either_side_writes_the_other_still_reads(manifest: Path, theirs_first: bool) -> None:
    openers: list[Open] = [copick.from_croissant, from_croissant]
    if not theirs_first:
        openers.reverse()
    for number, opened in enumerate(openers):
        _write_something(opened(str(manifest)), str(number))
        assert inventory(copick.from_croissant(str(manifest))) == inventory(from_croissant(manifest))
    found = inventory(from_croissant(manifest))
    assert {"new-0", "new-1", "TS_001", "TS_002", "empty"} == set(found["runs"])
    assert not found["runs"]["TS_001"]["meshes"]
    assert from_croissant(manifest).splits["test"] == ["new-0", "new-1"]


def test_an_open_root_keeps_what_copick_writes_meanwhile(root: CopickRootMLC, manifest: Path) -> None:
    run = root.get_run("TS_001")
    assert run is not None
    assert len(run.picks) == 2
    copick.from_croissant(str(manifest)).get_run("TS_001").new_picks("ribosome", "9", "them")
    run.new_picks("ribosome", "9", "us")
    opened: list[Any] = [from_croissant(manifest), copick.from_croissant(str(manifest))]
    for fresh in opened:
        assert {picks.user_id for picks in fresh.get_run("TS_001").picks} == {"demo", "template-matching", "them", "us"}


def test_copick_finds_in_an_overlay_what_we_wrote(manifest: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay"
    before = tree(manifest.parent)
    ours = from_croissant(manifest, overlay_root=overlay)
    run = ours.get_run("TS_001")
    assert run is not None
    run.new_picks("ribosome", "2", "me").from_numpy(np.ones((2, 3)))
    ours.new_run("mine").new_voxel_spacing(5.0).new_tomogram("wbp").from_numpy(np.ones((4, 4, 4)), levels=1)
    theirs = copick.from_croissant(str(manifest), overlay_root=str(overlay), overlay_fs_args={"auto_mkdir": True})
    assert inventory(theirs) == inventory(from_croissant(manifest, overlay_root=overlay))
    theirs.get_run("mine").new_picks("ribosome", "3", "them").from_numpy(np.ones((1, 3)))
    again = from_croissant(manifest, overlay_root=overlay).get_run("mine")
    assert again is not None
    assert [picks.user_id for picks in again.picks] == ["them"]
    assert tree(manifest.parent) == before


def test_copick_opens_the_configuration_we_dump(root: CopickRootMLC, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(root.config.model_dump()))
    assert inventory(copick.from_file(str(path))) == inventory(root)


def test_a_moved_project_opens_in_both(bare: Path, tmp_path: Path) -> None:
    export(bare)
    moved = bare.rename(tmp_path / "moved")
    manifest = moved / "Croissant" / "metadata.json"
    assert inventory(from_croissant(manifest)) == inventory(copick.from_croissant(str(manifest)))


@pytest.mark.parametrize("split", ["1", "NA", "true", "nan", "1e5"])
def test_a_split_that_pandas_misreads_does_not_lock_the_project(bare: Path, split: str) -> None:
    path = export(bare)
    root = from_croissant(path)
    root.set_splits({split: ["TS_001", "TS_002"]})
    assert len(copick.from_croissant(str(path)).runs) == 3
    assert len(list(mlcroissant.Dataset(jsonld=str(path)).records("copick/runs"))) == 3
    root.set_splits({"train": ["TS_001"]})
    assert copick.from_croissant(str(path)).splits["train"] == ["TS_001"]


NAMES = ["007", "1e5", "NA", "true", "a b", "ü", "a,b", 'x"y']


def test_names_survive_export_load_write_load(tmp_path: Path) -> None:
    config = {
        "config_type": "filesystem",
        "name": "names",
        "pickable_objects": [{"name": "ribosome", "is_particle": True, "label": 1}],
        "overlay_root": f"local://{tmp_path}",
        "overlay_fs_args": {"auto_mkdir": True},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    source = copick.from_file(str(tmp_path / "config.json"))
    allowed = [name for name in NAMES if " " not in name and '"' not in name]  # as user or session, by copick
    for name in NAMES:
        run = source.new_run(name)
        for other in allowed:
            run.new_picks("ribosome", other, other)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CroissantWarning)  # of what others make of such names
        path = export_croissant(source, tmp_path)
    keys = sorted((other, other) for other in allowed)
    for _ in range(2):
        root = from_croissant(path)
        assert sorted(run.name for run in root.runs) == sorted(NAMES)
        for run in root.runs:
            assert sorted((picks.user_id, picks.session_id) for picks in run.picks) == keys
            run.get_picks("ribosome", "007", "007")[0].from_numpy(np.ones((1, 3)))
