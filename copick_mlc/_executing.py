"""Work on runs, handed out in chunks to whoever there is: threads, processes, other hosts.

What comes back is in the order of the runs, so that it makes no difference who did it.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import BrokenExecutor, Executor
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Generic, TypeVar

from fsspec import AbstractFileSystem

from copick_mlc import _waiting
from copick_mlc._source import Place
from copick_mlc.errors import MissingError, StorageError

R = TypeVar("R")
T = TypeVar("T")

# Enough to keep a cluster busy to the end, and few enough that handing them out costs nothing.
_CHUNKS = 256


def worked(
    work: Callable[[Sequence[R]], T],
    runs: Sequence[R],
    places: Sequence[Place],
    executor: Executor | None,
    storage: Iterable[AbstractFileSystem | None] = (),
) -> Generator[tuple[int, T], None, None]:
    """The number of runs in each chunk, and what work makes of it, in order.

    Args:
        work: The work; it goes to other processes.
        runs: The runs, with what is known of each.
        places: The directories that the work lists.
        executor: Who does it; None for this thread, or for threads of this process where the work waits for storage.
        storage: What the work reads besides.

    Raises:
        MissingError: `data-missing`, where a worker does not have the storage.
        StorageError: `storage-failed`, where one died.
    """
    if executor is None:
        with (
            _waiting.threads(_waiting.is_remote([*storage, *(place.fs for place in places)])) as threads,
            closing(_waiting.results((partial(work, [run]) for run in runs), threads)) as parts,
        ):
            yield from ((1, part) for part in parts)
        return
    size = -(-len(runs) // _CHUNKS) or 1
    chunks = [runs[start : start + size] for start in range(0, len(runs), size)]
    there = tuple(place for place in places if place.has_runs())
    export = secrets.token_hex(8)
    handed = (_Handed(work, chunk, there, export, number) for number, chunk in enumerate(chunks))
    try:
        with closing(_waiting.results(handed, executor)) as parts:
            yield from zip(map(len, chunks), parts, strict=True)
    except BrokenExecutor as error:
        raise StorageError("storage-failed", f"a worker of the executor died: {error}") from error


@dataclass(frozen=True)
class _Handed(Generic[R, T]):
    """Work that is handed out, perhaps to another host, and to who may remember an earlier export.

    Attributes:
        work: The work.
        runs: The runs, with what is known of each.
        there: The directories that have runs.
        export: Another one in each export.
        number: Another one in each chunk.
    """

    work: Callable[[Sequence[R]], T]
    runs: Sequence[R]
    there: tuple[Place, ...]
    export: str
    number: int

    def __call__(self) -> T:
        with _arriving:
            _arrive(self.there, self.export)
        return self.work(self.runs)

    def __dask_tokenize__(self) -> tuple[str, int]:
        """What dask knows it by, which for one name gives the result that it has. It would else look at every row."""
        return self.export, self.number


_arriving = threading.Lock()


@lru_cache(maxsize=1)
def _arrive(places: Iterable[Place], _: str) -> None:
    """Begin in this process, once an export: forget what was listed before, and see that the storage is the same.

    A directory that a worker does not find would be exported as empty.
    """
    for place in places:
        place.fs.invalidate_cache()
        if not place.has_runs():
            raise MissingError(
                "data-missing",
                "a worker of the executor finds no ExperimentRuns here; every worker needs the storage of the project",
                path=place.url,
            )
