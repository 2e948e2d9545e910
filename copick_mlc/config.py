"""`CopickConfigMLCroissant`: what a user says about how to open a project."""

from __future__ import annotations

import os
import warnings
from typing import Any

from copick.models import CopickConfig

from copick_mlc.errors import CroissantWarning


class CopickConfigMLCroissant(CopickConfig):
    """Configuration of a copick project that is read through a Croissant manifest.

    Attributes:
        config_type: Always `mlcroissant`.
        croissant_url: Path or fsspec URL of metadata.json.
        croissant_base_url: What relative URLs are relative to, in place of `copick:baseUrl`; for a project that was
            moved from where it was published [URL-004].
        overlay_root: Where writes go. With it, manifest and base are never written (Mode B) [OVL-001]; without it,
            writes go to the base URL and the manifest follows (Mode A).
        overlay_fs_args: fsspec options for the overlay.
        croissant_fs_args: fsspec options for metadata.json and the CSVs.
        static_fs_args: fsspec options for the data at the base URL.
    """

    config_type: str = "mlcroissant"
    croissant_url: str
    croissant_base_url: str | None = None
    overlay_root: str | None = None
    overlay_fs_args: dict[str, Any] | None = {}
    croissant_fs_args: dict[str, Any] | None = {}
    static_fs_args: dict[str, Any] | None = {}

    def __init__(self, **values: Any) -> None:
        """Paths may be pathlib objects. A key that is no field is a `CroissantWarning`."""
        for name in ("croissant_url", "croissant_base_url", "overlay_root"):
            if isinstance(values.get(name), os.PathLike):
                values[name] = os.fspath(values[name])
        unknown = sorted(set(values) - set(type(self).model_fields))
        if unknown:
            warnings.warn(
                f"unknown keys in the configuration: {', '.join(unknown)}; they have no effect",
                CroissantWarning,
                stacklevel=2,
            )
        super().__init__(**values)
