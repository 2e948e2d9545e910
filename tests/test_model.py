"""Random sequences of everything one can do to a project, in both modes, against the plain dictionaries of model.py.

Two roots work on one project. After each step what they list, what a root lists that was just opened, and
what is on the disk, has to be what the oracle says. For a longer run, with other sequences each time:

    python -m pytest --hypothesis-profile=long tests/test_model.py
"""

from __future__ import annotations

import csv
import hashlib
import json
import pickle
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import copick
import numpy as np
import pytest
import trimesh
import zarr
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from copick_mlc import CopickRootMLC, CroissantError, export_croissant, from_croissant
from copick_mlc.errors import CroissantWarning, MissingError
from tests.model import (
    CONTAINERS,
    SEGMENTATIONS,
    VOLUMES,
    Key,
    Storage,
    View,
    below,
    cleaned,
    is_misread,
    is_segment,
    parents,
    path_of,
    within,
)
from tests.model_settings import chosen_settings
from tests.projects import tree

SHAPE = (2, 3, 4)
ROTATIONS = [
    np.eye(4),
    np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    np.array([[1.0, 0, 0, 2.5], [0, 0, -1, -1], [0, 1, 0, 0.125], [0, 0, 0, 1]]),
]
WITH_DATA = ("tomogram", "features", "picks", "mesh", *SEGMENTATIONS, "map")

# --- what is asked for ------------------------------------------------------------------------------------

_PLAIN = ["a", "b"]
_NASTY = ["007", "1e5", "NA", "true", "a,b", '"q"', "Größe µ", "two words", "x_y", "*"]
_IMPOSSIBLE = ["", ".", "..", "a/b", ".hidden"]


def _names(*plain: str) -> st.SearchStrategy[str]:
    """Mostly a few, so that they collide."""
    likely = st.sampled_from([*plain, *_PLAIN])
    return st.one_of([likely] * 8 + [st.sampled_from(_NASTY)] * 2 + [st.sampled_from(_IMPOSSIBLE)])


RUNS = _names("TS_1", "TS_10")
TYPES = _names("wbp", "features")
IDS = _names("0", "demo")
OBJECTS = _names("ribosome", "ribosome", "membrane", "a-multilabel")
SIZES = st.sampled_from([10.0, 10.0, 10.0004, 7.84, 5, 0.0004])
SPLITS = st.sampled_from(["train", "val", "NA", "1", "a,b", "Größe µ"])
NUMBERS = st.integers(0, 1000)
SEEDS = st.integers(0, 99)
WHO = st.sampled_from([0, 0, 0, 1])
POINTS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.5, -3.25, 1e5, 1 / 3]),
        st.sampled_from(range(len(ROTATIONS))),
        st.sampled_from([1.0, 0.0, 0.1, -2.5]),
        st.sampled_from([0, 1, 70000]),
    ),
    max_size=3,
)


class Content(NamedTuple):
    """What may be written to an artifact of any kind."""

    seed: int
    points: list[tuple[float, int, float, int]]
    voxel_size: float | None
    extents: list[float]


CONTENTS = st.builds(
    Content,
    SEEDS,
    POINTS,
    st.sampled_from([None, 10.0, 7.84]),
    st.sampled_from([[1.0, 2.0, 3.0], [1.0, 1.0, 0.5]]),
)


class Points(NamedTuple):
    """The contents of picks."""

    voxel_size: float | None = None
    points: tuple[tuple[float, int, float, int], ...] = ()


def array_of(kind: str, seed: int) -> Any:
    """The contents of a volume that was made with `seed`."""
    numbers = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    if kind in ("tomogram", "features", "map"):
        return (numbers + seed).astype(np.float32)
    labels = (numbers + seed) % {"binary": 2, "multilabel": 3}.get(kind, 7)
    return np.stack([(labels > 0).astype(int), labels]) if kind == "panoptic" else labels


# --- what is found ----------------------------------------------------------------------------------------


def key_of(item: Any, kind: str) -> Key:
    """The key of a picks, mesh or segmentation that a root lists."""
    if kind in ("picks", "mesh"):
        return kind, item.run.name, item.user_id, item.session_id, item.pickable_object_name
    return kind, item.run.name, f"{item.voxel_size:.3f}", item.user_id, item.session_id, item.name


def entities(root: CopickRootMLC) -> Iterator[tuple[Key, Any]]:
    """Everything that a root lists."""
    for item in root.pickable_objects:
        yield ("object", item.name), item
        if item.has_density_map:
            yield ("map", item.name), item
    for run in root.runs:
        yield ("run", run.name), run
        for spacing in run.voxel_spacings:
            size = f"{spacing.voxel_size:.3f}"
            yield ("spacing", run.name, size), spacing
            for tomogram in spacing.tomograms:
                yield ("tomogram", run.name, size, tomogram.tomo_type), tomogram
                for features in tomogram.features:
                    yield ("features", run.name, size, features.tomo_type, features.feature_type), features
        for picks in run.picks:
            yield key_of(picks, "picks"), picks
        for mesh in run.meshes:
            yield key_of(mesh, "mesh"), mesh
        for segmentation in run.segmentations:
            yield key_of(segmentation, segmentation.segmentation_type), segmentation


def listed(root: CopickRootMLC) -> dict[Key, Any]:
    """Everything that a root lists, with what it says of it at first sight."""
    found: dict[Key, Any] = {}
    for key, item in entities(root):
        assert key not in found, f"{key} is listed twice"
        if key[0] == "object":
            found[key] = item.meta.model_dump(mode="json")
        elif key[0] == "run":
            found[key] = item.split
        elif key[0] == "spacing":
            found[key] = None
        else:
            found[key] = item.read_only
    return found


def content_of(kind: str, item: Any) -> Any:
    """The contents of what a root lists, as values that compare."""
    if kind == "picks":
        points = item.points
        return item.meta.voxel_spacing, [
            ([p.location.x, p.location.y, p.location.z], p.transformation.tolist(), p.score, p.instance_id)
            for p in points
        ]
    if kind == "mesh":
        return None if item.mesh.bounds is None else item.mesh.extents.tolist()
    try:
        return item.numpy().tolist()
    except MissingError:  # nothing was written to it yet
        return None


def expected_content(kind: str, content: Any, row_size: str | None) -> Any:
    """The contents that the oracle has, as `content_of` gives them."""
    if kind == "picks":
        size = content.voxel_size if content.voxel_size is not None or row_size is None else float(row_size)
        return size, [([x, x + 1, -x], ROTATIONS[turn].tolist(), score, i) for x, turn, score, i in content.points]
    if kind == "mesh" or content is None:
        return content
    return array_of(kind, content).tolist()


TABLES: dict[str, Callable[[dict[str, str]], Key]] = {
    "runs": lambda row: ("run", row["name"]),
    "voxel_spacings": lambda row: ("spacing", *_taken(row, "run", "voxel_size")),
    "tomograms": lambda row: ("tomogram", *_taken(row, "run", "voxel_size", "tomo_type")),
    "features": lambda row: ("features", *_taken(row, "run", "voxel_size", "tomo_type", "feature_type")),
    "picks": lambda row: ("picks", *_taken(row, "run", "user_id", "session_id", "object_name")),
    "meshes": lambda row: ("mesh", *_taken(row, "run", "user_id", "session_id", "object_name")),
    "segmentations": lambda row: (
        {"true": "multilabel", "false": "binary"}[row["is_multilabel"]],
        *_taken(row, "run", "voxel_size", "user_id", "session_id", "name"),
    ),
    "instance_segmentations": lambda row: (
        "instance",
        *_taken(row, "run", "voxel_size", "user_id", "session_id", "name"),
    ),
    "panoptic_segmentations": lambda row: (
        "panoptic",
        *_taken(row, "run", "voxel_size", "user_id", "session_id", "name"),
    ),
    "objects": lambda row: ("map", row["name"]),
}
_CELLS = ("split", "sha256", "url")


def _taken(row: dict[str, str], *columns: str) -> list[str]:
    return [f"{float(row[column]):.3f}" if column == "voxel_size" else row[column] for column in columns]


def tables(directory: Path) -> dict[Key, dict[str, str]]:
    """The rows of the CSVs in a directory, each with its cells that are no part of the key."""
    found: dict[Key, dict[str, str]] = {}
    for name, key_of_row in TABLES.items():
        with (directory / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file, strict=True):
                key = key_of_row(row)
                assert key not in found
                cells = (*_CELLS, "voxel_size") if name == "picks" else _CELLS
                found[key] = {cell: row[cell] for cell in cells if row.get(cell)}
    return found


def data_in(directory: Path) -> set[str]:
    """The paths of all data below a directory, and of the directories of runs and voxel spacings."""
    found = {*directory.glob("Objects/*"), *directory.glob("ExperimentRuns/*")}
    found |= {*directory.glob("ExperimentRuns/*/VoxelSpacing*"), *directory.glob("ExperimentRuns/*/*/*")}
    return {str(path.relative_to(directory)) for path in found if path.name != ".meta"}


def is_artifact(path: str) -> bool:
    return path.startswith("Objects/") or path.count("/") == 3


def cells_of(key: Key, cells: dict[str, Any]) -> dict[str, str]:
    """The cells of a row, besides its key."""
    return cells if key[0] in CONTAINERS else {"url": path_of(key), **cells}


# --- one root and what it should have in mind -------------------------------------------------------------


class OopsError(Exception):
    """What goes wrong in the body of a batch."""


class Actor:
    """A root, and the oracle's view of it: each method does the same to both.

    Attributes:
        written: What was written since somebody last looked.
        is_hasty: Whether it does not read anew what others changed.
    """

    def __init__(self, storage: Storage, directory: Path, overlay: Path | None = None) -> None:
        self.storage, self.directory, self.overlay = storage, directory, overlay
        self.view = View(storage)
        self.root = self.opened()
        self.batches: list[AbstractContextManager[Any]] = []
        self.written: set[Key] = set()
        self.is_hasty = False

    def opened(self) -> CopickRootMLC:
        return from_croissant(self.directory / "Croissant" / "metadata.json", overlay_root=self.overlay)

    @property
    def data_directory(self) -> Path:
        return self.directory if self.overlay is None else self.overlay

    def entity(self, key: Key) -> Any:
        """What the root gives for a key, asked for as people ask."""
        kind, *names = key
        if kind in ("object", "map"):
            return self.root.get_object(names[0])
        run = self.root.get_run(names[0])
        assert run is not None, key
        if kind == "run":
            return run
        if kind in ("spacing", "tomogram", "features"):
            found: Any = run.get_voxel_spacing(float(names[1]))
            if kind != "spacing":
                (found,) = found.get_tomograms(names[2])
            return found.get_features(names[3]) if kind == "features" else found
        if kind == "picks":
            (found,) = run.get_picks(user_id=names[1], session_id=names[2], object_name=names[3])
        elif kind == "mesh":
            (found,) = run.get_meshes(user_id=names[1], session_id=names[2], object_name=names[3])
        else:
            flags = {"is_instance": None, "is_panoptic": None}
            found = run.get_segmentations(names[2], names[3], None, names[4], float(names[1]), **flags)
            (found,) = [item for item in found if item.segmentation_type == kind]
        return found

    def attempt(self, code: str | None, call: Callable[[], Any]) -> Any:
        """Call, and see that it fails with a code if it should. Of names that copick cleans it says so."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"(?s)Input .* contains invalid characters", UserWarning)
            if code is None:
                return call()
            with pytest.raises(CroissantError) as raised:
                call()
        assert raised.value.code == code, raised.value
        return None

    def is_ready(self, key: Key, *, of: str | None = None) -> bool:
        """Read anew what others changed of it, or of its object; whether it can then be changed as was meant.

        Reading anew commits, and with that it, or what it is in, may be gone.
        """
        known = key in self.view.rows()
        if self.is_hasty:
            return True
        if self.view.is_stale(key) or (of is not None and self.view.is_stale(("object", of))):
            self.refresh()
        rows = self.view.rows()
        return known == (key in rows) and all(parent in rows for parent in parents(key))

    def place_problem(self, key: Key) -> str | None:
        """The code for names that cannot be in a path, or that an overlay would not list, or as something else."""
        if not all(is_segment(name) for name in key):
            return "name-invalid"
        return "name-invalid" if not self.storage.indexed and is_misread(key) else None

    def annotation_problem(self, key: Key, *, exist_ok: bool, defined: bool = True) -> str | None:
        """The code for picks, a mesh or a segmentation that cannot be made, of cleaned names."""
        if not all(key) or (defined and ("object", key[-1]) not in self.view.rows()):
            return "refused"
        if key in self.view.rows():
            return None if exist_ok else "refused"
        return self.place_problem(key)

    # --- runs, voxel spacings, volumes -------------------------------------------------------------------

    def new_run(self, name: str, *, exist_ok: bool = False) -> None:
        key = ("run", name)
        if not self.is_ready(key):
            return
        known = key in self.view.rows()
        problem = self.place_problem(key)
        if known:
            problem = None if exist_ok else "exists"
        run = self.attempt(problem, lambda: self.root.new_run(name, exist_ok=exist_ok))
        if problem is None:
            assert run.name == name
            if not known:
                self.view.write(key, None)
                self.view.put(key, {})

    def new_spacing(self, run: str, size: float, *, exist_ok: bool = False) -> None:
        key = ("spacing", run, f"{size:.3f}")
        if not self.is_ready(key):
            return
        known = key in self.view.rows()
        if (known and not exist_ok) or float(key[2]) <= 0:
            problem: str | None = "refused"
        else:
            problem = None if known else self.place_problem(key)
        owner = self.entity(("run", run))
        spacing = self.attempt(problem, lambda: owner.new_voxel_spacing(size, exist_ok=exist_ok))
        if problem is None:
            assert f"{spacing.voxel_size:.3f}" == key[2]
            if not known:
                self.view.write(key, None)
                self.view.put(key, {})

    def new_part(self, kind: str, of: Key, name: str, *, exist_ok: bool = False) -> Key | None:
        """Make a tomogram of a voxel spacing, or features of a tomogram; its key, if there is one then."""
        key = (kind, *of[1:], cleaned(name))
        if not self.is_ready(key):
            return None
        known = key in self.view.rows()
        problem: str | None = None
        if not key[-1] or (known and not exist_ok):
            problem = "refused"
        elif not known:
            problem = self.place_problem(key)
        owner = self.entity(of)
        make = owner.new_tomogram if kind == "tomogram" else owner.new_features
        self.attempt(problem, lambda: make(name, exist_ok=exist_ok))
        if problem is None and not known:
            self.made_volume(key)
        return None if problem else key

    def made_volume(self, key: Key) -> None:
        """A new store keeps what somebody else has written to it and not committed."""
        self.view.write(key, None if self.is_gone(key) else self.storage.data[path_of(key)])
        self.view.put(key, {})
        self.written.add(key)

    def is_gone(self, key: Key) -> bool:
        """Whether nothing is where the data of `key` goes, or it goes away before something is written there."""
        path = path_of(key)
        return path not in self.storage.data or any(below(path, doomed) for doomed in self.view.doomed)

    def fill(self, key: Key, seed: int) -> None:
        """Write a whole volume."""
        kind = key[0]
        if not self.is_ready(key):
            return
        volume = self.entity(key)
        array = array_of(kind, seed)
        problem = "read-only" if self.storage.is_published(key) else None
        if kind == "features" and problem is None and path_of(key) not in self.storage.data:
            self.attempt("data-missing", volume.zarr)  # somebody else is about to commit that its row goes too
            return
        if kind == "features":
            if problem:
                self.attempt(problem, lambda: volume.set_region(array))
                return
            zarr.group(store=volume.zarr()).create_dataset("0", data=array, overwrite=True)
        elif kind == "tomogram":
            self.attempt(problem, lambda: volume.from_numpy(array, levels=1))
        else:
            self.attempt(problem, lambda: volume.from_numpy(array))
        if problem is None:
            self.view.write(key, seed)
            self.view.put(key, self.view.rows()[key])
            self.written.add(key)

    def overwrite(self, key: Key, content: Content) -> None:
        """Write new contents to any artifact but a density map."""
        if key[0] == "picks":
            self.store_picks(key, content.points, content.voxel_size)
        elif key[0] == "mesh":
            self.store_mesh(key, content.extents)
        else:
            self.fill(key, content.seed)

    # --- annotations -------------------------------------------------------------------------------------

    def new_file(
        self, kind: str, run: str, object_name: str, session: str, user: str | None, *, exist_ok: bool = False
    ) -> Key | None:
        """Make picks or a mesh; its key, if there is one then."""
        key = (kind, run, cleaned(user or ""), cleaned(session), cleaned(object_name))
        if not self.is_ready(key, of=key[-1]):
            return None
        known = key in self.view.rows()
        problem = self.annotation_problem(key, exist_ok=exist_ok)
        owner = self.entity(("run", run))
        make = owner.new_picks if kind == "picks" else owner.new_mesh
        made = self.attempt(problem, lambda: make(object_name, session, user, exist_ok=exist_ok))
        if problem is not None:
            return None
        assert key_of(made, kind) == key
        if not known:
            self.stored(key, Points() if kind == "picks" else None)
        return key

    def stored(self, key: Key, content: Any) -> None:
        """A file was written, and its row says what it is."""
        self.view.write(key, content)
        data = (self.data_directory / path_of(key)).read_bytes()
        self.storage.checksums[path_of(key)] = checksum = hashlib.sha256(data).hexdigest()
        cells = {"sha256": checksum}
        if key[0] == "picks" and content.voxel_size is not None:
            cells["voxel_size"] = str(content.voxel_size)
        self.view.put(key, cells)
        self.written.add(key)

    def store_picks(self, key: Key, points: list[tuple[float, int, float, int]], size: float | None) -> None:
        if not self.is_ready(key):
            return
        picks = self.entity(key)
        if self.storage.is_published(key):
            self.attempt("read-only", lambda: picks.from_numpy(np.zeros((1, 3))))
            return
        xs, turns, scores, ids = (list(column) for column in zip(*points, strict=True)) if points else ([], [], [], [])
        positions = np.array([[x, x + 1, -x] for x in xs]).reshape(-1, 3)
        transforms = np.array([ROTATIONS[turn] for turn in turns]).reshape(-1, 4, 4)
        row_size = self.view.rows()[key].get("voxel_size", "None")
        old = self.storage.data.get(path_of(key), Points()).voxel_size
        if size is None and self.storage.indexed and (self.is_hasty or str(old) != row_size):
            size = 3.5  # two wrote it at once, and file and row do not agree on the old one
        if size is not None:
            picks.meta.voxel_spacing = size
        picks.from_numpy(positions, transforms, np.array(ids, int), np.array(scores, float))
        self.stored(key, Points(old if size is None else size, tuple(points)))

    def store_mesh(self, key: Key, extents: list[float]) -> None:
        if not self.is_ready(key):
            return
        mesh = self.entity(key)
        mesh.mesh = trimesh.creation.box(extents)
        if self.storage.is_published(key):
            self.attempt("read-only", mesh.store)
            self.root.refresh()  # the mesh that was set is not what is there
            self.refreshed()
        else:
            mesh.store()
            self.stored(key, extents)

    def new_segmentation(
        self, kind: str, run: str, size: float, name: str, session: str, user: str | None, *, exist_ok: bool = False
    ) -> Key | None:
        key = (kind, run, f"{size:.3f}", cleaned(user or ""), cleaned(session), cleaned(name))
        if not self.is_ready(key, of=key[-1]):
            return None
        if self.storage.indexed and self.storage.shares_path(key):
            return None  # the two have one content
        known = key in self.view.rows()
        problem = self.annotation_problem(key, exist_ok=exist_ok, defined=kind in ("binary", "instance"))
        flags = {f"is_{kind}": True} if kind != "binary" else {}
        owner = self.entity(("run", run))
        make: Any = owner.new_segmentation
        made = self.attempt(problem, lambda: make(size, name, session, user_id=user, exist_ok=exist_ok, **flags))
        if problem is not None:
            return None
        assert key_of(made, kind) == key
        if not known:
            self.made_volume(key)
        return key

    # --- objects -----------------------------------------------------------------------------------------

    def new_object(
        self, name: str, *, is_particle: bool, label: int | None, radius: float | None, exist_ok: bool = False
    ) -> None:
        if any(key[0] == "object" for key in self.view.foreign):
            self.refresh()
        key = ("object", name)
        rows = self.view.rows()
        old = rows.get(key)
        labels = [cells["label"] for other, cells in rows.items() if other[0] == "object"]
        problem: str | None
        if name in (".", ".."):
            problem = "name-invalid"  # no place could be named after it
        elif cleaned(name) != name or not name or label == 0:
            problem = "refused"
        elif old is not None:
            problem = None if exist_ok else "refused"
        else:
            problem = "refused" if label in labels else None
        self.attempt(
            problem,
            lambda: self.root.new_object(name, is_particle, label, radius=radius, exist_ok=exist_ok),
        )
        if problem is not None:
            return
        if old is None:
            old = dict.fromkeys(("emdb_id", "pdb_id", "identifier", "map_threshold", "radius"))
            old |= {"name": name, "label": max(labels) + 1, "color": [100, 100, 100, 255], "metadata": {}}
        new = {**old, "is_particle": is_particle, "label": label or old["label"], "radius": radius or old["radius"]}
        if self.storage.indexed:
            self.view.put(key, new)
        else:
            self.view.own[key] = new

    def write_map(self, name: str, seed: int) -> None:
        key = ("map", name)
        if not self.is_ready(key, of=name):
            return
        problem: str | None = None
        if not self.view.rows()["object", name]["is_particle"]:
            problem = "option-invalid"
        else:
            problem = "read-only" if self.storage.is_published(key) else self.place_problem(key)
        item = self.entity(key)
        self.attempt(problem, lambda: item.from_numpy(array_of("map", seed), 10.0))
        if problem is None:
            self.view.write(key, seed)
            self.view.put(key, {})
            self.written.add(key)

    # --- deleting ----------------------------------------------------------------------------------------

    def going(self, key: Key) -> list[Key]:
        """What goes with a thing. In an overlay, published features stay with a tomogram."""
        keys = [other for other in self.view.rows() if within(other, key)]
        return keys if self.storage.indexed else [other for other in keys if other in self.storage.rows]

    def delete_problem(self, key: Key) -> str | None:
        if key[0] in CONTAINERS:
            return "read-only" if key in self.storage.published else None
        return "read-only" if self.storage.is_published(key) else None

    def delete(self, key: Key) -> None:
        if not self.is_ready(key):
            return
        problem = self.delete_problem(key)
        item = self.entity(key)
        remove = item.delete if key[0] != "run" else lambda: self.root.delete_run(key[1])
        self.attempt(problem, remove)
        if problem is None:
            self.view.remove(key, self.going(key))

    def delete_all(self, owner: Key, call: Callable[[Any], Any], wanted: list[Key]) -> None:
        """Delete several things at once, in one commit; none where one of them cannot be."""
        if not self.is_ready(owner):
            return
        wanted = [key for key in wanted if key in self.view.rows()]
        problem = next(filter(None, map(self.delete_problem, wanted)), None)
        item = self.entity(owner)
        self.attempt(problem, lambda: call(item))
        if problem is None:
            with self.one_commit():
                for key in wanted:
                    self.view.remove(key, self.going(key))

    @contextmanager
    def one_commit(self) -> Iterator[None]:
        self.view.depth += 1
        yield
        self.view.depth -= 1
        if self.view.depth == 0:
            self.view.commit()

    # --- splits ------------------------------------------------------------------------------------------

    def assign(self, wanted: dict[str, str | None], call: Callable[[], Any]) -> None:
        """Change splits, all or none."""
        keys = [("run", name) for name in wanted]
        if not all(map(self.is_ready, keys)):
            return
        if not self.storage.indexed:
            problem: str | None = "read-only"
        else:
            problem = None if all(key in self.view.rows() for key in keys) else "run-unknown"
        self.attempt(problem, call)
        if problem is None:
            with self.one_commit():
                for name, split in wanted.items():
                    self.view.put(("run", name), {"split": split} if split else {})

    # --- batches and reading anew ------------------------------------------------------------------------

    def open_batch(self, *, of_index: bool) -> None:
        batch = self.root.index.batch() if of_index else self.root.batch()
        batch.__enter__()
        self.batches.append(batch)
        self.view.depth += 1

    def close_batch(self, *, fails: bool) -> None:
        batch = self.batches.pop()
        error = OopsError()
        if fails:
            assert batch.__exit__(OopsError, error, None) is not True
        else:
            batch.__exit__(None, None, None)
        self.view.depth -= 1
        if self.view.depth == 0:
            self.view.commit()

    def commit(self) -> None:
        self.root.sync()
        self.view.commit()

    def refresh(self) -> None:
        self.root.refresh()
        self.refreshed()

    def refreshed(self) -> None:
        self.view.commit()
        self.view.foreign.clear()

    def reopen(self) -> None:
        self.root = self.opened()
        self.refreshed()
        self.view.own.clear()

    def repickle(self) -> None:
        self.root = pickle.loads(pickle.dumps(self.root))
        self.refreshed()

    # --- looking -----------------------------------------------------------------------------------------

    def check(self) -> None:
        """What the root lists is what it should have in mind, and what was just written reads as it was written."""
        expected = self.first_sight(self.view.rows())
        found = listed(self.root)
        for key in self.view.foreign:  # of this it may show the old or the new
            expected.pop(key, None)
            found.pop(key, None)
        assert found == expected
        self.check_contents(self.root, self.view, self.written - self.view.foreign)

    def first_sight(self, rows: dict[Key, Any]) -> dict[Key, Any]:
        found: dict[Key, Any] = {}
        for key, cells in rows.items():
            if key[0] == "run":
                found[key] = cells.get("split")
            elif key[0] == "spacing":
                found[key] = None
            elif key[0] == "object":
                found[key] = cells
            elif key[0] != "map" or ("object", key[1]) in rows:
                found[key] = self.storage.is_published(key)
        return found

    def check_contents(self, root: CopickRootMLC, view: View | None, keys: set[Key]) -> None:
        rows = view.rows() if view else self.storage.all_rows()
        wanted = keys & rows.keys()
        if not wanted:
            return
        items = dict(entities(root))
        for key in wanted:
            kind = key[0]
            if kind == "map" and not rows.get(("object", key[1]), {}).get("is_particle"):
                continue  # there is no object here that could have it
            content = self.storage.content(key)
            found = content_of(kind, items[key])
            assert found == expected_content(kind, content, rows[key].get("voxel_size")), key


# --- the machines -----------------------------------------------------------------------------------------


class Template(NamedTuple):
    """A project to begin with, in Mode B with an overlay."""

    project: Path
    storage: Storage
    overlay: Path | None = None


class Projects(RuleBasedStateMachine):
    """Two roots on one project.

    Attributes:
        project: The directory of the project, a copy of the template.
    """

    def __init__(self, template: Template, directory: Path) -> None:
        super().__init__()
        self.parent = Path(tempfile.mkdtemp(dir=directory))
        self.project = self.parent / "project"
        shutil.copytree(template.project, self.project)
        self.storage = template.storage.copy()
        overlay: Path | None = None
        if template.overlay is not None:
            overlay = self.parent / "overlay"
            shutil.copytree(template.overlay, overlay)
        self.before = tree(self.project)
        self.actors = [Actor(self.storage, self.project, overlay) for _ in range(2)]

    def teardown(self) -> None:
        self.without_batches()
        if sys.exc_info()[0] is None:  # nothing has failed before
            self.everything_is_kept()
        shutil.rmtree(self.parent)

    def everything_is_kept(self) -> None:
        """What everybody finds in the end, down to the contents."""
        for actor in self.actors:
            actor.refresh()
        self.everybody_sees_what_is_there()
        self.storage_is_as_said()
        everything = {key for key in self.storage.all_rows() if key[0] in WITH_DATA}
        self.actors[0].check_contents(self.actors[0].opened(), None, everything)

    def chosen(self, who: int, number: int, *kinds: str) -> tuple[Actor, Key | None]:
        """A root, and one of the things of these kinds that it should list."""
        actor = self.actors[who]
        keys = actor.view.keys(*kinds)
        return actor, keys[number % len(keys)] if keys else None

    # --- making ------------------------------------------------------------------------------------------

    @rule(who=WHO, name=RUNS, exist_ok=st.booleans())
    def new_run(self, who: int, name: str, exist_ok: bool) -> None:
        self.actors[who].new_run(name, exist_ok=exist_ok)

    @rule(who=WHO, number=NUMBERS, size=SIZES, exist_ok=st.booleans())
    def new_voxel_spacing(self, who: int, number: int, size: float, exist_ok: bool) -> None:
        actor, run = self.chosen(who, number, "run")
        if run:
            actor.new_spacing(run[1], size, exist_ok=exist_ok)

    @rule(
        who=WHO,
        number=NUMBERS,
        kind=st.sampled_from(["tomogram", "features"]),
        name=TYPES,
        exist_ok=st.booleans(),
        seed=SEEDS | st.none(),
    )
    def new_volume(self, who: int, number: int, kind: str, name: str, exist_ok: bool, seed: int | None) -> None:
        actor, owner = self.chosen(who, number, "spacing" if kind == "tomogram" else "tomogram")
        made = actor.new_part(kind, owner, name, exist_ok=exist_ok) if owner else None
        if made and seed is not None:
            actor.fill(made, seed)

    @rule(
        who=WHO,
        number=NUMBERS,
        kind=st.sampled_from(["picks", "picks", "mesh", *SEGMENTATIONS]),
        names=st.tuples(OBJECTS, IDS, st.one_of([IDS] * 6 + [st.none()])),
        size=SIZES.filter(lambda size: size > 0.001),
        exist_ok=st.booleans(),
        write=st.booleans(),
        content=CONTENTS,
    )
    def new_annotation(
        self,
        who: int,
        number: int,
        kind: str,
        names: tuple[str, str, str | None],
        size: float,
        exist_ok: bool,
        write: bool,
        content: Content,
    ) -> None:
        actor, run = self.chosen(who, number, "run")
        if run is None:
            return
        if kind in SEGMENTATIONS:
            made = actor.new_segmentation(kind, run[1], size, *names, exist_ok=exist_ok)
        else:
            made = actor.new_file(kind, run[1], *names, exist_ok=exist_ok)
        if made and write:
            actor.overwrite(made, content)

    @rule(who=WHO, number=NUMBERS, kind=st.sampled_from(["picks", "mesh", "volume"]), content=CONTENTS)
    def overwrite(self, who: int, number: int, kind: str, content: Content) -> None:
        actor, key = self.chosen(who, number, *(VOLUMES if kind == "volume" else (kind,)))
        if key:
            actor.overwrite(key, content)

    @rule(
        who=WHO,
        name=OBJECTS,
        is_particle=st.booleans(),
        label=st.sampled_from([None, None, 0, 1, 7]),
        radius=st.sampled_from([None, 45.5]),
        exist_ok=st.booleans(),
    )
    def new_object(
        self, who: int, name: str, is_particle: bool, label: int | None, radius: float | None, exist_ok: bool
    ) -> None:
        self.actors[who].new_object(name, is_particle=is_particle, label=label, radius=radius, exist_ok=exist_ok)

    @rule(who=WHO, number=NUMBERS, seed=SEEDS)
    def write_density_map(self, who: int, number: int, seed: int) -> None:
        actor, item = self.chosen(who, number, "object")
        if item:
            actor.write_map(item[1], seed)

    # --- deleting ----------------------------------------------------------------------------------------

    @rule(who=WHO, number=NUMBERS, kind=st.sampled_from(["run", "spacing", *WITH_DATA]))
    def delete(self, who: int, number: int, kind: str) -> None:
        actor, key = self.chosen(who, number, kind)
        if key:
            actor.delete(key)

    @rule(who=WHO, number=NUMBERS, kind=st.sampled_from(["picks", "mesh", "segmentations"]), of_user=st.booleans())
    def delete_annotations(self, who: int, number: int, kind: str, of_user: bool) -> None:
        kinds = tuple(SEGMENTATIONS) if kind == "segmentations" else (kind,)
        actor, key = self.chosen(who, number, *kinds)
        if key is None:
            return
        user = key[-3] if of_user else None
        run = ("run", key[1])
        wanted = [k for k in actor.view.keys(*kinds, within_key=run) if user in (None, k[-3])]
        calls: dict[str, Callable[[Any], Any]] = {
            "picks": lambda item: item.delete_picks(user_id=user),
            "mesh": lambda item: item.delete_meshes(user_id=user),
            "segmentations": lambda item: item.delete_segmentations(user_id=user, is_instance=None, is_panoptic=None),
        }
        actor.delete_all(run, calls[kind], wanted)

    @rule(who=WHO, number=NUMBERS, kind=st.sampled_from(["spacing", "tomogram", "features"]), one=st.booleans())
    def delete_volumes(self, who: int, number: int, kind: str, one: bool) -> None:
        of = {"spacing": "run", "tomogram": "spacing", "features": "tomogram"}[kind]
        actor, owner = self.chosen(who, number, of)
        wanted = actor.view.keys(kind, within_key=owner) if owner else []
        if not owner or not wanted:
            return
        if one and kind != "features":
            wanted = [wanted[number % len(wanted)]]
        name = wanted[0][-1] if one else None
        calls: dict[str, Callable[[Any], Any]] = {
            "spacing": lambda item: item.delete_voxel_spacings(None if name is None else float(name)),
            "tomogram": lambda item: item.delete_tomograms(name),
            "features": lambda item: item.delete_features(),
        }
        actor.delete_all(owner, calls[kind], wanted)

    # --- splits ------------------------------------------------------------------------------------------

    @rule(who=WHO, number=NUMBERS, split=SPLITS | st.none() | st.just(""), through=st.sampled_from(["run", "index"]))
    def set_split(self, who: int, number: int, split: str | None, through: str) -> None:
        actor, run = self.chosen(who, number, "run")
        if run is None:
            return
        name = run[1]
        if through == "index" and self.storage.indexed:
            actor.assign({name: split}, lambda: actor.root.index.set_split(name, split))
        else:
            actor.assign({name: split}, lambda: setattr(actor.entity(("run", name)), "split", split))

    @rule(who=WHO, names=st.lists(NUMBERS, max_size=3), unknown=st.booleans(), split=SPLITS, clear=st.booleans())
    def set_splits(self, who: int, names: list[int], unknown: bool, split: str, clear: bool) -> None:
        actor = self.actors[who]
        if any(key[0] == "run" for key in actor.view.foreign):
            actor.refresh()
        runs = [key[1] for key in actor.view.keys("run")]
        chosen = [*{runs[number % len(runs)]: None for number in names if runs}, *(["no such run"] if unknown else [])]
        wanted: dict[str, str | None] = dict.fromkeys(runs) if clear else {}
        mapping = {split: chosen[1:], f"{split} too": chosen[:1]}
        wanted |= {name: key for key, members in mapping.items() for name in members}
        actor.assign(wanted, lambda: actor.root.set_splits(mapping, clear_existing=clear))

    @rule(who=WHO, number=NUMBERS, one=st.booleans())
    def clear_splits(self, who: int, number: int, one: bool) -> None:
        actor = self.actors[who]
        if any(key[0] == "run" for key in actor.view.foreign):
            actor.refresh()
        runs = [key[1] for key in actor.view.keys("run")]
        chosen = [runs[number % len(runs)]] if one and runs else runs
        actor.assign(dict.fromkeys(chosen), lambda: actor.root.clear_splits(chosen if one else None))

    # --- batches and reading anew ------------------------------------------------------------------------

    @precondition(lambda self: any(len(actor.batches) < 3 for actor in self.actors))
    @rule(who=st.sampled_from([0, 1]), of_index=st.booleans())
    def open_batch(self, who: int, of_index: bool) -> None:
        if len(self.actors[who].batches) < 3:
            self.actors[who].open_batch(of_index=of_index)

    @precondition(lambda self: any(actor.batches for actor in self.actors))
    @rule(who=st.sampled_from([0, 1]), fails=st.booleans())
    def close_batch(self, who: int, fails: bool) -> None:
        actor = self.actors[who] if self.actors[who].batches else self.actors[1 - who]
        actor.close_batch(fails=fails)

    @rule(
        kind=st.sampled_from(["picks", "picks", "mesh", "mesh", "run", "map"]),
        number=NUMBERS,
        first=st.sampled_from(["write", "write", "delete"]),
        second=st.sampled_from(["write", "write", "delete"]),
        third=st.sampled_from([None, "write", "delete", "delete run"]),
        contents=st.tuples(CONTENTS, CONTENTS, CONTENTS),
    )
    def change_one_thing_at_once(
        self, kind: str, number: int, first: str, second: str, third: str | None, contents: tuple[Content, ...]
    ) -> None:
        """Two change one thing, and who commits last wins."""
        slow, quick = self.without_batches()
        _, key = self.chosen(0, number, kind)
        if key is None and kind in ("picks", "mesh"):
            _, run = self.chosen(0, number, "run")
            key = slow.new_file(kind, run[1], "ribosome", "0", "demo") if run else None
        if key is None or not all([slow.is_ready(key), quick.is_ready(key)]):
            return
        slow.open_batch(of_index=False)
        self.change(slow, key, first, contents[0])
        self.change(quick, key, second, contents[1])
        self.everybody_sees_what_is_there()
        # In an overlay there is no commit that sees what a root that is out of date does.
        if third and kind != "run" and self.storage.indexed:
            slow.is_hasty = True
            self.change(slow, key, third, contents[2])
            slow.is_hasty = False
        slow.close_batch(fails=False)

    @rule(kind=st.sampled_from(["run", "spacing", "tomogram"]), number=NUMBERS, content=CONTENTS)
    def add_to_what_goes(self, kind: str, number: int, content: Content) -> None:
        """One deletes something, and another adds to it before that is committed."""
        slow, quick = self.without_batches()
        _, key = self.chosen(0, number, kind)
        if key is None:
            return
        slow.open_batch(of_index=False)
        slow.delete(key)
        if kind == "run":
            made = quick.new_file("picks", key[1], "ribosome", "late", "demo")
            if made:
                quick.store_picks(made, content.points, content.voxel_size)
                quick.new_spacing(key[1], 12.0)
        else:
            part = quick.new_part("tomogram", key, "late") if kind == "spacing" else key
            made = quick.new_part("features", part, "late") if part else None
            if made:
                quick.fill(made, content.seed)
        self.everybody_sees_what_is_there()
        slow.close_batch(fails=False)

    def without_batches(self) -> list[Actor]:
        """The two roots, once all their batches are closed."""
        for actor in self.actors:
            while actor.batches:
                actor.close_batch(fails=False)
        return self.actors

    def change(self, actor: Actor, key: Key, how: str, content: Content) -> None:
        kind, name = key[:2]
        if key not in actor.view.rows():
            return
        if how == "delete run" and kind != "map":
            if ("run", name) in actor.view.rows():
                actor.delete(("run", name))
        elif kind == "run":
            split = f"split {content.seed % 2}" if how == "write" else None
            actor.assign(
                {name: split},
                lambda: (
                    actor.root.index.set_split(name, split) if self.storage.indexed else actor.root.clear_splits([name])
                ),
            )
        elif how != "write":
            actor.delete(key)
        elif kind == "map":
            actor.write_map(name, content.seed)
        else:
            actor.overwrite(key, content)

    @rule(who=WHO)
    def commit(self, who: int) -> None:
        self.actors[who].commit()

    @rule(who=WHO)
    def refresh(self, who: int) -> None:
        self.actors[who].refresh()

    @precondition(lambda self: not all(actor.batches for actor in self.actors))
    @rule(who=st.sampled_from([0, 1]), pickled=st.booleans())
    def reopen(self, who: int, pickled: bool) -> None:
        actor = self.actors[who]
        if not actor.batches:
            actor.repickle() if pickled else actor.reopen()

    # --- looking -----------------------------------------------------------------------------------------

    @invariant()
    def everybody_sees_what_is_there(self) -> None:
        for actor in self.actors:
            actor.check()
        actor = self.actors[0]
        fresh = actor.opened()
        expected = actor.first_sight(self.storage.all_rows())
        assert listed(fresh) == expected
        written = {key for each in self.actors for key in each.written}
        actor.check_contents(fresh, None, {key for key in written if not self.storage.unsettled(key)})
        for each in self.actors:
            each.written.clear()

    @invariant()
    def storage_is_as_said(self) -> None:
        found, expected = data_in(self.actors[0].data_directory), set(self.storage.data)
        assert {path for path in found if is_artifact(path)} == {path for path in expected if is_artifact(path)}
        if self.storage.indexed:
            assert found == expected, "directories of runs and voxel spacings come and go with their rows"
        else:
            assert found >= expected
            assert tree(self.project) == self.before, "what is published never changes"
            return
        self.manifest_and_tables()

    def manifest_and_tables(self) -> None:
        directory = self.project / "Croissant"
        assert {path.name for path in directory.iterdir()} == {"metadata.json", *(f"{name}.csv" for name in TABLES)}
        rows, unsettled = self.storage.rows, self.storage.unsettled
        expected = {key: cells_of(key, cells) for key, cells in rows.items() if key[0] != "object"}
        assert tables(directory) == expected
        artifacts = [key for key in expected if key[0] in WITH_DATA and not unsettled(key)]
        assert not [key for key in artifacts if path_of(key) not in self.storage.data]

        document = json.loads((directory / "metadata.json").read_bytes())
        declared = {item["contentUrl"]: item["sha256"] for item in document["distribution"]}
        assert declared == {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.glob("*.csv")
        }
        defined = {("object", item["name"]): item for item in document["copick:config"]["pickable_objects"]}
        assert defined == {key: cells for key, cells in rows.items() if key[0] == "object"}
        inline = [item["data"] for item in document["recordSet"] if item["@id"] == "copick/splits"]
        named = [entry["copick/splits/name"] for data in inline for entry in data]
        assert sorted(named) == sorted({cells["split"] for cells in expected.values() if "split" in cells})


@pytest.fixture(scope="module")
def new_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Template]:
    """A way to make a project with two objects and a run, all of whose rows came through the API."""

    def make() -> Template:
        directory = tmp_path_factory.mktemp("project")
        objects = [
            {"name": "ribosome", "is_particle": True, "label": 1},
            {"name": "membrane", "is_particle": False, "label": 2},
            {"name": "a-multilabel", "is_particle": False, "label": 3},
        ]
        config = {
            "config_type": "filesystem",
            "name": "model",
            "version": "1.0.0",
            "pickable_objects": objects,
            "overlay_root": f"local://{directory}",
        }
        (directory / "copick_config.json").write_text(json.dumps(config))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CroissantWarning)
            manifest = export_croissant(copick.from_file(str(directory / "copick_config.json")), str(directory))
        storage = Storage(indexed=True)
        for item in json.loads(Path(manifest).read_bytes())["copick:config"]["pickable_objects"]:
            storage.rows["object", item["name"]] = item
        actor = Actor(storage, directory)
        actor.new_run("a")
        actor.new_spacing("a", 10.0)
        storage.views.clear()
        return Template(directory, storage)

    return make


def one_of_each(actor: Actor, seed: int) -> None:
    """Write a thing of every kind; those with the same key have other contents for each seed."""
    tomogram = actor.new_part("tomogram", ("spacing", "a", "10.000"), "wbp")
    assert tomogram
    features = actor.new_part("features", tomogram, "edges")
    assert features
    volumes = [tomogram, features]
    for kind in SEGMENTATIONS:
        made = actor.new_segmentation(kind, "a", 10.0, "ribosome", "0", "demo")
        assert made
        volumes.append(made)
    for volume in volumes:
        actor.fill(volume, seed)
    picks = actor.new_file("picks", "a", "ribosome", "0", "demo")
    assert picks
    actor.store_picks(picks, [(float(seed), 1, 0.5, seed)], float(seed))
    mesh = actor.new_file("mesh", "a", "ribosome", "0", "demo")
    assert mesh
    actor.store_mesh(mesh, [1.0, 2.0, float(seed)])
    actor.write_map("ribosome", seed)


@pytest.fixture(scope="module")
def project(new_project: Callable[[], Template]) -> Template:
    """A project that is written to itself."""
    template = new_project()
    actor = Actor(template.storage, template.project)
    one_of_each(actor, 1)
    for name, split in {"b": "train", "007": "val"}.items():
        actor.new_run(name)
        actor.assign({name: split}, partial(actor.root.index.set_split, name, split))
    template.storage.views.clear()
    return template


@pytest.fixture(scope="module")
def overlaid(new_project: Callable[[], Template], tmp_path_factory: pytest.TempPathFactory) -> Template:
    """A published project, and an overlay that has something for each key that is published, and more."""
    directory, storage, _ = new_project()
    overlay = tmp_path_factory.mktemp("overlay")
    before = storage.overlaid()
    mine = Actor(before, directory, overlay)
    one_of_each(mine, 1)
    publisher = Actor(storage, directory)
    one_of_each(publisher, 2)
    publisher.new_run("b")
    publisher.assign({"b": "train"}, lambda: publisher.root.set_splits({"train": ["b"]}))
    publisher.new_file("picks", "a", "membrane", "0", "demo")
    published = storage.overlaid()
    published.rows, published.data = before.rows, before.data
    return Template(directory, published, overlay)


def run_machine(template: Template, directory: Path) -> None:
    def make() -> Projects:
        return Projects(template, directory)

    run_state_machine_as_test(make, settings=chosen_settings())  # type: ignore[arg-type]  # it takes any way to make one
    assert not list(directory.iterdir())


def test_a_project_that_is_written_to(project: Template, tmp_path: Path) -> None:
    run_machine(project, tmp_path)


def test_a_project_with_an_overlay(overlaid: Template, tmp_path: Path) -> None:
    run_machine(overlaid, tmp_path)
