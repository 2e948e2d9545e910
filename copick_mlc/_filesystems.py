"""The file systems of fsspec: how they are opened, of what kind they are, what can be written, and what they raise."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

import fsspec
from fsspec import AbstractFileSystem
from fsspec.archive import AbstractArchiveFileSystem
from fsspec.implementations.local import LocalFileSystem

from copick_mlc import _urls
from copick_mlc.errors import StorageError

# fsspec passes on the errors of the packages that its file systems use.
_FOREIGN_ERRORS = (
    ("aiohttp", "ClientError"),
    ("asyncio", "TimeoutError"),  # no OSError before Python 3.11
    ("asyncssh", "Error"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("botocore.parsers", "ResponseParserError"),
    ("gql.transport.exceptions", "TransportError"),  # copick asks the portal with it
    ("zipfile", "BadZipFile"),
)

_S3 = frozenset({"s3", "s3a"})
_OBJECT_STORES = _S3 | {"gs", "gcs", "az", "abfs", "abfss", "oss", "memory"}
_SSH = frozenset({"ssh", "sftp"})
_HTTP = frozenset({"http", "https"})

_LISTING = threading.Lock()


def failures(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """What it may be that file systems raise when storage fails; a package nobody imported has raised nothing."""
    known = ((sys.modules.get(module), name) for module, name in _FOREIGN_ERRORS)
    return (OSError, *more, *(getattr(module, name) for module, name in known if module is not None))


def failures_of(fs: AbstractFileSystem | None) -> tuple[type[Exception], ...]:
    """What it may be that this file system raises when storage fails: sshfs has a ValueError for a lost connection."""
    return failures() if fs is None or not is_ssh(fs) else failures(ValueError)


def reason(error: BaseException) -> str:
    """What an error says, also where its text is empty, as of one of asyncio that waited for too long."""
    if text := str(error).strip():
        return text
    name = type(error).__name__
    return f"no answer in time ({name})" if isinstance(error, (TimeoutError, asyncio.TimeoutError)) else name


def url_of(fs: AbstractFileSystem, path: str) -> str:
    """What people know a path by: on other storage than the local disk, its URL."""
    if is_local(fs):
        return path
    fs = getattr(fs, "_fs", fs)  # of copick's ReconnectingFileSystem, the one that is connected
    url: str = fs.unstrip_protocol(path)
    host, archive = fs.storage_options.get("host"), fs.storage_options.get("fo")
    if isinstance(host, str) and url.partition("://")[2] == path:  # which is a path on some host
        port = fs.storage_options.get("port")
        return f"{url.partition('://')[0]}://{host}{f':{port}' if port else ''}/{path.lstrip('/')}"
    return f"{url}::{archive}" if isinstance(archive, str) else url


def open_location(url: str, options: Mapping[str, Any] | None = None) -> tuple[AbstractFileSystem, str]:
    """The file system and path of an absolute URL.

    Raises:
        StorageError: `storage-failed`, where fsspec cannot make a file system of it.
    """
    try:
        given = options_for(url, options or {})
        fs, path = fsspec.url_to_fs(url, **given)
        if _is_closed(fs):  # fsspec keeps file systems, and this one's connection is lost
            type(fs).clear_instance_cache()
            fs, path = fsspec.url_to_fs(url, **given)
        _list_archive(fs)
    except failures(ImportError, ValueError, TypeError) as error:
        raise StorageError("storage-failed", f"fsspec cannot open this location: {reason(error)}", path=url) from error
    return fs, path


def _list_archive(fs: AbstractFileSystem) -> None:
    """Have an archive know all its files: while one thread makes fsspec list them, others find some of them missing."""
    archive: Any = fs
    while isinstance(archive, AbstractFileSystem) and not isinstance(archive, AbstractArchiveFileSystem):
        archive = getattr(archive, "fs", None)  # of a cache, or a directory
    if isinstance(archive, AbstractArchiveFileSystem):
        with _LISTING:
            if archive.dir_cache is None:
                archive.ls("", detail=False)


def _is_closed(fs: AbstractFileSystem) -> bool:
    """Whether the connection of a file system over SSH has ended."""
    client = getattr(fs, "_client", None) if is_ssh(fs) else None
    return client is not None and bool(client.is_closed())


def options_for(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options but those for protocols that the URL does not have; fsspec hands them to one that it has."""
    links = url.split("::")
    own = {link.partition("://")[0] for link in links} | {"file" for link in links if _urls.is_local(link)}
    known = set(fsspec.available_protocols()) - own
    return {name: value for name, value in options.items() if name not in known or not isinstance(value, Mapping)}


def open_uncached(url: str, options: Mapping[str, Any] | None = None) -> tuple[AbstractFileSystem, str]:
    """As `open_location`, without fsspec's caches of files: what is behind them may have been replaced.

    Raises:
        StorageError: as `open_location`.
    """
    first, *others = url.split("::")
    links = [link for link in (first, *others) if link.removesuffix("://") not in _urls.CACHES]
    kept = dict(options or {})
    if first not in links:  # options that name no protocol are those of the first link
        names = {link.partition("://")[0] for link in links}
        kept = {name: value for name, value in kept.items() if name in names}
    return open_location("::".join(links), {name: kept[name] for name in kept.keys() - _urls.CACHES})


def forget(fs: AbstractFileSystem) -> None:
    """Have fsspec make a file system over SSH anew when it is opened next: it may be lost, and not know that yet."""
    if is_ssh(fs):
        type(getattr(fs, "_fs", fs)).clear_instance_cache()


def protocols(fs: AbstractFileSystem) -> frozenset[str]:
    """The protocols of a file system."""
    return frozenset(fs.protocol if isinstance(fs.protocol, (tuple, list)) else (fs.protocol,))


def is_local(fs: AbstractFileSystem) -> bool:
    return isinstance(fs, LocalFileSystem)


def is_same(one: tuple[AbstractFileSystem, str], other: tuple[AbstractFileSystem, str]) -> bool:
    """Whether two places are one, links on the local disk considered."""
    if is_local(one[0]) and is_local(other[0]):
        return os.path.realpath(one[1]) == os.path.realpath(other[1])
    return type(one[0]) is type(other[0]) and one[1] == other[1]


def is_conditional(fs: AbstractFileSystem) -> bool:
    """Whether an object can be replaced on condition that it is still the one that was read, as on S3."""
    return not _S3.isdisjoint(protocols(fs))


def has_directories(fs: AbstractFileSystem) -> bool:
    """Whether there are directories, and not only names of objects with slashes in them."""
    return _OBJECT_STORES.isdisjoint(protocols(fs))


def is_ssh(fs: AbstractFileSystem) -> bool:
    """Whether a file that is written is not whole until it is closed, and files can be renamed."""
    return not _SSH.isdisjoint(protocols(fs))


def is_http(fs: AbstractFileSystem) -> bool:
    return not _HTTP.isdisjoint(protocols(fs))


def write_reason(fs: AbstractFileSystem, path: str) -> str | None:
    """Why nothing can be written below the directory `path`, or None where nothing speaks against it."""
    if is_local(fs):
        if not os.path.isdir(path):
            return "it is not an existing directory"
        return None if os.access(path, os.W_OK | os.X_OK) else "it is not writable for this user"
    if found := _urls.READ_ONLY_PROTOCOLS.intersection(protocols(fs)):
        return f"{min(found)} storage can only be read"
    if found := _urls.CACHES.intersection(protocols(fs)):
        return f"what is read through {min(found)} may be older than what is there"
    if getattr(fs, "anon", False):
        return "it is opened with anonymous access (anon)"
    if is_conditional(fs) and not _has_credentials(fs):
        return "there are no credentials for it"
    return None


def _has_credentials(fs: AbstractFileSystem) -> bool:
    """Whether there is anything to sign requests to S3 with; no request is sent to look.

    Raises:
        StorageError: `storage-failed`, where the options do not make a client.
    """
    try:
        signer = getattr(fs.connect(), "_request_signer", None)
    except failures(TypeError, ValueError) as error:
        raise StorageError("storage-failed", f"cannot open S3: {reason(error)}") from error
    return getattr(signer, "_credentials", True) is not None
