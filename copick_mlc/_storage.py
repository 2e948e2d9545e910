"""Bytes in and out, through fsspec.

Writing on the local disk is atomic: a file is staged beside its target, flushed and renamed over it, so
a reader sees the old bytes or the new ones. Object stores put a whole object at once by themselves.
Rules: SPEC.md, Changes [BAT].
"""

from __future__ import annotations

import datetime
import errno
import os
import posixpath
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from glob import has_magic
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem, sync

from copick_mlc import _urls
from copick_mlc._filesystems import (
    failures,
    failures_of,
    has_directories,
    is_conditional,
    is_http,
    is_local,
    is_ssh,
    reason,
    url_of,
)
from copick_mlc._waiting import concurrently
from copick_mlc.errors import CroissantError, MissingError, StorageError

#: What tells of an object whether somebody replaced it: its ETag, "" where there is none, None where nobody can tell.
Version = str | None
#: The version of an object that is not there.
ABSENT = ""

_CONFLICTS = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
# An object of S3 is put in one piece up to this size, which is what S3 takes.
_ONE_PIECE = 5 * 2**30


class ConflictError(Exception):
    """An object is no longer the one that was read."""


def read(fs: AbstractFileSystem, path: str, code: str, what: str) -> bytes:
    """The bytes of a file.

    Raises:
        MissingError: with `code`, where there is no such file; `what` says what was looked for.
        StorageError: `storage-failed`, for any other failure [CSV-022].
    """
    with _reading(fs, path, code, what):
        if is_local(fs) and not stat.S_ISREG(os.stat(path).st_mode):  # a device or a pipe may have no end
            raise OSError(errno.EINVAL, "not a regular file")  # [SEC-008]
        # s3fs asks for the size before, to read large objects in parts, unless it is told that it shall not.
        data: bytes = fs.cat_file(path, max_concurrency=1) if is_conditional(fs) else fs.cat_file(path)
        return data


def read_versioned(fs: AbstractFileSystem, path: str, code: str, what: str) -> tuple[bytes, Version]:
    """As `read`, with the version.

    Raises:
        MissingError, StorageError: as `read`.
    """
    if not is_conditional(fs):
        return read(fs, path, code, what), None
    with _reading(fs, path, code, what):
        found: tuple[bytes, Version] = sync(fs.loop, _get_object, fs, path)
        return found


async def _get_object(fs: Any, path: str) -> tuple[bytes, Version]:
    """An object of S3 and its ETag, in one request; tried again where the connection breaks amid the body."""
    bucket, key, _ = fs.split_path(path)
    for left in reversed(range(fs.retries)):
        response = await fs._call_s3("get_object", Bucket=bucket, Key=key)
        try:
            async with response["Body"] as body:
                return await body.read(), response["ETag"]
        except failures():
            if not left:
                raise
    raise OSError(errno.EIO, "nothing was tried: this file system has no retries")


@contextmanager
def _reading(fs: AbstractFileSystem, path: str, code: str, what: str) -> Iterator[None]:
    """Make errors of ours of what a file system raises while a file is read."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingError(code, f"there is no such file; expected {what}", path=url_of(fs, path)) from error
    except failures(TypeError, ValueError) as error:  # an option or a URL that is none, for one
        raise StorageError("storage-failed", f"cannot read {what}: {reason(error)}", path=url_of(fs, path)) from error


def version_of(fs: AbstractFileSystem, path: str) -> Version:
    """The version of an object, without its bytes.

    Raises:
        StorageError: `storage-failed`.
    """
    if not is_conditional(fs):
        return None
    try:
        with _reading(fs, path, "data-missing", "a file"):
            fs.invalidate_cache(path)
            version: str = fs.info(path)["ETag"]
            return version
    except MissingError:
        return ABSENT


def exists(fs: AbstractFileSystem, path: str) -> bool:
    """Whether there is a file or a directory.

    Raises:
        StorageError: `storage-failed`.
    """
    # Over http, what cannot be asked for would be absent.
    strict = {"strict": True} if is_http(fs) else {}
    try:
        fs.invalidate_cache(path)  # others may write there
        return bool(fs.exists(path, **strict))
    except failures(TypeError, ValueError) as error:  # an option that is none, or a URL
        where = url_of(fs, path)
        raise StorageError("storage-failed", f"cannot look what is there: {reason(error)}", path=where) from error


def is_directory(fs: AbstractFileSystem, path: str) -> bool:
    """Whether there is a directory, on an object store one that is not empty.

    Raises:
        StorageError: `storage-failed`.
    """
    if is_local(fs):
        return os.path.isdir(path)
    try:
        # `isdir` takes each error for no directory.
        return bool(_entries(fs, path)) if is_conditional(fs) else bool(fs.info(path)["type"] == "directory")
    except FileNotFoundError:
        return False
    except failures(ValueError) as error:
        where = url_of(fs, path)
        raise StorageError("storage-failed", f"cannot look what is there: {reason(error)}", path=where) from error


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
        text = str(error) or f"no answer in {seconds} s"
        raise StorageError("storage-failed", text, path=url_of(fs, path)) from error


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
    """Something that changes when a file is replaced; None where there is none, or where nobody can tell.

    Raises:
        StorageError: `storage-failed`, on other storage than the local disk.
    """
    if is_conditional(fs):
        return version_of(fs, path) or None
    if not is_local(fs):
        return _info_of(fs, path)
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _info_of(fs: AbstractFileSystem, path: str) -> str | None:
    """What fsspec makes of all that a file system says of a file."""
    try:
        with _reading(fs, path, "data-missing", "a file"):
            fs.invalidate_cache(path)
            found: str = fs.ukey(path)
            return found
    except MissingError:
        return None


@contextmanager
def writing(path: str, fs: AbstractFileSystem | None = None) -> Iterator[None]:
    """Make an error of ours of what a file system raises while something is written.

    Args:
        path: What is written.
        fs: The file system of that, where it may be other storage than the local disk.

    Raises:
        StorageError: `storage-failed` [BAT-006].
    """
    try:
        yield
    except CroissantError:
        raise
    except failures_of(fs) as error:
        text = f"cannot write: {reason(error)}"
        if fs is not None and not is_local(fs) and isinstance(error, PermissionError):
            text += "; open the project with overlay_root set to where you may write"
        where = path if fs is None else url_of(fs, path)
        raise StorageError("storage-failed", text, path=where) from error


def write(fs: AbstractFileSystem, path: str, data: bytes) -> Version:
    """Replace a file. On the local disk it keeps its mode [BAT-016], and a symbolic link its place [BAT-017].

    Returns:
        The version that it has then, where that is known.

    Raises:
        StorageError: `storage-failed`. The file is as before.
    """
    if not is_local(fs):
        return put(fs, path, data)
    with writing(path):
        target = os.path.realpath(path)  # [BAT-017]
        os.makedirs(os.path.dirname(target), exist_ok=True)
        temporary = stage(target, data)
        try:
            os.replace(temporary, target)
        except BaseException:
            discard(temporary)
            raise
        sync_directory(os.path.dirname(target))
    return None


def put(fs: AbstractFileSystem, path: str, data: bytes, version: Version = None) -> Version:
    """Replace an object on other storage than the local disk, in one step.

    Args:
        fs: The file system.
        path: Path of the object.
        data: Its new bytes.
        version: What it has to be, where the storage can see to that. None for whatever it is.

    Returns:
        The version that it has then.

    Raises:
        ConflictError: it is something else.
        StorageError: `storage-failed`. The object is as before.
    """
    with writing(path, fs):
        if is_conditional(fs):
            return _put_object(fs, path, data, version)
        if not is_ssh(fs):
            fs.pipe_file(path, data)
            return None
        directory, _, name = path.rpartition("/")
        temporary = f"{directory}/.{name}.{secrets.token_hex(6)}.tmp"
        try:
            fs.pipe_file(temporary, data)
            fs.mv(temporary, path)
        except BaseException:
            with suppress(*failures()):
                fs.rm_file(temporary)
            raise
        return None


def _put_object(fs: AbstractFileSystem, path: str, data: bytes, version: Version) -> Version:
    """Put an object of S3, on condition."""
    condition = {} if version is None else {"IfMatch": version} if version else {"IfNoneMatch": "*"}
    try:
        answer = fs.pipe_file(path, data, chunksize=_ONE_PIECE, **condition)
    except OSError as error:
        response = getattr(error.__cause__, "response", None) or {}
        code = response.get("Error", {}).get("Code")
        if code in _CONFLICTS or (version and isinstance(error, FileNotFoundError)):
            raise ConflictError(path) from error
        raise
    etag: str = answer["ETag"]
    return etag


def create(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """Make an object on other storage than the local disk, unless there is one; false where there is.

    Raises:
        StorageError: `storage-failed`.
    """
    with writing(path, fs):
        try:
            if not is_ssh(fs):
                fs.pipe_file(path, data, mode="create")
            else:
                with fs.open(path, "xb") as file:
                    file.write(data)
        except FileExistsError:
            return False
        return True


def age(fs: AbstractFileSystem, path: str) -> float:
    """How many seconds ago a file was written, by the clocks of storage and here; 0 where nobody can say.

    Raises:
        StorageError: `storage-failed`.
    """
    try:
        written = fs.modified(path)
    except (FileNotFoundError, NotImplementedError):
        return 0.0
    except failures_of(fs) as error:
        where = url_of(fs, path)
        raise StorageError("storage-failed", f"cannot look when it was written: {reason(error)}", path=where) from error
    if written.tzinfo is None:
        written = written.replace(tzinfo=datetime.timezone.utc)
    return (datetime.datetime.now(datetime.timezone.utc) - written).total_seconds()


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


def remove_file(fs: AbstractFileSystem, path: str) -> None:
    """Remove a file on other storage than the local disk, if it is there.

    Raises:
        StorageError: `storage-failed`.
    """
    try:
        fs.rm_file(path)
    except FileNotFoundError:
        return
    except failures_of(fs) as error:
        raise StorageError("storage-failed", f"cannot remove: {reason(error)}", path=url_of(fs, path)) from error


def remove(fs: AbstractFileSystem, path: str) -> None:
    """Remove a file or a directory with all below it, if there; of a symbolic link only the link.

    Raises:
        StorageError: `storage-failed`.
    """
    try:
        if is_local(fs) and os.path.islink(path):
            os.unlink(path)
        elif is_local(fs) or has_directories(fs):
            if fs.exists(path):
                fs.rm(path, recursive=True)
        else:
            _remove_objects(fs, path)
    except FileNotFoundError:
        return
    except failures_of(fs) as error:
        raise StorageError("storage-failed", f"cannot remove: {reason(error)}", path=url_of(fs, path)) from error


def _remove_objects(fs: AbstractFileSystem, path: str) -> None:
    """Remove an object, or all objects below a path."""
    fs.invalidate_cache(path)
    files = fs.find(path)
    if is_conditional(fs):  # an object that stands for a directory would be taken for one without the slash
        for bucket, _, key in [file.partition("/") for file in files if file.endswith("/")]:
            fs.call_s3("delete_object", Bucket=bucket, Key=key)
        files = [file for file in files if not file.endswith("/")]
    if any(has_magic(file) for file in files):  # `rm` would take them for patterns, and remove what matches
        concurrently([partial(fs.rm_file, file) for file in files])
    elif files:
        fs.rm(files)


def list_directory(fs: AbstractFileSystem, path: str) -> dict[str, bool]:
    """The names in a directory and whether each is a directory; nothing where there is no directory.

    Hidden names are left out, as copick does [OVL-008] [EXP-028].

    Raises:
        StorageError: `storage-failed`. What cannot be listed is no empty directory.
    """
    try:
        if is_local(fs):
            with os.scandir(path) as found:
                return {entry.name: entry.is_dir() for entry in found if not entry.name.startswith(".")}
        entries = _entries(fs, path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except failures(ValueError) as error:
        text = f"cannot list this directory: {reason(error)}"
        raise StorageError("storage-failed", text, path=url_of(fs, path)) from error
    names = {}
    for entry in entries:
        name = _urls.unescaped(posixpath.basename(entry["name"].rstrip("/")), path)
        # Some programs put an object where a directory is.
        if name and not name.startswith(".") and entry["name"].rstrip("/") != path:
            names[name] = entry["type"] == "directory"
    return names


def _entries(fs: AbstractFileSystem, path: str) -> list[dict[str, Any]]:
    """What is in a directory now, whoever wrote it; on S3 in one request, also where there is none."""
    fs.invalidate_cache(path)  # fsspec keeps listings
    if not is_conditional(fs):
        found: list[dict[str, Any]] = fs.ls(path, detail=True)
        return found
    # `ls` asks again where there is nothing, in the directory above.
    found = sync(fs.loop, fs._lsdir, path)
    fs.invalidate_cache(path)
    return found
