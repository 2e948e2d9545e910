from __future__ import annotations

import dataclasses
import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import copick
import pytest
from copick.ops.croissant import export_croissant as copick_export

import tests.model_settings  # noqa: F401  # it registers the profiles of tests/test_model.py
from copick_mlc import CopickRootMLC, demo, from_croissant
from tests.projects import make_full_project

if TYPE_CHECKING:
    from copick.impl.cryoet_data_portal import CopickRootCDP

    from tests.proxy import Proxy
    from tests.servers import Sftp


@pytest.fixture(scope="session")
def full_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with every kind of artifact, made by copick and exported by copick, with a relocatable manifest."""
    directory = tmp_path_factory.mktemp("template") / "project"
    config = make_full_project(directory)
    copick_export(copick.from_file(str(config)), str(directory), base_url=f"file://{directory}", splits=demo.SPLITS)
    return directory


@pytest.fixture
def project(full_template: Path, tmp_path: Path) -> Path:
    """A copy of the project to write to; its manifest says nothing of where it lies."""
    directory = tmp_path / "project"
    shutil.copytree(full_template, directory)
    for name in ("Croissant/metadata.json", "copick_config.json"):
        text = (directory / name).read_text().replace(str(full_template), str(directory))
        (directory / name).write_text(text)
    return directory


@pytest.fixture
def unplaced(project: Path) -> None:
    """Have the manifest of the project say nothing of where the data is, so that all of it can be put elsewhere."""
    path = project / "Croissant" / "metadata.json"
    document = json.loads(path.read_text())
    del document["copick:baseUrl"]
    path.write_text(json.dumps(document, indent=2))


@pytest.fixture
def manifest(project: Path) -> Path:
    return project / "Croissant" / "metadata.json"


@pytest.fixture
def root(manifest: Path) -> CopickRootMLC:
    """The project opened in Mode A."""
    return from_croissant(manifest)


@pytest.fixture
def overlay_root(manifest: Path, tmp_path: Path) -> CopickRootMLC:
    """The project opened in Mode B, with a new overlay."""
    return from_croissant(manifest, overlay_root=tmp_path / "overlay")


# What follows imports when it is used: the portal's packages and moto take a second, and most tests need neither.


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A running S3 server; nothing leads there but `s3_environment`."""
    from tests.servers import s3_server

    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def portal_endpoint(s3_endpoint: str) -> Iterator[str]:
    """That server, with the data of `tests.portal`; whoever wants other data changes the records, not the bucket.

    Exports wait for its answers, however busy the machine is.
    """
    from tests.portal import upload
    from tests.servers import s3_environment

    with s3_environment(s3_endpoint):
        upload(s3_endpoint)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("copick_mlc._collection._PATIENCE", 3600.0)
        yield s3_endpoint


@pytest.fixture
def s3(s3_endpoint: str) -> Iterator[str]:
    """The URL of a new bucket, `s3://…`, and the environment in which it opens."""
    from s3fs import S3FileSystem

    from tests.servers import s3_environment

    bucket = f"test-{secrets.token_hex(6)}"
    with s3_environment(s3_endpoint):
        S3FileSystem().mkdir(bucket)
        yield f"s3://{bucket}"


@dataclasses.dataclass
class Bucket:
    """A bucket on S3 behind a proxy.

    Attributes:
        url: Its URL, `s3://…`.
        proxy: What counts its requests, and lets them be slow or fail.
    """

    url: str
    proxy: Proxy


@pytest.fixture
def s3_proxy(s3_endpoint: str) -> Iterator[Bucket]:
    """A new bucket behind a proxy, and the environment in which it opens; no request was counted yet."""
    from s3fs import S3FileSystem

    from tests.proxy import Proxy
    from tests.servers import s3_environment

    bucket = f"test-{secrets.token_hex(6)}"
    with Proxy(s3_endpoint) as proxy, s3_environment(proxy.url):
        S3FileSystem().mkdir(bucket)
        proxy.reset()
        yield Bucket(f"s3://{bucket}", proxy)


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[Sftp]:
    """An SFTP server that shows the directory `<tmp_path>/sftp`."""
    from tests.servers import sftp_server

    directory = tmp_path / "sftp"
    directory.mkdir()
    with sftp_server(directory) as server:
        yield server


@pytest.fixture
def portal(portal_endpoint: str, tmp_path: Path) -> Iterator[CopickRootCDP]:
    """A project of the CryoET Data Portal, whose data can be read, with a new overlay in `<tmp_path>/portal`."""
    from tests.portal import make_portal_root
    from tests.servers import s3_environment

    with s3_environment(portal_endpoint):
        yield make_portal_root(tmp_path / "portal")


@pytest.fixture
def unreachable_portal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CopickRootCDP]:
    """That project where connections to S3 are refused. botocore tries once; by default it does for ten seconds."""
    from tests.portal import make_portal_root
    from tests.servers import refusing_endpoint, s3_environment

    with refusing_endpoint() as endpoint, s3_environment(endpoint):
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        yield make_portal_root(tmp_path / "portal")
