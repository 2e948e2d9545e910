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

from copick_mlc import _storage
from copick_mlc.errors import StorageError

# renameat2(2) of Linux
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


class NewDirectory:
    """A directory that is to take the place of another.

    Attributes:
        path: Where it is written.
    """

    def __init__(self, path: str, target: str) -> None:
        self.path, self._target = path, target

    def take_place(self) -> None:
        """Have this directory in its place, and what was there, if anything, where this was [LAY-013].

        Raises:
            StorageError: `storage-failed`. What was there is as before.
        """
        with _storage.writing(self._target):
            if not os.path.lexists(self._target):
                os.rename(self.path, self._target)
            elif not _exchange(self.path, self._target):
                # Other systems have no such step. Who is killed between these leaves the old directory at `former`.
                former = f"{self.path}.former"
                os.rename(self._target, former)
                try:
                    os.rename(self.path, self._target)
                except OSError:
                    os.rename(former, self._target)
                    raise
                os.rename(former, self.path)


@contextmanager
def new_directory(path: str) -> Iterator[NewDirectory]:
    """A local directory to write to, which can then take the place of that at `path`; if it does not, it is removed.

    Raises:
        StorageError: `storage-failed`, where there is a file.
    """
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isdir(target):
        raise StorageError("storage-failed", "there is a file where a directory is to be written", path=path)
    parent, name = os.path.split(target)
    new = os.path.join(parent, f".{name}.{secrets.token_hex(6)}.tmp")
    try:
        yield NewDirectory(new, target)
    finally:
        shutil.rmtree(new, ignore_errors=True)  # what failed, or what was replaced


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
