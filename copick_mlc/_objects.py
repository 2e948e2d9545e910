"""The record set that tells Croissant tools which objects there are to pick.

`copick:config` defines the pickable objects, for copick. The manifest repeats their names, labels and kinds in an
inline enumeration, which any Croissant tool reads. Rules: SPEC.md, Manifest [MAN].
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

OBJECTS_ID = "copick/pickable_objects"
NAME_ID = f"{OBJECTS_ID}/name"


def record_set() -> dict[str, Any]:
    """The record set of pickable objects, without data."""
    return {
        "@type": "cr:RecordSet",
        "@id": OBJECTS_ID,
        "name": "pickable_objects",
        "description": "The objects that annotations name.",
        "dataType": "sc:Enumeration",
        "key": {"@id": NAME_ID},
        "field": [
            _field("name", "Name of the object.", ["sc:Text", "sc:name"]),
            _field("label", "Value of the object in multilabel segmentations.", "sc:Integer"),
            _field("is_particle", "Whether the object is a particle, which is picked.", "sc:Boolean"),
        ],
    }


def _field(name: str, description: str, data_type: str | list[str]) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{OBJECTS_ID}/{name}",
        "name": name,
        "description": description,
        "dataType": data_type,
    }


def data(
    objects: Iterable[Mapping[str, Any]], fields: Iterable[str], old: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The inline data of the record set: one row an object [MAN-035].

    Args:
        objects: The pickable objects of `copick:config`.
        fields: The `@id`s of the fields that the record set has; mlcroissant wants each in every row [MAN-036].
        old: The rows that are there already. What somebody added to them stays [MAN-037].
    """
    known = _by_name(old)
    defined = {item["name"]: item for item in objects}  # each once: it is the key
    fields = list(fields)
    return [{**known.get(name, {}), **_row(item, fields, known.get(name, {}))} for name, item in defined.items()]


def _row(item: Mapping[str, Any], fields: Iterable[str], old: Mapping[str, Any]) -> dict[str, Any]:
    """What is not known is null [MAN-036], which mlcroissant reads as a missing value."""
    ours = {f"{OBJECTS_ID}/{key}": item.get(key) for key in ("name", "label", "is_particle")}
    return {field: ours.get(field) if field in ours else old.get(field) for field in fields}


def differences(old: object, new: Iterable[Mapping[str, Any]]) -> list[str]:
    """What inline data says otherwise than `new`, an outcome of `data`: a text an object. Their order says nothing."""
    rows = old if isinstance(old, list) else [old]
    theirs, ours = _by_name(row for row in rows if isinstance(row, dict)), _by_name(new)
    pairs = {name: (theirs.get(name), ours.get(name)) for name in {**theirs, **ours}}
    texts = [
        f"{name!r} is {_said(their, our)}, in copick:config {_said(our, their)}"
        for name, (their, our) in pairs.items()
        if their != our
    ]
    if len(rows) > len(theirs):
        texts.append(f"{len(rows) - len(theirs)} of its rows have no name, or that of another row")
    return texts


def _by_name(rows: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {name: row for row in rows if isinstance(name := row.get(NAME_ID), str)}


def _said(row: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> str:
    """What a row says that the other does not."""
    if row is None:
        return "missing"
    others = other or {}
    said = {key: value for key, value in row.items() if key not in others or others[key] != value}
    return json.dumps({key.removeprefix(f"{OBJECTS_ID}/"): value for key, value in said.items()})
