"""Our adapter with one thing broken in each: what the suite is there to catch.

Each class breaks the implementation in its own process, when the adapter is made, and names the cases that must fail
for it. A suite that passes a saboteur checks nothing.
"""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import os
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from conformance.adapters.copick_mlc import Adapter
from copick_mlc import (
    _artifact,
    _commit,
    _credentials,
    _csv,
    _manifest,
    _portal,
    _snapshot,
    _storage,
    _tables,
    _urls,
    exporter,
    index,
    picks,
    root,
    run,
    tomogram,
    voxel_spacing,
)
from copick_mlc._csv import TableFile
from copick_mlc._manifest import Manifest
from copick_mlc._snapshot import Snapshot
from copick_mlc._source import Source
from copick_mlc._target import Target
from copick_mlc.errors import UsageError
from copick_mlc.index import CroissantIndex, PicksRow


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
        CroissantIndex.wrote = lambda self, row, fs, path: None  # type: ignore[method-assign]


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
        def record(self: Target, row: Any, **columns: Any) -> None:
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
        existing = exporter._existing
        exporter._existing = lambda fs, path, url, force: existing(fs, path, url, True)


class CredentialsPublished(Saboteur):
    """What opens something by itself goes into the manifest."""

    caught_by: ClassVar = ["exp-credentials-in-base-url", "exp-credentials-in-url", "exp-credentials-taken-out"]

    def break_something(self) -> None:
        _credentials.found_in = lambda url: None


class ProjectRootForBase(Saboteur):
    """URLs are relative to the project root, though the manifest declares another base URL."""

    caught_by: ClassVar = ["exp-urls-below-declared-base"]

    def break_something(self) -> None:
        bases = exporter.Export._bases

        def with_root(self: exporter.Export, source: Source) -> tuple[str | None, list[str], str]:
            base, below, prefix = bases(self, source)
            return base, [*below, _urls.published(self._target)], prefix

        exporter.Export._bases = with_root  # type: ignore[method-assign]


# --- the portal ------------------------------------------------------------------------------------------


# What a module has from others, mypy does not let us replace.
_exporting: Any = exporter
_reading_the_portal: Any = _portal


def _collecting(change: Callable[[Source, Sequence[str]], Sequence[str]]) -> None:
    """Have exports and appends take other base URLs: those that `change` makes of a source and the base URLs."""
    collect = _exporting.collect
    _exporting.collect = lambda source, choices, bases, *more: collect(source, choices, change(source, bases), *more)


def _picks_of_the_portal(change: Callable[[PicksRow], PicksRow]) -> None:
    """Have picks of the portal be what `change` makes of their rows."""
    _reading_the_portal.PicksRow = lambda *key, **columns: change(PicksRow(*key, **columns))


class PortalBaseReplaced(Saboteur):
    """A portal project is exported with the base URL that is given."""

    caught_by: ClassVar = ["por-base-url"]

    def break_something(self) -> None:
        opened = _exporting.open_source
        _exporting.open_source = lambda *arguments: dataclasses.replace(opened(*arguments), is_fixed=False)


class PortalColumnsLost(Saboteur):
    """Rows of a portal project say nothing of the portal."""

    caught_by: ClassVar = ["por-ids", "por-former-names", "por-equal-tomograms"]

    def break_something(self) -> None:
        collect = _exporting.collect

        def bare(row: Any) -> Any:
            lost = {name: None for name in row.table.column_names if name.startswith("portal_")}
            return dataclasses.replace(row, **lost)

        def collected(*arguments: Any) -> Any:
            rows, *more = collect(*arguments)
            return {name: list(map(bare, found)) for name, found in rows.items()}, *more

        _exporting.collect = collected


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
        _collecting(lambda source, bases: [*bases, *(place.url for place in source.places)])


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
        batch = exporter._all_or_nothing

        @contextlib.contextmanager
        def then_checked(appended: CroissantIndex) -> Iterator[None]:
            with batch(appended):
                yield
            for check in checks:
                check(appended.document)

        CroissantIndex.before_commit = lambda self, check: checks.append(check)  # type: ignore[method-assign]
        _exporting._all_or_nothing = then_checked


class AppendKeepsRows(Saboteur):
    """A row with the key of an appended one stays."""

    caught_by: ClassVar = ["app-adds-rows", "app-replaces-rows"]

    def break_something(self) -> None:
        exporter._kept = lambda old, new: old or new


class AppendForgets(Saboteur):
    """A row that is replaced keeps nothing."""

    caught_by: ClassVar = ["app-keeps-split-and-portal-columns"]

    def break_something(self) -> None:
        exporter._kept = lambda old, new: new


class AppendAbsolute(Saboteur):
    """All URLs that are appended are absolute."""

    caught_by: ClassVar = ["app-urls", "app-urls-declared-base", "app-portal-source"]

    def break_something(self) -> None:
        _collecting(lambda source, bases: ["nowhere://"])


class AppendRedefines(Saboteur):
    """Definitions of objects are replaced by those of what is appended."""

    caught_by: ClassVar = ["app-objects"]

    def break_something(self) -> None:
        exporter._new_objects = lambda there, definitions: (list(definitions), [])


class SplitsIgnored(Saboteur):
    """Exports and appends assign no run to a split."""

    caught_by: ClassVar = ["app-splits", "exp-splits"]

    def break_something(self) -> None:
        exporter._assign_splits = _ignore


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
        def publish(fs: Any, path: str, tables: Mapping[str, bytes], manifest: bytes) -> None:
            for place, data in tables.items():
                _storage.write(fs, place, data)
                time.sleep(_AT_LEISURE)
            _storage.write(fs, path, manifest)

        _commit.publish = publish


class ManifestFirst(Saboteur):
    """The manifest is replaced before the tables."""

    caught_by: ClassVar = ["com-killed-writer"]

    def break_something(self) -> None:
        def publish(fs: Any, path: str, tables: Mapping[str, bytes], manifest: bytes) -> None:
            _storage.write(fs, path, manifest)
            for place, data in tables.items():
                time.sleep(_AT_LEISURE)
                _storage.write(fs, place, data)

        _commit.publish = publish


class LeftoversKept(Saboteur):
    """What killed writers left is left."""

    caught_by: ClassVar = ["com-change-removes-leftovers", "com-change-discards-incomplete"]

    def break_something(self) -> None:
        _commit.leftovers = lambda fs, path: []


class PendingOverwritten(Saboteur):
    """A writer commits without a look at the unfinished commit of another."""

    caught_by: ClassVar = ["com-change-finishes", "com-change-of-another-table"]

    def break_something(self) -> None:
        _commit.recover = _ignore


class PendingIgnored(Saboteur):
    """A reader knows of metadata.json alone."""

    caught_by: ClassVar = ["com-pending-is-read", "com-pending-in-an-overlay", "com-pending-without-manifest"]

    def break_something(self) -> None:
        _commit._read_pending = lambda fs, path: None


class StagedIgnored(Saboteur):
    """A reader knows of tables in their places alone."""

    caught_by: ClassVar = ["com-pending-in-an-overlay"]

    def break_something(self) -> None:
        in_place = {
            "read_table": lambda fs, path, sha256, what: (_storage.read(fs, path, "table-missing", what), False)
        }
        _snapshot._commit = types.SimpleNamespace(**{**vars(_commit), **in_place})  # type: ignore[assignment,attr-defined]


class IncompleteTrusted(Saboteur):
    """A pending manifest is the manifest, whatever is there of its tables."""

    caught_by: ClassVar = ["com-incomplete-without-table", "com-incomplete-other-bytes"]

    def break_something(self) -> None:
        _commit._read_pending = lambda fs, path: _storage.read_if_there(fs, _commit._pending(path))


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


SABOTEURS = {kind.__name__: kind for kind in Saboteur.__subclasses__()}
