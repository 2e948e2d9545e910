"""Our adapter with one thing broken in each: what the suite is there to catch.

Each class breaks the implementation in its own process, when the adapter is made, and names the cases that must fail
for it. A suite that passes a saboteur checks nothing.
"""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from conformance.adapters.copick_mlc import Adapter
from copick_mlc import (
    _appending,
    _artifact,
    _collection,
    _commit,
    _credentials,
    _csv,
    _description,
    _exporting,
    _layout,
    _manifest,
    _objects,
    _portal,
    _remote,
    _snapshot,
    _storage,
    _tables,
    _urls,
    index,
    picks,
    publisher,
    root,
    run,
    tomogram,
    voxel_spacing,
)
from copick_mlc._copying import Copy
from copick_mlc._csv import TableFile
from copick_mlc._manifest import Manifest
from copick_mlc._snapshot import Snapshot
from copick_mlc._source import Source
from copick_mlc._target import Target
from copick_mlc.errors import UsageError
from copick_mlc.index import CroissantIndex, PicksRow
from copick_mlc.publisher import Publication


class Saboteur(Adapter):
    """An adapter of ours that breaks something when it is made.

    Attributes:
        caught_by: Ids of the cases that must fail.
    """

    caught_by: ClassVar[list[str]]

    def __init__(self) -> None:
        super().__init__()
        self.break_something()

    def break_something(self) -> None:
        raise NotImplementedError


def _ignore(*_: Any, **__: Any) -> None:
    """In place of a function that does something."""


# Long enough, in seconds, to be met in the middle.
_AT_LEISURE = 0.1


class StaleChecksum(Saboteur):
    """The manifest keeps the sha256 of tables that were written."""

    caught_by: ClassVar = ["man-sha256-follows-table"]

    def break_something(self) -> None:
        declare = _manifest._declare_file

        def keep(distribution: list[Any], table: Any, data: bytes, prefix: str) -> None:
            known = _manifest._entry(distribution, table.file_object_id)
            old = known["sha256"] if known else None
            declare(distribution, table, data, prefix)
            if known is not None:
                known["sha256"] = old

        _manifest._declare_file = keep


class UncheckedChecksum(Saboteur):
    """A table is read whatever its sha256."""

    caught_by: ClassVar = ["csv-checksum-mismatch"]

    def break_something(self) -> None:
        Manifest.sha256 = _ignore  # type: ignore[method-assign]


class ForgetfulBatch(Saboteur):
    """A batch commits nothing at its end."""

    caught_by: ClassVar = ["bat-commits-at-outermost-end"]

    def break_something(self) -> None:
        def leave(self: CroissantIndex) -> None:
            self._depth -= 1

        CroissantIndex._leave_batch = leave  # type: ignore[method-assign]


class EagerBatch(Saboteur):
    """A batch commits every change at once."""

    caught_by: ClassVar = ["bat-commits-at-outermost-end"]

    def break_something(self) -> None:
        put = CroissantIndex.put

        def put_now(self: CroissantIndex, row: Any) -> None:
            put(self, row)
            self.commit()

        CroissantIndex.put = put_now  # type: ignore[method-assign]


class UnknownColumnDropped(Saboteur):
    """A record that is changed loses the cells of columns that the format does not have."""

    caught_by: ClassVar = ["csv-unknown-cells-kept"]

    def break_something(self) -> None:
        def encode(self: TableFile, row: Any, old: bytes | None) -> bytes:
            cells = _tables.cells_of(row)
            return _tables.encode_record([cells.get(name, "") for name in self.header])

        TableFile.encode = encode  # type: ignore[method-assign]


class InferredTypes(Saboteur):
    """Text that looks like a number becomes one, as in a data frame."""

    caught_by: ClassVar = ["csv-text-is-text"]

    def break_something(self) -> None:
        make = _tables.Table.make.func  # type: ignore[attr-defined]  # what the cached property calls

        def infer(value: Any) -> Any:
            try:
                return f"{float(value):g}" if isinstance(value, str) else value
            except ValueError:
                return value

        def inferring(self: _tables.Table) -> Callable[[Any], Any]:
            plain = make(self)
            return lambda values: plain([infer(value) for value in values])

        _tables.Table.make = property(inferring)  # type: ignore[assignment,method-assign]


class AbsoluteJoined(Saboteur):
    """An absolute URL is joined to the base URL."""

    caught_by: ClassVar = ["url-absolute-is-not-joined"]

    def break_something(self) -> None:
        _urls.is_absolute = lambda cell: False


class ClimbingAllowed(Saboteur):
    """A relative URL may climb out of the base URL."""

    caught_by: ClassVar = ["sec-url-outside"]

    def break_something(self) -> None:
        _urls.absolute = lambda base, cell: _urls.normalise(cell) if _urls.is_absolute(cell) else _urls.join(base, cell)


class LocalUrlTrusted(Saboteur):
    """A manifest on remote storage may point to the local disk."""

    caught_by: ClassVar = ["sec-url-local"]

    def break_something(self) -> None:
        CroissantIndex.absolute_url = lambda self, url: _urls.absolute(self.base_url, url)  # type: ignore[method-assign]


class OrphansLeft(Saboteur):
    """Deleting a run, voxel spacing or tomogram leaves the rows of what is in it."""

    caught_by: ClassVar = ["run-delete", "vox-delete", "tom-delete"]

    def break_something(self) -> None:
        delete = Target.delete

        def first(self: Target, find: Callable[[], list[Any]], directory: Any = None) -> None:
            delete(self, lambda: find()[:1], directory)

        Target.delete = first  # type: ignore[method-assign]


class StaleSplits(Saboteur):
    """The record set of splits is not brought up to date."""

    caught_by: ClassVar = ["man-splits-follow-runs"]

    def break_something(self) -> None:
        _manifest._declare_splits = _ignore


class AnyName(Saboteur):
    """A name may be `..`, or have slashes."""

    caught_by: ClassVar = ["run-name-invalid"]

    def break_something(self) -> None:
        _urls.check_name = lambda name, what: name


class NoShadow(Saboteur):
    """An artifact of the overlay does not stand for the published one: both are listed."""

    caught_by: ClassVar = ["ovl-shadows"]

    def break_something(self) -> None:
        modules: list[Any] = [run, voxel_spacing, tomogram]
        for module in modules:
            module.shadowed = lambda published, overlay: published + overlay


class OverlayIgnoredOnRead(Saboteur):
    """What the overlay has is listed, but the published data is read."""

    caught_by: ClassVar = ["ovl-shadows"]

    def break_something(self) -> None:
        _artifact.Artifact._indexed = True  # type: ignore[method-assign,assignment]


class ManifestRebuilt(Saboteur):
    """A commit keeps nothing in the manifest but what the format owns."""

    caught_by: ClassVar = ["man-foreign-members-kept", "app-keeps-properties"]

    def break_something(self) -> None:
        patch = _manifest.patch

        def rebuilt(document: Mapping[str, Any], **options: Any) -> dict[str, Any]:
            result = patch(document, **options)
            return {key: value for key, value in result.items() if key in (*_manifest.OWN_PROPERTIES, "name")}

        _manifest.patch = rebuilt


class LastWriterWins(Saboteur):
    """A commit writes the tables as they were when they were read."""

    caught_by: ClassVar = ["bat-merges-rows"]

    def break_something(self) -> None:
        Snapshot.refresh = lambda self: False  # type: ignore[method-assign]
        Snapshot._is_stale = lambda self, state: False  # type: ignore[method-assign]
        _storage.signature = lambda fs, path: None


class WrittenForgotten(Saboteur):
    """A batch does not look, at its end, at what it wrote."""

    caught_by: ClassVar = [
        "bat-checksums-are-of-files",
        "bat-rewritten-data-has-a-row",
        "bat-rows-without-data-stay-removed",
    ]

    def break_something(self) -> None:
        CroissantIndex.wrote = lambda self, row, fs, path, version=None: None  # type: ignore[method-assign]


class DuplicateKeys(Saboteur):
    """Of two rows with one key the last counts, and nothing is said."""

    caught_by: ClassVar = ["csv-key-duplicate"]

    def break_something(self) -> None:
        def group(self: TableFile, name: str) -> dict[Any, Any]:
            rows = [self.parse(record) for record in self.records(name)]
            return {self.table.key(row): row for row in rows}

        TableFile.group = group  # type: ignore[method-assign]


class LooseNumbers(Saboteur):
    """A number may be whatever Python takes for one."""

    caught_by: ClassVar = ["csv-number-invalid"]

    def break_something(self) -> None:
        _csv._CONVERSIONS["sc:Float"] = float


class ExactSizes(Saboteur):
    """Two voxel sizes are the same only when all their digits are."""

    caught_by: ClassVar = ["vox-sizes-compare"]

    def break_something(self) -> None:
        modules: list[Any] = [_tables, run]
        for module in modules:
            module.size_form = repr


class RowBeforeData(Saboteur):
    """The row is committed before the data is written."""

    caught_by: ClassVar = ["bat-data-before-row"]

    def break_something(self) -> None:
        def write_file(self: Target, row: Any, data: bytes, **columns: Any) -> None:
            fs, path = self.claim(row)
            self.record(row, **columns)
            _storage.write(fs, path, data)

        Target.write_file = write_file  # type: ignore[method-assign]


class DataBeforeCommit(Saboteur):
    """Deleted data is removed before the removal of its row is committed."""

    caught_by: ClassVar = ["bat-data-outlives-row"]

    def break_something(self) -> None:
        CroissantIndex.after_commit = lambda self, action: action()  # type: ignore[method-assign]


class VoxelsForAngstrom(Saboteur):
    """The points of the portal are given in voxels."""

    caught_by: ClassVar = ["pik-ndjson-scaled"]

    def break_something(self) -> None:
        parse = picks._parse_ndjson

        def unscaled(data: bytes, row: Any, path: str) -> Any:
            return parse(data, dataclasses.replace(row, voxel_size=1.0), path)

        picks._parse_ndjson = unscaled


class ProvenanceLost(Saboteur):
    """Stored picks lose the portal columns of their row."""

    caught_by: ClassVar = ["pik-store-repoints"]

    def break_something(self) -> None:
        def record(self: Target, row: Any, version: Any = None, **columns: Any) -> None:
            key = {column.name: getattr(row, column.name) for column in row.table.columns if column.is_key}
            self.index.put(type(row)(**key, url=row.canonical_url, **columns))

        Target.record = record  # type: ignore[method-assign]


class LinksReplaced(Saboteur):
    """A symbolic link is replaced by a file."""

    caught_by: ClassVar = ["bat-symbolic-links-kept"]

    def break_something(self) -> None:
        os.path.realpath = os.path.abspath  # type: ignore[assignment]


class ManifestConfigWins(Saboteur):
    """The manifest wins over the user's configuration."""

    caught_by: ClassVar = ["man-user-config-wins"]

    def break_something(self) -> None:
        take_over = root.CopickRootMLC._take_over

        def manifest_first(self: root.CopickRootMLC) -> None:
            take_over(self)
            for name, value in self.index.config.items():
                if name in root._MERGED:
                    setattr(self.config, name, value)

        root.CopickRootMLC._take_over = manifest_first  # type: ignore[method-assign]


class LicenseInvented(Saboteur):
    """An export writes a license that nobody gave."""

    caught_by: ClassVar = ["exp-invents-nothing"]

    def break_something(self) -> None:
        build = _manifest.build

        def with_license(template: Any, properties: Mapping[str, Any], **options: Any) -> dict[str, Any]:
            return build(template, {**properties, "license": properties.get("license") or "CC-BY-4.0"}, **options)

        _manifest.build = with_license


class ExportOverwrites(Saboteur):
    """An export replaces a manifest that is there, unasked."""

    caught_by: ClassVar = ["exp-exists"]

    def break_something(self) -> None:
        existing = _exporting._existing
        _exporting._existing = lambda fs, path, url, force: existing(fs, path, url, True)


class CredentialsPublished(Saboteur):
    """What opens something by itself goes into the manifest."""

    caught_by: ClassVar = ["exp-credentials-in-base-url", "exp-credentials-in-url", "exp-credentials-taken-out"]

    def break_something(self) -> None:
        _credentials.found_in = lambda url: None


class ProjectRootForBase(Saboteur):
    """URLs are relative to the project root, though the manifest declares another base URL."""

    caught_by: ClassVar = ["exp-urls-below-declared-base"]

    def break_something(self) -> None:
        bases = _exporting.Export._bases

        def with_root(self: _exporting.Export, source: Source) -> tuple[str | None, list[str], str]:
            base, below, prefix = bases(self, source)
            return base, [*below, _urls.published(self._target)], prefix

        _exporting.Export._bases = with_root  # type: ignore[method-assign]


# --- the portal ------------------------------------------------------------------------------------------


# What a module has from others, mypy does not let us replace.
_exports: Any = _exporting
_appends: Any = _appending
_reading_the_portal: Any = _portal


def _picks_of_the_portal(change: Callable[[PicksRow], PicksRow]) -> None:
    """Have picks of the portal be what `change` makes of their rows."""
    _reading_the_portal.PicksRow = lambda *key, **columns: change(PicksRow(*key, **columns))


class PortalBaseReplaced(Saboteur):
    """A portal project is exported with the base URL that is given."""

    caught_by: ClassVar = ["por-base-url"]

    def break_something(self) -> None:
        opened = _exports.open_source
        _exports.open_source = lambda *arguments: dataclasses.replace(opened(*arguments), is_fixed=False)


class PortalColumnsLost(Saboteur):
    """Rows of a portal project say nothing of the portal."""

    caught_by: ClassVar = ["por-ids", "por-former-names", "por-equal-tomograms"]

    def break_something(self) -> None:
        collect = _exports.collect

        def bare(row: Any) -> Any:
            lost = {name: None for name in row.table.column_names if name.startswith("portal_")}
            return dataclasses.replace(row, **lost)

        def collected(*arguments: Any) -> Any:
            rows, *more = collect(*arguments)
            return {name: list(map(bare, found)) for name, found in rows.items()}, *more

        _exports.collect = collected


class AnyAuthorPasses(Saboteur):
    """Of several authors that are asked for, one is enough."""

    caught_by: ClassVar = ["por-filter-picks", "por-filter-segmentations", "por-filter-tomograms"]

    def break_something(self) -> None:
        passes = _portal.Filter.passes

        def passes_with_one(self: _portal.Filter, record: Any, authors: Any) -> bool:
            everybody = self._authors if set(self._authors) & set(authors or []) else authors
            return passes(self, record, everybody)

        _portal.Filter.passes = passes_with_one  # type: ignore[method-assign]


class OverlayPasses(Saboteur):
    """Filters by what the portal says let pass what is in the overlay."""

    caught_by: ClassVar = ["por-filter-picks", "por-filter-segmentations", "por-filter-tomograms"]

    def break_something(self) -> None:
        _portal.PortalOptions.without_overlay = lambda self: frozenset()  # type: ignore[method-assign]


class FiltersUnchecked(Saboteur):
    """A filter that makes no sense lets everything pass."""

    caught_by: ClassVar = ["por-filters-invalid"]

    def break_something(self) -> None:
        check = _portal.Filter.__init__

        def unchecked(self: _portal.Filter, kind: str, fields: Any, authors: Any, model: Any) -> None:
            try:
                check(self, kind, fields, authors, model)
            except UsageError:
                check(self, kind, None, authors, model)

        _portal.Filter.__init__ = unchecked  # type: ignore[method-assign]


class TemplateUnchecked(Saboteur):
    """A template that makes no sense gives no session ids."""

    caught_by: ClassVar = ["por-session-template-invalid"]

    def break_something(self) -> None:
        check = _portal.SessionTemplate.__post_init__
        fill = _portal.SessionTemplate.session_id

        def unchecked(self: _portal.SessionTemplate) -> None:
            try:
                check(self)
            except UsageError:
                self.template = None

        def filled(self: _portal.SessionTemplate, described: Any, own: str) -> str:
            try:
                return fill(self, described, own)
            except UsageError:
                return own

        _portal.SessionTemplate.__post_init__ = unchecked  # type: ignore[method-assign]
        _portal.SessionTemplate.session_id = filled  # type: ignore[method-assign]


class AbsentIsNone(Saboteur):
    """An absent value is None in a session id."""

    caught_by: ClassVar = ["por-session-template-absent"]

    def break_something(self) -> None:
        _reading_the_portal._Formatter.format_field = lambda self, value, spec: str(value)


class AuthorsForgotten(Saboteur):
    """A session id knows the first author alone."""

    caught_by: ClassVar = ["por-session-template"]

    def break_something(self) -> None:
        fill = _portal.SessionTemplate.session_id

        def filled(self: _portal.SessionTemplate, described: Any, own: str) -> str:
            return fill(self, described.model_copy(update={"portal_author_names": described.portal_authors[:1]}), own)

        _portal.SessionTemplate.session_id = filled  # type: ignore[method-assign]


class HighestIdFirst(Saboteur):
    """Of tomograms that are alike that with the highest id has the type."""

    caught_by: ClassVar = ["por-equal-tomograms"]

    def break_something(self) -> None:
        _reading_the_portal.sorted = lambda found, key=None: builtins.sorted(found, key=key, reverse=True)


class UnreachableRefused(Saboteur):
    """Nothing is exported where the portal's data cannot be reached."""

    caught_by: ClassVar = ["por-unreachable"]

    def break_something(self) -> None:
        def demand(fs: Any, path: str, seconds: float) -> None:
            try:
                fs.info(path)
            except OSError as error:
                raise UsageError("option-invalid", str(error)) from error

        _storage.check_reachable = demand


class PortalUserRenamed(Saboteur):
    """Annotations of the portal have another user."""

    caught_by: ClassVar = ["por-names", "por-inventory"]

    def break_something(self) -> None:
        _picks_of_the_portal(lambda row: dataclasses.replace(row, user_id="portal"))


class SizeByUrl(Saboteur):
    """The voxel size of the portal's picks is that in their URL."""

    caught_by: ClassVar = ["por-voxel-sizes"]

    def break_something(self) -> None:
        _picks_of_the_portal(lambda row: dataclasses.replace(row, voxel_size=_urls.size_in_url(row.url or "")))


class OverlayRelative(Saboteur):
    """URLs of what is in the overlay of a portal project are relative."""

    caught_by: ClassVar = ["por-overlay", "por-overlay-below-the-project", "por-overlay-own-runs"]

    def break_something(self) -> None:
        collect = _exports.collect
        _exports.collect = lambda source, choices, bases, *more: collect(
            source, choices, [*bases, *(place.url for place in source.places)], *more
        )


class SizelessExported(Saboteur):
    """Any number of the portal is a voxel size, and none too."""

    caught_by: ClassVar = ["por-without-size-or-place"]

    def break_something(self) -> None:
        _portal._is_size = lambda size: True


class UnlistedPassedOver(Saboteur):
    """What copick cannot list of the portal is left out."""

    caught_by: ClassVar = ["por-source-unsupported"]

    def break_something(self) -> None:
        listed = _portal._listed

        def passed_over(run: str, what: str, query: Callable[[], list[Any]]) -> list[Any]:
            try:
                return listed(run, what, query)
            except UsageError:
                return []

        _portal._listed = passed_over


class NamesUnsanitized(Saboteur):
    """Names of the portal are taken as they are."""

    caught_by: ClassVar = ["por-names-sanitized"]

    def break_something(self) -> None:
        _portal._sanitized = lambda name, otherwise: name


# --- appending -------------------------------------------------------------------------------------------


class AppendUnlocked(Saboteur):
    """An append does not look again at what it appends to when it has the lock."""

    caught_by: ClassVar = ["app-keeps-what-others-commit"]

    def break_something(self) -> None:
        CroissantIndex.exclusive = contextlib.nullcontext  # type: ignore[assignment,method-assign]


class CheckedAfterwards(Saboteur):
    """The manifest is validated when all has been appended."""

    caught_by: ClassVar = ["app-manifest-rejected"]

    def break_something(self) -> None:
        checks: list[Callable[[Mapping[str, Any]], object]] = []
        batch = _appends.all_or_nothing

        @contextlib.contextmanager
        def then_checked(appended: CroissantIndex) -> Iterator[None]:
            with batch(appended):
                yield
            for check in checks:
                check(appended.document)

        CroissantIndex.before_commit = lambda self, check: checks.append(check)  # type: ignore[method-assign]
        _appends.all_or_nothing = then_checked


class AppendPiecemeal(Saboteur):
    """An append commits row by row."""

    caught_by: ClassVar = ["app-all-or-nothing"]

    def break_something(self) -> None:
        _appends.all_or_nothing = contextlib.nullcontext


class AppendAnywhere(Saboteur):
    """Whether a manifest can be written is found out when it is."""

    caught_by: ClassVar = ["app-read-only"]

    def break_something(self) -> None:
        CroissantIndex.check_writable = lambda self: None  # type: ignore[method-assign]


class AppendKeepsRows(Saboteur):
    """A row with the key of an appended one stays."""

    caught_by: ClassVar = ["app-adds-rows", "app-replaces-rows"]

    def break_something(self) -> None:
        _appending._kept = lambda old, new: old or new


class AppendForgets(Saboteur):
    """A row that is replaced keeps nothing."""

    caught_by: ClassVar = ["app-keeps-split-and-portal-columns"]

    def break_something(self) -> None:
        _appending._kept = lambda old, new: new


class AppendAbsolute(Saboteur):
    """All URLs that are appended are absolute."""

    caught_by: ClassVar = ["app-urls", "app-urls-declared-base", "app-portal-source"]

    def break_something(self) -> None:
        _appending._placed = lambda row, index: row


class AppendRedefines(Saboteur):
    """Definitions of objects are replaced by those of what is appended."""

    caught_by: ClassVar = ["app-objects"]

    def break_something(self) -> None:
        _appending._new_objects = lambda there, definitions: (list(definitions), [])


class SplitsIgnored(Saboteur):
    """Exports and appends assign no run to a split."""

    caught_by: ClassVar = ["app-splits", "exp-splits"]

    def break_something(self) -> None:
        _appends.assign_splits = _exports.assign_splits = _ignore


# --- sizes, dates, pickable objects and descriptions -----------------------------------------------------


class StaleSize(Saboteur):
    """The manifest keeps the size and MD5 of tables that were written, and has none of new ones."""

    caught_by: ClassVar = ["man-content-size-follows-table", "man-content-size-of-new-table"]

    def break_something(self) -> None:
        declare = _manifest._declare_file

        def keep(distribution: list[Any], table: Any, data: bytes, prefix: str) -> None:
            known = dict(_manifest._entry(distribution, table.file_object_id) or {})
            declare(distribution, table, data, prefix)
            entry = _manifest._entry(distribution, table.file_object_id) or {}
            for name in ("contentSize", "md5"):
                entry.pop(name, None)
                if name in known:
                    entry[name] = known[name]

        _manifest._declare_file = keep


class StaleMd5(Saboteur):
    """The manifest keeps the MD5 of tables that were written."""

    caught_by: ClassVar = ["man-content-size-follows-table"]

    def break_something(self) -> None:
        declare = _manifest._declare_file

        def keep(distribution: list[Any], table: Any, data: bytes, prefix: str) -> None:
            known = dict(_manifest._entry(distribution, table.file_object_id) or {})
            declare(distribution, table, data, prefix)
            (_manifest._entry(distribution, table.file_object_id) or {}).update(
                {"md5": known["md5"]} if "md5" in known else {}
            )

        _manifest._declare_file = keep


class Undated(Saboteur):
    """A commit leaves `dateModified` as it was."""

    caught_by: ClassVar = ["man-date-modified-follows", "man-date-modified-in-batch"]

    def break_something(self) -> None:
        patch = _manifest.patch
        _manifest.patch = lambda document, **options: patch(document, **{**options, "modified": None})


class StaleObjects(Saboteur):
    """The record set of pickable objects is not brought up to date."""

    caught_by: ClassVar = ["man-pickable-objects-follow", "exp-pickable-objects", "man-pickable-objects-go"]

    def break_something(self) -> None:
        _manifest._declare_objects = _ignore


class ObjectsTwice(Saboteur):
    """The record set of pickable objects keeps the rows of objects that are not there."""

    caught_by: ClassVar = ["man-pickable-objects-brought-up-to-date", "man-pickable-objects-follow"]

    def break_something(self) -> None:
        data = _objects.data

        def more(objects: Any, fields: Any, old: Any) -> list[dict[str, Any]]:
            there = [dict(row) for row in old]
            made = data(objects, fields, there)
            return there + [row for row in made if row not in there]

        _objects.data = more


class ObjectsOfOthersTaken(Saboteur):
    """A record set of that name is brought up to date whatever its fields are."""

    caught_by: ClassVar = ["man-pickable-objects-of-others-stay"]

    def break_something(self) -> None:
        fields = _manifest._field_ids
        _manifest._field_ids = lambda entry: [*fields(entry), f"{_objects.OBJECTS_ID}/name"]


class RowsInPart(Saboteur):
    """A row of pickable objects has just what is known."""

    caught_by: ClassVar = ["man-inline-rows-whole"]

    def break_something(self) -> None:
        data = _objects.data

        def known(objects: Any, fields: Any, old: Any) -> list[dict[str, Any]]:
            return [{k: v for k, v in row.items() if v is not None} for row in data(objects, fields, old)]

        _objects.data = known


class ObjectRowsAnew(Saboteur):
    """The rows of pickable objects are made anew."""

    caught_by: ClassVar = ["man-pickable-objects-values-kept", "exp-pickable-objects-completed"]

    def break_something(self) -> None:
        data = _objects.data
        _objects.data = lambda objects, fields, old: data(objects, fields, ())


class NoObjectsLeft(Saboteur):
    """The record set of pickable objects stays when there are none."""

    caught_by: ClassVar = ["man-pickable-objects-go", "exp-no-pickable-objects"]

    def break_something(self) -> None:
        declare = _manifest._declare_objects

        def stay(record_sets: list[Any], config: Mapping[str, Any]) -> None:
            entry = _manifest._entry(record_sets, _objects.OBJECTS_ID)
            declare(record_sets, config)
            if entry is not None and entry not in record_sets:
                record_sets.append({**entry, "data": []})

        _manifest._declare_objects = stay


class ContextForgets(Saboteur):
    """The context lacks a term that no table needs."""

    caught_by: ClassVar = ["exp-context"]

    def break_something(self) -> None:
        del _manifest.CONTEXT["prov"]


class AlwaysDated(Saboteur):
    """An export that replaces a manifest says that it changed, whether or not it did."""

    caught_by: ClassVar = ["exp-date-modified"]

    def break_something(self) -> None:
        _manifest._replacing = lambda document, old, modified: _manifest._dated(document, modified)


class NeverDated(Saboteur):
    """An export that replaces a manifest does not say when."""

    caught_by: ClassVar = ["exp-date-modified"]

    def break_something(self) -> None:
        _manifest._replacing = lambda document, old, modified: document


class ObjectsUnrepeated(Saboteur):
    """An export does not repeat the pickable objects."""

    caught_by: ClassVar = ["exp-pickable-objects"]

    def break_something(self) -> None:
        _manifest._add_objects = _ignore


def _described(change: Callable[[dict[str, Any], Mapping[str, Any]], object]) -> None:
    """Have what describes a dataset changed, given it and the options."""
    describe = _description.describe

    def changed(**options: Any) -> dict[str, Any]:
        found = describe(**options)
        change(found, options)
        return found

    _exporting.describe = changed  # type: ignore[attr-defined]


class NamesAsText(Saboteur):
    """A creator that is given as text is written as text."""

    caught_by: ClassVar = ["exp-creator-and-publisher"]

    def break_something(self) -> None:
        _described(lambda found, options: found.update({"creator": options["creator"]} if found else {}))


class KeywordsInOne(Saboteur):
    """The keywords are written as one text."""

    caught_by: ClassVar = ["exp-url-and-keywords"]

    def break_something(self) -> None:
        _described(lambda found, _: found.update({"keywords": ", ".join(found["keywords"])} if found else {}))


class RaiForgotten(Saboteur):
    """Of the members of `rai` those of provenance are left out."""

    caught_by: ClassVar = ["exp-rai"]

    def break_something(self) -> None:
        _described(lambda found, _: [found.pop(name) for name in list(found) if name.startswith("prov:")])


class AnyDescription(Saboteur):
    """Descriptions may be empty."""

    caught_by: ClassVar = ["exp-descriptions-invalid"]

    def break_something(self) -> None:
        _description._text = lambda option, value, expected: str(value)


# --- publishing ------------------------------------------------------------------------------------------


class WholeOverlayCopied(Saboteur):
    """All that lies in the overlay is copied."""

    caught_by: ClassVar = ["pub-copies-the-overlay", "pub-copies-what-is-chosen"]

    def break_something(self) -> None:
        copy = Publication._copy

        def everything(self: Publication, dataset: Any) -> None:
            copy(self, dataset)
            overlay = self._export._root.config.overlay_root.removeprefix("local://")
            shutil.copytree(overlay, self._target.path, dirs_exist_ok=True)

        Publication._copy = everything  # type: ignore[method-assign]


def _copies(change: Callable[[Publication, Copy], Copy]) -> None:
    """Have each copy that a publication makes changed."""
    copies = Publication._copies
    Publication._copies = lambda self, dataset: [change(self, copy) for copy in copies(self, dataset)]  # type: ignore[method-assign]


class OldNamesKept(Saboteur):
    """Copies have the names that they had in the overlay."""

    caught_by: ClassVar = ["pub-copies-to-new-names"]

    def break_something(self) -> None:
        def same_name(publication: Publication, copy: Copy) -> Copy:
            overlay = publication._export._root.config.overlay_root.removeprefix("local://")
            return dataclasses.replace(copy, path=copy.source.replace(overlay, publication._target.path))

        _copies(same_name)


class DataLast(Saboteur):
    """Tables and manifest are written before the data is copied."""

    caught_by: ClassVar = ["pub-data-before-manifest", "pub-data-before-manifest-replaced", "pub-killed"]

    def break_something(self) -> None:
        def write(self: Publication) -> str:
            self._check_target()
            datasets: list[Any] = []
            url = self._export.write(datasets.append)
            time.sleep(_AT_LEISURE)
            self._copy(datasets[0])
            return url

        Publication.write = write  # type: ignore[method-assign]


class BaseForgotten(Saboteur):
    """The base URL of the manifest that is replaced is dropped."""

    caught_by: ClassVar = ["pub-base-url"]

    def break_something(self) -> None:
        publisher._base_url = _ignore


class BaseTrusted(Saboteur):
    """The base URL of the manifest that is replaced is kept, be it another directory."""

    caught_by: ClassVar = ["pub-base-url"]

    def break_something(self) -> None:
        publisher._base_url = lambda existing, url, target: existing.get("copick:baseUrl")


class ChangesUnseen(Saboteur):
    """A copy may have other content than its row says."""

    caught_by: ClassVar = ["pub-changing-source"]

    def break_something(self) -> None:
        def later(_: Publication, copy: Copy) -> Copy:
            time.sleep(_AT_LEISURE / 10)
            return dataclasses.replace(copy, sha256=None)

        _copies(later)


class CopiedAnew(Saboteur):
    """What is there with the same content is copied again."""

    caught_by: ClassVar = ["pub-again"]

    def break_something(self) -> None:
        Copy._is_there = lambda self, target, files, executor: False  # type: ignore[method-assign]
        _copies(lambda _, copy: dataclasses.replace(copy, replaces=True))


class CopiedInPlace(Saboteur):
    """A volume is copied file by file to where it is to be."""

    caught_by: ClassVar = ["pub-killed"]

    def break_something(self) -> None:
        def to_disk(self: Copy, executor: Any) -> None:
            for name in self._files():
                _storage.write(self.fs, f"{self.path}/{name}" if name else self.path, self._read(name))
                time.sleep(_AT_LEISURE / 10)

        Copy._to_disk = to_disk  # type: ignore[method-assign]


class DataOverwritten(Saboteur):
    """Other data at the place of a copy is replaced, unasked."""

    caught_by: ClassVar = ["pub-exists", "pub-data-before-manifest-replaced"]

    def break_something(self) -> None:
        _copies(lambda _, copy: dataclasses.replace(copy, replaces=True))


class AnyPlaceTaken(Saboteur):
    """A copy may replace the data of another artifact that is exported."""

    caught_by: ClassVar = ["pub-place-of-another"]

    def break_something(self) -> None:
        _collection._apart = lambda collected: collected.moves


class CopiesFirst(Saboteur):
    """Data is copied before the manifest is validated, and before it is seen that there is one."""

    caught_by: ClassVar = ["pub-reports-first"]

    def break_something(self) -> None:
        write = Publication.write

        def copy_first(self: Publication) -> str:
            options = dataclasses.replace(self._options, validate=False, force=True)
            eager = Publication(self._export._root, self._target.path, options)
            eager._copy(eager._export.preview())
            return write(self)

        Publication.write = copy_first  # type: ignore[method-assign]


class TargetUnasked(Saboteur):
    """Nobody asks whether the target can be written."""

    caught_by: ClassVar = ["pub-read-only", "pub-read-only-local"]

    def break_something(self) -> None:
        Publication._check_target = _ignore  # type: ignore[method-assign]
        _exporting.Export._check_target = _ignore  # type: ignore[method-assign]


class UnlistedCopied(Saboteur):
    """A copy may have a name by which no project would list it."""

    caught_by: ClassVar = ["pub-names-that-are-not-listed"]

    def break_something(self) -> None:
        _layout.is_listed = lambda row: True


# --- commits ---------------------------------------------------------------------------------------------


class NoLock(Saboteur):
    """A writer commits whoever has the lock."""

    caught_by: ClassVar = ["com-waits-for-the-lock", "com-locked", "app-keeps-what-others-commit", "app-locked"]

    def break_something(self) -> None:
        index.locked = lambda *_, **__: contextlib.nullcontext()  # type: ignore[assignment,attr-defined]


class TablesFirst(Saboteur):
    """The tables are replaced before there is a pending manifest, which is then written at leisure."""

    caught_by: ClassVar = ["com-killed-writer"]

    def break_something(self) -> None:
        def publish(fs: Any, path: str, tables: Mapping[str, bytes], manifest: bytes, read: bytes | None) -> None:
            for place, data in tables.items():
                _storage.write(fs, place, data)
                time.sleep(_AT_LEISURE)
            _storage.write(fs, path, manifest)

        _commit.publish = publish


class ManifestFirst(Saboteur):
    """The manifest is replaced before the tables."""

    caught_by: ClassVar = ["com-killed-writer"]

    def break_something(self) -> None:
        def publish(fs: Any, path: str, tables: Mapping[str, bytes], manifest: bytes, read: bytes | None) -> None:
            _storage.write(fs, path, manifest)
            for place, data in tables.items():
                time.sleep(_AT_LEISURE)
                _storage.write(fs, place, data)

        _commit.publish = publish


class LeftoversKept(Saboteur):
    """What killed writers left is left."""

    caught_by: ClassVar = ["com-change-removes-leftovers", "com-change-discards-incomplete"]

    def break_something(self) -> None:
        _commit.leftovers = lambda fs, path, staged=None: []


class PendingOverwritten(Saboteur):
    """A writer commits without a look at the unfinished commit of another."""

    caught_by: ClassVar = ["com-change-finishes", "com-change-of-another-table"]

    def break_something(self) -> None:
        _commit.recover = _ignore


class PendingIgnored(Saboteur):
    """A reader knows of metadata.json alone."""

    caught_by: ClassVar = [
        "com-pending-is-read",
        "com-pending-in-an-overlay",
        "com-pending-without-manifest",
        "com-pending-http",
    ]

    def break_something(self) -> None:
        _commit.read_pending = lambda fs, path: None


class StagedIgnored(Saboteur):
    """A reader knows of tables in their places alone."""

    caught_by: ClassVar = ["com-pending-in-an-overlay", "com-staged-s3", "com-staged-http"]

    def break_something(self) -> None:
        _commit._read_staged = _ignore


class IncompleteTrusted(Saboteur):
    """A pending manifest is the manifest, whatever is there of its tables."""

    caught_by: ClassVar = ["com-incomplete-without-table", "com-incomplete-other-bytes", "com-pending-http-incomplete"]

    def break_something(self) -> None:
        _commit.read_pending = lambda fs, path: _storage.read_if_there(fs, _commit._pending(fs, path))


class NotReadAgain(Saboteur):
    """A table that does not fit the manifest is an error at once."""

    caught_by: ClassVar = ["com-reads-amid-commits"]

    def break_something(self) -> None:
        read = Snapshot._read

        def read_late(self: Snapshot, table: Any, path: str) -> Any:
            time.sleep(_AT_LEISURE / 10)
            return read(self, table, path)

        Snapshot._read = read_late  # type: ignore[method-assign]
        Snapshot.refresh = lambda self: False  # type: ignore[method-assign]
        _snapshot._RETRIES = 0


class FinishesOverlays(Saboteur):
    """An unfinished commit is finished also under an overlay."""

    caught_by: ClassVar = ["com-pending-in-an-overlay"]

    def break_something(self) -> None:
        take_over = root.CopickRootMLC._take_over

        def recover(self: root.CopickRootMLC) -> None:
            take_over(self)
            _commit.recover(self.index._fs, self.index._path)

        root.CopickRootMLC._take_over = recover  # type: ignore[method-assign]


class FinishesLocked(Saboteur):
    """An unfinished commit is finished by whoever opens the project, also while somebody is at it."""

    caught_by: ClassVar = ["com-lock-is-not-for-readers"]

    def break_something(self) -> None:
        CroissantIndex.recover = lambda self: _commit.recover(self._fs, self._path)  # type: ignore[method-assign]


class TablesFirstOnS3(Saboteur):
    """On S3 tables are put in their places, and then the manifest."""

    caught_by: ClassVar = ["com-s3-killed-writer"]

    def break_something(self) -> None:
        prepare = _remote.prepare

        def put(fs: Any, path: str, tables: Mapping[str, bytes], *more: Any, **named: Any) -> Any:
            for place, data in tables.items():
                _storage.write(fs, place, data)
            return prepare(fs, path, {}, *more, **named)

        _remote.prepare = put


class UnstagedOnS3(Saboteur):
    """On S3 the manifest is put, and then the tables in their places."""

    caught_by: ClassVar = ["com-s3-killed-writer"]

    def break_something(self) -> None:
        prepare = _remote.prepare

        def read(fs: Any, path: str, tables: Mapping[str, bytes], *more: Any, **named: Any) -> Any:
            return prepare(fs, path, {}, *more, **named)

        _remote.prepare = read


class UnconditionalOnS3(Saboteur):
    """On S3 the manifest is put whatever others did since it was read."""

    caught_by: ClassVar = ["com-s3-writers-keep-picks"]

    def break_something(self) -> None:
        def commit(fs: Any, path: str, manifest: bytes, version: Any) -> Any:
            time.sleep(_AT_LEISURE)
            return _storage.put(fs, path, manifest)

        _remote.commit = commit


class StagedKeptOnS3(Saboteur):
    """On S3 staged tables stay."""

    caught_by: ClassVar = ["com-s3-commits"]

    def break_something(self) -> None:
        _remote.unstage = _ignore


SABOTEURS = {kind.__name__: kind for kind in Saboteur.__subclasses__()}
