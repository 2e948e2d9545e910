"""Commands that make a manifest: export."""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
import warnings
from collections.abc import Callable
from typing import Any

from copick_mlc import _urls
from copick_mlc._cli import add_command, print_warnings, third_parties_silenced
from copick_mlc._tables import TABLES
from copick_mlc.errors import CroissantWarning, DataError, UsageError
from copick_mlc.index import CroissantIndex


def add_commands(commands: Any) -> None:
    _add_export(commands)


# --- export ----------------------------------------------------------------------------------------------


def _add_export(commands: Any) -> None:
    parser = add_command(commands, "export", _export, "Write <project root>/Croissant for a copick project.")
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
    with third_parties_silenced(), warnings.catch_warnings(record=True) as caught:
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
    print_warnings(caught)
    if not options.quiet:
        _summarise(url)


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
