"""Open a project: `from_croissant` and `from_file`."""

from __future__ import annotations

import json
import os
from typing import Any

from copick_mlc import _filesystems, _storage, _urls
from copick_mlc.config import CopickConfigMLCroissant
from copick_mlc.errors import DataError, StorageError, UsageError
from copick_mlc.root import CopickRootMLC, config_of, read_config, read_json


def from_croissant(
    croissant_url: str | os.PathLike[str],
    overlay_root: str | os.PathLike[str] | None = None,
    croissant_base_url: str | os.PathLike[str] | None = None,
    overlay_fs_args: dict[str, Any] | None = None,
    croissant_fs_args: dict[str, Any] | None = None,
    static_fs_args: dict[str, Any] | None = None,
    output_path: str | os.PathLike[str] | None = None,
) -> CopickRootMLC:
    """Open the project of a Croissant manifest. The signature is that of `copick.from_croissant`.

    Args:
        croissant_url: Path or fsspec URL of metadata.json.
        overlay_root: Where writes go, in Mode B. Without it, Mode A: writes go to the base URL.
        croissant_base_url: What relative URLs are relative to, in place of `copick:baseUrl` [URL-004].
        overlay_fs_args: fsspec options for the overlay.
        croissant_fs_args: fsspec options for metadata.json and the CSVs.
        static_fs_args: fsspec options for the data at the base URL.
        output_path: Where to save the configuration, to be opened with `from_file`.

    Raises:
        MissingError, DataError, StorageError: as `CroissantIndex.from_url`.
    """
    config = CopickConfigMLCroissant(
        pickable_objects=[],
        croissant_url=croissant_url,
        croissant_base_url=croissant_base_url,
        overlay_root=overlay_root,
        overlay_fs_args=overlay_fs_args or {},
        croissant_fs_args=croissant_fs_args or {},
        static_fs_args=static_fs_args or {},
    )
    root = CopickRootMLC(config)
    if output_path is not None:
        text = json.dumps(root.config.model_dump(mode="json"), indent=4)
        fs, path = _filesystems.open_location(_urls.normalise(output_path))
        _storage.write(fs, path, text.encode())
    return root


def from_file(path: str | os.PathLike[str]) -> CopickRootMLC:
    """Open the project that a copick configuration file with `config_type` `mlcroissant` names.

    Raises:
        MissingError, DataError: `config-invalid`, and as `from_croissant`.
    """
    return CopickRootMLC(read_config(path))


def open_project(path: str | os.PathLike[str]) -> Any:
    """The root of any copick configuration file, or of a metadata.json; one of a Croissant project is opened by us.

    Raises:
        MissingError, DataError: `config-invalid` [EXP-030], and as `from_croissant`.
        UsageError: `source-unsupported`, for a kind of project that nobody knows [EXP-024].
        StorageError: `storage-failed`, where the CryoET Data Portal cannot be asked.
    """
    where = os.path.expanduser(os.fspath(path))
    values = read_json(where)
    if "recordSet" in values:
        return from_croissant(where)
    kind = values.get("config_type", "filesystem")
    if kind == "mlcroissant":
        return CopickRootMLC(config_of(values, where))
    if kind not in ("filesystem", "cryoet_data_portal"):
        raise UsageError(
            "source-unsupported",
            f"config_type is {kind!r}; expected filesystem, cryoet_data_portal or mlcroissant",
            path=where,
        )
    import copick

    try:
        return copick.from_file(where)
    except ValueError as error:
        raise DataError("config-invalid", f"not a copick configuration: {error}", path=where) from error
    except _filesystems.failures() as error:
        raise _unreachable(error) from error


def open_portal(dataset_ids: list[int], overlay_root: str) -> Any:
    """The root of datasets of the CryoET Data Portal, with all objects that these have.

    Args:
        dataset_ids: Ids of the datasets.
        overlay_root: An empty directory.

    Raises:
        StorageError: `storage-failed`, where the portal cannot be asked.
    """
    import copick

    try:
        return copick.from_czcdp_datasets(dataset_ids, overlay_root, overlay_fs_args={"auto_mkdir": True})
    except _filesystems.failures() as error:
        raise _unreachable(error) from error


def _unreachable(error: Exception) -> StorageError:
    return StorageError("storage-failed", f"the CryoET Data Portal cannot be asked: {error}")
