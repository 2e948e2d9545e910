"""`CopickTomogramMLC`: a tomogram and its feature maps. Rules: SPEC.md, Tomograms [TOM] and Features [FEA]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from copick.impl.overlay import CopickTomogramOverlay
from copick.models import CopickFeaturesMeta, CopickTomogramMeta

from copick_mlc import _layout
from copick_mlc._artifact import Volume, shadowed
from copick_mlc._entity import LazyMeta, leaving, no_ghost, synchronised
from copick_mlc.features import CopickFeaturesMLC
from copick_mlc.index import FeaturesRow, Row, TomogramRow

if TYPE_CHECKING:
    from copick_mlc.root import CopickRootMLC
    from copick_mlc.voxel_spacing import CopickVoxelSpacingMLC


class CopickTomogramMLC(LazyMeta, Volume, CopickTomogramOverlay):
    """A tomogram, an OME-Zarr store with one row in `tomograms`."""

    voxel_spacing: CopickVoxelSpacingMLC
    identity: TomogramRow

    def __init__(
        self,
        voxel_spacing: CopickVoxelSpacingMLC,
        meta: CopickTomogramMeta | None = None,
        read_only: bool = False,
        *,
        identity: TomogramRow | None = None,
        **kwargs: Any,
    ) -> None:
        """Made with copick's `meta`, or with the row that is its `identity`."""
        super().__init__(voxel_spacing, meta, read_only, **kwargs)
        self.identity = identity or TomogramRow(
            voxel_spacing.run.name, voxel_spacing.identity.voxel_size, self.meta.tomo_type
        )

    def _make_meta(self) -> CopickTomogramMeta:
        return CopickTomogramMeta(tomo_type=self.identity.tomo_type)

    @property
    def _project(self) -> CopickRootMLC:
        return self.voxel_spacing.run.root

    @property
    def tomo_type(self) -> str:
        return self.identity.tomo_type

    @property
    def _parent(self) -> CopickVoxelSpacingMLC:
        return self.voxel_spacing

    @property
    def _listed_in(self) -> list[Any] | None:
        return self.voxel_spacing._tomograms

    features = synchronised(CopickTomogramOverlay.features)

    # --- features ----------------------------------------------------------------------------------------

    def _feature_factory(self) -> tuple[type[CopickFeaturesMLC], type[CopickFeaturesMeta]]:
        return CopickFeaturesMLC, CopickFeaturesMeta

    def _published_features(self, read_only: bool) -> list[CopickFeaturesMLC]:
        rows = self._project.index.rows_below(FeaturesRow, self.identity)  # [FEA-001]
        return [CopickFeaturesMLC(self, read_only=read_only, identity=row) for row in rows]

    def _query_static_features(self) -> list[CopickFeaturesMLC]:
        return [] if self._project.target.indexed else self._published_features(read_only=True)

    def _query_overlay_features(self) -> list[CopickFeaturesMLC]:
        if self._project.target.indexed:
            return self._published_features(read_only=False)
        rows = _layout.features(*self._project.overlay, self.identity)
        return [CopickFeaturesMLC(self, identity=row) for row in rows]

    def query_features(self) -> list[CopickFeaturesMLC]:
        """The published feature maps and those of the overlay, each key once [OVL-003]."""
        return shadowed(self._query_static_features(), self._query_overlay_features())

    def new_features(self, feature_type: str, exist_ok: bool = False, **kwargs: Any) -> CopickFeaturesMLC:
        """Make a feature map of this tomogram, an empty zarr store [FEA-003].

        Raises:
            UsageError: `refused`, where there is one of that type, unless `exist_ok` [FEA-004].
            ReadOnlyError: `read-only`.
        """
        with no_ghost(self._project, self.features):
            return super().new_features(feature_type, exist_ok, **kwargs)

    def delete_features(self) -> None:
        """Delete all feature maps of this tomogram.

        Raises:
            ReadOnlyError: `read-only`.
        """
        found = list(self.features)
        for features in found:
            features._check_mutable()
        with self._project.batch():
            for features in found:
                features.delete()

    # --- data --------------------------------------------------------------------------------------------

    def from_numpy(self, data: np.ndarray, levels: int = 3, dtype: Any = np.float32) -> None:
        """Write the tomogram as a multiscale OME-Zarr volume [TOM-005].

        Args:
            data: Array of shape (Z, Y, X).
            levels: Number of pyramid levels.
            dtype: Data type of the levels.

        Raises:
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
    ) -> None:
        """Write `data` of shape (z, y, x) into a part of the level `zarr_group`.

        Raises:
            ReadOnlyError: `read-only`.
        """
        with self._modified():
            super().set_region(data, zarr_group, x, y, z)

    def delete(self) -> None:
        """Delete the tomogram and its feature maps, in one commit [TOM-006].

        In an overlay, feature maps that are published stay with the published tomogram, which is seen again [OVL-007].

        Raises:
            ReadOnlyError: `read-only`; also where a feature map is published and the tomogram is not.
        """
        self.check_deletable()
        with leaving(self._exists, self._leave_list):
            self._project.target.delete(self._going)

    def check_deletable(self) -> None:
        """Raise ReadOnlyError unless this tomogram and its feature maps can be deleted."""
        self._check_mutable()
        if not self._project.target.indexed:
            for features in self._going_features():
                features._check_mutable()

    def _going(self) -> list[Row]:
        """The rows that go with this tomogram."""
        if self._project.target.indexed:
            return [self.identity, *self._project.index.rows_below(FeaturesRow, self.identity)]
        return [self.identity, *(features.identity for features in self._going_features())]

    def _going_features(self) -> list[CopickFeaturesMLC]:
        """The feature maps that go with this tomogram of an overlay."""
        is_published = self._project.index.find(self.identity) is not None
        return [features for features in self.features if not (is_published and features.read_only)]

    def _leave_list(self) -> None:
        self._features: list[CopickFeaturesMLC] | None = []
        super()._leave_list()
