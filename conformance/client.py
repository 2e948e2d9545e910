"""An adapter's process, seen from the suite: one request, one response, and all the ways in which that goes wrong."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from conformance import documents
from conformance.processes import Launcher, Process

_LONGEST_LINE = 64 * 1024 * 1024
_STDERR_TAIL = 4000

_NOTHING: Mapping[str, str] = {}


class AdapterError(Exception):
    """The adapter hung, crashed or broke the protocol: there is no answer to judge."""


@dataclass(frozen=True)
class Response:
    """What an adapter answered: a result, or an error with its code and message."""

    result: Any = None
    error: bool = False
    code: str | None = None
    message: str = ""


class Client:
    """One process of an adapter."""

    def __init__(
        self, launcher: Launcher, directory: str, timeout: float, environment: Mapping[str, str] = _NOTHING
    ) -> None:
        """Have `launcher` start it in `directory`; each answer must come within `timeout` seconds.

        Its environment lets it reach no other host; `environment` is what it has besides.

        Raises:
            AdapterError: it cannot be started.
        """
        self._timeout = timeout
        self._late = False
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        (stdin, self._stdin), (self._stdout, stdout) = _pipe(), _pipe()
        try:
            with stdin, stdout:
                streams = stdin.fileno(), stdout.fileno(), self._stderr.fileno()
                self._process = launcher.launch(directory, environment, streams, timeout)
        except OSError as error:
            for stream in (self._stdin, self._stdout, self._stderr):
                stream.close()
            raise AdapterError(f"{error.filename or 'it'} cannot be started: {error.strerror or error}") from error

    def ask(self, operation: str, arguments: Mapping[str, Any]) -> Response:
        """Send a request and wait for its response.

        Raises:
            AdapterError: there is none.
        """
        self.send(operation, arguments)
        return self.receive(operation)

    def send(self, operation: str, arguments: Mapping[str, Any]) -> None:
        """Send a request, whose response is to be received before the next is sent."""
        request = json.dumps({"op": operation, **arguments}, allow_nan=False).encode() + b"\n"
        with self._deadline(f"read {operation}"), suppress(OSError):  # It may have gone; how, its exit code tells.
            self._stdin.write(request)
            self._stdin.flush()

    def has_answered(self, seconds: float) -> bool:
        """Whether a response, or the end of the process, comes within `seconds`."""
        return bool(select.select([self._stdout], [], [], seconds)[0])

    def receive(self, operation: str) -> Response:
        """Wait for the response to the request that was sent.

        Raises:
            AdapterError: there is none.
        """
        with self._deadline(f"answer {operation}"):
            line = self._stdout.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            if len(line) == _LONGEST_LINE:
                raise AdapterError(f"the answer to {operation} is longer than {_LONGEST_LINE} bytes")
            raise AdapterError(f"{self._exit()} before it answered {operation}")
        response = _response(line)
        if response.code == "unsupported":
            raise AdapterError(f"it does not support {operation}: {response.message}")
        return response

    def finish(self) -> None:
        """End standard input, and see that the adapter ends as the protocol says.

        Raises:
            AdapterError: it does not.
        """
        with self._deadline("exit after standard input had ended"):
            self._stdin.close()
            rest = self._stdout.read(_LONGEST_LINE)
            code = self._process.wait()
        if rest:
            raise AdapterError(f"it wrote more than one line for each request: {_excerpt(rest)}")
        if code:
            raise AdapterError(f"{self._exit()} when standard input had ended")

    def strike(self) -> None:
        """Kill the process and all that it started, at once and from any thread; `kill` has still to be called."""
        if self._process.returncode is None:
            _kill(self._process)

    def kill(self) -> None:
        """End the process and all that it started."""
        _kill(self._process)
        self._process.wait()
        for stream in (self._stdin, self._stdout):
            with suppress(OSError):  # What was still to be sent has nobody to go to.
                stream.close()

    def stderr(self) -> str:
        """The end of what the process wrote to standard error; to be read once, when it has ended."""
        with self._stderr:
            size = self._stderr.seek(0, os.SEEK_END)
            self._stderr.seek(max(0, size - _STDERR_TAIL))
            return self._stderr.read().decode(errors="replace").strip()

    @contextmanager
    def _deadline(self, what: str) -> Iterator[None]:
        """Kill the process when its time is over: that ends every read and write that waits for it."""
        timer = threading.Timer(self._timeout, self._kill_late)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
        if self._late:
            raise AdapterError(f"it did not {what} within {self._timeout:g} seconds")

    def _kill_late(self) -> None:
        self._late = True
        _kill(self._process)

    def _exit(self) -> str:
        """How the process ended, in words."""
        try:
            code = self._process.wait(self._timeout)
        except subprocess.TimeoutExpired:
            return "it closed standard output"
        return f"it exited with code {code}" if code >= 0 else f"it died of signal {-code}"


def _pipe() -> tuple[BinaryIO, BinaryIO]:
    """The end of a pipe that is read, and the one that is written to."""
    reading, writing = os.pipe()
    return open(reading, "rb"), open(writing, "wb")


def _kill(process: Process) -> None:
    if not hasattr(os, "killpg") and isinstance(process, subprocess.Popen):  # Windows has no process groups to kill
        process.kill()
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # All of it has ended.


def _response(line: bytes) -> Response:
    try:
        answer = documents.parse(line)
    except ValueError as error:
        raise AdapterError(f"its answer is not JSON ({error}): {_excerpt(line)}") from error
    match answer:
        case {"ok": result, **rest} if not rest:
            return Response(result)
        case {"error": {"code": None | str() as code, "message": str(message)}, **rest} if not rest:
            return Response(error=True, code=code, message=message)
    raise AdapterError(f"its answer is no response of the protocol: {_excerpt(line)}")


def _excerpt(line: bytes) -> str:
    text = line.decode(errors="backslashreplace").rstrip("\r\n")
    return text if len(text) <= 200 else f"{text[:200]}…"
