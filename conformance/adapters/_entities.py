"""The entities of a copick project by kind and key: what lists, finds and makes them in copick's public API."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, TypeAlias

Key: TypeAlias = "Mapping[str, Any]"

_ANNOTATION = {
    "run": "run.name",
    "user_id": "user_id",
    "session_id": "session_id",
    "object_name": "pickable_object_name",
}
_SEGMENTATION = {
    "run": "run.name",
    "voxel_size": "voxel_size",
    "user_id": "user_id",
    "session_id": "session_id",
    "name": "name",
}

# The key columns of each kind, and the attributes of copick's entities that hold them.
_COLUMNS = {
    "runs": {"name": "name"},
    "voxel_spacings": {"run": "run.name", "voxel_size": "voxel_size"},
    "tomograms": {
        "run": "voxel_spacing.run.name",
        "voxel_size": "voxel_spacing.voxel_size",
        "tomo_type": "tomo_type",
    },
    "features": {
        "run": "tomogram.voxel_spacing.run.name",
        "voxel_size": "tomogram.voxel_spacing.voxel_size",
        "tomo_type": "tomo_type",
        "feature_type": "feature_type",
    },
    "picks": _ANNOTATION,
    "meshes": _ANNOTATION,
    "segmentations": {**_SEGMENTATION, "is_multilabel": "is_multilabel"},
    "instance_segmentations": _SEGMENTATION,
    "panoptic_segmentations": _SEGMENTATION,
    "objects": {"name": "name"},
}

KINDS = tuple(_COLUMNS)

# The flags by which copick tells the kinds of segmentations apart.
_FLAGS = {
    "segmentations": {"is_instance": False, "is_panoptic": False},
    "instance_segmentations": {"is_instance": True, "is_panoptic": False},
    "panoptic_segmentations": {"is_instance": False, "is_panoptic": True},
}


def key_of(kind: str, entity: Any) -> dict[str, Any]:
    """The key of an entity."""
    return {column: attrgetter(path)(entity) for column, path in _COLUMNS[kind].items()}


def listed(project: Any, kind: str, run: str | None) -> Any:
    """The entities of a kind in a run; runs and objects are the project's."""
    match kind:
        case "runs":
            return project.runs
        case "objects":
            return project.pickable_objects
    of = found(project, "runs", {"name": run})
    match kind:
        case "voxel_spacings":
            return of.voxel_spacings
        case "tomograms":
            return [tomogram for spacing in of.voxel_spacings for tomogram in spacing.tomograms]
        case "features":
            return [features for tomogram in listed(project, "tomograms", run) for features in tomogram.features]
        case "picks":
            return of.picks
        case "meshes":
            return of.meshes
    return of.get_segmentations(**_FLAGS[kind])


def found(project: Any, kind: str, key: Key) -> Any:
    """The entity with that key.

    Raises:
        ValueError: where copick finds none.
    """
    entity = next((entity for entity in _matching(project, kind, key) if entity is not None), None)
    if entity is None:
        raise ValueError(f"there is nothing in {kind} with the key {dict(key)}")
    return entity


def _matching(project: Any, kind: str, key: Key) -> Any:
    """What copick answers when asked for a key: entities, or None for none."""
    match kind:
        case "runs":
            return [project.get_run(key["name"])]
        case "objects":
            return [project.get_object(key["name"])]
        case "voxel_spacings":
            return [_run_of(project, key).get_voxel_spacing(_size(key))]
        case "tomograms":
            return found(project, "voxel_spacings", key).get_tomograms(key["tomo_type"])
        case "features":
            return [found(project, "tomograms", key).get_features(key["feature_type"])]
        case "picks":
            return _run_of(project, key).get_picks(key["object_name"], key["user_id"], key["session_id"])
        case "meshes":
            return _run_of(project, key).get_meshes(key["object_name"], key["user_id"], key["session_id"])
    return _run_of(project, key).get_segmentations(
        key["user_id"], key["session_id"], key.get("is_multilabel"), key["name"], _size(key), **_FLAGS[kind]
    )


def made(project: Any, kind: str, key: Key) -> Any:
    """A new entity with that key. What it is made in must be there."""
    match kind:
        case "runs":
            return project.new_run(key["name"])
        case "objects":
            raise ValueError("an object is defined; its density map is stored")
        case "voxel_spacings":
            return _run_of(project, key).new_voxel_spacing(_size(key))
        case "tomograms":
            return found(project, "voxel_spacings", key).new_tomogram(key["tomo_type"])
        case "features":
            return found(project, "tomograms", key).new_features(key["feature_type"])
        case "picks":
            return _run_of(project, key).new_picks(key["object_name"], key["session_id"], key["user_id"])
        case "meshes":
            return _run_of(project, key).new_mesh(key["object_name"], key["session_id"], key["user_id"])
    return _run_of(project, key).new_segmentation(
        _size(key),
        key["name"],
        key["session_id"],
        key.get("is_multilabel", False),
        key["user_id"],
        **_FLAGS[kind],
    )


def _run_of(project: Any, key: Key) -> Any:
    return found(project, "runs", {"name": key["run"]})


def _size(key: Key) -> float:
    return float(key["voxel_size"])
