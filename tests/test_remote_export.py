"""Whole-project operations from and to remote storage: the same bytes, few requests at the same time, clear errors."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest
from copick.impl.filesystem import CopickConfigFSSpec, CopickRootFSSpec

from copick_mlc import CroissantIndex, append_croissant, export_croissant, from_croissant, set_splits
from copick_mlc.__main__ import main
from copick_mlc._exporting import Export, ExportOptions
from copick_mlc._repair import repair
from copick_mlc._validation import check
from copick_mlc._verify import verify
from copick_mlc.errors import CroissantWarning, LockedError, ReadOnlyError, StorageError
from copick_mlc.publisher import publish
from tests.conftest import Bucket
from tests.proxy import Proxy, Request, steps
from tests.servers import http_server

LATENCY = 0.05
TABLES = 10


@pytest.fixture(scope="module")
def template(full_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filesystem project that nobody has exported; of its volumes only what is at the top of a store."""
    directory = tmp_path_factory.mktemp("bare") / "project"
    kept = (".zgroup", ".zattrs", ".json", ".glb", ".meta")
    for path in full_template.rglob("*"):
        name = path.relative_to(full_template)
        if name.parts[0] != "Croissant" and path.is_file() and path.name.endswith(kept):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, directory / name)
    return directory


@pytest.fixture
def bare(template: Path, tmp_path: Path) -> Path:
    """A copy of it to write to."""
    return Path(shutil.copytree(template, tmp_path / "project"))


def files_of(project: Path) -> dict[str, bytes]:
    """The artifacts' files of a project, by relative path."""
    paths = (path for part in ("ExperimentRuns", "Objects") for path in (project / part).rglob("*"))
    return {str(path.relative_to(project)): path.read_bytes() for path in paths if path.is_file()}


def upload(project: Path, url: str) -> str:
    """The files of a project at another place, whose URL is given back."""
    fs, base = fsspec.url_to_fs(url)
    fs.pipe({f"{base}/{name}": data for name, data in files_of(project).items()})
    return url


def opened(project: Path, overlay: str) -> CopickRootFSSpec:
    """The project of a directory, opened with another overlay, as copick does."""
    config = json.loads((project / "copick_config.json").read_text())
    options = {"auto_mkdir": True} if overlay.startswith("local://") else {}
    return CopickRootFSSpec(CopickConfigFSSpec(**{**config, "overlay_root": overlay, "overlay_fs_args": options}))


def fetched(directory: str) -> dict[str, bytes]:
    """What lies in a directory, by relative path."""
    fs, base = fsspec.url_to_fs(directory)
    fs.invalidate_cache()
    return {name.removeprefix(f"{base}/"): fs.cat_file(name) for name in fs.find(base)}


def told(function: Any, *arguments: Any, **options: Any) -> tuple[Any, list[str]]:
    """What a function gives, and what it warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CroissantWarning)
        result = function(*arguments, **{"validate": False, **options})
    return result, [str(found.message) for found in caught]


def quietly(function: Any, *arguments: Any, **options: Any) -> Any:
    return told(function, *arguments, **options)[0]


def kind(request: Request) -> str:
    return "LIST" if request.method == "GET" and "list-type" in request.query else request.method


def counts(seen: list[Request]) -> Counter[str]:
    return Counter(map(kind, seen))


def targets(seen: list[Request], of: str) -> list[str]:
    """What the requests of a kind are for."""
    return [
        f"{request.path}?{request.query}" if of == "LIST" else request.path for request in seen if kind(request) == of
    ]


def a_picks_file(project: Path) -> str:
    return next(name for name in files_of(project) if "/Picks/" in name)


@pytest.fixture
def memory() -> Iterator[str]:
    """The URL of a new directory in memory."""
    name = f"export-{secrets.token_hex(6)}"
    yield f"memory://{name}"
    fs = fsspec.filesystem("memory")
    if fs.exists(f"/{name}"):
        fs.rm(f"/{name}", recursive=True)


@pytest.fixture(params=["s3", "memory"])
def remote(request: pytest.FixtureRequest) -> str:
    """The URL of a new directory on remote storage."""
    return f"{request.getfixturevalue(request.param)}/project"


# --- the bytes -------------------------------------------------------------------------------------------


def test_an_export_from_and_to_remote_storage_is_the_local_one(bare: Path, remote: str, tmp_path: Path) -> None:
    _, said = told(export_croissant, opened(bare, f"local://{bare}"), bare)
    expected = fetched(str(bare / "Croissant"))
    assert len(expected) == TABLES + 1
    upload(bare, remote)
    source = opened(bare, remote)
    assert told(export_croissant, source, remote) == (f"{remote}/Croissant/metadata.json", said)
    assert fetched(f"{remote}/Croissant") == expected

    outside, said_outside = told(export_croissant, source, tmp_path / "out", license="MIT")
    assert outside == str(tmp_path / "out/Croissant/metadata.json")
    assert any("lie outside" in text for text in said_outside)
    urls = fetched(str(tmp_path / "out/Croissant"))["picks.csv"].decode()
    assert urls.replace(f"{remote}/", "") == expected["picks.csv"].decode()


def test_a_croissant_project_on_s3_is_exported_from_its_tables(bare: Path, s3_proxy: Bucket) -> None:
    manifest = quietly(export_croissant, opened(bare, upload(bare, f"{s3_proxy.url}/p")), f"{s3_proxy.url}/p")
    root = from_croissant(manifest)
    with s3_proxy.proxy.counting() as seen:
        copied = quietly(export_croissant, root, f"{s3_proxy.url}/q")
    assert counts(seen)["GET"] <= TABLES + 4  # the tables; the manifest of the target, which is not there
    assert counts(seen)["PUT"] == TABLES + 1
    names = [request.path.rpartition("/")[2] for request in seen if kind(request) == "PUT"]
    assert names[-1] == "metadata.json", "tables come before the manifest that names them"
    one, two = CroissantIndex.from_url(manifest), CroissantIndex.from_url(copied)
    for name in ("runs", "picks", "tomograms"):
        absolute = [{one.absolute_url(row.url)} if hasattr(row, "url") else row.key for row in one.rows(name)]
        assert absolute == [{row.url} if hasattr(row, "url") else row.key for row in two.rows(name)]


def test_threads_of_an_executor_give_the_same(bare: Path, s3: str) -> None:
    source = opened(bare, upload(bare, f"{s3}/p"))
    alone = told(export_croissant, source, f"{s3}/alone")
    with ThreadPoolExecutor(3) as executor:
        others = told(export_croissant, source, f"{s3}/others", executor=executor)
    assert others[1] == [text.replace("/alone", "/others") for text in alone[1]]
    assert fetched(f"{s3}/alone") == fetched(f"{s3}/others")


# --- requests --------------------------------------------------------------------------------------------


def test_an_export_lists_each_directory_once_and_reads_each_file_once(bare: Path, s3_proxy: Bucket) -> None:
    upload(bare, f"{s3_proxy.url}/p")
    source = opened(bare, f"{s3_proxy.url}/p")
    bucket = s3_proxy.url.removeprefix("s3://")
    with s3_proxy.proxy.counting() as seen:
        quietly(export_croissant, source, f"{s3_proxy.url}/p")
    names = files_of(bare)
    read = [path for path in targets(seen, "GET") if not path.endswith("/metadata.json")]
    assert sorted(read) == sorted(
        f"/{bucket}/p/{name}" for name in names if name.endswith((".json", ".glb")) and "/." not in name
    )
    listings = targets(seen, "LIST")
    of_tables = [text for text in listings if "Croissant" in text or "prefix=p%2F&" in text or "prefix=p/&" in text]
    of_data = [text for text in listings if text not in of_tables]
    assert len(of_data) == len(set(of_data))
    directories = {name.rpartition("/")[0] for name in names}
    runs = {"/".join(name.split("/")[:2]) for name in names if name.startswith("ExperimentRuns/")}
    kinds = {
        "/".join(name.split("/")[:3])
        for name in directories
        if name.startswith("ExperimentRuns/") and name.count("/") > 1
    }
    assert len(of_data) == len(runs) + len(kinds) + 2, "ExperimentRuns and Objects besides"
    assert len(of_tables) <= 3  # where there is none, s3fs looks whether it is a file
    assert counts(seen)["HEAD"] == 1, "whether the density map is one"
    assert counts(seen)["PUT"] == TABLES + 1


def many_picks(bare: Path) -> None:
    """More runs and picks than the project has."""
    run = bare / "ExperimentRuns/TS_001"
    for number in range(2):
        shutil.copytree(run, bare / f"ExperimentRuns/more_{number}")
    for number in range(6):
        shutil.copy(bare / a_picks_file(bare), run / f"Picks/many_{number}_ribosome.json")


def operations() -> dict[str, Callable[[Path, str, str], object]]:
    """What is done with a filesystem project on S3, and its manifest there, by name; few steps are those of threads."""
    return {
        "export": lambda bare, source, _: quietly(export_croissant, opened(bare, source), f"{source}-2"),
        "append": lambda bare, source, manifest: quietly(append_croissant, manifest, opened(bare, source)),
        "verify": lambda _bare, _source, manifest: verify(manifest),
        "repair": lambda _bare, _source, manifest: repair(manifest, add_missing=True, dry_run=True),
        "validate": lambda _bare, _source, manifest: check(manifest),
    }


def test_requests_are_made_at_the_same_time(bare: Path, s3_proxy: Bucket) -> None:
    many_picks(bare)
    source = upload(bare, f"{s3_proxy.url}/p")
    manifest = quietly(export_croissant, opened(bare, source), source, runs=["TS_001"])
    s3_proxy.proxy.latency = LATENCY
    for name, operation in operations().items():
        with s3_proxy.proxy.counting() as seen:
            operation(bare, source, manifest)
        assert len(seen) > TABLES, name
        assert steps(seen) <= len(seen) / 2, (name, [str(request) for request in seen])


def test_where_no_thread_can_start_all_is_done_in_turn(
    bare: Path, s3_proxy: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = upload(bare, f"{s3_proxy.url}/p")
    expected = quietly(export_croissant, opened(bare, source), f"{s3_proxy.url}/threads")
    monkeypatch.setattr("copick_mlc._waiting.sys", SimpleNamespace(platform="emscripten"))
    monkeypatch.setattr("copick_mlc._waiting.ThreadPoolExecutor", _refuse)
    with s3_proxy.proxy.counting() as seen:
        alone = quietly(export_croissant, opened(bare, source), f"{s3_proxy.url}/alone")
    assert steps(seen) == len(seen)
    monkeypatch.undo()
    assert fetched(alone.rpartition("/")[0]) == fetched(expected.rpartition("/")[0])


def _refuse(*_: object) -> None:
    raise RuntimeError("can't start new thread")


def test_set_splits_reads_no_more_than_the_runs(bare: Path, s3_proxy: Bucket) -> None:
    source = upload(bare, f"{s3_proxy.url}/p")
    manifest = quietly(export_croissant, opened(bare, source), source)
    with s3_proxy.proxy.counting() as seen:
        set_splits(manifest, {"train": ["TS_001"]})
    read = {path.rpartition("/")[2] for path in targets(seen, "GET")}
    assert read == {"metadata.json", "runs.csv"}
    assert not targets(seen, "LIST")
    assert CroissantIndex.from_url(manifest).splits() == {"train": ["TS_001"]}


# --- failures --------------------------------------------------------------------------------------------


def _lists(prefix: str) -> Callable[[Request], bool]:
    return lambda request: kind(request) == "LIST" and prefix in request.query.replace("%2F", "/")


def test_a_directory_that_may_not_be_listed_is_an_error(bare: Path, s3_proxy: Bucket) -> None:
    source = upload(bare, f"{s3_proxy.url}/p")
    manifest = quietly(export_croissant, opened(bare, source), f"{s3_proxy.url}/there", runs=["empty"], objects=[])
    run = "ExperimentRuns/TS_001"
    for name in ("ExperimentRuns", run, f"{run}/Picks", f"{run}/VoxelSpacing10.000", "Objects"):
        rule = s3_proxy.proxy.fault(_lists(f"{name}/&"), 403)
        for operation, arguments in (
            (export_croissant, (opened(bare, source), f"{s3_proxy.url}/new")),
            (append_croissant, (manifest, opened(bare, source))),
        ):
            rule.hits = 0
            with s3_proxy.proxy.counting() as seen, pytest.raises(StorageError) as caught:
                quietly(operation, *arguments)
            assert rule.hits
            assert caught.value.path == f"{source}/{name}"
            assert not targets(seen, "PUT")
        s3_proxy.proxy.heal()


def test_a_file_that_may_not_be_read_is_an_error(bare: Path, s3_proxy: Bucket) -> None:
    source = upload(bare, f"{s3_proxy.url}/p")
    name = a_picks_file(bare)
    rule = s3_proxy.proxy.fault(("GET", name), 403)
    with s3_proxy.proxy.counting() as seen, pytest.raises(StorageError, match=re.escape(name)):
        quietly(export_croissant, opened(bare, source), source)
    assert rule.hits
    assert not targets(seen, "PUT")


def test_an_export_that_may_not_write_leaves_no_manifest(bare: Path, s3_proxy: Bucket) -> None:
    source = upload(bare, f"{s3_proxy.url}/p")
    rule = s3_proxy.proxy.fault(("PUT", "picks.csv"), 403)
    with pytest.raises(StorageError, match=r"picks\.csv"):
        quietly(export_croissant, opened(bare, source), source)
    assert rule.hits
    s3_proxy.proxy.heal()
    assert "metadata.json" not in fetched(f"{source}/Croissant")


@pytest.mark.parametrize("operation", [export_croissant, publish])
def test_a_target_that_can_only_be_read_is_refused_before_anything_is_read(
    bare: Path, s3_proxy: Bucket, tmp_path: Path, operation: Any
) -> None:
    source = opened(bare, f"{s3_proxy.url}/p")
    with (
        http_server(tmp_path) as url,
        Proxy(url) as web,
        web.counting() as asked,
        s3_proxy.proxy.counting() as seen,
        pytest.raises(ReadOnlyError, match="can only be read") as caught,
    ):
        quietly(operation, source, f"{web.url}/project")
    assert caught.value.code == "read-only"
    assert (asked, seen) == ([], [])


# --- append and publish ----------------------------------------------------------------------------------


def written(export: Export, before: Callable[[object], None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CroissantWarning)
        export.write(before)


def test_an_export_replaces_nothing_that_others_commit_meanwhile(bare: Path, s3: str) -> None:
    source = upload(bare, f"{s3}/p")
    manifest = quietly(export_croissant, opened(bare, source), source)
    before = fetched(source)
    export = Export(opened(bare, source), source, ExportOptions(force=True, validate=False))

    def meanwhile(_: object) -> None:
        set_splits(manifest, {"train": ["TS_001"]})

    with pytest.raises(LockedError, match="meanwhile"):
        written(export, meanwhile)
    assert CroissantIndex.from_url(manifest).splits() == {"train": ["TS_001"]}
    assert fetched(source).keys() == before.keys()


def test_two_first_exports_at_once_do_not_mix(bare: Path, s3: str) -> None:
    """The one whose tables are there first has the place; the other finds its manifest, and leaves nothing."""
    source = upload(bare, f"{s3}/p")
    target = f"{s3}/new"
    export = Export(opened(bare, source), target, ExportOptions(validate=False, base_url=source))

    def meanwhile(_: object) -> None:
        quietly(export_croissant, opened(bare, source), target, runs=["empty"], dataset_name="other", base_url=source)

    with pytest.raises(LockedError, match="meanwhile"):
        written(export, meanwhile)
    index = CroissantIndex.from_url(f"{target}/Croissant/metadata.json")
    assert index.document["name"] == "other"
    assert index.groups("runs") == ["empty"]
    assert not [name for name in fetched(target) if name.endswith(".pending")]


def test_repair_replaces_nothing_that_others_commit_meanwhile(bare: Path, s3_proxy: Bucket) -> None:
    source = upload(bare, f"{s3_proxy.url}/p")
    manifest = quietly(export_croissant, opened(bare, source), source)
    fs, path = fsspec.url_to_fs(manifest)
    fs.pipe_file(path, fs.cat_file(path).replace(b'"contentSize": "', b'"contentSize": "9'))
    rule = s3_proxy.proxy.fault(
        lambda request: request.method == "PUT" and request.path.endswith("metadata.json"),
        lambda request: set_splits(manifest, {"train": ["TS_001"]}),
        times=1,
    )
    with pytest.raises(LockedError, match="meanwhile"):
        repair(manifest)
    assert rule.hits == 1
    assert CroissantIndex.from_url(manifest).splits() == {"train": ["TS_001"]}
    assert repair(manifest)
    assert repair(manifest) == []


def test_append_to_s3_gives_the_bytes_of_a_local_one(bare: Path, s3: str, tmp_path: Path) -> None:
    source = upload(bare, f"{s3}/p")
    local = quietly(export_croissant, opened(bare, source), tmp_path, runs=["TS_001"])
    manifest = quietly(export_croissant, opened(bare, source), f"{s3}/q", runs=["TS_001"])
    for place in (local, manifest):
        quietly(append_croissant, place, opened(bare, source), splits={"val": ["TS_002"]})
    assert fetched(f"{s3}/q/Croissant") == fetched(str(tmp_path / "Croissant"))


@pytest.mark.parametrize("place", ["local", "s3"])
def test_a_publication_to_s3_that_is_broken_off_goes_on(bare: Path, s3_proxy: Bucket, place: str) -> None:
    source = f"local://{bare}" if place == "local" else upload(bare, f"{s3_proxy.url}/p")
    target, names = f"{s3_proxy.url}/release", files_of(bare)
    last = max(name for name in names if name.endswith(".glb"))
    rule = s3_proxy.proxy.fault(("PUT", last), 403)
    with pytest.raises(StorageError, match=re.escape(last)):
        quietly(publish, opened(bare, source), target)
    assert rule.hits
    s3_proxy.proxy.heal()
    made = fetched(target)
    assert not any(name.startswith("Croissant/") for name in made)
    with s3_proxy.proxy.counting() as seen:
        manifest = quietly(publish, opened(bare, source), target)
    put = {path.partition("/release/")[2] for path in targets(seen, "PUT")}
    assert put.isdisjoint(made)
    assert last in put
    found = fetched(target)
    copied = {name: data for name, data in found.items() if not name.startswith("Croissant/")}
    assert copied == {name: data for name, data in names.items() if not name.endswith("/.meta")}
    assert CroissantIndex.from_url(manifest).base_url == target


def test_a_publication_from_s3_copies_at_the_same_time(bare: Path, s3_proxy: Bucket, tmp_path: Path) -> None:
    source = upload(bare, f"{s3_proxy.url}/p")
    s3_proxy.proxy.latency = LATENCY
    with s3_proxy.proxy.counting() as seen:
        quietly(publish, opened(bare, source), tmp_path / "release")
    assert steps(seen) <= len(seen) / 2
    copied = files_of(tmp_path / "release")
    assert copied == {name: data for name, data in files_of(bare).items() if not name.endswith("/.meta")}


# --- the command line ------------------------------------------------------------------------------------


def s3_config(bare: Path, overlay: str, options: dict[str, Any]) -> Path:
    """A copick configuration of the project with its overlay on S3."""
    path = bare / "s3.json"
    values = json.loads((bare / "copick_config.json").read_text())
    path.write_text(json.dumps({**values, "overlay_root": overlay, "overlay_fs_args": options}))
    return path


def test_commands_on_s3(bare: Path, s3: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = s3_config(bare, upload(bare, f"{s3}/p"), {})
    manifest = f"{s3}/p/Croissant/metadata.json"
    assert main(["export", "--config", str(config), "--project-root", f"{s3}/p"]) == 0
    assert f"wrote {manifest}" in capsys.readouterr().out
    assert main(["inspect", manifest]) == 0
    assert "TS_001" in capsys.readouterr().out
    assert main(["verify", manifest]) == 0
    assert "nothing found" in capsys.readouterr().out
    assert main(["validate", manifest]) == 1  # it has no license
    assert "mlcroissant warns" in capsys.readouterr().out
    assert main(["repair", "--dry-run", manifest]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(["set-splits", "--croissant", manifest, "--split", "train=TS_001"]) == 0
    assert "train (1)" in capsys.readouterr().out
    assert main(["append", "--croissant", manifest, "--source-config", str(config)]) == 0
    assert "rows that are new: none" in capsys.readouterr().out
    assert main(["publish", "--config", str(config), "--project-root", f"{s3}/release"]) == 0
    assert CroissantIndex.from_url(f"{s3}/release/Croissant/metadata.json").count("runs") == 3


def test_fsspec_options_lead_where_the_environment_does_not(bare: Path, s3_proxy: Bucket, s3_endpoint: str) -> None:
    arguments = {"endpoint_url": s3_endpoint}
    options = ["--fs-args", json.dumps(arguments)]
    data = [*options, "--static-fs-args", json.dumps(arguments)]
    source = upload(bare, f"{s3_proxy.url}/p")
    config = ["--config", str(s3_config(bare, source, arguments))]
    manifest = f"{source}/Croissant/metadata.json"
    with s3_proxy.proxy.counting() as seen:
        assert main(["export", *options, *config, "--project-root", source]) == 0
        assert main(["inspect", *data, manifest]) == 0
        assert main(["verify", *data, manifest]) == 0
        assert main(["repair", "--add-missing", *data, manifest]) == 0
        assert main(["validate", *options, manifest]) == 1  # it has no license
        assert main(["set-splits", *options, "--croissant", manifest, "--split", "val=TS_002"]) == 0
        assert main(["append", *options, "--croissant", manifest, "--source-config", config[1]]) == 0
        assert main(["export", *options, *config, "--project-root", source, "--force"]) == 0
        assert main(["publish", *options, *config, "--project-root", f"{s3_proxy.url}/r"]) == 0
    assert [str(request) for request in seen] == []
    assert main(["verify", *options, manifest]) == 0, "the data has options of its own"
    assert CroissantIndex.from_url(manifest).splits() == {"val": ["TS_002"]}
    assert CroissantIndex.from_url(f"{s3_proxy.url}/r/Croissant/metadata.json").count("runs") == 3


def test_a_base_url_says_where_the_data_is(bare: Path, s3: str, tmp_path: Path) -> None:
    quietly(export_croissant, opened(bare, f"local://{bare}"), bare)
    shutil.copytree(bare / "Croissant", tmp_path / "alone/Croissant")
    manifest = str(tmp_path / "alone/Croissant/metadata.json")
    upload(bare, f"{s3}/p")
    assert main(["verify", manifest]) == 1
    assert main(["verify", "--base-url", f"{s3}/p", manifest]) == 0
    assert main(["repair", "--drop-dangling", "--base-url", f"{s3}/p", manifest]) == 0
    config = s3_config(bare, f"{s3}/p", {})
    before = CroissantIndex.from_url(manifest)
    rows = list(before.rows("picks"))
    command = ["append", "--croissant", manifest, "--source-config", str(config), "--no-validate"]
    assert main([*command, "--base-url", f"{s3}/p"]) == 0
    assert list(CroissantIndex.from_url(manifest).rows("picks")) == rows, "their URLs are below that base"


COMMANDS = {
    "verify": ["m"],
    "validate": ["m"],
    "inspect": ["m"],
    "repair": ["m"],
    "append": ["--croissant", "m", "--source-config", "c"],
    "set-splits": ["--croissant", "m", "--clear-all"],
    "export": ["--config", "c"],
    "publish": ["--config", "c", "--project-root", "p"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("text", "message"), [("[1]", "is not a JSON object"), ("{", "is not JSON")])
def test_options_that_are_no_json_object_are_wrong_usage(
    command: str, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--fs-args", text, *COMMANDS[command]])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "--fs-args" in said
    assert message in said
