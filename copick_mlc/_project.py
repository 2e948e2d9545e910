"""A project as it lies on the storage, read as far as it can be; nothing is written.

Where others stop at the first thing that is wrong, this goes on: a broken table is a problem that is told, and the rest
is read. `verify` and `repair` look at a project so. Needs the index layer only.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property, partial
from typing import Any

from fsspec import AbstractFileSystem

from copick_mlc import _commit, _filesystems, _layout, _lock, _storage, _urls, _waiting
from copick_mlc._commit import TableBytes
from copick_mlc._csv import TableFile
from copick_mlc._findings import Finding
from copick_mlc._manifest import Manifest
from copick_mlc._tables import TABLES, FeaturesRow, Key, MeshRow, PicksRow, Row, Table, TomogramRow, encode_table
from copick_mlc.errors import CroissantError, StorageError
from copick_mlc.index import CroissantIndex

_MARKERS = (".zgroup", ".zarray", "zarr.json")
_STAGED_DATA = re.compile(r"\..+\.[0-9a-f]{12}\.tmp(\.former)?")


class Project:
    """Manifest, tables and data of a project.

    Attributes:
        url: Absolute URL of metadata.json.
        fs: The file system of manifest and tables.
        path: Path of metadata.json in it.
        manifest: The manifest.
        raw: Its bytes.
        files: The tables that can be read, by name; one that is not declared is empty.
        rows: The rows of each table, by key; of a table that cannot be read, or only in part, those that can.
        checksums: The sha256 of the tables that do not have the declared one.
        untrue: What else the manifest says of the bytes of tables that is not so, and what is so, by property.
        problems: What is wrong with tables, the table's name with each.
        staged: What was read staged, by the path of the table.
    """

    def __init__(
        self,
        url: str,
        *,
        base_url: str | None = None,
        fs_args: Mapping[str, Any] | None = None,
        static_fs_args: Mapping[str, Any] | None = None,
    ) -> None:
        """Read the manifest and all tables.

        Args:
            url: Path or fsspec URL of metadata.json.
            base_url: What relative URL cells are relative to, in place of `copick:baseUrl`.
            fs_args: fsspec options for metadata.json and the CSVs.
            static_fs_args: fsspec options for the data.

        Raises:
            MissingError, DataError, StorageError: as `CroissantIndex.from_url`.
        """
        self.index = CroissantIndex.from_url(
            url,
            base_url_override=base_url,
            fs_args=dict(fs_args or {}),
            static_fs_args=dict(static_fs_args or {}),
        )
        self.url = self.index.url
        self.fs, self.path = _filesystems.open_location(self.url, fs_args)
        self.raw = _commit.read_manifest(self.fs, self.path)
        self.manifest = Manifest(self.raw, self.url)
        self.files: dict[str, TableFile] = {}
        self.rows: dict[str, dict[Key, Row]] = {name: {} for name in TABLES}
        self.checksums: dict[str, str] = {}
        self.untrue: dict[str, dict[str, tuple[object, str]]] = {}
        self.problems: list[tuple[str, CroissantError]] = []
        self.staged: dict[str, TableBytes] = {}
        read = _waiting.at_once([self.fs], [partial(self._read, table) for table in TABLES.values()])
        for table, data in zip(TABLES.values(), read, strict=True):
            with self._noted(table):
                self.files[table.name] = self._file(table, data)
                for group in self.files[table.name].groups:
                    with self._noted(table):
                        self.rows[table.name] |= self.files[table.name].group(group)

    @contextmanager
    def _noted(self, table: Table) -> Iterator[None]:
        """What is wrong with a table is noted, and the others are read."""
        try:
            yield
        except CroissantError as error:
            self.problems.append((table.name, error))

    def table_path(self, table: Table) -> str:
        """Path of the CSV of a table [LAY-001]."""
        directory = self.path.rpartition("/")[0]
        return f"{directory}/{table.file_name}" if directory else table.file_name

    def table_url(self, table: Table) -> str:
        """What people know the CSV of a table by."""
        return _filesystems.url_of(self.fs, self.table_path(table))

    def is_whole(self, *tables: str) -> bool:
        """Whether all of these tables could be read to the last row."""
        broken = {name for name, _ in self.problems}
        return broken.isdisjoint(tables)

    def undeclared(self) -> list[Table]:
        """The tables that have a CSV which the manifest does not declare."""
        tables = (table for table in TABLES.values() if not self.manifest.declares(table))
        return [table for table in tables if _storage.exists(self.fs, self.table_path(table))]

    def _read(self, table: Table) -> bytes | CroissantError | None:
        """The bytes of a table, or why it cannot be read; None where the manifest does not declare it."""
        if not self.manifest.declares(table):
            return None
        path = self.table_path(table)
        what = f"the table {table.name}, which the manifest declares"
        try:
            found = _commit.read_table(self.fs, path, self.manifest.sha256(table), what)
        except CroissantError as error:
            return error
        if found.is_staged:
            self.staged[path] = found
        return found.data

    def _file(self, table: Table, data: bytes | CroissantError | None) -> TableFile:
        url = self.table_url(table)
        if isinstance(data, CroissantError):
            raise data
        if data is None:
            return TableFile(table, url, encode_table(table, []))  # [MAN-008]
        declared = self.manifest.sha256(table)
        checksum = hashlib.sha256(data).hexdigest()
        if declared not in (None, checksum):
            self.checksums[table.name] = checksum  # what else is declared is of those other bytes, too
        elif untrue := self.manifest.untrue(table, data):
            self.untrue[table.name] = untrue
        return TableFile(table, url, data)

    # --- commits -----------------------------------------------------------------------------------------

    def unfinished(self) -> bool | None:
        """Whether the pending commit of a killed writer is complete; None where there is none."""
        if not _filesystems.is_local(self.fs):
            return True if self.staged else None
        return _commit.unfinished(self.fs, self.path)

    def leftovers(self) -> list[str]:
        """Paths of what killed writers left beside the manifest, in name order; a pending commit is not among it."""
        if not _filesystems.is_local(self.fs):
            can_write = self.index.write_reason() is None  # else nobody did, and perhaps nobody may list
            return sorted(_commit.leftovers(self.fs, self.path, self.staged)) if can_write else []
        lock = _lock.path_of(self.path)
        return sorted([*_commit.leftovers(self.fs, self.path), *([lock] if os.path.exists(lock) else [])])

    def writer(self) -> str | None:
        """Who holds the lock of the project, so that what looks left over is not; None where nobody does."""
        return _lock.holder(self.fs, self.path)

    # --- data --------------------------------------------------------------------------------------------

    def artifacts(self) -> list[Row]:
        """The rows that are to name data."""
        return [row for rows in self.rows.values() for row in rows.values() if row.table.has_url]

    def check_data(self) -> Iterator[Finding]:
        """What is wrong with the data that rows name, in the order of the rows."""
        calls = (partial(self._check, row) for row in self.artifacts())
        with _waiting.threads() as threads, closing(_waiting.results(calls, threads)) as found:
            yield from (finding for finding in found if finding is not None)

    def _check(self, row: Row) -> Finding | None:
        url = url_of(row)
        if url is None:
            return Finding.of_row(
                "data-missing", "the row has no url, so it names no data; repair --drop-dangling", row
            )
        is_store = row.table.canonical.endswith(".zarr")
        try:
            fs, path = self.index.resolve_url(url)
            data = _storage.read_if_there(fs, path) if _is_hashed(row) and not _is_directory(fs, path) else None
            found = "there" if data is not None else _look(fs, path, is_store=is_store)
        except CroissantError as error:
            return Finding.of_error(error, row=row)
        what = "a zarr store" if is_store else "a file"
        if found == "missing":
            message = f"the row names {url}, which does not exist; bring {what} back, or repair --drop-dangling"
            return Finding.of_row("data-missing", message, row, path)
        if found == "other":
            message = f"the row names {url}, which is not {what}; put {what} there, or remove the row"
            return Finding.of_row("data-invalid", message, row, path)
        if data is not None and (actual := hashlib.sha256(data).hexdigest()) != row.sha256:  # type: ignore[attr-defined]
            message = (
                f"the sha256 of {url} is {actual}, the row says {row.sha256}; "  # type: ignore[attr-defined]
                "bring the file back if it was damaged; if it is as it should be, repair --accept-data takes it over"
            )
            return Finding.of_row("data-checksum", message, row, path)
        return None

    def place(self) -> tuple[AbstractFileSystem, str]:
        """The file system of the base URL, and the path of it there.

        Raises:
            DataError, StorageError: `url-local`, `storage-failed`.
        """
        return self._place

    @cached_property
    def _place(self) -> tuple[AbstractFileSystem, str]:
        self.index.absolute_url("ExperimentRuns")
        fs, path = _filesystems.open_location(self.index.base_url, self.index.static_fs_args)
        fs.invalidate_cache()  # fsspec keeps what it once listed
        return fs, path.rstrip("/")

    def unnamed(self) -> Iterator[tuple[Row, str]]:
        """What lies in copick's layout at the base URL and no row names: its row, if it had one, and its path.

        What would be in a table that cannot be read is left out.

        Raises:
            DataError, StorageError: as `place`.
        """
        fs, base = self.place()
        places = {self._path_of(url) for row in self.artifacts() if (url := url_of(row))}
        tomograms: dict[str, list[TomogramRow]] = {}
        for row in self.rows["tomograms"].values():
            if isinstance(row, TomogramRow):
                tomograms.setdefault(row.run, []).append(row)

        def list_run(run: str) -> list[Row]:
            found = list(_layout.artifacts(fs, base, run, tomograms.get(run, ())))
            return _with_data(fs, base, found, places)

        with _listing(base), _waiting.threads(_waiting.is_remote([fs])) as threads:
            calls: list[Callable[[], Sequence[Row]]] = [partial(list_run, run) for run in _layout.runs(fs, base)]
            calls.append(partial(_layout.objects, fs, base))
            with closing(_waiting.results(calls, threads)) as listings:
                for listed in listings:
                    yield from self._unnamed_of(listed, fs, base, places)

    def _unnamed_of(
        self, rows: Iterable[Row], fs: AbstractFileSystem, base: str, places: set[str]
    ) -> Iterator[tuple[Row, str]]:
        for row in rows:
            path = f"{base}/{_urls.escaped(row.canonical_url, base)}"
            named = _normal(fs, path) in places if row.table.has_url else row.key in self.rows[row.table.name]
            if not named and self.is_whole(row.table.name):
                yield row, path

    def _path_of(self, url: str) -> str:
        try:
            return _normal(*self.index.resolve_url(url))
        except CroissantError:  # told by check_data
            return ""

    def unlisted_reason(self) -> str | None:
        """Why nobody can say what data there is that no row names; None where nothing speaks against it."""
        protocol = self.index.base_url.partition("://")[0]
        return f"{protocol} storage cannot be listed" if protocol in ("http", "https", "data") else None

    def staged_data(self) -> list[str]:
        """Paths of what writers of data staged in the directories of runs and objects, on the local disk.

        Raises:
            DataError, StorageError: as `unnamed`.
        """
        fs, base = self.place()
        if not _filesystems.is_local(fs):
            return []
        with _listing(base):
            directories = [f"{base}/Objects"]
            for run in _layout.runs(fs, base):
                path = f"{base}/ExperimentRuns/{run}"
                directories += [path, *(f"{path}/{name}" for name in _layout.directories(fs, base, run))]
            return sorted(
                f"{directory}/{name}"
                for directory in directories
                if os.path.isdir(directory)
                for name in os.listdir(directory)
                if _STAGED_DATA.fullmatch(name)
            )


@contextmanager
def _listing(base: str) -> Iterator[None]:
    """Make an error of ours of what a file system raises when a directory cannot be listed.

    Raises:
        StorageError: `storage-failed`.
    """
    try:
        yield
    except _filesystems.failures() as error:
        raise StorageError("storage-failed", f"cannot list what there is: {error}", path=base) from error


def url_of(row: Row) -> str | None:
    """The URL cell of a row; None where it is empty, or its table has none."""
    return getattr(row, "url", None)


def _normal(fs: AbstractFileSystem, path: str) -> str:
    """The one form of a path that may be written in several, through links among them."""
    return os.path.realpath(path) if _filesystems.is_local(fs) else posixpath.normpath(path)


def _is_hashed(row: Row) -> bool:
    return isinstance(row, (PicksRow, MeshRow)) and bool(row.sha256)


def _is_directory(fs: AbstractFileSystem, path: str) -> bool:
    return _filesystems.is_local(fs) and os.path.isdir(path)


def _with_data(fs: AbstractFileSystem, base: str, rows: list[Row], named: set[str]) -> list[Row]:
    """Those rows of a run for which there is data; copick makes empty directories when it only looks.

    On other storage than the local disk, what a row names needs no look here: `check_data` has one.
    """
    known = set() if _filesystems.is_local(fs) else named
    artifacts = [(row, f"{base}/{_urls.escaped(row.canonical_url, base)}") for row in rows if row.table.has_url]
    data = [row for row, path in artifacts if path in known or _is_artifact(fs, path, row)]
    runs = {row.key[:1] for row in data}
    spacings = {row.key[:2] for row in data if isinstance(row, (TomogramRow, FeaturesRow))}
    parents = [row for row in rows if not row.table.has_url and row.key in runs | spacings]
    return parents + data


def _is_artifact(fs: AbstractFileSystem, path: str, row: Row) -> bool:
    return not row.table.canonical.endswith(".zarr") or _layout.is_store(fs, path)


def _look(fs: AbstractFileSystem, path: str, *, is_store: bool) -> str:
    """What is at a path: "there", "missing", or "other" than it should be.

    Raises:
        StorageError: `storage-failed`. What cannot be reached is not missing.
    """
    if _filesystems.is_local(fs):
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return "missing"
        except (OSError, ValueError) as error:
            raise StorageError("storage-failed", f"cannot look for it: {error}", path=path) from error
        fits = _layout.is_store(fs, path) if is_store else os.path.isfile(path)
        return "there" if fits else "other"
    if not is_store:
        return "missing" if _storage.read_if_there(fs, path) is None else "there"
    if any(_storage.read_if_there(fs, f"{path}/{marker}") is not None for marker in _MARKERS):
        return "there"
    return "other" if _storage.exists(fs, path) else "missing"
