"""A process that imports a Python adapter, and copies itself for each process of it: `conformance.processes` starts it.

Each copy begins as a new process does, in its directory, with its environment and streams, in a group of its own.
Then it serves the adapter as `python -m conformance.serve` does.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import sys
from contextlib import suppress

from conformance import serve

_served = False


def main() -> None:
    global _served
    adapter, descriptor = sys.argv[1:]
    atexit.register(_leave)  # who is first here is called last
    with suppress(Exception, SystemExit):  # Each copy tries again, and tells of it.
        for name in getattr(serve.load(adapter), "imports", ()):
            importlib.import_module(name)
    gc.freeze()
    with socket.socket(fileno=int(descriptor)) as suite:
        is_copy = _copy_for_all(suite)
    if is_copy:
        serve.main(adapter)
        _served = True


def _leave() -> None:
    """End at once where all is well: to take apart what was imported takes longer than a case."""
    if _served:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _copy_for_all(suite: socket.socket) -> bool:
    """Copy this process for everybody who asks; true in the copies, and false when nobody can ask any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody waits for those that attend.
    while True:
        _, descriptors, _, _ = socket.recv_fds(suite, 1, 4)
        if not descriptors:
            return False
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _attend(descriptors[0], descriptors[1:])
        for one in descriptors:
            os.close(one)


def _attend(descriptor: int, streams: list[int]) -> bool:
    """Copy this process, which then only says which process that is, and how it ends; true in the copy."""
    with socket.socket(fileno=descriptor) as asking:
        with asking.makefile(encoding="utf-8") as lines:
            wanted = json.loads(lines.readline())
        copy = os.fork()
        if copy:
            for stream in streams:
                os.close(stream)
            with suppress(ProcessLookupError, PermissionError):  # It does so too, and whoever is first.
                os.setpgid(copy, copy)
            with suppress(BrokenPipeError):  # Those who ask may be gone.
                asking.sendall(f"{copy}\n".encode())
                _, status = os.waitpid(copy, 0)
                asking.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os._exit(0)
    os.setpgid(0, 0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(wanted["directory"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    return True


if __name__ == "__main__":
    main()
