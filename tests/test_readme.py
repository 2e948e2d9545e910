"""The README's examples, as printed, in order, in one directory."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
UPGRADE = "python -m pip install -U pip"


def test_the_first_two_blocks_are_one_command_line_each() -> None:
    assert [language for language, _ in BLOCKS[:2]] == ["sh", "sh"]
    assert all(code.count("\n") == 1 for _, code in BLOCKS[:2])
    assert BLOCKS[1][1].strip().split(" && ") == [UPGRADE, 'pip install -e ".[test]"', "python -m pytest -n auto"]


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_endpoint: str) -> None:
    from s3fs import S3FileSystem

    from tests.servers import s3_environment

    monkeypatch.chdir(tmp_path)
    with s3_environment(s3_endpoint):
        S3FileSystem().mkdir("my-bucket")
        run_the_examples()


def run_the_examples() -> None:
    upgrade, install, main_job = BLOCKS[0][1].strip().split(" && ")
    assert (upgrade, install) == (UPGRADE, "pip install .")
    shell([main_job])
    script = ""
    for language, code in BLOCKS[2:]:
        if language == "python":
            script += code
        else:
            shell(code.strip().splitlines())
    subprocess.run([sys.executable, "-W", "error::copick_mlc.errors.CroissantWarning", "-c", script], check=True)


def shell(lines: list[str]) -> None:
    for line in lines:
        words = shlex.split(line)
        assert words[:2] == ["python", "-m"]
        # The suite lies in the clone; all else is done where the demo project is.
        directory = {"copick_mlc": Path.cwd(), "conformance": ROOT}[words[2]]
        subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True, cwd=directory)
