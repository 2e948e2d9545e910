"""A project reads the same through fsspec from wherever it lies; manifest, data and overlay have their own options."""

from __future__ import annotations

import dataclasses
import json
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import copick
import fsspec
import numpy as np
import pytest
import trimesh
from copick.util.escape import sanitize_name

from copick_mlc import (
    CopickRootMLC,
    CopickRunMLC,
    CroissantError,
    CroissantIndex,
    _filesystems,
    _urls,
    export_croissant,
    from_croissant,
)
from copick_mlc._tables import TABLES
from copick_mlc.errors import CroissantWarning
from copick_mlc.index import PicksRow
from tests.projects import inventory
from tests.proxy import Proxy
from tests.servers import Sftp, basic, http_server, s3_environment

MANIFEST = "project/Croissant/metadata.json"
ME, DATA, OVERLAY = (basic(user, "secret") for user in ("me", "data", "overlay"))


def header(authorization: str) -> dict[str, Any]:
    """The fsspec options for an HTTP server that demands this."""
    return {"client_kwargs": {"headers": {"Authorization": authorization}}}


def edit(manifest: Path, **values: Any) -> None:
    """Change keys of a manifest, which has `copick:` before them; None removes one."""
    document = json.loads(manifest.read_text())
    for name, value in values.items():
        document.pop(f"copick:{name}", None)
        if value is not None:
            document[f"copick:{name}"] = value
    manifest.write_text(json.dumps(document))


@dataclasses.dataclass
class Published:
    """A project that says nothing of where it lies.

    Attributes:
        web: The directory with it, in `project/` and in `project.zip`.
        inventory: What it holds, as it is read from the local disk.
    """

    web: Path
    inventory: dict[str, Any]

    @property
    def manifest(self) -> Path:
        return self.web / MANIFEST


@pytest.fixture(scope="module")
def published(full_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    web = tmp_path_factory.mktemp("web")
    shutil.copytree(full_template, web / "project")
    edit(web / MANIFEST, baseUrl=None)
    with zipfile.ZipFile(web / "project.zip", "w") as archive:
        for path in (web / "project").rglob("*"):
            archive.write(path, path.relative_to(web / "project"))
    return Published(web, inventory(from_croissant(web / MANIFEST)))


@pytest.fixture
def local(published: Published, tmp_path: Path) -> Path:
    """The manifest of a copy on the local disk, which a test may change."""
    shutil.copytree(published.web / "project", tmp_path / "local" / "project")
    return tmp_path / "local" / MANIFEST


@pytest.fixture
def http_url(published: Published) -> Iterator[str]:
    with http_server(published.web) as url:
        yield url


@pytest.fixture
def bare_url(published: Published) -> Iterator[str]:
    """A server that lists no directories."""
    with http_server(published.web, listings=False) as url:
        yield url


def the_run(root: CopickRootMLC) -> CopickRunMLC:
    run = root.get_run("TS_001")
    assert run is not None
    return run


def upload(directory: Path, url: str) -> str:
    """Put all files below a directory below a URL, which is the result."""
    fs, path = fsspec.url_to_fs(url)
    files = [file for file in directory.rglob("*") if file.is_file()]
    fs.pipe({f"{path}/{file.relative_to(directory)}": file.read_bytes() for file in files})
    return url


@pytest.fixture(scope="module")
def bucket(s3_endpoint: str, published: Published) -> str:
    """The URL of a bucket with the project, which opens in the environment of the fixture `s3`; not to be changed."""
    with s3_environment(s3_endpoint):
        fsspec.filesystem("s3").mkdir("remote-reading")
        return upload(published.web, "s3://remote-reading")


@pytest.fixture
def s3_url(s3: str, bucket: str) -> str:
    return bucket


@pytest.fixture
def memory_url(published: Published) -> Iterator[str]:
    yield upload(published.web, "memory://test-remote-reading")
    fsspec.filesystem("memory").rm("/test-remote-reading", recursive=True)


@pytest.fixture
def sftp_url(sftp: Sftp, published: Published) -> str:
    shutil.copytree(published.web, sftp.directory, dirs_exist_ok=True)
    return sftp.url


# --- everywhere ------------------------------------------------------------------------------------------

PLACES = {
    "s3": f"{{s3_url}}/{MANIFEST}",
    "http": f"{{http_url}}/{MANIFEST}",
    "http without listings": f"{{bare_url}}/{MANIFEST}",
    "memory": f"{{memory_url}}/{MANIFEST}",
    "ssh": f"{{sftp_url}}/{MANIFEST}",
    "zip": "zip://Croissant/metadata.json::{web}/project.zip",
    "zip over http": "zip://Croissant/metadata.json::{bare_url}/project.zip",
    "zip over s3": "zip://Croissant/metadata.json::{s3_url}/project.zip",
    "cache over http": f"simplecache::{{http_url}}/{MANIFEST}",
    "cache over http without listings": f"filecache::{{bare_url}}/{MANIFEST}",
    "cache over s3": f"simplecache::{{s3_url}}/{MANIFEST}",
    "cache of a zip": "zip://Croissant/metadata.json::simplecache::{bare_url}/project.zip",
    "directory over s3": "dir://Croissant/metadata.json::{s3_url}/project",
    "directory over http": "dir://Croissant/metadata.json::{bare_url}/project",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_project_reads_the_same_everywhere(
    place: str, published: Published, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = PLACES[place]
    for name in ("s3_url", "http_url", "bare_url", "memory_url", "sftp_url"):
        if f"{{{name}}}" in url:
            url = url.replace(f"{{{name}}}", request.getfixturevalue(name))
    caches = {name: {"cache_storage": str(tmp_path / "cache")} for name in _urls.CACHES if name in url}
    root = from_croissant(url.replace("{web}", str(published.web)), croissant_fs_args=caches, static_fs_args=caches)
    assert inventory(root) == published.inventory


def test_options_open_what_a_url_does_not_say(sftp: Sftp, sftp_url: str, published: Published) -> None:
    url = f"sftp://127.0.0.1/{MANIFEST}"
    root = from_croissant(url, croissant_fs_args=sftp.options, static_fs_args=sftp.options)
    assert inventory(root, data=False) == inventory(from_croissant(published.manifest), data=False)
    assert (
        root.runs[0].picks[0].numpy()[0].tolist()
        == published.inventory["runs"]["TS_001"]["picks"][
            root.runs[0].picks[0].user_id, root.runs[0].picks[0].session_id, root.runs[0].picks[0].pickable_object_name
        ][0]
    )


@pytest.mark.parametrize("scheme", ["http", "s3"])
@pytest.mark.parametrize("said", ["in the manifest", "by the user"])
def test_a_local_manifest_may_name_data_elsewhere(
    scheme: str, said: str, published: Published, local: Path, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue("bare_url" if scheme == "http" else "s3_url") + "/project"
    for name in ("ExperimentRuns", "Objects"):
        shutil.rmtree(local.parent.parent / name)
    if said == "in the manifest":
        edit(local, baseUrl=base)
        root = from_croissant(local)
    else:
        root = from_croissant(local, croissant_base_url=base)
    assert root.index.base_url == base
    assert inventory(root) == published.inventory


def test_a_manifest_over_http_may_have_its_data_on_s3(bare_url: str, s3_url: str, published: Published) -> None:
    with Proxy(bare_url) as proxy:
        root = from_croissant(f"{proxy.url}/{MANIFEST}", croissant_base_url=f"{s3_url}/project")
        assert inventory(root) == published.inventory
        assert {request.path.rpartition("/")[0] for request in proxy.requests} == {"/project/Croissant"}


# --- options ---------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(published: Published, local: Path, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The arguments that open a project whose manifest, data and overlay are on servers that demand other headers."""
    overlay = tmp_path / "overlay"
    picks = the_run(from_croissant(local, overlay_root=overlay)).new_picks("ribosome", "7", "me")
    picks.from_numpy(np.array([[1.0, 2.0, 3.0]]))
    manifests, data = tmp_path / "manifests", tmp_path / "data"
    shutil.move(local.parent, manifests / "Croissant")
    shutil.move(local.parent.parent, data)
    with (
        http_server(manifests, authorization=ME) as manifest_url,
        http_server(data, authorization=DATA) as data_url,
        http_server(overlay, authorization=OVERLAY) as overlay_url,
    ):
        yield {
            "croissant_url": f"{manifest_url}/Croissant/metadata.json",
            "croissant_base_url": data_url,
            "overlay_root": overlay_url,
            "croissant_fs_args": header(ME),
            "static_fs_args": header(DATA),
            "overlay_fs_args": header(OVERLAY),
        }


def test_each_place_has_its_own_options(guarded: dict[str, Any], published: Published) -> None:
    found = inventory(from_croissant(**guarded))
    mine = found["runs"]["TS_001"]["picks"].pop(("me", "7", "ribosome"))
    assert mine[0] == [[1.0, 2.0, 3.0]]
    assert found == published.inventory


def read_all(arguments: dict[str, Any]) -> None:
    inventory(from_croissant(**arguments))


@pytest.mark.parametrize(("given", "status"), [({}, "401"), (header("Bearer x"), "403")])
@pytest.mark.parametrize(
    ("options", "place"),
    [
        ("croissant_fs_args", "croissant_url"),
        ("static_fs_args", "croissant_base_url"),
        ("overlay_fs_args", "overlay_root"),
    ],
)
def test_wrong_options_are_an_error_that_names_the_url(
    options: str, place: str, given: dict[str, Any], status: str, guarded: dict[str, Any]
) -> None:
    with pytest.raises(CroissantError) as caught:
        read_all({**guarded, options: given})
    assert guarded[place] in str(caught.value)
    assert status in str(caught.value)


def test_the_options_of_the_manifest_are_those_of_the_tables(published: Published) -> None:
    with http_server(published.web, authorization=ME) as url, Proxy(url) as proxy:
        index = CroissantIndex.from_url(f"{proxy.url}/{MANIFEST}", fs_args=header(ME))
        assert index.groups("runs") == ["TS_001", "TS_002", "empty"]
        proxy.fault(lambda request: "authorization" not in request.headers, 500)
        assert list(index.rows("picks"))
        names = [request.path.rpartition("/")[2] for request in proxy.requests]
        assert {"metadata.json", "runs.csv", "picks.csv"} <= set(names)
        assert {request.headers["authorization"] for request in proxy.requests} == {ME}


def test_options_may_name_the_protocol_that_they_are_for(published: Published) -> None:
    with http_server(published.web, authorization=ME, listings=False) as url:
        options = {"http": header(ME), "s3": {"anon": True}}
        for place in (f"{url}/{MANIFEST}", f"simplecache::{url}/{MANIFEST}"):
            root = from_croissant(place, croissant_fs_args=options, static_fs_args=options)
            assert inventory(root, data=False)["runs"].keys() == published.inventory["runs"].keys()
            assert the_run(root).picks[0].numpy()[0].size
        zipped = f"zip://Croissant/metadata.json::{url}/project.zip"
        root = from_croissant(zipped, croissant_fs_args=options, static_fs_args=options)
        assert the_run(root).picks[0].numpy()[0].size


def test_wrong_options_of_an_overlay_are_an_error_of_ours(local: Path, sftp: Sftp) -> None:
    with pytest.raises(CroissantError, match=r"(ssh|sftp)://127\.0\.0\.1/overlay.*Permission denied"):
        from_croissant(
            local, overlay_root="ssh://127.0.0.1/overlay", overlay_fs_args={**sftp.options, "password": "wrong"}
        )


@pytest.mark.parametrize("prefix", ["", "simplecache::", "dir::"])
def test_an_archive_is_listed_before_several_threads_ask(prefix: str, tmp_path: Path) -> None:
    """What fsspec has listed so far of an archive, it shows as all that there is."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/b.txt", b"content")
    fs, _ = _filesystems.open_location(f"{prefix}zip://a/b.txt::{tmp_path}/a.zip")
    inner = fs.fs if prefix else fs
    assert {"a", "a/b.txt"} <= inner.dir_cache.keys()
    assert inner.cat_file("a/b.txt") == b"content"


# --- rows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fixture", "pattern"),
    [
        ("bare_url", "{url}/project/{cell}"),
        ("s3_url", "{url}/project/{cell}"),
        ("sftp_url", "{url}/project/{cell}"),
        ("bare_url", "zip://{cell}::{url}/project.zip"),
    ],
)
def test_a_row_may_name_data_on_other_storage(
    fixture: str, pattern: str, published: Published, local: Path, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(fixture)
    index = CroissantIndex.from_url(str(local))
    with index.batch():
        for table in TABLES.values():
            for row in list(index.rows(table.name, run="TS_001")) if table.has_url and table.name != "objects" else []:
                given: Any = row
                index.put(dataclasses.replace(given, url=pattern.format(url=url, cell=given.url)))
    shutil.rmtree(local.parent.parent / "ExperimentRuns" / "TS_001")
    assert inventory(from_croissant(local)) == published.inventory


# --- characters ------------------------------------------------------------------------------------------

HARD = ["50%#a?b %20c+d&e;f=g", "caf\u00e9 [x]{y}*'", "cafe\u0301 \u65e5\u672c"]
BOX = np.arange(64, dtype=np.float32).reshape(4, 4, 4)


def write_hard_names(root: CopickRootMLC) -> None:
    """Make one thing of every kind in runs whose names, and whatever copick allows to have such names, are hard."""
    with root.batch(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # copick's, that it has cleaned a name
        for label, run_name in enumerate(HARD, 100):
            name = sanitize_name(run_name)
            root.new_object(name, True, label=label)
            run = root.new_run(run_name)
            spacing = run.new_voxel_spacing(10.0)
            spacing.new_tomogram(run_name).from_numpy(BOX + label, levels=1)
            run.new_picks(name, name, name).from_numpy(np.array([[label, 2.0, 3.0]]))
            run.new_segmentation(10.0, name, name, user_id=name).from_numpy((BOX > 9).astype(np.uint8), levels=1)
            mesh = run.new_mesh(name, name, name)
            mesh.mesh = trimesh.Scene(trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, label]], [[0, 1, 2]]))
            mesh.store()


def put_hard_row(manifest: Path) -> None:
    """Have picks whose user, session and object are names that copick would clean."""
    index = CroissantIndex.from_url(str(manifest))
    row = PicksRow(HARD[0], "u?v *", "s %3F", "o#\u00e9 ?")
    row = dataclasses.replace(row, url=row.canonical_url)
    (published,) = index.rows("picks", run=HARD[0])
    base = manifest.parent.parent
    shutil.copyfile(base / published.canonical_url, base / row.canonical_url)
    index.put(row)


@pytest.fixture(scope="module")
def hard(full_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A project of hard names only."""
    web = tmp_path_factory.mktemp("hard")
    make_empty(full_template, web)
    write_hard_names(from_croissant(web / MANIFEST))
    put_hard_row(web / MANIFEST)
    found = inventory(from_croissant(web / MANIFEST))
    assert found["runs"].keys() == set(HARD)
    return Published(web, found)


def make_empty(template: Path, web: Path) -> None:
    """A project without runs."""
    shutil.copytree(template / "Croissant", web / "project" / "Croissant")
    (web / "project" / "ExperimentRuns").mkdir()
    edit(web / MANIFEST, baseUrl=None)
    root = from_croissant(web / MANIFEST)
    with root.batch():
        for run in list(root.runs):
            root.delete_run(run.name)
        for row in list(root.index.rows("objects")):
            root.index.remove(row)


@pytest.mark.parametrize("listings", [True, False])
@pytest.mark.parametrize("pattern", ["{}/" + MANIFEST, "simplecache::{}/" + MANIFEST])
def test_hard_names_read_over_http(pattern: str, listings: bool, hard: Published) -> None:
    with http_server(hard.web, listings=listings) as url:
        assert inventory(from_croissant(pattern.format(url))) == hard.inventory


def test_hard_names_read_from_s3(s3: str, hard: Published) -> None:
    upload(hard.web, s3)
    assert inventory(from_croissant(f"{s3}/{MANIFEST}")) == hard.inventory


def test_the_url_of_a_hard_name_opens_by_itself(hard: Published, tmp_path: Path) -> None:
    with http_server(hard.web) as url:
        root = from_croissant(f"simplecache::{url}/{MANIFEST}")
        picks = [picks for run in root.runs for picks in run.picks]
        assert len(picks) == len(HARD) + 1
        for found in picks:
            data = found.fs.cat_file(found.path)
            far, place = fsspec.url_to_fs(found.static_path)
            assert far.cat_file(place) == data
            row: Any = root.index.find(found.identity)
            far, place = root.index.resolve_url(row.url, simplecache={"cache_storage": str(tmp_path / "cache")})
            assert far.cat_file(place) == data


@pytest.mark.parametrize("is_manifest", [True, False])
def test_hard_names_are_exported_from_http(is_manifest: bool, hard: Published, tmp_path: Path) -> None:
    with http_server(hard.web) as url:
        if is_manifest:
            source: Any = from_croissant(f"{url}/{MANIFEST}")
        else:
            config = {
                "config_type": "filesystem",
                "overlay_root": f"{url}/project",
                "pickable_objects": from_croissant(hard.manifest).config.model_dump()["pickable_objects"],
            }
            (tmp_path / "config.json").write_text(json.dumps(config))
            source = copick.from_file(str(tmp_path / "config.json"))
        for base in (None, f"{url}/project"):
            made = tmp_path / f"export-{base is None}"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CroissantWarning)  # of what dataset hosts will miss
                export_croissant(source, made, base_url=base)
            assert inventory(from_croissant(made / "Croissant/metadata.json"))["runs"] == hard.inventory["runs"]


@pytest.mark.parametrize(
    ("url", "base", "expected"),
    [
        ("http://h/p/a%23b%20c", "http://h/p", "a#b c"),
        ("simplecache::http://h/p/a%2520", "simplecache::http://h/p", "a%20"),
        ("http://h/p/a?version=1", "http://h/p", None),
        ("http://h/p/a#b", "http://h/p", None),
        ("http://h/other/a", "http://h/p", None),
        ("s3://b/p/a%23?b", "s3://b/p", "a%23?b"),
        ("/p/a%23?b", "/p", "a%23?b"),
    ],
)
def test_the_cell_of_a_url(url: str, base: str, expected: str | None) -> None:
    assert _urls.cell(url, base) == expected
    if expected is not None:
        assert _urls.absolute(base, expected) == url


def without_hard_row(found: dict[str, Any]) -> dict[str, Any]:
    """What `write_hard_names` has written of it."""
    picks = {key: value for key, value in found["runs"][HARD[0]]["picks"].items() if key[0] != "u?v *"}
    return {**found["runs"], HARD[0]: {**found["runs"][HARD[0]], "picks": picks}}


@pytest.mark.parametrize("mode", ["A", "B"])
def test_hard_names_are_written_to_s3(mode: str, s3: str, hard: Published, full_template: Path, tmp_path: Path) -> None:
    make_empty(full_template, tmp_path)
    upload(tmp_path, s3)
    overlay = f"{s3}/overlay" if mode == "B" else None
    write_hard_names(from_croissant(f"{s3}/{MANIFEST}", overlay))
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    found = inventory(from_croissant(f"{s3}/{MANIFEST}", overlay))
    assert found["runs"] == without_hard_row(hard.inventory)


def test_an_overlay_of_hard_names_is_read_over_http(hard: Published, full_template: Path, tmp_path: Path) -> None:
    make_empty(full_template, tmp_path)
    with http_server(hard.web) as url:
        found = inventory(from_croissant(tmp_path / MANIFEST, overlay_root=f"{url}/project"))
    assert found["runs"].keys() == hard.inventory["runs"].keys()
    assert found["runs"] == hard.inventory["runs"]


# --- what is replaced or lost ----------------------------------------------------------------------------


def test_a_project_opens_again_where_the_connection_was_lost(sftp: Sftp, sftp_url: str, published: Published) -> None:
    root = from_croissant(f"{sftp_url}/{MANIFEST}")
    one, other = the_run(root).get_picks(object_name="ribosome")
    assert one.numpy()[0].size
    assert len(sftp.connections) == 1
    sftp.drop_connections()
    with pytest.raises(CroissantError):
        other.numpy()
    assert the_run(from_croissant(f"{sftp_url}/{MANIFEST}")).picks[0].numpy()[0].size
    root.refresh()
    assert the_run(root).picks[0].numpy()[0].size


def test_a_new_archive_is_seen(local: Path, tmp_path: Path) -> None:
    project, archive = local.parent.parent, tmp_path / "project.zip"
    shutil.make_archive(str(archive.with_suffix("")), "zip", project)
    root = from_croissant(f"zip://Croissant/metadata.json::{archive}")
    assert sessions(root) == []
    assert the_run(root).picks[0].numpy()[0].size
    publish_picks(local, "1")
    shutil.make_archive(str(tmp_path / "new"), "zip", project)
    (tmp_path / "new.zip").replace(archive)
    assert sessions(from_croissant(f"zip://Croissant/metadata.json::{archive}")) == ["1"]
    root.refresh()
    assert sessions(root) == ["1"]
    assert the_run(root).get_picks(user_id="new")[0].numpy()[0].shape == (1, 3)


def test_options_that_other_storage_does_not_take_are_an_error_of_ours(
    published: Published, local: Path, s3_url: str
) -> None:
    index = CroissantIndex.from_url(str(local))
    with index.batch():
        for table in ("picks", "segmentations"):
            for row in list(index.rows(table, run="TS_001")):
                given: Any = row
                index.put(dataclasses.replace(given, url=f"{s3_url}/project/{given.url}"))
    run = the_run(from_croissant(local, static_fs_args=header(DATA)))
    reads: list[Callable[[], Any]] = [run.picks[0].numpy, run.segmentations[0].numpy, run.segmentations[0].zarr]
    for read in reads:
        with pytest.raises(CroissantError, match="unexpected keyword argument 'headers'"):
            read()
    options = {"s3": {"anon": False}, "http": header(DATA)}
    assert inventory(from_croissant(local, static_fs_args=options)) == published.inventory


# --- caches ----------------------------------------------------------------------------------------------


def publish_picks(manifest: Path, session: str) -> None:
    """Publish an update, as somebody who has the files."""
    the_run(from_croissant(manifest)).new_picks("ribosome", session, "new").from_numpy(np.ones((1, 3)))


def sessions(root: CopickRootMLC) -> list[str]:
    return sorted(picks.session_id for picks in the_run(root).get_picks(user_id="new"))


@pytest.mark.parametrize("pattern", ["{}", "simplecache::{}", "filecache::{}"])
def test_an_update_is_seen(pattern: str, local: Path, tmp_path: Path) -> None:
    with http_server(local.parent.parent.parent) as url:
        place = pattern.format(f"{url}/{MANIFEST}")
        caches = {name: {"cache_storage": str(tmp_path / "cache")} for name in _urls.CACHES if name in place}
        options: dict[str, Any] = {"croissant_fs_args": caches, "static_fs_args": caches}
        root = from_croissant(place, **options)
        assert sessions(root) == []
        for session in ("1", "2"):
            publish_picks(local, session)
            fresh = from_croissant(place, **options)
            assert sessions(fresh)[-1] == session
            assert the_run(fresh).get_picks(session_id=session, user_id="new")[0].numpy()[0].shape == (1, 3)
            root.refresh()
            assert sessions(root)[-1] == session


def test_data_comes_from_the_cache_where_it_is_there(published: Published, tmp_path: Path) -> None:
    options = {"simplecache": {"cache_storage": str(tmp_path / "cache")}}
    with http_server(published.web) as url, Proxy(url) as proxy:
        for is_there in (False, True):
            with proxy.counting() as seen:
                root = from_croissant(f"simplecache::{proxy.url}/{MANIFEST}", static_fs_args=options)
                assert the_run(root).picks[0].numpy()[0].size
            data = [request for request in seen if "ExperimentRuns" in request.path and request.method == "GET"]
            assert bool(data) is not is_there
            assert [request.path for request in seen if request.path.endswith("metadata.json")]


@pytest.mark.parametrize(
    ("url", "options", "expected", "kept"),
    [
        ("simplecache::http://h/a", {"cache_storage": "x"}, "http://h/a", {}),
        ("simplecache::http://h/a", {"http": {"encoded": True}, "simplecache": {}}, "http://h/a", {"encoded": True}),
        ("http://h/a", {"encoded": True}, "http://h/a", {"encoded": True}),
        ("filecache://::http://h/a", {}, "http://h/a", {}),
        ("filecache::simplecache::http://h/a", {"http": {"encoded": True}}, "http://h/a", {"encoded": True}),
    ],
)
def test_a_cache_is_left_out(url: str, options: dict[str, Any], expected: str, kept: dict[str, Any]) -> None:
    fs, path = _filesystems.open_uncached(url, options)
    assert (path, fs.protocol) == (expected, ("http", "https"))
    assert {name: getattr(fs, name) for name in kept} == kept
    assert fs is fsspec.filesystem("http", **kept), "it was given nothing else"


@pytest.mark.parametrize("cache", ["simplecache", "filecache", "blockcache"])
def test_nothing_is_written_through_a_cache(cache: str, s3: str, s3_url: str) -> None:
    def write(root: Any) -> None:
        the_run(root).new_picks("ribosome", "1", "me").from_numpy(np.ones((1, 3)))

    place = f"{cache}::{s3_url}/{MANIFEST}"
    cached_overlay = from_croissant(f"{s3_url}/{MANIFEST}", overlay_root=f"{cache}::{s3_url}/o")
    for root in (from_croissant(place), cached_overlay):
        with pytest.raises(PermissionError, match=f"{cache} may be older.*overlay_root") as caught:
            write(root)
        assert isinstance(caught.value, CroissantError)
        assert caught.value.code == "read-only"
    root = from_croissant(place, overlay_root=f"{s3}/overlay")
    write(root)
    assert [picks.session_id for picks in the_run(root).get_picks(user_id="me")] == ["1"]


# --- dir:// ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("dir://a/b::s3://bucket/c", "s3://bucket/c/a/b"),
        ("dir://::s3://bucket/c", "s3://bucket/c"),
        ("dir://a::dir://b::s3://bucket", "s3://bucket/b/a"),
        ("simplecache::dir://a::http://host/b", "simplecache::http://host/b/a"),
        ("dir://a::simplecache::http://host/b", "simplecache::http://host/b/a"),
        ("dir://a::zip://b::/c.zip", "zip://b/a::/c.zip"),
        ("dir://a::/b", "/b/a"),
        ("dir://a::file:///b/", "/b/a"),
    ],
)
def test_a_directory_is_part_of_the_path(location: str, expected: str) -> None:
    assert _urls.normalise(location) == expected
