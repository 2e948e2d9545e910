"""JSON as the suite reads it, and JSON pointers (RFC 6901) into it."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def parse(text: str | bytes) -> Any:
    """The value of a JSON text; NaN and Infinity, which Python would take, are errors.

    Raises:
        ValueError: it is not JSON, or not UTF-8.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def dump(document: Any) -> bytes:
    """JSON for people to read, as a file has it."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def objects(document: Any, name: str) -> list[dict[str, Any]]:
    """The objects in a member of a manifest, which may be a list of them or a single one."""
    value = document.get(name, []) if isinstance(document, dict) else []
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]


def find(document: Any, pointer: str) -> Any:
    """What a pointer names.

    Raises:
        LookupError: there is nothing.
    """
    return _walk(document, _parts(pointer))


def put(document: Any, pointer: str, value: Any) -> Any:
    """The document with `value` where the pointer says; `-` is the place after the end of a list.

    Raises:
        LookupError: there is nothing to put it into.
    """
    if not pointer:
        return value
    *path, last = _parts(pointer)
    parent = _walk(document, path)
    if isinstance(parent, list) and last == "-":
        parent.append(value)
    else:
        parent[last if isinstance(parent, dict) else _step(parent, last)] = value
    return document


def remove(document: Any, pointer: str) -> None:
    """Take out of the document what a pointer names.

    Raises:
        LookupError: there is nothing.
    """
    *path, last = _parts(pointer)
    parent = _walk(document, path)
    del parent[_step(parent, last)]


def _parts(pointer: str) -> list[str]:
    if pointer and not pointer.startswith("/"):
        raise LookupError(f"{pointer!r} is no JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _walk(document: Any, parts: list[str]) -> Any:
    for part in parts:
        document = document[_step(document, part)]
    return document


def _step(parent: Any, part: str) -> Any:
    """The key or index of `part`, which is there."""
    if isinstance(parent, dict) and part in parent:
        return part
    if isinstance(parent, list) and part.isdecimal() and int(part) < len(parent):
        return int(part)
    raise LookupError(f"there is nothing at {part!r}")
