"""Which rows of a project are exported: run names, and copick URIs for the artifacts. Rules: SPEC.md, Export [EXP]."""

from __future__ import annotations

import copy
import fnmatch
import re
from collections.abc import Iterable
from typing import Any

from copick.util.uri import parse_copick_uri

from copick_mlc._tables import Row, size_form
from copick_mlc.errors import UsageError

# For each table: the option that selects from it, copick's name of the kind, and which part of a URI a column is.
_NAMES = {"object_name": "object_name", "user_id": "user_id", "session_id": "session_id"}
_SEGMENTATION = {"name": "name", "user_id": "user_id", "session_id": "session_id", "voxel_size": "voxel_spacing"}
_KINDS: dict[str, tuple[str, str, dict[str, str]]] = {
    "tomograms": ("tomograms", "tomogram", {"tomo_type": "tomo_type", "voxel_size": "voxel_spacing"}),
    "features": (
        "features",
        "feature",
        {"tomo_type": "tomo_type", "voxel_size": "voxel_spacing", "feature_type": "feature_type"},
    ),
    "picks": ("picks", "picks", _NAMES),
    "meshes": ("meshes", "mesh", _NAMES),
    "segmentations": ("segmentations", "segmentation", _SEGMENTATION),
    "instance_segmentations": ("segmentations", "segmentation", _SEGMENTATION),
    "panoptic_segmentations": ("segmentations", "segmentation", _SEGMENTATION),
}


class Selection:
    """The filters of an export. A filter that is None selects everything.

    Args:
        runs: Names of runs.
        objects: Names of objects whose density maps are exported.
        uris: copick URIs by option: `tomograms`, `features`, `picks`, `meshes`, `segmentations`.

    Attributes:
        matched: The options and values of them that something matched.
    """

    def __init__(
        self,
        runs: Iterable[str] | None,
        objects: Iterable[str] | None,
        uris: dict[str, Iterable[str] | None],
    ) -> None:
        """Parse the URIs.

        Raises:
            UsageError: `option-invalid`, for what is no copick URI [EXP-016].
        """
        names = {"runs": runs, "objects": objects}
        self._names = {option: None if given is None else dict.fromkeys(given) for option, given in names.items()}
        self._uris: dict[str, dict[str, dict[str, Any]] | None] = {}
        kinds = {option: kind for option, kind, _ in _KINDS.values()}
        for option, given in uris.items():
            self._uris[option] = None if given is None else {uri: _parse(uri, kinds[option], option) for uri in given}
        self.matched: set[tuple[str, str]] = set()

    @property
    def drops_volumes(self) -> bool:
        """Whether volumes are filtered; then only voxel spacings that still have one are exported."""
        return any(self._uris.get(option) is not None for option in ("tomograms", "features", "segmentations"))

    def fresh(self) -> Selection:
        """The same filters, of which none has matched yet."""
        new = copy.copy(self)
        new.matched = set()
        return new

    def of_artifacts(self) -> Selection:
        """The same filters but that by run, which may name very many, for whoever gets only runs that are selected."""
        new = self.fresh()
        new._names = {**self._names, "runs": None}
        return new

    def has_run(self, name: str) -> bool:
        return self._has_name("runs", name)  # [EXP-013]

    def has(self, row: Row) -> bool:
        """Whether a row is selected, its run aside."""
        table = row.table.name
        if table == "objects":
            return self._has_name("objects", row.group)  # [EXP-015]
        option, _, columns = _KINDS.get(table, ("", "", {}))
        uris = self._uris.get(option)
        if uris is None:
            return True
        matching = [uri for uri, pattern in uris.items() if _matches(row, pattern, columns)]
        self.matched.update((option, uri) for uri in matching)
        return bool(matching)  # [EXP-014]

    def unmatched(self) -> list[str]:
        """What is to be said of names and URIs that selected nothing."""
        wanted = [(option, uri) for option, uris in self._uris.items() for uri in uris or ()]
        wanted += [(option, name) for option, names in self._names.items() for name in names or ()]
        return [
            f"{option}: {value!r} matches nothing in the project"
            for option, value in wanted
            if (option, value) not in self.matched
        ]

    def _has_name(self, option: str, name: str) -> bool:
        names = self._names[option]
        if names is None:
            return True
        self.matched.add((option, name))
        return name in names


def _parse(uri: str, kind: str, option: str) -> dict[str, Any]:
    try:
        pattern: dict[str, Any] = parse_copick_uri(uri, kind)
        if pattern["pattern_type"] == "regex":
            for value in pattern.values():
                re.compile(value if isinstance(value, str) else "")
    except (ValueError, re.error) as error:
        raise UsageError("option-invalid", f"{option}: {uri!r} is not a copick URI of a {kind}: {error}") from error
    return pattern


def _matches(row: Row, pattern: dict[str, Any], columns: dict[str, str]) -> bool:
    is_regex = pattern["pattern_type"] == "regex"
    if not all(_matches_value(getattr(row, column), pattern[part], is_regex) for column, part in columns.items()):
        return False
    return "multilabel" not in pattern or _matches_type(row, pattern)


def _matches_value(value: str | float, pattern: str, is_regex: bool) -> bool:
    if pattern == "*":
        return True
    if isinstance(value, float) and not is_regex:
        try:
            return size_form(value) == size_form(float(pattern))
        except ValueError:
            pass  # not a number, so a glob pattern
    if is_regex:
        return re.match(pattern, str(value)) is not None
    return fnmatch.fnmatchcase(str(value), pattern)


def _matches_type(row: Row, pattern: dict[str, Any]) -> bool:
    """Whether a segmentation is of the type a URI asks for; one that names none means binary and multilabel."""
    table = row.table.name
    wanted = {flag: pattern[flag] for flag in ("multilabel", "instance", "panoptic")}
    if wanted["instance"] is None and wanted["panoptic"] is None:
        wanted["instance"] = wanted["panoptic"] = False
    actual = {
        "multilabel": getattr(row, "is_multilabel", False),
        "instance": table == "instance_segmentations",
        "panoptic": table == "panoptic_segmentations",
    }
    return all(want is None or want == actual[flag] for flag, want in wanted.items())
