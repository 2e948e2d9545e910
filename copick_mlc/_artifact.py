"""What all artifacts share: an identity, a row in the index, a place where their data is.

An artifact's identity is the key of its row. Its data is read from where the row's URL says, in both
modes, and written to the canonical place below the root's target. Rules: SPEC.md, URLs [URL] and Overlays [OVL].
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fsspec import AbstractFileSystem
from zarr.storage import FSStore

from copick_mlc import _filesystems, _storage
from copick_mlc._directory import new_directory
from copick_mlc._entity import LazyMeta, Located, copick_rules, forget, leaving
from copick_mlc._tables import Key
from copick_mlc._zarr import assembled, create_store, decoding, has_content, is_there, open_store
from copick_mlc.errors import CroissantWarning, MissingError, ReadOnlyError
from copick_mlc.index import InstanceSegmentationRow, MeshRow, PanopticSegmentationRow, PicksRow, SegmentationRow

if TYPE_CHECKING:
    from copick_mlc.root import CopickRootMLC
    from copick_mlc.run import CopickRunMLC

T = TypeVar("T", bound="Artifact")


class Artifact(Located):
    """Mixin of the classes whose instances have a row with a URL.

    Attributes:
        read_only: True for what is published and not in the overlay.
    """

    read_only: bool

    @property
    def _listed_in(self) -> list[Any] | None:
        """The list this artifact is in, if somebody has asked for that."""
        raise NotImplementedError

    @property
    def _parent(self) -> Any:
        """The entity whose list that is."""
        raise NotImplementedError

    @property
    def _indexed(self) -> bool:
        """Whether the artifact's row, not the overlay's directory, says where its data is."""
        return self.read_only or self._project.target.indexed

    def _place(self) -> tuple[AbstractFileSystem, str]:
        """Where the data is, or would be written if there is none.

        Raises:
            MissingError: `data-missing`, where the row has no URL [URL-009].
            DataError: `url-outside`, `url-local`.
        """
        if self._indexed:
            row = self._project.index.find(self.identity)
            if row is not None:
                url = getattr(row, "url", None)
                if not url:
                    raise MissingError("data-missing", f"the row {row.key} of {row.table.file_name} has no url")
                return self._project.index.resolve_url(url)  # [URL-001]
        return self._project.target.place(self.identity)

    @property
    def static_path(self) -> str | None:
        """Absolute URL of the published data; None where no row names any."""
        url = getattr(self._project.index.find(self.identity), "url", None)
        return self._project.index.absolute_url(url) if url else None

    @property
    def path(self) -> str:
        """Path of the data in `fs`."""
        return self._place()[1]

    @property
    def fs(self) -> AbstractFileSystem:
        """File system of the data."""
        return self._place()[0]

    @property
    def _where(self) -> str:
        """What people know the place of the data by."""
        return _filesystems.url_of(*self._place())

    def _check_mutable(self) -> None:
        """Raise ReadOnlyError unless this artifact can be changed [OVL-005]."""
        if self.read_only:
            raise ReadOnlyError(
                "read-only",
                f"{self.identity.key} of {self.identity.table.name} is published and this project is opened with an "
                "overlay; make one of your own, with another user_id or session_id, and it goes to the overlay",
            )
        self._project.target.check()

    def _exists(self) -> bool:
        """Whether there is a row, or in an overlay data, of this artifact."""
        if self._indexed:
            return self._project.index.find(self.identity) is not None
        fs, path = self._place()
        return _storage.exists(fs, path)

    def delete(self) -> None:
        """Delete the row, then the data [BAT-007].

        Raises:
            ReadOnlyError, StorageError: `read-only` [OVL-005], `storage-failed`.
        """
        self._check_mutable()
        with leaving(self._exists, self._leave_list):
            self._delete_data()

    def _delete_data(self) -> None:
        self._project.target.delete(lambda: [self.identity])

    def _leave_list(self) -> None:
        """Make way, once deleted, for the published artifact with this key, if there is one [OVL-007]."""
        listed = self._listed_in
        forget(listed, self)
        row = self._project.index.find(self.identity) if listed is not None else None
        if listed is not None and row is not None:
            make: Any = type(self)
            listed.append(make(self._parent, read_only=True, identity=row))


class Annotation(LazyMeta, Artifact):
    """Mixin of picks, meshes and segmentations: what somebody made of a run in a session."""

    run: CopickRunMLC
    identity: PicksRow | MeshRow | SegmentationRow | InstanceSegmentationRow | PanopticSegmentationRow

    @property
    def _project(self) -> CopickRootMLC:
        return self.run.root

    @property
    def _parent(self) -> CopickRunMLC:
        return self.run

    @property
    def user_id(self) -> str:
        return self.identity.user_id

    @property
    def session_id(self) -> str:
        return self.identity.session_id


class AnnotationFile(Annotation):
    """Mixin of picks and meshes: annotations of one object, in one file."""

    identity: PicksRow | MeshRow

    @property
    def pickable_object_name(self) -> str:
        return self.identity.object_name

    @property
    def directory(self) -> str:
        """Path of the directory that holds the file, with a slash at its end."""
        return self.path.rpartition("/")[0] + "/"

    def _read(self) -> bytes:
        """The bytes of the file. Where they do not have the sha256 of the row, a CroissantWarning says so [PIK-010].

        Raises:
            MissingError, StorageError: `data-missing` [URL-010], `storage-failed`.
        """
        fs, path = self._place()
        key, name = self.identity.key, self.identity.table.file_name
        data = _storage.read(fs, path, "data-missing", f"the file of {key} in {name}")
        index, checksum = self._project.index, hashlib.sha256(data).hexdigest()

        def differs(row: PicksRow | MeshRow | None) -> bool:
            return row is not None and row.sha256 not in (None, checksum)

        # Another process may have stored both, file and row.
        if self._indexed and differs(index.find(self.identity)) and differs(row := index.committed(self.identity)):
            warnings.warn(
                f"{self._where}: the file's sha256 is {checksum}, {name} says {row and row.sha256}; the file was "
                "changed without its row. It is read as it is; `python -m copick_mlc verify` lists all such files",
                CroissantWarning,
                stacklevel=4,
            )
        return data


class Volume(Artifact):
    """Mixin of the artifacts that are zarr stores."""

    _written: tuple[AbstractFileSystem, str] | None = None  # where a write in progress goes

    @property
    def _is_new(self) -> bool:
        """Whether `zarr()` makes a store: there is no row and no data yet."""
        return not self.read_only and not self._exists()

    def zarr(self) -> FSStore:
        """The OME-Zarr store, made if this artifact is new.

        The store can be written to, unless its data is published or lies outside the project.

        Raises:
            MissingError: `data-missing`, where there is a row but no data [URL-010].
            ReadOnlyError: `read-only`, where a new store cannot be made [BAT-018].
        """
        target = self._project.target
        if self._written is not None:
            return open_store(*self._written, writable=True)
        if self._is_new:
            fs, path = target.claim(self.identity)
            self._create(fs, path)
            return open_store(fs, path, writable=True)
        fs, path = self._place()
        if not is_there(fs, path):
            key = self.identity.key
            where = _filesystems.url_of(fs, path)
            raise MissingError("data-missing", f"there is no zarr store; {key} names it", path=where)
        own = target.place(self.identity)
        if self.read_only or target.read_only_reason() or not _filesystems.is_same((fs, path), own):
            return open_store(fs, path, writable=False)
        return open_store(*own, writable=True)

    def _create(self, fs: AbstractFileSystem, path: str) -> None:
        """Make an empty store, and put its row."""
        target = self._project.target
        if not _filesystems.is_local(fs):
            create = partial(create_store, fs, path)
            target.write_remotely(self.identity, create, partial(_storage.remove_file, fs, f"{path}/.zgroup"))
            return
        with target.exclusive():
            if not fs.isdir(path):
                with new_directory(path) as new, _storage.writing(path):
                    create_store(fs, new.path)
                    new.take_place()
            target.record(self.identity)

    def _exists(self) -> bool:
        return super()._exists() if self._indexed else is_there(*self._place())

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        """As copick's: the volume, or a part of it, as an array [TOM-002] [FEA-002] [SEG-003].

        Reading makes no store [LAY-002].

        Raises:
            MissingError: `data-missing`, where nothing was written yet, or there is no such level.
            StorageError: `storage-failed`, where a chunk cannot be read [LAY-007].
            DataError: `data-invalid`, where a chunk or the metadata of the array cannot be decoded [LAY-008].
        """
        level = kwargs.get("zarr_group", args[0] if args else "0")
        with decoding(self._where):
            open_store(*self._place(), writable=False).read_ahead(level)
            if self._is_new or not has_content(self.zarr()):
                raise MissingError("data-missing", f"nothing was written to {self.identity.key} yet", path=self._where)
            return super().numpy(*args, **kwargs)  # type: ignore[misc]  # copick's class is next in the order

    @contextmanager
    def _replaced(self) -> Iterator[None]:
        """Write a whole new volume: `zarr()` is what takes its place then [LAY-013]; its row follows [TOM-007]."""
        self._check_mutable()
        target = self._project.target
        fs, path = target.claim(self.identity)
        if not _filesystems.is_local(fs):
            with assembled(fs, path) as (memory, place), self._writing(memory, place):
                yield
            target.record(self.identity)
            return
        with new_directory(path) as new:
            with self._writing(fs, new.path):
                yield
            with target.exclusive():
                new.take_place()
                target.record(self.identity)

    @contextmanager
    def _modified(self) -> Iterator[None]:
        """Write a part of the volume: data that lies elsewhere is copied to the canonical store before."""
        self._check_mutable()
        target = self._project.target
        source = self.zarr()
        fs, path = target.claim(self.identity)
        if not _filesystems.is_same((source.fs, source.path), (fs, path)):
            copy = open_store(fs, path, writable=True)
            with _storage.writing(path, fs):
                copy.clear()
                copy.setitems(source.getitems(list(source), contexts={}))
        with self._writing(fs, path):
            yield
        target.record(self.identity)

    @contextmanager
    def _writing(self, fs: AbstractFileSystem, path: str) -> Iterator[None]:
        """Have `zarr()` be the store at `path`."""
        self._written = fs, path
        try:
            with _storage.writing(path, fs), copick_rules():
                yield
        finally:
            self._written = None


def shadowed(published: list[T], overlay: list[T]) -> list[T]:
    """Published artifacts and those of the overlay; of two with the same key, the overlay's [OVL-003] [OVL-004].

    So each is there once also where the overlay is at the base URL [OVL-011].
    """
    if not published or not overlay:
        return published or overlay
    keys = {_full_key(artifact) for artifact in overlay}
    return [artifact for artifact in published if _full_key(artifact) not in keys] + overlay


def _full_key(artifact: Artifact) -> tuple[str, Key]:
    """The key with its table; segmentations of several tables are in one list."""
    return artifact.identity.table.name, artifact.identity.key
