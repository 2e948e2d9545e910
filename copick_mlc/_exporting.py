"""An export: the Croissant dataset of a project, made in memory, checked, and then put in place.

One that fails changes nothing. Rules: SPEC.md, Export [EXP].
"""

from __future__ import annotations

import datetime
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from copick.models import CopickConfig, CopickRoot
from fsspec import AbstractFileSystem

from copick_mlc import _commit, _credentials, _filesystems, _manifest, _storage, _urls
from copick_mlc._choices import Choices
from copick_mlc._collection import Move, collect
from copick_mlc._description import describe, license_remark
from copick_mlc._lock import locked
from copick_mlc._pandas import misread_names
from copick_mlc._renames import Renames
from copick_mlc._source import Source
from copick_mlc._sources import open_source
from copick_mlc._splits import assignments
from copick_mlc._tables import TABLES, Row, encode_table
from copick_mlc._validation import validate as check_with_mlcroissant
from copick_mlc.errors import CroissantError, CroissantWarning, DataError, ExistsError, ReadOnlyError, UsageError
from copick_mlc.index import CroissantIndex, RunRow

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
    croissant_fs_args: Mapping[str, Any] | None = None

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
        replaced: The bytes of the manifest that is replaced; None where there is none.
    """

    url: str
    tables: Mapping[str, bytes]
    manifest: bytes
    counts: Mapping[str, int]
    moves: list[Move]
    replaced: bytes | None


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
        self._fs, self._path = _filesystems.open_location(self.url, options.croissant_fs_args)

    def preview(self) -> Dataset:
        """What `write` would put in place; nothing is written.

        Raises:
            CroissantError: as `export_croissant`.
        """
        self._check_target()
        return self._dataset()

    def write(self, before: Callable[[Dataset], None] = lambda _: None) -> str:
        """Put the dataset in place.

        Args:
            before: What is done before, when the dataset is ready.

        Raises:
            CroissantError: as `export_croissant`.
        """
        self._check_target()
        directory = self._path.rpartition("/")[0]
        # From before anything is read, so that no row is lost that somebody else commits meanwhile.
        with _storage.made_directory(self._fs, directory), locked(self._fs, self._path):
            _commit.recover(self._fs, self._path)
            dataset = self._dataset()
            before(dataset)
            tables = {f"{directory}/{TABLES[name].file_name}": data for name, data in dataset.tables.items()}
            _commit.publish(self._fs, self._path, tables, dataset.manifest, dataset.replaced)
        return self.url

    def _check_target(self) -> None:
        """Raise where nothing can be written [EXP-047]; local directories may be made yet."""
        if not _filesystems.is_local(self._fs) and (reason := _filesystems.write_reason(self._fs, self._path)):
            raise ReadOnlyError(
                "read-only", f"nothing can be exported there: {reason}; choose another directory", path=self.url
            )

    def _dataset(self) -> Dataset:
        options = self._options
        replaced = _existing(self._fs, self._path, self.url, options.force)
        existing = _document(replaced, self.url) if replaced is not None else {}
        source = self._edit(open_source(self._root, options.portal()), existing)
        base, bases, prefix = self._bases(source)
        rows, moves, notes = collect(source, options, bases, self._progress, self._executor)
        assign_splits(rows, self._splits, self._old_splits() if existing else {})
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
        notes += misread_remarks(rows)
        notes += findings_of(document, check_with_mlcroissant(document, self.url) if options.validate else [])
        for note in notes:
            warnings.warn(note, CroissantWarning, stacklevel=4)
        _refuse_local_data(self.url, rows)
        counts = {name: len(found) for name, found in rows.items()}
        return Dataset(self.url, files, _manifest.dump(document), counts, moves, replaced)

    def _old_splits(self) -> dict[str, str]:
        try:
            index = CroissantIndex.from_url(self.url, fs_args=dict(self._options.croissant_fs_args or {}))
            return assignments(index.splits())
        except CroissantError as error:
            warnings.warn(f"splits of the manifest that is replaced are lost: {error}", CroissantWarning, stacklevel=5)
            return {}

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


def findings_of(document: Mapping[str, Any], findings: list[str]) -> list[str]:
    """What mlcroissant finds, and in one line what is merely absent."""
    absent = [name for name in _RECOMMENDED if not document.get(name)]
    lines = [finding for finding in findings if "is recommended, but does not exist" not in finding]
    terms = document.get("license")
    if isinstance(terms, str) and (remark := license_remark(terms)):
        lines.append(remark)
    return lines + ([f"dataset hosts will miss: {', '.join(absent)}"] if absent else [])


def misread_remarks(rows: Mapping[str, Collection[Row]]) -> list[str]:
    """What is to be said of names that readers with pandas misread."""
    return [f"{TABLES[name].file_name}, column {column}: {text}" for name, column, text in misread_names(rows)]


def _existing(fs: AbstractFileSystem, path: str, url: str, force: bool) -> bytes | None:
    """The manifest that is there already, which `force` lets us replace; None where there is none."""
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
    return _commit.read_manifest(fs, path) if name in there else None


def _document(manifest: bytes, url: str) -> dict[str, Any]:
    """The document of the manifest that is replaced."""
    try:
        document = _manifest.parse(manifest.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError("manifest-invalid", f"the manifest to replace is not JSON: {error}", path=url) from error
    if not isinstance(document, dict):
        raise DataError("manifest-invalid", "the manifest to replace is not a JSON object", path=url)
    return document


def assign_splits(rows: dict[str, list[Row]], wanted: Mapping[str, str], old: Mapping[str, str]) -> None:
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
