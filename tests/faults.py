"""What is left when a writer dies, or its storage fails, at any step: `python -m tests.faults [SCENARIO ...]`.

A scenario is a series of changes to a project. For each step of it (each time something is opened to be written,
written, flushed, renamed, removed or made) a process of its own runs it up to there and is killed with SIGKILL in the
middle of the step; another gets an OSError from the step instead. Then a fresh process opens the project: it must find
what was there after the last change that was acknowledged, or after the one after that, and nothing else; copick and
mlcroissant must read it, and the next commit must leave no stray file. A process that got an error must also have
everything in memory as it was before the change, and succeed when it tries again.

Processes are forked from one that has never opened the project.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import errno
import gc
import hashlib
import io
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import copick
import numpy as np
import trimesh
from copick.util.ome import volume_pyramid, write_ome_zarr_3d

from copick_mlc import (
    CopickRootMLC,
    CopickRunMLC,
    CroissantError,
    CroissantIndex,
    append_croissant,
    export_croissant,
    from_croissant,
    set_splits,
)
from copick_mlc._repair import repair
from copick_mlc._tables import TABLES, cells_of
from copick_mlc.index import PicksRow, RunRow
from tests.projects import tree

ERRORS = (errno.ENOSPC, errno.EACCES, errno.EIO)
SMALL = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
Change = Callable[[Path], Callable[[], Any]]


# --- steps -----------------------------------------------------------------------------------------------


class Steps:
    """Counts the steps that change something below a directory, and has one of them fail.

    Attributes:
        count: The steps that were made.
        last: What the last of them was.
    """

    def __init__(self, directory: Path, at: int, fail: Callable[[], None]) -> None:
        self._directory = os.path.realpath(directory)
        self._at, self._fail = at, fail
        self._descriptors: set[int] = set()
        self.count = 0
        self.last = ""

    def step(self, what: str, path: Any) -> bool:
        """Count a step; true if it is the one to fail."""
        self.count += 1
        self.last = f"{what} {os.path.relpath(os.fsdecode(path), self._directory) if path else ''}"
        return self.count == self._at

    def install(self) -> None:
        for name in ("replace", "rename", "unlink", "remove", "mkdir", "rmdir", "chmod"):
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        self._install_descriptors()
        self._install_files()

    def _is_ours(self, path: Any, options: dict[str, Any]) -> bool:
        if options.get("dir_fd") is not None:
            return True  # shutil.rmtree, which walks by descriptors
        return isinstance(path, (str, bytes, os.PathLike)) and os.path.realpath(os.fsdecode(path)).startswith(
            self._directory
        )

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(path: Any, *args: Any, **options: Any) -> Any:
            if self._is_ours(path, options) and self.step(name, None if options.get("dir_fd") else path):
                self._fail()
            return call(path, *args, **options)

        return wrapped

    def _install_descriptors(self) -> None:
        os_open, os_write, os_fsync = os.open, os.write, os.fsync

        def opened(path: Any, flags: int, *args: Any, **options: Any) -> int:
            ours = self._is_ours(path, options)
            if ours and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and self.step("open", path):
                self._fail()
            descriptor = os_open(path, flags, *args, **options)
            if ours:
                self._descriptors.add(descriptor)
            else:
                self._descriptors.discard(descriptor)
            return descriptor

        def written(descriptor: int, data: bytes) -> int:
            if descriptor in self._descriptors and self.step("write", None):
                os_write(descriptor, data[: len(data) // 2])
                self._fail()
            return os_write(descriptor, data)

        def flushed(descriptor: int) -> None:
            if descriptor in self._descriptors and self.step("fsync", None):
                self._fail()
            os_fsync(descriptor)

        os.open, os.write, os.fsync = opened, written, flushed  # type: ignore[assignment]

    def _install_files(self) -> None:
        real = builtins.open

        def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            ours = file in self._descriptors if isinstance(file, int) else self._is_ours(file, {})
            if not ours or not set(mode) & set("wax+"):
                return real(file, mode, *args, **options)
            if not isinstance(file, int) and self.step("open", file):
                self._fail()
            return _Watched(real(file, mode, *args, **options), self)

        builtins.open = io.open = opened


class _Watched:
    """A file whose writes are steps."""

    def __init__(self, file: Any, steps: Steps) -> None:
        self._file, self._steps = file, steps

    def write(self, data: Any) -> Any:
        if self._steps.step("write", self._file.name if isinstance(self._file.name, str) else None):
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            self._steps._fail()
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


# --- scenarios -------------------------------------------------------------------------------------------

SCENARIOS: dict[str, Callable[[Path], tuple[Any, list[Callable[[], Any]]]]] = {}


def scenario(make: Callable[[Path], tuple[Any, list[Callable[[], Any]]]]) -> Any:
    """What is opened, and the changes that are made to it, each acknowledged when it returns."""
    SCENARIOS[make.__name__] = make
    return make


def manifest_of(project: Path) -> Path:
    return project / "Croissant" / "metadata.json"


def opened_a(project: Path) -> CopickRootMLC:
    return from_croissant(manifest_of(project))


def opened_b(project: Path) -> CopickRootMLC:
    return from_croissant(manifest_of(project), overlay_root=project / "overlay")


def the_run(root: CopickRootMLC) -> CopickRunMLC:
    run = root.get_run("TS_001")
    assert run is not None
    return run


def new_picks(root: CopickRootMLC) -> None:
    the_run(root).new_picks("ribosome", "1", "new", exist_ok=True)


def store_picks(root: CopickRootMLC, user: str, value: float) -> None:
    the_run(root).get_picks("ribosome", user, "1")[0].from_numpy(np.full((3, 3), value))


def store_mesh(root: CopickRootMLC, user: str, size: float) -> None:
    mesh = the_run(root).get_meshes("membrane", user, "1")[0]
    mesh.mesh = trimesh.Scene(trimesh.creation.box((size, size, size)))
    mesh.store()


def tomogram(root: CopickRootMLC, kind: str) -> Any:
    spacing = the_run(root).get_voxel_spacing(10.0)
    assert spacing is not None
    return spacing.get_tomogram(kind) or spacing.new_tomogram(kind)


def whole_run(root: CopickRootMLC) -> None:
    with root.batch():
        run = root.new_run("TS_9", exist_ok=True)
        run.new_voxel_spacing(7.5, exist_ok=True)
        run.new_picks("ribosome", "2", "me", exist_ok=True).from_numpy(np.ones((2, 3)))
        run.split = "test"
        root.new_object("new", True, label=7, exist_ok=True)


@scenario
def rows(project: Path) -> Any:
    index = CroissantIndex.from_url(str(manifest_of(project)))
    return index, [
        lambda: index.put(RunRow("new")),
        lambda: index.put(PicksRow("TS_001", "me", "9", "ribosome", 10.0)),
        lambda: index.remove(RunRow("new")),
    ]


@scenario
def batch(project: Path) -> Any:
    root = opened_a(project)
    return root, [lambda: whole_run(root)]


@scenario
def deletes(project: Path) -> Any:
    root = opened_a(project)
    return root, [lambda: tomogram(root, "wbp").delete(), lambda: root.delete_run("TS_002")]


@scenario
def splits_and_objects(project: Path) -> Any:
    root = opened_a(project)
    return root, [
        lambda: root.set_splits({"test": ["TS_001", "TS_002"]}),
        lambda: root.new_object("new", True, label=7, exist_ok=True),
        root.clear_splits,
    ]


@scenario
def picks(project: Path) -> Any:
    root = opened_a(project)
    return root, [
        lambda: new_picks(root),
        lambda: store_picks(root, "new", 1.0),
        lambda: store_picks(root, "demo", 2.0),
    ]


@scenario
def meshes(project: Path) -> Any:
    root = opened_a(project)
    return root, [
        lambda: the_run(root).new_mesh("membrane", "1", "new", exist_ok=True),
        lambda: store_mesh(root, "new", 1.0),
        lambda: store_mesh(root, "demo", 2.0),
    ]


@scenario
def volumes(project: Path) -> Any:
    root = opened_a(project)
    return root, [
        lambda: tomogram(root, "wbp").from_numpy(SMALL + 1, levels=1, dtype=np.uint8),
        lambda: tomogram(root, "new"),
        lambda: tomogram(root, "new").from_numpy(SMALL + 2, levels=1, dtype=np.uint8),
    ]


@scenario
def overlay(project: Path) -> Any:
    root = opened_b(project)
    return root, [
        lambda: new_picks(root),
        lambda: store_picks(root, "new", 2.0),
        lambda: tomogram(root, "new"),
        lambda: tomogram(root, "new").from_numpy(SMALL, levels=1, dtype=np.uint8),
        lambda: tomogram(root, "new").from_numpy(SMALL + 1, levels=1, dtype=np.uint8),
    ]


@scenario
def export_over(project: Path) -> Any:
    source = copick.from_file(str(project / "copick_config.json"))
    return None, [
        lambda: export_croissant(source, project, force=True, validate=False, license="CC0-1.0", runs=["TS_001"])
    ]


@scenario
def first_export(project: Path) -> Any:
    source = copick.from_file(str(project / "copick_config.json"))
    target = project / "elsewhere"
    return None, [lambda: export_croissant(source, target, validate=False, license="CC0-1.0")]


@scenario
def append(project: Path) -> Any:
    """The picks under another name, their object and a split, then other splits: each all or nothing."""
    source = copick.from_file(str(project / "copick_config.json"))
    picked: dict[str, Any] = {"tomograms": [], "meshes": [], "object_name_map": {"ribosome": "80S"}}
    options: dict[str, Any] = {"splits": {"test": ["TS_002"]}, "compute_file_sha256": False, "validate": False}
    return None, [
        lambda: append_croissant(manifest_of(project), source, **picked, **options),
        lambda: set_splits(manifest_of(project), {"mine": "TS_001"}, clear_existing=True, unassign=["TS_002"]),
    ]


@scenario
def after_a_killed_writer(project: Path) -> Any:
    """The recovery may be killed as well."""
    root = opened_a(project)
    return root, [lambda: new_picks(root)]


@scenario
def repairs(project: Path) -> Any:
    """Of a project with an unfinished commit, and picks that no row names."""
    return None, [lambda: repair(str(manifest_of(project)), add_missing=True)]


# --- what there is ---------------------------------------------------------------------------------------


def differences(one: str, other: str) -> str:
    """The values that only one of two descriptions has."""
    first, second = (
        {json.dumps(value) for value in [*found[0], *found[1:]]} for found in map(json.loads, (one, other))
    )
    return f"without {sorted(first - second)}, with {sorted(second - first)}"


def value_of(read: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except CroissantError as error:
        return error.code


def described(root: Any, *, data: bool = True) -> str:
    """Everything that a root or index says is there, as text; with `data`, also what it reads of it."""
    index = root if isinstance(root, CroissantIndex) else root.index
    found: list[Any] = [
        # A row's sha256 is compared with its file by whoever reads it.
        sorted(str({**cells_of(row), "sha256": ""}) for name in TABLES for row in index.rows(name)),
        index.splits(),
        index.config,
    ]
    if not isinstance(root, CroissantIndex):
        for run in root.runs:
            found.append(run.name)
            for spacing in run.voxel_spacings:
                found += [(item.tomo_type, data and value_of(_voxels, item)) for item in spacing.tomograms]
            found += sorted((item.user_id, data and str(value_of(_positions, item))) for item in run.picks)
            found += sorted((item.user_id, data and str(value_of(_bounds, item))) for item in run.meshes)
    return json.dumps(found, sort_keys=True, default=str)


def _voxels(tomogram: Any) -> Any:
    return tomogram.numpy().tolist()


def _positions(picks: Any) -> Any:
    return picks.numpy()[0].tolist()


def _bounds(mesh: Any) -> Any:
    return mesh.mesh.bounds


def make_template(directory: Path, name: str) -> Path:
    """The project that a scenario begins with: two runs with everything that is read of it, tiny."""
    project = directory / "template"
    project.mkdir()
    config = {
        "config_type": "filesystem",
        "name": "faults",
        "description": "",
        "version": "1.0.0",
        "pickable_objects": [
            {"name": "ribosome", "is_particle": True, "label": 1},
            {"name": "membrane", "is_particle": False, "label": 2},
        ],
        "user_id": "demo",
        "session_id": "1",
        "overlay_root": f"local://{project}",
        "overlay_fs_args": {"auto_mkdir": True},
    }
    (project / "copick_config.json").write_text(json.dumps(config))
    root = copick.from_file(str(project / "copick_config.json"))
    for name_of_run in ("TS_001", "TS_002"):
        run = root.new_run(name_of_run)
        # In small chunks; those of from_numpy have 256 voxels an edge, however small the volume is.
        store = run.new_voxel_spacing(10.0).new_tomogram("wbp").zarr()
        write_ome_zarr_3d(store, volume_pyramid(SMALL, 10.0, 1), chunk_size=SMALL.shape)
        run.new_picks("ribosome", "1", "demo").from_numpy(np.ones((2, 3)))
        mesh = run.new_mesh("membrane", "1", "demo")
        mesh.mesh = trimesh.Scene(trimesh.creation.box())
        mesh.store()
    if name == "first_export":
        return project
    export_croissant(root, project, splits={"train": ["TS_001"]}, date_published="2026-01-01")
    manifest = manifest_of(project)
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "keywords": ["by hand"]}))
    if name in ("after_a_killed_writer", "repairs"):
        _leave_unfinished(manifest)
    if name == "repairs":
        directory = project / "ExperimentRuns" / "TS_001" / "Picks"
        shutil.copy(directory / "demo_1_ribosome.json", directory / "new_1_ribosome.json")
    return project


def _leave_unfinished(manifest: Path) -> None:
    """What a writer leaves that dies when it has put the first of two tables into its place."""

    def work() -> None:
        steps = Steps(manifest.parent, 0, lambda: None)
        renamed = os.replace

        def replace(source: Any, target: Any) -> None:
            renamed(source, target)
            if str(target).endswith(".csv"):
                os.kill(os.getpid(), signal.SIGKILL)

        steps.install()
        os.replace = replace  # type: ignore[assignment]
        index = CroissantIndex.from_url(str(manifest))
        with index.batch():
            index.put(RunRow("pending"))
            index.put(PicksRow("pending", "me", "1", "ribosome", 10.0))

    assert in_child(work) == (-signal.SIGKILL, "")
    assert manifest.with_name("metadata.json.pending").exists()


# --- processes -------------------------------------------------------------------------------------------


def in_child(work: Callable[[], Any]) -> tuple[int, str]:
    """Run `work` in a forked process; its exit code, negative if a signal ended it, and what it returned or raised."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _be_child(work, writing)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def _be_child(work: Callable[[], Any], writing: int) -> NoReturn:
    code = 0
    try:
        text = work()
    except BaseException:  # noqa: BLE001  # it is told to the parent, which reports it
        code, text = 1, traceback.format_exc()
    real_write(writing, (text or "").encode())
    os._exit(code)


real_write = os.write


class Run:
    """One scenario, with the states that it goes through."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.template = make_template(directory, name)
        self._copies = 0
        self.problems: list[str] = []
        self.points = {"killed": 0, "failed": 0}
        with self.copied() as project:
            self.seen(project)  # so that what is imported when it is needed is not imported by every child
        gc.collect()
        gc.freeze()
        with self.copied() as project:
            code, said = in_child(lambda: json.dumps(self.all_states(project)))
        assert code == 0, said
        self.states: list[str] = json.loads(said)

    @contextlib.contextmanager
    def copied(self) -> Iterator[Path]:
        # Of one name: a copick configuration names the directory of its project.
        project = self.directory / "project"
        shutil.copytree(self.template, project)
        config = project / "copick_config.json"
        config.write_text(config.read_text().replace(str(self.template), str(project)))
        try:
            yield project
        finally:
            shutil.rmtree(project)

    def all_states(self, project: Path) -> list[str]:
        """What a fresh root says before the scenario and after each of its changes."""
        states = [self.seen(project)]
        for change in SCENARIOS[self.name](project)[1]:
            change()
            states.append(self.seen(project))
        return states

    def seen(self, project: Path, *, data: bool = True) -> str:
        """What somebody finds who opens the project."""
        if self.name == "first_export":
            manifest = manifest_of(project / "elsewhere")
            return described(from_croissant(manifest), data=data) if value_of(_opens, manifest) is True else "nothing"
        return described(opened_b(project) if self.name == "overlay" else opened_a(project), data=data)

    # --- one fault ---------------------------------------------------------------------------------------

    def all_faults(self) -> None:
        for kind in ("killed", "failed"):
            at = 1
            while self.one_fault(kind, at):
                self.points[kind] += 1
                at += 1

    def one_fault(self, kind: str, at: int) -> bool:
        """Have step `at` fail and look at what is left; false where the scenario has no such step."""
        with self.copied() as project:
            code, said = in_child(lambda: self.work(project, kind, at))
            acknowledged, reached, what = self.progress(project)
            where = f"{self.name}, step {at} {kind}"
            if code == 1:
                self.problems.append(f"{where} ({what}): {said[-1000:]}")
                return True
            if not reached:
                return False
            if kind == "killed" and code != -signal.SIGKILL:
                self.problems.append(f"{where}: exit code {code}")
            self.look(project, f"{where} ({what})", acknowledged)
        return True

    def progress(self, project: Path) -> tuple[int, bool, str]:
        """How many changes were acknowledged, whether the step was reached, and what it was."""
        lines = (project.parent / "progress").read_text().splitlines()
        (project.parent / "progress").unlink()
        reached = [line for line in lines if line.startswith("reached ")]
        return lines.count("done"), bool(reached), "".join(reached).removeprefix("reached ")

    def work(self, project: Path, kind: str, at: int) -> None:
        """The scenario, with one step that fails."""
        progress = os.open(project.parent / "progress", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def fail() -> None:
            real_write(progress, f"reached {steps.last}\n".encode())
            if kind == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            code = ERRORS[at % len(ERRORS)]
            raise OSError(code, os.strerror(code))

        steps = Steps(project, at, fail)
        steps.install()
        thing, changes = self.opened(project, kind)
        for change in changes:
            before = described(thing, data=False) if thing is not None and kind == "failed" else ""
            try:
                change()
            except CroissantError:
                if kind != "failed":
                    raise
                if thing is not None:  # the error may also be one of tidying, when the change was made
                    after, now = described(thing, data=False), self.seen(project, data=False)
                    assert after in (before, now), f"memory is not as it was: {differences(before, after)}"
                change()
            real_write(progress, b"done\n")

    def opened(self, project: Path, kind: str) -> tuple[Any, list[Callable[[], Any]]]:
        """What the scenario opens; opening, which recovers, may meet the error too."""
        try:
            return SCENARIOS[self.name](project)
        except CroissantError:
            if kind != "failed":
                raise
            return SCENARIOS[self.name](project)

    # --- what is left ------------------------------------------------------------------------------------

    def look(self, project: Path, where: str, acknowledged: int) -> None:
        allowed = self.states[acknowledged : acknowledged + 2]
        code, said = in_child(lambda: self.found(project))
        seen, _, problem = said.partition("\n") if code == 0 else ("", "", said)
        if problem:
            self.problems.append(f"{where}: {problem}")
        elif seen not in allowed:
            known = self.states.index(seen) if seen in self.states else differences(allowed[0], seen)
            self.problems.append(f"{where}: {acknowledged} changes were acknowledged, but the state is {known}")

    def found(self, project: Path) -> str:
        """What a fresh process finds; in lines of its own, what others or the next commit do not find right."""
        seen = self.seen(project)
        directory = project / "elsewhere" if self.name == "first_export" else project
        if not manifest_of(directory).exists():
            return seen
        mark = self.directory / digest(directory / "Croissant")
        if not mark.exists():  # what others read so far was not the same
            others_read(directory)
            mark.touch()
        commit_once_more(directory)
        return seen


def digest(directory: Path) -> str:
    """Of the files there, but for what says who wrote them: a lock's content, and names that are made up."""
    files = [
        (re.sub(r"\.[0-9a-f]{12}\.tmp$", ".tmp", name), b"" if name.endswith(".lock") else data)
        for name, data in tree(directory).items()
    ]
    return hashlib.sha256(repr(sorted(files)).encode()).hexdigest()


def _opens(manifest: Path) -> bool:
    from_croissant(manifest)
    return True


def others_read(project: Path) -> None:
    """copick and mlcroissant read what is left."""
    import mlcroissant

    manifest = manifest_of(project)
    root = copick.from_croissant(str(manifest), croissant_base_url=str(project))
    ours = from_croissant(manifest)
    assert sorted(run.name for run in root.runs) == sorted(run.name for run in ours.runs)
    for run in ours.runs:
        theirs = root.get_run(run.name)
        assert len(theirs.picks) == len(run.picks)
        assert len(theirs.meshes) == len(run.meshes)
    dataset = mlcroissant.Dataset(jsonld=str(manifest))
    for record_set in dataset.metadata.record_sets:
        list(dataset.records(record_set.uuid))


def commit_once_more(project: Path) -> None:
    """The next commit works, and leaves no stray file."""
    index = CroissantIndex.from_url(str(manifest_of(project)))
    index.put(RunRow("one more"))
    names = {"metadata.json", *(table.file_name for table in TABLES.values())}
    stray = set(os.listdir(project / "Croissant")) - names
    assert not stray, f"stray files: {stray}"


def run_scenario(name: str) -> dict[str, Any]:
    """The steps of a scenario that were tried, and what went wrong."""
    with tempfile.TemporaryDirectory() as directory:
        run = Run(name, Path(os.path.realpath(directory)))
        run.all_faults()
    return {"scenario": name, **run.points, "problems": run.problems}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; by default all")
    parser.add_argument("--json", action="store_true", help="print one JSON object a scenario")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    failed = 0
    for name in options.scenarios or SCENARIOS:
        result = run_scenario(name)
        failed += len(result["problems"])
        if options.json:
            print(json.dumps(result), flush=True)
        else:
            print(f"{name}: killed at {result['killed']} steps, {result['failed']} steps failed", flush=True)
            print("\n".join(result["problems"]), end="")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
