"""What all entities share: a place to write to, metadata made late, and a way with copick's base classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fsspec import AbstractFileSystem

from copick_mlc import _urls
from copick_mlc._tables import Row
from copick_mlc.errors import CroissantError, UsageError

if TYPE_CHECKING:
    from copick_mlc.root import CopickRootMLC


class Located:
    """Mixin of the classes whose instances have a canonical place.

    Attributes:
        identity: A row with the entity's key.
    """

    identity: Row

    @property
    def _project(self) -> CopickRootMLC:
        raise NotImplementedError

    @property
    def fs_overlay(self) -> AbstractFileSystem:
        """The file system that the root writes to."""
        return self._project.fs_overlay

    @property
    def overlay_path(self) -> str:
        """Path of the entity where the root writes, in `fs_overlay`."""
        return self._project.target.place(self.identity)[1]

    @property
    def static_path(self) -> str | None:
        """Absolute URL of the directory copick would keep this in, below the base URL."""
        return _urls.absolute(self._project.index.base_url, self.identity.canonical_url)

    @property
    def static_is_overlay(self) -> bool:
        """Whether the root writes to the base URL."""
        return self._project.static_is_overlay


class LazyMeta:
    """Mixin of the classes whose copick metadata is made when someone asks for it.

    Making pydantic models is most of the cost of a walk over a project; most walks need only names.
    """

    _meta: Any = None

    def _make_meta(self) -> Any:
        raise NotImplementedError

    @property
    def meta(self) -> Any:
        """copick's metadata object."""
        if self._meta is None:
            self._meta = self._make_meta()
        return self._meta

    @meta.setter
    def meta(self, value: Any) -> None:
        self._meta = value


@contextmanager
def copick_rules() -> Iterator[None]:
    """Make a `UsageError`, `refused`, of the ValueError by which copick refuses what its caller asked for."""
    try:
        yield
    except CroissantError:
        raise
    except ValueError as error:
        raise UsageError("refused", str(error)) from error


def synchronised(listed: property) -> property:
    """A list of copick's, made once also where threads ask for it at the same time."""
    get: Any = listed.fget

    def synchronised_get(self: Any) -> Any:
        with self._project.index.lock:
            return get(self)

    return property(synchronised_get, doc=listed.__doc__)


@contextmanager
def no_ghost(project: CopickRootMLC, entities: list[Any]) -> Iterator[None]:
    """Take out of a list what a failing block appended; copick's `new_*` append first and store then.

    One thread at a time: what another appended meanwhile is no ghost.

    Raises:
        UsageError: `refused`.
    """
    with project.index.lock:
        length = len(entities)
        try:
            with copick_rules():
                yield
        except BaseException:
            del entities[length:]  # [BAT-006]
            raise


@contextmanager
def leaving(exists: Callable[[], bool], leave: Callable[[], None]) -> Iterator[None]:
    """Call `leave` when the block has deleted an entity, also where it then fails to remove all of its data."""
    try:
        yield
    except CroissantError:
        if not exists():
            leave()
        raise
    leave()


def forget(cached: list[Any] | None, entity: Any) -> None:
    """Take an entity out of a list that may not have been asked for yet."""
    if cached is not None and entity in cached:
        cached.remove(entity)
