"""`CopickFeaturesMLC`: a feature map computed from a tomogram. Rules: SPEC.md, Features [FEA]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from copick.impl.overlay import CopickFeaturesOverlay
from copick.models import CopickFeaturesMeta

from copick_mlc._artifact import Volume
from copick_mlc._entity import LazyMeta
from copick_mlc.index import FeaturesRow

if TYPE_CHECKING:
    from copick_mlc.root import CopickRootMLC
    from copick_mlc.tomogram import CopickTomogramMLC


class CopickFeaturesMLC(LazyMeta, Volume, CopickFeaturesOverlay):
    """A feature map, an OME-Zarr store with one row in `features`; the two go together [FEA-005]."""

    tomogram: CopickTomogramMLC
    identity: FeaturesRow

    def __init__(
        self,
        tomogram: CopickTomogramMLC,
        meta: CopickFeaturesMeta | None = None,
        read_only: bool = False,
        *,
        identity: FeaturesRow | None = None,
    ) -> None:
        """Made with copick's `meta`, or with the row that is its `identity`."""
        super().__init__(tomogram, meta, read_only)
        if identity is None:
            of = tomogram.identity
            identity = FeaturesRow(of.run, of.voxel_size, of.tomo_type, self.meta.feature_type)
        self.identity = identity

    def _make_meta(self) -> CopickFeaturesMeta:
        return CopickFeaturesMeta(tomo_type=self.identity.tomo_type, feature_type=self.identity.feature_type)

    @property
    def _project(self) -> CopickRootMLC:
        return self.tomogram.voxel_spacing.run.root

    @property
    def _parent(self) -> CopickTomogramMLC:
        return self.tomogram

    @property
    def _listed_in(self) -> list[Any] | None:
        return self.tomogram._features

    @property
    def tomo_type(self) -> str:
        return self.identity.tomo_type

    @property
    def feature_type(self) -> str:
        return self.identity.feature_type

    def set_region(self, data: np.ndarray, zarr_group: str = "0", slices: Any = None) -> None:
        """Write `data` into a part of the array `zarr_group`; without `slices`, into all of it.

        Raises:
            ReadOnlyError: `read-only`.
        """
        with self._modified():
            super().set_region(data, zarr_group, slices if slices is not None else ...)
