"""Whole-project operations: export a copick project, append one to a manifest, assign runs to splits.

An export is the Croissant dataset of a project: metadata.json and ten CSVs in `<project root>/Croissant`. Data is not
touched [EXP-004]: rows say where it is. Rules: SPEC.md, Export [EXP] and Appending [APP].
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from typing import Any

from copick.models import CopickRoot

from copick_mlc._appending import all_or_nothing, append, writable_index
from copick_mlc._choices import Choices
from copick_mlc._exporting import Export, ExportOptions
from copick_mlc.errors import UnknownRunError


def export_croissant(
    root: CopickRoot,
    project_root: str | os.PathLike[str],
    *,
    base_url: str | None = None,
    dataset_name: str | None = None,
    description: str | None = None,
    license: str | None = None,
    cite_as: str | None = None,
    date_published: str | None = None,
    validate: bool = True,
    compute_file_sha256: bool = True,
    force: bool = False,
    runs: Iterable[str] | None = None,
    tomograms: Iterable[str] | None = None,
    features: Iterable[str] | None = None,
    picks: Iterable[str] | None = None,
    meshes: Iterable[str] | None = None,
    segmentations: Iterable[str] | None = None,
    objects: Iterable[str] | None = None,
    tomo_type_map: Mapping[str, str] | None = None,
    object_name_map: Mapping[str, str] | None = None,
    session_id_template: str | None = None,
    picks_portal_meta: Mapping[str, Any] | None = None,
    picks_author: Iterable[str] | None = None,
    segmentations_portal_meta: Mapping[str, Any] | None = None,
    segmentations_author: Iterable[str] | None = None,
    tomograms_portal_meta: Mapping[str, Any] | None = None,
    tomograms_author: Iterable[str] | None = None,
    splits: Mapping[str, Iterable[str]] | None = None,
    creator: str | Mapping[str, Any] | Iterable[str | Mapping[str, Any]] | None = None,
    publisher: str | Mapping[str, Any] | None = None,
    url: str | None = None,
    keywords: str | Iterable[str] | None = None,
    rai: Mapping[str, Any] | None = None,
    croissant_fs_args: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    executor: Executor | None = None,
) -> str:
    """Export `root` to `<project_root>/Croissant/`; the same project and options give the same bytes [EXP-003].

    Where a list of names or URIs is expected, a str is one value; None selects everything, and filters are independent
    of each other. What matches nothing, and what dataset hosts will miss, is a `CroissantWarning`.

    Args:
        root: A copick project: filesystem, CryoET Data Portal, mlcroissant, or any other backend that says where its
            data is.
        project_root: Path or fsspec URL of the project.
        base_url: Where `project_root` will be read from. Without it the manifest names no base, and the project can
            be moved [EXP-010]. Portal sources have the portal's [POR-001].
        dataset_name: Name of the dataset; by default that of the project.
        description: Description of the dataset; by default that of the project.
        license: License, an SPDX id or URL.
        cite_as: Citation.
        date_published: ISO date; by default today.
        validate: Whether mlcroissant checks the manifest.
        compute_file_sha256: Whether picks and meshes get their sha256 [EXP-011], for which each is read once; those
            of a portal or another publisher only where their data can be reached [POR-008].
        force: Whether an existing manifest is replaced. What others added to it [EXP-007], and splits of runs that
            remain [EXP-008], stay.
        runs: Names of runs [EXP-013].
        tomograms: copick URIs, as `wbp@10.0` [EXP-014].
        features: copick URIs, as `wbp@10.0:sobel`.
        picks: copick URIs, as `ribosome:*/*`.
        meshes: copick URIs, as `ribosome:*/*`.
        segmentations: copick URIs, as `membrane:*/*@10.0`.
        objects: Names of objects whose density maps are exported [EXP-015].
        tomo_type_map: New names of tomogram types, by old name [EXP-017].
        object_name_map: New names of objects, by old name [EXP-018].
        session_id_template: Format string that makes the session ids of the portal's annotations [POR-006], of any
            scalar field of the portal's annotation, and `{author}`, `{authors}`, `{annotation_file_id}`.
        picks_portal_meta: Values that the portal's annotation must have, by field [POR-004].
        picks_author: Names that must all be among the annotation's authors [POR-004].
        segmentations_portal_meta: As `picks_portal_meta`.
        segmentations_author: As `picks_author`.
        tomograms_portal_meta: Values that the portal's tomogram must have, by field.
        tomograms_author: Names that must all be among the tomogram's authors.
        splits: Run names by machine-learning split [EXP-020].
        creator: Who made the dataset: a person's name, a JSON-LD object, or a list of these [EXP-043].
        publisher: Who publishes it: an organization's name, or a JSON-LD object [EXP-043].
        url: Its web page [EXP-044].
        keywords: Its keywords; a str is one [EXP-044].
        rai: Properties of the responsible-AI and provenance vocabularies, by `rai:` or `prov:` name [EXP-045].
        croissant_fs_args: fsspec options for `project_root`.
        progress: Called with the number of runs that are done, and of all.
        executor: Who lists and reads what is exported: threads, processes, `dask.distributed.Client().get_executor()`
            or MPI, as a `concurrent.futures.Executor`. The bytes are the same. Without it this thread does, or threads
            where it would wait for remote storage.

    Returns:
        Path or URL of the metadata.json that was written.

    Raises:
        ExistsError: `exists`, where there is a manifest or a table already, without `force` [EXP-006].
        UsageError: `option-invalid`, `source-unsupported` [EXP-024], `name-invalid`.
        DataError: `manifest-rejected` [EXP-023]; also for what cannot be read of a Croissant source.
        ReadOnlyError: `read-only`, where the storage of `project_root` can only be read; nothing is read then.
        LockedError: `locked`, where another process writes all the time.
        StorageError: `storage-failed`.
    """
    options = ExportOptions(
        compute_file_sha256=compute_file_sha256,
        runs=runs,
        tomograms=tomograms,
        features=features,
        picks=picks,
        meshes=meshes,
        segmentations=segmentations,
        objects=objects,
        tomo_type_map=tomo_type_map,
        object_name_map=object_name_map,
        session_id_template=session_id_template,
        picks_portal_meta=picks_portal_meta,
        picks_author=picks_author,
        segmentations_portal_meta=segmentations_portal_meta,
        segmentations_author=segmentations_author,
        tomograms_portal_meta=tomograms_portal_meta,
        tomograms_author=tomograms_author,
        base_url=base_url,
        dataset_name=dataset_name,
        description=description,
        license=license,
        cite_as=cite_as,
        date_published=date_published,
        validate=validate,
        force=force,
        splits=splits,
        creator=creator,
        publisher=publisher,
        url=url,
        keywords=keywords,
        rai=rai,
        croissant_fs_args=croissant_fs_args,
    )
    return Export(root, project_root, options, progress, executor).write()


def append_croissant(
    dest_metadata_path: str | os.PathLike[str],
    source_root: CopickRoot,
    *,
    runs: Iterable[str] | None = None,
    tomograms: Iterable[str] | None = None,
    features: Iterable[str] | None = None,
    picks: Iterable[str] | None = None,
    meshes: Iterable[str] | None = None,
    segmentations: Iterable[str] | None = None,
    objects: Iterable[str] | None = None,
    tomo_type_map: Mapping[str, str] | None = None,
    object_name_map: Mapping[str, str] | None = None,
    session_id_template: str | None = None,
    picks_portal_meta: Mapping[str, Any] | None = None,
    picks_author: Iterable[str] | None = None,
    segmentations_portal_meta: Mapping[str, Any] | None = None,
    segmentations_author: Iterable[str] | None = None,
    tomograms_portal_meta: Mapping[str, Any] | None = None,
    tomograms_author: Iterable[str] | None = None,
    splits: Mapping[str, Iterable[str]] | None = None,
    compute_file_sha256: bool = True,
    validate: bool = True,
    croissant_base_url: str | os.PathLike[str] | None = None,
    croissant_fs_args: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    executor: Executor | None = None,
) -> str:
    """Add the rows of a project to an existing manifest, in one commit, all or none [APP-001].

    A row whose key is there already is replaced [APP-002]; it keeps its split and portal columns where the new one has
    none [APP-003]. URLs below the manifest's base become relative to it, others absolute [APP-004]. Pickable objects
    that the manifest does not define are added; of two definitions of one name the manifest's stays, with a warning
    [APP-005]. All else of the manifest stays [APP-007].

    Args:
        dest_metadata_path: Path or fsspec URL of the metadata.json to add to.
        source_root: The project to add.
        runs: This and what follows is as in `export_croissant`.
        tomograms: As in `export_croissant`.
        features: As in `export_croissant`.
        picks: As in `export_croissant`.
        meshes: As in `export_croissant`.
        segmentations: As in `export_croissant`.
        objects: As in `export_croissant`.
        tomo_type_map: As in `export_croissant`.
        object_name_map: As in `export_croissant`.
        session_id_template: As in `export_croissant`.
        picks_portal_meta: As in `export_croissant`.
        picks_author: As in `export_croissant`.
        segmentations_portal_meta: As in `export_croissant`.
        segmentations_author: As in `export_croissant`.
        tomograms_portal_meta: As in `export_croissant`.
        tomograms_author: As in `export_croissant`.
        splits: As in `export_croissant`, for the runs that are added [APP-008].
        compute_file_sha256: As in `export_croissant`.
        validate: As in `export_croissant`.
        croissant_base_url: What relative URLs of the manifest are relative to, in place of `copick:baseUrl`.
        croissant_fs_args: fsspec options for metadata.json and the CSVs.
        progress: As in `export_croissant`.
        executor: As in `export_croissant`.

    Returns:
        Path or URL of the metadata.json.

    Raises:
        MissingError, DataError: as `CroissantIndex.from_url`; DataError also `manifest-rejected` [APP-006], and
            `url-local`, for data on the local disk where the manifest is not [SEC-002].
        UsageError: `option-invalid`, `source-unsupported`, `name-invalid`.
        ReadOnlyError: `read-only`, where the manifest cannot be written.
        LockedError, StorageError: as `CroissantIndex.commit`.
    """
    choices = Choices(
        compute_file_sha256=compute_file_sha256,
        runs=runs,
        tomograms=tomograms,
        features=features,
        picks=picks,
        meshes=meshes,
        segmentations=segmentations,
        objects=objects,
        tomo_type_map=tomo_type_map,
        object_name_map=object_name_map,
        session_id_template=session_id_template,
        picks_portal_meta=picks_portal_meta,
        picks_author=picks_author,
        segmentations_portal_meta=segmentations_portal_meta,
        segmentations_author=segmentations_author,
        tomograms_portal_meta=tomograms_portal_meta,
        tomograms_author=tomograms_author,
    )
    return append(
        dest_metadata_path,
        source_root,
        choices,
        splits=splits or {},
        validate=validate,
        base_url=croissant_base_url,
        fs_args=croissant_fs_args,
        progress=progress,
        executor=executor,
    )


def set_splits(
    dest_metadata_path: str | os.PathLike[str],
    mapping: Mapping[str, Iterable[str]] | None = None,
    *,
    clear_existing: bool = False,
    unassign: Iterable[str] | None = None,
    croissant_fs_args: Mapping[str, Any] | None = None,
) -> str:
    """Assign runs of an existing manifest to splits, in one commit, all or none.

    Args:
        dest_metadata_path: Path or fsspec URL of a metadata.json.
        mapping: Run names by split; a str is one name.
        clear_existing: Whether runs that are not mentioned lose their split.
        unassign: Names of runs that lose their split, whatever `mapping` says.
        croissant_fs_args: fsspec options for metadata.json and the CSVs.

    Returns:
        Path or URL of the metadata.json.

    Raises:
        UnknownRunError: `run-unknown`.
        UsageError: `option-invalid`, for an empty split name or a run in two splits; `name-invalid`.
        ReadOnlyError: `read-only`, where the manifest cannot be written.
        LockedError, StorageError: as `CroissantIndex.commit`.
    """
    index = writable_index(dest_metadata_path, fs_args=croissant_fs_args)
    gone = [unassign] if isinstance(unassign, str) else list(unassign or [])
    with index.exclusive():  # before runs.csv is read, so that nobody else adds, removes or changes a run meanwhile
        if unknown := sorted(name for name in gone if not index.has("runs", name)):
            raise UnknownRunError("run-unknown", f"no such runs in this project: {', '.join(unknown)}", path=index.url)
        with all_or_nothing(index):
            index.set_splits(mapping or {}, clear_existing=clear_existing)
            index.clear_splits(gone)
    return index.url
