"""`CopickSegmentationMLC`: a binary, multilabel, instance or panoptic segmentation of one run.

Rules: SPEC.md, Segmentations [SEG].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from copick.impl.overlay import CopickSegmentationOverlay
from copick.models import CopickSegmentationMeta

from copick_mlc._artifact import Annotation, Volume
from copick_mlc.index import InstanceSegmentationRow, PanopticSegmentationRow, SegmentationRow

if TYPE_CHECKING:
    from copick_mlc.run import CopickRunMLC

AnySegmentationRow = SegmentationRow | InstanceSegmentationRow | PanopticSegmentationRow


class CopickSegmentationMLC(Annotation, Volume, CopickSegmentationOverlay):
    """A segmentation, an OME-Zarr store with one row; the two go together [SEG-006].

    The row is in `instance_segmentations` or `panoptic_segmentations` for these types, else `segmentations` [SEG-001].
    """

    run: CopickRunMLC
    identity: AnySegmentationRow

    def __init__(
        self,
        run: CopickRunMLC,
        meta: CopickSegmentationMeta | None = None,
        read_only: bool = False,
        *,
        identity: AnySegmentationRow | None = None,
    ) -> None:
        """Made with copick's `meta`, or with the row that is its `identity`."""
        super().__init__(run, meta, read_only)
        self.identity = identity or _identity(run.name, self.meta)

    def _make_meta(self) -> CopickSegmentationMeta:
        return CopickSegmentationMeta(
            voxel_size=self.identity.voxel_size,
            user_id=self.identity.user_id,
            session_id=self.identity.session_id,
            name=self.identity.name,
            is_multilabel=self.is_multilabel,
            is_instance=self.is_instance,
            is_panoptic=self.is_panoptic,
        )

    @property
    def _listed_in(self) -> list[Any] | None:
        return self.run._segmentations

    @property
    def voxel_size(self) -> float:
        return self.identity.voxel_size

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def is_multilabel(self) -> bool:
        return isinstance(self.identity, SegmentationRow) and self.identity.is_multilabel

    @property
    def is_instance(self) -> bool:
        return isinstance(self.identity, InstanceSegmentationRow)

    @property
    def is_panoptic(self) -> bool:
        return isinstance(self.identity, PanopticSegmentationRow)

    @property
    def filename(self) -> str:
        """Name of the store in copick's layout."""
        return self.identity.canonical_url.rpartition("/")[2]

    def from_numpy(self, data: np.ndarray, levels: int = 1, dtype: Any = None) -> None:
        """Write the segmentation as an OME-Zarr volume.

        Args:
            data: Array of shape (Z, Y, X), or (2, Z, Y, X) with channels label and instance if panoptic.
            levels: Number of pyramid levels.
            dtype: Data type; by default the smallest unsigned integer type that holds the values.

        Raises:
            UsageError: `refused`, for values that the type of segmentation does not allow.
            ReadOnlyError: `read-only`.
        """
        with self._replaced():
            super().from_numpy(data, levels, dtype)

    def set_region(
        self,
        data: np.ndarray,
        zarr_group: str = "0",
        x: slice = slice(None),
        y: slice = slice(None),
        z: slice = slice(None),
        channel: str | int | None = None,
    ) -> None:
        """Write `data` of shape (z, y, x) into a part of the level `zarr_group`.

        Args:
            channel: Of a panoptic segmentation, the channel to write; by default both, from (2, z, y, x).

        Raises:
            UsageError: `refused`, for values that do not fit.
            ReadOnlyError: `read-only`.
        """
        with self._modified():
            super().set_region(data, zarr_group, x, y, z, channel)


def _identity(run: str, meta: CopickSegmentationMeta) -> AnySegmentationRow:
    names = (run, meta.voxel_size, meta.user_id, meta.session_id, meta.name)
    if meta.is_instance:  # [SEG-004]
        return InstanceSegmentationRow(*names)
    if meta.is_panoptic:
        return PanopticSegmentationRow(*names)
    return SegmentationRow(*names, meta.is_multilabel)
