"""How tables and manifest are replaced as one, so that whoever is killed when leaves the old state or the new one.

On the local disk, which this module is for (`_remote` is for other storage), what is new is staged beside what it
replaces. That the manifest of a commit gets the name `metadata.json.pending` makes the commit: it names the sha256 of
every table, and the table with that sha256 is found in its place or staged. Then tables and manifest are renamed into
their places. Whoever comes between reads through the pending manifest, and who comes next with the lock finishes.
Rules: SPEC.md, Commits [COM].
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from fsspec import AbstractFileSystem

from copick_mlc import _filesystems, _remote, _storage
from copick_mlc._manifest import Manifest
from copick_mlc._remote import PENDING
from copick_mlc._storage import ABSENT, ConflictError, Version
from copick_mlc._tables import TABLES
from copick_mlc.errors import CroissantWarning, DataError, LockedError, MissingError, StorageError

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class TableBytes:
    """What was read of a table.

    Attributes:
        data: Its bytes.
        version: What tells whether the file in its place was replaced since.
        is_staged: Whether `data` is staged, and not in its place yet.
    """

    data: bytes
    version: Any
    is_staged: bool = False

    @property
    def sha256(self) -> str:
        """The checksum of the bytes."""
        return _sum(self.data)


def read_manifest(fs: AbstractFileSystem, path: str) -> bytes:
    """The bytes of the manifest: metadata.json, or the pending one of a commit that is not finished [COM-004].

    On other storage than the local disk that is metadata.json, in one request.

    Raises:
        MissingError, StorageError: `manifest-missing`, `storage-failed`.
    """
    pending = read_pending(fs, path) if _filesystems.is_local(fs) else None
    if pending is not None:
        return pending
    return _storage.read(fs, path, "manifest-missing", "a Croissant metadata.json")  # [MAN-001]


def read_table(fs: AbstractFileSystem, path: str, sha256: str | None, what: str) -> TableBytes:
    """The bytes of a table: the file, or where that has another sha256, what is staged [COM-005].

    Where neither has the sha256, that is the file as it is.

    Raises:
        MissingError, StorageError: `table-missing` [CSV-006], `storage-failed` [CSV-022].
    """
    version: object = None
    try:
        if _filesystems.is_local(fs):
            version = _storage.signature(fs, path)
            data = _storage.read(fs, path, "table-missing", what)
        else:
            data, version = _storage.read_versioned(fs, path, "table-missing", what)
    except MissingError:
        staged = _read_staged(fs, path, sha256)
        if staged is None:
            raise
        return TableBytes(staged, ABSENT, is_staged=True)
    if sha256 in (None, _sum(data)):
        return TableBytes(data, version)
    staged = _read_staged(fs, path, sha256)
    return TableBytes(data, version) if staged is None else TableBytes(staged, version, is_staged=True)


def unfinished(fs: AbstractFileSystem, path: str) -> bool | None:
    """Whether the pending commit is complete; None where there is none."""
    if not _filesystems.is_local(fs) or not os.path.exists(_pending(fs, path)):
        return None
    return read_pending(fs, path) is not None


def publish(
    fs: AbstractFileSystem, path: str, tables: Mapping[str, bytes], manifest: bytes, read: bytes | None
) -> None:
    """Replace tables and manifest. Whoever calls this holds the lock, and has recovered.

    A file keeps its mode [BAT-016], and a symbolic link its place [BAT-017].

    Args:
        fs: The file system.
        path: Path of metadata.json.
        tables: The new bytes of tables, by path.
        manifest: The new bytes of metadata.json.
        read: The bytes of the manifest that the new one was made of; None where there was none. On S3, which has no
            lock, somebody may have put another one meanwhile.

    Raises:
        LockedError: `locked`, where somebody has.
        StorageError: `storage-failed`. All is as before.
    """
    if not _filesystems.is_local(fs):
        _publish_remotely(fs, path, tables, manifest, read)
        return
    if not tables:
        _storage.write(fs, path, manifest)
        return
    with _storage.writing(path):
        moves = _make_pending(path, tables, manifest)
        try:
            os.replace(*moves[0])
        except OSError:
            os.unlink(moves[-1][0])  # the pending manifest first, which makes the others count
            for staged, _ in moves[:-1]:
                _storage.discard(staged)
            raise
    try:
        _finish(moves[1:])
    except OSError as error:
        warnings.warn(
            f"{path}: the commit is made, but not all of its files can be put in their places: {error}. Readers that "
            "know of pending commits find them; the next commit, or `python -m copick_mlc repair`, puts them there",
            CroissantWarning,
            stacklevel=4,
        )


def recover(fs: AbstractFileSystem, path: str) -> None:
    """Finish what a killed writer left: roll its pending commit forward if it is complete, else remove it [COM-006].

    Whoever calls this holds the lock.

    Raises:
        StorageError: `storage-failed`.
    """
    if not _filesystems.is_local(fs):
        return
    with _storage.writing(path):
        complete = unfinished(fs, path)
        if complete:
            _finish(list(_moves(fs, path)))
        elif complete is not None:
            os.unlink(_pending(fs, path))
    for leftover in leftovers(fs, path):
        _storage.discard(leftover)  # [COM-007]


def recover_remotely(fs: AbstractFileSystem, path: str, staged: Mapping[str, TableBytes]) -> None:
    """Put tables that were read staged in their places, and remove what killed writers staged [COM-014].

    Args:
        fs: Other storage than the local disk.
        path: Path of metadata.json.
        staged: What was read staged, by the path of the table.

    Raises:
        StorageError: `storage-failed`.
    """
    left = leftovers(fs, path, staged)
    tables = {place: found.data for place, found in staged.items()}
    versions = {place: found.version for place, found in staged.items()}
    _remote.settle(fs, path, tables, versions, partial(declares, fs, path))
    for place in left:
        _storage.remove_file(fs, place)


def leftovers(fs: AbstractFileSystem, path: str, staged: Mapping[str, TableBytes] | None = None) -> list[str]:
    """The paths of what killed writers staged, and nobody needs; on other storage, `staged` is what was read staged.

    Raises:
        StorageError: `storage-failed`.
    """
    if not _filesystems.is_local(fs):
        needed = [_remote.staged(place, found.sha256) for place, found in (staged or {}).items()]
        return _remote.leftovers(fs, path, _table_paths(path).values(), needed)
    if unfinished(fs, path) is not None:
        return []
    places = [os.path.split(os.path.realpath(place)) for place in (path, *_table_paths(path).values())]
    names = "|".join(re.escape(name) for _, name in places)
    ours = re.compile(rf"\.({names})\.[0-9a-f]{{12}}\.tmp|({names})\.[0-9a-f]{{64}}\.pending")
    directories = {directory for directory, _ in places if os.path.isdir(directory)}
    return [os.path.join(d, name) for d in sorted(directories) for name in os.listdir(d) if ours.fullmatch(name)]


def _read_staged(fs: AbstractFileSystem, path: str, sha256: str | None) -> bytes | None:
    """The table with this sha256 that a commit staged to replace the one at `path`, if there is one [COM-005]."""
    if sha256 is None or not _SHA256.fullmatch(sha256):  # a manifest says it, and it is to be a part of a path
        return None
    data = _storage.read_if_there(fs, _remote.staged(_followed(fs, path), sha256))
    return data if data is not None and _sum(data) == sha256 else None


def _publish_remotely(
    fs: AbstractFileSystem, path: str, tables: Mapping[str, bytes], manifest: bytes, read: bytes | None
) -> None:
    """Replace tables and manifest on other storage than the local disk."""
    versions: dict[str, Version] = {}
    try:
        if read is None and _remote.create(fs, tables):
            _remote.commit(fs, path, manifest, ABSENT)
            return
        found, version = _remote.prepare(fs, path, tables, _remote.notes(fs, tables, versions), is_new=read is None)
        if found != read:
            raise ConflictError(path)
        _remote.commit(fs, path, manifest, version)
    except ConflictError as error:
        _remote.withdraw(fs, path, tables)
        raise LockedError(
            "locked",
            "another process wrote to this project meanwhile, and nothing was written; try again",
            path=_filesystems.url_of(fs, path),
        ) from error
    except StorageError:
        _remote.withdraw(fs, path, tables)
        raise
    _remote.settle(fs, path, tables, versions, partial(declares, fs, path))


def declares(fs: AbstractFileSystem, path: str, place: str, sha256: str) -> bool:
    """Whether the manifest, as it is on the storage, declares this sha256 of the table at `place`.

    Raises:
        MissingError, StorageError: `manifest-missing`, `storage-failed`.
    """
    declared = _declared(read_manifest(fs, path), path)
    return any(declared.get(name) == sha256 for name, other in _table_paths(path).items() if other == place)


def _make_pending(path: str, tables: Mapping[str, bytes], manifest: bytes) -> list[tuple[str, str]]:
    """Stage everything and make the commit pending [COM-002]; the moves that finish it, that of the manifest last."""
    moves = []
    target = os.path.realpath(path)
    pending = f"{target}{PENDING}"
    with ExitStack() as undo:
        for place, data in tables.items():
            real = os.path.realpath(place)
            staged = _remote.staged(real, _sum(data))
            os.makedirs(os.path.dirname(real), exist_ok=True)
            temporary = _storage.stage(real, data)
            undo.callback(_storage.discard, temporary)
            os.replace(temporary, staged)
            undo.callback(_storage.discard, staged)
            moves.append((staged, real))
        # The manifest's own is flushed below: a pending manifest without its staged tables is incomplete.
        for directory in {os.path.dirname(real) for _, real in moves} - {os.path.dirname(target)}:
            _storage.sync_directory(directory)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        temporary = _storage.stage(target, manifest)
        undo.callback(_storage.discard, temporary)
        os.replace(temporary, pending)
        undo.callback(_storage.discard, pending)
        _storage.sync_directory(os.path.dirname(target))
        undo.pop_all()
    return [*moves, (pending, target)]


def _finish(moves: list[tuple[str, str]]) -> None:
    """Put files in their places, the manifest last [COM-003]."""
    for source, target in moves:
        os.replace(source, target)
    for directory in {os.path.dirname(target) for _, target in moves}:
        _storage.sync_directory(directory)


def _moves(fs: AbstractFileSystem, path: str) -> Iterator[tuple[str, str]]:
    """The moves that are still to be made of a complete pending commit."""
    pending = Manifest(_storage.read_if_there(fs, _pending(fs, path)) or b"", path)
    for name, place in _table_paths(path).items():
        sha256 = pending.sha256(TABLES[name])
        if _read_staged(fs, place, sha256) is not None:
            yield _remote.staged(os.path.realpath(place), str(sha256)), os.path.realpath(place)
    yield _pending(fs, path), os.path.realpath(path)


def read_pending(fs: AbstractFileSystem, path: str) -> bytes | None:
    """The pending manifest, if there is one and all that it needs is there [COM-004].

    On other storage there is one where a local disk is served, or was copied, amid a commit.
    """
    data = _storage.read_if_there(fs, _pending(fs, path))
    if data is None:
        return None
    try:
        pending = Manifest(data, path)
    except DataError:
        return None
    before = _declared(_storage.read_if_there(fs, path) or b"", path)
    for name, place in _table_paths(path).items():
        sha256 = pending.sha256(TABLES[name])
        if sha256 is None or sha256 == before.get(name):
            continue
        # In this order: it is moved from the one place to the other.
        if _read_staged(fs, place, sha256) is None and _sum(_storage.read_if_there(fs, place) or b"") != sha256:
            return None
    return data


def _declared(manifest: bytes, path: str) -> dict[str, str | None]:
    """The sha256 of the tables, by name; none where the manifest cannot be read."""
    try:
        parsed = Manifest(manifest, path)
    except DataError:
        return {}
    return {name: parsed.sha256(table) for name, table in TABLES.items()}


def _table_paths(path: str) -> dict[str, str]:
    directory = os.path.dirname(path)
    return {name: os.path.join(directory, table.file_name) for name, table in TABLES.items()}


def _pending(fs: AbstractFileSystem, path: str) -> str:
    return f"{_followed(fs, path)}{PENDING}"


def _followed(fs: AbstractFileSystem, path: str) -> str:
    """A path, on the local disk with its links followed."""
    return os.path.realpath(path) if _filesystems.is_local(fs) else path


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
