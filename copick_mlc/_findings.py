"""What `verify` and `validate` find: kinds, how bad each is, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from copick_mlc._tables import Key, Row
from copick_mlc.errors import CODES, CroissantError

ERROR, WARNING = "error", "warning"

#: Kinds of findings of `verify` that are no error codes, and what each means.
KINDS = {
    "data-checksum": "A picks or mesh file does not have the sha256 that its row says.",
    "data-unnamed": "There is data in copick's layout that no row names.",
    "row-orphan": "A row belongs to a run, voxel spacing or tomogram that has no row.",
    "split-stale": "The record set copick/splits does not say what runs.csv says.",
    "md5-stale": "A table does not have the md5 that the manifest declares, so mlcroissant and copick refuse it.",
    "manifest-stale": "The manifest says a contentSize or pickable objects that are not true.",
    "name-misread": "A name that pandas, and so copick and mlcroissant, reads as another or as none.",
    "object-unknown": "A row is of an object that copick:config does not define.",
    "table-undeclared": "There is a CSV of a table that the manifest does not declare.",
    "commit-unfinished": "A writer was killed within a commit.",
    "leftover": "There is a file that a killed writer left.",
}

#: Kinds that `validate` alone finds.
VALIDATION_KINDS = {
    "mlcroissant-warning": "mlcroissant warns of something in the manifest.",
    "records-unreadable": "mlcroissant cannot read the records of a record set.",
    "records-count": "mlcroissant reads more or fewer records of a record set than it has rows.",
    "host-required": "A dataset host requires a property that the manifest lacks, or wants it otherwise.",
    "host-recommended": "A dataset host recommends a property that the manifest lacks, or wants it otherwise.",
}

_WARNINGS = frozenset(
    {
        *("data-unnamed", "manifest-stale", "name-misread", "object-unknown", "table-undeclared", "leftover"),
        *("mlcroissant-warning", "host-recommended"),
    }
)


def severity(kind: str) -> str:
    """`error`, where readers fail or get something wrong; else `warning`."""
    return WARNING if kind in _WARNINGS else ERROR


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        kind: A code of `CODES`, or one of `KINDS` or `VALIDATION_KINDS`.
        message: What was found, what was expected, and what to do.
        table: Name of the table it is in.
        key: Key of the row it is about.
        path: File, store or URL it is about.
        line: 1-based line in that file.
        column: Name of the CSV column.
        record_set: `@id` of the record set it is about.
        host: The dataset host that misses something.
        host_property: The property of the manifest that it misses.
    """

    kind: str
    message: str
    table: str | None = None
    key: Key | None = None
    path: str | None = None
    line: int | None = None
    column: str | None = None
    record_set: str | None = None
    host: str | None = None
    host_property: str | None = None

    def __post_init__(self) -> None:
        if not any(self.kind in kinds for kinds in (CODES, KINDS, VALIDATION_KINDS)):
            raise AssertionError(f"undeclared kind {self.kind!r}")

    def as_json(self) -> dict[str, Any]:
        """The finding as a JSON object; what only some kinds have is there for those alone."""
        others = {"record_set": self.record_set, "host": self.host, "property": self.host_property}
        return {
            "kind": self.kind,
            "severity": severity(self.kind),
            "table": self.table,
            "key": list(self.key) if self.key is not None else None,
            "path": self.path,
            "line": self.line,
            "column": self.column,
            **{name: value for name, value in others.items() if value is not None},
            "message": self.message,
        }

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
