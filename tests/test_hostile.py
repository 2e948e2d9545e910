"""Whatever the bytes of a project are: it opens, or a CroissantError says why not, and nothing outside it is touched.

Rules: SPEC.md, Manifest [MAN], Tables [CSV], URLs [URL] and Security [SEC].
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from copick_mlc import CopickRootMLC, CroissantError, CroissantIndex, _splits, export_croissant, from_croissant
from copick_mlc.__main__ import main
from copick_mlc._csv import TableFile
from copick_mlc._manifest import Manifest
from copick_mlc._tables import LONGEST_CELL, TABLES, parse_number
from copick_mlc._urls import size_in_url
from copick_mlc.errors import DataError, StorageError, UsageError
from copick_mlc.index import PicksRow, RunRow, VoxelSpacingRow
from tests.hostile import Codes, Fuzzer, Memory, project_files, quiet, walk
from tests.projects import tree

SEED = 20261125
INPUTS = 2000


# --- damaged bytes ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fuzzer(full_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzer]:
    made = Fuzzer(project_files(full_template), tmp_path_factory.mktemp("hostile") / "disk", SEED)
    yield made
    made.close()


def test_damaged_projects_open_or_say_why_not(fuzzer: Fuzzer) -> None:
    results = [fuzzer.trial(number) for number in range(INPUTS)]
    caught = [f"--seed {SEED} --only {r.number}: {r.done}\n{r.uncaught}" for r in results if r.uncaught]
    assert not caught, "\n".join(caught[:3])
    # The damage is neither always fatal nor always harmless, and not always of the same kind.
    assert INPUTS / 4 < sum(result.opened and not result.codes for result in results) < INPUTS * 3 / 4
    codes = Counter(code for result in results for code in result.codes)
    assert {
        *("manifest-invalid", "table-syntax", "table-checksum", "table-column", "table-encoding"),
        *("table-number", "table-boolean", "table-key-empty", "table-key-duplicate", "url-outside", "url-local"),
        *("data-missing", "storage-failed"),
    } <= codes.keys()
    assert len({result.way for result in results}) == 8


def test_an_input_comes_from_seed_and_number(fuzzer: Fuzzer) -> None:
    for number in range(20):
        assert fuzzer.files(number)[:2] == fuzzer.files(number)[:2]
    assert fuzzer.files(0)[0] != fuzzer.files(1)[0]


def test_what_should_not_be_raised_is_found(fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fuzzer itself: it sees an exception that is none of ours, and a change by reading."""

    def bad_splits(index: CroissantIndex) -> Any:
        raise ZeroDivisionError

    def bad_base(index: CroissantIndex) -> str:
        (fuzzer.disk / "left-behind").touch()
        return "/nowhere"

    with monkeypatch.context() as patch:
        patch.setattr(CroissantIndex, "splits", bad_splits)
        found = [fuzzer.trial(number).uncaught for number in range(30)]
    assert any("ZeroDivisionError" in text for text in found)
    with monkeypatch.context() as patch:
        patch.setattr(CroissantIndex, "base_url", property(bad_base))
        found = [fuzzer.trial(number).uncaught for number in range(60)]
    assert any("left-behind" in text for text in found)


# --- names and values ------------------------------------------------------------------------------------

TEXT = st.text(
    st.one_of(
        st.characters(),  # surrogates and controls too
        st.sampled_from('",\r\n\0\\/.:*?[]{}%#~ _-\ud800\udcff\u202e\ufeff\x1b\x7f\u2028'),
    ),
    max_size=12,
)
REFUSALS = {"name-invalid", "refused", "exists", "option-invalid"}


@pytest.fixture(scope="module")
def small(full_template: Path) -> Iterator[Memory]:
    """The project without its volumes, in memory."""
    files = project_files(full_template)
    made = Memory({name: data for name, data in files.items() if ".zarr" not in name})
    yield made
    made.close()


def change_or_refuse(small: Memory, change: Callable[[CopickRootMLC], Any]) -> bool:
    """Whether the change to the project was made; where it is refused, it is by us, and nothing has changed."""
    small.restore()
    before = small.state()
    root = reopened(small)
    codes = Codes()
    with quiet(), codes.attempt():
        change(root)
    if codes.found:
        assert REFUSALS.issuperset(codes.found)
        assert small.state() == before
    return not codes.found


def reopened(small: Memory) -> CopickRootMLC:
    return from_croissant(f"{small.where}/Croissant/metadata.json")


@given(name=TEXT, split=TEXT)
@settings(deadline=None, max_examples=80)
def test_a_run_of_any_name_is_read_back_or_refused(small: Memory, name: str, split: str) -> None:
    if not change_or_refuse(small, lambda root: root.new_run(name)):
        assert reopened(small).get_run(name) is None or name in ("TS_001", "TS_002", "empty")
        return
    for _ in range(2):
        root = reopened(small)
        assert name in [run.name for run in root.runs]
        assert root.get_run(name) is not None
        codes = Codes()
        with codes.attempt():
            root.set_splits({split: [name]})
        assert REFUSALS.issuperset(codes.found)
        assert reopened(small).index.get_split(name) == (None if codes.found else split)


@given(user=TEXT, session=TEXT)
@settings(deadline=None, max_examples=80)
def test_picks_of_any_name_are_read_back_or_refused(small: Memory, user: str, session: str) -> None:
    def change(root: CopickRootMLC) -> None:
        run = root.get_run("TS_001")
        assert run is not None
        with quiet():
            made.append(run.new_picks("ribosome", session, user).identity)

    made: list[PicksRow] = []
    if change_or_refuse(small, change):
        for point in (1.0, 2.0):
            run = reopened(small).get_run("TS_001")
            assert run is not None
            picks = [item for item in run.picks if item.identity.key == made[0].key]
            assert len(picks) == 1
            picks[0].from_numpy(np.full((1, 3), point))
            assert reopened(small).index.find(made[0]) is not None
        again = reopened(small).get_run("TS_001")
        assert again is not None
        assert [p.numpy()[0].tolist() for p in again.picks if p.identity.key == made[0].key] == [[[2.0] * 3]]


@given(name=TEXT)
@settings(deadline=None, max_examples=60)
def test_an_object_of_any_name_is_read_back_or_refused(small: Memory, name: str) -> None:
    if change_or_refuse(small, lambda root: root.new_object(name, True, 99)):
        with quiet():
            root = reopened(small)
            found = [item.name for item in root.pickable_objects if item.label == 99]
            assert len(found) == 1
            root.new_object("another", True, 100)
            assert [item.name for item in reopened(small).pickable_objects if item.label == 99] == found


@given(st.builds(PicksRow, TEXT, TEXT, TEXT, TEXT, st.none() | st.floats(), st.none() | TEXT, st.none() | TEXT))
@settings(deadline=None, max_examples=120)
def test_a_row_of_any_text_is_read_back_or_refused(small: Memory, row: PicksRow) -> None:
    small.restore()
    before = small.state()
    url = f"{small.where}/Croissant/metadata.json"
    codes = Codes()
    with codes.attempt():
        CroissantIndex(url).put(row)
    if codes.found:
        assert codes.found == ["name-invalid"]
        assert small.state() == before
        return
    expected = replace(row, url=row.url or None, sha256=row.sha256 or None)  # an empty cell is an absent value
    for portal_id in ("1", "2"):
        index = CroissantIndex(url)
        assert index.find(row) == expected
        expected = replace(expected, portal_annotation_id=portal_id)
        index.put(expected)
    assert CroissantIndex(url).find(row) == expected


@pytest.mark.parametrize("name", ["\ud800", "a\udcff", "\udfffb"])
def test_a_name_that_no_file_can_have_is_refused_before_there_is_one(root: CopickRootMLC, name: str) -> None:
    before = tree(Path(root.index.base_url))
    run = root.get_run("TS_001")
    assert run is not None
    for write in (
        lambda: root.new_run(name),
        lambda: run.new_picks("ribosome", name, "me"),
        lambda: run.new_segmentation(10.0, "membrane", name, user_id="me"),
    ):
        with pytest.raises(UsageError) as caught:
            write()
        assert caught.value.code in REFUSALS
    assert root.get_run(name) is None
    assert tree(Path(root.index.base_url)) == before


def test_a_run_that_cannot_be_recorded_has_no_directory(manifest: Path, project: Path) -> None:
    replace_table(manifest, "runs", b"name,split\r\nTS_001,train\r\nTS_002,val,\r\n")
    root = from_croissant(manifest)
    with pytest.raises(DataError) as caught:
        root.new_run("new")
    assert (caught.value.code, caught.value.line) == ("table-syntax", 3)
    assert not (project / "ExperimentRuns/new").exists()


# --- other datasets --------------------------------------------------------------------------------------


def replace_table(manifest: Path, table: str, data: bytes) -> None:
    """Have other bytes in a CSV, and their checksum in the manifest."""
    file = manifest.parent / f"{table}.csv"
    old, new = (hashlib.sha256(content).hexdigest() for content in (file.read_bytes(), data))
    file.write_bytes(data)
    manifest.write_text(manifest.read_text().replace(old, new))


DATASET = {"@context": "https://schema.org/", "@type": "Dataset", "name": "cells"}
DOWNLOAD = {"@type": "DataDownload", "contentUrl": "https://example.org/a.zip", "encodingFormat": "application/zip"}


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (DATASET, "not-copick"),
        ({**DATASET, "distribution": DOWNLOAD, "recordSet": {"name": "cells"}}, "not-copick"),
        ({**DATASET, "distribution": [DOWNLOAD], "copick:config": {}, "recordSet": []}, "not-copick"),
        ({"@context": {}, "@graph": [{**DATASET, "recordSet": [{"@id": "copick/runs"}]}]}, "not-copick"),
        ({"cr:recordSet": [{"@id": "copick/runs"}], "schema:distribution": [{"@id": "runs-csv"}]}, "not-copick"),
        ([{"http://mlcommons.org/croissant/recordSet": [{"@id": "copick/runs"}]}], "manifest-invalid"),
        ([], "manifest-invalid"),
        ({**DATASET, "recordSet": {"@list": [{"@id": "copick/runs"}]}}, "not-copick"),
        ({**DATASET, "distribution": DOWNLOAD, "recordSet": [{"@id": "copick/runs"}]}, "manifest-invalid"),
        (
            {**DATASET, "distribution": [[{"@id": "runs-csv"}]], "recordSet": [{"@id": "copick/runs"}]},
            "manifest-invalid",
        ),
        ({**DATASET, "recordSet": [["copick/runs"]]}, "manifest-invalid"),
    ],
    ids=repr,
)
def test_a_manifest_that_is_not_ours(tmp_path: Path, document: Any, code: str) -> None:
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError) as caught:
        CroissantIndex(str(path))
    assert (caught.value.code, caught.value.path) == (code, str(path))
    assert tree(tmp_path) == {"metadata.json": json.dumps(document).encode()}


def nested(depth: int) -> Any:
    value: Any = "bottom"
    for _ in range(depth):
        value = [value]
    return value


def test_json_nested_as_deep_as_nobody_nests_it(manifest: Path) -> None:
    """SEC-007: what is read can also be written."""
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**document, "rai:x": nested(99)}))
    CroissantIndex(str(manifest)).put(RunRow("new"))
    assert CroissantIndex(str(manifest)).document["rai:x"] == nested(99)
    for depth in (100, 500, 900):
        for members in (
            {"rai:x": nested(depth)},
            {"copick:baseUrl": nested(depth)},
            {"copick:config": json.dumps({"x": nested(depth)})},
            {"copick:config": json.dumps({"pickable_objects": nested(depth)})},
        ):
            manifest.write_text(json.dumps({**document, **members}))
            with pytest.raises(DataError, match="nested") as caught:
                CroissantIndex(str(manifest))
            assert (caught.value.code, caught.value.path) == ("manifest-invalid", str(manifest))


@pytest.mark.parametrize("value", ["\0", "a\0b", "~\0", "/\0/x", "file:///\0", "\ud800", "~\ud800", "/data/\udcff"])
def test_a_base_url_that_no_storage_has(manifest: Path, value: str) -> None:
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**document, "copick:baseUrl": value}))
    with pytest.raises(DataError, match="copick:baseUrl") as caught:
        CroissantIndex(str(manifest))
    assert (caught.value.code, caught.value.path) == ("manifest-invalid", str(manifest))


@pytest.mark.parametrize("name", ["name", "description", "version", "user_id", "session_id"])
@pytest.mark.parametrize("value", [7, True, {"@value": "x"}, ["x"]], ids=repr)
def test_a_configuration_of_other_types(manifest: Path, name: str, value: Any) -> None:
    document = json.loads(manifest.read_text())
    document["copick:config"][name] = value
    manifest.write_text(json.dumps(document))
    with pytest.raises(DataError, match=rf"copick:config\.{name}") as caught:
        from_croissant(manifest)
    assert (caught.value.code, caught.value.path) == ("manifest-invalid", str(manifest))
    document["copick:config"][name] = None
    manifest.write_text(json.dumps(document))
    assert len(from_croissant(manifest).runs) == 3


@pytest.mark.parametrize(("digits", "size"), [("9" * 300, 1e300), ("9" * 301, None), ("9" * 5000, None), ("007", 7.0)])
def test_a_voxel_size_in_a_url_is_finite(digits: str, size: float | None) -> None:
    assert size_in_url(f"VoxelSpacing{digits}/x.ndjson") == size


def test_the_last_of_two_equal_keys_counts(manifest: Path) -> None:
    text = manifest.read_text()
    manifest.write_text(text.replace("{", '{"recordSet": 7, "copick:config": 7, ', 1))
    assert len(from_croissant(manifest).runs) == 3
    manifest.write_text(text.rstrip().removesuffix("}") + ', "recordSet": 7}')
    with pytest.raises(DataError) as caught:
        from_croissant(manifest)
    assert (caught.value.code, caught.value.path) == ("manifest-invalid", str(manifest))


def test_numbers_as_long_as_a_book(manifest: Path) -> None:
    text = manifest.read_text()
    manifest.write_text(text.replace("{", '{"rai:x": ' + "9" * 10_000 + ", ", 1))
    with pytest.raises(DataError, match="not JSON") as caught:
        CroissantIndex(str(manifest))
    assert (caught.value.code, caught.value.path) == ("manifest-invalid", str(manifest))


@pytest.mark.parametrize("size", [LONGEST_CELL, LONGEST_CELL + 1])
def test_a_quoted_cell_as_long_as_a_book(manifest: Path, size: int) -> None:
    replace_table(manifest, "runs", b'name,split\r\nTS_001,train\r\nTS_002,"' + b"x" * size + b'"\r\n')
    index = CroissantIndex(str(manifest))
    if size <= LONGEST_CELL:
        assert index.get_split("TS_002") == "x" * size
        return
    with pytest.raises(DataError) as caught:
        index.get_split("TS_002")
    assert (caught.value.code, caught.value.line) == ("table-syntax", 3)
    assert caught.value.path == str(manifest.parent / "runs.csv")
    assert len(str(caught.value)) < 1000
    assert index.get_split("TS_001") == "train"


@pytest.mark.parametrize("cell", ["x" * 200_000, "1" * 200_000, "\u202e9", "1e400"], ids=lambda cell: cell[:8])
def test_a_message_says_where_and_is_short(manifest: Path, cell: str) -> None:
    replace_table(manifest, "voxel_spacings", f"run,voxel_size\r\nTS_001,10\r\nTS_002,{cell}\r\n".encode())
    index = CroissantIndex(str(manifest))
    assert list(index.rows("voxel_spacings", "TS_001")) == [VoxelSpacingRow("TS_001", 10.0)]
    with pytest.raises(DataError) as caught:
        list(index.rows("voxel_spacings", "TS_002"))
    error = caught.value
    assert (error.code, error.line, error.column) == ("table-number", 3, "voxel_size")
    assert error.path == str(manifest.parent / "voxel_spacings.csv")
    assert len(str(error)) < 1000


# --- nothing outside -------------------------------------------------------------------------------------


@pytest.fixture
def victim(project: Path, tmp_path: Path) -> Path:
    """A directory beside the project that has what the rows of the project name, and a link to it in the project."""
    directory = tmp_path / "victim"
    for name, data in tree(project).items():
        if name.startswith(("ExperimentRuns", "Objects")):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(data)
    (project / "link").symlink_to(directory)
    return directory


def everything(directory: Path) -> dict[str, Any]:
    """What there is below a directory, and when it was written."""
    files: dict[str, Any] = dict(tree(directory))
    return files | {str(p): (p.is_dir(), p.stat().st_mtime_ns) for p in sorted(directory.rglob("*"))}


FORMS: dict[str, str] = {
    "absolute": "{victim}/{url}",
    "file": "file://{victim}/{url}",
    "local": "local://{victim}/{url}",
    "double slash": "/{victim}/{url}",
    "around": "{project}/../victim/{url}",
    "climbing": "../victim/{url}",
    "climbing late": "ExperimentRuns/../../victim/{url}",
    "link": "link/{url}",
    "absolute link": "{project}/link/{url}",
}


def point_outside(manifest: Path, project: Path, victim: Path, forms: list[str]) -> None:
    """Have every row of the project name data of the victim, in these forms in turn."""
    index = CroissantIndex(str(manifest))
    turn = itertools.cycle(forms)
    with index.batch():
        for table in TABLES.values():
            for row in list(index.rows(table.name)) if table.has_url else []:
                url = next(turn).format(victim=victim, project=project, url=row.canonical_url)
                index.put(replace(row, url=url))  # type: ignore[type-var]


def write_everything(root: CopickRootMLC) -> Iterator[Callable[[], Any]]:
    """Every way to change what is there; each may be refused."""
    ones = np.ones((2, 2, 2), np.uint8)
    corner: dict[str, Any] = {axis: slice(2) for axis in "xyz"}
    run = root.get_run("TS_001")
    assert run is not None
    for picks in list(run.picks):
        yield partial(picks.from_numpy, np.ones((2, 3)))
        yield picks.store
    for mesh in list(run.meshes):
        yield mesh.store
    for tomogram in [tomogram for spacing in run.voxel_spacings for tomogram in spacing.tomograms]:
        yield partial(tomogram.set_region, ones, **corner)
        yield partial(write_through, tomogram)
        yield partial(tomogram.from_numpy, ones, levels=1)
        for features in list(tomogram.features):
            yield partial(features.set_region, ones[None], slices=(slice(1), *corner.values()))
            yield partial(write_through, features)
        yield tomogram.delete_features
    for segmentation in run.get_segmentations(is_instance=None, is_panoptic=None):
        data = np.stack([ones, ones]) if segmentation.is_panoptic else ones
        yield partial(segmentation.set_region, data, **corner)
        yield partial(segmentation.from_numpy, data)
    for item in list(root.pickable_objects):
        yield partial(item.set_region, ones, **corner)
        yield partial(item.from_numpy, ones, 10.0)


def write_through(volume: Any) -> None:
    volume.zarr()[".zattrs"] = b"{}"


def delete_everything(root: CopickRootMLC) -> Iterator[Callable[[], Any]]:
    """Every way to delete; each may be refused."""
    run = root.get_run("TS_001")
    assert run is not None
    for artifact in (*run.picks, *run.meshes, *run.get_segmentations(is_instance=None, is_panoptic=None)):
        yield artifact.delete
    for tomogram in [tomogram for spacing in run.voxel_spacings for tomogram in spacing.tomograms]:
        for features in list(tomogram.features):
            yield features.delete
        yield tomogram.delete
    for item in list(root.pickable_objects):
        yield item.delete
    yield lambda: root.delete_run("TS_002")
    yield run.delete


@pytest.mark.parametrize("mode", ["A", "B"])
@pytest.mark.parametrize("act", [write_everything, delete_everything])
@pytest.mark.parametrize("forms", [["absolute"], ["link"], [*FORMS]], ids=["absolute", "link", "all"])
def test_rows_that_lead_outside_change_nothing_there(
    manifest: Path, project: Path, victim: Path, tmp_path: Path, mode: str, act: Any, forms: list[str]
) -> None:
    point_outside(manifest, project, victim, [FORMS[form] for form in forms])
    before = everything(victim)
    root = from_croissant(manifest, overlay_root=None if mode == "A" else tmp_path / "overlay")
    done = 0
    for change in act(root):
        with suppress(CroissantError, zarr.errors.ReadOnlyError), quiet():  # zarr's own, of a store of ours
            change()
            done += 1
    assert everything(victim) == before
    assert done > 0 or mode == "B"


@pytest.mark.parametrize("act", [write_everything, delete_everything])
@pytest.mark.parametrize(
    "base", ["{victim}", "file://{victim}", "../link", "{project}/../victim", "{project}/link/../../victim"]
)
def test_a_base_url_that_leads_outside_changes_nothing_there_from_an_overlay(
    manifest: Path, project: Path, victim: Path, tmp_path: Path, act: Any, base: str
) -> None:
    """OVL-001."""
    document = json.loads(manifest.read_text())
    document["copick:baseUrl"] = base.format(victim=victim, project=project)
    manifest.write_text(json.dumps(document))
    before = everything(victim), everything(manifest.parent)
    root = from_croissant(manifest, overlay_root=tmp_path / "overlay")
    assert len(root.runs) == 3
    for change in act(root):
        with suppress(CroissantError, zarr.errors.ReadOnlyError), quiet():
            change()
    assert (everything(victim), everything(manifest.parent)) == before


@pytest.mark.parametrize("url", ["{directory}/runs.csv", "{directory}/metadata.json", "link/runs.csv", "{directory}/x"])
@pytest.mark.parametrize("directory", ["Croissant", "tables"])
def test_a_row_that_names_what_lies_beside_the_manifest_does_not_take_it_along(
    manifest: Path, project: Path, directory: str, url: str
) -> None:
    """SEC-005, whatever that directory is called, and however a row leads there."""
    manifest.parent.rename(project / directory)
    document = json.loads((project / directory / "metadata.json").read_text())
    del document["copick:baseUrl"]
    (project / directory / "metadata.json").write_text(json.dumps(document))
    (project / directory / "x").touch()
    (project / "link").symlink_to(project / directory)
    where = str(project / directory / "metadata.json")
    index = CroissantIndex(where)
    row = next(index.rows_of(PicksRow, "TS_001"))
    index.put(replace(row, url=url.format(directory=directory)))
    names = sorted(os.listdir(project / directory))
    run = from_croissant(where).get_run("TS_001")
    assert run is not None
    run.get_picks(row.object_name, row.user_id, row.session_id)[0].delete()
    assert CroissantIndex(where).find(row) is None
    assert sorted(os.listdir(project / directory)) == names


@pytest.mark.parametrize("url", ["http://[", "http://[/x", "https://[::1/x", "http://127.0.0.1:99999/x"])
def test_a_url_that_is_none_is_an_error_of_ours(manifest: Path, project: Path, victim: Path, url: str) -> None:
    point_outside(manifest, project, victim, [url])
    codes = Codes()
    with quiet():
        walk(from_croissant(manifest), codes)
    assert len(codes.found) > 10
    assert set(codes.found) <= {"storage-failed", "data-missing"}


def test_a_name_that_cannot_be_printed(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**document, "name": "\ud800"}))
    for options in ([], ["--json"]):
        assert main(["inspect", str(manifest), *options]) == 0
        assert "\\ud800" in capsys.readouterr().out


def test_a_deep_manifest_is_not_replaced(manifest: Path, project: Path) -> None:
    document = json.loads(manifest.read_text())
    source = from_croissant(manifest)
    manifest.write_text(json.dumps({**document, "rai:x": nested(400)}))
    before = everything(manifest.parent)
    with pytest.raises(DataError) as caught:
        export_croissant(source, project, force=True, validate=False)
    assert caught.value.code == "manifest-invalid"
    assert everything(manifest.parent) == before


def test_what_is_no_file_is_not_read(manifest: Path, project: Path) -> None:
    """A device or a pipe may have no end; this one has, so that the test ends anyway."""
    index = CroissantIndex(str(manifest))
    row = next(index.rows_of(PicksRow, "TS_001"))
    index.put(replace(row, url="/dev/null"))
    run = from_croissant(manifest).get_run("TS_001")
    assert run is not None
    picks = run.get_picks(row.object_name, row.user_id, row.session_id)[0]
    for name in (None, "runs.csv", "metadata.json"):
        if name is not None:
            (manifest.parent / name).unlink()
            (manifest.parent / name).symlink_to("/dev/null")
        with pytest.raises(StorageError) as caught:
            _ = picks.points if name is None else from_croissant(manifest).runs
        assert caught.value.code == "storage-failed"


@pytest.mark.parametrize("act", [write_everything, delete_everything])
@pytest.mark.parametrize(
    "form", ["{victim}/{url}", "file://{victim}/{url}", "local://{victim}/{url}", "zip://{url}::{victim}"]
)
def test_a_remote_manifest_that_names_this_disk_neither_reads_nor_changes_it(
    manifest: Path, project: Path, victim: Path, act: Any, form: str
) -> None:
    """SEC-002."""
    point_outside(manifest, project, victim, [form])
    (project / "link").unlink()
    memory = Memory(project_files(project))
    before, tables = everything(victim), memory.state()
    codes = Codes()
    with quiet():
        root = reopened(memory)
        walk(root, codes)
        assert set(codes.found) == {"url-local"}
        assert memory.state() == tables
        for change in act(root):
            with suppress(CroissantError):
                change()
    assert everything(victim) == before
    memory.close()


# --- nothing grows with the square -----------------------------------------------------------------------
#
# A lot of something is done at once where each is looked at once; where each is looked at for each other one it
# takes hours. So these tests end, or never do.

MANY = 300_000
HEADER = b"run,voxel_size\r\n"


def load(table: str, data: bytes) -> TableFile:
    return TableFile(TABLES[table], "t.csv", data)


@pytest.mark.parametrize(
    ("data", "code", "line"),
    [
        (HEADER + b'a,"' + b"x\n" * MANY, "table-syntax", 2),
        (HEADER + b'"\n' * (MANY + 1), "table-syntax", MANY + 2),
        (HEADER + b'"' * (MANY + 1), "table-syntax", 2),
        (HEADER + b'a,"1"\n' * MANY + b'a,"x\ny', "table-syntax", MANY + 2),
        (HEADER + b"," * MANY, "table-key-empty", 2),
        (HEADER + b"\r" * MANY + b",", "table-key-empty", MANY + 2),
        (b"run,voxel_size" + b"," * MANY + b"\r\n", "table-column", 1),
        (b",".join(b"c%d" % number for number in range(MANY)) + b"\r\n", "table-column", 1),
        (b"run,voxel_size," + b",".join(b"c%d" % number for number in range(MANY)) + b",run", "table-column", 1),
    ],
    ids=["open quote", "quotes", "one line of quotes", "late quote", "commas", "CR", "no names", "names", "name twice"],
)
def test_a_lot_of_anything_is_refused_at_once(data: bytes, code: str, line: int) -> None:
    with pytest.raises(DataError) as caught:
        load("voxel_spacings", data)
    assert (caught.value.code, caught.value.line) == (code, line)
    assert len(str(caught.value)) < 1000


def test_rows_of_two_runs_in_turn_are_read_at_once() -> None:
    lines = (b"%c,%d\r\n" % (b"ab"[number % 2], number + 1) for number in range(30_000))
    file = load("voxel_spacings", HEADER + b"".join(lines))
    assert [len(file.group(name)) for name in ("a", "b")] == [15_000, 15_000]
    shorter = file.replaced({"a": [b"a,1\r\n"]})
    assert (shorter.count, shorter.data.count(b"\n")) == (15_001, 15_002)


@pytest.mark.parametrize("cell", ["9" * MANY + "x", "." + "9" * MANY + "x", "1e" + "9" * MANY + "x", "9" * MANY])
def test_a_number_of_many_digits_is_refused_at_once(cell: str) -> None:
    with pytest.raises(ValueError, match="9999"):
        parse_number(cell)
    assert _splits.can_be_referred_to([cell]) is (cell[-1] == "x")


@pytest.mark.parametrize(
    "text", ["[" * MANY, '{"a":' * MANY, "[" * MANY + "]" * MANY, '"' * MANY, "1" * MANY, "[1," * MANY]
)
def test_a_manifest_of_a_lot_of_anything_is_refused_at_once(text: str) -> None:
    for data in (text, '{"copick:config": ' + text + "}"):
        with pytest.raises(DataError) as caught:
            Manifest(data.encode(), "m.json")
        assert (caught.value.code, caught.value.path) == ("manifest-invalid", "m.json")


def test_a_wide_manifest_is_looked_at_once() -> None:
    document = {
        "distribution": [{"@id": "runs-csv"}, *({"@id": f"f{number}"} for number in range(30_000))],
        "recordSet": [{"@id": "copick/runs"}, *({"@id": f"r{number}", "x": [[]]} for number in range(30_000))],
    }
    assert Manifest(json.dumps(document).encode(), "m.json").declares(TABLES["runs"])
