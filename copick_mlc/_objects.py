"""The record set that tells Croissant tools which objects there are to pick.

`copick:config` defines the pickable objects, for copick. The manifest repeats their names, labels and kinds in an
inline enumeration, which any Croissant tool reads. Rules: SPEC.md, Manifest [MAN].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

OBJECTS_ID = "copick/pickable_objects"


def record_set() -> dict[str, Any]:
    """The record set of pickable objects, without data."""
    return {
        "@type": "cr:RecordSet",
        "@id": OBJECTS_ID,
        "name": "pickable_objects",
        "description": "The objects that annotations name.",
        "dataType": "sc:Enumeration",
        "key": {"@id": f"{OBJECTS_ID}/name"},
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
    known = {name: row for row in old if isinstance(name := row.get(f"{OBJECTS_ID}/name"), str)}
    defined = {item["name"]: item for item in objects}  # each once: it is the key
    fields = list(fields)
    return [{**known.get(name, {}), **_row(item, fields, known.get(name, {}))} for name, item in defined.items()]


def _row(item: Mapping[str, Any], fields: Iterable[str], old: Mapping[str, Any]) -> dict[str, Any]:
    """What is not known is null [MAN-036], which mlcroissant reads as a missing value."""
    ours = {f"{OBJECTS_ID}/{key}": item.get(key) for key in ("name", "label", "is_particle")}
    return {field: ours.get(field) if field in ours else old.get(field) for field in fields}
