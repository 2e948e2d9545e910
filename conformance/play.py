"""One case played: a workspace, a process of the adapter, and the steps, up to the first that goes wrong."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from conformance import edits, observer, trials
from conformance.cases import CAPABILITIES, Action, Case
from conformance.client import AdapterError, Client, Response
from conformance.matching import ANY, Difference, difference, show
from conformance.processes import Launcher
from conformance.serve import PROTOCOL
from conformance.trials import Stage
from conformance.workspace import Workspace

# How long an implementation has to begin what it must not do, before the steps of `meanwhile`.
_MEANWHILE_SECONDS = 1.0
# Characters that a terminal or XML would not take for characters.
_UNPRINTABLE = re.compile("[^\n\t\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Hello:
    """What an adapter says of its implementation."""

    name: str
    version: str
    spec: str
    capabilities: frozenset[str]


@dataclass(frozen=True)
class Result:
    """What came of a case; runner.py says what the outcomes mean. Texts have {work} for the case's directory."""

    case: Case
    outcome: str
    step: str = ""
    wanted: str = ""
    got: str = ""
    reason: str = ""
    stderr: str = ""
    duration: float = 0.0
    stale: bool = False
    figures: Mapping[str, int] = field(default_factory=dict)
    hello: Hello | None = None


def play(case: Case, launcher: Launcher, timeout: float, keep: Path | None = None) -> Result:
    """Play a case against the adapter that `launcher` starts: the outcome is pass, fail or error."""
    started = time.monotonic()
    workspace = Workspace(case.fixture, keep and keep / case.id)
    try:
        result = _clean(_play(case, launcher, timeout, workspace), workspace)
    finally:
        workspace.close()
    return replace(result, duration=time.monotonic() - started)


def _play(case: Case, launcher: Launcher, timeout: float, workspace: Workspace) -> Result:
    hello: Hello | None = None
    found: Difference | None = None
    figures: dict[str, int] = {}
    error = ""
    place = "start"
    if "s3" in case.capabilities:
        workspace.fill("{s3}")
    try:
        client = Client(launcher, workspace.work, timeout, workspace.environment)
    except AdapterError as refusal:
        return Result(case, "error", step=place, got=str(refusal))
    try:
        hello = _hello(client.ask("hello", {}))
        for step in case.steps:
            place = str(step)
            found = _do(step.action, client, Stage(launcher, timeout, hello.capabilities, workspace), figures)
            if found:
                break
        else:
            place = "end"
            client.finish()
    except (AdapterError, edits.EditError) as fault:
        error = str(fault)
    finally:
        client.kill()
    stderr = client.stderr()
    if error:
        return Result(case, "error", step=place, got=error, stderr=stderr, hello=hello)
    if found:
        at = f"{found.path}: " if found.path else ""
        wanted, got = f"{at}{found.wanted}", f"{at}{found.got}"
        return Result(case, "fail", place, wanted, got, stderr=stderr, figures=figures, hello=hello)
    return Result(case, "pass", figures=figures, hello=hello)


def _hello(response: Response) -> Hello:
    match response.result:
        case {
            "protocol": int(protocol),
            "spec": str(spec),
            "name": str(name),
            "version": str(version),
            "capabilities": list(capabilities),
        }:
            unknown = [capability for capability in capabilities if capability not in CAPABILITIES]
            if unknown:
                raise AdapterError(f"hello: there is no capability {show(unknown[0])}")
            if protocol != PROTOCOL:
                raise AdapterError(f"hello: the protocol is {protocol}, and {PROTOCOL} is spoken here")
            return Hello(name, version, spec, frozenset(capabilities))
    raise AdapterError(f"hello: no protocol, spec, name, version and capabilities in {show(response.result)}")


def _do(action: Action, client: Client, stage: Stage, figures: dict[str, int]) -> Difference | None:
    """Do what a step says; what is then not as it says, or None."""
    workspace = stage.workspace
    if action.kind == "edit":
        edits.edit(workspace, action.name, action.arguments)
        return None
    if action.kind == "check":
        return observer.check(workspace, action.name, action.arguments)
    if action.kind == "trial":
        outcome = trials.run(stage, action.name, action.arguments)
        figures.update(outcome.figures)
        return outcome.found
    client.send(action.name, workspace.fill(action.arguments))
    found = _do_meanwhile(action, client, stage, figures) if action.meanwhile else None
    if found:
        return found
    response = client.receive(action.name)
    if action.error is None:
        return _compare(workspace.fill(action.expect), response)
    return _compare_error(action.error if "codes" in stage.capabilities else None, response)


def _do_meanwhile(action: Action, client: Client, stage: Stage, figures: dict[str, int]) -> Difference | None:
    """Do the steps of `meanwhile`, before which there must be no answer."""
    if client.has_answered(_MEANWHILE_SECONDS):
        response = client.receive(action.name)
        return Difference(
            "no answer while somebody else has the lock", _error(response) if response.error else show(response.result)
        )
    for step in action.meanwhile:
        found = _do(step.action, client, stage, figures)
        if found:
            return Difference(found.wanted, f"{found.got} ({step})", found.path)
    return None


def _compare(wanted: object, response: Response) -> Difference | None:
    if response.error:
        return Difference("success" if wanted is ANY else show(wanted), _error(response))
    return difference(wanted, response.result)


def _compare_error(code: str | None, response: Response) -> Difference | None:
    """An implementation without codes (`code` None) says no more than that there is an error."""
    wanted = f"the error {code}" if code else "an error"
    if not response.error:
        return Difference(wanted, f"success: {show(response.result)}")
    return Difference(wanted, _error(response)) if code and response.code != code else None


def _error(response: Response) -> str:
    return f"the error {response.code or 'without a code'}: {response.message}"


def _clean(result: Result, workspace: Workspace) -> Result:
    """The result with texts that can be shown anywhere."""

    def clean(text: str) -> str:
        return _UNPRINTABLE.sub(lambda match: ascii(match.group())[1:-1], workspace.hide(text))

    return replace(
        result,
        step=clean(result.step),
        wanted=clean(result.wanted),
        got=clean(result.got),
        stderr=clean(result.stderr),
    )
