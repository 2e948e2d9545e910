"""A small S3 server: a directory is its only bucket, and the files below it are the objects.

So what an implementation does on S3 can be judged, and edited, as files. It answers what clients of S3 ask in reading,
writing, listing and deleting objects, with conditional writes; tests hold it against another server. What it has
not: uploads in parts, versions, metadata of objects, and keys that are no relative path, as one with an empty segment.
Any signature will do, but a request needs one. Addresses are path-style: http://host:port/bucket/key.

As in an object store there are no directories: an empty one is not seen, and one that a deletion empties is removed,
unless it was made otherwise, and empty. A file that is written is replaced at once, also where it is a symbolic link.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from time import gmtime, strftime
from typing import IO, Any, cast
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

try:
    _fcntl: Any = importlib.import_module("fcntl")
except ImportError:  # Windows has no flock(2)
    _fcntl = None

#: The name of the bucket.
BUCKET = "work"

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_MOST_KEYS = 1000
_STATUS = {
    "AccessDenied": 403,
    "InvalidRange": 416,
    "MalformedXML": 400,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NotImplemented": 501,
    "PreconditionFailed": 412,
}
# What asks for something else than an object or a list of them, such as `uploads` or `acl`, is not one of these.
_PARAMETERS = frozenset(
    "prefix delimiter max-keys continuation-token start-after marker encoding-type list-type fetch-owner delete "
    "x-id".split()
)


class S3Error(Exception):
    """What is answered instead, by its code; `condition` is the header that asked for something else."""

    def __init__(self, code: str, condition: str = "") -> None:
        super().__init__(code)
        self.code = code
        more = f"<Condition>{condition}</Condition>" if condition else ""
        self.elements = f"<Code>{code}</Code><Message>{code}</Message>{more}"


@dataclass(frozen=True)
class Found:
    """An object."""

    data: bytes
    modified: float

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


class Bucket:
    """Objects that are files below a directory."""

    def __init__(self, root: str, staging: str) -> None:
        """Files below `staging`, which is on the same disk, are none; what is written begins there."""
        self._root, self._staging = root, staging
        self._given = {root}
        self._threads = threading.Lock()

    def get(self, key: str) -> Found:
        """The object with that key."""
        path = self._path(key)
        if path is None or not os.path.isfile(path):
            raise S3Error("NoSuchKey")
        if not os.access(path, os.R_OK):
            raise S3Error("AccessDenied")
        try:
            with open(path, "rb") as file:
                return Found(file.read(), os.fstat(file.fileno()).st_mtime)
        except FileNotFoundError as error:
            raise S3Error("NoSuchKey") from error

    def put(self, key: str, data: bytes, conditions: Mapping[str, str]) -> Found:
        """Make or replace an object, if it is as the conditions say."""
        path = self._path(key)
        if path is None:
            raise S3Error("NotImplemented")
        temporary = os.path.join(self._staging, secrets.token_hex(8))
        os.makedirs(self._staging, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
        try:
            with self._alone():
                self._check(key, conditions)
                self._make_directory(os.path.dirname(path))
                os.replace(temporary, path)
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            raise S3Error("NotImplemented") from error  # no disk has a file and a directory of one name
        except PermissionError as error:
            raise S3Error("AccessDenied") from error
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
        return self.get(key)

    def delete(self, key: str, conditions: Mapping[str, str]) -> None:
        """Remove an object, if it is there and as the conditions say."""
        path = self._path(key)
        with self._alone():
            self._check(key, conditions)
            if path is None or not os.path.isfile(path):
                return
            try:
                os.unlink(path)
                self._remove_empty(os.path.dirname(path))
            except PermissionError as error:
                raise S3Error("AccessDenied") from error

    def list(self, prefix: str) -> dict[str, str]:
        """The keys with that prefix, in order, and the paths of the files."""
        above = prefix.rpartition("/")[0]
        start = self._path(above) if above else self._root
        found = dict(self._walk(start, f"{above}/" if above else "")) if start else {}
        return {key: found[key] for key in sorted(found, key=os.fsencode) if key.startswith(prefix)}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold what all buckets have that stage in one directory, in whatever process."""
        os.makedirs(self._staging, exist_ok=True)
        with self._threads, open(os.path.join(self._staging, "lock"), "wb") as file:
            if _fcntl:
                _fcntl.flock(file, _fcntl.LOCK_EX)
            yield

    def _walk(self, directory: str, prefix: str, above: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
        real = os.path.realpath(directory)
        if real in above or directory == self._staging or not os.path.isdir(directory):
            return
        with suppress(FileNotFoundError, PermissionError):
            for name in os.listdir(directory):
                path = os.path.join(directory, name)
                if os.path.isfile(path):
                    yield f"{prefix}{name}", path
                else:
                    yield from self._walk(path, f"{prefix}{name}/", (*above, real))

    def _path(self, key: str) -> str | None:
        """The file of a key, or None where no file can have it."""
        if "\0" in key or any(segment in ("", ".", "..") for segment in key.split("/")):
            return None
        path = os.path.join(self._root, *key.split("/"))
        return None if path.startswith(f"{self._staging}{os.sep}") else path

    def _check(self, key: str, conditions: Mapping[str, str]) -> None:
        """Whether the object is as the headers If-Match and If-None-Match say."""
        try:
            etag = self.get(key).etag
        except S3Error:
            if "If-Match" in conditions:
                raise
            return
        if not _matches(conditions.get("If-Match", "*"), etag):
            raise S3Error("PreconditionFailed", "If-Match")
        if _matches(conditions.get("If-None-Match"), etag):
            raise S3Error("PreconditionFailed", "If-None-Match")

    def _make_directory(self, path: str) -> None:
        above = path
        while not os.path.isdir(above):
            above = os.path.dirname(above)
        if not os.listdir(above):  # all that were emptied here are gone
            self._given.add(above)
        os.makedirs(path, exist_ok=True)

    def _remove_empty(self, directory: str) -> None:
        while directory not in self._given:
            try:
                os.rmdir(directory)
            except OSError:  # it is not empty
                return
            directory = os.path.dirname(directory)


def _matches(condition: str | None, etag: str) -> bool:
    return condition is not None and (condition == "*" or etag.strip('"') in condition)


# --- the server ------------------------------------------------------------------------------------------


@dataclass
class Requests:
    """The requests to a server, which can be told to answer only so many of them."""

    count: int = 0
    _last: int | None = None
    _at_the_end: Callable[[], None] = lambda: None
    _active: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def one(self) -> Iterator[bool]:
        """Deal with a request: whether it is to be answered."""
        with self._changed:
            self.count += 1
            answered = self._last is None or self.count <= self._last
            first = self._last is not None and self.count == self._last + 1
            self._active += answered
        if first:
            self._at_the_end()
        try:
            yield answered
        finally:
            with self._changed:
                self._active -= answered
                self._changed.notify_all()

    def answer(self, count: int, then: Callable[[], None]) -> None:
        """Answer `count` more requests; do what `then` does when another comes, and answer none."""
        with self._changed:
            self._last, self._at_the_end = self.count + count, then

    def answer_all(self) -> None:
        """Answer all that come; first wait for the end of those that are being answered."""
        with self._changed:
            self._changed.wait_for(lambda: not self._active)
            self._last = None


class Server:
    """A server on a port of the loopback interface, in threads of this process.

    Attributes:
        endpoint: Its URL.
        url: That of the bucket, `s3://…`.
        requests: The requests that came.
    """

    def __init__(self, root: str, staging: str) -> None:
        self.requests = Requests()
        bucket = Bucket(os.path.realpath(root), os.path.realpath(staging))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, bucket, self.requests))
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.url = f"s3://{BUCKET}"

    @property
    def environment(self) -> dict[str, str]:
        """What has clients of S3 that heed the environment come here."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, bucket: Bucket, requests: Requests, *arguments: object) -> None:
        self._bucket, self._requests = bucket, requests
        super().__init__(*arguments)  # type: ignore[arg-type]

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: standard error is the adapter's."""

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client that was killed
            super().handle()

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_HEAD(self) -> None:
        self._answer(self._get)

    def do_PUT(self) -> None:
        self._answer(self._put)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, method: Callable[[str, Mapping[str, str], bytes], None]) -> None:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path[1:]).partition("/")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        body = _body(self.headers, cast("IO[bytes]", self.rfile))
        with self._requests.one() as answered:
            if not answered:
                self.close_connection = True
                return
            try:
                if "Authorization" not in self.headers:
                    raise S3Error("AccessDenied")
                if bucket != BUCKET:
                    raise S3Error("NoSuchBucket")
                if not _PARAMETERS.issuperset(query):
                    raise S3Error("NotImplemented")
                method(key, query, body)
            except S3Error as error:
                self._send(_STATUS[error.code], f"<Error>{error.elements}</Error>".encode())

    # --- requests ----------------------------------------------------------------------------------------

    def _get(self, key: str, query: Mapping[str, str], body: bytes) -> None:
        if key:
            self._get_object(self._bucket.get(key))
        elif self.command == "HEAD":
            self._send(200)
        else:
            self._list(query)

    def _get_object(self, found: Found) -> None:
        headers = {
            "ETag": found.etag,
            "Last-Modified": formatdate(found.modified, usegmt=True),
            "Accept-Ranges": "bytes",
            "Content-Type": "binary/octet-stream",
        }
        if not _matches(self.headers.get("If-Match", "*"), found.etag):
            raise S3Error("PreconditionFailed", "If-Match")
        if _matches(self.headers.get("If-None-Match"), found.etag):
            self._send(304, headers=headers)
            return
        asked = self.headers.get("Range")
        if asked is None:
            self._send(200, found.data, headers)
            return
        first, last = _range(asked, len(found.data))
        headers["Content-Range"] = f"bytes {first}-{last}/{len(found.data)}"
        self._send(206, found.data[first : last + 1], headers)

    def _put(self, key: str, query: Mapping[str, str], body: bytes) -> None:
        source = self.headers.get("x-amz-copy-source")
        if not key:
            raise S3Error("NotImplemented")
        if source is None:
            self._send(200, headers={"ETag": self._bucket.put(key, body, self._conditions()).etag})
            return
        bucket, _, name = unquote(source).removeprefix("/").partition("/")
        if bucket != BUCKET:
            raise S3Error("NoSuchBucket")
        made = self._bucket.put(key, self._bucket.get(name).data, self._conditions())
        self._send_document(
            "CopyObjectResult", f"<ETag>{escape(made.etag)}</ETag><LastModified>{_time(made.modified)}</LastModified>"
        )

    def _delete(self, key: str, query: Mapping[str, str], body: bytes) -> None:
        if not key:
            raise S3Error("NotImplemented")
        self._bucket.delete(key, self._conditions())
        self._send(204)

    def _post(self, key: str, query: Mapping[str, str], body: bytes) -> None:
        """Delete several objects."""
        if key or "delete" not in query:
            raise S3Error("NotImplemented")
        try:
            document = ElementTree.fromstring(body)
        except ElementTree.ParseError as error:
            raise S3Error("MalformedXML") from error
        quiet = document.findtext(f"{{{_NAMESPACE}}}Quiet") == "true"
        done = []
        for item in document.iter(f"{{{_NAMESPACE}}}Key"):
            name = item.text or ""
            try:
                self._bucket.delete(name, {})
                if not quiet:
                    done.append(f"<Deleted><Key>{escape(name)}</Key></Deleted>")
            except S3Error as error:
                done.append(f"<Error><Key>{escape(name)}</Key>{error.elements}</Error>")
        self._send_document("DeleteResult", "".join(done))

    def _list(self, query: Mapping[str, str]) -> None:
        """ListObjectsV2, or the first version of it."""
        second = query.get("list-type") == "2"
        encode = partial(quote, safe="/") if query.get("encoding-type") == "url" else escape
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        most = min(int(query.get("max-keys", _MOST_KEYS)), _MOST_KEYS)
        # A token is the last name of the page before.
        after = query.get("continuation-token" if second else "marker") or query.get("start-after", "")
        names = _grouped(self._bucket.list(prefix), prefix, delimiter)
        left = [name for name in names if os.fsencode(name) > os.fsencode(after)]
        page, more = left[:most], len(left) > most > 0
        parts = [f"<Name>{BUCKET}</Name><Prefix>{encode(prefix)}</Prefix><MaxKeys>{most}</MaxKeys>"]
        if delimiter:
            parts.append(f"<Delimiter>{encode(delimiter)}</Delimiter>")
        if "encoding-type" in query:
            parts.append("<EncodingType>url</EncodingType>")
        parts.append(f"<IsTruncated>{str(more).lower()}</IsTruncated>")
        if second:
            parts.append(f"<KeyCount>{len(page)}</KeyCount>")
        if more:
            tag = "NextContinuationToken" if second else "NextMarker"
            parts.append(f"<{tag}>{escape(page[-1])}</{tag}>")
        for name in page:
            path = names[name]
            if path is None:
                parts.append(f"<CommonPrefixes><Prefix>{encode(name)}</Prefix></CommonPrefixes>")
                continue
            with suppress(S3Error):  # it has gone since
                found = self._bucket.get(name)
                parts.append(
                    f"<Contents><Key>{encode(name)}</Key><LastModified>{_time(found.modified)}</LastModified>"
                    f"<ETag>{escape(found.etag)}</ETag><Size>{len(found.data)}</Size>"
                    "<StorageClass>STANDARD</StorageClass></Contents>"
                )
        self._send_document("ListBucketResult", "".join(parts))

    # --- answers -----------------------------------------------------------------------------------------

    def _conditions(self) -> dict[str, str]:
        return {name: self.headers[name] for name in ("If-Match", "If-None-Match") if name in self.headers}

    def _send_document(self, name: str, content: str) -> None:
        self._send(200, f'<{name} xmlns="{_NAMESPACE}">{content}</{name}>'.encode())

    def _send(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/xml", **(headers or {})}.items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)


def _grouped(keys: Mapping[str, str], prefix: str, delimiter: str) -> dict[str, str | None]:
    """Names of a list: keys with the paths of their files, and in place of some what they have in common."""
    names: dict[str, str | None] = {}
    for key, path in keys.items():
        head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        if found:
            names[f"{prefix}{head}{found}"] = None
        else:
            names[key] = path
    return names


def _range(asked: str, size: int) -> tuple[int, int]:
    """The first and the last byte of a range."""
    first, _, last = asked.removeprefix("bytes=").partition("-")
    if not first:
        return max(0, size - int(last)), size - 1
    if int(first) >= size:
        raise S3Error("InvalidRange")
    return int(first), min(int(last or size), size - 1)


def _time(seconds: float) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S.000Z", gmtime(seconds))


# --- bodies ----------------------------------------------------------------------------------------------


def _body(headers: Message, stream: IO[bytes]) -> bytes:
    """The body of a request, which may be sent in chunks of http, and have chunks of S3 in it."""
    if headers.get("Transfer-Encoding", "").lower() == "chunked":
        data = b"".join(_chunks(stream))
    else:
        data = _read(stream, int(headers.get("Content-Length", 0)))
    return b"".join(_chunks(BytesIO(data))) if "aws-chunked" in headers.get("Content-Encoding", "") else data


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """Chunks, each after a line with its size; after them there may be lines up to an empty one, or the end."""
    while size := int(stream.readline().partition(b";")[0] or b"-1", 16):
        yield _read(stream, size)
        stream.readline()
    while stream.readline().strip():
        pass


def _read(stream: IO[bytes], size: int) -> bytes:
    """As many bytes; of a client that was killed while it sent them nothing is taken."""
    data = stream.read(max(size, 0))
    if len(data) != size:
        raise ConnectionAbortedError
    return data
