"""Where a root writes: the base URL and its manifest in Mode A, the overlay in Mode B.

Creating writes data first and then its row [BAT-005]; deleting removes the row first and then data [BAT-007]. So the
index never names what does not exist, also when a batch defers the rows. Rules: SPEC.md, Changes [BAT], Overlays [OVL]
and Security [SEC].
"""

from __future__ import annotations

import dataclasses
import os
import posixpath
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Any

from fsspec import AbstractFileSystem

from copick_mlc import _filesystems, _layout, _storage, _urls
from copick_mlc._tables import Row, cells_of
from copick_mlc.errors import CroissantError, DataError, ReadOnlyError, StorageError, UsageError
from copick_mlc.index import CroissantIndex


@dataclasses.dataclass
class _Removal:
    """The removal of data, which waits for the commit that removes its row.

    Attributes:
        fs: The file system of the data.
        path: Its path.
        is_object: Whether it is one object, which nothing else needs to be asked of.
        done: Whether it was made.
    """

    fs: AbstractFileSystem
    path: str
    is_object: bool = False
    done: bool = False

    def __call__(self) -> None:
        if not self.done:
            self.done = True
            (_storage.remove_file if self.is_object else _storage.remove)(self.fs, self.path)

    def touches(self, path: str) -> bool:
        return f"{path}/".startswith(f"{self.path}/") or f"{self.path}/".startswith(f"{path}/")


class Target:
    """The place a root writes to.

    Attributes:
        index: The project's index.
        fs: The file system written to.
        path: The directory in it below which artifacts are kept.
        indexed: Whether artifacts have rows: true in Mode A, false in an overlay.
    """

    def __init__(self, index: CroissantIndex, fs: AbstractFileSystem, path: str, *, indexed: bool) -> None:
        self.index = index
        self.fs = fs
        self.path = path.rstrip("/")
        self.indexed = indexed

    def read_only_reason(self) -> str | None:
        """Why nothing can be written here, or None where nothing speaks against it."""
        if not self.indexed:
            path = self.path
            while _filesystems.is_local(self.fs) and not self.fs.exists(path) and posixpath.dirname(path) != path:
                path = posixpath.dirname(path)  # the overlay is made when first written to [OVL-013]
            reason = _filesystems.write_reason(self.fs, path)
            return reason and f"overlay_root {self.path} cannot be written: {reason}"
        base, url = self.index.base_url, self.index.url
        if reason := _filesystems.write_reason(self.fs, self.path):
            return f"the base URL {base} cannot be written: {reason}"
        if reason := self.index.write_reason():
            return f"the manifest {url} cannot be written: {reason}"
        return None

    def check(self) -> None:
        """Raise unless this place can be written.

        Raises:
            ReadOnlyError: `read-only` [BAT-018].
            DataError: `url-local`, where a remote manifest says that it is on the local disk [SEC-002].
        """
        if reason := self.read_only_reason():
            advice = "open the project with overlay_root set to a directory of yours, and writes go there"
            raise ReadOnlyError("read-only", f"{reason}; {advice}", path=self.index.url)
        if self.indexed:
            self.index.absolute_url("ExperimentRuns")

    def place(self, row: Row) -> tuple[AbstractFileSystem, str]:
        """Where the artifact of `row` is kept.

        Raises:
            UsageError: `name-invalid`, where a name in the key cannot be part of a path [SEC-003].
        """
        for column in row.table.columns[: row.table.key_count]:
            if column.data_type == "sc:Text":
                _urls.check_name(getattr(row, column.name), f"the {column.name} of a row in {row.table.name}")
        return self.fs, f"{self.path}/{_urls.escaped(row.canonical_url, self.path)}"  # [LAY-003] [OVL-002]

    def claim(self, row: Row) -> tuple[AbstractFileSystem, str]:
        """As `place`, and safe to write to: no removal is waiting for what lies there.

        Raises:
            ReadOnlyError, UsageError: as `check` and `place`.
            ExistsError, DataError, StorageError: as `CroissantIndex.prepare`.
        """
        self.check()
        fs, path = self.place(row)
        if self.indexed:
            self.index.prepare(row)
        elif not _layout.is_listed(row):  # [OVL-009] [OVL-016]
            raise UsageError(
                "name-invalid",
                f"{row.key}: an overlay lists what its files are named, and {row.canonical_url} is no name, or that of "
                "something else; choose another",
            )
        for action in self.index.deferred:
            if isinstance(action, _Removal) and action.touches(path):  # [BAT-008]
                action()
        return fs, path

    def write_file(self, row: Row, data: bytes, **columns: Any) -> None:
        """Keep a file, then its row with these columns [BAT-005]. If that cannot be committed, the file is as before.

        A file that is replaced below a manifest on other storage than the local disk may be the new one then.

        Raises:
            ReadOnlyError, UsageError, StorageError: as `claim`.
        """
        self.check()
        if self.indexed and self.index.is_local:
            self._write_with_lock(row, data, columns)
        else:
            fs, path = self.claim(row)
            write = partial(_storage.write, fs, path, data)
            self.write_remotely(row, write, partial(_storage.remove_file, fs, path), **columns)

    def _write_with_lock(self, row: Row, data: bytes, columns: dict[str, Any]) -> None:
        with self.exclusive():
            fs, path = self.claim(row)
            before = _storage.read_if_there(fs, path)
            try:
                _storage.write(fs, path, data)
                self.record(row, **columns)
            except CroissantError:
                if before is None:
                    _storage.remove(fs, path)
                elif _storage.read_if_there(fs, path) != before:
                    _storage.write(fs, path, before)
                raise

    def write_remotely(
        self, row: Row, write: Callable[[], _storage.Version], remove: Callable[[], None], **columns: Any
    ) -> None:
        """Write data and its row where the manifest is not on the local disk, or there is none.

        As each request takes time, those that can go at the same time do.

        Args:
            row: The row, which is claimed.
            write: What writes the data, and gives its version.
            remove: What removes it, where it is new and its row cannot be committed.
            columns: As of `record`.

        Raises:
            UsageError, StorageError: as `record`.
        """
        if not self.indexed:
            write()
            return
        known, new = self._recorded(row, columns)
        if new == known and not self.index.in_batch:  # but what others wrote may be another row, or none
            known, new = self.index.caught_up(lambda: self._recorded(row, columns))
        if self.index.in_batch or new == known:
            cells_of(new)  # so that nothing but the storage can fail after this
            version = write()
            self.record(row, version, **columns)
            return
        try:
            self.index.put_with_data(new, write, replaces=known is not None)
        except CroissantError:
            if known is None:
                with suppress(StorageError):
                    remove()
            raise

    def exclusive(self) -> AbstractContextManager[None]:
        """Have data and row follow each other, whoever else writes the artifact; in a batch, the row comes later."""
        return self.index.exclusive() if self.indexed and not self.index.in_batch else nullcontext()

    def record(self, row: Row, version: _storage.Version = None, **columns: Any) -> None:
        """Put the row of an artifact that was written. Columns that are not named keep their values [PIK-015].

        Args:
            row: The row, of which the key counts.
            version: What tells whether the data is replaced by others, where that is known.
            columns: What the row has.
        """
        if self.indexed:  # [OVL-001]
            known, new = self._recorded(row, columns)
            if new != known:
                self.index.put(new)
            self.index.wrote(new, *self.place(row), version)

    def _recorded(self, row: Row, columns: dict[str, Any]) -> tuple[Row | None, Row]:
        """The row that is there, if any, and the row as it is to be."""
        known = self.index.find(row)
        url = {"url": row.canonical_url} if row.table.has_url else {}  # [TOM-007] [PIK-014]
        return known, dataclasses.replace(known or row, **url, **columns)  # type: ignore[type-var]

    def delete(self, find: Callable[[], list[Row]], directory: Row | None = None) -> None:
        """Remove the rows that `find` finds, then their data, and then the directory that the key of `directory` names.

        Rows are found as they are now, and again with the commit: what others add meanwhile goes too [BAT-019]. Data
        outside the project [SEC-004], and data that another row of its table names too [PIK-018], is left alone.

        Raises:
            ReadOnlyError, UsageError, StorageError: as `claim`.
        """
        self.check()
        whole = self._directory(directory) if directory is not None else []
        if not self.indexed:
            for removal in [self._in_overlay(row) for row in find() if row.table.has_url] + whole:
                removal()
            return
        rows, removals = self.index.caught_up(lambda: self._found(find, directory if whole else None))
        with self.index.batch():
            for row in rows:
                self.index.remove(row)
            self.index.remove_with_commit(find)
            for removal in removals + whole:
                self.index.after_commit(removal)  # [BAT-007]

    def _in_overlay(self, row: Row) -> _Removal:
        """The removal of the data of an artifact of the overlay."""
        is_store = row.table.canonical.endswith(".zarr")
        return _Removal(*self.place(row), is_object=not is_store and not _filesystems.has_directories(self.fs))

    def _found(self, find: Callable[[], list[Row]], directory: Row | None) -> tuple[list[Row], list[_Removal]]:
        """The rows that are to go, and the removals of their data, but for what goes with a whole directory."""
        rows = find()
        # On the local disk, links may lead from there to other data of the project.
        below = f"{directory.canonical_url}/" if directory is not None and not _filesystems.is_local(self.fs) else None
        return rows, self._data_of(rows, below)

    def _directory(self, row: Row) -> list[_Removal]:
        """The removal of the directory of a run or voxel spacing; none where no directory can have its name."""
        try:
            return [_Removal(*self.place(row))]
        except UsageError:
            return []

    def _data_of(self, rows: list[Row], below: str | None) -> list[_Removal]:
        """The removals of the data that only `rows` name, and that is not below a place."""
        going = {(row.table.name, row.key) for row in rows}
        groups = dict.fromkeys((row.table.name, row.group) for row in rows)
        there = [row for table, group in groups for row in self.index.rows(table, group)]
        places = {self._inside(row): row for row in there if (row.table.name, row.key) in going}
        there += [row for place, gone in places.items() if place for row in self._elsewhere(place, gone)]
        kept = {self._inside(row) for row in there if (row.table.name, row.key) not in going}  # [PIK-018]
        left = {place: row for place, row in places.items() if place and not (below and place.startswith(below))}
        found = (self._data_at(place, row) for place, row in left.items() if place not in kept)
        return [removal for removal in found if removal is not None]

    def _elsewhere(self, place: str, row: Row) -> Iterator[Row]:
        """The rows of other runs in the table of `row` that may name a place below the base URL."""
        for run in self.index.naming(row.table.name, place, row.group):
            yield from self.index.rows(row.table.name, run)

    def _inside(self, row: Row) -> str | None:
        """Where below the base URL the data of a row is; None where that is elsewhere, or beside the manifest."""
        url = getattr(row, "url", None)
        if not url:
            return None
        try:
            absolute = self.index.absolute_url(url)
        except DataError:  # a URL that leads out of the project
            return None
        normal = posixpath.normpath(absolute) if absolute.startswith("/") else absolute
        inside = _urls.relative(normal, self.index.base_url)
        return None if inside is None or inside.split("/")[0] == "Croissant" else inside  # [SEC-004] [SEC-005]

    def _data_at(self, place: str, row: Row) -> _Removal | None:
        """The removal of what is at a place below the base URL, if it is of the kind that `row` stands for."""
        fs, path = self.index.resolve_url(place)
        if not self._is_own(fs, path):
            return None
        is_store = row.table.canonical.endswith(".zarr")
        if not is_store and not _filesystems.has_directories(fs):
            return _Removal(fs, path, is_object=True)
        # A row could name a directory of the project.
        fits = _layout.is_store(fs, path) if is_store else not _storage.is_directory(fs, path)  # [SEC-006]
        return _Removal(fs, path) if fits else None

    def _is_own(self, fs: AbstractFileSystem, path: str) -> bool:
        """Whether links on the way leave a path below the base URL [SEC-004], and not beside the manifest [SEC-005]."""
        if not _filesystems.is_local(fs):
            return True
        directory, base = os.path.realpath(os.path.dirname(path)), os.path.realpath(self.path)
        beside = os.path.realpath(os.path.dirname(_urls.normalise(self.index.url)))
        # Where the manifest's directory holds all the data, only the files beside it are its own.
        is_beside = directory == beside if _is_below(base, beside) else _is_below(directory, beside)
        return _is_below(directory, base) and not is_beside


def _is_below(path: str, directory: str) -> bool:
    return f"{path}/".startswith(f"{directory.rstrip('/')}/")
