"""Run the conformance suite: `python -m conformance --help`."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NoReturn, TextIO

from conformance import cases as cases_
from conformance import documents, expected, page, processes, report
from conformance import spec as spec_
from conformance.cases import Case
from conformance.play import Result, play
from conformance.processes import Launcher
from conformance.runner import Run, Settings, run
from conformance.spec import Spec, SuiteError

_HERE = Path(__file__).resolve().parent
_TIMEOUT = 60.0

_EPILOG = """\
examples:
  python -m conformance --module conformance.adapters.copick_mlc:Adapter
  python -m conformance --command "node conformance/adapters/node/reader.mjs" --html page.html
  python -m conformance --module my.adapter:Adapter --clause CSV-004 --keep look
  python -m conformance --module my.adapter:Adapter --expected-failures known.txt --junit junit.xml
  python -m conformance --from ours.json --from theirs.json --html matrix.html

An adapter runs in a directory of its own. It can import what can be imported where the suite is started, and words of
--command that are files there are found. PROTOCOL.md says what an adapter does, README.md how reports are read.

exit codes:
  0  all cases passed, but for those that are expected to fail
  1  a case failed or ended in an error, or an expected failure passed
  2  the suite or its use is broken, or the adapter does not pass the smoke case
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say in a line what is wrong."""
        self.exit(2, f"conformance: {message}; see --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m conformance",
        description="Prove of an implementation of copick's mlcroissant format what SPEC.md says.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("the implementation, one of")
    what.add_argument("--module", metavar="PKG.MOD:CLASS", help="a Python class with a method for each operation")
    what.add_argument("--command", metavar="WORDS", help="a command that speaks the protocol, as one argument")
    what.add_argument(
        "--from",
        dest="reports",
        metavar="FILE",
        action="append",
        type=Path,
        default=[],
        help="no implementation, but the --json report of an earlier run, for --html; may be repeated",
    )
    which = parser.add_argument_group("the cases, by default all")
    which.add_argument("--case", metavar="ID", action="append", default=[], help="this case; may be repeated")
    which.add_argument(
        "--clause", metavar="ID", action="append", default=[], help="cases that cite this clause; may be repeated"
    )
    which.add_argument("--list", action="store_true", help="print the cases instead of running them")
    how = parser.add_argument_group("how they are run")
    how.add_argument(
        "--jobs",
        metavar="N",
        type=_positive(int),
        default=os.cpu_count() or 1,
        help="cases at a time (default: processors)",
    )
    how.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_positive(float),
        default=_TIMEOUT,
        help=f"longest wait for an answer (default: {_TIMEOUT:g})",
    )
    how.add_argument(
        "--strict", action="store_true", help="cases of which all clauses say SHOULD or MAY fail, and do not only warn"
    )
    how.add_argument(
        "--expected-failures",
        metavar="FILE",
        type=Path,
        help="cases that are known to fail, each on a line: case-id [CLAUSE-ID] reason",
    )
    how.add_argument(
        "--keep",
        metavar="DIR",
        type=Path,
        help="leave the directories of the cases in DIR, which is new or empty, to be looked at",
    )
    out = parser.add_argument_group("reports, besides the text")
    for name, what_it_is in (
        ("json", "JSON"),
        ("junit", "JUnit XML"),
        ("html", "a page with a matrix of clauses and implementations"),
    ):
        out.add_argument(f"--{name}", metavar="FILE", type=Path, help=what_it_is)
    return parser


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def convert(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise ValueError
        return value

    convert.__name__ = f"positive {'integer' if kind is int else 'number'}"
    return convert


def main(arguments: Sequence[str] | None = None, directory: Path = _HERE) -> int:
    """Run the command; `directory` holds the cases and fixtures, and SPEC.md lies beside it. The exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    mistake = _mistake(options)
    if mistake:
        parser.error(mistake)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if options.reports:
            return _join(options)
        spec = spec_.load(directory.parent / "SPEC.md")
        cases = cases_.load(directory / "cases", directory / "fixtures", spec)
        chosen = _choose(cases, spec, options)
        if options.list:
            _say(map(_listed, chosen))
            return 0
        return _run(spec, cases, chosen, options)
    except SuiteError as error:
        _say([f"conformance: {error}"], sys.stderr)
        return 2


def _mistake(options: argparse.Namespace) -> str | None:
    """What is wrong with the options together."""
    ways = [bool(options.module), bool(options.command), bool(options.reports), options.list]
    outputs = [path for path in (options.json, options.junit, options.html) if path]
    if sum(ways) != 1:
        return "give one of --module, --command, --from and --list"
    if options.module and ":" not in options.module:
        return "--module takes package.module:Class"
    if options.reports and outputs != [options.html]:
        return "--from makes --html, and nothing else"
    if options.keep and options.keep.exists() and (not options.keep.is_dir() or any(options.keep.iterdir())):
        return f"{options.keep} is no empty directory"
    return next((f"there is no directory {path.parent}" for path in outputs if not path.parent.is_dir()), None)


def _choose(cases: Sequence[Case], spec: Spec, options: argparse.Namespace) -> list[Case]:
    """The cases that the options name: those of --case, and those that cite a clause of --clause."""
    for case in options.case:
        if case not in {item.id for item in cases}:
            raise SuiteError(f"there is no case {case}")
    for clause in options.clause:
        if clause not in spec.clauses:
            raise SuiteError(f"there is no clause {clause}")
    if not options.case and not options.clause:
        return list(cases)
    chosen = [case for case in cases if case.id in options.case or {*case.clauses} & {*options.clause}]
    if not chosen:
        raise SuiteError(f"no case cites {' or '.join(options.clause)}")
    return chosen


def _run(spec: Spec, cases: Sequence[Case], chosen: Sequence[Case], options: argparse.Namespace) -> int:
    known = expected.load(options.expected_failures, cases) if options.expected_failures else {}
    smoke = next((case for case in cases if case.id == "smoke"), None)
    if not smoke:
        raise SuiteError("there is no case smoke, which runs before all others")
    with _launcher(options) as launcher:
        settings = Settings(launcher, options.timeout, options.jobs, options.strict, options.keep, known)
        first = play(smoke, launcher, settings.timeout, settings.keep)
        if first.outcome != "pass" or not first.hello:
            _say(
                [*report.details(first, spec, _repeat(options)), "", "Without the smoke case no other proves anything."]
            )
            return 2
        others = [case for case in chosen if case is not smoke]
        results = run(others, spec, first.hello, settings, _Progress(len(others)).show)
    if smoke in chosen:
        results = [first, *results]
    outcome = Run(first.hello, results, complete=len(chosen) == len(cases))
    _say(report.text(outcome, spec, _repeat(options)))
    _write(spec, outcome, options)
    return 1 if outcome.failed else 0


def _write(spec: Spec, outcome: Run, options: argparse.Namespace) -> None:
    document = report.document(outcome, spec)
    if options.json:
        _save(options.json, documents.dump(document))
    if options.junit:
        _save(options.junit, report.junit(outcome))
    if options.html:
        _save(options.html, page.page([document]).encode())


def _join(options: argparse.Namespace) -> int:
    """Make the page of earlier reports."""
    try:
        found = [report.read(path.read_bytes(), str(path)) for path in options.reports]
    except OSError as error:
        raise SuiteError(f"{error.filename} cannot be read: {error.strerror}") from error
    _save(options.html, page.page(found).encode())
    return 0


def _launcher(options: argparse.Namespace) -> AbstractContextManager[Launcher]:
    """What starts the adapter, which runs elsewhere: words of a command that are files here get absolute paths."""
    if options.module:
        return processes.module(options.module)
    first, *others = shlex.split(options.command, posix=os.name == "posix") or [""]
    here = [word if not os.path.isfile(word) else os.path.abspath(word) for word in others]
    return nullcontext(processes.Command([os.path.abspath(first) if os.path.dirname(first) else first, *here]))


def _repeat(options: argparse.Namespace) -> str:
    """The command of this run without its choice of cases and its reports."""
    words = ["--module", options.module] if options.module else ["--command", options.command]
    if options.timeout != _TIMEOUT:
        words += ["--timeout", f"{options.timeout:g}"]
    return shlex.join(["python", "-m", "conformance", *words, *(["--strict"] if options.strict else [])])


def _listed(case: Case) -> str:
    needs = ", ".join(name for name in cases_.CAPABILITIES if name in case.capabilities)
    return f"{case.section}/{case.id} [{', '.join(case.clauses)}] ({needs})\n    {case.description}"


class _Progress:
    """A line on the terminal, if there is one, that says how far the run is."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def show(self, result: Result) -> None:
        self._done += 1
        if sys.stderr.isatty():
            line = f"{self._done} of {self._total}: {result.case.id}" if self._done < self._total else ""
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()


def _say(lines: Iterable[str], stream: TextIO | None = None) -> None:
    (stream or sys.stdout).writelines(f"{line}\n" for line in lines)


def _save(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise SuiteError(f"{path} cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
