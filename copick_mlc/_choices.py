"""What of a project is exported, and as what: filters and new names. Rules: SPEC.md, Export [EXP]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from copick_mlc._portal import PortalOptions
from copick_mlc._renames import Renames
from copick_mlc._selection import Selection

# The options that are names or URIs.
_LISTS = (
    *("runs", "tomograms", "features", "picks", "meshes", "segmentations", "objects"),
    *("picks_author", "segmentations_author", "tomograms_author"),
)


@dataclass(frozen=True)
class Choices:
    """What of a source is exported, and as what: the options of `export_croissant` with these names.

    Names and URIs are lists afterwards: an iterator could be looked at but once. A str is a list of one.
    """

    compute_file_sha256: bool = True
    runs: Iterable[str] | None = None
    tomograms: Iterable[str] | None = None
    features: Iterable[str] | None = None
    picks: Iterable[str] | None = None
    meshes: Iterable[str] | None = None
    segmentations: Iterable[str] | None = None
    objects: Iterable[str] | None = None
    tomo_type_map: Mapping[str, str] | None = None
    object_name_map: Mapping[str, str] | None = None
    session_id_template: str | None = None
    picks_portal_meta: Mapping[str, Any] | None = None
    picks_author: Iterable[str] | None = None
    segmentations_portal_meta: Mapping[str, Any] | None = None
    segmentations_author: Iterable[str] | None = None
    tomograms_portal_meta: Mapping[str, Any] | None = None
    tomograms_author: Iterable[str] | None = None

    def __post_init__(self) -> None:
        for name in _LISTS:
            object.__setattr__(self, name, _as_list(getattr(self, name)))

    def selection(self) -> Selection:
        """The filters by name and URI.

        Raises:
            UsageError: `option-invalid` [EXP-016].
        """
        uris = {kind: getattr(self, kind) for kind in ("tomograms", "features", "picks", "meshes", "segmentations")}
        return Selection(self.runs, self.objects, uris)

    def renames(self) -> Renames:
        """The new names.

        Raises:
            UsageError: `option-invalid` [EXP-019].
        """
        return Renames(self.tomo_type_map, self.object_name_map)

    def portal(self) -> PortalOptions:
        """The options for portal sources."""
        return PortalOptions(**{name: getattr(self, name) for name in PortalOptions.__dataclass_fields__})


def _as_list(values: Iterable[str] | None) -> list[str] | None:
    """The values as a list; a str is one value."""
    if values is None:
        return None
    return [values] if isinstance(values, str) else list(values)
