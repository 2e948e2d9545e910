"""One table in memory: what was read of it, and the changes that are not committed. Rules: SPEC.md, Changes [BAT]."""

from __future__ import annotations

from typing import Any

from copick_mlc._csv import TableFile
from copick_mlc._tables import Key, Row


class TableState:
    """One table: the file that was read, the changes to it, and the groups as they are with the changes.

    Attributes:
        file: The file, with every column that the changes need.
        original: The file as it was read.
        sha256: Checksum of what was read.
        version: What tells whether the file in its place was replaced since.
        is_staged: Whether what was read is staged, and not in its place yet.
        changes: The new rows by run and key; None for a row that was removed.
    """

    def __init__(self, file: TableFile, sha256: str, version: Any, *, is_staged: bool = False) -> None:
        self.file = self.original = file
        self.sha256 = sha256
        self.version = version
        self.is_staged = is_staged
        self.changes: dict[str, dict[Key, Row | None]] = {}
        self._groups: dict[str, dict[Key, Row]] = {}
        self._below: dict[tuple[str, int], dict[Key, list[Row]]] = {}
        self._records: dict[str, dict[Key, bytes]] = {}  # of the groups that were changed, the bytes of each row

    def group(self, name: str) -> dict[Key, Row]:
        """The rows of one run by key, changes applied [BAT-004].

        Raises:
            DataError: as `TableFile.group`.
        """
        rows = self._groups.get(name)
        if rows is None:
            rows = self._groups[name] = self.file.group(name)
            for key, row in self.changes.get(name, {}).items():
                self._apply(name, key, row)
        return rows

    def below(self, name: str, prefix: Key) -> list[Row]:
        """The rows of one run whose keys begin with `prefix`, found without a look at the others.

        Raises:
            DataError: as `group`.
        """
        found = self._below.get((name, len(prefix)))
        if found is None:
            found = self._below[name, len(prefix)] = {}
            for key, row in self.group(name).items():
                found.setdefault(key[: len(prefix)], []).append(row)
        return list(found.get(prefix, ()))

    def change(self, name: str, key: Key, row: Row | None) -> None:
        """Put a row, or remove the row with that key.

        Raises:
            UsageError: `name-invalid`.
        """
        if row is not None and (missing := self.file.lacks(row)):
            self._use(self.file.widened(missing))
        self.group(name)
        self._apply(name, key, row)
        self.changes.setdefault(name, {})[key] = row

    def _apply(self, name: str, key: Key, row: Row | None) -> None:
        rows = self._groups[name]
        self._below.clear()
        if name not in self._records:
            self._records[name] = dict(zip(rows, self.file.records(name), strict=True))
        records = self._records[name]
        if row is None:
            rows.pop(key, None)
            records.pop(key, None)
        else:
            record = self.file.encode(row, records.get(key))
            # What is in memory is what the next reader gets: an empty cell is an absent value, for one.
            rows[key] = self.file.parse(record)
            records[key] = record

    def _use(self, file: TableFile) -> None:
        self.file = file
        self._groups.clear()
        self._below.clear()
        self._records.clear()

    def has(self, name: str) -> bool:
        """Whether a group has rows; it is not parsed to tell."""
        return bool(self.group(name)) if name in self.changes else self.file.has(name)

    def names(self) -> list[str]:
        """The groups that have rows, in file order."""
        if not self.changes:
            return list(self.file.groups)
        names = dict.fromkeys([*self.file.groups, *self.changes])
        return [name for name in names if name not in self.changes or self.group(name)]

    def naming(self, text: str, besides: str) -> list[str]:
        """The groups, other than `besides`, that may have a row in which `text` stands."""
        return [*{*self.file.naming(text, besides), *self.changes} - {besides}]

    def parse_as(self, other: TableState) -> None:
        """Parse the groups that are parsed in `other`.

        Raises:
            DataError: as `group`.
        """
        for name in other._groups:
            self.group(name)

    def render(self) -> TableFile:
        """The file with the changes."""
        for name in self.changes:
            self.group(name)
        return self.file.replaced({name: self._records[name].values() for name in self.changes})

    def discard(self) -> None:
        """Drop the changes."""
        self._below.clear()
        for name in self.changes:
            self._groups.pop(name, None)
            self._records.pop(name, None)
        self.changes = {}
        if self.file is not self.original:
            self._use(self.original)

    def committed(self, file: TableFile, sha256: str, version: Any, *, is_staged: bool = False) -> None:
        """Take over that `file`, the outcome of `render`, is what is on the storage now."""
        self.file = self.original = file
        self.sha256, self.version, self.is_staged, self.changes = sha256, version, is_staged, {}
