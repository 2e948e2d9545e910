"""What people say of a dataset when they export it: who made it, who publishes it, under which license.

The properties are schema.org's, RAI's and PROV's, in the forms that both mlcroissant and copick open. What they would
stumble over is refused here, in the words of the option it came with. Rules: SPEC.md, Export [EXP].
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from copick_mlc.errors import UsageError

# One operand of an SPDX license expression: an id, or a reference to a license that has none.
_SPDX_ID = re.compile(r"(DocumentRef-[A-Za-z0-9.-]+:)?[A-Za-z0-9.-]+\+?")
_SPDX_OPERATORS = ("AND", "OR", "WITH")
_SPDX_TOKEN = re.compile(r"[()]|[^\s()]+")

_RAI_KEY = re.compile(r"(rai|prov):[A-Za-z]\w*")
_AGENT_TYPE = re.compile(r"(https?://schema\.org/|sc:)?(Person|Organization)")

# No description that somebody meant comes near; an object that contains itself has no end.
_DEEPEST = 20


def describe(
    *,
    creator: str | Mapping[str, Any] | Iterable[str | Mapping[str, Any]] | None = None,
    publisher: str | Mapping[str, Any] | None = None,
    url: str | None = None,
    keywords: str | Iterable[str] | None = None,
    license: str | None = None,
    rai: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The properties of the dataset that say this of it; one that is None is left out.

    Args:
        creator: One or more people, by name, or JSON-LD objects of people or organizations [EXP-043].
        publisher: An organization, by name, or a JSON-LD object [EXP-043].
        url: The web page of the dataset [EXP-044].
        keywords: Keywords; a str is one [EXP-044].
        license: License, an SPDX id or expression, or a URL; see `license_remark`.
        rai: Properties of the responsible-AI and provenance vocabularies, by `rai:` or `prov:` name [EXP-045].

    Raises:
        UsageError: `option-invalid`, for a value that is empty or has another form [EXP-046].
    """
    found: dict[str, Any] = {}
    if creator is not None:
        found["creator"] = _creators(creator)
    if publisher is not None:
        found["publisher"] = _agent("publisher", publisher, "sc:Organization")
    if license is not None:
        found["license"] = _text("license", license, "an SPDX id or expression, or a URL")
    if url is not None:
        found["url"] = _web_page(url)
    if keywords is not None:
        found["keywords"] = _keywords(keywords)
    if rai is not None:
        found |= _rai(rai)
    return found


def license_remark(license: str) -> str | None:
    """What to warn of where a license looks like neither an SPDX expression nor a URL; else None."""
    if _is_url(license) or _is_spdx(license):
        return None
    return (
        f"the license {license!r} is neither an SPDX id or expression nor a URL, so no program can tell what it "
        "allows; see https://spdx.org/licenses/ for ids such as CC-BY-4.0"
    )


def _is_spdx(license: str) -> bool:
    """Whether a text has the form of an SPDX license expression; which ids there are is not looked up."""
    depth, wants_operand = 0, True
    for part in _SPDX_TOKEN.findall(license):
        if part == "(" and wants_operand:
            depth += 1
        elif part == ")" and not wants_operand and depth:
            depth -= 1
        elif part in _SPDX_OPERATORS and not wants_operand:
            wants_operand = True
        elif wants_operand and part not in _SPDX_OPERATORS and _SPDX_ID.fullmatch(part):
            wants_operand = False
        else:
            return False
    return not depth and not wants_operand


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"\s", text)


# --- checked values ------------------------------------------------------------------------------------------


def _refusal(option: str, found: object, expected: str) -> UsageError:
    return UsageError("option-invalid", f"{option}: {reprlib.repr(found)}; expected {expected}")  # [EXP-046]


def _text(option: str, value: object, expected: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _refusal(option, value, expected)
    return value


def _creators(value: object) -> Any:
    """An object, or a list of them; a str stops copick from opening the project."""
    if isinstance(value, (str, Mapping)):
        return _agent("creator", value, "sc:Person")
    if not isinstance(value, Iterable) or not (agents := [_agent("creator", item, "sc:Person") for item in value]):
        raise _refusal("creator", value, "a name, a JSON-LD object, or a list of these that is not empty")
    return agents


def _agent(option: str, value: object, kind: str) -> dict[str, Any]:
    """A person or organization; an object without one of these types stops mlcroissant and copick."""
    if not isinstance(value, Mapping):
        return {"@type": kind, "name": _text(option, value, 'a name, or a JSON-LD object with "@type" and "name"')}
    _text(option, value.get("name"), f'a name as "name" of {reprlib.repr(dict(value))}')
    if not _AGENT_TYPE.fullmatch(str(value.get("@type"))):
        raise _refusal(f"{option}, @type", value.get("@type"), "sc:Person or sc:Organization")
    plain: dict[str, Any] = _json(option, value)
    return plain


def _web_page(value: object) -> str:
    expected = "the http or https URL of a web page"
    text = _text("url", value, expected)
    if not _is_url(text):
        raise _refusal("url", value, expected)
    return text


def _keywords(value: object) -> list[str]:
    expected = "a keyword, or a list of keywords that is not empty"
    if isinstance(value, str):
        return [_text("keywords", value, expected)]
    if not isinstance(value, Iterable) or not (words := [_text("keywords", word, expected) for word in value]):
        raise _refusal("keywords", value, expected)
    return words


def _rai(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        raise _refusal("rai", value, "an object with members rai:… and prov:…")
    for key in value:
        if not (isinstance(key, str) and _RAI_KEY.fullmatch(key)):
            raise _refusal("rai", key, "names as rai:dataCollection or prov:wasDerivedFrom")
    return {key: _json(f"rai, {key}", item) for key, item in value.items()}


def _json(option: str, value: object, depth: int = 0) -> Any:
    """A JSON value, as it will be written; mlcroissant does not come to an end with an empty object."""
    expected = "JSON, with nothing empty or null in it"
    if depth > _DEEPEST or value is None or (isinstance(value, float) and not math.isfinite(value)):
        raise _refusal(option, value, expected)
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping) and value and all(isinstance(key, str) for key in value):
        return {key: _json(option, item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and value:
        return [_json(option, item, depth + 1) for item in value]
    return _text(option, value, expected)
