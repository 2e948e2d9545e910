from __future__ import annotations

import csv
import errno
import fcntl
import hashlib
import io
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import copick
import fsspec
import mlcroissant
import numpy as np
import pandas
import pytest
from copick.impl.mlcroissant import CroissantIndex as TheirIndex
from pandas._libs.parsers import STR_NA_VALUES  # type: ignore[import-not-found]

from copick_mlc import CroissantIndex, _commit, _pandas, demo, export_croissant, from_croissant
from copick_mlc.__main__ import main
from copick_mlc._findings import KINDS, Finding
from copick_mlc._project import Project
from copick_mlc._repair import repair
from copick_mlc._tables import TABLES
from copick_mlc._validation import check
from copick_mlc._verify import render, verify
from copick_mlc.errors import CODES, CroissantError, ExistsError, LockedError, MissingError, ReadOnlyError, UsageError
from copick_mlc.index import (
    FeaturesRow,
    ObjectRow,
    PicksRow,
    RunRow,
    TomogramRow,
    VoxelSpacingRow,
)
from tests.projects import inventory, tree

PICKS = "ExperimentRuns/TS_001/Picks/demo_1_ribosome.json"
HEX = "0123456789ab"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is at work for whom to wait."""
    monkeypatch.setattr("copick_mlc._verify._PAUSES", (0.0,))


def kinds(manifest: Path | str) -> dict[str, int]:
    """How many findings there are of each kind."""
    return dict(Counter(finding.kind for finding in verify(str(manifest)).findings))


def index(manifest: Path) -> CroissantIndex:
    return CroissantIndex.from_url(str(manifest))


def edit_document(manifest: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(manifest.read_text())
    change(document)
    manifest.write_text(json.dumps(document))


def declare(manifest: Path, table: str) -> None:
    """Have the manifest say the sha256 that a table has."""
    checksum = hashlib.sha256((manifest.parent / f"{table}.csv").read_bytes()).hexdigest()
    edit_document(manifest, lambda document: entry(document, table).update(sha256=checksum))


def entry(document: dict[str, Any], table: str) -> dict[str, Any]:
    wanted = TABLES[table].file_object_id
    return next(item for item in document["distribution"] if item["@id"] == wanted)


def record_set(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in document["recordSet"] if item["@id"] == f"copick/{name}")


def check_readers(manifest: Path) -> None:
    """The project is one for copick and mlcroissant, and they find the same in it as we do."""
    ours = inventory(from_croissant(manifest), data=False)
    assert inventory(copick.from_croissant(str(manifest)), data=False) == ours
    document = json.loads(manifest.read_text())
    for file in document["distribution"]:
        file["contentUrl"] = file["contentUrl"].rpartition("/")[2]  # copick writes file://, which mlcroissant refuses
    local = manifest.with_name("local.json")
    local.write_text(json.dumps(document))
    records = mlcroissant.Dataset(jsonld=str(local)).records("copick/picks")
    assert len(list(records)) == index(manifest).count("picks")  # it checks the sha256, too
    local.unlink()


# --- nothing is found ------------------------------------------------------------------------------------


def test_nothing_is_found_in_a_project_that_copick_exported(full_template: Path) -> None:
    before = tree(full_template)
    report = verify(str(full_template / "Croissant/metadata.json"))
    assert (report.findings, report.not_checked) == ([], [])
    assert report.rows == 26
    assert tree(full_template) == before


def test_nothing_is_found_in_a_project_that_we_exported_and_changed(project: Path, manifest: Path) -> None:
    shutil.rmtree(project / "Croissant")
    root = copick.from_file(str(project / "copick_config.json"))
    with pytest.warns(UserWarning, match="dataset hosts"):
        export_croissant(root, str(project), splits=demo.SPLITS)
    assert kinds(manifest) == {}
    opened = from_croissant(manifest)
    picks = opened.new_run("TS_003").new_picks("ribosome", "2", user_id="me")
    picks.from_numpy(opened.runs[0].get_picks("ribosome")[0].numpy()[0])
    opened.runs[0].delete_picks("ribosome")
    assert kinds(manifest) == {}
    assert repair(str(manifest), add_missing=True, drop_dangling=True, accept_data=True) == []


def test_nothing_to_repair_changes_no_byte(project: Path, manifest: Path) -> None:
    before = tree(project)
    assert repair(str(manifest), add_missing=True, drop_dangling=True, accept_data=True) == []
    assert tree(project) == before


# --- tables ----------------------------------------------------------------------------------------------


def test_a_table_that_was_edited_by_hand(project: Path, manifest: Path) -> None:
    table = manifest.parent / "picks.csv"
    table.write_bytes(table.read_bytes().replace(b"\r\n", b"\n"))
    (found,) = verify(str(manifest)).findings
    assert (found.kind, found.table, found.path) == ("table-checksum", "picks", str(table))
    edited = table.read_bytes()
    before = tree(project)
    steps = repair(str(manifest), dry_run=True)
    assert tree(project) == before
    assert repair(str(manifest)) == steps
    assert steps == [f"declare the sha256 {hashlib.sha256(edited).hexdigest()} of picks.csv, which has 4 rows"]
    assert table.read_bytes() == edited
    assert repair(str(manifest)) == []
    assert kinds(manifest) == {}
    check_readers(manifest)


def test_a_table_that_is_gone_is_found_and_not_repaired(project: Path, manifest: Path) -> None:
    (manifest.parent / "meshes.csv").unlink()
    (project / PICKS).unlink()
    assert kinds(manifest) == {"table-missing": 1, "data-missing": 1}  # the other tables are looked at
    before = tree(project)
    with pytest.raises(MissingError) as caught:
        repair(str(manifest), add_missing=True, drop_dangling=True)
    assert caught.value.code == "table-missing"
    assert tree(project) == before


@pytest.mark.parametrize(
    ("damage", "kind", "column"),
    [
        (b"TS_001,short\r\n", "table-syntax", None),
        (b"TS_009,,0,ribosome,,,,,,,\r\n", "table-key-empty", "user_id"),
        (b"TS_009,u,0,ribosome,many,,,,,,\r\n", "table-number", "voxel_size"),
        (b"TS_009,u,0,x,,,,,,,\r\n" * 2, "table-key-duplicate", None),
        (b"\xff\r\n", "table-encoding", None),
    ],
)
def test_a_broken_table(project: Path, manifest: Path, damage: bytes, kind: str, column: str | None) -> None:
    table = manifest.parent / "picks.csv"
    table.write_bytes(table.read_bytes() + damage)
    declare(manifest, "picks")
    (project / "ExperimentRuns/TS_001/Meshes/demo_1_membrane.glb").write_bytes(b"")
    report = verify(str(manifest))
    (found,) = [finding for finding in report.findings if finding.table == "picks"]
    line = 7 if kind == "table-key-duplicate" else 6
    assert (found.kind, found.path, found.line, found.column) == (kind, str(table), line, column)
    assert [finding.kind for finding in report.findings if finding is not found] == ["data-checksum"]
    before = tree(project)
    with pytest.raises(CroissantError) as caught:
        repair(str(manifest), accept_data=True)
    assert (caught.value.code, caught.value.line, caught.value.column) == (kind, line, column)
    assert tree(project) == before


def test_a_broken_table_of_runs_makes_no_orphans(manifest: Path) -> None:
    table = manifest.parent / "runs.csv"
    table.write_bytes(table.read_bytes() + b'"')
    declare(manifest, "runs")
    assert kinds(manifest) == {"table-syntax": 1}


def test_a_table_that_is_not_declared(project: Path, manifest: Path) -> None:
    def undeclare(document: dict[str, Any]) -> None:
        document["distribution"].remove(entry(document, "meshes"))
        document["recordSet"].remove(record_set(document, "meshes"))

    edit_document(manifest, undeclare)
    assert kinds(manifest) == {"table-undeclared": 1, "data-unnamed": 2}
    before = tree(project)
    with pytest.raises(ExistsError):
        repair(str(manifest), add_missing=True)
    assert tree(project) == before
    (manifest.parent / "meshes.csv").unlink()
    assert kinds(manifest) == {"data-unnamed": 2}
    assert len(repair(str(manifest), add_missing=True)) == 2
    assert kinds(manifest) == {}
    check_readers(manifest)


@pytest.mark.parametrize(
    ("content", "kind"),
    [(None, "manifest-missing"), ("{", "manifest-invalid"), ('{"recordSet": []}', "not-copick")],
)
def test_a_manifest_that_cannot_be_read(manifest: Path, content: str | None, kind: str) -> None:
    manifest.unlink()
    if content is not None:
        manifest.write_text(content)
    report = verify(str(manifest))
    assert [finding.kind for finding in report.findings] == [kind]
    assert report.not_checked == ["all else, without a manifest to say what there is"]
    with pytest.raises(CroissantError) as caught:
        repair(str(manifest))
    assert caught.value.code == kind


# --- data ------------------------------------------------------------------------------------------------


def test_data_that_is_gone(project: Path, manifest: Path) -> None:
    (project / PICKS).unlink()
    (found,) = verify(str(manifest)).findings
    assert (found.kind, found.table, found.path) == ("data-missing", "picks", str(project / PICKS))
    assert found.key == ("TS_001", "demo", "1", "ribosome")
    assert repair(str(manifest), add_missing=True) == []
    old = index(manifest).count("picks")
    before = tree(project)
    steps = repair(str(manifest), drop_dangling=True, dry_run=True)
    assert tree(project) == before
    assert repair(str(manifest), drop_dangling=True) == steps
    assert "remove from picks: TS_001/demo/1/ribosome" in steps[0]
    assert index(manifest).count("picks") == old - 1
    assert kinds(manifest) == {}
    check_readers(manifest)


def test_a_store_that_is_gone_or_none(project: Path, manifest: Path) -> None:
    store = project / "ExperimentRuns/TS_002/VoxelSpacing10.000/wbp.zarr"
    shutil.rmtree(store)
    store.mkdir()
    assert kinds(manifest) == {"data-invalid": 1}
    assert repair(str(manifest), drop_dangling=True) == []
    store.rmdir()
    assert kinds(manifest) == {"data-missing": 1}
    repair(str(manifest), drop_dangling=True)
    assert kinds(manifest) == {"row-orphan": 1}  # the feature map of that tomogram; only what is gone lost its row


def test_a_base_that_is_not_there_drops_nothing(project: Path, manifest: Path) -> None:
    edit_document(manifest, lambda document: document.update({"copick:baseUrl": f"file://{project}/unmounted"}))
    assert set(kinds(manifest)) == {"data-missing"}
    before = tree(project)
    with pytest.raises(MissingError, match="nobody can say"):
        repair(str(manifest), drop_dangling=True)
    assert tree(project) == before


def test_data_that_cannot_be_reached_is_not_missing(manifest: Path) -> None:
    index(manifest).put(PicksRow("TS_001", "u", "0", "ribosome", url="/" + "long" * 100))
    assert kinds(manifest) == {"storage-failed": 1}
    assert repair(str(manifest), drop_dangling=True) == []


def test_data_that_was_changed(project: Path, manifest: Path) -> None:
    (project / PICKS).write_text((project / PICKS).read_text() + "\n")
    (found,) = verify(str(manifest)).findings
    assert (found.kind, found.key) == ("data-checksum", ("TS_001", "demo", "1", "ribosome"))
    assert repair(str(manifest), add_missing=True, drop_dangling=True) == []  # perhaps it is damaged
    steps = repair(str(manifest), accept_data=True, dry_run=True)
    assert repair(str(manifest), accept_data=True) == steps
    assert len(steps) == 1
    assert repair(str(manifest), accept_data=True) == []
    assert kinds(manifest) == {}
    check_readers(manifest)


def test_picks_that_no_row_names(project: Path, manifest: Path) -> None:
    shutil.copy(project / PICKS, project / "ExperimentRuns/TS_001/Picks/other_2_ribosome.json")
    (found,) = verify(str(manifest)).findings
    assert (found.kind, found.table, found.key) == ("data-unnamed", "picks", ("TS_001", "other", "2", "ribosome"))
    assert repair(str(manifest), drop_dangling=True) == []
    before = tree(project)
    steps = repair(str(manifest), add_missing=True, dry_run=True)
    assert tree(project) == before
    assert repair(str(manifest), add_missing=True) == steps
    assert repair(str(manifest), add_missing=True) == []
    row = index(manifest).find(PicksRow("TS_001", "other", "2", "ribosome"))
    like = index(manifest).find(PicksRow("TS_001", "demo", "1", "ribosome"))
    assert row is not None
    assert like is not None
    assert row.url == "ExperimentRuns/TS_001/Picks/other_2_ribosome.json"
    assert (row.sha256, row.voxel_size) == (like.sha256, like.voxel_size)
    assert kinds(manifest) == {}
    check_readers(manifest)


def test_a_run_that_no_row_names(project: Path, manifest: Path) -> None:
    shutil.copytree(project / "ExperimentRuns/TS_001", project / "ExperimentRuns/TS_009")
    of_one = sum(len(list(index(manifest).rows(table, "TS_001"))) for table in TABLES)
    assert kinds(manifest) == {"data-unnamed": of_one}
    assert len(repair(str(manifest), add_missing=True)) == of_one
    assert kinds(manifest) == {}
    found = inventory(from_croissant(manifest))["runs"]
    assert found["TS_009"] == found["TS_001"]
    check_readers(manifest)


def test_a_density_map_is_added_for_a_particle_only(project: Path, manifest: Path) -> None:
    index(manifest).remove(ObjectRow("ribosome"))
    shutil.copytree(project / "Objects/ribosome.zarr", project / "Objects/membrane.zarr")
    assert kinds(manifest) == {"data-unnamed": 2}
    assert len(repair(str(manifest), add_missing=True)) == 1
    assert [row.group for row in index(manifest).rows("objects")] == ["ribosome"]
    (found,) = verify(str(manifest)).findings
    assert "no particle" in found.message


def test_data_beside_that_which_its_row_names(project: Path, manifest: Path) -> None:
    other = project / "elsewhere.json"
    shutil.copy(project / PICKS, other)
    row = index(manifest).find(PicksRow("TS_001", "demo", "1", "ribosome"))
    assert row is not None
    index(manifest).put(replace(row, url="elsewhere.json", sha256=None))
    (found,) = verify(str(manifest)).findings
    assert found.kind == "data-unnamed"
    assert "names other data" in found.message
    assert repair(str(manifest), add_missing=True) == []
    other.unlink()
    both = repair(str(manifest), add_missing=True, drop_dangling=True)
    assert [step.split(":")[0] for step in both] == ["remove from picks", "add to picks"]
    assert kinds(manifest) == {}


def test_a_row_that_names_no_data(project: Path, manifest: Path) -> None:
    row = index(manifest).find(PicksRow("TS_001", "demo", "1", "ribosome"))
    assert row is not None
    index(manifest).put(replace(row, url=None, portal_annotation_id="5"))
    assert kinds(manifest) == {"data-missing": 1, "data-unnamed": 1}
    assert repair(str(manifest), drop_dangling=True) == []  # the data is there
    both = repair(str(manifest), drop_dangling=True, add_missing=True)
    assert both == [f"change in picks: TS_001/demo/1/ribosome, to name {project / PICKS}"]
    assert index(manifest).find(row) == replace(row, portal_annotation_id="5")
    assert kinds(manifest) == {}
    index(manifest).put(PicksRow("TS_001", "demo", "9", "ribosome"))
    assert kinds(manifest) == {"data-missing": 1}
    assert len(repair(str(manifest), drop_dangling=True)) == 1
    assert kinds(manifest) == {}


def test_links_and_other_forms_of_a_path_are_seen_through(project: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(project)
    manifest = tmp_path / "link/Croissant/metadata.json"
    edit_document(manifest, lambda document: document.pop("copick:baseUrl"))
    row = index(manifest).find(PicksRow("TS_001", "demo", "1", "ribosome"))
    assert row is not None
    index(manifest).put(replace(row, url=f"file://{project}/ExperimentRuns/../{PICKS}"))
    assert kinds(manifest) == {}


@pytest.mark.parametrize("url", ["../secret.json", "ExperimentRuns/../../x"])
def test_a_row_that_climbs_out(manifest: Path, url: str) -> None:
    index(manifest).put(PicksRow("TS_001", "u", "0", "ribosome", url=url))
    assert kinds(manifest) == {"url-outside": 1}
    assert repair(str(manifest), drop_dangling=True) == []


def test_what_cannot_be_listed_is_told(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", fail)
    report = verify(str(manifest))
    monkeypatch.undo()
    assert [finding.kind for finding in report.findings] == ["storage-failed"]


# --- rows ------------------------------------------------------------------------------------------------


def test_rows_of_a_run_that_has_none(manifest: Path) -> None:
    opened = index(manifest)
    opened.remove(RunRow("TS_001"))
    opened.remove(VoxelSpacingRow("TS_001", 10.0))
    rows = sum(len(list(opened.rows(table, "TS_001"))) for table in TABLES)
    assert kinds(manifest) == {"row-orphan": rows, "data-unnamed": 2}
    steps = repair(str(manifest), add_missing=True)
    assert [step.split(",")[0] for step in steps] == ["add to runs: TS_001", "add to voxel_spacings: TS_001/10.000"]
    assert kinds(manifest) == {}
    check_readers(manifest)


def test_rows_whose_run_is_elsewhere_get_one(manifest: Path, project: Path) -> None:
    (project / "elsewhere").mkdir()
    shutil.copytree(project / "ExperimentRuns/TS_001/VoxelSpacing10.000/wbp.zarr", project / "elsewhere/wbp.zarr")
    index(manifest).put(TomogramRow("TS_009", 12.0, "wbp", url="elsewhere/wbp.zarr"))
    assert kinds(manifest) == {"row-orphan": 1}
    assert repair(str(manifest), add_missing=True) == [
        "add to runs: TS_009, which rows belong to",
        "add to voxel_spacings: TS_009/12.000, which rows belong to",
    ]
    assert kinds(manifest) == {}


def test_features_without_their_tomogram(project: Path, manifest: Path) -> None:
    shutil.copytree(project / "ExperimentRuns/TS_001/VoxelSpacing10.000/wbp.zarr", project / "kept.zarr")
    index(manifest).put(FeaturesRow("TS_001", 10.0, "absent", "sobel", url="kept.zarr"))
    (found,) = verify(str(manifest)).findings
    assert (found.kind, found.table) == ("row-orphan", "features")
    assert repair(str(manifest), add_missing=True) == []


def test_an_object_that_is_not_defined(manifest: Path, project: Path) -> None:
    shutil.copy(project / PICKS, project / "ExperimentRuns/TS_001/Picks/demo_1_thing.json")
    assert len(repair(str(manifest), add_missing=True)) == 1
    (found,) = verify(str(manifest)).findings
    assert (found.kind, found.table) == ("object-unknown", "picks")
    assert "'thing'" in found.message


# --- splits ----------------------------------------------------------------------------------------------


def _other_splits(document: dict[str, Any]) -> None:
    record_set(document, "splits")["data"][0]["copick/splits/name"] = "trian"


def _no_splits(document: dict[str, Any]) -> None:
    document["recordSet"].remove(record_set(document, "splits"))


def _twice(document: dict[str, Any]) -> None:
    record_set(document, "splits")["data"] *= 2


def _no_name(document: dict[str, Any]) -> None:
    record_set(document, "splits")["data"][0]["copick/splits/name"] = ["train"]


@pytest.mark.parametrize("change", [_other_splits, _no_splits, _twice, _no_name])
def test_splits_that_are_stale(manifest: Path, change: Callable[[dict[str, Any]], None]) -> None:
    edit_document(manifest, change)
    assert kinds(manifest) == {"split-stale": 1}
    assert repair(str(manifest)) == ["rewrite copick/splits as runs.csv has it"]
    assert repair(str(manifest)) == []
    assert kinds(manifest) == {}
    check_readers(manifest)


def test_splits_that_were_edited_in_the_table(manifest: Path) -> None:
    table = manifest.parent / "runs.csv"
    table.write_bytes(table.read_bytes().replace(b"train", b"fold1"))
    assert kinds(manifest) == {"table-checksum": 1, "split-stale": 1}
    assert len(repair(str(manifest))) == 2
    assert kinds(manifest) == {}
    assert set(index(manifest).splits()) == {"fold1", "val"}
    check_readers(manifest)


def test_a_reference_that_cannot_be_followed(manifest: Path) -> None:
    for run, split in [("TS_001", "007"), ("TS_002", "8")]:
        index(manifest).set_split(run, split)
    assert kinds(manifest) == {"name-misread": 1}

    def refer(document: dict[str, Any]) -> None:
        fields = record_set(document, "runs")["field"]
        field = next(field for field in fields if field["@id"] == "copick/runs/split")
        field["references"] = {"field": {"@id": "copick/splits/name"}}

    edit_document(manifest, refer)
    assert kinds(manifest) == {"name-misread": 1, "split-stale": 1}
    repair(str(manifest))
    assert kinds(manifest) == {"name-misread": 1}


# --- what else the manifest repeats ----------------------------------------------------------------------


@pytest.fixture
def ours(project: Path, manifest: Path) -> Path:
    """The manifest of the project as we export it: with sizes and pickable objects."""
    shutil.rmtree(project / "Croissant")
    with pytest.warns(UserWarning, match="dataset hosts"):
        export_croissant(copick.from_file(str(project / "copick_config.json")), str(project), splits=demo.SPLITS)
    return manifest


def stale(manifest: Path) -> list[tuple[str, str, str]]:
    """What the manifest says that is not true: the severity, what it is about, and the message."""
    findings = verify(str(manifest)).findings
    assert {finding.kind for finding in findings} <= {"manifest-stale", "md5-stale"}
    assert all(finding.path == str(manifest) for finding in findings)
    return [(finding.severity, finding.table or finding.record_set or "", finding.message) for finding in findings]


def check_mended(project: Path, manifest: Path, steps: list[str]) -> None:
    """A repair takes these steps, a dry run tells them, and a second repair has nothing to do."""
    before = tree(project)
    assert repair(str(manifest), dry_run=True) == steps
    assert tree(project) == before
    assert repair(str(manifest)) == steps
    after = tree(project)
    assert {name for name in after if after[name] != before[name]} == {"Croissant/metadata.json"}
    assert repair(str(manifest)) == []
    assert tree(project) == after
    assert kinds(manifest) == {}
    check_readers(manifest)


def test_what_copick_leaves_as_it_was_is_found_and_mended(project: Path, ours: Path) -> None:
    old = {table: (ours.parent / f"{table}.csv").stat().st_size for table in ("picks", "objects")}
    theirs = copick.from_croissant(str(ours))
    theirs.get_run("TS_001").new_picks("ribosome", "7", user_id="me").from_numpy(np.ones((2, 3)))
    theirs.new_object("virus", is_particle=True, label=9).from_numpy(np.ones((4, 4, 4), np.float32), 10.0)
    assert kinds(ours) == {"manifest-stale": 2, "object-unknown": 1}  # copick does not save what it defines

    def define(document: dict[str, Any]) -> None:
        document["copick:config"]["pickable_objects"].append({"name": "virus", "is_particle": True, "label": 9})

    edit_document(ours, define)
    new = {table: (ours.parent / f"{table}.csv").stat().st_size for table in old}
    found = stale(ours)
    assert [(severity, what) for severity, what, _ in found] == [
        ("warning", "picks"),
        ("warning", "objects"),
        ("warning", "copick/pickable_objects"),
    ]
    for table, message in [("picks", found[0][2]), ("objects", found[1][2])]:
        assert f"its contentSize is {new[table]} B, the manifest declares '{old[table]} B'" in message
    assert "'virus' is missing, in copick:config {" in found[2][2]
    assert [finding.kind for finding in check(str(ours)).findings if finding.severity == "warning"][:3] == [
        "manifest-stale"
    ] * 3
    check_mended(
        project,
        ours,
        [
            f"declare the contentSize {new['picks']} B of picks.csv",
            f"declare the contentSize {new['objects']} B of objects.csv",
            "rewrite copick/pickable_objects as copick:config has it",
        ],
    )
    records = list(mlcroissant.Dataset(jsonld=str(ours)).records("copick/pickable_objects"))
    assert [record["copick/pickable_objects/name"] for record in records] == ["ribosome", "membrane", "virus"]
    assert {item.name for item in copick.from_croissant(str(ours)).pickable_objects} == {
        "ribosome",
        "membrane",
        "virus",
    }


def test_an_md5_that_is_stale_stops_readers(project: Path, manifest: Path) -> None:
    edit_document(manifest, lambda document: entry(document, "picks").update(md5="0" * 32))
    with pytest.raises(mlcroissant.GenerationError):
        copick.from_croissant(str(manifest))
    checksum = hashlib.md5((manifest.parent / "picks.csv").read_bytes()).hexdigest()
    message = f"its md5 is {checksum}, the manifest declares '{'0' * 32}'"
    ((severity, table, text),) = stale(manifest)
    assert (severity, table) == ("error", "picks")
    assert message in text
    check_mended(project, manifest, [f"declare the md5 {checksum} of picks.csv"])
    assert entry(json.loads(manifest.read_text()), "picks")["md5"] == checksum


def test_size_and_md5_are_one_finding(project: Path, manifest: Path) -> None:
    data = (
        (manifest.parent / "runs.csv").read_bytes().removesuffix(b"\r\n")
    )  # the bytes count, not what is made of them
    (manifest.parent / "runs.csv").write_bytes(data)
    declare(manifest, "runs")
    edit_document(manifest, lambda document: entry(document, "runs").update(md5=["?"], contentSize=len(data)))
    assert len(stale(manifest)) == 1
    steps = [f"declare the contentSize {len(data)} B and the md5 {hashlib.md5(data).hexdigest()} of runs.csv"]
    check_mended(project, manifest, steps)


def test_what_the_manifest_does_not_say_is_not_untrue(ours: Path) -> None:
    def say_less(document: dict[str, Any]) -> None:
        del entry(document, "picks")["contentSize"]
        entry(document, "runs").update(contentSize=None, md5="")
        record_set(document, "pickable_objects")["data"].reverse()  # their order says nothing

    edit_document(ours, say_less)
    assert stale(ours) == []
    assert repair(str(ours)) == []


def test_a_table_that_was_edited_by_hand_is_one_finding(ours: Path) -> None:
    table = ours.parent / "picks.csv"
    table.write_bytes(table.read_bytes().replace(b"\r\n", b"\n"))
    assert kinds(ours) == {"table-checksum": 1}
    assert len(repair(str(ours))) == 1
    assert kinds(ours) == {}


def test_a_size_that_is_stale_in_a_table_that_rows_are_removed_from(project: Path, ours: Path) -> None:
    edit_document(ours, lambda document: entry(document, "picks").update(contentSize="1 B"))
    (project / PICKS).unlink()
    assert kinds(ours) == {"manifest-stale": 1, "data-missing": 1}
    assert len(repair(str(ours), drop_dangling=True)) == 2
    assert kinds(ours) == {}
    check_readers(ours)


def _objects(document: dict[str, Any]) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = record_set(document, "pickable_objects")["data"]
    return data


def _other_label(document: dict[str, Any]) -> None:
    document["copick:config"]["pickable_objects"][0]["label"] = 5


def _renamed(document: dict[str, Any]) -> None:
    _objects(document)[0]["copick/pickable_objects/name"] = "ribosom"


def _object_twice(document: dict[str, Any]) -> None:
    _objects(document).append(_objects(document)[0])


def _nameless_object(document: dict[str, Any]) -> None:
    _objects(document).append({"copick/pickable_objects/name": ["ribosome"]})


def _without_a_value(document: dict[str, Any]) -> None:
    del _objects(document)[1]["copick/pickable_objects/label"]


def _without_data(document: dict[str, Any]) -> None:
    del record_set(document, "pickable_objects")["data"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_label, """'ribosome' is {"label": 1}, in copick:config {"label": 5}."""),
        (_renamed, "'ribosom' is {"),
        (_object_twice, "1 of its rows have no name, or that of another row."),
        (_nameless_object, "1 of its rows have no name, or that of another row."),
        (_without_a_value, """'membrane' is {}, in copick:config {"label": 2}."""),
        (_without_data, "'membrane' is missing, in copick:config {"),
    ],
)
def test_pickable_objects_that_are_stale(
    project: Path, ours: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    edit_document(ours, change)
    ((severity, what, text),) = stale(ours)
    assert (severity, what) == ("warning", "copick/pickable_objects")
    assert message in text
    config = json.loads(ours.read_text())["copick:config"]
    check_mended(project, ours, ["rewrite copick/pickable_objects as copick:config has it"])
    document = json.loads(ours.read_text())
    assert document["copick:config"] == config
    assert _objects(document) == [
        {f"copick/pickable_objects/{key}": item[key] for key in ("name", "label", "is_particle")}
        for item in config["pickable_objects"]
    ]


def test_pickable_objects_go_where_none_are_defined(ours: Path) -> None:
    edit_document(ours, lambda document: document["copick:config"].update(pickable_objects=[]))
    finding = next(finding for finding in verify(str(ours)).findings if finding.kind == "manifest-stale")
    assert "copick:config defines no objects" in finding.message
    assert repair(str(ours)) == ["rewrite copick/pickable_objects as copick:config has it"]
    assert repair(str(ours)) == []
    assert "manifest-stale" not in kinds(ours)
    assert "copick/pickable_objects" not in {item["@id"] for item in json.loads(ours.read_text())["recordSet"]}


def test_pickable_objects_of_another_form_are_somebodys(ours: Path) -> None:
    def reform(document: dict[str, Any]) -> None:
        entry = record_set(document, "pickable_objects")
        entry["field"] = [{"@type": "cr:Field", "@id": "copick/pickable_objects/title", "dataType": "sc:Text"}]
        entry["data"] = [{"copick/pickable_objects/title": "Ribosome"}]

    edit_document(ours, reform)
    assert stale(ours) == []
    assert repair(str(ours)) == []


# --- names -----------------------------------------------------------------------------------------------

CELLS = (
    "1,2,007,+5,-3,1.5,1e5,1E5,.5,5., 7,7 , 1.5,inf,Inf,-inf,infinity,nan,NA,null,None,true,True,TRUE,false,tRue, true,"
    "x, x,x ,1_0,0x1,1e400,,1 5,٣,1d5,+,-,.,e5,- 1,+1.0,\t7,00,-0.0,0.10,1e22,3.0000000000000001,1e,T,yes,#NA, NA"
).split(",")


def read_by_pandas(cells: list[str]) -> dict[str, str | None]:
    """What pandas makes of the cells of a column that it changes."""
    text = io.StringIO()
    csv.writer(text).writerows([("name", "other"), *((cell, "-") for cell in cells)])
    column = pandas.read_csv(io.BytesIO(text.getvalue().encode()))["name"]
    read = {cell: None if pandas.isna(value) else str(value) for cell, value in zip(cells, column, strict=True)}
    return {cell: value for cell, value in read.items() if cell and value != cell}


def test_pandas_misreads_what_we_say() -> None:
    assert STR_NA_VALUES - {""} == _pandas.ABSENT
    choice = random.Random(1)
    # Before its version 3, which needs Python 3.11, pandas left what no double can hold as text.
    cells = [cell for cell in CELLS if cell != "1e400" or int(pandas.__version__.partition(".")[0]) >= 3]
    columns = [[cell] for cell in cells] + [choice.choices(cells, k=choice.randint(2, 3)) for _ in range(1500)]
    wrong = [cells for cells in columns if _pandas.misread(cells) != read_by_pandas(cells)]
    assert wrong == []


@pytest.mark.parametrize(
    ("names", "misread"),
    [
        (["1", "2"], False),
        (["007", "x"], False),
        (["007", "8"], True),
        (["1", "2.50"], True),
        (["NA", "x"], True),
        (["true", "false"], True),
        (["true", "x"], False),
        ([" x", "x "], False),
    ],
)
def test_copick_misreads_the_names_that_are_found(manifest: Path, names: list[str], misread: bool) -> None:
    opened = index(manifest)
    with opened.batch():
        for run in opened.groups("runs"):
            opened.remove(RunRow(run))
        for name in names:
            opened.put(RunRow(name))
    found = [finding for finding in verify(str(manifest)).findings if finding.kind == "name-misread"]
    assert bool(found) is misread
    assert (set(TheirIndex.from_url(str(manifest)).runs_by_name) != set(names)) is misread


# --- commits ---------------------------------------------------------------------------------------------


def leave_commit(manifest: Path, *, complete: bool) -> None:
    """What a writer leaves that is killed after a commit's first table, of two, is in its place."""
    was = tree(manifest.parent)
    opened = index(manifest)
    with opened.batch():
        opened.put(RunRow("TS_008", split="train"))
        opened.put(VoxelSpacingRow("TS_008", 10.0))
    new = tree(manifest.parent)
    for name, data in was.items():
        (manifest.parent / name).write_bytes(data)
    (manifest.parent / "metadata.json.pending").write_bytes(new["metadata.json"])
    (manifest.parent / "runs.csv").write_bytes(new["runs.csv"])
    if complete:
        data = new["voxel_spacings.csv"]
        (manifest.parent / f"voxel_spacings.csv.{hashlib.sha256(data).hexdigest()}.pending").write_bytes(data)


def test_a_complete_commit_is_rolled_forward(project: Path, manifest: Path) -> None:
    leave_commit(manifest, complete=True)
    (manifest.parent / f".metadata.json.{HEX}.tmp").write_bytes(b"{")
    before = tree(project)
    (found,) = verify(str(manifest)).findings
    assert found.kind == "commit-unfinished"
    assert "repair finishes it" in found.message
    steps = repair(str(manifest), dry_run=True)
    assert tree(project) == before
    assert repair(str(manifest)) == steps == ["finish the commit of a writer that was killed"]
    assert kinds(manifest) == {}
    assert index(manifest).has("voxel_spacings", "TS_008")
    assert len(list(manifest.parent.iterdir())) == 11
    check_readers(manifest)


def test_an_incomplete_commit_is_taken_back(manifest: Path) -> None:
    was = tree(manifest.parent)
    leave_commit(manifest, complete=False)
    (manifest.parent / "runs.csv").write_bytes(was["runs.csv"])
    (found,) = verify(str(manifest)).findings
    assert found.kind == "commit-unfinished"
    assert "takes it back" in found.message
    assert repair(str(manifest)) == ["take back the commit of a writer that was killed"]
    assert kinds(manifest) == {}
    assert tree(manifest.parent) == was


def test_a_commit_is_finished_and_more_is_mended_in_one_repair(project: Path, manifest: Path) -> None:
    leave_commit(manifest, complete=True)
    (project / PICKS).unlink()
    assert kinds(manifest) == {"commit-unfinished": 1, "data-missing": 1}
    assert len(repair(str(manifest), drop_dangling=True)) == 2
    assert kinds(manifest) == {}
    assert index(manifest).has("runs", "TS_008")


@pytest.mark.parametrize("name", [f".metadata.json.{HEX}.tmp", f"runs.csv.{'0' * 64}.pending", "metadata.json.lock"])
def test_what_a_killed_writer_left(manifest: Path, name: str) -> None:
    was = tree(manifest.parent)
    (manifest.parent / name).write_bytes(b"")
    (found,) = verify(str(manifest)).findings
    assert (found.kind, found.path) == ("leftover", str(manifest.parent / name))
    steps = repair(str(manifest), dry_run=True)
    assert (manifest.parent / name).exists()
    assert repair(str(manifest)) == steps == [f"remove {manifest.parent / name}, which a killed writer left"]
    assert tree(manifest.parent) == was


def test_what_a_killed_writer_of_data_left_is_told_and_stays(project: Path, manifest: Path) -> None:
    staged = project / f"ExperimentRuns/TS_001/Picks/.demo_1_ribosome.json.{HEX}.tmp"
    former = project / f"ExperimentRuns/TS_001/VoxelSpacing10.000/.wbp.zarr.{HEX}.tmp.former"
    staged.write_bytes(b"")
    former.mkdir()
    report = verify(str(manifest))
    assert {finding.path for finding in report.findings} == {str(staged), str(former)}
    assert {finding.kind for finding in report.findings} == {"leftover"}
    assert repair(str(manifest)) == []
    assert staged.exists()


def test_a_writer_at_work_is_not_taken_for_a_killed_one(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_commit(manifest, complete=True)
    before = tree(manifest.parent)
    lock = manifest.parent / "metadata.json.lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("process 1 of me on here\n")
        file.flush()
        report = verify(str(manifest))
        assert report.findings == []
        assert report.not_checked == ["what killed writers left: process 1 of me on here is writing"]
        monkeypatch.setattr("copick_mlc._lock.WAIT_SECONDS", 0.0)
        with pytest.raises(LockedError):
            repair(str(manifest))
    lock.unlink()
    assert tree(manifest.parent) == before


def test_a_commit_that_goes_on_meanwhile_is_waited_for(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_commit(manifest, complete=True)
    fs = fsspec.filesystem("file")
    monkeypatch.setattr("time.sleep", lambda _: _commit.recover(fs, str(manifest)))
    report = verify(str(manifest))
    assert (report.findings, report.rows) == ([], 28)


def test_a_row_that_goes_meanwhile_is_not_told(project: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def remove(_: Project) -> list[Finding]:
        index(manifest).remove(PicksRow("TS_001", "demo", "1", "ribosome"))
        (project / PICKS).unlink(missing_ok=True)
        return []

    monkeypatch.setattr("copick_mlc._verify._of_commits", remove)  # after the tables are read
    report = verify(str(manifest))
    assert (report.findings, report.rows) == ([], 25)


def test_a_repair_that_cannot_write_changes_nothing(
    project: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / PICKS).unlink()
    before = tree(project)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(CroissantError) as caught:
        repair(str(manifest), drop_dangling=True)
    assert caught.value.code == "storage-failed"
    assert tree(project) == before


_KILLED_AT_EACH_STEP = """
import json, os, shutil, sys
from copick_mlc import _verify
from copick_mlc._repair import repair
from copick_mlc._verify import verify
from copick_mlc.index import CroissantIndex

def rows(manifest):
    index = CroissantIndex.from_url(manifest)
    return [str(row) for table in ("runs", "voxel_spacings", "picks") for row in index.rows(table)]

def killed(manifest, at):
    steps = 0
    def step(event, arguments):
        nonlocal steps
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.rename", "os.remove", "os.truncate"):
            steps += 1
            if steps == at:
                os._exit(9)
    sys.addaudithook(step)
    repair(manifest, drop_dangling=True, add_missing=True)
    os._exit(0)

_verify._PAUSES = ()  # nobody else is at work
project = sys.argv[1]
shutil.copytree(project, f"{project}-new")
after = repair(f"{project}-new/Croissant/metadata.json", drop_dangling=True, add_missing=True)
manifest = f"{project}/Croissant/metadata.json"
states = {"old": rows(manifest), "new": rows(f"{project}-new/Croissant/metadata.json")}
assert states["old"] != states["new"]
found, at, code = [], 0, 9
while code:
    at += 1
    copy = f"{project}-{at}"
    shutil.copytree(project, copy)
    manifest = f"{copy}/Croissant/metadata.json"
    child = os.fork()
    if child == 0:
        killed(manifest, at)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found.append([name for name, state in states.items() if state == rows(manifest)])
    repair(manifest, drop_dangling=True, add_missing=True)
    assert rows(manifest) == states["new"]
    assert verify(manifest).findings == []
    assert len(os.listdir(f"{copy}/Croissant")) == 11
    shutil.rmtree(copy)
print(json.dumps(found))
"""


def test_a_repair_that_is_killed_leaves_the_old_state_or_the_new_one(project: Path, manifest: Path) -> None:
    edit_document(manifest, lambda document: document.pop("copick:baseUrl"))
    leave_commit(manifest, complete=True)
    shutil.copy(project / PICKS, project / "ExperimentRuns/TS_001/Picks/other_2_ribosome.json")
    (project / PICKS).unlink()
    command = [sys.executable, "-c", _KILLED_AT_EACH_STEP, str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) > 12
    assert found == sorted(found, reverse=True)  # first the old state, then the new one
    assert [found[0], found[-1]] == [["old"], ["new"]]
    assert [] not in found


# --- other storage ---------------------------------------------------------------------------------------


@pytest.fixture
def remote(project: Path, manifest: Path) -> Iterator[str]:
    """The project in memory, as on an object store."""
    edit_document(manifest, lambda document: document.pop("copick:baseUrl"))
    fs = fsspec.filesystem("memory")
    for name, data in tree(project).items():
        fs.pipe_file(f"/verify/{name}", data)
    yield "memory://verify/Croissant/metadata.json"
    fs.rm("/verify", recursive=True)


def test_a_project_on_other_storage(remote: str) -> None:
    fs = fsspec.filesystem("memory")
    assert kinds(remote) == {}
    fs.pipe_file("/verify/ExperimentRuns/TS_001/Picks/other_2_ribosome.json", fs.cat_file(f"/verify/{PICKS}"))
    fs.rm("/verify/ExperimentRuns/TS_002/VoxelSpacing10.000/wbp_gradient_features.zarr", recursive=True)
    fs.rm_file(f"/verify/{PICKS}")
    assert kinds(remote) == {"data-unnamed": 1, "data-missing": 2}
    assert len(repair(remote, add_missing=True, drop_dangling=True)) == 3
    assert kinds(remote) == {}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def served(project: Path, manifest: Path) -> Iterator[str]:
    edit_document(manifest, lambda document: document.pop("copick:baseUrl"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(project)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/Croissant/metadata.json"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_project_that_can_only_be_read(project: Path, served: str) -> None:
    report = verify(served)
    assert report.findings == []
    assert report.not_checked == ["whether there is data that no row names: http storage cannot be listed"]
    (project / PICKS).unlink()
    assert kinds(served) == {"data-missing": 1}
    with pytest.raises(ReadOnlyError):
        repair(served, drop_dangling=True)
    assert len(repair(served, drop_dangling=True, dry_run=True)) == 1
    with pytest.raises(UsageError, match="http storage cannot be listed"):
        repair(served, add_missing=True, dry_run=True)


def test_a_local_manifest_of_remote_data(project: Path, manifest: Path, served: str) -> None:
    base = served.removesuffix("/Croissant/metadata.json")
    edit_document(manifest, lambda document: document.update({"copick:baseUrl": base}))
    (project / PICKS).unlink()
    assert kinds(manifest) == {"data-missing": 1}
    assert len(repair(str(manifest), drop_dangling=True)) == 1
    assert kinds(manifest) == {}


def test_remote_data_that_cannot_be_reached_drops_nothing(manifest: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and nobody listens
        base = f"http://127.0.0.1:{unused.getsockname()[1]}"
        edit_document(manifest, lambda document: document.update({"copick:baseUrl": base}))
        assert set(kinds(manifest)) == {"storage-failed"}
        assert repair(str(manifest), drop_dangling=True) == []


# --- the commands ----------------------------------------------------------------------------------------


def test_verify_exits_with_what_it_found(manifest: Path, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(manifest)]) == 0
    assert capsys.readouterr().out == f"{manifest}\n\nnothing found in 26 rows and their data\n"
    (project / PICKS).unlink()
    assert main(["verify", str(manifest)]) == 1
    text = capsys.readouterr().out
    assert "data-missing: 1 error\n  picks, TS_001/demo/1/ribosome (" in text
    assert text.endswith("\n\n1 error, 0 warnings in 26 rows\n")
    assert main(["verify", "--json", str(manifest)]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["errors"], report["warnings"], report["rows"], report["not_checked"]) == (1, 0, 26, [])
    (found,) = report["findings"]
    assert found.pop("message").startswith("the row names ExperimentRuns/TS_001/")
    assert found == {
        "kind": "data-missing",
        "severity": "error",
        "table": "picks",
        "key": ["TS_001", "demo", "1", "ribosome"],
        "path": str(project / PICKS),
        "line": None,
        "column": None,
    }


def test_verify_tells_of_a_manifest_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--json", str(tmp_path / "metadata.json")]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [finding["kind"] for finding in report["findings"]] == ["manifest-missing"]
    assert report["base_url"] is None


def test_a_long_list_is_cut_for_people_only(project: Path, manifest: Path) -> None:
    picks = project / "ExperimentRuns/TS_001/Picks"
    for number in range(12):
        shutil.copy(project / PICKS, picks / f"u{number}_1_ribosome.json")
    report = verify(str(manifest))
    assert "data-unnamed: 12 warnings" in render(report)
    assert "… and 2 more; --json lists all" in render(report)
    assert len(report.as_json()["findings"]) == 12


def test_a_name_that_is_no_text_is_told(project: Path, manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsencode(project / "ExperimentRuns/TS_001/Picks") + b"/u\xff_1_ribosome.json"
    shutil.copy(project / PICKS, os.fsdecode(name))
    for arguments in (["verify"], ["verify", "--json"]):
        assert main([*arguments, str(manifest)]) == 1
        assert "u\\udcff" in capsys.readouterr().out
    before = tree(project)
    assert main(["repair", "--add-missing", str(manifest)]) == 1
    assert "[name-invalid]" in capsys.readouterr().err
    assert tree(project) == before


def test_repair_says_what_it_does(project: Path, manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["repair", str(manifest)]) == 0
    assert capsys.readouterr().out == "nothing to do\n"
    (project / PICKS).unlink()
    assert main(["repair", "--dry-run", "--drop-dangling", str(manifest)]) == 0
    planned = capsys.readouterr().out.splitlines()
    assert planned[1:] == ["1 to do, nothing is changed"]
    assert main(["repair", "--drop-dangling", str(manifest)]) == 0
    assert capsys.readouterr().out.splitlines() == [planned[0], "1 done"]
    assert main(["verify", str(manifest)]) == 0
    assert main(["repair", str(project / "absent.json")]) == 1
    assert "[manifest-missing]" in capsys.readouterr().err


def test_repair_tells_what_it_is_warned_of(
    manifest: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("copick_mlc._lock._try_lock", fail)
    (manifest.parent / "metadata.json.lock").touch()
    assert main(["repair", str(manifest)]) == 0
    found = capsys.readouterr()
    assert found.err.startswith("warning: ")
    assert "has no locks" in found.err
    assert found.out.endswith("metadata.json.lock, which a killed writer left\n1 done\n")


@pytest.mark.parametrize("command", ["verify", "repair"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert f"python -m copick_mlc {command} " in text.partition("examples:")[2]


def test_kinds_and_codes_are_told_apart() -> None:
    assert set(KINDS).isdisjoint(CODES)


@pytest.mark.parametrize("command", ["verify", "repair"])
def test_they_need_no_copick(manifest: Path, command: str) -> None:
    script = (
        "import sys\n"
        "from copick_mlc.__main__ import main\n"
        f"assert main([{command!r}, {str(manifest)!r}]) == 0\n"
        "print(sorted({'copick', 'zarr', 'numpy', 'pandas', 'mlcroissant'} & set(sys.modules)))\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"
