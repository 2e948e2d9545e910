"""What lies in copick's own directory layout: names of files and stores, read as keys of rows.

This is how an overlay and a filesystem project say what exists. One listing a directory; hidden names,
and names that are no artifact's, are passed over [OVL-008]. copick's names have no underscore; where an old name
has one, user and session end at the first and second. Rules: SPEC.md, Overlays [OVL].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

from fsspec import AbstractFileSystem

from copick_mlc import _urls, _waiting
from copick_mlc._storage import exists, list_directory
from copick_mlc._tables import (
    FeaturesRow,
    InstanceSegmentationRow,
    MeshRow,
    ObjectRow,
    PanopticSegmentationRow,
    PicksRow,
    Row,
    RunRow,
    SegmentationRow,
    TomogramRow,
    VoxelSpacingRow,
    parse_number,
)

S = TypeVar("S", PicksRow, MeshRow)
K = TypeVar("K", bound=Row)
P = TypeVar("P")

_SPACING = "VoxelSpacing"
_FEATURES = "_features.zarr"
_MULTILABEL = "-multilabel"


def _below(root: str, relative: str) -> str:
    return f"{root}/{_urls.escaped(relative, root)}"


def runs(fs: AbstractFileSystem, root: str) -> list[str]:
    """Names of the runs, sorted."""
    return sorted(
        name for name, is_directory in list_directory(fs, _below(root, "ExperimentRuns")).items() if is_directory
    )


def directories(fs: AbstractFileSystem, root: str, run: str) -> list[str]:
    """Names of the directories of a run."""
    return [
        name for name, is_directory in list_directory(fs, _below(root, f"ExperimentRuns/{run}")).items() if is_directory
    ]


def voxel_spacings(fs: AbstractFileSystem, root: str, run: str) -> list[VoxelSpacingRow]:
    """The voxel spacings of a run."""
    return spacings_in(directories(fs, root, run), run)


def spacings_in(names: list[str], run: str) -> list[VoxelSpacingRow]:
    """The voxel spacings among the names of a run's directories."""
    rows = []
    for name in names:
        if name.startswith(_SPACING):
            try:
                rows.append(VoxelSpacingRow(run, parse_number(name.removeprefix(_SPACING))))
            except ValueError:
                continue
    return rows


def tomograms(fs: AbstractFileSystem, root: str, spacing: VoxelSpacingRow) -> list[TomogramRow]:
    """The tomograms of a voxel spacing."""
    return tomograms_in(stores(fs, root, spacing), spacing)


def features(fs: AbstractFileSystem, root: str, tomogram: TomogramRow) -> list[FeaturesRow]:
    """The feature maps of a tomogram."""
    return features_in(stores(fs, root, VoxelSpacingRow(tomogram.run, tomogram.voxel_size)), tomogram)


def stores(fs: AbstractFileSystem, root: str, spacing: VoxelSpacingRow) -> list[str]:
    """Names of the stores of a voxel spacing, tomograms and feature maps."""
    return _stores(fs, _below(root, spacing.canonical_url))


def tomograms_in(names: list[str], spacing: VoxelSpacingRow) -> list[TomogramRow]:
    """The tomograms among the names of a voxel spacing's stores. As in copick, "features" names no tomogram."""
    types = (name.removesuffix(".zarr") for name in names)
    return [TomogramRow(spacing.run, spacing.voxel_size, name) for name in types if name and "features" not in name]


def features_in(names: list[str], tomogram: TomogramRow) -> list[FeaturesRow]:
    """The feature maps of a tomogram among the names of its voxel spacing's stores."""
    prefix = f"{tomogram.tomo_type}_"
    types = (
        n.removeprefix(prefix).removesuffix(_FEATURES) for n in names if n.startswith(prefix) and n.endswith(_FEATURES)
    )
    return [FeaturesRow(tomogram.run, tomogram.voxel_size, tomogram.tomo_type, name) for name in types if name]


def picks(fs: AbstractFileSystem, root: str, run: str) -> list[PicksRow]:
    """The picks of a run."""
    return _files(fs, _below(root, f"ExperimentRuns/{run}/Picks"), ".json", run, PicksRow)


def meshes(fs: AbstractFileSystem, root: str, run: str) -> list[MeshRow]:
    """The meshes of a run."""
    return _files(fs, _below(root, f"ExperimentRuns/{run}/Meshes"), ".glb", run, MeshRow)


def segmentations(fs: AbstractFileSystem, root: str, run: str) -> list[SegmentationRow]:
    """The binary and multilabel segmentations of a run."""
    return _segmentations(fs, root, run, "Segmentations", _binary_or_multilabel)


def instance_segmentations(fs: AbstractFileSystem, root: str, run: str) -> list[InstanceSegmentationRow]:
    """The instance segmentations of a run."""
    return _segmentations(fs, root, run, "InstanceSegmentations", InstanceSegmentationRow)


def panoptic_segmentations(fs: AbstractFileSystem, root: str, run: str) -> list[PanopticSegmentationRow]:
    """The panoptic segmentations of a run."""
    return _segmentations(fs, root, run, "PanopticSegmentations", PanopticSegmentationRow)


def objects(fs: AbstractFileSystem, root: str) -> list[ObjectRow]:
    """The density maps of objects; not the empty directories that copick makes when it looks for one [EXP-028]."""
    directory = _below(root, "Objects")
    names = _stores(fs, directory)
    are_stores = _waiting.at_once([fs], [partial(is_store, fs, _below(directory, name)) for name in names])
    return [ObjectRow(name.removesuffix(".zarr")) for name, found in zip(names, are_stores, strict=True) if found]


def is_listed(row: Row) -> bool:
    """Whether what is kept at the canonical path of `row` is listed as just that [OVL-016], hidden names not being."""
    path = row.canonical_url
    if "/." in f"/{path}":
        return False
    name = path.rpartition("/")[2]
    found: Row | None = row
    if isinstance(row, TomogramRow):
        found = next(iter(tomograms_in([name], VoxelSpacingRow(row.run, row.voxel_size))), None)
    elif isinstance(row, FeaturesRow):
        found = next(iter(features_in([name], TomogramRow(row.run, row.voxel_size, row.tomo_type))), None)
    elif isinstance(row, PicksRow):
        found = _file(name, ".json", row.run, PicksRow)
    elif isinstance(row, MeshRow):
        found = _file(name, ".glb", row.run, MeshRow)
    elif isinstance(row, SegmentationRow):
        found = _segmentation(name, row.run, _binary_or_multilabel)
    elif isinstance(row, (InstanceSegmentationRow, PanopticSegmentationRow)):
        found = _segmentation(name, row.run, type(row))
    return found is not None and found.key == row.key


def is_store(fs: AbstractFileSystem, path: str) -> bool:
    """Whether a directory is a zarr store, of version 2 or 3 [OVL-012]."""
    return any(exists(fs, f"{path}/{name}") for name in (".zgroup", ".zarray", "zarr.json"))


def filaments(fs: AbstractFileSystem, root: str, run: str) -> int:
    """The number of filament files of a run, which no table lists."""
    return sum(name.endswith(".json") for name in list_directory(fs, _below(root, f"ExperimentRuns/{run}/Filaments")))


def _stores(fs: AbstractFileSystem, directory: str) -> list[str]:
    return [
        name for name, is_directory in list_directory(fs, directory).items() if is_directory and name.endswith(".zarr")
    ]


def _files(fs: AbstractFileSystem, directory: str, suffix: str, run: str, make: type[S]) -> list[S]:
    rows = (_file(name, suffix, run, make) for name in list_directory(fs, directory))
    return [row for row in rows if row is not None]


def _file(name: str, suffix: str, run: str, make: type[S]) -> S | None:
    """The row of a file of picks or a mesh, or None for any other file."""
    names = name.removesuffix(suffix).split("_", 2)
    if not name.endswith(suffix) or len(names) != 3 or not all(names):
        return None
    return make(run, names[0], names[1], names[2])


def _segmentations(
    fs: AbstractFileSystem, root: str, run: str, directory: str, make: Callable[[str, float, str, str, str], K]
) -> list[K]:
    rows = (_segmentation(name, run, make) for name in _stores(fs, _below(root, f"ExperimentRuns/{run}/{directory}")))
    return [row for row in rows if row is not None]


def _segmentation(name: str, run: str, make: Callable[[str, float, str, str, str], K]) -> K | None:
    """The row of a store with a segmentation, or None for any other name."""
    size, *names = name.removesuffix(".zarr").split("_", 3)
    try:
        number = parse_number(size)
    except ValueError:
        return None
    return make(run, number, *names) if len(names) == 3 and all(names) and names[2] != _MULTILABEL else None


def _binary_or_multilabel(run: str, size: float, user: str, session: str, name: str) -> SegmentationRow:
    return SegmentationRow(run, size, user, session, name.removesuffix(_MULTILABEL), name.endswith(_MULTILABEL))


# By name of a run's directory, what lists the artifacts in it.
LISTINGS: dict[str, Callable[[AbstractFileSystem, str, str], Iterable[Row]]] = {
    "Picks": picks,
    "Meshes": meshes,
    "Segmentations": segmentations,
    "InstanceSegmentations": instance_segmentations,
    "PanopticSegmentations": panoptic_segmentations,
}


def artifacts(fs: AbstractFileSystem, root: str, run: str, known: Iterable[TomogramRow] = ()) -> Iterator[Row]:
    """All that lies in a run's directories, the run itself first.

    Args:
        fs: The file system.
        root: Path of the project.
        run: Name of the run.
        known: Tomograms that are elsewhere and may have feature maps here.
    """
    yield RunRow(run)
    names = directories(fs, root, run)
    spacings = spacings_in(names, run)
    rows, all_stores = contents(fs, root, run, names, spacings)
    yield from rows
    listings = [(root, spacing, found) for spacing, found in zip(spacings, all_stores, strict=True)]
    yield from (row for _, row in volumes(listings, known))


def contents(
    fs: AbstractFileSystem, root: str, run: str, names: list[str], spacings: list[VoxelSpacingRow]
) -> tuple[list[Row], list[list[str]]]:
    """The artifacts in a run's directories of these names, and the names of the stores of each voxel spacing."""
    listings = [partial(list_rows, fs, root, run) for directory, list_rows in LISTINGS.items() if directory in names]
    calls: list[Callable[[], Any]] = [*listings, *(partial(stores, fs, root, spacing) for spacing in spacings)]
    found = _waiting.at_once([fs], calls)
    count = len(listings)
    return [row for rows in found[:count] for row in rows], found[count:]


def volumes(
    listings: list[tuple[P, VoxelSpacingRow, list[str]]], known: Iterable[TomogramRow]
) -> Iterator[tuple[P, Row]]:
    """The voxel spacings, tomograms and feature maps among the stores that were listed in places.

    Those of one tomogram may lie in several places; `known` are tomograms that are elsewhere.
    """
    all_tomograms = {row.key: row for row in known}
    for place, spacing, names in listings:
        yield place, spacing
        for tomogram in tomograms_in(names, spacing):
            all_tomograms.setdefault(tomogram.key, tomogram)
            yield place, tomogram
    for place, spacing, names in listings:
        for tomogram in all_tomograms.values():
            if tomogram.key[:2] == spacing.key:
                yield from ((place, row) for row in features_in(names, tomogram))
