"""The lock that the writers of one project hold in turn. Readers need none.

On the local disk it is a lock of the operating system on a file beside metadata.json, so it goes with the process that
holds it, however that ends. On S3 none is needed: a commit is refused where somebody else made one meanwhile. Other
storage has an object there that its maker renews; where nobody does, others remove it. Rules: SPEC.md, Commits [COM].
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import os
import random
import secrets
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fsspec import AbstractFileSystem

from copick_mlc import _filesystems, _storage
from copick_mlc.errors import CroissantWarning, LockedError, StorageError

#: How long a writer waits for the lock, in seconds.
WAIT_SECONDS = 60.0
#: How long a lock that is an object counts after its maker has last renewed it, in seconds.
LEASE_SECONDS = 30.0

_PAUSE_SECONDS = 0.05
_REMOTE_PAUSE_SECONDS = 0.5
# How often in turn the object may be gone again when it is looked at, and yet nobody can make it.
_MISSES = 5
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
def locked(fs: AbstractFileSystem, manifest: str, wait: float | None = None) -> Iterator[Callable[[], None]]:
    """Hold the lock of the project whose metadata.json has the path `manifest` [COM-001].

    Args:
        fs: The file system of the manifest.
        manifest: Path of metadata.json.
        wait: How long to wait for it, in seconds; by default WAIT_SECONDS.

    Yields:
        What raises LockedError where the lock was lost, because its holder was too slow to renew it.

    Raises:
        LockedError: `locked`, where somebody else has it all that time [COM-009].
        StorageError: `storage-failed`, where there can be no lock file.
    """
    seconds = WAIT_SECONDS if wait is None else wait
    if not _filesystems.is_local(fs):
        with _renewed(fs, manifest, seconds) as check:
            yield check
        return
    path = path_of(manifest)
    with _storage.writing(path):
        descriptor = _acquire(path, seconds)
    try:
        yield lambda: None
    finally:
        _release(path, descriptor)


def path_of(manifest: str) -> str:
    """Path of the lock file of the project whose metadata.json has the path `manifest` on the local disk."""
    return f"{os.path.realpath(manifest)}.lock"


def holder(fs: AbstractFileSystem, manifest: str) -> str | None:
    """Who holds the lock; None where nobody does, or nobody can say. Nothing is written."""
    if not _filesystems.is_local(fs):
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
            raise _locked_error(holds, wait, path)
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


def _locked_error(holds: str, wait: float, path: str) -> LockedError:
    return LockedError(
        "locked",
        f"{holds} is writing to this project, and was not done after {wait:g} s; try again when it is",
        path=path,
    )


def _name() -> str:
    """Who we are, and since when."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user that the system does not know by name
        user = "unknown user"
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return f"process {os.getpid()} of {user} on {socket.gethostname()}, since {since}"


def _sign(descriptor: int) -> None:
    """Say in the lock file who holds it."""
    with contextlib.suppress(OSError):  # a full disk, for one
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f"{_name()}\n".encode())


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


# --- a lock that is an object ----------------------------------------------------------------------------


@contextmanager
def _renewed(fs: AbstractFileSystem, manifest: str, wait: float) -> Iterator[Callable[[], None]]:
    """Hold the lock of a project on other storage than the local disk, if its storage needs any."""
    if _filesystems.is_conditional(fs):
        yield lambda: None
        return
    lock = _ObjectLock(fs, f"{manifest}.lock")
    lock.acquire(wait)
    try:
        yield lock.check
    finally:
        lock.release()


class _ObjectLock:
    """An object that is made where there is none, and renewed until it is removed."""

    def __init__(self, fs: AbstractFileSystem, path: str) -> None:
        self._fs, self._path, self._url = fs, path, _filesystems.url_of(fs, path)
        self._id = f"{_name()}, {secrets.token_hex(8)}"
        self._renewed = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def acquire(self, wait: float) -> None:
        """Make the object, or remove that of somebody who has not renewed it for long."""
        deadline = time.monotonic() + wait
        seen, since, misses = b"", time.monotonic(), 0
        while not _storage.create(self._fs, self._path, self._stamp()):
            found = _storage.read_if_there(self._fs, self._path) or b""
            misses = 0 if found else misses + 1
            if misses > _MISSES:
                raise StorageError("storage-failed", "cannot write: something is in the way", path=self._url)
            if found != seen:
                seen, since = found, time.monotonic()
            elif time.monotonic() - since > LEASE_SECONDS:
                _storage.remove_file(self._fs, self._path)
                continue
            if time.monotonic() >= deadline:
                holds = found.decode(errors="replace").rpartition(", ")[0].rpartition(", ")[0]
                raise _locked_error(holds or "another process", wait, self._url)
            time.sleep(random.uniform(0.1, 1) * _REMOTE_PAUSE_SECONDS)  # noqa: S311  # as above
        self._renewed = time.monotonic()
        if sys.platform != "emscripten":
            self._thread.start()

    def check(self) -> None:
        """See that nobody took the lock for one that nobody renews any more."""
        if not self._is_fresh() and not self._is_ours():
            raise LockedError(
                "locked",
                f"this process held the lock, and did not renew it for {LEASE_SECONDS:g} s; somebody else may have "
                "written meanwhile; nothing was written, try again",
                path=self._url,
            )

    def release(self) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        with contextlib.suppress(StorageError):  # others remove it in time
            if self._is_fresh() or self._is_ours():
                _storage.remove_file(self._fs, self._path)

    def _is_fresh(self) -> bool:
        """Whether nobody can have taken it for one that nobody renews."""
        return time.monotonic() - self._renewed < LEASE_SECONDS / 2

    def _is_ours(self) -> bool:
        return (_storage.read_if_there(self._fs, self._path) or b"").startswith(self._id.encode())

    def _renew(self) -> None:
        while not self._done.wait(LEASE_SECONDS / 3):
            with contextlib.suppress(StorageError):  # whoever writes notices too
                if self._is_ours():
                    _storage.put(self._fs, self._path, self._stamp())
                    self._renewed = time.monotonic()

    def _stamp(self) -> bytes:
        return f"{self._id}, renewed {time.time()}\n".encode()
