from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import mlcroissant
import pytest

from copick_mlc import CroissantIndex, _hosts, _pandas
from copick_mlc.__main__ import main
from copick_mlc._findings import KINDS, VALIDATION_KINDS, Finding
from copick_mlc._tables import TABLES, Row
from copick_mlc._validation import check, validate
from copick_mlc._verify import render, verify
from copick_mlc.errors import CODES, DataError, UsageError
from copick_mlc.index import PicksRow, RunRow
from tests.projects import tree

Document = dict[str, Any]

PICKS, RUNS = "copick/picks", "copick/runs"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is at work for whom to wait, and no proxy stands before a server."""
    monkeypatch.setattr("copick_mlc._verify._PAUSES", (0.0,))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture
def clean(manifest: Path) -> Path:
    """The manifest with nothing to be found in it, for mlcroissant neither."""
    edit(manifest, complete)
    return manifest


def complete(document: Document) -> None:
    for file in document["distribution"]:
        file["contentUrl"] = file["contentUrl"].rpartition("/")[2]  # copick writes file://, which mlcroissant refuses
    document |= {
        "license": "https://spdx.org/licenses/MIT.html",
        "citeAs": "us",
        "version": "1.0.0",
        "datePublished": "2026-01-01",
    }


@pytest.fixture
def small(clean: Path) -> Path:
    """The manifest without most record sets, which take mlcroissant its time."""

    def keep(document: Document) -> None:
        document["recordSet"] = [record_set(document, name) for name in (RUNS, PICKS, "copick/splits")]

    edit(clean, keep)
    return clean


def edit(manifest: Path, change: Callable[[Document], object]) -> None:
    document = json.loads(manifest.read_text())
    change(document)
    manifest.write_text(json.dumps(document))


def edit_table(manifest: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change the bytes of a table, and have the manifest say the sha256 that it then has."""
    path = manifest.parent / f"{name}.csv"
    path.write_bytes(change(path.read_bytes()))
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(manifest, lambda document: file_of(document, name).update(sha256=checksum))


def file_of(document: Document, table: str) -> Document:
    return next(item for item in document["distribution"] if item["@id"] == TABLES[table].file_object_id)


def record_set(document: Document, identifier: str) -> Document:
    return next(item for item in document["recordSet"] if item["@id"] == identifier)


def field_of(document: Document, column: str) -> Document:
    """A field of copick/runs."""
    fields = record_set(document, "copick/runs")["field"]
    return next(field for field in fields if field["@id"] == f"copick/runs/{column}")


def kinds(manifest: Path | str, **options: Any) -> dict[str, int]:
    """How many findings there are of each kind."""
    return dict(Counter(finding.kind for finding in check(str(manifest), **options).findings))


def of_kind(kind: str, manifest: Path | str, **options: Any) -> list[Finding]:
    return [finding for finding in check(str(manifest), **options).findings if finding.kind == kind]


# --- manifest and tables ---------------------------------------------------------------------------------


def test_nothing_is_found_and_nothing_is_written(clean: Path, project: Path) -> None:
    before = tree(project)
    report = check(str(clean), records=True)
    assert (report.findings, report.not_checked, report.rows) == ([], [], 26)
    assert tree(project) == before


def test_what_verify_finds_of_manifest_and_tables_is_found(clean: Path) -> None:
    index = CroissantIndex.from_url(str(clean))
    index.put(RunRow("NA"))
    index.put(PicksRow("NA", "me", "1", "unheard", url="/nowhere"))
    index.put(PicksRow("TS_404", "me", "1", "ribosome", url="/nowhere"))
    table = clean.parent / "meshes.csv"
    table.write_bytes(table.read_bytes().replace(b"\r\n", b"\n"))
    edit(clean, lambda document: record_set(document, "copick/splits")["data"].pop())
    (clean.parent / f".metadata.json.{'0' * 12}.tmp").touch()
    of_data = {"data-missing", "data-unnamed", "data-checksum", "data-invalid"}
    with_data = verify(str(clean)).findings
    findings = check(str(clean)).findings
    assert findings == [finding for finding in with_data if finding.kind not in of_data]
    expected = {"table-checksum", "name-misread", "object-unknown", "row-orphan", "split-stale", "leftover"}
    assert {finding.kind for finding in findings} == expected
    assert len(with_data) > len(findings)


def test_no_data_is_opened(clean: Path, project: Path) -> None:
    shutil.rmtree(project / "ExperimentRuns")
    shutil.rmtree(project / "Objects")
    assert kinds(clean, records=True) == {}
    assert set(Counter(finding.kind for finding in verify(str(clean)).findings)) == {"data-missing"}


def test_a_table_that_is_gone(small: Path) -> None:
    (small.parent / "picks.csv").unlink()
    assert kinds(small, records=True) == {"table-missing": 1, "records-unreadable": 1}
    (found,) = of_kind("records-unreadable", small, records=True)
    assert (found.table, found.record_set) == ("picks", "copick/picks")
    assert "picks.csv" in found.message
    assert "bring the file back" in found.message


def test_the_exporter_can_ask_for_names_that_pandas_misreads() -> None:
    rows: dict[str, list[Row]] = {
        "runs": [RunRow("007", split="a"), RunRow("8", split="NA")],
        "picks": [PicksRow("r", "true", "x", "y")],
    }
    found = list(_pandas.misread_names(rows))
    assert [(table, column) for table, column, _ in found] == [
        ("runs", "name"),
        ("runs", "split"),
        ("picks", "user_id"),
    ]
    texts = [text for _, _, text in found]
    assert "'007' becomes '7';" in texts[0]
    assert "'NA' is lost;" in texts[1]
    many: dict[str, list[Row]] = {"runs": [RunRow(f"0{number}") for number in range(1, 8)]}
    ((_, _, text),) = _pandas.misread_names(many)
    assert "'05' becomes '5' and 2 more;" in text


# --- what mlcroissant says -------------------------------------------------------------------------------


def test_warnings_of_mlcroissant(clean: Path) -> None:
    edit(clean, lambda document: [document.pop(name) for name in ("license", "citeAs")])
    report = check(str(clean))
    assert [(finding.kind, finding.severity) for finding in report.findings] == [("mlcroissant-warning", "warning")] * 2
    assert all(finding.message.startswith("mlcroissant warns: [Metadata(") for finding in report.findings)
    assert '"https://schema.org/license" is recommended' in report.findings[1].message


def test_each_error_of_mlcroissant_is_a_finding_of_its_own(clean: Path) -> None:
    def break_(document: Document) -> None:
        document["description"] = ["a", "b"]
        for table in ("runs", "picks"):
            del file_of(document, table)["encodingFormat"]

    edit(clean, break_)
    found = of_kind("manifest-rejected", clean)
    assert len(found) >= 2
    assert all(finding.message.startswith("mlcroissant rejects the manifest: [Metadata(") for finding in found)
    assert all("\n" not in finding.message for finding in found)
    report = check(str(clean), records=True)
    assert report.not_checked == ["the records: mlcroissant rejects the manifest"]


def test_what_mlcroissant_logs_is_not_heard(clean: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("absl")
    document = json.loads(clean.read_text())
    del document["@context"]["regex"]  # it logs that the context is not the usual one
    with caplog.at_level(logging.WARNING, "absl"):  # copick sets another
        mlcroissant.Dataset(jsonld=copy.deepcopy(document))
        assert "is not standard" in caplog.text
        caplog.clear()
        assert validate(document, "where") == []
        assert (caplog.text, logger.level) == ("", logging.WARNING)


def test_logging_is_as_the_application_has_it(clean: Path) -> None:
    script = (
        "import json, logging\n"
        "from copick_mlc._validation import validate\n"
        f"document = json.load(open({str(clean)!r}))\n"
        "del document['@context']['regex']\n"
        "assert validate(document, 'where') == []\n"
        "assert logging.root.handlers == []\n"
        "assert logging.getLogger('absl').level == logging.NOTSET\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def break_id(value: Any) -> Callable[[Document], object]:
    return lambda document: document["recordSet"][1]["field"][0].update({"@id": value})


# What makes mlcroissant raise something else than a ValidationError: the type, and what the finding says.
UNFORESEEN: dict[str, tuple[Callable[[Document], object], type[Exception], str]] = {
    "number": (break_id(7), TypeError, "recordSet[1].field[0].@id is the number 7; expected a string"),
    "list": (break_id(["a"]), TypeError, "recordSet[1].field[0].@id is a list; expected a string"),
    "object": (break_id({"@id": "a"}), TypeError, "recordSet[1].field[0].@id is an object; expected a string"),
    "null": (break_id(None), TypeError, "recordSet[1].field[0].@id is null; expected a string"),
    "boolean": (break_id(True), TypeError, "recordSet[1].field[0].@id is a boolean; expected a string"),
    "of the dataset": (lambda d: d.update({"@id": 1.5}), TypeError, ": @id is the number 1.5; expected a string"),
    "vocabulary": (lambda d: d["@context"].update({"@vocab": 7}), TypeError, "it fails with TypeError: unsupported"),
    "no dataset": (
        lambda d: d.update({"@id": "a b"}),
        AssertionError,
        "AssertionError: Found no node in graph; no sc:Dataset is",
    ),
    "empty object": (lambda d: d.update(creator={}), RecursionError, "creator is an empty object; fill it, or remove"),
    "context": (lambda d: d.update({"@context": []}), ValueError, "ValueError: @context should be a dictionary"),
    "source itself": (
        lambda d: field_of(d, "name").update(source={"@id": "copick/runs/name"}, description="it"),
        KeyError,
        "it fails with KeyError: 'https://schema.org/description'",
    ),
    "source": (
        lambda d: field_of(d, "name").update(source={"@id": "copick/picks/run"}),
        AttributeError,
        "it fails with AttributeError",
    ),
    "configuration": (
        lambda d: d["copick:config"].update(mine=[{"@id": 7}]),
        TypeError,
        ": copick:config.mine[0].@id is the number 7; expected a string",
    ),
}


@pytest.mark.parametrize("case", UNFORESEEN)
def test_what_mlcroissant_does_not_expect_is_no_crash(clean: Path, case: str) -> None:
    change, cause, text = UNFORESEEN[case]
    edit(clean, change)
    document = json.loads(clean.read_text())
    before = copy.deepcopy(document)
    with pytest.raises(DataError) as caught:
        validate(document, "where")
    assert (caught.value.code, caught.value.path) == ("manifest-rejected", "where")
    assert type(caught.value.__cause__) is cause
    assert text in str(caught.value)
    assert document == before
    (found,) = of_kind("manifest-rejected", clean)
    assert text in found.message


def test_plain_json_in_a_manifest_may_have_empty_objects(clean: Path) -> None:
    edit(clean, lambda document: document["copick:config"].update(metadata={}, other=[{}]))
    assert kinds(clean) == {}


def test_a_byte_order_mark_that_only_we_accept(clean: Path) -> None:
    clean.write_bytes(b"\xef\xbb\xbf" + clean.read_bytes())
    (found,) = check(str(clean)).findings
    assert found.kind == "manifest-rejected"
    assert found.message.endswith("write the manifest without a byte order mark")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, {"manifest-missing": 1}),
        ("{", {"manifest-invalid": 1}),
        ("[]", {"manifest-invalid": 1}),
        ('{"recordSet": []}', {"not-copick": 1, "manifest-rejected": 1}),
    ],
)
def test_a_manifest_that_is_none(clean: Path, content: str | None, expected: dict[str, int]) -> None:
    clean.unlink()
    if content is not None:
        clean.write_text(content)
    assert kinds(clean, records=True) == expected


def test_a_dataset_of_others_is_looked_at_too(clean: Path) -> None:
    def rename(document: Document) -> None:
        record_set(document, "copick/runs")["@id"] = "theirs"
        del document["recordSet"][1:]
        record_set(document, "theirs").pop("key", None)
        fields = record_set(document, "theirs")["field"]
        fields[:] = [{**field, "@id": f"theirs/{number}"} for number, field in enumerate(fields)]
        for field in fields:
            field.pop("references", None)

    edit(clean, rename)
    edit(clean, lambda document: document["distribution"][0].update(sha256="0" * 64))
    report = check(str(clean), records=True, hosts=["huggingface"])
    assert report.not_checked == ["the tables, which a manifest that is none of a copick project does not name"]
    found = Counter(finding.kind for finding in report.findings)
    assert found == {"not-copick": 1, "records-unreadable": 1, "host-recommended": 2}


# --- records ---------------------------------------------------------------------------------------------

# How records become unreadable: what is done, the record sets it is so for, and the true reason.
UNREADABLE: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "checksum": (
        lambda m: edit(m, lambda d: file_of(d, "picks").update(sha256="0" * 64)),
        [PICKS],
        "ValueError: Hash of downloaded file",
    ),
    "too many cells": (
        lambda m: edit_table(m, "picks", lambda data: data + b"a" + b",b" * 20 + b"\r\n"),
        [PICKS],
        "ParserError: Error tokenizing data.",
    ),
    "encoding": (lambda m: edit_table(m, "picks", lambda data: data + b"\xff"), [PICKS], "UnicodeDecodeError: 'utf-8'"),
    "number": (
        lambda m: edit_table(m, "picks", lambda data: data + b"TS_001,u,0,ribosome,many,,,,,,\r\n"),
        [PICKS],
        "ValueError: could not convert string to float: 'many'",
    ),
    "empty file": (lambda m: edit_table(m, "picks", lambda _: b""), [PICKS], "EmptyDataError: No columns to parse"),
    "column": (
        lambda m: edit(m, lambda d: record_set(d, PICKS)["field"][0]["source"].update(extract={"column": "no"})),
        [PICKS],
        'AssertionError: Column "no" does not exist',
    ),
    "type": (
        lambda m: edit(m, lambda d: field_of(d, "name").update(dataType="sc:Integer")),
        [RUNS],
        "ValueError: invalid literal for int()",
    ),
    "expression": (
        lambda m: edit(m, lambda d: field_of(d, "name")["source"].update(transform={"regex": "("})),
        [RUNS],
        "missing ), unterminated subpattern",
    ),
    "circle": (
        lambda m: edit(m, lambda d: field_of(d, "split").update(references={"field": {"@id": "copick/runs/name"}})),
        [RUNS],
        "NetworkXUnfeasible: Graph contains a cycle or graph changed during iteration; a field refers to itself",
    ),
    "scheme": (
        lambda m: edit(m, lambda d: file_of(d, "picks").update(contentUrl=f"file://{m.parent}/picks.csv")),
        [PICKS],
        "mlcroissant takes a path relative to the manifest, or an http(s) URL, and no other",
    ),
    "nobody answers": (
        lambda m: edit(m, lambda d: file_of(d, "picks").update(contentUrl="http://127.0.0.1:9/picks.csv")),
        [PICKS],
        "ConnectionError: HTTPConnectionPool(host='127.0.0.1', port=9)",
    ),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_records_that_mlcroissant_cannot_read(small: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlcroissant._src.core.constants.DOWNLOAD_PATH", small.parent)  # it makes it at once
    change, record_sets, reason = UNREADABLE[case]
    change(small)
    found = of_kind("records-unreadable", small, records=True)
    assert [finding.record_set for finding in found] == record_sets
    assert found[0].table == record_sets[0].removeprefix("copick/")
    assert found[0].message.startswith("mlcroissant cannot read the records: ")
    assert reason in found[0].message
    assert len(found[0].message) < 700
    assert "records-unreadable" not in kinds(small)  # it was not asked to read


def test_records_that_are_more_than_the_rows(small: Path) -> None:
    def double(document: Document) -> None:
        data = record_set(document, "copick/splits")["data"]
        data.append(data[0])

    edit(small, double)
    assert kinds(small) == {"split-stale": 1}
    (found,) = of_kind("records-count", small, records=True)
    assert (found.record_set, found.table) == (RUNS, "runs")
    assert found.message.startswith("mlcroissant reads 4 records, and there are 3;")


def test_reading_a_record_set_spoils_no_other(clean: Path) -> None:
    def refer(document: Document) -> None:
        others = [record_set(document, f"copick/{name}") for name in ("voxel_spacings", "tomograms")]
        for other in others:
            other["field"][0]["references"] = {"field": {"@id": "copick/runs/name"}}
        document["recordSet"] = [record_set(document, RUNS), *others, record_set(document, "copick/splits")]

    edit(clean, refer)  # a dataset that all are read from one after the other gives an error for the second
    assert kinds(clean, records=True) == {}


def test_record_sets_of_others_are_read(small: Path) -> None:
    def extend(document: Document) -> None:
        column = {"fileObject": {"@id": "f"}, "extract": {"column": "a"}}
        field = {"@type": "cr:Field", "@id": "theirs/a", "dataType": "sc:Integer", "source": column}
        document["recordSet"].append({"@type": "cr:RecordSet", "@id": "theirs", "name": "theirs", "field": field})
        checksum = hashlib.sha256(b"a\n1\n").hexdigest()
        file = {"@type": "cr:FileObject", "@id": "f", "name": "f", "encodingFormat": "text/csv", "sha256": checksum}
        document["distribution"].append({**file, "contentUrl": "theirs.csv"})

    edit(small, extend)
    (small.parent / "theirs.csv").write_text("a\n1\n")
    assert kinds(small, records=True) == {}
    (small.parent / "theirs.csv").write_text("a\n2\n")
    (found,) = check(str(small), records=True).findings
    assert (found.kind, found.record_set, found.table) == ("records-unreadable", "theirs", None)


def test_records_on_storage_that_mlcroissant_cannot_read(clean: Path, project: Path) -> None:
    fs = fsspec.filesystem("memory")
    fs.put(str(project), "/validated", recursive=True)
    try:
        report = check("memory://validated/Croissant/metadata.json", records=True)
    finally:
        fs.rm("/validated", recursive=True)
    assert report.findings == []
    assert report.not_checked == ["the records: mlcroissant reads local files and http(s) URLs, and no other"]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(project: Path, small: Path) -> Iterator[str]:
    """The URL of the manifest on a server."""
    edit(small, lambda document: document.pop("copick:baseUrl"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(project)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/Croissant/metadata.json"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_manifest_on_a_server(small: Path, served: str, tmp_path: Path) -> None:
    assert kinds(served) == {}
    found = of_kind("records-unreadable", served, records=True)
    assert [finding.record_set for finding in found] == [RUNS, PICKS]  # copick/splits is in the manifest
    assert all("export with an http(s) --base-url for absolute ones" in finding.message for finding in found)

    def absolute(document: Document) -> None:
        for file in document["distribution"]:
            file["contentUrl"] = f"{served.rpartition('/')[0]}/{file['contentUrl']}"

    edit(small, absolute)
    command = [sys.executable, "-m", "copick_mlc", "validate", "--records", served]
    environment = {**os.environ, "CROISSANT_CACHE": str(tmp_path / "cache")}  # read when mlcroissant is imported
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{served}\n\nnothing found in 26 rows\n"
    assert len(list((tmp_path / "cache/download").iterdir())) == 2
    edit_table(small, "picks", lambda data: data.replace(b"\r\n", b"\n"))
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=False)
    (stale,) = json.loads(done.stdout)["findings"]
    assert stale["record_set"] == PICKS
    assert "remove an old copy there" in stale["message"]


# --- hosts -----------------------------------------------------------------------------------------------

PERSON = {"@type": "Person", "name": "me"}
LINK = "https://example.org/dataset"

# What all hosts take, for the properties that have to have a form.
FITTING: Document = {
    "@type": "sc:Dataset",
    "conformsTo": "http://mlcommons.org/croissant/1.1",
    "description": "x" * 50,
    "creator": PERSON,
    "publisher": [PERSON],
    "funder": PERSON,
    "license": LINK,
    "url": LINK,
    "sameAs": [LINK],
    "isAccessibleForFree": False,
    "rai:hasSyntheticData": False,
    "distribution": [{"contentUrl": f"{LINK}/runs.csv", "encodingFormat": "text/csv"}],
}


NOTHING: list[Any] = [None, "", " ", [], {}, {"@value": ""}]


def whole(host: str) -> Document:
    """A document with all that a host wants."""
    wanted = [*_hosts.HOSTS[host].required, *_hosts.HOSTS[host].recommended]
    names = [item.name for item in wanted if not item.name.startswith("distribution.")]
    return copy.deepcopy({name: FITTING.get(name, "something") for name in names} | FITTING)


def missed(host: str, document: Document) -> list[tuple[str, str | None]]:
    return [(finding.kind, finding.host_property) for finding in _hosts.missing(host, document)]


@pytest.mark.parametrize("host", _hosts.HOSTS)
def test_each_property_that_a_host_wants_is_missed_where_it_is_not_given(host: str) -> None:
    assert missed(host, whole(host)) == []
    for level in ("required", "recommended"):
        for item in getattr(_hosts.HOSTS[host], level):
            for nothing in NOTHING:
                document = whole(host)
                parent = document["distribution"][0] if "." in item.name else document
                parent[item.name.rpartition(".")[2]] = nothing
                expected = (f"host-{level}", item.name)
                assert expected in missed(host, document)
                assert {name for _, name in missed(host, document)} - {item.name} <= {
                    *("distribution.contentUrl", "distribution.encodingFormat")
                }


@pytest.mark.parametrize(
    ("host", "name", "value", "found"),
    [
        ("google", "description", "x" * 49, "it is 'xxx"),
        ("google", "description", "x" * 5000, None),
        ("google", "description", "x" * 5001, "it is 'xxx"),
        ("google", "description", {"@value": "x" * 50}, None),
        ("google", "license", "MIT", "it is 'MIT'"),
        ("google", "license", {"@type": "CreativeWork", "name": "mine"}, None),
        ("google", "license", {"@id": LINK}, None),
        ("google", "creator", "me", "it is 'me'"),
        ("google", "creator", [PERSON, "me"], "it is ["),
        ("google", "url", "example.org", "it is 'example.org'"),
        ("google", "sameAs", {"@id": LINK}, None),
        ("google", "isAccessibleForFree", True, None),
        ("neurips", "@type", ["sc:Dataset", "other"], None),
        ("neurips", "@type", "sc:Thing", "it is 'sc:Thing'"),
        ("neurips", "conformsTo", ["http://other", {"@id": "http://mlcommons.org/croissant/1.0"}], None),
        ("neurips", "conformsTo", "http://other", "it is 'http://other'"),
        ("neurips", "license", "MIT", None),
        ("huggingface", "license", "MIT", None),
    ],
)
def test_values_that_a_host_does_not_take(host: str, name: str, value: Any, found: str | None) -> None:
    findings = list(_hosts.missing(host, {**whole(host), name: value}))
    assert [finding.host_property for finding in findings] == ([] if found is None else [name])
    assert all(str(found) in finding.message for finding in findings)


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("license", "sc:license"),
        ("license", "https://schema.org/license"),
        ("conformsTo", "dct:conformsTo"),
        ("conformsTo", "http://purl.org/dc/terms/conformsTo"),
        ("rai:dataBiases", "http://mlcommons.org/croissant/RAI/dataBiases"),
        ("prov:wasDerivedFrom", "http://www.w3.org/ns/prov#wasDerivedFrom"),
    ],
)
def test_properties_are_known_by_any_of_their_names(name: str, spelling: str) -> None:
    document = whole("neurips")
    document[spelling] = document.pop(name)
    assert missed("neurips", document) == []


def test_files_without_a_url_of_their_own() -> None:
    document = whole("neurips")
    document["distribution"] += [{"includes": "*.csv"}, {"containedIn": {"@id": "x"}, "contentUrl": "a.csv"}]
    assert missed("neurips", document) == []
    document["distribution"].append({"contentUrl": "runs.csv"})
    assert missed("neurips", document) == [("host-required", "distribution.contentUrl")]


def test_hosts_miss_things_in_a_real_manifest(clean: Path) -> None:
    report = check(str(clean), hosts=["neurips"])
    assert report.not_checked == [
        "whether mlcroissant reads records, as NeurIPS (Evaluations and Datasets) does; use --records"
    ]
    required = [finding for finding in report.findings if finding.kind == "host-required"]
    assert {finding.host_property for finding in required} >= {"rai:dataBiases", "creator", "distribution.contentUrl"}
    assert "license" not in {finding.host_property for finding in report.findings}
    assert {finding.host for finding in report.findings} == {"neurips"}
    text = render(report)
    assert all(f"neurips, {finding.host_property}: {finding.message}" in text for finding in report.findings)


def test_a_record_set_without_records(clean: Path) -> None:
    def wish(record_sets: list[str]) -> None:
        found = [f.record_set for f in check(str(clean), hosts=["neurips", "google"]).findings if f.record_set]
        assert found == record_sets

    wish([])
    edit_table(clean, "meshes", lambda data: data.splitlines(keepends=True)[0])
    wish(["copick/meshes"])
    assert kinds(clean, records=True) == {}
    edit(clean, lambda document: document["recordSet"].remove(record_set(document, "copick/meshes")))
    wish([])


def test_what_hosts_want_is_told_in_one_line() -> None:
    for host in _hosts.HOSTS.values():
        for item in [*host.required, *host.recommended]:
            assert 5 < len(item.advice) < 140
            assert "\n" not in item.advice


# --- the command -----------------------------------------------------------------------------------------


def test_the_command_exits_with_what_it_found(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--records", str(small)]) == 0
    assert capsys.readouterr() == (f"{small}\n\nnothing found in 26 rows\n", "")
    edit(small, lambda document: document.pop("license"))
    assert main(["validate", str(small)]) == 1
    text = capsys.readouterr().out
    assert "\n\nmlcroissant-warning: 1 warning\n  mlcroissant warns: [Metadata(" in text
    assert text.endswith("\n\n0 errors, 1 warning in 26 rows\n")


def test_the_command_for_programs(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--profile", "google", "--profile", "huggingface", "--profile", "google"]
    assert main(["validate", "--json", *arguments, str(clean)]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["manifest"], report["rows"]) == (str(clean), 26)
    assert report["errors"] + report["warnings"] == len(report["findings"])
    (keywords,) = [f for f in report["findings"] if (f.get("host"), f.get("property")) == ("google", "keywords")]
    assert keywords == {
        "kind": "host-recommended",
        "severity": "warning",
        **dict.fromkeys(["table", "key", "path", "line", "column"]),
        "host": "google",
        "property": "keywords",
        "message": "recommended, but there is none; what the dataset is about",
    }


@pytest.mark.parametrize(
    "arguments", [[], ["--profile", "nobody", "x"], ["--profile"], ["a", "b"], ["--nonsense", "a"]]
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["validate", *arguments])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m copick_mlc ")


def test_help_has_examples_hosts_and_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["validate", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.partition("examples:")[2].count("python -m copick_mlc validate ") == 4
    assert all(f"\n  {name} " in text for name in [*_hosts.HOSTS, *VALIDATION_KINDS])


def test_kinds_and_codes_are_told_apart() -> None:
    assert set(VALIDATION_KINDS).isdisjoint({*CODES, *KINDS})


def test_without_mlcroissant(clean: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "mlcroissant", None)
    with pytest.raises(UsageError) as caught:
        check(str(clean))
    assert caught.value.code == "option-invalid"
    assert main(["validate", str(clean)]) == 1
    assert "validation needs mlcroissant" in capsys.readouterr().err


def test_it_needs_no_copick(small: Path) -> None:
    script = (
        "import sys\n"
        "from copick_mlc.__main__ import main\n"
        f"assert main(['validate', '--records', {str(small)!r}]) == 0\n"
        "print(sorted({'copick', 'zarr', 'mlcroissant'} & set(sys.modules)))\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "['mlcroissant']"
