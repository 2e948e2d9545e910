from __future__ import annotations

import fcntl
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance import consistency, snapshot
from conformance.edits import EditError, edit
from conformance.observer import check
from conformance.tables import TABLES
from conformance.workspace import MANIFEST, Workspace

FIXTURES = Path(__file__).parents[2] / "conformance" / "fixtures"
CROISSANT = "project/Croissant"
PICKS = "project/ExperimentRuns/TS_001/Picks/demo_1_ribosome.json"
STORE = "project/ExperimentRuns/TS_001/VoxelSpacing10.000/wbp.zarr"


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    """A copy of the fixture that has everything."""
    workspace = Workspace(FIXTURES / "complete")
    yield workspace
    workspace.close()
    assert not os.path.exists(workspace.work)


def found(workspace: Workspace, name: str, **arguments: Any) -> str:
    """What a check says, or nothing."""
    difference = check(workspace, name, arguments)
    return str(difference) if difference else ""


def scribble(workspace: Workspace, path: str, text: str = "scribble") -> None:
    """Write as an implementation would: the suite does not know of it."""
    place = Path(workspace.path(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(text.encode())


# --- consistent ------------------------------------------------------------------------------------------


def csv(name: str, old: str, new: str) -> dict[str, Any]:
    return {"edit": "replace", "path": f"{CROISSANT}/{name}.csv", "old": old, "new": new}


def whole(name: str, text: str) -> dict[str, Any]:
    return {"edit": "write", "path": f"{CROISSANT}/{name}.csv", "text": text}


def member(pointer: str, *value: Any) -> dict[str, Any]:
    """Set a member of the manifest, or remove it. In pointers, <id> is the index of the entry with that `@id`."""
    return {"edit": "set", "path": MANIFEST, "pointer": pointer, **({"value": value[0]} if value else {})}


def apply(workspace: Workspace, *edits: dict[str, Any]) -> None:
    for item in edits:
        arguments = {name: value for name, value in item.items() if name != "edit"}
        if "<" in arguments.get("pointer", ""):
            arguments["pointer"] = _indexed(workspace, arguments["pointer"])
        edit(workspace, item["edit"], arguments)


def _indexed(workspace: Workspace, pointer: str) -> str:
    """The pointer with an index for the id in angle brackets."""
    match = re.fullmatch("/(.+)/<(.+)>(.*)", pointer)
    assert match
    member, name, rest = match.groups()
    entries = json.loads(Path(workspace.path(MANIFEST)).read_bytes())[member]
    return f"/{member}/{[entry['@id'] for entry in entries].index(name)}{rest}"


SPLITS = "copick/splits"
FIELD = {
    "@type": "cr:Field",
    "@id": "copick/runs/name",
    "source": {"fileObject": {"@id": "runs-csv"}, "extract": {"column": "name"}},
}
CHECKSUMS = {"edit": "checksums"}
RIBOSOME = {"name": "ribosome", "label": 1}
OBJECTS = "copick/pickable_objects"


def objects(*names: str, **values: Any) -> dict[str, Any]:
    """The record set of pickable objects with these names, each with the values."""
    members = ["name", *values]
    row = {f"{OBJECTS}/{name}": value for name, value in values.items()}
    return {
        "@id": OBJECTS,
        "field": [{"@id": f"{OBJECTS}/{name}"} for name in members],
        "data": [{f"{OBJECTS}/name": name, **row} for name in names],
    }


BROKEN: dict[str, tuple[list[dict[str, Any]], str]] = {
    "no manifest": ([{"edit": "remove", "path": MANIFEST}], "metadata.json cannot be read: No such file or directory"),
    "no JSON": ([{"edit": "write", "path": MANIFEST, "text": "{"}], "metadata.json is not JSON: "),
    "no object": ([{"edit": "write", "path": MANIFEST, "json": []}], "metadata.json is no object"),
    "file object twice": (
        [member("/distribution/-", {"@id": "runs-csv"}), CHECKSUMS],
        "distribution has 2 entries 'runs-csv'",
    ),
    "record set twice": ([member("/recordSet/-", {"@id": "copick/runs"})], "recordSet has 2 entries 'copick/runs'"),
    "record set alone": (
        [member("/distribution/<picks-csv>")],
        "there is a record set copick/picks and no file object picks-csv",
    ),
    "no runs": ([member("/recordSet/<copick/runs>")], "there is no record set copick/runs"),
    "table missing": ([{"edit": "remove", "path": f"{CROISSANT}/meshes.csv"}], "meshes.csv cannot be read: No such"),
    "checksum": ([csv("runs", "TS_003", "TS_004")], "runs.csv does not have the declared sha256"),
    "size in bytes": (
        [member("/distribution/<runs-csv>/contentSize", "7 B")],
        "runs.csv has 64 bytes and is said to have",
    ),
    "MD5": ([member("/distribution/<runs-csv>/md5", "0" * 32)], "runs.csv does not have the declared md5"),
    "object missing": (
        [member("/recordSet/-", objects("ribosome"))],
        "copick/pickable_objects says [['ribosome']], and",
    ),
    "object of another label": (
        [member("/recordSet/-", objects("ribosome", label=2)), member("/copick:config/pickable_objects", [RIBOSOME])],
        "copick/pickable_objects says [['ribosome', 2]], and copick:config [['ribosome', 1]]",
    ),
    "no pickable object": (
        [member("/recordSet/-", objects()), member("/copick:config/pickable_objects", [])],
        "there is a record set copick/pickable_objects and no pickable object",
    ),
    "upper-case checksum": (
        [member("/distribution/<runs-csv>/sha256", "A" * 64)],
        "runs.csv does not have the declared sha256",
    ),
    "encoding": (
        [{"edit": "write", "path": f"{CROISSANT}/objects.csv", "base64": "bmFtZSx1cmwNCv8sDQo="}],
        "objects.csv: 'utf-8' codec can't decode",
    ),
    "NUL": ([csv("objects", "ribosome", "ribo\0some")], "objects.csv: there is a NUL byte"),
    "no header": ([whole("objects", "")], "objects.csv: there is no header"),
    "header twice": ([csv("objects", "name,url", "name,name")], "objects.csv: the header names a column twice"),
    "cell count": ([csv("objects", "ribosome,", "ribosome,,")], "objects.csv: 3 cells where the header has 2"),
    "open quote": ([csv("objects", "ribosome,", '"ribosome,')], "objects.csv: unexpected end of data"),
    "no key column": ([csv("objects", "name,url", "nom,url")], "objects.csv has no column name"),
    "empty key": ([csv("objects", "ribosome,", ",")], "objects.csv has an empty name"),
    "size": ([csv("voxel_spacings", "20.0", "2O")], "voxel_spacings.csv has the voxel size '2O', which is no number"),
    "infinite size": ([csv("voxel_spacings", "20.0", "1e999")], "voxel_spacings.csv has the voxel size '1e999'"),
    "boolean": ([csv("segmentations", "true", "yes")], "segmentations.csv has 'yes' for is_multilabel"),
    "key twice": ([csv("voxel_spacings", "20.0", "10.0004")], "voxel_spacings.csv has the key TS_001, 10.000 twice"),
    "rows undeclared": (
        [member("/recordSet/<copick/picks>")],
        "picks.csv has rows and no record set copick/picks",
    ),
    "field twice": (
        [member("/recordSet/<copick/runs>/field/-", FIELD)],
        "the field copick/runs/name stands twice",
    ),
    "field too many": (
        [member("/recordSet/<copick/runs>/field/-", {**FIELD, "@id": "copick/runs/colour"})],
        "the field copick/runs/colour is no column of runs.csv",
    ),
    "field missing": ([member("/recordSet/<copick/runs>/field/1")], "there is no field copick/runs/portal_run_id"),
    "field of another file": (
        [member("/recordSet/<copick/runs>/field/0/source/fileObject/@id", "picks-csv")],
        "the source of the field copick/runs/name is not that column of runs-csv",
    ),
    "no source": (
        [member("/recordSet/<copick/runs>/field/0/source")],
        "the source of the field copick/runs/name is not that column of runs-csv",
    ),
    "splits undeclared": (
        [member(f"/recordSet/<{SPLITS}>")],
        "runs have the splits train, val and there is no record set copick/splits",
    ),
    "splits without runs": (
        [csv("runs", "train", ""), csv("runs", "val", "")],
        "there is a record set copick/splits and no run has a split",
    ),
    "split missing": (
        [csv("runs", "val", "test")],
        "copick/splits names train, val, and runs have test, train",
    ),
    "split twice": (
        [
            member(
                f"/recordSet/<{SPLITS}>/data/-",
                {"copick/splits/name": "train", "copick/splits/url": "https://a.example"},
            )
        ],
        "copick/splits names train, train, val, and runs have train, val",
    ),
    "split without URL": (
        [member(f"/recordSet/<{SPLITS}>/data/0/copick~1splits~1url")],
        "a row of copick/splits has no url",
    ),
    "unknown run": (
        [csv("meshes", "TS_001", "TS_009")],
        "meshes.csv has a row of the run 'TS_009', which has none of its own",
    ),
    "unknown spacing": (
        [csv("features", "10.0,wbp", "10.5,wbp")],
        "features.csv has a row of 'TS_001' at 10.5, a voxel spacing that has none of its own",
    ),
    "climbing URL": (
        [csv("objects", "Objects/", "a/../../Objects/")],
        "objects.csv has the URL 'a/../../Objects/ribosome.zarr', which climbs out",
    ),
    "dangling URL": (
        [csv("objects", "Objects/", "Object/")],
        "objects.csv has the URL 'Object/ribosome.zarr', where there is nothing",
    ),
    "other base": (
        [member("/copick:baseUrl", {"@id": "file://{work}/nowhere"})],
        "tomograms.csv has the URL 'ExperimentRuns/TS_001/VoxelSpacing10.000/",
    ),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_consistent_finds(workspace: Workspace, name: str) -> None:
    edits, finding = BROKEN[name]
    assert found(workspace, "consistent") == ""
    apply(workspace, *edits)
    if any(item["path"] != MANIFEST for item in edits if "path" in item) and name not in ("checksum", "table missing"):
        apply(workspace, CHECKSUMS)
    findings = consistency.findings(workspace.path(MANIFEST), set())
    assert any(item.startswith(finding) for item in findings), findings
    assert found(workspace, "consistent").startswith("wanted everything in order, got ")


@pytest.mark.parametrize(
    "edits",
    [
        [member("/copick:baseUrl", "s3://bucket/project")],
        [member("/copick:baseUrl", {"@value": "local://{project}"})],
        [member("/copick:baseUrl", "relative/to/something")],
        [csv("objects", "Objects/", "s3://bucket/Objects/"), CHECKSUMS],
        [csv("objects", "Objects/", "zip://a::/nowhere/"), CHECKSUMS],
        [csv("objects", "Objects/", "/nowhere/"), CHECKSUMS],
        [csv("objects", "Objects/ribosome.zarr", ""), CHECKSUMS],
        [csv("objects", "name,url\r\n", "\ufeffname,url\r\n\r\n"), CHECKSUMS],
        [member("/recordSet/<copick/runs>/field/0/source/format", "somebody's")],
        [member("/distribution/<runs-csv>/sha256")],
        [member("/distribution/<runs-csv>/contentSize", "64 B")],
        [member("/distribution/<runs-csv>/contentSize", "half a page")],
        [
            member("/distribution/<runs-csv>/contentSize", "1 B"),
            member("/distribution/<runs-csv>/md5", "0" * 32),
            csv("runs", "TS_003", "TS_004"),
            CHECKSUMS,
        ],
        [member("/recordSet/-", objects("ribosome", "membrane", "proteasome"))],
        [
            member("/recordSet/-", objects("ribosome", label=1)),
            member("/copick:config", {"@value": json.dumps({"pickable_objects": [RIBOSOME]})}),
        ],
        [member("/recordSet/-", {"@id": OBJECTS, "field": {"@id": "of/others"}, "data": [{}]})],
        [{"edit": "write", "path": f"{CROISSANT}/notes.txt", "text": "somebody's"}],
    ],
)
def test_consistent_does_not_mind(workspace: Workspace, edits: list[dict[str, Any]]) -> None:
    apply(workspace, *edits)
    assert found(workspace, "consistent") == ""


@pytest.mark.parametrize("name", [".metadata.json.tmp", "runs.csv~", "new/file"])
def test_consistent_finds_what_lies_beside_the_manifest(workspace: Workspace, name: str) -> None:
    scribble(workspace, f"{CROISSANT}/{name}")
    assert f"{name.split('/')[0]} lies beside metadata.json" in found(workspace, "consistent")


def test_consistent_finds_at_most_ten_things_worth_saying(workspace: Workspace) -> None:
    for number in range(13):
        scribble(workspace, f"{CROISSANT}/{number}")
    assert found(workspace, "consistent").endswith("; and 3 more")


@pytest.mark.parametrize(
    "fixture", sorted(path.parts[-4] for path in FIXTURES.glob("*/project/Croissant/metadata.json"))
)
def test_fixtures_are_consistent(fixture: str) -> None:
    workspace = Workspace(FIXTURES / fixture)
    try:
        assert found(workspace, "consistent") == ""
    finally:
        workspace.close()


# --- the other checks ------------------------------------------------------------------------------------


def test_unchanged_sees_files_directories_links_and_modes(workspace: Workspace) -> None:
    assert found(workspace, "unchanged") == ""
    scribble(workspace, "project/new")
    os.mkdir(workspace.path("project/empty"))
    os.chmod(workspace.path(MANIFEST), 0o600)
    os.remove(workspace.path(PICKS))
    scribble(workspace, f"{CROISSANT}/runs.csv")
    words = found(workspace, "unchanged")
    for change in ("project/new: new", "project/empty: new", "mode", f"{PICKS}: gone", "runs.csv: other content"):
        assert change in words
    patterns = ["project/new", "project/emp*", f"{CROISSANT}/*", PICKS]
    assert found(workspace, "unchanged", **{"except": patterns}) == ""


def test_what_an_adapter_puts_down_for_itself_is_nobodys(workspace: Workspace) -> None:
    scribble(workspace, "scratch/cache/answers.json")
    assert found(workspace, "unchanged") == ""
    scribble(workspace, "scratch-2")
    assert found(workspace, "unchanged").endswith("got scratch-2: new")


def test_unchanged_is_as_of_the_last_edit_and_same_as_of_what_was_given(workspace: Workspace) -> None:
    scribble(workspace, "project/new")
    scribble(workspace, PICKS)
    apply(workspace, {"edit": "write", "path": "project/given", "text": "given"})
    assert found(workspace, "unchanged") == ""
    assert found(workspace, "same", path="project/given") == ""
    assert f"{PICKS}: other content" in found(workspace, "same", path=PICKS)
    assert "/Picks/demo_1_ribosome.json: other content" in found(workspace, "same", path="project/ExperimentRuns")
    assert "nothing there" in found(workspace, "same", path="project/new")


def test_same_compares_with_another_path(workspace: Workspace) -> None:
    assert found(workspace, "same", path=STORE, **{"as": STORE}) == ""
    words = found(workspace, "same", path=f"{CROISSANT}/runs.csv", **{"as": PICKS})
    assert words == f"wanted {CROISSANT}/runs.csv as {PICKS}, got {CROISSANT}/runs.csv: other content"


def test_file(workspace: Workspace) -> None:
    apply(
        workspace,
        {"edit": "write", "path": "a", "text": "text"},
        {"edit": "mode", "path": "a", "mode": "0640"},
        {"edit": "link", "path": "b", "to": "a"},
    )
    sha256 = snapshot.entry(workspace.path("a")).content
    assert found(workspace, "file", path="a", text="text", sha256=sha256, mode="640") == ""
    assert found(workspace, "file", path="b", text="text", mode="640", link=True) == ""
    assert (
        found(workspace, "file", path="a", aged=True)
        == "at a: wanted a file that nobody has written, got one that was written anew"
    )
    apply(workspace, {"edit": "age", "path": "."})
    assert found(workspace, "file", path="a", aged=True) == found(workspace, "file", path=PICKS, aged=True) == ""
    assert found(workspace, "file", path="a", link=True) == "wanted a symbolic link a, got a file of its own"
    assert found(workspace, "file", path="a", text="test") == "at a: wanted the text 'test', got 'text'"
    assert found(workspace, "file", path="a", sha256="0") == f"at a: wanted the sha256 0, got {sha256}"
    assert found(workspace, "file", path="a", mode="600") == "at a: wanted the mode 600, got 640"
    assert found(workspace, "file", path="c") == "wanted a file c, got nothing there"
    assert found(workspace, "file", path="project/Objects").endswith("got a directory with ribosome.zarr")


def test_absent_and_directory(workspace: Workspace) -> None:
    apply(workspace, {"edit": "mkdir", "path": "empty"}, {"edit": "link", "path": "broken", "to": "nowhere"})
    assert found(workspace, "absent", path="nowhere") == ""
    assert found(workspace, "absent", path="broken") == "wanted nothing at broken, got a broken link"
    assert found(workspace, "absent", path="empty") == "wanted nothing at empty, got a directory with nothing"
    assert found(workspace, "directory", path="project/Objects", entries=["ribosome.zarr"]) == ""
    assert (
        found(workspace, "directory", path="empty", entries=["a"])
        == 'at empty: wanted 1 element, among them ["a"], got 0 elements'
    )
    assert found(workspace, "directory", path=PICKS) == f"wanted a directory {PICKS}, got a file"


def test_json(workspace: Workspace) -> None:
    assert found(workspace, "json", path=MANIFEST, pointer="/name", expect="complete") == ""
    assert found(workspace, "json", path=MANIFEST, pointer="/nom", absent=True) == ""
    assert found(workspace, "json", path=MANIFEST, expect={"@has": {"@type": "sc:Dataset"}}) == ""
    words = found(workspace, "json", path=MANIFEST, pointer="/name", absent=True)
    assert words == f'wanted nothing at {MANIFEST}#/name, got "complete"'
    assert found(workspace, "json", path=MANIFEST, pointer="/nom", expect=1).endswith("/nom, got nothing")
    assert found(workspace, "json", path=f"{CROISSANT}/runs.csv", expect=1).startswith("wanted a JSON document")
    assert found(workspace, "json", path="nowhere", expect=1).endswith("got No such file or directory")


def test_table(workspace: Workspace) -> None:
    rows = [{"@has": {"name": "TS_001", "split": "train"}}, {"@has": {"name": "TS_002"}}, {"@has": {"split": ""}}]
    columns = ["name", "portal_run_id", "split"]
    assert found(workspace, "table", table="runs", expect=rows, columns=columns) == ""
    assert "at runs.csv: wanted 1 element" in found(workspace, "table", table="runs", expect=rows[:1])
    assert "wanted the columns name" in found(workspace, "table", table="runs", columns=["name"])
    assert found(workspace, "table", table="runs", path="nowhere/metadata.json").startswith(
        "wanted a readable runs.csv"
    )


def test_sums(workspace: Workspace) -> None:
    assert found(workspace, "sums", table="picks") == ""
    assert found(workspace, "sums", table="meshes") == ""
    scribble(workspace, PICKS)
    url = PICKS.removeprefix("project/")
    assert f"got {url} has not the sha256 f717c741" in found(workspace, "sums", table="picks")
    os.unlink(workspace.path(PICKS))
    assert "No such file" in found(workspace, "sums", table="picks")


def test_store(workspace: Workspace) -> None:
    shape = [2, 3, 4]
    assert found(workspace, "store", path=STORE, array="0", shape=shape, dtype="float32") == ""
    assert found(workspace, "store", path=STORE, array="0", shape=[4, 3, 2]).startswith(
        f"at {STORE}/0.shape[0]: wanted 4"
    )
    assert found(workspace, "store", path=STORE, array="0", dtype="uint8").endswith('wanted "uint8", got "float32"')
    assert found(workspace, "store", path=STORE, array="1").startswith(f"wanted a JSON document {STORE}/1/.zarray")
    assert found(workspace, "store", path="project/Objects", array="0").startswith("wanted a zarr store")
    scribble(workspace, f"{STORE}/0/0.0.0")
    assert found(workspace, "store", path=STORE, array="0") == "wanted nested chunks, got 0.0.0"
    apply(workspace, {"edit": "set", "path": f"{STORE}/0/.zarray", "pointer": "/dimension_separator"})
    assert found(workspace, "store", path=STORE, array="0").endswith('wanted "/", got no such member')


@pytest.mark.parametrize(
    ("code", "name"), [("<f4", "float32"), ("|u1", "uint8"), (">i8", "int64"), ("|b1", "bool"), ("|S3", "|S3")]
)
def test_types_have_the_names_of_numpy(workspace: Workspace, code: str, name: str) -> None:
    apply(workspace, {"edit": "set", "path": f"{STORE}/0/.zarray", "pointer": "/dtype", "value": code})
    assert found(workspace, "store", path=STORE, array="0", dtype=name) == ""


def test_picks(workspace: Workspace) -> None:
    assert found(workspace, "picks", path=PICKS, expect={"@has": {"user_id": "demo"}}) == ""
    assert found(workspace, "picks", path=PICKS, expect={"@has": {"user_id": "me"}}).endswith('wanted "me", got "demo"')
    apply(workspace, {"edit": "set", "path": PICKS, "pointer": "/points/1/location/x"})
    assert found(workspace, "picks", path=PICKS).startswith(f"at {PICKS}.points.location.x: wanted ")
    apply(workspace, {"edit": "set", "path": PICKS, "pointer": "/points", "value": 7})
    assert found(workspace, "picks", path=PICKS).startswith(f"at {PICKS}.points: wanted a list")


def test_a_file_that_cannot_be_read_is_a_finding(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("conformance.observer._read", refuse)
    assert "Permission denied" in found(workspace, "file", path=PICKS, text="")


# --- workspace and edits ---------------------------------------------------------------------------------


def test_placeholders_are_filled_everywhere_and_hidden_again(workspace: Workspace) -> None:
    filled = workspace.fill({"a": ["{work}/x", "{project}"], "b": 1})
    assert filled == {"a": [f"{workspace.work}/x", f"{workspace.work}/project"], "b": 1}
    assert workspace.hide(filled["a"][1]) == "{work}/project"
    assert "http" not in workspace.__dict__
    url = workspace.fill("{http}/project/Croissant/runs.csv")
    assert workspace.hide(url) == "{http}/project/Croissant/runs.csv"
    with urllib.request.urlopen(url) as response:
        assert response.read() == Path(workspace.path(f"{CROISSANT}/runs.csv")).read_bytes()
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(workspace.fill("{http}/nowhere"))
    error.value.close()


def test_the_workspace_is_a_bucket_when_it_is_asked_for(workspace: Workspace) -> None:
    assert workspace.environment == {}
    url = workspace.fill("{s3}/project")
    assert url.startswith("s3://")
    assert workspace.hide(url) == "{s3}/project"
    endpoint = workspace.environment["AWS_ENDPOINT_URL"]
    request = urllib.request.Request(f"{endpoint}/{url[5:]}/Croissant/runs.csv", headers={"Authorization": "any"})
    with urllib.request.urlopen(request) as response:
        assert response.read() == Path(workspace.path(f"{CROISSANT}/runs.csv")).read_bytes()


def test_edits(workspace: Workspace) -> None:
    apply(
        workspace,
        {"edit": "write", "path": "new/a.json", "json": {"where": "{work}"}},
        {"edit": "set", "path": "new/a.json", "pointer": "/list", "value": [None]},
        {"edit": "set", "path": "new/a.json", "pointer": "/list/0"},
        {"edit": "move", "path": "new/a.json", "to": "newer/b.json"},
        {"edit": "write", "path": "new/b.bin", "base64": "AAE="},
        {"edit": "remove", "path": "project"},
        {"edit": "link", "path": "link", "to": "newer"},
    )
    assert json.loads(Path(workspace.path("link/b.json")).read_text()) == {"where": workspace.work, "list": []}
    assert Path(workspace.path("new/b.bin")).read_bytes() == b"\x00\x01"
    apply(workspace, {"edit": "remove", "path": "link"})
    assert sorted(os.listdir(workspace.work)) == ["new", "newer"]


@pytest.mark.parametrize(
    "impossible",
    [
        {"edit": "replace", "path": MANIFEST, "old": "not there", "new": ""},
        {"edit": "remove", "path": "nowhere"},
        {"edit": "set", "path": MANIFEST, "pointer": "/nowhere/0", "value": 1},
        {"edit": "set", "path": PICKS, "pointer": "/nowhere"},
        {"edit": "mkdir", "path": "project"},
        {"edit": "write", "path": "../outside", "text": ""},
    ],
)
def test_edits_that_cannot_be_made(workspace: Workspace, impossible: dict[str, Any]) -> None:
    with pytest.raises(EditError, match="the edit cannot be made: "):
        apply(workspace, impossible)


def test_the_lock_of_a_project(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(workspace.path(f"{MANIFEST}.lock"))
    apply(workspace, {"edit": "lock"})
    assert found(workspace, "unchanged") == ""
    other = os.open(path, os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    apply(workspace, {"edit": "unlock"})
    assert not path.exists()
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)
    assert found(workspace, "unchanged") == ""
    with pytest.raises(EditError, match="the edit cannot be made: "):
        apply(workspace, {"edit": "unlock"})

    other = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    monkeypatch.setattr("conformance.workspace._LOCK_SECONDS", 0)
    with pytest.raises(EditError, match="the edit cannot be made: "):
        apply(workspace, {"edit": "lock"})
    path.unlink()  # as who has it does, before giving it back
    apply(workspace, {"edit": "lock"})
    os.close(other)


def test_what_happens_while_unlocking_is_no_edit(workspace: Workspace) -> None:
    apply(workspace, {"edit": "lock"})
    scribble(workspace, f"{CROISSANT}/runs.csv")
    apply(workspace, {"edit": "unlock"})
    assert found(workspace, "unchanged").endswith(f"got {CROISSANT}/runs.csv: other content")


def test_what_goes_while_it_is_looked_at_is_not_there(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = snapshot.entry

    def vanishing(path: str) -> snapshot.Entry:
        if path.endswith("runs.csv"):
            os.unlink(path)
        return entry(path)

    monkeypatch.setattr("conformance.snapshot.entry", vanishing)
    assert found(workspace, "unchanged").endswith(f"got {CROISSANT}/runs.csv: gone")


def test_a_workspace_without_write_permission_is_removed_too(workspace: Workspace) -> None:
    apply(
        workspace,
        {"edit": "mode", "path": CROISSANT, "mode": "500"},
        {"edit": "mode", "path": "project", "mode": "500"},
    )


def test_the_tables_are_those_of_the_specification() -> None:
    lines = (FIXTURES.parents[1] / "SPEC.md").read_text(encoding="utf-8").splitlines()
    found: dict[str, list[str]] = {}
    for line in lines[lines.index("### The ten tables") : lines.index("## URLs [URL]")]:
        if line.startswith("#### "):
            columns = found.setdefault(line[5:], [])
        elif line.startswith("| ") and not line.startswith("| column"):
            columns.append(line.split("|")[1].strip())
    assert found == {table.name: [*(f"**{name}**" for name in table.key), *table.others] for table in TABLES.values()}
