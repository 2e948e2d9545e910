"""The cases: JSON files that are read into steps, and checked for what would make them prove nothing.

case.schema.json declares operations, edits and checks with their arguments; it is read here, so that nothing
is declared twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance import documents
from conformance.matching import ANY
from conformance.spec import Spec, SuiteError

_SCHEMA: Mapping[str, Any] = json.loads(Path(__file__).with_name("case.schema.json").read_text(encoding="utf-8"))

#: What an adapter may claim.
CAPABILITIES: tuple[str, ...] = tuple(_SCHEMA["$defs"]["capability"]["enum"])

#: What an implementation can conform in; each of the others includes `read`.
PROFILES = ("read", "write", "overlay", "export")

# An operation belongs into cases that require one of these; what the table does not name only needs `read`.
_CHANGES = ("create", "store", "delete", "set_split", "set_splits", "clear_splits", "define_object")
_NEEDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys((*_CHANGES, "refresh"), ("write", "overlay")),
    **dict.fromkeys(("begin", "end"), ("batch",)),
    "export": ("export",),
    "append": ("append",),
    "publish": ("publish",),
}
# And so do some arguments.
_ARGUMENT_NEEDS: Mapping[str, Mapping[str, str]] = {
    "open": {"overlay": "overlay", "config": "config", "base_url": "config", "lock_seconds": "locks"},
    "export": {"records": "portal_source"},
    "append": {"records": "portal_source"},
}

#: Capabilities that matter to one profile alone; all others matter to any.
ONLY_OF: Mapping[str, str] = {
    "portal": "read",
    **dict.fromkeys(("batch", "merge", "locks"), "write"),
    **dict.fromkeys(("append", "portal_source", "publish"), "export"),
}


@dataclass(frozen=True)
class Action:
    """What a step does: an operation of the adapter, an edit, a trial, or a check; `kind` is the member that says so.

    While an operation is under way the steps of `meanwhile` are done.
    """

    kind: str
    name: str
    arguments: Mapping[str, Any]
    expect: Any = ANY
    error: str | None = None
    meanwhile: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Step:
    """One action of a case, and where in the case it stands."""

    place: str
    action: Action

    def __str__(self) -> str:
        arguments = json.dumps(self.action.arguments, ensure_ascii=False)
        shown = arguments if len(arguments) <= 300 else f"{arguments[:300]}…"
        return f"{self.place}: {self.action.name}{f' {shown}' if self.action.arguments else ''}"


@dataclass(frozen=True)
class Case:
    """One case, as README.md describes it; the checks of `disk` are its last steps."""

    id: str
    section: str
    clauses: tuple[str, ...]
    capabilities: frozenset[str]
    description: str
    fixture: Path
    steps: tuple[Step, ...]

    @property
    def locks(self) -> bool:
        """Whether the suite itself holds the lock of a project, or does something while it waits for an answer."""
        return any(step.action.name in ("lock", "reads") or step.action.meanwhile for step in self.steps)

    @property
    def profiles(self) -> Set[str]:
        """The profiles that the case is of."""
        own = self.capabilities & {"write", "overlay", "export"}
        near = {ONLY_OF[name] for name in self.capabilities & ONLY_OF.keys()}
        # Who appends with the lock is an exporter: of `export` and `write` the first says more.
        return own or near & {"export"} or near & {"write"} or {"read"}


def load(directory: Path, fixtures: Path, spec: Spec) -> list[Case]:
    """All cases below `directory`, by section and id.

    Raises:
        SuiteError: a case is malformed, or two have one id.
    """
    cases: dict[str, Case] = {}
    for path in sorted(directory.glob("*/*.json")):
        try:
            case = _case(path, documents.parse(path.read_bytes()), fixtures, spec)
        except (ValueError, SuiteError) as error:
            raise SuiteError(f"cases/{path.parent.name}/{path.name}: {error}") from error
        if case.id in cases:
            raise SuiteError(f"there are two cases {case.id}, in {cases[case.id].section} and {case.section}")
        cases[case.id] = case
    if not cases:
        raise SuiteError(f"there are no cases in {directory}")
    return list(cases.values())


def _case(path: Path, document: Any, fixtures: Path, spec: Spec) -> Case:
    _check_members(document, "", "the case")
    case = Case(
        id=document["id"],
        section=path.parent.name,
        clauses=tuple(document["clauses"]),
        capabilities=frozenset(document["capabilities"]),
        description=document["description"],
        fixture=fixtures / document["fixture"],
        steps=tuple(_steps(document)),
    )
    if case.id != path.stem:
        raise SuiteError(f"the id is {case.id} and the file is {path.name}")
    if not case.clauses:
        raise SuiteError("it cites no clause")
    _check_known("clause", case.clauses, spec.clauses.keys())
    _check_known("capability", case.capabilities, set(CAPABILITIES))
    if not case.fixture.is_dir():
        raise SuiteError(f"there is no fixture {document['fixture']}")
    for step in case.steps:
        if step.action.error is not None:
            _check_known("error code", [step.action.error], spec.codes)
        _check_needs(step, case.capabilities)
    for name in ("http", "s3"):
        if f"{{{name}}}" in json.dumps(document) and name not in case.capabilities:
            raise SuiteError(f"it uses {{{name}}} and does not require the capability {name}")
    return case


def _steps(document: Mapping[str, Any]) -> Iterator[Step]:
    for number, step in enumerate(document["steps"], 1):
        yield from _step(step, f"step {number}")
    disk = document.get("disk", [])
    yield from _checks(disk, "at the end")
    if _writes(document) and document.get("consistent", True) and not any(c["check"] == "consistent" for c in disk):
        yield Step("at the end", Action("check", "consistent", {}))


def _step(step: Any, place: str) -> Iterator[Step]:
    """A step; one of checks is a step for each."""
    if isinstance(step, dict) and "disk" in step:
        yield from _checks(step["disk"], place)
    else:
        yield Step(place, _action(step, place))


def _writes(document: Mapping[str, Any]) -> bool:
    return any(
        step.get("op") in (*_CHANGES, "export", "append", "publish") or "trial" in step for step in document["steps"]
    )


def _checks(checks: Any, place: str) -> Iterator[Step]:
    for check in checks:
        yield Step(place, _action(check, f"a check, {place}"))


def _action(step: Any, place: str) -> Action:
    """An operation, edit, trial or check, whose arguments are those that case.schema.json declares."""
    kinds = [kind for kind in ("op", "edit", "trial", "check") if isinstance(step, dict) and kind in step]
    if len(kinds) != 1:
        raise SuiteError(f"{place} is no operation, edit, trial or check")
    kind = kinds[0]
    name = step[kind]
    if f"{kind}-{name}" not in _SCHEMA["$defs"]:
        raise SuiteError(f"{place}: there is no {kind} {name!r}")
    _check_members(step, f"{kind}-{name}", place)
    arguments = {member: value for member, value in step.items() if member != kind}
    if kind != "op":
        return Action(kind, name, arguments)
    if "expect" in step and "error" in step:
        raise SuiteError(f"{place} expects a result and an error")
    meanwhile = [
        inner
        for number, item in enumerate(arguments.pop("meanwhile", ()), 1)
        for inner in _step(item, f"{place}, meanwhile {number}")
    ]
    return Action(kind, name, arguments, arguments.pop("expect", ANY), arguments.pop("error", None), tuple(meanwhile))


def _check_members(value: Any, definition: str, place: str) -> None:
    """Whether an object has the members that its definition in the schema requires and allows."""
    schema = _SCHEMA["$defs"][definition] if definition else _SCHEMA
    if not isinstance(value, dict):
        raise SuiteError(f"{place} is no object")
    allowed = {*schema["properties"]}
    if definition.startswith("op-"):
        allowed |= {*_SCHEMA["$defs"]["outcome"]["properties"]}
    for member in schema["required"]:
        if member not in value:
            raise SuiteError(f"{place} lacks {member!r}")
    for member in value:
        if member not in allowed:
            raise SuiteError(f"{place} has {member!r}, which is not known there")
        wanted = _type_of(schema["properties"].get(member, {}))
        if wanted and not isinstance(value[member], wanted):
            raise SuiteError(f"{place}: {member!r} has the wrong type")


def _type_of(schema: Mapping[str, Any]) -> type | None:
    """The Python type of what a schema allows, where it is one of those that this module relies on."""
    if "$ref" in schema:
        return _type_of(_SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    name = schema.get("type")
    return {"array": list, "object": dict, "string": str}.get(name) if isinstance(name, str) else None


def changes(trial: Mapping[str, Any]) -> list[Any]:
    """All operations of a trial."""
    if "publish" in trial:
        return [{"op": "publish", **trial["publish"]}]
    writers = trial.get("writers", [trial.get("writer", [])])
    return [operation for steps in writers for operation in (steps if isinstance(steps, list) else [steps])]


def _check_known(what: str, used: Any, known: Set[str]) -> None:
    for item in sorted(used):
        if item not in known:
            raise SuiteError(f"there is no {what} {item!r}")


def _check_needs(step: Step, capabilities: Set[str]) -> None:
    """Whether an implementation that has what the case requires knows the operation."""
    action = step.action
    if action.kind == "trial":
        for operation in changes(action.arguments):
            _check_needs(Step(step.place, _action(operation, step.place)), capabilities)
    if action.kind != "op":
        return
    needs = _NEEDS.get(action.name)
    if needs and not capabilities & set(needs):
        raise SuiteError(f"{step.place}: {action.name} is only for cases that require {' or '.join(needs)}")
    for argument, need in _ARGUMENT_NEEDS.get(action.name, {}).items():
        if argument in action.arguments and need not in capabilities:
            raise SuiteError(f"{step.place}: {argument} is only for cases that require {need}")
