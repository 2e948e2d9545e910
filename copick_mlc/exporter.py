"""Whole-project operations: export a copick project, append one to a manifest, assign runs to splits.

An export is the Croissant dataset of a project: metadata.json and ten CSVs in `<project root>/Croissant`. It is made
in memory, checked, and then put in place; one that fails changes nothing. Data is not touched [EXP-004]: rows say
where it is. Rules: SPEC.md, Export [EXP] and Appending [APP].
"""

from __future__ import annotations

import datetime
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from copick.models import CopickConfig, CopickRoot
from fsspec import AbstractFileSystem

from copick_mlc import _commit, _credentials, _manifest, _storage, _urls
from copick_mlc._collection import Choices, Move, collect, outside_remark
from copick_mlc._description import describe, license_remark
from copick_mlc._lock import locked
from copick_mlc._renames import Renames
from copick_mlc._source import Source
from copick_mlc._sources import open_source
from copick_mlc._splits import assignments
from copick_mlc._tables import TABLES, Row, cells_of, encode_table
from copick_mlc._validation import validate as check_with_mlcroissant
from copick_mlc.errors import (
    CroissantError,
    CroissantWarning,
    DataError,
    ExistsError,
    UnknownRunError,
    UsageError,
)
from copick_mlc.index import CroissantIndex, RunRow
from copick_mlc.root import CopickRootMLC

_RECOMMENDED = ("license", "citeAs", "version")


@dataclass(frozen=True)
class ExportOptions(Choices):
    """The options of `export_croissant`, which says what they mean."""

    base_url: str | None = None
    dataset_name: str | None = None
    description: str | None = None
    license: str | None = None
    cite_as: str | None = None
    date_published: str | None = None
    validate: bool = True
    force: bool = False
    splits: Mapping[str, Iterable[str]] | None = None
    creator: str | Mapping[str, Any] | Iterable[str | Mapping[str, Any]] | None = None
    publisher: str | Mapping[str, Any] | None = None
    url: str | None = None
    keywords: str | Iterable[str] | None = None
    rai: Mapping[str, Any] | None = None

    def described(self) -> dict[str, Any]:
        """What they say of the dataset, as properties of the manifest.

        Raises:
            UsageError: `option-invalid` [EXP-046].
        """
        return describe(
            creator=self.creator,
            publisher=self.publisher,
            url=self.url,
            keywords=self.keywords,
            license=self.license or None,
            rai=self.rai,
        )


@dataclass(frozen=True)
class Dataset:
    """A Croissant dataset that is ready to be put in place.

    Attributes:
        url: URL of its metadata.json.
        tables: The bytes of the CSVs, by table.
        manifest: The bytes of metadata.json.
        counts: The number of rows, by table.
        moves: What is to be copied before.
    """

    url: str
    tables: Mapping[str, bytes]
    manifest: bytes
    counts: Mapping[str, int]
    moves: list[Move]


def export_croissant(
    root: CopickRoot,
    project_root: str | os.PathLike[str],
    *,
    base_url: str | None = None,
    dataset_name: str | None = None,
    description: str | None = None,
    license: str | None = None,
    cite_as: str | None = None,
    date_published: str | None = None,
    validate: bool = True,
    compute_file_sha256: bool = True,
    force: bool = False,
    runs: Iterable[str] | None = None,
    tomograms: Iterable[str] | None = None,
    features: Iterable[str] | None = None,
    picks: Iterable[str] | None = None,
    meshes: Iterable[str] | None = None,
    segmentations: Iterable[str] | None = None,
    objects: Iterable[str] | None = None,
    tomo_type_map: Mapping[str, str] | None = None,
    object_name_map: Mapping[str, str] | None = None,
    session_id_template: str | None = None,
    picks_portal_meta: Mapping[str, Any] | None = None,
    picks_author: Iterable[str] | None = None,
    segmentations_portal_meta: Mapping[str, Any] | None = None,
    segmentations_author: Iterable[str] | None = None,
    tomograms_portal_meta: Mapping[str, Any] | None = None,
    tomograms_author: Iterable[str] | None = None,
    splits: Mapping[str, Iterable[str]] | None = None,
    creator: str | Mapping[str, Any] | Iterable[str | Mapping[str, Any]] | None = None,
    publisher: str | Mapping[str, Any] | None = None,
    url: str | None = None,
    keywords: str | Iterable[str] | None = None,
    rai: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    executor: Executor | None = None,
) -> str:
    """Export `root` to `<project_root>/Croissant/`; the same project and options give the same bytes [EXP-003].

    Where a list of names or URIs is expected, a str is one value; None selects everything, and filters are independent
    of each other. What matches nothing, and what dataset hosts will miss, is a `CroissantWarning`.

    Args:
        root: A copick project: filesystem, CryoET Data Portal, mlcroissant, or any other backend that says where its
            data is.
        project_root: Path or fsspec URL of the project.
        base_url: Where `project_root` will be read from. Without it the manifest names no base, and the project can
            be moved [EXP-010]. Portal sources have the portal's [POR-001].
        dataset_name: Name of the dataset; by default that of the project.
        description: Description of the dataset; by default that of the project.
        license: License, an SPDX id or URL.
        cite_as: Citation.
        date_published: ISO date; by default today.
        validate: Whether mlcroissant checks the manifest.
        compute_file_sha256: Whether picks and meshes get their sha256 [EXP-011], for which each is read once; those
            of a portal or another publisher only where their data can be reached [POR-008].
        force: Whether an existing manifest is replaced. What others added to it [EXP-007], and splits of runs that
            remain [EXP-008], stay.
        runs: Names of runs [EXP-013].
        tomograms: copick URIs, as `wbp@10.0` [EXP-014].
        features: copick URIs, as `wbp@10.0:sobel`.
        picks: copick URIs, as `ribosome:*/*`.
        meshes: copick URIs, as `ribosome:*/*`.
        segmentations: copick URIs, as `membrane:*/*@10.0`.
        objects: Names of objects whose density maps are exported [EXP-015].
        tomo_type_map: New names of tomogram types, by old name [EXP-017].
        object_name_map: New names of objects, by old name [EXP-018].
        session_id_template: Format string that makes the session ids of the portal's annotations [POR-006], of any
            scalar field of the portal's annotation, and `{author}`, `{authors}`, `{annotation_file_id}`.
        picks_portal_meta: Values that the portal's annotation must have, by field [POR-004].
        picks_author: Names that must all be among the annotation's authors [POR-004].
        segmentations_portal_meta: As `picks_portal_meta`.
        segmentations_author: As `picks_author`.
        tomograms_portal_meta: Values that the portal's tomogram must have, by field.
        tomograms_author: Names that must all be among the tomogram's authors.
        splits: Run names by machine-learning split [EXP-020].
        creator: Who made the dataset: a person's name, a JSON-LD object, or a list of these [EXP-043].
        publisher: Who publishes it: an organization's name, or a JSON-LD object [EXP-043].
        url: Its web page [EXP-044].
        keywords: Its keywords; a str is one [EXP-044].
        rai: Properties of the responsible-AI and provenance vocabularies, by `rai:` or `prov:` name [EXP-045].
        progress: Called with the number of runs that are done, and of all.
        executor: Who lists and reads what is exported: threads, processes, `dask.distributed.Client().get_executor()`
            or MPI, as a `concurrent.futures.Executor`. The bytes are the same.

    Returns:
        Path or URL of the metadata.json that was written.

    Raises:
        ExistsError: `exists`, where there is a manifest or a table already, without `force` [EXP-006].
        UsageError: `option-invalid`, `source-unsupported` [EXP-024], `name-invalid`.
        DataError: `manifest-rejected` [EXP-023]; also for what cannot be read of a Croissant source.
        LockedError: `locked`, where another process writes all the time.
        StorageError: `storage-failed`.
    """
    options = ExportOptions(
        compute_file_sha256=compute_file_sha256,
        runs=runs,
        tomograms=tomograms,
        features=features,
        picks=picks,
        meshes=meshes,
        segmentations=segmentations,
        objects=objects,
        tomo_type_map=tomo_type_map,
        object_name_map=object_name_map,
        session_id_template=session_id_template,
        picks_portal_meta=picks_portal_meta,
        picks_author=picks_author,
        segmentations_portal_meta=segmentations_portal_meta,
        segmentations_author=segmentations_author,
        tomograms_portal_meta=tomograms_portal_meta,
        tomograms_author=tomograms_author,
        base_url=base_url,
        dataset_name=dataset_name,
        description=description,
        license=license,
        cite_as=cite_as,
        date_published=date_published,
        validate=validate,
        force=force,
        splits=splits,
        creator=creator,
        publisher=publisher,
        url=url,
        keywords=keywords,
        rai=rai,
    )
    return Export(root, project_root, options, progress, executor).write()


class Export:
    """An export that can be looked at before it is made.

    Args:
        root: The project.
        project_root: Path or fsspec URL of the directory that gets `Croissant/`.
        options: As `export_croissant`.
        progress: As `export_croissant`.
        executor: As `export_croissant`.
        edit: Changes the source before it is exported, given the document that is replaced, or nothing.
    """

    def __init__(
        self,
        root: CopickRoot,
        project_root: str | os.PathLike[str],
        options: ExportOptions,
        progress: Callable[[int, int], None] | None = None,
        executor: Executor | None = None,
        edit: Callable[[Source, Mapping[str, Any]], Source] = lambda source, _: source,
    ) -> None:
        self._root = root
        self._target = _urls.normalise(project_root)
        self._options = options
        self._progress = progress
        self._executor = executor
        self._edit = edit
        self._renames = options.renames()
        self._splits = assignments(options.splits or {})
        options.selection()  # raises for what makes no sense, before anything is read
        self._described = options.described()
        for name in ("base_url", "url"):
            _refuse_credentials(name, getattr(options, name))
        _refuse_credentials("project_root", self._target)
        self.url = _urls.join(self._target, "Croissant/metadata.json")
        self._fs, self._path = _storage.open_location(self.url)

    def preview(self) -> Dataset:
        """What `write` would put in place; nothing is written.

        Raises:
            CroissantError: as `export_croissant`.
        """
        return self._dataset()

    def write(self, before: Callable[[Dataset], None] = lambda _: None) -> str:
        """Put the dataset in place.

        Args:
            before: What is done before, when the dataset is ready.

        Raises:
            CroissantError: as `export_croissant`.
        """
        directory = self._path.rpartition("/")[0]
        # From before anything is read, so that no row is lost that somebody else commits meanwhile.
        with _storage.made_directory(self._fs, directory), locked(self._fs, self._path):
            _commit.recover(self._fs, self._path)
            dataset = self._dataset()
            before(dataset)
            tables = {f"{directory}/{TABLES[name].file_name}": data for name, data in dataset.tables.items()}
            _commit.publish(self._fs, self._path, tables, dataset.manifest)
        return self.url

    def _dataset(self) -> Dataset:
        options = self._options
        existing = _existing(self._fs, self._path, self.url, options.force)
        source = self._edit(open_source(self._root, options.portal()), existing)
        base, bases, prefix = self._bases(source)
        rows, moves, notes = collect(source, options, bases, self._progress, self._executor)
        _assign_splits(rows, self._splits, _old_splits(self.url) if existing else {})
        files = {name: encode_table(table, rows[name]) for name, table in TABLES.items()}  # [EXP-001]
        template = existing or source.document
        config = self._root.config
        properties = {
            "name": options.dataset_name or template.get("name") or config.name or "copick project",  # [EXP-022]
            "description": options.description or template.get("description") or config.description,
            "conformsTo": _manifest.CONFORMS_TO,
            "version": template.get("version") or config.version,
            "license": template.get("license"),  # [EXP-009]
            "citeAs": options.cite_as or template.get("citeAs"),  # [EXP-009]
            "datePublished": options.date_published or template.get("datePublished") or _today(),
            **self._described,
            "copick:baseUrl": base,
            "copick:config": _config(config, self._renames),
        }
        document = _manifest.build(
            template,
            properties,
            content_prefix=prefix,
            files=files,
            filled=[name for name in TABLES if rows[name]],
            splits=[row.split for row in rows["runs"] if isinstance(row, RunRow) and row.split],
            modified=_today() if existing else None,
        )
        notes += _findings(document, check_with_mlcroissant(document, self.url) if options.validate else [])
        for note in notes:
            warnings.warn(note, CroissantWarning, stacklevel=4)
        _refuse_local_data(self.url, rows)
        counts = {name: len(found) for name, found in rows.items()}
        return Dataset(self.url, files, _manifest.dump(document), counts, moves)

    def _bases(self, source: Source) -> tuple[str | None, list[str], str]:
        """The declared base URL [EXP-010], what URLs are relative to, and what precedes file names in contentUrl."""
        target = _urls.published(self._target)
        if self._options.base_url and source.is_fixed:  # [POR-001]
            warnings.warn(
                f"base_url has no effect: the rows of a portal project are relative to {source.base_url}",
                CroissantWarning,
                stacklevel=5,
            )
        elif self._options.base_url:
            base = _urls.published(_urls.normalise(self._options.base_url))
            return base, [target, base], _content_prefix(base)
        if source.base_url is None:
            return None, [target], ""
        base = _credentials.stripped(source.base_url)  # [EXP-032]
        if source.manifest_url == self.url:
            return base, [base, target], _content_prefix(base)
        return base, [base], ""


def _today() -> str:
    return datetime.date.today().isoformat()


def _content_prefix(base: str) -> str:
    """What comes before the file names in the manifest [EXP-025]."""
    return f"{base.rstrip('/')}/Croissant/" if base.startswith(("http://", "https://")) else ""


def _refuse_credentials(option: str, url: str | None) -> None:
    if url and (secret := _credentials.found_in(url)):  # [EXP-032]
        raise UsageError(
            "option-invalid",
            f"{option} has {secret}, which everybody could read in the manifest; leave it out, and give it as fsspec "
            "options when the project is opened",
        )


def _refuse_local_data(url: str, rows: Mapping[str, Iterable[Row]]) -> None:
    """Raise where readers of a manifest on other storage would be led to their own disk [SEC-002]."""
    if _urls.is_local(url):
        return
    for row in (row for table in rows.values() for row in table):
        location = getattr(row, "url", None)
        if location and _urls.is_absolute(location) and _urls.is_local(location):
            raise DataError(
                "url-local",
                f"{row.table.name} {'/'.join(map(str, row.key))} is at {location} on this disk, where no reader of a "
                "manifest elsewhere may look for it; copy the data there too (publish), or say with base_url where "
                "it will be",
                path=url,
            )


def _findings(document: Mapping[str, Any], findings: list[str]) -> list[str]:
    """What mlcroissant finds, and in one line what is merely absent."""
    absent = [name for name in _RECOMMENDED if not document.get(name)]
    lines = [finding for finding in findings if "is recommended, but does not exist" not in finding]
    terms = document.get("license")
    if isinstance(terms, str) and (remark := license_remark(terms)):
        lines.append(remark)
    return lines + ([f"dataset hosts will miss: {', '.join(absent)}"] if absent else [])


def _existing(fs: AbstractFileSystem, path: str, url: str, force: bool) -> dict[str, Any]:
    """The document that is there already, which `force` lets us replace; empty where there is none."""
    directory, _, name = path.rpartition("/")
    there = _storage.list_directory(fs, directory)
    own = [name, *(table.file_name for table in TABLES.values())]
    if not force and (found := [file for file in own if file in there]):  # [EXP-006]
        raise ExistsError(
            "exists",
            f"{found[0]} is there already; give force=True (--force) to replace it; what others added to a manifest "
            "stays. To add to it, append",
            path=url,
        )
    if name not in there:
        return {}
    try:
        document = _manifest.parse(_commit.read_manifest(fs, path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError("manifest-invalid", f"the manifest to replace is not JSON: {error}", path=url) from error
    if not isinstance(document, dict):
        raise DataError("manifest-invalid", "the manifest to replace is not a JSON object", path=url)
    return document


def _old_splits(url: str) -> dict[str, str]:
    try:
        return assignments(CroissantIndex.from_url(url).splits())
    except CroissantError as error:
        warnings.warn(f"splits of the manifest that is replaced are lost: {error}", CroissantWarning, stacklevel=5)
        return {}


def _assign_splits(rows: dict[str, list[Row]], wanted: Mapping[str, str], old: Mapping[str, str]) -> None:
    """Give runs their splits: those asked for, else the source's, else those they had [EXP-008]."""
    runs = [row for row in rows["runs"] if isinstance(row, RunRow)]
    unknown = sorted(set(wanted) - {row.name for row in runs})
    if unknown:  # [EXP-020]
        raise UsageError("option-invalid", f"splits: no such runs in this export: {', '.join(unknown)}")
    rows["runs"] = [replace(row, split=wanted.get(row.name) or row.split or old.get(row.name)) for row in runs]


def _config(config: CopickConfig, renames: Renames) -> dict[str, Any]:
    """The `copick:config` of a project [EXP-029]."""
    return {
        "name": config.name,
        "description": config.description,
        "version": config.version,
        "user_id": config.user_id,
        "session_id": config.session_id,
        "pickable_objects": renames.definitions(config.pickable_objects),
    }


# --- append ----------------------------------------------------------------------------------------------


def append_croissant(
    dest_metadata_path: str | os.PathLike[str],
    source_root: CopickRoot,
    *,
    runs: Iterable[str] | None = None,
    tomograms: Iterable[str] | None = None,
    features: Iterable[str] | None = None,
    picks: Iterable[str] | None = None,
    meshes: Iterable[str] | None = None,
    segmentations: Iterable[str] | None = None,
    objects: Iterable[str] | None = None,
    tomo_type_map: Mapping[str, str] | None = None,
    object_name_map: Mapping[str, str] | None = None,
    session_id_template: str | None = None,
    picks_portal_meta: Mapping[str, Any] | None = None,
    picks_author: Iterable[str] | None = None,
    segmentations_portal_meta: Mapping[str, Any] | None = None,
    segmentations_author: Iterable[str] | None = None,
    tomograms_portal_meta: Mapping[str, Any] | None = None,
    tomograms_author: Iterable[str] | None = None,
    splits: Mapping[str, Iterable[str]] | None = None,
    compute_file_sha256: bool = True,
    validate: bool = True,
    progress: Callable[[int, int], None] | None = None,
    executor: Executor | None = None,
) -> str:
    """Add the rows of a project to an existing manifest, in one commit, all or none [APP-001].

    A row whose key is there already is replaced [APP-002]; it keeps its split and portal columns where the new one has
    none [APP-003]. URLs below the manifest's base become relative to it, others absolute [APP-004]. Pickable objects
    that the manifest does not define are added; of two definitions of one name the manifest's stays, with a warning
    [APP-005]. All else of the manifest stays [APP-007].

    Args:
        dest_metadata_path: Path or fsspec URL of the metadata.json to add to.
        source_root: The project to add.
        runs: This and what follows is as in `export_croissant`.
        tomograms: As in `export_croissant`.
        features: As in `export_croissant`.
        picks: As in `export_croissant`.
        meshes: As in `export_croissant`.
        segmentations: As in `export_croissant`.
        objects: As in `export_croissant`.
        tomo_type_map: As in `export_croissant`.
        object_name_map: As in `export_croissant`.
        session_id_template: As in `export_croissant`.
        picks_portal_meta: As in `export_croissant`.
        picks_author: As in `export_croissant`.
        segmentations_portal_meta: As in `export_croissant`.
        segmentations_author: As in `export_croissant`.
        tomograms_portal_meta: As in `export_croissant`.
        tomograms_author: As in `export_croissant`.
        splits: As in `export_croissant`, for the runs that are added [APP-008].
        compute_file_sha256: As in `export_croissant`.
        validate: As in `export_croissant`.
        progress: As in `export_croissant`.
        executor: As in `export_croissant`.

    Returns:
        Path or URL of the metadata.json.

    Raises:
        MissingError, DataError: as `CroissantIndex.from_url`; DataError also `manifest-rejected` [APP-006], and
            `url-local`, for data on the local disk where the manifest is not [SEC-002].
        UsageError: `option-invalid`, `source-unsupported`, `name-invalid`.
        ReadOnlyError: `read-only`, where the manifest cannot be written.
        LockedError, StorageError: as `CroissantIndex.commit`.
    """
    choices = Choices(
        compute_file_sha256=compute_file_sha256,
        runs=runs,
        tomograms=tomograms,
        features=features,
        picks=picks,
        meshes=meshes,
        segmentations=segmentations,
        objects=objects,
        tomo_type_map=tomo_type_map,
        object_name_map=object_name_map,
        session_id_template=session_id_template,
        picks_portal_meta=picks_portal_meta,
        picks_author=picks_author,
        segmentations_portal_meta=segmentations_portal_meta,
        segmentations_author=segmentations_author,
        tomograms_portal_meta=tomograms_portal_meta,
        tomograms_author=tomograms_author,
    )
    renames, wanted = choices.renames(), assignments(splits or {})
    index = _writable(dest_metadata_path)
    for name in TABLES:
        index.count(name)  # reads the table: what is broken is found before there is work, and see below
    source = open_source(source_root, choices.portal())
    rows, _, notes = collect(source, choices, [], progress, executor)
    _assign_splits(rows, wanted, {})
    # A row that was there when all began is not put again: who changes or removes it meanwhile has the last word.
    there = [index]
    if isinstance(source_root, CopickRootMLC) and source.manifest_url == index.url:
        there.append(source_root.index)  # which may have been read long ago
    known = {(row.table.name, row.key) for table in rows.values() for row in table if _is_in(there, row)}
    with index.exclusive():  # from here on nobody else changes what is there
        index.reload()
        placed = [_placed(row, index) for table in rows.values() for row in table]
        added = [row for row in placed if (row.table.name, row.key) not in known]
        notes += outside_remark(sum(_is_outside(row) for row in placed), index.base_url)
        if validate:
            index.before_commit(
                lambda document: _warn(_findings(document, check_with_mlcroissant(document, index.url)))
            )
        definitions = renames.definitions(source_root.config.pickable_objects)
        new, remarks = _new_objects(index.config.get("pickable_objects") or [], definitions)
        merged = [_kept(index.find(row), row) for row in added]
        notes += _changed_splits(index, merged)
        _warn([*notes, *remarks])
        with _all_or_nothing(index):
            for definition in new:
                index.put_object(definition)
            for row in merged:
                index.put(row)  # [APP-002]
    return index.url


def _placed(row: Row, index: CroissantIndex) -> Row:
    """A row with its URL as the manifest needs it [APP-004]; raises for what nobody could read."""
    if url := getattr(row, "url", None):
        row = replace(row, url=_urls.relative(url, _urls.published(index.base_url)) or url)  # type: ignore[type-var]
        index.absolute_url(getattr(row, "url", ""))  # [SEC-002]
    cells_of(row)
    return row


def _is_outside(row: Row) -> bool:
    return _urls.is_absolute(getattr(row, "url", None) or "")


def _changed_splits(index: CroissantIndex, rows: Iterable[Row]) -> list[str]:
    """What is to be said of runs that come to another split."""
    runs = [row for row in rows if isinstance(row, RunRow)]
    olds = {row.name: index.get_split(row.name) for row in runs}
    changed = [row for row in runs if olds[row.name] not in (None, row.split)]
    return [f"run {row.name} was in the split {olds[row.name]}, and is in {row.split} now" for row in changed]


def _warn(notes: Iterable[str]) -> None:
    """Warn before anything is written, so that nothing is where somebody makes errors of warnings."""
    for note in notes:
        warnings.warn(note, CroissantWarning, stacklevel=3)


def _writable(location: str | os.PathLike[str]) -> CroissantIndex:
    index = CroissantIndex.from_url(os.fspath(location))
    index.check_writable()
    return index


@contextmanager
def _all_or_nothing(index: CroissantIndex) -> Iterator[None]:
    """A batch that commits nothing where it raises, and be it for a KeyboardInterrupt."""
    with index.batch():
        try:
            yield
        except BaseException:
            index.discard()  # which the batch would commit [BAT-003]
            raise


def _is_in(indices: Iterable[CroissantIndex], row: Row) -> bool:
    """Whether one of the indices has just what the row would be there."""
    found = ((index.find(row), _placed(row, index)) for index in indices)
    return any(old is not None and _kept(old, new) == old for old, new in found)


def _kept(old: Row | None, new: Row) -> Row:
    """A new row with the split and portal columns of the row it replaces, where it has none [APP-003]."""
    if old is None:
        return new
    names = [name for name in new.table.column_names if name == "split" or name.startswith("portal_")]
    kept = {name: getattr(old, name) for name in names if getattr(new, name) is None}
    return replace(new, **kept)  # type: ignore[type-var]


def _new_objects(
    there: Iterable[Mapping[str, Any]], definitions: Iterable[Mapping[str, Any]]
) -> tuple[list[Mapping[str, Any]], list[str]]:
    """The objects that are not defined yet, and what is to be said of the others [APP-005]."""
    known = {item["name"]: item for item in there}
    labels = {item["label"]: name for name, item in known.items() if item.get("label") is not None}
    new, remarks = [], []
    for definition in definitions:
        name, label = definition["name"], definition.get("label")
        if name in known:
            keys = ("is_particle", "label", "color")
            given = [key for key in keys if key in known[name]]  # what is not, copick has a default for
            if differing := [key for key in given if known[name][key] != definition.get(key)]:
                remarks.append(f"object {name} is defined already, with another {', '.join(differing)}, which stays")
            continue
        if label in labels:
            remarks.append(f"objects {labels[label]} and {name} have one label, {label}: multilabel masks mix them up")
        new.append(definition)
    return new, remarks


# --- splits ----------------------------------------------------------------------------------------------


def set_splits(
    dest_metadata_path: str | os.PathLike[str],
    mapping: Mapping[str, Iterable[str]] | None = None,
    *,
    clear_existing: bool = False,
    unassign: Iterable[str] | None = None,
) -> str:
    """Assign runs of an existing manifest to splits, in one commit, all or none.

    Args:
        dest_metadata_path: Path or fsspec URL of a metadata.json.
        mapping: Run names by split; a str is one name.
        clear_existing: Whether runs that are not mentioned lose their split.
        unassign: Names of runs that lose their split, whatever `mapping` says.

    Returns:
        Path or URL of the metadata.json.

    Raises:
        UnknownRunError: `run-unknown`.
        UsageError: `option-invalid`, for an empty split name or a run in two splits; `name-invalid`.
        ReadOnlyError: `read-only`, where the manifest cannot be written.
        LockedError, StorageError: as `CroissantIndex.commit`.
    """
    index = _writable(dest_metadata_path)
    gone = [unassign] if isinstance(unassign, str) else list(unassign or [])
    with index.exclusive():  # before runs.csv is read, so that nobody else adds, removes or changes a run meanwhile
        if unknown := sorted(name for name in gone if not index.has("runs", name)):
            raise UnknownRunError("run-unknown", f"no such runs in this project: {', '.join(unknown)}", path=index.url)
        with _all_or_nothing(index):
            index.set_splits(mapping or {}, clear_existing=clear_existing)
            index.clear_splits(gone)
    return index.url
