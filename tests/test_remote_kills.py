"""Writers on S3 that are killed with SIGKILL at each request that changes something, before it is made and after.

A fresh reader then finds what was there before, or what was to be there, and the next commit leaves tables and manifest
that fit each other. SPEC.md: [COM].
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from copick_mlc import CopickRunMLC, CroissantIndex, from_croissant
from copick_mlc._tables import TABLES
from copick_mlc.errors import CroissantWarning
from copick_mlc.index import RunRow
from tests.conftest import Bucket
from tests.proxy import Request
from tests.servers import s3_environment
from tests.test_remote import Remote

pytestmark = pytest.mark.usefixtures("unplaced")

POINTS = np.arange(12, dtype=float).reshape(4, 3)
SECONDS = 60.0


def run_of(url: str) -> CopickRunMLC:
    run = from_croissant(url).get_run("TS_001")
    assert run is not None
    return run


def store_new(url: str) -> None:
    run_of(url).new_picks("ribosome", "1", user_id="me")


def store_again(url: str) -> None:
    run_of(url).get_picks("ribosome", user_id="demo")[0].from_numpy(POINTS)


def change_much(url: str) -> None:
    run = run_of(url)
    with run.root.batch():
        run.new_picks("ribosome", "1", user_id="me")
        run.delete_meshes()
        run.split = "test"
        run.root.new_run("new").new_voxel_spacing(5.0)


def delete_run(url: str) -> None:
    from_croissant(url).delete_run("TS_002")


CHANGES: dict[str, Callable[[str], None]] = {
    change.__name__: change for change in (store_new, store_again, change_much, delete_run)
}


def state(url: str) -> dict[str, Any]:
    """All rows, and the points of all picks."""
    root = from_croissant(url)
    rows = {name: sorted(map(repr, root.index.rows(name))) for name in TABLES}
    points = {
        (picks.user_id, picks.session_id, picks.pickable_object_name): len(picks.points)
        for run in root.runs
        for picks in run.picks
    }
    return {**rows, "points": points}


def child(endpoint: str, change: str, url: str) -> None:
    with s3_environment(endpoint):
        CHANGES[change](url)


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    """Processes that are forked from one that has imported everything and used nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["copick_mlc", "s3fs", "tests.test_remote_kills"])
    return context


class Killing:
    """Kills a process at its request of a number.

    Attributes:
        process: The process.
        count: The requests so far.
    """

    def __init__(self, at: int) -> None:
        self._at = at
        self.process: Any = None
        self.count = 0

    def meets(self, request: Request) -> bool:
        """Count a request that changes something; at the one of the number, kill who made it."""
        if request.method in ("GET", "HEAD"):
            return False
        self.count += 1
        if self.count != self._at:
            return False
        os.kill(self.process.pid, signal.SIGKILL)
        assert wait([self.process.sentinel], SECONDS)
        return True


def killed(context: ForkServerContext, remote: Remote, change: str, at: int, *, is_made: bool) -> bool:
    """Have a process make a change, and kill it at a request; whether it came to that."""
    killing = Killing(at)
    killing.process = context.Process(target=child, args=(remote.proxy.url, change, remote.url))
    remote.proxy.fault(killing.meets, (lambda request: None) if is_made else "reset", times=1)
    killing.process.start()
    killing.process.join(SECONDS)
    remote.proxy.heal()
    deadline = time.monotonic() + SECONDS
    while any(request.end == float("inf") for request in remote.proxy.requests):  # sent before, and on their way
        assert time.monotonic() < deadline
        time.sleep(0.01)
    code = killing.process.exitcode
    killing.process.close()
    assert code in (0, -signal.SIGKILL)
    return bool(code)


@pytest.mark.parametrize("is_made", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("change", CHANGES)
def test_who_is_killed_leaves_the_old_state_or_the_new_one(
    context: ForkServerContext,
    s3_proxy: Bucket,
    project: Path,
    change: str,
    is_made: bool,
) -> None:
    remote = Remote(s3_proxy, project)
    before = remote.objects()
    old = state(remote.url)
    CHANGES[change](remote.url)
    new = state(remote.url)
    assert old != new
    found = set()
    at = 0
    while True:
        at += 1
        remote.restore(before)
        if not killed(context, remote, change, at, is_made=is_made):
            break
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "(?s).*changed without its row", CroissantWarning)
            left = state(remote.url)
        # A file of picks that were there may be the new one already; its row says which points it should have.
        rows = {name: value for name, value in left.items() if name != "points"}
        assert rows in [{name: value for name, value in whole.items() if name != "points"} for whole in (old, new)]
        assert change == "store_again" or left in (old, new)
        found.add(rows == {name: value for name, value in new.items() if name != "points"})
        next_commit(remote)
    assert found == {False, True}
    assert state(remote.url) == new


def next_commit(remote: Remote) -> None:
    """A writer that has read all tables commits, and then all is in its place."""
    index = CroissantIndex(remote.url)
    for name in TABLES:
        index.groups(name)
    index.put(RunRow("next"))
    remote.check(strays=tuple(path.removeprefix("Croissant/") for path in remote.staged()))
    assert CroissantIndex(remote.url).has("runs", "next")
