"""What a run shows: text for a terminal, JSON for machines and for page.py, JUnit XML for CI servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

from conformance import documents
from conformance.play import Result
from conformance.runner import OUTCOMES, Run, Verdict, verdicts
from conformance.spec import Spec, SuiteError

#: The version of the JSON report.
FORMAT = 1

#: How many cases had each outcome is said in these words.
COUNTED = {
    "pass": "passed",
    "fail": "failed",
    "error": "with errors",
    "expected": "failed as expected",
    "warn": "with warnings",
    "skip": "skipped",
}
# What JUnit calls our outcomes; it has no warnings.
_ELEMENTS = {"fail": "failure", "error": "error", "skip": "skipped", "expected": "skipped", "warn": "system-out"}


def text(run: Run, spec: Spec, repeat: str) -> Iterator[str]:
    """The lines of the report; `repeat` is the command that runs a single case, without its id."""
    for result in run.results:
        if result.outcome in ("fail", "error", "warn") or result.stale:
            yield from details(result, spec, repeat)
            yield ""
    hello = run.hello
    yield f"{hello.name} {hello.version} implements SPEC.md {hello.spec}, and is judged by {spec.version}"
    if run.complete:
        yield from (f"  {profile:8} {_words(verdict)}" for profile, verdict in verdicts(run).items())
    else:
        yield "  no verdict, as not all cases were run"
    yield from (f"  {result.case.id}: {figures(result.figures)}" for result in run.results if result.figures)
    counts = [f"{run.count(outcome)} {word}" for outcome, word in COUNTED.items() if run.count(outcome)]
    yield f"{len(run.results)} case{'' if len(run.results) == 1 else 's'}: {', '.join(counts)}"


def details(result: Result, spec: Spec, repeat: str) -> Iterator[str]:
    """What a person needs to know of a case that did not pass, or should not have."""
    case = result.case
    yield f"{'STALE' if result.stale else result.outcome.upper()}  {case.id}: {case.description}"
    for clause in case.clauses:
        yield f"  [{clause}] {spec.clauses[clause].text}"
    if result.stale:
        yield f"  It passes. Remove it from the expected failures: {result.reason}"
    else:
        yield f"  {result.step}"
    if result.wanted:
        yield f"  wanted: {_indented(result.wanted)}"
    if result.got:
        yield f"  {'got:   ' if result.wanted else 'the adapter:'} {_indented(result.got)}"
    if result.stderr:
        yield f"  its standard error ended with\n    {_indented(result.stderr)}"
    yield f"  again:  {repeat} --case {case.id}"


def figures(counted: Mapping[str, int]) -> str:
    """What a trial counted, in words."""
    return ", ".join(f"{number} {name}" for name, number in counted.items())


def _indented(words: str) -> str:
    return words.replace("\n", "\n    ")


def _words(verdict: Verdict) -> str:
    broken = f": {verdict.broken} of {verdict.ran} cases fail" if verdict.broken else ""
    missing = f" (not claimed: {', '.join(verdict.missing)})" if verdict.missing else ""
    return f"{verdict.state}{broken}{missing}"


def document(run: Run, spec: Spec) -> dict[str, Any]:
    """The JSON report: all that the page shows, and nothing of the machine."""
    return {
        "report": FORMAT,
        "spec": spec.version,
        "implementation": {
            "name": run.hello.name,
            "version": run.hello.version,
            "spec": run.hello.spec,
            "capabilities": sorted(run.hello.capabilities),
        },
        "complete": run.complete,
        "profiles": {
            profile: {
                "verdict": verdict.state,
                "broken": verdict.broken,
                "ran": verdict.ran,
                "missing": verdict.missing,
            }
            for profile, verdict in (verdicts(run).items() if run.complete else ())
        },
        "totals": {outcome: run.count(outcome) for outcome in OUTCOMES},
        "sections": dict(spec.sections),
        "clauses": [
            {"id": clause.id, "section": clause.section, "keyword": clause.keyword, "text": clause.text}
            for clause in spec.clauses.values()
        ],
        "cases": [_entry(result) for result in run.results],
    }


def _entry(result: Result) -> dict[str, Any]:
    case = result.case
    return {
        "id": case.id,
        "clauses": list(case.clauses),
        "capabilities": sorted(case.capabilities),
        "description": case.description,
        "outcome": result.outcome,
        "step": result.step,
        "wanted": result.wanted,
        "got": result.got,
        "reason": result.reason,
        "figures": dict(result.figures),
        "seconds": round(result.duration, 3),
    }


def read(data: bytes, name: str) -> Mapping[str, Any]:
    """A JSON report that was written earlier.

    Raises:
        SuiteError: it is none.
    """
    try:
        report = documents.parse(data)
    except ValueError as error:
        raise SuiteError(f"{name} is not JSON: {error}") from error
    if not isinstance(report, dict) or report.get("report") != FORMAT:
        raise SuiteError(f"{name} is no report of this suite")
    return report


def junit(run: Run) -> bytes:
    """The report as JUnit XML; an expected failure is a skipped test there."""
    suite = ElementTree.Element(
        "testsuite",
        name=f"{run.hello.name} {run.hello.version}",
        tests=str(len(run.results)),
        failures=str(run.count("fail") + sum(result.stale for result in run.results)),
        errors=str(run.count("error")),
        skipped=str(run.count("skip") + run.count("expected")),
    )
    for result in run.results:
        case = result.case
        test = ElementTree.SubElement(
            suite, "testcase", classname=case.section, name=case.id, time=f"{result.duration:.3f}"
        )
        element = _ELEMENTS.get("fail" if result.stale else result.outcome)
        if element:
            story = ElementTree.SubElement(
                test, element, {} if element == "system-out" else {"message": _message(result)}
            )
            story.text = f"{', '.join(case.clauses)}: {case.description}\n{result.step}\n{_message(result)}"
        if result.stderr:
            ElementTree.SubElement(test, "system-err").text = result.stderr
    data: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return data


def _message(result: Result) -> str:
    if result.stale:
        return f"passes, and is expected to fail: {result.reason}"
    if result.wanted:
        return f"wanted {result.wanted}, got {result.got}"
    return result.got or result.reason
