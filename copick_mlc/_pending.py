"""What waits for the next commit besides changed rows, and what the commit has to look at once it has the lock.

Others may have changed the project since the rows of a batch were put. So a commit finds anew what goes with what is
deleted, and sees that rows fit the data that was written. Rules: SPEC.md, Changes [BAT].
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fsspec import AbstractFileSystem

from copick_mlc import _filesystems, _storage, _waiting
from copick_mlc._snapshot import Snapshot
from copick_mlc._storage import Version
from copick_mlc._tables import Key, MeshRow, PicksRow, Row


@dataclass(frozen=True)
class _Written:
    """Data that was written, its row, and what tells whether others wrote it since."""

    row: Row
    fs: AbstractFileSystem
    path: str
    signature: object

    def is_untouched(self) -> bool:
        """Whether nobody touched it since, as far as the storage can tell."""
        return _storage.signature(self.fs, self.path) == self.signature

    def exists(self) -> bool:
        return _storage.exists(self.fs, self.path)

    def checksum(self, is_untouched: bool) -> str | None:
        """The sha256 of the file as it is now."""
        if is_untouched:
            return getattr(self.row, "sha256", None)
        data = _storage.read(self.fs, self.path, "data-missing", f"the file of {self.row.key}")
        return hashlib.sha256(data).hexdigest()


@dataclass
class Pending:
    """What waits for the next commit.

    Attributes:
        objects: Definitions of pickable objects, by name.
        going: What finds the rows that go with something that is deleted.
        written: Data that was written in a batch, by table and key.
        writes: What writes the data of new rows at the same time as the commit of these is prepared.
        replaces: What replaces the data of rows once the commit is prepared.
        checks: What looks at the new manifest before anything is written.
        deferred: Actions for when the commit is made.
    """

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    going: list[Callable[[], Iterable[Row]]] = field(default_factory=list)
    written: dict[tuple[str, Key], _Written] = field(default_factory=dict)
    writes: list[Callable[[], object]] = field(default_factory=list)
    replaces: list[Callable[[], object]] = field(default_factory=list)
    checks: list[Callable[[Mapping[str, Any]], object]] = field(default_factory=list)
    deferred: list[Callable[[], None]] = field(default_factory=list)

    def wrote(self, row: Row, fs: AbstractFileSystem, path: str, version: Version = None) -> None:
        """Note that the data of a row was written, and what version that is, where it is known."""
        if not _filesystems.is_local(fs):  # where there may be no directories
            if not row.table.has_url:
                return
            if row.table.canonical.endswith(".zarr"):
                path = f"{path}/.zgroup"
        signature = version or _storage.signature(fs, path)
        self.written[row.table.name, row.key] = _Written(row, fs, path, signature)

    def bring_up_to_date(self, snapshot: Snapshot) -> None:
        """Change the rows that the state of the project, now that it can no longer change, asks to be changed.

        Raises:
            MissingError, DataError, StorageError: as `CroissantIndex.rows`.
        """
        for row in [row for find in self.going for row in find()]:  # [BAT-019]
            state = snapshot.state(row.table)
            if row.key not in state.changes.get(row.group, {}):
                state.change(row.group, row.key, None)
        calls = [written.is_untouched for written in self.written.values()]
        untouched = [call() for call in calls] if snapshot.is_local else _waiting.concurrently(calls)
        for written, is_untouched in zip(self.written.values(), untouched, strict=True):
            _settle(snapshot, written, is_untouched)


def _settle(snapshot: Snapshot, written: _Written, is_untouched: bool) -> None:
    """Have a row fit its data, which others may have written since, or deleted with the row."""
    group, key = written.row.group, written.row.key
    state = snapshot.state(written.row.table)
    row = state.group(group).get(key)
    if row is None:
        # Removed by others; where it was already as it should be, no change puts it again.
        if key not in state.changes.get(group, {}) and written.exists():
            state.change(group, key, written.row)  # [BAT-022]
    elif not is_untouched and not written.exists():
        if key not in state.original.group(group):
            state.change(group, key, None)  # [BAT-021]
    elif isinstance(row, (PicksRow, MeshRow)) and row.sha256 != (checksum := written.checksum(is_untouched)):
        state.change(group, key, replace(row, sha256=checksum))  # [BAT-020]
