"""The edits of a case: what happens to the files of a project without the implementation's doing.

Each function is one edit; its keyword arguments are those of the edit, and case.schema.json says the same.
Paths are relative to the workspace.
"""

from __future__ import annotations

import base64 as base64_
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from conformance import documents
from conformance.tables import TABLES
from conformance.workspace import MANIFEST, Workspace

_REMOVE = object()

#: When a file was last changed, in seconds, that an edit has aged.
LONG_AGO = 978307200.0


class EditError(Exception):
    """An edit does not find what it is about, so what comes after it proves nothing."""


def write(
    workspace: Workspace, *, path: str, text: str | None = None, json: Any = _REMOVE, base64: str | None = None
) -> None:
    if text is not None:
        data = text.encode()
    elif base64 is not None:
        data = base64_.b64decode(base64, validate=True)
    else:
        data = documents.dump(json)
    _put(workspace.path(path), data)


def replace(workspace: Workspace, *, path: str, old: str, new: str) -> None:
    place = workspace.path(path)
    data = _get(place)
    if old.encode() not in data:
        raise ValueError(f"{old!r} is not in {path}")
    _put(place, data.replace(old.encode(), new.encode()))


def set_(workspace: Workspace, *, path: str, pointer: str, value: Any = _REMOVE) -> None:
    place = workspace.path(path)
    document = documents.parse(_get(place))
    if value is _REMOVE:
        documents.remove(document, pointer)
    else:
        document = documents.put(document, pointer, value)
    _put(place, documents.dump(document))


def remove(workspace: Workspace, *, path: str) -> None:
    place = workspace.path(path)
    if os.path.isdir(place) and not os.path.islink(place):
        shutil.rmtree(place)
    else:
        os.remove(place)


def mkdir(workspace: Workspace, *, path: str) -> None:
    os.makedirs(workspace.path(path))


def move(workspace: Workspace, *, path: str, to: str) -> None:
    target = workspace.path(to)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.replace(workspace.path(path), target)


def link(workspace: Workspace, *, path: str, to: str) -> None:
    place = workspace.path(path)
    target = workspace.path(to)
    os.symlink(os.path.relpath(target, os.path.dirname(place)), place, target_is_directory=os.path.isdir(target))


def mode(workspace: Workspace, *, path: str, mode: str) -> None:
    os.chmod(workspace.path(path), int(mode, 8))


def age(workspace: Workspace, *, path: str) -> None:
    place = workspace.path(path)
    for file in [place, *(os.path.join(parent, name) for parent, _, names in os.walk(place) for name in names)]:
        os.utime(file, (LONG_AGO, LONG_AGO))


def checksums(workspace: Workspace, *, path: str = MANIFEST) -> None:
    place = workspace.path(path)
    document = documents.parse(_get(place))
    files = {table.file_object: os.path.join(os.path.dirname(place), table.file) for table in TABLES.values()}
    for entry in documents.objects(document, "distribution"):
        file = files.get(entry.get("@id", ""))
        if file and os.path.isfile(file):
            data = _get(file)
            entry["sha256"] = hashlib.sha256(data).hexdigest()
            if "contentSize" in entry:
                entry["contentSize"] = f"{len(data)} B"
            if "md5" in entry:
                entry["md5"] = hashlib.md5(data, usedforsecurity=False).hexdigest()
    _put(place, documents.dump(document))


def lock(workspace: Workspace, *, path: str = MANIFEST) -> None:
    workspace.lock(workspace.path(path))


def unlock(workspace: Workspace, *, path: str = MANIFEST) -> None:
    workspace.unlock(workspace.path(path))


#: Every edit by its name.
EDITS: Mapping[str, Callable[..., None]] = {
    function.__name__.rstrip("_"): function
    for function in (write, replace, set_, remove, mkdir, move, link, mode, age, checksums, lock, unlock)
}


def edit(workspace: Workspace, name: str, arguments: Mapping[str, Any]) -> None:
    """Do one edit.

    Raises:
        EditError: it cannot be done.
    """
    before = workspace.take()
    try:
        EDITS[name](workspace, **workspace.fill(arguments))
    except (OSError, ValueError, LookupError) as error:
        raise EditError(f"the edit cannot be made: {error}") from error
    if name != "unlock":  # whoever waited for the lock may be at work already, and that is no edit
        workspace.edited(before)


def _get(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _put(path: str, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
