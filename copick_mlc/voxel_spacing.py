"""`CopickVoxelSpacingMLC`: the tomograms of one voxel size. Rules: SPEC.md, Voxel spacings [VOX]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from copick.impl.overlay import CopickVoxelSpacingOverlay
from copick.models import CopickTomogramMeta, CopickVoxelSpacingMeta

from copick_mlc import _layout
from copick_mlc._artifact import shadowed
from copick_mlc._entity import Located, forget, leaving, no_ghost, synchronised
from copick_mlc.errors import ReadOnlyError
from copick_mlc.index import FeaturesRow, Row, TomogramRow, VoxelSpacingRow
from copick_mlc.tomogram import CopickTomogramMLC

if TYPE_CHECKING:
    from copick_mlc.root import CopickRootMLC
    from copick_mlc.run import CopickRunMLC


class CopickVoxelSpacingMLC(Located, CopickVoxelSpacingOverlay):
    """A voxel spacing, one row in `voxel_spacings`. Two are the same when their `%.3f` forms are [VOX-002]."""

    run: CopickRunMLC
    identity: VoxelSpacingRow

    def __init__(self, run: CopickRunMLC, meta: CopickVoxelSpacingMeta, config: Any = None) -> None:
        super().__init__(run, meta, config)
        self.identity = VoxelSpacingRow(run.name, meta.voxel_size)

    @property
    def _project(self) -> CopickRootMLC:
        return self.run.root

    @property
    def _is_published(self) -> bool:
        return not self._project.target.indexed and self._project.index.find(self.identity) is not None

    tomograms = synchronised(CopickVoxelSpacingOverlay.tomograms)

    # --- tomograms ---------------------------------------------------------------------------------------

    def _tomogram_factory(self) -> tuple[type[CopickTomogramMLC], type[CopickTomogramMeta]]:
        return CopickTomogramMLC, CopickTomogramMeta

    def _published_tomograms(self, read_only: bool) -> list[CopickTomogramMLC]:
        rows = self._project.index.rows_below(TomogramRow, self.identity)  # [TOM-001]
        return [CopickTomogramMLC(self, read_only=read_only, identity=row) for row in rows]

    def _query_static_tomograms(self) -> list[CopickTomogramMLC]:
        return [] if self._project.target.indexed else self._published_tomograms(read_only=True)

    def _query_overlay_tomograms(self) -> list[CopickTomogramMLC]:
        if self._project.target.indexed:
            return self._published_tomograms(read_only=False)
        rows = _layout.tomograms(*self._project.overlay, self.identity)
        return [CopickTomogramMLC(self, identity=row) for row in rows]

    def query_tomograms(self) -> list[CopickTomogramMLC]:
        """The published tomograms and those of the overlay, each key once [OVL-003]."""
        return shadowed(self._query_static_tomograms(), self._query_overlay_tomograms())

    def get_tomograms(self, tomo_type: str | None = None, **kwargs: Any) -> list[CopickTomogramMLC]:
        """The tomograms of a type; without a type, all."""
        if tomo_type is None:
            return list(self.tomograms)
        return super().get_tomograms(tomo_type, **kwargs)

    def new_tomogram(self, tomo_type: str, exist_ok: bool = False, **kwargs: Any) -> CopickTomogramMLC:
        """Make a tomogram, an empty zarr store [TOM-003].

        Raises:
            UsageError: `refused`, where there is one of that type, unless `exist_ok` [TOM-004].
            ReadOnlyError: `read-only`.
        """
        with no_ghost(self._project, self.tomograms):
            return super().new_tomogram(tomo_type, exist_ok, **kwargs)

    def delete_tomograms(self, tomo_type: str | None = None) -> None:
        """Delete the tomograms of a type, or all, with their feature maps, in one commit [TOM-006].

        Raises:
            ReadOnlyError: `read-only`.
        """
        tomograms = self.get_tomograms(tomo_type)
        for tomogram in tomograms:
            tomogram.check_deletable()
        with self._project.batch():
            for tomogram in tomograms:
                tomogram.delete()

    # --- existence ---------------------------------------------------------------------------------------

    def ensure(self, create: bool = False) -> bool:
        """Whether this voxel spacing exists; with `create`, make it if it does not.

        Raises:
            ReadOnlyError: `read-only`.
        """
        return self._project.ensure(self.identity, create)

    def delete(self) -> None:
        """Delete the voxel spacing, its tomograms and their feature maps, in one commit [VOX-005].

        Raises:
            ReadOnlyError: `read-only`; also where it, or something in it, is published [OVL-006].
        """
        self.check_deletable()
        project = self._project
        with leaving(lambda: project.ensure(self.identity, create=False), self._leave_list):
            project.target.delete(self._going, self.identity)  # [VOX-006]

    def check_deletable(self) -> None:
        """Raise ReadOnlyError unless this voxel spacing can be deleted."""
        self._project.target.check()
        if self._is_published:
            key = self.identity.key
            raise ReadOnlyError(
                "read-only", f"the voxel spacing {key} is published; only what is in the overlay can be deleted"
            )

    def _going(self) -> list[Row]:
        """The rows that go with this voxel spacing."""
        index = self._project.index
        tomograms, features = (index.rows_below(kind, self.identity) for kind in (TomogramRow, FeaturesRow))
        return [self.identity, *tomograms, *features]  # [VOX-005]

    def _leave_list(self) -> None:
        self._tomograms: list[CopickTomogramMLC] | None = []
        forget(self.run._voxel_spacings, self)
