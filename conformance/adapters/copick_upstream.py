"""The adapter around copick's own backend, `copick.impl.mlcroissant`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import copick
from copick.impl.mlcroissant import CSV_SCHEMA, CopickConfigMLCroissant, CopickRootMLC
from copick.ops.croissant import append_croissant, export_croissant

from conformance.adapters._copick import CopickAdapter, Objects, answer_for_the_portal


class Adapter(CopickAdapter):
    """Opens with `from_croissant`, or with a configuration where one is given; rows are those of its index."""

    name = "copick"
    version = copick.__version__

    def open(
        self,
        manifest: str,
        overlay: str | None = None,
        base_url: str | None = None,
        config: Mapping[str, Any] | None = None,
        root: str = "main",
    ) -> None:
        places = {"croissant_url": manifest, "croissant_base_url": base_url, "overlay_root": overlay}
        options = {"overlay_fs_args": {"auto_mkdir": True}} if overlay else {}  # as in copick's own configurations
        if config is None:
            self._projects[root] = copick.from_croissant(**places, **options)
        else:
            values = {"pickable_objects": [], **options, **config, **places}
            self._projects[root] = CopickRootMLC(CopickConfigMLCroissant(**values))

    def rows(self, table: str, run: str | None = None, root: str = "main") -> Objects:
        index = self._projects[root].index
        schema = CSV_SCHEMA[f"copick/{table}"]
        rows = index.runs_by_name.values() if table == "runs" else getattr(index, table)
        first = schema["columns"][0]
        return [{name: row.get(name) for name in schema["columns"]} for row in rows if run in (None, row[first])]

    def export(self, source: str, project_root: str, options: Mapping[str, Any], records: str | None = None) -> str:
        manifest: str = export_croissant(_opened(source, records), project_root, **options)
        return manifest

    def append(self, manifest: str, source: str, options: Mapping[str, Any], records: str | None = None) -> str:
        place: str = append_croissant(manifest, _opened(source, records), **options)
        return place

    def error_code(self, error: BaseException) -> str | None:
        return None


def _opened(source: str, records: str | None) -> Any:
    """The project that is exported."""
    if records is not None:
        answer_for_the_portal(source, records)
    return copick.from_file(source)
