"""What people say of a dataset: what is taken, what is refused, and that mlcroissant and copick open it."""

from __future__ import annotations

import datetime
import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import copick
import mlcroissant
import pytest

from copick_mlc import CroissantIndex
from copick_mlc._description import describe, license_remark
from copick_mlc._manifest import CONFORMS_TO, Manifest, build, dump
from copick_mlc._tables import TABLES, Row, RunRow, VoxelSpacingRow, encode_table
from copick_mlc.errors import UsageError
from tests.test_manifest import entry, object_rows, objects_config

PERSON = {"@type": "sc:Person", "name": "A. Person", "url": "https://orcid.org/0000-0001"}
LAB = {"@type": "Organization", "name": "Lab", "parentOrganization": {"@type": "sc:Organization", "name": "Uni"}}


def test_nothing_said_is_nothing_written() -> None:
    assert describe() == {}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("A", {"@type": "sc:Person", "name": "A"}),
        (["A"], [{"@type": "sc:Person", "name": "A"}]),
        (PERSON, PERSON),
        (("A", LAB), [{"@type": "sc:Person", "name": "A"}, LAB]),
    ],
)
def test_creators(given: Any, expected: Any) -> None:
    assert describe(creator=given) == {"creator": expected}


def test_publishers() -> None:
    assert describe(publisher="P") == {"publisher": {"@type": "sc:Organization", "name": "P"}}
    assert describe(publisher=PERSON) == {"publisher": PERSON}


def test_what_is_said_is_copied() -> None:
    given = {"rai:dataUseCases": ["a", "b"], "prov:wasGeneratedBy": {"@type": "prov:Activity", "prov:label": "x"}}
    said = describe(rai=given, keywords="cryo, ET", license="MIT", url="https://example.org/a?b#c", creator=LAB)
    assert said == {
        "creator": LAB,
        "license": "MIT",
        "url": "https://example.org/a?b#c",
        "keywords": ["cryo, ET"],
        **given,
    }
    assert said["prov:wasGeneratedBy"] is not given["prov:wasGeneratedBy"]
    assert describe(keywords=("a", "b")) == {"keywords": ["a", "b"]}


CYCLE: dict[str, Any] = {}
CYCLE["rai:x"] = CYCLE

REFUSED: list[tuple[str, Any, str]] = [
    ("creator", "", "creator: ''"),
    ("creator", "  ", "creator: '  '"),
    ("creator", [], "not empty"),
    ("creator", ["A", ""], "creator: ''"),
    ("creator", 7, "creator: 7"),
    ("creator", b"A", "creator: "),
    ("creator", {"@type": "sc:Person"}, 'creator: None; expected a name as "name"'),
    ("creator", {"@type": "sc:Person", "name": ""}, "creator: ''"),
    ("creator", {"name": "A"}, "sc:Person or sc:Organization"),
    ("creator", {"@type": "sc:Thing", "name": "A"}, "'sc:Thing'"),
    ("creator", {"@type": "sc:Person", "name": "A", "affiliation": {}}, "creator: {}"),
    ("publisher", "", "publisher: ''"),
    ("publisher", ["P"], "publisher: "),
    ("publisher", {"name": "P"}, "publisher, @type: None"),
    ("license", "", "license: ''"),
    ("license", 7, "license: 7"),
    ("url", "", "url: ''"),
    ("url", "example.org", "url: 'example.org'; expected the http or https"),
    ("url", "s3://bucket/x", "url: 's3"),
    ("url", "https://", "url: 'https"),
    ("url", "https://example.org/a b", "url: 'https"),
    ("url", "http://[", "url: 'http"),
    ("keywords", "", "keywords: ''"),
    ("keywords", [], "not empty"),
    ("keywords", ["a", 7], "keywords: 7"),
    ("keywords", 7, "keywords: 7"),
    ("rai", ["rai:x"], "rai: "),
    ("rai", {"dataCollection": "x"}, "rai: 'dataCollection'; expected names as rai:dataCollection"),
    ("rai", {"rai:": "x"}, "rai: 'rai:'"),
    ("rai", {"rai:data collection": "x"}, "rai: 'rai:data collection'"),
    ("rai", {7: "x"}, "rai: 7"),
    ("rai", {"rai:x": None}, "rai, rai:x: None"),
    ("rai", {"rai:x": ""}, "rai, rai:x: ''"),
    ("rai", {"rai:x": {"a": []}}, "rai, rai:x: []"),
    ("rai", {"rai:x": {7: "a"}}, "rai, rai:x: {7"),
    ("rai", {"rai:x": math.nan}, "rai, rai:x: nan"),
    ("rai", {"rai:x": object()}, "rai, rai:x: <"),
    ("rai", CYCLE, "rai, rai:x: {"),
]


@pytest.mark.parametrize(
    ("option", "value", "message"), REFUSED, ids=[f"{n}-{o}" for n, (o, _, _) in enumerate(REFUSED)]
)
def test_what_is_refused(option: str, value: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        describe(**{option: value})
    assert caught.value.code == "option-invalid"
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "license",
    [
        "MIT",
        "CC-BY-4.0",
        "GPL-2.0+",
        "MIT OR Apache-2.0",
        "(MIT AND (LGPL-2.1-or-later OR BSD-3-Clause))",
        "GPL-2.0-or-later WITH Classpath-exception-2.0",
        "DocumentRef-a:LicenseRef-b",
        "https://creativecommons.org/licenses/by/4.0/",
    ],
)
def test_licenses_that_programs_know(license: str) -> None:
    assert license_remark(license) is None


@pytest.mark.parametrize(
    "license",
    [
        "CC BY 4.0",
        "my own words",
        "MIT OR",
        "OR MIT",
        "AND",
        "(MIT",
        "MIT)",
        "()",
        "MIT, BSD",
        "MIT (BSD)",
        "https://a b",
    ],
)
def test_licenses_that_no_program_knows(license: str) -> None:
    remark = license_remark(license)
    assert remark is not None
    assert repr(license) in remark


# --- the judges ------------------------------------------------------------------------------------------

SAID = describe(
    creator=["A", PERSON, LAB],
    publisher="P",
    url="https://example.org/dataset",
    keywords=["cryo-ET", "picks"],
    license="CC-BY-4.0",
    rai={
        "rai:dataCollection": "By hand.",
        "rai:dataUseCases": ["training", "testing"],
        "rai:dataCollectionTimeFrame": "2026-01-02",
        "rai:somethingNew": {"@type": "sc:Thing", "name": "x"},
        "prov:wasDerivedFrom": {"@id": "https://example.org/origin"},
        "prov:wasGeneratedBy": [{"@type": "prov:Activity", "prov:label": "a"}, {"@type": "prov:Activity"}],
        "prov:wasAttributedTo": "somebody",
    },
)
OBJECTS = [("ribosome", 1, True), ("membrane", None, False)]


def document(said: dict[str, Any], files: dict[str, bytes]) -> dict[str, Any]:
    properties = {
        "name": "n",
        "description": "d",
        "conformsTo": CONFORMS_TO,
        "version": "1.0.0",
        "citeAs": "C",
        "datePublished": "2026-01-01",
        "copick:config": {**objects_config(*OBJECTS), "description": "", "version": "1.0.0"},
    }
    filled = ("runs", "voxel_spacings")
    return build({}, {**properties, **said}, content_prefix="", files=files, filled=filled, splits=["train"])


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest that says all there is to say."""
    rows: dict[str, list[Row]] = {
        "runs": [RunRow("TS_001", split="train")],
        "voxel_spacings": [VoxelSpacingRow("TS_001", 10.0)],
    }
    files = {name: encode_table(table, rows.get(name, [])) for name, table in TABLES.items()}
    directory = tmp_path / "project" / "Croissant"
    directory.mkdir(parents=True)
    for name, data in files.items():
        (directory / TABLES[name].file_name).write_bytes(data)
    (directory / "metadata.json").write_bytes(dump(document(SAID, files)))
    return directory / "metadata.json"


def judge(manifest: Path, objects: Sequence[tuple[str, int | None, bool]]) -> mlcroissant.Dataset:
    """Have mlcroissant find nothing to say and read all records, and copick open the project."""
    dataset = mlcroissant.Dataset(jsonld=str(manifest))
    issues = dataset.metadata.ctx.issues
    assert (issues.errors, issues.warnings) == (set(), set())
    records = {record_set.uuid: list(dataset.records(record_set.uuid)) for record_set in dataset.metadata.record_sets}
    assert set(records) == {"copick/runs", "copick/voxel_spacings", "copick/pickable_objects", "copick/splits"}
    assert all(records.values())
    rows = [{key.rpartition("/")[2]: value for key, value in r.items()} for r in records["copick/pickable_objects"]]
    assert [(r["name"], _known(r["label"]), _known(r["is_particle"])) for r in rows] == objects
    theirs = copick.from_croissant(str(manifest))
    assert "TS_001" in [run.name for run in theirs.runs]
    assert {item.name for item in theirs.pickable_objects} == {name for name, *_ in objects}
    return dataset


def _known(value: Any) -> Any:
    """None for a missing value, which pandas makes NaN."""
    return None if value != value else value


def test_mlcroissant_and_copick_open_what_is_said(manifest: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="absl"):
        dataset = judge(manifest, OBJECTS)
    assert caplog.messages == []
    again = json.loads(json.dumps(dataset.metadata.to_json(), default=str))
    for key in SAID:
        assert key in again
    returned = Manifest(json.dumps(again).encode(), str(manifest))
    assert returned.config["pickable_objects"] == json.loads(manifest.read_text())["copick:config"]["pickable_objects"]


def test_mlcroissant_and_copick_open_what_a_commit_makes_of_it(manifest: Path) -> None:
    before = datetime.date.today()
    index = CroissantIndex.from_url(str(manifest))
    with index.batch():
        index.put(RunRow("TS_002"))
        index.put_object({"name": "virus", "label": 4, "is_particle": True, "radius": 1.0})
    result = json.loads(manifest.read_text())
    assert before.isoformat() <= result["dateModified"] <= datetime.date.today().isoformat()
    for file in result["distribution"]:
        assert file["contentSize"] == f"{(manifest.parent / file['contentUrl']).stat().st_size} B"
    assert object_rows(result) == [*OBJECTS, ("virus", 4, True)]
    assert {key: result[key] for key in SAID} == SAID
    judge(manifest, [*OBJECTS, ("virus", 4, True)])


@pytest.mark.parametrize("key", ["creator", "publisher"])
@pytest.mark.parametrize(
    "value", ["A", {"name": "A"}, {"@type": "sc:Thing", "name": "A"}], ids=["text", "untyped", "other-type"]
)
def test_mlcroissant_rejects_the_forms_that_are_refused(key: str, value: Any) -> None:
    """So that the checks go when mlcroissant learns to read them."""
    files = {"runs": encode_table(TABLES["runs"], [RunRow("TS_001")])}
    with pytest.raises(mlcroissant.ValidationError, match="Person"):
        mlcroissant.Dataset(jsonld=document({key: value}, files))


def test_an_md5_that_somebody_declared_is_right_after_a_commit(manifest: Path) -> None:
    declared = json.loads(manifest.read_text())
    file = entry(declared, "runs-csv")
    del file["sha256"]
    file["md5"] = "0" * 32
    manifest.write_text(json.dumps(declared))
    CroissantIndex.from_url(str(manifest)).put(RunRow("TS_002"))
    committed = json.loads(manifest.read_text())
    del entry(committed, "runs-csv")["sha256"]  # mlcroissant then goes by the md5
    manifest.write_text(json.dumps(committed))
    assert len(list(mlcroissant.Dataset(jsonld=str(manifest)).records("copick/runs"))) == 2
