"""`append_croissant` and `set_splits`, and that no parameter of `export_croissant` is ignored."""

from __future__ import annotations

import csv
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import copick
import copick.ops.croissant
import fsspec
import mlcroissant
import numpy as np
import pytest
import trimesh
import zarr
from copick.util.ome import volume_pyramid, write_ome_zarr_3d

from copick_mlc import (
    CroissantError,
    CroissantIndex,
    _lock,
    append_croissant,
    export_croissant,
    from_croissant,
    set_splits,
)
from copick_mlc._tables import TABLES, cells_of
from copick_mlc.errors import CroissantWarning
from copick_mlc.index import PicksRow, RunRow, TomogramRow
from tests.projects import inventory, tree

FIXTURES = Path(__file__).parent.parent / "conformance" / "fixtures"
SMALL = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


# --- projects --------------------------------------------------------------------------------------------


def make_other(directory: Path) -> Path:
    """A project with a run, keys and an object of the demo's, other contents, and more; its configuration."""
    directory.mkdir(parents=True)
    config = {
        "config_type": "filesystem",
        "name": "other",
        "description": "D",
        "version": "2.0.0",
        "pickable_objects": [
            {"name": "virus", "is_particle": True, "label": 2, "color": [1, 2, 3, 255]},
            {"name": "ribosome", "is_particle": True, "label": 1, "color": [9, 9, 9, 255]},
        ],
        "user_id": "other",
        "session_id": "9",
        "overlay_root": f"local://{directory}",
        "overlay_fs_args": {"auto_mkdir": True},
    }
    path = directory / "copick_config.json"
    path.write_text(json.dumps(config))
    root = copick.from_file(str(path))
    for name in ("TS_001", "TS_010"):
        run = root.new_run(name)
        for size in (10.0, 5.0):
            tomogram = run.new_voxel_spacing(size).new_tomogram("wbp")
            volume(tomogram.zarr(), SMALL + size)
        zarr.group(store=tomogram.new_features("edges").zarr()).create_dataset("0", data=SMALL[None])
        for user, thing in (("demo", "ribosome"), ("other", "virus")):
            run.new_picks(thing, "1", user).from_numpy(np.full((2, 3), 7.0))
        mesh = run.new_mesh("virus", "1", "other")
        mesh.mesh = trimesh.Scene(trimesh.creation.box())
        mesh.store()
        for kind in ({"is_multilabel": True}, {"is_instance": True}, {"is_panoptic": True}):
            segmentation = run.new_segmentation(10.0, "virus", "1", user_id="other", **kind)
            labels = (SMALL % 3).astype(np.uint8)
            segmentation.from_numpy(np.stack([labels, labels]) if "is_panoptic" in kind else labels)
    root.get_object("virus").from_numpy(SMALL, 10.0)
    root.get_object("ribosome").from_numpy(SMALL, 10.0)
    return path


def volume(store: Any, array: np.ndarray) -> None:
    """In small chunks; those of copick's from_numpy have 256 voxels an edge."""
    write_ome_zarr_3d(store, volume_pyramid(array, 10.0, 1), chunk_size=array.shape)


@pytest.fixture(scope="session")
def other_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_other(tmp_path_factory.mktemp("other") / "other").parent


def put_other(template: Path, directory: Path) -> Path:
    """A copy of the other project; its configuration."""
    shutil.copytree(template, directory)
    config = directory / "copick_config.json"
    config.write_text(config.read_text().replace(str(template), str(directory)))
    return config


@pytest.fixture
def other(other_template: Path, tmp_path: Path) -> Any:
    """The other project, beside the destination's."""
    return copick.from_file(str(put_other(other_template, tmp_path / "other")))


def fixture_copy(name: str, tmp_path: Path) -> Path:
    """The manifest of a copy of a project that the conformance suite has."""
    shutil.copytree(FIXTURES / name / "project", tmp_path / name)
    return tmp_path / name / "Croissant" / "metadata.json"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The manifest of a small project with every table."""
    return fixture_copy("complete", tmp_path)


def quietly(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CroissantWarning)
        return function(*arguments, **options)


def append(manifest: Path, source: Any, **options: Any) -> CroissantIndex:
    """Append, and open what there is then."""
    return CroissantIndex.from_url(quietly(append_croissant, manifest, source, **options))


def warned(manifest: Path, source: Any, **options: Any) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CroissantWarning)
        append_croissant(manifest, source, **options)
    return "\n".join(str(found.message) for found in caught if found.category is CroissantWarning)


def all_rows(index: CroissantIndex) -> set[str]:
    """Every row, with absolute URLs, as text that compares."""
    found = set()
    for name in TABLES:
        for row in index.rows(name):
            cells = cells_of(row)
            if cells.get("url"):
                cells["url"] = index.absolute_url(str(cells["url"]))
            found.add(f"{name} {cells}")
    return found


def union(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two inventories, the other's values where both have one; of objects, the definition of the first."""
    merged: dict[str, Any] = {"objects": dict(one["objects"]), "runs": dict(one["runs"])}
    for name, (definition, density) in other["objects"].items():
        kept = one["objects"].get(name, (definition, None))[0]
        merged["objects"][name] = (kept, density)
    for name, run in other["runs"].items():
        old = one["runs"].get(name, {kind: {} for kind in run})
        merged["runs"][name] = {kind: {**old[kind], **found} for kind, found in run.items()}
        for size, tomograms in run["spacings"].items():
            before = old["spacings"].get(size, {})
            spacing = merged["runs"][name]["spacings"][size] = {**before, **tomograms}
            for kind in set(before) & set(tomograms):  # features of a tomogram that is replaced stay
                spacing[kind] = (tomograms[kind][0], {**before[kind][1], **tomograms[kind][1]})
    return merged


def read_by_mlcroissant(manifest: Path) -> None:
    """mlcroissant takes the manifest, and reads as many records of each table as there are rows."""
    index = CroissantIndex.from_url(str(manifest))
    # It reads no file:// URL, which copick's exporter writes.
    local = str(manifest.with_name("as-mlcroissant-reads-it.json"))
    Path(local).write_text(manifest.read_text().replace(f"file://{manifest.parent}/", ""))
    counts = {TABLES[name].record_set_id: index.count(name) for name in TABLES}
    found = {
        record_set.uuid: sum(1 for _ in mlcroissant.Dataset(jsonld=local).records(record_set.uuid))
        for record_set in mlcroissant.Dataset(jsonld=local).metadata.record_sets
    }
    tables = {identifier: count for identifier, count in found.items() if identifier in counts}
    assert tables == {identifier: count for identifier, count in counts.items() if count}


# --- what is documented ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ours", [append_croissant, set_splits])
def test_the_signature_has_what_is_documented(ours: Callable[..., Any]) -> None:
    documented = inspect.signature(getattr(copick.ops.croissant, ours.__name__)).parameters
    parameters = inspect.signature(ours).parameters
    assert list(documented) == [name for name in parameters if name in documented]
    for name, parameter in documented.items():
        assert (parameters[name].kind, parameters[name].default) == (parameter.kind, parameter.default)
    more = [parameters[name] for name in parameters if name not in documented]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in more)


# --- rows and data ---------------------------------------------------------------------------------------


# copick's exporter declares a base, ours does not.
@pytest.mark.parametrize(
    ("exporter", "place"), [("copick's", "other"), ("ours", "project/more")], ids=["outside", "below the base"]
)
def test_rows_are_united_and_data_is_read(
    project: Path, tmp_path: Path, other_template: Path, place: str, exporter: str
) -> None:
    manifest = project / "Croissant" / "metadata.json"
    if exporter == "ours":
        shutil.rmtree(project / "Croissant")
        quietly(export_croissant, copick.from_file(str(project / "copick_config.json")), project)
    source = copick.from_file(str(put_other(other_template, tmp_path / place)))
    before, added = inventory(from_croissant(manifest)), inventory(source)
    index = append(manifest, source)

    expected = union(before, added)
    assert inventory(from_croissant(manifest)) == expected
    # In Mode A copick takes density maps from Objects/, whatever their rows say.
    assert inventory(copick.from_croissant(str(manifest), f"local://{tmp_path}/overlay")) == expected
    read_by_mlcroissant(manifest)
    prefix = "more/" if place == "project/more" else f"file://{tmp_path}/other/"
    picks = index.find(PicksRow("TS_001", "demo", "1", "ribosome"))
    assert picks is not None
    assert picks.url == f"{prefix}ExperimentRuns/TS_001/Picks/demo_1_ribosome.json"
    urls = {url for name, table in TABLES.items() if table.has_url for url in column(name, "url")(index)}
    others = {url.partition("/")[0] for url in urls if not url.startswith(prefix)}
    assert others <= {"ExperimentRuns", "Objects"}  # of the destination, as they were
    assert len([url for url in urls if url.startswith(prefix)]) == 2 * (2 + 1 + 2 + 1 + 3) + 2


def test_rows_of_one_key_are_replaced_and_others_stay_byte_for_byte(small: Path, other: Any) -> None:
    lines = {path.name: set(path.read_bytes().splitlines()) for path in small.parent.glob("*.csv")}
    append(small, other, validate=False)
    after = (small.parent / "picks.csv").read_bytes().splitlines()
    gone = lines["picks.csv"] - set(after)
    assert [line.split(b",")[:4] for line in gone] == [[b"TS_001", b"demo", b"1", b"ribosome"]]
    assert len(after) == len(lines["picks.csv"]) + 3


def test_splits_and_portal_columns_stay_where_the_new_row_has_none(tmp_path: Path) -> None:
    manifest = fixture_copy("portal", tmp_path)
    set_splits(manifest, {"train": "14069"})
    opened = CroissantIndex.from_url(str(manifest))
    keys = [
        PicksRow("14069", "data-portal", "3001", "ribosome"),
        TomogramRow("14069", 10.0, "wbp"),
        RunRow("14069"),
    ]
    before = [opened.find(key) for key in keys]
    other = tmp_path / "edited"
    (other / "ExperimentRuns" / "14069" / "VoxelSpacing10.000").mkdir(parents=True)
    config = {
        "config_type": "filesystem",
        "pickable_objects": [{"name": "ribosome", "is_particle": True}],
        "overlay_root": f"local://{other}",
        "overlay_fs_args": {"auto_mkdir": True},
    }
    (tmp_path / "edited.json").write_text(json.dumps(config))
    source = copick.from_file(str(tmp_path / "edited.json"))
    run = source.get_run("14069")
    run.new_picks("ribosome", "3001", "data-portal").from_numpy(np.ones((1, 3)))
    volume(run.get_voxel_spacing(10.0).new_tomogram("wbp").zarr(), SMALL)
    index = append(manifest, source)

    for was, row in zip(before, map(index.find, keys), strict=True):
        assert was is not None
        assert row is not None
        old, new = cells_of(was), cells_of(row)
        kept = [name for name in old if name == "split" or name.startswith("portal_")]
        assert {name: old[name] for name in kept} == {name: new[name] for name in kept}
        assert any(old[name] for name in kept)
        assert "url" not in new or new["url"] != old["url"]
    assert index.splits() == {"train": ["14069"]}


def test_a_portal_column_or_split_of_the_new_row_counts(small: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "Croissant" / "metadata.json"
    shutil.copytree(small.parent.parent, copy.parent.parent)
    source = CroissantIndex.from_url(str(copy))
    with source.batch():
        source.put(RunRow("TS_001", "77", "test"))
        source.put(RunRow("TS_003", "78"))
    index = append(small, from_croissant(copy), validate=False)
    assert index.find(RunRow("TS_001")) == RunRow("TS_001", "77", "test")
    assert index.find(RunRow("TS_003")) == RunRow("TS_003", "78")
    assert index.splits() == {"test": ["TS_001"], "val": ["TS_002"]}


def test_what_others_added_stays(tmp_path: Path, other: Any) -> None:
    manifest = fixture_copy("foreign", tmp_path)
    before = json.loads(manifest.read_text())
    tables = {path.name: path.read_text() for path in manifest.parent.glob("*.csv")}
    append(manifest, other)
    after = json.loads(manifest.read_text())
    ours = {"distribution", "recordSet", "copick:config", "dateModified"}
    assert {key: after[key] for key in after if key not in ours} == {
        key: before[key] for key in before if key not in ours
    }
    for key in ("distribution", "recordSet"):
        there = {entry["@id"]: entry for entry in after[key]}
        for entry in before[key]:
            owned = ("sha256", "field") if "copick" in entry["@id"] or entry["@id"].endswith("-csv") else ()
            for member in set(entry) - set(owned):
                assert there[entry["@id"]][member] == entry[member]
    assert (manifest.parent / "extra.csv").read_text() == tables["extra.csv"]
    with (manifest.parent / "picks.csv").open(newline="") as file:
        notes = {(row["run"], row["user_id"]): row["note"] for row in csv.DictReader(file)}
    assert notes["TS_001", "demo"] == "checked by A. B."  # of a row that was replaced
    assert notes["TS_010", "other"] == ""
    assert '"thick, but good"' in (manifest.parent / "runs.csv").read_text()
    read_by_mlcroissant(manifest)


def test_the_properties_of_the_destination_stay(small: Path, other: Any) -> None:
    before = json.loads(small.read_text())
    append(small, other, validate=False)
    after = json.loads(small.read_text())
    for key in ("name", "description", "version", "license", "citeAs", "datePublished"):
        assert after[key] == before[key]
    config, old = after["copick:config"], before["copick:config"]
    assert {**config, "pickable_objects": 0} == {**old, "pickable_objects": 0}


# --- objects ---------------------------------------------------------------------------------------------


def test_objects_are_united_and_what_differs_is_warned_of(project: Path, other: Any) -> None:
    manifest = project / "Croissant" / "metadata.json"
    before = json.loads(manifest.read_text())["copick:config"]["pickable_objects"]
    text = warned(manifest, other, validate=False)
    after = json.loads(manifest.read_text())["copick:config"]["pickable_objects"]
    assert after[: len(before)] == before
    assert [item["name"] for item in after[len(before) :]] == ["virus"]
    assert "object ribosome is defined already, with another color, which stays" in text
    assert "objects membrane and virus have one label, 2" in text
    assert text.count("is defined already") == text.count("have one label") == 1


def test_objects_that_are_the_same_are_not_warned_of(tmp_path: Path) -> None:
    """Also where the manifest leaves to copick's defaults what it says nothing of."""
    manifest = fixture_copy("minimal", tmp_path)
    assert "defined already" not in warned(manifest, from_croissant(manifest))
    assert "defined already" not in warned(manifest, copick.from_croissant(str(manifest)))


def test_renamed_objects_are_those_that_are_united(project: Path, other: Any) -> None:
    manifest = project / "Croissant" / "metadata.json"
    text = warned(manifest, other, object_name_map={"virus": "membrane", "ribosome": "80S"}, validate=False)
    objects = {o["name"]: o for o in json.loads(manifest.read_text())["copick:config"]["pickable_objects"]}
    assert list(objects) == ["ribosome", "membrane", "80S"]
    assert objects["80S"]["metadata"] == {"portal_original_name": "ribosome"}
    assert "object membrane is defined already, with another is_particle, color, which stays" in text
    assert "objects ribosome and 80S have one label, 1" in text


# --- sources ---------------------------------------------------------------------------------------------


def exported(source: Any) -> Path:
    directory = Path(source.config.overlay_root.removeprefix("local://"))
    return Path(quietly(export_croissant, source, directory, validate=False))


def overlaid(manifest: Path, tmp_path: Path) -> Any:
    root = from_croissant(manifest, overlay_root=tmp_path / "overlay")
    run = root.get_run("TS_010")
    assert run is not None
    run.new_picks("virus", "2", "mine").from_numpy(np.ones((1, 3)))
    root.new_run("mine")
    return root


SOURCES: dict[str, Callable[[Any, Path], Any]] = {
    "file system": lambda source, _: source,
    "Mode A": lambda source, _: from_croissant(exported(source)),
    "Mode B": lambda source, tmp_path: overlaid(exported(source), tmp_path),
    "copick's Mode A": lambda source, _: copick.from_croissant(str(exported(source))),
    "copick's Mode B": lambda source, tmp_path: copick.from_croissant(str(exported(source)), f"local://{tmp_path}/o"),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_sources(small: Path, other: Any, tmp_path: Path, kind: str) -> None:
    source = SOURCES[kind](other, tmp_path)
    if kind == "copick's Mode B":
        source.get_run("TS_010").new_picks("virus", "2", "mine").from_numpy(np.ones((1, 3)))
    expected = union(inventory(from_croissant(small)), inventory(source))
    append(small, source, validate=False)
    assert inventory(from_croissant(small)) == expected
    mine = ("mine", "2", "virus") in expected["runs"]["TS_010"]["picks"]
    assert mine is ("Mode B" in kind)


def test_an_overlay_is_taken_into_its_own_manifest(small: Path, tmp_path: Path) -> None:
    root = from_croissant(small, overlay_root=tmp_path / "overlay")
    run = root.get_run("TS_001")
    assert run is not None
    run.new_picks("ribosome", "2", "me").from_numpy(np.ones((2, 3)))
    published_file = small.parent.parent / "ExperimentRuns/TS_001/Picks/demo_1_ribosome.json"
    shadow = tmp_path / "overlay/ExperimentRuns/TS_001/Picks" / published_file.name
    content = json.loads(published_file.read_text())
    shadow.write_text(json.dumps({**content, "points": content["points"][:1]}))
    root.new_run("mine")
    published = all_rows(CroissantIndex.from_url(str(small)))
    root.refresh()  # it has read the file that is shadowed
    seen = inventory(root)
    index = append(small, root)
    assert inventory(from_croissant(small)) == seen
    theirs = copick.from_croissant(str(small), croissant_base_url=str(small.parent.parent))
    theirs._objects = []  # copick makes a store for the one that has no density map
    assert inventory(theirs)["runs"] == seen["runs"]
    assert len(published - all_rows(index)) == 1
    assert len(all_rows(index) - published) == 3
    assert index.splits() == {"train": ["TS_001"], "val": ["TS_002"]}
    assert {url.partition("/")[0] for url in column("tomograms", "url")(index)} == {"ExperimentRuns"}


def test_a_declared_base_counts_and_not_where_the_manifest_lies(tmp_path: Path, other: Any, small: Path) -> None:
    document = json.loads(small.read_text())
    document["copick:baseUrl"] = f"file://{tmp_path}"
    small.write_text(json.dumps(document))
    index = append(small, other, validate=False)
    row = index.find(TomogramRow("TS_010", 5.0, "wbp"))
    assert row is not None
    assert row.url == "other/ExperimentRuns/TS_010/VoxelSpacing5.000/wbp.zarr"
    assert json.loads(small.read_text())["copick:baseUrl"] == f"file://{tmp_path}"


def test_a_destination_on_s3(s3: str, small: Path, other: Any, tmp_path: Path) -> None:
    fs = fsspec.filesystem("s3")
    fs.put(str(small.parent.parent), f"{s3}/project", recursive=True)
    fs.put(other.config.overlay_root.removeprefix("local://"), f"{s3}/other", recursive=True)
    manifest = f"{s3}/project/Croissant/metadata.json"
    before = {path: fs.cat(path) for path in fs.find(s3)}
    with pytest.raises(CroissantError, match="on the local disk") as caught:
        quietly(append_croissant, manifest, other)
    assert caught.value.code == "url-local"  # as whoever reads such a row is told
    assert {path: fs.cat(path) for path in fs.find(s3)} == before

    config = {**json.loads((tmp_path / "other/copick_config.json").read_text()), "overlay_root": f"{s3}/other"}
    (tmp_path / "remote.json").write_text(json.dumps({**config, "overlay_fs_args": {}}))
    quietly(append_croissant, manifest, copick.from_file(str(tmp_path / "remote.json")), splits={"test": "TS_010"})
    expected = union(inventory(from_croissant(small)), inventory(other))
    assert inventory(from_croissant(manifest)) == expected
    set_splits(manifest, {"val": "TS_010"})
    assert from_croissant(manifest).splits == {"train": ["TS_001"], "val": ["TS_002", "TS_010"]}


def test_the_portal_as_source(portal: Any, small: Path) -> None:
    index = append(small, portal)
    bucket = "s3://cryoet-data-portal-public/10301/"
    assert {str(url).startswith(bucket) for row in index.rows("picks", "16463") if (url := cells_of(row)["url"])} == {
        True
    }
    run = from_croissant(small).get_run("16463")
    assert run is not None
    found = {picks.session_id: picks.numpy()[0].tolist() for picks in run.get_picks("ribosome")}
    assert found["5001"] == [[15.0, 0.0, 72.5], [25.0, 20.0, 62.5], [35.0, 40.0, 52.5]]
    assert index.has("runs", "TS_001")


def test_data_of_the_portal_as_destination(portal: Any, other: Any, tmp_path: Path) -> None:
    manifest = Path(quietly(export_croissant, portal, tmp_path / "out"))
    portal_rows = all_rows(CroissantIndex.from_url(str(manifest)))
    index = append(manifest, other)
    assert portal_rows < all_rows(index)
    run = from_croissant(manifest).get_run("TS_010")
    assert run is not None
    assert run.get_picks("virus")[0].numpy()[0].tolist() == [[7.0] * 3] * 2
    before = tree(manifest.parent)
    append(manifest, portal)  # nothing of it is new
    assert tree(manifest.parent) == before


# --- options ---------------------------------------------------------------------------------------------

# All but the portal's; those are in PARAMETERS.
AS_IN_EXPORT: dict[str, dict[str, Any]] = {
    "nothing": {},
    "runs": {"runs": ["TS_010"]},
    "tomograms": {"tomograms": "wbp@5"},
    "features": {"features": ["nothing"]},
    "picks": {"picks": ["re:vir.*:other/1"]},
    "meshes": {"meshes": "ribosome"},
    "segmentations": {"segmentations": "*?instance=true"},
    "objects": {"objects": "virus"},
    "maps": {"tomo_type_map": {"wbp": "raw"}, "object_name_map": {"virus": "phage"}},
    "checksums": {"compute_file_sha256": False},
    "all": {"runs": "TS_001", "picks": "virus", "tomograms": "*@10", "object_name_map": {"virus": "phage"}},
}


@pytest.mark.parametrize("what", AS_IN_EXPORT)
def test_options_are_those_of_an_export(other: Any, tmp_path: Path, what: str) -> None:
    options = AS_IN_EXPORT[what]
    whole = quietly(export_croissant, other, tmp_path / "whole", validate=False, **options)
    empty = quietly(export_croissant, other, tmp_path / "empty", validate=False, runs=[], objects=[])
    assert not all_rows(CroissantIndex.from_url(empty))
    index = append(Path(empty), other, validate=False, **options)
    assert all_rows(index) == all_rows(CroissantIndex.from_url(whole))


def test_runs_that_are_added_get_splits(small: Path, other: Any) -> None:
    index = append(small, other, splits={"test": "TS_001", "hold-out": ["TS_010"]})
    assert index.splits() == {"test": ["TS_001"], "val": ["TS_002"], "hold-out": ["TS_010"]}
    (found,) = (entry for entry in index.document["recordSet"] if entry["@id"] == "copick/splits")
    assert sorted(row["copick/splits/name"] for row in found["data"]) == ["hold-out", "test", "val"]


def test_iterables_may_be_such_that_end(other: Any, tmp_path: Path) -> None:
    empty = quietly(export_croissant, other, tmp_path / "empty", validate=False, runs=[], objects=[])
    wanted: dict[str, Any] = {"runs": "TS_010", "picks": "virus", "objects": "virus"}
    given = {name: iter([value]) for name, value in wanted.items()}
    index = append(Path(empty), other, validate=False, splits={"train": iter(["TS_010"])}, **given)
    assert [index.count(name) for name in ("runs", "picks", "objects")] == [1, 1, 1]
    set_splits(empty, {"test": iter(["TS_010"])}, unassign=iter([]))
    assert from_croissant(empty).splits == {"test": ["TS_010"]}


def test_progress_and_an_executor(small: Path, other: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    calls: list[tuple[int, int]] = []
    with ThreadPoolExecutor(2) as executor:
        append(small, other, validate=False, progress=lambda *found: calls.append(found), executor=executor)
    assert calls[-1] == (2, 2)
    assert CroissantIndex.from_url(str(small)).has("runs", "TS_010")


# --- all or nothing --------------------------------------------------------------------------------------


def reject(manifest: Path) -> None:
    document = json.loads(manifest.read_text())
    document["recordSet"].append(
        {"@type": "cr:RecordSet", "@id": "bad", "name": "bad", "field": [{"@type": "cr:Field"}]}
    )
    manifest.write_text(json.dumps(document))


def undecodable(other: Any) -> None:
    directory = Path(other.config.overlay_root.removeprefix("local://"))
    (directory / "ExperimentRuns" / os.fsdecode(b"\xff")).mkdir()


def nothing(_: Any) -> None:
    pass


@dataclass(frozen=True)
class Refusal:
    """What makes an append fail: options, or what is done to the destination or the source before."""

    code: str
    message: str | None
    options: dict[str, Any]
    destination: Callable[[Path], Any] = nothing
    source: Callable[[Any], None] = nothing


REFUSALS = {
    "bad URI": Refusal("option-invalid", "a:b:c", {"picks": "a:b:c"}),
    "bad new name": Refusal("option-invalid", "a_b", {"object_name_map": {"virus": "a_b"}}),
    "maps that make two objects one": Refusal("option-invalid", "virus", {"object_name_map": {"ribosome": "virus"}}),
    "a template without portal": Refusal("option-invalid", "session_id_template", {"session_id_template": "{id}"}),
    "unknown split run": Refusal("option-invalid", "TS_002", {"splits": {"train": ["TS_002"]}}),
    "run in two splits": Refusal("option-invalid", "two splits", {"splits": {"a": "TS_001", "b": "TS_001"}}),
    "nameless split": Refusal("option-invalid", "name", {"splits": {"": "TS_001"}}),
    "split that is no cell": Refusal("name-invalid", None, {"splits": {"\ud800": "TS_001"}}),
    "row that is no cell": Refusal("name-invalid", None, {}, source=undecodable),
    "rejected by mlcroissant": Refusal("manifest-rejected", "mlcroissant", {}, reject),
    "broken manifest": Refusal("manifest-invalid", None, {}, lambda path: path.write_text("{")),
    "truncated table": Refusal(
        "table-checksum", r"picks\.csv", {}, lambda path: os.truncate(path.with_name("picks.csv"), 300)
    ),
    "table that is gone": Refusal(
        "table-missing", r"picks\.csv", {}, lambda path: path.with_name("picks.csv").unlink()
    ),
    "missing destination": Refusal("manifest-missing", None, {}, lambda path: path.unlink()),
    "undeclared table": Refusal("exists", r"meshes\.csv", {}, lambda path: undeclare(path, "meshes")),
}


def undeclare(manifest: Path, table: str) -> None:
    document = json.loads(manifest.read_text())
    document["distribution"] = [entry for entry in document["distribution"] if entry["@id"] != f"{table}-csv"]
    document["recordSet"] = [entry for entry in document["recordSet"] if entry["@id"] != f"copick/{table}"]
    manifest.write_text(json.dumps(document))


@pytest.mark.parametrize("what", REFUSALS)
def test_an_append_that_fails_changes_nothing(small: Path, other: Any, what: str) -> None:
    refusal = REFUSALS[what]
    refusal.destination(small)
    refusal.source(other)
    before = tree(small.parent.parent)
    with pytest.raises(CroissantError, match=refusal.message) as caught:
        append(small, other, **refusal.options)
    assert caught.value.code == refusal.code
    assert tree(small.parent.parent) == before


def test_rows_that_maps_make_one_are_both_named(small: Path, other: Any) -> None:
    run = other.get_run("TS_010")
    volume(run.get_voxel_spacing(10.0).new_tomogram("raw").zarr(), SMALL)
    before = tree(small.parent.parent)
    with pytest.raises(CroissantError) as caught:
        append(small, other, tomo_type_map={"wbp": "raw"})
    assert caught.value.code == "option-invalid"
    for key in ("('TS_010', '10.000', 'raw')", "('TS_010', '10.000', 'wbp')"):
        assert key in str(caught.value)
    assert tree(small.parent.parent) == before


HOLD = """
import sys, fsspec
from copick_mlc._lock import locked
with locked(fsspec.filesystem("file"), sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(small: Path) -> Iterator[None]:
    """Another process has the lock of the destination."""
    command = [sys.executable, "-c", HOLD, str(small)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.kill()


def test_a_lock_that_is_held(small: Path, other: Any, held: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lock, "WAIT_SECONDS", 0.1)
    before = tree(small.parent.parent)
    with pytest.raises(TimeoutError, match="is writing to this project") as caught:
        append(small, other)
    assert isinstance(caught.value, CroissantError)
    with pytest.raises(TimeoutError, match="is writing to this project"):
        set_splits(small, {"train": "TS_003"})
    assert tree(small.parent.parent) == before


def test_a_destination_that_can_only_be_read(small: Path, other: Any, tmp_path: Path) -> None:
    """By anybody, as an archive; and by this user, see below."""
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", small.parent.parent)
    before = Path(archive).read_bytes()
    url = f"zip://Croissant/metadata.json::file://{archive}"
    for change in (lambda: append_croissant(url, other), lambda: set_splits(url, {"train": "TS_003"})):
        with pytest.raises(PermissionError, match="cannot be written") as caught:
            quietly(change)
        assert isinstance(caught.value, CroissantError)
    assert Path(archive).read_bytes() == before


def test_a_directory_that_can_only_be_read(small: Path, tmp_path: Path) -> None:
    """As another user, since root may write everywhere; in a process of its own, for there is no way back."""
    with tempfile.TemporaryDirectory() as directory:  # tmp_path is closed to other users
        copy = Path(directory, "project")
        shutil.copytree(small.parent.parent, copy)
        before = tree(copy)
        Path(directory).chmod(0o755)
        directories = [copy, *(path for path in copy.rglob("*") if path.is_dir())]
        for path in directories:
            path.chmod(0o555)
        try:
            command = [sys.executable, "-m", "tests.test_append", str(copy / "Croissant/metadata.json")]
            done = subprocess.run(
                command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False
            )
        finally:
            for path in directories:
                path.chmod(0o755)
        assert done.returncode == 0, done.stderr
        assert tree(copy) == before


def test_a_failing_write_changes_nothing(small: Path, other: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(small.parent.parent)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            append(small, other, validate=False)
    assert tree(small.parent.parent) == before
    assert append(small, other, validate=False).has("runs", "TS_010")


@pytest.mark.parametrize("message", ["artifacts lie outside", "hosts will miss", "have one label"])
def test_who_makes_errors_of_warnings_changes_nothing(small: Path, other: Any, message: str) -> None:
    document = json.loads(small.read_text())
    del document["citeAs"]
    small.write_text(json.dumps(document))
    before = tree(small.parent.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CroissantWarning)
        warnings.filterwarnings("error", f".*{message}", CroissantWarning)
        with pytest.raises(CroissantWarning, match=message):
            append_croissant(small, other)
    assert tree(small.parent.parent) == before


@pytest.mark.parametrize("after", [0, 1, 20])
def test_who_is_interrupted_changes_nothing(
    small: Path, other: Any, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Somebody presses Ctrl-C when some of the rows are put."""
    before = tree(small.parent.parent)
    put, count = CroissantIndex.put, [0]

    def interrupted(index: CroissantIndex, row: Any) -> None:
        if count[0] == after:
            raise KeyboardInterrupt
        count[0] += 1
        put(index, row)

    monkeypatch.setattr(CroissantIndex, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        append(small, other, validate=False)
    assert tree(small.parent.parent) == before


# --- others at work --------------------------------------------------------------------------------------

COMMIT = """
import sys
from dataclasses import replace
from copick_mlc import CroissantIndex
from copick_mlc.index import PicksRow, RunRow
index = CroissantIndex.from_url(sys.argv[1])
with index.batch():
    index.put(RunRow("theirs", split="val"))
    index.put(PicksRow("theirs", "they", "1", "ribosome", 10.0, "theirs.json"))
    index.put(RunRow("TS_001", "123", "test"))
    index.put(replace(index.find(PicksRow("TS_001", "demo", "1", "ribosome")), portal_object_name="80S"))
    index.put_object({"name": "theirs", "is_particle": True, "label": 77})
"""


def test_what_another_process_commits_meanwhile_stays(small: Path, other: Any) -> None:
    """Between opening and committing; also the split that a run of the source was given only then."""

    def commit(done: int, total: int) -> None:
        if done == total:
            subprocess.run([sys.executable, "-c", COMMIT, str(small)], check=True)

    index = append(small, other, progress=commit)
    assert index.find(RunRow("theirs")) == RunRow("theirs", split="val")
    assert index.has("picks", "theirs")
    assert index.find(RunRow("TS_001")) == RunRow("TS_001", "123", "test")
    replaced = index.find(PicksRow("TS_001", "demo", "1", "ribosome"))
    assert replaced is not None
    assert replaced.url == f"file://{small.parent.parent.parent}/other/ExperimentRuns/TS_001/Picks/demo_1_ribosome.json"
    assert replaced.portal_object_name == "80S"
    assert index.has("runs", "TS_010")
    assert [item["name"] for item in index.config["pickable_objects"]][-2:] == ["theirs", "virus"]


def test_a_root_of_ours_commits_meanwhile(small: Path, other: Any) -> None:
    root = from_croissant(small)
    index = append(small, other, validate=False, progress=lambda done, _: root.new_run(f"late-{done}"))
    assert {"late-0", "late-1", "late-2", "TS_010"} <= set(index.groups("runs"))


@pytest.mark.parametrize("opened", [from_croissant, copick.from_croissant], ids=["ours", "copick's"])
def test_an_overlay_that_is_taken_in_undoes_nothing_others_do(
    small: Path, tmp_path: Path, opened: Callable[..., Any]
) -> None:
    """Neither what they did since the source was opened nor what they do while it is read."""
    source = opened(str(small), overlay_root=f"local://{tmp_path}/overlay")
    run = source.get_run("TS_001")
    picks = run.new_picks("ribosome", "2", "me")
    picks.from_numpy(np.ones((2, 3)))
    assert [len(found.picks) for found in source.runs] == [3, 2, 0]
    theirs = from_croissant(small)

    def change(name: str, points: float) -> None:
        of_run = theirs.get_run(name)
        assert of_run is not None
        of_run.get_picks("ribosome", "demo", "1")[0].from_numpy(np.full((4, 3), points))

    change("TS_001", 4.0)
    theirs.delete_run("TS_003")

    def meanwhile(done: int, total: int) -> None:
        if done == total:
            change("TS_002", 5.0)

    append(small, source, validate=False, progress=meanwhile)
    root = from_croissant(small)
    assert [found.name for found in root.runs] == ["TS_001", "TS_002"]
    for name, points in (("TS_001", 4.0), ("TS_002", 5.0)):
        found = root.get_run(name)
        assert found is not None
        assert (
            found.get_picks("ribosome", "demo", "1")[0].numpy()[0].tolist() == [[points] * 3] * 4
        )  # no checksum warned
        assert (name == "TS_001") is bool(found.get_picks("ribosome", "me"))


def test_what_is_there_already_is_not_written_again(tmp_path: Path, other: Any) -> None:
    manifest = fixture_copy("portal", tmp_path)
    append(manifest, other, splits={"train": ["TS_010"]})
    before = {path.name: (path.read_bytes(), path.stat().st_ino) for path in manifest.parent.iterdir()}
    append(manifest, other)
    append(manifest, from_croissant(manifest))
    assert {path.name: (path.read_bytes(), path.stat().st_ino) for path in manifest.parent.iterdir()} == before


def test_a_commit_that_was_not_finished_is(tmp_path: Path, other: Any) -> None:
    manifest = fixture_copy("unfinished", tmp_path)
    pending = all_rows(CroissantIndex.from_url(str(manifest)))
    index = append(manifest, other, validate=False, runs=["TS_010"])
    assert pending <= all_rows(index)
    assert index.has("runs", "TS_010")
    assert not list(manifest.parent.glob("*.pending"))


def replaced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are put into their place, as they are."""
    names: list[str] = []
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        names.append(os.path.basename(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    return names


@pytest.mark.parametrize("change", ["append", "set_splits"])
def test_there_is_one_commit(small: Path, other: Any, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    names = replaced(monkeypatch)
    if change == "append":
        append(small, other, validate=False, splits={"test": ["TS_001"]})
        tables = {f"{name}.csv" for name in TABLES}
    else:
        set_splits(small, {"test": ["TS_003"], "train": "TS_002"}, clear_existing=True, unassign=["TS_002"])
        tables = {"runs.csv"}
    assert names.count("metadata.json") == 1
    assert sorted(name for name in names if name.endswith(".csv")) == sorted(tables)


# --- splits ----------------------------------------------------------------------------------------------


def splits_of(manifest: Path) -> dict[str, list[str]]:
    """The splits of a project, which its record set names too."""
    index = CroissantIndex.from_url(str(manifest))
    found = [entry for entry in index.document["recordSet"] if entry["@id"] == "copick/splits"]
    declared = [row["copick/splits/name"] for entry in found for row in entry["data"]]
    assert sorted(declared) == sorted(index.splits())
    assert len(found) == bool(index.splits())
    return index.splits()


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ([], {}, {"train": ["TS_001"], "val": ["TS_002"]}),
        ([{"test": "TS_003"}], {}, {"train": ["TS_001"], "val": ["TS_002"], "test": ["TS_003"]}),
        ([{"test": ["TS_001", "TS_003"]}], {}, {"val": ["TS_002"], "test": ["TS_001", "TS_003"]}),
        ([{"mine": ("TS_003",)}], {"clear_existing": True}, {"mine": ["TS_003"]}),
        ([None], {"clear_existing": True}, {}),
        ([], {"unassign": ["TS_001"]}, {"val": ["TS_002"]}),
        ([], {"unassign": "TS_001"}, {"val": ["TS_002"]}),
        ([{"a": ["TS_001", "TS_003"]}], {"unassign": ["TS_003"]}, {"a": ["TS_001"], "val": ["TS_002"]}),
        ([{"a": ["TS_001", "TS_003"]}], {"unassign": ["TS_003"], "clear_existing": True}, {"a": ["TS_001"]}),
        ([{"a": []}], {"clear_existing": True}, {}),
    ],
)
def test_set_splits(small: Path, arguments: list[Any], options: dict[str, Any], expected: dict[str, list[str]]) -> None:
    assert set_splits(small, *arguments, **options) == str(small)
    assert splits_of(small) == expected
    assert copick.from_croissant(str(small), croissant_base_url="/nowhere").splits == expected
    if expected:
        mlcroissant.Dataset(jsonld=str(small))


@pytest.mark.parametrize(
    ("mapping", "options", "code", "message"),
    [
        ({"train": ["TS_003", "TS_9", "TS_8"]}, {}, "run-unknown", "TS_8, TS_9"),
        ({"train": "TS_003"}, {"unassign": ["TS_9"]}, "run-unknown", "TS_9"),
        ({"train": "TS_003", "val": "TS_003"}, {}, "option-invalid", "two splits"),
        ({"": "TS_003"}, {}, "option-invalid", "name"),
        ({"\ud800": "TS_003"}, {}, "name-invalid", None),
    ],
)
def test_splits_that_make_no_sense_change_nothing(
    small: Path, mapping: dict[str, Any], options: dict[str, Any], code: str, message: str | None
) -> None:
    before = tree(small.parent)
    with pytest.raises(CroissantError, match=message) as caught:
        set_splits(small, mapping, clear_existing=True, **options)
    assert caught.value.code == code
    assert tree(small.parent) == before


def test_nobody_else_writes_while_splits_are_set(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holders = []
    clear_splits = CroissantIndex.clear_splits

    def cleared(index: CroissantIndex, runs: Any) -> None:
        holders.append(_lock.holder(fsspec.filesystem("file"), str(small)))
        clear_splits(index, runs)

    monkeypatch.setattr(CroissantIndex, "clear_splits", cleared)
    set_splits(small, {"test": ["TS_002"]})
    assert len(holders) == 1
    assert holders[0] is not None


def test_set_splits_of_what_there_is_by_then(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others add one run, remove another and change a third, after the manifest was opened."""
    opened = CroissantIndex.check_writable
    theirs = CroissantIndex.from_url(str(small))

    def commit_first(index: CroissantIndex) -> None:
        opened(index)
        monkeypatch.undo()
        with theirs.batch():
            theirs.put(RunRow("TS_000", split="train"))
            theirs.put(RunRow("TS_002", "55", "val"))
            theirs.remove(RunRow("TS_003"))

    monkeypatch.setattr(CroissantIndex, "check_writable", commit_first)
    set_splits(small, {"test": ["TS_002"]}, clear_existing=True)
    assert splits_of(small) == {"test": ["TS_002"]}
    index = CroissantIndex.from_url(str(small))
    assert sorted(index.rows("runs"), key=str) == [RunRow("TS_000"), RunRow("TS_001"), RunRow("TS_002", "55", "test")]


# --- no parameter of an export is ignored ----------------------------------------------------------------


def column(table: str, name: str) -> Callable[[CroissantIndex], Any]:
    """The values that a column has."""
    return lambda index: {getattr(row, name) for row in index.rows(table)}


def member(name: str) -> Callable[[CroissantIndex], Any]:
    """A property of the manifest."""
    return lambda index: index.document.get(name)


@dataclass(frozen=True)
class Case:
    """A value of a parameter, and what is then seen of the export, and is not without it.

    `prepare` makes the project such that it matters.
    """

    value: Any
    observe: Callable[[CroissantIndex], Any]
    expected: Any
    prepare: Callable[[Path], Any] = nothing


def put_rejected(directory: Path) -> None:
    """A manifest that mlcroissant rejects, beside which the export is made by force."""
    manifest = directory / "Croissant" / "metadata.json"
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(document))
    reject(manifest)


# `root` and `project_root` without the case's value are the other project and a directory for it.
PARAMETERS: dict[str, Case] = {
    "root": Case("small", column("runs", "name"), {"TS_001", "TS_002", "TS_003"}),
    "project_root": Case("elsewhere", lambda index: Path(index.url).parts[-3], "elsewhere"),
    "base_url": Case("https://host/data", member("copick:baseUrl"), "https://host/data"),
    "dataset_name": Case("N", member("name"), "N"),
    "description": Case("something else", member("description"), "something else"),
    "license": Case("CC0-1.0", member("license"), "CC0-1.0"),
    "cite_as": Case("C", member("citeAs"), "C"),
    "date_published": Case("2020-02-02", member("datePublished"), "2020-02-02"),
    "validate": Case(False, lambda index: index.count("runs"), 2, put_rejected),
    "compute_file_sha256": Case(False, column("picks", "sha256"), {None}),
    "force": Case(True, lambda index: index.count("runs"), 2, nothing),
    "runs": Case(["TS_010"], column("runs", "name"), {"TS_010"}),
    "tomograms": Case("wbp@5.0", column("tomograms", "voxel_size"), {5.0}),
    "features": Case(["*@10.0"], column("features", "voxel_size"), set()),
    "picks": Case(["virus:*/*"], column("picks", "object_name"), {"virus"}),
    "meshes": Case(["ribosome"], column("meshes", "object_name"), set()),
    "segmentations": Case("*?panoptic=true", column("instance_segmentations", "name"), set()),
    "objects": Case(["virus"], column("objects", "name"), {"virus"}),
    "tomo_type_map": Case({"wbp": "raw"}, column("tomograms", "tomo_type"), {"raw"}),
    "object_name_map": Case({"virus": "phage"}, column("picks", "object_name"), {"phage", "ribosome"}),
    "splits": Case({"train": ["TS_010"]}, lambda index: index.splits(), {"train": ["TS_010"]}),
}

PORTAL_PARAMETERS: dict[str, Case] = {
    "session_id_template": Case(
        "{method_type}-{annotation_file_id}",
        column("picks", "session_id"),
        {"manual-5001", "manual-5011", "automated-5002", "hybrid-5005"},
    ),
    "picks_portal_meta": Case(
        {"ground_truth_status": True}, column("picks", "portal_annotation_file_id"), {"5001", "5011"}
    ),
    "picks_author": Case(["Max Muster"], column("picks", "portal_annotation_file_id"), {"5001", "5011", "5002"}),
    "segmentations_portal_meta": Case(
        {"ground_truth_status": True}, column("instance_segmentations", "portal_annotation_file_id"), set()
    ),
    "segmentations_author": Case("Jane Doe", column("segmentations", "portal_annotation_file_id"), set()),
    "tomograms_portal_meta": Case({"processing": "raw"}, column("tomograms", "portal_tomogram_id"), {"7100"}),
    "tomograms_author": Case(["Second Author"], column("tomograms", "portal_tomogram_id"), {"7002"}),
}


def test_there_is_a_case_for_each_documented_parameter() -> None:
    documented = inspect.signature(copick.ops.croissant.export_croissant).parameters
    assert sorted([*PARAMETERS, *PORTAL_PARAMETERS]) == sorted(documented)


def outcome(other: Any, small: Path, tmp_path: Path, name: str, *, given: bool) -> Any:
    """What a case observes of an export with its parameter, or without."""
    case = PARAMETERS[name]
    directory = tmp_path / ("with" if given else "without")
    options: dict[str, Any] = {"root": other, "project_root": directory}
    if name in ("force", "validate"):
        quietly(export_croissant, other, directory)
        case.prepare(directory)
        options["force"] = True
    if name == "force":
        del options["force"]
    if given:
        options[name] = {"root": from_croissant(small), "project_root": tmp_path / "elsewhere"}.get(name, case.value)
    return case.observe(CroissantIndex.from_url(quietly(export_croissant, **options)))


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_has_its_effect(other: Any, small: Path, tmp_path: Path, name: str) -> None:
    assert outcome(other, small, tmp_path, name, given=True) == PARAMETERS[name].expected


@pytest.mark.parametrize("name", PARAMETERS)
def test_without_the_parameter_the_effect_is_missed(other: Any, small: Path, tmp_path: Path, name: str) -> None:
    """So a parameter that is ignored fails the test above."""
    try:
        found = outcome(other, small, tmp_path, name, given=False)
    except CroissantError as error:
        found = error.code
        assert found == {"force": "exists", "validate": "manifest-rejected"}.get(name)
    assert found != PARAMETERS[name].expected


@pytest.mark.parametrize("name", PORTAL_PARAMETERS)
@pytest.mark.parametrize("change", ["export", "append"])
def test_a_parameter_for_portal_projects_has_its_effect(portal: Any, tmp_path: Path, name: str, change: str) -> None:
    case = PORTAL_PARAMETERS[name]
    options = {name: case.value}
    found = []
    for number, given in enumerate([options, {}]):
        directory = tmp_path / str(number)
        if change == "export":
            url = quietly(export_croissant, portal, directory, validate=False, compute_file_sha256=False, **given)
        else:
            url = quietly(export_croissant, portal, directory, validate=False, runs=[], objects=[])
            quietly(append_croissant, url, portal, validate=False, compute_file_sha256=False, **given)
        found.append(case.observe(CroissantIndex.from_url(url)))
    assert found[0] == case.expected
    assert found[1] != case.expected


if __name__ == "__main__":
    path = Path(sys.argv[1])
    project = from_croissant(path)  # imports what the other user may not be able to
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    for refused in (lambda: append_croissant(path, project), lambda: set_splits(path, {"train": "TS_003"})):
        with pytest.raises(PermissionError, match="not writable"):
            quietly(refused)
