"""New names for tomogram types and objects, in rows and in the definitions of objects. Rules: SPEC.md, Export [EXP]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from copick.util.escape import sanitize_name

from copick_mlc._tables import (
    FeaturesRow,
    MeshRow,
    PicksRow,
    Row,
    RunRow,
    TomogramRow,
    VoxelSpacingRow,
)
from copick_mlc.errors import UsageError


class Renames:
    """The maps from old names of tomogram types and objects to new ones."""

    def __init__(self, tomo_types: Mapping[str, str] | None, objects: Mapping[str, str] | None) -> None:
        """Check the maps.

        Raises:
            UsageError: `option-invalid`, for a new name that copick does not allow [EXP-019].
        """
        self._tomo_types = _checked(tomo_types, "tomo_type_map")
        self._objects = _checked(objects, "object_name_map")

    def apply(self, row: Row) -> Row:
        """The row with its new names."""
        if isinstance(row, TomogramRow):
            new = _replaced(row, "tomo_type", self._tomo_types)  # [EXP-017]
            if new is not row and row.portal_tomogram_id and not row.portal_tomo_type:
                new = replace(new, portal_tomo_type=row.tomo_type)  # type: ignore[type-var]  # [POR-003]
            return new
        if isinstance(row, FeaturesRow):
            return _replaced(row, "tomo_type", self._tomo_types)  # [EXP-017]
        if isinstance(row, (PicksRow, MeshRow)):
            return _replaced(row, "object_name", self._objects)  # [EXP-018]
        if isinstance(row, (RunRow, VoxelSpacingRow)):
            return row
        return _replaced(row, "name", self._objects)  # segmentations and objects

    def definitions(self, objects: Iterable[Any]) -> list[dict[str, Any]]:
        """Definitions of objects, as JSON, with their new names.

        Raises:
            UsageError: `option-invalid`, where two would have one name [EXP-019].
        """
        dumped = [self._definition(item.model_dump(mode="json")) for item in objects]
        names = [item["name"] for item in dumped]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(
                "option-invalid", f"object_name_map: more than one object would be named {', '.join(twice)}"
            )
        return dumped

    def _definition(self, dumped: dict[str, Any]) -> dict[str, Any]:
        old = dumped["name"]
        new = self._objects.get(old, old)
        if new == old:
            return dumped
        metadata = dumped.get("metadata") or {}
        original = metadata.get("portal_original_name", old)
        return {**dumped, "name": new, "metadata": {**metadata, "portal_original_name": original}}  # [EXP-018]


def _replaced(row: Row, column: str, names: Mapping[str, str]) -> Row:
    old = getattr(row, column)
    return replace(row, **{column: names[old]}) if old in names else row  # type: ignore[type-var]


def _checked(names: Mapping[str, str] | None, option: str) -> dict[str, str]:
    for old, new in (names or {}).items():
        try:
            allowed = new == sanitize_name(new, suppress_warnings=True)
        except (ValueError, TypeError):
            allowed = False
        if not allowed:
            raise UsageError("option-invalid", f"{option}: copick does not allow the name {new!r}, to replace {old!r}")
    return dict(names or {})
