"""Measure copick_mlc beside copick's own mlcroissant backend, on the same project, in one run.

    python -m tests.benchmarks.compare                  100,000 rows and an export of 1000 runs: some minutes
    python -m tests.benchmarks.compare --rows 10000 --runs 100

Each figure is the median of processes of either backend in turns, and in each of a few repetitions, imports
excluded. One run of the project is 11 rows: 5 picks, 2 tomograms, 1 feature map, 1 segmentation, 1 voxel
spacing, 1 run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

OBJECTS = ("ribosome", "proteasome", "virus", "apoferritin", "lysosome")
BACKENDS = ("copick", "copick_mlc")


# --- projects --------------------------------------------------------------------------------------------


def make_manifest(directory: Path, rows: int) -> Path:
    """A manifest of about `rows` rows, without data, in the form that copick writes too."""
    from copick_mlc import _manifest
    from copick_mlc._tables import TABLES, encode_table
    from copick_mlc.index import FeaturesRow, PicksRow, Row, RunRow, SegmentationRow, TomogramRow, VoxelSpacingRow

    tables: dict[str, list[Row]] = {name: [] for name in TABLES}
    for number in range(max(1, rows // 11)):
        run = f"TS_{number:05d}"
        found: list[Row] = [
            RunRow(run),
            VoxelSpacingRow(run, 10.0),
            TomogramRow(run, 10.0, "wbp"),
            TomogramRow(run, 10.0, "denoised"),
            FeaturesRow(run, 10.0, "wbp", "sobel"),
            SegmentationRow(run, 10.0, "tool", "0", "membrane", False),
            *(PicksRow(run, "tool", "0", name, 10.0, sha256="0" * 64) for name in OBJECTS),
        ]
        for row in found:
            tables[row.table.name].append(located(row))
    files = {name: encode_table(table, tables[name]) for name, table in TABLES.items()}
    return write_manifest(directory, files, _manifest)


def located(row: Any) -> Any:
    from dataclasses import replace

    return replace(row, url=row.canonical_url) if row.table.has_url else row


def write_manifest(directory: Path, files: dict[str, bytes], manifest: Any) -> Path:
    document = manifest.build(
        {},
        {
            "name": "benchmark",
            "description": "benchmark",
            "conformsTo": manifest.CONFORMS_TO,
            "copick:config": config(),
        },
        content_prefix="",
        files=files,
        filled=list(files),
        splits=[],
    )
    croissant = directory / "Croissant"
    croissant.mkdir(parents=True)
    for name, data in files.items():
        (croissant / f"{name}.csv").write_bytes(data)
    (croissant / "metadata.json").write_bytes(manifest.dump(document))
    return croissant / "metadata.json"


def config() -> dict[str, Any]:
    objects = [{"name": name, "is_particle": True, "label": label} for label, name in enumerate(OBJECTS, 1)]
    objects.append({"name": "membrane", "is_particle": False, "label": len(OBJECTS) + 1})
    return {"name": "benchmark", "user_id": "me", "session_id": "1", "pickable_objects": objects}


def make_filesystem_project(directory: Path, runs: int) -> Path:
    """A filesystem project of that many runs, its stores empty groups, 50 points a pick."""
    points = [{"location": {"x": 1.0 * i, "y": 2.0, "z": 3.0}, "instance_id": 0, "score": 1.0} for i in range(50)]
    for number in range(runs):
        run = directory / "ExperimentRuns" / f"TS_{number:05d}"
        for store in (
            "VoxelSpacing10.000/wbp.zarr",
            "VoxelSpacing10.000/denoised.zarr",
            "VoxelSpacing10.000/wbp_sobel_features.zarr",
            "Segmentations/10.000_tool_0_membrane.zarr",
        ):
            (run / store).mkdir(parents=True)
            (run / store / ".zgroup").write_text('{"zarr_format": 2}')
        (run / "Picks").mkdir()
        for name in OBJECTS:
            content = {
                "pickable_object_name": name,
                "user_id": "tool",
                "session_id": "0",
                "run_name": run.name,
                "voxel_spacing": 10.0,
                "unit": "angstrom",
                "points": points,
            }
            (run / "Picks" / f"tool_0_{name}.json").write_text(json.dumps(content, indent=4))
    path = directory / "config.json"
    settings = {"config_type": "filesystem", "overlay_root": f"local://{directory}", **config()}
    path.write_text(json.dumps(settings))
    return path


# --- operations ------------------------------------------------------------------------------------------


def opener(backend: str) -> Callable[[str], Any]:
    if backend == "copick":
        import copick

        return copick.from_croissant
    import copick_mlc

    return copick_mlc.from_croissant


def walk(root: Any) -> int:
    """Name everything in a project."""
    count = 0
    for run in root.runs:
        for spacing in run.voxel_spacings:
            for tomogram in spacing.tomograms:
                count += 1 + len([features.feature_type for features in tomogram.features])
        count += len([(p.user_id, p.session_id, p.pickable_object_name) for p in run.picks])
        count += len([(s.user_id, s.session_id, s.name) for s in run.segmentations])
    return count


def open_and_walk(backend: str, path: Path) -> Iterator[float]:
    opened = opener(backend)
    start = time.perf_counter()
    count = walk(opened(str(path)))
    yield time.perf_counter() - start
    if not count:
        raise RuntimeError("the project is empty")


def lookup(backend: str, path: Path) -> Iterator[float]:
    """A run and its picks, of a project that is open."""
    root = opener(backend)(str(path))
    names = [f"TS_{number:05d}" for number in range(40)]
    root.get_run(names[0]).get_picks(object_name="ribosome")
    for name in names[1:]:
        start = time.perf_counter()
        found = root.get_run(name).get_picks(object_name="ribosome")
        yield time.perf_counter() - start
        if len(found) != 1:
            raise RuntimeError(f"{name} has {len(found)} ribosome picks")


def store(backend: str, path: Path) -> Iterator[float]:
    """A new set of picks with its commit, of a project that is open."""
    root = opener(backend)(str(path))
    for number in range(8):
        run = root.get_run(f"TS_{number:05d}")
        list(run.picks)
        start = time.perf_counter()
        run.new_picks("ribosome", str(time.time_ns()), "me")
        if number:
            yield time.perf_counter() - start


def export(backend: str, path: Path) -> Iterator[float]:
    import warnings

    import copick

    if backend == "copick":
        from copick.ops.croissant import export_croissant
    else:
        from copick_mlc import export_croissant
    warnings.simplefilter("ignore")
    for _ in range(3):
        root = copick.from_file(str(path))
        start = time.perf_counter()
        export_croissant(root, str(path.parent), base_url=f"file://{path.parent}", validate=False, force=True)
        yield time.perf_counter() - start


OPERATIONS = {"open + walk": open_and_walk, "lookup": lookup, "store": store, "export": export}


# --- the comparison --------------------------------------------------------------------------------------


def measure(backend: str, operation: str, path: Path) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.compare", "--child", backend, operation, str(path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(output.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the manifest")
    parser.add_argument("--runs", type=int, default=1000, help="runs of the project that is exported")
    parser.add_argument("--only", choices=list(OPERATIONS), help="one operation")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        backend, operation, path = options.child
        print(statistics.median(OPERATIONS[operation](backend, Path(path))))
        return
    with tempfile.TemporaryDirectory() as directory:
        manifest = make_manifest(Path(directory) / "manifest", options.rows)
        project = make_filesystem_project(Path(directory) / "project", options.runs)
        print(f"{options.rows} rows; export of {options.runs} runs")
        for operation in [options.only] if options.only else OPERATIONS:
            path = project if operation == "export" else manifest
            rounds = (
                3 if operation in ("lookup", "store") else 1
            )  # in turns, since a machine has faster and slower minutes
            times = [[measure(backend, operation, path) for backend in BACKENDS] for _ in range(rounds)]
            reference, ours = (statistics.median(column) for column in zip(*times, strict=True))
            print(
                f"{operation:12}  copick {reference:.6f} s  copick_mlc {ours:.6f} s  ratio {reference / ours:.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
