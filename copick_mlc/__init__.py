"""Reference implementation of copick's mlcroissant backend.

The names below are imported when they are first used, so that `import copick_mlc`, and with it the index
layer, needs neither copick nor zarr nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from copick_mlc.config import CopickConfigMLCroissant as CopickConfigMLCroissant
    from copick_mlc.errors import CroissantError as CroissantError
    from copick_mlc.exporter import append_croissant as append_croissant
    from copick_mlc.exporter import export_croissant as export_croissant
    from copick_mlc.exporter import set_splits as set_splits
    from copick_mlc.features import CopickFeaturesMLC as CopickFeaturesMLC
    from copick_mlc.index import CroissantIndex as CroissantIndex
    from copick_mlc.mesh import CopickMeshMLC as CopickMeshMLC
    from copick_mlc.object import CopickObjectMLC as CopickObjectMLC
    from copick_mlc.opening import from_croissant as from_croissant
    from copick_mlc.opening import from_file as from_file
    from copick_mlc.picks import CopickPicksMLC as CopickPicksMLC
    from copick_mlc.publisher import publish as publish
    from copick_mlc.root import CopickRootMLC as CopickRootMLC
    from copick_mlc.run import CopickRunMLC as CopickRunMLC
    from copick_mlc.segmentation import CopickSegmentationMLC as CopickSegmentationMLC
    from copick_mlc.tomogram import CopickTomogramMLC as CopickTomogramMLC
    from copick_mlc.voxel_spacing import CopickVoxelSpacingMLC as CopickVoxelSpacingMLC

_MODULES = {
    "CopickConfigMLCroissant": "config",
    "CopickFeaturesMLC": "features",
    "CopickMeshMLC": "mesh",
    "CopickObjectMLC": "object",
    "CopickPicksMLC": "picks",
    "CopickRootMLC": "root",
    "CopickRunMLC": "run",
    "CopickSegmentationMLC": "segmentation",
    "CopickTomogramMLC": "tomogram",
    "CopickVoxelSpacingMLC": "voxel_spacing",
    "CroissantError": "errors",
    "CroissantIndex": "index",
    "append_croissant": "exporter",
    "export_croissant": "exporter",
    "from_croissant": "opening",
    "from_file": "opening",
    "publish": "publisher",
    "set_splits": "exporter",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
