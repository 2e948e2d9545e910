"""Publish a project: copy what lies in its overlay to a directory, and export it there.

What is published elsewhere stays where it is, and rows say so. Data comes first and the manifest last, so that no row
names what does not exist; whoever is killed publishes again, and what is there already is not copied again. Rules:
SPEC.md, Publishing [PUB].
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from copick.models import CopickRoot

from copick_mlc import _credentials, _filesystems, _layout, _urls
from copick_mlc._copying import Copy, copy_all, sizes
from copick_mlc._exporting import Dataset, Export, ExportOptions
from copick_mlc._source import Place, Source
from copick_mlc.errors import CroissantWarning, ReadOnlyError, UsageError


def publish(
    root: CopickRoot,
    project_root: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], None] | None = None,
    executor: Executor | None = None,
    **options: Any,
) -> str:
    """Copy the artifacts in the overlay of `root` to `project_root`, and export the project there.

    Artifacts get their canonical paths, and rows say these, relative [PUB-001] [PUB-002]; what is published elsewhere
    stays there. A project can be published to where it is published already: with `force` the manifest there is
    replaced, and what the overlay has takes the place of what has the same name. What is there with the same content
    is left alone, so a publication that was broken off goes on where it was [PUB-006].

    Args:
        root: A copick project: as `export_croissant`.
        project_root: Path or fsspec URL of the directory that gets the data, and `Croissant/`.
        progress: Called with the number of artifacts that are copied, and of all.
        executor: As `export_croissant`; it also copies.
        **options: As `export_croissant`. Without `base_url` the base URL is that of the manifest that is replaced, and
            without one the manifest names none [PUB-004]; `force` also replaces data with other content [PUB-008].

    Returns:
        Path or URL of the metadata.json that was written.

    Raises:
        ExistsError: `exists`, where there is a manifest or a table already, or other data where an artifact is to be
            copied, without `force`; and, `force` or not, where an artifact would replace another's data [PUB-009].
        ReadOnlyError: `read-only`, where `project_root` cannot be written [PUB-011].
        UsageError, DataError, LockedError: as `export_croissant`; before anything is copied [PUB-010].
        MissingError: `data-missing`.
        StorageError: `storage-failed`, also where a copy is not like its source [PUB-005].
    """
    return Publication(root, project_root, ExportOptions(**options), progress, executor).write()


@dataclass(frozen=True)
class Preview:
    """What a publication would do.

    Attributes:
        dataset: The dataset that it would put in place.
        artifacts: The number of artifacts that it would have there, copied now or before.
        files: The number of their files.
        size: The number of bytes in these.
    """

    dataset: Dataset
    artifacts: int
    files: int
    size: int


class Publication:
    """A publication that can be looked at before it is made.

    Args:
        root: The project.
        project_root: Path or fsspec URL of the directory that gets the data, and `Croissant/`.
        options: As `publish`.
        progress: As `publish`.
        executor: As `publish`.
    """

    def __init__(
        self,
        root: CopickRoot,
        project_root: str | os.PathLike[str],
        options: ExportOptions,
        progress: Callable[[int, int], None] | None = None,
        executor: Executor | None = None,
    ) -> None:
        self._options = options
        self._progress = progress
        self._executor = executor
        self._export = Export(root, project_root, options, executor=executor, edit=self._edited)
        self._target = Place.at(os.fspath(project_root), options.croissant_fs_args)
        self.url = self._export.url

    def preview(self) -> Preview:
        """What `write` would do; nothing is written.

        Raises:
            CroissantError: as `publish`.
        """
        self._check_target()
        dataset = self._export.preview()
        found = sizes(self._copies(dataset))
        return Preview(dataset, len(found), sum(files for files, _ in found), sum(size for _, size in found))

    def write(self) -> str:
        """Copy, and put the dataset in place.

        Raises:
            CroissantError: as `publish`.
        """
        self._check_target()
        return self._export.write(self._copy)  # [PUB-003]

    def _copy(self, dataset: Dataset) -> None:
        copy_all(self._copies(dataset), self._progress, self._executor)

    def _copies(self, dataset: Dataset) -> list[Copy]:
        for move in dataset.moves:
            if not _layout.is_listed(move.row):  # [PUB-012]
                raise UsageError(
                    "option-invalid",
                    f"{move.row.table.name} {'/'.join(map(str, move.row.key))}: a copick project lists what its files "
                    f"are named, and {move.row.canonical_url} is no name, or that of something else; choose another",
                )
        return [
            Copy(
                move.fs,
                move.path,
                self._target.fs,
                f"{self._target.path.rstrip('/')}/{move.row.canonical_url}",
                move.row.table.canonical.endswith(".zarr"),
                getattr(move.row, "sha256", None),
                self._options.force,
            )
            for move in dataset.moves
        ]

    def _edited(self, source: Source, existing: Mapping[str, Any]) -> Source:
        """The source as it will be: its overlay at the target, whose base URL is the declared one [PUB-004]."""
        base = None if self._options.base_url else _base_url(existing, self.url, self._target.url)
        source = replace(source, base_url=base, manifest_url=self.url, is_fixed=False)
        if not source.places:
            warnings.warn(
                "this project has no overlay, so nothing is copied, and rows say where the data is",
                CroissantWarning,
                stacklevel=2,
            )
            return source
        *others, overlay = source.places
        if _filesystems.is_same((overlay.fs, overlay.path), (self._target.fs, self._target.path)):
            return source
        return replace(source, places=[*others, replace(overlay, moves_to=self._target.url)])

    def _check_target(self) -> None:
        """Raise unless the target can be written.

        Raises:
            ReadOnlyError: `read-only` [PUB-011].
        """
        fs = self._target.fs
        for path in (self._target.path, *(f"{self._target.path}/{name}" for name in ("ExperimentRuns", "Objects"))):
            there = path
            while _filesystems.is_local(fs) and not os.path.lexists(there) and os.path.dirname(there) != there:
                there = os.path.dirname(there)
            if reason := _filesystems.write_reason(fs, there):
                raise ReadOnlyError(
                    "read-only", f"nothing can be published there: {reason}; choose another directory", path=there
                )


def _base_url(existing: Mapping[str, Any], url: str, target: str) -> str | None:
    """The base URL that the manifest at `url` declares, if what lies at `target` can be read from there."""
    declared = existing.get("copick:baseUrl")
    if not isinstance(declared, str) or not declared:
        return None
    base = _urls.published(_urls.located(_credentials.stripped(declared), _urls.parent(url)))
    if _urls.is_local(base) and base != target:
        warnings.warn(
            f"the manifest that is replaced has the base URL {declared}, which is another directory; the new one has "
            "none, so that the project can be moved",
            CroissantWarning,
            stacklevel=3,
        )
        return None
    return base
