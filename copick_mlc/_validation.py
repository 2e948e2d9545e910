"""What mlcroissant says of a manifest, and what hosts of datasets will miss in it. The one place that imports it."""

from __future__ import annotations

import copy
import io
import logging
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any

from copick_mlc import _filesystems, _hosts, _manifest, _storage, _urls
from copick_mlc._findings import Finding
from copick_mlc._project import Project
from copick_mlc._tables import TABLES
from copick_mlc._verify import Report, examine, tables_report
from copick_mlc.errors import CroissantError, DataError, UsageError

# What mlcroissant raises, besides a ValidationError, of manifests that it did not expect, each seen of a real one:
# AssertionError (there is no dataset in it), AttributeError (a source that is only an `@id`), KeyError (a reference in
# a circle), RecursionError (an empty object), TypeError (an `@id` that is no string), ValueError (a context that is no
# object; errors of JSON and UTF-8 are such), OSError (all errors of requests are such).
_FAILURES = (AssertionError, AttributeError, KeyError, RecursionError, TypeError, ValueError, OSError)

_REJECTS = "mlcroissant rejects the manifest"

# What to do about the reasons that mlcroissant gives, by a part of each.
_ADVICE = {
    "Could not find node folder": (
        "it takes a relative contentUrl only of a manifest on the disk; export with an http(s) --base-url for "
        "absolute ones"
    ),
    "is not identical with the": (
        "if the file is as it should be, repair declares its sha256; what mlcroissant downloaded once it takes from "
        "its cache (CROISSANT_CACHE, ~/.cache/croissant), so remove an old copy there"
    ),
    "is either an invalid URL or an invalid path": (
        "bring the file back; mlcroissant takes a path relative to the manifest, or an http(s) URL, and no other"
    ),
    "Graph contains a cycle": "a field refers to itself, perhaps by way of others; remove the reference",
    "Found no node in graph": "no sc:Dataset is in it, or its @id has a character that is in no URL",
    "Unexpected UTF-8 BOM": "write the manifest without a byte order mark",
}

# Parts of a manifest that are JSON and no JSON-LD; mlcroissant looks at every `@id` in them all the same.
_PLAIN_JSON = frozenset({"@context", "copick:config", "data", "examples"})


def validate(document: Mapping[str, Any], path: str) -> list[str]:
    """Check a JSON-LD document with mlcroissant, and give its warnings.

    Args:
        document: The document.
        path: Where it lies, or will, for messages.

    Raises:
        DataError: `manifest-rejected` [EXP-023].
        UsageError: `option-invalid`, where mlcroissant is not installed.
    """
    opened = _open(document)
    if opened.errors:
        raise DataError("manifest-rejected", f"{_REJECTS}: {'; '.join(opened.errors)}", path=path) from opened.cause
    return opened.warnings


def check(url: str, *, records: bool = False, hosts: Collection[str] = (), **options: Any) -> Report:
    """Look at the manifest and the tables of a project, and have mlcroissant do so; no data is looked at.

    Args:
        url: Location of a metadata.json.
        records: Whether mlcroissant reads the records of every record set.
        hosts: The hosts, of `_hosts.HOSTS`, whose wishes are looked at.
        **options: As `Project`.

    Raises:
        UsageError: `option-invalid`, where mlcroissant is not installed.
    """
    _mlcroissant()
    project, report = examine(url, tables_report, **options)
    report.with_data = False
    document = project.manifest.document if project is not None else _document(url, options.get("fs_args"))
    if document is None:
        return report
    if project is None:
        report.not_checked = ["the tables, which a manifest that is none of a copick project does not name"]
    source = _source(url)
    opened = _open(document, source)
    report.findings += [Finding("manifest-rejected", f"{_REJECTS}: {text}") for text in opened.errors]
    report.findings += [Finding("mlcroissant-warning", f"mlcroissant warns: {text}") for text in opened.warnings]
    counts = _counts(document, project)
    if not records:
        for host in (_hosts.HOSTS[name] for name in hosts):
            if host.reads_records:
                report.not_checked.append(f"whether mlcroissant reads records, as {host.title} does; use --records")
    elif opened.errors:
        report.not_checked.append("the records: mlcroissant rejects the manifest")
    elif source is None:
        report.not_checked.append("the records: mlcroissant reads local files and http(s) URLs, and no other")
    else:
        for record_set in opened.dataset.metadata.record_sets:
            report.findings += _of_records(source, str(record_set.uuid), counts)
    empty = [identifier for identifier, number in counts.items() if number == 0]
    for name in hosts:
        report.findings += _hosts.missing(name, document, empty)
    return report


# --- mlcroissant -----------------------------------------------------------------------------------------


def _mlcroissant() -> Any:
    """The package.

    Raises:
        UsageError: `option-invalid`, where it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the packages it uses
            import mlcroissant
    except ImportError as error:
        raise UsageError(
            "option-invalid",
            f"validation needs mlcroissant, which cannot be imported ({error}); install it, or do without validation: "
            "validate=False (--no-validate)",
        ) from error
    return mlcroissant


@dataclass(frozen=True)
class _Opened:
    """What mlcroissant made of a manifest.

    Attributes:
        dataset: Its Dataset; None where it rejects the manifest.
        errors: What it rejects it for, each one line.
        warnings: What it warns of, each one line.
        cause: What it raised.
    """

    dataset: Any
    errors: list[str]
    warnings: list[str]
    cause: BaseException | None


def _open(document: Mapping[str, Any], source: str | None = None) -> _Opened:
    """Have mlcroissant open a manifest: from its path or URL, which `source` is, or else the document alone."""
    package = _mlcroissant()
    context = package.Context()
    dataset, errors, cause = None, [], None
    with _quiet():
        try:
            if source is not None:
                metadata = package.Metadata.from_file(ctx=context, file=source)
            else:
                metadata = package.Metadata.from_json(ctx=context, json_=copy.deepcopy(dict(document)))
            dataset = package.Dataset.from_metadata(metadata)
        except package.ValidationError as error:
            errors, cause = sorted(context.issues.errors) or [str(error)], error
        except _FAILURES as error:
            errors, cause = [*_oddities(document)] or [f"it fails with {_reason(error)}"], error
    return _Opened(dataset, _lines(errors), _lines(sorted(context.issues.warnings)), cause)


def _of_records(source: str, identifier: str, counts: Mapping[str, int]) -> Iterator[Finding]:
    """What is wrong with the records of a record set, which are all read."""
    package = _mlcroissant()
    table = next((table.name for table in TABLES.values() if table.record_set_id == identifier), None)
    # Errors while it reads are in a GenerationError, but for those of finding out what to read: references in a circle
    # are networkx's error, and what is to be read is not found with a StopIteration, which a generator makes this of.
    unforeseen = (RuntimeError, sys.modules["networkx"].NetworkXException, *_FAILURES)
    failures = (package.GenerationError, package.ValidationError, *unforeseen)
    try:
        with _quiet():
            # Opened anew for each: one that was read from yields no rows where record sets refer to one another.
            number = sum(1 for _ in package.Dataset(jsonld=source).records(identifier))
    except failures as error:
        cause: BaseException = error
        while isinstance(cause, package.GenerationError) and cause.__cause__ is not None:
            cause = cause.__cause__
        message = f"mlcroissant cannot read the records: {_reason(cause)}"
        yield Finding("records-unreadable", message, table, record_set=identifier)
        return
    if counts.get(identifier, number) != number:
        message = (
            f"mlcroissant reads {number} records, and there are {counts[identifier]}; what the record set refers to "
            "(copick/splits, which repair rewrites) may multiply or drop some"
        )
        yield Finding("records-count", message, table, record_set=identifier)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what mlcroissant logs, though it also raises or returns it, and its bars of progress."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    # absl sets up the root logger where it has no handlers, and for good.
    placeholder = logging.NullHandler()
    logging.root.addHandler(placeholder)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")  # of the packages it uses
            yield
    finally:
        logging.root.removeHandler(placeholder)
        logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """An error in one line that is not too long, with its type, for many texts need it, and what to do, if known."""
    text = " ".join(str(error).split())
    advice = next((f"; {advice}" for part, advice in _ADVICE.items() if part in text), "")
    text = f"{text[:300]} …" if len(text) > 300 else text
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__) + advice


def _lines(texts: list[str]) -> list[str]:
    return [" ".join(text.split()) for text in texts]


# --- the manifest ----------------------------------------------------------------------------------------


def _document(url: str, fs_args: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The document of a manifest that is none of a copick project; None where there is no JSON object."""
    try:
        fs, path = _filesystems.open_location(_urls.normalise(url), fs_args)
        value = _manifest.parse((_storage.read_if_there(fs, path) or b"").decode("utf-8-sig"))
    except (CroissantError, ValueError, RecursionError):  # told already
        return None
    return value if isinstance(value, dict) else None


def _source(url: str) -> str | None:
    """What mlcroissant takes for a location: a local path or an http(s) URL; None for others."""
    url = _urls.normalise(url)
    fs, path = _filesystems.open_location(url)
    if _filesystems.is_local(fs):
        return str(path)
    return url if url.startswith(("http://", "https://")) and "::" not in url else None


def _oddities(document: Mapping[str, Any]) -> Iterator[str]:
    """What mlcroissant fails of without saying where: an `@id` that is no string, and an object with nothing in it."""
    places: list[tuple[str, Any, bool]] = [("", document, False)]  # each a place, what is there, whether JSON-LD is not
    while places:
        place, value, is_plain = places.pop(0)
        if isinstance(value, list):
            places += [(f"{place}[{number}]", item, is_plain) for number, item in enumerate(value)]
        elif isinstance(value, dict):
            if not value and not is_plain:
                yield f"{place or 'the manifest'} is an empty object; fill it, or remove it"
            for key, item in value.items():
                where = f"{place}.{key}" if place else key
                places.append((where, item, is_plain or key in _PLAIN_JSON))
                if key == "@id" and not isinstance(item, str):
                    yield f"{where} is {_json_type(item)}; expected a string, the name of something in the manifest"


def _json_type(value: object) -> str:
    words = {dict: "an object", list: "a list", bool: "a boolean", type(None): "null"}
    return words.get(type(value), f"the number {value}")


def _record_sets(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The record sets, by `@id`."""
    entries = document.get("recordSet")
    found = [entry for entry in (entries if isinstance(entries, list) else [entries]) if isinstance(entry, dict)]
    return {entry["@id"]: entry for entry in found if isinstance(entry.get("@id"), str)}


def _counts(document: Mapping[str, Any], project: Project | None) -> dict[str, int]:
    """How many records there are, by `@id`, in record sets of tables that can be read, or with data of their own."""
    found = _record_sets(document)
    counts = {identifier: len(entry["data"]) for identifier, entry in found.items() if _has_data(entry)}
    if project is not None:
        tables = [table for table in TABLES.values() if table.record_set_id in found and project.is_whole(table.name)]
        counts |= {table.record_set_id: len(project.rows[table.name]) for table in tables}
    return counts


def _has_data(record_set: Mapping[str, Any]) -> bool:
    return isinstance(record_set.get("data"), list)
