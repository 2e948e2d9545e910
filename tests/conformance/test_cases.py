from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from conformance import cases, spec
from conformance.edits import EDITS
from conformance.matching import ANY
from conformance.observer import CHECKS
from conformance.spec import SuiteError
from conformance.tables import TABLES
from conformance.trials import TRIALS

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "conformance" / "case.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SPEC = spec.load(ROOT / "SPEC.md")
OPEN = {"op": "open", "manifest": "{project}/Croissant/metadata.json"}
CREATE = {"op": "create", "kind": "runs", "key": {"name": "TS_009"}}
EXPORT = {"op": "export", "source": "{project}/config.json", "project_root": "{project}", "options": {}}
APPEND = {"op": "append", "manifest": OPEN["manifest"], "source": "{work}/config.json", "options": {}}
KILLS = {"trial": "kills", "writer": [CREATE], "kills": 2, "seed": 1}
WRITERS = {"trial": "writers", "writers": [[CREATE], [CREATE]], "rounds": 2}
PUBLICATION = {"source": "{project}/copick_config.json", "project_root": "{work}/out", "options": {}}
PUBLICATIONS = {"trial": "publications", "publish": PUBLICATION, "kills": 2, "seed": 1}
CHANGING = {
    "trial": "changing_source",
    "publish": PUBLICATION,
    "source": "a",
    "copy": "b",
    "texts": ["1", "2"],
    "times": 2,
}
READS = {"trial": "reads", "append": {"runs": "run-{round}-{row}"}, "rows": 2, "commits": 2, "seed": 1}


def case(**members: Any) -> dict[str, Any]:
    """A good case, but for the members given; None takes one out."""
    good = {
        "id": "a-case",
        "clauses": ["CSV-004"],
        "capabilities": ["read"],
        "description": "A case.",
        "fixture": "minimal",
        "steps": [OPEN],
    }
    return {name: value for name, value in {**good, **members}.items() if value is not None}


def load(directory: Path, *documents: dict[str, Any]) -> list[cases.Case]:
    for document in documents:
        path = directory / "csv" / f"{document.get('id', 'a-case')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document), encoding="utf-8")
    return cases.load(directory, ROOT / "conformance" / "fixtures", SPEC)


# --- the cases of the suite ------------------------------------------------------------------------------


def test_all_cases_are_valid() -> None:
    wrong = {}
    for path in sorted((ROOT / "conformance" / "cases").glob("*/*.json")):
        errors = [error.message for error in VALIDATOR.iter_errors(json.loads(path.read_bytes()))]
        if errors:
            wrong[path.name] = errors
    assert wrong == {}


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(("kind", "registry"), [("edit", EDITS), ("trial", TRIALS), ("check", CHECKS)])
def test_the_schema_has_the_arguments_of_edits_trials_and_checks(
    kind: str, registry: Mapping[str, Callable[..., Any]]
) -> None:
    declared = {
        name.removeprefix(f"{kind}-"): ({*definition["properties"]} - {kind}, {*definition["required"]} - {kind})
        for name, definition in SCHEMA["$defs"].items()
        if name.startswith(f"{kind}-")
    }
    written = {}
    for name, function in registry.items():
        parameters = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
        written[name] = (
            {p.name.rstrip("_") for p in parameters},
            {p.name.rstrip("_") for p in parameters if p.default is p.empty},
        )
    assert declared == written


def test_the_schema_has_the_operations_and_capabilities_of_the_protocol_and_the_tables() -> None:
    protocol = (ROOT / "conformance" / "PROTOCOL.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in protocol.splitlines() if line.startswith("| `")]
    names = [name.strip(" `") for row in rows for name in row.split(",")]
    operations = [name.removeprefix("op-") for name in SCHEMA["$defs"] if name.startswith("op-")]
    assert names == [*cases.CAPABILITIES, *operations]
    assert SCHEMA["$defs"]["table"]["enum"] == list(TABLES)
    for definition, kind in (("operation", "op"), ("edit", "edit"), ("trial", "trial"), ("check", "check")):
        names = [name.removeprefix(f"{kind}-") for name in SCHEMA["$defs"] if name.startswith(f"{kind}-")]
        declared = SCHEMA["$defs"][definition]
        assert declared["properties"][kind]["enum"] == names
        assert declared["allOf"] == [
            {"if": {"properties": {kind: {"const": name}}}, "then": {"$ref": f"#/$defs/{kind}-{name}"}}
            for name in names
        ]


# --- reading ---------------------------------------------------------------------------------------------


def test_a_case_is_read_into_steps(tmp_path: Path) -> None:
    steps = [
        {**OPEN, "root": "other"},
        {"op": "run", "name": "TS_001", "expect": None},
        {"edit": "remove", "path": "project"},
        {"disk": [{"check": "unchanged"}, {"check": "absent", "path": "project"}]},
        {**OPEN, "error": "manifest-missing"},
    ]
    document = case(steps=steps, disk=[{"check": "unchanged", "except": ["*"]}])
    VALIDATOR.validate(document)
    (found,) = load(tmp_path, document)
    assert [(step.place, step.action.kind, step.action.name) for step in found.steps] == [
        ("step 1", "op", "open"),
        ("step 2", "op", "run"),
        ("step 3", "edit", "remove"),
        ("step 4", "check", "unchanged"),
        ("step 4", "check", "absent"),
        ("step 5", "op", "open"),
        ("at the end", "check", "unchanged"),
    ]
    assert found.steps[0].action.arguments == {"manifest": OPEN["manifest"], "root": "other"}
    assert [step.action.expect for step in found.steps[:2]] == [ANY, None]
    assert found.steps[5].action.error == "manifest-missing"
    assert str(found.steps[1]) == 'step 2: run {"name": "TS_001"}'
    assert found.section == "csv"


def test_steps_are_done_meanwhile(tmp_path: Path) -> None:
    meanwhile = [{"disk": [{"check": "unchanged"}, {"check": "consistent"}]}, {"edit": "unlock"}]
    document = case(capabilities=["read", "write"], steps=[OPEN, {"edit": "lock"}, {**CREATE, "meanwhile": meanwhile}])
    VALIDATOR.validate(document)
    (found,) = load(tmp_path, document)
    action = found.steps[2].action
    assert [(step.place, step.action.name) for step in action.meanwhile] == [
        ("step 3, meanwhile 1", "unchanged"),
        ("step 3, meanwhile 1", "consistent"),
        ("step 3, meanwhile 2", "unlock"),
    ]
    assert "meanwhile" not in action.arguments
    assert found.locks


@pytest.mark.parametrize("trial", [READS, WRITERS, KILLS])
def test_trials(tmp_path: Path, trial: dict[str, Any]) -> None:
    document = case(capabilities=["read", "write"], steps=[trial])
    VALIDATOR.validate(document)
    (found,) = load(tmp_path, document)
    assert [(step.action.kind, step.action.name) for step in found.steps] == [
        ("trial", trial["trial"]),
        ("check", "consistent"),
    ]
    assert found.locks is (trial is READS)


@pytest.mark.parametrize("trial", [PUBLICATIONS, CHANGING])
def test_trials_of_publishing(tmp_path: Path, trial: dict[str, Any]) -> None:
    document = case(capabilities=["read", "publish"], steps=[trial], consistent=False)
    VALIDATOR.validate(document)
    (found,) = load(tmp_path, document)
    assert [(step.action.kind, step.action.name) for step in found.steps] == [("trial", trial["trial"])]
    assert found.profiles == {"export"}


@pytest.mark.parametrize(
    ("members", "checked"),
    [
        ({"steps": [OPEN, CREATE]}, True),
        ({"steps": [APPEND]}, True),
        ({"steps": [OPEN]}, False),
        ({"steps": [OPEN, {"op": "refresh"}]}, False),
        ({"steps": [OPEN, CREATE], "consistent": False}, False),
        ({"steps": [OPEN, CREATE], "disk": [{"check": "consistent", "path": "other/metadata.json"}]}, False),
    ],
)
def test_what_writes_ends_with_consistent(tmp_path: Path, members: dict[str, Any], checked: bool) -> None:
    (found,) = load(tmp_path, case(capabilities=["read", "write", "append"], **members))
    last = found.steps[-1].action
    assert ((last.name, last.arguments) == ("consistent", {})) is checked


@pytest.mark.parametrize(
    ("capabilities", "profiles"),
    [
        (["read", "volumes"], {"read"}),
        (["read", "write"], {"write"}),
        (["read", "batch"], {"write"}),
        (["read", "locks"], {"write"}),
        (["read", "overlay", "batch"], {"overlay"}),
        (["export", "write"], {"export", "write"}),
        (["read", "append"], {"export"}),
        (["read", "append", "locks"], {"export"}),
        (["read", "export", "portal_source"], {"export"}),
    ],
)
def test_profiles_of_a_case(tmp_path: Path, capabilities: list[str], profiles: set[str]) -> None:
    (found,) = load(tmp_path, case(capabilities=capabilities))
    assert found.profiles == profiles


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"id": None}, "the case lacks 'id'"),
        ({"colour": 1}, "the case has 'colour', which is not known there"),
        ({"steps": {}}, "the case: 'steps' has the wrong type"),
        ({"disk": {}}, "the case: 'disk' has the wrong type"),
        ({"clauses": []}, "it cites no clause"),
        ({"clauses": ["CSV-999"]}, "there is no clause 'CSV-999'"),
        ({"capabilities": ["fly"]}, "there is no capability 'fly'"),
        ({"fixture": "nowhere"}, "there is no fixture nowhere"),
        ({"steps": [7]}, "step 1 is no operation, edit, trial or check"),
        ({"steps": [{"op": "open", "edit": "write"}]}, "step 1 is no operation, edit, trial or check"),
        ({"steps": [{"op": "fly"}]}, "step 1: there is no op 'fly'"),
        ({"steps": [OPEN, {"edit": "fly"}]}, "step 2: there is no edit 'fly'"),
        ({"disk": [{"check": "fly"}]}, "a check, at the end: there is no check 'fly'"),
        ({"steps": [{"op": "open"}]}, "step 1 lacks 'manifest'"),
        ({"steps": [{**OPEN, "wings": 2}]}, "step 1 has 'wings', which is not known there"),
        ({"steps": [{**OPEN, "manifest": 2}]}, "step 1: 'manifest' has the wrong type"),
        ({"steps": [{**OPEN, "expect": 1, "error": "exists"}]}, "step 1 expects a result and an error"),
        ({"steps": [{**OPEN, "error": "no-code"}]}, "there is no error code 'no-code'"),
        ({"steps": [CREATE]}, "step 1: create is only for cases that require write or overlay"),
        ({"steps": [{"op": "begin"}]}, "step 1: begin is only for cases that require batch"),
        ({"steps": [KILLS]}, "step 1: create is only for cases that require write or overlay"),
        ({"steps": [CHANGING]}, "step 1: publish is only for cases that require publish"),
        ({"steps": [WRITERS]}, "step 1: create is only for cases that require write or overlay"),
        ({"steps": [{**KILLS, "writer": [{"op": "fly"}]}]}, "step 1: there is no op 'fly'"),
        ({"steps": [{**KILLS, "writer": {}}]}, "step 1: 'writer' has the wrong type"),
        ({"steps": [{**WRITERS, "writers": [7]}]}, "step 1 is no operation, edit, trial or check"),
        ({"steps": [{"trial": "fly"}]}, "step 1: there is no trial 'fly'"),
        ({"steps": [{**OPEN, "meanwhile": [{"edit": "fly"}]}]}, "step 1, meanwhile 1: there is no edit 'fly'"),
        ({"steps": [{**OPEN, "lock_seconds": 1}]}, "step 1: lock_seconds is only for cases that require locks"),
        ({"steps": [APPEND]}, "step 1: append is only for cases that require append"),
        (
            {"capabilities": ["export"], "steps": [{**EXPORT, "records": "{project}/r"}]},
            "step 1: records is only for cases that require portal_source",
        ),
        (
            {"capabilities": ["append"], "steps": [{**APPEND, "records": "{project}/r"}]},
            "step 1: records is only for cases that require portal_source",
        ),
        ({"steps": [{**OPEN, "overlay": "{work}/o"}]}, "step 1: overlay is only for cases that require overlay"),
        ({"steps": [{**OPEN, "manifest": "{http}/m"}]}, "it uses {http} and does not require the capability http"),
        ({"steps": [{**OPEN, "manifest": "{s3}/m"}]}, "it uses {s3} and does not require the capability s3"),
    ],
)
def test_malformed_cases(tmp_path: Path, members: dict[str, Any], words: str) -> None:
    with pytest.raises(SuiteError) as error:
        load(tmp_path, case(**members))
    assert str(error.value) == f"cases/csv/a-case.json: {words}"


def test_ids_are_unique_and_the_names_of_files(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="there are no cases"):
        cases.load(tmp_path, tmp_path, SPEC)
    load(tmp_path, case())
    (tmp_path / "csv").rename(tmp_path / "man")
    with pytest.raises(SuiteError, match="there are two cases a-case, in csv and man"):
        load(tmp_path, case())
    (tmp_path / "csv" / "a-case.json").rename(tmp_path / "csv" / "b-case.json")
    with pytest.raises(SuiteError, match=r"csv/b-case.json: the id is a-case and the file is b-case.json"):
        load(tmp_path)
    (tmp_path / "csv" / "b-case.json").write_text("{")
    with pytest.raises(SuiteError, match=r"csv/b-case.json: Expecting property name"):
        load(tmp_path)


@pytest.mark.parametrize(
    "members",
    [
        {"id": "A"},
        {"clauses": ["csv-1"]},
        {"capabilities": []},
        {"consistent": True},
        {"steps": []},
        {"steps": [{**OPEN, "wings": 2}]},
        {"steps": [{"op": "list", "kind": "picks"}]},
        {"steps": [{"op": "list", "kind": "runs", "run": "TS_001"}]},
        {"steps": [{"op": "read", "kind": "picks", "key": {"run": "TS_001"}}]},
        {"steps": [{"op": "create", "kind": "picks", "key": CREATE["key"]}]},
        {"steps": [{**CREATE, "data": {"points": []}}]},
        {"steps": [{"op": "rows", "table": "runs", "expect": {"@list": {}}}]},
        {"steps": [{"op": "rows", "table": "runs", "expect": {"@list": [], "x": 1}}]},
        {"steps": [{"edit": "write", "path": "a"}]},
        {"steps": [{"edit": "write", "path": "a", "text": "", "json": 1}]},
        {"steps": [{**OPEN, "meanwhile": [OPEN]}]},
        {"steps": [{**OPEN, "meanwhile": [KILLS]}]},
        {"steps": [{**OPEN, "lock_seconds": -1}]},
        {"steps": [{**APPEND, "manifest": None}]},
        {"steps": [{**APPEND, "project_root": "{work}"}]},
        {"steps": [{**EXPORT, "records": 1}]},
        {"steps": [{**KILLS, "writer": []}]},
        {"steps": [{**KILLS, "writer": [OPEN]}]},
        {"steps": [{**KILLS, "writer": [{**CREATE, "root": "b"}]}]},
        {"steps": [{**KILLS, "writer": [{**CREATE, "expect": None}]}]},
        {"steps": [{**WRITERS, "rounds": 0}]},
        {"steps": [{**PUBLICATIONS, "publish": {"source": "{work}/a"}}]},
        {"steps": [{**CHANGING, "texts": ["1"]}]},
        {"steps": [{"op": "rows", "table": "runs", "expect": {"@date": "tomorrow"}}]},
        {"steps": [{**READS, "append": {"fly": ""}}]},
        {"steps": [{"op": "rows", "table": "runs", "expect": {"@any": []}}]},
        {"disk": [{"check": "unchanged", "or": "else"}]},
        {"disk": [{"check": "json", "path": "a"}]},
        {"disk": [{"check": "file", "path": "/a"}]},
    ],
)
def test_the_schema_refuses(members: dict[str, Any]) -> None:
    assert VALIDATOR.is_valid(case())
    assert not VALIDATOR.is_valid(case(**members))


def test_the_schema_takes_data() -> None:
    array = {"shape": [1, 3], "dtype": "float32", "values": [1, 2.5, 3]}
    key = {"run": "TS_001", "user_id": "me", "session_id": "1", "object_name": "ribosome"}
    for kind, data in (
        ("picks", {"points": [{"location": [1, 2, 3]}]}),
        ("meshes", {"vertices": array, "faces": array}),
    ):
        step = {"op": "create", "kind": kind, "key": key, "data": data, "error": "refused"}
        VALIDATOR.validate(case(steps=[step]))
        assert not VALIDATOR.is_valid(case(steps=[{**step, "data": array}]))
    VALIDATOR.validate(
        case(steps=[{"op": "store", "kind": "objects", "key": {"name": "a"}, "data": array, "root": "b"}])
    )


# --- SPEC.md ---------------------------------------------------------------------------------------------


def test_the_specification_is_read() -> None:
    clause = SPEC.clauses["CSV-005"]
    assert clause.text == "A reader MUST treat an empty cell as an absent value."
    assert (clause.keyword, clause.required, clause.section) == ("MUST", True, "CSV")
    assert SPEC.sections["CSV"] == "Tables"
    assert {clause.section for clause in SPEC.clauses.values()} <= SPEC.sections.keys()
    assert {"table-checksum", "refused"} <= SPEC.codes
    assert "read" not in SPEC.codes


@pytest.mark.parametrize(
    ("text", "keyword", "required"),
    [
        ("A reader MUST NOT fly.", "MUST NOT", True),
        ("A reader SHOULD walk.", "SHOULD", False),
        ("A reader SHOULD NOT run, and MUST.", "SHOULD NOT", False),
        ("A reader MAY sit.", "MAY", False),
    ],
)
def test_keywords(tmp_path: Path, text: str, keyword: str, required: bool) -> None:
    path = tmp_path / "SPEC.md"
    path.write_text(f'Version: 2.1\n<a id="ABC-001"></a>**[ABC-001]** {text}\n', encoding="utf-8")
    found = spec.load(path)
    assert found.version == "2.1"
    assert [(clause.keyword, clause.required) for clause in found.clauses.values()] == [(keyword, required)]


CLAUSE = '<a id="ABC-001"></a>**[ABC-001]** A reader MUST.'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CLAUSE, "has no line 'Version: …'"),
        (f"Version: 1\n{CLAUSE}\n{CLAUSE}", "has the clause ABC-001 twice"),
        (f"Version: 1\n{CLAUSE.replace('MUST', 'must')}", "a clause of SPEC.md is malformed"),
        (f"Version: 1\n{CLAUSE.replace('[ABC-001]', '[ABC-002]')}", "a clause of SPEC.md is malformed"),
    ],
)
def test_malformed_specifications(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "SPEC.md").write_text(text, encoding="utf-8")
    with pytest.raises(SuiteError, match=words.replace("[", r"\[")):
        spec.load(tmp_path / "SPEC.md")


def test_a_missing_specification(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="cannot be read: No such file"):
        spec.load(tmp_path / "SPEC.md")
