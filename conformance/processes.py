"""How processes of an adapter start: with a command, or as copies of a process that has imported a Python adapter.

To import an implementation takes longer than most cases do. Where the system can copy a process, a module is imported
once, by `conformance.forking`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Protocol

_SUITE = Path(__file__).resolve().parent.parent

# What would lead an S3 client elsewhere, or to somebody's own account.
_UNWANTED = ("AWS_ENDPOINT_URL_S3", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_PROFILE", "AWS_SESSION_TOKEN")


class Process(Protocol):
    """A process of an adapter, first in a process group of its own where there are such."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None before `wait` has returned."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it has not ended in `timeout` seconds.
        """


class Launcher(Protocol):
    """Starts processes of an adapter."""

    def launch(
        self, directory: str, environment: Mapping[str, str], streams: tuple[int, int, int], timeout: float
    ) -> Process:
        """Start one.

        Args:
            directory: Where it is started.
            environment: What its environment has besides that of all adapters.
            streams: Descriptors of its standard input, output and error.
            timeout: Seconds that this may take.

        Raises:
            OSError: it cannot be started.
        """


class Command:
    """Starts processes with a command."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words

    def launch(
        self, directory: str, environment: Mapping[str, str], streams: tuple[int, int, int], timeout: float
    ) -> Process:
        stdin, stdout, stderr = streams
        return subprocess.Popen(
            self._words,
            cwd=directory,
            env={**_environment(), **environment},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )


@contextmanager
def module(name: str) -> Iterator[Launcher]:
    """What starts processes that serve the adapter `package.module:Class`, within the block."""
    if not hasattr(os, "fork"):
        yield Command([sys.executable, "-m", "conformance.serve", name])
        return
    ours, theirs = socket.socketpair()
    with theirs:
        importer = subprocess.Popen(
            [sys.executable, "-m", "conformance.forking", name, str(theirs.fileno())],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    with importer, ours:  # It ends when our end of the connection is closed, and is waited for.
        yield _Importer(ours)


class _Importer:
    """Has the process at the other end of a connection copy itself."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def launch(
        self, directory: str, environment: Mapping[str, str], streams: tuple[int, int, int], timeout: float
    ) -> Process:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._connection, [b"."], [theirs.fileno(), *streams])
            ours.settimeout(timeout)
            wanted = {"directory": directory, "environment": {**_environment(), **environment}}
            ours.sendall(json.dumps(wanted).encode() + b"\n")
            return _Copy(ours)
        except OSError as error:
            ours.close()
            if isinstance(error, ConnectionError):
                raise ChildProcessError("the process that imports the module has ended") from error
            raise


class _Copy:
    """A process that is another's child, which tells us of it: its number, and its exit code when it has ended."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.pid = self._number()
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                self.returncode = self._number()
            except TimeoutError:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0) from None
            self._connection.close()
        return self.returncode

    def _number(self) -> int:
        line = b""
        while not line.endswith(b"\n"):
            byte = self._connection.recv(1)
            if not byte:
                raise ConnectionResetError
            line += byte
        return int(line)


def _environment() -> dict[str, str]:
    """The environment of adapters: they run elsewhere, import what can be imported here, and reach no other host."""
    paths = [
        os.getcwd(),
        str(_SUITE),
        *map(os.path.abspath, filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))),
    ]
    kept = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
    return {**kept, **_offline(), "PYTHONPATH": os.pathsep.join(paths)}


def _offline() -> dict[str, str]:
    """What has S3 and http clients that heed the environment go to a port that refuses them, and give up at once."""
    refusing = f"http://127.0.0.1:{_refusing_port()}"
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    return {
        **{spelled: refusing for name in proxies for spelled in (name, name.lower())},
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),  # the suite's own server
        "AWS_ENDPOINT_URL": refusing,
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@cache
def _refusing_port() -> int:
    """A port on which nobody ever listens: it is taken, for as long as the suite runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        taken.detach()
    return port
