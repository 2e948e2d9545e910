"""Projects of the CryoET Data Portal, exported: real roots of copick's, their data on a real S3 server."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import multiprocessing
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import copick
import mlcroissant
import numpy as np
import pytest
from copick.impl.cryoet_data_portal import CopickRootCDP, PortalAnnotationMeta
from copick.util.escape import sanitize_name

from copick_mlc import CopickRootMLC, append_croissant, export_croissant, from_croissant
from copick_mlc._tables import TABLES
from copick_mlc.errors import CroissantWarning, UsageError
from tests.portal import (
    ANNOTATIONS,
    BUCKET,
    OBJECTS,
    RUNS,
    TOMOGRAMS,
    TS_026,
    Annotation,
    add_overlay_artifacts,
    contents,
    make_portal_root,
    records,
    write_config,
)
from tests.projects import inventory, tree
from tests.servers import s3_environment, silent_endpoint

BASE = f"s3://{BUCKET}/"
KNOWN = {"license": "MIT", "cite_as": "us", "date_published": "2026-01-01"}  # else it is warned that they are absent
OFFLINE: dict[str, Any] = {"compute_file_sha256": False, "validate": False}
FILES = {file: annotation for annotation in ANNOTATIONS for file in annotation.files}
FIELDS = list(type(PortalAnnotationMeta().portal_annotation).model_fields)
RENAMED = (
    "run 16463 of the portal: tomogram 7002, wbp-filtered-ctfdeconv at 10.0 Å, is exported as "
    "wbp-filtered-ctfdeconv-7002; there is another one"
)


@dataclass(frozen=True)
class Exported:
    """What an export has written, and warned of."""

    url: str
    notes: list[str]

    @property
    def directory(self) -> Path:
        return Path(self.url).parent

    def rows(self, table: str) -> list[dict[str, str]]:
        text = (self.directory / f"{table}.csv").read_bytes().decode()
        return list(csv.DictReader(io.StringIO(text, newline="")))

    def column(self, table: str, name: str) -> list[str]:
        return [row[name] for row in self.rows(table)]

    def ids(self) -> list[list[str]]:
        """The ids of the portal's picks, segmentations and tomograms."""
        segmentations = self.rows("segmentations") + self.rows("instance_segmentations")
        found = (
            [row["portal_annotation_file_id"] for row in self.rows("picks")],
            [row["portal_annotation_file_id"] for row in segmentations],
            self.column("tomograms", "portal_tomogram_id"),
        )
        return [sorted(filter(None, ids)) for ids in found]


def noted(function: Callable[..., str], *arguments: Any, **options: Any) -> Exported:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CroissantWarning)
        url = function(*arguments, **options)
    return Exported(url, [str(found.message) for found in caught])


def export(root: Any, target: Path, **options: Any) -> Exported:
    return noted(export_croissant, root, target, **{**KNOWN, **options})


def record(data: dict[str, list[dict[str, Any]]], kind: str, identifier: int) -> dict[str, Any]:
    return next(found for found in data[kind] if found["id"] == identifier)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def whole(portal_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[CopickRootCDP, Exported]:
    """A portal project with an overlay that has all kinds of things, and its export. Nobody changes them."""
    directory = tmp_path_factory.mktemp("whole")
    with s3_environment(portal_endpoint):
        root = make_portal_root(directory / "portal")
        add_overlay_artifacts(root)
        return root, export(root, directory / "out")


@pytest.fixture
def exported(whole: tuple[CopickRootCDP, Exported], portal_endpoint: str) -> Iterator[Exported]:
    """That export, where its data can be read."""
    with s3_environment(portal_endpoint):
        yield whole[1]


@pytest.fixture
def make(unreachable_portal: CopickRootCDP, tmp_path: Path) -> Callable[..., Exported]:
    """Exports the portal's project, or another one, without looking at data."""

    def make_it(name: str = "out", root: CopickRootCDP = unreachable_portal, **options: Any) -> Exported:
        return export(root, tmp_path / name, **{**OFFLINE, **options})

    return make_it


# --- the tables ------------------------------------------------------------------------------------------


def provenance(annotation: Annotation, file: int) -> dict[str, str]:
    return {
        "portal_object_name": annotation.portal_name,
        "portal_session_id": "",
        "portal_annotation_id": str(annotation.id),
        "portal_annotation_file_id": str(file),
    }


def expected_picks(file: int, data: dict[str, bytes]) -> dict[str, str]:
    annotation = FILES[file]
    url = annotation.url(file)
    names = {"run": str(annotation.run.id), "user_id": "data-portal", "session_id": str(file)}
    names |= {"object_name": annotation.object, "voxel_size": str(annotation.run.voxel_size)}
    return {**names, "url": url.removeprefix(BASE), "sha256": sha256(data[url]), **provenance(annotation, file)}


def expected_segmentation(file: int) -> dict[str, str]:
    annotation = FILES[file]
    names = {"run": str(annotation.run.id), "voxel_size": str(annotation.run.voxel_size), "user_id": "data-portal"}
    names |= {"session_id": str(file), "name": annotation.object}
    return {**names, "url": annotation.url(file).removeprefix(BASE), **provenance(annotation, file)}


def expected_tomogram(number: int, **more: str) -> dict[str, str]:
    (found,) = (tomogram for tomogram in TOMOGRAMS if tomogram.id == number)
    return {
        "run": str(found.run.id),
        "voxel_size": str(found.run.voxel_size),
        "tomo_type": found.type,
        "url": found.url.removeprefix(BASE),
        "portal_tomo_type": "",
        "portal_tomogram_id": str(number),
        **more,
    }


def test_every_row_of_every_table(whole: tuple[CopickRootCDP, Exported], exported: Exported) -> None:
    overlay = Path(whole[0].config.overlay_root.removeprefix("local://"))
    run = overlay / "ExperimentRuns" / "16463"
    at_10, at_20 = run / "VoxelSpacing10.000", run / "VoxelSpacing20.000"
    own = {"run": "16463", "user_id": "me", "session_id": "1"}
    sized = {"run": "16463", "voxel_size": "10.0"}
    no_portal = dict.fromkeys(provenance(ANNOTATIONS[0], 0), "")
    picks, mesh = run / "Picks" / "me_1_ribosome.json", run / "Meshes" / "me_1_membrane.glb"
    data = contents()
    renamed = {"tomo_type": f"{TOMOGRAMS[0].type}-7002", "portal_tomo_type": TOMOGRAMS[0].type}
    tomogram = {"portal_tomo_type": "", "portal_tomogram_id": ""}
    wanted: dict[str, list[dict[str, str]]] = {
        "runs": [{"name": str(r.id), "portal_run_id": str(r.id), "split": ""} for r in RUNS],
        "voxel_spacings": [
            {"run": name, "voxel_size": size}
            for name, size in [("16463", "10.0"), ("16463", "20.0"), ("16464", "10.0"), ("17001", "7.84")]
        ],
        "tomograms": [
            {**sized, "tomo_type": "mine", "url": f"file://{at_10}/mine.zarr", **tomogram},
            expected_tomogram(7000),
            expected_tomogram(7002, **renamed),
            {"run": "16463", "voxel_size": "20.0", "tomo_type": "binned", "url": f"file://{at_20}/binned.zarr"}
            | tomogram,
            expected_tomogram(7001),
            expected_tomogram(7100),
        ],
        "features": [
            {**sized, "tomo_type": TOMOGRAMS[0].type, "feature_type": "edges"}
            | {"url": f"file://{at_10}/{TOMOGRAMS[0].type}_edges_features.zarr"}
        ],
        "picks": [
            expected_picks(5001, data),
            expected_picks(5011, data),
            {**own, "object_name": "ribosome", "voxel_size": "10.0", "url": f"file://{picks}"}
            | {"sha256": sha256(picks.read_bytes()), **no_portal},
            expected_picks(5002, data),
            expected_picks(5005, data),
        ],
        "meshes": [
            {**own, "object_name": "membrane", "url": f"file://{mesh}", "sha256": sha256(mesh.read_bytes())},
        ],
        "segmentations": [
            {**expected_segmentation(5003), "is_multilabel": "false"},
            {**own, **sized, "name": "all", "is_multilabel": "true", **no_portal}
            | {"url": f"file://{run}/Segmentations/10.000_me_1_all-multilabel.zarr"},
            {**own, **sized, "name": "membrane", "is_multilabel": "false", **no_portal}
            | {"url": f"file://{run}/Segmentations/10.000_me_1_membrane.zarr"},
        ],
        "instance_segmentations": [expected_segmentation(5004)],
        "panoptic_segmentations": [],
        "objects": [{"name": "ribosome", "url": f"file://{overlay}/Objects/ribosome.zarr"}],
    }
    assert wanted.keys() == TABLES.keys()
    for name, rows in wanted.items():
        assert exported.rows(name) == rows, name


def test_the_manifest(exported: Exported) -> None:
    document = json.loads(Path(exported.url).read_text())
    assert document["copick:baseUrl"] == BASE
    assert [entry["contentUrl"] for entry in document["distribution"]] == [t.file_name for t in TABLES.values()]
    config = document["copick:config"]
    assert (config["name"], config["user_id"], config["session_id"]) == ("portal project", "me", "1")
    defined = [
        {key: found[key] for key in wanted} for found, wanted in zip(config["pickable_objects"], OBJECTS, strict=True)
    ]
    assert defined == OBJECTS


def test_what_is_warned_of(exported: Exported) -> None:
    outside = f"8 artifacts lie outside {BASE}; their rows have absolute URLs, which others may not reach"
    assert exported.notes == [RENAMED, outside]


def test_a_base_url_is_warned_of_and_has_no_effect(make: Callable[..., Exported]) -> None:
    without, given = make(), make("given", base_url="https://example.org/here")
    remark = f"base_url has no effect: the rows of a portal project are relative to {BASE}"
    assert given.notes == [remark, *without.notes]
    assert tree(given.directory) == tree(without.directory)


def test_an_overlay_within_the_project_has_absolute_urls_too(portal: CopickRootCDP, tmp_path: Path) -> None:
    """Relative ones would be below the portal's base."""
    add_overlay_artifacts(portal)
    found = export(portal, tmp_path / "portal", **OFFLINE)
    (mesh,) = found.column("meshes", "url")
    assert mesh == f"file://{tmp_path}/portal/ExperimentRuns/16463/Meshes/me_1_membrane.glb"


def test_a_run_that_only_the_overlay_has(unreachable_portal: CopickRootCDP, tmp_path: Path) -> None:
    picks = tmp_path / "portal" / "ExperimentRuns" / "mine" / "Picks"
    picks.mkdir(parents=True)
    (picks / "me_1_ribosome.json").write_text('{"voxel_spacing": 5.5, "points": []}')
    found = export(unreachable_portal, tmp_path / "out", runs=["mine"], **OFFLINE)
    assert found.rows("runs") == [{"name": "mine", "portal_run_id": "", "split": ""}]
    (row,) = found.rows("picks")
    assert (row["voxel_size"], row["url"]) == ("5.5", f"file://{picks}/me_1_ribosome.json")
    assert found.ids() == [[], [], []]


def test_of_an_artifact_in_both_the_overlays_counts(unreachable_portal: CopickRootCDP, tmp_path: Path) -> None:
    run = tmp_path / "portal" / "ExperimentRuns" / "16463"
    (run / "Picks").mkdir(parents=True)
    (run / "Picks" / "data-portal_5001_ribosome.json").write_text('{"voxel_spacing": 10.0, "points": []}')
    found = export(unreachable_portal, tmp_path / "out", **OFFLINE)
    assert found.ids()[0] == ["5002", "5005", "5011"]
    urls = {row["session_id"]: row["url"] for row in found.rows("picks")}
    assert urls["5001"] == f"file://{run}/Picks/data-portal_5001_ribosome.json"


def test_nothing_is_written_but_the_dataset(unreachable_portal: CopickRootCDP, tmp_path: Path) -> None:
    before = tree(tmp_path)
    export(unreachable_portal, tmp_path / "out")
    names = {f"out/Croissant/{name}" for name in ["metadata.json", *(t.file_name for t in TABLES.values())]}
    assert tree(tmp_path).keys() - before.keys() == names


# --- opened again ----------------------------------------------------------------------------------------


def opened(found: Exported, **options: Any) -> CopickRootMLC:
    return from_croissant(found.url, static_fs_args={"anon": True}, **options)


def of_all(root: Any) -> dict[str, Any]:
    """The runs of a root with their data; to look for density maps, copick would make stores."""
    runs: dict[str, Any] = inventory(SimpleNamespace(pickable_objects=[], runs=root.runs))["runs"]
    return runs


def test_our_root_reads_what_the_portal_has(exported: Exported) -> None:
    root = opened(exported)
    for file, annotation in FILES.items():
        run = root.get_run(str(annotation.run.id))
        assert run is not None
        if annotation.is_volume:
            (segmentation,) = (s for s in run.segmentations if s.session_id == str(file))
            assert (segmentation.name, segmentation.is_multilabel) == (annotation.object, False)
            assert segmentation.is_instance == (annotation.shape == "InstanceSegmentationMask")
            assert np.array_equal(segmentation.numpy(), annotation.volume(file))
            continue
        (picks,) = run.get_picks(annotation.object, "data-portal", str(file))
        points, transforms = picks.numpy()
        lines = annotation.points(file)
        places = np.array([list(line["location"].values()) for line in lines]) * annotation.run.voxel_size
        assert np.allclose(points, places)
        assert np.allclose(transforms[:, :3, :3], [line.get("xyz_rotation_matrix", np.eye(3)) for line in lines])
        assert np.allclose(transforms[:, :3, 3], 0)
        assert picks.trust_orientation == (annotation.shape == "OrientedPoint")
    for tomogram in TOMOGRAMS:
        run = root.get_run(str(tomogram.run.id))
        assert run is not None
        spacing = run.get_voxel_spacing(tomogram.run.voxel_size)
        assert spacing is not None
        name = f"{tomogram.type}-7002" if tomogram.id == 7002 else tomogram.type
        (volume,) = spacing.get_tomograms(name)
        assert np.array_equal(volume.numpy(), tomogram.volume)


def test_our_root_lists_what_the_portals_does(whole: tuple[CopickRootCDP, Exported], exported: Exported) -> None:
    """With all data, of the overlay too. copick lists two tomograms with one name, and `inventory` has the last."""
    ours, theirs = inventory(opened(exported)), inventory(whole[0])
    first, second = TOMOGRAMS[0].type, f"{TOMOGRAMS[0].type}-7002"
    at_10 = theirs["runs"]["16463"]["spacings"]["10.000"]
    last, features = at_10[first]
    volumes = ours["runs"]["16463"]["spacings"]["10.000"]
    assert volumes.pop(second) == (last, {})
    at_10[first] = (volumes[first][0], features)
    assert ours == theirs


def test_copick_opens_it_and_reads_the_same(exported: Exported, tmp_path: Path) -> None:
    theirs = copick.from_croissant(exported.url, overlay_root=str(tmp_path / "overlay"), static_fs_args={"anon": True})
    assert type(theirs).__module__ == "copick.impl.mlcroissant"
    assert of_all(theirs) == of_all(opened(exported))
    assert [item.meta for item in theirs.pickable_objects] == [i.meta for i in opened(exported).pickable_objects]


def test_mlcroissant_reads_every_record(exported: Exported) -> None:
    dataset = mlcroissant.Dataset(jsonld=exported.url)
    assert not dataset.metadata.issues.errors
    for name in TABLES:
        rows = exported.rows(name)
        if rows:
            assert len(list(dataset.records(f"copick/{name}"))) == len(rows), name


def test_the_portal_cannot_be_written_and_an_overlay_can(exported: Exported, tmp_path: Path) -> None:
    run = opened(exported).get_run("16463")
    assert run is not None
    with pytest.raises(PermissionError, match="overlay_root"):
        run.new_picks("ribosome", "9", "me").from_numpy(np.ones((1, 3)))
    before = tree(exported.directory)
    run = opened(exported, overlay_root=tmp_path / "overlay").get_run("16463")
    assert run is not None
    run.new_picks("ribosome", "9", "me").from_numpy(np.ones((1, 3)))
    assert len(run.get_picks("ribosome", "me", "9")[0].points) == 1
    assert tree(exported.directory) == before


# --- data that is not there ------------------------------------------------------------------------------


def without(rows: list[dict[str, str]], *files: str) -> list[dict[str, str]]:
    """The rows, those of some portal files without sha256."""
    return [{**row, "sha256": ""} if row["portal_annotation_file_id"] in files else row for row in rows]


def test_data_that_nobody_serves_has_no_sha256(
    exported: Exported, unreachable_portal: CopickRootCDP, tmp_path: Path
) -> None:
    found = export(unreachable_portal, tmp_path / "out", validate=False)
    (note,) = set(found.notes) - {RENAMED}
    assert note.startswith(
        "published picks and meshes have not what only their files say, as their sha256, for their data cannot be "
    )
    own = [row for row in exported.rows("picks") if row["user_id"] == "data-portal"]
    assert found.rows("picks") == without(own, "5001", "5002", "5005", "5011")
    assert found.rows("instance_segmentations") == exported.rows("instance_segmentations")


def test_what_is_in_the_overlay_has_its_sha256_all_the_same(
    exported: Exported, unreachable_portal: CopickRootCDP, tmp_path: Path
) -> None:
    add_overlay_artifacts(unreachable_portal)
    found = export(unreachable_portal, tmp_path / "out", validate=False)
    hashes = {row["user_id"]: row["sha256"] for row in found.rows("picks") + found.rows("meshes")}
    assert hashes["data-portal"] == ""
    assert len(hashes["me"]) == 64
    assert sum("cannot be reached" in note for note in found.notes) == 1


def test_storage_that_never_answers_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("copick_mlc._collection._PATIENCE", 0.2)
    with silent_endpoint() as endpoint, s3_environment(endpoint):
        found = export(make_portal_root(tmp_path / "portal"), tmp_path / "out", validate=False)
    (note,) = set(found.notes) - {RENAMED}
    assert "cannot be reached" in note
    assert "no answer in 0.2 s" in note
    assert found.column("picks", "sha256") == [""] * 4


@pytest.mark.parametrize(
    "options",
    [{"compute_file_sha256": False}, {"picks": []}, {"picks": "membrane"}, {"picks_author": "nobody"}, {"runs": []}],
    ids=str,
)
def test_nobody_asks_for_data_that_is_not_needed(
    unreachable_portal: CopickRootCDP, tmp_path: Path, options: dict[str, Any]
) -> None:
    found = export(unreachable_portal, tmp_path / "out", validate=False, **options)
    assert not any("reached" in note for note in found.notes)
    assert set(found.column("picks", "sha256")) <= {""}


@pytest.mark.parametrize("file", [5001, 5002], ids=["the first", "another"])
def test_a_file_that_is_missing_is_named(exported: Exported, portal: CopickRootCDP, tmp_path: Path, file: int) -> None:
    data = records()
    missing = record(data, "annotation_files", file)
    missing["s3_path"] = missing["s3_path"].replace(".ndjson", "-gone.ndjson")
    found = export(make_portal_root(tmp_path / "other", data), tmp_path / "out", validate=False)
    run, name = FILES[file].run.id, FILES[file].object
    (note,) = (note for note in found.notes if "sha256" in note)
    assert note.startswith(f"picks {run}/data-portal/{file}/{name} has not what only its file says, as its sha256: ")
    assert "there is no such file" in note
    own = [row for row in exported.rows("picks") if row["user_id"] == "data-portal"]
    assert [{**row, "url": ""} for row in found.rows("picks")] == [
        {**row, "url": ""} for row in without(own, str(file))
    ]


# --- session ids -----------------------------------------------------------------------------------------


def test_every_field_can_be_in_a_session_id(make: Callable[..., Exported], tmp_path: Path) -> None:
    data = records()
    values = dict.fromkeys(FIELDS, "a text") | {
        name: value for name, value in record(data, "annotations", 3001).items() if value is not None
    }
    values |= {"confidence_precision": 0.25, "confidence_recall": 1.0}
    record(data, "annotations", 3001).update({name: values[name] for name in FIELDS})
    assert len(FIELDS) > 20
    root = make_portal_root(tmp_path / "other", data)
    for field in FIELDS:
        found = make(field, root, session_id_template=f"{{{field}}}-{{annotation_file_id}}", runs="16463")
        sessions = [row["session_id"] for row in found.rows("picks")]
        assert sessions == sorted(
            sanitize_name(f"{values[field]}-{file}", suppress_warnings=True) for file in (5001, 5011)
        )


def test_what_is_absent_is_empty(make: Callable[..., Exported], tmp_path: Path) -> None:
    data = records()
    absent = sorted(set(FIELDS) - {"id", "run_id", "object_id"})
    record(data, "annotations", 3001).update(dict.fromkeys(absent))
    data["annotation_authors"] = []
    root = make_portal_root(tmp_path / "other", data)
    for field in [*absent, "author"]:
        template = "a" + "".join(f"{{{field}{form}}}" for form in ("", "!r", ":>9", "!s:.3")) + "{annotation_file_id}"
        found = make(field, root, session_id_template=template, runs="16463")
        assert found.column("picks", "session_id") == ["a5001", "a5011"], field
    assert make("authors", root, session_id_template="{authors}", runs="16463").column(
        "picks", "portal_session_id"
    ) == [
        "",
        "",
    ]


SESSIONS = {  # by template, those of the files 5001 and 5002
    "{author}-{annotation_file_id}": ("Jane-Doe-5001", "Max-Muster-5002"),
    "{authors}-{annotation_file_id}": ("Jane-Doe,Max-Muster,Jörg-Müller-5001", "Max-Muster-5002"),
    "{annotation_file_id}": ("5001", "5002"),
    "f{annotation_file_id:08d}": ("f00005001", "f00005002"),
    "{id:06d}.{annotation_file_id}": ("003001.5001", "003002.5002"),
    "{object_name!r:.5}{annotation_file_id}": ("'cyto5001", "'prot5002"),
    "{authors!a:.30}{annotation_file_id!s}": ("'Jane-Doe,Max-Muster,J-xf6rg-M5001", "'Max-Muster'5002"),
    "{{x}}{annotation_file_id}": ("{x}5001", "{x}5002"),
    " _/{annotation_file_id}:?": ("5001", "5002"),
    "{ground_truth_status}/{annotation_file_id}": ("True-5001", "False-5002"),
    "{confidence_recall}{annotation_ingest_id!r:>5}": ("5001", "5002"),  # nothing is left
    "_": ("5001", "5002"),
}


@pytest.mark.parametrize("template", SESSIONS)
def test_session_ids(make: Callable[..., Exported], template: str) -> None:
    found = make(session_id_template=template)
    rows = {row["portal_annotation_file_id"]: row for row in found.rows("picks")}
    for file, session in zip(("5001", "5002"), SESSIONS[template], strict=True):
        assert rows[file]["session_id"] == session
        assert rows[file]["portal_session_id"] == ("" if session == file else file)
    root = from_croissant(found.url, static_fs_args={"anon": True})
    assert [p.session_id for p in root.runs[1].picks] == [SESSIONS[template][1]]


def test_copick_reads_under_new_session_ids(portal: CopickRootCDP, tmp_path: Path) -> None:
    found = export(portal, tmp_path / "out", session_id_template="{method_type} {annotation_file_id}", validate=False)
    theirs = copick.from_croissant(found.url, overlay_root=str(tmp_path / "own"), static_fs_args={"anon": True})
    (run,) = (run for run in theirs.runs if run.name == "16463")
    assert len(run.get_picks("ribosome", "data-portal", "manual-5001")[0].numpy()[0]) == 3
    (mask,) = run.get_segmentations(session_id="hybrid-5003")
    assert np.array_equal(mask.numpy(), FILES[5003].volume(5003))
    (row,) = found.rows("instance_segmentations")
    assert (row["session_id"], row["portal_session_id"]) == ("automated-5004", "5004")


def test_the_overlay_keeps_its_session_ids(whole: tuple[CopickRootCDP, Exported], tmp_path: Path) -> None:
    found = export(whole[0], tmp_path / "out", session_id_template="x{annotation_file_id}", **OFFLINE)
    own = [row for row in found.rows("picks") + found.rows("segmentations") if row["user_id"] == "me"]
    assert [(row["session_id"], row["portal_session_id"]) for row in own] == [("1", "")] * 3


WRONG_TEMPLATES = {
    "{nobody}": "names {nobody}; an annotation has annotation_file_id, ",
    "{}": "names {}; an annotation has ",
    "{0}": "names {0}; ",
    "{id.real}": "names {id.real}; ",
    "{id.__class__}": "names {id.__class__}; ",
    "{authors[0]}": "names {authors[0]}; ",
    "{id:{object_count}d}": "has a field within a field",
    "{id": "is malformed: ",
    "id}": "is malformed: ",
    "{id!}": "is malformed: ",
    "{id!x}": "has the conversion !x; there are !a, !r and !s",
    "{object_state!x}": "has the conversion !x; ",
    "{id:zz}": "cannot be filled for annotation file 5001: ",
    "{object_name:d}": "cannot be filled for annotation file 5001: ",
}


def unchanged_by(directory: Path, function: Callable[[], Any]) -> UsageError:
    """The error of a function that changes nothing: no file, no directory."""
    before = sorted(directory.rglob("*")), tree(directory)
    with pytest.raises(UsageError) as caught:
        function()
    assert (sorted(directory.rglob("*")), tree(directory)) == before
    return caught.value


@pytest.mark.parametrize("template", WRONG_TEMPLATES)
def test_a_template_that_makes_no_sense(make: Callable[..., Exported], tmp_path: Path, template: str) -> None:
    error = unchanged_by(tmp_path, lambda: make("a/b", session_id_template=template))
    assert error.code == "option-invalid"
    assert error.message.startswith(f"session_id_template {template!r} {WRONG_TEMPLATES[template]}")


def test_a_number_that_is_no_character(make: Callable[..., Exported], tmp_path: Path) -> None:
    data = records()
    record(data, "annotations", 3001)["object_count"] = 0x110000
    root = make_portal_root(tmp_path / "other", data)
    error = unchanged_by(tmp_path, lambda: make("a/b", root, session_id_template="{object_count:c}"))
    assert (error.code, "cannot be filled" in error.message) == ("option-invalid", True)


@pytest.mark.parametrize("template", ["all", "{author}", "{id}"])
def test_two_rows_of_one_key(make: Callable[..., Exported], tmp_path: Path, template: str) -> None:
    error = unchanged_by(tmp_path, lambda: make("a/b", session_id_template=template))
    assert error.code == "option-invalid"
    assert "session_id_template" in error.message
    for file in ("5001", "5011"):
        assert f"('16463', 'data-portal', '{file}', 'ribosome')" in error.message


# --- filters ---------------------------------------------------------------------------------------------

ALL = [["5001", "5002", "5005", "5011"], ["5003", "5004"], ["7000", "7001", "7002", "7100"]]
PICKS, SEGMENTATIONS, TOMOGRAM_IDS = ALL

FILTERS: dict[str, tuple[dict[str, Any], list[list[str]]]] = {
    "a bool": ({"picks_portal_meta": {"ground_truth_status": True}}, [["5001", "5011"], SEGMENTATIONS, TOMOGRAM_IDS]),
    "a bool as text": (
        {"picks_portal_meta": {"ground_truth_status": "false"}},
        [["5002", "5005"], SEGMENTATIONS, TOMOGRAM_IDS],
    ),
    "an int": ({"picks_portal_meta": {"id": 3002}}, [["5002"], SEGMENTATIONS, TOMOGRAM_IDS]),
    "an int as text": ({"picks_portal_meta": {"id": "3002"}}, [["5002"], SEGMENTATIONS, TOMOGRAM_IDS]),
    "a text": ({"picks_portal_meta": {"method_type": "hybrid"}}, [["5005"], SEGMENTATIONS, TOMOGRAM_IDS]),
    "fields": (
        {"picks_portal_meta": {"ground_truth_status": "0", "annotation_software": "pytom"}},
        [["5002"], SEGMENTATIONS, TOMOGRAM_IDS],
    ),
    "an author": ({"picks_author": "Max Muster"}, [["5001", "5002", "5011"], SEGMENTATIONS, TOMOGRAM_IDS]),
    "authors": ({"picks_author": ["Max Muster", "Jörg Müller"]}, [["5001", "5011"], SEGMENTATIONS, TOMOGRAM_IDS]),
    "authors of an iterator": ({"picks_author": iter(["Max Muster"])}, [["5001", "5002", "5011"], *ALL[1:]]),
    "author and field": (
        {"picks_author": "Max Muster", "picks_portal_meta": {"method_type": "automated"}},
        [["5002"], SEGMENTATIONS, TOMOGRAM_IDS],
    ),
    "segmentations": ({"segmentations_portal_meta": {"method_type": "hybrid"}}, [PICKS, ["5003"], TOMOGRAM_IDS]),
    "an author of segmentations": ({"segmentations_author": ["Jane Doe"]}, [PICKS, ["5004"], TOMOGRAM_IDS]),
    "tomograms": ({"tomograms_portal_meta": {"processing": "denoised"}}, [PICKS, SEGMENTATIONS, ["7001"]]),
    "a float": ({"tomograms_portal_meta": {"voxel_spacing": 7.84}}, [PICKS, SEGMENTATIONS, ["7100"]]),
    "a float as text": ({"tomograms_portal_meta": {"voxel_spacing": "10"}}, [PICKS, SEGMENTATIONS, TOMOGRAM_IDS[:3]]),
    "an author of tomograms": ({"tomograms_author": ["Second Author"]}, [PICKS, SEGMENTATIONS, ["7002"]]),
    "all at once": (
        {"picks_author": "Max Muster", "segmentations_author": "Seg Person", "tomograms_author": "Tomo Author"}
        | {"segmentations_portal_meta": {"id": 3003}, "tomograms_portal_meta": {"ctf_corrected": "yes"}},
        [["5001", "5002", "5011"], ["5003"], ["7000", "7001", "7002"]],
    ),
    "with a URI": (
        {"picks_author": "Max Muster", "picks": "chaperone:*/*", "tomograms": "*@10.0"},
        [["5002"], SEGMENTATIONS, TOMOGRAM_IDS[:3]],
    ),
    "with runs": (
        {"picks_author": "Max Muster", "runs": "16463"},
        [["5001", "5011"], ["5003", "5004"], ["7000", "7002"]],
    ),
    "that ask for nothing": ({"picks_portal_meta": {}, "picks_author": [], "tomograms_author": None}, ALL),
}


@pytest.mark.parametrize("name", FILTERS)
def test_filters(make: Callable[..., Exported], name: str) -> None:
    options, wanted = FILTERS[name]
    found = make(**options)
    assert found.ids() == wanted
    assert not any("matches nothing" in note for note in found.notes)


def test_a_filter_is_no_other_than_copicks_own(
    unreachable_portal: CopickRootCDP, make: Callable[..., Exported]
) -> None:
    query: dict[str, Any] = {"method_type": "automated", "ground_truth_status": "false"}
    theirs = [p for run in unreachable_portal.runs for p in run.get_picks(portal_meta_query=query)]
    assert make(picks_portal_meta=query).ids()[0] == sorted(p.session_id for p in theirs) == ["5002"]


OVERLAYS = {
    "picks_author": "picks",
    "picks_portal_meta": "picks",
    "segmentations_author": "segmentations",
    "segmentations_portal_meta": "segmentations",
    "tomograms_author": "tomograms",
    "tomograms_portal_meta": "tomograms",
}


@pytest.mark.parametrize("option", OVERLAYS)
def test_the_overlay_is_dropped_where_its_kind_is_filtered(
    whole: tuple[CopickRootCDP, Exported], tmp_path: Path, option: str
) -> None:
    asked = {"deposition_id": 10310} if option.endswith("meta") else ["Jane Doe"]
    found = export(whole[0], tmp_path / "out", **{option: asked}, **OFFLINE)
    for table, column in (("picks", "user_id"), ("segmentations", "user_id"), ("tomograms", "tomo_type")):
        mine = [value for value in found.column(table, column) if value in ("me", "mine", "binned")]
        every = [v for v in whole[1].column(table, column) if v in ("me", "mine", "binned")]
        assert mine == ([] if table == OVERLAYS[option] else every)
    for table in ("meshes", "objects", "features"):
        assert found.column(table, "url") == whole[1].column(table, "url")


def test_voxel_spacings_of_which_nothing_is_left(whole: tuple[CopickRootCDP, Exported], tmp_path: Path) -> None:
    found = export(whole[0], tmp_path / "1", tomograms_author="Other Author", segmentations_author="no", **OFFLINE)
    # At 16463's spacing of 10 Å the overlay's features are left.
    assert found.rows("voxel_spacings") == [
        {"run": "16463", "voxel_size": "10.0"},
        {"run": "17001", "voxel_size": "7.84"},
    ]
    assert len(found.rows("runs")) == 3
    picks = export(whole[0], tmp_path / "2", picks_author="nobody", **OFFLINE)
    assert picks.rows("voxel_spacings") == whole[1].rows("voxel_spacings")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"picks_author": "nobody"}, "picks_author: matches nothing in the project"),
        ({"picks_author": ["Jane Doe", "Tomo Author"]}, "picks_author: matches nothing in the project"),
        ({"tomograms_portal_meta": {"id": 1}}, "tomograms_portal_meta: matches nothing in the project"),
        (
            {"segmentations_portal_meta": {"id": 3003}, "segmentations_author": "Jane Doe"},
            "segmentations_portal_meta with segmentations_author: matches nothing in the project",
        ),
        ({"picks_portal_meta": {"id": 3002}, "runs": "16463"}, "picks_portal_meta: matches nothing in the project"),
    ],
    ids=str,
)
def test_a_filter_that_matches_nothing_is_warned_of(
    make: Callable[..., Exported], options: dict[str, Any], said: str
) -> None:
    assert make(**options).notes.count(said) == 1


def test_who_filters_out_a_tomogram_hears_nothing_of_its_name(make: Callable[..., Exported]) -> None:
    assert RENAMED not in make(tomograms_portal_meta={"id": 7000}).notes
    found = make("second", tomograms_portal_meta={"id": 7002})
    assert found.notes == [RENAMED]
    assert found.column("tomograms", "tomo_type") == [f"{TOMOGRAMS[0].type}-7002"]


@pytest.mark.parametrize("kind", ["picks", "segmentations", "tomograms"])
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"nothing": 1, "id": 1}, "the portal's records have no field nothing; they have "),
        ({"id": "many"}, "id is 'many': "),
        ({"id": 1.5}, "id is 1.5: "),
        ({"id": [1]}, "id is [1]: "),
        ({"s3_metadata_path": 7, "s3_mrc_file": 7}, ""),
        ({"id": None}, "id has no value; leave it out, or give one"),
    ],
    ids=str,
)
def test_a_filter_that_makes_no_sense(
    make: Callable[..., Exported], tmp_path: Path, kind: str, fields: dict[str, Any], said: str
) -> None:
    error = unchanged_by(tmp_path, lambda: make("a/b", **{f"{kind}_portal_meta": fields}))
    assert error.code == "option-invalid"
    assert error.message.startswith(f"{kind}_portal_meta: {said}")
    assert "\n" not in error.message


# --- new names -------------------------------------------------------------------------------------------


def test_the_portals_types_stay_known(make: Callable[..., Exported]) -> None:
    first, second = TOMOGRAMS[0].type, f"{TOMOGRAMS[0].type}-7002"
    found = make(tomo_type_map={first: "wbp", second: "other", "sirt-raw": "sirt"})
    names = {row["portal_tomogram_id"]: (row["tomo_type"], row["portal_tomo_type"]) for row in found.rows("tomograms")}
    assert names == {
        "7000": ("wbp", first),
        "7001": (TOMOGRAMS[2].type, ""),
        "7002": ("other", first),
        "7100": ("sirt", "sirt-raw"),
    }


def test_the_portals_object_names_stay_known(make: Callable[..., Exported]) -> None:
    found = make(object_name_map={"ribosome": "ribo", "membrane": "lipids"})
    for table, column in (("picks", "object_name"), ("segmentations", "name"), ("instance_segmentations", "name")):
        for row in found.rows(table):
            assert row["portal_object_name"] == FILES[int(row["portal_annotation_file_id"])].portal_name
            assert row[column] in ("ribo", "lipids", "chaperone")
    config = json.loads(Path(found.url).read_text())["copick:config"]
    assert {item["name"]: item["metadata"] for item in config["pickable_objects"]} == {
        "ribo": {"portal_original_name": "ribosome"},
        "chaperone": {},
        "lipids": {"portal_original_name": "membrane"},
        "fiducial": {},
    }


# --- odd records -----------------------------------------------------------------------------------------

# What is changed in which record, what is left of `ALL`, and what is warned of.
LEFT_OUT: dict[str, tuple[tuple[str, int, dict[str, Any]], list[list[str]], list[str]]] = {
    "a tomogram without OME-Zarr": (
        ("tomograms", 7001, {"s3_omezarr_dir": None}),
        [PICKS, SEGMENTATIONS, ["7000", "7002", "7100"]],
        ["run 16464 of the portal: tomogram 7001 has no file, and is not exported"],
    ),
    "the first of two equal tomograms without OME-Zarr": (
        ("tomograms", 7000, {"s3_omezarr_dir": ""}),
        [PICKS, SEGMENTATIONS, ["7001", "7002", "7100"]],
        ["run 16463 of the portal: tomogram 7000 has no file, and is not exported"],
    ),
    "picks without file": (
        ("annotation_files", 5001, {"s3_path": None}),
        [["5002", "5005", "5011"], SEGMENTATIONS, TOMOGRAM_IDS],
        ["run 16463 of the portal: picks 5001 has no file, and is not exported"],
    ),
    "a segmentation without store": (
        ("annotation_files", 5003, {"s3_path": None}),
        [PICKS, ["5004"], TOMOGRAM_IDS],
        ["run 16463 of the portal: segmentation 5003 has no file, and is not exported"],
    ),
    "a segmentation without voxel spacing": (
        ("annotation_files", 5003, {"tomogram_voxel_spacing_id": None}),
        [PICKS, ["5004"], TOMOGRAM_IDS],
        ["run 16463 of the portal: segmentation 5003 has no voxel size, and is not exported"],
    ),
    **{
        f"a voxel spacing of {size}": (
            ("voxel_spacings", 501, {"voxel_spacing": size}),
            [["5001", "5005", "5011"], SEGMENTATIONS, ["7000", "7002", "7100"]],
            [
                "run 16464 of the portal: voxel spacing 501 has no voxel size, and is not exported",
                "run 16464 of the portal: picks 5002 has no voxel size, and is not exported",
            ],
        )
        for size in (0, -10.0, float("inf"))
    },
}


def changed(kind: str, identifier: int, values: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The records, one of them changed."""
    data = records()
    record(data, kind, identifier).update(values)
    return data


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_the_portal_does_not_locate_is_left_out_and_named(
    make: Callable[..., Exported], tmp_path: Path, name: str
) -> None:
    change, wanted, notes = LEFT_OUT[name]
    found = make(root=make_portal_root(tmp_path / "other", changed(*change)))
    assert found.ids() == wanted
    assert [note for note in found.notes if note != RENAMED] == notes
    assert "" not in [url for table in ("picks", "segmentations", "tomograms") for url in found.column(table, "url")]
    assert "0.0" not in found.column("voxel_spacings", "voxel_size")


UNREAD = "for it cannot read a record of the portal:"
NO_SPACING = "run 16464: copick cannot list picks: an annotation file names the voxel spacing"

# What is changed in which record, and what is said of it.
UNREADABLE: dict[str, tuple[tuple[str, int, dict[str, Any]], str]] = {
    "an object that is not defined": (
        ("annotations", 3002, {"object_id": "GO:1"}),
        "run 16464: copick cannot list picks: no pickable object of the configuration has the identifier GO:1; add one",
    ),
    "picks without voxel spacing": (
        ("annotation_files", 5002, {"tomogram_voxel_spacing_id": None}),
        f"{NO_SPACING} None, which the portal does not have",
    ),
    "picks of another voxel spacing": (
        ("annotation_files", 5002, {"tomogram_voxel_spacing_id": 9}),
        f"{NO_SPACING} 9, which the portal does not have",
    ),
    "a voxel spacing without value": (
        ("voxel_spacings", 501, {"voxel_spacing": None}),
        f"run 16464: copick cannot list voxel spacings, {UNREAD} voxel_size is None: ",
    ),
    "a tomogram without method": (
        ("tomograms", 7001, {"reconstruction_method": None}),
        f"run 16464: copick cannot list tomograms, {UNREAD} ",
    ),
    "a tomogram with an empty method": (
        ("tomograms", 7001, {"reconstruction_method": ""}),
        f"run 16464: copick cannot list tomograms, {UNREAD} ",
    ),
    "an annotation with a value of another type": (
        ("annotations", 3003, {"object_count": "many"}),
        f"run 16463: copick cannot list segmentations, {UNREAD} portal_annotation.object_count is 'many': ",
    ),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_copick_cannot_list_is_said(make: Callable[..., Exported], tmp_path: Path, name: str) -> None:
    change, said = UNREADABLE[name]
    root = make_portal_root(tmp_path / "other", changed(*change))
    error = unchanged_by(tmp_path, lambda: make("a/b", root))
    assert error.code == "source-unsupported"
    assert error.message.startswith(said)
    assert "\n" not in error.message


def test_names_that_copick_does_not_allow(make: Callable[..., Exported], tmp_path: Path) -> None:
    """One would be a path, and copick could write nothing below it."""
    data = changed("annotations", 3003, {"object_id": "GO:1", "object_name": 'big "lipid/bilayer_x" y'})
    record(data, "tomograms", 7001)["processing_software"] = "AreTomo/IMOD 1_2"
    found = make(root=make_portal_root(tmp_path / "other", data))
    (mask,) = found.rows("segmentations")
    assert (mask["name"], mask["portal_object_name"]) == ("big-Lipid-BilayerX-Y-5003", 'big "lipid/bilayer_x" y')
    tomogram = next(row for row in found.rows("tomograms") if row["portal_tomogram_id"] == "7001")
    old = "wbp-denoised-aretomo/Imod12-ctfdeconv"
    new = old.replace("/", "-")
    assert (tomogram["tomo_type"], tomogram["portal_tomo_type"]) == (new, old)
    why = "copick does not allow that name"
    assert found.notes == [
        RENAMED,
        f"run 16464 of the portal: tomogram 7001, {old} at 10.0 Å, is exported as {new}; {why}",
    ]


def test_an_objects_name_is_kept_as_the_portal_has_it(make: Callable[..., Exported], tmp_path: Path) -> None:
    data = changed("annotations", 3002, {"object_name": ' a/b_c, "d"\né'})
    found = make(root=make_portal_root(tmp_path / "other", data))
    (row,) = (row for row in found.rows("picks") if row["run"] == "16464")
    assert (row["object_name"], row["portal_object_name"]) == ("chaperone", ' a/b_c, "d"\né')


def test_equal_tomograms_at_two_voxel_spacings_of_one_size(make: Callable[..., Exported], tmp_path: Path) -> None:
    data = changed("tomograms", 7000, {"tomogram_voxel_spacing_id": 599})
    data["voxel_spacings"].append({**record(data, "voxel_spacings", 500), "id": 599, "voxel_spacing": 10.0001})
    found = make(root=make_portal_root(tmp_path / "other", data))
    names = {row["portal_tomogram_id"]: row["tomo_type"] for row in found.rows("tomograms") if row["run"] == "16463"}
    assert names == {"7000": TOMOGRAMS[0].type, "7002": f"{TOMOGRAMS[0].type}-7002"}
    assert len(found.rows("voxel_spacings")) == 3


# --- who does the work -----------------------------------------------------------------------------------


def _set_environment(variables: dict[str, str]) -> None:
    os.environ.update(variables)


def workers(kind: str) -> Executor:
    if kind == "threads":
        return ThreadPoolExecutor(2)
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, context, initializer=_set_environment, initargs=(dict(os.environ),))


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_others_do_it_and_all_is_the_same(portal: CopickRootCDP, tmp_path: Path, kind: str) -> None:
    add_overlay_artifacts(portal)
    options: dict[str, Any] = {
        "session_id_template": "{author} {annotation_file_id}",
        "picks_author": "Max Muster",
        "segmentations_author": "nobody",
        "object_name_map": {"ribosome": "ribo"},
        "validate": False,
    }
    alone = export(portal, tmp_path / "alone", **options)
    with workers(kind) as executor:
        others = export(portal, tmp_path / "others", executor=executor, **options)
    assert tree(others.directory) == tree(alone.directory)
    assert others.notes == alone.notes
    assert [len(row["sha256"]) for row in alone.rows("picks")] == [64, 64, 64]


# --- exported again, and appended ------------------------------------------------------------------------


def test_an_export_is_a_source_that_keeps_all(exported: Exported, tmp_path: Path) -> None:
    again = export(opened(exported), tmp_path / "again")
    assert json.loads(Path(again.url).read_text())["copick:baseUrl"].rstrip("/") == BASE.rstrip("/")
    for name in TABLES:
        assert again.rows(name) == exported.rows(name), name


def test_an_export_has_no_records_to_filter_by(exported: Exported, tmp_path: Path) -> None:
    source = opened(exported)
    for options in (
        {"picks_author": "Jane Doe"},
        {"session_id_template": "{id}"},
        {"tomograms_portal_meta": {"id": 1}},
    ):
        with pytest.raises(UsageError) as caught:
            export(source, tmp_path / "again", **options)
        assert caught.value.code == "option-invalid"
        assert next(iter(options)) in caught.value.message


def test_two_choices_in_one_manifest(portal: CopickRootCDP, tmp_path: Path) -> None:
    """As copick's documentation does it: one export, and others appended, each with a filter and names of its own."""
    none: dict[str, Any] = {"tomograms": [], "segmentations": [], "validate": False}
    url = export(
        portal, tmp_path / "out", picks_author="Max Muster", session_id_template="max-{annotation_file_id}"
    ).url
    jane = {"picks_author": ["Jane Doe"], "session_id_template": "jane-{annotation_file_id}"}
    noted(append_croissant, url, portal, runs=["16463"], **jane, **none)
    found = noted(append_croissant, url, portal, runs=["17001"], **jane, **none)
    assert sorted((row["session_id"], row["portal_session_id"]) for row in found.rows("picks")) == [
        ("jane-5001", "5001"),
        ("jane-5005", "5005"),
        ("jane-5011", "5011"),
        ("max-5001", "5001"),
        ("max-5002", "5002"),
        ("max-5011", "5011"),
    ]
    assert not any("://" in url for url in found.column("picks", "url"))
    assert found.ids()[1:] == ALL[1:]
    run = opened(found).get_run("16463")
    assert run is not None
    assert [len(run.get_picks(session_id=f"{who}-5011")[0].points) for who in ("jane", "max")] == [4, 4]


def test_the_portals_rows_in_a_manifest_of_ones_own(manifest: Path, portal: CopickRootCDP) -> None:
    found = noted(append_croissant, manifest, portal, validate=False)
    urls = {row["portal_annotation_file_id"]: row["url"] for row in found.rows("picks")}
    assert urls["5002"] == FILES[5002].url(5002)
    (note,) = (note for note in found.notes if "lie outside" in note)
    assert note.startswith("10 artifacts lie outside ")


# --- the command line ------------------------------------------------------------------------------------


def command(*arguments: Any) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "copick_mlc", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_on_the_command_line(portal: CopickRootCDP, tmp_path: Path) -> None:
    config, emitted = write_config(tmp_path / "config.json", tmp_path / "portal"), tmp_path / "emitted.json"
    given = ("--license", "MIT", "--cite-as", "us", "--session-id-template", "{method_type}-{annotation_file_id}")
    chosen = ("--picks-portal-meta", "ground_truth_status=true,object_count=3", "--picks-author", "Jane Doe,Max Muster")
    target = ("--config", config, "--project-root", tmp_path / "out")
    done = command("export", *target, *given, *chosen, "--emit-config", emitted)
    assert (done.returncode, done.stderr) == (0, f"warning: {RENAMED}\n")
    assert done.stdout.startswith(f"wrote {tmp_path}/out/Croissant/metadata.json\n  14 rows in 6 tables: 3 runs, ")
    assert done.stdout.count("\n") == 4

    theirs = copick.from_file(str(emitted))
    (run,) = (run for run in theirs.runs if run.name == "16463")
    points, _ = run.get_picks("ribosome", "data-portal", "manual-5001")[0].numpy()
    assert np.allclose(points[0], np.array([1.5, 0.0, 7.25]) * TS_026.voxel_size)
    assert [p.session_id for run in theirs.runs for p in run.picks] == ["manual-5001", "manual-5011"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--picks-portal-meta", "ground_truth_status=perhaps"],
            "copick_mlc: error: picks_portal_meta: ground_truth_status is 'perhaps': Input should be a valid boolean",
        ),
        (
            ["--session-id-template", "{id.real}"],
            "copick_mlc: error: session_id_template '{id.real}' names {id.real}; an annotation has annotation_",
        ),
    ],
    ids=["filter", "template"],
)
def test_what_the_command_line_refuses(
    unreachable_portal: CopickRootCDP, tmp_path: Path, options: list[str], said: str
) -> None:
    config = write_config(tmp_path / "config.json", tmp_path / "portal")
    before = tree(tmp_path)
    done = command("export", "--config", config, "--project-root", tmp_path / "out", *options)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(said)
    assert done.stderr.endswith(" [option-invalid]\n")
    assert done.stderr.count("\n") == 1
    assert tree(tmp_path) == before
    assert not (tmp_path / "out").exists()
