"""What the commands of `python -m copick_mlc` share."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from copick_mlc.errors import CroissantWarning


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
