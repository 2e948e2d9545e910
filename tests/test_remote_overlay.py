"""Overlays on S3 and over SFTP, overlays of projects there, and data that lies elsewhere than the manifest.

SPEC.md: [OVL], [BAT], [COM].
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import copick
import fsspec
import numpy as np
import pytest
import zarr

from copick_mlc import CopickPicksMLC, CopickRootMLC, CroissantError, _remote, from_croissant
from copick_mlc.errors import ReadOnlyError, StorageError
from tests.conftest import Bucket
from tests.projects import inventory, tree
from tests.proxy import Proxy, Request
from tests.servers import S3Objects, Sftp, http_server
from tests.test_mode_a import (
    KINDS,
    check_tables,
    contents,
    labels,
    the_mesh,
    the_picks,
    the_run,
    the_spacing,
    the_tomogram,
)

pytestmark = pytest.mark.usefixtures("unplaced")

POINTS = np.arange(12, dtype=float).reshape(4, 3)
VOLUME = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
RUN = "ExperimentRuns/TS_001"


@pytest.fixture
def published(project: Path) -> Iterator[Proxy]:
    """The project over http. Nothing of it changes, and nobody tries to change it."""
    before = tree(project)
    with http_server(project.parent) as url, Proxy(url) as proxy:
        yield proxy
        assert {request.method for request in proxy.requests} <= {"GET", "HEAD"}
    assert tree(project) == before


class Overlay:
    """An overlay on other storage, of the project that is published.

    Attributes:
        url: Its URL.
    """

    def __init__(self, url: str, manifest: str) -> None:
        self.url, self._manifest = url, manifest

    def open(self, **options: Any) -> CopickRootMLC:
        return from_croissant(self._manifest, overlay_root=self.url, **options)

    def files(self) -> dict[str, bytes]:
        """The bytes of all files in it, by path."""
        fs, path = fsspec.url_to_fs(self.url)
        fs.invalidate_cache()
        if not fs.exists(path):
            return {}
        return {name.removeprefix(f"{path}/"): data for name in fs.find(path) for data in [fs.cat_file(name)]}

    def put(self, path: str, data: bytes) -> None:
        """Write a file, as another process."""
        fs, directory = fsspec.url_to_fs(self.url, skip_instance_cache=True)
        fs.pipe_file(f"{directory}/{path}", data)


@pytest.fixture
def s3_overlay(s3_proxy: Bucket, published: Proxy) -> Overlay:
    return Overlay(f"{s3_proxy.url}/overlay", f"{published.url}/project/Croissant/metadata.json")


@pytest.fixture
def sftp_overlay(sftp: Sftp, published: Proxy) -> Overlay:
    return Overlay(f"{sftp.url}/overlay", f"{published.url}/project/Croissant/metadata.json")


@pytest.fixture(params=["s3", "sftp"])
def overlay(request: pytest.FixtureRequest) -> Overlay:
    made: Overlay = request.getfixturevalue(f"{request.param}_overlay")
    return made


def new_picks(root: CopickRootMLC, session: str) -> CopickPicksMLC:
    return the_run(root).new_picks("ribosome", session, user_id="me")


def sessions(root: CopickRootMLC) -> set[str]:
    return {picks.session_id for picks in the_run(root).get_picks(user_id="me")}


def fill(root: CopickRootMLC) -> None:
    """Make one artifact of each kind."""
    new_picks(root, "1").from_numpy(POINTS)
    mesh = the_run(root).new_mesh("membrane", "1", user_id="me")
    mesh.mesh = the_mesh(root).mesh
    mesh.store()
    for number, (kind, options) in enumerate(KINDS.items()):
        made = the_run(root).new_segmentation(10.0, "membrane", str(number), user_id="me", **options)
        made.from_numpy(labels(kind))
    tomogram = the_spacing(root).new_tomogram("new")
    tomogram.from_numpy(VOLUME)
    for parent in (tomogram, the_tomogram(root)):  # one of them is published
        features = parent.new_features("edges")
        zarr.group(store=features.zarr()).create_dataset("0", data=VOLUME[None], chunks=(1, 4, 4, 4))
    run = root.new_run("new")
    run.new_voxel_spacing(5.0).new_tomogram("raw").from_numpy(VOLUME)
    run.new_picks("ribosome", "1", user_id="me").from_numpy(POINTS)


def within(part: Any, whole: Any) -> bool:
    """Whether all keys of nested dictionaries are in another one, with these values."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and within(value, whole[key]) for key, value in part.items())
    if isinstance(part, tuple) and isinstance(whole, tuple):
        return len(part) == len(whole) and all(map(within, part, whole))
    return part is None or bool(part == whole)


# --- what is written -------------------------------------------------------------------------------------


def test_all_kinds_of_artifacts(overlay: Overlay, tmp_path: Path) -> None:
    root = overlay.open()
    before = inventory(root, data=False)
    fill(root)
    after = contents(root, "TS_001", "new")
    assert within(before["runs"]["TS_001"], after["TS_001"])
    assert contents(overlay.open(), "TS_001", "new") == after

    config = tmp_path / "config.json"
    objects = [item.meta.model_dump() for item in root.pickable_objects]
    fields = {"name": "overlay", "user_id": "me", "session_id": "1", "pickable_objects": objects}
    config.write_text(json.dumps({"config_type": "filesystem", **fields, "overlay_root": overlay.url}))
    runs = copick.from_file(str(config)).runs
    seen = inventory(SimpleNamespace(pickable_objects=[], runs=runs))["runs"]
    assert within(seen, after)
    assert {name: {kind: len(found) for kind, found in run.items()} for name, run in seen.items()} == {
        "TS_001": {"spacings": 1, "picks": 1, "meshes": 1, "segmentations": 4},
        "new": {"spacings": 1, "picks": 1, "meshes": 0, "segmentations": 0},
    }


def test_all_that_was_made_can_be_deleted(overlay: Overlay) -> None:
    root = overlay.open()
    before = inventory(root, data=False)
    fill(root)
    root = overlay.open()
    root.delete_run("new")
    run = the_run(root)
    the_spacing(root).delete_tomograms("new")
    the_tomogram(root).get_features("edges").delete()
    run.delete_picks(user_id="me")
    run.delete_meshes(user_id="me")
    run.delete_segmentations(user_id="me", is_instance=None, is_panoptic=None)
    assert overlay.files() == {}
    assert inventory(root, data=False) == inventory(overlay.open(), data=False) == before


def test_what_is_stored_again_is_replaced(overlay: Overlay) -> None:
    new_picks(overlay.open(), "1").from_numpy(POINTS)
    root = overlay.open()
    (picks,) = the_run(root).get_picks(user_id="me")
    picks.from_numpy(POINTS[:2])
    assert [len(picks.points) for picks in the_run(overlay.open()).get_picks(user_id="me")] == [2]
    made = the_run(root).new_segmentation(10.0, "membrane", "1", user_id="me")
    made.from_numpy(np.ones((4, 4, 4), np.uint8))
    made.from_numpy(np.ones((2, 2, 2), np.uint8))
    made.set_region(np.zeros((1, 2, 2), np.uint8), z=slice(1))
    (again,) = the_run(overlay.open()).get_segmentations(user_id="me")
    assert again.numpy().tolist() == [[[0, 0], [0, 0]], [[1, 1], [1, 1]]]
    assert not [path for path in overlay.files() if path.endswith(".tmp")]


def test_the_overlay_wins(overlay: Overlay) -> None:
    root = overlay.open()
    published = the_picks(root)
    with pytest.raises(ReadOnlyError):
        published.from_numpy(POINTS)
    data = json.dumps({**published.load().model_dump(mode="json"), "points": []}).encode()
    overlay.put(f"{RUN}/Picks/demo_1_ribosome.json", data)
    root.refresh()
    mine = the_picks(root)
    assert (mine.read_only, len(mine.points)) == (False, 0)
    mine.from_numpy(POINTS)
    assert len(the_picks(overlay.open()).points) == len(POINTS)
    mine.delete()
    assert len(the_picks(root).points) == len(the_picks(overlay.open()).points) == 8


def test_what_others_write_is_seen(overlay: Overlay) -> None:
    """fsspec keeps what it has listed."""
    root, other = overlay.open(), overlay.open()
    assert (sessions(root), root.get_run("new"), "new" in [run.name for run in root.runs]) == (set(), None, False)
    made = new_picks(other, "1")
    other.new_run("new")
    overlay.put(f"{RUN}/Picks/me_2_ribosome.json", overlay.files()[f"{RUN}/Picks/me_1_ribosome.json"])
    assert root.get_run("new") is not None
    assert {picks.session_id for picks in the_run(root).query_picks() if picks.user_id == "me"} == {"1", "2"}
    root.refresh()
    assert sessions(root) == {"1", "2"}
    assert "new" in [run.name for run in root.runs]
    made.delete()
    assert [picks.session_id for picks in the_run(root).query_picks() if picks.user_id == "me"] == ["2"]


def test_an_object_that_stands_for_a_directory(s3_overlay: Overlay) -> None:
    """As S3's own console makes."""
    for path in ("ExperimentRuns/", "ExperimentRuns/new/", "ExperimentRuns/new/Picks/", "ExperimentRuns/new/Meshes/"):
        s3_overlay.put(path, b"")
    root = s3_overlay.open()
    run = the_run(root, "new")
    assert [run.name for run in root.runs] == ["TS_001", "TS_002", "empty", "new"]
    assert (run.voxel_spacings, run.picks, run.meshes) == ([], [], [])
    run.new_picks("ribosome", "1", user_id="me")
    root.delete_run("new")
    assert s3_overlay.open().get_run("new") is None


def test_an_overlay_at_the_base_lists_each_once(s3_proxy: Bucket, project: Path) -> None:
    for path, data in tree(project).items():
        S3Objects(s3_proxy.url).put(f"project/{path}", data)
    url = f"{s3_proxy.url}/project"
    root = from_croissant(f"{url}/Croissant/metadata.json", overlay_root=url)
    assert root.static_is_overlay
    alone = from_croissant(f"{url}/Croissant/metadata.json")
    wanted = inventory(alone, data=False)
    wanted["runs"]["empty"]["spacings"]["7.840"] = {}  # a directory, which copick's export has no row for
    assert inventory(root, data=False) == wanted


def test_a_local_overlay_of_a_project_on_s3(s3_proxy: Bucket, project: Path, tmp_path: Path) -> None:
    objects = S3Objects(s3_proxy.url)
    for path, data in tree(project).items():
        objects.put(f"project/{path}", data)
    before = objects.all()
    overlay = Overlay(str(tmp_path / "overlay"), f"{s3_proxy.url}/project/Croissant/metadata.json")
    root = overlay.open()
    fill(root)
    assert contents(overlay.open(), "TS_001", "new") == contents(root, "TS_001", "new")
    assert objects.all() == before
    assert {request.method for request in s3_proxy.proxy.requests} <= {"GET", "HEAD"}


# --- requests --------------------------------------------------------------------------------------------


def counted(requests: list[Request]) -> list[str]:
    """The requests; LIST with the directory that is listed."""
    found = []
    for request in requests:
        listed = re.search("prefix=([^&]*)", request.query)
        path = request.path.partition("/overlay/")[2]
        found.append(f"LIST {unquote(listed[1]).removeprefix('overlay/')}" if listed else f"{request.method} {path}")
    return sorted(found)


# By what is done: the requests to the overlay. Nothing is asked for twice, and nothing whether it exists.
REQUESTS: dict[str, tuple[Callable[[CopickRootMLC], Any], list[str]]] = {
    "open": (lambda root: None, []),
    "runs": (lambda root: root.runs, ["LIST ExperimentRuns/"]),
    "a published run": (lambda root: root.get_run("TS_001"), []),
    "no run": (lambda root: root.get_run("none"), ["LIST ExperimentRuns/none/"]),
    "spacings": (lambda root: the_run(root).voxel_spacings, [f"LIST {RUN}/"]),
    "tomograms": (lambda root: the_spacing(root).tomograms, [f"LIST {RUN}/", f"LIST {RUN}/VoxelSpacing10.000/"]),
    "picks": (lambda root: the_run(root).picks, [f"LIST {RUN}/Picks/"]),
    "meshes": (lambda root: the_run(root).meshes, [f"LIST {RUN}/Meshes/"]),
    "segmentations": (
        lambda root: the_run(root).segmentations,
        [f"LIST {RUN}/{kind}Segmentations/" for kind in ("Instance", "Panoptic", "")],
    ),
    "new run": (
        lambda root: root.new_run("other"),
        ["LIST ExperimentRuns/other/", "PUT ExperimentRuns/other/.meta"],
    ),
    "new spacing": (
        lambda root: the_run(root).new_voxel_spacing(3.0),
        [f"LIST {RUN}/", f"LIST {RUN}/VoxelSpacing3.000/", f"PUT {RUN}/VoxelSpacing3.000/.meta"],
    ),
    "new picks": (
        lambda root: new_picks(root, "2").from_numpy(POINTS),
        [f"LIST {RUN}/Picks/", f"GET {RUN}/Picks/me_2_ribosome.json", *[f"PUT {RUN}/Picks/me_2_ribosome.json"] * 2],
    ),
    "points": (
        lambda root: the_run(root).get_picks(user_id="me", session_id="2")[0].points,
        [f"LIST {RUN}/Picks/", f"GET {RUN}/Picks/me_2_ribosome.json"],
    ),
    "stored picks": (
        lambda root: the_run(root).get_picks(user_id="me", session_id="2")[0].from_numpy(POINTS),
        [f"LIST {RUN}/Picks/", f"GET {RUN}/Picks/me_2_ribosome.json", f"PUT {RUN}/Picks/me_2_ribosome.json"],
    ),
    "deleted picks": (
        lambda root: the_run(root).get_picks(user_id="me", session_id="2")[0].delete(),
        [f"LIST {RUN}/Picks/", f"DELETE {RUN}/Picks/me_2_ribosome.json"],
    ),
    "new mesh": (
        lambda root: the_run(root).new_mesh("membrane", "2", user_id="me"),
        [f"LIST {RUN}/Meshes/", f"PUT {RUN}/Meshes/me_2_membrane.glb"],
    ),
    "a volume": (
        lambda root: the_tomogram(root, "new").numpy(),
        [
            *(f"GET {RUN}/VoxelSpacing10.000/new.zarr/{name}" for name in (".zgroup", "0/.zarray", "0/0/0/0")),
            f"LIST {RUN}/",
            f"LIST {RUN}/VoxelSpacing10.000/",
        ],
    ),
    "a deleted volume": (
        lambda root: the_tomogram(root, "new").features[0].delete(),
        [
            f"LIST {RUN}/",
            *[f"LIST {RUN}/VoxelSpacing10.000/"] * 2,
            f"LIST {RUN}/VoxelSpacing10.000/new_edges_features.zarr/",
            "POST ",
        ],
    ),
}


@pytest.mark.parametrize("filled", [True, False], ids=["filled", "empty"])
def test_requests_to_an_overlay(s3_overlay: Overlay, s3_proxy: Bucket, filled: bool) -> None:
    if filled:
        fill(s3_overlay.open())
    for what, (act, requests) in REQUESTS.items():
        if filled or "volume" not in what:
            with s3_proxy.proxy.counting() as seen:
                act(s3_overlay.open())
            assert counted(seen) == sorted(requests), what


# --- connections that are lost ---------------------------------------------------------------------------


def test_an_overlay_goes_on_where_its_connection_was_lost(sftp_overlay: Overlay, sftp: Sftp) -> None:
    root = sftp_overlay.open()
    steps: list[Callable[[], Any]] = [
        lambda: root.runs,
        lambda: new_picks(root, "1"),
        lambda: the_run(root).get_picks(user_id="me")[0].from_numpy(POINTS),
        lambda: the_run(root).query_picks(),
        lambda: the_spacing(root).new_tomogram("new"),
        lambda: the_tomogram(root, "new").from_numpy(VOLUME),
        lambda: the_tomogram(root, "new").set_region(VOLUME + 1),
        lambda: the_tomogram(root, "new").numpy(),
        lambda: root.new_run("new"),
        lambda: root.delete_run("new"),
        lambda: root.refresh(),
        lambda: the_run(root).get_picks(user_id="me")[0].load(),
    ]
    for step in steps:
        sftp.drop_connections()
        step()
    sftp.drop_connections()
    again = sftp_overlay.open()
    assert np.array_equal(the_tomogram(again, "new").numpy(), VOLUME + 1)
    (picks,) = the_run(again).get_picks(user_id="me")
    assert np.array_equal(picks.numpy()[0], POINTS)
    assert again.get_run("new") is None
    assert not [path for path in sftp_overlay.files() if path.endswith(".tmp")]


def test_reconnecting_lists_anew(overlay: Overlay, sftp: Sftp) -> None:
    root = overlay.open()
    assert sessions(root) == set()
    new_picks(overlay.open(), "1")
    assert sessions(root) == set()
    sftp.drop_connections()
    root.reconnect()
    assert sessions(root) == {"1"}


@pytest.fixture
def remote(sftp: Sftp, project: Path) -> str:
    """The URL of the manifest of the project over SFTP."""
    shutil.copytree(project, sftp.directory / "project")
    return f"{sftp.url}/project/Croissant/metadata.json"


@pytest.mark.parametrize("mode", ["A", "B"])
def test_a_project_over_sftp_is_reconnected(remote: str, sftp: Sftp, tmp_path: Path, mode: str) -> None:
    options: dict[str, Any] = {"overlay_root": tmp_path / "overlay"} if mode == "B" else {}
    root = from_croissant(remote, **options)
    before = inventory(root)
    root.config.user_id = "somebody"
    root.index.resolve_url("ExperimentRuns")
    sftp.drop_connections()
    with pytest.raises(CroissantError):
        the_mesh(root).load()
    root.reconnect()
    assert inventory(root) == before
    assert root.config.user_id == "somebody"
    new_picks(root, "1")
    assert sessions(from_croissant(remote, **options)) == {"1"}


def test_what_is_said_where_a_connection_was_lost(remote: str, sftp: Sftp) -> None:
    """Also over SSH, errors are ours and name the URL; all is as it was."""
    local = sftp.directory / "project"
    before = tree(local)
    root = from_croissant(remote)
    picks, tomogram = the_picks(root), the_tomogram(root)
    acts: list[Callable[[], Any]] = [
        picks.load,
        tomogram.numpy,
        lambda: new_picks(root, "1"),
        lambda: picks.from_numpy(POINTS),
        lambda: picks.delete(),
        lambda: tomogram.from_numpy(VOLUME),
        lambda: root.new_run("new"),
        lambda: setattr(the_run(root), "split", "test"),
    ]
    for number, act in enumerate(acts):
        root.index.resolve_url("ExperimentRuns")  # what is opened after the loss is a new connection
        sftp.drop_connections()
        with pytest.raises(StorageError) as caught:
            act()
        text = str(caught.value)
        # fsspec calls SSH what the first did who opened any.
        assert re.match(rf"(ssh|sftp)://127\.0\.0\.1:{sftp.options['port']}/project/", text), (number, text)
        assert "secret" not in text
        root.reconnect()
    assert tree(local) == before
    assert inventory(root, data=False) == inventory(from_croissant(remote), data=False)


def test_reconnecting_keeps_the_changes_of_a_batch(remote: str) -> None:
    root = from_croissant(remote)
    with root.batch():
        new_picks(root, "1")
        root.reconnect()
        assert sessions(root) == {"1"}
    assert sessions(from_croissant(remote)) == {"1"}


# --- Mode A over SFTP ------------------------------------------------------------------------------------


def test_mode_a_over_sftp(remote: str, sftp: Sftp, monkeypatch: pytest.MonkeyPatch) -> None:
    local = sftp.directory / "project"
    during: list[set[str]] = []
    commit = _remote.commit

    def watched(*args: Any) -> Any:
        during.append({path.name for path in (local / "Croissant").iterdir()})
        return commit(*args)

    monkeypatch.setattr(_remote, "commit", watched)
    root = from_croissant(remote)
    new_picks(root, "1").from_numpy(POINTS)
    the_picks(root).delete()
    the_run(root).split = "test"
    the_run(root).new_segmentation(10.0, "membrane", "1", user_id="me").from_numpy(labels("binary"))
    with root.batch():
        new_picks(root, "2")
        root.new_run("new").new_voxel_spacing(5.0).new_tomogram("raw").from_numpy(VOLUME)
    root.delete_run("TS_002")
    assert during
    assert all("metadata.json.lock" in names for names in during)
    check_tables(local / "Croissant/metadata.json")  # which sees that nothing else is there
    assert not [path for path in local.rglob("*") if path.suffix in (".tmp", ".pending", ".lock")]
    assert not (local / "ExperimentRuns/TS_002").exists()
    opened = root, from_croissant(remote), from_croissant(local / "Croissant/metadata.json")
    found, *others = [(inventory(each, data=False), contents(each, "TS_001", "new")) for each in opened]
    assert others == [found, found]
    assert sessions(root) == {"1", "2"}


# --- a manifest on the local disk, and data elsewhere ----------------------------------------------------


@pytest.mark.parametrize("said", ["in the manifest", "by the user"])
def test_data_on_s3_and_its_manifest_here(s3_proxy: Bucket, project: Path, said: str) -> None:
    objects, manifest = S3Objects(s3_proxy.url), project / "Croissant" / "metadata.json"
    for path, data in tree(project / "ExperimentRuns").items():
        objects.put(f"data/ExperimentRuns/{path}", data)
    for path, data in tree(project / "Objects").items():
        objects.put(f"data/Objects/{path}", data)
    shutil.rmtree(project / "ExperimentRuns")
    shutil.rmtree(project / "Objects")
    options: dict[str, Any] = {"croissant_base_url": f"{s3_proxy.url}/data"} if said == "by the user" else {}
    if said == "in the manifest":
        document = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({**document, "copick:baseUrl": f"{s3_proxy.url}/data"}))
    root = from_croissant(manifest, **options)
    assert root.mode == "A"
    assert the_tomogram(root).numpy().shape == (48, 64, 64)
    s3_proxy.proxy.reset()
    new_picks(root, "1").from_numpy(POINTS)
    assert [request.method for request in s3_proxy.proxy.requests if request.method != "GET"] == ["PUT"] * 2
    the_picks(root).delete()
    the_run(root).split = "test"
    the_run(root).new_segmentation(10.0, "membrane", "1", user_id="me").from_numpy(labels("binary"))
    with root.batch():
        new_picks(root, "2")
        root.new_run("new").new_voxel_spacing(5.0).new_tomogram("raw").from_numpy(VOLUME)
    root.delete_run("TS_002")
    check_tables(manifest)
    assert sorted(path.name for path in project.iterdir()) == ["Croissant", "copick_config.json"]
    keys = set(objects.all())
    assert f"data/{RUN}/Picks/me_2_ribosome.json" in keys
    assert f"data/{RUN}/Picks/demo_1_ribosome.json" not in keys
    assert not [key for key in keys if key.startswith("data/ExperimentRuns/TS_002/")]
    again = from_croissant(manifest, **options)
    assert inventory(again, data=False) == inventory(root, data=False)
    assert contents(again, "TS_001", "new") == contents(root, "TS_001", "new")
    assert (sessions(again), again.get_runs_in_split("test")[0].name) == ({"1", "2"}, "TS_001")


def test_data_over_http_and_its_manifest_here(published: Proxy, project: Path) -> None:
    root = from_croissant(project / "Croissant" / "metadata.json", croissant_base_url=f"{published.url}/project")
    assert len(the_picks(root).points) == 8
    published.reset()
    changes: list[Callable[[], Any]] = [
        lambda: new_picks(root, "1"),
        lambda: the_picks(root).delete(),
        lambda: setattr(the_run(root), "split", "test"),
        lambda: root.new_run("new"),
        lambda: root.delete_run("TS_001"),
    ]
    for change in changes:
        with pytest.raises(ReadOnlyError, match="overlay_root"):
            change()
    assert published.requests == []
