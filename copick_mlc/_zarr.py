"""How zarr stores are opened: nested chunks, and an I/O error is an error, not a block of zeros.

Chunks are decoded by zarr and numcodecs [LAY-010] [LAY-011]. Rules: SPEC.md, Layout [LAY].
"""

from __future__ import annotations

import gzip
import json
import lzma
import math
import secrets
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from glob import has_magic
from typing import Any

import numpy as np
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from numcodecs.abc import Codec
from numcodecs.compat import ensure_contiguous_ndarray, ndarray_copy
from numcodecs.registry import get_codec, register_codec
from zarr.errors import MetadataError
from zarr.storage import FSStore, contains_array, contains_group

from copick_mlc import _filesystems, _storage, _urls, _waiting
from copick_mlc._filesystems import failures
from copick_mlc.errors import CroissantError, DataError, MissingError, StorageError

# What zarr and its codecs raise for metadata or chunks that they cannot decode; they check little of what they read.
_UNDECODABLE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    MetadataError,
    RuntimeError,
    TypeError,
    ValueError,
    gzip.BadGzipFile,  # an OSError, but none of the storage
    lzma.LZMAError,
    zlib.error,
)


# Within `decoding`, chunks are checked, and metadata that was read is kept here by path; None for what is not there.
_METADATA: ContextVar[dict[str, bytes | None] | None] = ContextVar("_METADATA", default=None)
_GROUP, _ARRAY = ".zgroup", ".zarray"
_METADATA_NAMES = (_GROUP, _ARRAY, ".zattrs")


class _Checked(Codec):
    """A compressor that sees to it that a chunk has all its bytes.

    Several compressors of numcodecs leave memory as it was where a chunk holds less, and nobody notices.
    """

    codec_id = "copick_mlc.checked"

    def __init__(self, compressor: dict[str, Any], size: int) -> None:
        self._compressor = get_codec(compressor)
        self._size = size

    def encode(self, buf: Any) -> Any:
        return self._compressor.encode(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        data = ensure_contiguous_ndarray(self._compressor.decode(buf))
        if data.nbytes != self._size:
            raise ValueError(f"a chunk has {data.nbytes} bytes instead of {self._size}")  # [LAY-008]
        return data if out is None else ndarray_copy(data, out)


register_codec(_Checked)


def _checked(metadata: dict[str, Any]) -> dict[str, Any]:
    """The metadata of an array, its compressor checked; with filters nobody knows how much comes out of it."""
    if not metadata.get("compressor") or metadata.get("filters") or not {"chunks", "dtype"} <= metadata.keys():
        return metadata
    size = math.prod(metadata["chunks"]) * np.dtype(metadata["dtype"]).itemsize
    return {**metadata, "compressor": {"id": _Checked.codec_id, "compressor": metadata["compressor"], "size": size}}


class Store(FSStore):
    """A store whose new arrays have nested chunks, and whose other arrays have them where their metadata says.

    FSStore looks for nested chunks only. It does not find those of an array with flat chunks, as zarr itself
    makes them by default, and zarr takes an absent chunk for zeros.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._metadata = _METADATA.get()
        super().__init__(*args, **kwargs)
        self.map.fs = self.fs  # one that connects anew gives the mapper what is connected now
        self._is_remote = not _filesystems.is_local(self.fs)
        # s3fs asks for the size of each object before, unless it is told that it shall not.
        self._options = {"max_concurrency": 1} if _filesystems.is_conditional(self.fs) else {}

    def _normalize_key(self, key: str) -> str:
        return key.strip("/")

    def getitems(self, keys: Sequence[str], *, contexts: Mapping[str, Any]) -> Mapping[str, bytes]:
        if has_magic(self.path):
            return {key: self[key] for key in keys if key in self}
        if not self._is_remote:
            found: Mapping[str, bytes] = super().getitems(keys, contexts=contexts)
            return found
        places = {f"{self.path}/{self._normalize_key(key)}": key for key in keys}
        answers = self.fs.cat(list(places), on_error="return", **self._options)
        for path, answer in answers.items():
            if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                with _reading(self.fs, path):
                    raise answer  # [LAY-007]
        return {places[path]: data for path, data in answers.items() if isinstance(data, bytes)}

    def _read(self, key: str) -> bytes:
        place = f"{self.path}/{key}"
        if self._metadata is not None and place in self._metadata:
            data = self._metadata[place]
            if data is None:
                raise KeyError(key)
            return data
        try:
            return self._fetch(key, place)
        except KeyError:
            self._keep(key, place, None)
            raise

    def _fetch(self, key: str, place: str) -> bytes:
        data: bytes
        # fsspec takes brackets and asterisks of a path for a pattern, unless it is asked for one file.
        if self._is_remote or has_magic(self.path):
            try:
                with _reading(self.fs, place):
                    data = self.fs.cat_file(place, **self._options)
            except FileNotFoundError as error:
                raise KeyError(key) from error
        else:
            data = super().__getitem__(key)
        self._keep(key, place, data)
        return data

    def _keep(self, key: str, place: str, data: bytes | None) -> None:
        if self._metadata is not None and key.rpartition("/")[2] in _METADATA_NAMES:
            self._metadata[place] = data

    def read_ahead(self, level: str) -> None:
        """Read the metadata of the store and one of its arrays at the same time; on the local disk there is no need.

        Storage that lets nobody list may refuse to say that something is not there. So what cannot be there is not
        asked for: the store is a group, or an array.
        """
        # fsspec's caches lose files where several threads read.
        if self._metadata is None or not self._is_remote or _urls.CACHES.intersection(_filesystems.protocols(self.fs)):
            return
        group, array = _GROUP, f"{level.strip('/')}/{_ARRAY}"
        _waiting.concurrently([partial(self.__contains__, key) for key in (group, array)])
        for key in (group, array):
            if self._metadata.get(f"{self.path}/{key}") is not None:
                prefix = f"{self.path}/{key}".removesuffix(_GROUP).removesuffix(_ARRAY)
                self._metadata.setdefault(f"{prefix}{_ARRAY if key == group else _GROUP}", None)

    def __contains__(self, key: object) -> bool:
        if not self._is_remote or not isinstance(key, str) or key.rpartition("/")[2] not in _METADATA_NAMES:
            return bool(super().__contains__(key))
        try:
            self._read(self._normalize_key(key))
        except KeyError:
            return False
        return True

    def __getitem__(self, key: str) -> bytes:
        data = self._read(self._normalize_key(key))
        if key.endswith(self._array_meta_key):
            # The specification of zarr 2: without a separator it is a dot [LAY-006].
            metadata = {"dimension_separator": ".", **json.loads(data)}
            return json.dumps(_checked(metadata) if self._metadata is not None else metadata).encode()
        return data

    def __setitem__(self, key: str, value: Any) -> None:
        if self._is_remote:
            self.setitems({key: value})  # elsewhere no directory has to be made, or to be in the way
        else:
            super().__setitem__(key, value)


@contextmanager
def _reading(fs: AbstractFileSystem, path: str) -> Iterator[None]:
    """Make errors of ours of what a file system raises, but for absence, while a part of a store is read."""
    try:
        yield
    except FileNotFoundError:
        raise
    except failures(ValueError) as error:  # a URL that is none
        text = f"cannot read a part of the array: {_filesystems.reason(error)}"
        raise StorageError("storage-failed", text, path=_filesystems.url_of(fs, path)) from error


def open_store(fs: AbstractFileSystem, path: str, *, writable: bool) -> Store:
    """The zarr store at `path`. Nothing is created [LAY-002].

    Args:
        fs: The file system; a local one must make directories by itself if the store is to be written.
        path: The directory of the store.
        writable: Whether the store may be written to.
    """
    return Store(
        path,
        fs=fs,
        mode="w" if writable else "r",
        dimension_separator="/",  # [LAY-005]
        # zarr takes any of these exceptions for an absent chunk, and an absent chunk for the fill value [LAY-009].
        exceptions=(KeyError, FileNotFoundError),  # [LAY-007]
        missing_exceptions=(FileNotFoundError,),  # those that fsspec makes a KeyError of
    )


def create_store(fs: AbstractFileSystem, path: str) -> None:
    """Make a zarr store with an empty root group, so that it exists on object stores too."""
    store = open_store(fs, path, writable=True)
    with _storage.writing(path, fs):
        store[_GROUP] = json.dumps({"zarr_format": 2}).encode()


def is_there(fs: AbstractFileSystem, path: str) -> bool:
    """Whether there is a zarr store, or anything else, at `path`; over http nobody can tell of a directory.

    Raises:
        StorageError: `storage-failed`.
    """
    if _filesystems.is_local(fs):
        return _storage.exists(fs, path)
    try:
        if has_content(open_store(fs, path, writable=False)):
            return True
    except CroissantError:
        raise
    except failures(TypeError) as error:  # an option that is none
        where = _filesystems.url_of(fs, path)
        raise StorageError(
            "storage-failed", f"cannot look what is there: {_filesystems.reason(error)}", path=where
        ) from error
    return _storage.exists(fs, path) if _filesystems.has_directories(fs) else _storage.is_directory(fs, path)


@contextmanager
def assembled(fs: AbstractFileSystem, path: str) -> Iterator[tuple[AbstractFileSystem, str]]:
    """A directory in memory, where a store is written that then takes the place of that at `path`, all of it at once.

    So a store that cannot be made leaves what was there [LAY-013], and no request waits for another.

    Args:
        fs: Other storage than the local disk, where no directory can be renamed.
        path: The directory of the store.

    Raises:
        StorageError: `storage-failed`. What is at `path` is then neither the old store nor the new one.
    """
    memory = MemoryFileSystem()
    place = f"/copick_mlc-{secrets.token_hex(8)}"
    try:
        yield memory, place
        new = {f"{path}{file.removeprefix(place)}": memory.cat_file(file) for file in memory.find(place)}
        with _storage.writing(path, fs):
            fs.invalidate_cache(path)
            old = fs.find(path)
            fs.pipe(new)
        _waiting.concurrently([partial(_storage.remove_file, fs, file) for file in old if file not in new])
    finally:
        if memory.exists(place):
            memory.rm(place, recursive=True)


def has_content(store: FSStore) -> bool:
    """Whether there is a group or an array in the store; `zarr.open` would put a group into one without."""
    return bool(contains_group(store) or contains_array(store))


@contextmanager
def decoding(path: str) -> Iterator[None]:
    """Make errors of ours of what zarr and its codecs raise while an array of the store at `path` is read.

    Raises:
        MissingError: `data-missing`, where there is no such array [LAY-012].
        StorageError: `storage-failed`, where a chunk cannot be read [LAY-007].
        DataError: `data-invalid`, where a chunk or the metadata cannot be decoded [LAY-008].
    """
    token = _METADATA.set({})
    try:
        yield
    except CroissantError:
        raise
    except KeyError as error:
        raise MissingError("data-missing", f"there is no array {error} in this store", path=path) from error
    except _UNDECODABLE as error:
        raise DataError("data-invalid", f"cannot decode the array: {error}", path=path) from error
    except failures() as error:
        raise StorageError(
            "storage-failed", f"cannot read the array: {_filesystems.reason(error)}", path=path
        ) from error
    finally:
        _METADATA.reset(token)
