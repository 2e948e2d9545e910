"""`CopickObjectMLC`: a pickable object and its density map. Rules: SPEC.md, Objects [OBJ]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from copick.impl.overlay import CopickObjectOverlay
from copick.models import PickableObject
from zarr.storage import FSStore

from copick_mlc import _layout
from copick_mlc._artifact import Volume
from copick_mlc.errors import MissingError, UsageError
from copick_mlc.index import ObjectRow

if TYPE_CHECKING:
    from copick_mlc.root import CopickRootMLC


class CopickObjectMLC(Volume, CopickObjectOverlay):
    """A pickable object, defined in `copick:config`. Its density map, if any, has one row in `objects`."""

    root: CopickRootMLC
    identity: ObjectRow

    def __init__(self, root: CopickRootMLC, meta: PickableObject, read_only: bool = False) -> None:
        super().__init__(root, meta, read_only)
        self.identity = ObjectRow(meta.name)

    @property
    def _project(self) -> CopickRootMLC:
        return self.root

    @property
    def _listed_in(self) -> None:
        return None

    def delete(self) -> None:
        """Delete the density map; the object stays defined [OBJ-005].

        Raises:
            ReadOnlyError, StorageError: `read-only`, `storage-failed`.
        """
        super().delete()
        self.read_only = self._project.index.find(self.identity) is not None  # [OVL-007]

    @property
    def has_density_map(self) -> bool:
        """Whether there is a density map."""
        return self._exists()

    def _exists(self) -> bool:
        if self._indexed:
            return self.root.index.find(self.identity) is not None
        return _layout.is_store(*self._place())  # [OVL-012]

    def zarr(self) -> FSStore | None:
        """The OME-Zarr store of the density map; None for an object that is no particle or has no map.

        Raises:
            MissingError: `data-missing`, where there is a row but no data.
        """
        if not self.is_particle or (self._is_new and self._written is None):
            return None
        return super().zarr()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        """The density map, or a part of it, as an array; None where there is no map [OBJ-002]."""
        return None if self.zarr() is None else super().numpy(*args, **kwargs)

    def from_numpy(self, data: np.ndarray, voxel_size: float, dtype: Any = np.float32) -> None:
        """Write the density map as an OME-Zarr volume, and put the row [OBJ-003].

        Args:
            data: Array of shape (Z, Y, X).
            voxel_size: Voxel size in Å.
            dtype: Data type.

        Raises:
            UsageError: `option-invalid`, for an object that is no particle [OBJ-004].
            ReadOnlyError: `read-only`.
        """
        if not self.is_particle:
            raise UsageError("option-invalid", f"{self.name} is not a particle; only particles have density maps")
        with self._replaced():
            super().from_numpy(data, voxel_size, dtype)

    def set_region(
        self,
        data: np.ndarray,
        zarr_group: str = "0",
        x: slice = slice(None),
        y: slice = slice(None),
        z: slice = slice(None),
    ) -> None:
        """Write `data` of shape (z, y, x) into a part of the density map.

        Raises:
            MissingError: `data-missing`, where there is no density map.
            ReadOnlyError: `read-only`.
        """
        self._check_mutable()
        if not self.has_density_map:
            raise MissingError("data-missing", f"{self.name} has no density map; write one with from_numpy")
        with self._modified():
            super().set_region(data, zarr_group, x, y, z)
