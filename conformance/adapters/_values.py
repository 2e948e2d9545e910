"""Arrays, points and meshes: the values of PROTOCOL.md to and from those of numpy, copick and trimesh."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from copick.models import CopickLocation, CopickPoint


def to_array(value: Mapping[str, Any]) -> np.ndarray:
    """The array that a request gives by its elements."""
    array: np.ndarray = np.array(value["values"], dtype=value["dtype"]).reshape(value["shape"])
    return array


def from_array(array: np.ndarray) -> dict[str, Any]:
    """What a response says of an array."""
    elements = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return {
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "sha256": hashlib.sha256(elements).hexdigest(),
    }


def to_points(values: Iterable[Mapping[str, Any]]) -> list[CopickPoint]:
    """copick's points of a request. What is absent there is left to copick."""
    names = {"transform": "transformation_", "score": "score", "instance_id": "instance_id"}
    points = []
    for value in values:
        x, y, z = value["location"]
        optional = {names[name]: value[name] for name in names if name in value}
        points.append(CopickPoint(location=CopickLocation(x=x, y=y, z=z), **optional))
    return points


def from_points(points: Iterable[CopickPoint]) -> list[dict[str, Any]]:
    """The points of a response."""
    return [
        {
            "location": [point.location.x, point.location.y, point.location.z],
            "transform": point.transformation_,
            "score": point.score,
            "instance_id": point.instance_id,
        }
        for point in points
    ]


def to_mesh(value: Mapping[str, Any]) -> Any:
    """The mesh of a request, its vertices as they are: trimesh would merge them."""
    import trimesh  # takes longer than most cases, which have no meshes

    return trimesh.Trimesh(to_array(value["vertices"]), to_array(value["faces"]), process=False)


def from_mesh(mesh: Any) -> dict[str, Any]:
    """What a response says of a mesh of trimesh, the parts of a scene put together as one."""
    geometry = mesh.to_geometry() if hasattr(mesh, "to_geometry") else mesh
    return {
        "vertices": from_array(geometry.vertices.astype(np.float32)),
        "faces": from_array(geometry.faces.astype(np.uint32)),
    }
