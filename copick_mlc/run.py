"""`CopickRunMLC`: one run and everything in it. Rules: SPEC.md, Runs [RUN] and the sections after it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from copick.impl.overlay import CopickRunOverlay
from copick.models import CopickMeshMeta, CopickRunMeta, CopickSegmentationMeta, CopickVoxelSpacingMeta

from copick_mlc import _layout
from copick_mlc._artifact import shadowed
from copick_mlc._entity import LazyMeta, Located, leaving, no_ghost, synchronised
from copick_mlc._tables import TABLES, size_form
from copick_mlc.errors import ReadOnlyError, UsageError
from copick_mlc.index import (
    InstanceSegmentationRow,
    MeshRow,
    PanopticSegmentationRow,
    PicksRow,
    Row,
    RunRow,
    SegmentationRow,
    VoxelSpacingRow,
)
from copick_mlc.mesh import CopickMeshMLC
from copick_mlc.picks import CopickPicksMLC
from copick_mlc.segmentation import AnySegmentationRow, CopickSegmentationMLC
from copick_mlc.voxel_spacing import CopickVoxelSpacingMLC

if TYPE_CHECKING:
    from copick_mlc.root import CopickRootMLC

_SEGMENTATION_KINDS: tuple[type[AnySegmentationRow], ...] = (
    SegmentationRow,
    InstanceSegmentationRow,
    PanopticSegmentationRow,
)


class CopickRunMLC(LazyMeta, Located, CopickRunOverlay):
    """A run, one row in `runs`."""

    root: CopickRootMLC
    identity: RunRow

    def __init__(
        self,
        root: CopickRootMLC,
        meta: CopickRunMeta | None = None,
        config: Any = None,
        *,
        identity: RunRow | None = None,
    ) -> None:
        """Made with copick's `meta`, or with the row that is its `identity`."""
        super().__init__(root, meta, config)
        self.identity = identity or RunRow(self.meta.name)

    def _make_meta(self) -> CopickRunMeta:
        return CopickRunMeta(name=self.identity.name)

    @property
    def name(self) -> str:
        return self.identity.name

    # --- place and existence -----------------------------------------------------------------------------

    @property
    def _project(self) -> CopickRootMLC:
        return self.root

    def ensure(self, create: bool = False) -> bool:
        """Whether this run exists; with `create`, make it if it does not.

        Raises:
            UsageError: `name-invalid`, for a new name that is not one path segment [RUN-003].
            ReadOnlyError: `read-only`.
        """
        return self.root.ensure(self.identity, create)

    def delete(self) -> None:
        """Delete the run and everything in it, in one commit [RUN-006].

        Raises:
            ReadOnlyError: `read-only`; also where the run is published [OVL-006].
        """
        target, index = self.root.target, self.root.index
        target.check()
        if not target.indexed and index.find(self.identity) is not None:
            raise ReadOnlyError(
                "read-only", f"the run {self.name} is published; only what is in the overlay can be deleted"
            )
        with leaving(lambda: self.root.ensure(self.identity, create=False), self._leave_list):
            target.delete(self._going, self.identity)  # [RUN-007]

    def _going(self) -> list[Row]:
        """The rows that go with this run."""
        tables = [table for table in TABLES.values() if table.name != "objects"]
        return [row for table in tables for row in self.root.index.rows(table.name, self.name)]  # [RUN-006]

    def _leave_list(self) -> None:
        self._invalidate_caches()
        self.root.forget_run(self)

    voxel_spacings = synchronised(CopickRunOverlay.voxel_spacings)
    picks = synchronised(CopickRunOverlay.picks)
    meshes = synchronised(CopickRunOverlay.meshes)
    segmentations = synchronised(CopickRunOverlay.segmentations)

    # --- splits ------------------------------------------------------------------------------------------

    @property
    def split(self) -> str | None:
        """The machine-learning split this run is assigned to [RUN-008]. Setting it commits; None clears it [RUN-013].

        Raises:
            ReadOnlyError: `read-only`, on setting in Mode B [OVL-006].
        """
        return self.root.index.get_split(self.name)

    @split.setter
    def split(self, value: str | None) -> None:
        self.root.check_manifest()
        self.root.index.set_split(self.name, value)

    # --- voxel spacings ----------------------------------------------------------------------------------

    def _voxel_spacing_factory(self) -> tuple[type[CopickVoxelSpacingMLC], type[CopickVoxelSpacingMeta]]:
        return CopickVoxelSpacingMLC, CopickVoxelSpacingMeta

    def query_voxelspacings(self) -> list[CopickVoxelSpacingMLC]:
        """The voxel spacings, published [VOX-001] and of the overlay [OVL-010], each `%.3f` form once."""
        sizes = {row.key: row.voxel_size for row in self.root.index.rows_of(VoxelSpacingRow, self.name)}
        if not self.root.target.indexed:
            for row in _layout.voxel_spacings(*self.root.overlay, self.name):
                sizes.setdefault(row.key, row.voxel_size)
        return [CopickVoxelSpacingMLC(self, CopickVoxelSpacingMeta(voxel_size=size)) for size in sizes.values()]

    def get_voxel_spacing(self, voxel_size: float, **kwargs: Any) -> CopickVoxelSpacingMLC | None:
        """The voxel spacing whose `%.3f` form is that of `voxel_size` (Å), or None [VOX-002]."""
        form = size_form(float(voxel_size))
        return next((spacing for spacing in self.voxel_spacings if size_form(spacing.voxel_size) == form), None)

    def new_voxel_spacing(self, voxel_size: float, exist_ok: bool = False, **kwargs: Any) -> CopickVoxelSpacingMLC:
        """Make a voxel spacing, in Å, rounded to three decimals [VOX-004].

        Raises:
            UsageError: `refused`, where there is one already, unless `exist_ok` [VOX-003]; for a size that is not
                positive [VOX-007].
            ReadOnlyError: `read-only`.
        """
        known = self.get_voxel_spacing(voxel_size)
        size = known.voxel_size if known else _rounded(voxel_size)
        if size <= 0:
            raise UsageError("refused", f"{voxel_size} is no voxel size; expected at least 0.001 Å")
        with no_ghost(self._project, self.voxel_spacings):
            return super().new_voxel_spacing(size, exist_ok, **kwargs)

    def delete_voxel_spacings(self, voxel_size: float | None = None) -> None:
        """Delete the voxel spacing of that size, or all, with all in them, in one commit.

        Raises:
            ReadOnlyError: `read-only`.
        """
        found = list(self.voxel_spacings) if voxel_size is None else [self.get_voxel_spacing(voxel_size)]
        spacings = [spacing for spacing in found if spacing is not None]
        for spacing in spacings:
            spacing.check_deletable()
        with self.root.batch():
            for spacing in spacings:
                spacing.delete()

    # --- picks -------------------------------------------------------------------------------------------

    def _picks_factory(self) -> type[CopickPicksMLC]:
        return CopickPicksMLC

    def _published_picks(self, read_only: bool) -> list[CopickPicksMLC]:
        rows = self.root.index.rows_of(PicksRow, self.name)
        return [CopickPicksMLC(self, read_only=read_only, identity=row) for row in rows]

    def _query_static_picks(self) -> list[CopickPicksMLC]:
        return [] if self.root.target.indexed else self._published_picks(read_only=True)

    def _query_overlay_picks(self) -> list[CopickPicksMLC]:
        if self.root.target.indexed:
            return self._published_picks(read_only=False)
        return [CopickPicksMLC(self, identity=row) for row in _layout.picks(*self.root.overlay, self.name)]

    def query_picks(self) -> list[CopickPicksMLC]:
        """The published picks and those of the overlay, each key once [OVL-003]."""
        return shadowed(self._query_static_picks(), self._query_overlay_picks())

    def new_picks(
        self, object_name: str, session_id: str, user_id: str | None = None, exist_ok: bool = False
    ) -> CopickPicksMLC:
        """Make a set of picks, empty, and store it.

        Raises:
            UsageError: `refused`, where one has its key, unless `exist_ok`; for an unknown object or no user [PIK-016].
            ReadOnlyError: `read-only`.
        """
        with no_ghost(self._project, self.picks):
            return super().new_picks(object_name, session_id, user_id, exist_ok)

    def delete_picks(
        self, object_name: str | None = None, user_id: str | None = None, session_id: str | None = None
    ) -> None:
        """Delete the picks that match, in one commit.

        Raises:
            ReadOnlyError: `read-only`.
        """
        self._delete_all(self.get_picks(object_name, user_id, session_id))

    # --- meshes ------------------------------------------------------------------------------------------

    def _mesh_factory(self) -> tuple[type[CopickMeshMLC], type[CopickMeshMeta]]:
        return CopickMeshMLC, CopickMeshMeta

    def _published_meshes(self, read_only: bool) -> list[CopickMeshMLC]:
        rows = self.root.index.rows_of(MeshRow, self.name)
        return [CopickMeshMLC(self, read_only=read_only, identity=row) for row in rows]

    def _query_static_meshes(self) -> list[CopickMeshMLC]:
        return [] if self.root.target.indexed else self._published_meshes(read_only=True)

    def _query_overlay_meshes(self) -> list[CopickMeshMLC]:
        if self.root.target.indexed:
            return self._published_meshes(read_only=False)
        return [CopickMeshMLC(self, identity=row) for row in _layout.meshes(*self.root.overlay, self.name)]

    def query_meshes(self) -> list[CopickMeshMLC]:
        """The published meshes and those of the overlay, each key once [OVL-003]."""
        return shadowed(self._query_static_meshes(), self._query_overlay_meshes())

    def new_mesh(
        self,
        object_name: str,
        session_id: str,
        user_id: str | None = None,
        exist_ok: bool = False,
        **kwargs: Any,
    ) -> CopickMeshMLC:
        """Make a mesh, empty, and store it.

        Raises:
            UsageError: `refused`, where one has its key, unless `exist_ok`; for an unknown object or no user [MSH-004].
            ReadOnlyError: `read-only`.
        """
        with no_ghost(self._project, self.meshes):
            return super().new_mesh(object_name, session_id, user_id, exist_ok, **kwargs)

    def delete_meshes(
        self, object_name: str | None = None, user_id: str | None = None, session_id: str | None = None
    ) -> None:
        """Delete the meshes that match, in one commit.

        Raises:
            ReadOnlyError: `read-only`.
        """
        self._delete_all(self.get_meshes(object_name, user_id, session_id))

    # --- segmentations -----------------------------------------------------------------------------------

    def _segmentation_factory(self) -> tuple[type[CopickSegmentationMLC], type[CopickSegmentationMeta]]:
        return CopickSegmentationMLC, CopickSegmentationMeta

    def _published_segmentations(self, read_only: bool) -> list[CopickSegmentationMLC]:
        return [
            CopickSegmentationMLC(self, read_only=read_only, identity=row)
            for kind in _SEGMENTATION_KINDS  # [SEG-001]
            for row in self.root.index.rows_of(kind, self.name)
        ]

    def _query_static_segmentations(self) -> list[CopickSegmentationMLC]:
        return [] if self.root.target.indexed else self._published_segmentations(read_only=True)

    def _query_overlay_segmentations(self) -> list[CopickSegmentationMLC]:
        if self.root.target.indexed:
            return self._published_segmentations(read_only=False)
        rows: list[AnySegmentationRow] = [
            *_layout.segmentations(*self.root.overlay, self.name),
            *_layout.instance_segmentations(*self.root.overlay, self.name),
            *_layout.panoptic_segmentations(*self.root.overlay, self.name),
        ]
        return [CopickSegmentationMLC(self, identity=row) for row in rows]

    def query_segmentations(self) -> list[CopickSegmentationMLC]:
        """The published segmentations and those of the overlay, each key once [OVL-003]."""
        return shadowed(self._query_static_segmentations(), self._query_overlay_segmentations())

    def get_segmentations(
        self,
        user_id: str | Iterable[str] | None = None,
        session_id: str | Iterable[str] | None = None,
        is_multilabel: bool | None = None,
        name: str | Iterable[str] | None = None,
        voxel_size: float | Iterable[float] | None = None,
        *,
        is_instance: bool | None = False,
        is_panoptic: bool | None = False,
        **kwargs: Any,
    ) -> list[CopickSegmentationMLC]:
        """The segmentations that match; voxel sizes (Å) by their `%.3f` forms, as everywhere [VOX-002].

        Without a type: binary and multilabel ones. Give `is_instance=None, is_panoptic=None` for all.
        """
        found = super().get_segmentations(
            user_id, session_id, is_multilabel, name, is_instance=is_instance, is_panoptic=is_panoptic, **kwargs
        )
        if voxel_size is None:
            return list(found)
        sizes = voxel_size if isinstance(voxel_size, Iterable) else [voxel_size]
        forms = {size_form(float(size)) for size in sizes}
        return [segmentation for segmentation in found if size_form(segmentation.voxel_size) in forms]

    def new_segmentation(
        self,
        voxel_size: float,
        name: str,
        session_id: str,
        is_multilabel: bool = False,
        user_id: str | None = None,
        exist_ok: bool = False,
        *,
        is_instance: bool = False,
        is_panoptic: bool = False,
        **kwargs: Any,
    ) -> CopickSegmentationMLC:
        """Make a segmentation, an empty zarr store [SEG-004]; the voxel size in Å is rounded to three decimals.

        Raises:
            UsageError: `refused`, where one has its key, unless `exist_ok`; for an unknown object or no user [SEG-005].
            ReadOnlyError: `read-only`.
        """
        with no_ghost(self._project, self.segmentations):
            return super().new_segmentation(
                _rounded(voxel_size),
                name,
                session_id,
                is_multilabel,
                user_id,
                exist_ok,
                is_instance=is_instance,
                is_panoptic=is_panoptic,
                **kwargs,
            )

    def delete_segmentations(
        self,
        user_id: str | None = None,
        session_id: str | None = None,
        is_multilabel: bool | None = None,
        name: str | None = None,
        voxel_size: float | None = None,
        *,
        is_instance: bool | None = False,
        is_panoptic: bool | None = False,
    ) -> None:
        """Delete the segmentations that `get_segmentations` gives, in one commit.

        Raises:
            ReadOnlyError: `read-only`.
        """
        self._delete_all(
            self.get_segmentations(
                user_id,
                session_id,
                is_multilabel,
                name,
                voxel_size,
                is_instance=is_instance,
                is_panoptic=is_panoptic,
            )
        )

    # --- filaments ---------------------------------------------------------------------------------------

    def _filaments_factory(self) -> Any:
        from copick.impl.filesystem import CopickFilamentsFSSpec

        return CopickFilamentsFSSpec

    def _query_overlay_filaments(self) -> list[Any]:
        if self.root.target.indexed:
            return []
        from copick.impl.filesystem import query_filament_files

        return query_filament_files(self, read_only=False)

    def new_filaments(
        self, object_name: str, session_id: str, user_id: str | None = None, exist_ok: bool = False
    ) -> Any:
        """Make a set of traced filaments, in the overlay.

        Raises:
            ReadOnlyError: `read-only`, in Mode A: no table lists filaments.
        """
        if self.root.target.indexed:
            raise ReadOnlyError(
                "read-only",
                "no table of the format lists filaments, so they would be lost; open the project with overlay_root, "
                "and they go there",
                path=self.root.index.url,
            )
        self.root.target.check()
        return super().new_filaments(object_name, session_id, user_id, exist_ok)

    def _delete_all(self, artifacts: Iterable[Any]) -> None:
        artifacts = list(artifacts)
        for artifact in artifacts:
            artifact._check_mutable()
        with self.root.batch():
            for artifact in artifacts:
                artifact.delete()


def _rounded(voxel_size: float) -> float:
    return float(size_form(float(voxel_size)))  # [VOX-004]
