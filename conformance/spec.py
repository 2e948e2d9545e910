"""SPEC.md as the suite reads it: clauses by id, error codes, version.

A clause is a single line, `<a id="CSV-005"></a>**[CSV-005]** A reader MUST treat …`, so that a person and
this module find it in the same place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_CLAUSE = re.compile(r'<a id="([A-Z]+-\d+)"></a>\*\*\[([A-Z]+-\d+)\]\*\* (.+)')
_KEYWORD = re.compile(r"\b(?:MUST|SHOULD)(?: NOT)?\b|\bMAY\b")
_SECTION = re.compile(r"## (.+) \[([A-Z]+)\]")
_VERSION = re.compile(r"Version: (\S+)")
_CODE = re.compile(r"\| `([a-z-]+)` \|")


class SuiteError(Exception):
    """The suite or its use is broken; it says nothing of an implementation."""


@dataclass(frozen=True)
class Clause:
    """One sentence of SPEC.md that an implementation can break."""

    id: str
    text: str
    keyword: str

    @property
    def required(self) -> bool:
        """Whether an implementation that does otherwise does not conform."""
        return self.keyword.startswith("MUST")

    @property
    def section(self) -> str:
        return self.id.partition("-")[0]


@dataclass(frozen=True)
class Spec:
    """What SPEC.md says; `sections` are the titles by the prefixes of their clauses."""

    version: str
    sections: Mapping[str, str]
    clauses: Mapping[str, Clause]
    codes: frozenset[str]


def load(path: Path) -> Spec:
    """Read SPEC.md.

    Raises:
        SuiteError: it is not there, or not in the form that this module expects.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SuiteError(f"{path} cannot be read: {error.strerror}") from error
    versions = [match.group(1) for match in map(_VERSION.fullmatch, lines) if match]
    if not versions:
        raise SuiteError(f"{path} has no line 'Version: …'")
    sections = {match.group(2): match.group(1) for match in map(_SECTION.fullmatch, lines) if match}
    clauses: dict[str, Clause] = {}
    for line in lines:
        if line.startswith("<a id="):
            clause = _clause(line)
            if clause.id in clauses:
                raise SuiteError(f"{path} has the clause {clause.id} twice")
            clauses[clause.id] = clause
    return Spec(versions[0], sections, clauses, _codes(lines))


def _clause(line: str) -> Clause:
    match = _CLAUSE.fullmatch(line)
    keyword = _KEYWORD.search(match.group(3)) if match else None
    if not match or not keyword or match.group(1) != match.group(2):
        raise SuiteError(f"a clause of SPEC.md is malformed: {line}")
    return Clause(match.group(1), match.group(3), keyword.group())


def _codes(lines: list[str]) -> frozenset[str]:
    """The codes in the table of appendix A."""
    start = next((index for index, line in enumerate(lines) if line.startswith("## Appendix A")), len(lines))
    codes = set()
    for line in lines[start + 1 :]:
        if line.startswith("## "):
            break
        match = _CODE.match(line)
        if match:
            codes.add(match.group(1))
    return frozenset(codes)
