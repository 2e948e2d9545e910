"""What the README promises of the index layer, where only fsspec is installed."""

import importlib.util
import sys
from dataclasses import replace

from copick_mlc import CroissantIndex

for package in ("copick", "zarr", "numpy", "pandas", "pydantic", "mlcroissant"):
    assert importlib.util.find_spec(package) is None, f"{package} is installed; this proves nothing"

index = CroissantIndex.from_url(sys.argv[1])
picks = list(index.rows("picks", run="TS_001"))
assert len(picks) == 2
for row in picks:
    fs, path = index.resolve_url(row.url)
    assert fs.exists(path)
index.put(replace(picks[0], portal_annotation_id="42"))
assert CroissantIndex.from_url(sys.argv[1]).find(picks[0]).portal_annotation_id == "42"
print("the index layer reads and writes")
