"""The check `consistent`: whether a manifest, its tables and its data are in order.

`findings` says in a line each what is not. It reads with nothing but `json` and `csv`, goes as far as it
can, and knows of no implementation.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
import posixpath
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from conformance import documents
from conformance.matching import difference
from conformance.tables import TABLES, Table

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")
_LOCAL = re.compile(r"(?:file|local)://")
_SIZE = re.compile(r"\d+ B", re.ASCII)
_SPLITS = "copick/splits"
_OBJECTS = "copick/pickable_objects"


@dataclass(frozen=True)
class Records:
    """A CSV as it is read here: every row is an object of its cells."""

    header: list[str]
    rows: list[dict[str, str]]


def findings(manifest: str, expected: Collection[str]) -> list[str]:
    """What is wrong with the project of a manifest.

    Args:
        manifest: Absolute path of metadata.json.
        expected: Names that may lie beside it, besides the ten tables.
    """
    try:
        with open(manifest, "rb") as file:
            document = documents.parse(file.read())
    except OSError as error:
        return [f"metadata.json cannot be read: {error.strerror}"]
    except ValueError as error:
        return [f"metadata.json is not JSON: {error}"]
    if not isinstance(document, dict):
        return ["metadata.json is no object"]
    return list(_Project(os.path.dirname(manifest), document, expected).findings())


class _Project:
    def __init__(self, directory: str, document: Mapping[str, Any], expected: Collection[str]) -> None:
        self._directory = directory
        self._document = document
        self._expected = expected
        self._files = {entry.get("@id"): entry for entry in documents.objects(document, "distribution")}
        self._sets = {entry.get("@id"): entry for entry in documents.objects(document, "recordSet")}
        self._records: dict[str, Records] = {}

    def findings(self) -> Iterator[str]:
        yield from self._declarations()
        for table in TABLES.values():
            if table.file_object in self._files:
                yield from self._table(table)
        for name, records in self._records.items():
            yield from self._record_set(TABLES[name], records)
        yield from self._splits()
        yield from self._pickable_objects()
        yield from self._references()
        yield from self._urls()
        yield from self._strays()

    def _declarations(self) -> Iterator[str]:
        for member in ("distribution", "recordSet"):
            ids = Counter(str(entry["@id"]) for entry in documents.objects(self._document, member) if "@id" in entry)
            yield from (f"{member} has {count} entries {name!r}" for name, count in ids.items() if count > 1)
        for table in TABLES.values():
            if table.record_set in self._sets and table.file_object not in self._files:
                yield f"there is a record set {table.record_set} and no file object {table.file_object}"
        if "copick/runs" not in self._sets:
            yield "there is no record set copick/runs"

    def _table(self, table: Table) -> Iterator[str]:
        """What is wrong with the bytes and the cells of one table."""
        try:
            with open(os.path.join(self._directory, table.file), "rb") as file:
                data = file.read()
        except OSError as error:
            yield f"{table.file} cannot be read: {error.strerror}"
            return
        declared = self._files[table.file_object].get("sha256")
        if declared is not None and declared != hashlib.sha256(data).hexdigest():
            yield f"{table.file} does not have the declared sha256"
        yield from _measures(table, self._files[table.file_object], data)
        try:
            records = read(data)
        except ValueError as error:
            yield f"{table.file}: {error}"
            return
        lacking = [column for column in table.key if column not in records.header]
        if lacking:
            yield f"{table.file} has no column {', '.join(lacking)}"
            return
        self._records[table.name] = records
        yield from _cells(table, records.rows)

    def _record_set(self, table: Table, records: Records) -> Iterator[str]:
        """Whether the record set of a table has a field for each of its columns, and none else."""
        declared = self._sets.get(table.record_set)
        if declared is None:
            if records.rows:
                yield f"{table.file} has rows and no record set {table.record_set}"
            return
        fields = [field.get("@id") for field in documents.objects(declared, "field")]
        columns = [f"{table.record_set}/{name}" for name in records.header]
        known = [f"{table.record_set}/{name}" for name in table.columns]
        yield from (f"the field {field} stands twice" for field, count in Counter(fields).items() if count > 1)
        yield from (f"the field {field} is no column of {table.file}" for field in fields if field not in columns)
        yield from (f"there is no field {field}" for field in known if field in columns and field not in fields)
        for field in documents.objects(declared, "field"):
            column = str(field.get("@id")).rpartition("/")[2]
            wanted = {
                "fileObject": {"@has": {"@id": table.file_object}},
                "extract": {"@has": {"column": column}},
            }
            if difference({"@has": wanted}, field.get("source")):
                yield f"the source of the field {field.get('@id')} is not that column of {table.file_object}"

    def _splits(self) -> Iterator[str]:
        """Whether the manifest names the splits that runs have."""
        wanted = sorted({row["split"] for row in self._rows("runs") if row.get("split")})
        if _SPLITS not in self._sets:
            if wanted:
                yield f"runs have the splits {', '.join(wanted)} and there is no record set {_SPLITS}"
            return
        if not wanted:
            yield f"there is a record set {_SPLITS} and no run has a split"
            return
        data = documents.objects(self._sets[_SPLITS], "data")
        named = sorted(str(row.get(f"{_SPLITS}/name")) for row in data)
        if named != wanted:
            yield f"{_SPLITS} names {', '.join(named) or 'none'}, and runs have {', '.join(wanted)}"
        if any(f"{_SPLITS}/url" not in row for row in data):
            yield f"a row of {_SPLITS} has no url"

    def _pickable_objects(self) -> Iterator[str]:
        """Whether the manifest repeats the pickable objects of its configuration, where it repeats them."""
        declared = self._sets.get(_OBJECTS)
        there = [field.get("@id") for field in documents.objects(declared, "field")]
        if f"{_OBJECTS}/name" not in there:
            return
        fields = [f"{_OBJECTS}/{name}" for name in ("name", "label", "is_particle") if f"{_OBJECTS}/{name}" in there]
        wanted = [[item.get(field.rpartition("/")[2]) for field in fields] for item in self._defined().values()]
        repeated = [[row.get(field) for field in fields] for row in documents.objects(declared, "data")]
        if sorted(map(str, wanted)) != sorted(map(str, repeated)):
            yield f"{_OBJECTS} says {repeated}, and copick:config {wanted}"
        if not wanted:
            yield f"there is a record set {_OBJECTS} and no pickable object"

    def _defined(self) -> dict[str, dict[str, Any]]:
        """The pickable objects of `copick:config`, in whatever form that is, by name."""
        config = self._document.get("copick:config")
        if isinstance(config, dict) and "@value" in config:
            config = config["@value"]
        if isinstance(config, str):
            config = documents.parse(config)
        return {str(item.get("name")): item for item in documents.objects(config, "pickable_objects")}

    def _references(self) -> Iterator[str]:
        """Whether rows belong to runs and voxel spacings that have rows."""
        if "runs" not in self._records:
            return
        spacing = TABLES["voxel_spacings"]
        runs = {row["name"] for row in self._rows("runs")}
        spacings = {identity(row, spacing) for row in self._rows("voxel_spacings")}
        for name, records in self._records.items():
            for row in records.rows:
                if "run" in row and row["run"] not in runs:
                    yield f"{name}.csv has a row of the run {row['run']!r}, which has none of its own"
                elif name in ("tomograms", "features") and identity(row, spacing) not in spacings:
                    where = f"{row['run']!r} at {row['voxel_size']}"
                    yield f"{name}.csv has a row of {where}, a voxel spacing that has none of its own"

    def _urls(self) -> Iterator[str]:
        """Whether there is something at every relative URL, where the base is local."""
        base = self._base()
        if base is None:
            return
        for name, records in self._records.items():
            for row in records.rows:
                url = row.get("url", "")
                if not url or url.startswith("/") or "::" in url or _SCHEME.match(url):
                    continue
                if posixpath.normpath(url).split("/")[0] == "..":
                    yield f"{name}.csv has the URL {url!r}, which climbs out of the base URL"
                elif not os.path.exists(os.path.join(base, url)):
                    yield f"{name}.csv has the URL {url!r}, where there is nothing"

    def _base(self) -> str | None:
        declared = self._document.get("copick:baseUrl")
        if isinstance(declared, dict):
            declared = declared.get("@id", declared.get("@value"))
        if declared is None:
            return os.path.dirname(self._directory)
        local = _LOCAL.sub("", str(declared), count=1)
        # What a relative base is relative to, only the implementation knows.
        return local if os.path.isabs(local) else None

    def _strays(self) -> Iterator[str]:
        allowed = {"metadata.json", *self._expected, *(table.file for table in TABLES.values())}
        for name in sorted(set(os.listdir(self._directory)) - allowed):
            yield f"{name} lies beside metadata.json"

    def _rows(self, name: str) -> list[dict[str, str]]:
        return self._records[name].rows if name in self._records else []


def read(data: bytes) -> Records:
    """The records of a CSV.

    Raises:
        ValueError: it is not a CSV with a header, or not UTF-8.
    """
    text = data.decode("utf-8-sig")
    if "\0" in text:
        raise ValueError("there is a NUL byte")
    try:
        header, *rows = (row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row)
    except csv.Error as error:
        raise ValueError(str(error)) from None
    except ValueError:
        raise ValueError("there is no header") from None
    if len(set(header)) != len(header):
        raise ValueError(f"the header names a column twice: {','.join(header)}")
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"{len(row)} cells where the header has {len(header)}: {','.join(row)}")
    return Records(header, [dict(zip(header, row, strict=True)) for row in rows])


def _measures(table: Table, declared: Mapping[str, Any], data: bytes) -> Iterator[str]:
    """Whether the size and the MD5 that are declared of a table are those of its bytes."""
    size = declared.get("contentSize")
    if _SIZE.fullmatch(str(size)) and size != f"{len(data)} B":
        yield f"{table.file} has {len(data)} bytes and is said to have {size}"
    if declared.get("md5") not in (None, hashlib.md5(data, usedforsecurity=False).hexdigest()):
        yield f"{table.file} does not have the declared md5"


def _cells(table: Table, rows: list[dict[str, str]]) -> Iterator[str]:
    """What is wrong with keys, numbers and booleans."""
    seen = set()
    for row in rows:
        for column in table.key:
            if not row[column]:
                yield f"{table.file} has an empty {column}"
        size = row.get("voxel_size", "")
        if size and not (_NUMBER.fullmatch(size) and math.isfinite(float(size))):
            yield f"{table.file} has the voxel size {size!r}, which is no number"
        if row.get("is_multilabel", "") not in ("", "true", "false"):
            yield f"{table.file} has {row['is_multilabel']!r} for is_multilabel"
        key = identity(row, table)
        if key in seen:
            yield f"{table.file} has the key {', '.join(key)} twice"
        seen.add(key)


def identity(row: Mapping[str, str], table: Table) -> tuple[str, ...]:
    """The key of a row, in which voxel sizes are the same when they are so with three decimals."""
    return tuple(_size(row[column]) if column == "voxel_size" else row[column] for column in table.key)


def _size(cell: str) -> str:
    return f"{float(cell):.3f}" if _NUMBER.fullmatch(cell) else cell
