"""How zarr stores are opened: nested chunks, and an I/O error is an error, not a block of zeros.

Chunks are decoded by zarr and numcodecs [LAY-010] [LAY-011]. Rules: SPEC.md, Layout [LAY].
"""

from __future__ import annotations

import gzip
import json
import lzma
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from glob import has_magic
from typing import Any

import numpy as np
import zarr
from fsspec import AbstractFileSystem
from numcodecs.abc import Codec
from numcodecs.compat import ensure_contiguous_ndarray, ndarray_copy
from numcodecs.registry import get_codec, register_codec
from zarr.errors import MetadataError
from zarr.storage import FSStore, contains_array, contains_group

from copick_mlc._storage import failures
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


# Within `decoding`, chunks are checked.
_CHECKING: ContextVar[bool] = ContextVar("_CHECKING", default=False)


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


class _Store(FSStore):
    """A store whose new arrays have nested chunks, and whose other arrays have them where their metadata says.

    FSStore looks for nested chunks only. It does not find those of an array with flat chunks, as zarr itself
    makes them by default, and zarr takes an absent chunk for zeros.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._checking = _CHECKING.get()
        super().__init__(*args, **kwargs)

    def _normalize_key(self, key: str) -> str:
        return key.strip("/")

    def getitems(self, keys: Sequence[str], *, contexts: Mapping[str, Any]) -> Mapping[str, bytes]:
        if not has_magic(self.path):
            found: Mapping[str, bytes] = super().getitems(keys, contexts=contexts)
            return found
        return {key: self[key] for key in keys if key in self}

    def _read(self, key: str) -> bytes:
        if not has_magic(self.path):
            data: bytes = super().__getitem__(key)
            return data
        # fsspec takes brackets and asterisks of a path for a pattern, unless it is asked for one file.
        try:
            data = self.fs.cat_file(f"{self.path}/{key}")
        except FileNotFoundError as error:
            raise KeyError(key) from error
        return data

    def __getitem__(self, key: str) -> bytes:
        data = self._read(key)
        if key.endswith(self._array_meta_key):
            # The specification of zarr 2: without a separator it is a dot [LAY-006].
            metadata = {"dimension_separator": ".", **json.loads(data)}
            return json.dumps(_checked(metadata) if self._checking else metadata).encode()
        return data


def open_store(fs: AbstractFileSystem, path: str, *, writable: bool) -> FSStore:
    """The zarr store at `path`. Nothing is created [LAY-002].

    Args:
        fs: The file system; a local one must make directories by itself if the store is to be written.
        path: The directory of the store.
        writable: Whether the store may be written to.
    """
    return _Store(
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
    zarr.group(store=open_store(fs, path, writable=True))


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
    token = _CHECKING.set(True)
    try:
        yield
    except CroissantError:
        raise
    except KeyError as error:
        raise MissingError("data-missing", f"there is no array {error} in this store", path=path) from error
    except _UNDECODABLE as error:
        raise DataError("data-invalid", f"cannot decode the array: {error}", path=path) from error
    except failures() as error:
        raise StorageError("storage-failed", f"cannot read the array: {error}", path=path) from error
    finally:
        _CHECKING.reset(token)
