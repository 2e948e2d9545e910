"""A writer that dies, or whose storage fails, at any step: see `tests.faults`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

if not hasattr(os, "fork"):
    pytest.skip("needs os.fork", allow_module_level=True)

from tests.faults import SCENARIOS

# A commit alone has more steps than that.
_FEWEST_STEPS = 20


def run(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_whoever_dies_or_fails_leaves_the_old_state_or_the_new_one(scenario: str) -> None:
    result = run("-m", "tests.faults", "--json", scenario)
    assert result["problems"] == []
    assert min(result["killed"], result["failed"]) >= _FEWEST_STEPS


# What is found must be what goes wrong; without that, the tests above could be passing because nothing is looked at.
_BROKEN = {
    "the manifest is not pending first": """
def publish(fs, path, tables, manifest, read):
    for place, data in [*tables.items(), (path, manifest)]:
        _storage.write(fs, place, data)
_commit.publish = publish
""",
    "files are written in place": """
def write(fs, path, data):
    with _storage.writing(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
_storage.write = write
def publish(fs, path, tables, manifest, read):
    for place, data in [*tables.items(), (path, manifest)]:
        write(fs, place, data)
_commit.publish = publish
""",
    "nobody removes what is left": "_commit.leftovers = lambda fs, path, staged=None: []",
}


@pytest.mark.parametrize("what", _BROKEN)
def test_the_harness_sees_what_is_broken(what: str) -> None:
    code = f"""
import json, os, pathlib, tempfile, warnings
from copick_mlc import _commit, _storage
from tests import faults
warnings.simplefilter("ignore")
{_BROKEN[what]}
with tempfile.TemporaryDirectory() as directory:
    run, at = faults.Run("batch", pathlib.Path(directory)), 1
    while not run.problems and run.one_fault("killed", at):
        at += 1
print(json.dumps({{"problems": run.problems}}))
"""
    assert run("-c", code)["problems"]
