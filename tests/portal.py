"""A real CryoET Data Portal project without network: copick's own cache of the portal, and the data on a real S3.

Three runs in two datasets. What the portal would answer is declared below as data; `records` makes of it
the records that copick keeps, `upload` puts the files and volumes to which they point on an S3 server.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cryoet_data_portal as cdp
import numpy as np
import s3fs
import trimesh
import zarr
from copick.impl.cryoet_data_portal import CopickConfigCDP, CopickRootCDP
from copick.impl.filesystem import CopickConfigFSSpec, CopickRootFSSpec
from copick.util import portal_cache
from copick.util.ome import volume_pyramid, write_ome_zarr_3d

BUCKET = "cryoet-data-portal-public"
SHAPE = (8, 16, 16)
OBJECTS: list[dict[str, Any]] = [
    {"name": "ribosome", "is_particle": True, "label": 1, "color": [0, 255, 0, 255], "identifier": "GO:0022626"},
    {"name": "chaperone", "is_particle": True, "label": 2, "color": [0, 0, 255, 255], "identifier": "GO:0101031"},
    {"name": "membrane", "is_particle": False, "label": 3, "color": [255, 0, 0, 255], "identifier": "GO:0016020"},
    {"name": "fiducial", "is_particle": True, "label": 4, "color": [9, 9, 9, 255]},  # the portal knows none
]


@dataclass(frozen=True)
class Run:
    id: int
    name: str
    dataset: int
    spacing: int
    voxel_size: float

    @property
    def prefix(self) -> str:
        return f"s3://{BUCKET}/{self.dataset}/{self.name}/Reconstructions/VoxelSpacing{self.voxel_size:.3f}/"


@dataclass(frozen=True)
class Tomogram:
    id: int
    run: Run
    type: str  # copick's name for it
    processing: str
    software: str | None
    ctf_corrected: bool
    authors: tuple[str, ...]
    method: str = "WBP"

    @property
    def url(self) -> str:
        return f"{self.run.prefix}Tomograms/{self.id}/{self.run.name}.zarr"

    @property
    def volume(self) -> np.ndarray:
        return np.random.default_rng(self.id).normal(size=SHAPE).astype(np.float32)


@dataclass(frozen=True)
class Annotation:
    id: int
    run: Run
    object: str  # copick's name for it
    portal_name: str
    shape: str
    files: tuple[int, ...]
    authors: tuple[str, ...]
    method_type: str
    ground_truth: bool
    recommended: bool
    software: str | None

    @property
    def is_volume(self) -> bool:
        return self.shape.endswith("Mask")

    def url(self, file: int) -> str:
        name = f"{self.portal_name.replace(' ', '_')}-{self.files.index(file) + 1}.0_{self.shape.lower()}"
        return f"{self.run.prefix}Annotations/{self.id}/{name}.{'zarr' if self.is_volume else 'ndjson'}"

    def volume(self, file: int) -> np.ndarray:
        labels = 2 if self.shape == "SegmentationMask" else 5
        return np.random.default_rng(file).integers(0, labels, SHAPE).astype(np.int8)

    def points(self, file: int) -> list[dict[str, Any]]:
        """The lines of a file: places in voxels, and for oriented points a turn about z that differs by point."""
        lines: list[dict[str, Any]] = []
        for number in range(self.files.index(file) + 3):
            location = {"x": 1.5 + number, "y": 2.0 * number, "z": 7.25 - number}
            line: dict[str, Any] = {"type": "point", "location": location}
            if self.shape == "OrientedPoint":
                c, s = [(0.0, 1.0), (0.6, 0.8), (-1.0, 0.0)][number % 3]
                line |= {"type": "orientedPoint", "xyz_rotation_matrix": [[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]}
            lines.append(line)
        return lines


TS_026 = Run(16463, "TS_026", 10301, 500, 10.0)
TS_027 = Run(16464, "TS_027", 10301, 501, 10.0)
POSITION_1 = Run(17001, "Position_1", 10302, 600, 7.84)
RUNS = (TS_026, TS_027, POSITION_1)

TOMOGRAMS = (
    # Two of one type at one spacing: copick gives them the same name.
    Tomogram(7000, TS_026, "wbp-filtered-ctfdeconv", "filtered", None, True, ("Tomo Author",)),
    Tomogram(7002, TS_026, "wbp-filtered-ctfdeconv", "filtered", None, True, ("Second Author", "Tomo Author")),
    Tomogram(7001, TS_027, "wbp-denoised-cryoCare-ctfdeconv", "denoised", "cryo-CARE", True, ("Tomo Author",)),
    Tomogram(7100, POSITION_1, "sirt-raw", "raw", None, False, ("Other Author",), method="SIRT"),
)

ANNOTATIONS = (
    # One object twice in one run.
    Annotation(
        3001,
        TS_026,
        "ribosome",
        "cytosolic ribosome",
        "Point",
        (5001, 5011),
        ("Jane Doe", "Max Muster", "Jörg Müller"),
        "manual",
        ground_truth=True,
        recommended=True,
        software="pytom",
    ),
    Annotation(
        3002,
        TS_027,
        "chaperone",
        "protein folding chaperone complex",
        "OrientedPoint",
        (5002,),
        ("Max Muster",),
        "automated",
        ground_truth=False,
        recommended=False,
        software="pytom",
    ),
    Annotation(
        3003,
        TS_026,
        "membrane",
        "membrane",
        "SegmentationMask",
        (5003,),
        ("Seg Person",),
        "hybrid",
        ground_truth=True,
        recommended=True,
        software="membrain-seg",
    ),
    Annotation(
        3004,
        TS_026,
        "ribosome",
        "cytosolic ribosome",
        "InstanceSegmentationMask",
        (5004,),
        ("Jane Doe", "Seg Person"),
        "automated",
        ground_truth=False,
        recommended=True,
        software=None,
    ),
    Annotation(
        3005,
        POSITION_1,
        "ribosome",
        "cytosolic ribosome",
        "OrientedPoint",
        (5005,),
        ("Jane Doe",),
        "hybrid",
        ground_truth=False,
        recommended=False,
        software=None,
    ),
)


# --- what the portal answers -----------------------------------------------------------------------------


def record(model: Any, **values: Any) -> dict[str, Any]:
    """A full record of the portal: every scalar field of the model, absent ones None."""
    fields = dict.fromkeys(model._get_scalar_fields())
    assert values.keys() <= fields.keys(), f"{model.__name__} has no {values.keys() - fields.keys()}"
    return {**fields, **values}


def _https(url: str) -> str:
    return url.replace(f"s3://{BUCKET}", "https://files.portal.invalid")


def _authors(model: Any, names: tuple[str, ...], **of: int) -> list[dict[str, Any]]:
    (owner,) = of.values()
    return [
        record(model, id=owner * 10 + order, name=name, author_list_order=order, primary_author_status=order == 1, **of)
        for order, name in enumerate(names, 1)
    ]


def records() -> dict[str, list[dict[str, Any]]]:
    """What the portal would answer, as copick's cache has it; new lists with every call, to change as one likes."""
    data: dict[str, list[dict[str, Any]]] = {key: [] for key in portal_cache.DATA_KEYS}
    for run in RUNS:
        prefix = f"s3://{BUCKET}/{run.dataset}/{run.name}/"
        data["runs"].append(record(cdp.Run, id=run.id, name=run.name, dataset_id=run.dataset, s3_prefix=prefix))
        data["voxel_spacings"].append(
            record(
                cdp.TomogramVoxelSpacing,
                id=run.spacing,
                run_id=run.id,
                voxel_spacing=run.voxel_size,
                s3_prefix=run.prefix,
                https_prefix=_https(run.prefix),
            )
        )
    for tomogram in TOMOGRAMS:
        data["tomograms"].append(_tomogram(tomogram))
        data["tomogram_authors"] += _authors(cdp.TomogramAuthor, tomogram.authors, tomogram_id=tomogram.id)
    for annotation in ANNOTATIONS:
        data["annotations"].append(_annotation(annotation))
        data["annotation_authors"] += _authors(cdp.AnnotationAuthor, annotation.authors, annotation_id=annotation.id)
        shape = annotation.id + 1000
        data["annotation_shapes"].append(
            record(cdp.AnnotationShape, id=shape, annotation_id=annotation.id, shape_type=annotation.shape)
        )
        for file in annotation.files:
            data["annotation_files"].append(
                record(
                    cdp.AnnotationFile,
                    id=file,
                    annotation_shape_id=shape,
                    tomogram_voxel_spacing_id=annotation.run.spacing,
                    format="zarr" if annotation.is_volume else "ndjson",
                    s3_path=annotation.url(file),
                    https_path=_https(annotation.url(file)),
                    is_visualization_default=file == annotation.files[0],
                    source="dataset_author",
                )
            )
    return data


def _tomogram(tomogram: Tomogram) -> dict[str, Any]:
    mrc = tomogram.url.replace(".zarr", ".mrc")
    return record(
        cdp.Tomogram,
        id=tomogram.id,
        run_id=tomogram.run.id,
        tomogram_voxel_spacing_id=tomogram.run.spacing,
        deposition_id=10310,
        name=tomogram.run.name,
        voxel_spacing=tomogram.run.voxel_size,
        size_z=SHAPE[0],
        size_y=SHAPE[1],
        size_x=SHAPE[2],
        reconstruction_method=tomogram.method,
        processing=tomogram.processing,
        processing_software=tomogram.software,
        ctf_corrected=tomogram.ctf_corrected,
        s3_omezarr_dir=tomogram.url,
        https_omezarr_dir=_https(tomogram.url),
        s3_mrc_file=mrc,
        https_mrc_file=_https(mrc),
        is_author_submitted=True,
        deposition_date="2024-01-15",
    )


def _annotation(annotation: Annotation) -> dict[str, Any]:
    (identifier,) = [item["identifier"] for item in OBJECTS if item["name"] == annotation.object]
    return record(
        cdp.Annotation,
        id=annotation.id,
        run_id=annotation.run.id,
        tomogram_voxel_spacing_id=annotation.run.spacing,
        deposition_id=10310,
        object_id=identifier,
        object_name=annotation.portal_name,
        method_type=annotation.method_type,
        ground_truth_status=annotation.ground_truth,
        is_curator_recommended=annotation.recommended,
        annotation_method="template matching",
        annotation_software=annotation.software,
        object_count=3,
        deposition_date="2024-01-15",
    )


# --- the project -----------------------------------------------------------------------------------------


def _config(overlay: Path, data: dict[str, list[dict[str, Any]]]) -> CopickConfigCDP:
    """The configuration of a project on `overlay`; beside that, copick's cache of what the portal answers."""
    overlay = overlay.resolve()
    overlay.mkdir(parents=True, exist_ok=True)
    config = CopickConfigCDP(
        name="portal project",
        description="Data of the portal, and some of one's own.",
        version="1.0.0",
        pickable_objects=OBJECTS,
        overlay_root=f"local://{overlay}",
        overlay_fs_args={"auto_mkdir": True},
        dataset_ids=sorted({run["dataset_id"] for run in data["runs"]}),
        user_id="me",
        session_id="1",
        portal_cache_ttl_seconds=0,
        portal_cache_dir=str(overlay.parent / f"{overlay.name}-portal-cache"),
    )
    fingerprint = portal_cache.fingerprint_for_config(config)
    (location,) = portal_cache.resolve_locations(fingerprint, portal_cache.settings_from_config(config))
    assert portal_cache._store_location(location, fingerprint, config.dataset_ids, data)
    return config


def make_portal_root(overlay: Path, data: dict[str, list[dict[str, Any]]] | None = None) -> CopickRootCDP:
    """A portal project of the given records, by default `records()`, with an overlay directory of its own."""
    return CopickRootCDP(_config(overlay, data or records()))


def write_config(path: Path, overlay: Path, data: dict[str, list[dict[str, Any]]] | None = None) -> Path:
    """Write a copick configuration with which `copick.from_file` opens that project, without network too."""
    path.write_text(_config(overlay, data or records()).model_dump_json(indent=4))
    return path


def add_overlay_artifacts(root: CopickRootCDP) -> None:
    """Put things of one's own into the overlay of a project: one of each kind.

    In run 16463: picks, a mesh and segmentations; features of a portal tomogram, a tomogram at the portal's
    spacing and one at a spacing that the portal has not. A density map of the ribosome. Where copick would ask
    the portal first, a project on the file system of the same directory does it.
    """
    # get_run and get_voxel_spacing ask the portal, unless what they look for has been listed.
    (run,) = (run for run in root.runs if run.portal_run_id == TS_026.id)
    (spacing,) = run.voxel_spacings
    picks = run.new_picks("ribosome", "1", "me")
    picks.meta.voxel_spacing = TS_026.voxel_size
    picks.from_numpy(np.array([[10.0, 20.0, 30.0], [40.0, 50.0, 60.0]]))
    mesh = run.new_mesh("membrane", "1", "me")
    mesh.mesh = trimesh.Scene(trimesh.Trimesh([[0, 0, 0], [80, 0, 0], [0, 80, 0]], [[0, 1, 2]]))
    mesh.store()
    labels = np.random.default_rng(1).integers(0, 2, SHAPE)
    run.new_segmentation(TS_026.voxel_size, "membrane", "1", user_id="me").from_numpy(labels)
    run.new_segmentation(TS_026.voxel_size, "all", "1", is_multilabel=True, user_id="me").from_numpy(labels)
    spacing.new_tomogram("mine").from_numpy(np.ones(SHAPE), levels=1)
    tomogram = spacing.get_tomograms(TOMOGRAMS[0].type)[0]
    zarr.group(store=tomogram.new_features("edges").zarr()).create_dataset("0", data=np.ones((1, *SHAPE), np.float32))

    files = CopickRootFSSpec(
        CopickConfigFSSpec(
            pickable_objects=OBJECTS,
            overlay_root=root.config.overlay_root,
            overlay_fs_args=root.config.overlay_fs_args,
        )
    )
    files.get_object("ribosome").from_numpy(np.ones((4, 4, 4)), TS_026.voxel_size)
    files.get_run(str(TS_026.id)).new_voxel_spacing(20.0).new_tomogram("binned").from_numpy(np.zeros(SHAPE), levels=1)
    root.refresh()


# --- its data --------------------------------------------------------------------------------------------


def _ndjson(lines: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _volume(url: str, volume: np.ndarray, voxel_size: float) -> dict[str, bytes]:
    """The objects of an OME-Zarr volume with two scales and nested chunks, as the portal has them."""
    store = zarr.MemoryStore(dimension_separator="/")
    pyramid = volume_pyramid(volume, voxel_size, 2, dtype=volume.dtype)
    write_ome_zarr_3d(store, pyramid, chunk_size=(8, 8, 8))
    return {f"{url}/{key}": bytes(value) for key, value in store.items()}


def contents() -> dict[str, bytes]:
    """Every object in the portal's bucket, by its URL."""
    objects: dict[str, bytes] = {}
    for tomogram in TOMOGRAMS:
        objects |= _volume(tomogram.url, tomogram.volume, tomogram.run.voxel_size)
    for annotation in ANNOTATIONS:
        for file in annotation.files:
            url = annotation.url(file)
            if annotation.is_volume:
                objects |= _volume(url, annotation.volume(file), annotation.run.voxel_size)
            else:
                objects[url] = _ndjson(annotation.points(file))
    return objects


def upload(endpoint: str, objects: dict[str, bytes] | None = None) -> None:
    """Put objects, by default `contents()`, into the portal's bucket, which everybody may read."""
    fs = s3fs.S3FileSystem(
        key="owner",
        secret="owner",
        endpoint_url=endpoint,
        s3_additional_kwargs={"ACL": "public-read"},
        skip_instance_cache=True,
    )
    fs.makedirs(BUCKET, exist_ok=True)
    fs.pipe(contents() if objects is None else objects)
