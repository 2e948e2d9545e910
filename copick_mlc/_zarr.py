"""How zarr stores are opened: nested chunks, and an I/O error is an error, not a block of zeros.

Chunks are decoded by zarr and numcodecs [LAY-010] [LAY-011]. Rules: SPEC.md, Layout [LAY].
"""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import zarr
from fsspec import AbstractFileSystem
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


class _Store(FSStore):
    """A store whose new arrays have nested chunks, and whose other arrays have them where their metadata says.

    FSStore looks for nested chunks only. It does not find those of an array with flat chunks, as zarr itself
    makes them by default, and zarr takes an absent chunk for zeros.
    """

    def _normalize_key(self, key: str) -> str:
        return key.strip("/")

    def __getitem__(self, key: str) -> bytes:
        data: bytes = super().__getitem__(key)
        if key.endswith(self._array_meta_key):
            metadata = json.loads(data)
            if "dimension_separator" not in metadata:  # the specification of zarr 2: then it is a dot [LAY-006]
                data = json.dumps({**metadata, "dimension_separator": "."}).encode()
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


def create_store(fs: AbstractFileSystem, path: str) -> FSStore:
    """A new zarr store with an empty root group, so that it exists on object stores too."""
    store = open_store(fs, path, writable=True)
    zarr.group(store=store)
    return store


def has_content(store: FSStore) -> bool:
    """Whether there is a group or an array in the store; `zarr.open` would put a group into one without."""
    return bool(contains_group(store) or contains_array(store))


@contextmanager
def decoding(path: str) -> Iterator[None]:
    """Make errors of ours of what zarr and its codecs raise while an array of the store at `path` is read.

    Raises:
        MissingError: `data-missing`, where there is no such array.
        StorageError: `storage-failed`, where a chunk cannot be read [LAY-007].
        DataError: `data-invalid`, where a chunk or the metadata cannot be decoded [LAY-008].
    """
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
