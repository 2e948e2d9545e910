"""What lies below a directory: every file, link and directory, by its path."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One file, link or directory: `content` is the checksum of a file or the target of a link."""

    kind: str
    content: str
    mode: int


Snapshot = Mapping[str, Entry]


def take(directory: str) -> Snapshot:
    """All entries below a directory by their relative paths with slashes, sorted.

    An implementation may be at work meanwhile: what has gone when it is looked at is not there.
    """
    found = {}
    for path in sorted(_walk(directory)):
        with suppress(FileNotFoundError):
            found[os.path.relpath(path, directory).replace(os.sep, "/")] = entry(path)
    return found


def entry(path: str) -> Entry:
    """What lies at a path."""
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return Entry("link", os.readlink(path), 0)
    if stat.S_ISDIR(mode):
        return Entry("directory", "", stat.S_IMODE(mode))
    return Entry("file", _sha256(path), stat.S_IMODE(mode))


def changes(before: Snapshot, after: Snapshot) -> dict[str, str]:
    """What became of each path that is not as it was: `new`, `gone`, `other content` or `other mode`."""
    found = {path: "gone" for path in before if path not in after}
    for path, now in after.items():
        was = before.get(path)
        if was is None:
            found[path] = "new"
        elif (was.kind, was.content) != (now.kind, now.content):
            found[path] = "other content"
        elif was.mode != now.mode:
            found[path] = f"mode {was.mode:o} became {now.mode:o}"
    return dict(sorted(found.items()))


def below(snapshot: Snapshot, path: str) -> Snapshot:
    """The part of a snapshot at and below `path`, by paths relative to it."""
    prefix = f"{path}/"
    inside = {name[len(path) :]: entry for name, entry in snapshot.items() if name.startswith(prefix)}
    return {"": snapshot[path], **inside} if path in snapshot else inside


def _walk(directory: str) -> Iterator[str]:
    try:
        entries = os.scandir(directory)
    except FileNotFoundError:
        return
    with entries:
        for item in entries:
            yield item.path
            if item.is_dir(follow_symlinks=False) and os.access(item.path, os.R_OK | os.X_OK):
                yield from _walk(item.path)


def _sha256(path: str) -> str:
    if not os.access(path, os.R_OK):
        return "unreadable"
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
