from __future__ import annotations

import datetime
from typing import Any

import pytest

from conformance import documents
from conformance.matching import ANY, difference, show

# Long before today, today, tomorrow, should it become that meanwhile, and long after it.
_NOW = datetime.datetime.now(datetime.timezone.utc).date()
_DATES = [str(_NOW + datetime.timedelta(days=days)) for days in (-9, 0, 1, 9)]


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        (1, 1.0),
        (None, None),
        (ANY, {"anything": []}),
        ([], []),
        ([{"a": 1}, {"a": 2}], [{"a": 2}, {"a": 1}]),
        (["x", "y"], ["y", "x"]),
        ({"@list": ["x", "y"]}, ["x", "y"]),
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        ({"@has": {"a": 1}}, {"a": 1, "b": 2}),
        ({"@has": {"a": {"@has": {}}}}, {"a": {"b": 2}}),
        ({"@contains": [{"@has": {"a": 1}}]}, [{"a": 2}, {"a": 1, "b": 0}]),
        ({"@lacks": ["x"]}, ["y"]),
        ({"@any": [{"@has": {"a": 1}}, {"@has": {"b": 2}}]}, {"b": 2}),
        ({"@id": "copick/runs"}, {"@id": "copick/runs"}),
        *(({"@date": "today"}, date) for date in _DATES[1:-1]),
        # The first matcher fits both elements, and must leave the second matcher its only one.
        ([{"@has": {"a": 1}}, {"a": 1, "b": 2}], [{"a": 1, "b": 2}, {"a": 1, "b": 3}]),
    ],
)
def test_what_matches(wanted: Any, got: Any) -> None:
    assert difference(wanted, got) is None


@pytest.mark.parametrize(
    ("wanted", "got", "words"),
    [
        (1, True, "wanted 1, got true"),
        (False, 0, "wanted false, got 0"),
        ("1", 1, 'wanted "1", got 1'),
        (None, "", 'wanted null, got ""'),
        ([1, 2], [2, 1], "at [0]: wanted 1, got 2"),
        *(
            ({"@date": "today"}, date, f"wanted the date of today, got {show(date)}")
            for date in (_DATES[0], _DATES[-1])
        ),
        ({"@date": "today"}, None, "wanted the date of today, got null"),
        ([[1, 2], [3]], [[3], [1, 2]], "at [0]: wanted 2 elements, among them [1, 2], got 1 element, among them [3]"),
        ({"@list": ["x", "y"]}, ["y", "x"], 'at [0]: wanted "x", got "y"'),
        ({"@list": []}, {}, "wanted the list [], got {}"),
        (["x"], "x", 'wanted ["x"], got "x"'),
        (["x", "y"], ["y"], 'wanted 2 elements, among them ["x"], got 1 element'),
        (["x"], ["x", "x"], 'wanted 1 element, got 2 elements, among them ["x"]'),
        ([{"a": 1, "b": 1}, {"a": 2}], [{"a": 2}, {"a": 1, "b": 2}], "at [0].b: wanted 1, got 2"),
        ({"a": {"b": 1}}, {"a": {}}, "at a.b: wanted 1, got no such member"),
        ({"a": 1}, {"a": 1, "b": 2}, "at b: wanted no such member, got 2"),
        ({"a": 1}, [], 'wanted {"a": 1}, got []'),
        ({"@has": {"a": 1}}, {"b": 1}, "at a: wanted 1, got no such member"),
        ({"@has": {"a": 1}}, [], 'wanted an object with {"a": 1}, got []'),
        ({"a": {"@any": [1, 2]}}, {"a": 3}, "at a: wanted one of [1, 2], got 3"),
        ({"@contains": ["x"]}, ["y"], 'wanted a list with "x", got ["y"]'),
        ({"@contains": ["x"]}, None, 'wanted a list with ["x"], got null'),
        (
            {"@lacks": [{"@has": {"a": 1}}]},
            [{"a": 1}],
            'wanted a list without {"@has": {"a": 1}}, got one with {"a": 1}',
        ),
        ({"@lacks": []}, 1, "wanted a list without [], got 1"),
    ],
)
def test_what_differs_and_in_which_words(wanted: Any, got: Any, words: str) -> None:
    assert str(difference(wanted, got)) == words


def test_long_values_are_cut() -> None:
    assert show("x" * 1000).endswith("… (1002 characters)")


def test_pointers_find_put_and_remove() -> None:
    document: Any = {"a/b": [1, {"~": 2}]}
    assert documents.find(document, "") is document
    assert documents.find(document, "/a~1b/1/~0") == 2
    assert documents.put(document, "/a~1b/-", 3) == {"a/b": [1, {"~": 2}, 3]}
    assert documents.put(document, "/a~1b/0", 0)["a/b"][0] == 0
    assert documents.put(document, "/new", None)["new"] is None
    assert documents.put(document, "", 7) == 7
    documents.remove(document, "/a~1b/1")
    assert document == {"a/b": [0, 3], "new": None}


@pytest.mark.parametrize("pointer", ["/c", "/a/2", "/a/-", "/a/x", "/b/0", "a"])
def test_pointers_to_nothing(pointer: str) -> None:
    with pytest.raises(LookupError):
        documents.find({"a": [1, 2], "b": "text"}, pointer)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NaN", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("{", "Expecting property name"),
        (b"\xff", "can't decode"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json(text: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        documents.parse(text)
