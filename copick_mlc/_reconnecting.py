"""The file system of an overlay on other storage: copick's, which connects anew where the connection dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from copick.util.reconnecting_fs import ReconnectingFileSystem, _is_connection_error


def _passed_on(name: str) -> Callable[..., Any]:
    """A method that is the wrapped file system's."""

    def method(self: ReconnectingFileSystem, *args: Any, **kwargs: Any) -> Any:
        return self.__getattr__(name)(*args, **kwargs)

    return method


class Reconnecting(ReconnectingFileSystem):
    """copick's, with what it does not pass on, and fsspec itself does in another way or not at all."""

    modified = _passed_on("modified")
    mv = _passed_on("mv")
    unstrip_protocol = _passed_on("unstrip_protocol")

    def cat(self, *args: Any, **kwargs: Any) -> Any:
        """As fsspec's. Where errors are part of the answer, those of a lost connection are not."""
        found = super().cat(*args, **kwargs)
        if isinstance(found, dict) and any(_is_lost(answer) for answer in found.values()):
            self._reconnect()
            found = super().cat(*args, **kwargs)
        return found


def _is_lost(answer: object) -> bool:
    return isinstance(answer, Exception) and bool(_is_connection_error(answer))
