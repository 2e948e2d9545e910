"""How zarr stores are opened: nested chunks, and an I/O error is an error, not a block of zeros."""

from __future__ import annotations

import json

import zarr
from fsspec import AbstractFileSystem
from zarr.storage import FSStore, contains_array, contains_group


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
            if "dimension_separator" not in metadata:  # the specification of zarr 2: then it is a dot
                data = json.dumps({**metadata, "dimension_separator": "."}).encode()
        return data


def open_store(fs: AbstractFileSystem, path: str, *, writable: bool) -> FSStore:
    """The zarr store at `path`. Nothing is created.

    Args:
        fs: The file system; a local one must make directories by itself if the store is to be written.
        path: The directory of the store.
        writable: Whether the store may be written to.
    """
    return _Store(
        path,
        fs=fs,
        mode="w" if writable else "r",
        dimension_separator="/",
        # zarr takes any of these exceptions for an absent chunk, and an absent chunk for zeros.
        exceptions=(KeyError, FileNotFoundError),
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
