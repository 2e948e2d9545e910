"""What a copick project of any backend holds, as rows with absolute URLs.

A filesystem project and an overlay are read by listing directories, a Croissant project by its tables, any
other through copick's API. Where an artifact is both published and in an overlay, the overlay's counts.
Rules: SPEC.md, Export [EXP].
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from copick.models import CopickRoot
from fsspec import AbstractFileSystem

from copick_mlc import _layout, _storage, _urls
from copick_mlc._tables import TABLES, Key, Row
from copick_mlc.errors import CroissantWarning, UsageError
from copick_mlc.index import (
    CroissantIndex,
    FeaturesRow,
    InstanceSegmentationRow,
    MeshRow,
    ObjectRow,
    PanopticSegmentationRow,
    PicksRow,
    RunRow,
    SegmentationRow,
    TomogramRow,
    VoxelSpacingRow,
)
from copick_mlc.root import CopickRootMLC


@dataclass(frozen=True)
class Item:
    """A row of the source, its URL absolute, and where its bytes are unless the row knows all about them."""

    row: Row
    fs: AbstractFileSystem | None = None
    path: str = ""


@dataclass(frozen=True)
class Place:
    """A directory in copick's layout.

    Attributes:
        fs: Its file system.
        path: Its path there.
        url: Its absolute URL.
    """

    fs: AbstractFileSystem
    path: str
    url: str

    def item(self, row: Row) -> Item:
        """The artifact with the key of `row` that lies here."""
        if not row.table.has_url:
            return Item(row)
        relative = row.canonical_url
        located: Row = replace(row, url=f"{self.url}/{relative}")  # type: ignore[type-var]
        return Item(located, self.fs, f"{self.path}/{relative}")


@dataclass
class Source:
    """A project to export.

    Attributes:
        run_names: Names of all runs, sorted.
        run_items: The rows of one run, that of `runs` included; of two with one key the later counts.
        object_items: The density maps.
        document: The JSON-LD document of a Croissant project; else empty.
        base_url: The base URL that its URLs are relative to and that it declares; else None.
    """

    run_names: list[str]
    run_items: Callable[[str], Iterable[Item]]
    object_items: list[Item]
    document: Mapping[str, Any] = field(default_factory=dict)
    base_url: str | None = None


def open_source(root: CopickRoot) -> Source:
    """The project of a root.

    Raises:
        UsageError: `source-unsupported` [EXP-024].
    """
    from copick.impl.filesystem import CopickRootFSSpec

    kind = getattr(root.config, "config_type", None)
    if kind == "cryoet_data_portal":
        raise UsageError("source-unsupported", "projects of the CryoET Data Portal cannot be exported by this version")
    if kind == "mlcroissant":
        return _croissant_source(root)
    if type(root) is CopickRootFSSpec:
        return _filesystem_source(root)
    return _api_source(root)


def maps_of(root: CopickRoot, items: Iterable[Item]) -> list[Item]:
    """Those density maps that belong to a particle the project defines."""
    particles = {definition.name for definition in root.config.pickable_objects if definition.is_particle}
    return [item for item in items if item.row.group in particles]


# --- copick's directory layout ---------------------------------------------------------------------------


def _filesystem_source(root: Any) -> Source:
    config = root.config
    places = [_place(config.overlay_root, root.fs_overlay, root.root_overlay)]
    if config.static_root is not None and not root.static_is_overlay:
        places.insert(0, _place(config.static_root, root.fs_static, root.root_static))
    names = sorted({name for place in places for name in _layout.runs(place.fs, place.path)})
    objects = [place.item(row) for place in places for row in _layout.objects(place.fs, place.path)]
    return Source(names, lambda run: _listed(places, run), maps_of(root, objects))


def _place(location: str, fs: AbstractFileSystem, path: str) -> Place:
    """The root of a project; on the local disk without copick's wrapper, which reconnects to remote storage."""
    url = _urls.normalise(location)
    if _urls.is_local(url) and "::" not in url:
        fs, path = _storage.open_location(url)
    return Place(fs, path, _urls.published(url))


def _listed(places: list[Place], run: str, known: Iterable[TomogramRow] = ()) -> Iterator[Item]:
    """What lies in a run's directories; `known` are tomograms that are elsewhere and may have feature maps here."""
    yield Item(RunRow(run))
    spacings: list[tuple[Place, VoxelSpacingRow]] = []
    for place in places:
        directories = _layout.directories(place.fs, place.path, run)
        spacings += [(place, spacing) for spacing in _layout.spacings_in(directories, run)]
        for directory, list_rows in _layout.LISTINGS.items():
            if directory in directories:
                yield from map(place.item, list_rows(place.fs, place.path, run))
        if "Filaments" in directories and (count := _layout.filaments(place.fs, place.path, run)):
            warnings.warn(
                f"run {run}: {count} filament files are not exported; no table of the format lists them",
                CroissantWarning,
            )
    listings = [(place, spacing, _layout.stores(place.fs, place.path, spacing)) for place, spacing in spacings]
    yield from (place.item(row) for place, row in _layout.volumes(listings, known))


# --- Croissant -------------------------------------------------------------------------------------------


def _croissant_source(root: Any) -> Source:
    """A Croissant project, opened by us or by copick: its tables, and in Mode B its overlay."""
    config = root.config
    ours = isinstance(root, CopickRootMLC)
    if not ours:
        root = CopickRootMLC(_our_config(config))
    index: CroissantIndex = root.index
    _warn_of_unknown_columns(index)
    places = []
    if root.mode == "B":
        places.append(_place(config.overlay_root, *root.overlay))

    def run_items(run: str) -> Iterator[Item]:
        tables = [table for table in TABLES.values() if table.name != "objects"]
        yield from (_indexed(index, row) for table in tables for row in index.rows(table.name, run))
        if places:
            # A published run keeps its row; what the overlay lists comes after and counts.
            listed = _listed(places, run, index.rows_of(TomogramRow, run))
            yield from (item for item in listed if not (isinstance(item.row, RunRow) and index.has("runs", run)))

    objects = [_indexed(index, row) for row in index.rows("objects")]
    objects += [place.item(row) for place in places for row in _layout.objects(place.fs, place.path)]
    declared = index.document.get("copick:baseUrl")
    moved = config.croissant_base_url is not None
    return Source(
        [run.name for run in root.runs],
        run_items,
        maps_of(root, objects),
        index.document,
        _urls.published(index.base_url) if declared and not moved else None,
    )


def _our_config(config: Any) -> Any:
    """Our configuration with the values of copick's."""
    from copick_mlc.config import CopickConfigMLCroissant

    return CopickConfigMLCroissant(**config.model_dump())


def _indexed(index: CroissantIndex, row: Row) -> Item:
    url = getattr(row, "url", None)
    if not url:
        return Item(row)
    located: Row = replace(row, url=_urls.published(index.absolute_url(url)))  # type: ignore[type-var]
    return Item(located)


def _warn_of_unknown_columns(index: CroissantIndex) -> None:
    for table in TABLES.values():
        unknown = [name for name in index.columns(table.name) if name not in table.column_names]
        if unknown:
            warnings.warn(
                f"{table.file_name}: the columns {', '.join(unknown)} are not of the format and not exported",
                CroissantWarning,
            )


# --- any other root --------------------------------------------------------------------------------------


def _api_source(root: Any) -> Source:
    """A project of a backend we know nothing of, walked through copick's API."""
    objects = []
    for definition in root.pickable_objects:
        located = _located(definition, ObjectRow(definition.name))
        if located.fs is not None and located.fs.exists(located.path):
            objects.append(located)
    return Source(
        sorted(run.name for run in root.runs), lambda name: _walked(root.get_run(name)), maps_of(root, objects)
    )


def _walked(run: Any) -> Iterator[Item]:
    name = run.name
    yield Item(RunRow(name))
    for spacing in run.voxel_spacings:
        size = float(spacing.voxel_size)
        yield Item(VoxelSpacingRow(name, size))
        for tomogram in spacing.tomograms:
            yield _located(tomogram, TomogramRow(name, size, tomogram.tomo_type))
            for features in tomogram.features:
                yield _located(features, FeaturesRow(name, size, tomogram.tomo_type, features.feature_type))
    for picks in run.picks:
        yield _located(picks, PicksRow(name, picks.user_id, picks.session_id, picks.pickable_object_name))
    for mesh in run.meshes:
        yield _located(mesh, MeshRow(name, mesh.user_id, mesh.session_id, mesh.pickable_object_name))
    for found in run.segmentations:
        names = (name, float(found.voxel_size), found.user_id, found.session_id, found.name)
        if found.is_instance:
            yield _located(found, InstanceSegmentationRow(*names))
        elif found.is_panoptic:
            yield _located(found, PanopticSegmentationRow(*names))
        else:
            yield _located(found, SegmentationRow(*names, bool(found.is_multilabel)))


def _located(artifact: Any, row: Row) -> Item:
    """The item of an artifact, by the attributes that copick's backends have for where its data is."""
    side = "static" if artifact.read_only else "overlay"
    path = getattr(artifact, "path", None) or getattr(artifact, f"{side}_path", None)
    fs = getattr(artifact, "fs", None) or getattr(artifact, f"fs_{side}", None)
    if path is None or fs is None:
        raise UsageError(
            "source-unsupported",
            f"{type(artifact).__name__} does not say where its data is; expected the attributes path and fs",
        )
    located: Row = replace(row, url=_urls.published(fs.unstrip_protocol(path)))  # type: ignore[type-var]
    return Item(located, fs, path)


def merged(items: Iterable[Item]) -> dict[tuple[str, Key], Item]:
    """The items by table and key; of two with one key the later counts."""
    return {(item.row.table.name, item.row.key): item for item in items}
