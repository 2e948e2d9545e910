"""Mode A: what is written goes to the base URL, and tables and manifest follow in one commit."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import copick
import numpy as np
import pytest
import trimesh
import zarr

from copick_mlc import (
    CopickMeshMLC,
    CopickPicksMLC,
    CopickRootMLC,
    CopickRunMLC,
    CopickSegmentationMLC,
    CopickTomogramMLC,
    CopickVoxelSpacingMLC,
    CroissantError,
    from_croissant,
)
from tests.projects import inventory, tree

# --- what the disk says, without the code under test ------------------------------------------------------


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def table(manifest: Path, name: str) -> list[dict[str, str]]:
    """The rows of a CSV, whose sha256 is the one that the manifest declares."""
    path = manifest.parent / f"{name}.csv"
    declared = {entry["@id"]: entry["sha256"] for entry in json.loads(manifest.read_bytes())["distribution"]}
    assert declared[f"{name.replace('_', '-')}-csv"] == sha256(path)
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rows(manifest: Path, name: str, /, **cells: str) -> list[dict[str, str]]:
    """The rows of a CSV that have these cells."""
    return [row for row in table(manifest, name) if cells.items() <= row.items()]


def row(manifest: Path, name: str, /, **cells: str) -> dict[str, str]:
    """The one row of a CSV that has these cells."""
    (found,) = rows(manifest, name, **cells)
    return found


def rewrite(manifest: Path, name: str, change: Callable[[dict[str, str]], None]) -> None:
    """Edit every row of a CSV by hand, and the sha256 in the manifest with it."""
    lines = table(manifest, name)
    for line in lines:
        change(line)
    path = manifest.parent / f"{name}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    document = json.loads(manifest.read_bytes())
    for entry in document["distribution"]:
        if entry["@id"] == f"{name.replace('_', '-')}-csv":
            entry["sha256"] = sha256(path)
    manifest.write_text(json.dumps(document))


def check_tables(manifest: Path) -> None:
    """Every table is as declared, and no temporary file is left beside it."""
    names = {path.stem for path in manifest.parent.glob("*.csv")}
    for name in names:
        table(manifest, name)
    assert {path.name for path in manifest.parent.iterdir()} == {"metadata.json", *(f"{name}.csv" for name in names)}


def differences(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    """The paths of files that were added, removed or changed."""
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


@contextmanager
def commits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The manifests that the block puts into place: one a commit."""
    seen: list[str] = []

    def watched(move: Callable[..., None]) -> Callable[..., None]:
        def watch(source: Any, target: Any, **options: Any) -> None:
            move(source, target, **options)
            if os.path.basename(target) == "metadata.json":
                seen.append(target)

        return watch

    with monkeypatch.context() as patch:
        for name in ("replace", "rename"):
            patch.setattr(os, name, watched(getattr(os, name)))
        yield seen


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, directory: Path) -> Iterator[None]:
    """No file can be put into a directory while the block runs."""

    def limited(move: Callable[..., None]) -> Callable[..., None]:
        def refuse(source: Any, target: Any, **options: Any) -> None:
            if Path(target).is_relative_to(directory):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
            move(source, target, **options)

        return refuse

    with monkeypatch.context() as patch:
        for name in ("replace", "rename"):
            patch.setattr(os, name, limited(getattr(os, name)))
        yield


def names(root: Any) -> dict[str, Any]:
    """The keys of everything that a root lists; without reading data, which takes a while."""
    return inventory(root, data=False)


def contents(root: Any, *runs: str) -> dict[str, Any]:
    """The keys and contents of everything in some runs."""
    found = inventory(SimpleNamespace(pickable_objects=[], runs=[root.get_run(name) for name in runs]))["runs"]
    assert isinstance(found, dict)
    return found


# --- shorthand --------------------------------------------------------------------------------------------

BOX = np.arange(4 * 4 * 4).reshape(4, 4, 4)
KINDS: dict[str, dict[str, bool]] = {
    "binary": {},
    "multilabel": {"is_multilabel": True},
    "instance": {"is_instance": True},
    "panoptic": {"is_panoptic": True},
}


def the_run(root: CopickRootMLC, name: str = "TS_001") -> CopickRunMLC:
    run = root.get_run(name)
    assert run is not None
    return run


def the_spacing(root: CopickRootMLC, run: str = "TS_001") -> CopickVoxelSpacingMLC:
    spacing = the_run(root, run).get_voxel_spacing(10.0)
    assert spacing is not None
    return spacing


def the_tomogram(root: CopickRootMLC, tomo_type: str = "wbp") -> CopickTomogramMLC:
    (tomogram,) = the_spacing(root).get_tomograms(tomo_type)
    return tomogram


def the_picks(root: CopickRootMLC, user_id: str = "demo") -> CopickPicksMLC:
    (picks,) = the_run(root).get_picks("ribosome", user_id)
    return picks


def the_mesh(root: CopickRootMLC) -> CopickMeshMLC:
    (mesh,) = the_run(root).get_meshes(user_id="demo")
    return mesh


def the_segmentation(root: CopickRootMLC, kind: str = "binary") -> CopickSegmentationMLC:
    listed = the_run(root).get_segmentations("demo", is_instance=None, is_panoptic=None)
    (found,) = [item for item in listed if item.segmentation_type == kind]
    return found


def labels(kind: str) -> Any:
    """A small volume that a segmentation of this kind may hold."""
    inside = (BOX > 31).astype(int)
    return np.stack([inside, inside * BOX]) if kind == "panoptic" else inside * (BOX if kind == "instance" else 1)


def vertices(mesh: Any) -> Any:
    """The vertices of a mesh or scene, in the order of their coordinates."""
    geometry = mesh.to_geometry() if hasattr(mesh, "to_geometry") else mesh
    return np.unique(np.asarray(geometry.vertices).round(3), axis=0)


# --- new things -------------------------------------------------------------------------------------------


def test_new_run(root: CopickRootMLC, manifest: Path) -> None:
    run = root.new_run("TS_9")
    assert run is root.get_run("TS_9")
    assert row(manifest, "runs", name="TS_9") == {"name": "TS_9", "portal_run_id": "", "split": ""}
    assert [item.name for item in from_croissant(manifest).runs] == ["TS_001", "TS_002", "TS_9", "empty"]
    assert "TS_9" in [item.name for item in copick.from_croissant(str(manifest)).runs]


def test_new_voxel_spacing(root: CopickRootMLC, manifest: Path, project: Path) -> None:
    spacing = the_run(root).new_voxel_spacing(13.48001)
    assert spacing.voxel_size == 13.48
    assert row(manifest, "voxel_spacings", run="TS_001", voxel_size="13.48")
    assert (project / "ExperimentRuns/TS_001/VoxelSpacing13.480").is_dir()
    assert copick.from_croissant(str(manifest)).get_run("TS_001").get_voxel_spacing(13.48) is not None


def test_new_tomogram(root: CopickRootMLC, manifest: Path, project: Path) -> None:
    tomogram = the_spacing(root).new_tomogram("ctf")
    store = project / "ExperimentRuns/TS_001/VoxelSpacing10.000/ctf.zarr"
    assert row(manifest, "tomograms", run="TS_001", tomo_type="ctf") == {
        "run": "TS_001",
        "voxel_size": "10.0",
        "tomo_type": "ctf",
        "url": "ExperimentRuns/TS_001/VoxelSpacing10.000/ctf.zarr",
        "portal_tomo_type": "",
        "portal_tomogram_id": "",
    }
    assert [path.name for path in store.iterdir()] == [".zgroup"]
    before = tree(manifest.parent)
    tomogram.from_numpy(BOX, levels=2)
    assert tree(manifest.parent) == before, "the row was there already"
    written = zarr.open(str(store), mode="r")
    assert written["0"].dtype == np.float32
    assert np.array_equal(written["0"][:], BOX)
    assert written["1"].shape == (2, 2, 2)
    assert (store / "0/0/0/0").is_file(), "chunks are nested"
    seen = copick.from_croissant(str(manifest)).get_run("TS_001").get_voxel_spacing(10.0).get_tomograms("ctf")
    assert np.array_equal(seen[0].numpy(), BOX)


def test_tomogram_parts(root: CopickRootMLC, project: Path) -> None:
    tomogram = the_spacing(root).new_tomogram("ctf")
    tomogram.from_numpy(BOX, levels=1, dtype=np.int16)
    part = np.full((2, 4, 4), -7)
    tomogram.set_region(part, z=slice(1, 3))
    expected = BOX.copy()
    expected[1:3] = -7
    assert np.array_equal(tomogram.numpy(), expected)
    assert np.array_equal(tomogram.numpy("0", x=slice(1, 2), z=slice(0, 3)), expected[0:3, :, 1:2])
    on_disk = zarr.open(str(project / "ExperimentRuns/TS_001/VoxelSpacing10.000/ctf.zarr"), mode="r")["0"]
    assert np.array_equal(on_disk[:], expected)


def test_new_features(root: CopickRootMLC, manifest: Path, project: Path) -> None:
    features = the_tomogram(root).new_features("edges")
    url = "ExperimentRuns/TS_001/VoxelSpacing10.000/wbp_edges_features.zarr"
    assert row(manifest, "features", run="TS_001", feature_type="edges") == {
        "run": "TS_001",
        "voxel_size": "10.0",
        "tomo_type": "wbp",
        "feature_type": "edges",
        "url": url,
    }
    zarr.group(store=features.zarr()).create_dataset("0", data=np.zeros((2, 4, 4, 4)), chunks=(1, 4, 4, 4))
    features.set_region(np.stack([BOX, -BOX]))
    features.set_region(np.full((4, 4), 9), slices=(0, 3))
    expected = np.stack([BOX, -BOX])
    expected[0, 3] = 9
    assert np.array_equal(features.numpy(), expected)
    assert np.array_equal(features.numpy(slices=(slice(1), slice(4), slice(2), slice(4))), expected[:1, :, :2])
    assert np.array_equal(zarr.open(str(project / url), mode="r")["0"][:], expected)
    assert root.get_run("TS_001") is not None
    seen = copick.from_croissant(str(manifest)).get_run("TS_001").get_voxel_spacing(10.0).get_tomograms("wbp")[0]
    assert np.array_equal(seen.get_features("edges").numpy(), expected)


@pytest.mark.parametrize(
    ("kind", "name", "url", "dtype"),
    [
        ("binary", "ribosome", "Segmentations/10.000_me_7_ribosome.zarr", np.uint8),
        ("multilabel", "parts", "Segmentations/10.000_me_7_parts-multilabel.zarr", np.uint8),
        ("instance", "membrane", "InstanceSegmentations/10.000_me_7_membrane.zarr", np.uint16),
        ("panoptic", "cell", "PanopticSegmentations/10.000_me_7_cell.zarr", np.uint16),
    ],
)
def test_new_segmentation(
    root: CopickRootMLC, manifest: Path, project: Path, kind: str, name: str, url: str, dtype: Any
) -> None:
    made = the_run(root).new_segmentation(10, name, "7", user_id="me", **KINDS[kind])
    tables = {"instance": "instance_segmentations", "panoptic": "panoptic_segmentations"}
    found = row(manifest, tables.get(kind, "segmentations"), user_id="me")
    assert (found["voxel_size"], found["session_id"], found["name"]) == ("10.0", "7", name)
    assert found["url"] == f"ExperimentRuns/TS_001/{url}"
    assert found.get("is_multilabel") == {"binary": "false", "multilabel": "true"}.get(kind)
    assert made.segmentation_type == kind
    assert made.filename == url.partition("/")[2]

    volume = labels(kind)
    made.from_numpy(volume)
    stored = project / "ExperimentRuns/TS_001" / url
    assert zarr.open(str(stored), mode="r")["0"].dtype == dtype
    assert np.array_equal(zarr.open(str(stored), mode="r")["0"][:], volume)
    volume[..., 0, 0] = 0
    made.set_region(volume[..., :1, :1], y=slice(1), x=slice(1))
    assert np.array_equal(zarr.open(str(stored), mode="r")["0"][:], volume)
    assert np.array_equal(made.numpy(), volume)
    with pytest.raises(ValueError, match="fit"):
        made.set_region(np.full_like(volume, 70_000))

    (seen,) = (
        copick.from_croissant(str(manifest))
        .get_run("TS_001")
        .get_segmentations(user_id="me", is_instance=None, is_panoptic=None)
    )
    assert seen.segmentation_type == kind
    assert np.array_equal(seen.numpy(), volume)


def test_panoptic_channels(root: CopickRootMLC) -> None:
    made = the_run(root).new_segmentation(10.0, "cell", "7", user_id="me", is_panoptic=True)
    made.from_numpy(labels("panoptic"))
    assert np.array_equal(made.numpy(channel="label"), labels("panoptic")[0])
    made.set_region(np.full((2, 4, 4), 5), z=slice(2, 4), channel="instance")
    assert made.segments() == [("ribosome", 5)]
    with pytest.raises(ValueError, match="channels"):
        the_segmentation(root).set_region(np.zeros((1, 1, 1)), channel="label")


def test_new_picks(root: CopickRootMLC, manifest: Path, project: Path) -> None:
    picks = the_run(root).new_picks("membrane", "7", "me")
    url = "ExperimentRuns/TS_001/Picks/me_7_membrane.json"
    written = json.loads((project / url).read_bytes())
    assert (written["points"], written["user_id"], written["run_name"]) == ([], "me", "TS_001")
    empty = row(manifest, "picks", user_id="me")
    assert (empty["url"], empty["sha256"], empty["voxel_size"]) == (url, sha256(project / url), "")

    transform = np.diag([1.0, -1.0, -1.0, 1.0])[None]
    picks.meta.voxel_spacing = 10.0
    picks.from_numpy(np.array([[1.5, 2.5, 3.5]]), transform, scores=np.array([0.25]), instance_ids=np.array([4]))
    (point,) = json.loads((project / url).read_bytes())["points"]
    assert point["location"] == {"x": 1.5, "y": 2.5, "z": 3.5}
    assert point["transformation_"] == transform[0].tolist()
    assert (point["score"], point["instance_id"]) == (0.25, 4)
    full = row(manifest, "picks", user_id="me")
    assert (full["sha256"], full["voxel_size"]) == (sha256(project / url), "10.0")
    assert full["sha256"] != empty["sha256"]
    (seen,) = copick.from_croissant(str(manifest)).get_run("TS_001").get_picks(user_id="me")
    assert seen.numpy()[0].tolist() == [[1.5, 2.5, 3.5]]


def test_new_mesh(root: CopickRootMLC, manifest: Path, project: Path) -> None:
    mesh = the_run(root).new_mesh("ribosome", "7", "me")
    file = project / "ExperimentRuns/TS_001/Meshes/me_7_ribosome.glb"
    empty = row(manifest, "meshes", user_id="me")
    assert (empty["url"], empty["sha256"]) == (str(file.relative_to(project)), sha256(file))

    box = trimesh.creation.box((1, 2, 3))
    mesh.mesh = box
    mesh.store()
    assert row(manifest, "meshes", user_id="me")["sha256"] == sha256(file) != empty["sha256"]
    assert np.array_equal(vertices(trimesh.load(file)), vertices(box))
    (fresh,) = the_run(from_croissant(manifest)).get_meshes(user_id="me")
    assert np.array_equal(vertices(fresh.mesh), vertices(box))
    (seen,) = copick.from_croissant(str(manifest)).get_run("TS_001").get_meshes(user_id="me")
    assert np.array_equal(vertices(seen.mesh), vertices(box))


def test_mesh_that_nobody_touched_stays(root: CopickRootMLC) -> None:
    mesh = the_mesh(root)
    before = vertices(trimesh.load(mesh.path))
    mesh.store()
    assert np.array_equal(vertices(trimesh.load(mesh.path)), before)


def test_density_map(root: CopickRootMLC, manifest: Path, project: Path) -> None:
    made = root.new_object("proteasome", is_particle=True)
    assert made.numpy() is None
    made.from_numpy(BOX, 3.5)
    assert row(manifest, "objects", name="proteasome")["url"] == "Objects/proteasome.zarr"
    store = zarr.open(str(project / "Objects/proteasome.zarr"), mode="r")
    assert store.attrs["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] == [3.5] * 3
    made.set_region(np.zeros((1, 4, 4)), z=slice(3, 4))
    expected = BOX * (np.arange(4) < 3)[:, None, None]
    assert np.array_equal(store["0"][:], expected)
    assert np.array_equal(made.numpy(z=slice(2, 4)), expected[2:])
    assert np.array_equal(copick.from_croissant(str(manifest)).get_object("proteasome").numpy(), expected)

    made.delete()
    assert not rows(manifest, "objects", name="proteasome")
    assert not (project / "Objects/proteasome.zarr").exists()
    assert root.get_object("proteasome") is made, "the definition stays"
    assert made.zarr() is None


def test_only_particles_have_density_maps(root: CopickRootMLC) -> None:
    membrane = root.get_object("membrane")
    assert membrane.zarr() is None
    with pytest.raises(ValueError, match="not a particle"):
        membrane.from_numpy(BOX, 1.0)
    with pytest.raises(FileNotFoundError, match="no density map"):
        root.new_object("proteasome", is_particle=True).set_region(BOX)


def test_copick_sees_the_same(root: CopickRootMLC, manifest: Path) -> None:
    run = root.new_run("TS_9")
    tomogram = run.new_voxel_spacing(10.0).new_tomogram("wbp")
    tomogram.from_numpy(BOX, levels=1)
    zarr.group(store=tomogram.new_features("id").zarr()).create_dataset("0", data=BOX)
    run.new_picks("ribosome", "0", "tool").from_numpy(np.eye(3))
    for kind, flags in KINDS.items():
        made = run.new_segmentation(10.0, "ribosome", "1", user_id="me", **flags)
        made.from_numpy(labels(kind))
    the_tomogram(root, "denoised").delete()
    root.delete_run("TS_002")
    assert names(root) == names(from_croissant(manifest))
    assert inventory(root) == inventory(copick.from_croissant(str(manifest)))
    check_tables(manifest)


NEW: dict[str, tuple[Callable[[CopickRootMLC, bool], Any], Callable[[CopickRootMLC], list[Any]]]] = {
    "run": (lambda root, ok: root.new_run("TS_001", ok), lambda root: root.runs),
    "voxel spacing": (
        lambda root, ok: the_run(root).new_voxel_spacing(10.0004, ok),
        lambda root: the_run(root).voxel_spacings,
    ),
    "tomogram": (lambda root, ok: the_spacing(root).new_tomogram("wbp", ok), lambda root: the_spacing(root).tomograms),
    "features": (
        lambda root, ok: the_tomogram(root).new_features("gradient", ok),
        lambda root: the_tomogram(root).features,
    ),
    "picks": (lambda root, ok: the_run(root).new_picks("ribosome", "1", "demo", ok), lambda root: the_run(root).picks),
    "mesh": (lambda root, ok: the_run(root).new_mesh("membrane", "1", "demo", ok), lambda root: the_run(root).meshes),
    "segmentation": (
        lambda root, ok: the_run(root).new_segmentation(10, "membrane", "1", False, "demo", ok),
        lambda root: the_run(root).segmentations,
    ),
    "object": (lambda root, ok: root.new_object("ribosome", True, exist_ok=ok), lambda root: root.pickable_objects),
}


@pytest.mark.parametrize("kind", NEW)
def test_what_exists_is_not_made_again(root: CopickRootMLC, manifest: Path, project: Path, kind: str) -> None:
    make, listed = NEW[kind]
    before = tree(project)
    with pytest.raises(ValueError, match="already"):
        make(root, False)
    known = listed(from_croissant(manifest))
    assert len(listed(root)) == len(known), "nothing was added to the list, and nothing fell out of it"
    assert make(root, True) in listed(root)
    assert len(listed(root)) == len(known)
    assert {path for path in differences(before, tree(project)) if not path.startswith("Croissant/")} == set()


def test_a_user_is_needed(root: CopickRootMLC, project: Path) -> None:
    root.config.user_id = None
    before = tree(project)
    run = the_run(root)
    for make in (
        lambda: run.new_picks("ribosome", "7"),
        lambda: run.new_mesh("ribosome", "7"),
        lambda: run.new_segmentation(10.0, "ribosome", "7"),
    ):
        with pytest.raises(ValueError, match="User ID"):
            make()
    for make in (
        lambda: run.new_picks("unknown", "7", "me"),
        lambda: run.new_mesh("unknown", "7", "me"),
        lambda: run.new_segmentation(10.0, "unknown", "7", user_id="me"),
    ):
        with pytest.raises(ValueError, match="unknown"):
            make()
    assert tree(project) == before


# --- deleting ---------------------------------------------------------------------------------------------

SPACING = "ExperimentRuns/TS_001/VoxelSpacing10.000"
DELETE: dict[str, tuple[Callable[[CopickRootMLC], None], list[str], list[str]]] = {
    "run": (
        lambda root: root.delete_run("TS_001"),
        ["ExperimentRuns/TS_001/"],
        [
            "runs",
            "voxel_spacings",
            "tomograms",
            "features",
            "picks",
            "meshes",
            "segmentations",
            "instance_segmentations",
            "panoptic_segmentations",
        ],
    ),
    "run itself": (lambda root: the_run(root, "empty").delete(), ["ExperimentRuns/empty/"], ["runs"]),
    "voxel spacing": (
        lambda root: the_run(root).delete_voxel_spacings(10),
        [f"{SPACING}/"],
        ["voxel_spacings", "tomograms", "features"],
    ),
    "voxel spacing itself": (
        lambda root: the_spacing(root).delete(),
        [f"{SPACING}/"],
        ["voxel_spacings", "tomograms", "features"],
    ),
    "tomogram": (
        lambda root: the_tomogram(root).delete(),
        [f"{SPACING}/wbp.zarr/", f"{SPACING}/wbp_gradient_features.zarr/"],
        ["tomograms", "features"],
    ),
    "tomograms of a type": (
        lambda root: the_spacing(root).delete_tomograms("denoised"),
        [f"{SPACING}/denoised.zarr/"],
        ["tomograms"],
    ),
    "features": (
        lambda root: the_tomogram(root).features[0].delete(),
        [f"{SPACING}/wbp_gradient_features.zarr/"],
        ["features"],
    ),
    "picks": (
        lambda root: the_picks(root).delete(),
        ["ExperimentRuns/TS_001/Picks/demo_1_ribosome.json"],
        ["picks"],
    ),
    "all picks": (lambda root: the_run(root).delete_picks(), ["ExperimentRuns/TS_001/Picks/"], ["picks"]),
    "mesh": (lambda root: the_mesh(root).delete(), ["ExperimentRuns/TS_001/Meshes/"], ["meshes"]),
    "meshes of an object": (
        lambda root: the_run(root).delete_meshes("membrane"),
        ["ExperimentRuns/TS_001/Meshes/"],
        ["meshes"],
    ),
    "binary segmentation": (
        lambda root: the_segmentation(root).delete(),
        ["ExperimentRuns/TS_001/Segmentations/10.000_demo_1_membrane.zarr/"],
        ["segmentations"],
    ),
    "segmentations without a type": (
        lambda root: the_run(root).delete_segmentations(),
        ["ExperimentRuns/TS_001/Segmentations/"],
        ["segmentations"],
    ),
    "instance segmentations": (
        lambda root: the_run(root).delete_segmentations(is_instance=True),
        ["ExperimentRuns/TS_001/InstanceSegmentations/"],
        ["instance_segmentations"],
    ),
    "panoptic segmentation": (
        lambda root: the_segmentation(root, "panoptic").delete(),
        ["ExperimentRuns/TS_001/PanopticSegmentations/"],
        ["panoptic_segmentations"],
    ),
    "density map": (lambda root: root.get_object("ribosome").delete(), ["Objects/ribosome.zarr/"], ["objects"]),
}


@pytest.mark.parametrize("what", DELETE)
def test_delete(root: CopickRootMLC, manifest: Path, project: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    delete, places, tables = DELETE[what]
    before, listed = tree(project), names(root)
    assert all(_lying_in(manifest, name, places) for name in tables)
    with commits(monkeypatch) as made:
        delete(root)
    assert len(made) == 1, "all in one commit"

    after = tree(project)
    changed = {path for path in differences(before, after) if not path.startswith("Croissant/")}
    assert changed == {path for path in before if path.startswith(tuple(places))}
    assert not changed & after.keys()
    assert not any(_lying_in(manifest, name, places) for name in tables)
    assert {path for path in differences(before, after) if path.endswith(".csv")} == {
        f"Croissant/{name}.csv" for name in tables
    }
    assert names(root) == names(from_croissant(manifest)) != listed
    check_tables(manifest)


def _lying_in(manifest: Path, name: str, places: list[str]) -> list[dict[str, str]]:
    """The rows of a table for something below one of these places."""

    def place(line: dict[str, str]) -> str:
        if name == "runs":
            return f"ExperimentRuns/{line['name']}/"
        if name == "voxel_spacings":
            return f"ExperimentRuns/{line['run']}/VoxelSpacing{float(line['voxel_size']):.3f}/"
        return f"{line['url']}/"

    return [line for line in table(manifest, name) if place(line).startswith(tuple(places))]


def test_deleting_nothing(root: CopickRootMLC, project: Path) -> None:
    before = tree(project)
    root.delete_run("no such run")
    the_run(root).delete_voxel_spacings(3.0)
    the_spacing(root).delete_tomograms("no such type")
    the_run(root).delete_picks(user_id="nobody")
    the_run(root).delete_segmentations(voxel_size=3)
    assert tree(project) == before


# --- rows whose data is elsewhere -------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory beside the project."""
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    return directory


def canonical(name: str) -> str:
    """The URL of the artifact of TS_001 in a table that these tests move about."""
    run = "ExperimentRuns/TS_001"
    return {
        "tomograms": f"{run}/VoxelSpacing10.000/wbp.zarr",
        "features": f"{run}/VoxelSpacing10.000/wbp_gradient_features.zarr",
        "picks": f"{run}/Picks/demo_1_ribosome.json",
        "meshes": f"{run}/Meshes/demo_1_membrane.glb",
        "segmentations": f"{run}/Segmentations/10.000_demo_1_all-multilabel.zarr",
        "instance_segmentations": f"{run}/InstanceSegmentations/10.000_demo_1_ribosome.zarr",
        "panoptic_segmentations": f"{run}/PanopticSegmentations/10.000_demo_1_scene.zarr",
    }[name]


def move(manifest: Path, name: str, place: Path, **portal: str) -> None:
    """Move the data of an artifact to another place, which its row then names."""
    project = manifest.parent.parent
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(project / canonical(name), place)
    inside = place.is_relative_to(project)
    url = str(place.relative_to(project)) if inside else str(place)

    def change(line: dict[str, str]) -> None:
        if line["url"] == canonical(name):
            line.update(url=url, **portal)

    rewrite(manifest, name, change)


def test_store_picks_that_lie_elsewhere(manifest: Path, project: Path, elsewhere: Path) -> None:
    move(manifest, "picks", elsewhere / "10.json", portal_annotation_id="10", portal_object_name="cytosolic ribosome")
    source = tree(elsewhere)
    picks = the_picks(from_croissant(manifest))
    assert picks.path == str(elsewhere / "10.json")
    points = picks.points
    assert len(points) == 8

    picks.points = points[:3]
    picks.store()
    stored = project / canonical("picks")
    found = row(manifest, "picks", run="TS_001", url=canonical("picks"))
    assert (found["portal_annotation_id"], found["portal_object_name"]) == ("10", "cytosolic ribosome")
    assert (found["sha256"], found["voxel_size"]) == (sha256(stored), "10.0")
    assert len(json.loads(stored.read_bytes())["points"]) == 3
    assert tree(elsewhere) == source
    assert picks.path == str(stored)


def test_store_mesh_that_lies_elsewhere(manifest: Path, project: Path, elsewhere: Path) -> None:
    move(manifest, "meshes", elsewhere / "a.glb")
    source = tree(elsewhere)
    mesh = the_mesh(from_croissant(manifest))
    before = vertices(mesh.mesh)
    mesh.store()
    assert row(manifest, "meshes", run="TS_001")["url"] == canonical("meshes")
    assert np.array_equal(vertices(trimesh.load(mesh.path)), before)
    assert tree(elsewhere) == source


@pytest.mark.parametrize("flat", [False, True], ids=["nested chunks", "flat chunks"])
@pytest.mark.parametrize("whole", [False, True], ids=["set_region", "from_numpy"])
@pytest.mark.parametrize(
    ("name", "get", "portal"),
    [
        ("tomograms", the_tomogram, {"portal_tomogram_id": "55", "portal_tomo_type": "raw"}),
        ("segmentations", lambda root: the_segmentation(root, "multilabel"), {"portal_annotation_id": "5"}),
    ],
    ids=["tomogram", "segmentation"],
)
def test_write_to_a_volume_that_lies_elsewhere(
    manifest: Path,
    project: Path,
    elsewhere: Path,
    name: str,
    get: Callable[[CopickRootMLC], Any],
    portal: dict[str, str],
    *,
    whole: bool,
    flat: bool,
) -> None:
    move(manifest, name, elsewhere / "volume.zarr", **portal)
    if flat:
        shutil.rmtree(elsewhere / "volume.zarr")
        group = zarr.group(store=zarr.DirectoryStore(str(elsewhere / "volume.zarr")))
        group.create_dataset("0", data=BOX.astype(np.uint8), chunks=(2, 2, 2))
        assert (elsewhere / "volume.zarr/0/0.0.0").is_file()
    source = tree(elsewhere)
    volume = get(from_croissant(manifest))
    expected = volume.numpy()
    assert expected.any()

    with pytest.raises(Exception, match="read-only"):
        zarr.open(volume.zarr(), mode="a")["0"][:] = 0
    if whole:
        expected = BOX
        volume.from_numpy(BOX, levels=1)
    else:
        expected[0, 1, :2] = 2
        volume.set_region(np.full((1, 1, 2), 2), z=slice(0, 1), y=slice(1, 2), x=slice(2))
    assert np.array_equal(volume.numpy(), expected)
    assert np.array_equal(zarr.open(str(project / canonical(name)), mode="r")["0"][:], expected)
    assert row(manifest, name, url=canonical(name), **portal)
    assert tree(elsewhere) == source


def test_set_region_of_features_that_lie_elsewhere(manifest: Path, elsewhere: Path) -> None:
    move(manifest, "features", elsewhere / "gradient.zarr")
    source = tree(elsewhere)
    (features,) = the_tomogram(from_croissant(manifest)).features
    expected = features.numpy()
    expected[0, 0, 0, 0] = 5
    features.set_region(np.array(5), slices=(0, 0, 0, 0))
    assert np.array_equal(features.numpy(), expected)
    assert tree(elsewhere) == source
    assert row(manifest, "features", run="TS_001")["url"] == canonical("features")


PARTS: dict[str, Callable[[CopickRootMLC], Any]] = {
    "tomograms": the_tomogram,
    "features": lambda root: the_tomogram(root).features[0],
    "picks": the_picks,
    "meshes": the_mesh,
    "segmentations": lambda root: the_segmentation(root, "multilabel"),
    "instance_segmentations": lambda root: the_segmentation(root, "instance"),
    "panoptic_segmentations": lambda root: the_segmentation(root, "panoptic"),
}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("inside", [True, False])
def test_delete_what_lies_elsewhere(manifest: Path, project: Path, elsewhere: Path, name: str, *, inside: bool) -> None:
    suffix = {"picks": ".json", "meshes": ".glb"}.get(name, ".zarr")
    place = (project / "imported" if inside else elsewhere) / f"data{suffix}"
    move(manifest, name, place)
    root = from_croissant(manifest)
    PARTS[name](root).delete()
    assert place.exists() == (not inside)
    assert str(place) not in [line["url"] for line in table(manifest, name)]
    assert len(rows(manifest, name, run="TS_001")) == len(rows(manifest, name, run="TS_002")) - 1


def test_delete_run_whose_data_lies_elsewhere(manifest: Path, project: Path, elsewhere: Path) -> None:
    move(manifest, "tomograms", elsewhere / "wbp.zarr")
    move(manifest, "picks", project / "imported/picks.json")
    source = tree(elsewhere)
    from_croissant(manifest).delete_run("TS_001")
    assert tree(elsewhere) == source
    assert not (project / "imported/picks.json").exists()
    assert not (project / "ExperimentRuns/TS_001").exists()
    assert not rows(manifest, "tomograms", run="TS_001")


def test_shared_data_stays(manifest: Path, project: Path) -> None:
    """Two rows name one file; deleting one of them leaves it to the other."""

    def share(line: dict[str, str]) -> None:
        if line["run"] == "TS_001":
            line |= {"url": canonical("picks"), "sha256": ""}

    rewrite(manifest, "picks", share)
    root = from_croissant(manifest)
    the_picks(root).delete()
    assert len(the_picks(root, "template-matching").points) == 8
    assert (project / "ExperimentRuns/TS_001/Picks/demo_1_ribosome.json").is_file()


# --- batches ----------------------------------------------------------------------------------------------


def test_batch_is_one_commit(root: CopickRootMLC, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(manifest.parent)
    with commits(monkeypatch) as made:
        with root.batch() as same, same.batch():
            run = same.new_run("TS_9")
            run.new_voxel_spacing(5.0).new_tomogram("wbp").from_numpy(BOX)
            run.new_picks("ribosome", "1", "me")
            run.split = "train"
            same.delete_run("TS_002")
            the_picks(same).delete()
            assert tree(manifest.parent) == before
            assert [item.name for item in same.runs] == ["TS_001", "TS_9", "empty"], "but the root says so already"
        assert len(made) == 1
    assert row(manifest, "runs", name="TS_9")["split"] == "train"
    assert row(manifest, "tomograms", run="TS_9")
    assert row(manifest, "picks", run="TS_9")
    assert not rows(manifest, "picks", run="TS_002")
    assert names(from_croissant(manifest)) == names(root)
    check_tables(manifest)


def test_sync_commits_within_a_batch(root: CopickRootMLC, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with commits(monkeypatch) as made:
        with root.batch():
            root.new_run("one")
            root.sync()
            assert row(manifest, "runs", name="one")
            root.new_run("two")
            assert not rows(manifest, "runs", name="two")
        root.sync()
    assert len(made) == 2


def test_batch_that_changes_nothing(root: CopickRootMLC, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(project)
    with commits(monkeypatch) as made, root.batch():
        pass
    assert made == []
    assert tree(project) == before


def test_data_goes_after_the_commit(root: CopickRootMLC, manifest: Path, project: Path) -> None:
    file = project / "ExperimentRuns/TS_001/Picks/demo_1_ribosome.json"
    with root.batch():
        the_picks(root).delete()
        root.delete_run("TS_002")
        assert file.is_file()
        assert (project / "ExperimentRuns/TS_002").is_dir()
        assert the_run(root).get_picks(user_id="demo") == []
    assert not file.exists()
    assert not (project / "ExperimentRuns/TS_002").exists()


def test_made_anew_in_a_batch(root: CopickRootMLC, manifest: Path, project: Path) -> None:
    with root.batch():
        the_picks(root).delete()
        the_run(root).new_picks("ribosome", "1", "demo").from_numpy(np.ones((2, 3)))
        the_tomogram(root).delete()
        the_spacing(root).new_tomogram("wbp").from_numpy(BOX, levels=1)
        root.delete_run("TS_002")
        root.new_run("TS_002").new_mesh("membrane", "1", "demo")
    fresh = from_croissant(manifest)
    assert len(the_picks(fresh).points) == 2
    assert np.array_equal(the_tomogram(fresh).numpy(), BOX)
    assert the_tomogram(fresh).features == []
    assert [mesh.user_id for mesh in the_run(fresh, "TS_002").meshes] == ["demo"]
    assert the_run(fresh, "TS_002").picks == []
    assert sorted(path.name for path in (project / "ExperimentRuns/TS_002").iterdir()) == ["Meshes"]
    assert names(fresh) == names(root)


def test_made_and_deleted_in_a_batch(root: CopickRootMLC, manifest: Path, project: Path) -> None:
    before = tree(project)
    with root.batch():
        the_run(root).new_picks("membrane", "1", "me").delete()
        root.new_run("TS_9").delete()
    assert {path for path in differences(before, tree(project)) if not path.startswith("Croissant/")} == set()
    assert not rows(manifest, "picks", user_id="me")
    assert root.get_run("TS_9") is None


def test_batch_whose_commit_fails(
    root: CopickRootMLC, manifest: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change() -> None:
        with root.batch():
            root.new_run("TS_9")
            root.new_object("ghost", is_particle=True)
            the_run(root).new_picks("membrane", "1", "me")
            the_picks(root).delete()
            root.delete_run("TS_002")

    before, listed = tree(project), names(root)
    with full_disk(monkeypatch, manifest.parent), pytest.raises(CroissantError, match="cannot write") as raised:
        change()
    assert isinstance(raised.value, OSError)
    kept = tree(project)
    kept.pop("ExperimentRuns/TS_001/Picks/me_1_membrane.json")
    assert kept == before, "no row, and what was to be deleted is there"
    assert root.get_object("ghost") is None
    assert root.get_run("TS_9") is None
    assert names(root) == listed
    root.new_run("TS_10")
    assert [line["name"] for line in table(manifest, "runs")] == ["TS_001", "TS_002", "empty", "TS_10"]
    assert not rows(manifest, "picks", user_id="me")
    check_tables(manifest)


def test_batch_whose_body_fails(root: CopickRootMLC, manifest: Path) -> None:
    def fail() -> None:
        with root.batch():
            root.new_run("TS_9")
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        fail()
    assert row(manifest, "runs", name="TS_9"), "what was done is committed"
    assert root.get_run("TS_9") is not None


def test_batch_whose_body_and_commit_fail(root: CopickRootMLC, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        with root.batch():
            the_run(root).new_picks("membrane", "1", "me")
            the_mesh(root).delete()
            _ = 1 / 0

    listed = names(root)
    with full_disk(monkeypatch, manifest.parent), pytest.raises(ZeroDivisionError) as raised:
        fail()
    assert isinstance(raised.value.__cause__, CroissantError), "the error of the commit is chained, not masking"
    assert names(root) == listed


# --- a project that cannot be written ---------------------------------------------------------------------

WRITES: dict[str, Callable[[CopickRootMLC], Any]] = {
    "new run": lambda root: root.new_run("TS_9"),
    "ensure run": lambda root: CopickRunMLC(root, copick.models.CopickRunMeta(name="TS_9")).ensure(create=True),
    "delete run": lambda root: root.delete_run("TS_001"),
    "split": lambda root: setattr(the_run(root), "split", "test"),
    "set splits": lambda root: root.set_splits({"test": ["TS_001"]}),
    "clear splits": lambda root: root.clear_splits(),
    "new object": lambda root: root.new_object("proteasome", is_particle=True),
    "density map": lambda root: root.get_object("ribosome").from_numpy(BOX, 1.0),
    "part of density map": lambda root: root.get_object("ribosome").set_region(BOX),
    "delete density map": lambda root: root.get_object("ribosome").delete(),
    "new voxel spacing": lambda root: the_run(root).new_voxel_spacing(5.0),
    "delete voxel spacing": lambda root: the_spacing(root).delete(),
    "delete voxel spacings": lambda root: the_run(root).delete_voxel_spacings(),
    "new tomogram": lambda root: the_spacing(root).new_tomogram("ctf"),
    "tomogram": lambda root: the_tomogram(root).from_numpy(BOX),
    "part of tomogram": lambda root: the_tomogram(root).set_region(BOX, x=slice(4), y=slice(4), z=slice(4)),
    "delete tomogram": lambda root: the_tomogram(root).delete(),
    "delete tomograms": lambda root: the_spacing(root).delete_tomograms(),
    "new features": lambda root: the_tomogram(root).new_features("edges"),
    "part of features": lambda root: the_tomogram(root).features[0].set_region(np.zeros(1)),
    "delete features": lambda root: the_tomogram(root).delete_features(),
    "new picks": lambda root: the_run(root).new_picks("membrane", "1", "me"),
    "picks": lambda root: the_picks(root).from_numpy(np.zeros((1, 3))),
    "picks as they are": lambda root: the_picks(root).store(),
    "delete some picks": lambda root: the_picks(root).delete(),
    "delete picks": lambda root: the_run(root).delete_picks(),
    "new mesh": lambda root: the_run(root).new_mesh("ribosome", "1", "me"),
    "mesh": lambda root: the_mesh(root).store(),
    "delete mesh": lambda root: the_mesh(root).delete(),
    "delete meshes": lambda root: the_run(root).delete_meshes(),
    "new segmentation": lambda root: the_run(root).new_segmentation(10.0, "ribosome", "1", user_id="me"),
    "segmentation": lambda root: the_segmentation(root).from_numpy(labels("binary")),
    "part of segmentation": lambda root: the_segmentation(root).set_region(np.ones((1, 1, 1), int)),
    "delete segmentation": lambda root: the_segmentation(root).delete(),
    "delete segmentations": lambda root: the_run(root).delete_segmentations(),
}


def check_writes_are_refused(root: CopickRootMLC) -> None:
    """Every write raises a PermissionError of ours that says what to do."""
    for name, write in WRITES.items():
        with pytest.raises(PermissionError, match="overlay_root") as raised:
            write(root)
        assert isinstance(raised.value, CroissantError), name
        assert raised.value.code == "read-only", name
    assert sorted(run.name for run in root.runs) == ["TS_001", "TS_002", "empty"]
    assert len(the_run(root).picks) == 2
    assert len(the_run(root).segmentations) == 4
    assert len(the_spacing(root).tomograms) == 2


@pytest.mark.parametrize(
    ("base", "options"),
    [("http://127.0.0.1:9/x", {}), ("s3://no-such-bucket/x", {"anon": True})],
    ids=["http", "anonymous access"],
)
def test_remote_base_that_cannot_be_written(manifest: Path, tmp_path: Path, base: str, options: dict[str, Any]) -> None:
    before = tree(tmp_path)
    root = from_croissant(manifest, croissant_base_url=base, static_fs_args=options)
    assert root.mode == "A"
    check_writes_are_refused(root)
    assert tree(tmp_path) == before


def test_base_that_does_not_exist(manifest: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    check_writes_are_refused(from_croissant(manifest, croissant_base_url=tmp_path / "nowhere"))
    assert tree(tmp_path) == before
    assert not (tmp_path / "nowhere").exists()


def test_directory_that_cannot_be_written(project: Path) -> None:
    """As another user, since root may write everywhere; in a process of its own, for there is no way back."""
    with tempfile.TemporaryDirectory() as directory:  # tmp_path is closed to other users
        copy = Path(directory, "project")
        shutil.copytree(project, copy)
        document = json.loads((copy / "Croissant/metadata.json").read_bytes())
        del document["copick:baseUrl"]
        (copy / "Croissant/metadata.json").write_text(json.dumps(document))
        before = tree(copy)
        Path(directory).chmod(0o755)
        directories = [copy, *(path for path in copy.rglob("*") if path.is_dir())]
        for path in directories:
            path.chmod(0o555)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "tests.test_mode_a", str(copy / "Croissant/metadata.json")],
                cwd=Path(__file__).parent.parent,
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            for path in directories:
                path.chmod(0o755)
        assert done.returncode == 0, done.stderr
        assert tree(copy) == before


if __name__ == "__main__":
    names(from_croissant(sys.argv[1]))  # imports what the other user may not be able to
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    check_writes_are_refused(from_croissant(sys.argv[1]))
