"""Storage that fails: what is said, that nothing is taken for absent or zero, and that all stays as it was.

SPEC.md: [CSV-022], [LAY-007], [BAT-006], [BAT-018].
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import s3fs

from copick_mlc import CopickRootMLC, CroissantError, _filesystems, from_croissant
from copick_mlc._tables import TABLES
from copick_mlc.errors import CroissantWarning, DataError, MissingError, ReadOnlyError, StorageError
from copick_mlc.index import RunRow
from tests.conftest import Bucket
from tests.projects import inventory, tree
from tests.proxy import Proxy, Request
from tests.servers import S3Objects, http_server
from tests.test_mode_a import the_mesh, the_picks, the_run, the_tomogram

pytestmark = pytest.mark.usefixtures("unplaced")

POINTS = np.arange(12, dtype=float).reshape(4, 3)
FAULTS: tuple[int | str, ...] = (403, 404, 500, 503, "reset", "truncate")
# A client that waits a short time for an answer that does not come, and long enough for one that does.
IMPATIENT_HTTP = aiohttp.ClientTimeout(sock_read=10)
IMPATIENT_S3 = {"config_kwargs": {"read_timeout": 10, "retries": {"total_max_attempts": 1}}}
RUN = "ExperimentRuns/TS_001"
CHUNK = f"{RUN}/VoxelSpacing10.000/wbp.zarr/0/0/0/0"
ARRAY = f"{RUN}/VoxelSpacing10.000/wbp.zarr/0/.zarray"
PICKS = f"{RUN}/Picks/demo_1_ribosome.json"


@pytest.fixture
def bucket(s3_proxy: Bucket, project: Path) -> Bucket:
    """The project in a bucket."""
    objects = S3Objects(s3_proxy.url)
    for path, data in tree(project).items():
        objects.put(f"project/{path}", data)
    return s3_proxy


@pytest.fixture
def no_patience(s3_proxy: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """s3fs and botocore try once, and not for seconds; without this, they try again as they do by default."""
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()


class Place:
    """Where the project is.

    Attributes:
        base: The URL of its directory, as people know it.
        proxy: What lies before the server.
    """

    def __init__(self, base: str, proxy: Proxy, stored: Callable[[], dict[str, bytes]]) -> None:
        self.base, self.proxy, self.stored = base, proxy, stored

    def open(self, **options: Any) -> CopickRootMLC:
        return from_croissant(f"{self.base}/Croissant/metadata.json", **options)


@pytest.fixture(params=["s3", "http"])
def place(request: pytest.FixtureRequest, project: Path) -> Iterator[Place]:
    if request.param == "s3":
        bucket = request.getfixturevalue("bucket")
        request.getfixturevalue("no_patience")
        yield Place(f"{bucket.url}/project", bucket.proxy, S3Objects(bucket.url).all)
        return
    with http_server(project.parent) as url, Proxy(url) as proxy:
        yield Place(f"{proxy.url}/project", proxy, partial(tree, project))


def causes(error: BaseException) -> str:
    """The texts of an error's causes."""
    texts, cause = [], error.__cause__
    while cause is not None:
        texts.append(DataError("data-invalid", _filesystems.reason(cause)).message)
        cause = cause.__cause__
    return "\n".join(texts)


def check(error: BaseException, url: str) -> None:
    """It is ours, names the URL with its scheme, and says why."""
    assert isinstance(error, CroissantError)
    text = str(error)
    assert url in text, text
    assert error.__cause__ is not None
    if isinstance(error, StorageError):
        assert error.code == "storage-failed"
        assert any(cause in text for cause in causes(error).split("\n") if cause), (text, causes(error))
        assert not text.rstrip().endswith(":")


# --- reading ---------------------------------------------------------------------------------------------

# By what is read: the part of the path whose requests fail, and how it is read.
READS: dict[str, tuple[str, Callable[[CopickRootMLC], Any]]] = {
    "table": ("Croissant/picks.csv", lambda root: list(root.index.rows("picks"))),
    "picks": (PICKS, lambda root: len(the_picks(root).points)),
    "mesh": (f"{RUN}/Meshes/demo_1_membrane.glb", lambda root: len(the_mesh(root).mesh.geometry)),
}
MISSING = {"table": "table-missing", "picks": "data-missing", "mesh": "data-missing"}


@pytest.mark.parametrize("what", READS)
def test_a_file_that_cannot_be_read(place: Place, what: str) -> None:
    path, read = READS[what]
    before = place.stored()
    for kind in FAULTS:
        root = place.open()
        assert the_run(root)
        rule = place.proxy.fault(("GET", path), kind)
        with pytest.raises(CroissantError) as caught:
            read(root)
        assert rule.hits, kind
        check(caught.value, f"{place.base}/{path}")
        assert caught.value.code == (MISSING[what] if kind == 404 else "storage-failed"), kind
        assert isinstance(caught.value, MissingError if kind == 404 else StorageError)
        place.proxy.heal()
        assert read(root), "a second try"
    assert place.stored() == before


def test_a_manifest_that_cannot_be_read(place: Place) -> None:
    root = place.open()
    listed = inventory(root, data=False)
    for kind in FAULTS:
        rule = place.proxy.fault(("", "metadata.json"), kind)
        for read in (place.open, root.refresh):
            with pytest.raises(CroissantError) as caught:
                read()
            check(caught.value, f"{place.base}/Croissant/metadata.json")
            assert caught.value.code == ("manifest-missing" if kind == 404 else "storage-failed"), kind
        assert rule.hits, kind
        place.proxy.heal()
        assert inventory(root, data=False) == listed
    root.refresh()
    assert inventory(root, data=False) == listed


@pytest.mark.parametrize("path", [CHUNK, ARRAY], ids=["chunk", "metadata"])
def test_a_volume_that_cannot_be_read(place: Place, path: str) -> None:
    """It is neither zeros nor absent."""
    before = place.stored()
    root = place.open()
    wanted = the_tomogram(root).numpy()
    for kind in FAULTS:
        rule = place.proxy.fault(("", path), kind)
        if kind == 404 and path == CHUNK:  # it is absent then, which is the fill value [LAY-009]
            assert not the_tomogram(root).numpy().any()
        else:
            with pytest.raises(CroissantError) as caught:
                the_tomogram(root).numpy()
            assert caught.value.code == ("data-missing" if kind == 404 else "storage-failed"), kind
            check(caught.value, f"{place.base}/{path[: path.index('.zarr')]}.zarr")
        assert rule.hits, kind
        place.proxy.heal()
        assert np.array_equal(the_tomogram(root).numpy(), wanted)
    assert place.stored() == before


def is_listing(request: Request) -> bool:
    return request.method == "GET" and "list-type" in request.query


@pytest.mark.parametrize("kind", [403, 503, "reset", "truncate"])
def test_an_overlay_that_cannot_be_listed(bucket: Bucket, manifest: Path, no_patience: None, kind: int | str) -> None:
    """What lies there is not absent."""
    root = from_croissant(manifest, overlay_root=f"{bucket.url}/project")
    lists: dict[str, Callable[[], Any]] = {
        "/ExperimentRuns": lambda: root.runs,
        "/ExperimentRuns/new": lambda: root.get_run("new"),
        f"/{RUN}": lambda: the_run(root).voxel_spacings,
        f"/{RUN}/Picks": lambda: the_run(root).picks,
        f"/{RUN}/Meshes": lambda: the_run(root).meshes,
        f"/{RUN}/Segmentations": lambda: the_run(root).segmentations,
    }
    rule = bucket.proxy.fault(is_listing, kind)
    for path, ask in lists.items():
        with pytest.raises(StorageError) as caught:
            ask()
        check(caught.value, f"{bucket.url}/project{path}")
    assert rule.hits >= len(lists)
    bucket.proxy.heal()
    assert [bool(ask()) for path, ask in lists.items()] == [path != "/ExperimentRuns/new" for path in lists]


# --- answers that do not come, and nobody there ----------------------------------------------------------


def test_storage_that_does_not_answer(place: Place) -> None:
    """Some errors of time that is over have no text."""
    options = IMPATIENT_S3 if place.base.startswith("s3") else {"client_kwargs": {"timeout": IMPATIENT_HTTP}}
    root = place.open(croissant_fs_args=options, static_fs_args=options)
    picks, tomogram = the_picks(root), the_tomogram(root)
    reads: dict[str, Callable[[], Any]] = {
        PICKS: lambda: len(picks.points),
        f"{RUN}/VoxelSpacing10.000/wbp.zarr": lambda: tomogram.numpy().shape,
        "Croissant/metadata.json": lambda: place.open(croissant_fs_args=options).mode,
    }
    rules = [place.proxy.fault(("", path), "stall") for path in (PICKS, CHUNK, "metadata.json")]

    def fail(path: str) -> None:
        with pytest.raises(StorageError) as caught:
            reads[path]()
        check(caught.value, f"{place.base}/{path}")

    with ThreadPoolExecutor(3) as executor:
        list(executor.map(fail, reads))
    assert all(rule.hits for rule in rules)
    place.proxy.heal()
    place.proxy.release()
    assert [read() for read in reads.values()] == [8, (48, 64, 64), "A"]


def test_nobody_there(place: Place) -> None:
    """First the server works, and then its port is closed."""
    with Proxy(place.proxy.url) as proxy:
        is_s3 = place.base.startswith("s3")
        base = place.base if is_s3 else place.base.replace(place.proxy.url, proxy.url)
        options = {"endpoint_url": proxy.url} if is_s3 else {}
        manifest = f"{base}/Croissant/metadata.json"
        root = from_croissant(manifest, croissant_fs_args=options, static_fs_args=options)
        picks, tomogram = the_picks(root), the_tomogram(root)
    reads: dict[str, Callable[[], Any]] = {
        PICKS: lambda: picks.points,
        f"{RUN}/VoxelSpacing10.000/wbp.zarr": tomogram.numpy,
        "Croissant/metadata.json": root.refresh,
    }
    for path, read in reads.items():
        with pytest.raises(StorageError) as caught:
            read()
        check(caught.value, f"{base}/{path}")
    with pytest.raises(StorageError) as caught:
        from_croissant(manifest, croissant_fs_args=options)
    check(caught.value, manifest)


# --- fsspec's own retries --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [503, "reset", "truncate"])
def test_what_s3fs_tries_again_is_no_error(bucket: Bucket, kind: int | str) -> None:
    root = from_croissant(f"{bucket.url}/project/Croissant/metadata.json")
    assert the_run(root)
    reads: dict[str, Callable[[], Any]] = {
        "Croissant/picks.csv": lambda: root.index.count("picks"),
        PICKS: lambda: the_picks(root).points,
        CHUNK: lambda: the_tomogram(root).numpy(),
    }
    for path, read in reads.items():
        rule = bucket.proxy.fault(("GET", path), kind, times=1)
        assert read() is not None
        assert rule.hits == 1
    if kind != "truncate":  # there is nothing to be cut off
        rule = bucket.proxy.fault(("PUT", PICKS), kind, times=1)
        the_picks(root).from_numpy(POINTS)
        assert rule.hits == 1
        again = from_croissant(f"{bucket.url}/project/Croissant/metadata.json")
        assert len(the_picks(again).points) == len(POINTS)


# --- credentials -----------------------------------------------------------------------------------------


def test_no_error_shows_credentials(project: Path) -> None:
    with http_server(project.parent) as url, Proxy(url) as proxy:
        for name in ("metadata.json", "absent.json"):
            proxy.fault(("", "metadata.json"), 403)
            host = proxy.url.removeprefix("http://")
            given = f"http://me:hidden@{host}/project/Croissant/{name}?X-Amz-Signature=hidden&versionId=7"
            with pytest.raises(CroissantError) as caught:
                from_croissant(given)
            assert "hidden" not in f"{caught.value}{caught.value.path}{caught.value.message}{caught.value.args}"
            check(caught.value, f"{proxy.url}/project/Croissant/{name}?versionId=7")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("403, url='https://a/b?sig=xyz&se=1&c=d'", "403, url='https://a/b?c=d'"),
        ("zip://x::https://me:pw@a/b.zip is none", "zip://x::https://a/b.zip is none"),
        ("at ssh://me:pw@a:22/b (twice: ssh://me:pw@a:22/b)", "at ssh://a:22/b (twice: ssh://a:22/b)"),
        ("mail me@home?token=1 or a/b#c", "mail me@home?token=1 or a/b#c"),
    ],
)
def test_a_text_without_credentials(text: str, shown: str) -> None:
    assert DataError("data-invalid", text).message == shown
    assert str(DataError("data-invalid", text)) == shown


# --- writing ---------------------------------------------------------------------------------------------


def sessions(root: CopickRootMLC) -> set[str]:
    return {picks.session_id for picks in the_run(root).get_picks(user_id="me")}


def new_picks(root: CopickRootMLC) -> None:
    the_run(root).new_picks("ribosome", "1", user_id="me")


def puts(part: str) -> Callable[[Request], bool]:
    return lambda request: request.method == "PUT" and part in request.path


REFUSALS: list[int | str] = [403, 500, "reset"]
# By what cannot be written: which requests fail, what the error names, and what is done.
WRITES: dict[str, tuple[Callable[[Request], bool], str, Callable[[CopickRootMLC], Any]]] = {
    "data": (puts("me_1_ribosome.json"), f"{RUN}/Picks/me_1_ribosome.json", new_picks),
    "staged table": (puts(".pending"), "Croissant/picks.csv.", new_picks),
    "manifest": (puts("metadata.json"), "Croissant/metadata.json", new_picks),
    "volume": (
        puts("/new.zarr/.zgroup"),
        f"{RUN}/VoxelSpacing10.000/new.zarr",
        lambda root: the_tomogram(root).voxel_spacing.new_tomogram("new"),
    ),
    "run": (puts("metadata.json"), "Croissant/metadata.json", lambda root: root.new_run("new")),
}


@pytest.mark.parametrize("what", WRITES)
def test_what_cannot_be_written(bucket: Bucket, no_patience: None, what: str) -> None:
    match, path, write = WRITES[what]
    url, objects = f"{bucket.url}/project", S3Objects(bucket.url)
    root = from_croissant(f"{url}/Croissant/metadata.json")
    before, listed = objects.all(), inventory(root, data=False)
    for kind in REFUSALS:
        rule = bucket.proxy.fault(match, kind)
        with pytest.raises(StorageError) as caught:
            write(root)
        check(caught.value, f"{url}/{path}")
        assert ("overlay_root" in str(caught.value)) == (kind == 403)
        assert rule.hits, kind
        bucket.proxy.heal()
        assert objects.all() == before, kind
        assert inventory(root, data=False) == listed, kind
    write(root)
    again = from_croissant(f"{url}/Croissant/metadata.json")
    assert inventory(again, data=False) == inventory(root, data=False) != listed


@pytest.mark.parametrize("kind", [403, 503])
def test_a_table_that_cannot_be_put_in_its_place(bucket: Bucket, no_patience: None, kind: int | str) -> None:
    """The commit stands."""
    url = f"{bucket.url}/project"
    root = from_croissant(f"{url}/Croissant/metadata.json")
    rule = bucket.proxy.fault(lambda request: request.method == "PUT" and request.path.endswith("/picks.csv"), kind)
    with pytest.warns(CroissantWarning, match=rf"the commit is made.*{url}/Croissant/picks\.csv"):
        new_picks(root)
    assert rule.hits
    assert sessions(root) == sessions(from_croissant(f"{url}/Croissant/metadata.json")) == {"1"}


@pytest.mark.parametrize("kind", [403, "reset"])
def test_an_overlay_that_cannot_be_written(bucket: Bucket, manifest: Path, no_patience: None, kind: int | str) -> None:
    objects = S3Objects(bucket.url)
    root = from_croissant(manifest, overlay_root=f"{bucket.url}/overlay")
    kept = the_run(root).new_picks("ribosome", "0", user_id="me")
    kept.from_numpy(POINTS)
    before = objects.all()
    rules = [bucket.proxy.fault(puts("/overlay/"), kind)]
    rules += [bucket.proxy.fault(lambda request: request.method == "DELETE" or request.query == "delete", kind)]
    writes: dict[str, Callable[[], Any]] = {
        f"{RUN}/Picks/me_1_ribosome.json": lambda: new_picks(root),
        f"{RUN}/Picks/me_0_ribosome.json": lambda: kept.from_numpy(POINTS[:2]),
        f"{RUN}/VoxelSpacing10.000/new.zarr": lambda: the_tomogram(root).voxel_spacing.new_tomogram("new"),
        "ExperimentRuns/new": lambda: root.new_run("new"),
        f"{RUN}/Picks": lambda: kept.delete(),
    }
    for path, write in writes.items():
        with pytest.raises(StorageError) as caught:
            write()
        check(caught.value, f"{bucket.url}/overlay/{path}")
    assert all(rule.hits for rule in rules)
    bucket.proxy.heal()
    assert objects.all() == before
    assert sessions(root) == {"0"}
    assert [run.name for run in root.runs if run.name == "new"] == []
    for write in writes.values():
        write()
    again = from_croissant(manifest, overlay_root=f"{bucket.url}/overlay")
    assert inventory(again, data=False) == inventory(root, data=False)
    assert sessions(again) == {"1"}


@pytest.mark.parametrize("kind", [403, "reset"])
def test_data_that_cannot_be_removed(bucket: Bucket, no_patience: None, kind: int | str) -> None:
    """Its row is gone by then, and stays so."""
    url, objects = f"{bucket.url}/project", S3Objects(bucket.url)
    root = from_croissant(f"{url}/Croissant/metadata.json")
    picks = the_picks(root)
    rule = bucket.proxy.fault(
        lambda request: request.method in ("DELETE", "POST") and not request.path.endswith(".pending"), kind
    )
    with pytest.raises(StorageError) as caught:
        picks.delete()
    assert rule.hits
    check(caught.value, f"{url}/{PICKS}")
    assert f"project/{PICKS}" in objects.all()
    for opened in (root, from_croissant(f"{url}/Croissant/metadata.json")):
        assert the_run(opened).get_picks("ribosome", "demo") == []


# --- what can only be read is known before ---------------------------------------------------------------

CHANGES: dict[str, Callable[[CopickRootMLC], Any]] = {
    "new picks": new_picks,
    "picks": lambda root: the_picks(root).from_numpy(POINTS),
    "deleted picks": lambda root: the_picks(root).delete(),
    "run": lambda root: root.new_run("new"),
    "deleted run": lambda root: root.delete_run("TS_001"),
    "split": lambda root: setattr(the_run(root), "split", "test"),
    "volume": lambda root: the_tomogram(root).from_numpy(np.zeros((2, 2, 2), np.float32)),
    "segmentation": lambda root: the_run(root).new_segmentation(10.0, "membrane", "1", user_id="me"),
    "object": lambda root: root.new_object("new", True, label=77),
}


def batch(root: CopickRootMLC) -> None:
    with root.batch():
        new_picks(root)


def listed(root: CopickRootMLC) -> Any:
    """All rows, and the keys of what lists hold."""
    rows = {table: list(root.index.rows(table)) for table in TABLES}
    spacings = [spacing for run in root.runs for spacing in run.voxel_spacings]
    volumes = [tomogram.identity for spacing in spacings for tomogram in spacing.tomograms]
    others = [item.identity for run in root.runs for item in (*run.picks, *run.meshes, *run.segmentations)]
    return rows, [spacing.identity for spacing in spacings], volumes, others


def refused(root: CopickRootMLC, proxy: Proxy | None) -> None:
    """Every change is refused, and none sends a request."""
    before = listed(root)
    changes = {**CHANGES, "batch": batch}
    if not root.index.is_local:
        changes["row"] = lambda root: root.index.put(RunRow("new"))
    for what, change in changes.items():
        requests: list[Request] = []
        with proxy.counting() if proxy else nullcontext(requests) as seen, pytest.raises(ReadOnlyError) as caught:
            change(root)
        assert caught.value.code == "read-only", what
        assert what == "row" or "overlay_root" in str(caught.value), what
        assert list(map(str, seen)) == [], what
    assert listed(root) == before


def test_http_can_only_be_read(project: Path) -> None:
    before = tree(project)
    with http_server(project.parent) as url, Proxy(url) as proxy:
        refused(from_croissant(f"{proxy.url}/project/Croissant/metadata.json"), proxy)
    assert tree(project) == before


def test_an_archive_can_only_be_read(project: Path, tmp_path: Path) -> None:
    archive = tmp_path / "project.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for path, data in tree(project).items():
            made.writestr(path, data)
    before = archive.read_bytes()
    refused(from_croissant(f"zip://Croissant/metadata.json::{archive}"), None)
    assert archive.read_bytes() == before


def test_s3_without_a_name_can_only_be_read(bucket: Bucket) -> None:
    fs = s3fs.S3FileSystem()
    policy = {"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::*"}]}
    fs.call_s3("put_bucket_policy", Bucket=bucket.url.removeprefix("s3://"), Policy=json.dumps(policy))
    before = S3Objects(bucket.url).all()
    root = from_croissant(
        f"{bucket.url}/project/Croissant/metadata.json",
        croissant_fs_args={"anon": True},
        static_fs_args={"anon": True},
    )
    refused(root, bucket.proxy)
    assert S3Objects(bucket.url).all() == before


@pytest.mark.parametrize("mode", ["A", "B"])
def test_without_credentials_s3_cannot_be_written(
    bucket: Bucket, manifest: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """No request is sent without them, so neither is one to look."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    options: dict[str, Any] = {"croissant_base_url" if mode == "A" else "overlay_root": f"{bucket.url}/project"}
    before = tree(manifest.parent)
    root = from_croissant(manifest, **options)
    with pytest.raises(ReadOnlyError, match="credentials") as caught:
        root.target.check()
    assert caught.value.code == "read-only"
    if mode == "A":
        refused(root, bucket.proxy)
    else:
        with pytest.raises(StorageError, match="credentials"):
            assert the_run(root).picks
    assert bucket.proxy.requests == []
    assert tree(manifest.parent) == before


def test_with_credentials_of_other_kinds_s3_can_be_written(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    options = {"key": "test", "secret": "test"}
    url = f"{bucket.url}/project/Croissant/metadata.json"
    root = from_croissant(url, croissant_fs_args=options, static_fs_args=options)
    new_picks(root)
    assert sessions(from_croissant(url, croissant_fs_args=options)) == {"1"}


# --- what people know a path by --------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["memory://a/b", "s3://a/b", "http://host/a?b=c", "zip://a/b::/c.zip", "/a/b"])
def test_the_url_of_a_path(url: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as made:
        made.writestr("a/b", "")
    url = url.replace("/c.zip", str(tmp_path / "c.zip"))
    fs, path = _filesystems.open_location(url)
    assert _filesystems.url_of(fs, path) == url.replace("memory://", "memory:///")
