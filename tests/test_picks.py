"""Picks files: copick's JSON and the portal's NDJSON, read under the identity of their row."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import copick
import numpy as np
import pytest
from copick.models import CopickLocation, CopickPicksFile, CopickPoint

from copick_mlc import CopickPicksMLC, CopickRootMLC, CroissantError, from_croissant
from copick_mlc.index import PicksRow
from copick_mlc.picks import dump_picks, parse_picks
from tests.projects import tree
from tests.test_mode_a import canonical, rewrite, row, sha256, the_picks, the_run


@pytest.fixture
def project(full_template: Path, tmp_path: Path) -> Path:
    """The project without its volumes, which no test here reads."""
    directory = tmp_path / "project"
    shutil.copytree(full_template, directory, ignore=shutil.ignore_patterns("*.zarr"))
    metadata = directory / "Croissant" / "metadata.json"
    metadata.write_text(metadata.read_text().replace(str(full_template), str(directory)))
    return directory


ROTATION = [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
POINTS: list[dict[str, Any]] = [
    {"type": "orientedPoint", "location": {"x": 1.0, "y": 2.5, "z": 3.0}, "xyz_rotation_matrix": ROTATION},
    {"type": "instancePoint", "location": {"x": 10, "y": 20, "z": 30}, "instance_id": 7},
]


def lines(*points: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(point).encode() + b"\n" for point in points or POINTS)


def place(manifest: Path, url: str, data: bytes | None, **cells: str) -> CopickPicksMLC:
    """The picks of demo in TS_001, whose row names a file with this URL and content, and has these cells."""

    def change(line: dict[str, str]) -> None:
        if line["url"] == canonical("picks"):
            line.update({"url": url, "sha256": "", **cells})

    rewrite(manifest, "picks", change)
    if data is not None:
        file = manifest.parent.parent / url
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return the_picks(from_croissant(manifest))


# --- identity ---------------------------------------------------------------------------------------------


def test_the_row_says_whose_picks_they_are(manifest: Path, project: Path) -> None:
    written = json.loads((project / canonical("picks")).read_bytes())
    written.update(pickable_object_name="other", user_id="somebody", session_id="99", run_name="elsewhere")
    picks = place(manifest, "imported/picks.json", json.dumps(written).encode())
    for _ in range(2):
        assert (picks.pickable_object_name, picks.user_id, picks.session_id) == ("ribosome", "demo", "1")
        assert len(picks.points) == 8
    assert (picks.meta.pickable_object_name, picks.meta.user_id) == ("ribosome", "demo")
    assert (picks.meta.session_id, picks.meta.run_name) == ("1", "TS_001")
    assert picks.color == (0, 117, 220, 255)
    assert picks.from_user
    picks.store()
    stored = json.loads((project / canonical("picks")).read_bytes())
    assert (stored["user_id"], stored["run_name"], len(stored["points"])) == ("demo", "TS_001", 8)


def test_overlay_file_name_says_whose_picks_they_are(overlay_root: CopickRootMLC, tmp_path: Path) -> None:
    file = tmp_path / "overlay/ExperimentRuns/TS_001/Picks/me_7_ribosome.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"pickable_object_name": "x", "user_id": "y", "session_id": "z", "points": None}))
    (picks,) = the_run(overlay_root).get_picks("ribosome", "me", "7")
    assert picks.points == []
    assert picks.meta.user_id == "me"


# --- the portal's NDJSON ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["picks.ndjson", "picks.json", "picks"])
def test_portal_points_are_in_angstrom(manifest: Path, name: str) -> None:
    picks = place(manifest, f"10301/{name}", b"\n" + lines(), voxel_size="7.84")
    positions, transforms = picks.numpy()
    assert np.allclose(positions, np.array([[1.0, 2.5, 3.0], [10, 20, 30]]) * 7.84)
    assert transforms[0].tolist() == [[*axis, 0.0] for axis in ROTATION] + [[0.0, 0.0, 0.0, 1.0]]
    assert np.array_equal(transforms[1], np.eye(4))
    assert picks.instance_ids().tolist() == [0, 7]
    assert picks.trust_orientation
    assert picks.meta.voxel_spacing == 7.84


def test_portal_points_without_orientation(manifest: Path) -> None:
    picks = place(manifest, "10301/picks.ndjson", lines(POINTS[1]), voxel_size="10.0")
    assert picks.numpy()[0].tolist() == [[100, 200, 300]]
    assert not picks.trust_orientation


def test_portal_file_without_points(manifest: Path) -> None:
    assert place(manifest, "10301/picks.ndjson", b"", voxel_size="10.0").points == []


@pytest.mark.parametrize(
    ("url", "size"),
    [
        ("10301/TS_026/Reconstructions/VoxelSpacing4.99/Annotations/101/ribosome-1.0_point.ndjson", 4.99),
        ("10301/TS_026/Reconstructions/VoxelSpacing13.480/Annotations/ribosome.json", 13.48),
        ("10301/TS_026/Reconstructions/VoxelSpacing10/ribosome.ndjson", 10.0),
    ],
)
def test_voxel_size_from_the_url(manifest: Path, url: str, size: float) -> None:
    picks = place(manifest, url, lines(), voxel_size="")
    assert picks.numpy()[0][1].tolist() == [10 * size, 20 * size, 30 * size]


def test_voxel_size_of_the_row_wins(manifest: Path) -> None:
    picks = place(manifest, "10301/VoxelSpacing4.99/ribosome.ndjson", lines(), voxel_size="10.0")
    assert picks.numpy()[0][1].tolist() == [100, 200, 300]


def test_no_voxel_size_at_all(manifest: Path) -> None:
    picks = place(manifest, "10301/ribosome.ndjson", lines(), voxel_size="")
    with pytest.raises(ValueError, match="VoxelSpacing") as raised:
        picks.load()
    assert isinstance(raised.value, CroissantError)
    assert (raised.value.code, raised.value.column) == ("data-invalid", "voxel_size")


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[]",
        "1",
        "null",
        "{}",
        '{"location": null}',
        '{"location": {"x": 1, "y": 2}}',
        '{"location": {"x": "1", "y": 2, "z": 3}}',
        '{"location": {"x": 1, "y": 2, "z": 3}, "xyz_rotation_matrix": [[1]]}',
        '{"location": {"x": 1, "y": 2, "z": 3}, "xyz_rotation_matrix": 5}',
        '{"location": {"x": 1, "y": 2, "z": 3}, "instance_id": "a"}',
    ],
)
def test_bad_line(manifest: Path, bad: str) -> None:
    picks = place(manifest, "10301/picks.ndjson", lines() + b"\n" + bad.encode() + b"\n" + lines(), voxel_size="10.0")
    with pytest.raises(ValueError, match="NDJSON") as raised:
        _ = picks.points
    assert isinstance(raised.value, CroissantError)
    assert (raised.value.code, raised.value.line, raised.value.path) == ("data-invalid", 4, picks.path)


def test_storing_portal_picks(manifest: Path, project: Path) -> None:
    """What is stored is copick's JSON; the portal's file stays as it is."""
    picks = place(manifest, "10301/picks.ndjson", lines(), voxel_size="10.0", portal_annotation_id="101")
    before = tree(project / "10301")
    positions, transforms = picks.numpy()
    picks.store()
    found = row(manifest, "picks", url=canonical("picks"))
    assert (found["voxel_size"], found["portal_annotation_id"]) == ("10.0", "101")
    assert found["sha256"] == sha256(project / canonical("picks"))
    assert tree(project / "10301") == before
    again = the_picks(from_croissant(manifest))
    assert np.array_equal(again.numpy()[0], positions)
    assert np.array_equal(again.numpy()[1], transforms)
    (seen,) = copick.from_croissant(str(manifest)).get_run("TS_001").get_picks(user_id="demo")
    assert np.array_equal(seen.numpy()[0], positions)


def test_copick_reads_portal_picks_alike(manifest: Path) -> None:
    ours = place(manifest, "10301/VoxelSpacing4.99/picks.ndjson", lines(), voxel_size="4.99")
    (theirs,) = copick.from_croissant(str(manifest)).get_run("TS_001").get_picks(user_id="demo")
    assert np.allclose(ours.numpy()[0], theirs.numpy()[0])
    assert np.allclose(ours.numpy()[1], theirs.numpy()[1])


# --- copick's JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"points": []}',
        b'{"pickable_object_name": "a", "user_id": "b", "session_id": "c", "points": [{}]}',
        b'{"pickable_object_name": "a", "user_id": "b", "session_id": "c", "points": [{"location": {"x": "a"}}]}',
    ],
)
def test_bad_json(manifest: Path, bad: bytes) -> None:
    picks = place(manifest, "imported/picks.json", bad)
    with pytest.raises(ValueError, match="not a picks file") as raised:
        _ = picks.points
    assert isinstance(raised.value, CroissantError)
    assert (raised.value.code, raised.value.path) == ("data-invalid", picks.path)
    picks.points = []
    picks.store()
    assert the_picks(from_croissant(manifest)).points == [], "and can be replaced"


def test_missing_file(manifest: Path) -> None:
    picks = place(manifest, "imported/picks.json", None)
    with pytest.raises(FileNotFoundError) as raised:
        _ = picks.points
    assert isinstance(raised.value, CroissantError)
    assert (raised.value.code, raised.value.path) == ("data-missing", picks.path)


def test_row_without_url(manifest: Path, project: Path) -> None:
    picks = place(manifest, "", None)
    with pytest.raises(FileNotFoundError, match="no url"):
        _ = picks.points
    before = (project / canonical("picks")).read_bytes()
    picks.delete()
    assert (project / canonical("picks")).read_bytes() == before, "no row says that this is its file"


def test_one_line_of_json_is_no_ndjson(manifest: Path, project: Path) -> None:
    written = json.loads((project / canonical("picks")).read_bytes())
    assert len(place(manifest, "imported/picks.json", json.dumps(written).encode()).points) == 8


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, 1e-300, -0.0, None])
def test_scores_come_back(root: CopickRootMLC, manifest: Path, score: float | None) -> None:
    picks = the_picks(root)
    picks.points = [CopickPoint(location=CopickLocation(x=1.25, y=-2, z=1e9), score=score, instance_id=None)]
    picks.store()
    (point,) = the_picks(from_croissant(manifest)).points
    assert repr(point.score) == repr(score)
    assert point.instance_id is None
    assert (point.location.x, point.location.y, point.location.z) == (1.25, -2.0, 1e9)
    with open(picks.path) as file:
        (seen,) = CopickPicksFile(**json.load(file)).points  # as copick reads it
    assert repr(seen.score) == repr(score)


@pytest.mark.parametrize("name", ["null", "nullnull", "ü", "true"])
@pytest.mark.parametrize("score", [1.0, math.nan])
@pytest.mark.parametrize("voxel_spacing", [None, 10.0])
def test_bytes_of_a_file_come_back(name: str, score: float, voxel_spacing: float | None) -> None:
    file = CopickPicksFile(
        pickable_object_name=name,
        user_id=name,
        session_id="0",
        run_name=name,
        voxel_spacing=voxel_spacing,
        points=[CopickPoint(location=CopickLocation(x=0, y=0, z=0), score=score)],
    )
    data = dump_picks(file)
    again = parse_picks(data, PicksRow(name, name, "0", name), "picks.json")
    assert repr(again) == repr(file)
    assert repr(CopickPicksFile(**json.loads(data))) == repr(file), "as copick reads it"


def test_points_that_are_set_replace_the_file(root: CopickRootMLC, manifest: Path, project: Path) -> None:
    picks = the_picks(root)
    picks.points = []
    picks.store()
    assert json.loads((project / canonical("picks")).read_bytes())["points"] == []
    assert the_picks(from_croissant(manifest)).points == []
    assert row(manifest, "picks", url=canonical("picks"))["voxel_size"] == "10.0", "the row says it still"


def test_refresh_reads_again(root: CopickRootMLC, manifest: Path) -> None:
    picks = the_picks(root)
    assert len(picks.points) == 8
    the_picks(from_croissant(manifest)).from_numpy(np.zeros((2, 3)))
    assert len(picks.points) == 8
    picks.refresh()
    assert len(picks.points) == 2


def test_numpy_round_trip(root: CopickRootMLC, manifest: Path) -> None:
    rng = np.random.default_rng(1)
    positions = rng.normal(size=(50, 3)) * 1000
    transforms = np.tile(np.eye(4), (50, 1, 1))
    transforms[:, :3, :] = rng.normal(size=(50, 3, 4))
    the_picks(root).from_numpy(positions, transforms, np.arange(50), rng.uniform(size=50))
    again = the_picks(from_croissant(manifest))
    assert np.array_equal(again.numpy()[0], positions)
    assert np.array_equal(again.numpy()[1], transforms)
    assert again.instance_ids().tolist() == list(range(50))
    with pytest.raises(ValueError, match="same"):
        again.from_numpy(positions, transforms[:3])
    assert len(the_picks(from_croissant(manifest)).points) == 50


def test_new_points_keep_the_voxel_size(manifest: Path) -> None:
    run = from_croissant(manifest).get_run("TS_001")
    assert run is not None
    run.get_picks("ribosome", "demo")[0].from_numpy(np.ones((1, 3)))
    file = manifest.parent.parent / "ExperimentRuns/TS_001/Picks/demo_1_ribosome.json"
    assert json.loads(file.read_text())["voxel_spacing"] == 10.0
