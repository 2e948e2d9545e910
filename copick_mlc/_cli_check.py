"""Commands that look at a project: inspect, verify, validate, repair."""

from __future__ import annotations

import argparse
import json
import warnings
from typing import Any

from copick_mlc import _cli_options as values
from copick_mlc import _hosts, _validation
from copick_mlc._cli import add_command, print_warnings, printable
from copick_mlc._findings import VALIDATION_KINDS
from copick_mlc._repair import repair
from copick_mlc._report import inspect, render
from copick_mlc._verify import Report, explanation, verify
from copick_mlc._verify import render as render_findings
from copick_mlc.errors import CroissantWarning
from copick_mlc.index import CroissantIndex


def add_commands(commands: Any) -> None:
    _add_inspect(commands)
    _add_verify(commands)
    _add_validate(commands)
    _add_repair(commands)


# --- inspect ---------------------------------------------------------------------------------------------


_INSPECT_EXAMPLES = """examples:
  python -m copick_mlc inspect project/Croissant/metadata.json
  python -m copick_mlc inspect --fs-args '{"anon": true}' s3://bucket/project/Croissant/metadata.json
"""


def _add_inspect(commands: Any) -> None:
    text = "Print what a project holds; copick is not needed."
    parser = add_command(commands, "inspect", _inspect, text, _INSPECT_EXAMPLES)
    parser.add_argument("manifest", metavar="MANIFEST", help="path or fsspec URL of a metadata.json")
    values.add_opening(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")


def _inspect(options: argparse.Namespace) -> None:
    index = CroissantIndex.from_url(
        options.manifest,
        base_url_override=options.croissant_base_url,
        fs_args=options.croissant_fs_args,
        static_fs_args=options.static_fs_args,
    )
    report = inspect(index)
    text = json.dumps(report, indent=2, ensure_ascii=False) if options.json else render(report)
    print(printable(text))


# --- verify, validate and repair --------------------------------------------------------------------------

_VERIFY_EXAMPLES = """Exit codes: 0 nothing found, 1 something found, be it an error or a warning, 2 wrong usage.

kinds of findings, besides the error codes of SPEC.md:
{kinds}

examples:
  python -m copick_mlc verify project/Croissant/metadata.json
  python -m copick_mlc verify --json https://example.org/project/Croissant/metadata.json
  python -m copick_mlc verify --fs-args '{{"anon": true}}' --static-fs-args '{{"anon": true}}' \\
      s3://bucket/project/Croissant/metadata.json
"""

_VALIDATE_EXAMPLES = """Exit codes: 0 nothing found, 1 something found, be it an error or a warning, 2 wrong usage.

With --records mlcroissant keeps what it downloads in its cache: CROISSANT_CACHE, or ~/.cache/croissant.

hosts:
{hosts}

kinds of findings, besides those of verify and the error codes of SPEC.md:
{kinds}

examples:
  python -m copick_mlc validate project/Croissant/metadata.json
  python -m copick_mlc validate --records --profile neurips --profile google project/Croissant/metadata.json
  python -m copick_mlc validate --json --records https://example.org/project/Croissant/metadata.json
  python -m copick_mlc validate --fs-args '{{"anon": true}}' s3://bucket/project/Croissant/metadata.json
"""

_REPAIR_EXAMPLES = """Everything is one commit: who kills a repair leaves the old state or the new one.

examples:
  python -m copick_mlc repair --dry-run project/Croissant/metadata.json
  python -m copick_mlc repair --add-missing --drop-dangling project/Croissant/metadata.json
  python -m copick_mlc repair --dry-run --fs-args '{"profile": "mine"}' s3://bucket/project/Croissant/metadata.json
"""


def _add_verify(commands: Any) -> None:
    text = "Look for what is wrong with a project, its tables and its data; nothing is written."
    parser = add_command(commands, "verify", _verify, text, _VERIFY_EXAMPLES.format(kinds=explanation()))
    parser.add_argument("manifest", metavar="MANIFEST", help="path or fsspec URL of a metadata.json")
    values.add_opening(parser)
    parser.add_argument("--json", action="store_true", help="as JSON, with every finding")


def _verify(options: argparse.Namespace) -> int:
    return _print_findings(verify(options.manifest, **_opening(options)), options)


def _opening(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "base_url": options.croissant_base_url,
        "fs_args": options.croissant_fs_args,
        "static_fs_args": options.static_fs_args,
    }


def _add_validate(commands: Any) -> None:
    text = (
        "Look for what is wrong with a manifest and its tables, and have mlcroissant do so; no data is looked at, and\n"
        "nothing is written."
    )
    hosts = "\n".join(f"  {name:<13}{host.title}" for name, host in _hosts.HOSTS.items())
    epilog = _VALIDATE_EXAMPLES.format(hosts=hosts, kinds=explanation(VALIDATION_KINDS))
    parser = add_command(commands, "validate", _validate, text, epilog)
    parser.add_argument("manifest", metavar="MANIFEST", help="path or fsspec URL of a metadata.json")
    values.add_fs_args(parser)
    parser.add_argument("--records", action="store_true", help="have mlcroissant read every record of every record set")
    parser.add_argument(
        "--profile",
        action="append",
        choices=_hosts.HOSTS,
        default=[],
        metavar="HOST",
        help=f"tell what this host will miss in the manifest, too; one of {', '.join(_hosts.HOSTS)}; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="as JSON, with every finding")


def _validate(options: argparse.Namespace) -> int:
    hosts = list(dict.fromkeys(options.profile))
    report = _validation.check(
        options.manifest, records=options.records, hosts=hosts, fs_args=options.croissant_fs_args
    )
    return _print_findings(report, options)


def _print_findings(report: Report, options: argparse.Namespace) -> int:
    text = json.dumps(report.as_json(), indent=2, ensure_ascii=False) if options.json else render_findings(report)
    print(printable(text))
    return 1 if report.findings else 0


def _add_repair(commands: Any) -> None:
    text = (
        "Finish or take back what a killed writer left, declare the checksums and sizes that the tables\n"
        "have, and rewrite copick/splits from runs.csv and copick/pickable_objects from copick:config. Rows\n"
        "are changed only when asked for; data never is."
    )
    parser = add_command(commands, "repair", _repair, text, _REPAIR_EXAMPLES)
    parser.add_argument("manifest", metavar="MANIFEST", help="path or fsspec URL of a metadata.json")
    values.add_opening(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--add-missing", action="store_true", help="add rows for data that no row names")
    parser.add_argument("--drop-dangling", action="store_true", help="remove rows whose data does not exist")
    parser.add_argument(
        "--accept-data",
        action="store_true",
        help="take picks and mesh files that do not have the sha256 in their row for right, and change the row",
    )


def _repair(options: argparse.Namespace) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CroissantWarning)
        steps = repair(
            options.manifest,
            add_missing=options.add_missing,
            drop_dangling=options.drop_dangling,
            accept_data=options.accept_data,
            dry_run=options.dry_run,
            **_opening(options),
        )
    print_warnings(caught)
    for step in steps:
        print(printable(step))
    print(f"{len(steps)} {'to do, nothing is changed' if options.dry_run else 'done'}" if steps else "nothing to do")
