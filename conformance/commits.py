"""Commits as the suite itself reads them from the files: what an unfinished one means, and what finishing it leaves.

Rules: SPEC.md, Commits [COM]. No implementation's word is taken for any of it.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from conformance import documents
from conformance.consistency import Records, read
from conformance.snapshot import Snapshot
from conformance.tables import TABLES

PENDING = ".pending"
_SHA256 = re.compile("[0-9a-f]{64}")
_STAGED = re.compile(rf"(.+\.csv)\.({_SHA256.pattern})\.pending")
_LEFT = re.compile(rf"metadata\.json\.(?:pending|lock)|{_STAGED.pattern}|\..+\.[0-9a-f]{{12}}\.tmp")


# --- what a reader has to find ---------------------------------------------------------------------------


def tables_of(manifest: str) -> dict[str, Records]:
    """The tables of the project of a manifest, by name, as a reader has to find them while nobody writes.

    Raises:
        ValueError: manifest and tables do not make one state.
        OSError: something cannot be read.
    """
    directory = os.path.dirname(manifest)

    def bytes_of(name: str) -> bytes | None:
        path = Path(directory, name)
        return path.read_bytes() if path.is_file() else None

    real = os.path.realpath(manifest)
    pending = Path(f"{real}{PENDING}")
    before = bytes_of(os.path.basename(manifest))
    document = _effective(pending.read_bytes() if pending.is_file() else None, before, bytes_of)
    found = {}
    for name, declared in _declared(document).items():
        data = _table(f"{name}.csv", declared, bytes_of)
        if data is None:
            raise ValueError(f"{name}.csv is not there with the sha256 that the manifest declares")
        found[name] = read(data)
    return found


def _effective(pending: bytes | None, before: bytes | None, bytes_of: Callable[[str], bytes | None]) -> Any:
    """The manifest: the pending one if it is complete [COM-004], else metadata.json."""
    if pending is not None and _is_complete(pending, before, bytes_of):
        return documents.parse(pending)
    if before is None:
        raise ValueError("there is no metadata.json")
    return documents.parse(before)


def _is_complete(pending: bytes, before: bytes | None, bytes_of: Callable[[str], bytes | None]) -> bool:
    try:
        new = _declared(documents.parse(pending))
    except ValueError:
        return False
    try:
        old = _declared(documents.parse(before or b""))
    except ValueError:
        old = {}
    changed = {name: sha256 for name, sha256 in new.items() if sha256 != old.get(name)}
    return "runs" in new and all(_table(f"{n}.csv", sha256, bytes_of) is not None for n, sha256 in changed.items())


def _declared(document: Any) -> dict[str, str | None]:
    """The sha256 of each table that a manifest has a file object of."""
    files = {entry.get("@id"): entry.get("sha256") for entry in documents.objects(document, "distribution")}
    return {table.name: files[table.file_object] for table in TABLES.values() if table.file_object in files}


def _table(name: str, declared: str | None, bytes_of: Callable[[str], bytes | None]) -> bytes | None:
    """The bytes of a table, from its place or staged [COM-005]."""
    for place in (name, f"{name}.{declared}{PENDING}"):
        if place != name and not _SHA256.fullmatch(str(declared)):
            continue  # it would be any path
        data = bytes_of(place)
        if data is not None and declared in (None, hashlib.sha256(data).hexdigest()):
            return data
    return None


# --- a commit --------------------------------------------------------------------------------------------


def make(manifest: str, tables: Mapping[str, bytes], pause: Callable[[], None]) -> None:
    """Replace tables, which the manifest declares, as a writer does who holds the lock; none is a symbolic link.

    Args:
        manifest: Path of metadata.json.
        tables: The new bytes of tables, by name.
        pause: What is done between the steps.
    """
    document = documents.parse(Path(manifest).read_bytes())
    moves = []
    for name, data in tables.items():
        sha256 = hashlib.sha256(data).hexdigest()
        place = os.path.join(os.path.dirname(manifest), TABLES[name].file)
        for entry in documents.objects(document, "distribution"):
            if entry.get("@id") == TABLES[name].file_object:
                entry |= {"sha256": sha256, "contentSize": f"{len(data)} B"}
        _stage(f"{place}.{sha256}{PENDING}", data)
        moves.append((f"{place}.{sha256}{PENDING}", place))
        pause()
    _stage(f"{manifest}{PENDING}", documents.dump(document))
    for source, target in [*moves, (f"{manifest}{PENDING}", manifest)]:
        pause()
        os.replace(source, target)


def _stage(path: str, data: bytes) -> None:
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.0123456789ab.tmp")
    Path(temporary).write_bytes(data)
    os.replace(temporary, path)


def is_staged(name: str) -> bool:
    """Whether a file of this name is a staged table."""
    return bool(_STAGED.fullmatch(name))


# --- what a writer may leave of it -----------------------------------------------------------------------


def finished(before: Snapshot) -> Snapshot:
    """What is there when an unfinished commit was finished, and nothing else was done [COM-006]."""
    after = dict(before)
    for path, entry in before.items():
        match = _STAGED.fullmatch(path)
        if match and entry.content == match.group(2):
            after[match.group(1)] = entry
        elif posixpath.basename(path) == "metadata.json.pending":
            after[path.removesuffix(PENDING)] = entry
    return discarded(after)


def discarded(before: Snapshot) -> Snapshot:
    """What is there when all that killed writers left was removed, and nothing else was done [COM-006] [COM-007]."""
    return {path: entry for path, entry in before.items() if not _LEFT.fullmatch(posixpath.basename(path))}
