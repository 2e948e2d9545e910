"""Trials: a project that several processes write at once, and one whose writer or publisher is killed, again and again.

Each function is one trial; its keyword arguments are those of the trial, and case.schema.json says the same. What comes
of it is judged from the files, by the rules of SPEC.md, Commits [COM]; no moment at which something happens, and no
speed of the machine, makes an implementation fail that follows them. A trial also counts: reports show its figures.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from conformance import observer, snapshot
from conformance.client import AdapterError, Client, Response
from conformance.commits import is_staged, make, tables_of
from conformance.consistency import findings, identity
from conformance.matching import Difference
from conformance.processes import Launcher
from conformance.tables import TABLES
from conformance.workspace import MANIFEST, Workspace

Operations: TypeAlias = "Sequence[Mapping[str, Any]]"
#: A table's name, and the key of a row.
Row: TypeAlias = "tuple[str, tuple[str, ...]]"

# A writer that is to lose no change waits longer for the lock than the suite does for an answer.
_LOCK_SECONDS = 3600
_MOST_ROUNDS = 40
_MOST_EVENTS = 24
_SPARE_PROCESSES = 2


@dataclass(frozen=True)
class Stage:
    """Where a trial takes place: what starts the adapter, what that can do, and the case's directory."""

    launcher: Launcher
    timeout: float
    capabilities: frozenset[str]
    workspace: Workspace

    def start(self) -> Client:
        """A new process of the adapter, which was greeted."""
        client = Client(self.launcher, self.workspace.work, self.timeout, self.workspace.environment)
        try:
            client.ask("hello", {})
        except AdapterError as error:
            raise AdapterError(f"{error}{_end(client)}") from error
        return client

    def opening(self, path: str, s3: bool = False) -> dict[str, Any]:
        """The arguments with which a process opens the project whose manifest is at `path`."""
        manifest = f"{self.workspace.s3}/{path}" if s3 else self.workspace.path(path)
        return {"manifest": manifest, **({"lock_seconds": _LOCK_SECONDS} if "locks" in self.capabilities else {})}


@dataclass(frozen=True)
class Outcome:
    """What came of a trial: what is not as it must be, if anything, and what was counted."""

    found: Difference | None
    figures: Mapping[str, int]


@dataclass
class _Tally:
    """What became of the changes, or the reads, of one process."""

    asked: int = 0
    failures: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


# --- a reader --------------------------------------------------------------------------------------------


def reads(
    stage: Stage, *, append: Mapping[str, str], rows: int, commits: int, seed: int, path: str = MANIFEST
) -> Outcome:
    moments = random.Random(seed)
    manifest = stage.workspace.path(path)
    writer = _Committer(stage.workspace, manifest, append, rows, moments)
    failures = []
    took = 0.0
    with _process(stage) as client, ThreadPoolExecutor(1) as pool:
        first = _count(client, manifest, append)
        if isinstance(first, str):
            raise _NoTrialError(first)
        # No more than one commit while the project is opened once: so a reader needs to look no more than twice.
        for number in range(1, commits + 1):
            committing = pool.submit(writer.commit, number, took)
            started = time.monotonic()
            found = _count(client, manifest, append)
            took = time.monotonic() - started
            try:
                committing.result()
            except (OSError, ValueError) as error:
                failures.append(f"the files of a commit were changed while it was made: {error}")
                break
            if isinstance(found, str):
                failures.append(found)
            elif found not in [[count + made * rows for count in first] for made in (number - 1, number)]:
                failures.append(f"of {number} commits the tables {', '.join(append)} show {found} rows, after {first}")
        client.finish()
    figures = {"commits": commits, "reads": commits, "reads failed": len(failures)}
    fault = _fault(failures, commits, "reads failed")
    return _outcome("each read to show whole commits", filter(None, [fault]), figures)


def _count(client: Client, manifest: str, tables: Iterable[str]) -> list[int] | str:
    """How many rows the tables have, or what goes wrong."""
    response = _ask(client, "open", {"manifest": manifest})
    if response.error:
        return response.message
    counts = []
    for name in tables:
        response = _ask(client, "rows", {"table": name})
        if response.error:
            return response.message
        counts.append(len(response.result))
    return counts


class _Committer:
    """The suite as a writer: commits that append to tables."""

    def __init__(
        self, workspace: Workspace, manifest: str, append: Mapping[str, str], rows: int, moments: random.Random
    ) -> None:
        self._workspace, self._manifest = workspace, manifest
        self._append, self._rows, self._moments = append, rows, moments

    def commit(self, number: int, time_to_open: float) -> None:
        """Make a commit, beginning at any time while somebody opens the project, which takes as long as is said."""
        longest = self._moments.choice((0, 0, time_to_open / 3))  # often at one go, within a single read of a reader
        self._workspace.lock(self._manifest)
        try:
            tables = {}
            for name, text in self._append.items():
                old = Path(os.path.dirname(self._manifest), TABLES[name].file).read_bytes()
                new = [text.replace("{round}", str(number)).replace("{row}", str(row)) for row in range(self._rows)]
                tables[name] = old + "".join(new).encode()
            time.sleep(self._moments.uniform(0, time_to_open))
            make(self._manifest, tables, lambda: time.sleep(self._moments.uniform(0, longest)) if longest else None)
        finally:
            self._workspace.unlock(self._manifest)


# --- several writers -------------------------------------------------------------------------------------


def writers(
    stage: Stage, *, writers: Sequence[Operations], rounds: int, path: str = MANIFEST, s3: bool = False
) -> Outcome:
    manifest, opening = stage.workspace.path(path), stage.opening(path, s3)
    tallies = [_Tally() for _ in writers]
    reads = _Tally()
    done = threading.Event()
    with ExitStack() as stack:
        clients = [stack.enter_context(_process(stage)) for _ in (*writers, "the reader")]
        for client in clients:  # all of them, before the first writes
            _succeed(client, "open", opening)
        reader = partial(_read_on, clients[-1], opening, tallies, reads, done)
        jobs: list[Callable[[], None]] = [
            partial(_write_on, *job, rounds) for job in zip(clients[:-1], writers, tallies, strict=True)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(len(clients)))
        reading = pool.submit(reader)
        try:
            for writing in [pool.submit(job) for job in jobs]:
                writing.result()
        finally:
            done.set()
        reading.result()
        for client in clients:
            client.finish()
    kept = _rows(manifest)
    made = [row for tally in tallies for row in tally.rows]
    lost = [row for row in made if row not in kept]
    refused = [failure for tally in tallies for failure in tally.failures]
    asked = sum(tally.asked for tally in tallies)
    figures = {
        "writers": len(writers),
        "changes": asked,
        "changes refused": len(refused),
        "rows lost": len(lost),
        "reads": reads.asked,
        "reads failed": len(reads.failures),
    }
    faults = [
        _fault(refused, asked, "changes were refused"),
        _fault([f"{table} {', '.join(key)}" for table, key in lost], len(made), "rows that were made are lost"),
        _fault(reads.failures, reads.asked, "reads failed"),
    ]
    return _outcome("all changes made and kept, and all reads answered", filter(None, faults), figures)


def _write_on(client: Client, steps: Operations, tally: _Tally, rounds: int) -> None:
    for number in range(1, rounds + 1):
        for change in _changes(steps, number):
            tally.asked += 1
            failure = _make(client, change)
            if failure:
                tally.failures.append(failure)
            else:
                tally.rows += _made(change)


def _read_on(
    client: Client, opening: Mapping[str, Any], writers: Sequence[_Tally], tally: _Tally, done: threading.Event
) -> None:
    """Open and read until all is written, and once more; what was made before has to be there."""
    last = False
    while not last:
        last = done.is_set()
        made = {row for writer in writers for row in list(writer.rows)}
        tally.asked += 1
        failure = _read(client, opening, made)
        if failure:
            tally.failures.append(failure)


def _read(client: Client, opening: Mapping[str, Any], made: set[Row]) -> str | None:
    """Open, and look for the rows that were made; what goes wrong."""
    response = _ask(client, "open", opening)
    if response.error:
        return response.message
    seen: set[Row] = set()
    for name in sorted({table for table, _ in made}):
        response = _ask(client, "rows", {"table": name})
        if response.error:
            return response.message
        seen |= {(name, _identity(name, row)) for row in response.result}
    missing = sorted(made - seen)
    return f"{missing[0][0]} lacks {', '.join(missing[0][1])}, which was made before" if missing else None


# --- kills -----------------------------------------------------------------------------------------------


def kills(stage: Stage, *, writer: Operations, kills: int, seed: int, path: str = MANIFEST) -> Outcome:
    with _Spares(stage) as spares, tempfile.TemporaryDirectory(prefix="conformance-") as backup:
        shutil.copytree(stage.workspace.work, backup, symlinks=True, dirs_exist_ok=True)
        trial = _Kills(stage, writer, random.Random(seed), path, backup)
        try:
            for _ in range(kills):
                trial.kill(spares.next())
            trial.end(spares.next())
        except _NoTrialError as error:
            return trial.outcome(f"and without a kill: {error}")
    return trial.outcome()


class _Kills:
    """A project whose writer is killed; whoever comes next has to find it in order, and goes on."""

    def __init__(self, stage: Stage, writer: Operations, moments: random.Random, path: str, backup: str) -> None:
        self._stage, self._writer, self._moments, self._path, self._backup = stage, writer, moments, path, backup
        self._manifest = stage.workspace.path(path)
        self._opening = stage.opening(path)
        self._directory = os.path.dirname(self._manifest)
        self._beside = os.listdir(self._directory)
        self._given = _rows(self._manifest)
        self._names: set[str] = set()
        self._made: set[Row] = set()
        self._round = 0
        self._tried = self._unfinished = self._changes = 0
        self._faults: list[str] = []
        self._judged = True

    def kill(self, client: Client) -> None:
        """Go on in this process, and kill it."""
        with _ending(client):
            took = self._resume(client)
            self._names = set(os.listdir(self._directory))
            self._tried += 1
            under_way = self._write_until_killed(client, took)
        self._judged = False
        self._unfinished += set(os.listdir(self._directory)) != self._names
        fault = self._state(under_way)
        if fault:
            self._lose(fault)

    def end(self, client: Client) -> None:
        """See in this process, which is not killed, what became of the last kill."""
        with _ending(client):
            self._resume(client)
            client.finish()

    def outcome(self, more: str = "") -> Outcome:
        figures = {
            "kills": self._tried,
            "kills survived": self._tried - len(self._faults),
            "kills amid a commit": self._unfinished,
            "changes": self._changes,
        }
        fault = _fault(self._faults, self._tried, "kills were not survived")
        return _outcome("all kills survived", filter(None, [fault, more]), figures)

    def _resume(self, client: Client) -> float:
        """Open the project, find all rows and make the next change; how long that took."""
        fault, took = self._try(client)
        if fault and not self._judged:
            self._lose(fault)
            fault, took = self._try(client)
        if fault:
            raise _NoTrialError(fault)
        self._judged = True
        return took

    def _try(self, client: Client) -> tuple[str | None, float]:
        fault = _read(client, self._opening, self._made)
        if fault:
            return fault, 0
        started = time.monotonic()
        for change in self._next():
            failure = _make(client, change)
            if failure:
                return failure, 0
            self._note(change)
        took = time.monotonic() - started
        return self._disorder() or self._state(set()), took

    def _disorder(self) -> str | None:
        """What is not in order though nobody was killed."""
        found = observer.check(self._stage.workspace, "consistent", {"path": self._path})
        return found.got if found else None

    def _write_until_killed(self, client: Client, took: float) -> set[Row]:
        """The rows of the change that was under way."""
        with _Killer(client, self._directory, self._moments, took) as killer:
            for _ in range(_MOST_ROUNDS):
                for change in self._next():
                    try:
                        failure = _make(client, change)
                    except AdapterError:
                        if not killer.has_struck:
                            raise
                        return _made(change)
                    if failure:
                        raise _NoTrialError(failure)
                    self._note(change)
        client.strike()
        return set()

    def _next(self) -> Iterator[Operations]:
        self._round += 1
        return _changes(self._writer, self._round)

    def _note(self, change: Operations) -> None:
        self._changes += 1
        self._made |= _made(change)

    def _state(self, under_way: set[Row]) -> str | None:
        """What is wrong with the files: they have to be the state before the change that was under way, or after."""
        try:
            tables = tables_of(self._manifest)
        except (OSError, ValueError) as error:
            return f"manifest and tables do not fit: {error}"
        rows = {(name, identity(row, TABLES[name])) for name, records in tables.items() for row in records.rows}
        lost = (self._given | self._made) - rows
        if lost:
            return f"{len(lost)} rows are lost, as {_shown(lost)}"
        new = rows - self._given - self._made
        if new not in (set(), under_way):
            return f"half of a change was made: {_shown(new)}, and not {_shown(under_way - new)}"
        self._made |= new
        return None

    def _lose(self, fault: str) -> None:
        """Note that the last kill was not survived, and begin again with the project as it was at first."""
        self._faults.append(fault)
        self._judged = True
        self._made = set()
        for item in os.scandir(self._stage.workspace.work):
            if item.is_dir(follow_symlinks=False):
                shutil.rmtree(item.path)
            else:
                os.unlink(item.path)
        shutil.copytree(self._backup, self._stage.workspace.work, symlinks=True, dirs_exist_ok=True)


def kills_at_requests(stage: Stage, *, writer: Operations, path: str = MANIFEST) -> Outcome:
    with _Spares(stage) as spares, tempfile.TemporaryDirectory(prefix="conformance-") as backup:
        shutil.copytree(stage.workspace.work, backup, symlinks=True, dirs_exist_ok=True)
        trial = _RequestKills(stage, writer, path, backup)
        try:
            while trial.goes_on:
                trial.kill(spares.next())
            trial.end(spares.next())
        except _NoTrialError as error:
            return trial.outcome(f"and without a kill: {error}")
    return trial.outcome()


class _RequestKills(_Kills):
    """A project on S3 whose writer is killed when it has had an answer to none of its requests, to one, and so on.

    What it staged, and nobody needs, may be there from then on.
    """

    def __init__(self, stage: Stage, writer: Operations, path: str, backup: str) -> None:
        super().__init__(stage, writer, random.Random(0), path, backup)
        self._opening = stage.opening(path, s3=True)
        self.goes_on = True

    def _disorder(self) -> str | None:
        staged = {name for name in os.listdir(self._directory) if is_staged(name)}
        return "; ".join(findings(self._manifest, {*self._beside, *staged})) or None

    def _write_until_killed(self, client: Client, took: float) -> set[Row]:
        requests = self._stage.workspace.s3_server.requests
        struck = threading.Event()

        def strike() -> None:
            struck.set()
            client.strike()

        before = requests.count
        requests.answer(self._tried - 1, strike)
        try:
            for change in self._next():
                try:
                    failure = _make(client, change)
                except AdapterError:
                    if not struck.is_set():
                        raise
                    return _made(change)
                if failure:
                    raise _NoTrialError(failure)
                self._note(change)
        finally:
            requests.answer_all()
        if requests.count == before:
            raise _NoTrialError("changes on S3 were made without a request to it")
        self.goes_on = struck.is_set()
        client.strike()
        return set()


class _NoTrialError(Exception):
    """The implementation fails without being killed, so that kills show nothing."""


class _Killer:
    """Kills a process at a moment that nobody could foresee.

    Most of the moments are those at which something happens to the files beside metadata.json, the n-th time: they lie
    within commits, and close together. The others are any time.
    """

    def __init__(
        self, client: Client, directory: str, moments: random.Random, took: float, events: int = _MOST_EVENTS
    ) -> None:
        self._client, self._directory = client, directory
        self._events = moments.randint(1, events) if moments.random() < 0.7 else 0
        self._delay = moments.uniform(0, 0.001) if self._events else moments.uniform(0, 4 * took)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.has_struck = False

    def __enter__(self) -> _Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        events, seen = 0, self._files()
        while events < self._events:
            if self._over.is_set():
                return
            now = self._files()
            events += now != seen
            seen = now
        if not self._over.wait(self._delay):
            self.has_struck = True
            self._client.strike()

    def _files(self) -> set[tuple[str, int, int]]:
        found = set()
        for item in os.scandir(self._directory):
            with suppress(FileNotFoundError):
                status = item.stat(follow_symlinks=False)
                found.add((item.name, status.st_ino, status.st_mtime_ns))
        return found


class _Spares:
    """Processes that are started before they are needed, as starting one takes longer than anything else."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._pool = ThreadPoolExecutor(_SPARE_PROCESSES)
        self._ready: deque[Future[Client]] = deque()

    def __enter__(self) -> _Spares:
        for _ in range(_SPARE_PROCESSES):
            self._ready.append(self._pool.submit(self._stage.start))
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        for future in self._ready:
            with suppress(AdapterError):
                _end(future.result())

    def next(self) -> Client:
        self._ready.append(self._pool.submit(self._stage.start))
        return self._ready.popleft().result()


# --- publications ----------------------------------------------------------------------------------------


def publications(stage: Stage, *, publish: Mapping[str, Any], kills: int, seed: int) -> Outcome:
    with _Spares(stage) as spares, tempfile.TemporaryDirectory(prefix="conformance-") as backup:
        trial = _Publications(stage, publish, random.Random(seed), backup)
        trial.begin(spares.next())
        for _ in range(kills):
            trial.kill(spares.next())
        trial.end(spares.next())
    return trial.outcome()


#: What an artifact is made of: the checksums of its files, by path in it.
Data: TypeAlias = "Mapping[str, str]"


class _Publications:
    """A publication that is killed; whoever comes next publishes again, to the end."""

    def __init__(self, stage: Stage, publish: Mapping[str, Any], moments: random.Random, backup: str) -> None:
        self._stage, self._publish, self._moments = stage, publish, moments
        self._target, self._backup = publish["project_root"], os.path.join(backup, "target")
        self._old = self._new = _artifacts(self._target)
        self._took, self._events = 0.0, 1
        self._tried = self._amid = 0
        self._faults: list[str] = []
        self._judged = True

    def begin(self, client: Client) -> None:
        """See what a publication makes of the target that is not killed."""
        if os.path.isdir(self._target):
            shutil.copytree(self._target, self._backup, symlinks=True)
        with _ending(client):
            started = time.monotonic()
            _succeed(client, "publish", self._publish)
            self._took = time.monotonic() - started
            client.finish()
        self._new = _artifacts(self._target)
        self._events = len(snapshot.take(self._target))  # about as many as there are names that come

    def kill(self, client: Client) -> None:
        """Publish what the last kill broke off; begin again with the target as it was, and kill this process."""
        with _ending(client):
            self._resume(client)
            _remove(self._target)
            if os.path.isdir(self._backup):
                shutil.copytree(self._backup, self._target, symlinks=True)
            with _TreeKiller(client, self._target, self._moments, self._took / 4, self._events) as killer:
                try:
                    _succeed(client, "publish", self._publish)
                except AdapterError:
                    if not killer.has_struck:
                        raise
            client.strike()
        self._tried += 1
        self._judged = False
        now = _artifacts(self._target)
        self._amid += now not in (self._old, self._new)
        fault = self._state(now)
        if fault:
            self._lose(fault)

    def end(self, client: Client) -> None:
        """See in this process, which is not killed, what became of the last kill."""
        with _ending(client):
            self._resume(client)
            client.finish()

    def outcome(self) -> Outcome:
        figures = {
            "kills": self._tried,
            "kills survived": self._tried - len(self._faults),
            "kills amid copies": self._amid,
        }
        fault = _fault(self._faults, self._tried, "kills were not survived")
        return _outcome("all kills survived", filter(None, [fault]), figures)

    def _resume(self, client: Client) -> None:
        response = _ask(client, "publish", self._publish)
        path = os.path.relpath(self._manifest, self._stage.workspace.work)
        disorder = observer.check(self._stage.workspace, "consistent", {"path": path})
        if response.error:
            self._lose(f"the next publication fails: {response.message}")
        elif disorder:
            self._lose(f"after the next publication {disorder.got}")
        elif _artifacts(self._target) != self._new:
            self._lose("the next publication does not make what one does that is not killed")
        self._judged = True

    def _lose(self, fault: str) -> None:
        """Note that the last kill was not survived, once; without one nothing can be shown."""
        if self._tried == 0:
            raise _NoTrialError(fault)
        if not self._judged:
            self._faults.append(fault)
        self._judged = True

    def _state(self, now: Mapping[str, Data]) -> str | None:
        """What is wrong with the files after a kill."""
        for name in sorted({*self._old, *self._new, *now}):
            if now.get(name) not in (self._old.get(name), self._new.get(name)):
                return f"{name} is neither the old one nor the new one"
        if not self._has_begun_to_commit():
            return None
        late = sorted(name for name in {*now, *self._new} if now.get(name) != self._new.get(name))
        if late:
            return f"tables and manifest are written before {late[0]} is in place"
        try:
            tables_of(self._manifest)
        except (OSError, ValueError) as error:
            if os.path.exists(self._manifest):
                return f"manifest and tables do not fit: {error}"
        return None

    def _has_begun_to_commit(self) -> bool:
        return _published(os.path.dirname(self._manifest)) != _published(os.path.join(self._backup, "Croissant"))

    @property
    def _manifest(self) -> str:
        return os.path.join(self._target, "Croissant", "metadata.json")


class _TreeKiller(_Killer):
    """Looks at the files of all directories."""

    def _files(self) -> set[tuple[str, int, int]]:
        found = set()
        for parent, directories, names in os.walk(self._directory):
            for name in [*directories, *names]:
                with suppress(FileNotFoundError):
                    status = os.lstat(os.path.join(parent, name))
                    found.add((os.path.join(parent, name), status.st_ino, status.st_mtime_ns))
        return found


def _artifacts(directory: str) -> dict[str, dict[str, str]]:
    """The data below a directory, by path: what has a hidden name, or is empty, is none."""
    found: dict[str, dict[str, str]] = {}
    for path, entry in snapshot.take(directory).items():
        above, store, inside = path.partition(".zarr/")
        artifact = f"{above}{store}".rstrip("/")
        names = artifact.split("/")
        if entry.kind != "directory" and names[0] != "Croissant" and not any(name.startswith(".") for name in names):
            found.setdefault(artifact, {})[inside] = entry.content
    return found


def _published(directory: str) -> dict[str, str]:
    """The tables and the manifest in a directory, be it pending."""
    there = snapshot.take(directory)
    names = [table.file for table in TABLES.values()] + ["metadata.json", "metadata.json.pending"]
    return {name: there[name].content for name in names if name in there}


def changing_source(
    stage: Stage, *, publish: Mapping[str, Any], source: str, copy: str, texts: Sequence[str], times: int
) -> Outcome:
    place = stage.workspace.path(source)
    tally = _Tally()
    with _process(stage) as client:
        _succeed(client, "publish", publish)
        for _ in range(times):
            _remove(publish["project_root"])
            with _changing(place, texts, os.path.join(stage.workspace.work, "changing")):
                response = _ask(client, "publish", publish)
            tally.asked += 1
            fault = _copied(stage, response, publish["project_root"], copy, texts)
            if fault:
                tally.failures.append(fault)
        client.finish()
    figures = {"publications": tally.asked, "publications that fit": tally.asked - len(tally.failures)}
    fault = _fault(tally.failures, tally.asked, "publications do not fit")
    return _outcome("copies that are as their rows say, or storage-failed", filter(None, [fault]), figures)


def _remove(target: str) -> None:
    if os.path.isdir(target):  # an object store has no directory where there is no object
        shutil.rmtree(target)


@contextmanager
def _changing(path: str, texts: Sequence[str], temporary: str) -> Iterator[None]:
    """Replace a file again and again, in one step each."""
    over = threading.Event()

    def change() -> None:
        for text in texts:
            Path(temporary).write_text(text, encoding="utf-8")
            os.replace(temporary, path)

    def go_on() -> None:
        while not over.is_set():
            change()

    change()  # from now on it is none but these
    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(go_on)
        try:
            yield
        finally:
            over.set()
        changing.result()


def _copied(stage: Stage, response: Response, target: str, copy: str, texts: Sequence[str]) -> str | None:
    """What is wrong after a publication whose source changed."""
    manifest = os.path.relpath(os.path.join(target, "Croissant", "metadata.json"), stage.workspace.work)
    if response.error:
        if "codes" in stage.capabilities and response.code != "storage-failed":
            return f"the error {response.code}: {response.message}"
        return "there is a manifest, and an error" if os.path.lexists(stage.workspace.path(manifest)) else None
    copied = Path(stage.workspace.path(copy))
    if not copied.is_file() or copied.read_text(encoding="utf-8") not in texts:
        return f"{copy} is nothing that the source was"
    for check, arguments in (("sums", {"table": "picks"}), ("consistent", {})):
        found = observer.check(stage.workspace, check, {**arguments, "path": manifest})
        if found:
            return found.got
    return None


# --- processes and changes -------------------------------------------------------------------------------


@contextmanager
def _process(stage: Stage) -> Iterator[Client]:
    client = stage.start()
    with _ending(client):
        yield client


class _FaultError(AdapterError):
    """A process hung, crashed or broke the protocol, and this is it."""

    def __init__(self, client: Client, error: AdapterError) -> None:
        super().__init__(str(error))
        self.client = client


def _ask(client: Client, operation: str, arguments: Mapping[str, Any]) -> Response:
    try:
        return client.ask(operation, arguments)
    except AdapterError as error:
        raise _FaultError(client, error) from error


@contextmanager
def _ending(client: Client) -> Iterator[None]:
    """End the process after the block; what it wrote to standard error goes with an error that is its own."""
    try:
        yield
    except _FaultError as error:
        words = _end(client)
        if error.client is client:
            raise AdapterError(f"{error}{words}") from error
        raise
    except BaseException:
        _end(client)
        raise
    else:
        _end(client)


def _end(client: Client) -> str:
    client.kill()
    words = client.stderr()
    return f"; its standard error ended with {words}" if words else ""


def _succeed(client: Client, operation: str, arguments: Mapping[str, Any]) -> None:
    response = _ask(client, operation, arguments)
    if response.error:
        raise _NoTrialError(f"{operation}: {response.message}")


def _changes(steps: Operations, number: int) -> Iterator[Operations]:
    """The changes of a round, each with the operations of one commit: a single one, or a batch."""
    depth = 0
    change: list[Mapping[str, Any]] = []
    for step in steps:
        change.append(_fill(step, str(number)))
        depth += {"begin": 1, "end": -1}.get(step["op"], 0)
        if depth == 0:
            yield change
            change = []


def _fill(value: Any, number: str) -> Any:
    if isinstance(value, str):
        return value.replace("{round}", number)
    if isinstance(value, list):
        return [_fill(item, number) for item in value]
    return {name: _fill(item, number) for name, item in value.items()} if isinstance(value, dict) else value


def _make(client: Client, change: Operations) -> str | None:
    """Make a change; what the implementation has against it."""
    failure = None
    for operation in change:
        response = _ask(client, operation["op"], {name: value for name, value in operation.items() if name != "op"})
        if response.error:
            failure = failure or f"{operation['op']}: {response.message}"
    return failure


def _made(change: Operations) -> set[Row]:
    """The rows that a change makes."""
    return {(o["kind"], _identity(o["kind"], o["key"])) for o in change if o["op"] == "create"}


def _identity(table: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    """The key of a row as the protocol has it."""
    cells = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in row.items()}
    return identity(cells, TABLES[table])


def _rows(manifest: str) -> set[Row]:
    """All rows of a project; none where its files are not in order."""
    try:
        tables = tables_of(manifest)
    except (OSError, ValueError):
        return set()
    return {(name, identity(row, TABLES[name])) for name, records in tables.items() for row in records.rows}


def _fault(failures: Sequence[str], of: int, words: str) -> str:
    return f"{len(failures)} of {of} {words}, the first: {failures[0]}" if failures else ""


def _outcome(wanted: str, faults: Iterator[str], figures: Mapping[str, int]) -> Outcome:
    got = "; ".join(faults)
    return Outcome(Difference(wanted, got) if got else None, figures)


def _shown(rows: set[Row]) -> str:
    return "; ".join(f"{table} {', '.join(key)}" for table, key in sorted(rows)[:3]) or "nothing"


#: Every trial by its name.
TRIALS: Mapping[str, Callable[..., Outcome]] = {
    function.__name__: function
    for function in (reads, writers, kills, kills_at_requests, publications, changing_source)
}


def run(stage: Stage, name: str, arguments: Mapping[str, Any]) -> Outcome:
    """Hold a trial.

    Raises:
        AdapterError: a process hung, crashed or broke the protocol.
    """
    try:
        return TRIALS[name](stage, **stage.workspace.fill(arguments))
    except _NoTrialError as error:
        return Outcome(Difference("an implementation that does it undisturbed", str(error)), {})
