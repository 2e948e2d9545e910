"""Mode B: what is written goes to an overlay; manifest and base stay as they are, byte for byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import copick
import numpy as np
import pytest
import trimesh
import zarr

from copick_mlc import CopickRootMLC, CroissantError, from_croissant
from tests.projects import tree
from tests.test_mode_a import (
    BOX,
    KINDS,
    NEW,
    PARTS,
    canonical,
    contents,
    differences,
    labels,
    move,
    names,
    the_mesh,
    the_picks,
    the_run,
    the_segmentation,
    the_spacing,
    the_tomogram,
    vertices,
)


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    return tmp_path / "overlay"


@pytest.fixture(autouse=True)
def _nothing_published_changes(project: Path) -> Iterator[None]:
    """Whatever a test of this module does, manifest and base stay as they are."""
    before = tree(project)
    yield
    assert tree(project) == before


@pytest.fixture
def root(overlay_root: CopickRootMLC) -> CopickRootMLC:
    """The project opened in Mode B; the overlay does not exist yet."""
    return overlay_root


def reopened(root: CopickRootMLC) -> CopickRootMLC:
    return from_croissant(root.config.croissant_url, overlay_root=root.config.overlay_root)


def copicks(root: CopickRootMLC) -> Any:
    """The project with its overlay, as copick opens it."""
    return copick.from_croissant(
        root.config.croissant_url, overlay_root=root.config.overlay_root, overlay_fs_args={"auto_mkdir": True}
    )


def write_everything(root: Any) -> None:
    """Make one thing of every kind, with copick's API: in a published run, and in a new one."""
    for run in (root.get_run("TS_001"), root.new_run("mine")):
        published = run.name == "TS_001"
        run.new_voxel_spacing(5.0)
        spacing = run.get_voxel_spacing(10.0) if published else run.new_voxel_spacing(10.0)
        if published:
            features = spacing.get_tomograms("wbp")[0].new_features("edges")
            zarr.group(store=features.zarr()).create_dataset("0", data=BOX)
        tomogram = spacing.new_tomogram("ctf")
        tomogram.from_numpy(BOX, levels=1)
        zarr.group(store=tomogram.new_features("id").zarr()).create_dataset("0", data=BOX)
        run.new_picks("ribosome", "7", "me").from_numpy(np.eye(3))
        mesh = run.new_mesh("ribosome", "7", "me")
        mesh.mesh = trimesh.creation.box((1, 2, 3))
        mesh.store()
        for kind, flags in KINDS.items():
            run.new_segmentation(10.0, "ribosome", "7", user_id="me", **flags).from_numpy(labels(kind))


# --- new things -------------------------------------------------------------------------------------------


def test_opening_makes_no_overlay(root: CopickRootMLC, overlay: Path) -> None:
    assert root.mode == "B"
    assert root.overlay_base_url == str(overlay)
    assert not root.static_is_overlay
    names(root)
    assert not overlay.exists()


def test_what_is_made_goes_to_the_overlay(root: CopickRootMLC, overlay: Path) -> None:
    write_everything(root)
    files = {path.partition("/")[2] for path in tree(overlay)}
    assert {
        "TS_001/Picks/me_7_ribosome.json",
        "TS_001/Meshes/me_7_ribosome.glb",
        "TS_001/VoxelSpacing5.000/.meta",
        "TS_001/VoxelSpacing10.000/ctf.zarr/0/0/0/0",
        "TS_001/VoxelSpacing10.000/ctf_id_features.zarr/.zgroup",
        "TS_001/VoxelSpacing10.000/wbp_edges_features.zarr/.zgroup",
        "mine/.meta",
        "mine/Segmentations/10.000_me_7_ribosome.zarr/.zattrs",
        "mine/Segmentations/10.000_me_7_ribosome-multilabel.zarr/.zattrs",
        "mine/InstanceSegmentations/10.000_me_7_ribosome.zarr/.zattrs",
        "mine/PanopticSegmentations/10.000_me_7_ribosome.zarr/.zattrs",
    } <= files
    assert not [path for path in tree(overlay) if path.startswith("Croissant")]

    ours = names(root)
    assert set(ours["runs"]) == {"TS_001", "TS_002", "empty", "mine"}
    assert len(ours["runs"]["mine"]["segmentations"]) == 4
    assert len(ours["runs"]["TS_001"]["segmentations"]) == 8
    assert ours == names(reopened(root)) == names(copicks(root))
    assert contents(root, "mine") == contents(reopened(root), "mine") == contents(copicks(root), "mine")


def test_what_copick_wrote_is_found(root: CopickRootMLC) -> None:
    theirs = copicks(root)
    write_everything(theirs)
    root.refresh()
    theirs = copicks(root)
    assert names(root) == names(theirs)
    assert contents(root, "mine") == contents(theirs, "mine")
    assert not the_run(root, "mine").picks[0].read_only


def test_change_and_delete_in_the_overlay(root: CopickRootMLC, overlay: Path) -> None:
    write_everything(root)
    run = the_run(reopened(root))
    (picks,) = run.get_picks(user_id="me")
    picks.from_numpy(np.zeros((4, 3)))
    assert len(json.loads((overlay / "ExperimentRuns/TS_001/Picks/me_7_ribosome.json").read_bytes())["points"]) == 4
    (segmentation,) = run.get_segmentations(user_id="me", is_multilabel=False)
    segmentation.set_region(np.zeros((1, 4, 4), int), z=slice(3, 4))
    stored = zarr.open(str(overlay / "ExperimentRuns/TS_001" / "Segmentations" / segmentation.filename), mode="r")
    assert not stored["0"][3].any()

    run.delete_picks(user_id="me")
    run.delete_meshes(user_id="me")
    run.delete_segmentations(user_id="me", is_instance=None, is_panoptic=None)
    run.delete_voxel_spacings(5.0)
    (tomogram,) = the_spacing(reopened(root)).get_tomograms("ctf")
    tomogram.delete()
    the_tomogram(reopened(root)).features[1].delete()
    assert {path.split("/")[1] for path in tree(overlay)} == {"mine"}
    root.delete_run("mine")
    assert tree(overlay) == {}
    assert names(reopened(root)) == names(from_croissant(root.config.croissant_url))


def test_overlay_in_memory(manifest: Path) -> None:
    """Any fsspec file system can be the overlay."""
    import fsspec

    memory = fsspec.filesystem("memory")
    location = f"memory://{manifest.parent.parent.parent.name}/overlay"
    root = from_croissant(manifest, overlay_root=location)
    try:
        write_everything(root)
        root.new_object("proteasome", is_particle=True).from_numpy(BOX, 1.0)
        assert np.array_equal(root.get_object("proteasome").numpy(), BOX)
        assert names(root)["runs"] == names(reopened(root))["runs"]
        assert contents(root, "mine") == contents(reopened(root), "mine")
        assert memory.exists(f"{location}/ExperimentRuns/mine/Picks/me_7_ribosome.json")
        root.reconnect()
        assert [run.name for run in root.runs] == ["TS_001", "TS_002", "empty", "mine"]
        root.delete_run("mine")
        assert not memory.exists(f"{location}/ExperimentRuns/mine")
    finally:
        memory.rm(location, recursive=True)


def test_overlay_that_cannot_be_made(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    root = from_croissant(manifest, overlay_root=tmp_path / "file" / "overlay")
    assert len(the_run(root).picks) == 2
    with pytest.raises(PermissionError, match="overlay_root"):
        the_run(root).new_picks("ribosome", "7", "me")


# --- the same key in both ---------------------------------------------------------------------------------


def test_overlay_shadows_what_is_published(root: CopickRootMLC, manifest: Path, project: Path, overlay: Path) -> None:
    for name in PARTS:
        place = overlay / canonical(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (project / canonical(name)).is_dir() else shutil.copy)(project / canonical(name), place)
    shutil.copytree(project / "Objects/ribosome.zarr", overlay / "Objects/ribosome.zarr")
    assert names(root) == names(from_croissant(manifest)), "each is there once"

    for get in PARTS.values():
        assert not get(root).read_only
        assert Path(get(root).path).is_relative_to(overlay)
    assert the_picks(root, "template-matching").read_only
    the_picks(root).from_numpy(np.zeros((1, 3)))
    the_tomogram(root).from_numpy(BOX, levels=1)
    the_segmentation(root, "instance").from_numpy(labels("instance"))
    mesh = the_mesh(root)
    mesh.mesh = trimesh.creation.box((1, 2, 3))
    mesh.store()
    density = root.get_object("ribosome")
    assert not density.read_only
    density.from_numpy(BOX, 1.0)

    fresh = reopened(root)
    assert the_picks(fresh).numpy()[0].tolist() == [[0, 0, 0]]
    assert np.array_equal(the_tomogram(fresh).numpy(), BOX)
    assert np.array_equal(the_segmentation(fresh, "instance").numpy(), labels("instance"))
    assert np.array_equal(vertices(the_mesh(fresh).mesh), vertices(trimesh.creation.box((1, 2, 3))))
    assert np.array_equal(fresh.get_object("ribosome").numpy(), BOX)

    the_picks(fresh).delete()
    density.delete()
    assert len(the_picks(reopened(root)).points) == 8, "the published one comes to light again"
    assert reopened(root).get_object("ribosome").numpy().shape == (12, 12, 12)


def test_voxel_size_is_compared_by_its_form(root: CopickRootMLC, overlay: Path) -> None:
    (overlay / "ExperimentRuns/TS_001/VoxelSpacing10.000/ctf.zarr").mkdir(parents=True)
    assert [spacing.voxel_size for spacing in the_run(root).voxel_spacings] == [10.0]
    assert sorted(tomogram.tomo_type for tomogram in the_spacing(root).tomograms) == ["ctf", "denoised", "wbp"]


def test_run_of_which_a_part_is_in_the_overlay(root: CopickRootMLC, overlay: Path) -> None:
    the_run(root).new_picks("ribosome", "7", "me")
    assert [run.name for run in reopened(root).runs] == ["TS_001", "TS_002", "empty"]
    assert root.get_run("mine") is None
    (overlay / "ExperimentRuns/mine").mkdir()
    assert root.get_run("mine") is not None


# --- what is published is read-only -----------------------------------------------------------------------

REFUSED: dict[str, Callable[[CopickRootMLC], Any]] = {
    "store picks": lambda root: the_picks(root).store(),
    "picks": lambda root: the_picks(root).from_numpy(np.zeros((1, 3))),
    "delete some picks": lambda root: the_picks(root).delete(),
    "delete picks": lambda root: the_run(root).delete_picks(),
    "store mesh": lambda root: the_mesh(root).store(),
    "delete mesh": lambda root: the_mesh(root).delete(),
    "delete meshes": lambda root: the_run(root).delete_meshes(),
    "tomogram": lambda root: the_tomogram(root).from_numpy(BOX),
    "part of tomogram": lambda root: the_tomogram(root).set_region(np.zeros((1, 1, 1)), x=slice(1)),
    "delete tomogram": lambda root: the_tomogram(root).delete(),
    "delete tomograms": lambda root: the_spacing(root).delete_tomograms(),
    "part of features": lambda root: the_tomogram(root).features[0].set_region(np.zeros(1)),
    "delete features": lambda root: the_tomogram(root).delete_features(),
    "segmentation": lambda root: the_segmentation(root).from_numpy(labels("binary")),
    "part of segmentation": lambda root: the_segmentation(root).set_region(np.ones((1, 1, 1), int), x=slice(1)),
    "delete segmentation": lambda root: the_segmentation(root, "panoptic").delete(),
    "delete segmentations": lambda root: the_run(root).delete_segmentations(),
    "density map": lambda root: root.get_object("ribosome").from_numpy(BOX, 1.0),
    "part of density map": lambda root: root.get_object("ribosome").set_region(np.zeros((1, 1, 1)), x=slice(1)),
    "delete density map": lambda root: root.get_object("ribosome").delete(),
    "delete voxel spacing": lambda root: the_spacing(root).delete(),
    "delete voxel spacings": lambda root: the_run(root).delete_voxel_spacings(),
    "delete run": lambda root: root.delete_run("TS_001"),
    "delete run itself": lambda root: the_run(root).delete(),
    "split": lambda root: setattr(the_run(root), "split", "test"),
    "set splits": lambda root: root.set_splits({"test": ["TS_001"]}),
    "clear splits": lambda root: root.clear_splits(),
}


def test_published_things_are_read_only(root: CopickRootMLC, overlay: Path) -> None:
    write_everything(root)
    before, listed = tree(overlay), names(root)
    assert all(get(root).read_only for get in PARTS.values())
    assert root.get_object("ribosome").read_only
    for name, write in REFUSED.items():
        with pytest.raises(PermissionError) as raised:
            write(root)
        assert isinstance(raised.value, CroissantError), name
        assert raised.value.code == "read-only", name
    assert tree(overlay) == before, "nor was anything in the overlay touched before the refusal"
    assert names(root) == listed


@pytest.mark.parametrize("kind", [kind for kind in NEW if kind not in ("object", "run", "voxel spacing")])
def test_published_things_are_not_made_again(root: CopickRootMLC, overlay: Path, kind: str) -> None:
    make, listed = NEW[kind]
    with pytest.raises(ValueError, match="already"):
        make(root, False)
    assert make(root, True) in listed(root)
    assert make(root, True).read_only
    assert not overlay.exists()


def test_store_of_a_published_volume_cannot_be_written(root: CopickRootMLC) -> None:
    store = zarr.open(the_tomogram(root).zarr(), mode="r")
    assert store["0"].shape == (48, 64, 64)
    with pytest.raises(zarr.errors.ReadOnlyError):
        the_tomogram(root).zarr()[".zattrs"] = b"{}"


def test_published_data_that_lies_elsewhere(manifest: Path, project: Path, tmp_path: Path) -> None:
    """Entities read through their row's URL in this mode too."""
    expected = contents(from_croissant(manifest), "TS_001")
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    document = json.loads((copy / "Croissant/metadata.json").read_bytes())
    del document["copick:baseUrl"]
    (copy / "Croissant/metadata.json").write_text(json.dumps(document))
    for name in PARTS:
        move(copy / "Croissant/metadata.json", name, tmp_path / "elsewhere" / Path(canonical(name)).name)
    root = from_croissant(copy / "Croissant/metadata.json", overlay_root=tmp_path / "overlay")
    assert contents(root, "TS_001") == expected
    assert Path(the_picks(root).path).parent == tmp_path / "elsewhere"


# --- the overlay at the base URL --------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{}", "{}/", "file://{}", "{}/../project"])
def test_overlay_at_the_base_url(manifest: Path, project: Path, form: str) -> None:
    root = from_croissant(manifest, overlay_root=form.format(project))
    assert root.mode == "B"
    assert root.static_is_overlay
    listed = names(root)
    expected = names(from_croissant(manifest))
    for run in listed["runs"].values():
        run["spacings"].pop("7.840", None)  # has no row, but is there
    assert listed == expected
    assert [len(run.picks) for run in root.runs] == [2, 2, 0]
    assert [len(run.segmentations) for run in root.runs] == [4, 4, 0]
    assert len(the_tomogram(root).features) == 1


def test_mode_a_is_its_own_overlay(manifest: Path) -> None:
    root = from_croissant(manifest)
    assert (root.mode, root.static_is_overlay, root.overlay_base_url) == ("A", True, None)


# --- pickable objects -------------------------------------------------------------------------------------


def test_new_object_stays_with_the_user(root: CopickRootMLC, overlay: Path) -> None:
    made = root.new_object("proteasome", is_particle=True, radius=60.0)
    assert made.zarr() is None
    assert not overlay.exists()
    made.from_numpy(BOX, 1.0)
    assert (overlay / "Objects/proteasome.zarr/.zattrs").is_file()
    root.new_object("ribosome", is_particle=True, radius=1.0, exist_ok=True)
    root.refresh()
    assert root.get_object("proteasome").radius == 60.0, "known to this root for as long as it lives"
    assert root.get_object("ribosome").radius == 1.0
    assert np.array_equal(root.get_object("proteasome").numpy(), BOX)
    the_run(root).new_picks("proteasome", "1", "me")
    assert reopened(root).get_object("proteasome") is None
    assert reopened(root).get_object("ribosome").radius == 45.0


# --- filaments --------------------------------------------------------------------------------------------


def test_filaments_go_to_the_overlay(root: CopickRootMLC, overlay: Path) -> None:
    root.new_object("microtubule", is_particle=True, filament={})
    filaments = the_run(root).new_filaments("microtubule", "7", "me")
    filaments.from_control_points([np.array([[0.0, 0.0, 0.0], [50.0, 10.0, 0.0], [100.0, 0.0, 0.0]])], step=10.0)
    file = overlay / "ExperimentRuns/TS_001/Filaments/me_7_microtubule.json"
    written = json.loads(file.read_bytes())
    assert (written["run_name"], len(written["filaments"])) == ("TS_001", 1)
    assert not filaments.read_only
    with pytest.raises(ValueError, match="already exist"):
        the_run(root).new_filaments("microtubule", "7", "me")

    (fresh,) = the_run(reopened(root)).filaments
    assert fresh.instance_ids().tolist() == [1]
    (seen,) = copicks(root).get_run("TS_001").filaments
    assert np.array_equal(seen.numpy()[0], filaments.numpy()[0])
    assert np.array_equal(fresh.numpy()[0], filaments.numpy()[0])
    the_run(root).delete_filaments("microtubule")
    assert not file.exists()
    assert the_run(reopened(root)).filaments == []


def test_filaments_that_copick_wrote(root: CopickRootMLC) -> None:
    theirs = copicks(root)
    theirs.new_object("microtubule", is_particle=True, filament={})
    made = theirs.get_run("TS_001").new_filaments("microtubule", "7", "me")
    made.from_numpy([np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])])
    (found,) = the_run(root).get_filaments(user_id="me")
    assert found.numpy()[0].tolist() == [[0, 0, 0], [1, 2, 3]]


def test_no_filaments_where_no_table_lists_them(manifest: Path) -> None:
    root = from_croissant(manifest)
    with pytest.raises(PermissionError, match="overlay_root") as raised:
        the_run(root).new_filaments("ribosome", "7", "me")
    assert isinstance(raised.value, CroissantError)
    assert the_run(root).filaments == []


def test_batches_work_too(root: CopickRootMLC, overlay: Path) -> None:
    with root.batch():
        the_run(root).new_picks("ribosome", "7", "me")
        the_run(root).delete_picks(user_id="me")
    root.sync()
    assert not differences(tree(overlay), {})


def test_a_name_that_an_overlay_would_hide(overlay_root: CopickRootMLC) -> None:
    with pytest.raises(ValueError, match="an overlay lists") as caught:
        overlay_root.new_run(".mine")
    assert isinstance(caught.value, CroissantError)
    assert overlay_root.get_run(".mine") is None
