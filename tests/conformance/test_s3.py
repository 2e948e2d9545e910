"""The suite's S3 server: it answers as moto's does, and its objects are files."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path
from socket import SHUT_WR
from typing import Any

import pytest
from fsspec.asyn import sync
from s3fs import S3FileSystem

from conformance.s3 import BUCKET, Server

DATA = bytes(range(256)) * 40
ODD = "odd/ü #?%41+&=~'(x) y.txt"
MANY = [f"many/{number % 3}/{number}.txt" for number in range(12)]
OPTIONS: dict[str, Any] = {
    "key": "test",
    "secret": "test",
    "use_listings_cache": False,
    "skip_instance_cache": True,
    "client_kwargs": {"region_name": "us-east-1"},
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    place = tmp_path / "bucket"
    (place / "given").mkdir(parents=True)
    return place


@pytest.fixture
def server(directory: Path, tmp_path: Path) -> Iterator[Server]:
    running = Server(str(directory), str(tmp_path / "staging"))
    yield running
    running.close()


@pytest.fixture
def ours(server: Server) -> Iterator[tuple[S3FileSystem, str]]:
    yield from opened(server.endpoint, BUCKET)


@pytest.fixture
def motos(s3_endpoint: str) -> Iterator[tuple[S3FileSystem, str]]:
    for fs, bucket in opened(s3_endpoint, f"test-{secrets.token_hex(6)}"):
        fs.call_s3("create_bucket", Bucket=bucket)
        yield fs, bucket


def opened(endpoint: str, bucket: str, **options: Any) -> Iterator[tuple[S3FileSystem, str]]:
    fs = S3FileSystem(endpoint_url=endpoint, **{**OPTIONS, **options})
    yield fs, bucket
    sync(fs.loop, fs.s3.__aexit__, None, None, None)  # else servers wait for what it keeps open


def call(fs: S3FileSystem, method: str, **arguments: Any) -> Any:
    """A request of S3 as it is; what comes back but for what differs with the server and the time."""
    answer = fs.call_s3(method, **arguments)
    return {name: answer[name] for name in ("ETag", "ContentLength", "ContentRange", "KeyCount") if name in answer}


def put(key: str, data: bytes, **conditions: str) -> Callable[[S3FileSystem, str], Any]:
    return lambda fs, bucket: call(fs, "put_object", Bucket=bucket, Key=key, Body=data, **conditions)


def pages(fs: S3FileSystem, bucket: str, method: str, **arguments: Any) -> list[list[str]]:
    """The keys and common prefixes of a list, in pages of four."""
    found = []
    token: dict[str, str] = {}
    while True:
        answer = fs.call_s3(method, Bucket=bucket, MaxKeys=4, **arguments, **token)
        keys = [item["Key"] for item in answer.get("Contents", [])]
        found.append(keys + [item["Prefix"] for item in answer.get("CommonPrefixes", [])])
        if not answer["IsTruncated"]:
            return found
        next_ = answer.get("NextContinuationToken") or answer.get("NextMarker") or keys[-1]
        token = {"ContinuationToken" if method == "list_objects_v2" else "Marker": next_}


def done(_: Any) -> str:
    """What a server says of what it did is its own: moto lists what was removed, though nobody asks for it."""
    return "done"


def etag(fs: S3FileSystem, bucket: str, key: str) -> str:
    found: str = fs.info(f"{bucket}/{key}")["ETag"]
    return found


def details(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: entry.get(name) for name in ("name", "size", "type", "ETag", "StorageClass")}


# One after the other, on both servers; what one writes the next ones find.
OPERATIONS: list[tuple[str, Callable[[S3FileSystem, str], Any]]] = [
    ("empty", lambda fs, b: (fs.ls(b), fs.find(b), fs.exists(b), fs.exists(f"{b}/a"), fs.isdir(b))),
    ("read nothing", lambda fs, b: fs.cat_file(f"{b}/a")),
    ("read at once nothing", lambda fs, b: fs.cat_file(f"{b}/a", max_concurrency=1)),
    ("another bucket", lambda fs, b: fs.cat_file("elsewhere-and-nowhere/a")),
    ("list another bucket", lambda fs, b: fs.ls("elsewhere-and-nowhere/a")),
    ("write", lambda fs, b: done(fs.pipe_file(f"{b}/a", b"one"))),
    ("write below", lambda fs, b: done(fs.pipe({f"{b}/dir/{n}": str(n).encode() for n in range(3)}))),
    ("write much", lambda fs, b: done(fs.pipe_file(f"{b}/dir/data", DATA))),
    ("write an empty one", lambda fs, b: done(fs.pipe_file(f"{b}/dir/empty", b""))),
    ("write an odd name", lambda fs, b: done(fs.pipe_file(f"{b}/{ODD}", "ü".encode()))),
    ("write a stream", lambda fs, b: fs.open(f"{b}/dir/stream", "wb").close()),
    ("read", lambda fs, b: [fs.cat_file(f"{b}/{name}") for name in ("a", "dir/data", "dir/empty", ODD)]),
    (
        "read many",
        lambda fs, b: {path.partition("/")[2]: data for path, data in fs.cat(fs.find(f"{b}/dir")).items()},
    ),
    ("read a part", lambda fs, b: fs.cat_file(f"{b}/dir/data", start=3, end=9)),
    ("read the end", lambda fs, b: fs.cat_file(f"{b}/dir/data", start=-5)),
    ("read past the end", lambda fs, b: call(fs, "get_object", Bucket=b, Key="a", Range="bytes=1-99")),
    ("read after the end", lambda fs, b: call(fs, "get_object", Bucket=b, Key="a", Range="bytes=9-10")),
    ("read if", lambda fs, b: call(fs, "get_object", Bucket=b, Key="a", IfMatch=etag(fs, b, "a"))),
    ("read if other", lambda fs, b: call(fs, "get_object", Bucket=b, Key="a", IfMatch='"0"')),
    ("read unless", lambda fs, b: call(fs, "get_object", Bucket=b, Key="a", IfNoneMatch=etag(fs, b, "a"))),
    ("head", lambda fs, b: call(fs, "head_object", Bucket=b, Key="dir/data")),
    ("head nothing", lambda fs, b: call(fs, "head_object", Bucket=b, Key="dir")),
    ("read a directory", lambda fs, b: fs.cat_file(f"{b}/dir")),
    ("info", lambda fs, b: [details(fs.info(f"{b}/{name}")) for name in ("a", "dir", ODD, "dir/empty")]),
    ("is", lambda fs, b: [(fs.isfile(f"{b}/{n}"), fs.isdir(f"{b}/{n}")) for n in ("a", "dir", "none", "di")]),
    ("list", lambda fs, b: [details(entry) for entry in fs.ls(b, detail=True)]),
    ("list below", lambda fs, b: [details(entry) for entry in fs.ls(f"{b}/dir", detail=True)]),
    ("list a file", lambda fs, b: fs.ls(f"{b}/a")),
    ("list nothing", lambda fs, b: fs.ls(f"{b}/none")),
    ("list a beginning", lambda fs, b: fs.ls(f"{b}/di")),
    ("find", lambda fs, b: fs.find(b)),
    ("find with a prefix", lambda fs, b: fs.find(f"{b}/dir", prefix="da")),
    ("glob", lambda fs, b: fs.glob(f"{b}/d*/[0-9]")),
    ("walk", lambda fs, b: [(path, sorted(dirs), sorted(files)) for path, dirs, files in fs.walk(b)]),
    ("size", lambda fs, b: (fs.du(f"{b}/dir"), fs.size(f"{b}/a"))),
    ("make if none", put("new", b"1", IfNoneMatch="*")),
    ("make if none again", put("new", b"2", IfNoneMatch="*")),
    ("create exclusively", lambda fs, b: fs.pipe_file(f"{b}/new", b"3", mode="create")),
    ("replace if other", put("new", b"4", IfMatch='"00000000000000000000000000000000"')),
    ("replace if", lambda fs, b: put("new", b"5", IfMatch=etag(fs, b, "new"))(fs, b)),
    ("replace nothing", put("none", b"6", IfMatch='"00000000000000000000000000000000"')),
    ("what is there", lambda fs, b: (fs.cat_file(f"{b}/new"), fs.exists(f"{b}/none"))),
    ("copy", lambda fs, b: (fs.cp_file(f"{b}/{ODD}", f"{b}/copy"), fs.cat_file(f"{b}/copy"))),
    ("move", lambda fs, b: (fs.mv(f"{b}/copy", f"{b}/moved"), fs.exists(f"{b}/copy"), fs.exists(f"{b}/moved"))),
    ("remove", lambda fs, b: (fs.rm_file(f"{b}/moved"), fs.exists(f"{b}/moved"))),
    ("remove nothing", lambda fs, b: fs.rm_file(f"{b}/moved")),
    ("remove nothing with all below", lambda fs, b: fs.rm(f"{b}/moved", recursive=True)),
    ("remove a tree", lambda fs, b: (done(fs.rm(f"{b}/dir", recursive=True)), fs.exists(f"{b}/dir"), fs.find(b))),
    ("write many", lambda fs, b: done(fs.pipe({f"{b}/{name}": b"" for name in MANY}))),
    ("list pages", lambda fs, b: pages(fs, b, "list_objects_v2", Prefix="many/")),
    ("list pages of the first version", lambda fs, b: pages(fs, b, "list_objects", Prefix="many/")),
    ("list pages of groups", lambda fs, b: pages(fs, b, "list_objects_v2", Prefix="many/", Delimiter="/")),
    ("list groups", lambda fs, b: pages(fs, b, "list_objects_v2", Prefix="many/", Delimiter="1")),
    ("list after", lambda fs, b: pages(fs, b, "list_objects_v2", Prefix="many/", StartAfter="many/1/1.txt")),
    ("remove many", lambda fs, b: (done(fs.rm([f"{b}/{name}" for name in MANY])), fs.find(b))),
    ("the bucket", lambda fs, b: call(fs, "head_bucket", Bucket=b)),
]


def outcome(operation: Callable[[S3FileSystem, str], Any], fs: S3FileSystem, bucket: str) -> Any:
    try:
        return str(operation(fs, bucket)).replace(bucket, "{bucket}")
    except (OSError, ValueError) as error:
        return type(error).__name__, getattr(error, "errno", None)


def test_it_answers_as_motos_server(ours: tuple[S3FileSystem, str], motos: tuple[S3FileSystem, str]) -> None:
    got = {name: outcome(operation, *ours) for name, operation in OPERATIONS}
    assert got == {name: outcome(operation, *motos) for name, operation in OPERATIONS}


def test_each_operation_but_refusals_succeeds(ours: tuple[S3FileSystem, str]) -> None:
    """So that they are not the same because both refuse."""
    got = {name: outcome(operation, *ours) for name, operation in OPERATIONS}
    refused = {name for name, found in got.items() if isinstance(found, tuple)}
    assert refused == {
        "another bucket",
        "create exclusively",
        "head nothing",
        "list a beginning",
        "list another bucket",
        "list nothing",
        "make if none again",
        "read a directory",
        "read after the end",
        "read at once nothing",
        "read if other",
        "read nothing",
        "read unless",
        "remove nothing with all below",
        "replace if other",
        "replace nothing",
    }


def test_an_unsigned_request_is_refused(
    ours: tuple[S3FileSystem, str], motos: tuple[S3FileSystem, str], server: Server, s3_endpoint: str
) -> None:
    for (signed, bucket), endpoint in ((ours, server.endpoint), (motos, s3_endpoint)):
        signed.pipe_file(f"{bucket}/a", b"")
        for fs, _ in opened(endpoint, bucket, anon=True, key=None, secret=None):
            with pytest.raises(PermissionError):
                fs.cat_file(f"{bucket}/a")


def test_objects_are_files(ours: tuple[S3FileSystem, str], directory: Path) -> None:
    fs, bucket = ours
    fs.pipe_file(f"{bucket}/{ODD}", b"written")
    assert (directory / ODD).read_bytes() == b"written"
    (directory / ODD).write_bytes(b"edited")
    assert fs.cat_file(f"{bucket}/{ODD}") == b"edited"
    assert sorted(path.name for path in directory.iterdir()) == ["given", "odd"]


def test_there_are_no_directories(ours: tuple[S3FileSystem, str], directory: Path) -> None:
    fs, bucket = ours
    assert fs.find(bucket) == []
    for name in ("given/a", "made/b/c"):
        fs.pipe_file(f"{bucket}/{name}", b"")
        fs.rm_file(f"{bucket}/{name}")
    assert [path.name for path in directory.iterdir()] == ["given"]


def test_links_are_read_and_replaced(ours: tuple[S3FileSystem, str], directory: Path) -> None:
    fs, bucket = ours
    (directory / "a").write_bytes(b"a")
    for name, target in (("link", "a"), ("round", "."), ("nowhere", "none")):
        (directory / name).symlink_to(target)
    assert [path.partition("/")[2] for path in fs.find(bucket)] == ["a", "link"]
    assert fs.cat_file(f"{bucket}/link") == b"a"
    fs.pipe_file(f"{bucket}/link", b"b")
    assert (directory / "link").is_symlink() is False
    assert (directory / "a").read_bytes() == b"a"


@pytest.mark.parametrize("key", ["../outside", "a//b", "a/./b", "a/"])
def test_keys_that_are_no_path(ours: tuple[S3FileSystem, str], directory: Path, key: str) -> None:
    fs, bucket = ours
    with pytest.raises(OSError, match="NotImplemented"):
        fs.call_s3("put_object", Bucket=bucket, Key=key, Body=b"")
    with pytest.raises(FileNotFoundError):
        fs.call_s3("get_object", Bucket=bucket, Key=key)
    assert [path.name for path in directory.parent.iterdir()] == ["bucket"]


def test_of_many_who_make_an_object_one_does(server: Server) -> None:
    """Each request is a connection of its own, and a thread of the server."""
    for fs, bucket in opened(server.endpoint, BUCKET):
        for number in range(5):
            key = f"{bucket}/lock-{number}"
            with ThreadPoolExecutor(8) as pool:
                made = list(pool.map(partial(taken, fs, key), range(8)))
            assert made.count(True) == 1
            assert fs.cat_file(key) == str(made.index(True)).encode()


def taken(fs: S3FileSystem, path: str, who: int) -> bool:
    try:
        fs.pipe_file(path, str(who).encode(), mode="create")
    except FileExistsError:
        return False
    return True


def test_only_so_many_requests_are_answered(ours: tuple[S3FileSystem, str], server: Server) -> None:
    fs, bucket = ours
    struck: list[int] = []
    before = server.requests.count
    server.requests.answer(2, lambda: struck.append(server.requests.count - before))
    fs.call_s3("put_object", Bucket=bucket, Key="a", Body=b"1")
    fs.call_s3("put_object", Bucket=bucket, Key="a", Body=b"2")
    assert struck == []
    with closing(HTTPConnection(server.endpoint.removeprefix("http://"))) as connection:
        connection.request("PUT", f"/{bucket}/a", b"3", {"Authorization": "any"})
        with pytest.raises(RemoteDisconnected):
            connection.getresponse()
    assert struck == [3]
    server.requests.answer_all()
    assert fs.cat_file(f"{bucket}/a") == b"2"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Length": "3"}, b"abc"),
        ({"Transfer-Encoding": "chunked"}, b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        (
            {"Content-Encoding": "aws-chunked", "Content-Length": "66"},
            b"2;chunk-signature=12\r\nab\r\n1;chunk-signature=34\r\nc\r\n0;chunk-signature=\r\n",
        ),
        (
            {"Content-Encoding": "aws-chunked", "Content-Length": "41"},
            b"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n",
        ),
    ],
    ids=["plain", "http", "signed", "trailer"],
)
def test_bodies_in_chunks(server: Server, directory: Path, headers: dict[str, str], body: bytes) -> None:
    with closing(HTTPConnection(server.endpoint.removeprefix("http://"))) as connection:
        connection.putrequest("PUT", f"/{BUCKET}/a")
        for name, value in {**headers, "Authorization": "any"}.items():
            connection.putheader(name, str(len(body)) if name == "Content-Length" else value)
        connection.endheaders(body)
        assert connection.getresponse().read() == b""
    assert (directory / "a").read_bytes() == b"abc"


def test_of_half_a_body_nothing_is_kept(server: Server, directory: Path) -> None:
    with closing(HTTPConnection(server.endpoint.removeprefix("http://"))) as connection:
        connection.request("PUT", f"/{BUCKET}/a", b"abc", {"Authorization": "any", "Content-Length": "9"})
        connection.sock.shutdown(SHUT_WR)
        with pytest.raises((RemoteDisconnected, ConnectionResetError)):
            connection.getresponse()
    assert not (directory / "a").exists()
