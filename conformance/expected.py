"""Failures that are known: a line each of case id, the clause that is broken, and the reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from conformance.cases import Case
from conformance.spec import SuiteError

_LINE = re.compile(r"(\S+)\s+\[([A-Z]+-\d+)\]\s+(\S.*)")


@dataclass(frozen=True)
class Expectation:
    """Which clause a case is known to find broken, and why."""

    clause: str
    reason: str


def load(path: Path, cases: Iterable[Case]) -> Mapping[str, Expectation]:
    """The expected failures of a file, by case id.

    Raises:
        SuiteError: it cannot be read, or names what there is not.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path} cannot be read: {error}") from error
    clauses = {case.id: case.clauses for case in cases}
    found: dict[str, Expectation] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        place = f"{path}, line {number}"
        match = _LINE.fullmatch(line.strip())
        if not match:
            raise SuiteError(f"{place}: a line is 'case-id [CLAUSE-ID] reason', and not {line.strip()!r}")
        case, clause, reason = match.groups()
        if case not in clauses:
            raise SuiteError(f"{place}: there is no case {case}")
        if clause not in clauses[case]:
            raise SuiteError(f"{place}: the case {case} does not cite {clause}")
        if case in found:
            raise SuiteError(f"{place}: the case {case} is there twice")
        found[case] = Expectation(clause, reason)
    return found
