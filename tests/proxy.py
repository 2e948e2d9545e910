"""A proxy before a server on the loopback interface: it counts requests, makes them slow, and lets them fail.

with Proxy(endpoint) as proxy, s3_environment(proxy.url):
    proxy.fault(("GET", "metadata.json"), 503, times=1)
    with proxy.counting() as seen:
        ...
    assert [request.method for request in seen] == ["GET"]
"""

from __future__ import annotations

import dataclasses
import http.client
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

HOST = "127.0.0.1"

_POLL = 0.02
_HOP_BY_HOP = frozenset({"connection", "expect", "keep-alive", "proxy-connection", "te", "transfer-encoding"})
_CODES = {403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed", 500: "InternalError", 503: "SlowDown"}
_RESET, _TRUNCATE, _STALL, _DROP = "reset", "truncate", "stall", "drop-response"
_KINDS = (_RESET, _TRUNCATE, _STALL, _DROP)


class LoopbackServer(ThreadingMixIn, HTTPServer):
    """A server with a thread for each connection. Closing it ends all connections, and leaves no thread."""

    daemon_threads = False  # so that closing waits for them
    request_queue_size = 128

    def __init__(self, handler: Callable[..., BaseHTTPRequestHandler]) -> None:
        super().__init__((HOST, 0), handler)
        self.url = f"http://{HOST}:{self.server_port}"
        self.closing = Event()
        self.errors: list[BaseException] = []
        self._connections: set[socket.socket] = set()
        self._lock = Lock()
        self._thread = Thread(target=self.serve_forever, kwargs={"poll_interval": _POLL})

    def server_bind(self) -> None:
        # HTTPServer would look its own name up.
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = HOST, self.server_address[1]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.closing.set()
        self.shutdown()
        self._thread.join()
        self.drop_connections()
        self.server_close()
        if self.errors:
            raise self.errors[0]

    def drop_connections(self) -> None:
        """End all connections, also those with a request on its way."""
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):  # the client may have gone
                    connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):  # clients may go whenever they like
            self.errors.append(error)


@dataclasses.dataclass
class Request:
    """A request that came to a proxy.

    Attributes:
        method: GET, HEAD, …
        path: Path of its URL, unquoted, without the query.
        query: Its query as sent, without the question mark.
        headers: Its headers, names in small letters.
        start: When it came, in seconds.
        end: When the answer began to leave, or the connection was broken; infinite before.
        status: Status of the answer; None where there was none.
        fault: What was injected: the kind of the rule that matched; None where none did.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    start: float
    end: float = float("inf")
    status: int | None = None
    fault: int | str | None = None

    def __str__(self) -> str:
        query = f"?{self.query}" if self.query else ""
        return f"{self.method} {self.path}{query} -> {self.status or self.fault}"


def steps(requests: Iterable[Request]) -> int:
    """The length of the longest chain of requests of which each came after the one before was answered.

    It takes a latency that is long beside what the client needs to send concurrent requests.
    """
    count, last = 0, float("-inf")
    for request in sorted(requests, key=lambda request: request.end):  # the greedy choice is the longest
        if request.start >= last:
            count, last = count + 1, request.end
    return count


Match = Callable[[Request], bool] | tuple[str, str]


@dataclasses.dataclass
class Fault:
    """A rule that a proxy follows.

    Attributes:
        match: A predicate, or a method ("" for any) and a part of the path.
        kind: What happens to a request that matches, see `Proxy.fault`.
        times: How many requests it is for yet; None for all.
        hits: How many requests it has met.
    """

    match: Match
    kind: int | str | Callable[[Request], Any]
    times: int | None
    hits: int = 0

    def meets(self, request: Request) -> bool:
        if self.times is not None and self.hits >= self.times:
            return False
        if isinstance(self.match, tuple):
            method, part = self.match
            return method in ("", request.method) and part in request.path
        return self.match(request)


class Proxy:
    """A reverse proxy before the HTTP server at `upstream`. A new one changes nothing.

    Attributes:
        url: Its own endpoint.
        requests: All requests since the last `reset`, in the order in which they came.
        latency: Seconds by which each request is delayed before it is forwarded; concurrent ones concurrently.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.requests: list[Request] = []
        self.latency = 0.0
        self.released = Event()
        self._faults: list[Fault] = []
        self._lock = Lock()
        self._server = LoopbackServer(lambda *args: _Handler(self, *args))
        self.url = self._server.url
        self.closing = self._server.closing

    def __enter__(self) -> Proxy:
        self._server.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()
        self._server.stop()

    # --- counting ----------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget the requests."""
        self.requests = []

    @contextmanager
    def counting(self) -> Iterator[list[Request]]:
        """The requests of the block, in a list that grows."""
        before = self.requests
        seen: list[Request] = []
        self.requests = seen
        try:
            yield seen
        finally:
            self.requests = before + seen

    # --- faults ------------------------------------------------------------------------------------------

    def fault(self, match: Match, kind: int | str | Callable[[Request], Any], times: int | None = None) -> Fault:
        """Let requests fail. The first rule that matches holds, and those for a number of times end by themselves.

        Args:
            match: A predicate, or a method ("" for any) and a part of the path.
            kind: A status: the answer, with S3's XML error as body; the request is not forwarded.
                `reset`: the connection is reset before an answer; the request is not forwarded.
                `drop-response`: the request is forwarded, then the connection is reset. aiohttp sends a request again,
                once, where that happens to it, also a PUT or DELETE.
                `truncate`: the headers of the answer and half its body, then the connection is closed.
                `stall`: the headers of the answer, and the body after `release()`, if the client is still there.
                A callable: it is called with the request, which is forwarded then as if nothing had been.
            times: For how many requests; None for all.
        """
        if isinstance(kind, str) and kind not in _KINDS:
            raise ValueError(f"{kind!r} is none of {_KINDS}")
        rule = Fault(match, kind, times)
        if kind == _STALL:
            self.released.clear()
        with self._lock:
            self._faults.append(rule)
        return rule

    def heal(self) -> None:
        """Forget all rules."""
        with self._lock:
            self._faults = []

    def release(self) -> None:
        """Let the answers that stall go on."""
        self.released.set()

    def drop_connections(self) -> None:
        """Close all connections of clients, as a server does that restarts."""
        self._server.drop_connections()

    def take(self, request: Request) -> int | str | None:
        """Record a request that has come; the fault that is to meet it."""
        with self._lock:
            self.requests.append(request)
            rule = next((rule for rule in self._faults if rule.meets(request)), None)
            if rule is None:
                return None
            rule.hits += 1
        if callable(rule.kind):
            rule.kind(request)
            return None
        request.fault = rule.kind
        return rule.kind


class _Handler(BaseHTTPRequestHandler):
    """Takes requests of one connection, one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: LoopbackServer

    def __init__(self, proxy: Proxy, *args: Any) -> None:
        self._proxy = proxy
        super().__init__(*args)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _handle(self) -> None:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, unquote(path), query, headers, time.monotonic())
        body = self._body()
        if body is None:  # the client died amid sending it
            self.close_connection = True
            return
        fault = self._proxy.take(request)
        self._proxy.closing.wait(self._proxy.latency)
        if fault == _RESET:
            self._reset(request)
        elif isinstance(fault, int):
            self._answer(request, fault, [("Content-Type", "application/xml")], _error(fault))
        else:
            status, reply_headers, data = self._forward(body)
            if fault == _DROP:
                self._reset(request)
            else:
                self._answer(request, status, reply_headers, data)

    do_DELETE = do_GET = do_HEAD = do_OPTIONS = do_PATCH = do_POST = do_PUT = _handle  # noqa: N815  # http.server's

    def _body(self) -> bytes | None:
        """The whole body of the request; None where it ends before."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            return body if len(body) == length else None
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0] or b"-1", 16):
            chunks.append(self.rfile.read(max(size, 0)))
            if len(chunks[-1]) != size:
                return None
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return b"".join(chunks)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Have the upstream server answer; status, headers and body of that."""
        connection = http.client.HTTPConnection(self._proxy.upstream)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP and name.lower() != "content-length":
                    connection.putheader(name, value)
            if body or "Content-Length" in self.headers:
                connection.putheader("Content-Length", str(len(body)))
            connection.putheader("Connection", "close")
            connection.endheaders(body)
            reply = connection.getresponse()
            data = reply.read()
            headers = [(name, value) for name, value in reply.getheaders() if name.lower() not in _HOP_BY_HOP]
            return reply.status, headers, data
        finally:
            connection.close()

    def _answer(self, request: Request, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        if not any(name.lower() == "content-length" for name, _ in headers) and status not in (204, 304):
            headers = [*headers, ("Content-Length", str(len(data)))]
        if self.command == "HEAD":
            data = b""
        lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        request.status = status
        request.end = time.monotonic()  # before the client can know, and send the next
        if request.fault == _TRUNCATE:
            self.wfile.write(head + data[: len(data) // 2])
            self.close_connection = True
        elif request.fault == _STALL:
            self.wfile.write(head)
            if self._client_waits():
                self.wfile.write(data)
        else:
            self.wfile.write(head + data)

    def _client_waits(self) -> bool:
        """Wait for `release`; whether the client is still there then."""
        while not self._proxy.released.is_set():
            if select.select([self.connection], [], [], _POLL)[0]:  # it sends nothing more, so it has gone
                self.close_connection = True
                return False
        return not self._proxy.closing.is_set()

    def _reset(self, request: Request) -> None:
        request.end = time.monotonic()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()  # it holds the socket
        self.connection.close()
        self.close_connection = True


def _error(status: int) -> bytes:
    code = _CODES.get(status, "InternalError")
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
