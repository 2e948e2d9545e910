"""How tables and manifest are replaced as one on storage where nothing can be renamed, such as S3.

New tables are staged beside those that they replace, and that the manifest is put makes the commit: where a table does
not have the sha256 that it names, readers find the staged one. Then the tables are put in their places, and what was
staged is removed. On S3 the manifest is put on condition that it is still the one that the writer read. Rules: SPEC.md,
Commits [COM].
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import partial

from fsspec import AbstractFileSystem

from copick_mlc import _filesystems, _storage, _waiting
from copick_mlc._storage import ABSENT, ConflictError, Version
from copick_mlc.errors import CroissantWarning, MissingError, StorageError

#: What comes behind the name of a table and its sha256 where it is staged.
PENDING = ".pending"
_MANIFEST = "a Croissant metadata.json"
# What was staged that long ago is of a writer that does not go on.
_OLD_SECONDS = 600.0


def staged(place: str, sha256: str) -> str:
    """Where the table with this sha256 is staged that is to replace the one at `place`."""
    return f"{place}.{sha256}{PENDING}"


def prepare(
    fs: AbstractFileSystem,
    path: str,
    tables: Mapping[str, bytes],
    writes: Iterable[Callable[[], object]] = (),
    *,
    is_new: bool = False,
) -> tuple[bytes | None, Version]:
    """Stage tables [COM-011], and read the manifest, and do `writes` meanwhile, all at the same time.

    Args:
        fs: The file system.
        path: Path of metadata.json.
        tables: The new bytes of tables, by path.
        writes: What writes the data of their rows [BAT-005].
        is_new: Whether there may be no manifest yet.

    Returns:
        The bytes of the manifest as it is now, and its version; None where there is none.

    Raises:
        MissingError, StorageError: `manifest-missing`, `storage-failed`. Nothing is staged then.
    """
    found: list[tuple[bytes | None, Version]] = []

    def read() -> None:
        try:
            found.append(_storage.read_versioned(fs, path, "manifest-missing", _MANIFEST))
        except MissingError:
            if not is_new:
                raise
            found.append((None, ABSENT))

    calls: list[Callable[[], object]] = [read, *writes]
    calls += [partial(_storage.write, fs, place, data) for place, data in _staged(tables).items()]
    try:
        _waiting.concurrently(calls)
    except BaseException:
        withdraw(fs, path, tables)
        raise
    return found[0]


def create(fs: AbstractFileSystem, tables: Mapping[str, bytes]) -> bool:
    """Put tables in their places before there is a manifest, so that nobody reads them; false where one is there.

    Raises:
        StorageError: `storage-failed`.
    """
    try:
        _waiting.concurrently([partial(_storage.put, fs, place, data, ABSENT) for place, data in tables.items()])
    except ConflictError:
        return False
    return True


def notes(fs: AbstractFileSystem, places: Iterable[str], versions: dict[str, Version]) -> list[Callable[[], None]]:
    """What notes in `versions` what is at these places."""

    def note(place: str) -> None:
        versions[place] = _storage.version_of(fs, place)

    return [partial(note, place) for place in places]


def commit(fs: AbstractFileSystem, path: str, manifest: bytes, version: Version) -> Version:
    """Put the manifest, where it is still that of `version` [COM-012].

    Returns:
        Its new version.

    Raises:
        ConflictError: somebody else put another one.
        StorageError: `storage-failed`.
    """
    try:
        return _storage.put(fs, path, manifest, version)
    except (ConflictError, StorageError):
        # It may be ours: an answer that is lost on the way makes fsspec try again.
        with suppress(StorageError, MissingError):
            found, new = _storage.read_versioned(fs, path, "manifest-missing", _MANIFEST)
            if found == manifest:
                return new
        raise


def settle(
    fs: AbstractFileSystem,
    path: str,
    tables: Mapping[str, bytes],
    versions: Mapping[str, Version],
    is_declared: Callable[[str, str], bool],
) -> dict[str, Version]:
    """Put tables in their places, and remove what was staged for that [COM-013].

    Args:
        fs: The file system.
        path: Path of metadata.json.
        tables: The bytes of tables, by path.
        versions: The versions of what is in their places; None for one that nobody knows.
        is_declared: Whether the manifest, as it is on the storage, declares this sha256 of the table at this path.

    Returns:
        The versions of the tables that are in their places now; others stay staged, and a warning says so.
    """
    done: dict[str, Version] = {}
    failed: list[StorageError] = []

    def put(place: str, data: bytes) -> None:
        try:
            done[place] = _put(fs, place, data, versions.get(place), is_declared)
        except StorageError as error:
            failed.append(error)

    _waiting.concurrently([partial(put, place, data) for place, data in tables.items()])
    if failed:
        warnings.warn(
            f"{_filesystems.url_of(fs, path)}: the commit is made, but not all of its tables can be put in their "
            f"places: {failed[0]}. Readers that know of staged tables find them; the next commit, or "
            "`python -m copick_mlc repair`, puts them there",
            CroissantWarning,
            stacklevel=5,
        )
    unstage(fs, {place: tables[place] for place in done})
    return done


def withdraw(fs: AbstractFileSystem, path: str, tables: Mapping[str, bytes], manifest: bytes | None = None) -> None:
    """Remove what was staged of tables for a commit that is not made.

    Others may have made a commit with just the same tables. What the manifest names, and is not in its place, stays,
    and all where that is not known [COM-017].

    Args:
        fs: The file system.
        path: Path of metadata.json.
        tables: The bytes of tables, by path.
        manifest: The bytes of the manifest as it is now; None for having them read.
    """
    if manifest is None:
        try:
            manifest = _storage.read_if_there(fs, path) or b""
        except StorageError:
            return
    named = {place: data for place, data in tables.items() if _sha256(data).encode() in manifest}
    try:
        found = [_storage.read_if_there(fs, place) for place in named]
    except StorageError:
        return
    needed = {place for place, there in zip(named, found, strict=True) if there != named[place]}
    unneeded = {place: data for place, data in tables.items() if place not in needed}
    unstage(fs, unneeded)


def unstage(fs: AbstractFileSystem, tables: Mapping[str, bytes]) -> None:
    """Remove what was staged of tables that are in their places; what cannot be removed does no harm."""

    def remove(place: str) -> None:
        with suppress(StorageError):
            _storage.remove_file(fs, place)

    _waiting.concurrently([partial(remove, place) for place in _staged(tables)])


def leftovers(fs: AbstractFileSystem, path: str, places: Iterable[str], needed: Collection[str]) -> list[str]:
    """The paths of what killed writers staged, and nobody needs.

    What is not old may be of a writer that is at work; so may be what the storage does not say the age of.

    Args:
        fs: The file system.
        path: Path of metadata.json.
        places: The paths of the tables.
        needed: Paths of staged tables that the manifest needs.
    """
    directory = path.rpartition("/")[0]
    names = "|".join(re.escape(place.rpartition("/")[2]) for place in places)
    pattern = re.compile(rf"({names})\.[0-9a-f]{{64}}{re.escape(PENDING)}")
    staged_names = [name for name in _storage.list_directory(fs, directory) if pattern.fullmatch(name)]
    found = [f"{directory}/{name}" if directory else name for name in staged_names]
    return [place for place in found if place not in needed and _storage.age(fs, place) > _OLD_SECONDS]


def _staged(tables: Mapping[str, bytes]) -> dict[str, bytes]:
    return {staged(place, _sha256(data)): data for place, data in tables.items()}


def _put(
    fs: AbstractFileSystem,
    place: str,
    data: bytes,
    version: Version,
    is_declared: Callable[[str, str], bool],
) -> Version:
    """Put a table in its place, unless somebody put a newer one there [COM-015]."""
    if version is None:
        version = _storage.version_of(fs, place)
    while True:
        with suppress(ConflictError):
            return _storage.put(fs, place, data, version)
        try:
            found, version = _storage.read_versioned(fs, place, "table-missing", "a table")
        except MissingError:
            found, version = b"", ABSENT
        if found == data or not is_declared(place, _sha256(data)):
            return version


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
