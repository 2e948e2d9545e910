"""The checks of a case: the disk, looked at by the suite itself and never through the implementation.

Each function is one check; its keyword arguments are those of the check, and case.schema.json says the same.
Paths are relative to the workspace.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from conformance import commits, consistency, documents, snapshot
from conformance.edits import LONG_AGO
from conformance.matching import ANY, Difference, difference, show
from conformance.tables import TABLES
from conformance.workspace import MANIFEST, Workspace

_LISTED = 10
# What a writer may make of what a killed one left.
_RECOVERIES = {"finished": commits.finished, "discarded": commits.discarded}


def unchanged(workspace: Workspace, *, except_: Sequence[str] = (), or_: str | None = None) -> Difference | None:
    now = workspace.take()
    changes = snapshot.changes(workspace.last, now)
    if or_ and not snapshot.changes(_RECOVERIES[or_](workspace.last), now):
        return None
    return _nothing(
        f"everything as it was{f', or {or_}' if or_ else ''}",
        [
            f"{path}: {change}"
            for path, change in changes.items()
            if not any(fnmatchcase(path, pattern) for pattern in except_)
        ],
    )


def same(workspace: Workspace, *, path: str, as_: str | None = None) -> Difference | None:
    now = workspace.take()
    wanted = _contents(workspace.given, path) if as_ is None else _contents(now, as_)
    if not wanted:
        return Difference(f"files at {as_ or path} to compare with", "nothing there")
    changes = snapshot.changes(wanted, _contents(now, path))
    found = [f"{path}{name}: {change}" for name, change in changes.items()]
    return _nothing(f"{path} as {as_ or 'the fixture or an edit had it'}", found)


def file(
    workspace: Workspace,
    *,
    path: str,
    text: str | None = None,
    sha256: str | None = None,
    mode: str | None = None,
    link: bool = False,
    aged: bool = False,
) -> Difference | None:
    place = workspace.path(path)
    if not os.path.isfile(place):
        return Difference(f"a file {path}", _what_is_at(place))
    if link and not os.path.islink(place):
        return Difference(f"a symbolic link {path}", "a file of its own")
    found = snapshot.entry(os.path.realpath(place))
    if text is not None and _read(place) != text.encode():
        return Difference(f"the text {text!r}", repr(_read(place).decode(errors="backslashreplace")), path)
    if sha256 is not None and found.content != sha256:
        return Difference(f"the sha256 {sha256}", found.content, path)
    if mode is not None and found.mode != int(mode, 8):
        return Difference(f"the mode {int(mode, 8):o}", f"{found.mode:o}", path)
    if aged and os.stat(place).st_mtime != LONG_AGO:
        return Difference("a file that nobody has written", "one that was written anew", path)
    return None


def absent(workspace: Workspace, *, path: str) -> Difference | None:
    place = workspace.path(path)
    return Difference(f"nothing at {path}", _what_is_at(place)) if os.path.lexists(place) else None


def directory(workspace: Workspace, *, path: str, entries: Sequence[str] | None = None) -> Difference | None:
    place = workspace.path(path)
    if not os.path.isdir(place):
        return Difference(f"a directory {path}", _what_is_at(place))
    return None if entries is None else difference(sorted(entries), sorted(os.listdir(place)), path)


def json(
    workspace: Workspace, *, path: str, pointer: str = "", expect: Any = ANY, absent: bool = False
) -> Difference | None:
    document = _document(workspace, path)
    if isinstance(document, Difference):
        return document
    place = f"{path}#{pointer}"
    try:
        found = documents.find(document, pointer)
    except LookupError:
        return None if absent else Difference(f"a value at {place}", "nothing")
    return Difference(f"nothing at {place}", show(found)) if absent else difference(expect, found, place)


def table(
    workspace: Workspace,
    *,
    table: str,
    expect: Any = ANY,
    columns: Sequence[str] | None = None,
    path: str = MANIFEST,
) -> Difference | None:
    name = TABLES[table].file
    try:
        records = consistency.read(_read(os.path.join(os.path.dirname(workspace.path(path)), name)))
    except (OSError, ValueError) as error:
        return Difference(f"a readable {name}", _reason(error))
    if columns is not None and records.header != list(columns):
        return Difference(f"the columns {', '.join(columns)}", ", ".join(records.header), name)
    return difference(expect, records.rows, name)


def sums(workspace: Workspace, *, table: str, path: str = MANIFEST) -> Difference | None:
    directory = os.path.dirname(workspace.path(path))
    records = consistency.read(_read(os.path.join(directory, TABLES[table].file)))
    found = [
        f"{row['url']} has not the sha256 {row['sha256']}"
        for row in records.rows
        if row.get("sha256") and snapshot.entry(os.path.join(directory, "..", row["url"])).content != row["sha256"]
    ]
    return _nothing(f"checksums of the files that {table}.csv names", found)


def store(
    workspace: Workspace, *, path: str, array: str, shape: Sequence[int] | None = None, dtype: str | None = None
) -> Difference | None:
    place = os.path.join(workspace.path(path), array)
    if not any(os.path.isfile(os.path.join(workspace.path(path), name)) for name in (".zgroup", ".zarray")):
        return Difference(f"a zarr store {path}", _what_is_at(workspace.path(path)))
    metadata = _document(workspace, f"{path}/{array}/.zarray")
    if isinstance(metadata, Difference):
        return metadata
    wanted = {
        "shape": ANY if shape is None else shape,
        "dtype": ANY if dtype is None else dtype,
        "dimension_separator": "/",
    }
    found = {**metadata, "dtype": _type(metadata.get("dtype"))} if isinstance(metadata, dict) else metadata
    flat = sorted(name for name in os.listdir(place) if re.fullmatch(r"\d+(\.\d+)+", name))
    return difference({"@has": wanted}, found, f"{path}/{array}") or _nothing("nested chunks", flat)


def picks(workspace: Workspace, *, path: str, expect: Any = ANY) -> Difference | None:
    document = _document(workspace, path)
    if isinstance(document, Difference):
        return document
    point = {"@has": {"location": {"@has": {"x": ANY, "y": ANY, "z": ANY}}}}
    names = ("pickable_object_name", "user_id", "session_id", "run_name")
    form = {"@has": {"points": {"@contains": []}, **dict.fromkeys(names, ANY)}}
    return (
        difference(form, document, path)
        or next(filter(None, (difference(point, item, f"{path}.points") for item in document["points"])), None)
        or difference(expect, document, path)
    )


def consistent(workspace: Workspace, *, path: str = MANIFEST) -> Difference | None:
    beside = snapshot.below(workspace.given, os.path.dirname(path))
    expected = {name.split("/")[1] for name in beside if name}
    return _nothing("everything in order", consistency.findings(workspace.path(path), expected))


#: Every check by its name.
CHECKS: Mapping[str, Callable[..., Difference | None]] = {
    function.__name__: function
    for function in (unchanged, same, file, absent, directory, json, table, sums, store, picks, consistent)
}


def check(workspace: Workspace, name: str, arguments: Mapping[str, Any]) -> Difference | None:
    """What a check finds wrong, or None."""
    # `except`, `as` and `or` are no names in Python.
    named = {f"{name}_" if name in ("except", "as", "or") else name: value for name, value in arguments.items()}
    try:
        return CHECKS[name](workspace, **workspace.fill(named))
    except OSError as error:
        return Difference("files that can be looked at", str(error))


def _nothing(wanted: str, found: Sequence[str]) -> Difference | None:
    if not found:
        return None
    more = [f"and {len(found) - _LISTED} more"] if len(found) > _LISTED else []
    return Difference(wanted, "; ".join([*found[:_LISTED], *more]))


def _contents(entries: snapshot.Snapshot, path: str) -> snapshot.Snapshot:
    """The files and links at and below a path, without their modes."""
    return {
        name: snapshot.Entry(entry.kind, entry.content, 0)
        for name, entry in snapshot.below(entries, path).items()
        if entry.kind != "directory"
    }


def _what_is_at(place: str) -> str:
    if os.path.isdir(place):
        return f"a directory with {', '.join(sorted(os.listdir(place))) or 'nothing'}"
    if os.path.isfile(place):
        return "a file"
    return "a broken link" if os.path.islink(place) else "nothing there"


def _document(workspace: Workspace, path: str) -> Any:
    """The JSON document at a path, or what is wrong with it."""
    try:
        return documents.parse(_read(workspace.path(path)))
    except (OSError, ValueError) as error:
        return Difference(f"a JSON document {path}", _reason(error))


def _read(place: str) -> bytes:
    with open(place, "rb") as stream:
        return stream.read()


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _type(code: Any) -> Any:
    """numpy's name of an array's type, of the code that zarr has for it."""
    match = re.fullmatch(r"[<>|]([fiuc])(\d+)", str(code))
    if match:
        kinds = {"f": "float", "i": "int", "u": "uint", "c": "complex"}
        return f"{kinds[match.group(1)]}{8 * int(match.group(2))}"
    return "bool" if code == "|b1" else code
