"""The ten tables of the format, declared once, and the way between cells of text and typed rows.

A table is a CSV file; a row is a frozen dataclass. The fields of the dataclass are the columns, in order.
A field without a default is part of the row's key. Everything else that depends on the tables (reading,
writing, the manifest, validation, the tables of SPEC.md) is derived from this module. Rules: SPEC.md, Tables [CSV].
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import operator
import re
import reprlib
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar

from copick_mlc.errors import UsageError

#: A row's key: its key cells, a voxel size by its `%.3f` form.
Key: TypeAlias = "tuple[str | bool, ...]"


class Row:
    """A row of one of the ten tables."""

    __slots__ = ()
    table: ClassVar[Table]

    @property
    def key(self) -> Key:
        """The row's identity within its table."""
        return self.table.key(self)

    @property
    def group(self) -> str:
        """The run a row belongs to; in `runs` and `objects`, its own name."""
        return typing.cast("str", getattr(self, self.table.columns[0].name))

    @property
    def canonical_url(self) -> str:
        """Where copick keeps this artifact, relative to the base URL."""
        return self.table.canonical.format(row=self)


R = TypeVar("R", bound=Row)


@dataclass(frozen=True, slots=True)
class RunRow(Row):
    name: Annotated[str, "Name of the run."]
    portal_run_id: Annotated[str | None, "Id of the run in the CryoET Data Portal."] = None
    split: Annotated[str | None, "Machine-learning split the run is assigned to."] = None


@dataclass(frozen=True, slots=True)
class VoxelSpacingRow(Row):
    run: Annotated[str, "Run the voxel spacing belongs to."]
    voxel_size: Annotated[float, "Voxel size in Å."]


@dataclass(frozen=True, slots=True)
class TomogramRow(Row):
    run: Annotated[str, "Run the tomogram belongs to."]
    voxel_size: Annotated[float, "Voxel size in Å."]
    tomo_type: Annotated[str, "Type of the tomogram, for example wbp."]
    url: Annotated[str | None, "OME-Zarr store of the tomogram."] = None
    portal_tomo_type: Annotated[str | None, "Type in the CryoET Data Portal, where it was renamed."] = None
    portal_tomogram_id: Annotated[str | None, "Id of the tomogram in the CryoET Data Portal."] = None


@dataclass(frozen=True, slots=True)
class FeaturesRow(Row):
    run: Annotated[str, "Run the features belong to."]
    voxel_size: Annotated[float, "Voxel size in Å."]
    tomo_type: Annotated[str, "Type of the tomogram the features were computed from."]
    feature_type: Annotated[str, "Type of the features."]
    url: Annotated[str | None, "OME-Zarr store of the features."] = None


@dataclass(frozen=True, slots=True)
class PicksRow(Row):
    run: Annotated[str, "Run the picks belong to."]
    user_id: Annotated[str, "User or tool that made the picks."]
    session_id: Annotated[str, "Session the picks were made in; 0 for a tool."]
    object_name: Annotated[str, "Pickable object that was picked."]
    voxel_size: Annotated[float | None, "Voxel size in Å of the tomogram the picks were made in."] = None
    url: Annotated[str | None, "copick JSON file, or portal NDJSON file, of the picks."] = None
    sha256: Annotated[str | None, "SHA-256 of the file."] = None
    portal_object_name: Annotated[str | None, "Object name in the CryoET Data Portal."] = None
    portal_session_id: Annotated[str | None, "Session id the portal gave, where it was renamed."] = None
    portal_annotation_id: Annotated[str | None, "Id of the annotation in the CryoET Data Portal."] = None
    portal_annotation_file_id: Annotated[str | None, "Id of the annotation file in the CryoET Data Portal."] = None


@dataclass(frozen=True, slots=True)
class MeshRow(Row):
    run: Annotated[str, "Run the mesh belongs to."]
    user_id: Annotated[str, "User or tool that made the mesh."]
    session_id: Annotated[str, "Session the mesh was made in; 0 for a tool."]
    object_name: Annotated[str, "Pickable object that was meshed."]
    url: Annotated[str | None, "Binary glTF file of the mesh."] = None
    sha256: Annotated[str | None, "SHA-256 of the file."] = None


@dataclass(frozen=True, slots=True)
class SegmentationRow(Row):
    run: Annotated[str, "Run the segmentation belongs to."]
    voxel_size: Annotated[float, "Voxel size in Å."]
    user_id: Annotated[str, "User or tool that made the segmentation."]
    session_id: Annotated[str, "Session the segmentation was made in; 0 for a tool."]
    name: Annotated[str, "Pickable object, or name of a multilabel segmentation."]
    is_multilabel: Annotated[bool, "true: voxels hold object labels. false: 1 inside the object."]  # [SEG-002]
    url: Annotated[str | None, "OME-Zarr store of the segmentation."] = None
    portal_object_name: Annotated[str | None, "Object name in the CryoET Data Portal."] = None
    portal_session_id: Annotated[str | None, "Session id the portal gave, where it was renamed."] = None
    portal_annotation_id: Annotated[str | None, "Id of the annotation in the CryoET Data Portal."] = None
    portal_annotation_file_id: Annotated[str | None, "Id of the annotation file in the CryoET Data Portal."] = None

    @property
    def suffix(self) -> str:
        """What the store name carries to tell a multilabel from a binary segmentation."""
        return "-multilabel" if self.is_multilabel else ""


@dataclass(frozen=True, slots=True)
class _LabelRow(Row):
    """The columns that instance and panoptic segmentations share."""

    run: Annotated[str, "Run the segmentation belongs to."]
    voxel_size: Annotated[float, "Voxel size in Å."]
    user_id: Annotated[str, "User or tool that made the segmentation."]
    session_id: Annotated[str, "Session the segmentation was made in; 0 for a tool."]
    name: Annotated[str, "Pickable object whose instances these are, or name of a panoptic segmentation."]
    url: Annotated[str | None, "OME-Zarr store of the segmentation."] = None
    portal_object_name: Annotated[str | None, "Object name in the CryoET Data Portal."] = None
    portal_session_id: Annotated[str | None, "Session id the portal gave, where it was renamed."] = None
    portal_annotation_id: Annotated[str | None, "Id of the annotation in the CryoET Data Portal."] = None
    portal_annotation_file_id: Annotated[str | None, "Id of the annotation file in the CryoET Data Portal."] = None


class InstanceSegmentationRow(_LabelRow):
    __slots__ = ()


class PanopticSegmentationRow(_LabelRow):
    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ObjectRow(Row):
    name: Annotated[str, "Pickable object."]
    url: Annotated[str | None, "OME-Zarr store of the object's density map."] = None


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: Name in the header.
        data_type: Croissant data type, `sc:Text`, `sc:Float` or `sc:Boolean`.
        is_key: Whether the column is part of the key.
        description: One sentence for people.
    """

    name: str
    data_type: str
    is_key: bool
    description: str


def _columns(row: type[Row]) -> tuple[Column, ...]:
    hints = typing.get_type_hints(row, include_extras=True)
    data_types = {str: "sc:Text", float: "sc:Float", bool: "sc:Boolean"}
    columns = []
    for field in dataclasses.fields(typing.cast("Any", row)):
        kind, description = typing.get_args(hints[field.name])
        base = next(arg for arg in (*typing.get_args(kind), kind) if arg in data_types)
        columns.append(Column(field.name, data_types[base], field.default is dataclasses.MISSING, description))
    return tuple(columns)


@dataclass(frozen=True)
class Table:
    """One of the ten tables.

    Attributes:
        name: Name of the record set, without `copick/`.
        row: The row class.
        description: One sentence for people.
        canonical: Format string of the place, relative to the base URL, where copick keeps an artifact.
    """

    name: str
    row: type[Row]
    description: str
    canonical: str
    columns: tuple[Column, ...] = dataclasses.field(init=False)
    key_count: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", _columns(self.row))
        object.__setattr__(self, "key_count", sum(column.is_key for column in self.columns))
        self.row.table = self

    @property
    def record_set_id(self) -> str:
        return f"copick/{self.name}"

    @property
    def file_object_id(self) -> str:
        return f"{self.name.replace('_', '-')}-csv"

    @property
    def file_name(self) -> str:
        return f"{self.name}.csv"

    @cached_property
    def converted(self) -> list[tuple[int, Column]]:
        """The columns that are not text, with their positions."""
        return [(index, column) for index, column in enumerate(self.columns) if column.data_type != "sc:Text"]

    @property
    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def has_url(self) -> bool:
        return any(column.name == "url" for column in self.columns)

    @cached_property
    def make(self) -> Callable[[Sequence[Any]], Row]:
        """A function that gives the row with certain values, one a column.

        Making a frozen row takes four times as long as making a plain one and changing its class, and reading a table
        makes many.
        """
        kind = self.row
        plain = dataclasses.make_dataclass(kind.__name__, self.column_names, bases=(Row,), slots=True)

        def make(values: Sequence[Any]) -> Row:
            row: Row = plain(*values)
            row.__class__ = kind
            return row

        return make

    def key(self, row: Row) -> Key:
        """The key cells of `row`, a voxel size by its `%.3f` form.

        Raises:
            UsageError: `name-invalid`, for a voxel size that is no number.
        """
        values: Key = self._key_values(row)
        at = self._size_at
        if at is None:
            return values
        try:
            return (*values[:at], size_form(values[at]), *values[at + 1 :])
        except (TypeError, ValueError, OverflowError):
            raise _unfit(values[at], self.columns[at], self) from None

    @cached_property
    def _key_values(self) -> Callable[[Row], Any]:
        names = self.column_names[: self.key_count]
        get = operator.attrgetter(*names)
        return get if len(names) > 1 else lambda row: (get(row),)

    @cached_property
    def key_is_text(self) -> bool:
        """Whether the key is just its cells."""
        return all(index >= self.key_count for index, _ in self.converted)

    @cached_property
    def _size_at(self) -> int | None:
        """The position of the voxel size in the key, if it is part of it."""
        positions = [index for index, column in self.converted if column.data_type == "sc:Float"]
        return next((index for index in positions if index < self.key_count), None)


_RUN = "ExperimentRuns/{row.run}"
_STORE = "{row.voxel_size:.3f}_{row.user_id}_{row.session_id}_{row.name}"

TABLES = {
    table.name: table
    for table in (
        Table("runs", RunRow, "The runs of the project.", "ExperimentRuns/{row.name}"),
        Table(
            "voxel_spacings",
            VoxelSpacingRow,
            "The voxel spacings of each run.",
            f"{_RUN}/VoxelSpacing{{row.voxel_size:.3f}}",
        ),
        Table(
            "tomograms",
            TomogramRow,
            "The tomograms of each voxel spacing.",
            f"{_RUN}/VoxelSpacing{{row.voxel_size:.3f}}/{{row.tomo_type}}.zarr",
        ),
        Table(
            "features",
            FeaturesRow,
            "The feature maps of each tomogram.",
            f"{_RUN}/VoxelSpacing{{row.voxel_size:.3f}}/{{row.tomo_type}}_{{row.feature_type}}_features.zarr",
        ),
        Table(
            "picks",
            PicksRow,
            "The point annotations of each run.",
            f"{_RUN}/Picks/{{row.user_id}}_{{row.session_id}}_{{row.object_name}}.json",
        ),
        Table(
            "meshes",
            MeshRow,
            "The mesh annotations of each run.",
            f"{_RUN}/Meshes/{{row.user_id}}_{{row.session_id}}_{{row.object_name}}.glb",
        ),
        Table(
            "segmentations",
            SegmentationRow,
            "The binary and multilabel segmentations of each run.",
            f"{_RUN}/Segmentations/{_STORE}{{row.suffix}}.zarr",
        ),
        Table(
            "instance_segmentations",
            InstanceSegmentationRow,
            "The instance segmentations of each run.",
            f"{_RUN}/InstanceSegmentations/{_STORE}.zarr",
        ),
        Table(
            "panoptic_segmentations",
            PanopticSegmentationRow,
            "The panoptic segmentations of each run.",
            f"{_RUN}/PanopticSegmentations/{_STORE}.zarr",
        ),
        Table("objects", ObjectRow, "The density maps of pickable objects.", "Objects/{row.name}.zarr"),
    )
}


def table_named(name: str) -> Table:
    """The table of that name.

    Raises:
        UsageError: `table-unknown` [CSV-023].
    """
    try:
        return TABLES[name]
    except KeyError:
        raise UsageError("table-unknown", f"there is no table {name!r}; the tables are {', '.join(TABLES)}") from None


# --- cells -----------------------------------------------------------------------------------------------

#: Python's csv, and what is built on it, reads no longer cell, counted in characters.
LONGEST_CELL = 131_072

# Of a run of digits no other part could begin earlier: a cell of a million digits is refused in one pass.
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@lru_cache(maxsize=4096)
def size_form(voxel_size: float) -> str:
    """The form by which two voxel sizes are compared: `%.3f` [VOX-002]."""
    return f"{voxel_size:.3f}"


@lru_cache(maxsize=4096)
def parse_number(cell: str) -> float:
    """A finite decimal number [CSV-019]. Raises ValueError for anything else, `nan`, `1_0` and ` 1` included."""
    if not _NUMBER.fullmatch(cell):
        raise ValueError(cell)
    number = float(cell)
    if not math.isfinite(number):
        raise ValueError(cell)
    return number


def parse_boolean(cell: str) -> bool:
    """`true` or `false`; no other spelling, since other readers take `no` for true. Raises ValueError."""
    if cell == "true":
        return True
    if cell == "false":
        return False
    raise ValueError(cell)


def _cell(value: object, column: Column) -> str:
    """The cell of a value. Raises ValueError where the value does not fit the column."""
    if value is None and not column.is_key:
        return ""
    if column.data_type == "sc:Boolean" and isinstance(value, bool):
        return "true" if value else "false"  # [CSV-026]
    if column.data_type == "sc:Float" and not isinstance(value, bool):
        number = float(value) if isinstance(value, (int, float)) else math.nan
        if math.isfinite(number):
            return repr(number)  # [CSV-026]
    if column.data_type == "sc:Text" and isinstance(value, str) and (value or not column.is_key):
        value.encode()
        if "\0" not in value and len(value) <= LONGEST_CELL:
            return value
    raise ValueError(value)


def _unfit(value: object, column: Column, table: Table) -> UsageError:
    expected = {"sc:Text": "text", "sc:Float": "a finite number", "sc:Boolean": "a bool"}[column.data_type]
    return UsageError(
        "name-invalid",
        f"{reprlib.repr(value)} cannot be written to column {column.name} of {table.file_name}; "
        f"expected {expected}{' that is not empty' if column.is_key else ' or None'}",
        column=column.name,
    )


def cells_of(row: Row) -> dict[str, str]:
    """The cells of a row by column.

    Raises:
        UsageError: `name-invalid`, for a value that has no cell: the wrong type, an empty key, NUL, a lone
            surrogate, more than `LONGEST_CELL` characters, a number that is not finite [CSV-031].
    """
    cells = {}
    for column in row.table.columns:
        value = getattr(row, column.name)
        try:
            cells[column.name] = _cell(value, column)
        except (ValueError, OverflowError):
            raise _unfit(value, column, row.table) from None
    return cells


def encode_record(cells: Sequence[str]) -> bytes:
    """One record of RFC 4180 CSV in UTF-8, line end included [CSV-025]."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)
    return buffer.getvalue().encode()


def encode_table(table: Table, rows: Iterator[Row] | Sequence[Row]) -> bytes:
    """A whole CSV file with the table's own columns [CSV-024]."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(table.column_names)
    writer.writerows(cells_of(row).values() for row in rows)
    return buffer.getvalue().encode()
