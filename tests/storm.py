"""Many processes that write to one project while others read it: `python -m tests.storm`.

Three trials on a real project, each of real processes:

- `storm`: writers store picks, assign splits, define objects and delete what they stored before, as fast as they can,
  while readers open the project anew and walk over it. Every change that was acknowledged must be there, and no reader
  must have met an error.
- `kills`: a writer stores picks until it is killed with SIGKILL at a random moment; the next one goes on with what it
  left. Every store that was acknowledged must be there.
- `pool`: `copick.ops.run.map_runs` on our root, in a pool of processes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import copick
import numpy as np
from copick.ops.run import map_runs

from copick_mlc import CroissantIndex, demo, export_croissant, from_croissant
from copick_mlc._tables import TABLES
from copick_mlc.errors import MissingError
from copick_mlc.index import PicksRow

RUNS = ("TS_001", "TS_002")


def make_project(directory: Path) -> Path:
    """A real project, exported by us; the path of its manifest."""
    config = demo.make_project(str(directory))
    export_croissant(copick.from_file(config), directory, splits=demo.SPLITS, validate=False)
    return directory / "Croissant" / "metadata.json"


def in_process(work: Callable[[Callable[[str], None]], None]) -> tuple[int, int]:
    """Run `work` in a forked process; its id, and a descriptor from which what it says can be read."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_process(work, writing)
    os.close(writing)
    return child, reading


def _be_process(work: Callable[[Callable[[str], None]], None], writing: int) -> NoReturn:
    def say(text: str) -> None:
        os.write(writing, f"{text}\n".encode())

    try:
        work(say)
    except BaseException:  # noqa: BLE001  # it is told to the parent, which counts it
        say(f"error {traceback.format_exc()!r}")
    os._exit(0)


def said_by(process: tuple[int, int]) -> list[str]:
    """What a process said until it ended."""
    with open(process[1], encoding="utf-8") as pipe:
        lines = pipe.read().splitlines()
    os.waitpid(process[0], 0)
    return lines


def stray_files(manifest: Path) -> list[str]:
    known = {"metadata.json", *(table.file_name for table in TABLES.values())}
    return sorted(set(os.listdir(manifest.parent)) - known)


def load(picks: Any) -> None:
    """Read the points; a writer may have deleted them since they were listed, and then they have no row any more."""
    try:
        assert picks.points is not None
    except MissingError:
        assert picks.run.root.index.committed(picks.identity) is None


# --- storm -----------------------------------------------------------------------------------------------


def storm(manifest: Path, writers: int, stores: int, readers: int, **_: Any) -> dict[str, Any]:
    """Writers and readers at once, and what is there afterwards."""

    def write(number: int) -> Callable[[Callable[[str], None]], None]:
        def work(say: Callable[[str], None]) -> None:
            root = from_croissant(manifest)
            for turn in range(stores):
                run = root.get_run(RUNS[turn % 2])
                assert run is not None
                picks = run.new_picks("ribosome", str(turn), f"writer{number}")
                picks.from_numpy(np.full((2, 3), float(turn)))
                if turn % 4 == 3:
                    picks.delete()
                    say(f"deleted {run.name} writer{number} {turn}")
                else:
                    say(f"stored {run.name} writer{number} {turn}")
            run = root.new_run(f"run{number}")
            run.split = f"split{number}"
            root.new_object(f"object{number}", True, label=100 + number)
            say(f"made {number}")

        return work

    def read(say: Callable[[str], None]) -> None:
        while not done.exists():
            root = from_croissant(manifest)
            for run in root.runs:
                for picks in run.picks:
                    load(picks)
            say("read")

    done = manifest.parent.parent / "done"
    reading = [in_process(read) for _ in range(readers)]
    said = [line for process in [in_process(write(number)) for number in range(writers)] for line in said_by(process)]
    done.touch()
    read_lines = [line for process in reading for line in said_by(process)]
    done.unlink()
    there = {f"{row.run} {row.user_id} {row.session_id}" for row in CroissantIndex(str(manifest)).rows_of(PicksRow)}
    words = [line.partition(" ") for line in said]
    stored = {rest for word, _, rest in words if word == "stored"}
    deleted = {rest for word, _, rest in words if word == "deleted"}
    made = [rest for word, _, rest in words if word == "made"]
    root = from_croissant(manifest)
    objects = {item.name for item in root.pickable_objects}
    lost = [name for name in stored if name not in there]
    lost += [number for number in made if root.splits.get(f"split{number}") != [f"run{number}"]]
    lost += [number for number in made if f"object{number}" not in objects]
    return {
        "trial": "storm",
        "writers": writers,
        "acknowledged": len(stored) + len(deleted) + 3 * len(made),
        "expected": writers * (stores + 3),
        "lost": len(lost),
        "came back": len(deleted & there),
        "reads": read_lines.count("read"),
        "errors": [line for line in [*said, *read_lines] if line.startswith("error")],
        "stray files": stray_files(manifest),
    }


# --- kills -----------------------------------------------------------------------------------------------


def kills(manifest: Path, kills: int, seed: int, **_: Any) -> dict[str, Any]:
    """Kill a writer again and again; what was acknowledged, and what of it is not there."""
    chance = random.Random(seed)
    acknowledged: set[str] = set()
    problems: list[str] = []
    survived = 0
    for turn in range(kills):

        def work(say: Callable[[str], None], turn: int = turn) -> None:
            root = from_croissant(manifest)
            run = root.get_run("TS_001")
            assert run is not None
            for number in range(10_000):
                run.new_picks("ribosome", f"{turn}x{number}", "killed").from_numpy(np.full((2, 3), float(number)))
                say(f"{turn}x{number}")

        process = in_process(work)
        first = os.read(process[1], 1 << 16).decode()  # the first store is made; it is in the midst of others now
        time.sleep(chance.uniform(0, 0.03))
        os.kill(process[0], signal.SIGKILL)
        acknowledged.update([*first.splitlines(), *said_by(process)])
        problems += [name for name in acknowledged if name.startswith("error")]
        root = from_croissant(manifest)
        run = root.get_run("TS_001")
        assert run is not None
        found = {picks.session_id: len(picks.points) for picks in run.picks if picks.user_id == "killed"}
        problems += [f"{name} is not there" for name in acknowledged if found.get(name) != 2]
        survived += not problems
    CroissantIndex(str(manifest)).set_split("TS_001", "after")
    return {
        "trial": "kills",
        "kills": kills,
        "survived": survived,
        "acknowledged": len(acknowledged),
        "errors": problems,
        "stray files": stray_files(manifest),
    }


# --- pool ------------------------------------------------------------------------------------------------


def store_in(run: Any, value: float) -> tuple[int, int]:
    """What every process of a pool does to its run."""
    picks = run.new_picks("ribosome", "7", "pool", exist_ok=True)
    picks.from_numpy(np.full((3, 3), value))
    return os.getpid(), len(picks.points)


def pool(manifest: Path, **_: Any) -> dict[str, Any]:
    """Store to several runs at once through copick's own pool."""
    root = from_croissant(manifest)
    names = [root.new_run(f"pool{number}").name for number in range(6)]
    values = [{"value": float(number)} for number in range(6)]
    found: dict[str, Any] = {}
    for runs in (names, [root.get_run(name) for name in names]):
        with contextlib.redirect_stdout(io.StringIO()):
            found |= map_runs(
                store_in, root, runs, workers=3, parallelism="process", run_args=values, show_progress=False
            )
    root.refresh()
    there = [len(root.get_run(name).get_picks("ribosome", "pool", "7")) for name in names]  # type: ignore[union-attr]
    return {
        "trial": "pool",
        "results": [found[name] and found[name][1] for name in names],
        "in this process": sum(found[name] is not None and found[name][0] == os.getpid() for name in names),
        "picks": there,
        "stray files": stray_files(manifest),
    }


TRIALS: dict[str, Callable[..., dict[str, Any]]] = {"storm": storm, "kills": kills, "pool": pool}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("trials", nargs="*", choices=[[], *TRIALS], metavar="TRIAL", help="storm, kills, pool")
    parser.add_argument("--writers", type=int, default=4, help="processes that write in the storm")
    parser.add_argument("--stores", type=int, default=25, help="picks that each of them stores")
    parser.add_argument("--readers", type=int, default=2, help="processes that read meanwhile")
    parser.add_argument("--kills", type=int, default=40, help="writers that are killed")
    parser.add_argument("--seed", type=int, default=1, help="says at which moments")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in options.trials or TRIALS:
        with tempfile.TemporaryDirectory() as directory:
            manifest = make_project(Path(directory) / "project")
            print(json.dumps(TRIALS[name](manifest, **vars(options))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
