"""A project of the CryoET Data Portal as a source of an export.

copick lists what the portal has from records that it keeps; nothing is asked of the network here. A published
artifact's row gets the portal's own names and ids. Rules: SPEC.md, Portal sources [POR].
"""

from __future__ import annotations

import math
import string
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from copick.util.escape import sanitize_name

from copick_mlc import _filesystems, _layout, _urls
from copick_mlc._source import Item, Place, Source
from copick_mlc._tables import Key, Row
from copick_mlc.errors import CroissantWarning, UsageError
from copick_mlc.index import (
    InstanceSegmentationRow,
    PicksRow,
    RunRow,
    SegmentationRow,
    TomogramRow,
    VoxelSpacingRow,
)

_AUTHOR_FIELDS = ("author", "authors", "annotation_file_id")

# The tables of what a kind of filter chooses from.
_TABLES = {
    "picks": ("picks",),
    "segmentations": ("segmentations", "instance_segmentations", "panoptic_segmentations"),
    "tomograms": ("tomograms",),
}


@dataclass(frozen=True)
class PortalOptions:
    """What is wanted of a portal project: the options of `export_croissant` with these names."""

    session_id_template: str | None = None
    picks_portal_meta: Mapping[str, Any] | None = None
    picks_author: Iterable[str] | None = None
    segmentations_portal_meta: Mapping[str, Any] | None = None
    segmentations_author: Iterable[str] | None = None
    tomograms_portal_meta: Mapping[str, Any] | None = None
    tomograms_author: Iterable[str] | None = None

    def given(self) -> list[str]:
        """The names of the options that ask for something."""
        return [name for name, value in vars(self).items() if value]

    def filters(self, kind: str) -> bool:
        """Whether artifacts of a kind, as `picks`, are selected by what the portal says of them."""
        return bool(getattr(self, f"{kind}_portal_meta") or getattr(self, f"{kind}_author"))

    def without_overlay(self) -> frozenset[str]:
        """The tables that get no row of an overlay, for the portal says nothing of its artifacts [POR-004]."""
        return frozenset(name for kind, names in _TABLES.items() if self.filters(kind) for name in names)

    def unmatched(self, items: Iterable[Item]) -> Iterator[str]:
        """What is to be said of filters that none of the portal's artifacts passes."""
        found = {item.row.table.name for item in items if item.passes}
        for kind, tables in _TABLES.items():
            if self.filters(kind) and found.isdisjoint(tables):
                given = [name for name in (f"{kind}_portal_meta", f"{kind}_author") if getattr(self, name)]
                yield f"{' with '.join(given)}: matches nothing in the project"


def portal_source(root: Any, options: PortalOptions) -> Source:
    """The project of a `CopickRootCDP`: the portal's records, and the overlay.

    Raises:
        UsageError: `option-invalid`, for a template [POR-006] or filter [POR-005] that makes no sense.
    """
    records = _Records(root, options)
    # Its URLs are below no base of the portal's, so they are absolute [POR-012].
    overlay = Place.at(root.config.overlay_root, root.config.overlay_fs_args)
    names = {*records.runs, *_layout.runs(overlay.fs, overlay.path)}
    particles = frozenset(item.name for item in root.config.pickable_objects if item.is_particle)
    return Source(sorted(names), particles, records.items, places=[overlay], base_url=_urls.PORTAL, is_fixed=True)


class _Records:
    """The portal's records, as rows."""

    def __init__(self, root: Any, options: PortalOptions) -> None:
        from copick.impl.cryoet_data_portal import PortalAnnotationMeta, PortalTomogramMeta

        annotation = type(PortalAnnotationMeta().portal_annotation)
        tomogram = type(PortalTomogramMeta().portal_metadata)
        self.runs = {run.name: run for run in root.query()}
        self._template = SessionTemplate(options.session_id_template, annotation.model_fields)
        self._picks = Filter("picks", options.picks_portal_meta, options.picks_author, annotation)
        self._segmentations = Filter(
            "segmentations", options.segmentations_portal_meta, options.segmentations_author, annotation
        )
        self._tomograms = Filter("tomograms", options.tomograms_portal_meta, options.tomograms_author, tomogram)
        self._fs, _ = _filesystems.open_location(_urls.PORTAL, {"anon": True})

    def items(self, name: str) -> Iterator[Item]:
        """What the portal has of a run."""
        run = self.runs.get(name)
        if run is None:  # of the overlay alone
            return
        # copick names runs by id, and annotations by user and file id [POR-009].
        yield Item(RunRow(name, portal_run_id=_text(run.portal_run_id)))
        tomograms: list[tuple[float, Any]] = []
        for spacing in _listed(name, "voxel spacings", run._query_static_voxel_spacings):
            if _is_size(spacing.voxel_size):
                size = float(spacing.voxel_size)
                yield Item(VoxelSpacingRow(name, size))
                found = _listed(name, "tomograms", spacing._query_static_tomograms)
                tomograms += [(size, tomogram) for tomogram in found]
            else:
                _warn(name, f"voxel spacing {spacing.portal_vs_id} has no voxel size, and is not exported")
        yield from self._tomograms_of(name, tomograms)
        yield from self._picks_of(run)
        yield from self._segmentations_of(run)

    def _tomograms_of(self, run: str, found: list[tuple[float, Any]]) -> Iterator[Item]:
        taken: set[Key] = set()
        for size, tomogram in sorted(found, key=lambda pair: pair[1].meta.portal_tomo_id):
            # copick makes the type of how the tomogram was made [POR-016].
            kind, identifier = tomogram.tomo_type, str(tomogram.meta.portal_tomo_id)
            # Without one nobody could read it [POR-013].
            if not _has_place(run, f"tomogram {identifier}", tomogram.static_path, size):
                continue
            described = tomogram.meta.portal_metadata
            passes = self._tomograms.passes(described.portal_metadata, described.portal_authors)
            name = _sanitized(kind, identifier)  # [POR-015]
            row = TomogramRow(run, size, name, tomogram.static_path, None, identifier)
            if row.key in taken:  # [POR-007]
                row = replace(row, tomo_type=f"{name}-{identifier}")
            taken.add(row.key)
            if row.tomo_type != kind:  # [POR-003]
                row = replace(row, portal_tomo_type=kind)
                if passes:
                    why = "copick does not allow that name" if name != kind else "there is another one"
                    _warn(run, f"tomogram {identifier}, {kind} at {size} Å, is exported as {row.tomo_type}; {why}")
            yield Item(row, passes=passes)

    def _picks_of(self, run: Any) -> Iterator[Item]:
        for picks in _listed(run.name, "picks", run._query_static_picks):
            described = picks.meta.portal_metadata
            if not _has_place(run.name, f"picks {picks.session_id}", picks.path, described.voxel_spacing):
                continue
            row = PicksRow(
                run.name,
                picks.user_id,
                picks.session_id,
                picks.pickable_object_name,
                described.voxel_spacing,  # [POR-010]
                picks.path,
                **_provenance(described),
            )
            bucket_path = picks.path.partition("://")[2]
            yield Item(row, self._fs, bucket_path, is_remote=True, **self._choice(self._picks, row, described))

    def _segmentations_of(self, run: Any) -> Iterator[Item]:
        for found in _listed(run.name, "segmentations", run._query_static_segmentations):
            described = found.meta.portal_metadata
            if not _has_place(run.name, f"segmentation {found.session_id}", found.path, described.voxel_spacing):
                continue
            # What no pickable object is for, copick names as the portal does.
            name = _sanitized(found.name, found.session_id)  # [POR-015]
            names = (run.name, float(found.voxel_size), found.user_id, found.session_id, name)
            columns = {"url": found.path, **_provenance(described)}
            row: Row = InstanceSegmentationRow(*names, **columns)
            if not found.is_instance:
                row = SegmentationRow(*names, False, **columns)
            yield Item(row, **self._choice(self._segmentations, row, described))

    def _choice(self, wanted: Filter, row: Any, described: Any) -> dict[str, Any]:
        """Whether an annotation passes, and how its row is renamed."""
        session = self._template.session_id(described, row.session_id)
        renamed = {} if session == row.session_id else {"session_id": session, "portal_session_id": row.session_id}
        return {
            "passes": wanted.passes(described.portal_annotation, described.portal_authors),
            "renamed": renamed,  # [POR-003]
        }


def _listed(run: str, what: str, query: Callable[[], list[Any]]) -> list[Any]:
    """What copick makes of the portal's records of a run; it does not expect that anything is missing there.

    Raises:
        UsageError: `source-unsupported` [POR-014].
    """
    try:
        return query()
    except KeyError as error:
        key = error.args[0]
        lack = (
            f"no pickable object of the configuration has the identifier {key}; add one"
            if isinstance(key, str)  # of an object; other ids are numbers
            else f"an annotation file names the voxel spacing {key}, which the portal does not have"
        )
        raise UsageError("source-unsupported", f"run {run}: copick cannot list {what}: {lack}") from error
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise UsageError(
            "source-unsupported",
            f"run {run}: copick cannot list {what}, for it cannot read a record of the portal: {_reason(error)}",
        ) from error


def _reason(error: Exception) -> str:
    """What an error says; pydantic's, of a record, says it by field, and much besides."""
    if not hasattr(error, "errors"):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, e['loc']))} is {e['input']!r}: {e['msg']}" for e in error.errors())


def _has_place(run: str, what: str, url: str | None, size: float | None) -> bool:
    """Whether the portal says where an artifact is, and its voxel size; a row that does not would mislead."""
    missing = [lack for lack, there in (("file", url), ("voxel size", _is_size(size))) if not there]
    if missing:
        _warn(run, f"{what} has no {' and no '.join(missing)}, and is not exported")
    return not missing


def _is_size(size: float | None) -> bool:
    return size is not None and 0 < size < math.inf


def _warn(run: str, remark: str) -> None:
    warnings.warn(f"run {run} of the portal: {remark}", CroissantWarning)


def _sanitized(name: str, otherwise: str) -> str:
    """A name as copick allows it; another one where nothing is left of it."""
    try:
        return str(sanitize_name(name, suppress_warnings=True))
    except ValueError:
        return otherwise


def _provenance(described: Any) -> dict[str, str | None]:
    """The portal columns of an annotation's row [POR-002]."""
    return {
        "portal_object_name": _text(described.object_name),
        "portal_annotation_id": _text(described.annotation_id),
        "portal_annotation_file_id": _text(described.annotation_file_id),
    }


def _text(value: object) -> str | None:
    return None if value in (None, "") else str(value)


# --- filters and templates -------------------------------------------------------------------------------


class Filter:
    """A choice of portal records by their fields and authors."""

    def __init__(self, kind: str, fields: Mapping[str, Any] | None, authors: Iterable[str] | None, model: Any) -> None:
        """Take the values as the record's field has them.

        Args:
            kind: What is chosen, as `picks`.
            fields: Values by field that records must have.
            authors: Names that must all be among a record's authors.
            model: The class of the records.

        Raises:
            UsageError: `option-invalid`, for a field that records do not have, or a value that it cannot have
                [POR-005].
        """
        option = f"{kind}_portal_meta"
        if unknown := sorted(set(fields or {}) - set(model.model_fields)):
            raise UsageError(
                "option-invalid",
                f"{option}: the portal's records have no field {', '.join(unknown)}; they have "
                f"{', '.join(sorted(model.model_fields))}",
            )
        try:
            record = model(**(fields or {}))
        except ValueError as error:
            raise UsageError("option-invalid", f"{option}: {_reason(error)}") from error
        self._wanted = {name: getattr(record, name) for name in fields or {}}
        if absent := [name for name, value in self._wanted.items() if value is None]:
            raise UsageError("option-invalid", f"{option}: {', '.join(absent)} has no value; leave it out, or give one")
        self._authors = set(authors or ())

    def passes(self, record: Any, authors: Iterable[str] | None) -> bool:
        """Whether a record has all the values and all the authors [POR-004]."""
        has_values = all(getattr(record, name) == value for name, value in self._wanted.items())
        return has_values and self._authors <= set(authors or ())


@dataclass
class SessionTemplate:
    """What makes a session id of an annotation's metadata."""

    template: str | None
    fields: Iterable[str]
    _formatter: string.Formatter = field(init=False)

    def __post_init__(self) -> None:
        """Check the template.

        Raises:
            UsageError: `option-invalid`, where it is malformed or names what no annotation has [POR-006].
        """
        self._formatter = _Formatter()
        known = {*self.fields, *_AUTHOR_FIELDS}
        try:
            parts = list(self._formatter.parse(self.template or ""))
        except ValueError as error:
            raise self._invalid(f"is malformed: {error}") from error
        for _, name, spec, conversion in parts:
            if name is not None and name not in known:
                raise self._invalid(f"names {{{name}}}; an annotation has {', '.join(sorted(known))}")
            if conversion not in (None, "a", "r", "s"):
                raise self._invalid(f"has the conversion !{conversion}; there are !a, !r and !s")
            if "{" in (spec or ""):
                raise self._invalid("has a field within a field")

    def session_id(self, described: Any, own: str) -> str:
        """The session id of an annotation; its own where the template gives nothing.

        Args:
            described: The portal's metadata of the annotation.
            own: The session id that copick gives it.

        Raises:
            UsageError: `option-invalid`, where a value does not fit its format.
        """
        if not self.template:
            return own
        authors = described.portal_authors or []
        values = {name: getattr(described.portal_annotation, name, None) for name in self.fields}
        values |= {
            "author": authors[0] if authors else None,
            "authors": ",".join(authors),
            "annotation_file_id": described.annotation_file_id,
        }
        try:
            text = self._formatter.vformat(self.template, (), values)
        except (ValueError, OverflowError) as error:
            raise self._invalid(f"cannot be filled for annotation file {own}: {error}") from error
        return _sanitized(text, own)  # [POR-011]

    def _invalid(self, reason: str) -> UsageError:
        return UsageError("option-invalid", f"session_id_template {self.template!r} {reason}")


class _Formatter(string.Formatter):
    """Formats as `str.format` does, and an absent value as nothing [POR-011]."""

    def format_field(self, value: Any, format_spec: str) -> str:
        return "" if value is None else str(super().format_field(value, format_spec))

    def convert_field(self, value: Any, conversion: Any) -> Any:
        return None if value is None else super().convert_field(value, conversion)
