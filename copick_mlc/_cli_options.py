"""Options that commands have in common, and the values they take.

The destination of an option is the parameter of `export_croissant` that it gives.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable
from typing import Any

from copick_mlc.errors import DataError

_URIS = {
    "tomograms": "wbp@10.0",
    "features": "wbp@10.0:sobel",
    "picks": "ribosome:*/*",
    "meshes": "ribosome:*/*",
    "segmentations": "membrane:*/*@10.0",
}


def add_target(parser: argparse.ArgumentParser, force: str) -> None:
    """The options of what is written; `force` is the help of `--force`."""
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help="where the project root will be read from; without it the project can be moved",
    )
    parser.add_argument("--force", action="store_true", help=force)
    parser.add_argument("--dry-run", action="store_true", help="say what would be written, and write nothing")
    parser.add_argument(
        "--no-validate", dest="validate", action="store_false", help="do not check the manifest with mlcroissant"
    )


def add_fs_args(parser: argparse.ArgumentParser, what: str = "metadata.json and the CSVs") -> None:
    """The option that opens the storage of a manifest."""
    parser.add_argument(
        "--fs-args",
        dest="croissant_fs_args",
        type=json_object,
        metavar="JSON",
        help=f'fsspec options for {what}, as \'{{"profile": "mine"}}\'',
    )


def add_base(parser: argparse.ArgumentParser) -> None:
    """The option that says where what rows name is."""
    parser.add_argument(
        "--base-url",
        dest="croissant_base_url",
        metavar="URL",
        help="what relative URLs are relative to, in place of copick:baseUrl",
    )


def add_opening(parser: argparse.ArgumentParser) -> None:
    """The options that open a project."""
    add_base(parser)
    add_fs_args(parser)
    parser.add_argument(
        "--static-fs-args", type=json_object, metavar="JSON", help="fsspec options for the data at the base URL"
    )


def add_work(parser: argparse.ArgumentParser) -> None:
    """The options of how the work is done."""
    parser.add_argument(
        "--jobs",
        type=positive,
        default=1,
        metavar="N",
        help="processes that read; default: 1, with threads where storage is not local",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """The options of what the manifest says of the dataset."""
    dataset = parser.add_argument_group("dataset")
    dataset.add_argument("--dataset-name", metavar="TEXT", help="default: the project's name")
    dataset.add_argument("--description", metavar="TEXT", help="default: the project's description")
    dataset.add_argument("--license", metavar="TEXT", help="SPDX id or URL")
    dataset.add_argument("--cite-as", metavar="TEXT", help="citation")
    dataset.add_argument("--date-published", metavar="DATE", help="ISO date; default: today")
    dataset.add_argument("--creator", action="append", metavar="NAME", help="a person who made it; repeatable")
    dataset.add_argument("--publisher", metavar="NAME", help="the organization that publishes it")
    dataset.add_argument("--url", metavar="URL", help="its web page")
    dataset.add_argument("--keyword", dest="keywords", action="append", metavar="TEXT", help="repeatable")
    dataset.add_argument("--rai", type=json_file, metavar="FILE", help="JSON object with properties rai:… and prov:…")


def add_choices(parser: argparse.ArgumentParser) -> None:
    """The options of what is exported, and as what."""
    parser.add_argument(
        "--no-file-sha256",
        dest="compute_file_sha256",
        action="store_false",
        help="do not compute the sha256 of picks and meshes",
    )
    selection = parser.add_argument_group("selection (default: everything)")
    selection.add_argument("--runs", type=names, metavar="NAME,…", help="names of runs")
    for option, example in _URIS.items():
        selection.add_argument(
            f"--{option}", action="append", metavar="URI", help=f"copick URI, as {example}; repeatable"
        )
    selection.add_argument("--objects", type=names, metavar="NAME,…", help="objects whose density maps are exported")
    renaming = parser.add_argument_group("names")
    renaming.add_argument("--tomo-type-map", type=mapping, metavar="OLD:NEW,…", help="rename tomogram types")
    renaming.add_argument("--object-name-map", type=mapping, metavar="OLD:NEW,…", help="rename pickable objects")
    portal = parser.add_argument_group("sources of the CryoET Data Portal")
    portal.add_argument(
        "--session-id-template",
        metavar="TEXT",
        help="session ids of annotations, as '{method_type}-{annotation_file_id}': any scalar field of the portal's "
        "annotation, and {author}, {authors}, {annotation_file_id}",
    )
    for kind in ("picks", "segmentations", "tomograms"):
        portal.add_argument(
            f"--{kind}-portal-meta",
            type=fields,
            metavar="FIELD=VALUE,…",
            help=f"only {kind} whose portal record has these values",
        )
        portal.add_argument(
            f"--{kind}-author", type=names, metavar="NAME,…", help=f"only {kind} by all of these authors"
        )


def add_splits(parser: argparse.ArgumentParser) -> None:
    """The options that assign runs to splits."""
    group = parser.add_argument_group("splits")
    group.add_argument(
        "--split", type=_split, action="append", metavar="NAME=RUN,…", help="assign runs to a split; repeatable"
    )
    group.add_argument("--splits-file", metavar="FILE", help="CSV with the columns split and run; --split wins")


def splits_of(options: argparse.Namespace) -> dict[str, list[str]]:
    """The runs of each split that options assign.

    Raises:
        DataError: `option-invalid`, where the file of splits cannot be read.
    """
    splits = _read_splits(options.splits_file) if options.splits_file else {}
    given: dict[str, list[str]] = {}
    for name, runs in options.split or []:
        given.setdefault(name, []).extend(runs)
    return {**splits, **given}


def chosen(options: argparse.Namespace, parameters: Iterable[str]) -> dict[str, Any]:
    """The values of those parameters that have an option here."""
    given = vars(options)
    return {name: given[name] for name in parameters if name in given}


# --- values ----------------------------------------------------------------------------------------------


def names(text: str) -> list[str]:
    """`NAME,NAME,…`."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list NAME,NAME,…")
    return found


def mapping(text: str) -> dict[str, str]:
    """`OLD:NEW,OLD:NEW,…`."""
    return _pairs(text, ":", "OLD:NEW,OLD:NEW,…")


def fields(text: str) -> dict[str, str]:
    """`FIELD=VALUE,FIELD=VALUE,…`."""
    return _pairs(text, "=", "FIELD=VALUE,FIELD=VALUE,…")


def _pairs(text: str, separator: str, form: str) -> dict[str, str]:
    pairs = [[part.strip() for part in pair.split(separator)] for pair in names(text)]
    if not all(len(pair) == 2 and all(pair) for pair in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list {form}")
    found = dict(pairs)
    if len(found) < len(pairs):
        raise argparse.ArgumentTypeError(f"{text!r} names one twice")
    return found


def numbers(text: str) -> list[int]:
    """`NUMBER,NUMBER,…`."""
    try:
        return [int(name) for name in names(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list NUMBER,NUMBER,…") from None


def positive(text: str) -> int:
    """A number of at least one."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return number


def shard(text: str) -> tuple[int, int]:
    """`K/N`."""
    part, _, count = text.partition("/")
    if not (part.isdecimal() and count.isdecimal() and 1 <= int(part) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N, with K from 1 to N")
    return int(part), int(count)


def json_object(text: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object")
    return value


def json_file(path: str) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return json_object(file.read())
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"cannot read {path!r}: {error}") from None


def _split(text: str) -> tuple[str, list[str]]:
    name, separator, runs = text.partition("=")
    if not (name and separator and runs):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=RUN,RUN,…")
    return name, names(runs)


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
