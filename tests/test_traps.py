"""What goes wrong in copick's base classes, or easily could here, and does not."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr
from fsspec.implementations.local import LocalFileSystem

from copick_mlc import CopickConfigMLCroissant, CopickRootMLC, CopickRunMLC, CroissantError, _storage, from_croissant
from copick_mlc.errors import CroissantWarning, DataError, StorageError, UsageError
from copick_mlc.index import PicksRow
from tests.projects import inventory, tree
from tests.test_mode_a import (
    BOX,
    WRITES,
    check_tables,
    commits,
    full_disk,
    labels,
    names,
    row,
    rows,
    the_mesh,
    the_picks,
    the_run,
    the_segmentation,
    the_spacing,
    the_tomogram,
)


@pytest.fixture(params=["A", "B"])
def either(request: pytest.FixtureRequest, manifest: Path, tmp_path: Path) -> CopickRootMLC:
    """The project, opened in either mode."""
    return from_croissant(manifest, overlay_root=None if request.param == "A" else tmp_path / "overlay")


def reopened(root: CopickRootMLC) -> CopickRootMLC:
    return from_croissant(root.config.croissant_url, overlay_root=root.config.overlay_root)


# --- deleting all, without having listed first ------------------------------------------------------------


def crowd(root: CopickRootMLC) -> CopickRunMLC:
    """A run with four of everything."""
    with root.batch():
        run = root.new_run("crowd")
        for size in (5.0, 7.84, 10.0, 13.48):
            spacing = run.new_voxel_spacing(size)
        for number in range(4):
            features = spacing.new_tomogram(f"type{number}")
            run.new_picks("ribosome", "1", f"user{number}")
            run.new_mesh("ribosome", "1", f"user{number}")
            run.new_segmentation(10.0, "ribosome", "1", user_id=f"user{number}")
            run.new_segmentation(10.0, "ribosome", "1", user_id=f"user{number}", is_instance=True)
        for number in range(4):
            features.new_features(f"kind{number}")
    return run


def last_spacing(run: CopickRunMLC) -> Any:
    return run.get_voxel_spacing(13.48)


CROWDS: dict[str, tuple[Callable[[CopickRunMLC], Any], Callable[[CopickRunMLC], list[Any]], int]] = {
    "voxel spacings": (lambda run: run.delete_voxel_spacings(), lambda run: run.voxel_spacings, 4),
    "tomograms": (lambda run: last_spacing(run).delete_tomograms(), lambda run: last_spacing(run).tomograms, 4),
    "features": (
        lambda run: last_spacing(run).get_tomograms("type3")[0].delete_features(),
        lambda run: last_spacing(run).get_tomograms("type3")[0].features,
        4,
    ),
    "picks": (lambda run: run.delete_picks(), lambda run: run.picks, 4),
    "meshes": (lambda run: run.delete_meshes(), lambda run: run.meshes, 4),
    "segmentations": (
        lambda run: run.delete_segmentations(is_instance=None, is_panoptic=None),
        lambda run: run.segmentations,
        8,
    ),
}


@pytest.mark.parametrize("listed_before", [True, False])
def test_delete_without_arguments_deletes_all(either: CopickRootMLC, *, listed_before: bool) -> None:
    crowd(either)
    run = the_run(reopened(either), "crowd")
    for delete, listed, count in reversed(CROWDS.values()):
        if listed_before:
            assert len(listed(run)) == count
        delete(run)
        assert listed(run) == []
        assert listed(the_run(reopened(either), "crowd")) == []


def test_delete_one_size_without_having_listed(either: CopickRootMLC) -> None:
    crowd(either)
    the_run(reopened(either), "crowd").delete_voxel_spacings(7.84)
    left = the_run(reopened(either), "crowd").voxel_spacings
    assert sorted(spacing.voxel_size for spacing in left) == [5.0, 10.0, 13.48]


def test_delete_run_without_having_listed(either: CopickRootMLC) -> None:
    crowd(either)
    root = reopened(either)
    root.delete_run("crowd")
    assert root.get_run("crowd") is None
    assert "crowd" not in [run.name for run in root.runs]
    assert reopened(either).get_run("crowd") is None


def test_deleted_artifacts_leave_the_list(either: CopickRootMLC) -> None:
    run = crowd(either)
    for artifact in (run.picks[1], run.meshes[1], run.segmentations[1], last_spacing(run).tomograms[1]):
        artifact.delete()
    counts = len(run.picks), len(run.meshes), len(run.segmentations), len(last_spacing(run).tomograms)
    assert counts == (3, 3, 7, 3)


# --- finding ----------------------------------------------------------------------------------------------


def test_get_tomograms_without_a_type(either: CopickRootMLC) -> None:
    assert sorted(tomogram.tomo_type for tomogram in the_spacing(either).get_tomograms()) == ["denoised", "wbp"]
    assert the_spacing(either).get_tomograms("ctf") == []


def test_voxel_sizes_are_compared_by_their_form(either: CopickRootMLC) -> None:
    run = the_run(either)
    for size in (10, 10.0, 10.0004, 9.9996, np.float32(10)):
        assert run.get_voxel_spacing(size) is not None, size
        assert len(run.get_segmentations(voxel_size=size)) == 2, size
        assert len(run.get_segmentations(voxel_size=[3.0, size])) == 2, size
    for size in (10.001, 9.999, 1):
        assert run.get_voxel_spacing(size) is None, size
        assert run.get_segmentations(voxel_size=size) == [], size


def test_get_segmentations_by_type(either: CopickRootMLC) -> None:
    run = the_run(either)
    assert {item.segmentation_type for item in run.get_segmentations()} == {"binary", "multilabel"}
    assert {item.segmentation_type for item in run.get_segmentations(is_instance=True)} == {"instance"}
    assert len(run.get_segmentations(is_instance=None, is_panoptic=None)) == 4
    assert len(run.get_segmentations(name=["all", "membrane"], user_id="demo", is_multilabel=True)) == 1


def test_names_that_cannot_be(either: CopickRootMLC, tmp_path: Path) -> None:
    before = tree(tmp_path)
    for name in ("", ".", "..", "a/b", "../TS_001", "a\\b", "tab\t", "nul\0"):
        assert either.get_run(name) is None, name
        with pytest.raises(ValueError, match="one path segment") as raised:
            either.new_run(name)
        assert isinstance(raised.value, CroissantError), name
    assert tree(tmp_path) == before


def test_config_selects_runs(manifest: Path) -> None:
    def open_with(*runs: str) -> CopickRootMLC:
        return CopickRootMLC(CopickConfigMLCroissant(pickable_objects=[], croissant_url=str(manifest), runs=list(runs)))

    root = open_with("TS_002", "no such run")
    assert [run.name for run in root.runs] == ["TS_002"]
    assert isinstance(root.runs[0], CopickRunMLC)
    assert len(root.runs[0].picks) == 2
    assert root.get_run("TS_001") is None
    assert root.get_run("no such run") is None
    assert open_with().runs == []
    root.new_run("TS_9")
    root.refresh()
    assert [run.name for run in root.runs] == ["TS_002", "TS_9"]


# --- what fails leaves no trace ---------------------------------------------------------------------------


@contextmanager
def failing_sync(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The disk reports an error whenever something is flushed to it."""

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        yield


@contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Someone presses Ctrl-C while a file is written."""

    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_storage, "stage", interrupt)
        yield


FAILURES: dict[str, tuple[Callable[[pytest.MonkeyPatch], Any], type[BaseException]]] = {
    "flush": (failing_sync, CroissantError),
    "interrupt": (interrupted, KeyboardInterrupt),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failed_write_leaves_no_ghost(
    root: CopickRootMLC, manifest: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    fail, error = FAILURES[failure]
    # A whole new volume is written before its row, which stays as it is: nothing to fail.
    writes = {name: write for name, write in WRITES.items() if name not in _IN_PLACE}
    listed, before = names(root), tree(manifest.parent)
    for name, write in writes.items():
        with fail(monkeypatch), pytest.raises(error):
            write(root)
        assert tree(manifest.parent) == before, name
    assert names(root) == listed
    assert [definition.name for definition in root.config.pickable_objects] == ["ribosome", "membrane"]
    root.new_run("TS_9")
    changed = {path for path in tree(manifest.parent) if tree(manifest.parent)[path] != before.get(path)}
    assert changed == {"metadata.json", "runs.csv"}, "what failed is not written later either"
    assert names(reopened(root)) == names(root)
    check_tables(manifest)


_IN_PLACE = {
    "density map",
    "part of density map",
    "tomogram",
    "part of tomogram",
    "part of features",
    "segmentation",
    "part of segmentation",
}


def test_failed_write_to_an_overlay_leaves_no_ghost(
    overlay_root: CopickRootMLC, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = names(overlay_root)
    for name in ("new run", "new voxel spacing", "new picks", "new mesh"):
        with failing_sync(monkeypatch), pytest.raises(CroissantError):
            WRITES[name](overlay_root)
    assert names(overlay_root) == listed == names(reopened(overlay_root))


def test_failed_store_keeps_the_file(root: CopickRootMLC, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(project)
    picks = the_picks(root)
    picks.points = picks.points[:1]
    with failing_sync(monkeypatch), pytest.raises(OSError, match="cannot write"):
        picks.store()
    assert tree(project) == before, "nor is a temporary file left"


def test_failed_delete_keeps_the_data(
    root: CopickRootMLC, manifest: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, listed = tree(project), names(root)
    for name in [name for name in WRITES if name.startswith("delete")]:
        with full_disk(monkeypatch, manifest.parent), pytest.raises(CroissantError):
            WRITES[name](root)
    assert tree(project) == before
    assert names(root) == listed


# --- reading ----------------------------------------------------------------------------------------------


def everything_on(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Every directory, and every file's bytes and time of change."""
    return {
        str(path.relative_to(directory)): (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
        for path in directory.rglob("*")
    }


def test_reading_never_writes(manifest: Path, tmp_path: Path) -> None:
    before = everything_on(tmp_path)
    for overlay in (None, tmp_path / "overlay", tmp_path / "project"):
        root = from_croissant(manifest, overlay_root=overlay)
        inventory(SimpleNamespace(pickable_objects=root.pickable_objects, runs=[the_run(root)]))
        _ask_everything(root)
    assert everything_on(tmp_path) == before


def _ask_everything(root: CopickRootMLC) -> None:
    _ = root.splits, root.get_runs_in_split("train"), root.static_is_overlay, root.index.count("picks")
    root.sync()
    for item in root.pickable_objects:
        item.zarr()
        _ = item.static_path, item.overlay_path, item.has_density_map
    for run in root.runs:
        run.ensure()
        _ = run.split, run.static_path, run.overlay_path, run.filaments
        volumes: list[Any] = list(run.segmentations)
        for spacing in run.voxel_spacings:
            spacing.ensure()
            _ = spacing.static_path, spacing.overlay_path
            for tomogram in spacing.tomograms:
                volumes += [tomogram, *tomogram.features]
                _ = tomogram.static_path, tomogram.overlay_path
        for volume in volumes:
            _ = volume.path, volume.fs, repr(volume)
            assert "0" in zarr.open(volume.zarr(), mode="r")
        for artifact in (*run.picks, *run.meshes):
            _ = artifact.path, artifact.directory, artifact.fs, artifact.color, repr(artifact)
    root.refresh()
    root.reconnect()


def test_object_without_a_map(either: CopickRootMLC, tmp_path: Path) -> None:
    made = either.new_object("proteasome", is_particle=True)
    before = everything_on(tmp_path)
    assert made.zarr() is None
    assert made.numpy() is None
    assert not made.has_density_map
    assert either.get_object("membrane").zarr() is None
    assert everything_on(tmp_path) == before


def test_row_without_data(either: CopickRootMLC, project: Path) -> None:
    """What a row names and is not there is an error, not something to make."""
    shutil.rmtree(project / "ExperimentRuns")
    shutil.rmtree(project / "Objects")
    before = everything_on(project)
    volumes = the_tomogram(either), the_tomogram(either).features[0], the_segmentation(either)
    for volume in (*volumes, either.get_object("ribosome")):
        for read in (volume.zarr, volume.numpy):
            with pytest.raises(FileNotFoundError) as raised:
                read()
            assert isinstance(raised.value, CroissantError)
            assert raised.value.code == "data-missing"
    with pytest.raises(FileNotFoundError):
        the_picks(either).load()
    with pytest.raises(FileNotFoundError):
        the_mesh(either).load()
    assert everything_on(project) == before


def test_empty_directory_is_no_volume(either: CopickRootMLC, project: Path) -> None:
    """zarr would make a group of it."""
    store = project / "ExperimentRuns/TS_001/VoxelSpacing10.000/wbp.zarr"
    shutil.rmtree(store)
    store.mkdir()
    with pytest.raises(FileNotFoundError, match="nothing was written"):
        the_tomogram(either).numpy()
    assert list(store.iterdir()) == []


def test_level_that_is_not_there(either: CopickRootMLC) -> None:
    made = the_spacing(either).new_tomogram("ctf")
    for volume, level in ((made, "0"), (the_tomogram(either), "7")):
        with pytest.raises(FileNotFoundError, match="no array") as raised:
            volume.numpy(level)
        assert isinstance(raised.value, CroissantError)


def test_chunk_that_cannot_be_read(either: CopickRootMLC, project: Path) -> None:
    chunk = project / "ExperimentRuns/TS_001/VoxelSpacing10.000/wbp.zarr/0/0/0/0"
    chunk.unlink()
    chunk.mkdir()
    with pytest.raises(StorageError, match="directory"):
        the_tomogram(either).numpy()


def test_chunk_that_is_damaged(either: CopickRootMLC, project: Path) -> None:
    chunk = project / "ExperimentRuns/TS_001/VoxelSpacing10.000/wbp.zarr/0/0/0/0"
    chunk.write_bytes(chunk.read_bytes()[:1000])
    with pytest.raises(DataError, match="decompression"):
        the_tomogram(either).numpy()


def test_file_that_is_no_mesh(either: CopickRootMLC, project: Path) -> None:
    file = project / "ExperimentRuns/TS_001/Meshes/demo_1_membrane.glb"
    data = file.read_bytes()
    for bad in (b"", b"glTF", data[:100], data[:-10], bytes(100), data.replace(b"bufferView", b"bufferVeiw")):
        file.write_bytes(bad)
        mesh = the_mesh(reopened(either))
        with (
            pytest.warns(CroissantWarning, match="sha256"),
            pytest.raises(ValueError, match="not a binary glTF") as raised,
        ):
            _ = mesh.mesh
        assert isinstance(raised.value, CroissantError)
        assert (raised.value.code, raised.value.path) == ("data-invalid", str(file))


@pytest.mark.parametrize("declared", [True, False])
def test_flat_chunks_are_found(either: CopickRootMLC, project: Path, *, declared: bool) -> None:
    """As zarr writes by default; a store that looks for nested chunks only would read zeros."""
    store = project / "ExperimentRuns/TS_001/VoxelSpacing10.000/wbp.zarr"
    shutil.rmtree(store)
    flat = zarr.DirectoryStore(str(store), dimension_separator="." if declared else None)
    zarr.group(store=flat).create_dataset("0", data=BOX, chunks=(2, 2, 2))
    assert (store / "0/1.1.1").is_file()
    assert np.array_equal(the_tomogram(either).numpy(), BOX)


def test_flat_chunks_are_written_where_they_are(root: CopickRootMLC, project: Path) -> None:
    store = project / "ExperimentRuns/TS_001/VoxelSpacing10.000/wbp.zarr"
    shutil.rmtree(store)
    zarr.group(store=zarr.DirectoryStore(str(store))).create_dataset("0", data=BOX, chunks=(2, 2, 2))
    before = set(tree(store))
    the_tomogram(root).set_region(np.zeros((4, 4, 4)))
    assert set(tree(store)) == before
    assert not zarr.open(str(store), mode="r")["0"][:].any()


# --- picks ------------------------------------------------------------------------------------------------


@contextmanager
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The files that are read as a whole."""
    seen: list[str] = []
    read = LocalFileSystem.cat_file

    def watch(fs: LocalFileSystem, path: str, *args: Any, **options: Any) -> bytes:
        seen.append(path)
        data: bytes = read(fs, path, *args, **options)
        return data

    with monkeypatch.context() as patch:
        patch.setattr(LocalFileSystem, "cat_file", watch)
        yield seen


def test_empty_picks_are_read_once(either: CopickRootMLC, monkeypatch: pytest.MonkeyPatch) -> None:
    the_run(either).new_picks("membrane", "1", "me")
    (picks,) = the_run(reopened(either)).get_picks(user_id="me")
    with reads(monkeypatch) as seen:
        for _ in range(5):
            assert picks.points == []
            assert picks.numpy()[0].shape == (0, 3)
    assert len([path for path in seen if path.endswith(".json")]) == 1


def test_listing_reads_no_picks(root: CopickRootMLC, monkeypatch: pytest.MonkeyPatch) -> None:
    with reads(monkeypatch) as seen:
        assert [picks.user_id for picks in the_run(root).picks] == ["demo", "template-matching"]
        assert the_run(root).get_picks(object_name="ribosome", session_id="0")[0].from_tool
    assert not [path for path in seen if path.endswith("ribosome.json")]


def test_storing_picks_that_nobody_touched_keeps_them(
    root: CopickRootMLC, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = the_picks(root).numpy()[0]
    untouched = the_picks(reopened(root))
    before = row(manifest, "picks", run="TS_001", user_id="demo")
    with commits(monkeypatch) as made:
        untouched.store()
        untouched.store()
    assert len(made) <= 1
    assert {**row(manifest, "picks", run="TS_001", user_id="demo"), "sha256": ""} == {**before, "sha256": ""}
    again = the_picks(reopened(root))
    assert np.array_equal(again.numpy()[0], expected)
    assert again.meta.voxel_spacing == 10.0


def test_storing_picks_whose_header_was_edited(root: CopickRootMLC, manifest: Path) -> None:
    picks = the_picks(root)
    picks.meta.voxel_spacing = 5.0
    picks.meta.trust_orientation = False
    picks.store()
    again = the_picks(reopened(root))
    assert len(again.points) == 8
    assert (again.meta.voxel_spacing, again.trust_orientation) == (5.0, False)
    assert row(manifest, "picks", run="TS_001", user_id="demo")["voxel_size"] == "5.0"


# --- stale entities ---------------------------------------------------------------------------------------


def test_entity_whose_row_is_gone(root: CopickRootMLC, manifest: Path) -> None:
    stale = the_segmentation(root)
    stale.delete()
    stale.delete()
    with pytest.raises(FileNotFoundError):
        stale.numpy()
    stale.from_numpy(labels("binary"))
    assert len(rows(manifest, "segmentations", run="TS_001", is_multilabel="false")) == 1, "written is written"
    assert np.array_equal(the_segmentation(reopened(root)).numpy(), labels("binary"))


@pytest.mark.parametrize(
    "refuse",
    [
        lambda root: root.get_run("TS_001").new_picks("virus", "1", "me"),
        lambda root: root.get_run("TS_001").new_picks("ribosome", "1", "demo"),
        lambda root: root.get_run("TS_001").new_mesh("virus", "1", "me"),
        lambda root: root.get_run("TS_001").new_segmentation(10.0, "virus", "1"),
        lambda root: root.get_run("TS_001").voxel_spacings[0].new_tomogram("wbp"),
        lambda root: root.get_run("TS_001").picks[0].from_numpy(np.ones((2, 3)), np.ones((3, 4, 4))),
        lambda root: root.get_run("TS_001").get_segmentations(name="all")[0].from_numpy(np.full((2, 2, 2), -1)),
        lambda root: root.new_object("ribosome", True),
    ],
)
def test_what_copick_refuses_is_our_error_too(manifest: Path, refuse: Callable[[CopickRootMLC], object]) -> None:
    root = from_croissant(manifest)
    before = tree(manifest.parent.parent)
    with pytest.raises(ValueError, match=r".") as caught:
        refuse(root)
    assert isinstance(caught.value, UsageError)
    assert caught.value.code == "refused"
    assert tree(manifest.parent.parent) == before


def test_a_row_whose_url_leads_out_of_the_project_can_be_deleted(manifest: Path) -> None:
    root = from_croissant(manifest)
    row = next(root.index.rows_of(PicksRow, "TS_001"))
    victim = manifest.parent.parent.parent / "victim.json"
    victim.write_text("{}")
    root.index.put(replace(row, url="../victim.json"))
    run = root.get_run("TS_001")
    assert run is not None
    run.get_picks(row.object_name, row.user_id, row.session_id)[0].delete()
    assert from_croissant(manifest).index.find(row) is None
    assert victim.exists()


def test_two_rows_of_a_run_that_name_one_file(manifest: Path) -> None:
    root = from_croissant(manifest)
    first, second = root.index.rows_of(PicksRow, "TS_001")
    root.index.put(replace(second, url=first.url))
    file = manifest.parent.parent / str(first.url)
    run = root.get_run("TS_001")
    assert run is not None
    run.get_picks(first.object_name, first.user_id, first.session_id)[0].delete()
    assert file.exists()
    run.delete_picks()
    assert not file.exists()
