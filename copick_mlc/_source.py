"""What a copick project to export holds: rows with absolute URLs, and directories that are still to be listed.

Rows that are known (a table's, the portal's) come from the process that has the root; directories can be listed
wherever their file system can be had. Rules: SPEC.md, Export [EXP].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fsspec import AbstractFileSystem

from copick_mlc import _filesystems, _layout, _storage, _urls
from copick_mlc._tables import Key, Row, RunRow, TomogramRow, VoxelSpacingRow


@dataclass(frozen=True, slots=True)
class Item:
    """A row of the source, its URL absolute.

    Attributes:
        row: The row.
        fs: File system of its bytes, where they may say more than the row does; else None.
        path: Their path there.
        is_remote: Whether the bytes are somebody's, and an export does without what it cannot reach of them.
        moves_to: URL of the project below which it gets its canonical path; None where it stays where it is.
        renamed: Columns that the exported row has instead.
        passes: Whether the filters by portal metadata let it pass.
    """

    row: Row
    fs: AbstractFileSystem | None = None
    path: str = ""
    is_remote: bool = False
    moves_to: str | None = None
    renamed: Mapping[str, Any] | None = None
    passes: bool = True


@dataclass(frozen=True)
class Place:
    """A directory in copick's layout.

    Attributes:
        fs: Its file system.
        path: Its path there.
        url: The absolute URL that its rows say.
        moves_to: URL of the project to which its artifacts are copied, which rows then say instead; else None.
    """

    fs: AbstractFileSystem
    path: str
    url: str
    moves_to: str | None = None

    @classmethod
    def at(cls, location: str, options: Mapping[str, Any] | None = None) -> Place:
        """The place of a location, with fsspec options."""
        url = _urls.normalise(location)
        fs, path = _filesystems.open_location(url, options)
        fs.invalidate_cache()  # fsspec keeps file systems, with what they once listed
        return cls(fs, path, _urls.published(url))

    def has_runs(self) -> bool:
        """Whether there is a directory of runs."""
        return _storage.exists(self.fs, f"{self.path}/ExperimentRuns")

    def item(self, row: Row) -> Item:
        """The artifact with the key of `row` that lies here."""
        if not row.table.has_url:
            return Item(row)
        relative = _urls.escaped(row.canonical_url, self.url)
        located: Row = replace(row, url=f"{self.url}/{relative}")  # type: ignore[type-var]
        return Item(located, self.fs, f"{self.path}/{relative}", moves_to=self.moves_to)


def _nothing(_: str) -> Iterable[Item]:
    return ()


@dataclass(frozen=True)
class Source:
    """A project to export.

    Attributes:
        run_names: Names of all runs, sorted.
        particles: Names of the particles that the project defines; only these have density maps.
        known: Gives the rows of one run that are known without listing.
        known_maps: Density maps that are known without listing.
        places: Directories to list. Of two artifacts with one key that of the later place counts, and over a known one.
        document: The JSON-LD document of a Croissant project; else empty.
        manifest_url: Where that lies.
        base_url: The base URL that the project declares its URLs to be relative to; else None.
        is_fixed: Whether an export can have no other base URL.
    """

    run_names: list[str]
    particles: frozenset[str]
    known: Callable[[str], Iterable[Item]] = _nothing
    known_maps: Sequence[Item] = ()
    places: Sequence[Place] = ()
    document: Mapping[str, Any] = field(default_factory=dict)
    manifest_url: str | None = None
    base_url: str | None = None
    is_fixed: bool = False

    def maps(self) -> list[Item]:
        """The density maps of the particles."""
        found = [place.item(row) for place in self.places for row in _layout.objects(place.fs, place.path)]
        return [item for item in merged([*self.known_maps, *found]) if item.row.group in self.particles]


def listed(places: Sequence[Place], run: str, known: Iterable[TomogramRow], notes: list[str]) -> Iterator[Item]:
    """What lies in a run's directories.

    Args:
        places: Where they are.
        run: Name of the run.
        known: Tomograms that are elsewhere and may have feature maps here.
        notes: Gets what a person should know.
    """
    yield Item(RunRow(run))
    listings: list[tuple[Place, VoxelSpacingRow, list[str]]] = []
    for place in places:
        directories = _layout.directories(place.fs, place.path, run)
        spacings = _layout.spacings_in(directories, run)
        rows, stores = _layout.contents(place.fs, place.path, run, directories, spacings)
        yield from map(place.item, rows)
        listings += [(place, *listing) for listing in zip(spacings, stores, strict=True)]
        if "Filaments" in directories and (count := _layout.filaments(place.fs, place.path, run)):
            notes.append(f"run {run}: {count} filament files are not exported; no table of the format lists them")
    yield from (place.item(row) for place, row in _layout.volumes(listings, known))


def merged(items: Iterable[Item]) -> list[Item]:
    """The items, one a key: of two artifacts the later counts, and of two runs or voxel spacings the first."""
    found: dict[tuple[str, Key], Item] = {}
    for item in items:
        name = item.row.table.name, item.row.key
        if name not in found or item.row.table.has_url:
            found[name] = item
    return list(found.values())
