from __future__ import annotations

import csv
import hashlib
import inspect
import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import copick
import copick.ops.croissant
import fsspec
import numpy as np
import pytest
import zarr

from copick_mlc import CroissantIndex, export_croissant, from_croissant
from copick_mlc.errors import CroissantError, CroissantWarning
from tests.projects import inventory, tree


@pytest.fixture
def bare(project: Path) -> Path:
    """A filesystem project that nobody has exported."""
    shutil.rmtree(project / "Croissant")
    return project


def open_source(project: Path) -> Any:
    return copick.from_file(str(project / "copick_config.json"))


def export(source: Any, project: Path, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CroissantWarning)
        return Path(export_croissant(source, project, **options))


def text_of(caught: pytest.WarningsRecorder) -> str:
    return "\n".join(str(warning.message) for warning in caught)


def rows(manifest: Path, table: str) -> list[dict[str, str]]:
    with (manifest.parent / f"{table}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def names(manifest: Path, table: str, *columns: str) -> set[tuple[str, ...]]:
    return {tuple(row[column] for column in columns) for row in rows(manifest, table)}


def test_signature_is_the_documented_one() -> None:
    documented = inspect.signature(copick.ops.croissant.export_croissant).parameters
    ours = inspect.signature(export_croissant).parameters
    assert list(documented) == [name for name in ours if name in documented]
    for name, parameter in documented.items():
        assert ours[name].kind == parameter.kind
        assert ours[name].default == parameter.default


def test_nothing_is_written_but_the_manifest_and_its_tables(bare: Path) -> None:
    before = tree(bare)
    export(open_source(bare), bare)
    after = tree(bare)
    new = sorted(set(after) - set(before))
    assert {name: after[name] for name in before} == before
    assert new == sorted(f"Croissant/{name}" for name in ["metadata.json", *(f"{t}.csv" for t in _TABLES)])


_TABLES = (
    "runs voxel_spacings tomograms features picks meshes segmentations instance_segmentations panoptic_segmentations "
    "objects"
).split()


def test_rows_have_urls_checksums_and_voxel_sizes(bare: Path) -> None:
    manifest = export(open_source(bare), bare)
    for table in ("picks", "meshes"):
        for row in rows(manifest, table):
            assert hashlib.sha256((bare / row["url"]).read_bytes()).hexdigest() == row["sha256"]
    assert {row["voxel_size"] for row in rows(manifest, "picks")} == {"10.0"}
    for table in ("tomograms", "features", "segmentations", "objects"):
        for row in rows(manifest, table):
            assert (bare / row["url"]).is_dir()
    document = json.loads(manifest.read_text())
    for entry in document["distribution"]:
        data = (manifest.parent / entry["contentUrl"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()


def test_no_checksum_where_none_is_wanted(bare: Path) -> None:
    manifest = export(open_source(bare), bare, compute_file_sha256=False)
    assert {row["sha256"] for table in ("picks", "meshes") for row in rows(manifest, table)} == {""}
    assert {row["voxel_size"] for row in rows(manifest, "picks")} == {"10.0"}


def test_the_same_project_gives_the_same_bytes(bare: Path) -> None:
    first = tree(export(open_source(bare), bare).parent)
    again = tree(export(open_source(bare), bare, force=True).parent)
    shutil.rmtree(bare / "Croissant")
    anew = tree(export(open_source(bare), bare).parent)
    assert first == again == anew


def test_iterables_may_be_such_that_end(bare: Path) -> None:
    manifest = export(
        open_source(bare), bare, runs=iter(["TS_001"]), picks=iter(["*:*/*"]), splits={"a": iter(["TS_001"])}
    )
    assert names(manifest, "runs", "name", "split") == {("TS_001", "a")}
    assert rows(manifest, "picks")


def test_names_that_pandas_misreads_are_warned_of(bare: Path) -> None:
    open_source(bare).new_run("007")
    with pytest.warns(CroissantWarning, match=r"runs\.csv, column name: .*'007' becomes '7'"):
        export_croissant(open_source(bare), bare, runs=["007"], license="MIT", cite_as="me")


def test_local_data_is_refused_where_the_manifest_is_elsewhere(bare: Path) -> None:
    with pytest.raises(CroissantError, match="publish") as caught:
        export(open_source(bare), "memory://elsewhere")  # type: ignore[arg-type]
    assert caught.value.code == "url-local"
    fs = fsspec.filesystem("memory")
    assert not fs.exists("/elsewhere")


def test_nothing_is_invented(bare: Path) -> None:
    with pytest.warns(CroissantWarning, match="license, citeAs"):
        manifest = Path(export_croissant(open_source(bare), bare))
    document = json.loads(manifest.read_text())
    assert not {"license", "citeAs", "copick:baseUrl"} & set(document)
    assert {entry["contentUrl"] for entry in document["distribution"]} == {f"{table}.csv" for table in _TABLES}


def test_properties_are_those_given(bare: Path) -> None:
    given = {"dataset_name": "N", "description": "D", "license": "MIT", "cite_as": "C", "date_published": "2020-02-02"}
    document = json.loads(export(open_source(bare), bare, **given).read_text())
    found = [document[key] for key in ("name", "description", "license", "citeAs", "datePublished")]
    assert found == list(given.values())


@pytest.mark.parametrize(
    ("base", "declared", "prefix"),
    [
        ("https://host/data/", "https://host/data", "https://host/data/Croissant/"),
        ("s3://bucket/data", "s3://bucket/data", ""),
    ],
)
def test_content_urls_are_absolute_only_over_http(bare: Path, base: str, declared: str, prefix: str) -> None:
    document = json.loads(export(open_source(bare), bare, base_url=base).read_text())
    assert document["copick:baseUrl"] == declared
    assert document["distribution"][0]["contentUrl"] == f"{prefix}runs.csv"


def test_an_existing_manifest_is_replaced_only_by_force(bare: Path) -> None:
    export(open_source(bare), bare)
    before = tree(bare)
    with pytest.raises(FileExistsError, match="force") as caught:
        export_croissant(open_source(bare), bare)
    assert isinstance(caught.value, CroissantError)
    assert caught.value.code == "exists"
    assert tree(bare) == before


def test_a_csv_that_is_there_already_is_replaced_only_by_force(bare: Path) -> None:
    (bare / "Croissant").mkdir()
    (bare / "Croissant" / "picks.csv").write_text("somebody's\n")
    before = tree(bare)
    with pytest.raises(FileExistsError, match=r"picks\.csv"):
        export_croissant(open_source(bare), bare)
    assert tree(bare) == before
    assert rows(export(open_source(bare), bare, force=True), "picks")


def test_validation_without_mlcroissant(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlcroissant", None)
    before = tree(bare)
    with pytest.raises(CroissantError, match="validate=False"):
        export_croissant(open_source(bare), bare)
    assert tree(bare) == before
    assert export(open_source(bare), bare, validate=False).is_file()


def test_force_keeps_what_others_added(bare: Path) -> None:
    manifest = export(open_source(bare), bare, splits={"train": ["TS_001"], "gone": ["TS_002"]}, license="MIT")
    document = json.loads(manifest.read_text())
    document["creator"] = {"@type": "sc:Person", "name": "A"}
    document["rai:dataCollection"] = "by hand"
    document["@context"]["mine"] = "https://example.org/"
    document["distribution"].append({"@type": "cr:FileObject", "@id": "extra", "name": "extra"})
    document["recordSet"].append({"@type": "cr:RecordSet", "@id": "extra-rows", "name": "extra-rows"})
    manifest.write_text(json.dumps(document))
    export(open_source(bare), bare, force=True, runs=["TS_001", "empty"], validate=False)
    new = json.loads(manifest.read_text())
    for key in ("creator", "rai:dataCollection", "license"):
        assert new[key] == document[key]
    assert new["@context"]["mine"] == "https://example.org/"
    assert "extra" in [entry["@id"] for entry in new["distribution"]]
    assert "extra-rows" in [entry["@id"] for entry in new["recordSet"]]
    assert from_croissant(manifest).splits == {"train": ["TS_001"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": {"train": ["nope"]}}, "nope"),
        ({"splits": {"train": ["TS_001"], "val": ["TS_001"]}}, "two splits"),
        ({"splits": {"": ["TS_001"]}}, "name"),
        ({"picks": ["a:b:c"]}, "a:b:c"),
        ({"picks": ["re:("]}, "re:"),
        ({"tomo_type_map": {"wbp": "denoised"}}, "denoised"),
        ({"object_name_map": {"ribosome": "membrane"}}, "membrane"),
        ({"object_name_map": {"ribosome": "a_b"}}, "a_b"),
        ({"session_id_template": "{id}"}, "session_id_template"),
        ({"picks_portal_meta": {"a": 1}, "tomograms_author": ["x"]}, "picks_portal_meta, tomograms_author"),
    ],
)
@pytest.mark.parametrize("existing", [False, True])
def test_a_refused_export_changes_nothing(bare: Path, options: dict[str, Any], message: str, existing: bool) -> None:
    if existing:
        export(open_source(bare), bare)
    before = tree(bare)
    with pytest.raises(ValueError, match=message) as caught:
        export(open_source(bare), bare, force=existing, **options)
    assert isinstance(caught.value, CroissantError)
    assert tree(bare) == before
    assert (bare / "Croissant").exists() is existing


def test_a_manifest_mlcroissant_rejects_is_not_written(bare: Path) -> None:
    manifest = export(open_source(bare), bare)
    document = json.loads(manifest.read_text())
    document["recordSet"].append(
        {"@type": "cr:RecordSet", "@id": "bad", "name": "bad", "field": [{"@type": "cr:Field"}]}
    )
    manifest.write_text(json.dumps(document))
    before = tree(bare)
    with pytest.raises(CroissantError) as caught:
        export(open_source(bare), bare, force=True)
    assert caught.value.code == "manifest-rejected"
    assert tree(bare) == before
    export(open_source(bare), bare, force=True, validate=False)
    assert tree(bare) != before


def test_a_failing_write_changes_nothing(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(open_source(bare), bare)
    (bare / "ExperimentRuns" / "late").mkdir()
    before = tree(bare)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        export(open_source(bare), bare, force=True)
    assert isinstance(caught.value, CroissantError)
    assert tree(bare) == before


# --- filters ---------------------------------------------------------------------------------------------

FILTERS = [
    ("runs", ["TS_001", "empty"], "runs", ("name",), {("TS_001",), ("empty",)}),
    ("runs", "TS_001", "picks", ("run",), {("TS_001",)}),
    ("tomograms", ["wbp@10.0"], "tomograms", ("tomo_type",), {("wbp",)}),
    ("tomograms", "den*", "tomograms", ("tomo_type",), {("denoised",)}),
    ("tomograms", "wbp@10.0", "voxel_spacings", ("voxel_size",), {("10.0",)}),
    ("features", "wbp@10:grad*", "features", ("feature_type",), {("gradient",)}),
    ("features", "wbp@11", "features", ("feature_type",), set()),
    ("picks", ["ribosome:demo/*"], "picks", ("user_id",), {("demo",)}),
    ("picks", ["re:ribo.*:temp.*/0"], "picks", ("user_id",), {("template-matching",)}),
    ("meshes", "ribosome", "meshes", ("object_name",), set()),
    ("segmentations", "*", "segmentations", ("name",), {("all",), ("membrane",)}),
    ("segmentations", "*", "instance_segmentations", ("name",), set()),
    ("segmentations", "all?multilabel=true", "segmentations", ("name",), {("all",)}),
    ("segmentations", "*?multilabel=false", "segmentations", ("name",), {("membrane",)}),
    ("segmentations", "*?instance=true", "instance_segmentations", ("name",), {("ribosome",)}),
    ("segmentations", "*?instance=true", "segmentations", ("name",), set()),
    ("segmentations", "scene?panoptic=true", "panoptic_segmentations", ("name",), {("scene",)}),
    ("segmentations", "membrane:*/*@10.0", "segmentations", ("name",), {("membrane",)}),
    ("objects", ["membrane"], "objects", ("name",), set()),
    ("objects", "ribosome", "objects", ("name",), {("ribosome",)}),
]


@pytest.mark.parametrize(("option", "value", "table", "columns", "expected"), FILTERS)
def test_filters(
    bare: Path, option: str, value: Any, table: str, columns: tuple[str, ...], expected: set[tuple[str, ...]]
) -> None:
    manifest = export(open_source(bare), bare, validate=False, **{option: value})
    assert names(manifest, table, *columns) == expected


def test_filters_do_not_touch_other_tables(bare: Path) -> None:
    manifest = export(open_source(bare), bare, picks="nothing")
    assert not rows(manifest, "picks")
    assert len(rows(manifest, "tomograms")) == 4
    assert len(rows(manifest, "voxel_spacings")) == 3


def test_what_matches_nothing_is_warned_of(bare: Path) -> None:
    with pytest.warns(CroissantWarning) as caught:
        export_croissant(open_source(bare), bare, runs=["TS_001", "TS_009"], picks=["virus", "ribosome"])
    text = text_of(caught)
    assert "TS_009" in text
    assert "virus" in text
    assert "TS_001" not in text
    assert "'ribosome'" not in text


def test_maps_rename_rows_and_configuration_and_urls_stay(bare: Path) -> None:
    source = open_source(bare)
    manifest = export(source, bare, tomo_type_map={"wbp": "raw"}, object_name_map={"ribosome": "80S"})
    assert names(manifest, "tomograms", "tomo_type") == {("raw",), ("denoised",)}
    assert names(manifest, "features", "tomo_type") == {("raw",)}
    assert names(manifest, "picks", "object_name") == names(manifest, "instance_segmentations", "name") == {("80S",)}
    assert names(manifest, "objects", "name", "url") == {("80S", "Objects/ribosome.zarr")}
    root = from_croissant(manifest)
    renamed = root.get_object("80S")
    assert renamed is not None
    assert renamed.metadata == {"portal_original_name": "ribosome"}
    wanted = json.loads(json.dumps(inventory(source)["runs"]["TS_001"]["picks"].popitem()[1]))
    run = root.get_run("TS_001")
    assert run is not None
    assert run.get_picks("80S")[-1].numpy()[0].tolist() == wanted[0]
    assert run.voxel_spacings[0].get_tomograms("raw")[0].numpy().shape == (48, 64, 64)


# --- sources ---------------------------------------------------------------------------------------------


def with_overlay(project: Path, tmp_path: Path) -> Any:
    """The project as the read-only side of another one, whose overlay has one more run and newer picks."""
    config = json.loads((project / "copick_config.json").read_text())
    overlay = tmp_path / "overlay"
    config |= {"static_root": f"local://{project}", "overlay_root": f"local://{overlay}"}
    (tmp_path / "both.json").write_text(json.dumps(config))
    root = copick.from_file(str(tmp_path / "both.json"))
    root.new_run("TS_003")
    newer = overlay / "ExperimentRuns" / "TS_001" / "Picks"
    newer.mkdir(parents=True)
    content = json.loads((project / "ExperimentRuns/TS_001/Picks/demo_1_ribosome.json").read_text())
    content["points"] = content["points"][:1]
    (newer / "demo_1_ribosome.json").write_text(json.dumps(content))
    tomogram = root.get_run("TS_001").get_voxel_spacing(10.0).get_tomograms("denoised")[0]
    store = tomogram.new_features("mine").zarr()
    zarr.group(store=store).create_dataset("0", data=np.zeros((1, 2, 2, 2)))
    return copick.from_file(str(tmp_path / "both.json"))


def test_an_overlay_elsewhere_gets_absolute_urls_and_counts(bare: Path, tmp_path: Path) -> None:
    source = with_overlay(bare, tmp_path)
    with pytest.warns(CroissantWarning) as caught:
        manifest = Path(export_croissant(source, bare))
    assert "2 artifacts lie outside" in text_of(caught)
    urls = {(row["run"], row["user_id"]): row["url"] for row in rows(manifest, "picks")}
    assert urls["TS_001", "demo"] == f"file://{tmp_path}/overlay/ExperimentRuns/TS_001/Picks/demo_1_ribosome.json"
    assert urls["TS_002", "demo"] == "ExperimentRuns/TS_002/Picks/demo_1_ribosome.json"
    assert ("TS_003",) in names(manifest, "runs", "name")
    assert ("TS_001", "denoised", "mine") in names(manifest, "features", "run", "tomo_type", "feature_type")
    both: list[Any] = [from_croissant(manifest), copick.from_croissant(str(manifest))]
    for opened in both:
        assert len(opened.get_run("TS_001").get_picks("ribosome", "demo")) == 1
    run = from_croissant(manifest).get_run("TS_001")
    assert run is not None
    assert len(run.get_picks("ribosome", "demo")[0].points) == 1


def test_phantom_objects_are_neither_made_nor_listed(bare: Path) -> None:
    config = json.loads((bare / "copick_config.json").read_text())
    config["pickable_objects"].append({"name": "virus", "is_particle": True, "label": 9})
    (bare / "copick_config.json").write_text(json.dumps(config))
    (bare / "Objects" / "virus.zarr").mkdir()
    manifest = export(open_source(bare), bare)
    assert names(manifest, "objects", "name") == {("ribosome",)}
    assert not list((bare / "Objects" / "virus.zarr").iterdir())


@pytest.mark.parametrize(
    "opened", [from_croissant, lambda path: copick.from_croissant(str(path))], ids=["ours", "copick's"]
)
@pytest.mark.filterwarnings("ignore:.*the file's sha256 is:copick_mlc.errors.CroissantWarning")  # the row's is made up
def test_a_croissant_source_keeps_what_its_rows_say(manifest: Path, tmp_path: Path, opened: Any) -> None:
    path = manifest.parent / "picks.csv"
    found = rows(manifest, "picks")
    found[0] |= {"portal_annotation_id": "77", "portal_object_name": "big ribosome", "sha256": "0" * 64}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, found[0])
        writer.writeheader()
        writer.writerows(found)
    document = json.loads(manifest.read_text())
    document["creator"] = {"@type": "sc:Person", "name": "A"}
    for entry in document["distribution"]:
        if entry["@id"] == "picks-csv":
            entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(document))
    source = opened(manifest)

    in_place = export(source, manifest.parent.parent, force=True)
    assert sorted(map(str, rows(in_place, "picks"))) == sorted(map(str, found))
    assert from_croissant(in_place).splits == {"train": ["TS_001"], "val": ["TS_002"]}

    elsewhere = export(source, tmp_path / "copy")
    assert json.loads(elsewhere.read_text())["creator"] == document["creator"]
    assert {row["url"] for row in rows(elsewhere, "picks")} == {row["url"] for row in found}
    assert inventory(from_croissant(elsewhere)) == inventory(from_croissant(manifest))


def test_a_moved_croissant_source_gets_absolute_urls(manifest: Path, tmp_path: Path) -> None:
    project = manifest.parent.parent
    source = from_croissant(manifest, croissant_base_url=project)
    elsewhere = export(source, tmp_path / "copy")
    assert all(row["url"].startswith(f"file://{project}/") for row in rows(elsewhere, "tomograms"))
    assert inventory(from_croissant(elsewhere)) == inventory(source)


def test_an_overlay_of_a_croissant_source_is_exported_too(manifest: Path, tmp_path: Path) -> None:
    source = from_croissant(manifest, overlay_root=tmp_path / "overlay")
    run = source.get_run("TS_001")
    assert run is not None
    run.new_picks("ribosome", "5", "me").from_numpy(np.ones((2, 3)))
    source.new_run("mine")
    copy = export(source, tmp_path / "copy")
    assert ("TS_001", "me") in names(copy, "picks", "run", "user_id")
    assert ("mine",) in names(copy, "runs", "name")
    assert inventory(from_croissant(copy)) == inventory(source)


def test_any_other_root_goes_through_the_api(bare: Path, tmp_path: Path) -> None:
    from copick.impl.filesystem import CopickConfigFSSpec, CopickRootFSSpec

    class SomeRoot(CopickRootFSSpec):
        pass

    config = CopickConfigFSSpec(**json.loads((bare / "copick_config.json").read_text()))
    through_api = tree(export(SomeRoot(config), bare).parent)
    assert tree(export(open_source(bare), bare, force=True).parent) == through_api


def test_filaments_are_not_dropped_silently(bare: Path) -> None:
    directory = bare / "ExperimentRuns" / "TS_001" / "Filaments"
    directory.mkdir()
    (directory / "me_1_ribosome.json").write_text("{}")
    with pytest.warns(CroissantWarning) as caught:
        export_croissant(open_source(bare), bare)
    assert "run TS_001: 1 filament files are not exported" in text_of(caught)


def test_one_listing_a_directory_and_one_read_a_pick(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from copick_mlc import _storage

    listed: list[str] = []
    read: list[str] = []
    scandir, cat = os.scandir, _storage.read

    def counted_scandir(path: str) -> Any:
        listed.append(str(path))
        return scandir(path)

    def counted_read(fs: Any, path: str, *arguments: str) -> bytes:
        read.append(path)
        return cat(fs, path, *arguments)

    monkeypatch.setattr("os.scandir", counted_scandir)
    monkeypatch.setattr(_storage, "read", counted_read)
    export(open_source(bare), bare, validate=False)
    inside = [path for path in listed if path.startswith(str(bare))]
    assert len(inside) == len(set(inside))
    assert not [path for path in inside if ".zarr" in path]
    data = [path for path in read if "/Croissant/" not in path]
    assert len(data) == len(set(data)) == 6  # 4 picks, 2 meshes


def test_progress_counts_runs(bare: Path) -> None:
    calls: list[tuple[int, int]] = []
    export(open_source(bare), bare, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_the_index_layer_opens_an_export_alone(bare: Path) -> None:
    index = CroissantIndex.from_url(str(export(open_source(bare), bare)))
    assert sorted(index.groups("runs")) == ["TS_001", "TS_002", "empty"]
    assert index.count("picks") == 4
