"""The adapter around copick_mlc, the reference implementation."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from typing import Any, ClassVar

import copick_mlc
from conformance.adapters._copick import CopickAdapter, Objects, answer_for_the_portal
from conformance.adapters._entities import KINDS
from copick_mlc import _lock
from copick_mlc.opening import open_project
from copick_mlc.root import config_of

# Without the package for it there is no S3.
_OPTIONAL = ["s3"] if importlib.util.find_spec("s3fs") else []


class Adapter(CopickAdapter):
    """Opens with `from_croissant`, or with a configuration where one is given; rows are those of the index."""

    name = "copick_mlc"
    version = importlib.metadata.version("copick-mlc")
    capabilities: ClassVar = [*CopickAdapter.capabilities, "codes", "locks", "publish", *_OPTIONAL]

    def open(
        self,
        manifest: str,
        overlay: str | None = None,
        base_url: str | None = None,
        config: Mapping[str, Any] | None = None,
        lock_seconds: float = _lock.WAIT_SECONDS,
        root: str = "main",
    ) -> None:
        _lock.WAIT_SECONDS = lock_seconds  # of the process: no case opens two roots that wait differently
        if config is None:
            project = copick_mlc.from_croissant(manifest, overlay_root=overlay, croissant_base_url=base_url)
        else:
            places = {"croissant_url": manifest, "croissant_base_url": base_url, "overlay_root": overlay}
            project = copick_mlc.CopickRootMLC(config_of({"pickable_objects": [], **config, **places}, manifest))
        _read_all(project)
        self._projects[root] = project

    def refresh(self, root: str = "main") -> None:
        super().refresh(root)
        _read_all(self._projects[root])

    def rows(self, table: str, run: str | None = None, root: str = "main") -> Objects:
        rows = self._projects[root].index.rows(table, run)
        return [{name: getattr(row, name) for name in row.table.column_names} for row in rows]

    def export(self, source: str, project_root: str, options: Mapping[str, Any], records: str | None = None) -> str:
        return copick_mlc.export_croissant(_opened(source, records), project_root, **options)

    def append(self, manifest: str, source: str, options: Mapping[str, Any], records: str | None = None) -> str:
        return copick_mlc.append_croissant(manifest, _opened(source, records), **options)

    def publish(self, source: str, project_root: str, options: Mapping[str, Any]) -> str:
        return copick_mlc.publish(open_project(source), project_root, **options)

    def error_code(self, error: BaseException) -> str | None:
        return error.code if isinstance(error, copick_mlc.CroissantError) else None


def _opened(source: str, records: str | None) -> Any:
    """The project that is exported."""
    if records is not None:
        answer_for_the_portal(source, records)
    return open_project(source)


def _read_all(project: copick_mlc.CopickRootMLC) -> None:
    """Parse every row, which the index does when someone asks for it, so that what is wrong in one is said now."""
    for table in KINDS:
        for _ in project.index.rows(table):
            pass
