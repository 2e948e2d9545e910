"""An export that others do the work of: threads, processes, a dask cluster, whoever is an Executor [EXP-034].

All give the bytes and the warnings of an export that one does alone.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import copick
import fsspec
import numpy as np
import pytest
import s3fs
from copick.impl.cryoet_data_portal import CopickRootCDP
from copick.impl.filesystem import CopickConfigFSSpec, CopickRootFSSpec
from distributed import Client, LocalCluster

from copick_mlc import CroissantIndex, append_croissant, export_croissant, from_croissant
from copick_mlc.errors import CroissantError, CroissantWarning
from tests.benchmarks.compare import make_filesystem_project
from tests.portal import add_overlay_artifacts
from tests.projects import tree
from tests.servers import s3_environment
from tests.test_exporter import with_overlay

OTHERS = ("threads", "fork", "spawn", "forkserver", "dask")
SOURCES = ("filesystem", "ours", "copick's", "unknown", "portal")

# --- executors -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def others(portal_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Executor]]:
    """Gives executors by name, each started when it is first asked for; their processes find the S3 server."""
    started: dict[str, Executor] = {}
    with ExitStack() as stack:

        def start(name: str) -> Executor:
            with s3_environment(portal_endpoint):
                environment = dict(os.environ)
            if name == "threads":
                return stack.enter_context(ThreadPoolExecutor(2))
            if name == "dask":
                # Its files are not in the working directory.
                cluster = LocalCluster(  # type: ignore[no-untyped-call]
                    n_workers=2,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",  # any free port
                    local_directory=str(tmp_path_factory.mktemp("dask")),
                )
                stack.enter_context(cluster)
                client = stack.enter_context(Client(cluster, set_as_default=False))  # type: ignore[no-untyped-call]
                client.run(_set_environment, environment)
                return client.get_executor()
            context = multiprocessing.get_context(name)
            workers = 2 if name == "fork" else 1
            pool = ProcessPoolExecutor(workers, context, initializer=_set_environment, initargs=(environment,))
            return stack.enter_context(pool)

        def get(name: str) -> Executor:
            if name not in started:
                started[name] = start(name)
            return started[name]

        yield get


def _set_environment(variables: dict[str, str]) -> None:
    os.environ.update(variables)


class Watched(Executor):
    """Another executor, of whose workers each leaves a file with its name where it worked."""

    def __init__(self, inner: Executor, directory: Path) -> None:
        self._inner = inner
        self._directory = directory
        directory.mkdir()
        self.futures: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.futures.append(self._inner.submit(_signed, str(self._directory), fn, *args, **kwargs))
        return self.futures[-1]

    @property
    def workers(self) -> set[tuple[int, int]]:
        """Process and thread of each."""
        found = (path.name.split("-") for path in self._directory.iterdir())
        return {(int(process), int(thread)) for process, thread in found}


def _signed(directory: str, fn: Callable[..., Any], *args: Any) -> Any:
    Path(directory, f"{os.getpid()}-{threading.get_ident()}").touch()
    return fn(*args)


class Minimal(Executor):
    """What anybody's executor must be, as mpi4py's: `submit` alone. Call and result are pickled, as on the way to
    another host, and calls are done only when a result is asked for, in an order of chance."""

    def __init__(self, seed: int = 0) -> None:
        self._waiting: list[tuple[Future[Any], bytes]] = []
        self._random = random.Random(seed)
        self.sent: list[bytes] = []
        self.order: list[int] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        executor = self

        class Asked(Future[Any]):
            def result(self, timeout: float | None = None) -> Any:
                executor._work()
                return super().result(timeout)

        future = Asked()
        self.sent.append(pickle.dumps((fn, args, kwargs)))
        self._waiting.append((future, self.sent[-1]))
        return future

    def _work(self) -> None:
        self._random.shuffle(self._waiting)
        while self._waiting:
            future, sent = self._waiting.pop()
            self.order.append(self.sent.index(sent))
            fn, args, kwargs = pickle.loads(sent)
            future.set_result(pickle.loads(pickle.dumps(fn(*args, **kwargs))))


# --- sources ---------------------------------------------------------------------------------------------


@pytest.fixture
def make_source(project: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], Any]:
    """Makes a project with something to warn of, by name."""

    def make(name: str) -> Any:
        if name == "portal":
            root: CopickRootCDP = request.getfixturevalue("portal")
            add_overlay_artifacts(root)
            _add_filaments(tmp_path / "portal", "16463")
            return root
        manifest = project / "Croissant" / "metadata.json"
        if name in ("ours", "copick's"):
            _unhash(manifest, project)
            opened = from_croissant(manifest, overlay_root=tmp_path / "overlay")
            run = opened.get_run("TS_001")
            assert run is not None
            run.new_picks("ribosome", "5", "me").from_numpy(np.ones((2, 3)))
            opened.new_run("mine")
            _add_filaments(tmp_path / "overlay", "TS_001", "mine")
            overlay = str(tmp_path / "overlay")
            return opened if name == "ours" else copick.from_croissant(str(manifest), overlay_root=overlay)
        shutil.rmtree(project / "Croissant")
        _add_filaments(project, "TS_001", "TS_002")
        if name == "filesystem":
            return with_overlay(project, tmp_path)
        config = CopickConfigFSSpec(**json.loads((project / "copick_config.json").read_text()))
        return type("SomeRoot", (CopickRootFSSpec,), {})(config)

    return make


def _add_filaments(directory: Path, *runs: str) -> None:
    for run in runs:
        filaments = directory / "ExperimentRuns" / run / "Filaments"
        filaments.mkdir(parents=True)
        (filaments / "me_1_ribosome.json").write_text("{}")


def _unhash(manifest: Path, project: Path) -> None:
    """Take the checksums out of the rows of picks, and away one file in each run."""
    index = CroissantIndex.from_url(str(manifest))
    with index.batch():
        for row in list(index.rows("picks")):
            index.put(type(row)(*(None if name == "sha256" else getattr(row, name) for name in row.table.column_names)))
    for run in ("TS_001", "TS_002"):
        (project / "ExperimentRuns" / run / "Picks" / "demo_1_ribosome.json").unlink()


def export(source: Any, target: Path, executor: Executor | None, **options: Any) -> tuple[dict[str, bytes], list[str]]:
    """The bytes of a new export, and its warnings."""
    if (target / "Croissant").exists():
        shutil.rmtree(target / "Croissant")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CroissantWarning)
        export_croissant(source, target, executor=executor, validate=False, **options)
    return tree(target / "Croissant"), [str(warning.message) for warning in caught]


FILTERS: dict[str, Any] = {"picks": ["ribosome:*/*", "virus"], "runs": None, "segmentations": ["*", "nothing"]}


# --- the tests -------------------------------------------------------------------------------------------


# Python says that a child may hang which is forked where there are threads; a test cannot do without.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("other", OTHERS)
def test_others_do_it_and_all_is_the_same(
    other: str, name: str, others: Callable[[str], Executor], make_source: Callable[[str], Any], tmp_path: Path
) -> None:
    source = make_source(name)
    watched = Watched(others(other), tmp_path / "workers")
    for options in ({}, FILTERS):
        alone = export(source, tmp_path / "out", None, **options)
        assert export(source, tmp_path / "out", watched, **options) == alone
        assert sum(map(len, alone[0].values())) > 1000
        assert len(alone[1]) >= 2, "filaments, at least, and who misses a license"
    assert len(watched.futures) >= 6
    assert (os.getpid(), threading.get_ident()) not in watched.workers
    processes = {process for process, _ in watched.workers}
    assert (os.getpid() in processes) is (other == "threads")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["filesystem", "ours"])
def test_the_order_in_which_chunks_are_done_makes_no_difference(
    make_source: Callable[[str], Any], tmp_path: Path, name: str, seed: int
) -> None:
    source = make_source(name)
    executor = Minimal(seed)
    alone = export(source, tmp_path / "out", None)
    assert export(source, tmp_path / "out", executor) == alone
    assert sorted(executor.order) == list(range(len(executor.sent)))
    assert len(executor.sent) >= 3


def test_some_order_is_another(make_source: Callable[[str], Any], tmp_path: Path) -> None:
    source = make_source("filesystem")
    orders = []
    for seed in range(4):
        executor = Minimal(seed)
        export(source, tmp_path / "out", executor)
        orders.append(executor.order)
    assert any(order != sorted(order) for order in orders)


def test_an_append_is_the_same(project: Path, make_source: Callable[[str], Any], tmp_path: Path) -> None:
    source = make_source("copick's")
    found = []
    for number, executor in enumerate((None, Minimal())):
        target = tmp_path / f"target-{number}"
        shutil.copytree(project / "Croissant", target / "Croissant")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", CroissantWarning)
            append_croissant(target / "Croissant/metadata.json", source, validate=False, executor=executor)
        tables = {name: data for name, data in tree(target / "Croissant").items() if name.endswith(".csv")}
        found.append((tables, [str(warning.message).replace(str(target), "") for warning in caught]))
    assert found[0] == found[1]


def test_many_runs_are_few_chunks(tmp_path: Path) -> None:
    config = make_filesystem_project(tmp_path / "project", 300)
    source = copick.from_file(str(config))
    executor = Minimal()
    done: list[tuple[int, int]] = []
    alone = export(source, tmp_path / "out", None)
    assert export(source, tmp_path / "out", executor, progress=lambda *counts: done.append(counts)) == alone
    assert len(executor.sent) == 150
    assert done == [*((number, 300) for number in range(0, 300, 2)), (300, 300)]
    assert max(map(len, executor.sent)) < 2000, "a chunk says which runs, and no more"


def test_nothing_is_handed_out_where_there_is_nothing(tmp_path: Path) -> None:
    config = make_filesystem_project(tmp_path / "project", 1)
    shutil.rmtree(tmp_path / "project" / "ExperimentRuns")
    executor = Minimal()
    export(copick.from_file(str(config)), tmp_path / "out", executor)
    assert executor.sent == []


def test_the_command_line(make_source: Callable[[str], Any], project: Path) -> None:
    make_source("unknown")
    found = []
    for jobs in ("1", "2"):
        command = [sys.executable, "-m", "copick_mlc", "export", "--config", str(project / "copick_config.json")]
        done = subprocess.run(
            [*command, "--jobs", jobs, "--no-validate"], capture_output=True, text=True, check=True, timeout=120
        )
        found.append((tree(project / "Croissant"), done.stdout, done.stderr))
        shutil.rmtree(project / "Croissant")
    assert found[0] == found[1]
    assert "filament" in found[0][2]


# --- what goes wrong -------------------------------------------------------------------------------------


@pytest.fixture
def broken(project: Path) -> tuple[Any, Path]:
    """A project with picks that cannot be read, and the link to nothing that these are."""
    shutil.rmtree(project / "Croissant")
    picks = project / "ExperimentRuns" / "TS_001" / "Picks" / "demo_1_ribosome.json"
    picks.unlink()
    picks.symlink_to("nowhere")
    return copick.from_file(str(project / "copick_config.json")), picks


def error_of(source: Any, target: Path, executor: Executor | None) -> tuple[type, str, str, str | None]:
    with pytest.raises(CroissantError) as caught:
        export(source, target, executor)
    assert not target.exists()
    error = caught.value
    return type(error), error.code, str(error), error.path


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("other", OTHERS)
def test_an_error_is_the_same_and_nothing_is_written(
    other: str, others: Callable[[str], Executor], broken: tuple[Any, Path], tmp_path: Path
) -> None:
    source, picks = broken
    watched = Watched(others(other), tmp_path / "workers")
    alone = error_of(source, tmp_path / "out", None)
    assert error_of(source, tmp_path / "out", watched) == alone
    assert alone[1] == "data-missing"
    assert alone[3] == str(picks)
    # Who mended it, and exports again, is not told what was before.
    picks.unlink()
    picks.write_text("{}")
    assert export(source, tmp_path / "out", watched) == export(source, tmp_path / "out", None)


def test_whoever_remembers_results_gives_none_of_an_earlier_export(
    others: Callable[[str], Executor], broken: tuple[Any, Path], tmp_path: Path
) -> None:
    source, picks = broken
    executor = others("dask")
    with pytest.raises(CroissantError) as caught:
        export(source, tmp_path / "out", executor)
    picks.unlink()
    picks.write_text("{}")
    assert export(source, tmp_path / "out", executor)[0]
    assert caught.value.code == "data-missing", "while somebody looks at the error, dask keeps what failed"


class Failing(Executor):
    """One that reports an error for the first call, and never begins the others."""

    def __init__(self, accepts: int = 1000) -> None:
        self.futures: list[Future[Any]] = []
        self._accepts = accepts

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if len(self.futures) == self._accepts:
            raise RuntimeError("cannot schedule new futures")
        self.futures.append(Future())
        if len(self.futures) == 1:
            self.futures[0].set_exception(ValueError("of this executor"))
        return self.futures[-1]


@pytest.mark.parametrize(("accepts", "message"), [(1000, "of this executor"), (2, "cannot schedule")])
def test_where_one_fails_the_others_are_cancelled(
    make_source: Callable[[str], Any], tmp_path: Path, accepts: int, message: str
) -> None:
    executor = Failing(accepts)
    with pytest.raises((RuntimeError, ValueError), match=message):
        export(make_source("unknown"), tmp_path / "out", executor)
    assert [future.cancelled() for future in executor.futures[1:]] == [True] * len(executor.futures[1:])
    assert len(executor.futures) >= 2
    assert not (tmp_path / "out").exists()


def test_nothing_stays_in_the_working_directory(others: Callable[[str], Executor]) -> None:
    before = set(os.listdir())
    assert others("dask").submit(len, "abc").result() == 3
    assert {name for name in set(os.listdir()) - before if "dask" in name} == set()


# --- storage that workers see otherwise ------------------------------------------------------------------


def in_bucket(project: Path, bucket: str) -> Any:
    """The project on S3."""
    shutil.rmtree(project / "Croissant")
    s3fs.S3FileSystem(skip_instance_cache=True).put(f"{project}/ExperimentRuns", f"{bucket}/", recursive=True)
    config = json.loads((project / "copick_config.json").read_text())
    config |= {"overlay_root": bucket, "overlay_fs_args": {}}
    return CopickRootFSSpec(CopickConfigFSSpec(**config))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_worker_lists_anew_in_each_export(project: Path, s3: str, tmp_path: Path) -> None:
    source = in_bucket(project, s3)
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor:
        before = export(source, tmp_path / "out", executor)
        assert before == export(source, tmp_path / "out", None)
        added = f"{s3}/ExperimentRuns/TS_001/Picks/late_1_ribosome.json"
        s3fs.S3FileSystem(skip_instance_cache=True).pipe(added, b"{}")
        after = export(source, tmp_path / "out", executor)
        assert after == export(source, tmp_path / "out", None)
    assert b"TS_001,late,1,ribosome" in after[0]["picks.csv"]
    assert b",late," not in before[0]["picks.csv"]


def test_a_worker_without_the_storage_does_not_export_less(
    project: Path, tmp_path: Path, others: Callable[[str], Executor]
) -> None:
    """Memory is a file system of each process alone, as the disk is of each host."""
    shutil.rmtree(project / "Croissant")
    memory = fsspec.filesystem("memory")
    memory.put(f"{project}/ExperimentRuns", "/alone/", recursive=True)
    config = json.loads((project / "copick_config.json").read_text())
    config |= {"overlay_root": "memory://alone", "overlay_fs_args": {}}
    source = CopickRootFSSpec(CopickConfigFSSpec(**config))
    try:
        alone = export(source, tmp_path / "out", None)
        assert export(source, tmp_path / "out", others("threads")) == alone
        shutil.rmtree(tmp_path / "out")
        with pytest.raises(CroissantError, match="every worker needs the storage"):
            export(source, tmp_path / "out", others("spawn"))
        assert not (tmp_path / "out").exists()
    finally:
        memory.rm("/alone", recursive=True)
