"""`CroissantIndex`: the manifest and tables of a project, pending changes, and the commit.

State is a base, which is what was last read, and pending changes: rows put, keys removed. Opening reads
metadata.json alone; a table is fetched when it is first touched, and a run's rows are parsed when someone
asks for them. A commit applies the pending changes to what is on the storage by then, so rows that another
process added meanwhile stay.

This module and those below it need nothing but the standard library and fsspec. Rules: SPEC.md, Manifest [MAN],
Tables [CSV] and Changes [BAT].
"""

from __future__ import annotations

import datetime
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from fsspec import AbstractFileSystem

from copick_mlc import _commit, _filesystems, _lock, _manifest, _remote, _storage, _urls, _waiting
from copick_mlc._csv import TableFile
from copick_mlc._lock import locked
from copick_mlc._manifest import Manifest
from copick_mlc._pending import Pending
from copick_mlc._snapshot import Snapshot
from copick_mlc._splits import assignments, reassigned
from copick_mlc._tables import (
    TABLES,
    FeaturesRow,
    InstanceSegmentationRow,
    MeshRow,
    ObjectRow,
    PanopticSegmentationRow,
    PicksRow,
    R,
    Row,
    RunRow,
    SegmentationRow,
    Table,
    TomogramRow,
    VoxelSpacingRow,
    table_named,
)
from copick_mlc.errors import CroissantError, DataError, LockedError, ReadOnlyError, StorageError

T = TypeVar("T")

# Of two that commit to one project on S3 again and again, each waits about as long as a commit takes.
_PAUSE_SECONDS = 0.2

__all__ = [
    "CroissantIndex",
    "FeaturesRow",
    "InstanceSegmentationRow",
    "MeshRow",
    "ObjectRow",
    "PanopticSegmentationRow",
    "PicksRow",
    "Row",
    "RunRow",
    "SegmentationRow",
    "TomogramRow",
    "VoxelSpacingRow",
]


@dataclass(frozen=True)
class _Changed:
    """What a commit writes.

    Attributes:
        files: The tables, by name.
        raw: The bytes of the manifest.
        manifest: The manifest.
        contents: The bytes of the tables, by path.
    """

    files: Mapping[str, TableFile]
    raw: bytes
    manifest: Manifest
    contents: Mapping[str, bytes]


class CroissantIndex:
    """The rows of a project, read from and written to its manifest and CSVs.

    Tables are named as their record sets without `copick/`: `index.rows("picks", run="TS_001")`. Rows are
    frozen dataclasses; change one with `dataclasses.replace` and `put`. An index may be used from many
    threads.

    Attributes:
        url: Absolute URL of metadata.json.
        static_fs_args: fsspec options for data at the base URL.
        lock: Held by the thread that reads or changes what is in memory.
    """

    def __init__(
        self,
        croissant_url: str,
        *,
        base_url_override: str | None = None,
        fs_args: Mapping[str, Any] | None = None,
        static_fs_args: Mapping[str, Any] | None = None,
    ) -> None:
        self.url = _urls.normalise(croissant_url)
        self.static_fs_args = dict(static_fs_args or {})
        self._fs_args = dict(fs_args or {})
        self._override = _urls.normalise(base_url_override) if base_url_override else None
        self.lock = threading.RLock()
        self._depth = 0
        self._pending = Pending()
        self._is_exclusive = False
        self._check_lock: Callable[[], None] = lambda: None
        self._base: tuple[str, AbstractFileSystem, str] | None = None
        self._snapshot = self._read()

    def _read(self) -> Snapshot:
        # Anew: an archive may have been replaced, and a connection lost.
        self._fs, self._path = _filesystems.open_uncached(self.url, self._fs_args)
        self._base = None
        return Snapshot(self._fs, self._path, self.url, self._override)

    @classmethod
    def from_url(
        cls,
        croissant_url: str,
        *,
        base_url_override: str | None = None,
        fs_args: dict[str, Any] | None = None,
        static_fs_args: dict[str, Any] | None = None,
    ) -> CroissantIndex:
        """Open the manifest at `croissant_url`; no CSV is read yet.

        Args:
            croissant_url: Path or fsspec URL of a metadata.json.
            base_url_override: What relative URL cells are relative to, in place of `copick:baseUrl`.
            fs_args: fsspec options for metadata.json and the CSVs.
            static_fs_args: fsspec options for the data.

        Raises:
            MissingError: `manifest-missing` [MAN-001].
            DataError: `manifest-invalid` [MAN-002], `not-copick` [MAN-004].
            StorageError: `storage-failed`.
        """
        return cls(
            croissant_url,
            base_url_override=base_url_override,
            fs_args=fs_args,
            static_fs_args=static_fs_args,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {
            "croissant_url": self.url,
            "base_url_override": self._override,
            "fs_args": self._fs_args,
            "static_fs_args": self.static_fs_args,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # a copy opens the project anew, with its own lock

    # --- the manifest ------------------------------------------------------------------------------------

    @property
    def document(self) -> Mapping[str, Any]:
        """The JSON-LD document of metadata.json; not to be changed."""
        return self._snapshot.manifest.document

    @property
    def base_url(self) -> str:
        """What relative URL cells are relative to.

        The override, else `copick:baseUrl`, else the parent of the manifest's directory.
        """
        return self._snapshot.base_url

    @property
    def config(self) -> dict[str, Any]:
        """`copick:config`, with the pickable objects that were put and not yet committed."""
        config = self._snapshot.manifest.config
        if not self._pending.objects:
            return config
        objects = {item["name"]: item for item in config.get("pickable_objects") or []}
        return {**config, "pickable_objects": list({**objects, **self._pending.objects}.values())}  # [MAN-019]

    def put_object(self, definition: Mapping[str, Any]) -> None:
        """Add a pickable object to `copick:config`, or replace that of its name [MAN-018]. Commits, outside a batch."""
        with self.lock, self._committed():
            self._pending.objects[definition["name"]] = dict(definition)

    # --- URLs --------------------------------------------------------------------------------------------

    def absolute_url(self, url: str) -> str:
        """The absolute URL of a `url` cell.

        Raises:
            DataError: `url-outside`, for a relative cell that climbs out of the base [SEC-001]; `url-local`, for one
                that leads from a manifest on remote storage to the local disk [SEC-002].
        """
        absolute = _urls.absolute(self.base_url, url)
        trusted = _urls.is_local(self.url) or (self._override is not None and not _urls.is_absolute(url))
        if not trusted and _urls.is_local(absolute):
            raise DataError(
                "url-local",
                f"the URL {url!r} leads to {absolute} on the local disk, but the manifest comes from "
                f"{self.url}; give a base URL (croissant_base_url) if the data really is here",
                path=self.url,
                column="url",
            )
        return absolute

    def resolve_url(self, url_value: str, **fs_args: Any) -> tuple[AbstractFileSystem, str]:
        """The fsspec file system and path of a `url` cell [URL-002] [URL-003].

        Args:
            url_value: The cell.
            fs_args: fsspec options; they win over `static_fs_args`.

        Raises:
            DataError: `url-outside`, `url-local`.
            StorageError: `storage-failed`.
        """
        absolute = self.absolute_url(url_value)
        if fs_args or _urls.is_absolute(url_value):
            return _filesystems.open_location(absolute, {**self.static_fs_args, **fs_args})
        base = self.base_url
        if self._base is None or self._base[0] != base:
            self._base = (base, *_filesystems.open_location(base, self.static_fs_args))
        _, fs, path = self._base
        if not path:
            return fs, url_value
        place = f"{path.rstrip('/')}/{_urls.escaped(url_value, path)}"
        return fs, place if _filesystems.is_local(fs) else _urls.resolved(place)

    # --- rows --------------------------------------------------------------------------------------------

    def groups(self, table: str) -> list[str]:
        """The runs that have rows in `table`; for `runs` and `objects`, the names in it."""
        with self.lock:
            return self._snapshot.state(table_named(table)).names()

    def has(self, table: str, run: str) -> bool:
        """Whether a run has rows in `table`; for `runs` and `objects`, whether there is a row of that name."""
        with self.lock:
            return self._snapshot.state(table_named(table)).has(run)

    def columns(self, table: str) -> list[str]:
        """The columns that the CSV of a table has, in its order."""
        with self.lock:
            return list(self._snapshot.state(table_named(table)).file.header)

    def naming(self, table: str, text: str, besides: str) -> list[str]:
        """The runs, other than `besides`, that may have a row in `table` with `text` in a cell."""
        with self.lock:
            return self._snapshot.state(table_named(table)).naming(text, besides)

    def count(self, table: str) -> int:
        """The number of rows of a table; no row is parsed unless there are pending changes."""
        with self.lock:
            state = self._snapshot.state(table_named(table))
            return state.render().count if state.changes else state.file.count

    def rows(self, table: str, run: str | None = None) -> Iterator[Row]:
        """The rows of a table, of one run or of all.

        Args:
            table: A table's name, as `picks`.
            run: A run's name; in `runs` and `objects`, a row's own name.

        Raises:
            UsageError: `table-unknown` [CSV-023].
            MissingError: `table-missing` [CSV-006].
            DataError: a `table-` code, for what is wrong in the CSV.
            StorageError: `storage-failed` [CSV-022].
        """
        declared = table_named(table)
        if run is not None:
            return iter(self._rows(declared, run))
        return itertools.chain.from_iterable(self._rows(declared, name) for name in self.groups(table))

    def _rows(self, table: Table, run: str) -> list[Row]:
        with self.lock:
            return list(self._snapshot.state(table).group(run).values())

    def rows_of(self, kind: type[R], run: str | None = None) -> Iterator[R]:
        """As `rows`, of the table whose rows are of class `kind`."""
        if run is None:
            return self.rows(kind.table.name)  # type: ignore[return-value]  # a table holds rows of one class
        return iter(self._rows(kind.table, run))  # type: ignore[arg-type]

    def rows_below(self, kind: type[R], parent: Row) -> list[R]:
        """The rows of class `kind` in what `parent` is the row of, as the tomograms of a voxel spacing.

        Raises:
            MissingError, DataError: as `rows`.
        """
        with self.lock:
            return self._snapshot.state(kind.table).below(parent.group, parent.key)  # type: ignore[return-value]

    def find(self, row: R) -> R | None:
        """The row with the key of `row`, which needs only its key columns; None where there is none.

        Raises:
            MissingError, DataError: as `rows`.
        """
        with self.lock:
            rows = self._snapshot.state(row.table).group(row.group)
            return rows.get(row.key)  # type: ignore[return-value]  # a table holds rows of one class

    def committed(self, row: R) -> R | None:
        """As `find`, but the row as it is on the storage now, whoever wrote it. Nothing is taken over.

        Raises:
            MissingError, DataError, StorageError: as `from_url` and `rows`.
        """
        rows = self._read().state(row.table).group(row.group)
        return rows.get(row.key)  # type: ignore[return-value]  # a table holds rows of one class

    def put(self, row: Row) -> None:
        """Add a row, or replace the row with its key. Commits, outside a batch [BAT-001].

        Raises:
            UsageError: `name-invalid`, for a value that cannot be a cell [CSV-031].
            ReadOnlyError: `read-only` [BAT-018].
            StorageError: `storage-failed`; the index is then as before [BAT-006].
        """
        with self.lock, self._committed():
            self._snapshot.state(row.table).change(row.group, row.key, row)

    def put_with_data(self, row: Row, write: Callable[[], object], *, replaces: bool) -> None:
        """As `put`, outside a batch, with a manifest that is not on the local disk: `write` writes the row's data.

        New data is written while the commit is prepared [BAT-005]. Data that is replaced must not be lost where the
        commit is refused, so that comes after.

        Raises:
            UsageError, ReadOnlyError, StorageError: as `put`, and what `write` raises.
        """
        with self.lock, self._committed():
            self._snapshot.state(row.table).change(row.group, row.key, row)
            (self._pending.replaces if replaces else self._pending.writes).append(write)

    def remove(self, row: Row) -> None:
        """Remove the row with the key of `row`, if there is one. Commits, outside a batch [BAT-001].

        Raises:
            ReadOnlyError: `read-only` [BAT-018].
            StorageError: `storage-failed`; the index is then as before [BAT-006].
        """
        with self.lock, self._committed():
            state = self._snapshot.state(row.table)
            if row.key in state.group(row.group):
                state.change(row.group, row.key, None)

    # --- splits ------------------------------------------------------------------------------------------

    def get_split(self, run_name: str) -> str | None:
        """The split of a run; None where it has none, or where there is no such run [RUN-008]."""
        row = self.find(RunRow(run_name))
        return row.split if row else None

    def set_split(self, run_name: str, split: str | None) -> None:
        """Assign a run to a split; None or an empty string takes it out of its split. Commits, outside a batch.

        Raises:
            UnknownRunError: `run-unknown` [RUN-009].
            UsageError, ReadOnlyError, StorageError: as `put`.
        """
        self._assign({run_name: split or None})  # [RUN-013]

    def splits(self) -> dict[str, list[str]]:
        """The sorted run names of each split."""
        splits: dict[str, list[str]] = {}
        for row in self.rows_of(RunRow):
            if row.split:
                splits.setdefault(row.split, []).append(row.name)
        return {split: sorted(names) for split, names in splits.items()}

    def set_splits(self, mapping: Mapping[str, Iterable[str]], *, clear_existing: bool = False) -> None:
        """Assign runs to splits, in one commit, all or none [RUN-010].

        Args:
            mapping: Run names by split; a str is one name.
            clear_existing: Whether runs that are not mentioned lose their split [RUN-012].

        Raises:
            UnknownRunError: `run-unknown` [RUN-009].
            UsageError: `option-invalid`, for an empty split name or a run in two splits [RUN-011]; `name-invalid`.
            ReadOnlyError, StorageError: as `put`.
        """
        wanted: dict[str, str | None] = dict(assignments(mapping))
        others = self.groups("runs") if clear_existing else []  # [RUN-012]
        self._assign({**dict.fromkeys(others), **wanted})

    def clear_splits(self, runs: Iterable[str] | None = None) -> None:
        """Take runs, or all runs, out of their splits, in one commit, all or none [RUN-010].

        Raises:
            UnknownRunError: `run-unknown` [RUN-009].
            ReadOnlyError, StorageError: as `put`.
        """
        self._assign(dict.fromkeys(self.groups("runs") if runs is None else runs))

    def _assign(self, wanted: Mapping[str, str | None]) -> None:
        with self.lock:
            changed = reassigned(wanted, self.find, self.url)
            with self.batch():
                for row in changed:
                    self.put(row)

    # --- batch, commit, reload ---------------------------------------------------------------------------

    @contextmanager
    def batch(self) -> Iterator[CroissantIndex]:
        """Defer the commit to the end of the block; blocks nest, and the outermost commits [BAT-002].

        If the block raises, what was done in it until then is committed [BAT-003], and the exception goes on.
        """
        with self.lock:
            self._depth += 1
        try:
            yield self
        except BaseException as error:
            try:
                self._leave_batch()  # [BAT-003]
            except CroissantError as commit_error:
                raise error from commit_error
            raise
        self._leave_batch()

    @property
    def in_batch(self) -> bool:
        """Whether commits are deferred."""
        return self._depth > 0

    def _leave_batch(self) -> None:
        with self.lock:
            try:
                if self._depth == 1:  # [BAT-002]
                    self.commit()
            finally:
                self._depth -= 1

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call `action` once the pending changes are committed [BAT-007]: now, where there are none."""
        with self.lock:
            if self.pending:
                self._pending.deferred.append(action)
                return
        action()

    def before_commit(self, check: Callable[[Mapping[str, Any]], object]) -> None:
        """Have the next commit call `check` with the manifest it is to write. Where that raises, it writes nothing."""
        with self.lock:
            self._pending.checks.append(check)

    @property
    def deferred(self) -> list[Callable[[], None]]:
        """The actions that wait for the next commit."""
        return list(self._pending.deferred)

    @property
    def pending(self) -> bool:
        """Whether there are changes that are not committed."""
        return bool(self._pending.objects or self._pending.written or self._snapshot.changed())

    @property
    def is_local(self) -> bool:
        """Whether manifest and tables are on the local disk."""
        return _filesystems.is_local(self._fs)

    def write_reason(self) -> str | None:
        """Why the manifest cannot be written, or None where nothing speaks against it."""
        return _filesystems.write_reason(self._fs, self._snapshot.directory)

    def check_writable(self) -> None:
        """See that nothing speaks against writing the manifest.

        Raises:
            ReadOnlyError: `read-only` [BAT-018].
        """
        if reason := self.write_reason():
            raise ReadOnlyError("read-only", f"the manifest cannot be written: {reason}", path=self.url)

    def prepare(self, row: Row) -> None:
        """See that a change to `row` can be committed, before there is data without a row [BAT-005] [BAT-013].

        Raises:
            ExistsError: `exists`, where a CSV would be replaced that the manifest does not declare [CSV-032].
            MissingError, DataError, StorageError: where what others wrote since cannot be read.
        """
        with self.lock, self._standing():
            if self._depth == 0 and self.is_local:  # elsewhere the commit looks, and data is not written before
                self._snapshot.refresh()
                self._snapshot.renew(row.table)
            self._snapshot.check_unread(row.table)
            self._snapshot.state(row.table).group(row.group)

    def commit(self) -> None:
        """Write the pending changes: the CSVs they are in, then metadata.json.

        Rows [BAT-010] and manifest entries [BAT-011] that others wrote since are kept; where both wrote one key, this
        commit wins.

        Raises:
            ReadOnlyError: `read-only`.
            LockedError: `locked`, where another process writes all the time.
            StorageError: `storage-failed`. The pending changes are then dropped: memory is as it was [BAT-006].
            DataError: where what others wrote since cannot be read [BAT-013].
            ExistsError: `exists`, where a CSV would be replaced that the manifest does not declare [CSV-032].
        """
        with self.lock, ExitStack() as stack:
            if not self.pending:
                return
            try:
                stack.enter_context(self.exclusive())
                with self._standing():
                    if self.is_local:
                        _commit.recover(self._fs, self._path)
                        self._commit()
                    else:
                        self._commit_remotely()
            except BaseException:
                self.discard()
                raise
            done, self._pending = self._pending, Pending()
            # All of them, in order, also where one fails; nobody writes anew meanwhile what they remove.
            for action in reversed(done.deferred):
                stack.callback(action)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock of the project [COM-001], so that no other process commits; it can be taken again within.

        Raises:
            LockedError: `locked` [COM-009].
            StorageError: `storage-failed`.
        """
        with self.lock, ExitStack() as stack:
            if not self._is_exclusive:
                self._check_lock = stack.enter_context(locked(self._fs, self._path))
                stack.callback(setattr, self, "_is_exclusive", False)
                self._is_exclusive = True
            yield

    def remove_with_commit(self, find: Callable[[], Iterable[Row]]) -> None:
        """Have the commit of what is pending remove the rows that `find` gives then too, besides those that it puts."""
        with self.lock:
            if self.pending:
                self._pending.going.append(find)

    def wrote(self, row: Row, fs: AbstractFileSystem, path: str, version: _storage.Version = None) -> None:
        """Have the commit of a batch see that the row of this key fits the data at `path`, whoever wrote that last.

        Args:
            row: The row.
            fs: The file system of the data.
            path: Its path.
            version: What tells whether it was replaced since, where that is known.
        """
        with self.lock:
            if self._depth:
                self._pending.wrote(row, fs, path, version)

    def caught_up(self, find: Callable[[], T]) -> T:
        """What `find` gives when all that others committed is taken over; pending changes stay on top of it [BAT-010].

        Raises:
            MissingError, DataError, StorageError: as `from_url` and `rows`. Nothing is taken over then.
        """
        with self.lock, self._standing():
            self._snapshot.refresh()
            return find()

    def discard(self) -> None:
        """Drop the pending changes; what was read stays."""
        with self.lock:
            for state in self._snapshot.states.values():
                state.discard()
            self._pending = Pending()

    def reload(self) -> None:
        """Read metadata.json and the tables in use anew [BAT-014]. Pending changes are dropped: commit them before.

        If that fails, everything stays as it was [BAT-015].

        Raises:
            MissingError, DataError, StorageError: as `from_url` and `rows`.
        """
        with self.reloaded():
            pass

    @contextmanager
    def reloaded(self) -> Iterator[None]:
        """As `reload`, and everything is as it was also where the block fails [BAT-015].

        Raises:
            MissingError, DataError, StorageError: as `reload`.
        """
        with self.lock:
            new = self._read()
            new.adopt(self._snapshot.states.values())
            with self._standing():
                self._snapshot, self._pending = new, Pending()
                yield

    def recover(self) -> None:
        """Finish the commit of a writer that was killed, if there is one, nobody is at work, and the storage allows it.

        Where it does not, what is pending is read all the same, and the next commit says what is wrong [COM-010].
        """
        if self.write_reason() is None and _commit.unfinished(self._fs, self._path) is not None:
            with suppress(LockedError, StorageError), locked(self._fs, self._path, wait=0):
                _commit.recover(self._fs, self._path)

    @contextmanager
    def _standing(self) -> Iterator[None]:
        """The old state stands where the block fails."""
        old = self._snapshot, self._pending
        try:
            with self._snapshot.standing():
                yield
        except BaseException:
            self._snapshot, self._pending = old
            raise

    @contextmanager
    def _committed(self) -> Iterator[None]:
        """Commit after one change, unless in a batch. Nothing changes where nothing can be written."""
        self.check_writable()
        yield
        if self._depth == 0:  # [BAT-001]
            self.commit()

    def _commit(self) -> None:
        """Commit to the local disk; whoever calls this holds the lock."""
        self._snapshot.refresh()  # [BAT-011]
        changed = self._changed()
        if changed is not None:
            _commit.publish(self._fs, self._path, changed.contents, changed.raw, self._snapshot.raw)
            signatures = {path: _storage.signature(self._fs, path) for path in changed.contents}
            self._take(changed, signatures)

    def _commit_remotely(self) -> None:
        """Commit to other storage: on what was read, and where others committed since, on that, until it holds."""
        snapshot, early, late = self._snapshot, self._pending.writes, self._pending.replaces
        deadline = time.monotonic() + _lock.WAIT_SECONDS
        while True:
            changed = self._changed()
            if changed is None:
                if snapshot.refresh():  # what others wrote may ask for a change
                    continue
                return
            found, version = _remote.prepare(self._fs, self._path, changed.contents, early)
            raw = found or b""
            early = []
            try:
                if raw == snapshot.raw:
                    _waiting.concurrently(late)
                    late = []
                    self._check_lock()
                    _remote.commit(self._fs, self._path, changed.raw, version)
                    break
            except _storage.ConflictError:
                time.sleep(random.uniform(0, _PAUSE_SECONDS))  # noqa: S311  # no secret: so that writers differ
                raw = _commit.read_manifest(self._fs, self._path)
            except BaseException:
                _remote.withdraw(self._fs, self._path, changed.contents)
                raise
            _remote.withdraw(self._fs, self._path, changed.contents, raw)
            if time.monotonic() > deadline:
                raise LockedError("locked", "others commit to this project all the time; try again", path=self.url)
            snapshot.take_over(raw)  # [BAT-010] [BAT-011]
        self._settle(changed)

    def _settle(self, changed: _Changed) -> None:
        """Put the tables of a commit to other storage in their places, and others that were read staged."""
        states = {self._snapshot.file_path(state.file.table): state for state in self._snapshot.states.values()}
        left = {path: state.original.data for path, state in states.items() if state.is_staged}  # [COM-014]
        contents = {**left, **changed.contents}
        known = {path: states[path].version for path in contents}
        versions = _remote.settle(self._fs, self._path, contents, known, self._declares)
        self._take(changed, versions)
        done = left.keys() & versions.keys()
        for path in done - changed.contents.keys():
            states[path].version, states[path].is_staged = versions[path], False
        _remote.unstage(self._fs, {path: left[path] for path in done & changed.contents.keys()})

    def _declares(self, path: str, sha256: str) -> bool:
        return _commit.declares(self._fs, self._path, path, sha256)

    def _changed(self) -> _Changed | None:
        """The files with the pending changes; None where there is nothing to write."""
        snapshot = self._snapshot
        self._pending.bring_up_to_date(snapshot)
        for state in snapshot.changed():
            snapshot.renew(state.file.table)  # [BAT-013]
            snapshot.check_unread(state.file.table)
        files = {name: state.render() for name, state in snapshot.states.items() if state.changes}  # [BAT-009]
        if not files and not self._pending.objects:
            return None
        written = {name: file.data for name, file in files.items()}
        document = _manifest.patch(
            snapshot.manifest.document,
            files=written,
            filled=[name for name, file in files.items() if file.count],
            splits=self._split_names() if "runs" in files else None,  # [MAN-027]
            modified=datetime.date.today().isoformat(),  # [MAN-034]
            config=self.config if self._pending.objects else None,
            columns={name: file.header for name, file in files.items()},
        )
        for check in self._pending.checks:
            check(document)
        raw = _manifest.dump(document)
        contents = {snapshot.file_path(TABLES[name]): data for name, data in written.items()}
        return _Changed(files, raw, Manifest(raw, self.url), contents)

    def _take(self, changed: _Changed, versions: Mapping[str, object]) -> None:
        """Have what a commit has written. A table without a version is staged, and not in its place yet."""
        self._snapshot.take(changed.raw, changed.manifest)
        for name, file in changed.files.items():
            table = TABLES[name]
            path = self._snapshot.file_path(table)
            state, sha256 = self._snapshot.states[name], changed.manifest.sha256(table) or ""
            if path in versions:
                state.committed(file, sha256, versions[path])
            else:
                state.committed(file, sha256, state.version, is_staged=True)

    def _split_names(self) -> list[str]:
        return [row.split for row in self.rows_of(RunRow) if row.split]
