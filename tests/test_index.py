"""`CroissantIndex` on small projects written by hand, watched on the disk with nothing but the standard library."""

from __future__ import annotations

import csv
import dataclasses
import errno
import hashlib
import json
import os
import pickle
import shutil
import tempfile
import threading
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from copick_mlc._splits import assignments
from copick_mlc._tables import TABLES as DECLARED
from copick_mlc.errors import (
    CroissantError,
    DataError,
    MissingError,
    ReadOnlyError,
    StorageError,
    UnknownRunError,
    UsageError,
)
from copick_mlc.index import (
    CroissantIndex,
    MeshRow,
    ObjectRow,
    PicksRow,
    Row,
    RunRow,
    SegmentationRow,
    VoxelSpacingRow,
)

# Spellings, an unknown column and portal columns that no commit may change where nobody asked for it.
RUNS = b'name,portal_run_id,split,note\r\nTS_1,11,train,"first, best"\r\nTS_2,,,\r\n007,,val,\r\n'
SPACINGS = b"run,voxel_size\r\nTS_1,10\r\nTS_2,7.840\r\nTS_1,2e1\r\n"
PICKS = (
    b"run,user_id,session_id,object_name,voxel_size,url,portal_annotation_id,quality\r\n"
    b"TS_1,alice,1,ribo,10,a.json,,good\r\n"
    b'"TS_2",bob,01,"ribo",,b.json,777,\r\n'
    b"TS_1,alice,2,ribo,1e1,c.json,,bad\r\n"
)
TABLES = {"runs": RUNS, "voxel_spacings": SPACINGS, "picks": PICKS}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def document(tables: dict[str, bytes], **more: Any) -> dict[str, Any]:
    """The least that a manifest of these CSVs needs."""
    names = {name: name.replace("_", "-") for name in tables}
    return {
        "@type": "sc:Dataset",
        "name": "tiny",
        "distribution": [
            {"@type": "cr:FileObject", "@id": f"{names[n]}-csv", "contentUrl": f"{n}.csv", "sha256": sha256(data)}
            for n, data in tables.items()
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": f"copick/{name}",
                "field": [{"@id": f"copick/{name}/{column}"} for column in data.decode().splitlines()[0].split(",")],
            }
            for name, data in tables.items()
        ],
        **more,
    }


def make(directory: Path, tables: dict[str, bytes] | None = None, **more: Any) -> Path:
    """Write a project; the path of its metadata.json."""
    tables = TABLES if tables is None else tables
    croissant = directory / "Croissant"
    croissant.mkdir(parents=True)
    for name, data in tables.items():
        (croissant / f"{name}.csv").write_bytes(data)
    (croissant / "metadata.json").write_text(json.dumps(document(tables, **more)))
    return croissant / "metadata.json"


def metadata(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_bytes())
    assert isinstance(value, dict)
    return value


def change_metadata(path: Path, **more: Any) -> None:
    path.write_text(json.dumps({**metadata(path), **more}))


def records(path: Path, table: str) -> list[dict[str, str]]:
    """The records of a table, as the standard library reads them."""
    with (path.parent / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def column(path: Path, table: str, name: str) -> list[str]:
    return [record[name] for record in records(path, table)]


def tree(directory: Path) -> dict[str, bytes]:
    """Every file below a directory with its bytes, hidden and temporary ones too."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def check_disk(path: Path) -> None:
    """The manifest declares just what lies beside it, and nothing else lies there."""
    declared = {e["@id"]: e["sha256"] for e in metadata(path)["distribution"]}
    found = {f"{p.stem.replace('_', '-')}-csv": sha256(p.read_bytes()) for p in path.parent.glob("*.csv")}
    assert declared == found
    assert {p.suffix for p in path.parent.iterdir()} <= {".csv", ".json"}


def open_index(path: Path | str, **options: Any) -> CroissantIndex:
    return CroissantIndex.from_url(str(path), **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """metadata.json of a small project."""
    return make(tmp_path / "project")


@pytest.fixture
def index(path: Path) -> CroissantIndex:
    return open_index(path)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """Every row that gets parsed from here on."""
    seen: list[Row] = []

    def watching(make: Callable[[Sequence[Any]], Row]) -> Callable[[Sequence[Any]], Row]:
        def watched(values: Sequence[Any]) -> Row:
            seen.append(make(values))
            return seen[-1]

        return watched

    for table in DECLARED.values():
        monkeypatch.setitem(vars(table), "make", watching(table.make))
    return seen


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for another process that will not come."""
    monkeypatch.setattr("copick_mlc._snapshot._RETRY_SECONDS", 0)


@pytest.fixture
def memory() -> Iterator[str]:
    """The URL of a directory on storage that is not the local disk."""
    url = f"memory://copick-mlc-{uuid.uuid4().hex}"
    yield url
    fs, where = fsspec.url_to_fs(url)
    if fs.exists(where):
        fs.rm(where, recursive=True)


def upload(project: Path, url: str) -> str:
    """Copy a project to other storage; the URL of its metadata.json."""
    fs, where = fsspec.url_to_fs(url)
    for name, data in tree(project).items():
        fs.pipe_file(f"{where}/{name}", data)
    return f"{url}/Croissant/metadata.json"


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


PICK = PicksRow("TS_1", "alice", "1", "ribo", 10.0, "a.json")
NEW = PicksRow("TS_1", "carol", "1", "ribo", 10.0, "n.json")


# --- opening ---------------------------------------------------------------------------------------------


def test_opening_reads_the_manifest_alone(path: Path) -> None:
    picks = path.parent / "picks.csv"
    data = picks.read_bytes()
    picks.unlink()
    index = open_index(path)
    assert index.count("runs") == 3
    for touch in (lambda: list(index.rows("picks")), lambda: index.find(PICK), lambda: index.put(PICK)):
        with pytest.raises(MissingError) as caught:
            touch()
        assert (caught.value.code, caught.value.path) == ("table-missing", str(picks))
        assert isinstance(caught.value, FileNotFoundError)
    assert not picks.exists(), "what was not read is not written"

    picks.write_bytes(data)
    assert index.count("picks") == 3


def test_a_table_that_is_not_declared_is_empty(index: CroissantIndex, path: Path) -> None:
    assert list(index.rows("meshes")) == []
    assert list(index.rows("meshes", run="TS_1")) == []
    assert (index.groups("meshes"), index.count("meshes")) == ([], 0)
    assert index.find(MeshRow("TS_1", "a", "0", "o")) is None
    assert not (path.parent / "meshes.csv").exists()


def test_a_csv_that_nobody_declared_is_not_replaced(index: CroissantIndex, path: Path) -> None:
    (path.parent / "meshes.csv").write_text("somebody's\n")
    before = tree(path.parent)
    with pytest.raises(FileExistsError, match="declare") as caught:
        index.put(MeshRow("TS_1", "a", "0", "o"))
    assert isinstance(caught.value, CroissantError)
    assert tree(path.parent) == before
    assert list(index.rows("meshes")) == []
    (path.parent / "meshes.csv").unlink()
    index.put(MeshRow("TS_1", "a", "0", "o"))
    assert records(path, "meshes")[0]["user_id"] == "a"


def test_every_deferred_action_is_called_in_order(index: CroissantIndex) -> None:
    called: list[str] = []

    def fail() -> None:
        called.append("first")
        raise OSError("no")

    def work() -> None:
        with index.batch():
            index.put(NEW)
            index.after_commit(fail)
            index.after_commit(lambda: called.append("second"))

    with pytest.raises(OSError, match="no"):
        work()
    assert called == ["first", "second"]
    assert not index.deferred


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(MissingError) as caught:
        open_index(tmp_path / "metadata.json")
    assert (caught.value.code, caught.value.path) == ("manifest-missing", str(tmp_path / "metadata.json"))


def test_another_kind_of_dataset(tmp_path: Path) -> None:
    path = make(tmp_path / "project", {"picks": PICKS})
    with pytest.raises(DataError) as caught:
        open_index(path)
    assert caught.value.code == "not-copick"


@pytest.mark.parametrize("name", ["metadata.json", "picks.csv"])
def test_a_directory_where_a_file_should_be(path: Path, name: str) -> None:
    (path.parent / name).unlink()
    (path.parent / name).mkdir()
    with pytest.raises(StorageError) as caught:
        list(open_index(path).rows("picks"))
    assert caught.value.code == "storage-failed"
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, CroissantError)


@pytest.mark.usefixtures("impatient")
def test_a_csv_that_is_not_the_one_declared(path: Path) -> None:
    picks = path.parent / "picks.csv"
    picks.write_bytes(PICKS.replace(b"good", b"poor"))
    index = open_index(path)
    before = tree(path.parent)
    for touch in (lambda: index.count("picks"), lambda: index.put(NEW), lambda: index.remove(PICK)):
        with pytest.raises(DataError) as caught:
            touch()
        assert (caught.value.code, caught.value.path) == ("table-checksum", str(picks))
        assert sha256(PICKS) in str(caught.value)
    assert index.count("runs") == 3
    assert tree(path.parent) == before

    picks.write_bytes(PICKS)
    assert index.count("picks") == 3


def test_a_csv_without_declared_checksum_is_taken_as_it_is(path: Path) -> None:
    files = metadata(path)["distribution"]
    for entry in files:
        del entry["sha256"]
    change_metadata(path, distribution=files)
    index = open_index(path)
    index.put(NEW)
    assert column(path, "picks", "user_id") == ["alice", "alice", "carol", "bob"]
    assert open_index(path).count("picks") == 4


def test_a_reader_waits_for_a_commit_that_is_half_done(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has replaced the CSV, and the manifest only while we wait."""
    other = path.parent.parent / "other"
    shutil.copytree(path.parent, other)
    open_index(other / "metadata.json").put(NEW)
    (path.parent / "picks.csv").write_bytes((other / "picks.csv").read_bytes())
    index = open_index(path)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            path.write_bytes((other / "metadata.json").read_bytes())

    monkeypatch.setattr("copick_mlc._snapshot.time.sleep", sleep)
    assert index.find(NEW) == NEW
    assert len(waits) == 2


def test_nobody_waits_for_a_damaged_table_that_has_its_sha256(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (path.parent / "picks.csv").read_bytes().replace(b"alice,", b",")
    (path.parent / "picks.csv").write_bytes(data)
    files = metadata(path)["distribution"]
    for entry in files:
        if entry["contentUrl"] == "picks.csv":
            entry["sha256"] = hashlib.sha256(data).hexdigest()
    change_metadata(path, distribution=files)
    waits: list[float] = []
    monkeypatch.setattr("copick_mlc._snapshot.time.sleep", waits.append)
    with pytest.raises(DataError) as caught:
        list(open_index(path).rows("picks"))
    assert (caught.value.code, waits) == ("table-key-empty", [])


def test_what_is_wrong_in_a_csv_names_the_file(tmp_path: Path) -> None:
    path = make(tmp_path / "project", {"runs": b"name\r\na\r\n", "voxel_spacings": b"run,voxel_size\r\na,1\r\nb,x\r\n"})
    index = open_index(path)
    assert list(index.rows("voxel_spacings", run="a")) == [VoxelSpacingRow("a", 1.0)]
    with pytest.raises(DataError) as caught:
        list(index.rows("voxel_spacings"))
    error = caught.value
    expected = ("table-number", str(path.parent / "voxel_spacings.csv"), 3, "voxel_size")
    assert (error.code, error.path, error.line, error.column) == expected
    # What is wrong in one run does not hinder writing another, and stays as it is.
    index.put(VoxelSpacingRow("a", 2))
    assert (path.parent / "voxel_spacings.csv").read_bytes() == b"run,voxel_size\r\na,1\r\na,2.0\r\nb,x\r\n"


@pytest.mark.parametrize("form", ["relative", "home", "file", "local", "dots"])
def test_forms_of_the_location(form: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent.parent)
    monkeypatch.setenv("HOME", str(path.parent))
    location = {
        "relative": "Croissant/metadata.json",
        "home": "~/metadata.json",
        "file": f"file://{path}",
        "local": f"local://{path}",
        "dots": "../project/./Croissant/metadata.json",
    }[form]
    index = open_index(location)
    assert index.url == str(path)
    assert index.base_url == str(path.parent.parent)
    index.put(NEW)
    assert "carol" in column(path, "picks", "user_id")


def test_a_project_within_an_archive(path: Path, tmp_path: Path) -> None:
    archive = tmp_path / "project.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, data in tree(path.parent.parent).items():
            file.writestr(f"p/{name}", data)
        file.writestr("p/a.json", b"{}")
    index = open_index(f"zip://p/Croissant/metadata.json::{archive}")
    assert index.groups("picks") == ["TS_1", "TS_2"]
    fs, where = index.resolve_url("a.json")
    assert fs.cat_file(where) == b"{}"

    before = archive.read_bytes()
    with pytest.raises(ReadOnlyError) as caught:
        index.put(NEW)
    assert caught.value.code == "read-only"
    assert isinstance(caught.value, PermissionError)
    assert index.find(NEW) is None
    assert archive.read_bytes() == before


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"no archive")
    with pytest.raises(StorageError) as caught:
        open_index(f"zip://metadata.json::{tmp_path}/x.zip")
    assert caught.value.code == "storage-failed"


@pytest.mark.parametrize("url", ["nosuch://a/metadata.json", "zip://a::nosuch://b"])
def test_a_location_that_fsspec_does_not_know(url: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_index(url)
    assert (caught.value.code, caught.value.path) == ("storage-failed", url)


def test_a_project_on_other_storage(path: Path, memory: str) -> None:
    url = upload(path.parent.parent, memory)
    index = open_index(url)
    assert index.base_url == memory
    index.put(NEW)
    index.remove(PICK)
    fs, where = fsspec.url_to_fs(memory)
    data = fs.cat_file(f"{where}/Croissant/picks.csv")
    assert data.splitlines()[1:3] == [b"TS_1,alice,2,ribo,1e1,c.json,,bad", b"TS_1,carol,1,ribo,10.0,n.json,,"]
    declared = {
        e["@id"]: e["sha256"] for e in json.loads(fs.cat_file(f"{where}/Croissant/metadata.json"))["distribution"]
    }
    assert declared["picks-csv"] == sha256(data)
    assert open_index(url).find(NEW) == NEW
    assert sorted(os.path.basename(name) for name in fs.ls(f"{where}/Croissant", detail=False)) == [
        "metadata.json",
        "picks.csv",
        "runs.csv",
        "voxel_spacings.csv",
    ]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of a web server on this machine that serves `tmp_path`, and below /<number>/ that error."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def do_GET(self) -> None:
            first = self.path.split("/")[1]
            if first.isdigit():
                self.send_error(int(first))
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()


def test_a_project_on_the_web(path: Path, server: str) -> None:
    index = open_index(f"{server}/project/Croissant/metadata.json")
    assert index.base_url == f"{server}/project"
    assert index.find(PICK) == PICK
    fs, where = index.resolve_url("Croissant/runs.csv")
    assert fs.cat_file(where) == RUNS
    before = tree(path.parent)
    with pytest.raises(ReadOnlyError):
        index.put(NEW)
    assert tree(path.parent) == before


@pytest.mark.parametrize(
    ("status", "code"), [(404, "manifest-missing"), (403, "storage-failed"), (500, "storage-failed")]
)
def test_a_web_server_that_refuses(server: str, status: int, code: str) -> None:
    with pytest.raises(CroissantError) as caught:
        open_index(f"{server}/{status}/Croissant/metadata.json")
    assert caught.value.code == code


# --- rows ------------------------------------------------------------------------------------------------


def test_rows(index: CroissantIndex) -> None:
    assert list(index.rows("runs")) == [RunRow("TS_1", "11", "train"), RunRow("TS_2"), RunRow("007", split="val")]
    assert list(index.rows("runs", run="007")) == [RunRow("007", split="val")]
    assert list(index.rows("voxel_spacings", run="TS_1")) == [
        VoxelSpacingRow("TS_1", 10.0),
        VoxelSpacingRow("TS_1", 20.0),
    ]
    assert list(index.rows("picks", run="TS_2")) == [
        PicksRow("TS_2", "bob", "01", "ribo", url="b.json", portal_annotation_id="777")
    ]
    assert list(index.rows("picks", run="TS_3")) == []
    assert [row.url for row in index.rows_of(PicksRow)] == ["a.json", "c.json", "b.json"]
    assert [row.url for row in index.rows_of(PicksRow, run="TS_1")] == ["a.json", "c.json"]


def test_find_needs_only_the_key(index: CroissantIndex) -> None:
    assert index.find(PicksRow("TS_1", "alice", "1", "ribo")) == PICK
    assert index.find(PicksRow("TS_1", "alice", "01", "ribo")) is None
    assert index.find(PicksRow("TS_2", "bob", "01", "ribo")) is not None
    assert index.find(VoxelSpacingRow("TS_2", 7.8401)) == VoxelSpacingRow("TS_2", 7.84)
    assert index.find(VoxelSpacingRow("TS_2", 7.85)) is None


def test_groups_columns_and_count(index: CroissantIndex) -> None:
    assert index.groups("runs") == ["TS_1", "TS_2", "007"]
    assert index.groups("picks") == ["TS_1", "TS_2"]
    assert index.columns("runs") == ["name", "portal_run_id", "split", "note"]
    assert [index.count(name) for name in ("runs", "voxel_spacings", "picks", "objects")] == [3, 3, 3, 0]
    with index.batch():
        index.put(NEW)
        index.put(MeshRow("TS_9", "a", "0", "o"))
        index.remove(PicksRow("TS_2", "bob", "01", "ribo"))
        assert index.groups("picks") == ["TS_1"]
        assert index.groups("meshes") == ["TS_9"]
        assert (index.count("picks"), index.count("meshes")) == (3, 1)
    assert (index.groups("picks"), index.count("picks")) == (["TS_1"], 3)


@pytest.mark.parametrize("name", ["pick", "copick/picks", ""])
def test_an_unknown_table(index: CroissantIndex, name: str) -> None:
    for touch in (lambda: list(index.rows(name)), lambda: index.groups(name), lambda: index.count(name)):
        with pytest.raises(UsageError) as caught:
            touch()
        assert caught.value.code == "table-unknown"


# --- put and remove --------------------------------------------------------------------------------------


def test_put_appends_to_the_run_and_touches_nothing_else(index: CroissantIndex, path: Path) -> None:
    before = tree(path.parent)
    index.put(NEW)
    lines = PICKS.splitlines(keepends=True)
    expected = [lines[0], lines[1], lines[3], b"TS_1,carol,1,ribo,10.0,n.json,,\r\n", lines[2]]
    assert (path.parent / "picks.csv").read_bytes() == b"".join(expected)
    after = tree(path.parent)
    assert {name for name in before if before[name] != after[name]} == {"picks.csv", "metadata.json"}
    assert metadata(path)["name"] == "tiny"
    check_disk(path)
    assert list(open_index(path).rows("picks", run="TS_1"))[-1] == NEW


def test_put_replaces_a_row_and_keeps_the_spellings_of_what_stays(index: CroissantIndex, path: Path) -> None:
    index.put(PicksRow("TS_1", "alice", "2", "ribo", 10.0, "new.json"))
    assert records(path, "picks")[1] == {
        "run": "TS_1",
        "user_id": "alice",
        "session_id": "2",
        "object_name": "ribo",
        "voxel_size": "1e1",
        "url": "new.json",
        "portal_annotation_id": "",
        "quality": "bad",
    }
    assert column(path, "picks", "voxel_size") == ["10", "1e1", ""]
    assert (path.parent / "picks.csv").read_bytes().endswith(PICKS.splitlines(keepends=True)[2])

    index.put(PicksRow("TS_1", "alice", "2", "ribo", 10.5, "new.json"))
    assert column(path, "picks", "voxel_size") == ["10", "10.5", ""]


def test_a_key_is_found_however_it_is_spelled(index: CroissantIndex, path: Path) -> None:
    index.put(VoxelSpacingRow("TS_1", 20))
    index.put(VoxelSpacingRow("TS_2", 7.8401))
    assert column(path, "voxel_spacings", "voxel_size") == ["10", "2e1", "7.840"]
    index.remove(VoxelSpacingRow("TS_1", 10.0003))
    assert column(path, "voxel_spacings", "voxel_size") == ["2e1", "7.840"]


def test_what_the_row_says_of_the_portal_stays_and_goes_with_the_row(index: CroissantIndex, path: Path) -> None:
    index.set_split("TS_1", "test")
    assert records(path, "runs")[0] == {"name": "TS_1", "portal_run_id": "11", "split": "test", "note": "first, best"}
    index.put(RunRow("TS_1"))
    assert records(path, "runs")[0] == {"name": "TS_1", "portal_run_id": "", "split": "", "note": "first, best"}


def test_the_first_row_of_a_table_declares_it(index: CroissantIndex, path: Path) -> None:
    index.put(SegmentationRow("TS_1", 10, "u", "0", "all", True, "s.zarr"))
    index.put(ObjectRow("ribo", "Objects/ribo.zarr"))
    assert (path.parent / "segmentations.csv").read_bytes() == (
        b"run,voxel_size,user_id,session_id,name,is_multilabel,url,portal_object_name,portal_session_id,"
        b"portal_annotation_id,portal_annotation_file_id\r\nTS_1,10.0,u,0,all,true,s.zarr,,,,\r\n"
    )
    assert (path.parent / "objects.csv").read_bytes() == b"name,url\r\nribo,Objects/ribo.zarr\r\n"
    check_disk(path)
    expected = ["runs", "voxel_spacings", "picks", "segmentations", "objects"]
    assert [entry["@id"] for entry in metadata(path)["recordSet"]] == [f"copick/{name}" for name in expected]

    index.remove(ObjectRow("ribo"))
    assert (path.parent / "objects.csv").read_bytes() == b"name,url\r\n"
    check_disk(path)
    assert [entry["@id"] for entry in metadata(path)["recordSet"]][-1] == "copick/segmentations"
    assert open_index(path).count("objects") == 0


def test_a_column_that_the_csv_lacks_is_added_with_its_field(tmp_path: Path) -> None:
    path = make(tmp_path / "project", {"runs": b"name,x\na,1\nb,2\n"})
    index = open_index(path)
    index.put(RunRow("c"))
    assert (path.parent / "runs.csv").read_bytes() == b"name,x\na,1\nb,2\nc,\r\n"
    fields = [field["@id"] for field in metadata(path)["recordSet"][0]["field"]]
    assert fields == ["copick/runs/name", "copick/runs/x"], "a field needs a column"

    index.set_split("b", "train")
    assert records(path, "runs") == [
        {"name": "a", "x": "1", "split": ""},
        {"name": "b", "x": "2", "split": "train"},
        {"name": "c", "x": "", "split": ""},
    ]
    fields = [field["@id"] for field in metadata(path)["recordSet"][0]["field"]]
    assert fields == ["copick/runs/name", "copick/runs/x", "copick/runs/split"]
    check_disk(path)
    assert list(open_index(path).rows("runs")) == [RunRow("a"), RunRow("b", split="train"), RunRow("c")]


def test_remove(index: CroissantIndex, path: Path) -> None:
    lines = PICKS.splitlines(keepends=True)
    index.remove(PicksRow("TS_1", "alice", "1", "ribo"))
    assert (path.parent / "picks.csv").read_bytes() == lines[0] + lines[3] + lines[2]
    assert index.find(PICK) is None
    check_disk(path)
    assert open_index(path).count("picks") == 2


def test_what_changes_nothing_writes_nothing(index: CroissantIndex, path: Path) -> None:
    stamps = {p: p.stat().st_mtime_ns for p in path.parent.iterdir()}
    index.remove(NEW)
    index.commit()
    with index.batch():
        pass
    index.set_splits({"train": ["TS_1"]})
    index.clear_splits(["TS_2"])
    assert {p: p.stat().st_mtime_ns for p in path.parent.iterdir()} == stamps


@pytest.mark.parametrize(
    "row",
    [
        RunRow("a\0"),
        RunRow("\ud800"),
        RunRow(""),
        RunRow(5),  # type: ignore[arg-type]
        RunRow("a", split="\udfff"),
        VoxelSpacingRow("a", float("nan")),
        VoxelSpacingRow("a", float("inf")),
        VoxelSpacingRow("a", "10"),  # type: ignore[arg-type]
        VoxelSpacingRow("a", None),  # type: ignore[arg-type]
        PicksRow("a", "u", "", "o"),
        PicksRow("a", "u", "0", "o", sha256=b"x"),  # type: ignore[arg-type]
        SegmentationRow("a", 1.0, "u", "0", "n", "true"),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_a_row_that_cannot_be_written_changes_nothing(index: CroissantIndex, path: Path, row: Row) -> None:
    before = tree(path.parent)
    with pytest.raises(UsageError) as caught:
        index.put(row)
    assert caught.value.code == "name-invalid"
    assert isinstance(caught.value, ValueError)
    assert not index.pending
    assert list(index.rows("picks", run="a")) == []
    assert index.groups("runs") == ["TS_1", "TS_2", "007"]
    index.commit()
    assert tree(path.parent) == before


def test_the_same_changes_write_the_same_bytes(tmp_path: Path) -> None:
    results = []
    for name in ("one", "other"):
        path = make(tmp_path / name)
        index = open_index(path)
        with index.batch():
            index.put(NEW)
            index.put(MeshRow("TS_2", "u", "0", "o"))
            index.set_splits({"test": ["TS_2"]})
            index.put_object({"name": "ribo", "label": 1})
        results.append(tree(path.parent))
    assert results[0] == results[1]


NAMES = [
    "007",
    "1e5",
    "NA",
    "true",
    "a b",
    "ü",
    "a,b",
    'x"y',
    "line\nbreak",
    "cr\rlf\r\n",
    " ",
    "'",
    "\ufeff",
    "\u2028",
]


def test_names_are_text_through_many_rounds(path: Path) -> None:
    rows: list[Row] = []
    for number, name in enumerate(NAMES):
        rows += [RunRow(f"{name}{number}", name, name), PicksRow(f"{name}{number}", name, name, name, None, name)]
    with open_index(path).batch() as index:
        for row in rows:
            index.put(row)
    for other in ("first", "second"):
        index = open_index(path)
        assert [index.find(row) for row in rows] == rows
        index.put(PicksRow("TS_1", "x", other, "o"))
        index.put(PicksRow(f"007{0}", "x", other, "o"))
        index.set_split("TS_1", other)
        check_disk(path)
    assert [record for record in records(path, "runs") if record["note"] == ""][2:] == [
        {"name": f"{name}{number}", "portal_run_id": name, "split": name, "note": ""}
        for number, name in enumerate(NAMES)
    ]
    assert set(NAMES) <= set(column(path, "picks", "user_id"))
    assert set(open_index(path).splits()) == {*NAMES, "second", "val"}


# --- splits ----------------------------------------------------------------------------------------------


def declared_splits(path: Path) -> list[str] | None:
    for entry in metadata(path)["recordSet"]:
        if entry["@id"] == "copick/splits":
            return [row["copick/splits/name"] for row in entry["data"]]
    return None


def test_splits(index: CroissantIndex, path: Path) -> None:
    assert index.splits() == {"train": ["TS_1"], "val": ["007"]}
    assert [index.get_split(name) for name in ("TS_1", "TS_2", "007", "7", "none")] == [
        "train",
        None,
        "val",
        None,
        None,
    ]

    index.set_split("TS_2", "train")
    assert column(path, "runs", "split") == ["train", "train", "val"]
    assert declared_splits(path) == ["train", "val"]
    assert index.splits() == {"train": ["TS_1", "TS_2"], "val": ["007"]}

    for nothing in (None, ""):
        index.set_split("TS_2", "x")
        index.set_split("TS_2", nothing)
        assert column(path, "runs", "split") == ["train", "", "val"]
        assert open_index(path).get_split("TS_2") is None


def test_set_splits(index: CroissantIndex, path: Path) -> None:
    index.set_splits({"test": ["TS_2"], "mine": "007"})
    assert column(path, "runs", "split") == ["train", "test", "mine"]
    index.set_splits({"test": iter(["TS_1"]), "val": []}, clear_existing=True)
    assert column(path, "runs", "split") == ["test", "", ""]
    assert declared_splits(path) == ["test"]
    index.set_splits({}, clear_existing=True)
    assert column(path, "runs", "split") == ["", "", ""]
    assert declared_splits(path) is None
    assert column(path, "runs", "note")[0] == "first, best"


def test_clear_splits(index: CroissantIndex, path: Path) -> None:
    index.clear_splits(["007", "TS_2"])
    assert column(path, "runs", "split") == ["train", "", ""]
    index.clear_splits()
    assert column(path, "runs", "split") == ["", "", ""]
    assert index.splits() == {}


def test_a_run_that_does_not_exist(index: CroissantIndex, path: Path) -> None:
    before = tree(path.parent)
    calls: list[Callable[[], object]] = [
        lambda: index.set_split("nope", "train"),
        lambda: index.set_split("7", None),
        lambda: index.set_splits({"test": ["TS_2", "nope"]}),
        lambda: index.set_splits({"test": ["TS_2"], "val": ["nope"]}, clear_existing=True),
        lambda: index.clear_splits(["TS_1", "nope"]),
    ]
    for call in calls:
        with pytest.raises(UnknownRunError) as caught:
            call()
        assert caught.value.code == "run-unknown"
        assert isinstance(caught.value, KeyError)
        assert tree(path.parent) == before
    assert index.get_split("TS_1") == "train"


def test_splits_are_set_all_or_none(index: CroissantIndex, path: Path) -> None:
    before = tree(path.parent)
    wrong: list[tuple[Any, str]] = [
        ({"test": ["TS_2"], "": ["007"]}, "option-invalid"),
        ({"test": ["TS_2"], "val": ["TS_2"]}, "option-invalid"),
        ({"test": ["TS_2"], "\0": ["007"]}, "name-invalid"),
        ({"test": ["TS_2"], 5: ["007"]}, "name-invalid"),
    ]
    for mapping, code in wrong:
        with pytest.raises(UsageError) as caught:
            index.set_splits(mapping)
        assert caught.value.code == code
        assert tree(path.parent) == before
    assert assignments({"a": ["x", "y", "x"], "b": "z"}) == {"x": "a", "y": "a", "z": "b"}


# --- batch -----------------------------------------------------------------------------------------------


def test_a_batch_commits_once_at_its_outermost_end(index: CroissantIndex, path: Path) -> None:
    before = tree(path.parent)
    with index.batch() as same:
        assert same is index
        index.put(NEW)
        with index.batch():
            index.put(MeshRow("TS_1", "u", "0", "o"))
            index.remove(PICK)
        assert tree(path.parent) == before
        assert index.pending
        assert index.find(NEW) == NEW, "pending rows are seen here"
        assert index.find(PICK) is None
        assert open_index(path).find(NEW) is None, "and nowhere else"
    assert not index.pending
    assert column(path, "picks", "user_id") == ["alice", "carol", "bob"]
    assert column(path, "meshes", "user_id") == ["u"]
    check_disk(path)


def test_commit_within_a_batch(index: CroissantIndex, path: Path) -> None:
    with index.batch():
        index.put(NEW)
        index.commit()
        assert "carol" in column(path, "picks", "user_id")
        index.remove(NEW)
    assert "carol" not in column(path, "picks", "user_id")


def test_a_batch_that_raises_commits_what_was_done(index: CroissantIndex, path: Path) -> None:
    def work() -> None:
        with index.batch():
            index.put(NEW)
            with index.batch():
                index.remove(PICK)
                _ = 1 / 0
            index.put(MeshRow("TS_1", "u", "0", "o"))

    with pytest.raises(ZeroDivisionError):
        work()
    assert column(path, "picks", "user_id") == ["alice", "carol", "bob"]
    assert not (path.parent / "meshes.csv").exists()
    assert not index.pending
    index.put(PICK)
    assert column(path, "picks", "user_id") == ["alice", "carol", "alice", "bob"]


def test_an_exception_that_is_caught_within_a_batch(index: CroissantIndex, path: Path) -> None:
    with index.batch():
        with pytest.raises(UsageError):
            index.put(RunRow(""))
        index.put(NEW)
    assert "carol" in column(path, "picks", "user_id")


def test_a_commit_error_does_not_mask_what_the_block_raised(
    index: CroissantIndex, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        with monkeypatch.context() as patch, index.batch():
            index.put(NEW)
            patch.setattr("os.fsync", no_space)
            _ = 1 / 0

    before = tree(path.parent)
    with pytest.raises(ZeroDivisionError) as caught:
        work()
    assert isinstance(caught.value.__cause__, StorageError)
    assert caught.value.__cause__.code == "storage-failed"
    assert tree(path.parent) == before
    assert not index.pending
    index.put(MeshRow("TS_1", "u", "0", "o"))
    assert (path.parent / "picks.csv").read_bytes() == PICKS


# --- commits that fail -----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "os.chmod", "os.open"])
def test_a_commit_that_fails_leaves_all_as_it_was(
    call: str, index: CroissantIndex, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        with monkeypatch.context() as patch, index.batch():
            patch.setattr(call, no_space)
            index.put(NEW)
            index.remove(PICK)
            index.put(MeshRow("TS_1", "u", "0", "o"))
            index.set_split("TS_1", "test")
            index.put_object({"name": "ribo"})

    before = tree(path.parent)
    rows = {name: list(index.rows(name)) for name in ("runs", "voxel_spacings", "picks", "meshes")}
    with pytest.raises(StorageError) as caught:
        work()
    assert caught.value.code == "storage-failed"
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert tree(path.parent) == before, "no stray file either"
    assert {name: list(index.rows(name)) for name in rows} == rows
    assert index.config == {}
    assert not index.pending

    index.put(PicksRow("TS_2", "later", "0", "o"))
    assert column(path, "picks", "user_id") == ["alice", "bob", "later", "alice"]
    assert set(tree(path.parent)) == set(before)
    check_disk(path)


def test_a_commit_that_is_interrupted_leaves_no_file(
    index: CroissantIndex, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    before = tree(path.parent)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            index.put(NEW)
    assert tree(path.parent) == before
    assert index.find(NEW) is None


def test_a_column_that_was_added_for_a_commit_that_failed_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "project", {"runs": b"name\r\na\r\n"})
    index = open_index(path)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", no_space)
        with pytest.raises(StorageError):
            index.set_split("a", "train")
    assert index.columns("runs") == ["name"]
    index.put(RunRow("b"))
    assert (path.parent / "runs.csv").read_bytes() == b"name\r\na\r\nb\r\n"


def test_a_commit_without_a_manifest_fails(index: CroissantIndex, path: Path) -> None:
    index.count("picks")
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(MissingError) as caught:
        index.put(NEW)
    assert caught.value.code == "manifest-missing"
    assert (path.parent / "picks.csv").read_bytes() == PICKS
    assert index.find(NEW) is None
    path.write_bytes(data)
    index.put(NEW)
    check_disk(path)


def test_a_place_that_cannot_be_written(index: CroissantIndex, path: Path) -> None:
    assert index.write_reason() is None
    index.count("picks")
    moved = path.parent.rename(path.parent.parent / "elsewhere")
    assert index.write_reason() is not None
    calls: list[Callable[[], object]] = [
        lambda: index.put(NEW),
        lambda: index.remove(PICK),
        lambda: index.set_split("TS_1", "x"),
        lambda: index.put_object({"name": "o"}),
    ]
    for call in calls:
        with pytest.raises((ReadOnlyError, MissingError)) as caught:
            call()
        assert caught.value.code in ("read-only", "table-missing")
    assert index.find(PICK) == PICK
    assert not path.parent.exists()
    moved.rename(path.parent)
    index.put(NEW)
    check_disk(path)


def test_a_file_keeps_its_mode(index: CroissantIndex, path: Path) -> None:
    for name, mode in (("picks.csv", 0o640), ("metadata.json", 0o604)):
        (path.parent / name).chmod(mode)
    index.put(NEW)
    assert (path.parent / "picks.csv").stat().st_mode & 0o777 == 0o640
    assert path.stat().st_mode & 0o777 == 0o604
    assert "carol" in column(path, "picks", "user_id")


def test_symbolic_links_are_followed(path: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    for name in ("picks.csv", "metadata.json"):
        (path.parent / name).rename(store / name)
        (path.parent / name).symlink_to(store / name)
    index = open_index(path)
    index.put(NEW)
    for name in ("picks.csv", "metadata.json"):
        assert (path.parent / name).readlink() == store / name
    assert b"carol" in (store / "picks.csv").read_bytes()
    assert set(tree(store)) == {"picks.csv", "metadata.json"}
    check_disk(path)
    assert open_index(path).find(NEW) == NEW


# --- several indexes -------------------------------------------------------------------------------------


def test_what_two_indexes_write_both_stays(path: Path) -> None:
    one, other = open_index(path), open_index(path)
    for index in (one, other):
        assert index.count("picks") == 3
    one.put(NEW)
    other.put(PicksRow("TS_1", "dave", "1", "ribo"))
    other.put(MeshRow("TS_1", "dave", "1", "ribo"))
    one.remove(PICK)
    one.put(PicksRow("TS_9", "erin", "1", "ribo"))
    assert column(path, "picks", "user_id") == ["alice", "carol", "dave", "bob", "erin"]
    assert column(path, "meshes", "user_id") == ["dave"]
    check_disk(path)
    assert open_index(path).count("picks") == 5


def test_two_indexes_in_batches(path: Path) -> None:
    one, other = open_index(path), open_index(path)
    with one.batch():
        one.put(NEW)
        one.set_split("TS_2", "train")
        with other.batch():
            other.put(PicksRow("TS_1", "dave", "1", "ribo"))
            other.put(RunRow("TS_9", split="test"))
            other.remove(PICK)
    assert column(path, "picks", "user_id") == ["alice", "dave", "carol", "bob"]
    assert column(path, "runs", "split") == ["train", "train", "val", "test"]
    assert declared_splits(path) == ["train", "val", "test"]
    assert [one.get_split(name) for name in ("TS_2", "TS_9")] == ["train", "test"]
    check_disk(path)


def test_of_two_that_write_one_key_the_last_wins(path: Path) -> None:
    one, other = open_index(path), open_index(path)
    assert one.find(PICK)
    assert other.find(PICK)
    one.put(PicksRow("TS_1", "alice", "1", "ribo", 10.0, "one.json"))
    other.put(PicksRow("TS_1", "alice", "1", "ribo", 10.0, "other.json"))
    assert column(path, "picks", "url")[0] == "other.json"
    assert records(path, "picks")[0]["quality"] == "good"
    one.remove(PICK)
    assert column(path, "picks", "url") == ["c.json", "b.json"]
    other.put(PICK)
    assert column(path, "picks", "url") == ["c.json", "a.json", "b.json"]
    check_disk(path)


def test_what_others_wrote_into_the_manifest_stays(index: CroissantIndex, path: Path) -> None:
    index.count("picks")
    entries = metadata(path)["recordSet"]
    change_metadata(path, creator={"name": "A"}, recordSet=[*entries, {"@id": "extra"}])
    index.put(NEW)
    after = metadata(path)
    assert after["creator"] == {"name": "A"}
    assert {"@id": "extra"} in after["recordSet"]
    assert index.document["creator"] == {"name": "A"}


def test_a_table_that_is_read_later_shows_what_others_wrote(path: Path) -> None:
    one, other = open_index(path), open_index(path)
    assert one.count("runs") == 3
    with other.batch():
        other.put(NEW)
        other.put(RunRow("TS_9"))
        other.put(MeshRow("TS_9", "u", "0", "o"))
    assert one.groups("runs") == ["TS_1", "TS_2", "007"], "what was read stays until something new is read"
    assert one.find(NEW) == NEW
    assert one.groups("runs") == ["TS_1", "TS_2", "007", "TS_9"], "then all is of one state"
    assert one.groups("meshes") == ["TS_9"]


def test_another_one_drops_a_column(path: Path) -> None:
    """copick rewrites a CSV with its own columns; a pending row that needs more of them gets them."""
    index = open_index(path)
    with index.batch():
        index.put(RunRow("TS_1", "12", "test"))
        runs = b"name\r\nTS_1\r\n007\r\n"
        (path.parent / "runs.csv").write_bytes(runs)
        files = metadata(path)["distribution"]
        files[0]["sha256"] = sha256(runs)
        change_metadata(path, distribution=files)
    assert records(path, "runs") == [
        {"name": "TS_1", "portal_run_id": "12", "split": "test"},
        {"name": "007", "portal_run_id": "", "split": ""},
    ]
    check_disk(path)


@pytest.mark.usefixtures("impatient")
def test_the_old_state_stands_and_is_not_written_after_a_commit_that_failed(path: Path, memory: str) -> None:
    """On storage without time stamps the manifest alone says that a table has changed."""
    url = upload(path.parent.parent, memory)
    fs, where = fsspec.url_to_fs(url)
    one, other = open_index(url), open_index(url)
    assert (one.count("picks"), one.count("runs")) == (3, 3)
    other.put(NEW)
    good = json.loads(fs.cat_file(where))
    bad = json.loads(fs.cat_file(where))
    bad["distribution"][0]["sha256"] = "0" * 64
    fs.pipe_file(where, json.dumps(bad).encode())
    with pytest.raises(DataError) as caught:
        one.put(RunRow("TS_9"))
    assert caught.value.code == "table-checksum"
    assert one.find(NEW) is None

    one.put(PicksRow("TS_9", "erin", "1", "ribo"))
    repaired = json.loads(fs.cat_file(where))
    repaired["distribution"][0] = good["distribution"][0]
    fs.pipe_file(where, json.dumps(repaired).encode())
    one.put(RunRow("TS_9"))
    again = open_index(url)
    assert again.groups("runs") == ["TS_1", "TS_2", "007", "TS_9"]
    assert [row.user_id for row in again.rows_of(PicksRow)] == ["alice", "alice", "carol", "bob", "erin"]


def test_what_could_not_be_read_is_read_before_the_next_commit(path: Path, memory: str) -> None:
    url = upload(path.parent.parent, memory)
    fs, where = fsspec.url_to_fs(f"{memory}/Croissant/runs.csv")
    one, other = open_index(url), open_index(url)
    assert one.count("runs") == 3
    other.put(RunRow("TS_8"))
    data = fs.cat_file(where)
    fs.rm(where)
    with pytest.raises(MissingError):
        one.put(RunRow("TS_9"))
    fs.pipe_file(where, data)
    one.put(RunRow("TS_9"))
    assert open_index(url).groups("runs") == ["TS_1", "TS_2", "007", "TS_8", "TS_9"]


@pytest.mark.usefixtures("impatient")
def test_a_csv_that_somebody_edited_meanwhile_is_not_overwritten(index: CroissantIndex, path: Path) -> None:
    assert index.count("picks") == 3
    edited = PICKS.replace(b"good", b"best")
    (path.parent / "picks.csv").write_bytes(edited)
    with pytest.raises(DataError) as caught:
        index.put(NEW)
    assert caught.value.code == "table-checksum"
    assert (path.parent / "picks.csv").read_bytes() == edited
    assert index.find(NEW) is None

    (path.parent / "picks.csv").write_bytes(PICKS)
    index.put(NEW)
    assert column(path, "picks", "quality") == ["good", "bad", "", ""]


def test_many_threads_write_through_one_index(index: CroissantIndex, path: Path) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for session in range(4):
                index.put(PicksRow("TS_1", f"t{number}", str(session), "ribo"))
                assert index.find(PicksRow("TS_1", f"t{number}", str(session), "ribo")) is not None
        except BaseException as error:  # noqa: BLE001  # reported below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(records(path, "picks")) == 3 + 16
    check_disk(path)


# --- reload ----------------------------------------------------------------------------------------------


def test_reload_drops_what_is_pending_and_takes_what_is_new(path: Path) -> None:
    index, other = open_index(path), open_index(path)
    done: list[str] = []
    with index.batch():
        index.put(NEW)
        index.put_object({"name": "dropped"})
        index.after_commit(lambda: done.append("dropped"))
        other.put(RunRow("TS_9"))
        other.remove(PICK)
        change_metadata(path, **{"copick:baseUrl": "s3://bucket/new", "copick:config": {"name": "new"}})
        index.reload()
        assert not index.pending
    assert index.base_url == "s3://bucket/new"
    assert index.config == {"name": "new"}
    assert index.find(NEW) is None
    assert index.find(PICK) is None
    assert index.groups("runs") == ["TS_1", "TS_2", "007", "TS_9"]
    index.put(MeshRow("TS_1", "u", "0", "o"))
    assert done == []
    assert column(path, "picks", "user_id") == ["alice", "bob"]


def test_reload_with_an_override_keeps_it(path: Path) -> None:
    index = open_index(path, base_url_override="s3://mine")
    change_metadata(path, **{"copick:baseUrl": "s3://new"})
    index.reload()
    assert index.base_url == "s3://mine"


def test_reload_drops_a_column_that_was_added_for_pending_rows(tmp_path: Path) -> None:
    path = make(tmp_path / "project", {"runs": b"name\r\na\r\n"})
    index = open_index(path)
    with index.batch():
        index.set_split("a", "train")
        index.reload()
    assert index.columns("runs") == ["name"]


def damage_manifest(path: Path) -> None:
    path.write_bytes(b"{")


def remove_manifest(path: Path) -> None:
    path.unlink()


def damage_table(path: Path) -> None:
    (path.parent / "picks.csv").write_bytes(b"changed")


def remove_table(path: Path) -> None:
    (path.parent / "picks.csv").unlink()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (damage_manifest, "manifest-invalid"),
        (remove_manifest, "manifest-missing"),
        (damage_table, "table-checksum"),
        (remove_table, "table-missing"),
    ],
)
def test_a_reload_that_fails_leaves_all_as_it_was(path: Path, damage: Callable[[Path], None], code: str) -> None:
    index, other = open_index(path), open_index(path)
    assert (index.count("picks"), index.count("runs")) == (3, 3)
    before = tree(path.parent)
    with index.batch():
        index.put(NEW)
        other.put(RunRow("TS_9"))
        change_metadata(path, **{"copick:baseUrl": "s3://new"})
        after = tree(path.parent)
        damage(path)
        with pytest.raises(CroissantError) as caught:
            index.reload()
        assert caught.value.code == code
        assert index.pending
        assert index.find(NEW) == NEW
        assert index.groups("runs") == ["TS_1", "TS_2", "007"]
        assert index.base_url == str(path.parent.parent)
        for name, data in after.items():
            (path.parent / name).write_bytes(data)
    assert "carol" in column(path, "picks", "user_id")
    assert column(path, "runs", "name") == ["TS_1", "TS_2", "007", "TS_9"]
    assert set(tree(path.parent)) == set(before)


def test_reload_reads_no_file_that_nobody_asked_for(path: Path) -> None:
    index = open_index(path)
    index.count("runs")
    (path.parent / "picks.csv").unlink()
    index.reload()
    assert index.count("runs") == 3


# --- after the commit ------------------------------------------------------------------------------------


def test_actions_after_the_commit(index: CroissantIndex, path: Path) -> None:
    seen: list[bool] = []

    def look() -> None:
        seen.append("carol" in column(path, "picks", "user_id"))

    index.after_commit(look)
    assert seen == [False], "nothing is pending: now"
    with index.batch():
        index.put(NEW)
        index.after_commit(look)
        assert seen == [False]
    assert seen == [False, True]
    index.remove(NEW)
    assert seen == [False, True], "once"


def test_actions_of_a_commit_that_failed_are_dropped(index: CroissantIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        with monkeypatch.context() as patch, index.batch():
            patch.setattr("os.fsync", no_space)
            index.put(NEW)
            index.after_commit(lambda: seen.append(1))

    seen: list[int] = []
    with pytest.raises(StorageError):
        work()
    index.put(NEW)
    assert seen == []


# --- config ----------------------------------------------------------------------------------------------


def test_put_object(path: Path) -> None:
    config = {"name": "tiny", "pickable_objects": [{"name": "ribo", "label": 1}, {"name": "mem", "label": 2}]}
    change_metadata(path, **{"copick:config": json.dumps(config)})
    index, other = open_index(path), open_index(path)
    with index.batch():
        index.put_object({"name": "virus", "label": 3})
        assert [item["name"] for item in index.config["pickable_objects"]] == ["ribo", "mem", "virus"]
        assert metadata(path)["copick:config"] == json.dumps(config)
        other.put_object({"name": "mem", "label": 7})
    expected = [{"name": "ribo", "label": 1}, {"name": "mem", "label": 7}, {"name": "virus", "label": 3}]
    assert metadata(path)["copick:config"] == {"name": "tiny", "pickable_objects": expected}
    assert index.config["pickable_objects"] == expected
    assert (path.parent / "picks.csv").read_bytes() == PICKS


# --- URLs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("s3://bucket/p/", "s3://bucket/p"),
        ({"@id": "https://host/p"}, "https://host/p"),
        ({"@value": "file:///data/p"}, "/data/p"),
        ("/data/p/", "/data/p"),
    ],
)
def test_the_base_url_that_is_declared(path: Path, declared: Any, expected: str) -> None:
    change_metadata(path, **{"copick:baseUrl": declared})
    assert open_index(path).base_url == expected
    assert open_index(path, base_url_override="file:///other/").base_url == "/other"
    assert open_index(path).absolute_url("a/b") == f"{expected}/a/b"


def test_resolve_url_on_the_local_disk(index: CroissantIndex, path: Path) -> None:
    base = path.parent.parent
    (base / "a.json").write_bytes(b"content")
    for url in ("a.json", "x/../a.json", "./a.json", str(base / "a.json"), f"file://{base}/a.json"):
        fs, where = index.resolve_url(url)
        assert isinstance(fs, LocalFileSystem)
        if "x/" not in url:
            assert fs.cat_file(where) == b"content"
    assert index.resolve_url("a/b.json")[1] == str(base / "a/b.json")
    assert index.resolve_url("/elsewhere/b.json")[1] == "/elsewhere/b.json"


@pytest.mark.parametrize("url", ["..", "../secret", "a/../../secret", "./../secret"])
def test_a_url_that_climbs_out(index: CroissantIndex, url: str) -> None:
    for resolve in (index.resolve_url, index.absolute_url):
        with pytest.raises(DataError) as caught:
            resolve(url)
        assert caught.value.code == "url-outside"


def test_options_for_the_data(path: Path) -> None:
    index = open_index(path, static_fs_args={"auto_mkdir": True})
    assert index.resolve_url("a")[0].auto_mkdir is True
    assert index.resolve_url("/a")[0].auto_mkdir is True
    assert index.resolve_url("a", auto_mkdir=False)[0].auto_mkdir is False
    assert index.resolve_url("/a", auto_mkdir=False)[0].auto_mkdir is False
    assert open_index(path).resolve_url("a")[0].auto_mkdir is False


def test_resolve_url_on_other_storage(path: Path, memory: str) -> None:
    index = open_index(path, base_url_override=memory)
    fs, where = index.resolve_url("a/b")
    fs.pipe_file(where, b"content")
    assert fsspec.open(f"{memory}/a/b").open().read() == b"content"
    fs, where = index.resolve_url(f"{memory}/a/b")
    assert fs.cat_file(where) == b"content"


@pytest.mark.parametrize("base", [None, "/tmp", "file:///tmp", "memory://elsewhere"])
def test_a_remote_manifest_does_not_lead_to_the_local_disk(path: Path, memory: str, base: str | None) -> None:
    if base:
        change_metadata(path, **{"copick:baseUrl": base})
    index = open_index(upload(path.parent.parent, memory))
    urls = [
        "/etc/hosts",
        "file:///etc/hosts",
        "local:///x",
        "zip://x::/x.zip",
        "zip://x::x.zip",
        "simplecache::file:///x",
    ]
    if base and not base.startswith("memory"):
        urls.append("a.json")
    else:
        assert index.resolve_url("a.json")[1].endswith("/a.json")
    for url in urls:
        for resolve in (index.resolve_url, index.absolute_url):
            with pytest.raises(DataError) as caught:
                resolve(url)
            assert caught.value.code == "url-local"
    assert open_index(path).resolve_url("/etc/hosts")[1] == "/etc/hosts", "a local manifest may"


def test_a_local_base_that_the_user_gave_for_a_remote_manifest(path: Path, memory: str) -> None:
    index = open_index(upload(path.parent.parent, memory), base_url_override=str(path.parent))
    fs, where = index.resolve_url("picks.csv")
    assert fs.cat_file(where) == PICKS
    with pytest.raises(DataError) as caught:
        index.resolve_url("/etc/hosts")
    assert caught.value.code == "url-local"


# --- pickling --------------------------------------------------------------------------------------------


def test_an_index_pickles(path: Path) -> None:
    index = open_index(path, base_url_override="/data", static_fs_args={"auto_mkdir": True})
    with index.batch():
        index.put(NEW)
        copy = pickle.loads(pickle.dumps(index))
        assert copy.find(NEW) is None, "pending changes stay where they are"
    assert (copy.url, copy.base_url, copy.static_fs_args) == (index.url, "/data", {"auto_mkdir": True})
    copy.put(PicksRow("TS_1", "dave", "1", "ribo"))
    assert column(path, "picks", "user_id") == ["alice", "alice", "carol", "dave", "bob"]
    assert pickle.loads(pickle.dumps(index)).find(PICK) == PICK


# --- how much is parsed ----------------------------------------------------------------------------------


def big(directory: Path, runs: int = 200) -> Path:
    """Three picks in each run."""
    names = [f"run{number:03}" for number in range(runs)]
    return make(
        directory,
        {
            "runs": b"name,split\r\n" + b"".join(f"{name},\r\n".encode() for name in names),
            "picks": b"run,user_id,session_id,object_name,url\r\n"
            + b"".join(f"{name},u,{session},o,x\r\n".encode() for name in names for session in range(3)),
        },
    )


def test_one_run_is_parsed_alone(tmp_path: Path, parsed: list[Row]) -> None:
    index = open_index(big(tmp_path / "big"))
    assert (index.count("picks"), len(index.groups("picks"))) == (600, 200)
    assert parsed == [], "neither to count nor to list the runs"
    expected = [("run007", "u", str(session), "o") for session in range(3)]
    assert len(list(index.rows("picks", run="run007"))) == 3
    assert [row.key for row in parsed] == expected
    assert index.find(PicksRow("run007", "u", "1", "o")) is not None
    assert list(index.rows("picks", run="none")) == []
    assert [row.key for row in parsed] == expected, "nor twice"
    list(index.rows("picks"))
    assert len(parsed) == 600


def test_writing_parses_what_it_touches(tmp_path: Path, parsed: list[Row]) -> None:
    path = big(tmp_path / "big")
    index = open_index(path)
    with index.batch():
        for number in range(100):
            index.put(PicksRow("run007", "new", str(number), "o"))
    assert len(parsed) <= 3 + 100  # the rows that were there, and each new one, read back
    assert len(records(path, "picks")) == 700

    parsed.clear()
    with index.batch():
        for number in range(100):
            index.put(PicksRow(f"run{number:03}", "u", "0", "o", url="y"))
    assert len(parsed) <= 4 * 100 + 100
    assert column(path, "picks", "url").count("y") == 100

    parsed.clear()
    other = open_index(path)
    other.put(PicksRow("run008", "new", "0", "o"))
    index.put(PicksRow("run009", "new", "0", "o"))
    assert len(parsed) <= 2 * (4 + 1), "also on what another index wrote meanwhile"


def test_setting_all_splits_is_linear(tmp_path: Path, parsed: list[Row]) -> None:
    path = big(tmp_path / "big")
    index = open_index(path)
    index.set_splits({"train": index.groups("runs")})
    assert len(parsed) <= 3 * 200
    assert column(path, "runs", "split") == ["train"] * 200


# --- against a model -------------------------------------------------------------------------------------

_KEYS = st.builds(
    MeshRow, st.sampled_from(["a", "b", 'q"', "x,y"]), st.sampled_from("uv"), st.sampled_from(["0", "00"]), st.just("o")
)


class TwoIndexes(RuleBasedStateMachine):
    """Two indexes write in turn; the disk is what a dictionary of what was committed would be."""

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.path = make(Path(self.directory.name) / "project", {"runs": b"name\r\na\r\n"})
        self.index, self.other = open_index(self.path), open_index(self.path)
        self.batch: Any = None
        self.committed: dict[tuple[str, ...], str] = {}
        self.pending: dict[tuple[str, ...], str | None] = {}

    @rule(mesh=_KEYS, url=st.sampled_from([None, "x", "a,b", 'y"', "l\r\nf", "\r"]))
    def put(self, mesh: MeshRow, url: str | None) -> None:
        self.index.put(dataclasses.replace(mesh, url=url))
        self.change(mesh, url or "")

    @rule(mesh=_KEYS)
    def remove(self, mesh: MeshRow) -> None:
        seen = self.index.find(mesh)
        self.index.remove(mesh)
        assert self.index.find(mesh) is None
        if seen is not None:  # a row that only the other one has is not this one's to remove
            self.change(mesh, None)

    def change(self, mesh: MeshRow, url: str | None) -> None:
        self.pending[mesh.run, mesh.user_id, mesh.session_id] = url
        self.settle()

    def settle(self) -> None:
        if self.batch is None:
            both = {**self.committed, **self.pending}
            self.committed = {key: url for key, url in both.items() if url is not None}
            self.pending = {}

    @precondition(lambda self: self.batch is None)
    @rule()
    def enter(self) -> None:
        self.batch = self.index.batch()
        self.batch.__enter__()

    @precondition(lambda self: self.batch is not None)
    @rule()
    def leave(self) -> None:
        self.batch.__exit__(None, None, None)
        self.batch = None
        self.settle()

    @precondition(lambda self: self.batch is None)
    @rule()
    def switch(self) -> None:
        self.index, self.other = self.other, self.index

    @precondition(lambda self: self.batch is None)
    @rule()
    def reopen(self) -> None:
        self.index = open_index(self.path)

    @rule()
    def reload(self) -> None:
        self.index.reload()
        self.pending = {}
        rows = self.index.rows_of(MeshRow)
        assert {(row.run, row.user_id, row.session_id): row.url or "" for row in rows} == self.committed

    @invariant()
    def the_disk_is_what_was_committed(self) -> None:
        check_disk(self.path)
        found = records(self.path, "meshes") if (self.path.parent / "meshes.csv").exists() else []
        assert {(r["run"], r["user_id"], r["session_id"]): r["url"] for r in found} == self.committed
        assert len(found) == len(self.committed)

    def teardown(self) -> None:
        self.directory.cleanup()


TestTwoIndexes = TwoIndexes.TestCase
TestTwoIndexes.settings = settings(deadline=None, max_examples=30, stateful_step_count=15)
