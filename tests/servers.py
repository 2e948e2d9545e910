"""Real servers on the loopback interface: S3 that works, and endpoints that do not.

with s3_server() as endpoint, s3_environment(endpoint):
    fsspec.filesystem("s3").mkdir("a-bucket")
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest
import s3fs
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

HOST = "127.0.0.1"

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


@contextmanager
def s3_server() -> Iterator[str]:
    """Run moto's S3 server in a thread; its endpoint URL.

    It is moto's ThreadedMotoServer but for the log that this writes and the socket that it leaves open. moto keeps
    buckets in the process: a second server would have those of the first.
    """
    server = make_server(
        HOST, 0, DomainDispatcherApplication(create_backend_app), threaded=True, request_handler=_Handler
    )
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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
