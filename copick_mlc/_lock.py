"""The lock that the writers of one project hold, on the local disk, in turn.

It is a lock of the operating system on a file beside metadata.json, so it goes with the process that holds it, however
that ends. Readers need none. Rules: SPEC.md, Commits [COM].
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import os
import random
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from fsspec import AbstractFileSystem

from copick_mlc import _storage
from copick_mlc.errors import CroissantWarning, LockedError

#: How long a writer waits for the lock, in seconds.
WAIT_SECONDS = 60.0

_PAUSE_SECONDS = 0.05
# No link is followed at the name of the lock: a project from elsewhere could name any file with it.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
# What systems say that have no locks, as some network file systems.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)

if sys.platform == "win32":
    import msvcrt

    _LOCKED_BYTE = 1 << 30  # behind the holder's name, which others read: what is locked nobody can

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # also for a child that was forked meanwhile


@contextmanager
def locked(fs: AbstractFileSystem, manifest: str, wait: float | None = None) -> Iterator[None]:
    """Hold the lock of the project whose metadata.json has the path `manifest` [COM-001].

    On other storage than the local disk there is no lock.

    Args:
        fs: The file system of the manifest.
        manifest: Path of metadata.json.
        wait: How long to wait for it, in seconds; by default WAIT_SECONDS.

    Raises:
        LockedError: `locked`, where somebody else has it all that time [COM-009].
        StorageError: `storage-failed`, where there can be no lock file.
    """
    if not _storage.is_local(fs):
        yield
        return
    path = path_of(manifest)
    with _storage.writing(path):
        descriptor = _acquire(path, WAIT_SECONDS if wait is None else wait)
    try:
        yield
    finally:
        _release(path, descriptor)


def path_of(manifest: str) -> str:
    """Path of the lock file of the project whose metadata.json has the path `manifest` on the local disk."""
    return f"{os.path.realpath(manifest)}.lock"


def holder(fs: AbstractFileSystem, manifest: str) -> str | None:
    """Who holds the lock; None where nobody does, or nobody can say. Nothing is written."""
    if not _storage.is_local(fs):
        return None
    try:
        descriptor = os.open(path_of(manifest), os.O_RDONLY | _NO_LINK)
    except OSError:
        return None
    try:
        if _try_lock(descriptor):
            _unlock(descriptor)
            return None
        return _signature(descriptor)
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(descriptor)


def _acquire(path: str, wait: float) -> int:
    """The descriptor of the locked lock file at `path`."""
    deadline = time.monotonic() + wait
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
        try:
            if _is_locked(descriptor, path) and _is_at(path, descriptor):
                _sign(descriptor)
                return descriptor
            holds = _signature(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if time.monotonic() >= deadline:
            raise LockedError(
                "locked",
                f"{holds} is writing to this project, and was not done after {wait:g} s; try again when it is",
                path=path,
            )
        time.sleep(random.uniform(0.1, 1) * _PAUSE_SECONDS)  # noqa: S311  # no secret: so that waiters differ


def _is_locked(descriptor: int, path: str) -> bool:
    try:
        return _try_lock(descriptor)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        warnings.warn(
            f"{path}: this file system has no locks ({error.strerror}); see that nobody else writes to the project",
            CroissantWarning,
            stacklevel=2,
        )
        return True


def _is_at(path: str, descriptor: int) -> bool:
    """Whether the file that was locked is still the one at `path`: who had the lock before removed his."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    """Say in the lock file who holds it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user that the system does not know by name
        user = "unknown user"
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    with contextlib.suppress(OSError):  # a full disk, for one
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f"process {os.getpid()} of {user} on {socket.gethostname()}, since {since}\n".encode())


def _signature(descriptor: int) -> str:
    return os.read(descriptor, 1000).decode(errors="replace").strip() or "another process"


def _release(path: str, descriptor: int) -> None:
    # What cannot be removed stays, and does no harm.
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            os.unlink(path)  # while it is held, so that nobody can have locked it meanwhile
    with contextlib.suppress(OSError):
        _unlock(descriptor)
    os.close(descriptor)
    if sys.platform == "win32":
        with contextlib.suppress(OSError):
            os.unlink(path)  # not while anybody has it open
