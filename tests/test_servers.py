"""The servers of tests.servers and the portal of tests.portal are what the other tests take them for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import botocore.exceptions
import copick
import fsspec
import numpy as np
import pytest
import s3fs
from copick.impl.cryoet_data_portal import CopickRootCDP

from tests import portal as tests_portal
from tests.portal import ANNOTATIONS, TOMOGRAMS, add_overlay_artifacts, make_portal_root, records, write_config
from tests.projects import inventory
from tests.servers import refusing_endpoint, s3_environment, silent_endpoint

# What fails soon wherever S3 cannot be reached, and what it takes for that besides: see `probe`.
QUICK = {"connect_timeout": 0.2, "read_timeout": 0.2, "retries": {"total_max_attempts": 1}}


def probe() -> s3fs.S3FileSystem:
    fs = fsspec.filesystem("s3", anon=True, config_kwargs=QUICK, skip_instance_cache=True)
    fs.retries = 1  # s3fs tries what timed out five times by itself
    return fs


def picks_of(root: Any, file: int) -> Any:
    (found,) = (p for run in root.runs for p in run.picks if p.session_id == str(file))
    return found


# --- S3 --------------------------------------------------------------------------------------------------


def test_s3_keeps_what_is_written(s3: str, capfd: pytest.CaptureFixture[str]) -> None:
    fs, path = fsspec.url_to_fs(f"{s3}/a/b.txt")
    fs.pipe_file(path, b"content")
    assert (fs.cat_file(path), fs.ls(s3), fs.exists(f"{s3}/b")) == (b"content", [f"{s3[5:]}/a"], False)
    with pytest.raises(PermissionError):
        s3fs.S3FileSystem(anon=True).cat_file(path)
    assert capfd.readouterr().err == "", "the server keeps no log there"


@pytest.mark.parametrize("round", [1, 2])
def test_each_test_has_a_bucket_of_its_own(s3: str, round: int) -> None:
    fs, path = fsspec.url_to_fs(s3)
    assert fs.ls(path) == []
    fs.pipe_file(f"{path}/a", b"")


def test_the_environment_is_as_before() -> None:
    before = dict(os.environ)
    with refusing_endpoint() as endpoint, s3_environment(endpoint):
        assert os.environ["AWS_ENDPOINT_URL"] == endpoint
        kept = fsspec.filesystem("s3")
        assert fsspec.filesystem("s3") is kept
    assert dict(os.environ) == before
    assert fsspec.filesystem("s3") is not kept
    s3fs.S3FileSystem.clear_instance_cache()


def test_an_endpoint_that_refuses() -> None:
    with (
        refusing_endpoint() as endpoint,
        s3_environment(endpoint),
        pytest.raises(botocore.exceptions.EndpointConnectionError),
    ):
        probe().exists("bucket/a")


def test_an_endpoint_that_never_answers() -> None:
    with (
        silent_endpoint() as endpoint,
        s3_environment(endpoint),
        pytest.raises(botocore.exceptions.ReadTimeoutError),
    ):
        probe().exists("bucket/a")


# --- the portal ------------------------------------------------------------------------------------------


def test_the_portal_lists_what_the_records_say(portal: CopickRootCDP) -> None:
    assert [(run.name, run.portal_run_name) for run in portal.runs] == [
        ("16463", "TS_026"),
        ("16464", "TS_027"),
        ("17001", "Position_1"),
    ]
    tomograms = [t for run in portal.runs for spacing in run.voxel_spacings for t in spacing.tomograms]
    assert [(t.meta.portal_tomo_id, t.tomo_type, t.static_path) for t in tomograms] == [
        (t.id, t.type, t.url) for t in sorted(TOMOGRAMS, key=lambda t: (t.run.id, TOMOGRAMS.index(t)))
    ]
    assert tomograms[0].tomo_type == tomograms[1].tomo_type
    listed = [*(p for run in portal.runs for p in run.picks), *(s for run in portal.runs for s in run.segmentations)]
    assert {item.session_id: item.path for item in listed} == {
        str(file): a.url(file) for a in ANNOTATIONS for file in a.files
    }


def test_the_portal_has_the_data(portal: CopickRootCDP) -> None:
    for annotation in ANNOTATIONS:
        for file in annotation.files:
            if annotation.is_volume:
                (found,) = (s for run in portal.runs for s in run.segmentations if s.session_id == str(file))
                assert np.array_equal(found.numpy(), annotation.volume(file))
                continue
            points, transforms = picks_of(portal, file).numpy()
            lines = annotation.points(file)
            expected = np.array([list(line["location"].values()) for line in lines]) * annotation.run.voxel_size
            assert np.allclose(points, expected)
            turns = [line.get("xyz_rotation_matrix", np.eye(3)) for line in lines]
            assert np.allclose(transforms[:, :3, :3], turns)
    tomograms = [t for run in portal.runs for spacing in run.voxel_spacings for t in spacing.tomograms]
    assert len(tomograms) == len(TOMOGRAMS)
    for tomogram in tomograms:
        (known,) = (t for t in TOMOGRAMS if t.id == tomogram.meta.portal_tomo_id)
        assert np.array_equal(tomogram.numpy(), known.volume)


def test_the_overlay_has_one_of_each_kind(portal: CopickRootCDP) -> None:
    add_overlay_artifacts(portal)
    found = inventory(portal, data=False)
    run = found["runs"]["16463"]
    assert [key for key in run["picks"] if key[0] == "me"] == [("me", "1", "ribosome")]
    assert list(run["meshes"]) == [("me", "1", "membrane")]
    assert sorted(key for key in run["segmentations"] if key[2] == "me") == [
        ("binary", "10.000", "me", "1", "membrane"),
        ("multilabel", "10.000", "me", "1", "all"),
    ]
    assert run["spacings"]["20.000"] == {"binned": (None, {})}
    assert run["spacings"]["10.000"] == {"wbp-filtered-ctfdeconv": (None, {"edges": None}), "mine": (None, {})}
    assert found["objects"]["ribosome"][1]


def test_records_can_be_changed(tmp_path: Path) -> None:
    data = records()
    data["runs"] = [run for run in data["runs"] if run["id"] == 17001]
    with refusing_endpoint() as endpoint, s3_environment(endpoint):
        assert [run.name for run in make_portal_root(tmp_path / "overlay", data).runs] == ["17001"]
    assert len(records()["runs"]) == 3


def test_a_portal_that_cannot_be_reached_lists_all_the_same(unreachable_portal: CopickRootCDP) -> None:
    assert len(unreachable_portal.runs) == 3
    picks = picks_of(unreachable_portal, 5001)
    with pytest.raises(botocore.exceptions.EndpointConnectionError):
        picks.load()


def test_nothing_leaves_the_loopback_interface(unreachable_portal: CopickRootCDP, tmp_path: Path) -> None:
    """Not even where copick asks the portal itself, as for a run that it has not listed yet."""
    config = write_config(tmp_path / "config.json", tmp_path / "portal")
    code = f"""
import json, socket, sys
hosts = set()
def hook(event, arguments):
    if event == "socket.getaddrinfo":
        hosts.add(arguments[0])
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        hosts.add(arguments[1][0])
sys.addaudithook(hook)
import copick, cryoet_data_portal
root = copick.from_file({str(config)!r})
found = [picks.session_id for run in root.runs for picks in run.picks]
before = sorted(hosts)
raised = []
for work in (root.runs[0].picks[0].load, lambda: cryoet_data_portal.Run.get_by_id(cryoet_data_portal.Client(), 1)):
    try:
        work()
    except Exception as error:
        raised.append(type(error).__name__)
print(json.dumps([found, before, raised, sorted(hosts)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, before, raised, hosts = json.loads(done.stdout.splitlines()[-1])  # copick's logger speaks before
    assert found == ["5001", "5011", "5002", "5005"]
    assert before == [], "copick finds its cache again, and asks nobody"
    assert raised == ["EndpointConnectionError", "TransportConnectionFailed"]
    assert hosts == ["127.0.0.1"]


def test_a_configuration_opens_the_same_project(portal: CopickRootCDP, tmp_path: Path) -> None:
    config = write_config(tmp_path / "config.json", tmp_path / "portal")
    root = copick.from_file(str(config))
    assert isinstance(root, CopickRootCDP)
    assert inventory(root, data=False) == inventory(portal, data=False)


def test_each_object_is_in_the_bucket_of_the_portal() -> None:
    assert all(url.startswith(f"s3://{tests_portal.BUCKET}/1030") for url in tests_portal.contents())
