"""What a project holds, for people and programs: `python -m copick_mlc inspect`. Needs the index layer only."""

from __future__ import annotations

from collections import Counter
from typing import Any

from copick_mlc import _filesystems
from copick_mlc._tables import TABLES
from copick_mlc.index import CroissantIndex, VoxelSpacingRow

_BY_OBJECT = {
    "picks": "object_name",
    "meshes": "object_name",
    "segmentations": "name",
    "instance_segmentations": "name",
    "panoptic_segmentations": "name",
}


def inspect(index: CroissantIndex) -> dict[str, Any]:
    """What a project holds, as a JSON object."""
    fs, path = _filesystems.open_location(index.base_url, index.static_fs_args)
    reason = _filesystems.write_reason(fs, path) or index.write_reason()
    return {
        "manifest": index.url,
        "name": index.document.get("name"),
        "mode": "A",
        "writable": reason is None,
        "read_only_reason": reason,
        "base_url": index.base_url,
        "tables": {name: index.count(name) for name in TABLES},
        "runs": sorted(index.groups("runs")),
        "objects": _objects(index),
        "splits": index.splits(),
        "voxel_sizes": dict(sorted(Counter(row.voxel_size for row in index.rows_of(VoxelSpacingRow)).items())),
    }


def _objects(index: CroissantIndex) -> dict[str, dict[str, Any]]:
    """What there is of each pickable object; a multilabel or panoptic segmentation's name may be none's."""
    definitions = index.config.get("pickable_objects") or []
    maps = set(index.groups("objects"))
    objects: dict[str, dict[str, Any]] = {
        item["name"]: {
            "is_particle": item.get("is_particle"),
            "label": item.get("label"),
            "density_map": item["name"] in maps,
        }
        for item in definitions
    }
    for table, column in _BY_OBJECT.items():
        for name, count in Counter(getattr(row, column) for row in index.rows(table)).items():
            if name in objects:
                objects[name][table] = count
    return objects


def render(report: dict[str, Any]) -> str:
    """The report as text."""
    sizes = [f"{size:g} Å ({count})" for size, count in report["voxel_sizes"].items()]
    splits = [f"{name} ({len(runs)})" for name, runs in report["splits"].items()]
    lines = [
        f"{report['name']}",
        f"  manifest     {report['manifest']}",
        f"  base URL     {report['base_url']}",
        f"  mode         {'A, writable' if report['writable'] else 'read-only: ' + report['read_only_reason']}",
        f"  voxel sizes  {', '.join(sizes) or 'none'}",
        f"  splits       {', '.join(splits) or 'none'}",
        "",
        *_columns([("table", "rows")] + [(name, str(count)) for name, count in report["tables"].items()]),
        "",
        *_columns([("object", "has")] + [(name, _had(entry)) for name, entry in report["objects"].items()]),
        "",
        f"runs: {_listed(report['runs'])}",
    ]
    return "\n".join(lines)


def _had(entry: dict[str, Any]) -> str:
    counts = [f"{entry[table]} {table.replace('_', ' ')}" for table in _BY_OBJECT if table in entry]
    return ", ".join([*counts, *(["a density map"] if entry["density_map"] else [])]) or "nothing"


def _columns(rows: list[tuple[str, str]]) -> list[str]:
    width = max(len(first) for first, _ in rows)
    return [f"  {first:<{width}}  {second}" for first, second in rows]


def _listed(names: list[str], most: int = 20) -> str:
    more = f" … and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more if names else "none"
