"""Hostile input: the bytes of metadata.json and the CSVs of a real project, damaged in every way we could think of.

    python -m tests.hostile --seconds 600 --seed 1     how many inputs, what became of them, and what got through
    python -m tests.hostile --seed 1 --only 4711       one input again: its damage, its bytes, its traceback

The promise: whatever these bytes are, the project opens and can be walked, or a CroissantError says why not; nothing
changes through reading; a write works and is read again, or raises a CroissantError and changes nothing. Every input
has a number, and comes from it and the seed alone.
"""

from __future__ import annotations

import argparse
import csv
import faulthandler
import hashlib
import io
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest.mock import patch

import copick
import fsspec
import numpy as np
from copick.ops.croissant import export_croissant as copick_export
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from copick_mlc import CopickRootMLC, CroissantError, CroissantIndex, _report, demo, from_croissant
from copick_mlc._tables import TABLES
from copick_mlc.errors import CroissantWarning
from copick_mlc.index import (
    ObjectRow,
    PicksRow,
    Row,
    RunRow,
    SegmentationRow,
    TomogramRow,
    VoxelSpacingRow,
)
from copick_mlc.run import CopickRunMLC
from tests.projects import make_full_project

MANIFEST = "metadata.json"
LONG = 200_000  # beyond what Python's csv reads as one cell

#: Text that a cell should never hold; a surrogate makes the file no UTF-8.
CELLS = (
    "",
    "\0",
    '"',
    '""',
    'a"b',
    "\r",
    "\n",
    "\r\n",
    ",",
    "1e999",
    "-1e999",
    "nan",
    "inf",
    "-0",
    "0",
    "-1",
    "1e308",
    "1e-320",
    "1_0",
    " 1",
    "٣",
    "9" * 5000,
    "true",
    "True",
    ".",
    "..",
    "./",
    "a/../../x",
    "../../x",
    "/",
    "//",
    "/etc/passwd",
    "~",
    "~nobody/x",
    "file://",
    "file:///x",
    "local:///x",
    "http://",
    "http://[",
    "http://127.0.0.1:9/x",
    "memory://",
    "memory://elsewhere/x",
    "::",
    "a::b",
    "zip://",
    "zip://a::memory://b.zip",
    "simplecache::memory://b",
    "nosuch://x",
    "://",
    "[",
    "*",
    "{row}",
    "%s%n",
    "\x1b[2J",
    "\x85",
    "\u2028",
    "\u202etxet",
    "\ufeff",
    "\ud800",
    "\U0010ffff",
    "TS_001",
    "TS_002",
    "ribosome",
    "Croissant",
    "Croissant/metadata.json",
    "ExperimentRuns",
    "x" * 300,
    "x" * LONG,
    "x," * 1000,
)


def _nested(depth: int) -> Iterator[str]:
    yield "[" * depth + "]" * depth
    yield '{"@value":' * depth + "1" + "}" * depth
    yield '{"name":[' * (depth // 2) + "]}" * (depth // 2)


#: JSON values, as text, that may stand where another is expected.
VALUES = (
    *("null", "true", "false", "0", "-1", "7", "1.5", "1e999", "-1e999", "NaN", "Infinity", "9" * 400, "9" * 5000),
    *('""', '"x"', '"\\ud800"', '"\\u0000"', '"~\\u0000"', '"~\\ud800/x"', '"\\ud800/x"', '"a\\u0000/b"', '"{"'),
    *("[]", "[[]]", "[null]", "[{}]", "{}", '{"@id": "x"}', '{"@value": {}}', '{"@value": "{}"}', '{"@value": []}'),
    *('{"@id": null}', '{"@list": []}', '{"": {}}', '{"name": "x"}', '[{"name": "x"}, {"name": "x"}]'),
    *('[{"name": "ribosome", "label": 1e999, "is_particle": "x"}]', '[{"name": "x", "label": 0, "self": 1}]'),
    *('[{"name": "", "label": 3, "is_particle": true}]', '[{"name": "../x", "label": 3, "is_particle": true}]'),
    *(text for depth in (50, 300, 480, 900, 960, 985, 2000, 100_000) for text in _nested(depth)),
    *(json.dumps(cell) for cell in CELLS),
)

PROPERTIES = ("@context", "copick:baseUrl", "copick:baseUrl", "copick:config", "distribution", "recordSet", "name")
CONFIG = ("pickable_objects", "pickable_objects", "name", "description", "version", "user_id", "session_id", "runs")

Files = dict[str, bytes]  # the files of Croissant/, by name


# --- damage ----------------------------------------------------------------------------------------------


def _span(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + int(rng.paretovariate(0.7)))


def _truncated(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _flipped(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _deleted(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def _inserted(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    piece = rng.choice(
        (rng.randbytes(rng.randrange(1, 9)), b'"', b",", b"\r", b"\n", b"\0", b"\xef\xbb\xbf", b"\\", b"{")
    )
    return data[:at] + piece + data[at:]


def _doubled(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    start, end = _span(data, rng)
    return data[:end] + data[start:]


def _spliced(data: bytes, rng: random.Random, other: bytes) -> bytes:
    start, end = _span(data, rng)
    first, last = _span(other, rng)
    return data[:start] + other[first:last] + data[end:]


def _lines(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    if lines:
        one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
        match rng.randrange(3):
            case 0:
                lines[one], lines[two] = lines[two], lines[one]
            case 1:
                lines.insert(two, lines[one])
            case _:
                del lines[one]
    return b"".join(lines)


def _ends(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\n", rng.choice((b"\n", b"\r", b"\r\n", b"\n\n", b"\n\r")))


def _marked(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    return rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xef\xbb\xbf\xef\xbb\xbf", b"\n", b" ")) + data


Damage = Callable[[bytes, random.Random, bytes], bytes]
BYTES: tuple[Damage, ...] = (
    _truncated,
    _flipped,
    _deleted,
    _inserted,
    _doubled,
    _spliced,
    _lines,
    _ends,
    _marked,
)


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any, int]]:
    """The container, the key or index, and the depth of every value within a JSON value."""
    keys: Iterable[Any] = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key, depth
        yield from _places(value[key], depth + 1)


def _retyped(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    """Another value, or none, in place of one; those near the top are as likely as all the others together."""
    document = json.loads(data)
    places = list(_places(document))
    near = [place for place in places if place[2] < rng.choice((1, 3, 9))]
    container, key, _ = rng.choice(near or places)
    if rng.random() < 0.15:
        del container[key]
        return json.dumps(document).encode()
    value = rng.choice(VALUES)
    # JSON as text, since much of what is meant here no Python value can say
    container[key] = "\ue000"
    return json.dumps(document).replace(json.dumps("\ue000"), value).encode()


def _added(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    """A value that the format knows, where there may be none or another one."""
    document = json.loads(data)
    of = rng.choice((document, document["copick:config"]))
    of[rng.choice(PROPERTIES if of is document else CONFIG)] = "\ue000"
    return json.dumps(document).replace(json.dumps("\ue000"), rng.choice(VALUES)).encode()


def _key_twice(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    text = json.dumps(json.loads(data))
    keys = list(re.finditer(r'("[^"\\]+"): ', text))
    if not keys:
        return data
    found = rng.choice(keys)
    return f"{text[: found.start()]}{found[1]}: {rng.choice(VALUES)}, {text[found.start() :]}".encode()


def _other_id(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    ids = list(re.finditer(rb'"@id": "([^"]*)"', data))
    if not ids:
        return data
    one, two = rng.choice(ids), rng.choice(ids)
    return data[: one.start(1)] + rng.choice((two[1], b"", b"copick/runs", b"runs-csv", b"x")) + data[one.end(1) :]


def _cells(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    """Nasty cells in place of others, or columns that are gone, new or in another order."""
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    match rng.randrange(8):
        case 0:
            order = rng.sample(range(len(rows[0])), len(rows[0]))
            rows = [[row[at] for at in order if at < len(row)] for row in rows]
        case 1:
            at = rng.randrange(len(rows[0]))
            rows = [row[:at] + row[at + 1 :] for row in rows]
        case 2:
            rows = [[*row, rng.choice(CELLS)] for row in rows]
        case _:
            for _ in range(rng.choice((1, 1, 2))):
                row = rng.choice(rows[1:] or rows) if rng.random() < 0.9 else rows[0]
                url = rows[0].index("url") if "url" in rows[0] and rng.random() < 0.3 else len(row)
                if row:
                    row[url if url < len(row) else rng.randrange(len(row))] = rng.choice(CELLS)
    end = rng.choice(("\r\n", "\r\n", "\n", "\r"))
    text = "".join(",".join(map(_quoted, row)) + end for row in rows)
    return text.encode(errors="surrogatepass")


def _quoted(cell: str) -> str:
    """A cell as it is written; the csv module of Python 3.10 cannot write a NUL."""
    return '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in ',"\r\n') else cell


JSON: tuple[Damage, ...] = (_retyped, _retyped, _retyped, _added, _added, _key_twice, _other_id)


def damaged(files: Mapping[str, bytes], rng: random.Random) -> tuple[Files, list[str]]:
    """The files with one to three kinds of damage, and what was done. Mostly, the checksums are made to fit again."""
    result, done = dict(files), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = MANIFEST if rng.random() < 0.4 else rng.choice([n for n in sorted(files) if n != MANIFEST])
        structured = JSON if name == MANIFEST else (_cells,)
        # what is torn already cannot be taken for JSON or CSV
        whole = result[name] == files[name]
        kind = rng.choice(structured if whole and rng.random() < 0.6 else BYTES)
        other = files[rng.choice(sorted(files))]
        changed = kind(result[name], rng, other)
        if name != MANIFEST and rng.random() < 0.95:
            before, after = (hashlib.sha256(data).hexdigest().encode() for data in (result[name], changed))
            result[MANIFEST] = result[MANIFEST].replace(before, after)
        result[name] = changed
        done.append(f"{name} {kind.__name__.strip('_')}")
    return result, done


# --- what is done with it --------------------------------------------------------------------------------


@dataclass
class Codes:
    """The codes of the CroissantErrors that were raised within `attempt`, in order."""

    found: list[str] = field(default_factory=list)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        try:
            yield
        except CroissantError as error:
            _ = str(error), repr(error)
            self.found.append(error.code)

    def listed(self, get: Callable[..., Any], *args: Any) -> list[Any]:
        """What `get` lists; nothing where it raises a CroissantError."""
        with self.attempt():
            return list(get(*args) or [])
        return []

    def touch(self, *gets: Callable[[], Any]) -> None:
        for get in gets:
            with self.attempt():
                get()

    def look(self, thing: Any, *names: str) -> None:
        """Get these attributes."""
        for name in names:
            with self.attempt():
                getattr(thing, name)


def read_index(index: CroissantIndex, codes: Codes) -> None:
    """Touch everything that the index layer gives."""
    _ = index.base_url, index.config, index.document
    for name in TABLES:
        for row in codes.listed(index.rows, name):
            assert index.find(row) == row
            if getattr(row, "url", None):
                with codes.attempt():
                    index.resolve_url(row.url)
        codes.listed(index.groups, name)
        codes.listed(index.columns, name)
    codes.listed(index.splits)
    with codes.attempt():
        _report.render(_report.inspect(index))


def walk(root: CopickRootMLC, codes: Codes, *, data: bool = True) -> None:
    """Touch everything there is in a root; with `data`, also what the rows lead to."""
    _ = root.config.model_dump(), root.mode
    codes.look(root, "splits")
    for item in codes.listed(lambda: root.pickable_objects):
        codes.look(item, "has_density_map")
        walk_volume(item, codes, data=data)
    for run in codes.listed(lambda: root.runs):
        with codes.attempt():
            again: Any = root.get_run(run.name)
            assert again is run
        walk_run(run, codes, data=data)
    for split in codes.listed(root.index.splits):
        codes.listed(root.get_runs_in_split, split)
    with codes.attempt():
        _report.inspect(root.index)


def walk_run(run: CopickRunMLC, codes: Codes, *, data: bool) -> None:
    codes.look(run, "split", "meta", "static_path")
    for spacing in codes.listed(lambda: run.voxel_spacings):
        again: Any = run.get_voxel_spacing(spacing.voxel_size)
        assert again is spacing
        for tomogram in codes.listed(spacing.get_tomograms):
            walk_volume(tomogram, codes, data=data)
            for features in codes.listed(tomogram.query_features):
                walk_volume(features, codes, data=data)
    for picks in codes.listed(lambda: run.picks):
        codes.look(picks, "path", "static_path", "meta")
        if data:
            codes.touch(picks.numpy, picks.scores)
    for mesh in codes.listed(lambda: run.meshes):
        codes.look(mesh, "path", "static_path", "meta", *(["mesh"] if data else []))
    for segmentation in codes.listed(lambda: run.segmentations):
        walk_volume(segmentation, codes, data=data)


def walk_volume(artifact: Any, codes: Codes, *, data: bool) -> None:
    codes.look(artifact, "path", "static_path", "meta")
    if data:
        codes.touch(artifact.zarr, artifact.numpy)


#: What a write to the index puts: rows of several tables, of runs that are there and of others.
ROWS: tuple[Row, ...] = (
    RunRow("new", split="val"),
    RunRow("TS_001", "17"),
    VoxelSpacingRow("TS_001", 13.48),
    TomogramRow("TS_002", 10.0, "wbp", "ExperimentRuns/x.zarr", "t", "1"),
    PicksRow("TS_001", "me", "7", "ribosome", 10.0, "ExperimentRuns/x.json"),
    SegmentationRow("empty", 10.0, "me", "1", "membrane", False),
    ObjectRow("ribosome", "Objects/x.zarr"),
)


def write_index(index: CroissantIndex, rng: random.Random, reopen: Callable[[], CroissantIndex]) -> None:
    """Make one change, and see that somebody else reads it."""
    match rng.randrange(4):
        case 0 | 1:
            row = rng.choice(ROWS)
            index.put(row)
            assert reopen().find(row) == row
        case 2:
            row = next(index.rows(rng.choice(list(TABLES))), RunRow("TS_001"))
            index.remove(row)
            assert reopen().find(row) is None
        case _:
            run = rng.choice(("TS_001", "TS_002"))
            index.set_split(run, "new")
            assert reopen().get_split(run) == "new"


def write_root(root: CopickRootMLC, rng: random.Random, reopen: Callable[[], CopickRootMLC]) -> None:
    """Make one change through the root, and see that somebody else reads it."""
    match rng.randrange(6):
        case 0:
            root.new_run("new")
            assert reopen().get_run("new")
        case 1:
            root.new_object("new", True, 77)
            assert reopen().get_object("new")
        case 2:
            root.delete_run("TS_001")
            assert reopen().get_run("TS_001") is None
        case _:
            run = root.get_run("TS_002")
            if run is None:
                return
            kind = rng.randrange(4)
            if kind == 3:
                made = run.new_segmentation(10.0, "new", "9", is_multilabel=True, user_id="me")
                made.from_numpy(np.ones((2, 2, 2), np.uint8))
                again = reopen().get_run("TS_002")
                assert again is not None
                assert again.get_segmentations(name="new", session_id="9")[0].numpy().sum() == 8
            elif kind == 0:
                run.new_picks("ribosome", "99", "me").from_numpy(np.ones((2, 3)))
                again = reopen().get_run("TS_002")
                assert again is not None
                assert again.get_picks("ribosome", "me", "99")[0].numpy()[0].tolist() == np.ones((2, 3)).tolist()
            elif kind == 1:
                run.new_voxel_spacing(13.48)
                again = reopen().get_run("TS_002")
                assert again is not None
                assert again.get_voxel_spacing(13.48)
            elif run.picks:
                picks = rng.choice(run.picks)
                picks.delete()
                again = reopen().get_run("TS_002")
                assert again is not None
                assert not again.get_picks(picks.pickable_object_name, picks.user_id, picks.session_id)


# --- trials ----------------------------------------------------------------------------------------------


class Memory:
    """A project in memory, as it is put there."""

    where, overlay = "memory://hostile/project", "memory://hostile/overlay"

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._fs: MemoryFileSystem = fsspec.filesystem("memory")
        self._prefix = "/hostile/"
        for name, data in files.items():
            self._put(f"/hostile/project/{name}", data)
        self._whole = self.state()

    def _put(self, path: str, data: bytes) -> None:
        self._fs.store[path] = MemoryFile(self._fs, path, data)

    def state(self) -> dict[str, bytes]:
        return {path: file.getvalue() for path, file in self._fs.store.items() if path.startswith(self._prefix)}

    def put(self, files: Files) -> None:
        """Have these files in Croissant/."""
        for name, data in files.items():
            self._put(f"/hostile/project/Croissant/{name}", data)

    def restore(self) -> None:
        """Have all else as it was at first."""
        now = self.state()
        for path in now.keys() - self._whole.keys():
            del self._fs.store[path]
        for path, data in self._whole.items():
            if now.get(path) != data:
                self._put(path, data)

    def close(self) -> None:
        for path in [path for path in self._fs.store if path.startswith(self._prefix)]:
            del self._fs.store[path]


class Disk:
    """A project on the local disk, as it is put there."""

    def __init__(self, files: Mapping[str, bytes], directory: Path) -> None:
        self._directory = directory
        self.where, self.overlay = str(directory / "project"), str(directory / "overlay")
        self._files = {str(directory / "project" / name): data for name, data in files.items()}
        for path, data in self._files.items():
            self._put(path, data)
        self._whole = self.state()

    def _put(self, path: str, data: bytes) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)

    def state(self) -> dict[str, Any]:
        """By path, the bytes of what is in Croissant/; of all else, what changes when it is written."""
        found: dict[str, Any] = {}
        for directory, _, names in os.walk(self._directory):
            found[directory] = "directory"
            for path in (os.path.join(directory, name) for name in names):
                if os.path.basename(directory) == "Croissant":
                    found[path] = Path(path).read_bytes()
                else:
                    status = os.stat(path)
                    found[path] = status.st_ino, status.st_size, status.st_mtime_ns
        return found

    def put(self, files: Files) -> None:
        """Have these files in Croissant/."""
        for name, data in files.items():
            self._put(f"{self.where}/Croissant/{name}", data)

    def restore(self) -> None:
        """Have all else as it was at first."""
        now = self.state()
        for path in sorted(now.keys() - self._whole.keys(), reverse=True):
            os.rmdir(path) if now[path] == "directory" else os.unlink(path)
        for path, data in self._files.items():
            if now.get(path) != self._whole[path]:
                self._put(path, data)
        for path, what in self._whole.items():
            if what == "directory":
                os.makedirs(path, exist_ok=True)
        self._whole = self.state()

    def close(self) -> None:
        shutil.rmtree(self._directory)


def make_project(directory: Path) -> Path:
    """A project with every kind of artifact, made by copick and exported by copick."""
    config = make_full_project(directory)
    copick_export(copick.from_file(str(config)), str(directory), base_url=f"file://{directory}", splits=demo.SPLITS)
    return directory


def project_files(directory: Path) -> Files:
    """The files of a project by relative path; its manifest says nothing of where it lies."""
    files = {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}
    name = f"Croissant/{MANIFEST}"
    document = json.loads(files[name].replace(str(directory).encode(), b"/p"))
    del document["copick:baseUrl"]
    document.update({key: "2026-01-01" for key in ("datePublished", "dateModified") if key in document})
    files[name] = json.dumps(document, indent=1).encode()
    return files


@dataclass
class Result:
    """What became of one input.

    Attributes:
        number: Its number.
        done: The damage.
        way: How it was opened.
        opened: Whether the manifest was read.
        codes: The codes of the errors, in order.
        uncaught: The traceback of what should not have been raised.
    """

    number: int
    done: list[str]
    way: str
    opened: bool = False
    codes: list[str] = field(default_factory=list)
    uncaught: str = ""

    def __enter__(self) -> Result:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        """Keep what was raised: a CroissantError as it may be, any other exception for the report."""
        if isinstance(error, CroissantError):
            self.codes.append(error.code)
        elif isinstance(error, Exception):
            lines = traceback.format_exception(error)
            self.uncaught = "".join(lines[:2] + lines[-12:])[-6000:]
        return error is None or isinstance(error, Exception)


class Fuzzer:
    """Damages a project and opens what comes of it, one input after the other."""

    def __init__(self, files: Mapping[str, bytes], directory: Path, seed: int) -> None:
        prefix = "Croissant/"
        self.tables = {name.removeprefix(prefix): data for name, data in files.items() if name.startswith(prefix)}
        self._seed = seed
        self._memory = Memory(files)
        self._disk = Disk(files, directory)
        self.disk = directory

    def files(self, number: int) -> tuple[Files, list[str], random.Random]:
        """The damaged files of an input, what was done, and the source of what is chance in the rest of the trial."""
        rng = random.Random(f"{self._seed}/{number}")
        return *damaged(self.tables, rng), rng

    def trial(self, number: int) -> Result:
        """Read an input in one of the ways, or write to it."""
        files, done, rng = self.files(number)
        disk = rng.random() < 0.1
        place: Memory | Disk = self._disk if disk else self._memory
        through_root = rng.random() < 0.2
        write = rng.random() < 0.25
        overlay = place.overlay if through_root and not write and rng.random() < 0.5 else None
        words = ["disk" if disk else "memory", "root" if through_root else "index", "write" if write else "read"]
        place.put(files)
        before = place.state()
        codes = Codes()
        result = Result(number, done, " ".join(words), codes=codes.found)
        url = f"{place.where}/Croissant/{MANIFEST}"
        with quiet(), result:
            if through_root:
                root = from_croissant(url, overlay_root=overlay)
                result.opened = True
                if write:
                    write_root(root, rng, lambda: from_croissant(url))
                else:
                    walk(root, codes, data=rng.random() < 0.1)
            else:
                index = CroissantIndex(url)
                result.opened = True
                if write:
                    write_index(index, rng, lambda: CroissantIndex(url))
                else:
                    read_index(index, codes)
        if (not write or result.codes or not result.opened) and not result.uncaught:
            changed = _difference(before, place.state())
            if changed:
                write = True
                result.uncaught = f"changed although {result.codes or 'it was read only'}: {changed}"
        if write:
            place.restore()
        return result

    def close(self) -> None:
        self._memory.close()
        self._disk.close()


def _difference(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


@contextmanager
def quiet() -> Iterator[None]:
    """Any warning but ours is an error; and nobody waits for another writer, since there is none."""
    with warnings.catch_warnings(), patch("time.sleep"):
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", CroissantWarning)
        warnings.filterwarnings("ignore", "(?s)Input .* contains invalid characters", UserWarning)  # copick's
        yield


# --- the command -----------------------------------------------------------------------------------------


def main() -> int:
    """Fuzz for some time and say what became of the inputs; 1 if an exception got through."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="the number of one input, to be done again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        files = project_files(make_project(Path(directory) / "made"))
        fuzzer = Fuzzer(files, Path(directory) / "disk", options.seed)
        if options.only is not None:
            return show(fuzzer, options.only)
        return report(fuzzer, options.seconds, options.seed)


def show(fuzzer: Fuzzer, number: int) -> int:
    """One input: its damage, what is left of the damaged files, and what became of it."""
    files, done, _ = fuzzer.files(number)
    for name, data in files.items():
        if data != fuzzer.tables[name]:
            print(f"--- {name}\n{data[:2000]!r}")
    result = fuzzer.trial(number)
    print(f"--- {', '.join(done)}; {result.way}: {result.codes or 'no error'}\n{result.uncaught}")
    return bool(result.uncaught)


def report(fuzzer: Fuzzer, seconds: float, seed: int) -> int:
    """Fuzz, and print the figures."""
    counts: Counter[str] = Counter()
    slowest = (0.0, 0)
    number = opened = clean = caught = 0
    end = time.monotonic() + seconds
    while (start := time.monotonic()) < end:
        faulthandler.dump_traceback_later(120, exit=True)  # a hang shows where it hangs
        result = fuzzer.trial(number)
        faulthandler.cancel_dump_traceback_later()
        slowest = max(slowest, (time.monotonic() - start, number))
        opened += result.opened
        clean += result.opened and not result.codes and not result.uncaught
        counts.update(result.codes[:1])
        if result.uncaught:
            caught += 1
            print(f"\n=== --seed {seed} --only {number}: {', '.join(result.done)}; {result.way}\n{result.uncaught}")
        number += 1
    print(f"{number} inputs, {opened} opened, {clean} of them without any error; seed {seed}")
    for code, count in counts.most_common():
        print(f"  {count:8d}  {code}")
    print(f"slowest: {slowest[0]:.2f} s, input {slowest[1]}")
    print(f"{caught} uncaught exceptions or changes by reading")
    return bool(caught)


if __name__ == "__main__":
    sys.exit(main())
