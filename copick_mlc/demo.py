"""A small real copick project, made with copick itself: `python -m copick_mlc demo DIR`.

Two runs of a synthetic but plausible specimen: ribosome-like particles with orientations and a membrane,
as density with noise, and annotations of every kind that the data supports.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import zarr

from copick_mlc.errors import ExistsError

VOXEL_SIZE = 10.0
SHAPE = (48, 64, 64)
SPLITS = {"train": ["TS_001"], "val": ["TS_002"]}

_RADIUS = 4.5
_OBJECTS = [
    {
        "name": "ribosome",
        "is_particle": True,
        "label": 1,
        "color": [0, 117, 220, 255],
        "pdb_id": "4V9D",
        "radius": 45.0,
    },
    {"name": "membrane", "is_particle": False, "label": 2, "color": [153, 63, 0, 255]},
]


def make_project(directory: str) -> str:
    """Make the project and give the path of its copick configuration.

    Args:
        directory: Where; it is made if need be.

    Raises:
        ExistsError: `exists`, where the directory is not empty.
    """
    from copick.impl.filesystem import CopickRootFSSpec

    directory = os.path.abspath(os.path.expanduser(directory))
    if os.path.isdir(directory) and os.listdir(directory):
        raise ExistsError("exists", "the directory is not empty; the demo makes a new project only", path=directory)
    os.makedirs(directory, exist_ok=True)
    config = {
        "config_type": "filesystem",
        "name": "copick_mlc demo",
        "description": "Two synthetic tomograms with annotations of every kind.",
        "version": "1.0.0",
        "pickable_objects": _OBJECTS,
        "user_id": "demo",
        "session_id": "1",
        "overlay_root": f"local://{directory}",
        "overlay_fs_args": {"auto_mkdir": True},
    }
    path = os.path.join(directory, "copick_config.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file, indent=4)
    root = CopickRootFSSpec.from_file(path)
    for seed, name in enumerate(("TS_001", "TS_002"), 1):
        _make_run(root.new_run(name), np.random.default_rng(seed))
    root.get_object("ribosome").from_numpy(_particle(12), VOXEL_SIZE)
    return path


def _particle(size: int) -> np.ndarray:
    """A density of two touching blobs, which shows an orientation, in a cube of edge `size`."""
    z, y, x = np.indices((size, size, size)) - (size - 1) / 2
    large = np.exp(-(x**2 + y**2 + (z - 1) ** 2) / (0.35 * size))
    small = 0.8 * np.exp(-((x - 2) ** 2 + y**2 + (z + 3) ** 2) / (0.15 * size))
    return (large + small).astype(np.float32)


def _rotation(rng: np.random.Generator) -> np.ndarray:
    """A random rotation as 4×4 matrix."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    q[:, 0] *= np.linalg.det(q)
    matrix = np.eye(4)
    matrix[:3, :3] = q
    return matrix


def _specimen(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Particle centres in voxels (N, 3) as x, y, z, the instance volume and the membrane mask (Z, Y, X)."""
    z, y, x = np.indices(SHAPE)
    centres: list[np.ndarray] = []
    while len(centres) < 8:
        centre = rng.uniform([8, 8, 8], [SHAPE[2] - 8, SHAPE[1] - 8, SHAPE[0] - 16])
        if all(np.linalg.norm(centre - other) > 2.2 * _RADIUS for other in centres):
            centres.append(centre)
    instances = np.zeros(SHAPE, np.uint16)
    for number, (cx, cy, cz) in enumerate(centres, 1):
        instances[(x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2 < _RADIUS**2] = number
    membrane = np.abs(z - (SHAPE[0] - 8) - 2 * np.sin(x / 9)) < 1.5
    return np.array(centres), instances, membrane


def _make_run(run: Any, rng: np.random.Generator) -> None:
    import trimesh

    centres, instances, membrane = _specimen(rng)
    density = np.where(instances > 0, 1.0, 0.0) + np.where(membrane, 0.7, 0.0)
    noisy = density + rng.normal(scale=0.4, size=SHAPE)

    spacing = run.new_voxel_spacing(VOXEL_SIZE)
    tomogram = spacing.new_tomogram("wbp")
    tomogram.from_numpy(noisy, levels=2)
    spacing.new_tomogram("denoised").from_numpy(density, levels=2)
    gradient = np.array(np.gradient(noisy), np.float32)
    store = tomogram.new_features("gradient").zarr()
    zarr.group(store=store).create_dataset("0", data=gradient, chunks=(1, 32, 32, 32))

    picks = run.new_picks("ribosome", "1", "demo")
    picks.meta.voxel_spacing = VOXEL_SIZE
    picks.from_numpy(centres * VOXEL_SIZE, np.array([_rotation(rng) for _ in centres]))
    guess = run.new_picks("ribosome", "0", "template-matching")
    guess.meta.voxel_spacing = VOXEL_SIZE
    guess.from_numpy((centres[:5] + 0.3) * VOXEL_SIZE, scores=np.linspace(0.9, 0.5, 5))

    mesh = run.new_mesh("membrane", "1", "demo")
    vertices = [[0, 0, 0], [SHAPE[2], 0, 0], [SHAPE[2], SHAPE[1], 0], [0, SHAPE[1], 0]]
    sheet = (np.array(vertices, float) + np.array([0, 0, SHAPE[0] - 8])) * VOXEL_SIZE
    mesh.mesh = trimesh.Scene(trimesh.Trimesh(sheet, [[0, 1, 2], [0, 2, 3]]))
    mesh.store()

    labels = np.where(instances > 0, 1, np.where(membrane, 2, 0))
    run.new_segmentation(VOXEL_SIZE, "membrane", "1", user_id="demo").from_numpy(membrane.astype(np.uint8))
    run.new_segmentation(VOXEL_SIZE, "all", "1", is_multilabel=True, user_id="demo").from_numpy(labels)
    run.new_segmentation(VOXEL_SIZE, "ribosome", "1", user_id="demo", is_instance=True).from_numpy(instances)
