"""The index layer embeds anywhere: it needs the standard library and fsspec, nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ["copick", "zarr", "numpy", "pandas", "mlcroissant", "pydantic"]


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after running `code`."""
    code += "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "code",
    [
        "import copick_mlc",
        "import copick_mlc; from copick_mlc import CroissantIndex",
        "from copick_mlc import CroissantError",
        "import copick_mlc.index; copick_mlc.index.RunRow('a')",
        "import copick_mlc; dir(copick_mlc); copick_mlc.__all__",
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    loaded = loaded_by(code)
    assert "copick_mlc" in loaded
    assert sorted(loaded.intersection(HEAVY)) == []


def test_reading_and_writing_import_nothing_heavy() -> None:
    code = """
import hashlib, json, tempfile
from copick_mlc.index import CroissantIndex, PicksRow, RunRow
with tempfile.TemporaryDirectory() as directory:
    files = [{"@id": "runs-csv", "sha256": hashlib.sha256(b"name\\n").hexdigest()}]
    with open(f"{directory}/runs.csv", "wb") as file:
        file.write(b"name\\n")
    with open(f"{directory}/metadata.json", "w") as file:
        json.dump({"distribution": files, "recordSet": [{"@id": "copick/runs"}]}, file)
    index = CroissantIndex.from_url(f"{directory}/metadata.json")
    index.put(RunRow("a", split="train"))
    index.put(PicksRow("a", "u", "0", "o", 10.0))
    index.reload()
    assert list(index.rows("picks")) == [PicksRow("a", "u", "0", "o", 10.0)]
    index.resolve_url("a/b")
"""
    assert sorted(loaded_by(code).intersection(HEAVY)) == []


def test_the_control_sees_what_is_heavy() -> None:
    assert "numpy" in loaded_by("import numpy")


def test_an_unknown_name_is_an_attribute_error() -> None:
    import copick_mlc

    with pytest.raises(AttributeError):
        _ = copick_mlc.nothing_of_that_name
    assert copick_mlc.CroissantIndex.__name__ == "CroissantIndex"
    assert set(copick_mlc.__all__) <= set(dir(copick_mlc))
