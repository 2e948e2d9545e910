"""Work that waits for storage, and so is done many calls at a time: remote storage answers one in the time of many.

On the local disk it is done call by call in this thread, which is faster there; and so it is where no threads can
start.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

from fsspec import AbstractFileSystem

from copick_mlc import _filesystems

T = TypeVar("T")

# s3fs has ten connections, and what a thread works on may be large, as the chunk of a volume.
_THREADS = 8
# What is one request of few bytes.
_MANY_THREADS = 32


@contextmanager
def threads(wanted: bool = True) -> Iterator[Executor | None]:
    """Threads, where they are wanted and can start; else None, for this thread."""
    if sys.platform == "emscripten" or not wanted:
        yield None
        return
    with ThreadPoolExecutor(_THREADS) as executor:
        yield executor


def results(
    calls: Iterable[Callable[[], T]], executor: Executor | None, *, settles: bool = False
) -> Generator[T, None, None]:
    """What calls give, in order; where one fails, those that are not begun are not made.

    Args:
        calls: The calls.
        executor: Who makes them; None for this thread.
        settles: Whether nobody is at work any more when this ends.
    """
    if executor is None:
        yield from (call() for call in calls)
        return
    futures: list[Future[T]] = []
    try:
        futures.extend(executor.submit(call) for call in calls)  # where one is refused, it has those before
        for future in futures:
            yield future.result()
    finally:
        begun = [future for future in futures if not future.cancel()]
        if settles:
            wait(begun)


def concurrently(calls: Sequence[Callable[[], T]]) -> list[T]:
    """What calls give that wait for storage, made at the same time where there are threads.

    Where some raise, the first of these in order is raised, once all have ended.
    """
    if len(calls) < 2 or sys.platform == "emscripten":
        return [call() for call in calls]
    with ThreadPoolExecutor(min(len(calls), _MANY_THREADS)) as executor:
        futures = [executor.submit(call) for call in calls]
        wait(futures)
    return [future.result() for future in futures]


def at_once(storage: Iterable[AbstractFileSystem | None], calls: Sequence[Callable[[], T]]) -> list[T]:
    """What calls give that each wait for little of this storage. The first that fails, in order, raises."""
    return concurrently(calls) if is_remote(storage) else [call() for call in calls]


def is_remote(storage: Iterable[AbstractFileSystem | None]) -> bool:
    """Whether some of these file systems are not the local disk."""
    return any(fs is not None and not _filesystems.is_local(fs) for fs in storage)
