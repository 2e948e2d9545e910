"""`CopickPicksMLC`: the points that somebody picked of one object in one run. Rules: SPEC.md, Picks [PIK]."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from copick.impl.overlay import CopickPicksOverlay
from copick.models import CopickLocation, CopickPicksFile, CopickPoint

from copick_mlc._artifact import AnnotationFile
from copick_mlc._entity import copick_rules
from copick_mlc._urls import size_in_url
from copick_mlc.errors import DataError, MissingError
from copick_mlc.index import PicksRow

if TYPE_CHECKING:
    from copick_mlc.run import CopickRunMLC


class CopickPicksMLC(AnnotationFile, CopickPicksOverlay):
    """A set of picks, a file with one row in `picks`; the two go together [PIK-017].

    The file is copick's JSON, or the NDJSON of the CryoET Data Portal, whose points in voxels are given in Å [PIK-005].
    Object, user and session are those of the row, whatever the file says [PIK-003].
    """

    run: CopickRunMLC
    identity: PicksRow
    _size_seen = False  # whether the voxel size of the file is known, or that it has none

    def __init__(
        self,
        run: CopickRunMLC,
        file: CopickPicksFile | None = None,
        read_only: bool = False,
        *,
        identity: PicksRow | None = None,
    ) -> None:
        """Made with copick's `file`, or with the row that is its `identity`."""
        super().__init__(run, file, read_only)
        self._loaded = bool(file is not None and file.points)
        self.identity = identity or PicksRow(
            run.name, self.meta.user_id, self.meta.session_id, self.meta.pickable_object_name
        )

    def _make_meta(self) -> CopickPicksFile:
        return CopickPicksFile(**self._names())

    def _names(self) -> dict[str, Any]:
        return {
            "pickable_object_name": self.identity.object_name,
            "user_id": self.identity.user_id,
            "session_id": self.identity.session_id,
            "run_name": self.identity.run,
        }

    @property
    def _listed_in(self) -> list[Any] | None:
        return self.run._picks

    @property
    def points(self) -> list[CopickPoint]:
        """The points, locations in Å [PIK-001]; read when first asked for.

        Raises:
            MissingError, DataError, StorageError: `data-missing`, `data-invalid`, `storage-failed`.
        """
        if not self._loaded:
            self._load_if_there()
        points: list[CopickPoint] = self.meta.points
        return points

    @points.setter
    def points(self, value: list[CopickPoint]) -> None:
        self.meta.points = value
        self._loaded = True

    def _load(self) -> CopickPicksFile:
        row = self._project.index.find(self.identity) if self._indexed else None
        file = parse_picks(self._read(), row or self.identity, self._where)
        for name, value in self._names().items():  # [PIK-003]
            setattr(file, name, value)
        if file.voxel_spacing is None and row is not None:
            file.voxel_spacing = row.voxel_size  # [PIK-019]
        if file.points is None:
            file.points = []
        self._loaded = self._size_seen = True
        return file

    def _load_if_there(self) -> CopickPicksFile | None:
        """Load the file; None where nothing was stored yet. To see whether it is there would be another request."""
        if self._indexed:
            return self.load() if self._exists() else None
        try:
            return self.load()
        except MissingError:
            self._size_seen = True
            return None

    def from_numpy(self, *args: Any, **kwargs: Any) -> None:
        """As copick's: set the points from arrays, positions in Å, and store them.

        Raises:
            UsageError: `refused`, for arrays that do not fit each other.
            ReadOnlyError, StorageError: `read-only`, `storage-failed`.
        """
        self._check_mutable()
        with copick_rules():
            super().from_numpy(*args, **kwargs)

    def store(self) -> None:
        """Write the points, replacing the file as a whole, and put the row [PIK-011].

        Raises:
            ReadOnlyError, StorageError: `read-only`, `storage-failed`.
        """
        self._check_mutable()
        if not self._loaded:
            # What is stored is what was there, besides what somebody set.
            edits = {name: getattr(self.meta, name) for name in self.meta.model_fields_set - set(self._names())}
            file = self._load_if_there()
            for name, value in edits.items() if file is not None else ():
                setattr(file, name, value)
        super().store()

    def _store(self) -> None:
        row = self._project.index.find(self.identity) if self._indexed else None
        if self.meta.voxel_spacing is None and row is not None:  # known, though nobody has read the file
            self.meta.voxel_spacing = row.voxel_size
        elif self.meta.voxel_spacing is None and not self._indexed and not self._size_seen:
            self.meta.voxel_spacing = self._stored_size()
        data = dump_picks(self.meta)
        columns: dict[str, Any] = {"sha256": hashlib.sha256(data).hexdigest()}  # [PIK-012]
        if self.meta.voxel_spacing is not None:
            columns["voxel_size"] = float(self.meta.voxel_spacing)  # [PIK-013]
        self._project.target.write_file(self.identity, data, **columns)
        self._loaded = self._size_seen = True

    def _stored_size(self) -> float | None:
        """The voxel size in Å that the file to be replaced has; None where there is none, or none that can be read."""
        try:
            size: float | None = parse_picks(self._read(), self.identity, self._where).voxel_spacing
        except (MissingError, DataError):
            return None
        return size  # [OVL-015]


def dump_picks(file: CopickPicksFile) -> bytes:
    """copick's JSON of a set of picks, in UTF-8 [PIK-011]."""
    text: str = file.model_dump_json(indent=4)
    # pydantic is ten times as fast as json, but writes numbers that are not finite as null.
    expected = (file.voxel_spacing is None) + (file.run_name is None)
    if text.count("null") > expected:
        text = json.dumps(file.model_dump(), indent=4)
    return text.encode()


def parse_picks(data: bytes, row: PicksRow, path: str) -> CopickPicksFile:
    """The picks in the bytes of a file: copick's JSON, or the portal's NDJSON.

    Args:
        data: The bytes.
        row: The row of the picks; NDJSON needs its voxel size, or one in its URL [PIK-007].
        path: Where the file lies, for messages.

    Raises:
        DataError: `data-invalid` [PIK-009].
    """
    if path.endswith(".ndjson") or _is_ndjson(data):  # [PIK-004]
        return _parse_ndjson(data, row, path)
    try:
        return CopickPicksFile.model_validate_json(data)  # [PIK-001] [PIK-002]
    except ValueError as error:
        raise DataError("data-invalid", f"not a picks file of copick: {error}", path=path) from error


def _is_ndjson(data: bytes) -> bool:
    """Whether the first line is a whole JSON object with a location."""
    first = data.lstrip().partition(b"\n")[0]
    if b'"location"' not in first:
        return False
    try:
        point = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(point, dict) and "location" in point


def _parse_ndjson(data: bytes, row: PicksRow, path: str) -> CopickPicksFile:
    size = row.voxel_size or size_in_url(row.url or path)  # [PIK-006]
    if size is None:  # [PIK-007]
        raise DataError(
            "data-invalid",
            f"the points are in voxels, but picks.csv has no voxel_size for {row.key} and its URL no VoxelSpacing",
            path=path,
            column="voxel_size",
        )
    points = []
    trust_orientation = False
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            point = json.loads(line)
            location = CopickLocation(**{axis: point["location"][axis] * size for axis in "xyz"})  # [PIK-005]
            fields: dict[str, Any] = {}
            if point.get("xyz_rotation_matrix") is not None:
                trust_orientation = True
                fields["transformation_"] = [[*axis, 0.0] for axis in point["xyz_rotation_matrix"]] + [  # [PIK-008]
                    [0.0, 0.0, 0.0, 1.0]
                ]
            if point.get("instance_id") is not None:
                fields["instance_id"] = point["instance_id"]
            points.append(CopickPoint(location=location, **fields))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(
                "data-invalid", f"not a point of the portal's NDJSON: {error!r}", path=path, line=number
            ) from error
    return CopickPicksFile(
        pickable_object_name=row.object_name,
        user_id=row.user_id,
        session_id=row.session_id,
        run_name=row.run,
        voxel_spacing=size,
        points=points,
        trust_orientation=trust_orientation,
    )
