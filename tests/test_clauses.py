"""Clauses of SPEC.md that the code once missed, where a case of the suite does not reach."""

from __future__ import annotations

import errno
import functools
import hashlib
import http.server
import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import copick
import fsspec
import numpy as np
import pytest
import zarr

from copick_mlc import CopickRootMLC, CroissantError, CroissantIndex, export_croissant, from_croissant
from copick_mlc._manifest import record_set
from copick_mlc._tables import TABLES
from copick_mlc.errors import CroissantWarning, DataError, StorageError
from copick_mlc.index import ObjectRow, PicksRow, RunRow, TomogramRow
from copick_mlc.opening import open_project

DEEP = "[" * 100_000


def edit(manifest: Path, **members: Any) -> None:
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **members}))


def entry(manifest: Path, key: str, identifier: str) -> Any:
    return next(e for e in json.loads(manifest.read_text())[key] if e["@id"] == identifier)


def run_1(root: CopickRootMLC) -> Any:
    return root.get_run("TS_001")


def wbp(root: CopickRootMLC) -> Any:
    return run_1(root).get_voxel_spacing(10.0).get_tomograms("wbp")[0]


@pytest.mark.parametrize(
    "members",
    [
        {"copick:config": DEEP},  # SEC-007
        {"copick:config": {"pickable_objects": {}}},  # MAN-013
        {"copick:config": {"pickable_objects": ""}},
        {"copick:baseUrl": 7},  # MAN-011
    ],
    ids=["deep", "no list", "text", "base"],
)
def test_parts_of_the_wrong_shape(manifest: Path, project: Path, members: dict[str, Any]) -> None:
    edit(manifest, **members)
    with pytest.raises(DataError) as caught:
        CroissantIndex(str(manifest), base_url_override=str(project))
    assert caught.value.code == "manifest-invalid"


def test_a_sha256_of_another_type_is_found_on_opening(manifest: Path) -> None:
    """MAN-011."""
    document = json.loads(manifest.read_text())
    document["distribution"][1]["sha256"] = 7
    edit(manifest, **document)
    with pytest.raises(DataError) as caught:
        CroissantIndex(str(manifest))
    assert caught.value.code == "manifest-invalid"


def test_ids_and_names_of_any_type(manifest: Path, project: Path) -> None:
    """MAN-015, MAN-020."""
    document = json.loads(manifest.read_text())
    document["recordSet"].insert(0, {"@id": ["x"]})
    for found in document["recordSet"]:
        if found["@id"] == "copick/splits":
            found["data"].append({"copick/splits/name": ["x"]})
    edit(manifest, **document)
    index = CroissantIndex(str(manifest))
    with index.batch():
        for row in list(index.rows_of(ObjectRow)):
            index.remove(row)
    index.put(ObjectRow("ribosome", "Objects/ribosome.zarr"))
    index.set_split("TS_001", "mine")
    assert json.loads(manifest.read_text())["recordSet"][0] == {"@id": ["x"]}
    export_croissant(from_croissant(manifest), project, force=True, validate=False)
    assert {"@id": ["x"]} in json.loads(manifest.read_text())["recordSet"]


def test_fields_of_columns_that_the_csv_lacks_go(manifest: Path) -> None:
    """MAN-025."""
    data = b"name\r\nribosome\r\n"
    (manifest.parent / "objects.csv").write_bytes(data)
    document = json.loads(manifest.read_text())
    for file in document["distribution"]:
        if file["@id"] == "objects-csv":
            file["sha256"] = hashlib.sha256(data).hexdigest()
    mine = {"@type": "cr:Field", "@id": "copick/objects/mine"}
    for found in document["recordSet"]:
        if found["@id"] == "copick/objects":
            found["field"].append(mine)
    edit(manifest, **document)
    CroissantIndex(str(manifest)).put(ObjectRow("membrane"))
    fields = entry(manifest, "recordSet", "copick/objects")["field"]
    assert [field["@id"] for field in fields] == ["copick/objects/name", "copick/objects/mine"]
    assert len(record_set(TABLES["objects"], ["name", "url"])["field"]) == 2


@pytest.mark.parametrize("text", ['{"location": ' + DEEP, '{"location": {"x": 1, "y": 2, "z": 3}}\n' + DEEP])
def test_picks_that_are_nested_too_deeply(root: CopickRootMLC, text: str) -> None:
    """PIK-009."""
    picks = run_1(root).picks[0]
    Path(picks.path).write_text(text)
    with pytest.warns(CroissantWarning, match="sha256"), pytest.raises(DataError) as caught:
        _ = picks.points
    assert caught.value.code == "data-invalid"


def test_json_that_is_nested_too_deeply(project: Path, manifest: Path, tmp_path: Path) -> None:
    """EXP-030."""
    config = tmp_path / "config.json"
    config.write_text(DEEP)
    with pytest.raises(CroissantError) as caught:
        open_project(config)
    assert caught.value.code == "config-invalid"
    source = copick.from_file(str(project / "copick_config.json"))
    manifest.write_text(DEEP)
    with pytest.raises(CroissantError) as caught:
        export_croissant(source, project, force=True)
    assert caught.value.code == "manifest-invalid"


def test_a_picks_file_whose_voxel_size_is_no_number(project: Path, tmp_path: Path) -> None:
    """EXP-012."""
    file = next((project / "ExperimentRuns/TS_001/Picks").glob("*.json"))
    file.write_text('{"voxel_spacing": 1.2.3, "points": []}')
    source = copick.from_file(str(project / "copick_config.json"))
    index = CroissantIndex(export_croissant(source, project, force=True, validate=False))
    assert any(row.voxel_size is None for row in index.rows_of(PicksRow, "TS_001"))


@pytest.fixture
def web(project: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(project))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_any_characters_in_a_url_over_http(manifest: Path, project: Path, web: str) -> None:
    """URL-008."""
    names = ["a#b.json", "a%20b.json", "a?b.json", "a+b.json", "a%b.json", "ü b.json", "[a]&=;:@.json"]
    index = CroissantIndex(str(manifest))
    row = next(index.rows_of(PicksRow, "TS_001"))
    for number, name in enumerate(names):
        shutil.copy(project / str(row.url), project / name)
        index.put(replace(row, user_id=f"u{number}", url=name))
    shutil.copytree(project / "ExperimentRuns/TS_001/VoxelSpacing10.000/wbp.zarr", project / "w#%41 b.zarr")
    index.put(TomogramRow("TS_001", 10.0, "odd", "w#%41 b.zarr"))
    root = from_croissant(f"{web}/Croissant/metadata.json", croissant_base_url=web)
    for number, name in enumerate(names):
        assert run_1(root).get_picks(user_id=f"u{number}")[0].points, name
    assert run_1(root).get_voxel_spacing(10.0).get_tomograms("odd")[0].numpy().any()


@pytest.mark.parametrize("form", ["./{}", "{root}/{}", "file://{root}/{}"])
def test_shared_data_stays_however_the_other_row_spells_it(manifest: Path, project: Path, form: str) -> None:
    """PIK-018."""
    index = CroissantIndex(str(manifest))
    row = next(index.rows_of(PicksRow, "TS_001"))
    index.put(replace(row, user_id="twin", url=form.format(row.url, root=project)))
    run_1(from_croissant(manifest)).get_picks(row.object_name, "twin")[0].delete()
    assert (project / str(row.url)).is_file()


def test_only_zarr_stores_are_removed_as_volumes(manifest: Path, project: Path) -> None:
    """SEC-006, TOM-006."""
    (project / "notes.zarr").mkdir()
    (project / "notes.zarr/a.txt").write_text("mine")
    zarr.group(str(project / "store"))
    index = CroissantIndex(str(manifest))
    index.put(TomogramRow("TS_001", 10.0, "notes", "notes.zarr"))
    index.put(TomogramRow("TS_001", 10.0, "store", "store"))
    spacing = run_1(from_croissant(manifest)).get_voxel_spacing(10.0)
    spacing.delete_tomograms("notes")
    spacing.delete_tomograms("store")
    assert (project / "notes.zarr/a.txt").is_file()
    assert not (project / "store").exists()


def test_storage_that_fails_under_a_volume_or_a_directory(root: CopickRootMLC, monkeypatch: pytest.MonkeyPatch) -> None:
    """BAT-006."""

    def full(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    local = fsspec.get_filesystem_class("file")
    tomogram = wbp(root)
    for name in ("pipe_file", "makedirs", "_open"):
        monkeypatch.setattr(local, name, full)
    for write in (
        lambda: tomogram.from_numpy(np.zeros((2, 2, 2))),
        lambda: tomogram.voxel_spacing.new_tomogram("new"),
        lambda: root.new_run("new"),
        lambda: run_1(root).new_voxel_spacing(3.0),
    ):
        with pytest.raises(StorageError) as caught:
            write()
        assert caught.value.code == "storage-failed"
    assert root.get_run("new") is None


@pytest.mark.parametrize("fault", [{"label": 0}, None], ids=["object", "base"])
def test_a_refresh_that_fails_at_the_configuration(root: CopickRootMLC, manifest: Path, fault: Any) -> None:
    """BAT-015."""
    document = json.loads(manifest.read_text())
    document["copick:config"]["name"] = "another"
    if fault:
        document["copick:config"]["pickable_objects"][0].update(fault)
    else:
        document["copick:baseUrl"] = "nonsense://x"
    before = root.index.base_url, root.index.config, root.config.model_dump(), root.target
    edit(manifest, **document)
    with pytest.raises(CroissantError):
        root.refresh()
    assert (root.index.base_url, root.index.config, root.config.model_dump(), root.target) == before


def test_what_is_published_is_seen_again(overlay_root: CopickRootMLC, project: Path, tmp_path: Path) -> None:
    """OVL-007."""
    overlay = tmp_path / "overlay"
    places = ["ExperimentRuns/TS_001/VoxelSpacing10.000/wbp.zarr", "Objects/ribosome.zarr"]
    for place in places:
        shutil.copytree(project / place, overlay / place)
    picks_file = run_1(overlay_root).picks[0].identity.canonical_url
    (overlay / picks_file).parent.mkdir(parents=True)
    shutil.copy(project / picks_file, overlay / picks_file)
    overlay_root.refresh()
    run = run_1(overlay_root)
    counts = len(run.picks), len(run.get_voxel_spacing(10.0).tomograms)
    next(picks for picks in run.picks if not picks.read_only).delete()
    tomogram = wbp(overlay_root)
    assert not tomogram.read_only
    assert all(features.read_only for features in tomogram.features)
    tomogram.delete()
    density = overlay_root.get_object("ribosome")
    density.delete()
    assert (len(run.picks), len(run.get_voxel_spacing(10.0).tomograms)) == counts
    assert all(picks.read_only and picks.points for picks in run.picks)
    assert wbp(overlay_root).read_only
    assert wbp(overlay_root).features
    assert wbp(overlay_root).numpy().any()
    assert density.read_only
    assert density.numpy().any()
    assert [path for path in overlay.rglob("*") if path.is_file()] == []


def test_a_remote_manifest_does_not_say_where_to_write_on_this_disk(manifest: Path, tmp_path: Path) -> None:
    """SEC-002."""
    victim = tmp_path / "victim"
    (victim / "ExperimentRuns/TS_001").mkdir(parents=True)
    edit(manifest, **{"copick:baseUrl": str(victim)})
    memory = fsspec.filesystem("memory")
    place = f"/{tmp_path.name}/Croissant"
    for file in manifest.parent.iterdir():
        memory.pipe_file(f"{place}/{file.name}", file.read_bytes())
    root = from_croissant(f"memory:/{place}/metadata.json")
    for write in (
        lambda: root.new_run("x"),
        lambda: root.delete_run("TS_001"),
        lambda: run_1(root).new_picks("ribosome", "9", "me"),
    ):
        with pytest.raises(DataError) as caught:
            write()
        assert caught.value.code == "url-local"
    assert [str(path.relative_to(victim)) for path in sorted(victim.rglob("*"))] == [
        "ExperimentRuns",
        "ExperimentRuns/TS_001",
    ]


def test_data_that_another_run_names_stays(manifest: Path, project: Path) -> None:
    """PIK-018."""
    index = CroissantIndex(str(manifest))
    row = next(index.rows_of(PicksRow, "TS_001"))
    index.put(replace(row, run="TS_002", user_id="twin"))
    root = from_croissant(manifest)
    run_1(root).get_picks(row.object_name, row.user_id, row.session_id)[0].delete()
    assert (project / str(row.url)).is_file()
    twin = root.get_run("TS_002")
    assert twin is not None
    twin.get_picks(row.object_name, "twin")[0].delete()
    assert not (project / str(row.url)).exists()


def test_data_that_a_pending_row_of_another_run_names_stays(root: CopickRootMLC, project: Path) -> None:
    """PIK-018."""
    row = next(root.index.rows_of(PicksRow, "TS_001"))
    with root.batch():
        root.index.put(replace(row, run="TS_002", user_id="twin"))
        run_1(root).get_picks(row.object_name, row.user_id, row.session_id)[0].delete()
    assert (project / str(row.url)).is_file()


def test_a_name_is_no_pattern_on_other_storage(manifest: Path, project: Path, tmp_path: Path) -> None:
    """RUN-007."""
    memory = fsspec.filesystem("memory")
    base = f"/{tmp_path.name}"
    for file in project.rglob("*"):
        if file.is_file():
            memory.pipe_file(f"{base}/{file.relative_to(project).as_posix()}", file.read_bytes())
    document = json.loads(memory.cat_file(f"{base}/Croissant/metadata.json"))
    document["copick:baseUrl"] = f"memory:/{base}"
    memory.pipe_file(f"{base}/Croissant/metadata.json", json.dumps(document).encode())
    root = from_croissant(f"memory:/{base}/Croissant/metadata.json")
    root.new_run("TS_*").new_picks("ribosome", "1", "me").from_numpy(np.ones((1, 3)))
    before = set(memory.find(f"{base}/ExperimentRuns"))
    root.delete_run("TS_*")
    gone = before - set(memory.find(f"{base}/ExperimentRuns"))
    assert gone == {f"{base}/ExperimentRuns/TS_*/Picks/me_1_ribosome.json"}


def test_a_run_whose_name_is_no_path_can_be_deleted(manifest: Path) -> None:
    """RUN-006."""
    CroissantIndex(str(manifest)).put(RunRow("two\nlines"))
    root = from_croissant(manifest)
    root.delete_run("two\nlines")
    assert not CroissantIndex(str(manifest)).has("runs", "two\nlines")


def test_a_refresh_that_fails_at_a_row(root: CopickRootMLC, manifest: Path) -> None:
    """BAT-015."""
    before = list(root.index.rows("voxel_spacings"))
    data = (manifest.parent / "voxel_spacings.csv").read_bytes().replace(b"10.0", b"abc")
    (manifest.parent / "voxel_spacings.csv").write_bytes(data)
    document = json.loads(manifest.read_text())
    for file in document["distribution"]:
        if file["@id"] == "voxel-spacings-csv":
            file["sha256"] = hashlib.sha256(data).hexdigest()
    edit(manifest, **document)
    with pytest.raises(DataError) as caught:
        root.refresh()
    assert caught.value.code == "table-number"
    assert list(root.index.rows("voxel_spacings")) == before


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["hidden", "file"])
def test_what_an_overlay_does_not_list_is_no_run(overlay_root: CopickRootMLC, tmp_path: Path, make: Any) -> None:
    """OVL-008."""
    name = ".hidden" if make is Path.mkdir else "file"
    place = tmp_path / "overlay" / "ExperimentRuns" / name
    place.parent.mkdir(parents=True)
    make(place)
    assert overlay_root.get_run(name) is None
    assert name not in [run.name for run in overlay_root.runs]


@pytest.mark.parametrize("size", [0.0, -1.0, 0.0001])
def test_a_voxel_size_is_positive(root: CopickRootMLC, size: float) -> None:
    """VOX-007."""
    with pytest.raises(CroissantError) as caught:
        run_1(root).new_voxel_spacing(size)
    assert caught.value.code == "refused"
