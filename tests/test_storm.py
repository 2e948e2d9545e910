"""Many processes and threads on one project: see `tests.storm`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from copick_mlc import CopickRootMLC, CroissantIndex, from_croissant
from copick_mlc.index import PicksRow, RunRow
from tests.projects import inventory


def trial(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.storm", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@needs_fork
def test_no_row_is_lost_and_no_reader_meets_an_error_in_a_storm() -> None:
    result = trial("storm", "--writers", "4", "--stores", "20", "--readers", "2")
    assert (result["errors"], result["stray files"]) == ([], [])
    assert result["acknowledged"] == result["expected"] == 92
    assert (result["lost"], result["came back"]) == (0, 0)
    assert result["reads"] > 0


@needs_fork
def test_what_a_killed_writer_acknowledged_is_there() -> None:
    result = trial("kills", "--kills", "40")
    assert (result["errors"], result["stray files"]) == ([], [])
    assert result["survived"] == result["kills"] == 40
    assert result["acknowledged"] >= 40


@needs_fork
def test_copick_maps_over_our_runs_in_processes() -> None:
    result = trial("pool")
    assert result["results"] == [3] * 6
    assert result["in this process"] == 0
    assert result["picks"] == [1] * 6
    assert result["stray files"] == []


# --- threads ---------------------------------------------------------------------------------------------


def at_once(*works: Callable[[], None]) -> list[BaseException]:
    """Run works in threads, begun at one moment; what they raised."""
    barrier = threading.Barrier(len(works))
    raised: list[BaseException] = []

    def begin(work: Callable[[], None]) -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # the test reports it
            raised.append(error)

    threads = [threading.Thread(target=begin, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def store(root: CopickRootMLC, user: str, count: int) -> None:
    run = root.get_run("TS_001")
    assert run is not None
    for number in range(count):
        run.new_picks("ribosome", str(number), user).from_numpy(np.full((2, 3), float(number)))


def test_threads_share_a_root(root: CopickRootMLC, manifest: Path) -> None:
    """Some store, some list what is there while it grows."""
    done = threading.Event()
    seen: list[int] = []

    def write(user: str) -> Callable[[], None]:
        return lambda: store(root, user, 6)

    def walk() -> None:
        while not done.is_set():
            inventory(root, data=False)
            seen.append(sum(1 for _ in root.index.rows("picks")))

    walker = threading.Thread(target=walk)
    walker.start()
    try:
        assert at_once(*(write(f"user{number}") for number in range(4))) == []
    finally:
        done.set()
        walker.join()
    assert seen
    assert seen == sorted(seen)
    again = from_croissant(manifest)
    keys = {(row.user_id, row.session_id) for row in again.index.rows_of(PicksRow, "TS_001")}
    assert keys >= {(f"user{number}", str(session)) for number in range(4) for session in range(6)}
    assert inventory(again, data=False) == inventory(root, data=False)


def test_threads_with_roots_of_their_own(manifest: Path) -> None:
    works = [lambda number=number: store(from_croissant(manifest), f"user{number}", 6) for number in range(4)]
    assert at_once(*works) == []
    rows = [row for row in CroissantIndex(str(manifest)).rows_of(PicksRow) if row.user_id.startswith("user")]
    assert len(rows) == 24


def test_rows_change_while_they_are_enumerated(root: CopickRootMLC) -> None:
    listed = root.index.rows("runs")
    first = next(listed)
    root.index.put(RunRow("one more"))
    assert {row.key for row in [first, *listed]} >= {("TS_001",), ("TS_002",), ("empty",)}


# --- what others change ----------------------------------------------------------------------------------


def test_a_put_and_a_delete_of_one_key_do_what_the_later_one_says(manifest: Path) -> None:
    one, other = from_croissant(manifest).index, from_croissant(manifest).index
    row = RunRow("both")
    one.put(row)
    other.put(RunRow("both", split="test"))
    one.remove(row)
    assert CroissantIndex(str(manifest)).find(row) is None
    other.put(row)
    assert CroissantIndex(str(manifest)).find(row) == row
    assert one.committed(row) == row


def test_deletes_of_one_and_stores_of_another_in_batches(manifest: Path) -> None:
    """Each sees only what was there when it began; the later batch wins where both have a key, and nowhere else."""
    one, other = from_croissant(manifest).index, from_croissant(manifest).index
    row = next(one.rows_of(PicksRow, "TS_001"))
    with one.batch():
        one.remove(row)
        one.put(RunRow("of one"))
        with other.batch():
            other.put(row)
            other.put(RunRow("of the other"))
    found = CroissantIndex(str(manifest))
    assert found.find(row) is None
    assert {"of one", "of the other"} <= set(found.groups("runs"))


def test_manifest_edits_of_several_merge(manifest: Path) -> None:
    one, other = from_croissant(manifest), from_croissant(manifest)
    one.new_object("one", True, label=11)
    other.new_object("other", True, label=12)
    document = json.loads(manifest.read_text())
    document["keywords"] = ["by hand"]
    manifest.write_text(json.dumps(document))
    one.set_splits({"a": ["TS_001"]})
    other.set_splits({"b": ["TS_002"]})
    again = from_croissant(manifest)
    assert {"one", "other"} <= {item.name for item in again.pickable_objects}
    assert again.splits == {"a": ["TS_001"], "b": ["TS_002"]}
    assert again.index.document["keywords"] == ["by hand"]
    assert {entry["copick/splits/name"] for entry in splits_of(again)} == {"a", "b"}


def splits_of(root: CopickRootMLC) -> Any:
    record_sets = root.index.document["recordSet"]
    return next(entry for entry in record_sets if entry["@id"] == "copick/splits")["data"]
