"""Serve a Python adapter: `python -m conformance.serve package.module:Class`.

The class has a method per operation; PROTOCOL.md and README.md say the rest.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

from conformance import spec

PROTOCOL = 1


def main(adapter: str) -> None:
    """Serve an adapter on standard input and output."""
    requests, responses = _take_streams()
    try:
        serve(load(adapter)(), requests, responses)
    except KeyboardInterrupt:
        return


def load(adapter: str) -> Callable[[], Any]:
    """The class that `package.module:Class` names."""
    module, _, name = adapter.partition(":")
    found: Callable[[], Any] = getattr(importlib.import_module(module), name)
    return found


def _take_streams() -> tuple[TextIO, TextIO]:
    """Streams for the protocol alone: what else is printed goes to standard error, and nobody reads our requests."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    responses = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, responses


def serve(adapter: Any, requests: Iterable[str], responses: TextIO) -> None:
    """Answer each line of `requests` with a line of `responses`."""
    for line in requests:
        request = json.loads(line)
        response = answer(adapter, request.pop("op"), request)
        responses.write(json.dumps(response, allow_nan=False) + "\n")
        responses.flush()


def answer(adapter: Any, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The response to one request."""
    if operation == "hello":
        return {"ok": _hello(adapter)}
    method: Callable[..., Any] | None = getattr(adapter, operation, None)
    if not callable(method):
        return _error("unsupported", f"the adapter has no method {operation}")
    try:
        inspect.signature(method).bind(**arguments)
    except TypeError as error:
        return _error("unsupported", f"the adapter's method {operation} does not take these arguments: {error}")
    try:
        return {"ok": method(**arguments)}
    except Exception as error:  # noqa: BLE001 - whatever an implementation raises is its answer
        error_code = getattr(adapter, "error_code", None)
        return _error(error_code(error) if error_code else None, str(error))


def _hello(adapter: Any) -> dict[str, Any]:
    return {
        "protocol": PROTOCOL,
        "spec": getattr(adapter, "spec", None) or spec.load(Path(__file__).parent.parent / "SPEC.md").version,
        "name": adapter.name,
        "version": adapter.version,
        "capabilities": list(adapter.capabilities),
    }


def _error(code: str | None, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


if __name__ == "__main__":
    main(sys.argv[1])
