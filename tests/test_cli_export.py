"""`export`, `append` and `set-splits` on the command line, as far as tests/test_cli.py does not go."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import copick
import pytest

from copick_mlc import CroissantIndex, export_croissant, from_croissant, from_file
from copick_mlc.__main__ import _parser, main
from copick_mlc._choices import Choices
from copick_mlc._exporting import ExportOptions
from copick_mlc._tables import TABLES, cells_of
from copick_mlc.errors import CroissantWarning
from tests.projects import inventory, tree
from tests.servers import refusing_endpoint


@pytest.fixture
def config(project: Path) -> Path:
    """The configuration of a project that nobody has exported."""
    shutil.rmtree(project / "Croissant")
    return project / "copick_config.json"


def places(directory: Path) -> dict[str, int]:
    """Every file and directory, hidden ones too, and when it was changed."""
    return {str(path): path.stat().st_mtime_ns for path in [directory, *directory.rglob("*")]}


def all_rows(manifest: Path) -> dict[str, set[str]]:
    index = CroissantIndex.from_url(str(manifest))
    return {name: {str(cells_of(row)) for row in index.rows(name)} for name in TABLES}


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What is said of arguments that make no sense."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: ")
    return captured.err


# --- export ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [None, "new/place"])
@pytest.mark.parametrize("more", [[], ["--jobs", "2", "--shard", "1/2"]])
def test_a_dry_run_touches_nothing_and_says_what_would_be_written(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str | None, more: list[str]
) -> None:
    arguments = ["export", "--config", str(config), "--license", "MIT", "--cite-as", "me", *more]
    if target:
        arguments += ["--project-root", str(tmp_path / target)]
    before = places(tmp_path)
    emit = ["--emit-config", str(tmp_path / "emitted.json")]
    assert main([*arguments, *emit, "--dry-run"]) == 0
    assert places(tmp_path) == before
    said = capsys.readouterr()

    assert main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr().err == said.err
    assert ("artifacts lie outside" in said.err) is bool(target)
    manifest = (tmp_path / target if target else config.parent) / "Croissant" / "metadata.json"
    lines = said.out.splitlines()
    assert lines[0] == f"would write {manifest} ({manifest.stat().st_size} bytes)"
    rows = all_rows(manifest)
    assert [line.split() for line in lines[1 : 1 + len(TABLES)]] == [
        [f"{name}.csv", str(len(rows[name])), "rows", str((manifest.parent / f"{name}.csv").stat().st_size), "bytes"]
        for name in TABLES
    ]
    assert lines[-1] == "nothing is written"


def test_a_dry_run_says_what_is_wrong_as_the_export_does(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", "--config", str(config)]
    assert main([*arguments, "--quiet"]) == 0
    before = places(config.parent)
    capsys.readouterr()
    assert main([*arguments, "--dry-run"]) == 1
    assert "[exists]" in capsys.readouterr().err
    assert main([*arguments, "--dry-run", "--force", "--split", "train=nobody"]) == 1
    assert "nobody" in capsys.readouterr().err
    assert main([*arguments, "--dry-run", "--force"]) == 0
    assert places(config.parent) == before


def test_more_processes_write_the_same_bytes(config: Path, tmp_path: Path) -> None:
    trees = []
    for jobs in ("1", "2"):
        target = tmp_path / jobs
        arguments = ["export", "--config", str(config), "--project-root", str(target), "--jobs", jobs, "--quiet"]
        assert main([*arguments, "--no-validate"]) == 0
        trees.append(tree(target))
    assert trees[0] == trees[1]


def test_shards_that_are_appended_are_the_whole(config: Path, tmp_path: Path) -> None:
    def export(target: str, *more: str) -> Path:
        arguments = ["export", "--config", str(config), "--project-root", str(tmp_path / target), "--quiet"]
        splits = ["--split", "train=TS_001", "--split", "val=TS_002"]
        assert main([*arguments, *splits, "--no-validate", *more]) == 0
        return tmp_path / target / "Croissant" / "metadata.json"

    whole = export("whole")
    count = 4  # and one part has nothing
    parts = [export(f"part-{part}", "--shard", f"{part}/{count}") for part in range(1, count + 1)]
    runs = [all_rows(part)["runs"] for part in parts]
    assert sum(map(len, runs)) == len(set[str]().union(*runs)) == 3
    assert sorted(map(len, runs)) == [0, 1, 1, 1]
    for part in parts[1:]:
        assert main(["append", "--croissant", str(parts[0]), "--source-config", str(part), "--quiet"]) == 0
    assert all_rows(parts[0]) == all_rows(whole)
    assert inventory(from_croissant(parts[0])) == inventory(from_croissant(whole))
    assert from_croissant(parts[0]).splits == {"train": ["TS_001"], "val": ["TS_002"]}


def test_a_shard_is_of_the_runs_that_are_wanted(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", "--config", str(config), "--project-root", str(tmp_path / "out"), "--no-validate"]
    assert main([*arguments, "--runs", "TS_002,empty", "--shard", "2/2"]) == 0
    index = CroissantIndex.from_url(str(tmp_path / "out/Croissant/metadata.json"))
    assert index.groups("runs") == ["empty"]
    capsys.readouterr()
    assert main([*arguments, "--force", "--shard", "1/2", "--split", "train=TS_009"]) == 1
    assert "TS_009" in capsys.readouterr().err


def test_of_a_shard_everything_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = Path(__file__).parent.parent / "conformance/fixtures/foreign/project/Croissant/metadata.json"
    arguments = ["export", "--config", str(source), "--project-root", str(tmp_path), "--shard", "1/2", "--quiet"]
    assert main([*arguments, "--no-validate"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert "warning: picks.csv: the columns note are not of the format and not exported" in said
    assert len(said) == len(set(said))


# --- the configuration that an export comes with ---------------------------------------------------------


@pytest.mark.parametrize("overlay", [None, "here", "local://", "file://", "memory://overlay"])
def test_the_configuration_opens_the_export(config: Path, tmp_path: Path, overlay: str | None) -> None:
    emitted = tmp_path / "emitted.json"
    location = overlay if overlay is None or "memory" in overlay else f"{overlay.removesuffix('here')}{tmp_path}/over"
    arguments = ["export", "--config", str(config), "--emit-config", str(emitted), "--quiet", "--no-validate"]
    if location:
        arguments += ["--config-overlay", location]
    assert main(arguments) == 0
    values = json.loads(emitted.read_text())
    assert values["config_type"] == "mlcroissant"
    assert values["croissant_url"] == str(config.parent / "Croissant" / "metadata.json")
    assert values["static_fs_args"] == {"auto_mkdir": True}  # of the source's overlay
    assert values["croissant_fs_args"] == {}
    expected = inventory(copick.from_file(str(config)), data=overlay is None)
    roots: dict[str, Any] = {"copick's": copick.from_file(str(emitted)), "ours": from_file(emitted)}
    for root in roots.values():
        assert inventory(root, data=overlay is None) == expected
        assert root.mode == ("A" if overlay is None else "B")
    if overlay != "memory://overlay":
        for whose, root in roots.items():
            root.get_run("empty").new_picks("ribosome", "1", "me" if whose == "ours" else "they").store()
    if overlay is None:
        assert not values.get("overlay_root")
    elif overlay == "memory://overlay":
        assert values["overlay_root"] == overlay
        assert values["overlay_fs_args"] == {}
    else:
        assert values["overlay_fs_args"] == {"auto_mkdir": True}
        assert len(list((tmp_path / "over/ExperimentRuns/empty/Picks").iterdir())) == 2


def test_the_configuration_has_the_options_that_are_given(config: Path, tmp_path: Path) -> None:
    emitted = tmp_path / "emitted.json"
    arguments = [
        *("export", "--config", str(config), "--emit-config", str(emitted), "--quiet", "--no-validate"),
        *("--config-overlay", str(tmp_path / "over"), "--config-overlay-fs-args", '{"auto_mkdir": false}'),
        *("--config-static-fs-args", '{"use_listings_cache": false}', "--config-croissant-fs-args", '{"x": [1]}'),
    ]
    assert main(arguments) == 0
    values = json.loads(emitted.read_text())
    assert values["overlay_fs_args"] == {"auto_mkdir": False}
    assert values["static_fs_args"] == {"use_listings_cache": False}
    assert values["croissant_fs_args"] == {"x": [1]}
    manifest = (config.parent / "Croissant" / "metadata.json").read_text()
    assert "use_listings_cache" not in manifest


def test_of_a_portal_project_data_is_read_anonymously(
    portal: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, emitted = tmp_path / "source.json", tmp_path / "emitted.json"
    source.write_text(portal.config.model_dump_json())
    arguments = ["export", "--config", str(source), "--project-root", str(tmp_path / "out"), "--emit-config"]
    assert main([*arguments, str(emitted), "--no-validate", "--no-file-sha256", "--quiet"]) == 0
    assert json.loads(emitted.read_text())["static_fs_args"] == {"anon": True}
    ours = from_file(emitted).get_run("16463")
    assert ours is not None
    assert len(ours.get_picks("ribosome", "data-portal", "5001")[0].numpy()[0]) == 3


# --- append ----------------------------------------------------------------------------------------------


def test_append_says_what_is_new(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = copick.from_file(str(config))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CroissantWarning)
        manifest = export_croissant(source, tmp_path / "out", runs=["TS_001"], license="MIT")
    arguments = ["append", "--croissant", manifest, "--source-config", str(config)]
    assert main([*arguments, "--runs", "TS_002", "--split", "val=TS_002", "--picks", "ribosome:demo/*"]) == 0
    said = capsys.readouterr()
    new = (
        "1 runs, 1 voxel spacings, 2 tomograms, 1 features, 1 picks, 1 meshes, 2 segmentations, "
        "1 instance segmentations, 1 panoptic segmentations"
    )
    assert said.out.splitlines() == [
        f"appended to {manifest}",
        f"  rows that are new: {new}",
    ]
    assert "is recommended" not in said.err
    assert main([*arguments, "--runs", "TS_002"]) == 0
    assert "rows that are new: 1 picks" in capsys.readouterr().out
    assert main([*arguments, "--runs", "TS_002", "--quiet", "--jobs", "2"]) == 0
    assert capsys.readouterr().out == ""
    assert from_croissant(manifest).splits == {"val": ["TS_002"]}


def test_append_needs_its_destination_and_changes_nothing_else(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = places(tmp_path)
    missing = tmp_path / "nowhere" / "metadata.json"
    assert main(["append", "--croissant", str(missing), "--source-config", str(config)]) == 1
    error = capsys.readouterr().err
    assert "[manifest-missing]" in error
    assert error.count("\n") == 1
    assert places(tmp_path) == before


# --- set-splits ------------------------------------------------------------------------------------------


def test_splits_are_set_by_options_and_file(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "splits.csv").write_text("split,run\ntest,TS_001\ntest,empty\n")
    command = ["set-splits", "--croissant", str(manifest)]
    assert main([*command, "--splits-file", str(tmp_path / "splits.csv"), "--unassign", "empty,TS_002"]) == 0
    assert capsys.readouterr().out == f"wrote {manifest}\n  splits: test (1)\n"
    assert from_croissant(manifest).splits == {"test": ["TS_001"]}
    assert main([*command, "--clear-all", "--split", "a=TS_002", "--split", "a=empty"]) == 0
    assert "splits: a (2)" in capsys.readouterr().out
    assert main([*command, "--clear-all"]) == 0
    assert "splits: none" in capsys.readouterr().out
    before = tree(manifest.parent)
    assert main([*command, "--split", "train=TS_009"]) == 1
    assert "[run-unknown]" in capsys.readouterr().err
    assert tree(manifest.parent) == before


# --- wrong usage -----------------------------------------------------------------------------------------

EXPORT = ["export", "--config", "config.json"]
WRONG_USAGE: dict[str, tuple[list[str], str]] = {
    "overlay without --emit-config": ([*EXPORT, "--config-overlay", "x"], "need --emit-config"),
    "overlay options without --emit-config": ([*EXPORT, "--config-overlay-fs-args", "{}"], "need --emit-config"),
    "static options without --emit-config": ([*EXPORT, "--config-static-fs-args", "{}"], "need --emit-config"),
    "croissant options without --emit-config": ([*EXPORT, "--config-croissant-fs-args", "{}"], "need --emit-config"),
    "no JSON": ([*EXPORT, "--emit-config", "x", "--config-static-fs-args", "{a"], "'{a' is not JSON"),
    "no JSON object": ([*EXPORT, "--emit-config", "x", "--config-static-fs-args", "[1]"], "'[1]' is not a JSON object"),
    "two sources": ([*EXPORT, "--source-dataset-ids", "1"], "not allowed with argument"),
    "no source": (["export"], "one of the arguments --config --source-dataset-ids is required"),
    "two sources to append": (
        ["append", "--croissant", "x", "--source-config", "y", "--source-dataset-ids", "1"],
        "not allowed with argument",
    ),
    "no source to append": (
        ["append", "--croissant", "x"],
        "one of the arguments --source-config --source-dataset-ids is required",
    ),
    "no destination": (["append", "--source-config", "x"], "--croissant"),
    "dataset ids": (["export", "--source-dataset-ids", "1,b"], "'1,b' is not a list NUMBER,NUMBER,…"),
    "no dataset ids": (["export", "--source-dataset-ids", ""], "'' is not a list NAME,NAME,…"),
    "a portal project without place": (["export", "--source-dataset-ids", "1"], "needs --project-root"),
    "no jobs": ([*EXPORT, "--jobs", "0"], "'0' is not a positive number"),
    "jobs": ([*EXPORT, "--jobs", "two"], "'two' is not a positive number"),
    "negative jobs": ([*EXPORT, "--jobs=-1"], "'-1' is not a positive number"),
    "shard": ([*EXPORT, "--shard", "1"], "'1' is not K/N, with K from 1 to N"),
    "shard 0": ([*EXPORT, "--shard", "0/2"], "'0/2' is not K/N"),
    "a shard too many": ([*EXPORT, "--shard", "3/2"], "'3/2' is not K/N"),
    "shard by words": ([*EXPORT, "--shard", "a/b"], "'a/b' is not K/N"),
    "map": ([*EXPORT, "--tomo-type-map", "wbp"], "'wbp' is not a list OLD:NEW,OLD:NEW,…"),
    "map twice": ([*EXPORT, "--object-name-map", "a:b,a:c"], "'a:b,a:c' names one twice"),
    "fields": ([*EXPORT, "--picks-portal-meta", "a"], "'a' is not a list FIELD=VALUE,FIELD=VALUE,…"),
    "split": (["set-splits", "--croissant", "x", "--split", "train"], "'train' is not NAME=RUN,RUN,…"),
    "no splits": (["set-splits", "--croissant", "x"], "nothing to do: give --split"),
    "names": ([*EXPORT, "--runs", "a,,b"], "'a,,b' is not a list NAME,NAME,…"),
}


@pytest.mark.parametrize("what", WRONG_USAGE)
def test_wrong_usage(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = WRONG_USAGE[what]
    assert message in refused(arguments, capsys)


# --- the portal ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["export", "--project-root"], ["append", "--croissant"]])
def test_a_portal_that_cannot_be_reached(manifest: Path, tmp_path: Path, command: list[str]) -> None:
    """Every host is, for the proxy that leads there refuses."""
    target = manifest if command[0] == "append" else tmp_path / "out"
    before = tree(tmp_path)
    arguments = [sys.executable, "-m", "copick_mlc", *command, str(target), "--source-dataset-ids", "10301,10302"]
    with refusing_endpoint() as proxy:
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
        environment = {**os.environ, **dict.fromkeys(names, proxy), "NO_PROXY": "", "no_proxy": ""}
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("copick_mlc: error: the CryoET Data Portal cannot be asked: ")
    assert done.stderr.endswith("[storage-failed]\n")
    assert done.stderr.count("\n") == 1
    assert tree(tmp_path) == before


# --- what commands share ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["export", "append", "set-splits"])
def test_the_help_names_what_a_command_can(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    wanted = {
        "export": ["dry_run", "emit_config", "config_overlay", "jobs", "shard", "session_id_template", "picks_author"],
        "append": ["croissant", "source_config", "source_dataset_ids", "jobs", "tomograms_portal_meta", "split"],
        "set-splits": ["split", "splits_file", "clear_all", "unassign"],
    }
    assert not [name for name in wanted[command] if f"--{name.replace('_', '-')}" not in text]


def test_every_parameter_has_an_option() -> None:
    """Else a command would leave it at its default without a word."""
    export = set(vars(_parser().parse_args(["export", "--config", "x"])))
    assert set(ExportOptions.__dataclass_fields__) - export == {"splits"}  # of --split and --splits-file
    append = set(vars(_parser().parse_args(["append", "--croissant", "x", "--source-config", "y"])))
    assert set(Choices.__dataclass_fields__) <= append
    assert {"validate", "split", "splits_file"} <= append & export


@pytest.mark.parametrize("kind", ["picks", "segmentations", "tomograms"])
def test_options_for_the_portal_need_one(config: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(config.parent)
    for option, value in ((f"--{kind}-portal-meta", "ground_truth_status=true"), (f"--{kind}-author", "Jane Doe")):
        assert main(["export", "--config", str(config), option, value]) == 1
        error = capsys.readouterr().err
        assert option.strip("-").replace("-", "_") in error
        assert "[option-invalid]" in error
    assert tree(config.parent) == before


def test_options_for_the_portal(portal: Any, tmp_path: Path) -> None:
    source = tmp_path / "source.json"
    source.write_text(portal.config.model_dump_json())
    base = ["export", "--config", str(source), "--project-root", str(tmp_path / "out"), "--no-file-sha256", "--quiet"]
    arguments = [
        *(
            "--picks-portal-meta",
            "ground_truth_status=true,method_type=manual",
            "--picks-author",
            "Jane Doe,Max Muster",
        ),
        *("--segmentations-portal-meta", "is_curator_recommended=true", "--segmentations-author", "Jane Doe"),
        *("--tomograms-portal-meta", "processing=filtered", "--tomograms-author", "Second Author"),
        *("--session-id-template", "{author}-{annotation_file_id}"),
    ]
    assert main([*base, "--no-validate", *arguments]) == 0
    rows = all_rows(tmp_path / "out/Croissant/metadata.json")
    assert [len(rows[name]) for name in ("picks", "segmentations", "instance_segmentations", "tomograms")] == [
        2,
        0,
        1,
        1,
    ]
    assert all("'session_id': 'Jane-Doe-50" in row for row in rows["picks"])
