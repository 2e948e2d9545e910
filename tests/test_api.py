"""The documented API: every class, method, parameter and attribute, under its documented name."""

from __future__ import annotations

import inspect
from typing import Any

import copick
import copick.impl.mlcroissant as reference
import copick.impl.overlay as overlay
import pytest
from copick.models import CopickRoot

import copick_mlc

CLASSES = {
    "CopickObjectMLC": overlay.CopickObjectOverlay,
    "CopickRunMLC": overlay.CopickRunOverlay,
    "CopickPicksMLC": overlay.CopickPicksOverlay,
    "CopickMeshMLC": overlay.CopickMeshOverlay,
    "CopickSegmentationMLC": overlay.CopickSegmentationOverlay,
    "CopickVoxelSpacingMLC": overlay.CopickVoxelSpacingOverlay,
    "CopickTomogramMLC": overlay.CopickTomogramOverlay,
    "CopickFeaturesMLC": overlay.CopickFeaturesOverlay,
    "CopickRootMLC": CopickRoot,
}
MEMBERS = {
    "CroissantIndex": ["from_url", "resolve_url", "commit", "reload", "get_split", "set_split"],
    "CopickRootMLC": [
        *("static_is_overlay", "from_file", "refresh", "get_runs_in_split", "set_splits", "clear_splits", "batch"),
        *("splits", "sync", "reconnect", "mode"),
    ],
}


@pytest.mark.parametrize("name", CLASSES)
def test_entities_derive_from_copicks_own_bases(name: str) -> None:
    assert issubclass(getattr(copick_mlc, name), CLASSES[name])


@pytest.mark.parametrize(("name", "member"), [(name, member) for name in MEMBERS for member in MEMBERS[name]])
def test_documented_members_have_the_documented_parameters(name: str, member: str) -> None:
    ours, theirs = (inspect.getattr_static(getattr(module, name), member) for module in (copick_mlc, reference))
    if isinstance(theirs, property):
        assert isinstance(ours, property)
        return
    ours, theirs = (getattr(getattr(module, name), member) for module in (copick_mlc, reference))
    assert parameters(ours) == parameters(theirs)


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_configuration_fields() -> None:
    documented = {
        *("croissant_url", "croissant_base_url", "overlay_root", "overlay_fs_args", "croissant_fs_args"),
        *("static_fs_args", "config_type"),
    }
    fields = copick_mlc.CopickConfigMLCroissant.model_fields
    assert documented <= set(fields)
    assert set(fields) == set(reference.CopickConfigMLCroissant.model_fields)


def test_from_croissant_has_copicks_signature() -> None:
    assert parameters(copick_mlc.from_croissant) == parameters(copick.from_croissant)


def test_an_override_takes_the_arguments_of_what_it_overrides() -> None:
    """Code written for copick's classes may call ours: same parameters, in the same order, optional where they were."""
    for name, base in CLASSES.items():
        for member, function in vars(getattr(copick_mlc, name)).items():
            original = getattr(base, member, None)
            if not inspect.isfunction(function) or not inspect.isfunction(original) or member.startswith("__"):
                continue
            wanted = [p for p in parameters(original) if p[1] is not inspect.Parameter.VAR_KEYWORD]
            got = {parameter[0]: parameter for parameter in parameters(function)}
            if any(kind is inspect.Parameter.VAR_POSITIONAL for _, kind, _ in got.values()):
                continue
            assert [p[0] for p in wanted] == [p for p in got if p in {w[0] for w in wanted}], (name, member)
            for parameter, kind, default in wanted:
                assert got[parameter][1] is kind, (name, member, parameter)
                if default is not inspect.Parameter.empty:
                    assert got[parameter][2] is not inspect.Parameter.empty, (name, member, parameter)


def test_everything_public_is_documented() -> None:
    for name in copick_mlc.__all__:
        thing = getattr(copick_mlc, name)
        assert inspect.getdoc(thing), name
        for member, value in vars(thing).items() if inspect.isclass(thing) else ():
            if inspect.isfunction(value) and not member.startswith("_"):
                assert inspect.getdoc(value), f"{name}.{member}"


def test_names_are_resolved_lazily_and_listed() -> None:
    assert set(copick_mlc.__all__) <= set(dir(copick_mlc))
    with pytest.raises(AttributeError, match="nonsense"):
        copick_mlc.nonsense  # noqa: B018
