"""What lies in copick's own directory layout: names of files and stores, read as keys of rows.

This is how an overlay and a filesystem project say what exists. One listing a directory; hidden names,
and names that are no artifact's, are passed over [OVL-008]. copick's names have no underscore; where an old name
has one, user and session end at the first and second. Rules: SPEC.md, Overlays [OVL].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from fsspec import AbstractFileSystem

from copick_mlc._storage import list_directory
from copick_mlc._tables import (
    FeaturesRow,
    InstanceSegmentationRow,
    MeshRow,
    ObjectRow,
    PanopticSegmentationRow,
    PicksRow,
    Row,
    SegmentationRow,
    TomogramRow,
    VoxelSpacingRow,
    parse_number,
)

S = TypeVar("S", PicksRow, MeshRow)
K = TypeVar("K", bound=Row)

_SPACING = "VoxelSpacing"
_FEATURES = "_features.zarr"
_MULTILABEL = "-multilabel"


def runs(fs: AbstractFileSystem, root: str) -> list[str]:
    """Names of the runs, sorted."""
    return sorted(name for name, is_directory in list_directory(fs, f"{root}/ExperimentRuns").items() if is_directory)


def directories(fs: AbstractFileSystem, root: str, run: str) -> list[str]:
    """Names of the directories of a run."""
    return [name for name, is_directory in list_directory(fs, f"{root}/ExperimentRuns/{run}").items() if is_directory]


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
    return _stores(fs, f"{root}/{spacing.canonical_url}")


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
    return _files(fs, f"{root}/ExperimentRuns/{run}/Picks", ".json", run, PicksRow)


def meshes(fs: AbstractFileSystem, root: str, run: str) -> list[MeshRow]:
    """The meshes of a run."""
    return _files(fs, f"{root}/ExperimentRuns/{run}/Meshes", ".glb", run, MeshRow)


def segmentations(fs: AbstractFileSystem, root: str, run: str) -> list[SegmentationRow]:
    """The binary and multilabel segmentations of a run."""

    def make(run: str, size: float, user: str, session: str, name: str) -> SegmentationRow:
        return SegmentationRow(run, size, user, session, name.removesuffix(_MULTILABEL), name.endswith(_MULTILABEL))

    return list(_segmentations(fs, root, run, "Segmentations", make))


def instance_segmentations(fs: AbstractFileSystem, root: str, run: str) -> list[InstanceSegmentationRow]:
    """The instance segmentations of a run."""
    return list(_segmentations(fs, root, run, "InstanceSegmentations", InstanceSegmentationRow))


def panoptic_segmentations(fs: AbstractFileSystem, root: str, run: str) -> list[PanopticSegmentationRow]:
    """The panoptic segmentations of a run."""
    return list(_segmentations(fs, root, run, "PanopticSegmentations", PanopticSegmentationRow))


def objects(fs: AbstractFileSystem, root: str) -> list[ObjectRow]:
    """The density maps of objects; not the empty directories that copick makes when it looks for one [EXP-028]."""
    directory = f"{root}/Objects"
    names = [name for name in _stores(fs, directory) if is_store(fs, f"{directory}/{name}")]
    return [ObjectRow(name.removesuffix(".zarr")) for name in names]


def is_store(fs: AbstractFileSystem, path: str) -> bool:
    """Whether a directory is a zarr store, of version 2 or 3 [OVL-012]."""
    return any(fs.exists(f"{path}/{name}") for name in (".zgroup", ".zarray", "zarr.json"))


def filaments(fs: AbstractFileSystem, root: str, run: str) -> int:
    """The number of filament files of a run, which no table lists."""
    return sum(name.endswith(".json") for name in list_directory(fs, f"{root}/ExperimentRuns/{run}/Filaments"))


def _stores(fs: AbstractFileSystem, directory: str) -> list[str]:
    return [
        name for name, is_directory in list_directory(fs, directory).items() if is_directory and name.endswith(".zarr")
    ]


def _files(fs: AbstractFileSystem, directory: str, suffix: str, run: str, make: type[S]) -> list[S]:
    rows = []
    for file in list_directory(fs, directory):
        names = file.removesuffix(suffix).split("_", 2)
        if file.endswith(suffix) and len(names) == 3 and all(names):
            rows.append(make(run, names[0], names[1], names[2]))
    return rows


def _segmentations(
    fs: AbstractFileSystem, root: str, run: str, directory: str, make: Callable[[str, float, str, str, str], K]
) -> Iterator[K]:
    for store in _stores(fs, f"{root}/ExperimentRuns/{run}/{directory}"):
        size, *names = store.removesuffix(".zarr").split("_", 3)
        try:
            number = parse_number(size)
        except ValueError:
            continue
        if len(names) == 3 and all(names) and names[2] != _MULTILABEL:
            yield make(run, number, *names)
