"""Commits as the suite reads them from the files: at each stage the new state, or the old where one is incomplete."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import commits, snapshot
from conformance.edits import edit
from conformance.observer import check
from conformance.workspace import MANIFEST, Workspace

FIXTURES = Path(__file__).parents[2] / "conformance" / "fixtures"
CROISSANT = "project/Croissant"
RUNS = f"{CROISSANT}/runs.csv.1517ad3d82c01147b87e06585fabbfd161bbc95bd4062354f552b59f900c94a8.pending"
PICKS = f"{CROISSANT}/picks.csv.c9bf810304119dbbe26acb3da03480455fbb8b542ba5eac8a5001ddc13f4be85.pending"
PENDING = f"{MANIFEST}.pending"
OLD, NEW = (["TS_001", "TS_002"], ["TS_001"]), (["TS_001", "TS_002", "TS_003"], ["TS_001", "TS_003"])


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    """A copy of the fixture with an unfinished commit."""
    workspace = Workspace(FIXTURES / "unfinished")
    yield workspace
    workspace.close()


def state(workspace: Workspace) -> tuple[list[str], list[str]]:
    """The names of runs, and the runs of picks."""
    tables = commits.tables_of(workspace.path(MANIFEST))
    return [row["name"] for row in tables["runs"].rows], [row["run"] for row in tables["picks"].rows]


def move(workspace: Workspace, source: str, target: str) -> None:
    edit(workspace, "move", {"path": source, "to": target})


def test_a_commit_is_read_at_each_stage(workspace: Workspace) -> None:
    assert state(workspace) == NEW
    for source, target in ((PICKS, f"{CROISSANT}/picks.csv"), (RUNS, f"{CROISSANT}/runs.csv"), (PENDING, MANIFEST)):
        move(workspace, source, target)
        assert state(workspace) == NEW


def test_a_commit_is_read_without_the_files_before(workspace: Workspace) -> None:
    for path in (MANIFEST, f"{CROISSANT}/picks.csv"):
        edit(workspace, "remove", {"path": path})
    assert state(workspace) == NEW


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("remove", {"path": RUNS}),
        ("replace", {"path": PICKS, "old": "TS_003", "new": "TS_004"}),
        ("write", {"path": PENDING, "text": "{"}),
        ("write", {"path": PENDING, "text": "[]"}),
        ("set", {"path": PENDING, "pointer": "/distribution/0/sha256", "value": "../runs"}),
        ("set", {"path": PENDING, "pointer": "/distribution", "value": []}),
    ],
)
def test_an_incomplete_commit_is_none(workspace: Workspace, name: str, arguments: dict[str, str]) -> None:
    edit(workspace, name, arguments)
    assert state(workspace) == OLD


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ([PENDING, MANIFEST], "there is no metadata.json"),
        ([PENDING, f"{CROISSANT}/runs.csv"], "runs.csv is not there with the sha256 that the manifest declares"),
    ],
)
def test_what_makes_no_state(workspace: Workspace, paths: list[str], words: str) -> None:
    for path in paths:
        edit(workspace, "remove", {"path": path})
    with pytest.raises(ValueError, match=words):
        state(workspace)


def test_the_suite_makes_commits(workspace: Workspace) -> None:
    manifest = workspace.path(MANIFEST)
    for path in (PENDING, RUNS, PICKS):
        edit(workspace, "remove", {"path": path})
    steps = []

    def look() -> None:
        steps.append(state(workspace)[0])

    old = Path(workspace.path(f"{CROISSANT}/runs.csv")).read_bytes()
    commits.make(manifest, {"runs": old + b"TS_004,,\r\n"}, look)
    assert [steps, state(workspace)] == [
        [OLD[0], [*OLD[0], "TS_004"], [*OLD[0], "TS_004"]],
        ([*OLD[0], "TS_004"], OLD[1]),
    ]
    assert set(workspace.take()) == set(workspace.last)


def test_what_a_writer_may_leave(workspace: Workspace) -> None:
    edit(workspace, "write", {"path": f"{CROISSANT}/.runs.csv.0123456789ab.tmp", "text": "r"})
    edit(workspace, "write", {"path": f"{CROISSANT}/notes.pending", "text": "mine"})
    before = workspace.take()
    discarded = commits.discarded(before)
    gone = {PENDING, RUNS, PICKS, f"{CROISSANT}/.runs.csv.0123456789ab.tmp"}
    assert snapshot.changes(before, discarded) == dict.fromkeys(sorted(gone), "gone")
    finished = commits.finished(before)
    assert set(finished) == set(discarded)
    for source, target in ((PICKS, f"{CROISSANT}/picks.csv"), (RUNS, f"{CROISSANT}/runs.csv"), (PENDING, MANIFEST)):
        assert finished[target] == before[source]


@pytest.mark.parametrize("outcome", ["finished", "discarded"])
def test_nothing_else_may_be_left(workspace: Workspace, outcome: str) -> None:
    assert check(workspace, "unchanged", {"or": outcome}) is None
    if outcome == "finished":
        for source, target in ((PICKS, f"{CROISSANT}/picks.csv"), (RUNS, f"{CROISSANT}/runs.csv")):
            Path(workspace.path(source)).replace(workspace.path(target))
        half = check(workspace, "unchanged", {"or": outcome})
        assert half is not None
        assert half.wanted == "everything as it was, or finished"
        Path(workspace.path(PENDING)).replace(workspace.path(MANIFEST))
    else:
        for path in (PICKS, RUNS, PENDING):
            Path(workspace.path(path)).unlink()
    assert check(workspace, "unchanged", {"or": outcome}) is None
    assert check(workspace, "unchanged", {}) is not None
    Path(workspace.path("project/more")).touch()
    assert check(workspace, "unchanged", {"or": outcome}) is not None
