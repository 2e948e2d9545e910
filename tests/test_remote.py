"""Projects on S3 in Mode A: requests, commits, races and what is left of killed writers. SPEC.md: [COM], [BAT]."""

from __future__ import annotations

import datetime
import hashlib
import json
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from copick_mlc import (
    CopickPicksMLC,
    CopickRootMLC,
    CopickRunMLC,
    CopickVoxelSpacingMLC,
    CroissantIndex,
    from_croissant,
)
from copick_mlc._manifest import Manifest
from copick_mlc._repair import repair
from copick_mlc._tables import TABLES
from copick_mlc._verify import verify
from copick_mlc.errors import CroissantWarning, DataError, LockedError, StorageError
from copick_mlc.index import RunRow
from tests.conftest import Bucket
from tests.projects import inventory, tree
from tests.proxy import Fault, Proxy, Request, steps
from tests.servers import S3Objects

pytestmark = pytest.mark.usefixtures("unplaced")

POINTS = np.arange(12, dtype=float).reshape(4, 3)
# Longer than it takes to send requests at the same time, however busy the machine is.
PATIENCE = 60.0


class Remote:
    """A project on S3.

    Attributes:
        base: Its URL.
        url: Of its metadata.json.
        proxy: What lies before the server.
    """

    def __init__(self, bucket: Bucket, project: Path) -> None:
        self.proxy = bucket.proxy
        self.base = f"{bucket.url}/project"
        self.url = f"{self.base}/Croissant/metadata.json"
        self._objects = S3Objects(bucket.url)
        for path, data in tree(project).items():
            self.put(path, data)

    def open(self) -> CopickRootMLC:
        return from_croissant(self.url)

    def objects(self) -> dict[str, bytes]:
        """The bytes of all objects, by path in the project."""
        return {path.removeprefix("project/"): data for path, data in self._objects.all().items()}

    def object(self, path: str) -> Any:
        """An object as moto has it."""
        return self._objects.object(f"project/{path}")

    def put(self, path: str, data: bytes) -> None:
        self._objects.put(f"project/{path}", data)

    def remove(self, path: str) -> None:
        self._objects.remove(f"project/{path}")

    def check(self, *, strays: tuple[str, ...] = ()) -> None:
        """The tables have the checksums that the manifest says, and nothing is beside them but `strays`."""
        objects = self.objects()
        manifest = Manifest(objects["Croissant/metadata.json"], self.url)
        names = {"metadata.json"}
        for table in TABLES.values():
            if manifest.declares(table):
                names.add(table.file_name)
                found = hashlib.sha256(objects[f"Croissant/{table.file_name}"]).hexdigest()
                assert found == manifest.sha256(table), table.name
        beside = {path.removeprefix("Croissant/") for path in objects if path.startswith("Croissant/")}
        assert beside == names | set(strays)

    def restore(self, objects: dict[str, bytes]) -> None:
        """Have these objects, and no others."""
        for path in self.objects().keys() - objects.keys():
            self.remove(path)
        for path, data in objects.items():
            self.put(path, data)

    def staged(self) -> list[str]:
        return [path for path in self.objects() if path.endswith(".pending")]


@pytest.fixture
def remote(s3_proxy: Bucket, project: Path) -> Remote:
    return Remote(s3_proxy, project)


def run_of(root: CopickRootMLC) -> CopickRunMLC:
    run = root.get_run("TS_001")
    assert run is not None
    return run


def spacing_of(root: CopickRootMLC) -> CopickVoxelSpacingMLC:
    spacing = run_of(root).get_voxel_spacing(10.0)
    assert spacing is not None
    return spacing


def new_picks(root: CopickRootMLC, session: str) -> CopickPicksMLC:
    picks: CopickPicksMLC = run_of(root).new_picks("ribosome", session, user_id="me")
    return picks


def sessions(root: CopickRootMLC) -> set[str]:
    """The sessions of picks that were made here."""
    return {picks.session_id for picks in run_of(root).get_picks(user_id="me")}


def together(number: int) -> Callable[[Request], None]:
    """Has each request wait for the others, so that they only go on if they are all sent at the same time."""
    barrier = threading.Barrier(number, timeout=PATIENCE)

    def wait(request: Request) -> None:
        barrier.wait()

    return wait


def is_table(request: Request) -> bool:
    return request.method == "GET" and request.path.endswith(".csv")


def counted(requests: list[Request]) -> list[str]:
    return sorted(f"{request.method} {request.path.rpartition('/')[2].partition('.csv.')[0]}" for request in requests)


# --- requests --------------------------------------------------------------------------------------------


def test_opening_is_one_request(remote: Remote) -> None:
    with remote.proxy.counting() as seen:
        remote.open()
    assert counted(seen) == ["GET metadata.json"]


def test_all_tables_are_two_steps(remote: Remote) -> None:
    """The first that is asked for alone, and then all others at the same time."""
    root = remote.open()
    assert root.index.groups("runs")
    remote.proxy.fault(is_table, together(9), times=9)
    with remote.proxy.counting() as seen:
        inventory(root, data=False)
    assert sum(is_table(request) for request in seen) == 9


def test_the_second_table_alone_that_cannot_be_read_is_said_when_it_is_asked_for(remote: Remote) -> None:
    remote.put("Croissant/meshes.csv", b"not what it was")
    root = remote.open()
    run = run_of(root)
    assert run.picks
    with pytest.raises(ValueError, match=r"meshes\.csv"):
        _ = run.meshes


def test_what_is_unchanged_is_not_read_again(remote: Remote) -> None:
    root = remote.open()
    before = inventory(root, data=False)
    with remote.proxy.counting() as seen:
        root.refresh()
    assert counted(seen) == ["GET metadata.json"]
    assert inventory(root, data=False) == before


def test_a_table_that_changed_is_read_again(remote: Remote) -> None:
    root, other = remote.open(), remote.open()
    inventory(root, data=False)
    new_picks(other, "others")
    with remote.proxy.counting() as seen:
        root.refresh()
    assert counted(seen) == ["GET metadata.json", "GET picks.csv"]
    assert sessions(root) == {"others"}


STORE = [
    "DELETE picks",
    "GET metadata.json",
    "PUT me_1_ribosome.json",
    "PUT metadata.json",
    "PUT picks",
    "PUT picks.csv",
]


def test_a_store_is_six_requests_in_four_steps(remote: Remote) -> None:
    """What can go at the same time goes: the manifest is read, and the table staged, while the data is written."""
    root = remote.open()
    assert sessions(root) == set()
    first = ("metadata.json", "me_1_ribosome.json", ".pending")
    remote.proxy.fault(lambda request: request.path.endswith(first), together(3), times=3)
    with remote.proxy.counting() as seen:
        new_picks(root, "1")
    assert counted(seen) == STORE
    order = [f"{request.method} {request.path.rpartition('/')[2]}" for request in seen[3:]]
    assert order[:2] == ["PUT metadata.json", "PUT picks.csv"]
    assert order[2].startswith("DELETE picks.csv.")
    assert steps(seen) <= 4
    remote.check()


def test_data_is_replaced_once_the_commit_is_prepared(remote: Remote) -> None:
    """A step more: where the commit is refused, the old data must still be there."""
    picks = new_picks(remote.open(), "1")
    remote.proxy.fault(lambda request: request.path.endswith(("metadata.json", ".pending")), together(2), times=2)
    with remote.proxy.counting() as seen:
        picks.from_numpy(POINTS)
    assert counted(seen) == STORE
    assert seen[2].path.endswith("/me_1_ribosome.json")
    assert steps(seen) <= 5
    remote.check()


@pytest.mark.parametrize(
    ("change", "requests"),
    [
        (lambda root: new_picks(root, "1"), 6),
        (lambda root: setattr(run_of(root), "split", "test"), 5),
        (lambda root: root.new_run("new"), 5),
        (lambda root: run_of(root).new_segmentation(10.0, "membrane", "1", user_id="me"), 6),
        (lambda root: spacing_of(root).new_tomogram("new"), 6),
        (lambda root: run_of(root).picks[0].delete(), 7),
        (lambda root: run_of(root).picks[0].from_numpy(POINTS), 6),
    ],
    ids=["new picks", "split", "run", "segmentation", "tomogram", "deleted picks", "picks again"],
)
def test_requests_of_a_change(remote: Remote, change: Callable[[CopickRootMLC], object], requests: int) -> None:
    root = remote.open()
    inventory(root, data=False)
    with remote.proxy.counting() as seen:
        change(root)
    assert len(seen) == requests, [str(request) for request in seen]
    remote.check()


def test_reading_a_file_is_one_request(remote: Remote) -> None:
    picks = run_of(remote.open()).picks[0]
    with remote.proxy.counting() as seen:
        assert picks.points
    assert [request.method for request in seen] == ["GET"]


def test_reading_a_volume_is_its_metadata_and_then_its_chunks(remote: Remote) -> None:
    spacing = spacing_of(remote.open())
    tomogram = spacing.get_tomograms("wbp")[0]
    remote.proxy.fault(lambda request: request.path.endswith((".zgroup", ".zarray")), together(2), times=2)
    with remote.proxy.counting() as seen:
        assert tomogram.numpy().shape == (48, 64, 64)
    assert counted(seen) == ["GET .zarray", "GET .zgroup", "GET 0"]


def test_writing_a_volume_is_all_at_once(remote: Remote) -> None:
    spacing = spacing_of(remote.open())
    tomogram = spacing.new_tomogram("new")
    data = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    with remote.proxy.counting() as seen:
        tomogram.from_numpy(data)
    assert [request.method for request in seen if request.method != "PUT"] == ["GET"]  # what is there
    assert steps(request for request in seen if request.method == "GET") == 1
    spacing = spacing_of(remote.open())
    assert (spacing.get_tomograms("new")[0].numpy() == data).all()


def test_a_volume_takes_the_whole_place_of_another(remote: Remote) -> None:
    spacing = spacing_of(remote.open())
    spacing.get_tomograms("wbp")[0].from_numpy(np.ones((2, 2, 2), np.float32))
    prefix = "ExperimentRuns/TS_001/VoxelSpacing10.000/wbp.zarr/"
    found = {path.removeprefix(prefix) for path in remote.objects() if path.startswith(prefix)}
    levels = {f"{level}/{name}" for level in range(3) for name in (".zarray", "0/0/0")}
    assert found == {".zgroup", ".zattrs", *levels}


def test_a_volume_that_cannot_be_made_leaves_the_old_one(remote: Remote) -> None:
    spacing = spacing_of(remote.open())
    before = remote.objects()
    with pytest.raises(ValueError, match="convert"):
        spacing.get_tomograms("wbp")[0].from_numpy(np.array(["no", "number"]))
    assert remote.objects() == before


def test_a_batch_is_one_commit(remote: Remote) -> None:
    root = remote.open()
    with remote.proxy.counting() as seen, root.batch():
        for number in range(3):
            new_picks(root, str(number))
        run_of(root).split = "test"
    assert sum(request.method == "PUT" and request.path.endswith("/metadata.json") for request in seen) == 1
    assert sessions(remote.open()) == {"0", "1", "2"}
    remote.check()


# --- the whole life of a project -------------------------------------------------------------------------


def test_the_same_changes_make_the_same_project_as_on_the_local_disk(remote: Remote, project: Path) -> None:
    def change(root: CopickRootMLC) -> None:
        run = run_of(root)
        new_picks(root, "1").from_numpy(POINTS)
        run.picks[0].delete()
        run.split = "test"
        run.new_segmentation(10.0, "membrane", "2", user_id="me").from_numpy(np.ones((2, 2, 2), np.uint8))
        run.delete_meshes()
        root.new_object("new", True, label=77)
        root.delete_run("TS_002")
        with root.batch():
            made = root.new_run("new")
            made.new_voxel_spacing(5.0).new_tomogram("raw").from_numpy(np.zeros((2, 2, 2), np.float32))
            new_picks(root, "2")

    change(remote.open())
    change(from_croissant(project / "Croissant" / "metadata.json"))
    found = remote.objects()
    wanted = {path: data for path, data in tree(project).items() if path != "copick_config.json"}
    assert {path for path in found if path != "copick_config.json"} == set(wanted)
    # blosc leaves some bytes of tiny chunks as they are in memory; the inventories have what the chunks hold.
    assert [path for path, data in wanted.items() if found[path] != data and not path.endswith("/0/0/0")] == []
    assert inventory(remote.open()) == inventory(from_croissant(project / "Croissant" / "metadata.json"))


# --- others who write ------------------------------------------------------------------------------------


def test_rows_of_others_stay(remote: Remote) -> None:
    root, other = remote.open(), remote.open()
    assert sessions(root) == sessions(other) == set()
    new_picks(root, "1")
    new_picks(other, "2")
    assert sessions(remote.open()) == {"1", "2"}
    remote.check()


def once(fault: Callable[[Request], bool], action: Callable[[], object], proxy: Proxy) -> Fault:
    """Do something when a request comes, before it is forwarded."""
    return proxy.fault(fault, lambda request: action(), times=1)


def is_put(name: str) -> Callable[[Request], bool]:
    return lambda request: request.method == "PUT" and request.path.endswith(f"/{name}")


@pytest.mark.parametrize("name", ["metadata.json", "picks.csv"])
def test_a_commit_between_two_requests_of_another_is_kept(remote: Remote, name: str) -> None:
    """Others commit after we have read the manifest, and before we put ours; or before our table is in its place."""
    root, other = remote.open(), remote.open()
    assert sessions(other) == set()
    rule = once(is_put(name), lambda: new_picks(other, "2"), remote.proxy)
    new_picks(root, "1")
    assert rule.hits == 1
    assert sessions(remote.open()) == {"1", "2"}
    remote.check()


def test_a_table_that_comes_late_replaces_no_newer_one(remote: Remote) -> None:
    """Its writer was stopped for long. Meanwhile others have read what it staged, and written on."""
    root, other = remote.open(), remote.open()
    assert sessions(other) == set()

    def meanwhile() -> None:
        new_picks(other, "2")
        new_picks(other, "3").delete()
        remote.check(strays=tuple(path.removeprefix("Croissant/") for path in remote.staged()))

    rule = once(is_put("picks.csv"), meanwhile, remote.proxy)
    new_picks(root, "1")
    assert rule.hits == 1
    assert sessions(remote.open()) == {"1", "2"}
    remote.check()


def test_two_that_change_other_tables(remote: Remote) -> None:
    root, other = remote.open(), remote.open()
    rule = once(is_put("metadata.json"), lambda: other.new_run("new"), remote.proxy)
    new_picks(root, "1")
    assert rule.hits == 1
    again = remote.open()
    assert again.get_run("new") is not None
    assert sessions(again) == {"1"}
    remote.check()


def test_many_writers_lose_nothing(remote: Remote) -> None:
    def write(writer: int) -> None:
        root = remote.open()
        for number in range(4):
            new_picks(root, f"{writer}-{number}")

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(write, range(4)))
    assert sessions(remote.open()) == {f"{writer}-{number}" for writer in range(4) for number in range(4)}
    remote.check()


def test_readers_meet_no_half_a_commit(remote: Remote) -> None:
    done = threading.Event()

    def read() -> int:
        count = 0
        while not done.is_set():
            sessions(remote.open())
            count += 1
        return count

    with ThreadPoolExecutor(2) as executor:
        readers = [executor.submit(read) for _ in range(2)]
        root = remote.open()
        try:
            for number in range(6):
                new_picks(root, str(number))
        finally:
            done.set()
        assert all(reader.result() for reader in readers)


def test_who_always_finds_another_commit_is_told(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("copick_mlc._lock.WAIT_SECONDS", 0.0)
    root = remote.open()
    assert sessions(root) == set()
    before = remote.objects()
    remote.proxy.fault(is_put("metadata.json"), 412)
    with pytest.raises(LockedError, match="others commit"):
        new_picks(root, "1")
    remote.proxy.heal()
    assert remote.objects() == before
    assert sessions(root) == set()
    new_picks(root, "1")
    assert sessions(remote.open()) == {"1"}


# --- answers that are lost, and requests that fail -------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
def test_a_manifest_that_was_put_and_whose_answer_is_lost(remote: Remote, times: int) -> None:
    """fsspec tries again, and is told that it is another one by now: ours."""
    root = remote.open()
    rule = remote.proxy.fault(is_put("metadata.json"), "drop-response", times=times)
    new_picks(root, "1")
    assert rule.hits == times
    assert sessions(root) == sessions(remote.open()) == {"1"}
    remote.check()
    new_picks(root, "2")
    assert sessions(remote.open()) == {"1", "2"}


@pytest.mark.parametrize("name", ["me_1_ribosome.json", "metadata.json"])
def test_what_cannot_be_put_leaves_all_as_it_was(remote: Remote, name: str) -> None:
    root = remote.open()
    assert sessions(root) == set()
    before = remote.objects()
    rule = remote.proxy.fault(is_put(name), 403)
    with pytest.raises(StorageError) as caught:
        new_picks(root, "1")
    assert caught.value.code == "storage-failed"
    assert rule.hits
    remote.proxy.heal()
    assert remote.objects() == before
    assert sessions(root) == set()
    new_picks(root, "1")
    assert sessions(remote.open()) == {"1"}


def test_who_may_not_write_the_tables_does_not_lose_the_data(remote: Remote) -> None:
    picks = run_of(remote.open()).picks[0]
    before = remote.objects()
    rule = remote.proxy.fault(lambda request: request.method == "PUT" and request.path.endswith(".pending"), 403)
    with pytest.raises(StorageError):
        picks.from_numpy(POINTS)
    assert rule.hits
    assert remote.objects() == before


def test_a_table_that_cannot_be_put_in_its_place_is_read_staged(remote: Remote) -> None:
    root = remote.open()
    rule = remote.proxy.fault(is_put("picks.csv"), 403)
    with pytest.warns(CroissantWarning, match=f"^{remote.url}: the commit is made"):
        new_picks(root, "1")
    assert rule.hits
    remote.proxy.heal()
    (staged,) = remote.staged()
    assert sessions(root) == sessions(remote.open()) == {"1"}
    run_of(root).split = "test"  # another table, by whoever has read this one
    remote.check()
    assert staged not in remote.objects()


def test_the_next_who_has_read_a_staged_table_puts_it_in_its_place(remote: Remote) -> None:
    remote.proxy.fault(is_put("picks.csv"), 403)
    with pytest.warns(CroissantWarning, match="the commit is made"):
        new_picks(remote.open(), "1")
    remote.proxy.heal()
    root = remote.open()
    assert sessions(root) == {"1"}
    new_picks(root, "2")
    remote.check()
    assert sessions(remote.open()) == {"1", "2"}


def test_a_table_that_is_gone_is_read_staged(remote: Remote) -> None:
    remote.proxy.fault(is_put("picks.csv"), 403)
    with pytest.warns(CroissantWarning, match="the commit is made"):
        new_picks(remote.open(), "1")
    remote.proxy.heal()
    remote.remove("Croissant/picks.csv")
    assert sessions(remote.open()) == {"1"}


def test_a_staged_table_that_cannot_be_removed_does_no_harm(remote: Remote) -> None:
    root = remote.open()
    rule = remote.proxy.fault(("DELETE", ".pending"), 403)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new_picks(root, "1")
    assert rule.hits
    assert sessions(remote.open()) == {"1"}


# --- verify and repair -----------------------------------------------------------------------------------


def test_what_is_wrong_in_a_table_names_its_url(remote: Remote) -> None:
    path = "Croissant/voxel_spacings.csv"
    old = remote.objects()[path]
    for new, code in ((old + b"TS_001,ten\r\n", "table-number"), (old + b"more\r\n", "table-checksum")):
        remote.put(path, new)
        if code != "table-checksum":
            was, now = (hashlib.sha256(data).hexdigest().encode() for data in (old, new))
            remote.put("Croissant/metadata.json", remote.objects()["Croissant/metadata.json"].replace(was, now))
        with pytest.raises(DataError) as caught:
            list(remote.open().index.rows("voxel_spacings"))
        assert (caught.value.code, caught.value.path) == (code, f"{remote.base}/{path}")
        assert (code, f"{remote.base}/{path}") in {
            (finding.kind, finding.path) for finding in verify(remote.url).findings
        }


def age(remote: Remote, path: str, seconds: float) -> None:
    """Make an object older."""
    found = remote.object(path)
    found.last_modified -= datetime.timedelta(seconds=seconds)


def test_repair_puts_staged_tables_in_their_places(remote: Remote) -> None:
    remote.proxy.fault(is_put("picks.csv"), 403)
    with pytest.warns(CroissantWarning, match="the commit is made"):
        new_picks(remote.open(), "1")
    remote.proxy.heal()
    (finding,) = verify(remote.url).findings
    assert (finding.kind, finding.path) == ("commit-unfinished", f"{remote.base}/Croissant/picks.csv")
    before = remote.objects()
    assert repair(remote.url, dry_run=True) == ["finish the commit of a writer that was killed"]
    assert remote.objects() == before
    assert repair(remote.url) == ["finish the commit of a writer that was killed"]
    remote.check()
    assert repair(remote.url) == []
    assert verify(remote.url).findings == []
    assert sessions(remote.open()) == {"1"}


def test_repair_removes_what_was_staged_long_ago_and_nothing_younger(remote: Remote) -> None:
    old, young = (f"Croissant/picks.csv.{digit * 64}.pending" for digit in "ab")
    other = "Croissant/picks.csv.pending"
    for path in (old, young, other):
        remote.put(path, b"staged")
    age(remote, old, 3600)
    (finding,) = verify(remote.url).findings
    assert (finding.kind, finding.path) == ("leftover", f"{remote.base}/{old}")
    (line,) = repair(remote.url)
    assert line.startswith("remove ")
    assert [path for path in remote.objects() if path.endswith(".pending")] == sorted([young, other])


# --- storage without conditions --------------------------------------------------------------------------


@pytest.fixture
def memory(project: Path) -> Iterator[str]:
    from fsspec.implementations.memory import MemoryFileSystem

    fs = MemoryFileSystem()
    base = f"/test-{id(project)}"
    for path, data in tree(project).items():
        fs.pipe_file(f"{base}/{path}", data)
    yield f"memory://{base}/Croissant/metadata.json"
    fs.rm(base, recursive=True)


def names(url: str) -> list[str]:
    from fsspec.implementations.memory import MemoryFileSystem

    path = url.removeprefix("memory://").rpartition("/")[0]
    return sorted(entry.rpartition("/")[2] for entry in MemoryFileSystem().ls(path, detail=False))


def test_a_commit_holds_an_object_that_locks(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from copick_mlc import _remote

    seen: list[list[str]] = []
    commit = _remote.commit

    def watched(*args: Any) -> Any:
        seen.append(names(memory))
        return commit(*args)

    monkeypatch.setattr(_remote, "commit", watched)
    before = names(memory)
    index = CroissantIndex(memory)
    index.put(RunRow("new"))
    (during,) = seen
    assert "metadata.json.lock" in during
    assert names(memory) == before
    assert CroissantIndex(memory).has("runs", "new")


def test_writers_wait_for_it(memory: str) -> None:
    def write(writer: int) -> None:
        index = CroissantIndex(memory)
        for number in range(5):
            index.put(RunRow(f"{writer}-{number}"))

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(write, range(4)))
    index = CroissantIndex(memory)
    assert set(index.groups("runs")) >= {f"{writer}-{number}" for writer in range(4) for number in range(5)}
    assert not [name for name in names(memory) if name.endswith((".lock", ".pending"))]


def lock_path(url: str) -> str:
    return f"{url.removeprefix('memory://')}.lock"


def test_one_that_is_renewed_is_waited_for_and_its_maker_named(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from copick_mlc import _lock

    monkeypatch.setattr(_lock, "WAIT_SECONDS", 0.3)
    index, other = CroissantIndex(memory), CroissantIndex(memory)
    with index.exclusive(), pytest.raises(LockedError, match=r"process \d+ of .* on .*, since 20") as caught:
        other.put(RunRow("new"))
    assert caught.value.path == f"{memory}.lock"
    other.put(RunRow("new"))


def test_one_that_nobody_renews_is_removed(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    from copick_mlc import _lock

    monkeypatch.setattr(_lock, "LEASE_SECONDS", 0.2)
    MemoryFileSystem().pipe_file(lock_path(memory), b"process 1 of somebody on elsewhere, since 2026, abc, renewed 1\n")
    CroissantIndex(memory).put(RunRow("new"))
    assert CroissantIndex(memory).has("runs", "new")
    assert "metadata.json.lock" not in names(memory)


def test_its_maker_renews_it(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    from copick_mlc import _lock

    monkeypatch.setattr(_lock, "LEASE_SECONDS", 0.3)
    fs = MemoryFileSystem()
    renewed = threading.Event()
    index = CroissantIndex(memory)
    with index.exclusive():
        first = fs.cat_file(lock_path(memory))
        for _ in range(600):
            if fs.cat_file(lock_path(memory)) != first:
                renewed.set()
                break
            renewed.wait(0.1)
        index.put(RunRow("new"))
    assert renewed.is_set()
    assert CroissantIndex(memory).has("runs", "new")


def test_who_lost_it_writes_nothing(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was too slow, and others took it for dead."""
    from fsspec.implementations.memory import MemoryFileSystem

    from copick_mlc import _lock

    index = CroissantIndex(memory)
    with index.exclusive():
        monkeypatch.setattr(_lock, "LEASE_SECONDS", 0.0)
        MemoryFileSystem().pipe_file(lock_path(memory), b"another, renewed 1\n")
        with pytest.raises(LockedError, match="did not renew"):
            index.put(RunRow("new"))
    assert not CroissantIndex(memory).has("runs", "new")
    assert MemoryFileSystem().cat_file(lock_path(memory)) == b"another, renewed 1\n"
    assert not [name for name in names(memory) if name.endswith(".pending")]


def test_what_another_stages_too_and_has_committed_stays(remote: Remote) -> None:
    """Both make the same table. The other one was killed before it was in its place [COM-017]."""
    root, other = remote.open(), remote.open()
    assert sessions(root) == sessions(other) == set()

    def meanwhile() -> None:
        remote.proxy.fault(is_put("picks.csv"), 403)
        with pytest.warns(CroissantWarning, match="the commit is made"):
            new_picks(other, "1")

    rule = once(is_put("metadata.json"), meanwhile, remote.proxy)
    with pytest.warns(CroissantWarning, match="the commit is made"):
        new_picks(root, "1")
    assert rule.hits == 1
    remote.proxy.heal()
    assert sessions(remote.open()) == {"1"}


def test_a_manifest_that_is_no_json_is_said_before_anything_is_written(remote: Remote) -> None:
    root = remote.open()
    assert sessions(root) == set()
    remote.put("Croissant/metadata.json", json.dumps({"name": "something else"}).encode())
    before: dict[str, Any] = remote.objects()
    with pytest.raises(ValueError, match="copick/runs"):
        new_picks(root, "1")
    assert remote.objects() == before
