"""The servers of tests.servers and the portal of tests.portal are what the other tests take them for."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncssh
import botocore.exceptions
import copick
import fsspec
import numpy as np
import pytest
import s3fs
from copick.impl.cryoet_data_portal import CopickRootCDP

from tests import portal as tests_portal
from tests.conftest import Bucket
from tests.portal import ANNOTATIONS, TOMOGRAMS, add_overlay_artifacts, make_portal_root, records, write_config
from tests.projects import inventory
from tests.proxy import Proxy, Request, steps
from tests.servers import Sftp, basic, http_server, refusing_endpoint, s3_environment, silent_endpoint

# What fails soon wherever S3 cannot be reached, and what it takes for that besides: see `probe`.
QUICK = {"connect_timeout": 0.2, "read_timeout": 0.2, "retries": {"total_max_attempts": 1}}


def probe() -> s3fs.S3FileSystem:
    fs = fsspec.filesystem("s3", anon=True, config_kwargs=QUICK, skip_instance_cache=True)
    fs.retries = 1  # s3fs tries what timed out five times by itself
    return fs


def picks_of(root: Any, file: int) -> Any:
    (found,) = (p for run in root.runs for p in run.picks if p.session_id == str(file))
    return found


# --- S3 --------------------------------------------------------------------------------------------------


def test_s3_keeps_what_is_written(s3: str, capfd: pytest.CaptureFixture[str]) -> None:
    fs, path = fsspec.url_to_fs(f"{s3}/a/b.txt")
    fs.pipe_file(path, b"content")
    assert (fs.cat_file(path), fs.ls(s3), fs.exists(f"{s3}/b")) == (b"content", [f"{s3[5:]}/a"], False)
    with pytest.raises(PermissionError):
        s3fs.S3FileSystem(anon=True).cat_file(path)
    assert capfd.readouterr().err == "", "the server keeps no log there"


@pytest.mark.parametrize("round", [1, 2])
def test_each_test_has_a_bucket_of_its_own(s3: str, round: int) -> None:
    fs, path = fsspec.url_to_fs(s3)
    assert fs.ls(path) == []
    fs.pipe_file(f"{path}/a", b"")


def test_the_environment_is_as_before() -> None:
    before = dict(os.environ)
    with refusing_endpoint() as endpoint, s3_environment(endpoint):
        assert os.environ["AWS_ENDPOINT_URL"] == endpoint
        kept = fsspec.filesystem("s3")
        assert fsspec.filesystem("s3") is kept
    assert dict(os.environ) == before
    assert fsspec.filesystem("s3") is not kept
    s3fs.S3FileSystem.clear_instance_cache()


def test_an_endpoint_that_refuses() -> None:
    with (
        refusing_endpoint() as endpoint,
        s3_environment(endpoint),
        pytest.raises(botocore.exceptions.EndpointConnectionError),
    ):
        probe().exists("bucket/a")


def test_an_endpoint_that_never_answers() -> None:
    with (
        silent_endpoint() as endpoint,
        s3_environment(endpoint),
        pytest.raises(botocore.exceptions.ReadTimeoutError),
    ):
        probe().exists("bucket/a")


# --- the portal ------------------------------------------------------------------------------------------


def test_the_portal_lists_what_the_records_say(portal: CopickRootCDP) -> None:
    assert [(run.name, run.portal_run_name) for run in portal.runs] == [
        ("16463", "TS_026"),
        ("16464", "TS_027"),
        ("17001", "Position_1"),
    ]
    tomograms = [t for run in portal.runs for spacing in run.voxel_spacings for t in spacing.tomograms]
    assert [(t.meta.portal_tomo_id, t.tomo_type, t.static_path) for t in tomograms] == [
        (t.id, t.type, t.url) for t in sorted(TOMOGRAMS, key=lambda t: (t.run.id, TOMOGRAMS.index(t)))
    ]
    assert tomograms[0].tomo_type == tomograms[1].tomo_type
    listed = [*(p for run in portal.runs for p in run.picks), *(s for run in portal.runs for s in run.segmentations)]
    assert {item.session_id: item.path for item in listed} == {
        str(file): a.url(file) for a in ANNOTATIONS for file in a.files
    }


def test_the_portal_has_the_data(portal: CopickRootCDP) -> None:
    for annotation in ANNOTATIONS:
        for file in annotation.files:
            if annotation.is_volume:
                (found,) = (s for run in portal.runs for s in run.segmentations if s.session_id == str(file))
                assert np.array_equal(found.numpy(), annotation.volume(file))
                continue
            points, transforms = picks_of(portal, file).numpy()
            lines = annotation.points(file)
            expected = np.array([list(line["location"].values()) for line in lines]) * annotation.run.voxel_size
            assert np.allclose(points, expected)
            turns = [line.get("xyz_rotation_matrix", np.eye(3)) for line in lines]
            assert np.allclose(transforms[:, :3, :3], turns)
    tomograms = [t for run in portal.runs for spacing in run.voxel_spacings for t in spacing.tomograms]
    assert len(tomograms) == len(TOMOGRAMS)
    for tomogram in tomograms:
        (known,) = (t for t in TOMOGRAMS if t.id == tomogram.meta.portal_tomo_id)
        assert np.array_equal(tomogram.numpy(), known.volume)


def test_the_overlay_has_one_of_each_kind(portal: CopickRootCDP) -> None:
    add_overlay_artifacts(portal)
    found = inventory(portal, data=False)
    run = found["runs"]["16463"]
    assert [key for key in run["picks"] if key[0] == "me"] == [("me", "1", "ribosome")]
    assert list(run["meshes"]) == [("me", "1", "membrane")]
    assert sorted(key for key in run["segmentations"] if key[2] == "me") == [
        ("binary", "10.000", "me", "1", "membrane"),
        ("multilabel", "10.000", "me", "1", "all"),
    ]
    assert run["spacings"]["20.000"] == {"binned": (None, {})}
    assert run["spacings"]["10.000"] == {"wbp-filtered-ctfdeconv": (None, {"edges": None}), "mine": (None, {})}
    assert found["objects"]["ribosome"][1]


def test_records_can_be_changed(tmp_path: Path) -> None:
    data = records()
    data["runs"] = [run for run in data["runs"] if run["id"] == 17001]
    with refusing_endpoint() as endpoint, s3_environment(endpoint):
        assert [run.name for run in make_portal_root(tmp_path / "overlay", data).runs] == ["17001"]
    assert len(records()["runs"]) == 3


def test_a_portal_that_cannot_be_reached_lists_all_the_same(unreachable_portal: CopickRootCDP) -> None:
    assert len(unreachable_portal.runs) == 3
    picks = picks_of(unreachable_portal, 5001)
    with pytest.raises(botocore.exceptions.EndpointConnectionError):
        picks.load()


def test_nothing_leaves_the_loopback_interface(unreachable_portal: CopickRootCDP, tmp_path: Path) -> None:
    """Not even where copick asks the portal itself, as for a run that it has not listed yet."""
    config = write_config(tmp_path / "config.json", tmp_path / "portal")
    code = f"""
import json, socket, sys
hosts = set()
def hook(event, arguments):
    if event == "socket.getaddrinfo":
        hosts.add(arguments[0])
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        hosts.add(arguments[1][0])
sys.addaudithook(hook)
import copick, cryoet_data_portal
root = copick.from_file({str(config)!r})
found = [picks.session_id for run in root.runs for picks in run.picks]
before = sorted(hosts)
raised = []
for work in (root.runs[0].picks[0].load, lambda: cryoet_data_portal.Run.get_by_id(cryoet_data_portal.Client(), 1)):
    try:
        work()
    except Exception as error:
        raised.append(type(error).__name__)
print(json.dumps([found, before, raised, sorted(hosts)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, before, raised, hosts = json.loads(done.stdout.splitlines()[-1])  # copick's logger speaks before
    assert found == ["5001", "5011", "5002", "5005"]
    assert before == [], "copick finds its cache again, and asks nobody"
    assert raised == ["EndpointConnectionError", "TransportConnectionFailed"]
    assert hosts == ["127.0.0.1"]


def test_a_configuration_opens_the_same_project(portal: CopickRootCDP, tmp_path: Path) -> None:
    config = write_config(tmp_path / "config.json", tmp_path / "portal")
    root = copick.from_file(str(config))
    assert isinstance(root, CopickRootCDP)
    assert inventory(root, data=False) == inventory(portal, data=False)


def test_each_object_is_in_the_bucket_of_the_portal() -> None:
    assert all(url.startswith(f"s3://{tests_portal.BUCKET}/1030") for url in tests_portal.contents())


# --- a proxy ---------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Path:
    directory = tmp_path / "files"
    (directory / "a dir").mkdir(parents=True)
    (directory / "a dir" / "50%#.txt").write_bytes(b"content")
    (directory / "large").write_bytes(bytes(range(256)) * 20_000)
    return directory


@pytest.fixture
def web(files: Path) -> Iterator[Proxy]:
    """An HTTP server of `files` behind a proxy."""
    with http_server(files) as url, Proxy(url) as proxy:
        yield proxy


def http_fs() -> Any:
    """A file system with connections of its own, which it keeps alive."""
    return fsspec.filesystem("http", skip_instance_cache=True)


def get(url: str) -> http.client.HTTPResponse:
    """The whole answer to one request on one connection; without a proxy that the environment names."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        answer.read()
        return answer
    finally:
        connection.close()


def test_a_proxy_passes_everything_on(s3_proxy: Bucket) -> None:
    fs = s3fs.S3FileSystem()
    data = os.urandom(6 << 20)
    path = f"{s3_proxy.url}/a b/50%#ä.bin"
    fs.pipe_file(path, data)
    assert fs.cat_file(path) == data
    assert fs.cat_file(path, start=5, end=9) == data[5:9]
    assert fs.info(path)["size"] == len(data), "of HEAD"
    fs.pipe({f"{s3_proxy.url}/many/{i}": bytes([i]) for i in range(50)})
    assert len(fs.ls(f"{s3_proxy.url}/many")) == 50
    fs.rm(s3_proxy.url + "/many", recursive=True)
    assert not fs.exists(s3_proxy.url + "/many")
    with pytest.raises(FileNotFoundError):
        fs.cat_file(s3_proxy.url + "/none")


def test_a_proxy_takes_chunked_bodies(s3_proxy: Bucket) -> None:
    connection = http.client.HTTPConnection(urlsplit(s3_proxy.proxy.url).netloc, timeout=30)
    path = urlsplit(s3_proxy.url).netloc + "/chunked"
    connection.request("PUT", f"/{path}", iter([b"one", b"two"]), encode_chunked=True)
    status = connection.getresponse().status
    connection.close()
    assert (status, s3fs.S3FileSystem().cat_file(path)) == (200, b"onetwo")


def test_a_proxy_records_requests(web: Proxy) -> None:
    fs = http_fs()
    with web.counting() as seen:
        assert fs.cat_file(f"{web.url}/a%20dir/50%25%23.txt?x=1&y=%20") == b"content"
        assert not fs.exists(f"{web.url}/none")
    (first, second) = seen
    assert (first.method, first.path, first.query, first.status) == ("GET", "/a dir/50%#.txt", "x=1&y=%20", 200)
    assert first.headers["host"] == urlsplit(web.url).netloc
    assert (second.path, second.status, str(second)) == ("/none", 404, f"{second.method} /none -> 404")
    assert first.start <= first.end <= second.start <= second.end
    assert web.requests == seen
    web.reset()
    assert (web.requests, len(seen)) == ([], 2)


def test_a_proxy_is_slow_and_counts_steps(web: Proxy) -> None:
    web.latency = 0.3
    start = time.monotonic()
    with web.counting() as seen, ThreadPoolExecutor(8) as pool:
        assert {answer.status for answer in pool.map(get, [f"{web.url}/large"] * 8)} == {200}
        get(f"{web.url}/large")
    assert time.monotonic() - start >= 0.6
    assert len(seen) == 9
    assert steps(seen[:8]) < 8, "those are sent together"
    assert steps([*seen[:1], seen[8]]) == 2


def test_steps() -> None:
    def request(start: float, end: float) -> Request:
        return Request("GET", "/", "", {}, start, end)

    assert steps([]) == 0
    assert steps([request(0, 10), request(1, 2), request(2, 3), request(2.5, 9)]) == 2
    assert steps([request(0, 10), request(1, 2), request(11, 12), request(3, 4)]) == 3
    assert steps([request(0, 1), request(5, float("inf"))]) == 2


@pytest.mark.parametrize(
    ("status", "expected"), [(403, PermissionError), (404, FileNotFoundError), (500, OSError), (503, OSError)]
)
def test_a_status_is_injected(s3_proxy: Bucket, status: int, expected: type[Exception]) -> None:
    fs = s3fs.S3FileSystem(config_kwargs=QUICK, skip_instance_cache=True)
    fs.retries = 1
    fs.pipe_file(f"{s3_proxy.url}/a", b"content")
    rule = s3_proxy.proxy.fault(("", "/a"), status)
    with s3_proxy.proxy.counting() as seen, pytest.raises(expected):
        fs.cat_file(f"{s3_proxy.url}/a")
    met = [request for request in seen if request.path.endswith("/a")]
    assert rule.hits == len(met) > 0
    assert {(request.status, request.fault) for request in met} == {(status, status)}
    s3_proxy.proxy.heal()
    assert fs.cat_file(f"{s3_proxy.url}/a") == b"content"


def test_a_rule_holds_for_what_it_matches(web: Proxy) -> None:
    fs = http_fs()
    rule = web.fault(("GET", "/large"), 500, times=2)
    by_query = web.fault(lambda request: request.query == "fail", 404)
    assert fs.cat_file(f"{web.url}/a%20dir/50%25%23.txt") == b"content"
    assert fs.exists(f"{web.url}/large?other") is False, "it asks by HEAD and GET, or by GET"
    with pytest.raises(FileNotFoundError):
        fs.cat_file(f"{web.url}/a%20dir/50%25%23.txt?fail")
    while rule.hits < 2:
        assert get(f"{web.url}/large").status == 500
    assert get(f"{web.url}/large").status == 200
    assert (rule.hits, by_query.hits) == (2, 1)
    with pytest.raises(ValueError, match="'rest' is none of"):
        web.fault(("", ""), "rest")


def test_a_connection_is_reset(web: Proxy) -> None:
    web.fault(("GET", "large"), "reset", times=1)
    with pytest.raises(ConnectionResetError):
        get(f"{web.url}/large")
    assert [(request.status, request.fault) for request in web.requests] == [(None, "reset")]
    assert get(f"{web.url}/large").status == 200


def test_a_body_is_cut_off(web: Proxy) -> None:
    web.fault(("GET", "large"), "truncate", times=1)
    with pytest.raises(http.client.IncompleteRead) as caught:
        get(f"{web.url}/large")
    assert len(caught.value.partial) == caught.value.expected == 256 * 10_000
    assert get(f"{web.url}/large").status == 200


def test_a_body_stalls(web: Proxy) -> None:
    web.fault(("GET", "large"), "stall", times=2)
    connection = http.client.HTTPConnection(urlsplit(web.url).netloc, timeout=0.5)
    connection.request("GET", "/large")
    answer = connection.getresponse()
    assert answer.status == 200
    with pytest.raises(TimeoutError):
        answer.read()
    answer.close()
    connection.close()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(get, f"{web.url}/large")
        while len(web.requests) < 2:
            time.sleep(0.01)
        assert not waiting.done()
        web.release()
        assert waiting.result().status == 200


def test_an_answer_is_lost(s3_proxy: Bucket) -> None:
    fs = s3fs.S3FileSystem(config_kwargs=QUICK, skip_instance_cache=True)
    fs.retries = 1
    s3_proxy.proxy.fault(("PUT", "/a"), "drop-response", times=2)  # aiohttp sends a PUT again, once
    with pytest.raises((botocore.exceptions.BotoCoreError, OSError)):
        fs.pipe_file(f"{s3_proxy.url}/a", b"content")
    assert fs.cat_file(f"{s3_proxy.url}/a") == b"content", "it was written all the same"


def test_something_happens_before_a_request(web: Proxy, files: Path) -> None:
    web.fault(("GET", "large"), lambda request: (files / "large").write_bytes(request.path.encode()), times=1)
    assert http_fs().cat_file(f"{web.url}/large") == b"/large"


def test_a_proxy_drops_connections_and_takes_new_ones(web: Proxy) -> None:
    connection = http.client.HTTPConnection(urlsplit(web.url).netloc, timeout=30)
    connection.request("HEAD", "/large")
    connection.getresponse().read()
    web.drop_connections()
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):  # noqa: PT012  # either may notice
        connection.request("HEAD", "/large")
        connection.getresponse()
    connection.close()
    assert get(f"{web.url}/large").status == 200


def test_a_proxy_leaves_nothing(files: Path) -> None:
    before = threading.active_count()
    with http_server(files) as url, Proxy(url) as proxy:
        fs = http_fs()
        fs.cat_file(f"{proxy.url}/large")
        proxy.latency = 60  # nobody waits for it
        with ThreadPoolExecutor(1) as pool:
            lost = pool.submit(get, f"{proxy.url}/large")
            while len(proxy.requests) < 2:
                time.sleep(0.01)
            proxy.closing.set()
            assert lost.result().status == 200
    assert threading.active_count() <= before + 1, "at most fsspec's own thread"
    with pytest.raises(ConnectionRefusedError):
        get(f"{proxy.url}/large")


# --- HTTP ------------------------------------------------------------------------------------------------


def test_http_with_and_without_listings(files: Path) -> None:
    with http_server(files) as url:
        assert sorted(http_fs().ls(url, detail=False)) == [f"{url}/a%20dir/", f"{url}/large"]
        assert get(f"{url}/a%20dir/").status == 200
    with http_server(files, listings=False) as url:
        assert [get(url + path).status for path in ("/", "/a%20dir", "/a%20dir/", "/large")] == [404, 404, 404, 200]


def test_http_for_those_who_may(files: Path) -> None:
    with http_server(files, authorization=basic("me", "secret")) as url:
        for headers, status in ({}, 401), ({"Authorization": "Bearer x"}, 403):
            fs = fsspec.filesystem("http", client_kwargs={"headers": headers}, skip_instance_cache=True)
            with pytest.raises(aiohttp.ClientResponseError) as caught:
                fs.cat_file(f"{url}/large")
            assert caught.value.status == status
        fs = fsspec.filesystem("http", client_kwargs={"headers": {"Authorization": basic("me", "secret")}})
        assert len(fs.cat_file(f"{url}/large")) == 256 * 20_000


# --- SFTP ------------------------------------------------------------------------------------------------


def test_sftp_keeps_what_is_written(sftp: Sftp) -> None:
    fs, path = fsspec.url_to_fs(f"{sftp.url}/a/b.txt")
    fs.pipe_file(path, b"content")
    assert (sftp.directory / "a" / "b.txt").read_bytes() == b"content"
    other, path = fsspec.url_to_fs("ssh://127.0.0.1/a/b.txt", **sftp.options)
    assert other.cat_file(path) == b"content"
    with pytest.raises(FileNotFoundError):
        other.cat_file(f"/../../{sftp.directory}/a/b.txt")
    with pytest.raises(PermissionError):
        fsspec.filesystem("ssh", host="127.0.0.1", **{**sftp.options, "password": "wrong"})


def test_sftp_drops_connections(sftp: Sftp) -> None:
    fs, path = fsspec.url_to_fs(f"{sftp.url}/a")
    fs.pipe_file(path, b"content")
    assert len(sftp.connections) == 1
    sftp.drop_connections()
    with pytest.raises((asyncssh.Error, OSError)):
        fs.cat_file(path)
    assert not sftp.connections
    type(fs).clear_instance_cache()
    fs, path = fsspec.url_to_fs(f"{sftp.url}/a")
    assert fs.cat_file(path) == b"content"
