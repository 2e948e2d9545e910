"""The operations of PROTOCOL.md on the roots of any copick backend, through copick's public API.

The adapters of copick's backends share this. They differ in how a project is opened, how its rows are read and what
exports it. Nothing here makes up for what a backend lacks: where the API fails, so does the operation.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import zarr

from conformance.adapters._entities import Key, found, key_of, listed, made
from conformance.adapters._values import from_array, from_mesh, from_points, to_array, to_mesh, to_points

# The adapter has a method `list`, which in its class hides the type.
Objects: TypeAlias = "list[dict[str, Any]]"
Splits: TypeAlias = "dict[str, list[str]]"

_DENSITY_MAP_VOXEL_SIZE = 10.0


class _CallersError(Exception):
    """What ends the body of a batch that is to fail."""


class CopickAdapter:
    """An adapter around a backend of copick; a method is the operation of its name.

    Attributes:
        imports: Modules that copick imports when it needs them, which takes longer than most cases.
    """

    imports = ("mlcroissant", "trimesh", "copick.impl.cryoet_data_portal")
    capabilities: ClassVar = """
        read volumes meshes portal config http write batch merge overlay export append portal_source
    """.split()

    def __init__(self) -> None:
        self._projects: dict[str, Any] = {}
        self._batches: dict[str, list[ExitStack]] = {}

    # --- reading -----------------------------------------------------------------------------------------

    def list(self, kind: str, run: str | None = None, root: str = "main") -> Objects:
        return [key_of(kind, entity) for entity in listed(self._projects[root], kind, run)]

    def run(self, name: str, root: str = "main") -> bool:
        return self._projects[root].get_run(name) is not None

    def locate(self, kind: str, key: Key, root: str = "main") -> str:
        return _place(found(self._projects[root], kind, key))

    def read(self, kind: str, key: Key, root: str = "main") -> dict[str, Any] | None:
        entity = found(self._projects[root], kind, key)
        if kind == "picks":
            points = from_points(entity.points)  # reads the file, and with it the voxel size
            return {"points": points, "voxel_size": entity.meta.voxel_spacing}
        if kind == "meshes":
            return from_mesh(entity.mesh)
        array = entity.numpy()
        return None if array is None else from_array(array)

    def config(self, root: str = "main") -> dict[str, Any]:
        config = self._projects[root].config
        names = ("name", "description", "version", "user_id", "session_id")
        return {
            **{name: getattr(config, name) for name in names},
            "pickable_objects": [definition.model_dump(mode="json") for definition in config.pickable_objects],
        }

    def splits(self, root: str = "main") -> Splits:
        splits: Splits = self._projects[root].splits
        return splits

    # --- writing -----------------------------------------------------------------------------------------

    def create(self, kind: str, key: Key, data: Mapping[str, Any] | None = None, root: str = "main") -> None:
        entity = made(self._projects[root], kind, key)
        if data is not None:
            _write(kind, entity, data)

    def store(self, kind: str, key: Key, data: Mapping[str, Any], root: str = "main") -> None:
        _write(kind, found(self._projects[root], kind, key), data)

    def delete(self, kind: str, key: Key, root: str = "main") -> None:
        entity = found(self._projects[root], kind, key)
        if kind == "runs":
            self._projects[root].delete_run(entity.name)
        else:
            entity.delete()

    def set_split(self, run: str, split: str | None, root: str = "main") -> None:
        found(self._projects[root], "runs", {"name": run}).split = split

    def set_splits(self, mapping: Mapping[str, Any], clear_existing: bool = False, root: str = "main") -> None:
        self._projects[root].set_splits(mapping, clear_existing=clear_existing)

    def clear_splits(self, runs: Iterable[str] | None = None, root: str = "main") -> None:
        self._projects[root].clear_splits(runs)

    def define_object(self, definition: Mapping[str, Any], root: str = "main") -> None:
        self._projects[root].new_object(**definition, exist_ok=True)

    def refresh(self, root: str = "main") -> None:
        self._projects[root].refresh()

    def begin(self, root: str = "main") -> None:
        batch = ExitStack()
        batch.enter_context(self._projects[root].batch())
        self._batches.setdefault(root, []).append(batch)

    def end(self, fail: bool = False, root: str = "main") -> None:
        with suppress(_CallersError), self._batches[root].pop():
            if fail:
                raise _CallersError


def answer_for_the_portal(source: str, records: str) -> None:
    """Have copick take records for what the portal answered to the project of a configuration, when that is opened.

    copick keeps the portal's answers, of which this is one that is never too old.
    """
    # They import much, and each case is a process of its own.
    from copick.impl.cryoet_data_portal import CopickConfigCDP
    from copick.util import portal_cache

    os.environ["COPICK_PORTAL_CACHE_DIR"] = os.path.abspath("scratch/portal-cache")
    os.environ["COPICK_PORTAL_CACHE_TTL"] = "0"
    config = CopickConfigCDP(**json.loads(Path(source).read_bytes()))
    answers = json.loads(Path(records).read_bytes())
    portal_cache.get_or_fetch(
        portal_cache.fingerprint_for_config(config),
        config.dataset_ids,
        portal_cache.settings_from_config(config),
        fetch_fn=lambda: answers,
        force=True,
    )


def _place(entity: Any) -> str:
    """Where the data of an artifact is: `path` in `fs`, or of some classes what an overlay or published one has."""
    side = "static" if entity.read_only else "overlay"
    fs = getattr(entity, "fs", None) or getattr(entity, f"fs_{side}")
    path = getattr(entity, "path", None) or getattr(entity, f"{side}_path")
    url: str = fs.unstrip_protocol(path)
    return url.removeprefix("file://")


def _write(kind: str, entity: Any, data: Mapping[str, Any]) -> None:
    """Store data as that of an artifact."""
    match kind:
        case "picks":
            if "voxel_size" in data:
                entity.meta.voxel_spacing = data["voxel_size"]
            entity.points = to_points(data["points"])
            entity.store()
        case "meshes":
            entity.mesh = to_mesh(data)
            entity.store()
        case "features":
            _write_features(entity, data)
        case "objects":
            array = to_array(data)
            entity.from_numpy(array, _DENSITY_MAP_VOXEL_SIZE, dtype=array.dtype)
        case _:
            array = to_array(data)
            entity.from_numpy(array, levels=1, dtype=array.dtype)


def _write_features(features: Any, data: Mapping[str, Any]) -> None:
    """Store a feature map, for which copick has no `from_numpy`: the array `0` of its store, in one chunk."""
    array = to_array(data)
    group = zarr.open_group(features.zarr())
    old = group.get("0")
    if old is not None and (old.shape, old.dtype) == (array.shape, array.dtype):
        features.set_region(array, slices=(slice(None),) * array.ndim)
    else:
        group.create_dataset("0", data=array, chunks=array.shape, dimension_separator="/", overwrite=True)
