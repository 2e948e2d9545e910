"""The lock and the commit protocol, as far as `tests.faults` and the conformance suite do not go. SPEC.md: [COM]."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from copick_mlc import CopickRootMLC, CroissantIndex, _commit, _directory, _lock, from_croissant
from copick_mlc._lock import locked
from copick_mlc.errors import CroissantWarning, LockedError, StorageError
from copick_mlc.index import PicksRow, RunRow
from tests.projects import tree

LOCAL = fsspec.filesystem("file")

HOLD = """
import sys
from copick_mlc._lock import locked
import fsspec
with locked(fsspec.filesystem("file"), sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def held_by_another(manifest: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process has the lock."""
    command = [sys.executable, "-c", HOLD, str(manifest)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def lock_file(manifest: Path) -> Path:
    return manifest.with_name("metadata.json.lock")


# --- the lock --------------------------------------------------------------------------------------------


def test_who_waits_too_long_is_told_who_has_the_lock(
    root: CopickRootMLC, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lock, "WAIT_SECONDS", 0.1)
    before = tree(manifest.parent.parent)
    with held_by_another(manifest) as process:
        assert str(process.pid) in str(_lock.holder(LOCAL, str(manifest)))
        with pytest.raises(TimeoutError, match=rf"process {process.pid} of .* on .*, since 20") as caught:
            root.new_run("new")
        assert isinstance(caught.value, LockedError)
        assert (caught.value.code, caught.value.path) == ("locked", str(lock_file(manifest)))
        assert [run.name for run in root.runs] == ["TS_001", "TS_002", "empty"]
    lock_file(manifest).unlink()  # of the process that was killed
    assert tree(manifest.parent.parent) == before
    root.new_run("new")
    assert CroissantIndex(str(manifest)).has("runs", "new")


def test_a_writer_waits_for_the_lock(manifest: Path) -> None:
    index = CroissantIndex(str(manifest))
    with held_by_another(manifest) as process:
        writer = threading.Thread(target=index.put, args=(RunRow("new"),))
        writer.start()
        time.sleep(0.2)
        assert not CroissantIndex(str(manifest)).has("runs", "new"), "reading needs no lock"
        process.kill()
        writer.join()
    assert CroissantIndex(str(manifest)).has("runs", "new")
    assert not lock_file(manifest).exists()


def test_a_lock_file_that_nobody_holds_is_no_lock(manifest: Path) -> None:
    lock_file(manifest).write_text("process 1 of nobody\n")
    assert _lock.holder(LOCAL, str(manifest)) is None
    CroissantIndex(str(manifest)).put(RunRow("new"))
    assert not lock_file(manifest).exists()


def test_the_lock_of_a_removed_file_does_not_count(manifest: Path) -> None:
    """Whoever waited for it finds that the file of that name is another by now."""
    with locked(LOCAL, str(manifest)):
        lock_file(manifest).unlink()
        with locked(LOCAL, str(manifest), wait=0):
            assert "process" in lock_file(manifest).read_text()


def test_no_link_is_followed_at_the_name_of_the_lock(manifest: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("somebody's")
    lock_file(manifest).symlink_to(victim)
    with pytest.raises(StorageError) as caught:
        CroissantIndex(str(manifest)).put(RunRow("new"))
    assert caught.value.code == "storage-failed"
    assert victim.read_text() == "somebody's"


def test_no_link_is_followed_at_the_name_of_a_staged_table(manifest: Path, tmp_path: Path) -> None:
    index = CroissantIndex(str(manifest))
    victim = tmp_path / "victim"
    victim.write_text("somebody's")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in manifest.parent.iterdir():
        (copy / name.name).write_bytes(name.read_bytes())
    CroissantIndex(str(copy / "metadata.json")).put(RunRow("new"))
    checksum = hashlib.sha256((copy / "runs.csv").read_bytes()).hexdigest()
    (manifest.parent / f"runs.csv.{checksum}.pending").symlink_to(victim)
    index.put(RunRow("new"))
    assert victim.read_text() == "somebody's"
    assert not (manifest.parent / "runs.csv").is_symlink()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks(manifest: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def flock(descriptor: int) -> bool:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(_lock, "_try_lock", flock)
    with pytest.warns(CroissantWarning, match="has no locks"):
        CroissantIndex(str(manifest)).put(RunRow("new"))
    assert CroissantIndex(str(manifest)).has("runs", "new")


def test_a_lock_can_be_taken_again_within(manifest: Path) -> None:
    index = CroissantIndex(str(manifest))
    with index.exclusive(), index.exclusive():
        index.put(RunRow("new"))
        assert lock_file(manifest).exists()
    assert not lock_file(manifest).exists()


# --- commits ---------------------------------------------------------------------------------------------


def failing_replace(monkeypatch: pytest.MonkeyPatch, fails: Callable[[str], bool]) -> None:
    replace = os.replace

    def wrapped(source: Any, target: Any) -> None:
        if fails(os.path.basename(target)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    monkeypatch.setattr(os, "replace", wrapped)


def two_tables(index: CroissantIndex) -> None:
    with index.batch():
        index.put(RunRow("new"))
        index.put(PicksRow("new", "u", "1", "ribosome"))


def test_what_fails_before_the_first_table_is_replaced_is_undone(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, before = CroissantIndex(str(manifest)), tree(manifest.parent)
    with monkeypatch.context() as patch:
        failing_replace(patch, lambda name: name == "runs.csv")
        with pytest.raises(StorageError):
            two_tables(index)
    assert tree(manifest.parent) == before
    assert not index.has("runs", "new")
    two_tables(index)
    assert CroissantIndex(str(manifest)).count("picks") == index.count("picks")


@pytest.mark.parametrize("name", ["picks.csv", "metadata.json"])
def test_what_fails_later_is_made_and_said(manifest: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """There is no way back when a table was replaced; the commit is made, and readers see it as a whole."""
    index = CroissantIndex(str(manifest))
    with monkeypatch.context() as patch:
        failing_replace(patch, lambda target: target == name)
        with pytest.warns(CroissantWarning, match="not all of its files can be put in their places"):
            two_tables(index)
    assert manifest.with_name("metadata.json.pending").exists()
    before = tree(manifest.parent)
    reader = CroissantIndex(str(manifest))
    assert reader.has("runs", "new")
    assert reader.has("picks", "new")
    assert tree(manifest.parent) == before, "reading writes nothing"
    index.put(RunRow("newer"))
    assert not [file for file in tree(manifest.parent) if "pending" in file]
    assert {"new", "newer"} <= set(CroissantIndex(str(manifest)).groups("runs"))


def unfinished(manifest: Path) -> None:
    """Leave what a writer leaves that is killed when its commit is made."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore", CroissantWarning)
        failing_replace(patch, lambda name: name in ("picks.csv", "metadata.json"))
        two_tables(CroissantIndex(str(manifest)))
    assert _commit.unfinished(LOCAL, str(manifest)) is True


def test_opening_to_write_puts_a_project_in_order_and_opening_to_read_does_not(manifest: Path, tmp_path: Path) -> None:
    unfinished(manifest)
    before = tree(manifest.parent)
    overlay = from_croissant(manifest, overlay_root=tmp_path / "overlay")
    assert overlay.get_run("new") is not None
    with held_by_another(manifest):
        assert from_croissant(manifest).get_run("new") is not None, "another writer is at work"
    lock_file(manifest).unlink()
    assert tree(manifest.parent) == before
    assert from_croissant(manifest).get_run("new") is not None
    assert _commit.unfinished(LOCAL, str(manifest)) is None
    document = json.loads(manifest.read_text())
    sums = {entry["@id"]: entry["sha256"] for entry in document["distribution"]}
    assert sums["picks-csv"] == hashlib.sha256((manifest.parent / "picks.csv").read_bytes()).hexdigest()


def test_a_project_that_cannot_be_put_in_order_opens_all_the_same(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished(manifest)
    before = tree(manifest.parent)
    with monkeypatch.context() as patch:
        failing_replace(patch, lambda name: True)
        root = from_croissant(manifest)
        assert root.get_run("new") is not None
        with pytest.raises(StorageError):
            root.new_run("newer")
    assert tree(manifest.parent) == before
    root.new_run("newer")
    assert {"new", "newer"} <= {run.name for run in from_croissant(manifest).runs}


def test_what_is_open_takes_over_a_pending_commit(root: CopickRootMLC, manifest: Path) -> None:
    assert root.get_run("new") is None
    unfinished(manifest)
    root.refresh()
    assert root.get_run("new") is not None


def test_files_of_the_same_names_that_are_no_commit_stay(manifest: Path) -> None:
    """What is removed has just the form that writers give it."""
    for name in ("notes.pending", "runs.csv.pending", f"runs.csv.{'A' * 64}.pending", ".runs.csv.tmp", "x.lock"):
        (manifest.parent / name).write_text("somebody's")
    before = set(tree(manifest.parent))
    CroissantIndex(str(manifest)).put(RunRow("new"))
    assert set(tree(manifest.parent)) == before


# --- data ------------------------------------------------------------------------------------------------


def test_picks_that_others_changed_are_read_with_a_warning_that_names_both_sums(root: CopickRootMLC) -> None:
    run = root.get_run("TS_001")
    assert run is not None
    picks = run.get_picks("ribosome", "demo")[0]
    path = Path(picks.path)
    path.write_bytes(path.read_bytes() + b"\n")
    row = root.index.find(picks.identity)
    assert row is not None
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.warns(CroissantWarning, match=f"sha256 is {actual}, picks.csv says {row.sha256}"):
        assert len(picks.points) == 8


def test_picks_are_as_before_where_their_row_cannot_be_committed(
    root: CopickRootMLC, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = root.get_run("TS_001")
    assert run is not None
    picks = run.get_picks("ribosome", "demo")[0]
    before = tree(manifest.parent.parent)
    with monkeypatch.context() as patch:
        failing_replace(patch, lambda name: name.startswith("metadata.json"))
        with pytest.raises(StorageError):
            picks.from_numpy(np.zeros((1, 3)))
        with pytest.raises(StorageError):
            run.new_picks("ribosome", "9", "new")
    assert tree(manifest.parent.parent) == before


def test_a_volume_is_replaced_where_two_names_cannot_be_exchanged(
    root: CopickRootMLC, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_directory, "_exchange", lambda one, other: False)
    run = root.get_run("TS_001")
    assert run is not None
    segmentation = run.get_segmentations(name="membrane")[0]
    before = tree(manifest.parent.parent)
    rename = os.rename

    def failing(source: Any, target: Any) -> None:
        if str(source).endswith(".tmp"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing)
        with pytest.raises(StorageError):
            segmentation.from_numpy(np.ones((2, 2, 2), np.uint8))
    assert tree(manifest.parent.parent) == before
    segmentation.from_numpy(np.ones((2, 2, 2), np.uint8))
    assert segmentation.numpy().shape == (2, 2, 2)
    assert not list(manifest.parent.parent.rglob("*.tmp*"))


def test_a_volume_stays_where_a_new_one_is_refused(root: CopickRootMLC, manifest: Path) -> None:
    run = root.get_run("TS_001")
    assert run is not None
    segmentation = run.get_segmentations(name="membrane")[0]
    before = tree(manifest.parent.parent)
    with pytest.raises(ValueError, match=r"wrap|fit|surviv|negative"):
        segmentation.from_numpy(np.full((2, 2, 2), -1))
    assert tree(manifest.parent.parent) == before
