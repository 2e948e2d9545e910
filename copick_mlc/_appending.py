"""Appending: the rows that an export of a project would have, added to a manifest that is there.

Rules: SPEC.md, Appending [APP].
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from copick.models import CopickRoot

from copick_mlc import _urls
from copick_mlc._choices import Choices
from copick_mlc._collection import collect, outside_remark
from copick_mlc._exporting import assign_splits, findings_of
from copick_mlc._sources import open_source
from copick_mlc._splits import assignments
from copick_mlc._tables import TABLES, Row, cells_of
from copick_mlc._validation import validate as check_with_mlcroissant
from copick_mlc.errors import CroissantWarning
from copick_mlc.index import CroissantIndex, RunRow
from copick_mlc.root import CopickRootMLC


def append(
    location: str | os.PathLike[str],
    root: CopickRoot,
    choices: Choices,
    *,
    splits: Mapping[str, Iterable[str]],
    validate: bool,
    base_url: str | os.PathLike[str] | None,
    fs_args: Mapping[str, Any] | None,
    progress: Callable[[int, int], None] | None,
    executor: Executor | None,
) -> str:
    """Add the rows of a project to the manifest at `location`; all is as in `append_croissant`.

    Raises:
        CroissantError: as `append_croissant`.
    """
    renames, wanted = choices.renames(), assignments(splits)
    index = writable_index(location, base_url, fs_args)
    for name in TABLES:
        index.count(name)  # reads the table: what is broken is found before there is work, and see below
    source = open_source(root, choices.portal())
    rows, _, notes = collect(source, choices, [], progress, executor)
    assign_splits(rows, wanted, {})
    # A row that was there when all began is not put again: who changes or removes it meanwhile has the last word.
    there = [index]
    if isinstance(root, CopickRootMLC) and source.manifest_url == index.url:
        there.append(root.index)  # which may have been read long ago
    known = {(row.table.name, row.key) for table in rows.values() for row in table if _is_in(there, row)}
    with index.exclusive():  # from here on nobody else changes what is there
        index.reload()
        placed = [_placed(row, index) for table in rows.values() for row in table]
        added = [row for row in placed if (row.table.name, row.key) not in known]
        notes += outside_remark(sum(_is_outside(row) for row in placed), index.base_url)
        if validate:
            index.before_commit(
                lambda document: _warn(findings_of(document, check_with_mlcroissant(document, index.url)))
            )
        definitions = renames.definitions(root.config.pickable_objects)
        new, remarks = _new_objects(index.config.get("pickable_objects") or [], definitions)
        merged = [_kept(index.find(row), row) for row in added]
        notes += _changed_splits(index, merged)
        _warn([*notes, *remarks])
        with all_or_nothing(index):
            for definition in new:
                index.put_object(definition)
            for row in merged:
                index.put(row)  # [APP-002]
    return index.url


def _placed(row: Row, index: CroissantIndex) -> Row:
    """A row with its URL as the manifest needs it [APP-004]; raises for what nobody could read."""
    if url := getattr(row, "url", None):
        row = replace(row, url=_urls.cell(url, _urls.published(index.base_url)) or url)  # type: ignore[type-var]
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


def writable_index(
    location: str | os.PathLike[str],
    base_url: str | os.PathLike[str] | None = None,
    fs_args: Mapping[str, Any] | None = None,
) -> CroissantIndex:
    """The manifest at a location, if it can be written; options are as in `append_croissant`.

    Raises:
        ReadOnlyError: `read-only` [APP-009].
    """
    override = None if base_url is None else os.fspath(base_url)
    index = CroissantIndex.from_url(os.fspath(location), base_url_override=override, fs_args=dict(fs_args or {}))
    index.check_writable()
    return index


@contextmanager
def all_or_nothing(index: CroissantIndex) -> Iterator[None]:
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
