"""The rows of an export: what of a source is selected, under its new names, with URLs and checksums.

The work on a run needs nothing of other runs, so others can do it too. Rules: SPEC.md, Export [EXP].
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from fsspec import AbstractFileSystem

from copick_mlc import _contents, _credentials, _storage, _urls, _waiting
from copick_mlc._choices import Choices
from copick_mlc._executing import worked
from copick_mlc._renames import Renames
from copick_mlc._selection import Selection
from copick_mlc._source import Item, Place, Source, listed, merged
from copick_mlc._tables import TABLES, Key, Row
from copick_mlc.errors import ExistsError, MissingError, StorageError, UsageError
from copick_mlc.index import MeshRow, PicksRow, TomogramRow, VoxelSpacingRow

# Seconds that somebody's storage has to answer, before the export does without: enough for a busy machine, which should
# not export less.
_PATIENCE = 30.0


@dataclass(frozen=True)
class Move:
    """An artifact that is to be copied to where its row says that it is.

    Attributes:
        row: The row that is exported.
        fs: File system of its bytes.
        path: Their path there.
    """

    row: Row
    fs: AbstractFileSystem
    path: str


@dataclass
class Collected:
    """The rows of a project, or of some runs of it.

    Attributes:
        rows: The rows that are exported.
        renamed: Of those with a new name: the table, the key, and the key in the source.
        matched: What the filters matched.
        notes: What a person should know.
        outside: The number of rows that have absolute URLs.
        stripped: What was taken out of URLs.
        moves: The artifacts that are to be copied.
    """

    rows: list[Row] = field(default_factory=list)
    renamed: list[tuple[str, Key, Key]] = field(default_factory=list)
    matched: set[tuple[str, str]] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    outside: int = 0
    stripped: list[str] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)

    def add(self, other: Collected) -> None:
        self.rows += other.rows
        self.renamed += other.renamed
        self.matched |= other.matched
        self.notes += other.notes
        self.outside += other.outside
        self.stripped += other.stripped
        self.moves += other.moves


@dataclass(frozen=True)
class Work:
    """What is done with runs. It goes to other processes.

    Attributes:
        places: Directories to list.
        selection: The filters by name and URI.
        renames: The new names.
        bases: The URLs below which the URLs of rows are relative.
        hash_files: Whether picks and meshes get their sha256.
        reads_remote: Whether what is somebody's can be read.
        without_overlay: Tables that get no row of a place.
        drops_volumes: Whether a voxel spacing needs a volume to be exported.
    """

    places: Sequence[Place]
    selection: Selection
    renames: Renames
    bases: Sequence[str]
    hash_files: bool
    reads_remote: bool
    without_overlay: frozenset[str]
    drops_volumes: bool

    def __call__(self, runs: Sequence[tuple[str, Sequence[Item]]]) -> Collected:
        """The rows of runs, given what is known of each [EXP-002]."""
        collected = Collected()
        selection = self.selection.fresh()
        for name, known in runs:
            items = [*known, *self._listed(name, known, collected)]
            found = [item for item in merged(items) if item.passes and selection.has(item.row)]
            if self.drops_volumes:  # [EXP-031]
                used = {item.row.key[:2] for item in found if _is_volume(item.row)}
                found = [i for i in found if not isinstance(i.row, VoxelSpacingRow) or i.row.key in used]
            self.finish(found, collected)
        collected.matched = selection.matched
        return collected

    def _listed(self, run: str, known: Sequence[Item], collected: Collected) -> Iterator[Item]:
        if not self.places:
            return
        tomograms = [item.row for item in known if isinstance(item.row, TomogramRow)]
        items = listed(self.places, run, tomograms, collected.notes)
        yield from (item for item in items if item.row.table.name not in self.without_overlay)

    def finish(self, items: Iterable[Item], collected: Collected) -> None:
        """Add the rows of items: renamed, with URLs relative to a base where they are below one, hashed."""
        named = [(item, self._renamed(item)) for item in items]
        read = self._read(named)
        for number, (item, row) in enumerate(named):
            if row is not item.row:
                collected.renamed.append((row.table.name, row.key, item.row.key))
            columns: dict[str, Any] = {}
            url = getattr(row, "url", None)
            if url and item.moves_to:
                url = _urls.absolute(item.moves_to, row.canonical_url)  # [PUB-002]
            if url:
                columns["url"] = self._url(url, row, collected)
            if number in read:
                said, notes = read[number]
                columns |= said
                collected.notes += notes
            if columns:
                row = replace(row, **columns)  # type: ignore[type-var]
            collected.rows.append(row)
            if url and item.moves_to and item.fs is not None:
                collected.moves.append(Move(row, item.fs, item.path))

    def _renamed(self, item: Item) -> Row:
        row = self.renames.apply(item.row)
        return replace(row, **item.renamed) if item.renamed else row  # type: ignore[type-var]

    def _read(self, named: Sequence[tuple[Item, Row]]) -> dict[int, tuple[dict[str, Any], list[str]]]:
        """What the files of these items say that their rows do not, and what is to be said of it, by number."""
        calls = {
            number: partial(self._columns_of_file, item, row)
            for number, (item, row) in enumerate(named)
            if isinstance(row, (PicksRow, MeshRow)) and self._reads(item)
        }
        found = _waiting.at_once((named[number][0].fs for number in calls), list(calls.values()))
        return dict(zip(calls, found, strict=True))

    def _reads(self, item: Item) -> bool:
        return _is_needed(item, self.hash_files) and (self.reads_remote or not item.is_remote)

    def _url(self, url: str, row: Row, collected: Collected) -> str:
        if secret := _credentials.found_in(url):  # [EXP-032]
            collected.stripped.append(f"{row.table.name} {'/'.join(map(str, row.key))}: {secret}")
            url = _credentials.stripped(url)
        relative = next((part for part in (_urls.cell(url, base) for base in self.bases) if part), None)
        collected.outside += relative is None
        return relative or url  # [EXP-005]

    def _columns_of_file(self, item: Item, row: PicksRow | MeshRow) -> tuple[dict[str, Any], list[str]]:
        """What a picks or mesh file says that its row does not, and what is to be said of it; it is read once."""
        try:
            data = _storage.read(item.fs, item.path, "data-missing", f"the file of {row.key}")
        except (MissingError, StorageError) as error:
            if not item.is_remote:
                raise
            name = f"{row.table.name} {'/'.join(map(str, row.key))}"
            return {}, [f"{name} has not what only its file says, as its sha256: {error}"]
        columns = _contents.columns_of(row, data, hashed=self.hash_files and row.sha256 is None)
        if isinstance(row, PicksRow) and row.voxel_size is not None:
            columns.pop("voxel_size", None)
        return columns, []


def _is_needed(item: Item, hash_files: bool) -> bool:
    """Whether the file of an item has to be read for what its row does not say."""
    row = item.row
    if not isinstance(row, (PicksRow, MeshRow)) or item.fs is None:
        return False
    return (hash_files and row.sha256 is None) or (isinstance(row, PicksRow) and row.voxel_size is None)


def _is_volume(row: Row) -> bool:
    return row.table.has_url and hasattr(row, "voxel_size") and not isinstance(row, PicksRow)


def collect(
    source: Source,
    choices: Choices,
    bases: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
    executor: Executor | None = None,
) -> tuple[dict[str, list[Row]], list[Move], list[str]]:
    """The rows of each table, sorted by key, what is to be copied to where they say, and what a person should know.

    Args:
        source: The project.
        choices: What of it is exported, and as what.
        bases: The URLs below which the URLs of rows are relative; with none, they are absolute.
        progress: Called with the number of runs that are done, and of all.
        executor: Who does the work; None for this thread, or for threads where it waits for storage.

    Raises:
        UsageError: `option-invalid` [EXP-016] [EXP-019].
        ExistsError: `exists`, where what is to be copied would replace the data of something else [PUB-009].
        MissingError, StorageError: where what is exported cannot be read.
    """
    selection, portal = choices.selection(), choices.portal()
    names = [name for name in source.run_names if selection.has_run(name)]  # [EXP-013]
    maps = [item for item in source.maps() if selection.has(item.row)]
    runs = [(name, list(source.known(name))) for name in names]
    notes: list[str] = []
    work = Work(
        source.places,
        selection.of_artifacts(),
        choices.renames(),
        bases,
        choices.compute_file_sha256,
        _can_reach(runs, selection.fresh(), choices.compute_file_sha256, notes),
        portal.without_overlay(),
        selection.drops_volumes or portal.filters("tomograms") or portal.filters("segmentations"),
    )
    collected = Collected(notes=notes)
    done = 0
    storage = (item.fs for _, items in runs for item in items)
    with closing(worked(work, runs, work.places, executor, storage)) as parts:
        for count, part in parts:
            if progress is not None:
                progress(done, len(names))
            collected.add(part)
            done += count
    if progress is not None:
        progress(len(names), len(names))
    work.finish(maps, collected)
    selection.matched |= collected.matched
    unmatched = portal.unmatched(item for _, items in runs for item in items)
    notes = [*collected.notes, *_remarks(collected, bases), *selection.unmatched(), *unmatched]
    return _tables(collected), _apart(collected), notes


def _can_reach(
    runs: Iterable[tuple[str, list[Item]]], selection: Selection, hash_files: bool, notes: list[str]
) -> bool:
    """Whether somebody's data can be had, tried with the first file: who cannot should not wait for each [POR-008]."""
    needed = (item for _, items in runs for item in items if item.is_remote and _is_needed(item, hash_files))
    first = next((item for item in needed if item.passes and selection.has(item.row)), None)
    if first is None:
        return False
    try:
        _storage.check_reachable(first.fs, first.path, _PATIENCE)
    except StorageError as error:
        notes.append(
            "published picks and meshes have not what only their files say, as their sha256, for their data cannot "
            f"be reached: {error}"
        )
        return False
    return True


def _tables(collected: Collected) -> dict[str, list[Row]]:
    rows: dict[str, dict[Key, Row]] = {name: {} for name in TABLES}
    for row in collected.rows:
        name, key = row.table.name, row.key
        if key in rows[name]:  # [EXP-019]
            olds = [old for table, new, old in collected.renamed if (table, new) == (name, key)]
            one, two = [*olds, key][:2]  # one of them may have had this name from the beginning
            raise UsageError(
                "option-invalid",
                f"the name maps or the session_id_template make one row of two in {name}: {one} and {two} both "
                f"become {key}",
            )
        rows[name][key] = row
    return {name: sorted(table.values(), key=_key_values) for name, table in rows.items()}  # [EXP-001]


def _apart(collected: Collected) -> list[Move]:
    """The moves, one a place; that no other artifact's data is at any of these is seen to [PUB-009]."""
    moves: dict[str, Move] = {}
    moved = set()
    for move in collected.moves:
        first = moves.setdefault(_place(move.row), move)  # two feature maps can be one store, if one name is ambiguous
        moved.add((move.row.table.name, move.row.key))
        if first.path != move.path:
            raise _clash(move.row, first.row)
    for row in collected.rows if moves else ():
        place = _place(row)
        if place in moves and (row.table.name, row.key) not in moved:
            raise _clash(moves[place].row, row)
    return list(moves.values())


def _place(row: Row) -> str:
    url = getattr(row, "url", None) or ""
    return url if _urls.is_absolute(url) else posixpath.normpath(url)


def _clash(row: Row, other: Row) -> ExistsError:
    one, two = (f"{found.table.name} {'/'.join(map(str, found.key))}" for found in (row, other))
    return ExistsError(
        "exists", f"{one} would be copied to {row.canonical_url}, where the data of {two} is; give one another name"
    )


def _key_values(row: Row) -> tuple[Any, ...]:
    return tuple(getattr(row, column.name) for column in row.table.columns[: row.table.key_count])


def outside_remark(count: int, base: str) -> list[str]:
    """What is to be said where so many rows have absolute URLs."""
    said = f"{count} artifacts lie outside {base}; their rows have absolute URLs, which others may not reach"
    return [said] if count else []


def _remarks(collected: Collected, bases: Sequence[str]) -> Iterator[str]:
    if bases:
        yield from outside_remark(collected.outside, bases[0])
    if collected.stripped:
        yield (
            f"credentials do not go into a manifest, and were taken out of {len(collected.stripped)} URLs, as "
            f"{collected.stripped[0]}"
        )
