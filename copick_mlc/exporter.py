"""Export a copick project as a Croissant dataset: metadata.json and ten CSVs in `<project root>/Croissant`.

An export is made in memory, checked, and then put in place; one that fails changes nothing. Data is not
touched [EXP-004]: rows say where it is. Rules: SPEC.md, Export [EXP].
"""

from __future__ import annotations

import datetime
import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from copick.models import CopickRoot
from copick.util.escape import sanitize_name
from fsspec import AbstractFileSystem

from copick_mlc import _commit, _contents, _manifest, _storage, _urls
from copick_mlc._lock import locked
from copick_mlc._selection import Selection
from copick_mlc._sources import Item, Source, merged, open_source
from copick_mlc._splits import assignments
from copick_mlc._tables import TABLES, Key, Row, encode_table
from copick_mlc._validation import validate as check_with_mlcroissant
from copick_mlc.errors import CroissantError, CroissantWarning, DataError, ExistsError, UsageError
from copick_mlc.index import (
    CroissantIndex,
    FeaturesRow,
    MeshRow,
    PicksRow,
    RunRow,
    TomogramRow,
    VoxelSpacingRow,
)

_RECOMMENDED = ("license", "citeAs", "version")


def export_croissant(
    root: CopickRoot,
    project_root: str | os.PathLike[str],
    *,
    base_url: str | None = None,
    dataset_name: str | None = None,
    description: str | None = None,
    license: str | None = None,
    cite_as: str | None = None,
    date_published: str | None = None,
    validate: bool = True,
    compute_file_sha256: bool = True,
    force: bool = False,
    runs: Iterable[str] | None = None,
    tomograms: Iterable[str] | None = None,
    features: Iterable[str] | None = None,
    picks: Iterable[str] | None = None,
    meshes: Iterable[str] | None = None,
    segmentations: Iterable[str] | None = None,
    objects: Iterable[str] | None = None,
    tomo_type_map: Mapping[str, str] | None = None,
    object_name_map: Mapping[str, str] | None = None,
    session_id_template: str | None = None,
    picks_portal_meta: Mapping[str, Any] | None = None,
    picks_author: Iterable[str] | None = None,
    segmentations_portal_meta: Mapping[str, Any] | None = None,
    segmentations_author: Iterable[str] | None = None,
    tomograms_portal_meta: Mapping[str, Any] | None = None,
    tomograms_author: Iterable[str] | None = None,
    splits: Mapping[str, Iterable[str]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Export `root` to `<project_root>/Croissant/`; the same project and options give the same bytes [EXP-003].

    Where a list of names or URIs is expected, a str is one value; None selects everything. What matches nothing,
    and what dataset hosts will miss, is a `CroissantWarning`.

    Args:
        root: A copick project: filesystem, mlcroissant, or any other backend that says where its data is.
        project_root: Path or fsspec URL of the project.
        base_url: Where `project_root` will be read from. Without it the manifest names no base, and the project can
            be moved [EXP-010].
        dataset_name: Name of the dataset; by default that of the project.
        description: Description of the dataset; by default that of the project.
        license: License, an SPDX id or URL.
        cite_as: Citation.
        date_published: ISO date; by default today.
        validate: Whether mlcroissant checks the manifest.
        compute_file_sha256: Whether picks and meshes get their sha256 [EXP-011], for which each is read once.
        force: Whether an existing manifest is replaced. What others added to it [EXP-007], and splits of runs that
            remain [EXP-008], stay.
        runs: Names of runs [EXP-013].
        tomograms: copick URIs, as `wbp@10.0` [EXP-014].
        features: copick URIs, as `wbp@10.0:sobel`.
        picks: copick URIs, as `ribosome:*/*`.
        meshes: copick URIs, as `ribosome:*/*`.
        segmentations: copick URIs, as `membrane:*/*@10.0`.
        objects: Names of objects whose density maps are exported [EXP-015].
        tomo_type_map: New names of tomogram types, by old name [EXP-017].
        object_name_map: New names of objects, by old name [EXP-018].
        session_id_template: Portal sources only.
        picks_portal_meta: Portal sources only.
        picks_author: Portal sources only.
        segmentations_portal_meta: Portal sources only.
        segmentations_author: Portal sources only.
        tomograms_portal_meta: Portal sources only.
        tomograms_author: Portal sources only.
        splits: Run names by machine-learning split [EXP-020].
        progress: Called with the number of runs that are done, and of all.

    Returns:
        Path or URL of the metadata.json that was written.

    Raises:
        ExistsError: `exists`, where there is a manifest or a table already, without `force` [EXP-006].
        UsageError: `option-invalid`, `source-unsupported` [EXP-024], `name-invalid`.
        DataError: `manifest-rejected` [EXP-023]; also for what cannot be read of a Croissant source.
        LockedError: `locked`, where another process writes all the time.
        StorageError: `storage-failed`.
    """
    _refuse_portal_options(
        session_id_template=session_id_template,
        picks_portal_meta=picks_portal_meta,
        picks_author=picks_author,
        segmentations_portal_meta=segmentations_portal_meta,
        segmentations_author=segmentations_author,
        tomograms_portal_meta=tomograms_portal_meta,
        tomograms_author=tomograms_author,
    )
    uris = {
        "tomograms": tomograms,
        "features": features,
        "picks": picks,
        "meshes": meshes,
        "segmentations": segmentations,
    }
    selection = Selection(runs, objects, uris)
    renames = _Renames(tomo_type_map, object_name_map)
    wanted_splits = assignments(splits or {})
    target = _urls.normalise(project_root)
    url = _urls.join(target, "Croissant/metadata.json")
    fs, path = _storage.open_location(url)
    directory = path.rpartition("/")[0]
    # From before anything is read, so that no row is lost that somebody else commits meanwhile.
    with _storage.made_directory(fs, directory), locked(fs, path):
        _commit.recover(fs, path)
        existing = _existing(fs, path, url, force)
        source = open_source(root)
        base = _urls.published(_urls.normalise(base_url)) if base_url else source.base_url  # [EXP-010]
        collected = _collect(source, selection, progress)
        rows = _finish(collected, renames, [_urls.published(target), *([base] if base else [])], compute_file_sha256)
        _assign_splits(rows, wanted_splits, _old_splits(url) if existing else {})
        selection.warn_of_unmatched()

        files = {name: encode_table(table, rows[name]) for name, table in TABLES.items()}  # [EXP-001]
        template = existing or source.document
        properties = {
            "name": dataset_name or template.get("name") or root.config.name or "copick project",  # [EXP-022]
            "description": description or template.get("description") or root.config.description,
            "conformsTo": _manifest.CONFORMS_TO,
            "version": template.get("version") or root.config.version,
            "license": license or template.get("license"),  # [EXP-009]
            "citeAs": cite_as or template.get("citeAs"),  # [EXP-009]
            "datePublished": date_published or template.get("datePublished") or datetime.date.today().isoformat(),
            "copick:baseUrl": base,
            "copick:config": _config(root, renames),
        }
        document = _manifest.build(
            template,
            properties,
            content_prefix=_content_prefix(base),
            checksums={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
            filled=[name for name in TABLES if rows[name]],
            splits=[row.split for row in rows["runs"] if isinstance(row, RunRow) and row.split],
        )
        _warn_of_findings(check_with_mlcroissant(document, url) if validate else [], document)
        tables = {f"{directory}/{TABLES[name].file_name}": data for name, data in files.items()}
        _commit.publish(fs, path, tables, _manifest.dump(document))
    return url


def _content_prefix(base: str | None) -> str:
    """What comes before the file names in the manifest [EXP-025]."""
    return f"{base.rstrip('/')}/Croissant/" if base and base.startswith(("http://", "https://")) else ""


def _warn_of_findings(findings: list[str], document: Mapping[str, Any]) -> None:
    """Warn of what mlcroissant finds, and in one line of what is merely absent."""
    absent = [name for name in _RECOMMENDED if not document.get(name)]
    lines = [finding for finding in findings if "is recommended, but does not exist" not in finding]
    lines += [f"dataset hosts will miss: {', '.join(absent)}"] if absent else []
    for line in lines:
        warnings.warn(line, CroissantWarning, stacklevel=3)


def _refuse_portal_options(**options: Any) -> None:
    given = [name for name, value in options.items() if value]
    if given:  # [EXP-021]
        raise UsageError(
            "option-invalid",
            f"{', '.join(given)}: only a source of the CryoET Data Portal has this metadata; leave the option out",
        )


def _existing(fs: AbstractFileSystem, path: str, url: str, force: bool) -> dict[str, Any]:
    """The document that is there already, which `force` lets us replace; empty where there is none."""
    directory, _, name = path.rpartition("/")
    there = _storage.list_directory(fs, directory)
    own = [name, *(table.file_name for table in TABLES.values())]
    if not force and (found := [file for file in own if file in there]):  # [EXP-006]
        raise ExistsError(
            "exists",
            f"{found[0]} is there already; give force=True (--force) to replace it; what others added to a manifest "
            "stays",
            path=url,
        )
    if name not in there:
        return {}
    try:
        document = _manifest.parse(
            _storage.read(fs, path, "manifest-missing", "the manifest to replace").decode("utf-8-sig")
        )
    except (ValueError, RecursionError) as error:
        raise DataError("manifest-invalid", f"the manifest to replace is not JSON: {error}", path=url) from error
    if not isinstance(document, dict):
        raise DataError("manifest-invalid", "the manifest to replace is not a JSON object", path=url)
    return document


def _old_splits(url: str) -> dict[str, str]:
    try:
        return assignments(CroissantIndex.from_url(url).splits())
    except CroissantError as error:
        warnings.warn(f"splits of the manifest that is replaced are lost: {error}", CroissantWarning, stacklevel=3)
        return {}


# --- rows ------------------------------------------------------------------------------------------------


def _collect(source: Source, selection: Selection, progress: Callable[[int, int], None] | None) -> list[Item]:
    """The selected items of the source [EXP-002]."""
    names = [name for name in source.run_names if selection.has_run(name)]  # [EXP-013]
    items: list[Item] = []
    for done, name in enumerate(names):
        if progress is not None:
            progress(done, len(names))
        found = [item for item in merged(source.run_items(name)).values() if selection.has(item.row)]
        if selection.drops_volumes:  # [EXP-031]
            used = {item.row.key[:2] for item in found if hasattr(item.row, "voxel_size") and item.row.table.has_url}
            found = [i for i in found if not isinstance(i.row, VoxelSpacingRow) or i.row.key in used]
        items += found
    if progress is not None:
        progress(len(names), len(names))
    objects = merged(source.object_items).values()
    return items + [item for item in objects if selection.has(item.row)]


def _finish(items: list[Item], renames: _Renames, bases: list[str], hash_files: bool) -> dict[str, list[Row]]:
    """The rows of each table, sorted by key: renamed, URLs relative to a base where they are below one, hashed."""
    origin: dict[tuple[str, Key], Row] = {}
    rows: dict[str, dict[Key, Row]] = {name: {} for name in TABLES}
    outside = 0
    for item in items:
        row = renames.apply(item.row)
        name, key = row.table.name, row.key
        if key in rows[name]:  # [EXP-019]
            first, second = origin[name, key].key, item.row.key
            raise UsageError(
                "option-invalid", f"the name maps make one row of two in {name}: {first} and {second} both become {key}"
            )
        origin[name, key] = item.row
        columns: dict[str, Any] = {}
        url = getattr(row, "url", None)
        if url:
            relative = next((part for part in (_urls.relative(url, base) for base in bases) if part), None)
            outside += relative is None
            columns["url"] = relative or url  # [EXP-005]
        if item.fs is not None and isinstance(row, (PicksRow, MeshRow)):
            columns |= _columns_of_file(item, row, hash_files)
        rows[name][key] = replace(row, **columns) if columns else row  # type: ignore[type-var]
    if outside:
        warnings.warn(
            f"{outside} artifacts lie outside {bases[0]}; their rows have absolute URLs, which others may not reach",
            CroissantWarning,
            stacklevel=3,
        )
    return {name: sorted(found.values(), key=_key_values) for name, found in rows.items()}  # [EXP-001]


def _key_values(row: Row) -> tuple[Any, ...]:
    return tuple(getattr(row, column.name) for column in row.table.columns[: row.table.key_count])


def _columns_of_file(item: Item, row: PicksRow | MeshRow, hash_files: bool) -> dict[str, Any]:
    """What a picks or mesh file says that its row needs; the file is read once at most."""
    if not hash_files and isinstance(row, MeshRow):
        return {}
    data = _storage.read(item.fs, item.path, "data-missing", f"the file of {row.key}")
    return _contents.columns_of(row, data, hashed=hash_files)


def _assign_splits(rows: dict[str, list[Row]], wanted: dict[str, str], old: dict[str, str]) -> None:
    """Give runs their splits: those asked for, else the source's, else those of the manifest replaced [EXP-008]."""
    runs = [row for row in rows["runs"] if isinstance(row, RunRow)]
    unknown = sorted(set(wanted) - {row.name for row in runs})
    if unknown:  # [EXP-020]
        raise UsageError("option-invalid", f"splits: no such runs in this export: {', '.join(unknown)}")
    rows["runs"] = [replace(row, split=wanted.get(row.name) or row.split or old.get(row.name)) for row in runs]


# --- names -----------------------------------------------------------------------------------------------


class _Renames:
    """The maps from old names of tomogram types and objects to new ones."""

    def __init__(self, tomo_types: Mapping[str, str] | None, objects: Mapping[str, str] | None) -> None:
        self.tomo_types = _checked_map(tomo_types, "tomo_type_map")
        self.objects = _checked_map(objects, "object_name_map")

    def apply(self, row: Row) -> Row:
        if isinstance(row, (TomogramRow, FeaturesRow)):
            return self._replace(row, "tomo_type", self.tomo_types)  # [EXP-017]
        if isinstance(row, (PicksRow, MeshRow)):
            return self._replace(row, "object_name", self.objects)  # [EXP-018]
        if isinstance(row, (RunRow, VoxelSpacingRow)):
            return row
        return self._replace(row, "name", self.objects)  # segmentations and objects

    @staticmethod
    def _replace(row: Row, column: str, names: Mapping[str, str]) -> Row:
        old = getattr(row, column)
        return replace(row, **{column: names[old]}) if old in names else row  # type: ignore[type-var]


def _checked_map(names: Mapping[str, str] | None, option: str) -> dict[str, str]:
    for old, new in (names or {}).items():
        try:
            allowed = new == sanitize_name(new, suppress_warnings=True)
        except ValueError:
            allowed = False
        if not allowed:  # [EXP-019]
            raise UsageError("option-invalid", f"{option}: copick does not allow the name {new!r}, to replace {old!r}")
    return dict(names or {})


def _config(root: CopickRoot, renames: _Renames) -> dict[str, Any]:
    """The `copick:config` of a project [EXP-029]."""
    config = root.config
    objects = []
    for definition in config.pickable_objects:
        dumped = definition.model_dump(mode="json")
        new = renames.objects.get(dumped["name"], dumped["name"])
        if new != dumped["name"]:
            metadata = dumped.get("metadata") or {}
            dumped["metadata"] = {  # [EXP-018]
                **metadata,
                "portal_original_name": metadata.get("portal_original_name", dumped["name"]),
            }
            dumped["name"] = new
        objects.append(dumped)
    names = [item["name"] for item in objects]
    if twice := sorted({name for name in names if names.count(name) > 1}):  # [EXP-019]
        raise UsageError("option-invalid", f"object_name_map: more than one object would be named {', '.join(twice)}")
    return {
        "name": config.name,
        "description": config.description,
        "version": config.version,
        "user_id": config.user_id,
        "session_id": config.session_id,
        "pickable_objects": objects,
    }
