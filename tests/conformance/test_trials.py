"""What trials make of writers and readers, good and bad; these are toys, each a few lines of the standard library."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.client import AdapterError
from conformance.processes import Command
from conformance.trials import Outcome, Stage, run
from conformance.workspace import Workspace

FIXTURES = Path(__file__).parents[2] / "conformance" / "fixtures"

TOYS = """
import fcntl, os, re, shutil, time
from pathlib import Path
from urllib.request import Request, urlopen
from conformance import commits, documents

URL = PICKS = "ExperimentRuns/TS_001/Picks/demo_1_ribosome.json"
STORE = "Objects/one.zarr"


class Keeper:
    name, version, capabilities = "keeper", "1.0", ["read", "write", "batch", "locks"]

    def __init__(self):
        self.depth, self.new = 0, {}

    def open(self, manifest, lock_seconds=None, root="main"):
        self.manifest = manifest
        self.tables = self.read()

    def read(self):
        for _ in range(1000):
            try:
                return commits.tables_of(self.manifest)
            except (OSError, ValueError):
                pass
        return commits.tables_of(self.manifest)

    def rows(self, table, run=None, root="main"):
        return self.tables[table].rows

    def create(self, kind, key, data=None, root="main"):
        cells = [*key.values(), *(["10.0", URL] if kind == "picks" else [])]
        self.new[kind] = self.new.get(kind, b"") + ",".join(cells).encode() + b"\\r\\n"
        self.commit()

    def begin(self, root="main"):
        self.depth += 1

    def end(self, root="main"):
        self.depth -= 1
        self.commit()

    def commit(self):
        if self.depth == 0:
            descriptor = self.lock()
            self.recover()
            self.publish({name: self.place(name).read_bytes() + text for name, text in self.new.items()})
            self.new = {}
            os.unlink(f"{self.manifest}.lock")
            os.close(descriptor)

    def lock(self):
        while True:
            descriptor = os.open(f"{self.manifest}.lock", os.O_RDWR | os.O_CREAT)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                if os.path.samestat(os.stat(f"{self.manifest}.lock"), os.fstat(descriptor)):
                    return descriptor
            except FileNotFoundError:
                pass
            os.close(descriptor)

    def recover(self):
        beside = Path(self.manifest).parent
        pending = Path(f"{self.manifest}.pending")
        if pending.exists():
            for staged in beside.glob("*.csv.*.pending"):
                if staged.name.split(".")[2] in pending.read_text():
                    staged.replace(beside / ".".join(staged.name.split(".")[:2]))
            pending.replace(self.manifest)
        for left in [*beside.glob("*.pending"), *beside.glob(".*.tmp")]:
            left.unlink()

    def publish(self, tables):
        commits.make(self.manifest, tables, lambda: None)

    def place(self, name):
        return Path(self.manifest).with_name(f"{name}.csv")


class Unlocked(Keeper):
    def lock(self):
        return os.open(f"{self.manifest}.lock", os.O_RDWR | os.O_CREAT)

    def publish(self, tables):
        time.sleep(0.05)
        super().publish(tables)


class Torn(Keeper):
    def publish(self, tables):
        for name, data in tables.items():
            self.place(name).write_bytes(data)
            time.sleep(0.05)
        super().publish(tables)


class Halved(Keeper):
    def begin(self, root="main"):
        pass

    def end(self, root="main"):
        pass

    def commit(self):
        time.sleep(0.05)
        super().commit()


class Forgetful(Keeper):
    def commit(self):
        self.new = {}


class Messy(Keeper):
    def commit(self):
        super().commit()
        Path(self.manifest).with_name("left.txt").touch()


class Refusing(Keeper):
    def create(self, kind, key, data=None, root="main"):
        raise ValueError("no")


class Shut(Keeper):
    def open(self, manifest, lock_seconds=None, root="main"):
        raise ValueError("closed")


class Crashing(Keeper):
    def create(self, kind, key, data=None, root="main"):
        print("now I crash", file=__import__("sys").stderr)
        os._exit(3)


class Hasty(Keeper):
    def read(self):
        document = documents.parse(Path(self.manifest).read_bytes())
        time.sleep(0.02)
        for entry in document["distribution"]:
            data = Path(self.manifest).with_name(entry["contentUrl"]).read_bytes()
            if commits.hashlib.sha256(data).hexdigest() != entry["sha256"]:
                raise ValueError("they do not fit")
        return super().read()


class Meddling(Keeper):
    def read(self):
        for _ in range(1000):
            for staged in Path(self.manifest).parent.glob("*.csv.*.pending"):
                staged.unlink(missing_ok=True)
                return super().read()
            time.sleep(0.001)
        return super().read()


class Careless(Keeper):
    def read(self):
        tables = {}
        for name in ("runs", "picks"):
            tables[name] = commits.read(self.place(name).read_bytes())
            time.sleep(0.02)
        return tables


class Herald:
    name, version, capabilities = "herald", "1.0", ["read", "publish"]

    def error_code(self, error):
        return None if isinstance(error, ValueError) else "storage-failed"

    def publish(self, source, project_root, options):
        self.source, self.target = Path(source), Path(project_root)
        for path in (PICKS, STORE):
            self.put(path)
        self.announce()

    def put(self, path):
        target = self.target / path
        staged = target.with_name(f".{target.name}")
        if target.exists() and self.content(target) == self.content(self.source / path):
            return
        shutil.rmtree(staged) if staged.is_dir() else staged.unlink(missing_ok=True)
        for name, data in self.content(self.source / path).items():
            place = staged / name if name else staged
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            time.sleep(0.002)
        os.replace(staged, target)

    def content(self, path):
        if path.is_file():
            return {"": path.read_bytes()}
        return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}

    def announce(self, sum=None):
        sum = sum or commits.hashlib.sha256((self.target / PICKS).read_bytes()).hexdigest()
        beside, new = self.source / "Croissant", self.target / "Croissant"
        header = "run,user_id,session_id,object_name,voxel_size,url,sha256"
        row = f"{header}\\r\\nTS_001,demo,1,ribosome,10.0,{PICKS},{sum}\\r\\n"
        document = documents.parse((beside / "metadata.json").read_bytes())
        document["distribution"][1]["sha256"] = commits.hashlib.sha256(row.encode()).hexdigest()
        source = {"fileObject": {"@id": "picks-csv"}, "extract": {"column": "sha256"}}
        document["recordSet"][1]["field"].append({"@id": "copick/picks/sha256", "source": source})
        new.mkdir(parents=True, exist_ok=True)
        files = {"runs.csv": (beside / "runs.csv").read_bytes(), "picks.csv": row.encode()}
        for name, data in {**files, "metadata.json": documents.dump(document)}.items():
            (new / f"{name}.new").write_bytes(data)
            os.replace(new / f"{name}.new", new / name)


class Eager(Herald):
    def publish(self, source, project_root, options):
        self.source, self.target = Path(source), Path(project_root)
        self.announce(commits.hashlib.sha256((self.source / PICKS).read_bytes()).hexdigest())
        time.sleep(0.5)
        super().publish(source, project_root, options)


class Piecemeal(Herald):
    def put(self, path):
        for name, data in self.content(self.source / path).items():
            place = self.target / path / name if name else self.target / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            time.sleep(0.5 if name == ".zgroup" else 0)


class Once(Herald):
    def publish(self, source, project_root, options):
        (Path(project_root) / "Objects").mkdir(parents=True)
        super().publish(source, project_root, options)


class Stale(Herald):
    def announce(self, sum=None):
        super().announce(self.before)

    def put(self, path):
        if path == PICKS:
            self.before = self.content(self.source / path)
            for _ in range(200):
                super().put(path)
                if self.content(self.target / path) != self.before:
                    break
                time.sleep(0.001)
            self.before = commits.hashlib.sha256(self.before[""]).hexdigest()
        else:
            super().put(path)


class Silent(Herald):
    def publish(self, source, project_root, options):
        raise ValueError("nothing to say")


class Wordy(Herald):
    times = 0

    def announce(self, sum=None):
        super().announce(sum)
        Wordy.times += 1
        if Wordy.times > 1:
            raise OSError("and yet")


class Muttering(Wordy):
    def error_code(self, error):
        return "exists"


class Cloud(Keeper):
    def open(self, manifest, lock_seconds=None, root="main"):
        self.url = f"{os.environ['AWS_ENDPOINT_URL']}/{manifest[5:]}".rpartition("/")[0]
        super().open("project/Croissant/metadata.json")

    def commit(self):
        if self.depth == 0:
            document, tables = documents.parse(Path(self.manifest).read_bytes()), {}
            for entry in document["distribution"]:
                name = entry["@id"].removesuffix("-csv")
                if name in self.new:
                    data = commits._table(f"{name}.csv", entry["sha256"], self.get) + self.new[name]
                    entry |= {"sha256": commits.hashlib.sha256(data).hexdigest(), "contentSize": f"{len(data)} B"}
                    tables[f"{name}.csv", f"{name}.csv.{entry['sha256']}.pending"] = data
            self.new = {}
            self.send(tables, documents.dump(document))

    def get(self, name):
        file = Path(self.manifest).with_name(name)
        return file.read_bytes() if file.exists() else None

    def send(self, tables, manifest):
        for (_, staged), data in tables.items():
            self.ask("PUT", staged, data)
        self.ask("PUT", "metadata.json", manifest)
        for (name, _), data in tables.items():
            self.ask("PUT", name, data)
        for _, staged in tables:
            self.ask("DELETE", staged)

    def ask(self, method, name, data=None):
        urlopen(Request(f"{self.url}/{name}", data, {"Authorization": "any"}, method=method)).close()


class Hurried(Cloud):
    def send(self, tables, manifest):
        for (name, _), data in tables.items():
            self.ask("PUT", name, data)
        self.ask("PUT", "metadata.json", manifest)


class Offline(Cloud):
    def ask(self, method, name, data=None):
        file = Path(self.manifest).with_name(name)
        file.write_bytes(data) if data else file.unlink()
"""

RUN = {"op": "create", "kind": "runs", "key": {"name": "run-{round}"}}
BATCH = [
    {"op": "begin"},
    RUN,
    {
        "op": "create",
        "kind": "picks",
        "key": {"run": "run-{round}", "user_id": "a", "session_id": "1", "object_name": "ribosome"},
        "data": {"points": []},
    },
    {"op": "end"},
]
KILLS = {"writer": BATCH, "kills": 4, "seed": 1}
APPEND = {
    "runs": "run-{round}-{row}\r\n",
    "picks": "run-{round}-{row},a,1,ribosome,,ExperimentRuns/TS_001/Picks/demo_1_ribosome.json\r\n",
}
READS = {"append": APPEND, "rows": 2, "commits": 10, "seed": 1}


def writers(count: int, rounds: int) -> dict[str, Any]:
    names = [f"{number}-{{round}}" for number in range(count)]
    return {
        "writers": [[{"op": "create", "kind": "runs", "key": {"name": name}}] for name in names],
        "rounds": rounds,
    }


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toys.py").write_text(TOYS, encoding="utf-8")
    workspace = Workspace(FIXTURES / "minimal")
    yield workspace
    workspace.close()
    assert list(temporary.iterdir()) == []


def hold(workspace: Workspace, toy: str, trial: str, arguments: dict[str, Any], *more: str) -> Outcome:
    launcher = Command([sys.executable, "-m", "conformance.serve", f"toys:{toy}"])
    return run(Stage(launcher, 60, frozenset({"read", "write", "batch", "locks", *more}), workspace), trial, arguments)


def beside(workspace: Workspace) -> list[str]:
    return sorted(os.listdir(workspace.path("project/Croissant")))


def test_writers_that_wait_for_each_other(workspace: Workspace) -> None:
    outcome = hold(workspace, "Keeper", "writers", writers(3, 4))
    assert outcome.found is None
    reads = outcome.figures["reads"]
    assert outcome.figures == {
        "writers": 3,
        "changes": 12,
        "changes refused": 0,
        "rows lost": 0,
        "reads": reads,
        "reads failed": 0,
    }
    assert reads > 0
    assert beside(workspace) == ["metadata.json", "picks.csv", "runs.csv"]


def test_a_writer_that_is_killed(workspace: Workspace) -> None:
    outcome = hold(workspace, "Keeper", "kills", KILLS)
    assert outcome.found is None
    assert (outcome.figures["kills"], outcome.figures["kills survived"]) == (4, 4)
    assert outcome.figures["changes"] >= 5
    assert beside(workspace) == ["metadata.json", "picks.csv", "runs.csv"]


def test_a_writer_on_s3_that_is_killed_at_each_request(workspace: Workspace) -> None:
    workspace.fill("{s3}")
    outcome = hold(workspace, "Cloud", "kills_at_requests", {"writer": BATCH})
    assert outcome.found is None
    # Seven requests, of which one makes the commit: after it the tables are staged, and then in their places.
    assert outcome.figures == {"kills": 8, "kills survived": 8, "kills amid a commit": 6, "changes": 10}


@pytest.mark.parametrize(
    ("toy", "words"),
    [
        ("Hurried", "2 of 4 kills were not survived, the first: manifest and tables do not fit"),
        ("Offline", "changes on S3 were made without a request to it"),
    ],
)
def test_those_that_do_not_follow_the_rules_on_s3(workspace: Workspace, toy: str, words: str) -> None:
    workspace.fill("{s3}")
    found = hold(workspace, toy, "kills_at_requests", {"writer": BATCH}).found
    assert found is not None
    assert words in found.got


def test_a_reader_that_looks_again(workspace: Workspace) -> None:
    outcome = hold(workspace, "Keeper", "reads", READS)
    assert outcome.found is None
    assert outcome.figures == {"commits": 10, "reads": 10, "reads failed": 0}
    assert beside(workspace) == ["metadata.json", "picks.csv", "runs.csv"]


@pytest.mark.parametrize(
    ("toy", "trial", "arguments", "words"),
    [
        ("Unlocked", "writers", writers(3, 4), ("changes were refused", "rows that were made are lost")),
        ("Forgetful", "writers", writers(1, 1), ("1 of 1 rows that were made are lost, the first: runs 0-1",)),
        ("Refusing", "writers", writers(2, 1), ("2 of 2 changes were refused, the first: create: no",)),
        ("Shut", "writers", writers(1, 1), ("open: closed",)),
        (
            "Halved",
            "kills",
            {**KILLS, "kills": 12},
            ("kills were not survived, the first: half of a change was made: runs run-",),
        ),
        ("Forgetful", "kills", KILLS, ("without a kill: 2 rows are lost, as picks run-1, a, 1, ribosome",)),
        ("Messy", "kills", KILLS, ("without a kill: left.txt lies beside metadata.json",)),
        ("Refusing", "kills", KILLS, ("without a kill: create: no",)),
        ("Hasty", "reads", READS, ("reads failed, the first: they do not fit",)),
        ("Careless", "reads", READS, ("reads failed, the first: of ",)),
        (
            "Meddling",
            "reads",
            READS,
            ("reads failed, the first: the files of a commit were changed while it was made",),
        ),
        ("Shut", "reads", READS, ("closed",)),
    ],
)
def test_those_that_do_not_follow_the_rules(
    workspace: Workspace, toy: str, trial: str, arguments: dict[str, Any], words: tuple[str, ...]
) -> None:
    found = hold(workspace, toy, trial, arguments).found
    assert found is not None
    assert any(each in found.got for each in words), found.got


def test_kills_that_are_not_survived_are_counted(workspace: Workspace) -> None:
    outcome = hold(workspace, "Torn", "kills", {**KILLS, "kills": 12})
    assert outcome.found is not None
    lost = outcome.figures["kills"] - outcome.figures["kills survived"]
    words = "12 kills were not survived, the first: manifest and tables do not fit"
    assert outcome.found.got.startswith(f"{lost} of {words}")


@pytest.mark.parametrize(("trial", "arguments"), [("writers", writers(2, 1)), ("kills", KILLS)])
def test_a_crash_is_an_error_of_the_adapter(workspace: Workspace, trial: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(AdapterError) as error:
        hold(workspace, "Crashing", trial, arguments)
    assert str(error.value) == (
        "it exited with code 3 before it answered create; its standard error ended with now I crash"
    )


# --- publications ----------------------------------------------------------------------------------------

PICKS = "ExperimentRuns/TS_001/Picks/demo_1_ribosome.json"
PUBLICATION = {"source": "{project}", "project_root": "{work}/out", "options": {}}
PUBLICATIONS = {"publish": PUBLICATION, "kills": 5, "seed": 1}
TEXTS = ['{"points": []}', '{"points": [{"location": {"x": 1, "y": 2, "z": 3}}]}']
CHANGING = {
    "publish": PUBLICATION,
    "source": f"project/{PICKS}",
    "copy": f"out/{PICKS}",
    "texts": TEXTS,
    "times": 5,
}


@pytest.fixture
def stocked(workspace: Workspace) -> Workspace:
    """A project with a store, and what was published before it had one."""
    for name in ("project/Objects/one.zarr/.zgroup", "project/Objects/one.zarr/0/0", f"out/{PICKS}"):
        file = Path(workspace.path(name))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return workspace


def test_a_publisher_that_is_killed(stocked: Workspace) -> None:
    outcome = hold(stocked, "Herald", "publications", PUBLICATIONS)
    assert outcome.found is None
    assert (outcome.figures["kills"], outcome.figures["kills survived"]) == (5, 5)
    assert Path(stocked.path("out/Objects/one.zarr/0/0")).read_text() == "project/Objects/one.zarr/0/0"


def test_a_source_that_changes(stocked: Workspace) -> None:
    outcome = hold(stocked, "Herald", "changing_source", CHANGING)
    assert outcome.found is None
    assert outcome.figures == {"publications": 5, "publications that fit": 5}
    assert not Path(stocked.path("changing")).exists()


@pytest.mark.parametrize(
    ("toy", "trial", "words"),
    [
        ("Eager", "publications", "tables and manifest are written before "),
        ("Piecemeal", "publications", "Objects/one.zarr is neither the old one nor the new one"),
        ("Once", "publications", "the next publication fails: "),
        ("Silent", "publications", "publish: nothing to say"),
        ("Silent", "changing_source", "publish: nothing to say"),
        ("Stale", "changing_source", "of 5 publications do not fit, the first: "),
        ("Wordy", "changing_source", "5 of 5 publications do not fit, the first: there is a manifest, and an error"),
        ("Muttering", "changing_source", "5 of 5 publications do not fit, the first: the error exists: and yet"),
    ],
)
def test_publishers_that_do_not_follow_the_rules(stocked: Workspace, toy: str, trial: str, words: str) -> None:
    # The seed has all kills about the middle of the time that a publication takes.
    arguments = {"publications": {**PUBLICATIONS, "kills": 3, "seed": 2418}, "changing_source": CHANGING}[trial]
    found = hold(stocked, toy, trial, arguments, "codes").found
    assert found is not None
    assert words in found.got
