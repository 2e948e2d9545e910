"""The ten tables as the suite itself knows them: it takes no implementation's word for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_PORTAL = "portal_object_name portal_session_id portal_annotation_id portal_annotation_file_id"


@dataclass(frozen=True)
class Table:
    """Name, key columns and other columns of a table."""

    name: str
    key: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return self.key + self.others

    @property
    def file(self) -> str:
        return f"{self.name}.csv"

    @property
    def file_object(self) -> str:
        return f"{self.name.replace('_', '-')}-csv"

    @property
    def record_set(self) -> str:
        return f"copick/{self.name}"


def _table(name: str, key: str, others: str = "") -> Table:
    return Table(name, tuple(key.split()), tuple(others.split()))


#: Every table by its name.
TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        _table("runs", "name", "portal_run_id split"),
        _table("voxel_spacings", "run voxel_size"),
        _table("tomograms", "run voxel_size tomo_type", "url portal_tomo_type portal_tomogram_id"),
        _table("features", "run voxel_size tomo_type feature_type", "url"),
        _table("picks", "run user_id session_id object_name", f"voxel_size url sha256 {_PORTAL}"),
        _table("meshes", "run user_id session_id object_name", "url sha256"),
        _table("segmentations", "run voxel_size user_id session_id name is_multilabel", f"url {_PORTAL}"),
        _table("instance_segmentations", "run voxel_size user_id session_id name", f"url {_PORTAL}"),
        _table("panoptic_segmentations", "run voxel_size user_id session_id name", f"url {_PORTAL}"),
        _table("objects", "name", "url"),
    )
}
