from __future__ import annotations

import shutil
from pathlib import Path

import copick
import pytest
from copick.ops.croissant import export_croissant as copick_export

import tests.model_settings  # noqa: F401  # it registers the profiles of tests/test_model.py
from copick_mlc import CopickRootMLC, demo, from_croissant
from tests.projects import make_full_project


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
