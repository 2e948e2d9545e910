"""`python -m copick_mlc`: export, append, set-splits, publish, demo, inspect, verify, validate, repair.

Exit codes: 0 done, 1 the work failed, or verify or validate found something, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from copick_mlc import _cli_check, _cli_export, _cli_publish
from copick_mlc._cli import add_command, third_parties_silenced
from copick_mlc._report import inspect, render
from copick_mlc.errors import CroissantError, CroissantWarning


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code."""
    options = _parser().parse_args(arguments)
    try:
        command: Callable[[argparse.Namespace], int | None] = options.command
        code = command(options) or 0
    except CroissantError as error:
        if options.debug:
            raise
        print(f"copick_mlc: error: {' '.join(str(error).split())} [{error.code}]", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads the rest
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m copick_mlc",
        description="Cryo-ET annotation projects of copick as Croissant datasets.",
        epilog=(
            "Exit codes: 0 done, 1 the work failed, 2 wrong usage. verify and validate exit with 1 where they find "
            "something."
        ),
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _cli_export.add_commands(commands)
    _cli_publish.add_commands(commands)
    _add_demo(commands)
    _cli_check.add_commands(commands)
    return parser


# --- demo ------------------------------------------------------------------------------------------------


def _add_demo(commands: Any) -> None:
    text = "Make a small copick project with copick itself, export it, open it, and print what it holds."
    parser = add_command(commands, "demo", _demo, text)
    parser.add_argument("directory", metavar="DIR", help="where; a new or empty directory")


def _demo(options: argparse.Namespace) -> None:
    with third_parties_silenced(), warnings.catch_warnings():
        warnings.simplefilter("ignore", CroissantWarning)  # a demo needs no license
        import copick

        from copick_mlc import demo, export_croissant, from_croissant

        config = demo.make_project(options.directory)
        url = export_croissant(copick.from_file(config), os.path.dirname(config), splits=demo.SPLITS)
        root = from_croissant(url)
        run = root.runs[0]
        points, transforms = run.get_picks("ribosome", user_id="demo")[0].numpy()
        volume = run.get_voxel_spacing(demo.VOXEL_SIZE).get_tomograms("wbp")[0].numpy()
    print(render(inspect(root.index)))
    print(f"\nread through {type(root).__name__}, of run {run.name}: {len(points)} picks with transforms of shape")
    print(f"{transforms.shape}, and a tomogram of shape {volume.shape} with mean {volume.mean():.3f}.")
    print(f"\nopen it in Python:  copick_mlc.from_croissant({url!r})")
    print(f"export it again:    python -m copick_mlc export --force --config {shlex.quote(config)}")


if __name__ == "__main__":
    sys.exit(main())
