"""What was last read of a project, manifest and tables, and how to take over what others wrote since.

Another process may replace tables and manifest at any time. What was read stays as it is until somebody asks for what
is on the storage now; then the tables that changed are read anew, and pending changes are put on them. Rules: SPEC.md,
Manifest [MAN], Tables [CSV] and Changes [BAT].
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from fsspec import AbstractFileSystem

from copick_mlc import _commit, _filesystems, _storage, _urls, _waiting
from copick_mlc._commit import TableBytes
from copick_mlc._csv import TableFile
from copick_mlc._manifest import Manifest
from copick_mlc._state import TableState
from copick_mlc._tables import TABLES, Table, encode_table
from copick_mlc.errors import DataError, ExistsError, MissingError, StorageError

# Another program may replace tables before the manifest that declares them. Between the two, a reader waits.
_RETRIES = 5
_RETRY_SECONDS = 0.05


class Snapshot:
    """The manifest that was read, and the tables that somebody asked for since.

    Attributes:
        fs: The file system of manifest and tables.
        is_local: Whether that is the local disk.
        path: Path of metadata.json in it.
        url: Absolute URL of metadata.json.
        raw: The bytes of the manifest.
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
        self._ahead: dict[str, TableBytes] = {}  # tables that were read before anybody asked for them, by name
        self.is_local = _filesystems.is_local(fs)
        raw = _commit.read_manifest(fs, path)
        self.take(raw, Manifest(raw, url))

    def take(self, raw: bytes, manifest: Manifest) -> None:
        """Have this manifest, whose bytes are `raw`."""
        self.raw, self.manifest = raw, manifest
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
            if self.states and table.name not in self._ahead:  # who asks for two is likely to ask for more
                self.read_ahead(name for name in TABLES if name not in self.states)
            state = self.states[table.name] = self._fetch(table)
        return state

    def read_ahead(self, names: Iterable[str]) -> None:
        """Read tables that are about to be asked for, all at the same time; on the local disk there is no need.

        What is wrong with one is said when somebody asks for it.
        """
        if self.is_local:
            return
        declared = {name: self.manifest.sha256(TABLES[name]) for name in names}
        read = {name: found.sha256 for name, found in self._ahead.items()}
        wanted = [TABLES[name] for name, sha256 in declared.items() if sha256 and read.get(name) != sha256]
        _waiting.concurrently([partial(self._read_one_ahead, table) for table in wanted])

    def _read_one_ahead(self, table: Table) -> None:
        with suppress(MissingError, StorageError, DataError):
            self._ahead[table.name] = self._read(table, self.file_path(table))

    def changed(self) -> list[TableState]:
        """The tables with changes that are not committed."""
        return [state for state in self.states.values() if state.changes]

    @contextmanager
    def standing(self) -> Iterator[None]:
        """What was read stays as it was where the block fails."""
        raw, manifest, states = self.raw, self.manifest, dict(self.states)
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
        return self.take_over(_commit.read_manifest(self.fs, self.path))

    def take_over(self, raw: bytes) -> bool:
        """As `refresh`, of a manifest that was read already.

        Raises:
            MissingError, DataError, StorageError: as `refresh`.
        """
        if raw == self.raw:
            return False
        self.take(raw, Manifest(raw, self.url))
        stale = [name for name, state in self.states.items() if state.changes and self._is_stale(state)]
        self.read_ahead(stale)
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
        if state is not None and (self._is_stale(state) or self._was_replaced(state)):
            self._rebase(table.name)
        self.state(table)

    def adopt(self, states: Iterable[TableState]) -> None:
        """Take over what another snapshot read of tables, if the storage still has just that, and read the others.

        On other storage than the local disk, that is what the manifest declares.

        Raises:
            MissingError, DataError, StorageError: as `CroissantIndex.rows`.
        """
        states = list(states)
        for state in states:
            if state.sha256 and not self._is_stale(state) and not self._was_replaced(state):
                adopted = TableState(state.original, state.sha256, state.version, is_staged=state.is_staged)
                self.states[state.file.table.name] = adopted
        names = [state.file.table.name for state in states]
        self.read_ahead(name for name in names if name not in self.states)
        for state in states:
            self.state(state.file.table).parse_as(state)

    def _was_replaced(self, state: TableState) -> bool:
        """Whether a local file is another one than was read."""
        return self.is_local and _storage.signature(self.fs, self.file_path(state.file.table)) != state.version

    def check_unread(self, table: Table) -> None:
        """Refuse to replace a CSV that nobody has read, because the manifest does not declare it [CSV-032].

        Raises:
            ExistsError: `exists`.
        """
        path = self.file_path(table)
        if not self.manifest.declares(table) and _storage.exists(self.fs, path):
            raise ExistsError(
                "exists",
                f"the manifest does not declare this file, so {table.name} was taken to be empty; move it away, or "
                "declare it, before rows are written",
                path=_filesystems.url_of(self.fs, path),
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
            ahead = self._ahead.pop(table.name, None)
            if ahead is not None and ahead.sha256 == self.manifest.sha256(table):
                return self._state_of(table, path, ahead)
            try:
                return self._state_of(table, path, self._read(table, path))
            except DataError as error:
                if self._refresh_thoroughly():
                    continue
                # What has its sha256 is as it was written: nobody is about to mend it.
                is_declared = error.code != "table-checksum" and self.manifest.sha256(table) is not None
                if is_declared or pauses == _RETRIES:
                    raise
                pauses += 1
                time.sleep(_RETRY_SECONDS * pauses)
        version = None if self.is_local else _storage.ABSENT
        where = _filesystems.url_of(self.fs, path)
        return TableState(TableFile(table, where, encode_table(table, [])), "", version)  # [MAN-008]

    def _refresh_thoroughly(self) -> bool:
        """As `refresh`, and where that finds nothing new, look for a local writer's that was killed [COM-016]."""
        if self.refresh():
            return True
        pending = None if self.is_local else _commit.read_pending(self.fs, self.path)
        return pending is not None and self.take_over(pending)

    def _read(self, table: Table, path: str) -> TableBytes:
        """The bytes of a table, from its place or staged.

        Raises:
            MissingError, StorageError: `table-missing` [CSV-006], `storage-failed` [CSV-022].
            DataError: `table-checksum` [CSV-004].
        """
        declared = self.manifest.sha256(table)
        what = f"the table {table.name}, which the manifest declares"
        found = _commit.read_table(self.fs, path, declared, what)  # [COM-005]
        if declared in (None, found.sha256):
            return found
        raise DataError(
            "table-checksum",
            f"the file's sha256 is {found.sha256}, the manifest declares {declared}; the file was changed without its "
            "manifest, or one of the two is from another version of the project",
            path=_filesystems.url_of(self.fs, path),
        )

    def _state_of(self, table: Table, path: str, found: TableBytes) -> TableState:
        file = TableFile(table, _filesystems.url_of(self.fs, path), found.data)
        return TableState(file, found.sha256, found.version, is_staged=found.is_staged)
