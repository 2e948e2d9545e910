"""Bytes in and out, through fsspec.

Writing on the local disk is atomic: a file is staged beside its target, flushed and renamed over it, so
a reader sees the old bytes or the new ones. Object stores put a whole object at once by themselves.
Rules: SPEC.md, Changes [BAT].
"""

from __future__ import annotations

import errno
import os
import posixpath
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import has_magic
from typing import Any

import fsspec
from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.implementations.local import LocalFileSystem

from copick_mlc import _urls
from copick_mlc.errors import CroissantError, MissingError, StorageError

# fsspec passes on the errors of the packages that its file systems use.
_FOREIGN_ERRORS = (
    ("aiohttp", "ClientError"),
    ("asyncio", "TimeoutError"),  # no OSError before Python 3.11
    ("asyncssh", "Error"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("gql.transport.exceptions", "TransportError"),  # copick asks the portal with it
    ("zipfile", "BadZipFile"),
)


def failures(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """What it may be that file systems raise when storage fails; a package nobody imported has raised nothing."""
    known = ((sys.modules.get(module), name) for module, name in _FOREIGN_ERRORS)
    return (OSError, *more, *(getattr(module, name) for module, name in known if module is not None))


def open_location(url: str, options: Mapping[str, Any] | None = None) -> tuple[AbstractFileSystem, str]:
    """The file system and path of an absolute URL.

    Raises:
        StorageError: `storage-failed`, where fsspec cannot make a file system of it.
    """
    try:
        fs, path = fsspec.url_to_fs(url, **(options or {}))
    except failures(ImportError, ValueError, TypeError) as error:
        raise StorageError("storage-failed", f"fsspec cannot open this location: {error}", path=url) from error
    return fs, path


def is_local(fs: AbstractFileSystem) -> bool:
    return isinstance(fs, LocalFileSystem)


def is_same(one: tuple[AbstractFileSystem, str], other: tuple[AbstractFileSystem, str]) -> bool:
    """Whether two places are one, links on the local disk considered."""
    if is_local(one[0]) and is_local(other[0]):
        return os.path.realpath(one[1]) == os.path.realpath(other[1])
    return type(one[0]) is type(other[0]) and one[1] == other[1]


def read(fs: AbstractFileSystem, path: str, code: str, what: str) -> bytes:
    """The bytes of a file.

    Raises:
        MissingError: with `code`, where there is no such file; `what` says what was looked for.
        StorageError: `storage-failed`, for any other failure [CSV-022].
    """
    try:
        if is_local(fs) and not stat.S_ISREG(os.stat(path).st_mode):  # a device or a pipe may have no end
            raise OSError(errno.EINVAL, "not a regular file")  # [SEC-008]
        data: bytes = fs.cat_file(path)
    except FileNotFoundError as error:
        raise MissingError(code, f"there is no such file; expected {what}", path=path) from error
    except failures(ValueError) as error:  # a URL that is none, for one
        raise StorageError("storage-failed", f"cannot read {what}: {error}", path=path) from error
    return data


def exists(fs: AbstractFileSystem, path: str) -> bool:
    """Whether there is a file or a directory.

    Raises:
        StorageError: `storage-failed`.
    """
    try:
        return bool(fs.exists(path))
    except failures(ValueError) as error:
        raise StorageError("storage-failed", f"cannot look what is there: {error}", path=path) from error


def check_reachable(fs: AbstractFileSystem, path: str, seconds: float) -> None:
    """See that storage answers, whether or not there is anything at `path`, within a time where it can be bounded.

    Raises:
        StorageError: `storage-failed`.
    """
    try:
        if isinstance(fs, AsyncFileSystem):
            sync(fs.loop, fs._info, path, timeout=seconds)
        else:
            fs.info(path)
    except FileNotFoundError:
        return
    except failures(ValueError) as error:
        raise StorageError("storage-failed", str(error) or f"no answer in {seconds} s", path=path) from error


def read_if_there(fs: AbstractFileSystem, path: str) -> bytes | None:
    """The bytes of a file, or None where there is none.

    Raises:
        StorageError: `storage-failed`.
    """
    try:
        return read(fs, path, "data-missing", "a file")
    except MissingError:
        return None


def signature(fs: AbstractFileSystem, path: str) -> object:
    """Something that changes when a local file is replaced; None on other storage."""
    if not is_local(fs):
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def write_reason(fs: AbstractFileSystem, path: str) -> str | None:
    """Why nothing can be written below the directory `path`, or None where nothing speaks against it."""
    if is_local(fs):
        if not os.path.isdir(path):
            return "it is not an existing directory"
        return None if os.access(path, os.W_OK | os.X_OK) else "it is not writable for this user"
    protocols = fs.protocol if isinstance(fs.protocol, (tuple, list)) else (fs.protocol,)
    if _urls.READ_ONLY_PROTOCOLS.intersection(protocols):
        return f"{protocols[0]} storage can only be read"
    if getattr(fs, "anon", False):
        return "it is opened with anonymous access (anon)"
    return None


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Make an error of ours of what a file system raises while something is written.

    Raises:
        StorageError: `storage-failed` [BAT-006].
    """
    try:
        yield
    except CroissantError:
        raise
    except failures() as error:
        raise StorageError("storage-failed", f"cannot write: {error}", path=path) from error


def write(fs: AbstractFileSystem, path: str, data: bytes) -> None:
    """Replace a file. On the local disk it keeps its mode [BAT-016], and a symbolic link its place [BAT-017].

    Raises:
        StorageError: `storage-failed`. The file is as before.
    """
    with writing(path):
        if not is_local(fs):
            fs.pipe_file(path, data)
            return
        target = os.path.realpath(path)  # [BAT-017]
        os.makedirs(os.path.dirname(target), exist_ok=True)
        temporary = stage(target, data)
        try:
            os.replace(temporary, target)
        except BaseException:
            discard(temporary)
            raise
        sync_directory(os.path.dirname(target))


@contextmanager
def made_directory(fs: AbstractFileSystem, path: str) -> Iterator[None]:
    """Have a local directory; where the block fails, those that were made for it are removed again, if empty.

    Raises:
        StorageError: `storage-failed`.
    """
    missing: list[str] = []
    while is_local(fs) and not os.path.isdir(path) and os.path.dirname(path) != path:
        missing.append(path)
        path = os.path.dirname(path)
    try:
        if missing:
            with writing(missing[0]):
                os.makedirs(missing[0], exist_ok=True)
        yield
    except BaseException:
        with suppress(OSError):
            for made in missing:
                os.rmdir(made)
        raise


def stage(target: str, data: bytes) -> str:
    """Write what is to replace the local file `target` beside it, and flush it to the disk; the path of that."""
    directory, name = os.path.split(target)
    temporary = os.path.join(directory, f".{name}.{secrets.token_hex(6)}.tmp")
    try:
        mode = os.stat(target).st_mode & 0o7777
    except FileNotFoundError:
        mode = None
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        if mode is not None:
            os.chmod(temporary, mode)  # [BAT-016]
    except BaseException:  # a KeyboardInterrupt too leaves nothing behind
        discard(temporary)
        raise
    return temporary


def discard(temporary: str) -> None:
    """Remove a local file that is no longer needed, if it is there and can be removed."""
    with suppress(OSError):
        os.unlink(temporary)  # [LAY-004]


def sync_directory(path: str) -> None:
    """See that the names in a local directory outlast a loss of power."""
    if os.name == "nt":  # cannot, and need not
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)


def remove(fs: AbstractFileSystem, path: str) -> None:
    """Remove a file or a directory with all below it, if there; of a symbolic link only the link.

    Raises:
        StorageError: `storage-failed`.
    """
    try:
        if is_local(fs) and os.path.islink(path):
            os.unlink(path)
        elif is_local(fs) or not has_magic(path):
            if fs.exists(path):
                fs.rm(path, recursive=True)
        else:
            for file in fs.find(path):  # `rm` would take the path for a pattern, and remove what matches
                fs.rm_file(file)
    except FileNotFoundError:
        return
    except failures() as error:
        raise StorageError("storage-failed", f"cannot remove: {error}", path=path) from error


def list_directory(fs: AbstractFileSystem, path: str) -> dict[str, bool]:
    """The names in a directory and whether each is a directory; nothing where there is no directory.

    Hidden names are left out, as copick does [OVL-008] [EXP-028].
    """
    if is_local(fs):
        try:
            with os.scandir(path) as found:
                return {entry.name: entry.is_dir() for entry in found if not entry.name.startswith(".")}
        except (FileNotFoundError, NotADirectoryError):
            return {}
    try:
        entries = fs.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    names = {}
    for entry in entries:
        name = posixpath.basename(entry["name"].rstrip("/"))
        if name and not name.startswith("."):
            names[name] = entry["type"] == "directory"
    return names
