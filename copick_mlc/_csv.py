"""One CSV file of a table: bytes, split into records, grouped by run, parsed when someone asks.

A project has tens of thousands of rows and most callers want one run's. So loading a file only finds
where each run's records lie; `TableFile.group` parses one run. Records that nobody changed are written
back from the very bytes that were read, which keeps unknown columns and unusual spellings as they were.
Rules: SPEC.md, Tables [CSV].
"""

from __future__ import annotations

import copy
import csv
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from copick_mlc._tables import Key, Row, Table, cells_of, encode_record, parse_boolean, parse_number
from copick_mlc.errors import DataError

_BOM = b"\xef\xbb\xbf"
_LINE_ENDS = b"\r\n"

# By data type: how a cell that is not text is read, and the code and words for one that cannot be.
_CONVERSIONS: dict[str, Callable[[str], float | bool]] = {"sc:Float": parse_number, "sc:Boolean": parse_boolean}
_EXPECTED = {
    "sc:Float": ("table-number", "a finite decimal number"),  # [CSV-020]
    "sc:Boolean": ("table-boolean", "true or false"),  # [CSV-021]
}


def split_records(data: bytes) -> list[bytes]:
    """Cut CSV bytes into records, line ends included; a line break within quotes does not end a record [CSV-001]."""
    lines = data.splitlines(keepends=True)  # [CSV-002]
    if b'"' not in data:
        return lines
    records = []
    pending: list[bytes] = []
    quoted = False
    for line in lines:
        pending.append(line)
        # RFC 4180 doubles a quote within quotes, so a record is complete when its quotes are even.
        quoted ^= line.count(b'"') % 2 == 1
        if not quoted:
            records.append(b"".join(pending))
            pending.clear()
    return [*records, b"".join(pending)] if pending else records


class TableFile:
    """The bytes of one table's CSV, where each run's records lie in them, and what replaces them.

    Attributes:
        table: The table's declaration.
        path: Path or URL of the file, for messages.
        header: The columns of the file, in its order.
        count: Number of records.
    """

    def __init__(self, table: Table, path: str, data: bytes) -> None:
        """Split and group `data`, without parsing it.

        Raises:
            DataError: `table-encoding`, `table-syntax`, `table-column` or `table-key-empty`.
        """
        if data and not data.endswith((b"\n", b"\r")):
            data += b"\r\n"  # [CSV-002]
        self.table = table
        self.path = path
        self.count = 0
        self._read = data
        self._spans: dict[str, list[tuple[int, int]]] = {}
        self._replaced: dict[str, bytes] = {}
        if b"\0" in data:
            raise self._error("table-syntax", "a NUL byte", data.index(b"\0"))  # [CSV-016]
        try:
            data.decode()
        except UnicodeDecodeError as error:  # [CSV-013]
            raise self._error("table-encoding", "not UTF-8; the file must be UTF-8 text", error.start) from error
        records = split_records(data)
        self.header = self._read_header(records[0] if records else b"")
        self._header_end = len(records[0]) if records else 0
        names = table.column_names  # [CSV-008] [CSV-010]
        self._order = (
            None if self.header == names else [self.header.index(n) if n in self.header else None for n in names]
        )
        self._check_quotes(records[1:])
        self._group(records[1:])

    # --- reading -----------------------------------------------------------------------------------------

    @property
    def groups(self) -> Iterator[str]:
        """The runs (in `runs` and `objects`, the names) that have records, in file order."""
        if not self._replaced:
            return iter(self._spans)
        names = {**self._spans, **self._replaced}
        return (name for name in names if self._replaced.get(name, b"-"))

    def has(self, name: str) -> bool:
        """Whether a run has records."""
        return bool(self._replaced[name]) if name in self._replaced else name in self._spans

    def group(self, name: str) -> dict[Key, Row]:
        """Parse one run's records: its rows by key, in file order.

        Raises:
            DataError: `table-syntax`, `table-key-empty`, `table-key-duplicate`, `table-number`, `table-boolean`.
        """
        parts = self._parts(name)
        plain = self._plain_rows(parts)
        if plain is not None:
            return plain
        rows: dict[Key, Row] = {}
        for start, part in parts:
            for record in split_records(part):
                row = self._parse(record, start)
                key = self.table.key(row)
                if key in rows:  # [CSV-018]
                    raise self._error("table-key-duplicate", f"a second row with the key {_cut(str(key))}", start)
                rows[key] = row
                start += len(record)
        return rows

    def _plain_rows(self, parts: list[tuple[int, bytes]]) -> dict[Key, Row] | None:
        """The rows of one run, where they are written as we and copick write them, without quotes.

        Most are, and need no more than splitting at commas. None where anything asks for a closer look.
        """
        if self._order is not None or len(parts) != 1 or b'"' in parts[0][1]:
            return None
        table, width, keys = self.table, len(self.header), self.table.key_count
        conversions = [(index, _CONVERSIONS[column.data_type]) for index, column in table.converted]
        part = parts[0][1]
        *lines, end = part.decode().split("\r\n")
        if end or not len(lines) == part.count(b"\r") == part.count(b"\n"):
            return None
        rows: dict[Key, Row] = {}
        for line in lines:
            values: list[Any] = [cell or None for cell in line.split(",")]  # [CSV-005]
            key = tuple(values[:keys])
            if len(values) != width or None in key:
                return None
            try:
                for index, convert in conversions:
                    if values[index] is not None:
                        values[index] = convert(values[index])
            except ValueError:
                return None
            row = table.make(values)
            rows[key if table.key_is_text else table.key(row)] = row
        return rows if len(rows) == len(lines) else None

    def naming(self, text: str, besides: str) -> list[str]:
        """The runs, other than `besides`, in whose records `text` stands; none is parsed to tell."""
        needle = text.replace('"', '""').encode()
        own = sum(self._read.count(needle, start, end) for start, end in self._spans.get(besides, ()))
        names = [name for name, records in self._replaced.items() if needle in records]
        if self._read.count(needle) > own:
            unchanged = (name for name in self._spans if name not in self._replaced)
            names += [name for name in unchanged if any(needle in part for _, part in self._parts(name))]
        return [name for name in names if name != besides]

    def records(self, name: str) -> list[bytes]:
        """One run's records, line ends included, in the order of its rows."""
        return [record for _, part in self._parts(name) for record in split_records(part)]

    def _parts(self, name: str) -> list[tuple[int, bytes]]:
        """The bytes of a run's records, with their positions in what was read."""
        if name in self._replaced:
            return [(len(self._read), self._replaced[name])]
        return [(start, self._read[start:end]) for start, end in self._spans.get(name, ())]

    def _read_header(self, record: bytes) -> list[str]:
        header = self._cells(record.removeprefix(_BOM), 0) if record else []  # [CSV-003]
        if not any(header):  # [CSV-011]
            raise self._error("table-column", f"no header; expected {','.join(self.table.column_names)}", 0)
        for column in self.table.columns:
            if column.is_key and column.name not in header:  # [CSV-011]
                raise self._error(
                    "table-column",
                    f"the header lacks the key column {column.name}; it has {_cut(', '.join(header))}",
                    0,
                    column.name,
                )
        for name, count in Counter(header).items():
            if count > 1:  # [CSV-012]
                raise self._error(
                    "table-column", f"the header names the column {_cut(repr(name))} twice", 0, _cut(name)
                )
        return header

    def _check_quotes(self, records: list[bytes]) -> None:
        """Refuse a stray quote here: it makes one record of all lines after it, other runs' among them [CSV-015]."""
        if b'"' not in self._read:
            return
        position = self._header_end
        for record in records:
            if len(record.splitlines()) > 1:
                self._cells(record, position)
            position += len(record)

    def _group(self, records: list[bytes]) -> None:
        group_column = self.header.index(self.table.columns[0].name)
        spans = self._spans
        position = self._header_end
        last: bytes | None = None
        span: list[tuple[int, int]] = []
        for record in records:
            end = position + len(record)
            comma = record.find(b",")
            first = record[:comma] if group_column == 0 and comma >= 0 else None
            if first is None or first[:1] == b'"':
                if not record.strip(_LINE_ENDS):  # [CSV-003]
                    position = end
                    last = None
                    continue
                cells = self._cells(record, position)
                if group_column >= len(cells):
                    raise self._wrong_count(cells, record, position)
                first = cells[group_column].encode()
            if first == last:
                span[-1] = (span[-1][0], end)
            else:
                if not first:  # [CSV-017]
                    column = self.header[group_column]
                    raise self._error("table-key-empty", "the key cell is empty", position, column)
                span = spans.setdefault(first.decode(), [])
                span.append((position, end))
                last = first
            self.count += 1
            position = end
        if self.table.key_count == 1 and self.count != len(spans):
            for name in spans:
                self.group(name)  # raises for the name that stands twice

    def _cells(self, record: bytes, position: int) -> list[str]:
        try:
            rows = list(csv.reader([record.decode().rstrip("\r\n")], strict=True))  # [CSV-015]
        except csv.Error as error:
            raise self._error("table-syntax", f"{error}: {_excerpt(record)}", position) from error
        return rows[0] if rows else []

    def _wrong_count(self, cells: list[str], record: bytes, position: int) -> DataError:
        count = f"{len(cells)} cells where the header has {len(self.header)}"
        return self._error("table-syntax", f"{count}: {_excerpt(record)}", position)  # [CSV-014]

    def _parse(self, record: bytes, position: int) -> Row:
        # Most records have no quotes; then commas are all there is to them.
        cells = self._cells(record, position) if b'"' in record else record.decode().rstrip("\r\n").split(",")
        if len(cells) != len(self.header):
            raise self._wrong_count(cells, record, position)
        values: list[Any] = [cell or None for cell in cells]  # [CSV-005]
        if self._order is not None:
            values = [values[index] if index is not None else None for index in self._order]  # [CSV-009]
        table = self.table
        if None in values[: table.key_count]:  # [CSV-017]
            column = table.columns[values.index(None)]
            raise self._error("table-key-empty", "the key cell is empty", position, column.name)
        try:
            for index, column in table.converted:  # [CSV-007]
                if values[index] is not None:
                    values[index] = _CONVERSIONS[column.data_type](values[index])
        except ValueError:
            code, expected = _EXPECTED[column.data_type]
            raise self._error(code, f"{_cut(repr(values[index]))} is not {expected}", position, column.name) from None
        return table.make(values)

    def _error(self, code: str, message: str, position: int, column: str | None = None) -> DataError:
        line = len((self._render(position) + b".").splitlines())
        return DataError(code, message, path=self.path, line=line, column=column)

    def parse(self, record: bytes) -> Row:
        """The row of one record.

        Raises:
            DataError: as `group`.
        """
        return self._parse(record, len(self._read))

    # --- writing -----------------------------------------------------------------------------------------

    def encode(self, row: Row, old: bytes | None) -> bytes:
        """The record of `row`. Of `old`, unknown columns [CSV-028] and cells whose value stays [CSV-029] are kept.

        Raises:
            UsageError: `name-invalid`.
        """
        cells = cells_of(row)
        if old is not None:
            previous = self.parse(old)
            kept = dict(zip(self.header, self._cells(old, 0), strict=True))
            unchanged = {name for name, cell in cells_of(previous).items() if cells[name] == cell}
            # A key cell never changes its value here, only perhaps its spelling.
            unchanged |= {column.name for column in self.table.columns if column.is_key}
            cells = {**cells, **{name: cell for name, cell in kept.items() if name not in cells or name in unchanged}}
        return encode_record([cells.get(name, "") for name in self.header])  # [CSV-033]

    def lacks(self, row: Row) -> list[str]:
        """The columns that `row` has a value for and the file does not have."""
        return [name for name, cell in cells_of(row).items() if cell and name not in self.header]

    def widened(self, columns: list[str]) -> TableFile:
        """This file with more columns at the end, empty in every record [CSV-030]."""
        header, *records = split_records(self.data)
        parts = [header.rstrip(_LINE_ENDS) + b"," + ",".join(columns).encode() + b"\r\n"]
        for record in records:
            body = record.rstrip(_LINE_ENDS)
            parts.append(body + b"," * len(columns) + b"\r\n" if body else record)
        return TableFile(self.table, self.path, b"".join(parts))

    def replaced(self, changed: Mapping[str, Collection[bytes]]) -> TableFile:
        """The file with these records for the runs in `changed`; all others keep their bytes [CSV-027]."""
        result = copy.copy(self)
        result._replaced = {**self._replaced}
        for name, records in changed.items():
            result.count += len(records) - len(self.records(name))
            result._replaced[name] = b"".join(records)
        return result

    @property
    def data(self) -> bytes:
        """The whole file."""
        new = [records for name, records in self._replaced.items() if name not in self._spans]
        return b"".join([self._render(len(self._read)), *new])

    def _render(self, end: int) -> bytes:
        """The file up to what was at `end` when it was read; a replaced group lies where its first part was."""
        spans = [(start, stop, name) for name in self._replaced for start, stop in self._spans.get(name, ())]
        view = memoryview(self._read)
        pieces: list[bytes | memoryview] = []
        position = 0
        for start, stop, name in sorted(spans):
            if start >= end:
                break
            pieces.append(view[position:start])
            if start == self._spans[name][0][0]:
                pieces.append(self._replaced[name])
            position = stop
        return b"".join([*pieces, view[position:end]])


def _excerpt(record: bytes) -> str:
    return _cut(repr(record.decode(errors="replace").rstrip("\r\n")))


def _cut(text: str) -> str:
    """What a message needs of a text of any length."""
    return text if len(text) <= 200 else text[:197] + "..."
