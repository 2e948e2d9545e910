"""metadata.json: read, build, patch.

A manifest is a JSON-LD document of which this format owns a part: the context terms, `copick:baseUrl`,
`copick:config`, `dateModified`, one file object and one record set a table, and the record sets of splits and of
pickable objects. Everything else in it is somebody's [MAN-015] and stays [MAN-020]. Patching makes a new document; a
`Manifest` never changes.
Rules: SPEC.md, Manifest [MAN].
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import reprlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from copick_mlc import _objects, _splits
from copick_mlc._objects import NAME_ID, OBJECTS_ID
from copick_mlc._splits import SPLITS_ID
from copick_mlc._tables import TABLES, Column, Table
from copick_mlc.errors import DataError

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"  # [EXP-027]

# json reads deeper than it, repr and copy can follow; no manifest that somebody meant comes near.
_DEEPEST = 100

# What no file system takes in a path.
_NO_PLACE = re.compile("[\0\ud800-\udfff]")

#: The properties of the dataset that the format owns.
OWN_PROPERTIES = (
    "@context",
    "@type",
    "conformsTo",
    "copick:baseUrl",
    "copick:config",
    "dateModified",
    "distribution",
    "recordSet",
)

_CROISSANT_TERMS = (
    "annotation arrayShape citeAs column containedIn equivalentProperty excludes extract field fileProperty "
    "fileObject fileSet format includes isArray isLiveDataset jsonPath key md5 parentField path readLines "
    "recordSet references regex repeated replace samplingRate sdVersion separator source subField transform "
    "unArchive value"
).split()

#: The Croissant 1.1 context, as mlcroissant and the specification have it [EXP-040], PROV, and copick's two properties.
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",  # [EXP-027]
    "conformsTo": "dct:conformsTo",
    "copick": "https://copick.org/schema/",
    "copick:baseUrl": "copick:baseUrl",
    "copick:config": {"@id": "copick:config", "@type": "@json"},
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    **{term: f"cr:{term}" for term in _CROISSANT_TERMS},
}


class Manifest:
    """A metadata.json as it was read.

    Attributes:
        document: The JSON-LD document; not to be changed.
        path: Where it lies, for messages.
        base_url: `copick:baseUrl`; None where there is none.
        config: `copick:config`; empty where there is none.
    """

    def __init__(self, data: bytes, path: str) -> None:
        """Parse the bytes of a metadata.json.

        Raises:
            DataError: `manifest-invalid` or `not-copick`.
        """
        self.path = path
        try:
            document = parse(data.decode("utf-8-sig"))  # [MAN-003]
        except (ValueError, RecursionError) as error:
            raise self._invalid(f"not JSON: {error}") from error  # [MAN-002] [SEC-007]
        if not isinstance(document, dict):  # [MAN-002]
            raise self._invalid(f"a JSON object was expected, not {type(document).__name__}")
        self.document: dict[str, Any] = document
        self._files = self._by_id("distribution")
        self._record_sets = self._by_id("recordSet")
        if "copick/runs" not in self._record_sets:
            raise DataError(
                "not-copick",  # [MAN-004]
                "no record set copick/runs: this is no copick project. Expected a metadata.json that "
                "copick_mlc export or copick config export-croissant wrote",
                path=path,
            )
        for table in TABLES.values():
            self.sha256(table)  # raises for one of another type [MAN-011]
            if table.record_set_id in self._record_sets and table.file_object_id not in self._files:  # [MAN-007]
                raise self._invalid(
                    f"the record set {table.record_set_id} has no file object {table.file_object_id} in distribution"
                )
        self.base_url = self._base_url()
        self.config = self._config()

    def declares(self, table: Table) -> bool:
        """Whether there is a CSV for `table`; a table without one is empty."""
        return table.file_object_id in self._files  # [MAN-008] [MAN-009]

    def sha256(self, table: Table) -> str | None:
        """The declared sha256 of a table's CSV; None where none is declared."""
        value = self._files.get(table.file_object_id, {}).get("sha256")
        if value is not None and not isinstance(value, str):
            raise self._invalid(
                f"sha256 of {table.file_object_id} is {reprlib.repr(value)}; expected a string"
            )  # [MAN-011]
        return value or None

    def untrue(self, table: Table, data: bytes) -> dict[str, tuple[object, str]]:
        """What the file object of a table says of its bytes that is not so: by property, what it says and what is so.

        Not the sha256, which readers check; and what it does not say is not untrue.
        """
        entry = _entry(_dicts(self.document.get("distribution")), table.file_object_id) or {}
        measures = _measures(entry, data)
        return {key: (entry[key], value) for key, value in measures.items() if entry.get(key) not in (None, "", value)}

    def untrue_objects(self) -> list[str]:
        """What copick/pickable_objects says otherwise than copick:config does, a text for each thing."""
        entry = _entry(_dicts(self.document.get("recordSet")), OBJECTS_ID)
        rows = _objects_of(entry, self.config) if entry is not None else None
        if entry is None or rows is None:
            return []
        if not rows:
            return ["copick:config defines no objects, so it is not to be there"]  # [MAN-038]
        return _objects.differences(entry.get("data", []), rows)

    def _base_url(self) -> str | None:
        value = self.document.get("copick:baseUrl")
        if isinstance(value, dict):  # a form that JSON-LD tools give it [MAN-010]
            value = value.get("@id") or value.get("@value") or value
        if value is not None and not isinstance(value, str):
            raise self._invalid(f"copick:baseUrl is {reprlib.repr(value)}; expected a string")  # [MAN-011]
        if value and _NO_PLACE.search(value):
            raise self._invalid(
                f"copick:baseUrl is {reprlib.repr(value)}; a NUL or a lone surrogate is in no URL"
            )  # [MAN-011]
        return value or None

    def _config(self) -> dict[str, Any]:
        value = self.document.get("copick:config", {})  # [MAN-014]
        if isinstance(value, dict) and "@value" in value:
            value = value["@value"]  # [MAN-012]
        if isinstance(value, str):
            try:
                value = parse(value)  # [MAN-012]
            except (ValueError, RecursionError) as error:
                raise self._invalid(f"copick:config is a string that is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise self._invalid(f"copick:config is a {type(value).__name__}; expected an object")  # [MAN-013]
        objects = value.get("pickable_objects")
        objects = [] if objects is None else objects
        if not isinstance(objects, list) or not all(
            isinstance(item, dict) and isinstance(item.get("name"), str) for item in objects
        ):
            raise self._invalid("copick:config.pickable_objects is not a list of objects with names")  # [MAN-013]
        return value

    def _by_id(self, key: str) -> dict[str, dict[str, Any]]:
        entries = self.document.get(key, [])
        if isinstance(entries, dict):
            entries = [entries]  # [MAN-005]
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise self._invalid(f"{key} is not a list of objects")  # [MAN-006]
        known: dict[str, dict[str, Any]] = {}
        for entry in entries:
            if isinstance(entry.get("@id"), str):
                known.setdefault(entry["@id"], entry)  # [MAN-032]; of two the first, as `_entry`
        return known

    def _invalid(self, message: str) -> DataError:
        return DataError("manifest-invalid", message, path=self.path)


def parse(text: str) -> Any:
    """The JSON value in a text.

    Raises:
        ValueError, RecursionError: where it is none, or one that others than json could not follow to its end.
    """
    value = json.loads(text)
    level = [value]
    for _ in range(_DEEPEST + 1):
        level = [item for item in level if isinstance(item, (dict, list))]
        if not level:
            return value
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
    raise ValueError(f"nested more than {_DEEPEST} levels deep")


def dump(document: Mapping[str, Any]) -> bytes:
    """The bytes of a metadata.json."""
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8, only an escape
        return (json.dumps(document, indent=2) + "\n").encode()


def patch(
    document: Mapping[str, Any],
    *,
    files: Mapping[str, bytes],
    filled: Iterable[str],
    splits: Iterable[str] | None,
    modified: str | None,
    config: Mapping[str, Any] | None = None,
    columns: Mapping[str, Collection[str]] | None = None,
) -> dict[str, Any]:
    """A copy of `document` that says what was written.

    Args:
        document: A JSON-LD document of a copick project, or the beginning of one.
        files: The CSVs that were written, by table name.
        filled: Those of these tables that have rows.
        splits: The split names that runs have, in the order of runs.csv; None leaves splits as they are.
        modified: The ISO date of the change [MAN-034]; None leaves `dateModified` as it is.
        config: The new `copick:config`; None leaves it as it is.
        columns: The columns that these CSVs have, by table name; None says that they have all.
    """
    # A copy, five times as fast as deepcopy; what is not patched below stays [MAN-020].
    result: dict[str, Any] = json.loads(json.dumps(document))
    for key in ("distribution", "recordSet"):
        entries = result.setdefault(key, [])
        result[key] = entries if isinstance(entries, list) else [entries]
    if config is not None:
        result["copick:config"] = dict(config)
        _declare_objects(result["recordSet"], config)
    filled = set(filled)
    prefix = _siblings_prefix(result["distribution"])
    for name, data in files.items():
        table = TABLES[name]
        _declare_file(result["distribution"], table, data, prefix)
        present = table.column_names if columns is None else columns[name]
        _declare_record_set(result["recordSet"], record_set(table, present), name in filled or name == "runs")
    if splits is not None:
        _declare_splits(result["recordSet"], list(dict.fromkeys(splits)))
    return result if modified is None else _dated(result, modified)


def build(
    template: Mapping[str, Any],
    properties: Mapping[str, Any],
    *,
    content_prefix: str,
    files: Mapping[str, bytes],
    filled: Iterable[str],
    splits: Iterable[str],
    modified: str | None = None,
) -> dict[str, Any]:
    """A new document. What the format owns is brought up to date; all else of `template` stays [EXP-007].

    Args:
        template: The document it replaces, or that of the source it comes from; may be empty.
        properties: Dataset properties; one that is None is left out.
        content_prefix: What comes before the file name in each `contentUrl`.
        files: All ten CSVs, by table name.
        filled: The tables that have rows.
        splits: The split names that runs have, in the order of runs.csv.
        modified: The ISO date that it gets where it replaces `template` and differs from it [EXP-041]; None where it
            replaces nothing.
    """
    context = template.get("@context")
    document: dict[str, Any] = {
        "@context": {**(context if isinstance(context, dict) else {}), **CONTEXT},
        "@type": "sc:Dataset",  # [EXP-027]
        **{key: value for key, value in properties.items() if value is not None},
    }
    own = {*OWN_PROPERTIES, *document}
    document |= {
        key: copy.deepcopy(value) for key, value in template.items() if key not in own and key not in properties
    }
    for key in ("distribution", "recordSet"):
        entries = copy.deepcopy(template.get(key, []))
        document[key] = entries if isinstance(entries, list) else [entries]
    document = patch(document, files=files, filled=filled, splits=splits, modified=None)
    for name in files:
        file = _entry(document["distribution"], TABLES[name].file_object_id) or {}
        file["contentUrl"] = f"{content_prefix}{TABLES[name].file_name}"  # [EXP-025]
    for table in TABLES.values():
        entry = _entry(document["recordSet"], table.record_set_id)
        if entry is not None:
            _complete(entry, record_set(table, table.column_names))
    _add_objects(document["recordSet"])  # [EXP-042]
    _declare_objects(document["recordSet"], document.get("copick:config") or {})
    return document if modified is None else _replacing(document, template, modified)


def _replacing(document: dict[str, Any], old: Mapping[str, Any], modified: str) -> dict[str, Any]:
    """`document` with the date on which it last changed, where it replaces `old` [EXP-041]."""
    last = old.get("dateModified")
    is_changed = document != {key: value for key, value in old.items() if key != "dateModified"}
    date = modified if is_changed else last
    return document if date is None else _dated(document, date)


def _dated(document: dict[str, Any], date: object) -> dict[str, Any]:
    """The document with this `dateModified`; a new one goes before the long lists, where people look."""
    if "dateModified" in document:
        return document | {"dateModified": date}
    keys = list(document)
    before = keys[: keys.index("distribution")]
    return {key: document[key] for key in before} | {"dateModified": date} | document


def _complete(entry: dict[str, Any], ours: Mapping[str, Any]) -> None:
    """Add what a record set, or its fields, lack of the form in which we declare it."""
    for field in ours["field"]:
        known = _entry(entry["field"], field["@id"])
        if known is not None:
            known |= {key: value for key, value in field.items() if key not in known}
    entry |= {key: value for key, value in ours.items() if key not in entry}


def _entry(entries: list[Any], identifier: str) -> dict[str, Any] | None:
    return next((e for e in entries if isinstance(e, dict) and e.get("@id") == identifier), None)


def _dicts(value: object) -> list[dict[str, Any]]:
    """The objects in a value that may be a list of them or a single one."""
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]


def _declare_file(distribution: list[Any], table: Table, data: bytes, prefix: str) -> None:
    entry = _entry(distribution, table.file_object_id)
    if entry is None:
        entry = {
            "@type": "cr:FileObject",
            "@id": table.file_object_id,
            "name": table.file_object_id,
            "contentUrl": f"{prefix}{table.file_name}",
            "encodingFormat": "text/csv",
        }
        distribution.append(entry)  # [MAN-022]
    entry["sha256"] = hashlib.sha256(data).hexdigest()  # [MAN-021]
    entry |= _measures(entry, data)


def _measures(entry: Mapping[str, Any], data: bytes) -> dict[str, str]:
    """What a file object says of the bytes of its file besides the sha256: an md5 only where it has one [MAN-033]."""
    measures = {"contentSize": f"{len(data)} B"}
    if "md5" in entry:
        measures["md5"] = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return measures


def _siblings_prefix(distribution: list[Any]) -> str:
    """What stands before the file name in the contentUrl of the CSVs that are declared already [MAN-023]."""
    for table in TABLES.values():
        url = (_entry(distribution, table.file_object_id) or {}).get("contentUrl")
        if isinstance(url, str) and url.endswith(table.file_name):
            return url.removesuffix(table.file_name)
    return ""


def record_set(table: Table, columns: Collection[str]) -> dict[str, Any]:
    """The record set, as we declare it, of a table whose CSV has these columns; it refers to no other [MAN-026]."""
    return {
        "@type": "cr:RecordSet",
        "@id": table.record_set_id,
        "name": table.name,
        "description": table.description,
        "key": [{"@id": f"{table.record_set_id}/{column.name}"} for column in table.columns if column.is_key],
        "field": [_field(table, column) for column in table.columns if column.name in columns],  # [MAN-025]
    }


def _field(table: Table, column: Column) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{table.record_set_id}/{column.name}",
        "name": column.name,
        "description": column.description,
        "dataType": column.data_type,
        "source": {"fileObject": {"@id": table.file_object_id}, "extract": {"column": column.name}},
    }


def _declare_record_set(record_sets: list[Any], ours: dict[str, Any], needed: bool) -> None:
    """Have a record set, `ours` where there is none, for a table that needs one.

    Some dataset checkers take the first record of every record set, so a table without rows has none [EXP-026],
    unless somebody made more of it than we did.
    """
    entry = _entry(record_sets, ours["@id"])
    table = TABLES[ours["name"]]
    if not needed and entry == ours:
        record_sets.remove(entry)  # [MAN-024]
    elif needed and entry is None:
        tables = list(TABLES.values())
        record_sets.insert(_place(record_sets, tables[: tables.index(table)]), ours)  # [MAN-022]
    elif entry is not None:
        _fit_fields(entry, ours, [f"{table.record_set_id}/{name}" for name in table.column_names])  # [MAN-025]


def _field_ids(entry: Mapping[str, Any]) -> list[str]:
    return [field["@id"] for field in _dicts(entry.get("field")) if isinstance(field.get("@id"), str)]


def _fit_fields(entry: dict[str, Any], ours: Mapping[str, Any], owned: Collection[str]) -> None:
    """Have a record set describe, of the fields that the format owns, just those that `ours` does."""
    fields = entry.get("field", [])
    fields = fields if isinstance(fields, list) else [fields]
    present = [field["@id"] for field in ours["field"]]
    absent = [identifier for identifier in owned if identifier not in present]
    entry["field"] = [field for field in fields if not (isinstance(field, dict) and field.get("@id") in absent)]
    entry["field"] += [field for field in ours["field"] if _entry(fields, field["@id"]) is None]


def _place(record_sets: list[Any], tables: Iterable[Table]) -> int:
    """The position behind the record sets of these tables."""
    before = [table.record_set_id for table in tables]
    return max((i for i, e in enumerate(record_sets) if isinstance(e, dict) and e.get("@id") in before), default=-1) + 1


def _declare_splits(record_sets: list[Any], names: list[str]) -> None:
    """Have the record set of splits say which there are, and the runs refer to it."""
    runs = _entry(record_sets, "copick/runs") or {}
    field = _entry(runs.get("field", []), "copick/runs/split")
    if field is not None:
        if _splits.can_be_referred_to(names):  # [MAN-031]
            field["references"] = {"field": {"@id": f"{SPLITS_ID}/name"}}
        else:
            field.pop("references", None)
    entry = _entry(record_sets, SPLITS_ID)
    if not names:  # [MAN-028]
        if entry is not None:
            record_sets.remove(entry)
        return
    if entry is None:
        entry = _splits.record_set()
        record_sets.append(entry)
    rows = _splits.data(names, _dicts(entry.get("data")))  # [MAN-027]
    entry["data"] = [{**dict.fromkeys(_field_ids(entry)), **row} for row in rows]  # [MAN-036]


def _add_objects(record_sets: list[Any]) -> None:
    """Have the record set of pickable objects, after those of tables, with all the fields that we declare."""
    ours = _objects.record_set()
    entry = _entry(record_sets, OBJECTS_ID)
    if entry is None:
        record_sets.insert(_place(record_sets, TABLES.values()), ours)
    else:
        _fit_fields(entry, ours, ())
        _complete(entry, ours)


def _declare_objects(record_sets: list[Any], config: Mapping[str, Any]) -> None:
    """Have the record set of pickable objects, where there is one, say what the configuration does [MAN-035]."""
    entry = _entry(record_sets, OBJECTS_ID)
    rows = _objects_of(entry, config) if entry is not None else None
    if entry is None or rows is None:
        return
    if rows:
        entry["data"] = rows
    else:
        record_sets.remove(entry)  # mlcroissant rejects a record set whose data is empty [MAN-038]


def _objects_of(entry: Mapping[str, Any], config: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The data that the record set of pickable objects is to have; None for somebody's, of another form [MAN-035]."""
    fields = _field_ids(entry)
    if NAME_ID not in fields:
        return None
    return _objects.data(config.get("pickable_objects") or [], fields, _dicts(entry.get("data")))
