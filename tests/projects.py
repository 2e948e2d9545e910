"""Real projects for the tests, and what a copick root of any backend holds of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import copick
import numpy as np

from copick_mlc import demo


def make_full_project(directory: Path) -> Path:
    """The demo project with panoptic segmentations and an empty run and spacing too; the path of its configuration."""
    config = Path(demo.make_project(str(directory)))
    root = copick.from_file(str(config))
    for run in root.runs:
        labels = run.get_segmentations(name="all")[0].numpy()
        instances = run.get_segmentations(name="ribosome", is_instance=True)[0].numpy()
        panoptic = run.new_segmentation(demo.VOXEL_SIZE, "scene", "1", user_id="demo", is_panoptic=True)
        panoptic.from_numpy(np.stack([labels, instances]))
    root.new_run("empty").new_voxel_spacing(7.84)
    return config


def _digest(array: Any) -> tuple[Any, ...] | None:
    if array is None:
        return None
    return array.shape, str(array.dtype), hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _mesh(mesh: Any) -> tuple[Any, ...]:
    geometry = mesh.mesh.to_geometry() if hasattr(mesh.mesh, "to_geometry") else mesh.mesh
    return geometry.vertices.round(3).tolist(), geometry.faces.tolist()


def _points(picks: Any) -> tuple[Any, ...]:
    points, transforms = picks.numpy()
    return points.tolist(), transforms.tolist(), picks.scores().tolist(), picks.instance_ids().tolist()


def inventory(root: Any, *, data: bool = True) -> dict[str, Any]:
    """Everything a root lists, by its key; with `data`, also the contents, as values that compare."""
    found: dict[str, Any] = {"objects": {}, "runs": {}}
    for item in root.pickable_objects:
        has_map = item.is_particle and (item.zarr() is not None)
        found["objects"][item.name] = (
            item.meta.model_dump(mode="json"),
            _digest(item.numpy()) if has_map and data else has_map,
        )
    for run in root.runs:
        entry: dict[str, Any] = {"spacings": {}, "picks": {}, "meshes": {}, "segmentations": {}}
        found["runs"][run.name] = entry
        for spacing in run.voxel_spacings:
            entry["spacings"][f"{spacing.voxel_size:.3f}"] = {
                tomogram.tomo_type: (
                    _digest(tomogram.numpy()) if data else None,
                    {f.feature_type: _digest(f.numpy()) if data else None for f in tomogram.features},
                )
                for tomogram in spacing.tomograms
            }
        for picks in run.picks:
            key = (picks.user_id, picks.session_id, picks.pickable_object_name)
            entry["picks"][key] = _points(picks) if data else None
        for mesh in run.meshes:
            key = (mesh.user_id, mesh.session_id, mesh.pickable_object_name)
            entry["meshes"][key] = _mesh(mesh) if data else None
        for s in run.segmentations:
            kind = (s.segmentation_type, f"{s.voxel_size:.3f}", s.user_id, s.session_id, s.name)
            entry["segmentations"][kind] = _digest(s.numpy()) if data else None
    return found


def tree(directory: Path) -> dict[str, bytes]:
    """The bytes of every file below a directory, by relative path, as the disk has them."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}
