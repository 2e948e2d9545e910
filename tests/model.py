"""A project as plain dictionaries: the oracle of tests/test_model.py. It shares no code with copick_mlc.

A key is a tuple: the kind of thing, then what names it. A `Storage` is what everybody finds, a `View` what one root
has in mind: the rows of the storage with its own changes on top.
"""

from __future__ import annotations

import re
from typing import Any

Key = tuple[str, ...]
#: The cells of a row that say more than its key and URL; of an object, its definition; of a run in a view, its split.
Cells = dict[str, Any]

SEGMENTATIONS = {
    "binary": ("Segmentations", ""),
    "multilabel": ("Segmentations", "-multilabel"),
    "instance": ("InstanceSegmentations", ""),
    "panoptic": ("PanopticSegmentations", ""),
}
VOLUMES = ("tomogram", "features", *SEGMENTATIONS)
CONTAINERS = ("run", "spacing")


def parents(key: Key) -> list[Key]:
    """All that a thing is in, or of."""
    kind, *names = key
    if kind in ("run", "object", "map"):
        return []
    run = ("run", names[0])
    if kind == "tomogram":
        return [run, ("spacing", *names[:2])]
    if kind == "features":
        return [run, ("spacing", *names[:2]), ("tomogram", *names[:3])]
    return [run]


def within(key: Key, whole: Key) -> bool:
    """Whether `key` is `whole`, or a part of it."""
    return key == whole or whole in parents(key)


def path_of(key: Key) -> str:
    """Where copick keeps the data, below the project or overlay; of a run or voxel spacing, its directory."""
    kind, *names = key
    if kind == "map":
        return f"Objects/{names[0]}.zarr"
    run = f"ExperimentRuns/{names[0]}"
    if kind == "run":
        return run
    if kind == "spacing":
        return f"{run}/VoxelSpacing{names[1]}"
    if kind == "tomogram":
        return f"{run}/VoxelSpacing{names[1]}/{names[2]}.zarr"
    if kind == "features":
        return f"{run}/VoxelSpacing{names[1]}/{names[2]}_{names[3]}_features.zarr"
    if kind == "picks":
        return f"{run}/Picks/{'_'.join(names[1:])}.json"
    if kind == "mesh":
        return f"{run}/Meshes/{'_'.join(names[1:])}.glb"
    directory, suffix = SEGMENTATIONS[kind]
    return f"{run}/{directory}/{'_'.join(names[1:])}{suffix}.zarr"


def below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory}/")


def cleaned(name: str) -> str:
    """What copick makes of a name that is to be part of a file name; nothing where it refuses it."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1F\x7F\s_]', "-", name).strip("-")


def is_segment(name: str) -> bool:
    """Whether a name can be one segment of a path."""
    return name not in ("", ".", "..") and not re.search(r"[/\\\x00-\x1f\x7f]", name)


def is_misread(key: Key) -> bool:
    """Whether an overlay would not list a thing with this key, or as something else, by the name of its file."""
    misread = {"tomogram": "features" in key[-1], "binary": key[-1].endswith("-multilabel")}
    return "/." in f"/{path_of(key)}" or misread.get(key[0], False)


class Storage:
    """What is on the disk.

    Attributes:
        indexed: Whether what is written has rows (Mode A), or lies in an overlay (Mode B).
        rows: What was written and committed.
        data: Contents by path: of what was written, also where its row is not committed yet.
        checksums: The sha256 of files, by path.
        published: In Mode B, the rows below the overlay, which stay as they are; and their contents.
    """

    def __init__(self, *, indexed: bool) -> None:
        self.indexed = indexed
        self.rows: dict[Key, Cells] = {}
        self.data: dict[str, Any] = {}
        self.checksums: dict[str, str] = {}
        self.published: dict[Key, Cells] = {}
        self.published_data: dict[str, Any] = {}
        self.views: list[View] = []

    def overlaid(self) -> Storage:
        """This project as published, with an empty overlay."""
        storage = Storage(indexed=False)
        storage.published, storage.published_data = dict(self.rows), dict(self.data)
        return storage

    def copy(self) -> Storage:
        storage = Storage(indexed=self.indexed)
        for name in ("rows", "data", "checksums", "published", "published_data"):
            setattr(storage, name, dict(getattr(self, name)))
        return storage

    def all_rows(self) -> dict[Key, Cells]:
        return {**self.published, **self.rows}

    def shares_path(self, key: Key) -> bool:
        """Whether another segmentation has the path of this one: binary `a-multilabel` has that of multilabel `a`."""
        keys = self.rows.keys() | {other for view in self.views for other in view.pending}
        return any(path_of(other) == path_of(key) for other in keys - {key} if other[0] in SEGMENTATIONS)

    def content(self, key: Key) -> Any:
        """The contents that somebody finds who opens the project."""
        return (self.published_data if self.is_published(key) else self.data)[path_of(key)]

    def is_published(self, key: Key) -> bool:
        """Whether a thing is published and nothing of the overlay stands for it, so that it cannot be changed."""
        return key in self.published and key not in self.rows

    def remove(self, path: str) -> None:
        for other in [other for other in self.data if below(other, path)]:
            del self.data[other]

    def unsettled(self, key: Key) -> bool:
        """Whether somebody's pending changes say something of `key`, so that its row and its data may not fit."""
        return any(key in view.pending or view.takes(key) for view in self.views)


class View:
    """What one root has in mind.

    Attributes:
        pending: The cells of rows that are put and not committed; None for a row that is removed.
        doomed: Paths whose data goes with the next commit.
        going: What was deleted since the last commit: what others add to it until the next goes too.
        foreign: What others changed since this root has last read everything: it may show the old or the new.
        own: In Mode B, the objects that this root has defined, which are written nowhere.
        depth: How many batches are open.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        storage.views.append(self)
        self.pending: dict[Key, Cells | None] = {}
        self.doomed: list[str] = []
        self.going: list[Key] = []
        self.foreign: set[Key] = set()
        self.own: dict[Key, Cells] = {}
        self.depth = 0

    @property
    def others(self) -> list[View]:
        return [view for view in self.storage.views if view is not self]

    def rows(self) -> dict[Key, Cells]:
        rows = {**self.storage.all_rows(), **self.own}
        for key, cells in self.pending.items():
            if cells is None:
                rows.pop(key, None)
            else:
                rows[key] = cells
        return rows

    def keys(self, *kinds: str, within_key: Key | None = None) -> list[Key]:
        """The keys of these kinds, sorted; with `within_key`, those that are part of it."""
        keys = (key for key in self.rows() if key[0] in kinds)
        return sorted(key for key in keys if within_key is None or within(key, within_key))

    # --- changes -----------------------------------------------------------------------------------------

    def write(self, key: Key, content: Any) -> None:
        """Keep data, after any removal that waits for what lies there."""
        path = path_of(key)
        for doomed in [doomed for doomed in self.doomed if below(path, doomed) or below(doomed, path)]:
            self.storage.remove(doomed)
            self.doomed.remove(doomed)
        self.storage.data[path] = content
        if self.storage.indexed:
            for parent in parents(key):
                if parent[0] in CONTAINERS:  # whose directory somebody else may have removed
                    self.storage.data.setdefault(path_of(parent), None)
        self._tell(key)

    def put(self, key: Key, cells: Cells) -> None:
        """Put a row; a row that says nothing new is no change."""
        if self.rows().get(key) != cells or self.storage.is_published(key):
            self.pending[key] = cells
            self._changed()

    def remove(self, whole: Key, keys: list[Key]) -> None:
        """Remove the rows of `whole` and its parts in one commit, and then their data.

        A run or voxel spacing has all below it in its directory.
        """
        self.going.append(whole)
        for key in keys:
            self.pending[key] = None
            if key[0] != "object":
                self.doomed.append(path_of(key))
        self._changed()

    def _changed(self) -> None:
        if self.depth == 0 or not self.storage.indexed:
            self.commit()

    def commit(self) -> None:
        rows = self.storage.rows
        for key in [key for key in rows if self.takes(key) and key not in self.pending]:
            self.pending[key] = None  # others added it meanwhile
        for key, cells in self.pending.items():
            if cells is None:
                rows.pop(key, None)
            elif not self._is_lost(key):
                rows[key] = cells
                if "sha256" in cells:  # others may have written the file since
                    rows[key] = {**cells, "sha256": self.storage.checksums[path_of(key)]}
            self._tell(key)
        for path in self.doomed:
            self.storage.remove(path)
        self.pending, self.doomed, self.going = {}, [], []

    def takes(self, key: Key) -> bool:
        """Whether `key` is part of what was deleted since the last commit."""
        return any(within(key, whole) for whole in self.going)

    def _is_lost(self, key: Key) -> bool:
        """Whether others deleted what is put, or for a voxel spacing its run, and that is not put either."""
        if key[0] == "spacing":
            return key not in self.storage.rows and ("run", key[1]) not in self.rows()
        if not self.storage.indexed or key[0] in ("run", "object"):
            return False
        return path_of(key) not in self.storage.data and key not in self.storage.rows

    def _tell(self, key: Key) -> None:
        for view in self.others:
            view.foreign.add(key)

    # --- two at a time -----------------------------------------------------------------------------------

    def is_stale(self, key: Key) -> bool:
        """Whether others changed this, what it is in, or a part of it, since this root has last read everything."""
        return any(within(other, key) or within(key, other) for other in self.foreign)
