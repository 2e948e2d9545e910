"""One CSV file: records, groups, spellings that stay, and every way in which it can be wrong."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from copick_mlc._csv import TableFile, split_records
from copick_mlc._tables import (
    TABLES,
    MeshRow,
    ObjectRow,
    PicksRow,
    Row,
    RunRow,
    SegmentationRow,
    VoxelSpacingRow,
    cells_of,
    encode_table,
)
from copick_mlc.errors import CroissantError, DataError, UsageError

SPACINGS = b"run,voxel_size\r\n"
MESHES = b"run,user_id,session_id,object_name,url,sha256\r\n"
SEGMENTATIONS = b"run,voxel_size,user_id,session_id,name,is_multilabel\r\n"

# Any text that a cell can hold, with those that CSV must quote more often than chance has them.
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
    st.text('",\r\n a', max_size=6),
    st.sampled_from(["007", "1e5", "NA", "true", "\ufeff", "\x85", "\u2028", "\x1c", "#", "'"]),
)
NAME = TEXT.filter(bool)


def load(table: str, data: bytes) -> TableFile:
    return TableFile(TABLES[table], f"/project/Croissant/{table}.csv", data)


def rows_of(file: TableFile, name: str) -> list[Row]:
    return list(file.group(name).values())


def all_rows(file: TableFile) -> dict[str, list[Row]]:
    return {name: rows_of(file, name) for name in file.groups}


def reader(data: bytes) -> list[list[str]]:
    """What the standard library makes of CSV bytes, blank lines left out."""
    return [cells for cells in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True) if cells]


def records_of(file: TableFile, *rows: Row) -> list[bytes]:
    return [file.encode(row, None) for row in {row.key: row for row in rows}.values()]


# --- any text --------------------------------------------------------------------------------------------


@st.composite
def mesh_rows(draw: st.DrawFn, runs: st.SearchStrategy[str] = NAME) -> list[Row]:
    optional = st.one_of(st.none(), NAME)
    rows = draw(st.lists(st.builds(MeshRow, runs, NAME, NAME, NAME, optional, optional), max_size=8))
    return list({row.key: row for row in rows}.values())


@given(mesh_rows())
@settings(deadline=None, max_examples=150)
def test_any_text_survives(rows: list[Row]) -> None:
    data = encode_table(TABLES["meshes"], rows)
    assert reader(data)[1:] == [list(cells_of(row).values()) for row in rows]

    file = load("meshes", data)
    assert file.data == data
    assert file.count == len(rows)
    assert sorted(row.key for group in all_rows(file).values() for row in group) == sorted(row.key for row in rows)
    for name in file.groups:
        assert rows_of(file, name) == [row for row in rows if row.group == name]


@given(st.one_of(st.binary(max_size=60), st.text('",\r\na', max_size=40).map(str.encode)))
@settings(deadline=None, max_examples=150)
def test_records_join_to_what_was_split(data: bytes) -> None:
    assert b"".join(split_records(data)) == data


@given(
    rows=mesh_rows(st.sampled_from(["a", "b", "a,b", '"', "c\nd"])),
    dialect=st.sampled_from(
        [(csv.QUOTE_MINIMAL, "\r\n"), (csv.QUOTE_ALL, "\r\n"), (csv.QUOTE_ALL, "\n"), (csv.QUOTE_ALL, "\r")]
    ),
    header=st.permutations(["run", "user_id", "session_id", "object_name", "url", "sha256", "note"]),
    extra=TEXT,
    bom=st.booleans(),
)
@settings(deadline=None, max_examples=120)
def test_the_groups_are_those_that_the_standard_library_sees(
    rows: list[Row], dialect: tuple[Any, str], header: list[str], extra: str, bom: bool
) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, header, quoting=dialect[0], lineterminator=dialect[1])
    writer.writeheader()
    writer.writerows({**cells_of(row), "note": extra} for row in rows)
    data = text.getvalue().encode("utf-8-sig" if bom else "utf-8")

    expected: dict[str, list[dict[str, str]]] = {}
    for cells in reader(data)[1:]:
        record = dict(zip(header, cells, strict=True))
        del record["note"]
        expected.setdefault(record["run"], []).append(record)
    file = load("meshes", data)
    assert list(file.groups) == list(expected)
    assert {name: [cells_of(row) for row in group] for name, group in all_rows(file).items()} == {
        name: [{column: record[column] for column in TABLES["meshes"].column_names} for record in group]
        for name, group in expected.items()
    }


@given(
    st.lists(
        st.sampled_from(["a", "b", '"', '""', ",", "10", "nan", "\r\n", "\n", "\r", " ", "é", "\0", "\udcff"]),
        max_size=24,
    )
)
@example(["a", ",", '"', "10", "\n", "b", ",", "10", "\n"])
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_a_table_or_an_error_and_no_record_gets_lost(pieces: list[str]) -> None:
    data = SPACINGS + "".join(pieces).encode(errors="surrogateescape")
    error = None
    try:
        file = load("voxel_spacings", data)
        groups = all_rows(file)
    except DataError as raised:
        error = raised
    if error is None:
        assert sum(map(len, groups.values())) == file.count == len(reader(data)) - 1
    else:
        assert error.code.startswith("table-")
        assert error.path == "/project/Croissant/voxel_spacings.csv"
        assert error.line is not None
        assert 1 <= error.line <= len((data + b".").splitlines())


# --- forms that are as good as ours ----------------------------------------------------------------------


def test_the_runs_records_need_not_stand_together() -> None:
    file = load("voxel_spacings", SPACINGS + b"a,1\r\nb,1\r\na,2\r\nc,1\r\na,3\r\n")
    assert list(file.groups) == ["a", "b", "c"]
    assert rows_of(file, "a") == [VoxelSpacingRow("a", 1.0), VoxelSpacingRow("a", 2.0), VoxelSpacingRow("a", 3.0)]
    assert file.count == 5


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfrun,voxel_size\r\na,10\r\nb,20\r\n",
        b"run,voxel_size\na,10\nb,20\n",
        b"run,voxel_size\ra,10\rb,20\r",
        b"run,voxel_size\r\na,10\r\nb,20",
        b"run,voxel_size\na,10\nb,20",
        b"run,voxel_size\r\n\r\na,10\r\n\r\n\r\nb,20\r\n\r\n",
        b'"run","voxel_size"\r\n"a","10"\r\n"b","20"\r\n',
        b'\xef\xbb\xbf"run",voxel_size\r\na,"10"\r\nb,20\r\n',
        b"voxel_size,run\r\n10,a\r\n20,b\r\n",
        b"run,voxel_size,note\r\na,10,x\r\nb,20,\r\n",
    ],
    ids=["BOM", "LF", "CR", "no-last-end", "LF-no-last-end", "blank-lines", "quoted", "BOM-quoted", "order", "unknown"],
)
def test_forms_that_other_tools_write(data: bytes) -> None:
    file = load("voxel_spacings", data)
    assert all_rows(file) == {"a": [VoxelSpacingRow("a", 10.0)], "b": [VoxelSpacingRow("b", 20.0)]}
    assert file.count == 2


def test_blank_lines_within_a_run() -> None:
    file = load("voxel_spacings", SPACINGS + b"a,1\r\n\r\na,2\r\n\na,3\r\n")
    assert rows_of(file, "a") == [VoxelSpacingRow("a", 1.0), VoxelSpacingRow("a", 2.0), VoxelSpacingRow("a", 3.0)]
    assert file.count == 3


def test_one_run_quoted_and_not_is_one_run() -> None:
    file = load("voxel_spacings", SPACINGS + b'a,1\r\n"a",2\r\n')
    assert list(file.groups) == ["a"]
    assert file.count == len(rows_of(file, "a")) == 2


def test_missing_optional_columns_are_absent_values() -> None:
    file = load("picks", b"run,user_id,session_id,object_name,url\r\na,u,0,o,x.json\r\n")
    assert rows_of(file, "a") == [PicksRow("a", "u", "0", "o", url="x.json")]


def test_an_unknown_run_has_no_rows() -> None:
    file = load("voxel_spacings", SPACINGS + b"a,1\r\n")
    assert rows_of(file, "A") == []
    assert rows_of(file, "a") != []


def test_a_table_of_a_header_alone_is_empty() -> None:
    file = load("voxel_spacings", b"run,voxel_size")
    assert (list(file.groups), file.count, file.data) == ([], 0, b"run,voxel_size\r\n")


# --- writing ---------------------------------------------------------------------------------------------


def test_a_record_follows_the_files_own_columns() -> None:
    file = load("runs", b"note,split,name\r\nx,,a\r\n")
    assert file.encode(RunRow("b", split="train"), None) == b",train,b\r\n"
    assert file.encode(RunRow("a", split="val"), b"x,,a\r\n") == b"x,val,a\r\n"


def test_cells_whose_value_stays_keep_their_spelling() -> None:
    file = load("picks", b"run,user_id,session_id,object_name,voxel_size,url\r\n")
    old = b'"a",u,0,o,"1.0e1",x\r\n'
    assert file.encode(PicksRow("a", "u", "0", "o", 10.0, "y"), old) == b"a,u,0,o,1.0e1,y\r\n"
    assert file.encode(PicksRow("a", "u", "0", "o", 10.5, "x"), old) == b"a,u,0,o,10.5,x\r\n"
    assert file.encode(PicksRow("a", "u", "0", "o", None, "x"), old) == b"a,u,0,o,,x\r\n"


def test_a_key_keeps_its_spelling() -> None:
    file = load("voxel_spacings", SPACINGS)
    assert file.encode(VoxelSpacingRow("a", 10.0001), b"a,10\r\n") == b"a,10\r\n"


def test_a_bad_value_is_refused_before_it_is_bytes() -> None:
    file = load("runs", b"name\r\n")
    with pytest.raises(UsageError) as caught:
        file.encode(RunRow("a\0"), None)
    assert caught.value.code == "name-invalid"
    assert file.encode(RunRow("a"), None) == b"a\r\n"


def test_columns_that_a_row_needs_are_added() -> None:
    file = load("runs", b"\xef\xbb\xbfname,note\na,1\n\nb,2")
    assert file.lacks(RunRow("a")) == []
    assert file.lacks(RunRow("a", "7", "train")) == ["portal_run_id", "split"]

    wide = file.widened(["portal_run_id", "split"])
    assert wide.data == b"\xef\xbb\xbfname,note,portal_run_id,split\r\na,1,,\r\n\nb,2,,\r\n"
    assert all_rows(wide) == {"a": [RunRow("a")], "b": [RunRow("b")]}
    assert file.data == b"\xef\xbb\xbfname,note\na,1\n\nb,2\r\n", "the narrow one is as it was"


def test_replacing_keeps_the_bytes_of_all_other_groups() -> None:
    a, b, c = b'"a" ,1\r\n'.replace(b" ", b""), b"b,1.50\n", b'"c","2"\n'
    file = load("voxel_spacings", b"\xef\xbb\xbf" + SPACINGS + a + b + b"a,2\r\n" + c)
    result = file.replaced(
        {"b": records_of(file, VoxelSpacingRow("b", 9)), "new": records_of(file, VoxelSpacingRow("new", 3))}
    )
    assert result.data == b"\xef\xbb\xbf" + SPACINGS + a + b"b,9.0\r\n" + b"a,2\r\n" + c + b"new,3.0\r\n"
    assert result.count == 5
    assert list(result.groups) == ["a", "b", "c", "new"]


def test_replacing_by_nothing_removes() -> None:
    file = load("voxel_spacings", SPACINGS + b"a,1\r\nb,1\r\na,2\r\n")
    result = file.replaced({"a": []})
    assert (result.data, result.count, list(result.groups)) == (SPACINGS + b"b,1\r\n", 1, ["b"])
    assert file.count == 3, "the old one is as it was"
    assert load("voxel_spacings", file.data).count == 3


@given(mesh_rows(st.sampled_from("abcdef")), mesh_rows(st.sampled_from("abxy")), st.sets(st.sampled_from("abcx")))
@settings(deadline=None, max_examples=100)
def test_a_replaced_file_is_as_one_read_anew(rows: list[Row], new: list[Row], gone: set[str]) -> None:
    file = load("meshes", encode_table(TABLES["meshes"], rows))
    changed = {row.group: records_of(file, *(r for r in new if r.group == row.group)) for row in new}
    changed |= {name: [] for name in gone}
    result = file.replaced(changed)
    again = load("meshes", result.data)
    assert list(result.groups) == list(again.groups)
    assert result.count == again.count == sum(len(rows) for rows in all_rows(again).values())
    assert all_rows(result) == all_rows(again)
    for name in again.groups:
        source = new if name in changed else rows
        expected = list({row.key: row for row in source if row.group == name}.values())
        assert rows_of(again, name) == expected
    # Once more on what was replaced, whose places are new.
    assert result.replaced({}).data == result.data


# --- what is wrong ---------------------------------------------------------------------------------------

# What is wrong, the table, its bytes, when that shows (None: on load; else: when that group is parsed),
# code, line, column, and the same with the fault repaired.
WRONG: list[tuple[str, str, bytes, str | None, str, int, str | None, bytes]] = [
    ("latin-1", "voxel_spacings", SPACINGS + b"a,1\r\n\xfc,1\r\n", None, "table-encoding", 3, None, b""),
    ("header-latin-1", "voxel_spacings", b"run,voxel_size,\xfc\r\n", None, "table-encoding", 1, None, SPACINGS),
    ("cut-utf-8", "voxel_spacings", SPACINGS + b"\xc3", None, "table-encoding", 2, None, SPACINGS + b"\xc3\xbc,1"),
    ("surrogate", "runs", b"name\n\xed\xa0\x80\n", None, "table-encoding", 2, None, "name\n\ud7ff\n".encode()),
    ("NUL", "voxel_spacings", SPACINGS + b"a,1\r\na,2\r\nb\0,1\r\n", None, "table-syntax", 4, None, b""),
    ("few-cells", "voxel_spacings", SPACINGS + b"a,1\r\na\r\n", "a", "table-syntax", 3, None, SPACINGS + b"a,1\r\na,2"),
    ("many-cells", "voxel_spacings", SPACINGS + b"a,1,\r\n", "a", "table-syntax", 2, None, SPACINGS + b"a,1\r\n"),
    ("open-quote", "voxel_spacings", SPACINGS + b'a,"1\r\n', "a", "table-syntax", 2, None, SPACINGS + b'a,"1"\r\n'),
    ("quote-swallows", "runs", b'name,split\na,"x\nb,\nc,\n', None, "table-syntax", 2, None, b'name,split\na,"x\nb"\n'),
    (
        "inch",
        "runs",
        b'name,split\nq,\na,5" x\nb,\n',
        None,
        "table-syntax",
        3,
        None,
        b'name,split\nq,\na,"5"" x"\nb,\n',
    ),
    ("two-inches", "runs", b'name,split\na,5" x\nb,6" x\n', None, "table-syntax", 2, None, b'name,split\na,""\nb,6'),
    ("after-quote", "runs", b'name,split\na,"x"y\n', "a", "table-syntax", 2, None, b'name,split\na,"x""y"\n'),
    ("empty-file", "runs", b"", None, "table-column", 1, None, b"name"),
    ("blank-header", "runs", b"\r\nname\r\na\r\n", None, "table-column", 1, None, b"name\r\na\r\n"),
    ("BOM-alone", "runs", b"\xef\xbb\xbf", None, "table-column", 1, None, b"\xef\xbb\xbfname"),
    ("no-header", "voxel_spacings", b"a,1\r\n", None, "table-column", 1, "run", SPACINGS + b"a,1\r\n"),
    ("no-key-column", "voxel_spacings", b"run\r\na\r\n", None, "table-column", 1, "voxel_size", SPACINGS),
    ("case", "voxel_spacings", b"run,Voxel_Size\r\n", None, "table-column", 1, "voxel_size", SPACINGS),
    ("space", "voxel_spacings", b"run, voxel_size\r\n", None, "table-column", 1, "voxel_size", SPACINGS),
    ("twice", "runs", b"name,split,split\r\n", None, "table-column", 1, "split", b"name,split,split2\r\n"),
    ("unknown-twice", "runs", b"name,x,x\r\n", None, "table-column", 1, "x", b"name,x,y\r\n"),
    ("empty-run", "voxel_spacings", SPACINGS + b"a,1\r\n,1\r\n", None, "table-key-empty", 3, "run", b""),
    ("empty-run-quoted", "voxel_spacings", SPACINGS + b'"",1\r\n', None, "table-key-empty", 2, "run", b""),
    ("empty-name", "runs", b"split,name\r\ntrain,\r\n", None, "table-key-empty", 2, "name", b"split,name\r\n,a\r\n"),
    (
        "empty-key",
        "meshes",
        MESHES + b"a,u,,o,,\r\n",
        "a",
        "table-key-empty",
        2,
        "session_id",
        MESHES + b"a,u,0,o,,\r\n",
    ),
    (
        "empty-size",
        "voxel_spacings",
        SPACINGS + b"a,\r\n",
        "a",
        "table-key-empty",
        2,
        "voxel_size",
        SPACINGS + b"a,0\r\n",
    ),
    ("run-twice", "runs", b"name\na\nb\na\n", None, "table-key-duplicate", 4, None, b"name\na\nb\nA\n"),
    ("run-twice-in-a-row", "runs", b"name\na\na\n", None, "table-key-duplicate", 3, None, b"name\na\n a\n"),
    ("object-twice", "objects", b'name,url\no,\n"o",x\n', None, "table-key-duplicate", 3, None, b"name,url\no,\np,x\n"),
    (
        "key-twice",
        "meshes",
        MESHES + 2 * b"a,u,0,o,,\r\n",
        "a",
        "table-key-duplicate",
        3,
        None,
        MESHES + b"a,u,0,o,,\r\n",
    ),
    (
        "size-twice",
        "voxel_spacings",
        SPACINGS + b"a,10\r\nb,1\r\na,10.0004\r\n",
        "a",
        "table-key-duplicate",
        4,
        None,
        SPACINGS + b"a,10\r\nb,1\r\na,10.0006\r\n",
    ),
    ("nan", "voxel_spacings", SPACINGS + b"a,1\r\na,nan\r\n", "a", "table-number", 3, "voxel_size", SPACINGS + b"a,1"),
    ("comma", "voxel_spacings", SPACINGS + b'a,"1,5"\r\n', "a", "table-number", 2, "voxel_size", SPACINGS + b'a,"1.5"'),
    ("underscore", "voxel_spacings", SPACINGS + b"a,1_0\n", "a", "table-number", 2, "voxel_size", SPACINGS + b"a,1e0"),
    ("blank-number", "voxel_spacings", SPACINGS + b"a, 1\n", "a", "table-number", 2, "voxel_size", SPACINGS + b"a,+1"),
    ("yes", "segmentations", SEGMENTATIONS + b"a,1,u,0,n,yes\r\n", "a", "table-boolean", 2, "is_multilabel", b""),
    ("True", "segmentations", SEGMENTATIONS + b"a,1,u,0,n,True\r\n", "a", "table-boolean", 2, "is_multilabel", b""),
]


@pytest.mark.parametrize(
    ("table", "data", "group", "code", "line", "column", "good"),
    [case[1:] for case in WRONG],
    ids=[c[0] for c in WRONG],
)
def test_what_is_wrong_is_an_error_that_says_where(
    table: str, data: bytes, group: str | None, code: str, line: int, column: str | None, good: bytes
) -> None:
    path = f"/project/Croissant/{table}.csv"
    if group is None:
        with pytest.raises(DataError) as caught:
            load(table, data)
    else:
        file = load(table, data)
        with pytest.raises(DataError) as caught:
            file.group(group)
    error = caught.value
    assert (error.code, error.path, error.line, error.column) == (code, path, line, column)
    assert isinstance(error, ValueError)
    assert isinstance(error, CroissantError)
    assert str(error).startswith(f"{path}, line {line}{f', column {column}' if column else ''}: ")

    # The positive control: a repaired file, or the lines before the bad one.
    control = good or b"".join(data.splitlines(keepends=True)[: line - 1])
    assert load(table, control).count == sum(map(len, all_rows(load(table, control)).values()))


def test_booleans_that_are_right() -> None:
    file = load("segmentations", SEGMENTATIONS + b"a,1,u,0,n,true\r\na,1,u,0,n,false\r\n")
    assert rows_of(file, "a") == [
        SegmentationRow("a", 1.0, "u", "0", "n", True),
        SegmentationRow("a", 1.0, "u", "0", "n", False),
    ]


def test_a_line_is_counted_through_quoted_line_breaks() -> None:
    file = load("objects", b'name,url\r\n"a\nb",\r\n"c\r\nd\r",x\r\ne,1,2\r\n')
    assert rows_of(file, "c\r\nd\r") == [ObjectRow("c\r\nd\r", "x")]
    with pytest.raises(DataError) as caught:
        file.group("e")
    assert caught.value.line == 7


def test_the_lines_after_a_replaced_group_are_counted_anew() -> None:
    file = load("voxel_spacings", SPACINGS + b"a,1\r\nb,x\r\n")
    result = file.replaced({"a": records_of(file, *(VoxelSpacingRow("a", n) for n in range(1, 5)))})
    with pytest.raises(DataError) as caught:
        result.group("b")
    assert (caught.value.code, caught.value.line) == ("table-number", 6)


def test_a_fault_in_one_run_leaves_the_others() -> None:
    file = load("voxel_spacings", SPACINGS + b"a,x\r\nb,1\r\n")
    assert rows_of(file, "b") == [VoxelSpacingRow("b", 1.0)]
    with pytest.raises(DataError):
        file.group("a")


PLAIN = "TS_1,10.0\r\nTS_1,20.0\r\n"


@pytest.mark.parametrize(
    "unusual",
    ["TS_1,10.0\nTS_1,20.0\n", '"TS_1",10.0\r\nTS_1,20.0\r\n', "TS_1,10.0\r\nTS_1,20.0\n", "TS_1,10.0\rTS_1,20.0\r"],
)
def test_unusual_spellings_read_as_the_plain_one(unusual: str) -> None:
    plain, other = (load("voxel_spacings", SPACINGS + text.encode()) for text in (PLAIN, unusual))
    assert (
        rows_of(other, "TS_1") == rows_of(plain, "TS_1") == [VoxelSpacingRow("TS_1", 10), VoxelSpacingRow("TS_1", 20)]
    )
    assert b"".join(other.records("TS_1")) == unusual.encode()
