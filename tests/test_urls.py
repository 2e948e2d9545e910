"""Locations, URL cells and names."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copick_mlc import _urls
from copick_mlc.errors import DataError, UsageError

# --- normalise -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b"),
        ("/a/./c/../b", "/a/b"),
        ("file:///a/b", "/a/b"),
        ("local:///a/b/", "/a/b"),
        (Path("/a") / "b", "/a/b"),
        ("s3://bucket/a", "s3://bucket/a"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/../b", "s3://bucket/b"),
        ("https://host/a?x=1", "https://host/a?x=1"),
        ("memory://", "memory://"),
        ("memory:///a/", "memory:///a"),
        ("zip://a/b::/archives/x.zip", "zip://a/b::/archives/x.zip"),
        ("simplecache::s3://bucket/a", "simplecache::s3://bucket/a"),
    ],
)
def test_normalise(location: str | Path, expected: str) -> None:
    assert _urls.normalise(location) == expected
    assert _urls.normalise(expected) == expected, "once is enough"


def test_normalise_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = os.getcwd()
    assert _urls.normalise("a/b") == f"{here}/a/b"
    assert _urls.normalise(Path("a")) == f"{here}/a"
    assert _urls.normalise("../a") == f"{os.path.dirname(here)}/a"
    assert _urls.normalise("file://a") == f"{here}/a"
    assert _urls.normalise("") == here


def test_normalise_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _urls.normalise("~") == str(tmp_path)
    assert _urls.normalise("~/data") == f"{tmp_path}/data"
    assert _urls.normalise("file://~/data") == f"{tmp_path}/data"
    assert _urls.normalise(Path("~/data")) == f"{tmp_path}/data"


# --- what is absolute, what is local ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("a/b.json", False),
        ("ExperimentRuns/a:b/x", False),
        ("a//b", False),
        ("./a", False),
        ("~/a", False),
        ("", False),
        ("/a", True),
        ("s3://bucket/a", True),
        ("file:///a", True),
        ("memory://a", True),
        ("simplecache::s3://bucket/a", True),
        ("zip://a::b.zip", True),
    ],
)
def test_is_absolute(cell: str, expected: bool) -> None:
    assert _urls.is_absolute(cell) is expected


LOCAL = [
    "/a/b",
    "a/b",
    "file:///a",
    "local:///a",
    "zip://a::/x.zip",
    "zip://a::file:///x.zip",
    "zip://a::x.zip",
    "zip://a::x",
    "zip://a::X",
    "zip://a::",
    "zip://a::~/x.zip",
    "zip://a::dir/x",
    "zip://a::../x",
    "simplecache::file:///a",
    "simplecache::zip://a::local://x.zip",
    "file:///a::s3://bucket/x",
]
REMOTE = [
    "s3://bucket/a",
    "https://host/file://a",
    "memory://a",
    "zip://a::s3://bucket/x.zip",
    "simplecache::s3://bucket/a",
    "simplecache::zip://a/b.c::https://host/x.zip",
]


@pytest.mark.parametrize("url", LOCAL)
def test_is_local(url: str) -> None:
    assert _urls.is_local(url)


@pytest.mark.parametrize("url", REMOTE)
def test_is_not_local(url: str) -> None:
    assert not _urls.is_local(url)


@pytest.mark.parametrize("link", ["b.zip", "dir/b.zip", "B", "./b", "/{}/b.zip", "file://{}/b.zip"])
def test_what_fsspec_opens_on_the_disk_is_local(link: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dir").mkdir()
    for name in ("b.zip", "dir/b.zip", "B", "b"):
        with zipfile.ZipFile(name, "w") as archive:
            archive.writestr("x", b"content")
    url = f"zip://x::{link.format(tmp_path)}"
    fs, path = fsspec.url_to_fs(url, skip_instance_cache=True)
    assert fs.cat_file(path) == b"content"
    assert _urls.is_local(url)
    fs.close()


# --- parent, join, relative ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "parent"),
    [
        ("/a/b/c", "/a/b"),
        ("/a", "/"),
        ("/", "/"),
        ("s3://bucket/a/b", "s3://bucket/a"),
        ("s3://bucket/a", "s3://bucket"),
        ("https://host/p/Croissant/metadata.json", "https://host/p/Croissant"),
        ("memory://a/b", "memory://a"),
        ("memory:///a/b", "memory:///a"),
        ("zip://Croissant/metadata.json::/x/y.zip", "zip://Croissant::/x/y.zip"),
        ("zip://Croissant::/x/y.zip", "zip://::/x/y.zip"),
        ("zip://p/Croissant::s3://bucket/y.zip", "zip://p::s3://bucket/y.zip"),
        ("simplecache::s3://bucket/a/b", "simplecache::s3://bucket/a"),
        ("simplecache::zip://a/b::s3://bucket/y.zip", "simplecache::zip://a::s3://bucket/y.zip"),
        ("simplecache::/a/b", "simplecache::/a"),
    ],
)
def test_parent(url: str, parent: str) -> None:
    assert _urls.parent(url) == parent


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("/a", "/a/x/y"),
        ("/a/", "/a/x/y"),
        ("/", "/x/y"),
        ("s3://bucket", "s3://bucket/x/y"),
        ("s3://bucket/a", "s3://bucket/a/x/y"),
        ("memory://", "memory://x/y"),
        ("zip://::/z.zip", "zip://x/y::/z.zip"),
        ("zip://a::/z.zip", "zip://a/x/y::/z.zip"),
        ("simplecache::s3://bucket/a", "simplecache::s3://bucket/a/x/y"),
        ("simplecache::zip://::https://host/z.zip", "simplecache::zip://x/y::https://host/z.zip"),
    ],
)
def test_join(base: str, expected: str) -> None:
    assert _urls.join(base, "x/y") == expected
    assert _urls.parent(_urls.parent(expected)) == (base.rstrip("/") if base == "/a/" else base)


@pytest.mark.parametrize(
    ("url", "base", "expected"),
    [
        ("/a/b/c", "/a", "b/c"),
        ("/a/b", "/a/", "b"),
        ("/b", "/", "b"),
        ("/a", "/a", None),
        ("/a/", "/a", None),
        ("/ab/c", "/a", None),
        ("s3://bucket/a/b", "s3://bucket/a", "b"),
        ("s3://bucket2/a", "s3://bucket", None),
    ],
)
def test_relative(url: str, base: str, expected: str | None) -> None:
    assert _urls.relative(url, base) == expected


@given(
    st.sampled_from(["/a", "s3://bucket", "https://host/p q", "simplecache::s3://b/c"]),
    st.lists(
        st.text(st.characters(exclude_characters="/:\0", exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=3
    ),
)
@settings(deadline=None, max_examples=60)
def test_relative_undoes_join(base: str, segments: list[str]) -> None:
    path = "/".join(segments)
    assert _urls.relative(_urls.join(base, path), base) == path


# --- absolute --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("x/y.json", "s3://bucket/p/x/y.json"),
        ("a/../b", "s3://bucket/p/b"),
        ("a/b/../../c", "s3://bucket/p/c"),
        ("..a/b..", "s3://bucket/p/..a/b.."),
        ("a b/ü", "s3://bucket/p/a b/ü"),
        ("/data/x", "/data/x"),
        ("file:///data/x", "/data/x"),
        ("s3://other/x", "s3://other/x"),
        ("zip://x::/data/y.zip", "zip://x::/data/y.zip"),
    ],
)
def test_absolute(cell: str, expected: str) -> None:
    assert _urls.absolute("s3://bucket/p", cell) == expected


@pytest.mark.parametrize("cell", ["..", "../x", "a/../../x", "./../x", "a/b/../../../x", ".//../x"])
@pytest.mark.parametrize("base", ["/project", "s3://bucket/p", "zip://p::/x.zip"])
def test_a_cell_that_climbs_out_is_refused(base: str, cell: str) -> None:
    with pytest.raises(DataError) as caught:
        _urls.absolute(base, cell)
    assert (caught.value.code, caught.value.column) == ("url-outside", "url")
    assert _urls.absolute(base, f"x/{cell}"), "one that stays inside is fine"


@given(st.lists(st.sampled_from(["..", ".", "a", "b", ""]), min_size=1, max_size=6).map("/".join))
@settings(deadline=None, max_examples=150)
def test_what_is_accepted_stays_below_the_base(cell: str) -> None:
    if _urls.is_absolute(cell):
        return
    inside = os.path.normpath(f"/base/project/{cell}")
    outside = inside != "/base/project" and not inside.startswith("/base/project/")
    try:
        url = _urls.absolute("/base/project", cell)
    except DataError:
        # A path that leaves the base and comes back by its name is refused too, wherever the base may lie.
        assert ".." in cell
    else:
        assert not outside
        assert os.path.normpath(url) == inside


def test_published() -> None:
    assert _urls.published("/a/b") == "file:///a/b"
    assert _urls.published("s3://bucket/a") == "s3://bucket/a"
    assert _urls.normalise(_urls.published("/a/b")) == "/a/b"


# --- names, sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["TS_001", "007", "a b", "ü", ".hidden", "...", "a..b", "a,b", 'x"y', "a:b", "a\u2028b"]
)
def test_names(name: str) -> None:
    assert _urls.check_name(name, "a run") == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "../x", "a\\b", "a\nb", "a\tb", "\0", "a\x7f", "\x1f"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        _urls.check_name(name, "a run")
    assert caught.value.code == "name-invalid"
    assert "a run" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "size"),
    [
        ("10301/TS_026/Reconstructions/VoxelSpacing4.99/Annotations/1.ndjson", 4.99),
        ("VoxelSpacing10/x", 10.0),
        ("VoxelSpacing13.480", 13.48),
        ("VoxelSpacing7.json", 7.0),
        ("VoxelSpacing/x", None),
        ("10301/TS_026/x.ndjson", None),
    ],
)
def test_size_in_url(url: str, size: float | None) -> None:
    assert _urls.size_in_url(url) == size
