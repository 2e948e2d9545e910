"""Nothing grows with the square of the project: counted in rows that are parsed, not in seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from copick_mlc import CopickRootMLC, from_croissant
from copick_mlc._tables import TABLES, Row
from tests.benchmarks.compare import make_manifest, walk

ROWS_OF_A_RUN = 11


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """Every row that is parsed, as it is parsed."""
    rows: list[Row] = []

    def counting(make: Callable[[Sequence[Any]], Row]) -> Callable[[Sequence[Any]], Row]:
        def counted(values: Sequence[Any]) -> Row:
            rows.append(make(values))
            return rows[-1]

        return counted

    for table in TABLES.values():
        monkeypatch.setitem(vars(table), "make", counting(table.make))
    return rows


def project(directory: Path, runs: int) -> CopickRootMLC:
    return from_croissant(make_manifest(directory, runs * ROWS_OF_A_RUN))


@pytest.mark.parametrize("runs", [10, 100])
def test_a_walk_parses_each_row_once(tmp_path: Path, parsed: list[Row], runs: int) -> None:
    root = project(tmp_path, runs)
    assert walk(root) == runs * 9  # all but the rows of runs and voxel spacings
    assert len(parsed) == len(set(parsed)) == runs * (ROWS_OF_A_RUN - 1)  # a run's own row has nothing to add
    walk(root)
    assert len(parsed) == runs * (ROWS_OF_A_RUN - 1)


@pytest.mark.parametrize("runs", [10, 100])
def test_a_lookup_parses_one_run(tmp_path: Path, parsed: list[Row], runs: int) -> None:
    run = project(tmp_path, runs).get_run("TS_00007")
    assert run is not None
    assert len(run.get_picks("virus")) == 1
    assert len(parsed) == 5  # its picks


@pytest.mark.parametrize("runs", [10, 100])
def test_a_store_parses_one_run(tmp_path: Path, parsed: list[Row], runs: int) -> None:
    run = project(tmp_path, runs).get_run("TS_00007")
    assert run is not None
    run.new_picks("virus", "1", "me")
    assert len(parsed) == 6  # its picks, and the new ones, read back


@pytest.mark.parametrize("stores", [10, 100])
def test_a_batch_parses_what_it_touches(tmp_path: Path, parsed: list[Row], stores: int) -> None:
    root = project(tmp_path, 100)
    with root.batch():
        for number in range(stores):
            run = root.get_run(f"TS_{number:05d}")
            assert run is not None
            run.new_picks("virus", "1", "me")
    assert len(parsed) == 6 * stores


@pytest.mark.parametrize("runs", [10, 100])
def test_new_runs_parse_nothing_of_others(tmp_path: Path, parsed: list[Row], runs: int) -> None:
    root = project(tmp_path, 5)
    with root.batch():
        for number in range(runs):
            root.new_run(f"new_{number}")
    assert len(parsed) <= 5 + runs  # the runs there are, for the manifest's splits, and each new one, read back
    assert len(root.runs) == runs + 5


@pytest.mark.parametrize("runs", [10, 100])
def test_splits_set_one_by_one_parse_each_run_once(tmp_path: Path, parsed: list[Row], runs: int) -> None:
    root = project(tmp_path, runs)
    with root.batch():
        for run in root.runs:
            run.split = "train"
    assert len(parsed) == 2 * runs + runs  # each row, as what it replaces, and read back
    assert len(root.splits["train"]) == runs
