"""What a copick project of any backend holds.

A filesystem project and an overlay are read by listing directories, a Croissant project by its tables, one of the
CryoET Data Portal by the portal's records, any other through copick's API. Where an artifact is both published and
in an overlay, the overlay's counts. Rules: SPEC.md, Export [EXP].
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from copick.models import CopickRoot

from copick_mlc import _layout, _storage, _urls
from copick_mlc._portal import PortalOptions, portal_source
from copick_mlc._source import Item, Place, Source
from copick_mlc._tables import TABLES, Row
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


def open_source(root: CopickRoot, portal: PortalOptions) -> Source:
    """The project of a root.

    Args:
        root: The root.
        portal: What is wanted of a project of the CryoET Data Portal.

    Raises:
        UsageError: `source-unsupported` [EXP-024]; `option-invalid`, for portal options where there is no portal
            [EXP-021].
    """
    from copick.impl.filesystem import CopickRootFSSpec

    kind = getattr(root.config, "config_type", None)
    if kind == "cryoet_data_portal":
        return portal_source(root, portal)
    if given := portal.given():  # [EXP-021]
        raise UsageError(
            "option-invalid",
            f"{', '.join(given)}: only a source of the CryoET Data Portal has this metadata; leave the option out",
        )
    if kind == "mlcroissant":
        return _croissant_source(root)
    if type(root) is CopickRootFSSpec:
        return _filesystem_source(root)
    return _api_source(root)


def _particles(root: CopickRoot) -> frozenset[str]:
    return frozenset(definition.name for definition in root.config.pickable_objects if definition.is_particle)


def _filesystem_source(root: Any) -> Source:
    config = root.config
    places = [Place.at(config.overlay_root, config.overlay_fs_args)]
    if config.static_root is not None and not root.static_is_overlay:
        places.insert(0, Place.at(config.static_root, config.static_fs_args))
    names = {name for place in places for name in _layout.runs(place.fs, place.path)}
    return Source(sorted(names), _particles(root), places=places)


# --- Croissant -------------------------------------------------------------------------------------------


def _croissant_source(root: Any) -> Source:
    """A Croissant project, opened by us or by copick: its tables, and in Mode B its overlay."""
    if not isinstance(root, CopickRootMLC):
        root = CopickRootMLC(_our_config(root.config))
    config = root.config
    index: CroissantIndex = root.index
    _warn_of_unknown_columns(index)

    def known(run: str) -> Iterator[Item]:
        tables = [table for table in TABLES.values() if table.name != "objects"]
        return (_indexed(index, row) for table in tables for row in index.rows(table.name, run))

    return Source(
        [run.name for run in root.runs],
        _particles(root),
        known,
        [_indexed(index, row) for row in index.rows("objects")],
        [Place.at(config.overlay_root, config.overlay_fs_args)] if root.mode == "B" else [],
        index.document,
        index.url,
        _declared_base(index) if config.croissant_base_url is None else None,
    )


def _declared_base(index: CroissantIndex) -> str | None:
    """The base URL that a manifest declares, as it stands there if that is absolute."""
    declared = index.document.get("copick:baseUrl")
    if isinstance(declared, str) and "://" in declared:
        return declared
    return _urls.published(index.base_url) if declared else None


def _our_config(config: Any) -> Any:
    """Our configuration with the values of copick's."""
    from copick_mlc.config import CopickConfigMLCroissant

    return CopickConfigMLCroissant(**config.model_dump())


def _indexed(index: CroissantIndex, row: Row) -> Item:
    url = getattr(row, "url", None)
    if not url:
        return Item(row)
    located: Row = replace(row, url=_urls.published(index.absolute_url(url)))  # type: ignore[type-var]
    if isinstance(row, (PicksRow, MeshRow)):
        return Item(located, *index.resolve_url(url), is_remote=True)
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
    maps = []
    for definition in root.pickable_objects:
        located = _located(definition, ObjectRow(definition.name))
        if located.fs is not None and _storage.exists(located.fs, located.path):
            maps.append(located)
    return Source(
        sorted(run.name for run in root.runs), _particles(root), lambda name: _walked(root.get_run(name)), maps
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
