"""The page: a matrix of clauses and implementations, made of one or several JSON reports.

It is one file without scripts. Every cell says its state in a word and a sign besides the colour, and opens to
the cases behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from conformance.report import COUNTED, figures

# The sign and the word of each state, the worst first: it is the one that a clause has.
_STATES: Mapping[str, tuple[str, str]] = {
    "error": ("!", "error"),
    "fail": ("✗", "fails"),
    "expected": ("≠", "fails as expected"),
    "warn": ("△", "warns"),
    "pass": ("✓", "passes"),
    "skip": ("–", "skipped"),
    "none": ("·", "no case"),
}
_VERDICTS = {"conforms": "pass", "does not conform": "fail", "not claimed": "skip"}

Report = Mapping[str, Any]


def page(reports: Sequence[Report]) -> str:
    """The page of reports, one column for each."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    names = " and ".join(_name(report) for report in reports)
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Conformance of {escape(names)}</title>\n<style>\n{style}</style>\n</head>\n<body>",
            "<header>\n<h1>Copick projects as Croissant datasets: conformance</h1>",
            '<div class="cards">',
            *map(_card, reports),
            "</div>",
            _legend(),
            "</header>\n<main>",
            *_matrix(reports),
            "</main>\n</body>\n</html>\n",
        ]
    )


def _card(report: Report) -> str:
    """What there is to say of one implementation as a whole."""
    implementation = report["implementation"]
    lines = [
        f"<section>\n<h2>{escape(implementation['name'])} <small>{escape(implementation['version'])}</small></h2>",
        f"<p>implements SPEC.md {escape(implementation['spec'])}, judged by {escape(report['spec'])}</p>",
    ]
    if report["complete"]:
        lines += ["<ul class=verdicts>", *(_badge(*item) for item in report["profiles"].items()), "</ul>"]
    else:
        lines.append("<p>Not all cases were run, so there is no verdict.</p>")
    totals = [f"{count} {COUNTED[outcome]}" for outcome, count in report["totals"].items() if count]
    lines.append(f"<p>{len(report['cases'])} cases: {escape(', '.join(totals))}</p>")
    counted = [(case["id"], figures(case["figures"])) for case in report["cases"] if case.get("figures")]
    lines += [f"<p><small>{escape(name)}</small> {escape(words)}</p>" for name, words in counted]
    lines.append("</section>")
    return "\n".join(lines)


def _badge(profile: str, verdict: Mapping[str, Any]) -> str:
    state = _VERDICTS[verdict["verdict"]]
    extra = f", {verdict['broken']} of {verdict['ran']} cases fail" if verdict["broken"] else ""
    missing = f"<br><small>not claimed: {escape(', '.join(verdict['missing']))}</small>" if verdict["missing"] else ""
    return (
        f'<li class="{state}">{_sign(state)} <b>{escape(profile)}</b> {escape(verdict["verdict"])}{extra}{missing}</li>'
    )


def _legend() -> str:
    items = [f'<span class="{state}">{_sign(state)} {_word(state)}</span>' for state in _STATES]
    return (
        f'<p class="legend">{" ".join(items)}</p>\n'
        '<p class="filter"><label><input type="checkbox" id="filter"> only clauses that some implementation does not'
        " pass</label></p>"
    )


def _matrix(reports: Sequence[Report]) -> Iterator[str]:
    """The table, a body for each section of SPEC.md."""
    heads = "".join(f'<th scope="col">{escape(_name(report))}</th>' for report in reports)
    yield f'<table>\n<thead><tr><th scope="col">Clause</th>{heads}</tr></thead>'
    clauses = {clause["id"]: clause for report in reports for clause in report["clauses"]}
    titles = {section: title for report in reports for section, title in report["sections"].items()}
    by_clause = [_cases_by_clause(report) for report in reports]
    for section, title in titles.items():
        inside = [clause for clause in clauses.values() if clause["section"] == section]
        if not inside:
            continue
        sums = "".join(f"<td>{_sum(inside, cases)}</td>" for cases in by_clause)
        yield f'<tbody>\n<tr class="section"><th scope="rowgroup">{escape(title)} [{escape(section)}]</th>{sums}</tr>'
        yield from (_row(clause, by_clause) for clause in inside)
        yield "</tbody>"
    yield "</table>"


def _row(clause: Mapping[str, Any], by_clause: Sequence[Mapping[str, list[Any]]]) -> str:
    cells = [by_case.get(clause["id"], []) for by_case in by_clause]
    clean = all(_state(cases) in ("pass", "skip", "none") for cases in cells)
    return (
        f'<tr id="{escape(clause["id"])}"{" class=clean" if clean else ""}><th scope="row">'
        f'<a href="#{escape(clause["id"])}">{escape(clause["id"])}</a> {_prose(clause["text"])}</th>'
        f"{''.join(map(_cell, cells))}</tr>"
    )


def _cell(cases: Sequence[Mapping[str, Any]]) -> str:
    state = _state(cases)
    label = f"{_sign(state)} {_word(state)}"
    if not cases:
        return f'<td class="{state}">{label}</td>'
    items = "".join(map(_case, cases))
    count = f" <small>{len(cases)}</small>" if len(cases) > 1 else ""
    return f'<td class="{state}"><details><summary>{label}{count}</summary><ul>{items}</ul></details></td>'


def _case(case: Mapping[str, Any]) -> str:
    facts = [(name, case[name]) for name in ("step", "wanted", "got", "reason") if case[name]]
    if case.get("figures"):
        facts.append(("counted", figures(case["figures"])))
    shown = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    sign = f'<span class="{case["outcome"]}">{_sign(case["outcome"])} {_word(case["outcome"])}</span>'
    facts_list = f"<dl>{shown}</dl>" if shown else ""
    return f"<li>{sign} <b>{escape(case['id'])}</b><br>{escape(case['description'])}{facts_list}</li>"


def _sum(clauses: Sequence[Mapping[str, Any]], by_case: Mapping[str, list[Any]]) -> str:
    states = [_state(by_case.get(clause["id"], [])) for clause in clauses]
    return f"{states.count('pass')} of {len(states)} pass"


def _cases_by_clause(report: Report) -> Mapping[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for case in report["cases"]:
        for clause in case["clauses"]:
            found.setdefault(clause, []).append(case)
    return found


def _state(cases: Sequence[Mapping[str, Any]]) -> str:
    outcomes = {case["outcome"] for case in cases}
    return next((state for state in _STATES if state in outcomes), "none")


def _prose(text: str) -> str:
    """A clause's text with its Markdown: code, links, and the key words in bold."""
    shown = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    shown = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", shown)
    return re.sub(r"\b((?:MUST|SHOULD)(?: NOT)?|MAY)\b", r"<b>\1</b>", shown)


def _name(report: Report) -> str:
    return f"{report['implementation']['name']} {report['implementation']['version']}"


def _sign(state: str) -> str:
    return f'<span aria-hidden="true">{_STATES[state][0]}</span>'


def _word(state: str) -> str:
    return _STATES[state][1]
