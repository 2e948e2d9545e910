from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from copick_mlc.__main__ import main
from tests.projects import tree


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "copick_mlc", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_names_the_commands_and_exit_codes() -> None:
    found = run("--help")
    assert found.returncode == 0
    for word in ("export", "demo", "inspect", "Exit codes: 0 done, 1 the work failed, 2 wrong usage."):
        assert word in found.stdout


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["export"], ["export", "--config", "x", "--split", "train"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    found = run(*arguments)
    assert found.returncode == 2
    assert found.stderr.startswith("usage:")
    assert "Traceback" not in found.stderr


def test_demo_makes_exports_opens_and_reads_a_project(tmp_path: Path) -> None:
    found = run("demo", tmp_path / "demo")
    assert (found.returncode, found.stderr) == (0, "")
    assert "ribosome  4 picks, 2 instance segmentations, a density map" in found.stdout
    assert "8 picks with transforms of shape\n(8, 4, 4), and a tomogram of shape (48, 64, 64)" in found.stdout
    assert (tmp_path / "demo" / "Croissant" / "metadata.json").is_file()
    before = tree(tmp_path)
    again = run("demo", tmp_path / "demo")
    assert (again.returncode, again.stdout) == (1, "")
    assert "not empty" in again.stderr
    assert tree(tmp_path) == before


def test_export_writes_says_so_and_needs_force_to_replace(project: Path) -> None:
    shutil.rmtree(project / "Croissant")
    config = project / "copick_config.json"
    first = run("export", "--config", config, "--split", "train=TS_001", "--split", "val=TS_002", "--license", "MIT")
    assert first.returncode == 0
    assert first.stderr == "warning: dataset hosts will miss: citeAs\n"
    assert f"wrote {project}/Croissant/metadata.json" in first.stdout
    assert "27 rows in 10 tables: 3 runs, 3 voxel spacings, 4 tomograms" in first.stdout

    before = tree(project)
    refused = run("export", "--config", config)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "--force" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert tree(project) == before
    assert "Traceback" in run("export", "--config", config, "--debug").stderr

    quiet = run("export", "--config", config, "--force", "--quiet", "--cite-as", "me")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_every_selection_and_name_reaches_the_exporter(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "splits.csv").write_text("split,run\ntrain,TS_002\nval,TS_001\n")
    arguments = [
        *("export", "--config", str(project / "copick_config.json"), "--project-root", str(tmp_path / "out")),
        *("--base-url", f"file://{project}", "--runs", "TS_001,TS_002", "--tomograms", "wbp", "--features", "wbp@10"),
        *("--picks", "*:demo", "--meshes", "none", "--segmentations", "all?multilabel=true", "--objects", "ribosome"),
        *(
            "--tomo-type-map",
            "wbp:raw",
            "--object-name-map",
            "ribosome:80S",
            "--splits-file",
            str(tmp_path / "splits.csv"),
        ),
        *("--split", "train=TS_001", "--no-file-sha256", "--no-validate", "--dataset-name", "N", "--description", "D"),
        *("--cite-as", "C", "--date-published", "2020-02-02"),
    ]
    assert main(arguments) == 1  # TS_001 is in two splits, by the file and the option
    assert "two splits" in capsys.readouterr().err
    (tmp_path / "splits.csv").write_text("split,run\ntrain,TS_002\n")
    assert main(arguments) == 0
    capsys.readouterr()
    document = json.loads((tmp_path / "out/Croissant/metadata.json").read_text())
    assert [document[key] for key in ("name", "description", "citeAs", "datePublished")] == [
        "N",
        "D",
        "C",
        "2020-02-02",
    ]
    assert main(["inspect", "--json", str(tmp_path / "out/Croissant/metadata.json")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["splits"] == {"train": ["TS_001"]}
    assert {name: count for name, count in report["tables"].items() if count} == {
        "runs": 2,
        "voxel_spacings": 2,
        "tomograms": 2,
        "features": 2,
        "picks": 2,
        "segmentations": 2,
        "objects": 1,
    }
    assert report["objects"]["80S"] == {"is_particle": True, "label": 1, "density_map": True, "picks": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("run\nTS_001\n", "columns split and run"),
        ("split,run\n,TS_001\n", "line 2: a row needs a split and a run"),
        (None, "cannot read the splits"),
    ],
)
def test_a_bad_splits_file(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "splits.csv").write_text(content)
    before = tree(project)
    arguments = ["export", "--config", str(project / "copick_config.json"), "--force"]
    assert main([*arguments, "--splits-file", str(tmp_path / "splits.csv")]) == 1
    assert message in capsys.readouterr().err
    assert tree(project) == before


def test_a_configuration_of_an_unknown_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"config_type": "other"}')
    assert main(["export", "--config", str(path)]) == 1
    error = capsys.readouterr().err
    assert f"{path}: config_type is 'other'" in error
    assert "[source-unsupported]" in error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such configuration file"),
        ("{", "not a JSON file"),
        ("[]", "a JSON object was expected"),
        ('{"config_type": "filesystem"}', "pickable_objects"),
        ('{"config_type": "mlcroissant", "pickable_objects": []}', "croissant_url"),
    ],
)
def test_a_bad_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    assert main(["export", "--config", str(path)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert str(path) in error
    assert "[config-invalid]" in error
    assert error.count("\n") == 1


def test_inspect_for_people_and_programs(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(manifest)]) == 0
    text = capsys.readouterr().out
    assert "voxel sizes  10 Å (2)" in text
    assert "splits       train (1), val (1)" in text
    assert "runs: TS_001, TS_002, empty" in text
    assert main(["inspect", "--json", str(manifest)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["runs"] == ["TS_001", "TS_002", "empty"]
    assert report["mode"] == "A"
    assert report["writable"] is True
    assert report["tables"]["panoptic_segmentations"] == 2


def test_inspect_needs_no_copick(manifest: Path) -> None:
    script = (
        "import sys\n"
        "from copick_mlc.__main__ import main\n"
        f"assert main(['inspect', {str(manifest)!r}]) == 0\n"
        "print(sorted({'copick', 'zarr', 'numpy', 'mlcroissant'} & set(sys.modules)))\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


def test_a_progress_line_on_a_terminal_only(project: Path) -> None:
    command = [sys.executable, "-m", "copick_mlc", "export", "--force", "--config", str(project / "copick_config.json")]
    assert "runs\n" not in subprocess.run(command, capture_output=True, text=True, check=True).stderr
    controller, terminal = pty.openpty()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=terminal, check=True)
    os.close(terminal)
    shown = os.read(controller, 65536).decode()
    os.close(controller)
    assert "\r3 of 3 runs\r\n" in shown
