"""metadata.json: what is read from it, and what a patch changes and leaves."""

from __future__ import annotations

import copy
import hashlib
import io
import json
from typing import Any

import mlcroissant
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copick_mlc._manifest import CONFORMS_TO, CONTEXT, Manifest, build, dump, patch
from copick_mlc._tables import TABLES
from copick_mlc.errors import DataError

PATH = "/project/Croissant/metadata.json"


def file_object(table: str, **more: Any) -> dict[str, Any]:
    identifier = f"{table.replace('_', '-')}-csv"
    return {
        "@type": "cr:FileObject",
        "@id": identifier,
        "name": identifier,
        "contentUrl": f"{table}.csv",
        "encodingFormat": "text/csv",
        "sha256": f"sha of {table}",
        **more,
    }


def record_set(table: str, *columns: str, **more: Any) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": f"copick/{table}",
        "name": table,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"copick/{table}/{column}",
                "dataType": "sc:Text",
                "source": {
                    "fileObject": {"@id": f"{table.replace('_', '-')}-csv"},
                    "extract": {"column": column},
                },
            }
            for column in columns
        ],
        **more,
    }


def document(**more: Any) -> dict[str, Any]:
    """A small manifest, as somebody may have written it by hand."""
    return {
        "@context": {"@vocab": "https://schema.org/"},
        "@type": "sc:Dataset",
        "name": "tiny",
        "distribution": [file_object("runs")],
        "recordSet": [record_set("runs", "name", "portal_run_id", "split")],
        **more,
    }


def read(value: Any) -> Manifest:
    return Manifest(json.dumps(value).encode(), PATH)


def bytes_of(table: str) -> bytes:
    """What a commit wrote to the CSV of a table."""
    return f"new rows of {table}".encode()


def sha_of(table: str) -> str:
    return hashlib.sha256(bytes_of(table)).hexdigest()


def size_of(table: str) -> str:
    return f"{len(bytes_of(table))} B"


def patched(base: dict[str, Any], *filled: str, empty: tuple[str, ...] = (), **options: Any) -> dict[str, Any]:
    """`base` after a commit that wrote the tables `filled` and `empty`."""
    files = {name: bytes_of(name) for name in (*filled, *empty)}
    return patch(base, files=files, filled=filled, **{"splits": None, "modified": None, **options})


def entry(result: dict[str, Any], identifier: str) -> dict[str, Any]:
    """The file object or record set of that id."""
    (found,) = [e for e in (*result["distribution"], *result["recordSet"]) if e["@id"] == identifier]
    assert isinstance(found, dict)
    return found


def ids(result: dict[str, Any], key: str) -> list[str]:
    return [e["@id"] for e in result[key]]


# --- reading ---------------------------------------------------------------------------------------------


def test_what_a_manifest_says() -> None:
    manifest = read(document(**{"copick:baseUrl": "s3://b/p", "copick:config": {"name": "n", "user_id": "u"}}))
    assert manifest.document["name"] == "tiny"
    assert manifest.path == PATH
    assert manifest.base_url == "s3://b/p"
    assert manifest.config == {"name": "n", "user_id": "u"}
    assert manifest.declares(TABLES["runs"])
    assert manifest.sha256(TABLES["runs"]) == "sha of runs"
    assert not manifest.declares(TABLES["picks"])
    assert manifest.sha256(TABLES["picks"]) is None


def test_a_byte_order_mark_does_no_harm() -> None:
    assert Manifest(b"\xef\xbb\xbf" + json.dumps(document()).encode(), PATH).document == document()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("file:///p", "file:///p"),
        ({"@id": "file:///p"}, "file:///p"),
        ({"@value": "file:///p"}, "file:///p"),
        ("", None),
        (None, None),
    ],
)
def test_forms_of_the_base_url(value: Any, expected: str | None) -> None:
    assert read(document(**{"copick:baseUrl": value})).base_url == expected


def test_no_base_url() -> None:
    assert read(document()).base_url is None


CONFIG = {"name": "n", "pickable_objects": [{"name": "ribo", "label": 1}]}


@pytest.mark.parametrize(
    "value",
    [
        CONFIG,
        json.dumps(CONFIG),
        {"@value": CONFIG, "@type": "@json"},
        {"@value": json.dumps(CONFIG)},
    ],
    ids=["object", "string", "value", "value-string"],
)
def test_forms_of_the_config(value: Any) -> None:
    assert read(document(**{"copick:config": value})).config == CONFIG


def test_no_config() -> None:
    assert read(document()).config == {}
    assert read(document(**{"copick:config": {"pickable_objects": None}})).config == {"pickable_objects": None}


def test_single_objects_in_place_of_lists() -> None:
    """JSON-LD tools write a list of one as its element."""
    manifest = read(document(distribution=file_object("runs"), recordSet=record_set("runs", "name")))
    assert manifest.sha256(TABLES["runs"]) == "sha of runs"


def test_no_sha256() -> None:
    for value in (None, ""):
        assert read(document(distribution=[file_object("runs", sha256=value)])).sha256(TABLES["runs"]) is None


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"@type": "sc:Dataset", "recordSet": [{"@id": "other"}]},
        {"@type": "sc:Dataset", "recordSet": []},
        {"distribution": [file_object("runs")], "recordSet": [record_set("picks", "run")]},
        {"distribution": [file_object("runs")], "recordSet": {"@id": ["copick/runs"]}},
    ],
)
def test_a_manifest_of_something_else(value: Any) -> None:
    with pytest.raises(DataError) as caught:
        read(value)
    assert (caught.value.code, caught.value.path) == ("not-copick", PATH)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff\xfe{}", b"null", b"[]", b'"x"', b"7", b"{}x", b"[" * 100_000, b"<html>", b"9" * 5000],
    ids=lambda data: repr(data[:8]),
)
def test_what_is_no_json_object(data: bytes) -> None:
    with pytest.raises(DataError) as caught:
        Manifest(data, PATH)
    assert (caught.value.code, caught.value.path) == ("manifest-invalid", PATH)


@pytest.mark.parametrize(
    "change",
    [
        {"distribution": None},
        {"distribution": "runs.csv"},
        {"distribution": ["runs-csv"]},
        {"distribution": []},
        {"distribution": [file_object("picks")]},
        {"recordSet": None},
        {"recordSet": ["copick/runs"]},
        {"recordSet": [record_set("runs", "name"), record_set("picks", "run")]},
        {"copick:config": "{"},
        {"copick:config": "[]"},
        {"copick:config": 7},
        {"copick:config": None},
        {"copick:config": []},
        {"copick:config": {"pickable_objects": {"name": "ribo"}}},
        {"copick:config": {"pickable_objects": ["ribo"]}},
        {"copick:config": {"pickable_objects": [{"label": 1}]}},
        {"copick:config": {"pickable_objects": [{"name": 1}]}},
    ],
    ids=str,
)
def test_parts_of_the_wrong_shape(change: dict[str, Any]) -> None:
    with pytest.raises(DataError) as caught:
        read(document(**change))
    assert (caught.value.code, caught.value.path) == ("manifest-invalid", PATH)


@pytest.mark.parametrize("value", [7, ["s3://b"], {"@id": 7}, True])
def test_a_base_url_of_the_wrong_shape(value: Any) -> None:
    with pytest.raises(DataError) as caught:
        _ = read(document(**{"copick:baseUrl": value})).base_url
    assert caught.value.code == "manifest-invalid"


@pytest.mark.parametrize("value", [7, ["x"], {"@value": "x"}])
def test_a_sha256_of_the_wrong_shape(value: Any) -> None:
    with pytest.raises(DataError) as caught:
        read(document(distribution=[file_object("runs", sha256=value)])).sha256(TABLES["runs"])
    assert caught.value.code == "manifest-invalid"


# --- dump ------------------------------------------------------------------------------------------------


def test_a_dump_is_json_for_people_too() -> None:
    data = dump({"name": "Å", "n": 1})
    assert data == '{\n  "name": "Å",\n  "n": 1\n}\n'.encode()
    assert dump({"name": "Å", "n": 1}) == data


def test_a_lone_surrogate_is_escaped() -> None:
    assert json.loads(dump({"name": "\ud800"})) == {"name": "\ud800"}


# --- patch -----------------------------------------------------------------------------------------------


def test_a_patch_changes_a_copy() -> None:
    base = document()
    before = copy.deepcopy(base)
    result = patched(base, "runs", "picks", splits=["train"], config={"name": "n"})
    assert base == before
    assert result != before
    assert patched(base, "runs", "picks", splits=["train"], config={"name": "n"}) == result


def test_a_patch_of_nothing_is_the_same() -> None:
    assert patched(document()) == document()


def test_what_others_wrote_stays() -> None:
    others: dict[str, Any] = {
        "creator": {"@type": "sc:Person", "name": "A"},
        "rai:dataCollection": "in a lab",
        "copick:config": CONFIG,
        "distribution": [
            {"@type": "cr:FileObject", "@id": "paper", "contentUrl": "paper.pdf"},
            file_object("runs", contentSize="3 kB", description="ours"),
            "a string that makes no sense here",
        ],
        "recordSet": [
            record_set("runs", "name", "split", description="all my runs", key={"@id": "copick/runs/name"}),
            {"@type": "cr:RecordSet", "@id": "extra", "field": [{"@id": "extra/x"}]},
        ],
    }
    others["recordSet"][0]["field"].append({"@id": "copick/runs/mine", "dataType": "sc:Text"})
    base = document(**others)
    result = patched(base, "runs")

    expected = copy.deepcopy(base)
    expected["distribution"][1] |= {"sha256": sha_of("runs"), "contentSize": size_of("runs")}
    runs = expected["recordSet"][0]
    added = result["recordSet"][0]["field"][-1]
    assert added["@id"] == "copick/runs/portal_run_id"
    runs["field"].append(added)
    assert result == expected


def test_only_the_checksums_of_what_was_written_change() -> None:
    base = document(distribution=[file_object("runs"), file_object("picks"), file_object("objects")])
    result = patched(base, "picks")
    assert [e["sha256"] for e in result["distribution"]] == ["sha of runs", sha_of("picks"), "sha of objects"]
    assert [e.get("contentSize") for e in result["distribution"]] == [None, size_of("picks"), None]


def test_an_md5_is_kept_true_where_there_is_one() -> None:
    base = document(distribution=[file_object("runs", md5="old"), file_object("picks")])
    result = patched(base, "runs", "picks")
    assert entry(result, "runs-csv")["md5"] == hashlib.md5(bytes_of("runs")).hexdigest()
    assert "md5" not in entry(result, "picks-csv")


def test_a_change_is_dated() -> None:
    dated = patched(document(), "runs", modified="2026-01-02")
    assert list(dated)[-3:] == ["dateModified", "distribution", "recordSet"]
    assert dated["dateModified"] == "2026-01-02"
    assert patched(dated)["dateModified"] == "2026-01-02"
    again = patched(dated, "runs", modified="2026-03-04")
    assert again == {**dated, "dateModified": "2026-03-04"}
    assert list(again) == list(dated)


def test_a_date_leaves_all_else_in_its_place() -> None:
    base = document(creator={"@type": "sc:Person", "name": "A"})
    assert list(patched(base, modified="2026-01-02")) == [*[*base][:3], "dateModified", *[*base][3:]]
    base["dateModified"] = "2026-01-01"
    assert list(patched(base, modified="2026-01-02")) == list(base)


def test_a_table_that_gets_its_first_rows_is_declared() -> None:
    result = patched(document(), "instance_segmentations")
    assert entry(result, "instance-segmentations-csv") == {
        "@type": "cr:FileObject",
        "@id": "instance-segmentations-csv",
        "name": "instance-segmentations-csv",
        "contentUrl": "instance_segmentations.csv",
        "encodingFormat": "text/csv",
        "sha256": sha_of("instance_segmentations"),
        "contentSize": size_of("instance_segmentations"),
    }
    declared = entry(result, "copick/instance_segmentations")
    assert (declared["@type"], declared["name"]) == ("cr:RecordSet", "instance_segmentations")
    assert declared["key"] == [
        {"@id": f"copick/instance_segmentations/{column}"}
        for column in ("run", "voxel_size", "user_id", "session_id", "name")
    ]
    assert [field["@id"].rpartition("/")[2] for field in declared["field"]] == [
        "run",
        "voxel_size",
        "user_id",
        "session_id",
        "name",
        "url",
        "portal_object_name",
        "portal_session_id",
        "portal_annotation_id",
        "portal_annotation_file_id",
    ]
    assert declared["description"]
    size = declared["field"][1]
    assert size.pop("description")
    assert size == {
        "@type": "cr:Field",
        "@id": "copick/instance_segmentations/voxel_size",
        "name": "voxel_size",
        "dataType": "sc:Float",
        "source": {"fileObject": {"@id": "instance-segmentations-csv"}, "extract": {"column": "voxel_size"}},
    }


@pytest.mark.parametrize("prefix", ["https://host/p/Croissant/", "file:///p/Croissant/", ""])
def test_a_new_csv_gets_a_content_url_as_its_siblings(prefix: str) -> None:
    other = {"@type": "cr:FileObject", "@id": "paper", "contentUrl": "https://elsewhere/paper.pdf"}
    result = patched(document(distribution=[other, file_object("runs", contentUrl=f"{prefix}runs.csv")]), "picks")
    assert entry(result, "picks-csv")["contentUrl"] == f"{prefix}picks.csv"
    assert entry(result, "runs-csv")["contentUrl"] == f"{prefix}runs.csv"


def test_record_sets_stand_in_the_order_of_the_tables() -> None:
    extra = {"@type": "cr:RecordSet", "@id": "extra"}
    base = document(recordSet=[record_set("runs", "name"), extra])
    result = patched(base, "objects", "picks", "voxel_spacings")
    assert ids(result, "recordSet") == [
        "copick/runs",
        "copick/voxel_spacings",
        "copick/picks",
        "copick/objects",
        "extra",
    ]


def test_a_table_without_rows_has_a_csv_but_no_record_set() -> None:
    result = patched(document(), empty=("picks",))
    assert ids(result, "distribution") == ["runs-csv", "picks-csv"]
    assert ids(result, "recordSet") == ["copick/runs"]


def test_runs_are_declared_even_without_rows() -> None:
    assert ids(patched(document(), empty=("runs",)), "recordSet") == ["copick/runs"]


def test_our_record_set_goes_with_the_last_row() -> None:
    full = patched(document(), "picks")
    assert "copick/picks" in ids(full, "recordSet")
    assert patched(full, empty=("picks",))["recordSet"] == document()["recordSet"]


@pytest.mark.parametrize("extension", [{"description": "my own words"}, {"rai:x": 1}, {"key": []}])
def test_a_record_set_that_somebody_changed_stays(extension: dict[str, Any]) -> None:
    full = patched(document(), "picks")
    entry(full, "copick/picks").update(extension)
    expected = copy.deepcopy(entry(full, "copick/picks"))
    assert entry(patched(full, empty=("picks",)), "copick/picks") == expected


def test_only_columns_that_the_csv_has_get_a_field() -> None:
    """A field without a column makes mlcroissant fail on every record."""
    base = document(recordSet=[record_set("runs", "name")])
    columns = {"runs": ["name", "note"], "picks": ["object_name", "session_id", "user_id", "run"]}
    result = patched(base, "runs", "picks", columns=columns)
    assert entry(result, "copick/runs") == base["recordSet"][0]
    assert ids({"x": entry(result, "copick/picks")["field"]}, "x") == [
        f"copick/picks/{column}" for column in ("run", "user_id", "session_id", "object_name")
    ]
    emptied = patched(result, empty=("picks",), columns=columns)
    assert ids(emptied, "recordSet") == ["copick/runs"]


def test_fields_of_new_columns_are_added() -> None:
    base = document(recordSet=[record_set("runs", "name")])
    result = patched(base, "runs", columns={"runs": ["name", "split"]})
    assert [field["@id"] for field in entry(result, "copick/runs")["field"]] == [
        "copick/runs/name",
        "copick/runs/split",
    ]


def test_a_patch_of_single_objects_in_place_of_lists() -> None:
    runs = record_set("runs", "name")
    runs["field"] = runs["field"][0]
    base = document(distribution=file_object("runs"), recordSet=runs)
    result = patched(base, "runs", "picks", splits=["train"])
    assert ids(result, "distribution") == ["runs-csv", "picks-csv"]
    assert ids(result, "recordSet") == ["copick/runs", "copick/picks", "copick/splits"]
    assert len(entry(result, "copick/runs")["field"]) == 3
    read(result)


def test_the_config_is_replaced_where_one_is_given() -> None:
    base = document(**{"copick:config": json.dumps(CONFIG)})
    assert patched(base)["copick:config"] == json.dumps(CONFIG)
    assert patched(base, config={"name": "m"})["copick:config"] == {"name": "m"}


def test_any_patched_document_is_read_again() -> None:
    result = patched(document(**{"@context": CONTEXT}), *TABLES, splits=["train"], config=CONFIG)
    manifest = Manifest(dump(result), PATH)
    assert manifest.document == result
    assert manifest.config == CONFIG
    assert {t.name: manifest.sha256(t) for t in TABLES.values()} == {name: sha_of(name) for name in TABLES}


# --- pickable objects ------------------------------------------------------------------------------------

OBJECTS = "copick/pickable_objects"


def objects_config(*objects: tuple[str, int | None, bool | None]) -> dict[str, Any]:
    keys = ("name", "label", "is_particle")
    return {
        "name": "n",
        "pickable_objects": [{**dict(zip(keys, item, strict=True)), "radius": 1.0} for item in objects],
    }


def with_objects(*objects: tuple[str, int | None, bool | None]) -> dict[str, Any]:
    """A manifest whose exporter declared these objects."""
    return built({"copick:config": objects_config(*objects)})


def object_rows(result: dict[str, Any]) -> list[tuple[Any, ...]]:
    rows = entry(result, OBJECTS)["data"]
    return [tuple(row[f"{OBJECTS}/{key}"] for key in ("name", "label", "is_particle")) for row in rows]


RIBOSOME, MEMBRANE, UNKNOWN = ("ribosome", 1, True), ("membrane", 2, False), ("unknown", None, None)


def test_objects_are_declared() -> None:
    result = with_objects(RIBOSOME, MEMBRANE, UNKNOWN)
    assert object_rows(result) == [RIBOSOME, MEMBRANE, UNKNOWN]
    declared = entry(result, OBJECTS)
    assert (declared["@type"], declared["name"]) == ("cr:RecordSet", "pickable_objects")
    assert (declared["dataType"], declared["key"]) == ("sc:Enumeration", {"@id": f"{OBJECTS}/name"})
    assert [(field["@id"], field["dataType"]) for field in declared["field"]] == [
        (f"{OBJECTS}/name", ["sc:Text", "sc:name"]),
        (f"{OBJECTS}/label", "sc:Integer"),
        (f"{OBJECTS}/is_particle", "sc:Boolean"),
    ]
    assert all(part["name"] and part["description"] for part in (declared, *declared["field"]))


def test_objects_stand_between_tables_and_others() -> None:
    extra = {"@type": "cr:RecordSet", "@id": "extra"}
    config = {"copick:config": objects_config(RIBOSOME)}
    result = built(config, document(recordSet=[extra]), splits=["train"])
    assert ids(result, "recordSet") == [*(t.record_set_id for t in TABLES.values()), OBJECTS, "extra", "copick/splits"]
    assert ids(built(config, result, splits=["train"]), "recordSet") == ids(result, "recordSet")


def test_no_objects_no_record_set() -> None:
    assert OBJECTS not in ids(with_objects(), "recordSet")
    full = with_objects(RIBOSOME)
    assert OBJECTS not in ids(built({"copick:config": {"name": "n"}}, full), "recordSet")
    assert OBJECTS not in ids(patched(full, config=objects_config()), "recordSet")


def test_objects_follow_the_configuration() -> None:
    full = with_objects(RIBOSOME, MEMBRANE)
    assert entry(patched(full, "picks"), OBJECTS) == entry(full, OBJECTS)
    changed = ("membrane", 3, False)
    result = patched(full, config=objects_config(RIBOSOME, changed, UNKNOWN))
    assert object_rows(result) == [RIBOSOME, changed, UNKNOWN]


def test_a_manifest_without_the_record_set_of_objects_stays_without() -> None:
    assert OBJECTS not in ids(patched(document(), "runs", config=objects_config(RIBOSOME)), "recordSet")


def test_what_somebody_added_to_objects_stays_and_rows_stay_complete() -> None:
    full = with_objects(RIBOSOME, MEMBRANE)
    declared = entry(full, OBJECTS)
    declared["field"].append({"@type": "cr:Field", "@id": f"{OBJECTS}/mine", "dataType": "sc:Text"})
    for row in declared["data"]:
        row[f"{OBJECTS}/mine"] = "x"
    config = objects_config(MEMBRANE, UNKNOWN)
    for result in (patched(full, config=config), built({"copick:config": config}, full)):
        assert object_rows(result) == [MEMBRANE, UNKNOWN]
        assert [row[f"{OBJECTS}/mine"] for row in entry(result, OBJECTS)["data"]] == ["x", None]
        assert {frozenset(row) for row in entry(result, OBJECTS)["data"]} == {frozenset(ids(declared, "field"))}


def test_objects_have_just_the_fields_that_somebody_left() -> None:
    full = with_objects(RIBOSOME)
    declared = entry(full, OBJECTS)
    declared["field"] = declared["field"][0]
    declared["data"] = {f"{OBJECTS}/name": "ribosome"}
    config = objects_config(RIBOSOME, MEMBRANE)
    result = entry(patched(full, config=config), OBJECTS)
    assert result == {**declared, "data": [{f"{OBJECTS}/name": "ribosome"}, {f"{OBJECTS}/name": "membrane"}]}
    assert object_rows(built({"copick:config": config}, full)) == [RIBOSOME, MEMBRANE]


ODD: list[dict[str, Any]] = [{}, {"field": None, "data": None}, {"field": {"@id": 7}, "data": ["x", {}]}]


@pytest.mark.parametrize("odd", ODD)
def test_objects_in_odd_forms(odd: dict[str, Any]) -> None:
    base = document()
    base["recordSet"].append({"@type": "cr:RecordSet", "@id": OBJECTS, **odd})
    config = objects_config(RIBOSOME, RIBOSOME)
    assert patched(base, config=config)["recordSet"] == base["recordSet"]
    assert object_rows(built({"copick:config": config}, base)) == [RIBOSOME]


# --- build -----------------------------------------------------------------------------------------------


def built(properties: dict[str, Any], template: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """The document of an export that wrote all tables."""
    files = {name: bytes_of(name) for name in TABLES}
    return build(
        template or {}, properties, **{"content_prefix": "", "files": files, "filled": TABLES, "splits": [], **options}
    )


def test_a_new_export_has_no_date_of_change() -> None:
    source = document(dateModified="2020-01-01")
    assert "dateModified" not in built({"name": "n"}, source)


def test_an_export_that_changes_nothing_keeps_its_date() -> None:
    first = built({"name": "n"})
    same = built({"name": "n"}, first, modified="2026-03-04")
    assert dump(same) == dump(first)
    changed = patched(first, "runs", modified="2026-01-02")
    assert dump(built({"name": "n"}, changed, modified="2026-03-04")) == dump(changed)


def test_an_export_that_changes_something_is_dated() -> None:
    first = patched(built({"name": "n"}), modified="2026-01-02")
    other_name = built({"name": "m"}, first, modified="2026-03-04")
    assert other_name == {**first, "name": "m", "dateModified": "2026-03-04"}
    other_rows = built({"name": "n"}, first, modified="2026-03-04", files={"runs": b"other"})
    assert other_rows["dateModified"] == "2026-03-04"


def test_content_urls_follow_the_prefix_of_the_export() -> None:
    prefix = "https://host/p/Croissant/"
    for template in ({}, built({"name": "n"})):
        result = built({"name": "n"}, template, content_prefix=prefix)
        assert [e["contentUrl"] for e in result["distribution"]] == [f"{prefix}{t.file_name}" for t in TABLES.values()]


def test_the_context_is_all_of_croissant() -> None:
    """mlcroissant's own, the specification's Appendix 1, and the vocabularies that people describe datasets with."""
    known = mlcroissant._src.core.rdf.make_context(mlcroissant._src.core.context.Context(conforms_to=CONFORMS_TO))
    assert {key: CONTEXT.get(key) for key in known} == known
    appendix = "annotation arrayShape excludes isArray readLines sdVersion unArchive value".split()
    assert {key: CONTEXT[key] for key in appendix} == {key: f"cr:{key}" for key in appendix}
    assert CONTEXT["prov"] == "http://www.w3.org/ns/prov#"


# --- splits ----------------------------------------------------------------------------------------------

MLCOMMONS = "https://mlcommons.org/definitions/"


def split_data(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(row["copick/splits/name"], row["copick/splits/url"]) for row in entry(result, "copick/splits")["data"]]


def reference(result: dict[str, Any]) -> Any:
    (field,) = [f for f in entry(result, "copick/runs")["field"] if f["@id"] == "copick/runs/split"]
    return field.get("references")


def test_splits_are_declared() -> None:
    names = ["train", "val", "Validation", "TEST", "eval", "mine", "train"]
    result = patched(document(), "runs", splits=names)
    assert split_data(result) == [
        ("train", f"{MLCOMMONS}training_split"),
        ("val", f"{MLCOMMONS}validation_split"),
        ("Validation", f"{MLCOMMONS}validation_split"),
        ("TEST", f"{MLCOMMONS}test_split"),
        ("eval", f"{MLCOMMONS}test_split"),
        ("mine", ""),
    ]
    declared = entry(result, "copick/splits")
    assert (declared["@type"], declared["name"], declared["dataType"]) == ("cr:RecordSet", "splits", "cr:Split")
    assert declared["key"] == {"@id": "copick/splits/name"}
    assert [(field["@id"], field["dataType"]) for field in declared["field"]] == [
        ("copick/splits/name", "sc:Text"),
        ("copick/splits/url", ["sc:URL", "cr:Split"]),
    ]
    assert reference(result) == {"field": {"@id": "copick/splits/name"}}


def test_splits_stay_where_nothing_is_said_of_them() -> None:
    full = patched(document(), "runs", splits=["train"])
    assert patched(full, "picks")["recordSet"][0] == full["recordSet"][0]
    assert split_data(patched(full, "picks")) == [("train", f"{MLCOMMONS}training_split")]


def test_no_splits_no_record_set_and_no_reference() -> None:
    full = patched(document(), "runs", splits=["train"])
    result = patched(full, "runs", splits=[])
    assert ids(result, "recordSet") == ["copick/runs"]
    assert reference(result) is None


def test_what_somebody_said_of_a_split_stays_with_it() -> None:
    full = patched(document(), "runs", splits=["train", "mine"])
    declared = entry(full, "copick/splits")
    declared["description"] = "my own words"
    declared["data"][1]["copick/splits/url"] = "https://example.org/mine"
    result = patched(full, "runs", splits=["mine", "test"])
    assert split_data(result) == [("mine", "https://example.org/mine"), ("test", f"{MLCOMMONS}test_split")]
    assert entry(result, "copick/splits")["description"] == "my own words"


def test_new_splits_have_the_fields_that_somebody_added() -> None:
    """mlcroissant and copick open no manifest with a row that lacks one."""
    full = patched(document(), "runs", splits=["train"])
    declared = entry(full, "copick/splits")
    declared["field"].append({"@type": "cr:Field", "@id": "copick/splits/mine", "dataType": "sc:Text"})
    declared["data"][0]["copick/splits/mine"] = "x"
    rows = entry(patched(full, "runs", splits=["train", "test"]), "copick/splits")["data"]
    assert [row["copick/splits/mine"] for row in rows] == ["x", None]
    assert rows[0] == declared["data"][0]


@pytest.mark.parametrize("data", [{"copick/splits/name": "train", "copick/splits/url": "u"}, None, "x", ["x"]])
def test_split_data_in_odd_forms(data: Any) -> None:
    base = document()
    base["recordSet"].append({"@type": "cr:RecordSet", "@id": "copick/splits", "data": data})
    result = patched(base, "runs", splits=["train"])
    expected = "u" if isinstance(data, dict) else f"{MLCOMMONS}training_split"
    assert split_data(result) == [("train", expected)]


@pytest.mark.parametrize(
    ("names", "emitted"),
    [
        (["1", "2"], False),
        (["NA"], False),
        (["true", "FALSE"], False),
        (["1e5", "nan", "None", "-inf"], False),
        ([" 1 "], False),
        (["1", "train"], True),
        (["1a"], True),
        (["truest"], True),
    ],
)
def test_the_reference_is_there_when_some_split_is_text_to_pandas(names: list[str], emitted: bool) -> None:
    result = patched(document(), "runs", splits=names)
    assert (reference(result) is not None) == emitted
    assert [name for name, _ in split_data(result)] == names
    # Also where it was there before.
    again = patched(patched(document(), "runs", splits=["train"]), "runs", splits=names)
    assert (reference(again) is not None) == emitted


@given(
    st.text("0123456789+-.eEnaNAULiftrusRx#/ <>", min_size=1, max_size=6)
    | st.sampled_from(["NULL", "True", "Infinity", "<NA>", "#N/A", "1.#IND"])
)
@settings(deadline=None, max_examples=200)
def test_no_reference_where_pandas_misreads_the_split(name: str) -> None:
    column = pandas.read_csv(io.StringIO(f'split\n"{name}"\n'), skip_blank_lines=False)["split"]
    if list(column) != [name]:
        assert reference(patched(document(), "runs", splits=[name])) is None
