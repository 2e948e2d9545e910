"""`CopickRootMLC`: a project, opened through its Croissant manifest. Rules: SPEC.md, Runs [RUN] and Objects [OBJ]."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from copick.models import CopickRoot, CopickRunMeta, PickableObject
from fsspec import AbstractFileSystem

from copick_mlc import _filesystems, _layout, _storage, _urls
from copick_mlc._entity import copick_rules, synchronised
from copick_mlc._target import Target
from copick_mlc.config import CopickConfigMLCroissant
from copick_mlc.errors import DataError, MissingError, ReadOnlyError, UsageError
from copick_mlc.index import CroissantIndex, ObjectRow, RunRow, VoxelSpacingRow
from copick_mlc.object import CopickObjectMLC
from copick_mlc.run import CopickRunMLC

_MERGED = ("name", "description", "version", "user_id", "session_id")


class CopickRootMLC(CopickRoot):
    """A copick project read from a Croissant manifest.

    Mode A, without `overlay_root`: writes go to the base URL, and the manifest follows. Mode B, with it: writes go
    to the overlay, manifest and base stay as they are, and an artifact of the overlay stands for the published one
    with the same key.

    Attributes:
        config: The user's configuration, completed from the manifest.
        index: The rows of the project.
        target: Where writes go.
        fs_overlay: The file system that is written to, in either mode.
    """

    config: CopickConfigMLCroissant

    def __init__(self, config: CopickConfigMLCroissant) -> None:
        """Open the project that `config` names; only metadata.json is read.

        Raises:
            MissingError, DataError, StorageError: as `CroissantIndex.from_url`.
        """
        self._given = config.model_copy(deep=True)
        self.index = CroissantIndex.from_url(
            config.croissant_url,
            base_url_override=config.croissant_base_url,
            fs_args=config.croissant_fs_args,
            static_fs_args=config.static_fs_args,
        )
        # copick would make runs of its own base class from config.runs; here they select among the project's.
        self._selected = config.runs
        config.runs = None
        super().__init__(config)
        config.runs = self._selected
        self._runs_by_name: dict[str, CopickRunMLC] = {}
        self._completed: dict[str, Any] = {}
        self._take_over()
        if self.target.indexed:
            self.index.recover()

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> CopickRootMLC:
        """Open the project that a copick configuration file (JSON, not the manifest) names.

        Raises:
            MissingError, DataError: `config-invalid`, and as the constructor.
        """
        return cls(read_config(path))

    def __reduce__(self) -> tuple[Any, ...]:
        self._keep_changes()
        return type(self), (self._given,)

    def _keep_changes(self) -> None:
        """Count what was set in the configuration since it was completed, as `root.user_id = ...`, as given."""
        for name, value in self._completed.items():
            if getattr(self.config, name) != value:
                setattr(self._given, name, getattr(self.config, name))

    def _take_over(self) -> None:
        """Complete the configuration from the manifest and say where writes go; all or nothing."""
        merged = self._merged()
        target = self._open_target()
        self._merge_objects()
        for name, value in merged.items():
            setattr(self.config, name, value)
        self._completed = {name: getattr(self.config, name) for name in _MERGED}
        self.target = target
        self.fs_overlay: AbstractFileSystem = target.fs

    def _merged(self) -> dict[str, str]:
        """What the manifest says and the given configuration does not [MAN-016]."""
        given, merged = self._given, {}
        for name in _MERGED:
            value = self.index.config.get(name)
            if value is None or (name in given.model_fields_set and getattr(given, name) is not None):
                continue
            if not isinstance(value, str):  # [MAN-013]
                raise DataError(
                    "manifest-invalid",
                    f"copick:config.{name} is a {type(value).__name__}; expected a string",
                    path=self.index.url,
                )
            merged[name] = value
        return merged

    def _merge_objects(self) -> None:
        """Have the given pickable objects, and those of the manifest with other names [MAN-017]."""
        known = {definition.name for definition in self._given.pickable_objects}
        try:
            published = [PickableObject(**item) for item in self.index.config.get("pickable_objects") or []]
        except (ValueError, TypeError) as error:
            raise DataError(
                "manifest-invalid", f"copick:config.pickable_objects: {error}", path=self.index.url
            ) from error
        self.config.pickable_objects = [
            *self._given.model_copy(deep=True).pickable_objects,
            *(definition for definition in published if definition.name not in known),
        ]
        self._objects: list[CopickObjectMLC] | None = None

    def _open_target(self) -> Target:
        root = self.config.overlay_root
        url = _urls.normalise(root) if root else self.index.base_url
        options = dict((self.config.overlay_fs_args if root else self.index.static_fs_args) or {})
        if not _urls.is_local(url) and root:
            from copick_mlc._reconnecting import Reconnecting

            _filesystems.open_location(url, options)  # which says what is wrong
            fs = Reconnecting(url, _filesystems.options_for(url, options))
            return Target(self.index, fs, fs._strip_protocol(url), indexed=False)
        if _urls.is_local(url) and "::" not in url:
            options["auto_mkdir"] = True  # zarr makes a directory for each chunk
        fs, path = _filesystems.open_location(url, options)
        return Target(self.index, fs, path, indexed=not root)

    runs = synchronised(CopickRoot.runs)

    @property
    def _project(self) -> CopickRootMLC:
        return self

    # --- where -------------------------------------------------------------------------------------------

    @property
    def mode(self) -> str:
        """`A`: writes go to the base URL and its manifest. `B`: writes go to the overlay."""
        return "A" if self.target.indexed else "B"

    @property
    def overlay_base_url(self) -> str | None:
        """Path of the overlay in `fs_overlay`; None in Mode A."""
        return None if self.target.indexed else self.target.path

    @property
    def overlay(self) -> tuple[AbstractFileSystem, str]:
        """File system and path of what is written to."""
        return self.target.fs, self.target.path

    @property
    def static_is_overlay(self) -> bool:
        """Whether writes go to the base URL: always in Mode A, in Mode B where the overlay is at the base URL."""
        root = self.config.overlay_root
        return not root or _urls.normalise(root) == self.index.base_url

    def check_manifest(self) -> None:
        """Raise ReadOnlyError unless the manifest can be written, which it cannot in Mode B [OVL-001] [OVL-006]."""
        if not self.target.indexed:
            raise ReadOnlyError(
                "read-only",
                "the manifest is never written in Mode B; open the project without overlay_root to change it",
                path=self.index.url,
            )
        self.target.check()

    def ensure(self, row: RunRow | VoxelSpacingRow, create: bool) -> bool:
        """Whether the run or voxel spacing of `row` exists; with `create`, make it if it does not.

        Raises:
            UsageError: `name-invalid`, for a new name that is not one path segment [RUN-003].
            ReadOnlyError: `read-only` [BAT-018].
        """
        if self.index.find(row) is not None:
            return True
        fs, path = self.target.place(row)
        # [OVL-008] [OVL-010]
        if not self.target.indexed and _layout.is_listed(row) and _storage.is_directory(fs, path):
            return True
        if create:
            self._make(row)
        return create

    def _make(self, row: RunRow | VoxelSpacingRow) -> None:
        """Make a run or voxel spacing that does not exist."""
        fs, path = self.target.claim(row)
        if not self.target.indexed:
            _make_overlay_directory(fs, path)
        with _storage.made_directory(fs, path):  # the project's; an overlay's is there by now
            self.target.record(row)  # [RUN-004]

    # --- runs --------------------------------------------------------------------------------------------

    def _run_factory(self) -> tuple[type[CopickRunMLC], type[CopickRunMeta]]:
        return CopickRunMLC, CopickRunMeta

    def _run(self, name: str) -> CopickRunMLC:
        run = self._runs_by_name.get(name)
        if run is None:  # threads may ask at the same time
            run = self._runs_by_name.setdefault(name, CopickRunMLC(self, identity=RunRow(name)))
        return run

    def query(self) -> list[CopickRunMLC]:
        """The runs, sorted by name: those of the manifest [RUN-001] and, in Mode B, of the overlay [OVL-010].

        `config.runs`, where given, selects among them.
        """
        names = set(self.index.groups("runs"))  # [RUN-001]
        if not self.target.indexed:
            names.update(_layout.runs(*self.overlay))  # [OVL-010]
        if self._selected is not None:
            names.intersection_update(self._selected)
        return [self._run(name) for name in sorted(names)]

    def get_run(self, name: str, **kwargs: Any) -> CopickRunMLC | None:
        """The run of that name, or None [RUN-002]."""
        if self._selected is not None and name not in self._selected:
            return None
        if self.index.has("runs", name):
            return self._run(name)
        try:
            exists = self.ensure(RunRow(name), create=False)
        except UsageError:  # no run can have such a name
            return None
        return self._run(name) if exists else None

    def new_run(self, name: str, exist_ok: bool = False, **kwargs: Any) -> CopickRunMLC:
        """Make a run [RUN-004].

        Raises:
            UsageError: `exists`, where there is one of that name, unless `exist_ok` [RUN-005]; `name-invalid`, for a
                name that is not one path segment [RUN-003], or that an overlay would hide [OVL-009].
            ReadOnlyError: `read-only` [BAT-018].
        """
        known = self.get_run(name)
        if known is not None:
            if exist_ok:
                return known
            raise UsageError("exists", f"there is a run {name!r} already; give exist_ok=True to get it")
        row = RunRow(name)
        if self.index.find(row) is None:  # it may be one that the configuration does not select
            self._make(row)
        run = self._run(name)
        if self._selected is not None:
            self._selected.append(name)
        if self._runs is not None:
            self._runs.append(run)
        return run

    def delete_run(self, name: str) -> None:
        """Delete the run of that name, if there is one, and everything in it, in one commit [RUN-006].

        Raises:
            ReadOnlyError: `read-only`; also where the run is published [OVL-006].
        """
        run = self.get_run(name)
        if run is not None:
            run.delete()

    def forget_run(self, run: CopickRunMLC) -> None:
        """Take a deleted run out of the lists."""
        self._runs_by_name.pop(run.name, None)
        if self._runs is not None and run in self._runs:
            self._runs.remove(run)

    # --- objects -----------------------------------------------------------------------------------------

    def _object_factory(self) -> tuple[type[CopickObjectMLC], type[PickableObject]]:
        return CopickObjectMLC, PickableObject

    def _query_objects(self) -> None:
        published: set[str] = set()
        if not self.target.indexed:
            published = {row.name for row in self.index.rows_of(ObjectRow)}
            published -= {row.name for row in _layout.objects(*self.overlay)}
        self._objects = [
            CopickObjectMLC(self, definition, read_only=definition.name in published)
            for definition in self.config.pickable_objects  # [OBJ-001]
        ]

    def new_object(self, name: str, *args: Any, **kwargs: Any) -> CopickObjectMLC:
        """Define a pickable object, or with `exist_ok` change one; in Mode A also in the manifest [MAN-018].

        Takes the arguments of copick's `new_object`.

        Raises:
            UsageError: `refused`, for a definition copick does not allow, or a name that is taken [OBJ-006].
            ReadOnlyError: `read-only`, in Mode A.
        """
        if self.target.indexed:
            self.target.check()
        if name in (".", ".."):  # which copick lets pass
            _urls.check_name(name, "the name of an object")  # [OBJ-007]
        if (
            kwargs.get("label", args[1] if len(args) > 1 else None) == 0
        ):  # copick takes it for none, of an object it knows
            raise UsageError("refused", f"the label of {name} is 0, which is the background's; expected another number")
        try:
            with copick_rules():
                made: CopickObjectMLC = super().new_object(name, *args, **kwargs)
                PickableObject.model_validate(made.meta.model_dump())  # copick does not where it changes one [OBJ-006]
            if self.target.indexed:
                self.index.put_object(made.meta.model_dump(mode="json"))
        except BaseException:
            self._merge_objects()
            raise
        self._keep_definition(made.meta.model_copy(deep=True))
        return made

    def _keep_definition(self, new: PickableObject) -> None:
        """Have a definition outlast a refresh, where given ones win, and in Mode B no manifest keeps it [OVL-014]."""
        given = {definition.name: definition for definition in self._given.pickable_objects}
        if new.name in given or not self.target.indexed:
            self._given.pickable_objects = list({**given, new.name: new}.values())

    # --- batch, sync, refresh ----------------------------------------------------------------------------

    @contextmanager
    def batch(self) -> Iterator[CopickRootMLC]:
        """Defer the commit of changes to the end of the block; blocks nest, and the outermost commits [BAT-002].

        If the block raises, what was done in it until then is committed [BAT-003], and the exception goes on.

        Raises:
            StorageError: `storage-failed`. The rows of the block are then dropped from memory too.
        """
        try:
            with self.index.batch():
                yield self
        except BaseException:  # whatever failed: what the block has listed may be dropped, or not be committed
            self._merge_objects()
            self._invalidate_all_caches()
            raise

    def sync(self) -> None:
        """Commit what a batch has deferred so far.

        Raises:
            ReadOnlyError, StorageError: as `CroissantIndex.commit`.
        """
        self.index.commit()

    def refresh(self) -> None:
        """Commit what is pending, read the project anew [BAT-014], and forget all that was listed.

        Raises:
            MissingError, DataError, StorageError: the old state then stands [BAT-015].
        """
        self._keep_changes()
        self.index.commit()
        with self.index.reloaded():
            self._take_over()
        self._invalidate_all_caches()

    def _invalidate_all_caches(self) -> None:
        for run in self._runs_by_name.values():
            run._invalidate_caches()
        self._runs_by_name = {}
        self._runs = None
        self._objects = None

    def reconnect(self) -> None:
        """Connect to the storage anew, and forget all that was listed.

        The project is read anew, too, unless there are changes of a batch, which would be lost.

        Raises:
            MissingError, DataError, StorageError: the old state then stands [BAT-015].
        """
        reconnect = getattr(self.fs_overlay, "_reconnect", None)
        if reconnect is not None:
            reconnect()
        if not self.index.pending:
            self._keep_changes()
            for fs in (self.fs_overlay, self.index.resolve_url("ExperimentRuns")[0]):
                _filesystems.forget(fs)
            with self.index.reloaded():
                self._take_over()
        self._invalidate_all_caches()

    # --- splits ------------------------------------------------------------------------------------------

    @property
    def splits(self) -> dict[str, list[str]]:
        """The sorted run names of each machine-learning split."""
        return self.index.splits()

    def get_runs_in_split(self, split_name: str) -> list[CopickRunMLC]:
        """The runs assigned to a split."""
        runs = (self.get_run(name) for name in self.splits.get(split_name, []))
        return [run for run in runs if run is not None]

    def set_splits(self, mapping: Mapping[str, Iterable[str]], *, clear_existing: bool = False) -> None:
        """Assign runs to splits, in one commit, all or none [RUN-010].

        Args:
            mapping: Run names by split; a str is one name.
            clear_existing: Whether runs that are not mentioned lose their split [RUN-012].

        Raises:
            UnknownRunError: `run-unknown` [RUN-009].
            UsageError: `option-invalid`, for an empty split name or a run in two splits [RUN-011].
            ReadOnlyError: `read-only`, always in Mode B [OVL-006].
        """
        self.check_manifest()
        self.index.set_splits(mapping, clear_existing=clear_existing)

    def clear_splits(self, runs: Iterable[str] | None = None) -> None:
        """Take runs, or all runs, out of their splits, in one commit, all or none [RUN-010].

        Raises:
            UnknownRunError: `run-unknown` [RUN-009].
            ReadOnlyError: `read-only`, always in Mode B [OVL-006].
        """
        self.check_manifest()
        names = [runs] if isinstance(runs, str) else runs
        self.index.clear_splits(names)


def _make_overlay_directory(fs: AbstractFileSystem, path: str) -> None:
    """Make a directory of an overlay, with the mark that copick puts into it."""
    try:
        _storage.write(fs, f"{path}/.meta", b"meta")
    except BaseException:
        if _filesystems.is_local(fs):  # what has a directory exists
            with suppress(OSError):
                os.rmdir(path)
        raise


def read_config(path: str | os.PathLike[str]) -> CopickConfigMLCroissant:
    """The configuration in a JSON file.

    Raises:
        MissingError, DataError: `config-invalid`.
    """
    where = _urls.normalise(path)
    return config_of(read_json(where), where)


def read_json(path: str) -> dict[str, Any]:
    """The JSON object in a configuration file.

    Raises:
        MissingError, DataError: `config-invalid` [EXP-030].
    """
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
    except FileNotFoundError as error:
        raise MissingError("config-invalid", "there is no such configuration file", path=path) from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("config-invalid", f"not a JSON file: {error}", path=path) from error
    if not isinstance(values, dict):
        raise DataError("config-invalid", f"a JSON object was expected, not {type(values).__name__}", path=path)
    return values


def config_of(values: Mapping[str, Any], path: str) -> CopickConfigMLCroissant:
    """The configuration with these values; `path` says in messages where they are from.

    Raises:
        DataError: `config-invalid`.
    """
    kind = values.get("config_type", "mlcroissant")
    if kind != "mlcroissant":
        raise DataError("config-invalid", f"config_type is {kind!r}; expected mlcroissant", path=path)
    try:
        return CopickConfigMLCroissant(**values)
    except ValueError as error:
        raise DataError("config-invalid", f"not a copick configuration: {error}", path=path) from error
