"""The suite is whole: every clause and error code has a case, every refusal its positive control."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from conformance import cases, spec
from conformance.cases import Case
from conformance.matching import ANY

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "conformance"
TEXT = (ROOT / "SPEC.md").read_text(encoding="utf-8")
SPEC = spec.load(ROOT / "SPEC.md")
CASES = cases.load(SUITE / "cases", SUITE / "fixtures", SPEC)


def operations(case: Case) -> list[tuple[str, str | None]]:
    """The operations of a case, with the error that each expects."""
    return [(step.action.name, step.action.error) for step in case.steps if step.action.kind == "op"]


def test_every_clause_has_a_case() -> None:
    cited = {clause for case in CASES for clause in case.clauses}
    assert sorted(set(SPEC.clauses) - cited) == []


def test_every_error_code_is_expected_somewhere() -> None:
    expected = {error for case in CASES for _, error in operations(case)}
    assert sorted(set(SPEC.codes) - expected) == []


def test_every_refusal_comes_after_its_positive_control() -> None:
    bare = []
    for case in CASES:
        succeeded: set[str] = set()
        for name, error in operations(case):
            if error is None:
                succeeded.add(name)
            elif name not in succeeded:
                bare.append((case.id, name))
    assert bare == []


def test_a_case_expects_something() -> None:
    idle = []
    for case in CASES:
        actions = [step.action for step in case.steps]
        if not any(action.kind == "check" or action.error or action.expect is not ANY for action in actions):
            idle.append(case.id)
    assert idle == []


def test_cases_lie_in_the_section_of_their_first_clause() -> None:
    elsewhere = [c.id for c in CASES if c.section != "smoke" and not c.id.startswith(f"{c.section}-")]
    assert elsewhere == []
    assert {case.section.upper() for case in CASES} - {"SMOKE"} == set(SPEC.sections)


def test_every_fixture_is_used() -> None:
    there = {path.name for path in (SUITE / "fixtures").iterdir() if path.is_dir()}
    assert there == {case.fixture.name for case in CASES}


def test_the_capabilities_are_those_of_appendix_b() -> None:
    appendix = TEXT[TEXT.index("## Appendix B") : TEXT.index("## Appendix C")]
    assert tuple(re.findall(r"^\| `(\w+)` \|", appendix, re.MULTILINE)) == cases.CAPABILITIES
    assert len(cases.CAPABILITIES) <= 17


def test_appendix_c_is_the_fixture_minimal() -> None:
    appendix = TEXT[TEXT.index("## Appendix C: ") : TEXT.index("## Appendix D: ")]
    printed = dict(re.findall(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)^```$", appendix, re.MULTILINE | re.DOTALL))
    project = SUITE / "fixtures" / "minimal" / "project"
    there = {str(p.relative_to(project).as_posix()): p.read_bytes() for p in project.rglob("*") if p.is_file()}
    assert {name: text.encode() for name, text in printed.items()} == {
        name: data.replace(b"\r\n", b"\n") for name, data in there.items()
    }
    assert all(data.count(b"\n") == data.count(b"\r\n") for name, data in there.items() if name.endswith(".csv"))


@pytest.mark.parametrize("path", sorted(SUITE.rglob("*.py")), ids=lambda path: str(path.relative_to(SUITE)))
def test_the_suite_needs_the_standard_library_alone(path: Path) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"conformance"}
    if path.parent.name != "adapters":
        assert foreign == set()
    elif path.name not in ("copick_mlc.py", "copick_mlc_stored.py", "saboteurs.py"):
        assert "copick_mlc" not in foreign


@pytest.mark.parametrize("name", ["copick_upstream", "copick_mlc_s3", "copick_mlc_memory"])
def test_expected_failures_are_sorted_and_name_clauses_of_their_cases(name: str) -> None:
    known = {case.id: case.clauses for case in CASES}
    lines = (SUITE / "adapters" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    named = [line.split()[:2] for line in lines if line and not line.startswith("#")]
    assert named == sorted(named)
    assert all(clause.strip("[]") in known[case] for case, clause in named)
