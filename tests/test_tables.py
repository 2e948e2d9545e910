"""The ten tables: what format.md fixes, keys, canonical URLs, and the way between values and cells."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copick_mlc._tables import (
    TABLES,
    FeaturesRow,
    InstanceSegmentationRow,
    MeshRow,
    ObjectRow,
    PanopticSegmentationRow,
    PicksRow,
    Row,
    RunRow,
    SegmentationRow,
    TomogramRow,
    VoxelSpacingRow,
    cells_of,
    encode_record,
    encode_table,
    parse_boolean,
    parse_number,
    table_named,
)
from copick_mlc.errors import UsageError

_PORTAL = "portal_object_name portal_session_id portal_annotation_id portal_annotation_file_id"

# Record set, file object, number of key columns, columns; typed off the format's table of tables.
FORMAT = [
    ("copick/runs", "runs-csv", 1, "name portal_run_id split"),
    ("copick/voxel_spacings", "voxel-spacings-csv", 2, "run voxel_size"),
    ("copick/tomograms", "tomograms-csv", 3, "run voxel_size tomo_type url portal_tomo_type portal_tomogram_id"),
    ("copick/features", "features-csv", 4, "run voxel_size tomo_type feature_type url"),
    ("copick/picks", "picks-csv", 4, f"run user_id session_id object_name voxel_size url sha256 {_PORTAL}"),
    ("copick/meshes", "meshes-csv", 4, "run user_id session_id object_name url sha256"),
    (
        "copick/segmentations",
        "segmentations-csv",
        6,
        f"run voxel_size user_id session_id name is_multilabel url {_PORTAL}",
    ),
    (
        "copick/instance_segmentations",
        "instance-segmentations-csv",
        5,
        f"run voxel_size user_id session_id name url {_PORTAL}",
    ),
    (
        "copick/panoptic_segmentations",
        "panoptic-segmentations-csv",
        5,
        f"run voxel_size user_id session_id name url {_PORTAL}",
    ),
    ("copick/objects", "objects-csv", 1, "name url"),
]

# One row of each table, its key, and the place that copick gives the artifact.
ROWS: list[tuple[Row, tuple[str | bool, ...], str]] = [
    (RunRow("TS_1"), ("TS_1",), "ExperimentRuns/TS_1"),
    (VoxelSpacingRow("TS_1", 10), ("TS_1", "10.000"), "ExperimentRuns/TS_1/VoxelSpacing10.000"),
    (
        TomogramRow("TS_1", 13.4567, "wbp"),
        ("TS_1", "13.457", "wbp"),
        "ExperimentRuns/TS_1/VoxelSpacing13.457/wbp.zarr",
    ),
    (
        FeaturesRow("TS_1", 7.84, "wbp", "sobel"),
        ("TS_1", "7.840", "wbp", "sobel"),
        "ExperimentRuns/TS_1/VoxelSpacing7.840/wbp_sobel_features.zarr",
    ),
    (PicksRow("TS_1", "u", "0", "ribo"), ("TS_1", "u", "0", "ribo"), "ExperimentRuns/TS_1/Picks/u_0_ribo.json"),
    (MeshRow("TS_1", "u", "0", "ribo"), ("TS_1", "u", "0", "ribo"), "ExperimentRuns/TS_1/Meshes/u_0_ribo.glb"),
    (
        SegmentationRow("TS_1", 10.0, "u", "1", "ribo", False),
        ("TS_1", "10.000", "u", "1", "ribo", False),
        "ExperimentRuns/TS_1/Segmentations/10.000_u_1_ribo.zarr",
    ),
    (
        SegmentationRow("TS_1", 10.0, "u", "1", "all", True),
        ("TS_1", "10.000", "u", "1", "all", True),
        "ExperimentRuns/TS_1/Segmentations/10.000_u_1_all-multilabel.zarr",
    ),
    (
        InstanceSegmentationRow("TS_1", 10.0, "u", "1", "ribo"),
        ("TS_1", "10.000", "u", "1", "ribo"),
        "ExperimentRuns/TS_1/InstanceSegmentations/10.000_u_1_ribo.zarr",
    ),
    (
        PanopticSegmentationRow("TS_1", 10.0, "u", "1", "scene"),
        ("TS_1", "10.000", "u", "1", "scene"),
        "ExperimentRuns/TS_1/PanopticSegmentations/10.000_u_1_scene.zarr",
    ),
    (ObjectRow("ribo"), ("ribo",), "Objects/ribo.zarr"),
]


def test_the_tables_are_those_of_the_format_in_its_order() -> None:
    declared = [(t.record_set_id, t.file_object_id, t.key_count, " ".join(t.column_names)) for t in TABLES.values()]
    assert declared == FORMAT


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_what_follows_from_a_declaration(table: Any) -> None:
    types = {"voxel_size": "sc:Float", "is_multilabel": "sc:Boolean"}
    assert table.file_name == f"{table.name}.csv"
    assert table.record_set_id == f"copick/{table.name}"
    assert [column.data_type for column in table.columns] == [types.get(n, "sc:Text") for n in table.column_names]
    assert [column.is_key for column in table.columns] == [i < table.key_count for i in range(len(table.columns))]
    assert all(column.description.endswith(".") for column in table.columns)
    assert table.description.endswith(".")
    assert table.has_url == ("url" in table.column_names)
    assert table.row.table is table
    assert [field.name for field in dataclasses.fields(table.row)] == table.column_names
    assert table_named(table.name) is table


def test_the_two_tables_without_url() -> None:
    assert [table.name for table in TABLES.values() if not table.has_url] == ["runs", "voxel_spacings"]


@pytest.mark.parametrize("name", ["pick", "copick/picks", "Picks", ""])
def test_an_unknown_table_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        table_named(name)
    assert caught.value.code == "table-unknown"
    assert "picks" in str(caught.value)


@pytest.mark.parametrize(("row", "key", "url"), ROWS, ids=[url for _, _, url in ROWS])
def test_key_group_and_canonical_url(row: Row, key: tuple[str | bool, ...], url: str) -> None:
    assert row.key == key
    assert row.group == key[0]
    assert row.canonical_url == url


def test_every_table_has_a_row_here() -> None:
    assert {row.table.name for row, _, _ in ROWS} == set(TABLES)


@given(st.floats(min_value=0.001, max_value=1e6), st.floats(min_value=0.001, max_value=1e6))
@settings(deadline=None, max_examples=60)
def test_voxel_sizes_are_one_when_their_three_decimals_are(one: float, other: float) -> None:
    same = VoxelSpacingRow("a", one).key == VoxelSpacingRow("a", other).key
    assert same == ("%.3f" % one == "%.3f" % other)  # noqa: UP031  # as the format words it


def test_sizes_closer_than_the_form_have_one_key() -> None:
    assert VoxelSpacingRow("a", 10).key == VoxelSpacingRow("a", 10.0004).key
    assert VoxelSpacingRow("a", 10).key != VoxelSpacingRow("a", 10.001).key


def test_a_voxel_size_that_is_no_key_compares_nothing() -> None:
    assert PicksRow("a", "u", "0", "o", voxel_size=1.0).key == PicksRow("a", "u", "0", "o", voxel_size=2.0).key


def test_rows_do_not_change() -> None:
    row = RunRow("a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.split = "train"  # type: ignore[misc]
    assert not hasattr(row, "__dict__")


# --- cells -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["007", "1e5", "NA", "true", "None", " a ", "ü", "a,b", 'x"y', "a\nb", "a\rb", "\ufeffa"]
)
def test_text_is_text(name: str) -> None:
    assert cells_of(RunRow(name)) == {"name": name, "portal_run_id": "", "split": ""}
    rows = list(csv.reader(io.StringIO(encode_table(TABLES["runs"], [RunRow(name)]).decode(), newline="")))
    assert rows == [["name", "portal_run_id", "split"], [name, "", ""]]


@pytest.mark.parametrize(
    ("cell", "number"),
    [("10", 10.0), ("10.", 10.0), (".5", 0.5), ("1e1", 10.0), ("+7.840", 7.84), ("-0", 0.0), ("1E-3", 0.001)],
)
def test_numbers(cell: str, number: float) -> None:
    assert parse_number(cell) == number


@pytest.mark.parametrize(
    "cell",
    [
        "nan",
        "NaN",
        "inf",
        "-Infinity",
        "1e999",
        "1_0",
        " 1",
        "1 ",
        "1\n",
        "",
        "1,5",
        "0x1",
        "1e",
        "e5",
        ".",
        "--1",
        "١",
        "１",
    ],
)
def test_what_is_no_number(cell: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the caller makes an error with a code of it
        parse_number(cell)


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(deadline=None, max_examples=100)
def test_any_finite_number_survives_its_cell(number: float) -> None:
    cell = cells_of(VoxelSpacingRow("a", number))["voxel_size"]
    assert parse_number(cell) == number


def test_booleans() -> None:
    assert parse_boolean("true") is True
    assert parse_boolean("false") is False
    for flag, cell in ((True, "true"), (False, "false")):
        assert cells_of(SegmentationRow("a", 1.0, "u", "0", "n", flag))["is_multilabel"] == cell


@pytest.mark.parametrize("cell", ["True", "FALSE", "yes", "no", "1", "0", "t", "", " true"])
def test_what_is_no_boolean(cell: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the caller makes an error with a code of it
        parse_boolean(cell)


def test_absent_optional_values_are_empty_cells() -> None:
    row = PicksRow("a", "u", "0", "o")
    assert [name for name, cell in cells_of(row).items() if cell] == ["run", "user_id", "session_id", "object_name"]


_BAD: list[tuple[Row, str]] = [
    (RunRow("a\0b"), "name"),
    (RunRow("\ud800"), "name"),
    (RunRow(""), "name"),
    (RunRow(7), "name"),  # type: ignore[arg-type]
    (RunRow(b"a"), "name"),  # type: ignore[arg-type]
    (RunRow(None), "name"),  # type: ignore[arg-type]
    (RunRow("a", split="\0"), "split"),
    (RunRow("a", split="x\udfff"), "split"),
    (RunRow("a", split=1), "split"),  # type: ignore[arg-type]
    (VoxelSpacingRow("a", math.nan), "voxel_size"),
    (VoxelSpacingRow("a", math.inf), "voxel_size"),
    (VoxelSpacingRow("a", 10**400), "voxel_size"),
    (VoxelSpacingRow("a", True), "voxel_size"),
    (VoxelSpacingRow("a", "10"), "voxel_size"),  # type: ignore[arg-type]
    (VoxelSpacingRow("a", None), "voxel_size"),  # type: ignore[arg-type]
    (PicksRow("a", "u", "0", "o", voxel_size=math.nan), "voxel_size"),
    (PicksRow("a", "u", "0", ""), "object_name"),
    (SegmentationRow("a", 1.0, "u", "0", "n", 1), "is_multilabel"),  # type: ignore[arg-type]
    (SegmentationRow("a", 1.0, "u", "0", "n", None), "is_multilabel"),  # type: ignore[arg-type]
    (SegmentationRow("a", 1.0, "u", "0", "n", "true"), "is_multilabel"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("row", "column"), _BAD, ids=[repr(row)[:60] for row, _ in _BAD])
def test_a_value_that_has_no_cell_is_refused(row: Row, column: str) -> None:
    with pytest.raises(UsageError) as caught:
        cells_of(row)
    assert (caught.value.code, caught.value.column) == ("name-invalid", column)
    assert row.table.file_name in str(caught.value)


@pytest.mark.parametrize("size", ["10", None, [], 10**400])
def test_a_key_of_no_number_is_refused(size: Any) -> None:
    with pytest.raises(UsageError) as caught:
        _ = VoxelSpacingRow("a", size).key
    assert (caught.value.code, caught.value.column) == ("name-invalid", "voxel_size")


def test_records_and_tables_are_rfc_4180() -> None:
    assert encode_record(["a", "b,c", 'd"e', "f\ng", "", "ü"]) == 'a,"b,c","d""e","f\ng",,ü\r\n'.encode()
    spacings = [VoxelSpacingRow("a", 10), VoxelSpacingRow("b", 7.84)]
    assert encode_table(TABLES["voxel_spacings"], spacings) == b"run,voxel_size\r\na,10.0\r\nb,7.84\r\n"
    assert encode_table(TABLES["objects"], []) == b"name,url\r\n"
