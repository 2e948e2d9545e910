"""What was last read of a project, manifest and tables, and how to take over what others wrote since.

Another process may replace tables and manifest at any time. What was read stays as it is until somebody asks for what
is on the storage now; then the tables that changed are read anew, and pending changes are put on them. Rules: SPEC.md,
Manifest [MAN], Tables [CSV] and Changes [BAT].
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fsspec import AbstractFileSystem

from copick_mlc import _commit, _storage, _urls
from copick_mlc._csv import TableFile
from copick_mlc._manifest import Manifest
from copick_mlc._state import TableState
from copick_mlc._tables import TABLES, Table, encode_table
from copick_mlc.errors import DataError, ExistsError

# Another program may replace tables before the manifest that declares them. Between the two, a reader waits.
_RETRIES = 5
_RETRY_SECONDS = 0.05


class Snapshot:
    """The manifest that was read, and the tables that somebody asked for since.

    Attributes:
        fs: The file system of manifest and tables.
        path: Path of metadata.json in it.
        url: Absolute URL of metadata.json.
        manifest: The manifest.
        base_url: What relative URL cells are relative to.
        states: The tables that were read, by name, with the changes to them.
    """

    def __init__(self, fs: AbstractFileSystem, path: str, url: str, override: str | None) -> None:
        """Read the manifest; `override` stands in place of its `copick:baseUrl`.

        Raises:
            MissingError, DataError, StorageError: as `CroissantIndex.from_url`.
        """
        self.fs, self.path, self.url = fs, path, url
        self._override = override
        self.states: dict[str, TableState] = {}
        raw = _commit.read_manifest(fs, path)
        self.take(raw, Manifest(raw, url))

    def take(self, raw: bytes, manifest: Manifest) -> None:
        """Have this manifest, whose bytes are `raw`."""
        self._raw, self.manifest = raw, manifest
        directory = _urls.parent(self.url)
        if self._override is not None:  # [URL-004]
            self.base_url = self._override
        elif manifest.base_url:  # [URL-005] [URL-011]
            self.base_url = _urls.located(manifest.base_url, directory)
        else:
            self.base_url = _urls.parent(directory)  # [URL-006]

    @property
    def directory(self) -> str:
        """Path of the directory that holds manifest and tables."""
        return self.path.rpartition("/")[0]

    def file_path(self, table: Table) -> str:
        """Path of the CSV of a table."""
        return f"{self.directory}/{table.file_name}" if self.directory else table.file_name  # [LAY-001]

    def state(self, table: Table) -> TableState:
        """The state of a table, fetched and checked when it is first asked for.

        Raises:
            MissingError, DataError, StorageError: as `CroissantIndex.rows`.
        """
        state = self.states.get(table.name)
        if state is None:
            state = self.states[table.name] = self._fetch(table)
        return state

    def changed(self) -> list[TableState]:
        """The tables with changes that are not committed."""
        return [state for state in self.states.values() if state.changes]

    @contextmanager
    def standing(self) -> Iterator[None]:
        """What was read stays as it was where the block fails."""
        raw, manifest, states = self._raw, self.manifest, dict(self.states)
        try:
            yield
        except BaseException:
            self.take(raw, manifest)
            self.states = states
            raise

    # --- what others wrote -------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Take over a manifest that others wrote, and forget the tables they changed. True if there was one.

        Raises:
            MissingError, DataError, StorageError: as `CroissantIndex.from_url` and `rows`.
        """
        raw = _commit.read_manifest(self.fs, self.path)
        if raw == self._raw:
            return False
        self.take(raw, Manifest(raw, self.url))
        # Those without changes first: they are only forgotten, which cannot fail.
        for name, state in sorted(self.states.items(), key=lambda item: bool(item[1].changes)):
            if self._is_stale(state):
                self._rebase(name)
        return True

    def renew(self, table: Table) -> None:
        """Read a table anew if its file was replaced since it was read.

        Raises:
            MissingError, DataError, StorageError: as `CroissantIndex.rows`.
        """
        state = self.states.get(table.name)
        signature = _storage.signature(self.fs, self.file_path(table))
        if state is not None and (self._is_stale(state) or signature != state.signature):
            self._rebase(table.name)
        self.state(table)

    def adopt(self, state: TableState) -> None:
        """Take over what another snapshot read of a table, if the storage still has just that."""
        table = state.file.table
        current = _storage.signature(self.fs, self.file_path(table))
        if state.sha256 == self.manifest.sha256(table) and current is not None and current == state.signature:
            self.states[table.name] = TableState(state.original, state.sha256, state.signature)

    def check_unread(self, table: Table) -> None:
        """Refuse to replace a CSV that nobody has read, because the manifest does not declare it [CSV-032].

        Raises:
            ExistsError: `exists`.
        """
        path = self.file_path(table)
        if not self.manifest.declares(table) and self.fs.exists(path):
            raise ExistsError(
                "exists",
                f"the manifest does not declare this file, so {table.name} was taken to be empty; move it away, or "
                "declare it, before rows are written",
                path=path,
            )

    def _is_stale(self, state: TableState) -> bool:
        """Whether the manifest declares another file than the one that was read."""
        return (self.manifest.sha256(state.file.table) or "") != state.sha256

    def _rebase(self, name: str) -> None:
        """Put the pending changes of a table on what is on the storage now."""
        old = self.states[name]
        if not old.changes:
            del self.states[name]
            return
        new = self._fetch(TABLES[name])
        for group, changes in old.changes.items():
            for key, row in changes.items():
                new.change(group, key, row)  # [BAT-010] [BAT-012]
        self.states[name] = new

    def _fetch(self, table: Table) -> TableState:
        """Read a table; where it does not fit the manifest, look whether that is still the manifest [COM-008]."""
        path = self.file_path(table)
        pauses = 0
        while self.manifest.declares(table):
            try:
                data, signature = self._read(table, path)
            except DataError:
                if not self.refresh():
                    if pauses == _RETRIES:
                        raise
                    pauses += 1
                    time.sleep(_RETRY_SECONDS * pauses)
                continue
            return TableState(TableFile(table, path, data), hashlib.sha256(data).hexdigest(), signature)
        return TableState(TableFile(table, path, encode_table(table, [])), "", None)  # [MAN-008]

    def _read(self, table: Table, path: str) -> tuple[bytes, object]:
        """The bytes of a table, from its place or staged, and the signature of the file in its place.

        Raises:
            MissingError, StorageError: `table-missing` [CSV-006], `storage-failed` [CSV-022].
            DataError: `table-checksum` [CSV-004].
        """
        signature = _storage.signature(self.fs, path)
        declared = self.manifest.sha256(table)
        what = f"the table {table.name}, which the manifest declares"
        data, is_staged = _commit.read_table(self.fs, path, declared, what)  # [COM-005]
        checksum = hashlib.sha256(data).hexdigest()
        if declared in (None, checksum):
            return data, None if is_staged else signature
        raise DataError(
            "table-checksum",
            f"the file's sha256 is {checksum}, the manifest declares {declared}; the file was changed without its "
            "manifest, or one of the two is from another version of the project",
            path=path,
        )
