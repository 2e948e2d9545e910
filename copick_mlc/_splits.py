"""Machine-learning splits: who is in which, and the record set that tells Croissant tools what they are for.

A run's split is a cell of runs.csv. The manifest repeats the names of the splits, with the URLs of those that
MLCommons defines. Rules: SPEC.md, Splits [MAN] and Runs [RUN].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from copick_mlc import _pandas
from copick_mlc._tables import RunRow, cells_of
from copick_mlc.errors import UnknownRunError, UsageError

SPLITS_ID = "copick/splits"

_SPLIT_URLS = {
    "train": "https://mlcommons.org/definitions/training_split",
    "val": "https://mlcommons.org/definitions/validation_split",
    "validation": "https://mlcommons.org/definitions/validation_split",
    "test": "https://mlcommons.org/definitions/test_split",
    "eval": "https://mlcommons.org/definitions/test_split",
}


def assignments(mapping: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """The split of each run, from the runs of each split; a str is one run.

    Raises:
        UsageError: `option-invalid`, for an empty split name or a run in two splits [RUN-011]; `name-invalid`, for a
            split name that cannot be a cell.
    """
    splits: dict[str, str] = {}
    for split, runs in mapping.items():
        if not split:
            raise UsageError("option-invalid", "a split needs a name; use clear_splits to take runs out of theirs")
        cells_of(RunRow("any", split=split))
        for run in [runs] if isinstance(runs, str) else runs or ():
            if splits.setdefault(run, split) != split:
                raise UsageError("option-invalid", f"run {run!r} is in two splits, {splits[run]!r} and {split!r}")
    return splits


def reassigned(wanted: Mapping[str, str | None], find: Callable[[RunRow], RunRow | None], path: str) -> list[RunRow]:
    """The rows of runs whose split changes, with their new split.

    Args:
        wanted: The new split by run; None for none.
        find: Gives the row of a run.
        path: The manifest, for messages.

    Raises:
        UnknownRunError: `run-unknown` [RUN-009].
    """
    rows = {run: find(RunRow(run)) for run in wanted}
    unknown = sorted(run for run, row in rows.items() if row is None)
    if unknown:
        raise UnknownRunError("run-unknown", f"no such runs in this project: {', '.join(unknown)}", path=path)
    return [replace(row, split=wanted[run]) for run, row in rows.items() if row and row.split != wanted[run]]


def record_set() -> dict[str, Any]:
    """The record set of splits, without data."""
    return {
        "@type": "cr:RecordSet",
        "@id": SPLITS_ID,
        "name": "splits",
        "description": "The machine-learning splits that runs are assigned to.",
        "dataType": "cr:Split",
        "key": {"@id": f"{SPLITS_ID}/name"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{SPLITS_ID}/name",
                "name": "name",
                "description": "Name of the split.",
                "dataType": "sc:Text",
            },
            {
                "@type": "cr:Field",
                "@id": f"{SPLITS_ID}/url",
                "name": "url",
                "description": "What the split is for, where MLCommons defines it.",
                "dataType": ["sc:URL", "cr:Split"],
            },
        ],
    }


def data(names: Iterable[str], old: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The inline data of the record set: one row a split [MAN-027]. Rows that are there already stay [MAN-030]."""
    known = {name: row for row in old if isinstance(name := row.get(f"{SPLITS_ID}/name"), str)}
    return [
        known.get(name, {f"{SPLITS_ID}/name": name, f"{SPLITS_ID}/url": _SPLIT_URLS.get(name.lower(), "")})  # [MAN-029]
        for name in names
    ]


def can_be_referred_to(names: Iterable[str]) -> bool:
    """Whether the split column may refer to the record set [MAN-031].

    mlcroissant follows the reference with pandas' merge, which fails unless some split is read as text.
    """
    return any(map(_pandas.is_text, names))
