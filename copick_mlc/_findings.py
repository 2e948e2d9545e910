"""What `verify` finds: kinds, how bad each is, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass

from copick_mlc._tables import Key, Row
from copick_mlc.errors import CODES, CroissantError

ERROR, WARNING = "error", "warning"

#: Kinds of findings that are no error codes, and what each means.
KINDS = {
    "data-checksum": "A picks or mesh file does not have the sha256 that its row says.",
    "data-unnamed": "There is data in copick's layout that no row names.",
    "row-orphan": "A row belongs to a run, voxel spacing or tomogram that has no row.",
    "split-stale": "The record set copick/splits does not say what runs.csv says.",
    "name-misread": "A name that pandas, and so copick and mlcroissant, reads as another or as none.",
    "object-unknown": "A row is of an object that copick:config does not define.",
    "table-undeclared": "There is a CSV of a table that the manifest does not declare.",
    "commit-unfinished": "A writer was killed within a commit.",
    "leftover": "There is a file that a killed writer left.",
}

_WARNINGS = frozenset({"data-unnamed", "name-misread", "object-unknown", "table-undeclared", "leftover"})


def severity(kind: str) -> str:
    """`error`, where readers fail or get something wrong; else `warning`."""
    return WARNING if kind in _WARNINGS else ERROR


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        kind: A code of `CODES` or one of `KINDS`.
        message: What was found, what was expected, and what to do.
        table: Name of the table it is in.
        key: Key of the row it is about.
        path: File, store or URL it is about.
        line: 1-based line in that file.
        column: Name of the CSV column.
    """

    kind: str
    message: str
    table: str | None = None
    key: Key | None = None
    path: str | None = None
    line: int | None = None
    column: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in CODES and self.kind not in KINDS:
            raise AssertionError(f"undeclared kind {self.kind!r}")

    @property
    def severity(self) -> str:
        """`error` or `warning`."""
        return severity(self.kind)

    @classmethod
    def of_error(cls, error: CroissantError, table: str | None = None, row: Row | None = None) -> Finding:
        """The finding that an error of ours is."""
        if row is not None:
            table = row.table.name
        key = row.key if row is not None else None
        return cls(error.code, error.message, table, key, error.path, error.line, error.column)

    @classmethod
    def of_row(cls, kind: str, message: str, row: Row, path: str | None = None) -> Finding:
        """A finding about a row, and the place of its data."""
        return cls(kind, message, row.table.name, row.key, path)
