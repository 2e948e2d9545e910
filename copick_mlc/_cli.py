"""What the commands of `python -m copick_mlc` share."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from copick_mlc import _urls
from copick_mlc._tables import TABLES
from copick_mlc.errors import CroissantWarning
from copick_mlc.index import CroissantIndex


def add_command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], int | None], text: str, epilog: str = ""
) -> Any:
    raw = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(name, help=text, description=text, epilog=epilog, formatter_class=raw)
    parser.set_defaults(command=function)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def print_warnings(caught: list[warnings.WarningMessage]) -> None:
    for found in caught:
        if issubclass(found.category, CroissantWarning):
            print(f"warning: {found.message}", file=sys.stderr)


def printable(text: str) -> str:
    """A text without the lone surrogates that JSON and names of files may have, and no terminal takes."""
    return text.encode(errors="backslashreplace").decode()


@contextmanager
def third_parties_silenced() -> Iterator[None]:
    """Keep what other packages log and warn of out of a command's output; copick sets up the root logger itself."""
    warnings.simplefilter("ignore", DeprecationWarning)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def reported() -> Iterator[None]:
    """Keep other packages quiet, and print our warnings when the work is done."""
    with third_parties_silenced(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CroissantWarning)
        try:
            yield
        finally:
            print_warnings(caught)


@contextmanager
def executor(jobs: int) -> Iterator[Executor | None]:
    """So many processes; None where this one is enough."""
    if jobs == 1:
        yield None
        return
    # Not forked: fsspec's file systems have a thread, and what it holds a forked process would wait for.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield pool


def progress_line(what: str) -> Callable[[int, int], None] | None:
    """What shows on a terminal how much is done."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        end = "\n" if done == total else ""
        print(f"\r{done} of {total} {what}", end=end, file=sys.stderr, flush=True)

    return show


def print_preview(dataset: Any) -> None:
    """Say what of a dataset would be written."""
    print(f"would write {dataset.url} ({len(dataset.manifest)} bytes)")
    for name, table in TABLES.items():
        print(f"  {table.file_name:<28}{dataset.counts[name]:>8} rows {len(dataset.tables[name]):>12} bytes")


def summarise(url: str, fs_args: dict[str, Any] | None = None) -> None:
    """Say what was written."""
    index = CroissantIndex.from_url(url, fs_args=fs_args)
    counts = {name: index.count(name) for name in TABLES}
    rows = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)
    print(f"wrote {url}")
    print(f"  {sum(counts.values())} rows in {sum(map(bool, counts.values()))} tables: {rows or 'none'}")
    print(f"see what it holds:  python -m copick_mlc inspect {shlex.quote(url)}")
    options = ", static_fs_args={'anon': True}" if index.base_url == _urls.normalise(_urls.PORTAL) else ""
    print(f"open it in Python:  copick_mlc.from_croissant({url!r}{options})")
