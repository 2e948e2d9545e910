"""Requests and time on S3 beside copick 1.31, with a latency of 50 ms: `python -m tests.benchmarks.remote`.

The server is moto's, on this machine; a proxy delays each request. Prints the table of README.md.
"""

from __future__ import annotations

import contextlib
import io
import secrets
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import copick
import numpy as np
from copick.ops.croissant import export_croissant as copick_export

import copick_mlc
from tests.projects import make_full_project, tree
from tests.proxy import Proxy, steps
from tests.servers import S3Objects, s3_environment, s3_server

LATENCY = 0.05
Open = Callable[..., Any]


class Bench:
    """A bucket with the project, new for each measurement.

    Attributes:
        proxy: What counts and delays.
        local: The project on the local disk, whose manifest says that the data is in the bucket.
        bucket: URL of the bucket.
    """

    def __init__(self, proxy: Proxy, directory: Path) -> None:
        import s3fs

        self.proxy = proxy
        name = f"bench-{secrets.token_hex(6)}"
        self.bucket = f"s3://{name}"
        s3fs.S3FileSystem().mkdir(name)
        self.local = directory / name
        config = make_full_project(self.local)
        with contextlib.redirect_stdout(io.StringIO()):
            copick_export(copick.from_file(str(config)), str(self.local), base_url=f"{self.bucket}/project")
        objects = S3Objects(self.bucket)
        for path, data in tree(self.local).items():
            objects.put(f"project/{path}", data)
        for name in ("ExperimentRuns", "Objects"):
            shutil.rmtree(self.local / name)

    @property
    def remote_manifest(self) -> str:
        return f"{self.bucket}/project/Croissant/metadata.json"

    @property
    def local_manifest(self) -> str:
        return str(self.local / "Croissant" / "metadata.json")


def rows(root: Any) -> None:
    """Have everything listed."""
    for run in root.runs:
        for spacing in run.voxel_spacings:
            for tomogram in spacing.tomograms:
                _ = tomogram.features
        _ = run.picks, run.meshes, run.segmentations


def tomogram(root: Any) -> Any:
    return root.get_run("TS_001").get_voxel_spacing(10.0).get_tomograms("wbp")[0]


# --- what is measured: each gives the call that counts, after what comes before it -----------------------


def opening(bench: Bench, opened: Open) -> Callable[[], Any]:
    return lambda: opened(bench.remote_manifest)


def listing(bench: Bench, opened: Open) -> Callable[[], Any]:
    root = opened(bench.remote_manifest)
    return lambda: rows(root)


def making(bench: Bench, opened: Open) -> Callable[[], Any]:
    root = opened(bench.remote_manifest)
    rows(root)
    return lambda: root.get_run("TS_001").new_picks("ribosome", "9", user_id="me")


def storing(bench: Bench, opened: Open) -> Callable[[], Any]:
    root = opened(bench.remote_manifest)
    rows(root)
    picks = root.get_run("TS_001").new_picks("ribosome", "9", user_id="me")
    return lambda: picks.from_numpy(np.ones((100, 3)))


def reading_picks(bench: Bench, opened: Open) -> Callable[[], Any]:
    picks = opened(bench.local_manifest).get_run("TS_001").picks[0]
    return lambda: picks.points


def reading_a_tomogram(bench: Bench, opened: Open) -> Callable[[], Any]:
    found = tomogram(opened(bench.local_manifest))
    return lambda: found.numpy()


def writing_a_tomogram(bench: Bench, opened: Open) -> Callable[[], Any]:
    made = opened(bench.local_manifest).get_run("TS_001").get_voxel_spacing(10.0).new_tomogram("new")
    return lambda: made.from_numpy(np.ones((64, 64, 64), np.float32))


def listing_an_overlay(bench: Bench, opened: Open) -> Callable[[], Any]:
    root = opened(bench.local_manifest, overlay_root=f"{bench.bucket}/overlay")
    root.get_run("TS_001").new_picks("ribosome", "9", user_id="me")
    again = opened(bench.local_manifest, overlay_root=f"{bench.bucket}/overlay")
    return lambda: rows(again)


def storing_in_an_overlay(bench: Bench, opened: Open) -> Callable[[], Any]:
    root = opened(bench.local_manifest, overlay_root=f"{bench.bucket}/overlay")
    picks = root.get_run("TS_001").new_picks("ribosome", "9", user_id="me")
    return lambda: picks.from_numpy(np.ones((100, 3)))


def exporting(bench: Bench, opened: Open) -> Callable[[], Any]:
    """A copick project that lies in the bucket, to the bucket."""
    from copick.impl.filesystem import CopickConfigFSSpec, CopickRootFSSpec

    target = f"{bench.bucket}/project"
    config = copick_mlc.from_croissant(bench.local_manifest).config
    source = CopickRootFSSpec(
        CopickConfigFSSpec(name="p", pickable_objects=config.pickable_objects, overlay_root=target, overlay_fs_args={})
    )
    if opened is copick.from_croissant:
        return lambda: copick_export(source, f"{bench.bucket}/exported", base_url=target)
    return lambda: copick_mlc.export_croissant(source, f"{bench.bucket}/exported", base_url=target)


MEASURED: dict[str, Callable[[Bench, Open], Callable[[], Any]]] = {
    "open": opening,
    "list everything": listing,
    "make picks, with commit": making,
    "store them again, with commit": storing,
    "read picks": reading_picks,
    "read a tomogram of one chunk": reading_a_tomogram,
    "write a tomogram of three levels": writing_a_tomogram,
    "list everything, with an overlay on S3": listing_an_overlay,
    "store picks in an overlay on S3": storing_in_an_overlay,
    "export a project on S3 to S3": exporting,
}


def measured(proxy: Proxy, directory: Path, prepare: Callable[[Bench, Open], Callable[[], Any]], opened: Open) -> str:
    """Requests, how many of them one after the other, and time; or that it cannot be done."""
    bench = Bench(proxy, directory)
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            call = prepare(bench, opened)
            proxy.latency = LATENCY
            with proxy.counting() as seen:
                started = time.perf_counter()
                call()
                seconds = time.perf_counter() - started
        except Exception as error:  # noqa: BLE001  # whatever copick raises where it cannot
            print(f"{prepare.__name__}: {error!r}"[:300], file=sys.stderr)
            return "fails"
        finally:
            proxy.latency = 0.0
    return f"{len(seen)} / {steps(seen)} / {seconds:.2f} s"


@contextlib.contextmanager
def served() -> Iterator[Proxy]:
    with s3_server() as endpoint, Proxy(endpoint) as proxy, s3_environment(proxy.url):
        yield proxy


def main() -> None:
    warnings.simplefilter("ignore")
    print("| requests / one after the other / time | copick_mlc | copick 1.31 |\n|---|---|---|")
    with served() as proxy, tempfile.TemporaryDirectory() as directory:
        for name, prepare in MEASURED.items():
            ours, theirs = (
                measured(proxy, Path(directory), prepare, opened)
                for opened in (copick_mlc.from_croissant, copick.from_croissant)
            )
            print(f"| {name} | {ours} | {theirs} |", flush=True)


if __name__ == "__main__":
    main()
