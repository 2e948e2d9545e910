"""The rows of an export: what of a source is selected, under its new names, with URLs and checksums.

The work on a run needs nothing of other runs, so it is handed out in chunks of runs, to the executor where there is
one; what comes back is put together in the same order, so that it makes no difference who did it.
Rules: SPEC.md, Export [EXP].
"""

from __future__ import annotations

import posixpath
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from fsspec import AbstractFileSystem

from copick_mlc import _contents, _credentials, _storage, _urls
from copick_mlc._portal import PortalOptions
from copick_mlc._renames import Renames
from copick_mlc._selection import Selection, as_list
from copick_mlc._source import Item, Place, Source, listed, merged
from copick_mlc._tables import TABLES, Key, Row
from copick_mlc.errors import ExistsError, MissingError, StorageError, UsageError
from copick_mlc.index import MeshRow, PicksRow, TomogramRow, VoxelSpacingRow

# Enough to keep a cluster busy to the end, and few enough that handing them out costs nothing.
_CHUNKS = 256

# Seconds that somebody's storage has to answer, before the export does without.
_PATIENCE = 5.0


# The options that are names or URIs.
_LISTS = (
    *("runs", "tomograms", "features", "picks", "meshes", "segmentations", "objects"),
    *("picks_author", "segmentations_author", "tomograms_author"),
)


@dataclass(frozen=True)
class Choices:
    """What of a source is exported, and as what: the options of `export_croissant` with these names.

    Names and URIs are lists afterwards: an iterator could be looked at but once. A str is a list of one.
    """

    compute_file_sha256: bool = True
    runs: Iterable[str] | None = None
    tomograms: Iterable[str] | None = None
    features: Iterable[str] | None = None
    picks: Iterable[str] | None = None
    meshes: Iterable[str] | None = None
    segmentations: Iterable[str] | None = None
    objects: Iterable[str] | None = None
    tomo_type_map: Mapping[str, str] | None = None
    object_name_map: Mapping[str, str] | None = None
    session_id_template: str | None = None
    picks_portal_meta: Mapping[str, Any] | None = None
    picks_author: Iterable[str] | None = None
    segmentations_portal_meta: Mapping[str, Any] | None = None
    segmentations_author: Iterable[str] | None = None
    tomograms_portal_meta: Mapping[str, Any] | None = None
    tomograms_author: Iterable[str] | None = None

    def __post_init__(self) -> None:
        for name in _LISTS:
            object.__setattr__(self, name, as_list(getattr(self, name)))

    def selection(self) -> Selection:
        """The filters by name and URI.

        Raises:
            UsageError: `option-invalid` [EXP-016].
        """
        uris = {kind: getattr(self, kind) for kind in ("tomograms", "features", "picks", "meshes", "segmentations")}
        return Selection(self.runs, self.objects, uris)

    def renames(self) -> Renames:
        """The new names.

        Raises:
            UsageError: `option-invalid` [EXP-019].
        """
        return Renames(self.tomo_type_map, self.object_name_map)

    def portal(self) -> PortalOptions:
        """The options for portal sources."""
        return PortalOptions(**{name: getattr(self, name) for name in PortalOptions.__dataclass_fields__})


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
        hash_remote: Whether also those that are somebody's.
        without_overlay: Tables that get no row of a place.
        drops_volumes: Whether a voxel spacing needs a volume to be exported.
    """

    places: Sequence[Place]
    selection: Selection
    renames: Renames
    bases: Sequence[str]
    hash_files: bool
    hash_remote: bool
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
        for item in items:
            row = self.renames.apply(item.row)
            if item.renamed:
                row = replace(row, **item.renamed)  # type: ignore[type-var]
            if row is not item.row:
                collected.renamed.append((row.table.name, row.key, item.row.key))
            columns: dict[str, Any] = {}
            url = getattr(row, "url", None)
            if url and item.moves_to:
                url = _urls.join(item.moves_to, row.canonical_url)  # [PUB-002]
            if url:
                columns["url"] = self._url(url, row, collected)
            if item.fs is not None and isinstance(row, (PicksRow, MeshRow)):
                columns |= self._columns_of_file(item, row, collected)
            if columns:
                row = replace(row, **columns)  # type: ignore[type-var]
            collected.rows.append(row)
            if url and item.moves_to and item.fs is not None:
                collected.moves.append(Move(row, item.fs, item.path))

    def _url(self, url: str, row: Row, collected: Collected) -> str:
        if secret := _credentials.found_in(url):  # [EXP-032]
            collected.stripped.append(f"{row.table.name} {'/'.join(map(str, row.key))}: {secret}")
            url = _credentials.stripped(url)
        relative = next((part for part in (_urls.relative(url, base) for base in self.bases) if part), None)
        collected.outside += relative is None
        return relative or url  # [EXP-005]

    def _columns_of_file(self, item: Item, row: PicksRow | MeshRow, collected: Collected) -> dict[str, Any]:
        """What a picks or mesh file says that its row does not; the file is read once at most, and only for that."""
        hashed = self.hash_remote if item.is_remote else self.hash_files
        sized = isinstance(row, PicksRow) and row.voxel_size is None and not item.is_remote
        if not (hashed or sized):
            return {}
        try:
            data = _storage.read(item.fs, item.path, "data-missing", f"the file of {row.key}")
        except (MissingError, StorageError) as error:
            if not item.is_remote:
                raise
            collected.notes.append(f"{row.table.name} {'/'.join(map(str, row.key))} has no sha256: {error}")
            return {}
        columns = _contents.columns_of(row, data, hashed=hashed)
        if isinstance(row, PicksRow) and row.voxel_size is not None:
            columns.pop("voxel_size", None)
        return columns


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
        executor: Who does the work; None for this thread.

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
        choices.compute_file_sha256 and _can_reach(runs, selection.fresh(), notes),
        portal.without_overlay(),
        selection.drops_volumes or portal.filters("tomograms") or portal.filters("segmentations"),
    )
    collected = Collected(notes=notes)
    done = 0
    for count, part in _parts(work, runs, executor):
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


def _parts(
    work: Work, runs: Sequence[tuple[str, list[Item]]], executor: Executor | None
) -> Iterator[tuple[int, Collected]]:
    """The rows of chunks of runs, in order, and the number of runs of each."""
    if executor is None:
        yield from ((1, work([run])) for run in runs)
        return
    size = -(-len(runs) // _CHUNKS) or 1
    chunks = [runs[start : start + size] for start in range(0, len(runs), size)]
    there = tuple(place for place in work.places if place.has_runs())
    export = secrets.token_hex(8)
    futures: list[Future[Collected]] = []
    try:
        for number, chunk in enumerate(chunks):
            handed = _Handed(work, chunk, there, export, number)
            futures.append(executor.submit(handed))  # one by one: where one is refused, others wait already
        for chunk, future in zip(chunks, futures, strict=True):
            yield len(chunk), future.result()
    except BrokenExecutor as error:
        raise StorageError("storage-failed", f"a worker of the executor died: {error}") from error
    finally:
        for future in futures:
            future.cancel()  # where one failed, nobody needs the others


@dataclass(frozen=True)
class _Handed:
    """Work that is handed out, perhaps to another host, and to who may remember an earlier export.

    Attributes:
        work: The work.
        runs: The runs, with what is known of each.
        there: The directories that have runs.
        export: Another one in each export.
        number: Another one in each chunk.
    """

    work: Work
    runs: Sequence[tuple[str, Sequence[Item]]]
    there: tuple[Place, ...]
    export: str
    number: int

    def __call__(self) -> Collected:
        with _arriving:
            _arrive(self.there, self.export)
        return self.work(self.runs)

    def __dask_tokenize__(self) -> tuple[str, int]:
        """What dask knows it by, which for one name gives the result that it has. It would else look at every row."""
        return self.export, self.number


_arriving = threading.Lock()


@lru_cache(maxsize=1)
def _arrive(places: Iterable[Place], _: str) -> None:
    """Begin in this process, once an export: forget what was listed before, and see that the storage is the same.

    A directory that a worker does not find would be exported as empty.
    """
    for place in places:
        place.fs.invalidate_cache()
        if not place.has_runs():
            raise MissingError(
                "data-missing",
                "a worker of the executor finds no ExperimentRuns here; every worker needs the storage of the project",
                path=place.url,
            )


def _can_reach(runs: Iterable[tuple[str, list[Item]]], selection: Selection, notes: list[str]) -> bool:
    """Whether somebody's data can be had, tried with the first file: who cannot should not wait for each [POR-008]."""
    remote = (item for _, items in runs for item in items if item.is_remote)
    first = next((item for item in remote if item.passes and selection.has(item.row)), None)
    if first is None:
        return False
    try:
        _storage.check_reachable(first.fs, first.path, _PATIENCE)
    except StorageError as error:
        notes.append(f"published picks and meshes get no sha256, for their data cannot be reached: {error}")
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
