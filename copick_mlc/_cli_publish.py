"""The command that publishes a project: publish."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Any

from copick_mlc import _cli_options as values
from copick_mlc._cli import add_command, executor, print_preview, progress_line, reported, summarise

_EXAMPLES = """examples:
  python -m copick_mlc publish --config mine/config.json --project-root release --license CC0-1.0
  python -m copick_mlc publish --config mine/config.json --project-root project --force
  python -m copick_mlc publish --config mine/config.json --project-root s3://bucket/project --dry-run \\
      --fs-args '{"profile": "mine"}'
"""


def add_commands(commands: Any) -> None:
    text = (
        "Copy what lies in a project's overlay to a directory, and export the project there. What is published "
        "elsewhere stays there. Where it was broken off, it goes on."
    )
    parser = add_command(commands, "publish", _publish, text, _EXAMPLES)
    parser.add_argument(
        "--config", required=True, metavar="FILE", help="copick configuration of the project, or its metadata.json"
    )
    parser.add_argument(
        "--project-root", required=True, metavar="DIR", help="path or fsspec URL of where the data and Croissant/ go"
    )
    values.add_target(
        parser, "replace an existing manifest, of which stays what others added to it, and data with other content"
    )
    values.add_fs_args(parser, "the project root, data and manifest")
    values.add_work(parser)
    values.add_dataset(parser)
    values.add_choices(parser)
    values.add_splits(parser)


def _publish(options: argparse.Namespace) -> None:
    splits = values.splits_of(options)
    with reported(), ExitStack() as stack:
        from copick_mlc._exporting import ExportOptions
        from copick_mlc.opening import open_project
        from copick_mlc.publisher import Publication

        root = open_project(options.config)
        given = values.chosen(options, ExportOptions.__dataclass_fields__) | {"splits": splits}
        workers = stack.enter_context(executor(options.jobs))
        progress = None if options.quiet else progress_line("artifacts")
        publication = Publication(root, options.project_root, ExportOptions(**given), progress, workers)
        if options.dry_run:
            preview = publication.preview()
            print(f"would copy {preview.artifacts} artifacts, {preview.files} files, {preview.size} bytes, less what")
            print(f"is there already, to {options.project_root}")
            print_preview(preview.dataset)
            print("nothing is written")
            return
        publication.write()
    if not options.quiet:
        summarise(publication.url, options.croissant_fs_args)
