"""Copies of artifacts: checked, resumable, and on the local disk in place as a whole or not at all.

A copy is staged beside its place under a name that the next attempt finds again: what a killed one left is compared
with the source, and only what differs is copied. Object stores can rename nothing, so there each file goes straight
to its place. Where storage is not the local disk, several files are copied at the same time. Rules: SPEC.md, Publishing
[PUB].
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from copick_mlc import _filesystems, _storage, _urls, _waiting
from copick_mlc._directory import NewDirectory
from copick_mlc.errors import ExistsError, MissingError, StorageError

_DISK = LocalFileSystem()


@dataclass(frozen=True)
class Copy:
    """A file or a store that is to be copied when this is called. It goes to other processes.

    Attributes:
        source_fs: File system of what is copied.
        source: Its path there.
        fs: File system of the copy.
        path: Its path there.
        is_store: Whether it is a directory.
        sha256: What the file has, where that is known already.
        replaces: Whether other content that is there already is replaced.
    """

    source_fs: AbstractFileSystem
    source: str
    fs: AbstractFileSystem
    path: str
    is_store: bool
    sha256: str | None
    replaces: bool

    def size(self) -> tuple[int, int]:
        """The number of files, and of bytes in them.

        Raises:
            MissingError, StorageError: `data-missing`, `storage-failed`.
        """
        sizes = self._files().values()
        return len(sizes), sum(sizes)

    def __call__(self, files: Executor | None = None) -> None:
        """Copy it.

        Args:
            files: Who copies the files of a store; None for this thread.

        Raises:
            ExistsError: `exists`, where other content is there and is not to be replaced [PUB-008].
            MissingError: `data-missing`, where there is no source.
            StorageError: `storage-failed`, also where the copy is not like the source [PUB-005].
        """
        if _filesystems.is_local(self.fs):
            self._to_disk(files)
        elif self.is_store:
            self._store_to_objects(files)
        else:
            self._to_object("", is_there=True)

    # --- the source --------------------------------------------------------------------------------------

    def _files(self) -> dict[str, int]:
        """The files of the source with their sizes, by path in the store; a file has the path ""."""
        found = _files(self.source_fs, self.source, self.is_store)
        if not found and not (self.is_store and _is_directory(self.source_fs, self.source)):
            raise MissingError("data-missing", "what is to be published does not exist", path=self._source_url(""))
        return found

    def _read(self, name: str) -> bytes:
        place = _join(self.source, name)
        data = _storage.read(self.source_fs, place, "data-missing", "a file that is to be published")
        if self.sha256 not in (None, _sum(data)):
            raise StorageError(
                "storage-failed",
                "it was changed while it was to be published; publish again",
                path=self._source_url(name),
            )
        return data

    def _source_url(self, name: str) -> str:
        return _filesystems.url_of(self.source_fs, _join(self.source, name))

    # --- the copy ----------------------------------------------------------------------------------------

    def _to_disk(self, executor: Executor | None) -> None:
        target = os.path.realpath(self.path)
        staged = staging_path(target)
        with _storage.writing(target):
            files = self._files()
            if os.path.lexists(target) and os.path.isdir(target) != self.is_store:
                what = "a file" if self.is_store else "a directory"
                raise StorageError("storage-failed", f"{what} is where something else is to be copied", path=target)
            if not self._is_there(target, files, executor):
                if os.path.lexists(target) and not self.replaces:
                    raise self._in_the_way(target)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                self._stage(staged, files, executor)
                if self.is_store:
                    NewDirectory(staged, target).take_place()  # [PUB-007]
                else:
                    if os.path.exists(target):
                        shutil.copymode(target, staged)  # [BAT-016]
                    os.replace(staged, target)
                    _storage.sync_directory(os.path.dirname(target))
            for leftover in (staged, f"{staged}.former"):
                _storage.remove(_DISK, leftover)

    def _is_there(self, target: str, files: dict[str, int], executor: Executor | None) -> bool:
        """Whether the copy is as the source is."""
        if not os.path.lexists(target) or _files(_DISK, target, self.is_store) != files:
            return False
        with closing(_waiting.results((partial(self._is_at, target, name) for name in files), executor)) as found:
            return all(found)

    def _is_at(self, target: str, name: str) -> bool:
        return _has(_join(target, name), self._read(name))

    def _stage(self, staged: str, files: dict[str, int], executor: Executor | None) -> None:
        """Have a copy at `staged`, of which a part may be there [PUB-006]."""
        _keep_only(staged, files, is_store=self.is_store)
        if self.is_store:
            os.makedirs(staged, exist_ok=True)
        _all((partial(self._stage_file, staged, name) for name in files), executor)

    def _stage_file(self, staged: str, name: str) -> None:
        place, data = _join(staged, name), self._read(name)
        if _has(place, data):
            return
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as file:
            file.write(data)
            if not self.is_store:  # of volumes nothing is flushed, see _directory
                file.flush()
                os.fsync(file.fileno())
        self._check(name, data, _storage.read(_DISK, place, "data-missing", "what was just written"))

    def _store_to_objects(self, executor: Executor | None) -> None:
        files, there = self._files(), _files(self.fs, self.path, self.is_store)
        surplus = sorted(set(there) - set(files))
        if not self.replaces and (surplus or any(there[name] != files[name] for name in there)):
            raise self._in_the_way(self.path)
        copies = (
            partial(self._to_object, name, is_there=name in there and there[name] == size)
            for name, size in files.items()
        )
        _all(copies, executor)
        _all((partial(_storage.remove, self.fs, _join(self.path, name)) for name in surplus), executor)

    def _to_object(self, name: str, *, is_there: bool) -> None:
        """Copy a file; `is_there` says whether the copy may be there already."""
        place, data = _join(self.path, name), self._read(name)
        if is_there and (found := _storage.read_if_there(self.fs, place)) is not None:
            if found == data:
                return  # [PUB-006]
            if not self.replaces:
                raise self._in_the_way(place)
        _storage.write(self.fs, place, data)
        self._check(name, data, _storage.read(self.fs, place, "data-missing", "what was just written"))

    def _check(self, name: str, data: bytes, copied: bytes) -> None:
        if copied != data:  # [PUB-005]
            raise StorageError(
                "storage-failed",
                f"the copy of {self._source_url(name)} has the sha256 {_sum(copied)} where the source has "
                f"{_sum(data)}; what was there before is as it was, unless it is on object storage",
                path=_filesystems.url_of(self.fs, _join(self.path, name)),
            )

    def _in_the_way(self, place: str) -> ExistsError:
        return ExistsError(
            "exists",
            f"there is data already that is not that of {self._source_url('')}; give force=True (--force) to "
            "replace it",
            path=_filesystems.url_of(self.fs, place),
        )


def copy_all(
    copies: Sequence[Copy], progress: Callable[[int, int], None] | None = None, executor: Executor | None = None
) -> None:
    """Make copies; where one fails, those that are made stay, and those that are not begun are not made.

    Args:
        copies: What to copy.
        progress: Called with the number of copies that are made, and of all.
        executor: Who makes them; None for this thread, or for threads where it would wait for storage.

    Raises:
        CroissantError: as `Copy`.
    """
    report = progress or (lambda _done, _total: None)
    report(0, len(copies))
    waits = executor is None and _waiting.is_remote(fs for copy in copies for fs in (copy.source_fs, copy.fs))
    # Threads of their own for files: who waits for these must not keep one from them.
    with _waiting.threads(waits) as threads, _waiting.threads(waits) as files:
        calls: Iterable[Callable[[], None]] = (
            copies if executor is not None else (partial(copy, files) for copy in copies)
        )
        # Whoever holds the lock for us gives it away when nobody writes any more.
        with closing(_waiting.results(calls, executor or threads, settles=True)) as made:
            for done, _ in enumerate(made, 1):
                report(done, len(copies))


def sizes(copies: Sequence[Copy]) -> list[tuple[int, int]]:
    """The number of files of each copy, and of bytes in them.

    Raises:
        MissingError, StorageError: as `Copy.size`.
    """
    return _waiting.at_once((copy.source_fs for copy in copies), [copy.size for copy in copies])


def _all(calls: Iterable[Callable[[], None]], executor: Executor | None) -> None:
    with closing(_waiting.results(calls, executor, settles=True)) as done:
        for _ in done:
            pass


def staging_path(target: str) -> str:
    """Where the copy that is to be at `target` on the local disk is staged: a hidden name that `verify` knows."""
    directory, name = os.path.split(target)
    return os.path.join(directory, f".{name}.{_sum(os.fsencode(name))[:12]}.tmp")


def _keep_only(staged: str, files: dict[str, int], *, is_store: bool) -> None:
    """Remove what was staged and is none of these files, links above all: they could lead anywhere."""
    if os.path.islink(staged) or (os.path.lexists(staged) and os.path.isdir(staged) != is_store):
        _storage.remove(_DISK, staged)
    for directory, directories, names in os.walk(staged):
        for name in [*directories, *names]:
            path = os.path.join(directory, name)
            is_directory = os.path.isdir(path)
            if os.path.islink(path) or (os.path.relpath(path, staged) in files) == is_directory:
                _storage.remove(_DISK, path)
        directories[:] = [name for name in directories if os.path.isdir(os.path.join(directory, name))]


def _files(fs: AbstractFileSystem, path: str, is_store: bool) -> dict[str, int]:
    """The sizes of a store's files, by path in it, or that of a file, whose path is ""; none where there is nothing."""
    with _listing(fs, path):
        fs.invalidate_cache()  # others write too
        if not is_store:
            return {"": fs.size(path)} if fs.isfile(path) else {}
        if _filesystems.is_local(fs):
            return dict(_local_files(path))
        if _filesystems.is_conditional(fs):  # in one request, also where there is nothing
            parent, _, store = path.rpartition("/")
            found = fs.find(parent, prefix=f"{store}/", detail=True)
        else:
            found = fs.find(path, detail=True)
        return {name: entry["size"] for place, entry in found.items() if (name := _urls.relative(place, path))}


def _local_files(path: str) -> Iterator[tuple[str, int]]:
    def fail(error: OSError) -> None:  # fsspec would leave out what it cannot list
        raise error

    for directory, _, names in os.walk(path, onerror=fail, followlinks=True) if os.path.isdir(path) else ():
        for name in names:
            place = os.path.join(directory, name)
            yield os.path.relpath(place, path).replace(os.sep, "/"), os.stat(place).st_size


def _is_directory(fs: AbstractFileSystem, path: str) -> bool:
    with _listing(fs, path):
        return bool(fs.isdir(path))


@contextmanager
def _listing(fs: AbstractFileSystem, path: str) -> Iterator[None]:
    """Make an error of ours of what a file system raises when a directory cannot be listed.

    Raises:
        StorageError: `storage-failed`.
    """
    try:
        yield
    except _filesystems.failures() as error:
        where = _filesystems.url_of(fs, path)
        raise StorageError(
            "storage-failed", f"cannot list what is there: {_filesystems.reason(error)}", path=where
        ) from error


def _has(path: str, data: bytes) -> bool:
    """Whether the local file at `path` has these bytes."""
    if not os.path.isfile(path) or os.path.getsize(path) != len(data):
        return False
    return _storage.read_if_there(_DISK, path) == data


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if name else path


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
