"""Cases run against an adapter, several at a time, and what their results mean.

An outcome is one of

- `pass`: all went as the case says;
- `fail`: something did not, and a clause is broken;
- `error`: the adapter hung, crashed or broke the protocol, which says nothing of the clause;
- `expected`: it failed, and is known to;
- `warn`: it failed, and no clause of the case is a MUST;
- `skip`: the implementation does not claim a capability that the case requires, or the suite cannot hold a lock here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path

from conformance.cases import CAPABILITIES, ONLY_OF, PROFILES, Case
from conformance.expected import Expectation
from conformance.play import Hello, Result, play
from conformance.processes import Launcher
from conformance.spec import Spec
from conformance.workspace import CAN_LOCK

OUTCOMES = ("pass", "fail", "error", "expected", "warn", "skip")


@dataclass(frozen=True)
class Settings:
    """How cases are run."""

    launcher: Launcher
    timeout: float = 60.0
    jobs: int = 1
    strict: bool = False
    keep: Path | None = None
    expected: Mapping[str, Expectation] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """All results against one implementation; `complete` when no case was left out."""

    hello: Hello
    results: Sequence[Result]
    complete: bool

    @property
    def failed(self) -> bool:
        """Whether there is anything that nobody expected."""
        return any(result.outcome in ("fail", "error") or result.stale for result in self.results)

    def count(self, outcome: str) -> int:
        return sum(result.outcome == outcome for result in self.results)


@dataclass(frozen=True)
class Verdict:
    """Whether an implementation conforms in a profile; `missing` are capabilities that it does not claim."""

    state: str
    broken: int
    ran: int
    missing: tuple[str, ...]


def run(
    cases: Sequence[Case], spec: Spec, hello: Hello, settings: Settings, progress: Callable[[Result], None]
) -> list[Result]:
    """Run the cases that `hello` claims to pass; results in the order of the cases."""
    executor = ThreadPoolExecutor(settings.jobs)
    try:
        futures = [executor.submit(_run, case, spec, hello, settings) for case in cases]
        for future in as_completed(futures):
            progress(future.result())
    finally:
        executor.shutdown(cancel_futures=True)
    return [future.result() for future in futures]


def _run(case: Case, spec: Spec, hello: Hello, settings: Settings) -> Result:
    missing = sorted(case.capabilities - hello.capabilities)
    if missing:
        return Result(case, "skip", reason=f"{', '.join(missing)} not claimed")
    if case.locks and not CAN_LOCK:
        return Result(case, "skip", reason="there is no flock(2) here")
    result = play(case, settings.launcher, settings.timeout, settings.keep)
    expectation = settings.expected.get(case.id)
    if expectation:
        reason = f"[{expectation.clause}] {expectation.reason}"
        outcome = "expected" if result.outcome == "fail" else result.outcome
        return replace(result, outcome=outcome, reason=reason, stale=outcome == "pass")
    required = settings.strict or any(spec.clauses[clause].required for clause in case.clauses)
    return replace(result, outcome="warn") if result.outcome == "fail" and not required else result


def verdicts(run: Run) -> dict[str, Verdict]:
    """The verdict on each profile. A known failure is a failure: it may be expected, and conforms no more for that."""
    return {profile: _verdict(run, profile) for profile in PROFILES}


def _verdict(run: Run, profile: str) -> Verdict:
    claimed = run.hello.capabilities
    if not claimed >= {profile, "read"}:
        return Verdict("not claimed", 0, 0, ())
    ran = [r.outcome for r in run.results if r.outcome != "skip" and r.case.profiles & {profile, "read"}]
    broken = sum(outcome in ("fail", "error", "expected") for outcome in ran)
    relevant = [name for name in CAPABILITIES if name not in PROFILES and ONLY_OF.get(name, profile) == profile]
    missing = tuple(name for name in relevant if name not in claimed)
    return Verdict("does not conform" if broken else "conforms", broken, len(ran), missing)
