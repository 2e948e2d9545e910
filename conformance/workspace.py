"""The place in which a case plays: a copy of its fixture, the placeholders for it, and its state at the last edit."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from functools import cached_property, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from conformance import snapshot
from conformance.s3 import Server
from conformance.snapshot import Snapshot

try:
    _fcntl: Any = importlib.import_module("fcntl")
except ImportError:  # Windows has no flock(2)
    _fcntl = None

_LOCK_SECONDS = 60.0

#: Whether the suite can hold the lock of a project here.
CAN_LOCK = _fcntl is not None

# What an adapter puts down for itself is in this directory, which nobody looks at.
_SCRATCH = "scratch"

# The placeholders of what a server has to run for.
_SERVERS = ("http", "s3")

#: The manifest of the project, where a check or edit names no other.
MANIFEST = "project/Croissant/metadata.json"


class Workspace:
    """A directory of one case.

    Attributes:
        work: Its absolute path.
        last: Everything as the last edit left it, or as it was at first.
        given: Everything that the fixture and the edits put there, whatever became of it.
    """

    def __init__(self, fixture: Path, place: Path | None = None) -> None:
        """Copy `fixture` to a new temporary directory, or to `place`, which then is kept."""
        self._kept = place is not None
        # Where the temporary directory is a link, an implementation may well answer with the path behind it.
        self.work = os.path.realpath(place or tempfile.mkdtemp(prefix="conformance-"))
        shutil.copytree(fixture, self.work, symlinks=True, dirs_exist_ok=True)
        self.last = self.given = self.take()
        self._locks: dict[str, int] = {}

    def path(self, relative: str) -> str:
        """The absolute path of a case's path.

        Raises:
            ValueError: it leads out of the workspace.
        """
        path = os.path.abspath(os.path.join(self.work, relative))
        if path != self.work and not path.startswith(self.work + os.sep):
            raise ValueError(f"the path {relative!r} leads out of the workspace")
        return path

    def take(self) -> Snapshot:
        """Everything as it is now, but for what is the adapter's."""
        found = snapshot.take(self.work)
        return {path: entry for path, entry in found.items() if path.partition("/")[0] != _SCRATCH}

    def edited(self, before: Snapshot) -> None:
        """Note what an edit has changed since `before`."""
        self.last = self.take()
        given = dict(self.given)
        for path in snapshot.changes(before, self.last):
            if path in self.last:
                given[path] = self.last[path]
            else:
                given.pop(path, None)
        self.given = given

    # --- the lock of a project ---------------------------------------------------------------------------

    def lock(self, manifest: str) -> None:
        """Take the lock of the project whose metadata.json is at the absolute path `manifest` [COM-001].

        Raises:
            OSError: somebody has it all the time.
        """
        path = f"{os.path.realpath(manifest)}.lock"
        deadline = time.monotonic() + _LOCK_SECONDS
        while path not in self._locks:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                _fcntl.flock(descriptor, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
                if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                    self._locks[path] = descriptor
                    os.write(descriptor, b"the conformance suite")
                    return
            except (BlockingIOError, FileNotFoundError):
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise
            os.close(descriptor)
            time.sleep(0.001)

    def unlock(self, manifest: str) -> None:
        """Remove the lock file, and give the lock back.

        Raises:
            LookupError: it was not taken.
        """
        path = f"{os.path.realpath(manifest)}.lock"
        descriptor = self._locks.pop(path)
        name = os.path.relpath(path, self.work).replace(os.sep, "/")
        self.last, self.given = (
            {key: entry for key, entry in entries.items() if key != name} for entries in (self.last, self.given)
        )
        os.unlink(path)
        os.close(descriptor)

    # --- placeholders ------------------------------------------------------------------------------------

    def fill(self, value: Any) -> Any:
        """`value` with what the placeholders in its strings stand for."""
        if isinstance(value, str):
            value = value.replace("{work}", self.work).replace("{project}", os.path.join(self.work, "project"))
            for name in _SERVERS:
                if f"{{{name}}}" in value:
                    value = value.replace(f"{{{name}}}", getattr(self, name))
            return value
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if isinstance(value, dict):
            return {name: self.fill(item) for name, item in value.items()}
        return value

    def hide(self, text: str) -> str:
        """`text` with placeholders for what only this run knows."""
        text = text.replace(self.work, "{work}")
        for name in _SERVERS:
            if name in self.__dict__:
                text = text.replace(getattr(self, name), f"{{{name}}}")
        return text

    @cached_property
    def http(self) -> str:
        """The URL of the workspace; the server starts when the first case asks for it."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=self.work))
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @cached_property
    def s3(self) -> str:
        """The URL of the workspace as a bucket; that server too starts when it is asked for."""
        return self.s3_server.url

    @cached_property
    def s3_server(self) -> Server:
        return Server(self.work, os.path.join(self.work, _SCRATCH, "s3"))

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to reach the servers that run."""
        return self.s3_server.environment if "s3_server" in self.__dict__ else {}

    def close(self) -> None:
        """Stop the servers, give back the locks, and remove the directory if it is a temporary one."""
        for descriptor in self._locks.values():
            os.close(descriptor)
        if "http" in self.__dict__:
            self._server.shutdown()
            self._server.server_close()
        if "s3_server" in self.__dict__:
            self.s3_server.close()
        if not self._kept:
            _remove(self.work)


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: standard error is the adapter's."""


def _remove(directory: str) -> None:
    """Remove a directory, also where a case made parts of it read-only."""
    for parent, _, _ in os.walk(directory):
        for item in os.scandir(parent):
            if item.is_dir(follow_symlinks=False):
                os.chmod(item.path, 0o700)
    shutil.rmtree(directory)
