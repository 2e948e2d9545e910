"""Replace a directory, such as a zarr store, as a whole: whoever is killed leaves the old one or the new one.

Nothing is flushed to the disk: a volume may be thousands of files, and whoever wrote it can write it again.
Rules: SPEC.md, Layout [LAY].
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fsspec import AbstractFileSystem

from copick_mlc import _storage

# renameat2(2) of Linux
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


@contextmanager
def replaced_directory(fs: AbstractFileSystem, path: str) -> Iterator[str]:
    """The path of a directory to write to, which takes the place of the one at `path` if the block succeeds [LAY-013].

    On other storage than the local disk, where no directory can be renamed, that is `path` itself.

    Raises:
        StorageError: `storage-failed`. What was there is as before.
    """
    if not _storage.is_local(fs):
        yield path
        return
    target = os.path.realpath(path)
    parent, name = os.path.split(target)
    new = os.path.join(parent, f".{name}.{secrets.token_hex(6)}.tmp")
    try:
        yield new
        with _storage.writing(path):
            _take_place(new, target)
    finally:
        shutil.rmtree(new, ignore_errors=True)  # what failed, or what was replaced


def _take_place(new: str, target: str) -> None:
    """Have `new` at `target`, and what was there, if anything, at `new`."""
    if not os.path.lexists(target):
        os.rename(new, target)
    elif not _exchange(new, target):
        # The other systems have no such step. Who is killed between these leaves the old directory at `former`.
        former = f"{new}.former"
        os.rename(target, former)
        os.rename(new, target)
        os.rename(former, new)


def _exchange(one: str, other: str) -> bool:
    """Exchange two names in one step; False where the system cannot."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), other)
