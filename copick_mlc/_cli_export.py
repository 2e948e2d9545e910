"""Commands that make or change a manifest: export, append, set-splits."""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from copick_mlc import _cli_options as values
from copick_mlc import _filesystems, _storage, _urls
from copick_mlc._cli import add_command, executor, print_preview, progress_line, reported, summarise
from copick_mlc._tables import TABLES
from copick_mlc.errors import CroissantWarning, UsageError
from copick_mlc.index import CroissantIndex

_EXPORT_EXAMPLES = """examples:
  python -m copick_mlc export --config project/config.json --split train=TS_001 --split val=TS_002
  python -m copick_mlc export --config project/config.json --dry-run
  python -m copick_mlc export --source-dataset-ids 10301 --project-root curated \\
      --picks 'ribosome:*/*' --picks-portal-meta ground_truth_status=true --emit-config curated/config.json
  python -m copick_mlc export --config project/config.json --project-root s3://bucket/project \\
      --fs-args '{"profile": "mine"}'
"""

_APPEND_EXAMPLES = """examples:
  python -m copick_mlc append --croissant curated/Croissant/metadata.json --source-config project/config.json
  python -m copick_mlc append --croissant whole/Croissant/metadata.json --source-config part-2/Croissant/metadata.json
  python -m copick_mlc append --croissant s3://bucket/project/Croissant/metadata.json --fs-args '{"profile": "mine"}' \\
      --source-config project/config.json
"""

_SPLITS_EXAMPLES = """examples:
  python -m copick_mlc set-splits --croissant project/Croissant/metadata.json --split train=TS_001,TS_002
  python -m copick_mlc set-splits --croissant project/Croissant/metadata.json --clear-all --splits-file splits.csv
  python -m copick_mlc set-splits --croissant s3://bucket/project/Croissant/metadata.json \\
      --fs-args '{"profile": "mine"}' --unassign TS_003
"""


def add_commands(commands: Any) -> None:
    _add_export(commands)
    _add_append(commands)
    _add_set_splits(commands)


# --- export ----------------------------------------------------------------------------------------------


def _add_export(commands: Any) -> None:
    parser = add_command(
        commands, "export", _export, "Write <project root>/Croissant for a copick project.", _EXPORT_EXAMPLES
    )
    _add_source(parser, "--config")
    parser.add_argument(
        "--project-root", metavar="DIR", help="where Croissant/ goes; default: the project's own local root"
    )
    values.add_target(parser, "replace an existing manifest; what others added to it stays")
    values.add_fs_args(parser, "the project root")
    values.add_work(parser)
    parser.add_argument(
        "--shard",
        type=values.shard,
        metavar="K/N",
        help="only the K-th of N parts of the runs; append puts them together",
    )
    values.add_dataset(parser)
    values.add_choices(parser)
    values.add_splits(parser)
    config = parser.add_argument_group("a copick configuration that opens what is exported")
    config.add_argument("--emit-config", metavar="FILE", help="write it there")
    config.add_argument("--config-overlay", metavar="URL", help="its overlay: a path or fsspec URL; without it, Mode A")
    for option, what in {
        "overlay": "the overlay",
        "static": "the data at the base URL; default: those of the source's data, for the portal anonymous access",
        "croissant": "metadata.json and the CSVs",
    }.items():
        config.add_argument(
            f"--config-{option}-fs-args", type=values.json_object, metavar="JSON", help=f"fsspec options for {what}"
        )
    parser.set_defaults(refuse=parser.error)


def _export(options: argparse.Namespace) -> None:
    wants_config = any(value is not None for name, value in vars(options).items() if name.startswith("config_"))
    if wants_config and options.emit_config is None:
        options.refuse("--config-overlay and --config-…-fs-args need --emit-config")
    if options.source_dataset_ids and options.project_root is None:
        options.refuse("--source-dataset-ids needs --project-root")
    splits = values.splits_of(options)
    with reported(), ExitStack() as stack:
        from copick_mlc._exporting import Export, ExportOptions

        root = stack.enter_context(_source(options, options.config))
        given = values.chosen(options, ExportOptions.__dataclass_fields__) | {"splits": splits}
        if options.shard:
            given |= _sharded(root, options.shard, given)
        workers = stack.enter_context(executor(options.jobs))
        progress = None if options.quiet else progress_line("runs")
        target = options.project_root or _local_root(root)
        export = Export(root, target, ExportOptions(**given), progress, workers)
        config = _config(options, root.config, export.url) if options.emit_config else None
        if options.dry_run:
            dataset = export.preview()
            print_preview(dataset)
            print("nothing is written")
            return
        export.write()
        if config is not None:
            _write_config(options.emit_config, config)
    if not options.quiet:
        summarise(export.url, options.croissant_fs_args)


def _sharded(root: Any, shard: tuple[int, int], given: dict[str, Any]) -> dict[str, Any]:
    """The options for one part of the runs: every so many, so that parts are of one size wherever the work is."""
    from copick_mlc._portal import PortalOptions
    from copick_mlc._sources import open_source

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CroissantWarning)  # the export warns of the same
        names = open_source(root, PortalOptions()).run_names
    chosen = set(names if given["runs"] is None else given["runs"])
    wanted = [name for name in names if name in chosen]
    part, count = shard
    runs = wanted[part - 1 :: count]
    others = set(wanted) - set(runs)
    splits = {split: [run for run in found if run not in others] for split, found in given["splits"].items()}
    return {"runs": runs, "splits": splits}


def _config(options: argparse.Namespace, source: Any, url: str) -> dict[str, Any]:
    """A copick configuration of the project that is exported to `url`."""
    from copick_mlc.config import CopickConfigMLCroissant

    static = options.config_static_fs_args
    if static is None:
        kind = getattr(source, "config_type", None)
        args = source.static_fs_args if kind == "mlcroissant" else getattr(source, "overlay_fs_args", None)
        static = {"anon": True} if kind == "cryoet_data_portal" else args or {}
    overlay, overlay_args = options.config_overlay, options.config_overlay_fs_args or {}
    if overlay is not None:
        overlay = _urls.normalise(overlay)
        overlay_args = {"auto_mkdir": True, **overlay_args} if _urls.is_local(overlay) else overlay_args
    config = CopickConfigMLCroissant(
        pickable_objects=[],
        croissant_url=url,
        overlay_root=overlay,
        overlay_fs_args=overlay_args,
        static_fs_args=static,
        croissant_fs_args=options.config_croissant_fs_args or {},
    )
    dumped: dict[str, Any] = config.model_dump(mode="json", exclude_unset=True)
    return {"config_type": "mlcroissant", **dumped}


def _write_config(path: str, config: dict[str, Any]) -> None:
    fs, place = _filesystems.open_location(_urls.normalise(path))
    _storage.write(fs, place, (json.dumps(config, indent=4) + "\n").encode())


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


# --- append ----------------------------------------------------------------------------------------------


def _add_append(commands: Any) -> None:
    text = "Add the rows of a copick project to an existing manifest, in one commit; a row of the same key is replaced."
    parser = add_command(commands, "append", _append, text, _APPEND_EXAMPLES)
    parser.add_argument("--croissant", required=True, metavar="MANIFEST", help="path or fsspec URL of a metadata.json")
    values.add_base(parser)
    values.add_fs_args(parser)
    _add_source(parser, "--source-config")
    parser.add_argument(
        "--no-validate", dest="validate", action="store_false", help="do not check the manifest with mlcroissant"
    )
    values.add_work(parser)
    values.add_choices(parser)
    values.add_splits(parser)


def _append(options: argparse.Namespace) -> None:
    splits = values.splits_of(options)
    with reported(), ExitStack() as stack:
        from copick_mlc._choices import Choices
        from copick_mlc.exporter import append_croissant

        before = CroissantIndex.from_url(options.croissant, fs_args=options.croissant_fs_args)
        counts = {name: before.count(name) for name in TABLES}
        root = stack.enter_context(_source(options, options.source_config))
        url = append_croissant(
            options.croissant,
            root,
            **values.chosen(options, Choices.__dataclass_fields__),
            validate=options.validate,
            splits=splits,
            croissant_base_url=options.croissant_base_url,
            croissant_fs_args=options.croissant_fs_args,
            progress=None if options.quiet else progress_line("runs"),
            executor=stack.enter_context(executor(options.jobs)),
        )
    if not options.quiet:
        after = CroissantIndex.from_url(url, fs_args=options.croissant_fs_args)
        new = [
            f"{after.count(name) - counts[name]} {name.replace('_', ' ')}"
            for name in TABLES
            if after.count(name) > counts[name]
        ]
        print(f"appended to {url}")
        print(f"  rows that are new: {', '.join(new) or 'none'}")


# --- splits ----------------------------------------------------------------------------------------------


def _add_set_splits(commands: Any) -> None:
    text = "Assign the runs of a project to machine-learning splits, in one commit."
    parser = add_command(commands, "set-splits", _set_splits, text, _SPLITS_EXAMPLES)
    parser.add_argument("--croissant", required=True, metavar="MANIFEST", help="path or fsspec URL of a metadata.json")
    values.add_fs_args(parser)
    values.add_splits(parser)
    parser.add_argument("--clear-all", action="store_true", help="take all other runs out of their splits")
    parser.add_argument(
        "--unassign", type=values.names, metavar="RUN,…", help="take these runs out of their splits, after all else"
    )
    parser.set_defaults(refuse=parser.error)


def _set_splits(options: argparse.Namespace) -> None:
    if not (options.split or options.splits_file or options.clear_all or options.unassign):
        options.refuse("nothing to do: give --split, --splits-file, --clear-all or --unassign")
    mapping = values.splits_of(options)
    with reported():
        from copick_mlc.exporter import set_splits

        url = set_splits(
            options.croissant,
            mapping,
            clear_existing=options.clear_all,
            unassign=options.unassign,
            croissant_fs_args=options.croissant_fs_args,
        )
    splits = CroissantIndex.from_url(url, fs_args=options.croissant_fs_args).splits()
    print(f"wrote {url}")
    print(f"  splits: {', '.join(f'{name} ({len(runs)})' for name, runs in splits.items()) or 'none'}")


# --- what they share -------------------------------------------------------------------------------------


def _add_source(parser: argparse.ArgumentParser, option: str) -> None:
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument(option, metavar="FILE", help="copick configuration of the project, or its metadata.json")
    group.add_argument(
        "--source-dataset-ids",
        type=values.numbers,
        metavar="ID,…",
        help="datasets of the CryoET Data Portal, with all their objects",
    )


@contextmanager
def _source(options: argparse.Namespace, config: str | None) -> Iterator[Any]:
    """The project that a command is given."""
    from copick_mlc.opening import open_portal, open_project

    if config is not None:
        yield open_project(config)
        return
    with tempfile.TemporaryDirectory() as overlay:
        yield open_portal(options.source_dataset_ids, overlay)
