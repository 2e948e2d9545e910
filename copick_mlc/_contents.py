"""What the row of a picks or mesh file repeats of the file. Rules: SPEC.md, Export [EXP]."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from copick_mlc._tables import MeshRow, PicksRow

_VOXEL_SPACING = re.compile(rb'(?<!\\)"voxel_spacing"\s*:\s*([-+.0-9eE]+|null)\s*[,}]')


def columns_of(row: PicksRow | MeshRow, data: bytes, *, hashed: bool = True) -> dict[str, Any]:
    """The columns of a row that its file's bytes say."""
    columns: dict[str, Any] = {}
    if hashed:
        columns["sha256"] = hashlib.sha256(data).hexdigest()  # [EXP-011]
    if isinstance(row, PicksRow):
        columns["voxel_size"] = _voxel_size(data)  # [EXP-012]
    return columns


def _voxel_size(data: bytes) -> float | None:
    """The voxel size in Å that a picks file of copick names, found without parsing its points."""
    match = _VOXEL_SPACING.search(data.partition(b'"points"')[0])
    try:
        if match is not None:
            return None if match.group(1) == b"null" else float(match.group(1))
        value = json.loads(data).get("voxel_spacing")
    except (ValueError, AttributeError, RecursionError):
        return None  # not a picks file of copick; whoever opens it is told
    return float(value) if isinstance(value, (int, float)) else None
