"""What the suite makes of adapters of every kind, good and bad; these are toys, written where the test runs."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest

from conformance import processes, serve
from conformance.__main__ import main
from conformance.client import Client
from conformance.trials import Outcome

SPEC = """\
Version: 1.0
## Tables [CSV]
<a id="CSV-001"></a>**[CSV-001]** A reader MUST report `table-checksum` <at once>.
<a id="CSV-002"></a>**[CSV-002]** A reader SHOULD be quick.
<a id="CSV-003"></a>**[CSV-003]** A reader MUST NOT be [idle](#idle).
## Appendix A: error codes
| `table-checksum` | … |
| `exists` | … |
"""

TOY = """
import os, subprocess, sys, time

class ToyError(Exception):
    pass

class Toy:
    name, version = "toy", "1.0"
    capabilities = ["read", "codes", "write"]

    def open(self, manifest, root="main"):
        self.directory = os.path.dirname(manifest)

    def run(self, name, root="main"):
        getattr(self, "do_" + name, lambda: None)()
        return {"name": name}

    def create(self, kind, key, data=None, root="main"):
        open(os.path.join(self.directory, ".leftover"), "w").close()

    def do_hang(self):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        time.sleep(60)

    def do_crash(self):
        print("now I crash", file=sys.stderr)
        os._exit(3)

    def do_die(self):
        os.kill(os.getpid(), 9)

    def do_noise(self):
        print("noise")
        os.system("echo more noise; cat")

    def do_checksum(self):
        raise ToyError("the sum of \\x1b " + self.directory)

    def do_bug(self):
        return 1 / 0

    def do_wait(self):
        while not os.path.exists(os.path.join(self.directory, "signal")):
            time.sleep(0.01)

    def do_reach_out(self):
        import json, urllib.request
        from urllib.error import URLError
        refused = []
        for url in ("http://portal.invalid/", "https://portal.invalid/", os.environ["AWS_ENDPOINT_URL"]):
            try:
                urllib.request.urlopen(url)
            except URLError as error:
                refused.append(type(error.reason).__name__)
        raise RuntimeError(json.dumps([refused, sorted(name for name in os.environ if name.startswith("AWS_"))]))

    def do_linger(self):
        import threading
        threading.Thread(target=time.sleep, args=(60,)).start()

    def error_code(self, error):
        return "table-checksum" if isinstance(error, ToyError) else None

class Codeless(Toy):
    capabilities = ["read", "write"]
    error_code = None

class Reader(Toy):
    capabilities = ["read"]

class Flying(Toy):
    capabilities = ["read", "fly"]

class Unborn(Toy):
    def __init__(self):
        raise RuntimeError("no birth")
"""

OPEN = {"op": "open", "manifest": "{project}/Croissant/metadata.json"}


def do(name: str, **members: Any) -> dict[str, Any]:
    return {"op": "run", "name": name, **members}


class Suite:
    """A suite of our own, in a directory from which toys can be imported."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "SPEC.md").write_text(SPEC, encoding="utf-8")
        (directory / "toys.py").write_text(TOY, encoding="utf-8")
        manifest = directory / "conformance" / "fixtures" / "tiny" / "project" / "Croissant" / "metadata.json"
        manifest.parent.mkdir(parents=True)
        manifest.write_text('{"recordSet": [{"@id": "copick/runs"}]}')
        self.case("smoke", [OPEN])

    def case(self, name: str, steps: list[dict[str, Any]], *clauses: str, **members: Any) -> None:
        path = self.directory / "conformance" / "cases" / "csv" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "id": name,
            "clauses": clauses or ["CSV-001"],
            "capabilities": ["read"],
            "description": f"What {name} does.",
            "fixture": "tiny",
            "steps": steps,
            **members,
        }
        path.write_text(json.dumps(document), encoding="utf-8")

    def run(self, *arguments: str, toy: str = "Toy") -> int:
        return main(["--module", f"toys:{toy}", "--jobs", "2", *arguments], self.directory / "conformance")

    def command(self, program: str, *arguments: str) -> int:
        (self.directory / "program.py").write_text(program, encoding="utf-8")
        words = f"{sys.executable} program.py"
        return main(["--command", words, "--timeout", "10", *arguments], self.directory / "conformance")

    def result(self, name: str, *arguments: str, toy: str = "Toy") -> dict[str, Any]:
        """What the JSON report says of one case."""
        report = self.directory / "report.json"
        self.run("--case", name, "--json", str(report), *arguments, toy=toy)
        (case,) = json.loads(report.read_bytes())["cases"]
        found: dict[str, Any] = case
        return found


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.chdir(tmp_path)
    return Suite(tmp_path)


@pytest.fixture(autouse=True)
def _leaves_no_workspace(tmp_path: Path) -> Any:
    yield
    assert not any((tmp_path / "temporary").glob("*"))


# --- outcomes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "outcome", "wanted", "got"),
    [
        ([OPEN, do("x", expect={"name": "x"})], "pass", "", ""),
        ([OPEN, do("noise", expect={"name": "noise"})], "pass", "", ""),
        ([OPEN, do("checksum", error="table-checksum")], "pass", "", ""),
        ([OPEN, do("x", expect={"name": "y"})], "fail", 'name: "y"', 'name: "x"'),
        ([OPEN, do("x", error="exists")], "fail", "the error exists", 'success: {"name": "x"}'),
        (
            [OPEN, do("checksum", error="exists")],
            "fail",
            "the error exists",
            "the error table-checksum: the sum of \\x1b {work}/project/Croissant",
        ),
        ([do("bug", error="exists")], "fail", "the error exists", "the error without a code: division by zero"),
        ([do("bug")], "fail", "success", "the error without a code: division by zero"),
        ([do("bug", expect=1)], "fail", "1", "the error without a code: division by zero"),
        ([do("crash")], "error", "", "it exited with code 3 before it answered run"),
        ([do("die")], "error", "", "it died of signal 9 before it answered run"),
        ([{"op": "splits"}], "error", "", "it does not support splits: the adapter has no method splits"),
        ([{"op": "splits", "error": "exists"}], "error", "", "it does not support splits: "),
        ([do("x"), {"edit": "remove", "path": "nowhere"}], "error", "", "the edit cannot be made: [Errno 2]"),
        (
            [{"disk": [{"check": "absent", "path": "project"}]}, do("crash")],
            "fail",
            "nothing at project",
            "a directory",
        ),
    ],
)
def test_outcomes(suite: Suite, steps: list[dict[str, Any]], outcome: str, wanted: str, got: str) -> None:
    suite.case("a", steps)
    result = suite.result("a")
    assert (result["outcome"], result["wanted"]) == (outcome, wanted)
    assert result["got"].startswith(got)


def test_an_operation_without_a_needed_argument_is_a_fault_of_the_adapter(suite: Suite) -> None:
    suite.case("a", [{**OPEN, "config": {}, "error": "exists"}], capabilities=["read", "config"])
    toys = suite.directory / "toys.py"
    toys.write_text(toys.read_text().replace('"codes"', '"config"'))
    assert suite.result("a")["got"].endswith(
        "does not take these arguments: got an unexpected keyword argument 'config'"
    )


def test_a_hang_ends_with_the_whole_process_group(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    suite.case("a", [do("hang")])
    started = time.monotonic()
    assert suite.run("--case", "a", "--timeout", "1") == 1
    assert time.monotonic() - started < 20
    out = capsys.readouterr().out
    assert "ERROR  a: What a does." in out
    assert "the adapter: it did not answer run within 1 seconds" in out
    assert "again:  python -m conformance --module toys:Toy --timeout 1 --case a" in out


def test_an_adapter_must_end_with_its_input(suite: Suite) -> None:
    suite.case("a", [do("linger")])
    result = suite.result("a", "--timeout", "1")
    assert (result["outcome"], result["step"]) == ("error", "end")
    assert result["got"] == "it did not exit after standard input had ended within 1 seconds"


def test_an_implementation_without_codes_only_has_to_fail(suite: Suite) -> None:
    suite.case("a", [do("bug", error="exists")])
    suite.case("b", [do("x", error="exists")])
    assert suite.result("a", toy="Codeless")["outcome"] == "pass"
    result = suite.result("b", toy="Codeless")
    assert (result["outcome"], result["wanted"]) == ("fail", "an error")


def test_what_is_not_claimed_is_skipped(suite: Suite) -> None:
    suite.case("a", [OPEN], capabilities=["read", "volumes", "portal"])
    result = suite.result("a")
    assert (result["outcome"], result["reason"]) == ("skip", "portal, volumes not claimed")


SIGNAL = {"edit": "write", "path": "project/Croissant/signal", "text": ""}


def test_steps_are_done_while_an_answer_is_waited_for(suite: Suite) -> None:
    suite.case("a", [OPEN, do("wait", meanwhile=[{"disk": [{"check": "unchanged"}]}, SIGNAL], expect={"name": "wait"})])
    assert suite.result("a")["outcome"] == "pass"
    suite.case("b", [OPEN, do("wait", meanwhile=[SIGNAL, {"disk": [{"check": "absent", "path": "project"}]}])])
    result = suite.result("b")
    assert (result["outcome"], result["wanted"]) == ("fail", "nothing at project")
    assert result["got"] == 'a directory with Croissant (step 2, meanwhile 2: absent {"path": "project"})'
    suite.case("c", [OPEN, do("crash", meanwhile=[SIGNAL])])
    assert suite.result("c")["outcome"] == "error"


@pytest.mark.parametrize(
    ("name", "got"), [("x", '{"name": "x"}'), ("bug", "the error without a code: division by zero")]
)
def test_an_answer_before_those_steps_is_a_failure(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, name: str, got: str
) -> None:
    monkeypatch.setattr("conformance.play._MEANWHILE_SECONDS", 60)  # so it is waited for
    suite.case("a", [OPEN, do(name, meanwhile=[SIGNAL])])
    result = suite.result("a")
    assert (result["outcome"], result["wanted"], result["got"]) == (
        "fail",
        "no answer while somebody else has the lock",
        got,
    )


def test_cases_with_a_lock_are_skipped_where_there_is_none(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    suite.case("a", [OPEN, {"edit": "lock"}])
    assert suite.result("a")["outcome"] == "pass"
    monkeypatch.setattr("conformance.runner.CAN_LOCK", False)
    result = suite.result("a")
    assert (result["outcome"], result["reason"]) == ("skip", "there is no flock(2) here")


def test_what_writes_is_checked_for_consistency(suite: Suite) -> None:
    create: dict[str, Any] = {"op": "create", "kind": "runs", "key": {"name": "x"}}
    suite.case("a", [OPEN, create], capabilities=["read", "write"])
    result = suite.result("a")
    assert (result["outcome"], result["step"]) == ("fail", "at the end: consistent")
    assert ".leftover lies beside metadata.json" in result["got"]


def test_standard_error_is_shown(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    suite.case("a", [do("crash")])
    assert suite.run("--case", "a") == 1
    assert "its standard error ended with\n    now I crash\n" in capsys.readouterr().out


LOOP = """
import json, sys
HELLO = {"protocol": 1, "spec": "1.0", "name": "p", "version": "0", "capabilities": ["read"]}
for line in sys.stdin:
    request = json.loads(line)
    answer = {"ok": HELLO if request["op"] == "hello" else None}
"""


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (LOOP + "    print(json.dumps(answer), flush=True)", ""),
        (
            LOOP + "    print('hm', flush=True)",
            "its answer is not JSON (Expecting value: line 1 column 1 (char 0)): hm",
        ),
        (LOOP + "    print('[]', flush=True)", "its answer is no response of the protocol: []"),
        (LOOP + '    print(\'{"ok": 1, "more": 2}\', flush=True)', "its answer is no response of the protocol: "),
        (LOOP + '    print(\'{"error": {"code": 1}}\', flush=True)', "its answer is no response of the protocol: "),
        (LOOP + "    sys.stdout.buffer.write(b'\\xff\\n'); sys.stdout.flush()", "its answer is not JSON ('utf-8'"),
        (LOOP + "    print(json.dumps(answer), end=''); break", "it exited with code 0 before it answered hello"),
        (LOOP + "    print(json.dumps(answer)); print(1, flush=True)", "its answer is no response of the protocol: 1"),
        (
            LOOP + "    print(json.dumps(answer), flush=True)\nprint('bye')",
            "it wrote more than one line for each request: bye",
        ),
        (
            LOOP + "    print(json.dumps(answer), flush=True)\nsys.exit(4)",
            "it exited with code 4 when standard input had ended",
        ),
        (
            LOOP + "    print('{\"ok\": {}}', flush=True)",
            "hello: no protocol, spec, name, version and capabilities in {}",
        ),
        (
            LOOP.replace('"protocol": 1', '"protocol": 2') + "    print(json.dumps(answer), flush=True)",
            "hello: the protocol is 2, and 1 is spoken here",
        ),
        (
            LOOP + "    print(json.dumps(answer).replace('null', 'NaN'), flush=True)",
            "its answer is not JSON (NaN is not JSON)",
        ),
        ("import sys; sys.exit('no')", "it exited with code 1 before it answered hello"),
    ],
)
def test_commands_that_speak_the_protocol_or_do_not(
    suite: Suite, capsys: pytest.CaptureFixture[str], program: str, words: str
) -> None:
    assert suite.command(program) == (2 if words else 0)
    out = capsys.readouterr().out
    assert words in out
    assert ("Without the smoke case no other proves anything." in out) is bool(words)


def test_a_module_is_imported_once(suite: Suite) -> None:
    log = suite.directory / "log"
    toys = suite.directory / "toys.py"
    toys.write_text(
        f"""{toys.read_text()}
def log(*words):
    with open({str(log)!r}, "a") as file:
        print(*words, file=file)

log("import")

class Logging(Toy):
    imports = ["colorsys"]

    def do_log(self):
        at_first = "colorsys" in sys.modules
        log(os.getpid() == os.getpgid(0), os.getcwd() == os.path.dirname(os.path.dirname(self.directory)), at_first)
"""
    )
    for name in "abc":
        suite.case(name, [OPEN, do("log")])
    assert suite.run(toy="Logging") == 0
    assert log.read_text().splitlines() == ["import"] + ["True True True"] * 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("import nowhere", "No module named 'nowhere'"),
        ("raise SystemExit('no toys today')", "no toys today"),
        ("os._exit(3)", "it cannot be started: the process that imports the module has ended"),
    ],
)
def test_a_module_that_cannot_be_imported(
    suite: Suite, capsys: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    toys = suite.directory / "toys.py"
    toys.write_text(f"{toys.read_text()}\n{line}\n")
    assert suite.run() == 2
    assert words in capsys.readouterr().out


def test_a_process_that_is_not_waited_for(suite: Suite) -> None:
    """Who starts one is told of its end later, too."""
    with processes.module("toys:Toy") as launcher:
        client = Client(launcher, str(suite.directory), 60)
        process = client._process
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        assert process.returncode is None
        client.finish()
        assert process.wait() == process.returncode == 0
        client.kill()
        assert client.stderr() == ""


def test_the_process_that_imports_is_waited_for_where_a_run_fails(suite: Suite) -> None:
    def children() -> set[int]:
        return {child.pid for child in psutil.Process().children()}

    before = children()
    with processes.module("toys:Toy"):
        assert children() - before
    with pytest.raises(KeyError), processes.module("toys:Toy"):
        raise KeyError
    assert not children() - before


def test_a_command_that_does_not_exist(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--command", "no-such-program"], suite.directory / "conformance") == 2
    assert "no-such-program cannot be started: No such file or directory" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("toy", "words"),
    [
        ("Flying", 'hello: there is no capability "fly"'),
        ("Unborn", "RuntimeError: no birth"),
        ("Missing", "has no attribute 'Missing'"),
    ],
)
def test_modules_that_do_not_pass_the_smoke_case(
    suite: Suite, capsys: pytest.CaptureFixture[str], toy: str, words: str
) -> None:
    assert suite.run(toy=toy) == 2
    assert words in capsys.readouterr().out


# --- where adapters run ----------------------------------------------------------------------------------


def test_adapters_reach_no_other_host(
    suite: Suite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "somebody")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://elsewhere.invalid")
    monkeypatch.setenv("HTTPS_PROXY", "http://elsewhere.invalid")
    suite.case("a", [do("reach_out")])
    assert suite.run() == 1
    found = re.search(r"the error without a code: (.*)", capsys.readouterr().out)
    assert found
    refused, names = json.loads(found.group(1))
    assert refused == ["ConnectionRefusedError"] * 3
    assert {"AWS_ENDPOINT_URL", "AWS_MAX_ATTEMPTS"} <= set(names)
    assert not {"AWS_PROFILE", "AWS_ENDPOINT_URL_S3"} & set(names)


# --- the run ---------------------------------------------------------------------------------------------


def test_a_run_that_conforms(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    suite.case("a", [OPEN])
    suite.case("b", [OPEN], capabilities=["read", "export"])
    assert suite.run() == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "toy 1.0 implements SPEC.md 1.0, and is judged by 1.0",
        "  read     conforms (not claimed: volumes, meshes, portal, config, http, s3)",
        "  write    conforms (not claimed: volumes, meshes, config, http, s3, batch, merge, locks)",
        "  overlay  not claimed",
        "  export   not claimed",
        "3 cases: 2 passed, 1 skipped",
    ]


def test_a_run_that_does_not(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    suite.case("a", [OPEN, do("x", expect=1)], "CSV-001", "CSV-002")
    suite.case("b", [OPEN], capabilities=["read", "write"])
    assert suite.run("--timeout", "9.5") == 1
    unclaimed = "not claimed: volumes, meshes, config, http, s3, batch, merge, locks"
    assert capsys.readouterr().out.splitlines()[:12] == [
        "FAIL  a: What a does.",
        "  [CSV-001] A reader MUST report `table-checksum` <at once>.",
        "  [CSV-002] A reader SHOULD be quick.",
        '  step 2: run {"name": "x"}',
        "  wanted: 1",
        '  got:    {"name": "x"}',
        "  again:  python -m conformance --module toys:Toy --timeout 9.5 --case a",
        "",
        "toy 1.0 implements SPEC.md 1.0, and is judged by 1.0",
        "  read     does not conform: 1 of 2 cases fail (not claimed: volumes, meshes, portal, config, http, s3)",
        f"  write    does not conform: 1 of 3 cases fail ({unclaimed})",
        "  overlay  not claimed",
    ]


def test_cases_that_only_advise_warn_and_fail_when_strict(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    suite.case("a", [do("x", expect=1)], "CSV-002")
    suite.case("b", [do("crash")], "CSV-002")
    assert suite.run("--case", "a") == 0
    out = capsys.readouterr().out
    assert "WARN  a" in out
    assert "1 case: 1 with warnings" in out
    assert "no verdict, as not all cases were run" in out
    assert suite.run("--case", "a", "--strict") == 1
    out = capsys.readouterr().out
    assert "FAIL  a" in out
    assert "again:  python -m conformance --module toys:Toy --strict --case a" in out
    assert suite.run("--case", "b") == 1


def expected(suite: Suite, *lines: str) -> list[str]:
    path = suite.directory / "expected.txt"
    path.write_text("# known\n\n" + "\n".join(lines), encoding="utf-8")
    return ["--expected-failures", str(path)]


def test_an_expected_failure_does_not_fail_the_run_and_conforms_no_more_for_that(
    suite: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    suite.case("a", [do("x", expect=1)])
    assert suite.run(*expected(suite, "a [CSV-001] it says x")) == 0
    out = capsys.readouterr().out
    assert "read     does not conform: 1 of 2 cases fail" in out
    assert "2 cases: 1 passed, 1 failed as expected" in out
    result = suite.result("a", *expected(suite, "a [CSV-001] it says x"))
    assert (result["outcome"], result["reason"]) == ("expected", "[CSV-001] it says x")


def test_an_expected_failure_that_passes_fails_the_run(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    suite.case("a", [OPEN])
    assert suite.run("--junit", "junit.xml", *expected(suite, "a [CSV-001] it says x")) == 1
    out = capsys.readouterr().out
    assert "STALE  a" in out
    assert "It passes. Remove it from the expected failures: [CSV-001] it says x" in out
    assert "read     conforms" in out
    assert ElementTree.parse(suite.directory / "junit.xml").getroot().get("failures") == "1"


def test_an_expected_failure_that_crashes_is_an_error(suite: Suite) -> None:
    suite.case("a", [do("crash")])
    assert suite.run(*expected(suite, "a [CSV-001] it crashes")) == 1
    assert suite.result("a", *expected(suite, "a [CSV-001] it crashes"))["outcome"] == "error"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["b [CSV-001] there is none"], "expected.txt, line 3: there is no case b"),
        (["a [CSV-003] not that"], "line 3: the case a does not cite CSV-003"),
        (["a [CSV-001] one", "a [CSV-001] two"], "line 4: the case a is there twice"),
        (["a CSV-001"], "line 3: a line is 'case-id [CLAUSE-ID] reason', and not 'a CSV-001'"),
    ],
)
def test_malformed_expectations(suite: Suite, capsys: pytest.CaptureFixture[str], lines: list[str], words: str) -> None:
    suite.case("a", [OPEN])
    assert suite.run(*expected(suite, *lines)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"conformance: .*\n", err)
    assert words in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give one of --module, --command, --from and --list"),
        (["--module", "a:b", "--command", "c"], "give one of --module, --command, --from and --list"),
        (["--module", "a"], "--module takes package.module:Class"),
        (["--from", "a.json"], "--from makes --html, and nothing else"),
        (["--from", "a.json", "--html", "a", "--json", "b"], "--from makes --html, and nothing else"),
        (["--module", "a:b", "--jobs", "0"], "argument --jobs: invalid positive integer value: '0'"),
        (["--module", "a:b", "--timeout", "x"], "argument --timeout: invalid positive number value: 'x'"),
        (["--module", "a:b", "--html", "nowhere/a.html"], "there is no directory nowhere"),
        (["--module", "a:b", "--keep", "."], ". is no empty directory"),
        (["--modul", "a:b"], "unrecognized arguments: --modul a:b"),
    ],
)
def test_wrong_usage(suite: Suite, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments, suite.directory / "conformance")
    assert exit_.value.code == 2
    assert capsys.readouterr().err == f"conformance: {words}; see --help\n"


@pytest.mark.parametrize(
    ("spoil", "arguments", "words"),
    [
        (lambda suite: suite.case("a", [{"op": "fly"}]), [], "cases/csv/a.json: step 1: there is no op 'fly'"),
        (lambda suite: (suite.directory / "SPEC.md").unlink(), [], "SPEC.md cannot be read"),
        (lambda suite: (suite.directory / "conformance/cases/csv/smoke.json").unlink(), [], "there are no cases in"),
        (
            lambda suite: (
                suite.case("a", [OPEN]),
                (suite.directory / "conformance/cases/csv/smoke.json").unlink(),
            ),
            [],
            "there is no case smoke",
        ),
        (lambda suite: None, ["--case", "b"], "there is no case b"),
        (lambda suite: None, ["--clause", "CSV-009"], "there is no clause CSV-009"),
        (lambda suite: None, ["--clause", "CSV-003"], "no case cites CSV-003"),
        (lambda suite: None, ["--expected-failures", "nowhere"], "nowhere cannot be read"),
    ],
)
def test_a_broken_suite(
    suite: Suite,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Suite], Any],
    arguments: list[str],
    words: str,
) -> None:
    spoil(suite)
    assert suite.run(*arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err


def test_cases_are_listed_and_chosen(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    suite.case("a", [OPEN], "CSV-002", capabilities=["http", "read"])
    suite.case("b", [OPEN], "CSV-002", "CSV-003")
    directory = suite.directory / "conformance"
    assert main(["--list", "--clause", "CSV-002"], directory) == 0
    assert capsys.readouterr().out == (
        "csv/a [CSV-002] (read, http)\n    What a does.\ncsv/b [CSV-002, CSV-003] (read)\n    What b does.\n"
    )
    assert main(["--list", "--clause", "CSV-003", "--case", "smoke"], directory) == 0
    assert re.findall(r"csv/(\w+)", capsys.readouterr().out) == ["b", "smoke"]


def test_workspaces_are_kept_on_demand(suite: Suite) -> None:
    suite.case("a", [{"edit": "write", "path": "new", "text": "x"}])
    assert suite.run("--case", "a", "--keep", "kept") == 0
    assert (suite.directory / "kept" / "a" / "new").read_text() == "x"
    assert sorted(os.listdir(suite.directory / "kept")) == ["a", "smoke"]


def test_progress_is_shown_on_a_terminal_only(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for name in "abc":
        suite.case(name, [OPEN])
    assert suite.run() == 0
    assert re.findall(r"\d of 3", terminal.getvalue()) == ["1 of 3", "2 of 3"]
    assert terminal.getvalue().endswith("\r\x1b[K")


# --- reports ---------------------------------------------------------------------------------------------


class _Balance(HTMLParser):
    """Counts elements and sees that each is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read_page(path: Path) -> str:
    parser = _Balance()
    parser.feed(path.read_text(encoding="utf-8"))
    parser.close()
    assert parser.open == []
    return " ".join("".join(parser.text).split())


def fill(suite: Suite) -> list[str]:
    """A case of every outcome, and the arguments that bring them about."""
    suite.case("a-pass", [OPEN])
    suite.case("b-fail", [do("<b>&\x01", expect=1)])
    suite.case("c-error", [do("crash")])
    suite.case("d-warn", [do("x", expect=1)], "CSV-002")
    suite.case("e-skip", [OPEN], capabilities=["read", "http"])
    suite.case("f-expected", [do("x", expect=1)])
    return expected(suite, "f-expected [CSV-001] a <reason>")


OUTCOMES = ["pass", "fail", "error", "warn", "skip", "expected", "pass"]


def test_the_json_report(suite: Suite) -> None:
    arguments = fill(suite)
    assert suite.run("--json", "a.json", *arguments) == 1
    assert suite.run("--json", "b.json", *arguments) == 1
    text = (suite.directory / "a.json").read_text(encoding="utf-8")
    assert str(suite.directory) not in text

    def timeless(name: str) -> str:
        return re.sub(r'"seconds": [\d.e-]+', "", (suite.directory / name).read_text(encoding="utf-8"))

    assert timeless("a.json") == timeless("b.json")
    report = json.loads(text)
    assert [case["outcome"] for case in report["cases"]] == ["pass", *OUTCOMES[:-1]]
    assert report["totals"] == {"pass": 2, "fail": 1, "error": 1, "expected": 1, "warn": 1, "skip": 1}
    assert report["profiles"]["read"]["verdict"] == "does not conform"
    assert report["implementation"] == {
        "name": "toy",
        "version": "1.0",
        "spec": "1.0",
        "capabilities": ["codes", "read", "write"],
    }
    assert report["clauses"][1] == {
        "id": "CSV-002",
        "section": "CSV",
        "keyword": "SHOULD",
        "text": "A reader SHOULD be quick.",
    }


def test_reports_have_the_figures_of_trials(
    suite: Suite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = Outcome(None, {"kills": 3, "kills survived": 2})
    monkeypatch.setattr("conformance.trials.TRIALS", {"kills": lambda *_, **__: outcome})
    operation = {"op": "create", "kind": "runs", "key": {"name": "x"}}
    trial = {"trial": "kills", "writer": [operation], "kills": 3, "seed": 1}
    suite.case("a", [OPEN, trial], capabilities=["read", "write"], consistent=False)
    assert suite.run("--json", "a.json", "--html", "a.html") == 0
    assert "  a: 3 kills, 2 kills survived\n" in capsys.readouterr().out
    cases = json.loads((suite.directory / "a.json").read_bytes())["cases"]
    assert {case["id"]: case["figures"] for case in cases} == {"smoke": {}, "a": dict(outcome.figures)}
    assert read_page(suite.directory / "a.html").count("3 kills, 2 kills survived") == 2


def test_the_junit_report(suite: Suite) -> None:
    assert suite.run("--junit", "junit.xml", *fill(suite)) == 1
    root = ElementTree.parse(suite.directory / "junit.xml").getroot()
    assert root.attrib == {
        "name": "toy 1.0",
        "tests": "7",
        "failures": "1",
        "errors": "1",
        "skipped": "2",
    }
    children = {test.get("name"): [child.tag for child in test] for test in root}
    assert children == {
        "smoke": [],
        "a-pass": [],
        "b-fail": ["failure"],
        "c-error": ["error", "system-err"],
        "d-warn": ["system-out"],
        "e-skip": ["skipped"],
        "f-expected": ["skipped"],
    }
    failure = root.find("testcase[@name='b-fail']/failure")
    assert failure is not None
    assert failure.get("message") == 'wanted 1, got {"name": "<b>&\\u0001"}'


def test_the_page_of_a_run_and_of_reports(suite: Suite) -> None:
    arguments = fill(suite)
    assert suite.run("--json", "a.json", "--html", "a.html", *arguments) == 1
    text = read_page(suite.directory / "a.html")
    assert '<b>&\\u0001"' in text
    assert "a <reason>" in text
    assert "MUST NOT be idle." in text
    assert "table-checksum <at once>." in text
    for word in ("fails as expected", "no case", "error", "read does not conform, 3 of 6 cases fail", "0 of 3 pass"):
        assert word in text
    assert str(suite.directory) not in (suite.directory / "a.html").read_text(encoding="utf-8")

    assert suite.run("--case", "a-pass", "--json", "b.json", toy="Reader") == 0
    assert main(["--from", "a.json", "--from", "b.json", "--html", "both.html"]) == 0
    page = (suite.directory / "both.html").read_text(encoding="utf-8")
    assert page.count('<th scope="col">') == 3
    assert "Not all cases were run, so there is no verdict." in read_page(suite.directory / "both.html")


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "a.json is not JSON"), ("{}", "a.json is no report of this suite"), (None, "a.json cannot be read")],
)
def test_a_page_of_something_else(
    suite: Suite, capsys: pytest.CaptureFixture[str], text: str | None, words: str
) -> None:
    if text is not None:
        Path("a.json").write_text(text)
    assert main(["--from", "a.json", "--html", "a.html"]) == 2
    assert words in capsys.readouterr().err
    assert not (suite.directory / "a.html").exists()


def test_a_report_that_cannot_be_written(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    (suite.directory / "a.json").mkdir()
    assert suite.run("--json", "a.json") == 2
    assert "a.json cannot be written: Is a directory" in capsys.readouterr().err


# --- the command and the server --------------------------------------------------------------------------


def test_the_command_itself(suite: Suite) -> None:
    def conformance(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "conformance", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    found = conformance("--help")
    assert (found.returncode, found.stderr) == (0, "")
    for word in ("--module", "--expected-failures", "examples:", "exit codes:"):
        assert word in found.stdout
    found = conformance()
    assert (found.returncode, found.stdout) == (2, "")


class _Calculator:
    name, version, capabilities, spec = "calculator", "1", ("read",), "0.9"

    def run(self, name: str) -> Any:
        if name == "text":
            return "Å"
        raise KeyError(name)


def test_a_class_is_served() -> None:
    requests = ['{"op": "hello"}', '{"op": "run", "name": "text"}', '{"op": "run", "name": "x"}', '{"op": "name"}']
    responses = io.StringIO()
    serve.serve(_Calculator(), requests, responses)
    hello, text, error, unsupported = map(json.loads, responses.getvalue().splitlines())
    assert hello["ok"] == {
        "protocol": 1,
        "spec": "0.9",
        "name": "calculator",
        "version": "1",
        "capabilities": ["read"],
    }
    assert text == {"ok": "Å"}
    assert error == {"error": {"code": None, "message": "'x'"}}
    assert unsupported["error"]["code"] == "unsupported"


@pytest.mark.parametrize("name", ["nan", "object"])
def test_a_result_that_is_no_json_ends_the_server(name: str) -> None:
    class Adapter(_Calculator):
        def run(self, name: str) -> Any:
            return {"nan": float("nan"), "object": object()}[name]

    with pytest.raises((TypeError, ValueError), match="JSON"):
        serve.serve(Adapter(), [json.dumps({"op": "run", "name": name})], io.StringIO())
