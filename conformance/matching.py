"""Whether a value is what a case expects: the matchers of `expect`.

Lists are sets of rows, keys or names, so their order means nothing, unless `@list` says it does; lists of
numbers and lists of lists are coordinates, shapes and matrices, and there it always does.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

#: Matches every value.
ANY: Final = object()

_SHOWN = 400


@dataclass(frozen=True)
class Difference:
    """What was wanted at a place in a value, and what came; `path` is empty for the value itself."""

    wanted: str
    got: str
    path: str = ""

    def __str__(self) -> str:
        place = f"at {self.path}: " if self.path else ""
        return f"{place}wanted {self.wanted}, got {self.got}"


def show(value: Any) -> str:
    """A value as JSON, cut to what a person reads."""
    text = json.dumps(value, ensure_ascii=False, default=lambda _: "anything")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"


def difference(wanted: Any, got: Any, path: str = "") -> Difference | None:
    """The first place where `got` does not match `wanted`, or None."""
    if wanted is ANY:
        return None
    matcher = _matcher_of(wanted)
    if matcher:
        (argument,) = wanted.values()
        return matcher(argument, got, path)
    if isinstance(wanted, list) and isinstance(got, list):
        return _in_order(wanted, got, path) if _has_order(wanted) else _in_any_order(wanted, got, path)
    if isinstance(wanted, dict) and isinstance(got, dict):
        return _members(wanted, got, path) or _surplus(wanted, got, path)
    return None if _same(wanted, got) else Difference(show(wanted), show(got), path)


def _same(wanted: Any, got: Any) -> bool:
    """Python has True == 1, and a conformance suite must not."""
    return isinstance(wanted, bool) == isinstance(got, bool) and bool(wanted == got)


def _has_order(wanted: Sequence[Any]) -> bool:
    return any(isinstance(item, (int, float, list)) for item in wanted)


def _in_order(wanted: Any, got: Any, path: str) -> Difference | None:
    if not isinstance(got, list):
        return Difference(f"the list {show(wanted)}", show(got), path)
    if len(wanted) != len(got):
        return Difference(_count(wanted, wanted), _count(got, got), path)
    found = (difference(w, g, f"{path}[{index}]") for index, (w, g) in enumerate(zip(wanted, got, strict=True)))
    return next(filter(None, found), None)


def _in_any_order(wanted: Sequence[Any], got: Sequence[Any], path: str) -> Difference | None:
    partner = _pair(wanted, got)
    missing = [index for index in range(len(wanted)) if index not in partner]
    surplus = [item for index, item in enumerate(got) if index not in partner.values()]
    if not missing and not surplus:
        return None
    if len(missing) == len(surplus) == 1:
        return difference(wanted[missing[0]], surplus[0], f"{path}[{missing[0]}]")
    return Difference(_count(wanted, [wanted[index] for index in missing]), _count(got, surplus), path)


def _pair(wanted: Sequence[Any], got: Sequence[Any]) -> Mapping[int, int]:
    """As many pairs of wanted and got elements as there can be: matchers may fit several elements."""
    fits = [[g for g, item in enumerate(got) if difference(want, item) is None] for want in wanted]
    owner: dict[int, int] = {}

    def settle(want: int, tried: set[int]) -> bool:
        for place in fits[want]:
            if place not in tried:
                tried.add(place)
                if place not in owner or settle(owner[place], tried):
                    owner[place] = want
                    return True
        return False

    for want in range(len(wanted)):
        settle(want, set())
    return {want: place for place, want in owner.items()}


def _members(wanted: Any, got: Any, path: str) -> Difference | None:
    """Whether `got` is an object with at least the members of `wanted`."""
    if not isinstance(got, dict):
        return Difference(f"an object with {show(wanted)}", show(got), path)
    for name, value in wanted.items():
        place = f"{path}.{name}" if path else name
        if name not in got:
            return Difference(show(value), "no such member", place)
        found = difference(value, got[name], place)
        if found:
            return found
    return None


def _surplus(wanted: Mapping[str, Any], got: Mapping[str, Any], path: str) -> Difference | None:
    for name in got:
        if name not in wanted:
            return Difference("no such member", show(got[name]), f"{path}.{name}" if path else name)
    return None


def _contains(wanted: Any, got: Any, path: str) -> Difference | None:
    if not isinstance(got, list):
        return Difference(f"a list with {show(wanted)}", show(got), path)
    for item in wanted:
        if all(difference(item, other) for other in got):
            return Difference(f"a list with {show(item)}", show(got), path)
    return None


def _lacks(wanted: Any, got: Any, path: str) -> Difference | None:
    if not isinstance(got, list):
        return Difference(f"a list without {show(wanted)}", show(got), path)
    for item in wanted:
        for other in got:
            if difference(item, other) is None:
                return Difference(f"a list without {show(item)}", f"one with {show(other)}", path)
    return None


def _any(wanted: Any, got: Any, path: str) -> Difference | None:
    if any(difference(item, got, path) is None for item in wanted):
        return None
    return Difference(f"one of {show(wanted)}", show(got), path)


def _date(_: Any, got: Any, path: str) -> Difference | None:
    """Whether it is today's date: who wrote it may have another time zone, and midnight may have been since."""
    today = datetime.datetime.now(datetime.timezone.utc).date()
    dates = [str(today + datetime.timedelta(days=days)) for days in (-1, 0, 1)]
    return None if got in dates else Difference("the date of today", show(got), path)


def _count(items: Sequence[Any], unmatched: Sequence[Any]) -> str:
    count = "1 element" if len(items) == 1 else f"{len(items)} elements"
    return f"{count}, among them {show(unmatched)}" if unmatched else count


_MATCHERS: Mapping[str, Callable[[Any, Any, str], Difference | None]] = {
    "@list": _in_order,
    "@has": _members,
    "@contains": _contains,
    "@lacks": _lacks,
    "@any": _any,
    "@date": _date,
}


def _matcher_of(wanted: Any) -> Callable[[Any, Any, str], Difference | None] | None:
    """JSON-LD is full of objects with one member such as `@id`, so only these names make a matcher."""
    if isinstance(wanted, dict) and len(wanted) == 1:
        return _MATCHERS.get(next(iter(wanted)))
    return None
