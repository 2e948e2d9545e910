"""The file system of an overlay on other storage: copick's, which connects anew where the connection was lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from copick.util.reconnecting_fs import ReconnectingFileSystem, _is_connection_error

from copick_mlc import _filesystems

_METHODS = "cat_file exists find info isdir ls modified mv open pipe pipe_file rm rm_file".split()


class Reconnecting(ReconnectingFileSystem):
    """copick's, which neither passes on all methods nor knows all errors of a lost connection."""

    def again(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method, and where the connection was lost, once more."""
        try:
            return getattr(self._fs, name)(*args, **kwargs)
        except _filesystems.failures(ValueError) as error:
            if not _is_lost(error):
                raise
        self._reconnect()
        return getattr(self._fs, name)(*args, **kwargs)

    def cat(self, *args: Any, **kwargs: Any) -> Any:
        """As fsspec's. Where errors are part of the answer, those of a lost connection are not."""
        found = self.again("cat", *args, **kwargs)
        if isinstance(found, dict) and any(isinstance(got, Exception) and _is_lost(got) for got in found.values()):
            self._reconnect()
            found = self._fs.cat(*args, **kwargs)
        return found


def _is_lost(error: Exception) -> bool:
    # sshfs has no class of its own for a connection that is lost before it was used.
    return bool(_is_connection_error(error)) or (isinstance(error, ValueError) and "SFTP connection" in str(error))


def _passed_on(name: str) -> Callable[..., Any]:
    def method(self: Reconnecting, *args: Any, **kwargs: Any) -> Any:
        return self.again(name, *args, **kwargs)

    return method


for _name in _METHODS:
    setattr(Reconnecting, _name, _passed_on(_name))
