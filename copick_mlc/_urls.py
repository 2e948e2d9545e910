"""Every rule about locations, URLs and names.

A *location* is what a caller gives: a path, relative or with `~`, a pathlib object, or any fsspec URL. A
*URL cell* is what a row of a table says. Both become absolute URLs here; a local file's is its plain
absolute path. Rules: SPEC.md, URLs [URL] and Security [SEC].
"""

from __future__ import annotations

import os
import posixpath
import re
from urllib.parse import quote, unquote

from copick_mlc.errors import DataError, UsageError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")
_LOCAL = ("file://", "local://")  # [URL-007]
# To fsspec a link of small letters alone is a protocol; any other without scheme is a local path.
_PROTOCOL = re.compile(r"[a-z]{2,}")
_NO_NAME = re.compile(r"[/\\\x00-\x1f\x7f\ud800-\udfff]")

#: What the URLs of the CryoET Data Portal's data are relative to [POR-001]. Everybody may read it, without credentials.
PORTAL = "s3://cryoet-data-portal-public/"

#: Protocols that fsspec can only read.
READ_ONLY_PROTOCOLS = frozenset({"http", "https", "zip", "tar", "libarchive", "github", "git", "data", "reference"})

#: fsspec's caches of files that were read over another protocol, as in `simplecache::s3://…`.
CACHES = frozenset({"simplecache", "filecache", "blockcache", "cached"})


def normalise(location: str | os.PathLike[str]) -> str:
    """The absolute URL of a location: any fsspec URL as it is, a local path absolute and without a scheme."""
    text = _without_directories(os.fspath(location))
    if "::" in text:
        return text
    for scheme in _LOCAL:
        if text.startswith(scheme):
            text = text[len(scheme) :]
            break
    else:
        if _SCHEME.match(text):
            scheme, separator, path = text.partition("://")
            return f"{scheme}{separator}{resolved(path).rstrip('/') or path}"
    return os.path.abspath(os.path.expanduser(text))


def _without_directories(url: str) -> str:
    """The URL without its links `dir://`, which say no more than a longer path: `dir://a::s3://b` is `s3://b/a`."""
    *links, last = url.split("::")
    for link in reversed(links):
        if link.startswith("dir://"):
            inner = link.removeprefix("dir://").strip("/")
            last = join(last, inner) if inner else last
        else:
            last = f"{link}::{last}"
    return last


def is_absolute(cell: str) -> bool:
    """Whether a URL cell stands by itself: it has a scheme or starts with a slash."""
    return cell.startswith("/") or "::" in cell or _SCHEME.match(cell) is not None


def is_local(url: str) -> bool:
    """Whether a URL, or any link of a chained one, is on the local disk."""
    links = url.split("::")
    if len(links) == 1:
        return url.startswith(_LOCAL) or not _SCHEME.match(url)
    return any(link.startswith(_LOCAL) or not (_SCHEME.match(link) or _PROTOCOL.fullmatch(link)) for link in links)


def _place(links: list[str]) -> int:
    """Which link of a chained URL has the place: the first with a path. Links before it only name a protocol."""
    return next((i for i, link in enumerate(links) if "://" in link or link.startswith("/")), len(links) - 1)


def _edit(url: str, change: str | None) -> str:
    """The parent directory of a URL (`change` None), or the URL with `change` joined to it."""
    links = url.split("::")
    at = _place(links)
    scheme, separator, path = links[at].rpartition("://")
    if change is None:
        path = path.rstrip("/").rpartition("/")[0] or ("/" if path.startswith("/") else "")
    elif path:
        path = f"{path.rstrip('/')}/{change}"
        path = resolved(path) if separator else path
    else:
        path = change
    links[at] = f"{scheme}{separator}{path}"
    return "::".join(links)


def resolved(path: str) -> str:
    """The path of a URL without `.` and `..`, which only a local disk follows; the first part is a host or bucket."""
    first, *names = path.split("/")
    if not {".", ".."}.intersection(names):
        return path
    kept: list[str] = []
    for name in names:
        if name == "..":
            while kept and not kept[-1]:
                del kept[-1]
            del kept[-1:]
        elif name != ".":
            kept.append(name)
    return "/".join([first, *kept])


def parent(url: str) -> str:
    """The URL of the directory that holds `url`."""
    return _edit(url, None)


def join(base: str, relative: str) -> str:
    """The URL of `relative` below `base`."""
    return _edit(base, relative)


def located(location: str, directory: str) -> str:
    """The absolute URL of a location that may be relative to the directory with that URL."""
    if is_absolute(location) or location.startswith("~"):
        return normalise(location)
    joined = join(directory, location)
    return normalise(joined) if is_local(directory) else joined.rstrip("/")


def absolute(base: str, cell: str) -> str:
    """The absolute URL of a URL cell.

    Raises:
        DataError: `url-outside`, where a relative cell climbs out of the base [SEC-001].
    """
    if is_absolute(cell):
        return normalise(cell)  # [URL-003]
    if ".." in cell and posixpath.normpath(cell).split("/")[0] == "..":
        raise DataError("url-outside", f"the URL {cell!r} climbs out of the base URL {base!r}", column="url")
    return join(base, escaped(cell, base))  # [URL-002]


def escaped(cell: str, base: str) -> str:
    """A relative URL cell as it goes below `base`; over http, where `#` and `%` mean something, escaped [URL-008]."""
    return quote(cell) if _is_http(base) else cell


def unescaped(name: str, base: str) -> str:
    """A name that a listing below `base` gives, as it stands in a relative URL cell."""
    return unquote(name) if _is_http(base) else name


def _is_http(url: str) -> bool:
    links = url.split("::")
    return links[_place(links)].startswith(("http://", "https://"))


def cell(url: str, base: str) -> str | None:
    """The relative URL cell that leads from `base` to `url`, or None where there is none."""
    found = relative(url, base)
    if found is None or not _is_http(base):
        return found
    return None if re.search("[?#]", found) else unquote(found)


def relative(url: str, base: str) -> str | None:
    """What comes after `base` in `url`, or None where `url` is not below `base`."""
    prefix = base.rstrip("/") + "/"
    return url[len(prefix) :] if url.startswith(prefix) and len(url) > len(prefix) else None


def published(url: str) -> str:
    """The form in which an absolute URL is written to a table or manifest: a local path as `file://` URL."""
    return f"file://{url}" if url.startswith("/") else url


def check_name(name: str, what: str) -> str:
    """`name`, if it can be one segment of a path.

    Raises:
        UsageError: `name-invalid` [RUN-003].
    """
    if name in ("", ".", "..") or _NO_NAME.search(name):
        raise UsageError(
            "name-invalid",
            f"{name!r} cannot be {what}; a name is one path segment: not empty, not . or .., "
            "without slashes, backslashes, control characters and lone surrogates",
        )
    return name


def size_in_url(url: str) -> float | None:
    """The voxel size in Å that a portal URL names as `VoxelSpacing<size>`, or None [PIK-006]."""
    match = re.search(r"VoxelSpacing([0-9]{1,300}(?:\.[0-9]+)?)(?![0-9])", url)  # of more digits there is no float
    return float(match.group(1)) if match else None
