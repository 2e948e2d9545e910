"""`python -m copick_mlc`: export, demo, inspect, verify, repair.

Exit codes: 0 done, 1 the work failed or verify found something, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from copick_mlc import _urls
from copick_mlc._repair import repair
from copick_mlc._report import inspect, render
from copick_mlc._tables import TABLES
from copick_mlc._verify import explanation, verify
from copick_mlc._verify import render as render_findings
from copick_mlc.errors import CroissantError, CroissantWarning, DataError, UsageError
from copick_mlc.index import CroissantIndex


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
        epilog="Exit codes: 0 done, 1 the work failed, 2 wrong usage. verify exits with 1 where it finds something.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_export(commands)
    _add_demo(commands)
    _add_inspect(commands)
    _add_verify(commands)
    _add_repair(commands)
    return parser


def _command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], int | None], text: str, epilog: str = ""
) -> Any:
    raw = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(name, help=text, description=text, epilog=epilog, formatter_class=raw)
    parser.set_defaults(command=function)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


# --- export ----------------------------------------------------------------------------------------------


def _add_export(commands: Any) -> None:
    parser = _command(commands, "export", _export, "Write <project root>/Croissant for a copick project.")
    parser.add_argument("--config", required=True, metavar="FILE", help="copick configuration of the project")
    parser.add_argument(
        "--project-root", metavar="DIR", help="where Croissant/ goes; default: the project's own local root"
    )
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help="where the project root will be read from; without it the project can be moved",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace an existing manifest; what others added to it stays"
    )
    parser.add_argument("--no-validate", action="store_true", help="do not check the manifest with mlcroissant")
    parser.add_argument("--no-file-sha256", action="store_true", help="do not compute the sha256 of picks and meshes")
    parser.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")
    dataset = parser.add_argument_group("dataset")
    dataset.add_argument("--dataset-name", metavar="TEXT", help="default: the project's name")
    dataset.add_argument("--description", metavar="TEXT", help="default: the project's description")
    dataset.add_argument("--license", metavar="TEXT", help="SPDX id or URL")
    dataset.add_argument("--cite-as", metavar="TEXT", help="citation")
    dataset.add_argument("--date-published", metavar="DATE", help="ISO date; default: today")
    selection = parser.add_argument_group("selection (default: everything)")
    selection.add_argument("--runs", type=_names, metavar="NAME,…", help="names of runs")
    for option, example in {
        "tomograms": "wbp@10.0",
        "features": "wbp@10.0:sobel",
        "picks": "ribosome:*/*",
        "meshes": "ribosome:*/*",
        "segmentations": "membrane:*/*@10.0",
    }.items():
        selection.add_argument(
            f"--{option}", action="append", metavar="URI", help=f"copick URI, as {example}; repeatable"
        )
    selection.add_argument("--objects", type=_names, metavar="NAME,…", help="objects whose density maps are exported")
    names = parser.add_argument_group("names")
    names.add_argument("--tomo-type-map", type=_mapping, metavar="OLD:NEW,…", help="rename tomogram types")
    names.add_argument("--object-name-map", type=_mapping, metavar="OLD:NEW,…", help="rename pickable objects")
    splits = parser.add_argument_group("splits")
    splits.add_argument(
        "--split", type=_split, action="append", metavar="NAME=RUN,…", help="assign runs to a split; repeatable"
    )
    splits.add_argument("--splits-file", metavar="FILE", help="CSV with the columns split and run; --split wins")


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list NAME,NAME,…")
    return names


def _mapping(text: str) -> dict[str, str]:
    pairs = [pair.split(":") for pair in _names(text)]
    if not all(len(pair) == 2 and all(pair) for pair in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list OLD:NEW,OLD:NEW,…")
    return {old.strip(): new.strip() for old, new in pairs}


def _split(text: str) -> tuple[str, list[str]]:
    name, separator, runs = text.partition("=")
    if not (name and separator and runs):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=RUN,RUN,…")
    return name, _names(runs)


def _splits(options: argparse.Namespace) -> dict[str, list[str]]:
    splits = _read_splits(options.splits_file) if options.splits_file else {}
    given: dict[str, list[str]] = {}
    for name, runs in options.split or []:
        given.setdefault(name, []).extend(runs)
    return {**splits, **given}


def _read_splits(path: str) -> dict[str, list[str]]:
    """The runs of each split in a CSV with the columns `split` and `run`."""
    splits: dict[str, list[str]] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"split", "run"} <= set(reader.fieldnames or []):
                raise DataError("option-invalid", "expected a CSV with the columns split and run", path=path)
            for row in reader:
                if not row["split"] or not row["run"]:
                    raise DataError("option-invalid", "a row needs a split and a run", path=path, line=reader.line_num)
                splits.setdefault(row["split"], []).append(row["run"])
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise DataError("option-invalid", f"cannot read the splits: {error}", path=path) from error
    return splits


def _export(options: argparse.Namespace) -> None:
    splits = _splits(options)
    with _third_parties_silenced(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CroissantWarning)
        from copick_mlc.exporter import export_croissant
        from copick_mlc.opening import open_project

        root = open_project(options.config)
        url = export_croissant(
            root,
            options.project_root or _local_root(root),
            base_url=options.base_url,
            dataset_name=options.dataset_name,
            description=options.description,
            license=options.license,
            cite_as=options.cite_as,
            date_published=options.date_published,
            validate=not options.no_validate,
            compute_file_sha256=not options.no_file_sha256,
            force=options.force,
            runs=options.runs,
            tomograms=options.tomograms,
            features=options.features,
            picks=options.picks,
            meshes=options.meshes,
            segmentations=options.segmentations,
            objects=options.objects,
            tomo_type_map=options.tomo_type_map,
            object_name_map=options.object_name_map,
            splits=splits,
            progress=None if options.quiet else _progress_line(),
        )
    _print_warnings(caught)
    if not options.quiet:
        _summarise(url)


def _print_warnings(caught: list[warnings.WarningMessage]) -> None:
    for found in caught:
        if issubclass(found.category, CroissantWarning):
            print(f"warning: {found.message}", file=sys.stderr)


def _local_root(root: Any) -> str:
    """The project's own directory on the local disk."""
    config = root.config
    if getattr(config, "config_type", None) == "mlcroissant" and not config.overlay_root:
        candidates: list[str | None] = [_urls.parent(_urls.parent(_urls.normalise(config.croissant_url)))]
    else:
        candidates = [getattr(config, "overlay_root", None), getattr(config, "static_root", None)]
    for candidate in candidates:
        if candidate and _urls.is_local(_urls.normalise(candidate)):
            return _urls.normalise(candidate)
    raise UsageError(
        "option-invalid", "the project has no root on the local disk; say with --project-root where to write"
    )


def _progress_line() -> Callable[[int, int], None] | None:
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        end = "\n" if done == total else ""
        print(f"\r{done} of {total} runs", end=end, file=sys.stderr, flush=True)

    return show


def _summarise(url: str) -> None:
    index = CroissantIndex.from_url(url)
    counts = {name: index.count(name) for name in TABLES}
    rows = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)
    print(f"wrote {url}")
    print(f"  {sum(counts.values())} rows in {sum(map(bool, counts.values()))} tables: {rows or 'none'}")
    print(f"see what it holds:  python -m copick_mlc inspect {shlex.quote(url)}")
    print(f"open it in Python:  copick_mlc.from_croissant({url!r})")


# --- demo ------------------------------------------------------------------------------------------------


def _add_demo(commands: Any) -> None:
    text = "Make a small copick project with copick itself, export it, open it, and print what it holds."
    parser = _command(commands, "demo", _demo, text)
    parser.add_argument("directory", metavar="DIR", help="where; a new or empty directory")


def _demo(options: argparse.Namespace) -> None:
    with _third_parties_silenced(), warnings.catch_warnings():
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


# --- inspect ---------------------------------------------------------------------------------------------


def _add_inspect(commands: Any) -> None:
    parser = _command(commands, "inspect", _inspect, "Print what a project holds; copick is not needed.")
    parser.add_argument("manifest", metavar="MANIFEST", help="path or fsspec URL of a metadata.json")
    parser.add_argument("--json", action="store_true", help="as JSON")


def _inspect(options: argparse.Namespace) -> None:
    report = inspect(CroissantIndex.from_url(options.manifest))
    text = json.dumps(report, indent=2, ensure_ascii=False) if options.json else render(report)
    print(_printable(text))


# --- verify and repair -----------------------------------------------------------------------------------

_VERIFY_EXAMPLES = """Exit codes: 0 nothing found, 1 something found, be it an error or a warning, 2 wrong usage.

kinds of findings, besides the error codes of SPEC.md:
{kinds}

examples:
  python -m copick_mlc verify project/Croissant/metadata.json
  python -m copick_mlc verify --json https://example.org/project/Croissant/metadata.json
"""

_REPAIR_EXAMPLES = """Everything is one commit: who kills a repair leaves the old state or the new one.

examples:
  python -m copick_mlc repair --dry-run project/Croissant/metadata.json
  python -m copick_mlc repair --add-missing --drop-dangling project/Croissant/metadata.json
"""


def _add_verify(commands: Any) -> None:
    text = "Look for what is wrong with a project, its tables and its data; nothing is written."
    parser = _command(commands, "verify", _verify, text, _VERIFY_EXAMPLES.format(kinds=explanation()))
    parser.add_argument("manifest", metavar="MANIFEST", help="path or fsspec URL of a metadata.json")
    parser.add_argument("--json", action="store_true", help="as JSON, with every finding")


def _verify(options: argparse.Namespace) -> int:
    report = verify(options.manifest)
    text = json.dumps(report.as_json(), indent=2, ensure_ascii=False) if options.json else render_findings(report)
    print(_printable(text))
    return 1 if report.findings else 0


def _add_repair(commands: Any) -> None:
    text = (
        "Finish or take back what a killed writer left, declare the checksums that the tables have, and rewrite\n"
        "copick/splits from runs.csv. Rows are changed only when asked for; data never is."
    )
    parser = _command(commands, "repair", _repair, text, _REPAIR_EXAMPLES)
    parser.add_argument("manifest", metavar="MANIFEST", help="path or fsspec URL of a metadata.json")
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
        )
    _print_warnings(caught)
    for step in steps:
        print(_printable(step))
    print(f"{len(steps)} {'to do, nothing is changed' if options.dry_run else 'done'}" if steps else "nothing to do")


def _printable(text: str) -> str:
    """A text without the lone surrogates that JSON and names of files may have, and no terminal takes."""
    return text.encode(errors="backslashreplace").decode()


@contextmanager
def _third_parties_silenced() -> Iterator[None]:
    """Keep what other packages log and warn of out of a command's output; copick sets up the root logger itself."""
    warnings.simplefilter("ignore", DeprecationWarning)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


if __name__ == "__main__":
    sys.exit(main())
