"""copick_mlc with every project on S3, or in memory: the whole suite shows what it does there.

The suite goes on to name, edit and check local files. Here each place that it names becomes that of the same object
on the other storage, and each place in an answer becomes that of the file again. What files themselves say of places
stays as it is. copick_mlc_s3.txt and copick_mlc_memory.txt have the cases that make no sense there.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from fsspec.implementations.memory import MemoryFileSystem

from conformance import s3
from conformance.adapters._entities import Key
from conformance.adapters.copick_mlc import Adapter
from copick_mlc import _lock

_LOCAL = ("file://", "local://", "")
# In the case's directory; nothing that is there is on the other storage.
_SCRATCH = "scratch"


class StoredAdapter(Adapter):
    """Has the files below the directory that it is started in elsewhere, below `self.url`."""

    # The cases with S3 of their own have a server of their own.
    capabilities: ClassVar = [name for name in Adapter.capabilities if name not in ("locks", "s3")]
    url: str

    def open(
        self,
        manifest: str,
        overlay: str | None = None,
        base_url: str | None = None,
        config: Mapping[str, Any] | None = None,
        lock_seconds: float = _lock.WAIT_SECONDS,
        root: str = "main",
    ) -> None:
        manifest, overlay, base_url = self._stored([manifest, overlay, base_url])
        super().open(manifest, overlay, base_url, config, lock_seconds, root)

    def locate(self, kind: str, key: Key, root: str = "main") -> str:
        return self._local(super().locate(kind, key, root))

    def export(self, source: str, project_root: str, options: Mapping[str, Any], records: str | None = None) -> str:
        arguments = self._source(source), self._stored(project_root), self._stored(options), records
        return self._local(super().export(*arguments))

    def append(self, manifest: str, source: str, options: Mapping[str, Any], records: str | None = None) -> str:
        arguments = self._stored(manifest), self._source(source), self._stored(options), records
        return self._local(super().append(*arguments))

    def publish(self, source: str, project_root: str, options: Mapping[str, Any]) -> str:
        return self._local(super().publish(self._source(source), self._stored(project_root), self._stored(options)))

    def _source(self, path: str) -> str:
        """A copy of a configuration with the other places in it; nobody finds the project by where that lies."""
        try:
            config = self._stored(json.loads(Path(path).read_bytes()))
        except (OSError, ValueError):
            return path  # what is wrong with it, the implementation says
        if not isinstance(config, dict):
            return path
        for name in ("static_fs_args", "overlay_fs_args"):
            config.get(name, {}).pop("auto_mkdir", None)  # it is for the local disk alone
        copy = os.path.join(os.getcwd(), _SCRATCH, os.path.relpath(path).replace(os.sep, "-"))
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        Path(copy).write_text(json.dumps(config), encoding="utf-8")
        return copy

    def _stored(self, value: Any) -> Any:
        """`value` with the other places in its strings."""
        if isinstance(value, str):
            return self._elsewhere(value)
        if isinstance(value, list):
            return [self._stored(item) for item in value]
        if isinstance(value, dict):
            return {name: self._stored(item) for name, item in value.items()}
        return value

    def _elsewhere(self, text: str) -> str:
        for scheme in _LOCAL:
            path = text.removeprefix(scheme)
            inside = path.removeprefix(os.getcwd())
            if text.startswith(scheme) and inside != path and inside[:1] in ("", "/"):
                return f"{self.url}{inside}"
        return text

    def _local(self, url: str) -> str:
        return f"{os.getcwd()}{url.removeprefix(self.url)}" if url.startswith(f"{self.url}/") else url


class S3Adapter(StoredAdapter):
    """On S3: a server in this process serves the directory as a bucket."""

    def __init__(self) -> None:
        super().__init__()
        server = s3.Server(os.getcwd(), os.path.join(_SCRATCH, "s3"))
        os.environ.update(server.environment)
        self.url = server.url


class MemoryAdapter(StoredAdapter):
    """In memory, where what is on the disk is before each operation, and what is there is on the disk afterwards."""

    url = "memory:///work"

    def __init__(self) -> None:
        super().__init__()
        self._disk = s3.Bucket(os.getcwd(), os.path.abspath(_SCRATCH))
        self._memory = MemoryFileSystem()
        self._loaded: dict[str, bytes] = {}

    def load(self) -> None:
        """Have in memory what is on the disk."""
        there = self._contents()
        self._loaded = {key: self._disk.get(key).data for key in self._disk.list("")}
        for key in there.keys() - self._loaded.keys():
            self._memory.rm_file(f"/work/{key}")
        for key, data in self._loaded.items():
            if data != there.get(key):
                self._memory.pipe_file(f"/work/{key}", data)

    def save(self) -> None:
        """Have on the disk what has changed in memory since."""
        there = self._contents()
        for key, data in there.items():
            if data != self._loaded.get(key):
                self._disk.put(key, data, {})
        for key in self._loaded.keys() - there.keys():
            self._disk.delete(key, {})

    def _contents(self) -> dict[str, bytes]:
        """What is in memory, by key."""
        return {path.removeprefix("/work/"): self._memory.cat_file(path) for path in self._memory.find("/work")}


def _synchronised(operation: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(operation)
    def synchronised(self: MemoryAdapter, *arguments: Any, **named: Any) -> Any:
        self.load()
        try:
            return operation(self, *arguments, **named)
        finally:
            self.save()

    return synchronised


for _name in """
    open rows list run locate read config splits create store delete set_split set_splits clear_splits define_object
    refresh begin end export append publish
""".split():
    setattr(MemoryAdapter, _name, _synchronised(getattr(MemoryAdapter, _name)))
