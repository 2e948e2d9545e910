"""SPEC.md is well formed, agrees with what the code declares, and each of its clauses can be found in the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from copick_mlc import _manifest, _splits
from copick_mlc._tables import TABLES, Table
from copick_mlc.errors import CODES

ROOT = Path(__file__).parent.parent
SPEC = (ROOT / "SPEC.md").read_text(encoding="utf-8")
LINES = SPEC.splitlines()
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "copick_mlc").glob("*.py"))}

KEYWORD = re.compile(r"\b(?:MUST NOT|MUST|SHOULD NOT|SHOULD|MAY)\b")
SYNONYM = re.compile(r"\b(?:REQUIRED|SHALL|RECOMMENDED|OPTIONAL)\b")  # the other key words of RFC 2119
CLAUSE = re.compile(r'<a id="([A-Z]{3}-\d{3})"></a>\*\*\[\1\]\*\* (\S.*)')
CITATION = re.compile(r"\[([A-Z]{3}-\d{3})\]")

CLAUSES = {match[1]: match[2] for line in LINES if (match := CLAUSE.fullmatch(line))}

# Line number, level and text of each heading; a `#` in a code block is none.
_OUTLINE = re.sub(r"^```.*?^```$", lambda block: "\n" * block[0].count("\n"), SPEC, flags=re.MULTILINE | re.DOTALL)
HEADINGS = [
    (number, len(match[1]), match[2])
    for number, line in enumerate(_OUTLINE.splitlines())
    if (match := re.fullmatch(r"(#+) (.+)", line))
]


def section(*titles: str) -> str:
    """What stands below a heading, named by the headings above it and itself, up to the next one of its level."""
    start, end = 0, len(LINES)
    for title in titles:
        (found,) = ((n, level) for n, level, text in HEADINGS if start <= n < end and text == title)
        start, level = found
        end = next((n for n, other, _ in HEADINGS if start < n < end and other <= level), end)
    return "\n".join(LINES[start + 1 : end])


def rows(text: str) -> list[list[str]]:
    """The cells of the one Markdown table in a text, without its header."""
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert set("".join(table[1])) == {"-"}
    return table[2:]


def json_values(text: str) -> list[Any]:
    """The JSON values in the one JSON block of a text."""
    (block,) = re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    values = []
    while block := block.strip():
        value, end = json.JSONDecoder().raw_decode(block)
        values.append(value)
        block = block[end:]
    return values


# --- clauses ---------------------------------------------------------------------------------------------


def test_what_looks_like_a_clause_is_one_and_ids_are_unique() -> None:
    marked = [line for line in LINES if "<a id=" in line or "**[" in line]
    assert [line for line in marked if not CLAUSE.fullmatch(line)] == []
    assert len(marked) == len(CLAUSES) > 200


@pytest.mark.parametrize("clause", CLAUSES)
def test_a_clause_has_one_subject_one_keyword_and_two_sentences_at_most(clause: str) -> None:
    text = CLAUSES[clause]
    assert re.match(f"(?:A reader|A writer|An exporter|A publisher) {KEYWORD.pattern} ", text)
    assert len(KEYWORD.findall(text)) == 1
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)", "x", text)
    assert prose[-1] == "."
    assert len(re.findall(r"[.!?](?!\S)", prose)) <= 2
    assert "`" not in prose


def test_keywords_stand_in_clauses_and_where_they_are_defined() -> None:
    paragraphs = [text.strip() for text in SPEC.split("\n\n")]
    others = [text for text in paragraphs if KEYWORD.search(text) and not CLAUSE.fullmatch(text)]
    assert [text[:21] for text in others] == ["The key words MUST, M"]
    assert others[0] in section("Conformance")
    assert not SYNONYM.search(SPEC)


def test_ids_ascend_in_the_section_of_their_prefix() -> None:
    sections = [text for _, level, text in HEADINGS if level == 2]
    prefixes = {match[1]: text for text in sections if (match := re.search(r" \[([A-Z]{3})\]$", text))}
    found = {
        text: [match[1] for line in section(text).splitlines() if (match := CLAUSE.fullmatch(line))]
        for text in sections
    }
    assert [clause for clauses in found.values() for clause in clauses] == list(CLAUSES)
    for text, clauses in found.items():
        assert clauses == sorted(set(clauses)), text
        assert {prefixes[clause[:3]] for clause in clauses} <= {text}
    assert all(found[text] for text in prefixes.values())


# --- citations -------------------------------------------------------------------------------------------


def test_every_clause_is_cited_in_the_code() -> None:
    cited = set(CITATION.findall("".join(SOURCES.values())))
    assert [clause for clause in CLAUSES if clause not in cited] == []


@pytest.mark.parametrize("name", SOURCES)
def test_what_the_code_cites_is_a_clause(name: str) -> None:
    assert [clause for clause in CITATION.findall(SOURCES[name]) if clause not in CLAUSES] == []


# --- tables and codes ------------------------------------------------------------------------------------


def described(table: Table) -> str:
    """A table as SPEC.md describes it."""
    path = table.canonical.replace("{row.voxel_size:.3f}", "<size>").replace("{row.suffix}", "[-multilabel]")
    path = re.sub(r"\{row\.(\w+)\}", r"<\1>", path)
    columns = [
        f"| {f'**{column.name}**' if column.is_key else column.name} | {column.data_type} | {column.description} |"
        for column in table.columns
    ]
    return "\n".join(
        [
            f"#### {table.name}\n",
            f"{table.description} Canonical path: `{path}`\n",
            "| column | type | meaning |",
            "|---|---|---|",
            *columns,
        ]
    )


def test_the_ten_tables_are_those_that_the_code_declares() -> None:
    introduction, *tables = re.split(r"^(?=#### )", section("Tables [CSV]", "The ten tables"), flags=re.MULTILINE)
    assert [table.strip() for table in tables] == [described(table) for table in TABLES.values()]
    types = {column.data_type for table in TABLES.values() for column in table.columns}
    assert set(re.findall(r"`(sc:\w+)`", introduction)) == types


def test_appendix_a_is_the_codes_of_errors_in_order() -> None:
    assert [(code.strip("`"), text) for code, text in rows(section("Appendix A: error codes"))] == list(CODES.items())


def test_clauses_report_all_codes_and_no_others() -> None:
    reported = {code for text in CLAUSES.values() for code in re.findall(r"\breport `([^`]*)`", text)}
    assert reported == set(CODES)


# --- the manifest ----------------------------------------------------------------------------------------


def agrees(shown: Any, actual: Any) -> bool:
    """Whether a value has the members that are shown; `…` stands for any text."""
    if isinstance(shown, dict):
        return isinstance(actual, dict) and all(k in actual and agrees(v, actual[k]) for k, v in shown.items())
    if isinstance(shown, list):
        return isinstance(actual, list) and len(shown) == len(actual) and all(map(agrees, shown, actual))
    return isinstance(actual, str) if shown == "…" else bool(shown == actual)


def declared(*splits: str) -> dict[str, Any]:
    """The file objects and record sets, by `@id`, of a project with rows in all tables."""
    files = dict.fromkeys(TABLES, b"")
    config = {"pickable_objects": [{"name": "ribosome", "label": 1, "is_particle": True}]}
    properties = {"copick:config": config}
    document = _manifest.build({}, properties, content_prefix="", files=files, filled=TABLES, splits=splits)
    return {entry["@id"]: entry for entry in [*document["distribution"], *document["recordSet"]]}


def test_a_table_is_declared_in_the_form_that_is_shown() -> None:
    entries = declared()
    shown_file, shown_set = json_values(section("Manifest [MAN]", "Writing"))
    file, record_set = entries[shown_file["@id"]], entries[shown_set["@id"]]
    assert agrees(shown_file, file)
    assert agrees(shown_set, {**record_set, "field": record_set["field"][:1]})
    pairs = [(shown_file, file), (shown_set, record_set), (shown_set["field"][0], record_set["field"][0])]
    assert all(set(shown) == set(actual) for shown, actual in pairs), "no member is left out"

    for name, table in TABLES.items():
        assert f"{name.replace('_', '-')}-csv" in entries
        fields = [field["@id"] for field in entries[f"copick/{name}"]["field"]]
        assert fields == [f"copick/{name}/{column}" for column in table.column_names]


def test_objects_are_declared_in_the_form_that_is_shown() -> None:
    (shown,) = json_values(section("Manifest [MAN]", "Pickable objects"))
    assert agrees(shown, declared()["copick/pickable_objects"])


def test_splits_are_declared_in_the_form_that_is_shown() -> None:
    (shown,) = json_values(section("Manifest [MAN]", "Splits"))
    entries = declared("train")
    assert agrees(shown, entries["copick/splits"])

    (reference,) = re.findall(r'`("references": .*?)`', CLAUSES["MAN-031"])
    (field,) = (field for field in entries["copick/runs"]["field"] if field["@id"] == "copick/runs/split")
    assert agrees(json.loads(f"{{{reference}}}"), field)


def test_splits_have_the_urls_of_the_table() -> None:
    (shown,) = json_values(section("Manifest [MAN]", "Splits"))
    prefix = shown["data"][0]["copick/splits/url"].rpartition("/")[0]
    *listed, other = rows(section("Manifest [MAN]", "Splits"))
    assert other == ["any other", "none: the URL is empty"]
    urls = {name: f"{prefix}/{last}" for names, last in listed for name in names.split(", ")}
    assert urls == _splits._SPLIT_URLS
    for name, url in {**urls, "any other": ""}.items():
        for spelling in (name, name.upper()):
            assert _splits.data([spelling], []) == [{"copick/splits/name": spelling, "copick/splits/url": url}]


# --- links -----------------------------------------------------------------------------------------------


def anchors() -> set[str]:
    """What a link within the document can lead to: clauses, and headings in the form that GitHub gives them."""
    found: dict[str, None] = dict.fromkeys(CLAUSES)
    for _, _, text in HEADINGS:
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        times = sum(1 for other in found if re.fullmatch(rf"{re.escape(slug)}(?:-\d+)?", other))
        found[f"{slug}-{times}" if times else slug] = None
    return set(found)


def test_links_within_the_document_lead_somewhere() -> None:
    links = re.findall(r"\]\(#([^)]*)\)", SPEC)
    assert links
    assert sorted(set(links) - anchors()) == []
    assert all(text == target for text, target in re.findall(r"\[([A-Z]{3}-\d{3})\]\(#([^)]*)\)", SPEC))


def test_the_contents_link_to_every_section() -> None:
    (contents,) = (text for text in SPEC.split("\n\n") if text.startswith("Contents:"))
    assert len(re.findall(r"\]\(#", contents)) == sum(level == 2 for _, level, _ in HEADINGS)
