"""Real servers on the loopback interface: S3, HTTP and SFTP that work, and endpoints that do not.

with s3_server() as endpoint, s3_environment(endpoint):
    fsspec.filesystem("s3").mkdir("a-bucket")

Put a `tests.proxy.Proxy` before one of HTTP to count its requests, and to let them be slow or fail.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import os
import re
import socket
import sys
from base64 import b64encode
from collections.abc import Coroutine, Iterator
from contextlib import closing, contextmanager
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from threading import Lock, Thread
from typing import Any, TypeVar

import asyncssh
import fsspec
import pytest
import s3fs
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

from tests.proxy import HOST, LoopbackServer

T = TypeVar("T")

# Lead botocore neither elsewhere nor to somebody's own account.
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "",
    "AWS_SHARED_CREDENTIALS_FILE": "",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": HOST,
    "no_proxy": HOST,
}
_UNWANTED = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_MAX_ATTEMPTS",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_SESSION_TOKEN",
)


class _Handler(MotoRequestHandler):
    """Answers without a word on stderr, and with moto's Server header alone: aiohttp takes no two."""

    def log(self, type: str, message: str, *args: Any) -> None:
        pass

    def send_response(self, code: int, message: str | None = None) -> None:
        self.send_response_only(code, message)


class _Atomic:
    """moto, one request at a time: S3 looks at a condition and puts the object in one step, which moto does not."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = Lock()

    def __call__(self, environment: dict[str, Any], start_response: Any) -> list[bytes]:
        with self._lock, closing(self._app(environment, start_response)) as answer:
            return list(answer)


@contextmanager
def s3_server() -> Iterator[str]:
    """Run moto's S3 server in a thread; its endpoint URL.

    It is moto's ThreadedMotoServer but for the log that this writes and the socket that it leaves open. moto keeps
    buckets in the process: a second server would have those of the first.
    """
    server = make_server(HOST, 0, _Atomic(), threaded=True, request_handler=_Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class S3Objects:
    """The objects of a bucket, as moto keeps them in this process: to look at and to set up, without requests."""

    def __init__(self, url: str) -> None:
        self._bucket = url.removeprefix("s3://")
        self._backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]

    def all(self) -> dict[str, bytes]:
        """The bytes of each object, by key."""
        return {key: found.value for key, found in sorted(self._backend.get_bucket(self._bucket).keys.items())}

    def object(self, key: str) -> Any:
        return self._backend.get_bucket(self._bucket).keys[key]

    def put(self, key: str, data: bytes) -> None:
        self._backend.put_object(self._bucket, key, data)

    def remove(self, key: str) -> None:
        self._backend.delete_object(self._bucket, key)


@contextmanager
def refusing_endpoint() -> Iterator[str]:
    """An endpoint that refuses every connection: its port is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        yield f"http://{HOST}:{taken.getsockname()[1]}"


@contextmanager
def silent_endpoint() -> Iterator[str]:
    """An endpoint that takes connections and never answers: the kernel accepts them, and nobody else."""
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen(128)
        yield f"http://{HOST}:{listening.getsockname()[1]}"


# --- HTTP ------------------------------------------------------------------------------------------------


def basic(user: str, password: str) -> str:
    """The Authorization header of a user."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@contextmanager
def http_server(directory: Path, *, authorization: str | None = None, listings: bool = True) -> Iterator[str]:
    """Serve the files below a directory; the URL of that.

    Args:
        directory: The directory.
        authorization: An Authorization header that each request must have: 401 without one, 403 with another.
        listings: Whether a directory is a page that lists it; else there is no such thing, as before an object store.
    """

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(directory))

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def send_head(self) -> Any:
            given = self.headers.get("Authorization")
            if authorization not in (None, given):
                self.send_error(401 if given is None else 403)
                return None
            if not listings and os.path.isdir(self.translate_path(self.path)):
                self.send_error(404)
                return None
            part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if part is None:
                return super().send_head()
            return self._send_part(int(part[1]), int(part[2] or sys.maxsize))

        def _send_part(self, first: int, last: int) -> io.BytesIO | None:
            """As each web server does, and http.server does not."""
            try:
                data = Path(self.translate_path(self.path)).read_bytes()
            except OSError:
                self.send_error(404)
                return None
            part = data[first : last + 1]
            self.send_response(206)
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
            self.end_headers()
            return io.BytesIO(part)

    server = LoopbackServer(Handler)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


# --- SFTP ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Sftp:
    """A running SFTP server.

    Attributes:
        directory: What it shows as its root.
        url: Its root, with user, password and port: `f"{url}/a/b"` opens with no options.
        options: The same as fsspec options, for `ssh://127.0.0.1/a/b`.
        connections: Those that are open.
    """

    directory: Path
    url: str
    options: dict[str, Any]
    connections: set[asyncssh.SSHServerConnection]
    loop: asyncio.AbstractEventLoop

    def drop_connections(self) -> None:
        """End all connections at once, as where the network fails. New ones are taken."""

        async def abort() -> None:
            for connection in list(self.connections):
                connection.abort()

        _run(self.loop, abort())


def _run(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(work, loop).result()


@contextmanager
def sftp_server(directory: Path, *, user: str = "test", password: str = "secret") -> Iterator[Sftp]:
    """Serve a directory over SFTP, to one user. It takes no commands, as `cp`."""
    connections: set[asyncssh.SSHServerConnection] = set()

    class Server(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            self._connection = conn
            connections.add(conn)

        def connection_lost(self, exc: Exception | None) -> None:
            connections.discard(self._connection)

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, given: str) -> bool:
            return (username, given) == (user, password)

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            HOST,
            0,
            server_factory=Server,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=os.fsencode(directory)),
            config=None,
        )

    async def close() -> None:
        acceptor.close()
        for connection in list(connections):
            connection.abort()
        await acceptor.wait_closed()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        acceptor = _run(loop, listen())
        port = acceptor.get_port()
        # Nobody's own keys and configuration are asked.
        options = {"port": port, "username": user, "password": password, "config": None, "client_keys": None}
        url = f"ssh://{user}:{password}@{HOST}:{port}"
        try:
            yield Sftp(directory, url, options, connections, loop)
        finally:
            fsspec.get_filesystem_class("ssh").clear_instance_cache()  # which closes what it has open
            _run(loop, close())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


# --- environment -----------------------------------------------------------------------------------------


@contextmanager
def s3_environment(endpoint: str) -> Iterator[None]:
    """Have everybody who opens S3 in this process, or a child of it, go to `endpoint`.

    Whoever wants to reach another host over http, as copick the portal, is sent to a proxy that refuses.
    """
    with refusing_endpoint() as proxy, pytest.MonkeyPatch.context() as patch:
        for name, value in {**_ENVIRONMENT, "AWS_ENDPOINT_URL": endpoint}.items():
            patch.setenv(name, value)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            patch.setenv(name, proxy)
            patch.setenv(name.lower(), proxy)
        for name in _UNWANTED:
            patch.delenv(name, raising=False)
        s3fs.S3FileSystem.clear_instance_cache()  # the file systems that fsspec keeps have their endpoint for good
        try:
            yield
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
