"""One table in memory: what was read of it, and the changes that are not committed."""

from __future__ import annotations

from copick_mlc._csv import Group, TableFile
from copick_mlc._tables import Key, Row


class TableState:
    """One table: the file that was read, the changes to it, and the groups as they are with the changes.

    Attributes:
        file: The file, with every column that the changes need.
        original: The file as it was read.
        sha256: Checksum of what was read.
        signature: What tells whether the file was replaced since.
        changes: The new rows by run and key; None for a row that was removed.
    """

    def __init__(self, file: TableFile, sha256: str, signature: object) -> None:
        self.file = self.original = file
        self.sha256 = sha256
        self.signature = signature
        self.changes: dict[str, dict[Key, Row | None]] = {}
        self._groups: dict[str, Group] = {}

    def group(self, name: str) -> Group:
        """The rows of one run, changes applied.

        Raises:
            DataError: as `TableFile.group`.
        """
        group = self._groups.get(name)
        if group is None:
            group = self.file.group(name)
            for key, row in self.changes.get(name, {}).items():
                self._apply(group, key, row)
            self._groups[name] = group
        return group

    def change(self, name: str, key: Key, row: Row | None) -> None:
        """Put a row, or remove the row with that key.

        Raises:
            UsageError: `name-invalid`.
        """
        if row is not None and (missing := self.file.lacks(row)):
            self.file = self.file.widened(missing)
            self._groups.clear()
        self._apply(self.group(name), key, row)
        self.changes.setdefault(name, {})[key] = row

    def _apply(self, group: Group, key: Key, row: Row | None) -> None:
        if row is None:
            group.rows.pop(key, None)
            group.records.pop(key, None)
        else:
            record = self.file.encode(row, group.records.get(key))
            # What is in memory is what the next reader gets: an empty cell is an absent value, for one.
            group.rows[key] = self.file.parse(record)
            group.records[key] = record

    def has(self, name: str) -> bool:
        """Whether a group has rows; it is not parsed to tell."""
        return bool(self.group(name).rows) if name in self.changes else self.file.has(name)

    def names(self) -> list[str]:
        """The groups that have rows, in file order."""
        if not self.changes:
            return list(self.file.groups)
        names = dict.fromkeys([*self.file.groups, *self.changes])
        return [name for name in names if name not in self.changes or self.group(name).rows]

    def render(self) -> TableFile:
        """The file with the changes."""
        return self.file.replaced({name: self.group(name) for name in self.changes})

    def discard(self) -> None:
        """Drop the changes."""
        for name in self.changes:
            self._groups.pop(name, None)
        self.changes = {}
        if self.file is not self.original:
            self.file = self.original
            self._groups.clear()
