"""What the README promises of the entity layer, where only copick's minimal set is installed."""

import importlib.util
import sys

import numpy as np

import copick_mlc

for package in ("pandas", "mlcroissant", "trimesh", "ome_zarr", "skimage"):
    assert importlib.util.find_spec(package) is None, f"{package} is installed; this proves nothing"

root = copick_mlc.from_croissant(sys.argv[1])
run = root.get_run("TS_001")
assert run.get_voxel_spacing(10.0).get_tomograms("wbp")[0].numpy().shape == (48, 64, 64)
assert run.segmentations[0].numpy().shape == (48, 64, 64)
points, transforms = run.get_picks("ribosome", "demo")[0].numpy()
run.new_picks("ribosome", "embedded", "me").from_numpy(points, transforms)
again = copick_mlc.from_croissant(sys.argv[1]).get_run("TS_001").get_picks("ribosome", "me", "embedded")[0]
assert np.array_equal(again.numpy()[1], transforms)
print("the entity layer reads and writes")
