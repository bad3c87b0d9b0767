"""Every direct dependency has a lower bound, which is true of what is installed, and is explained."""

from __future__ import annotations

import re
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import Specifier

from llama_client.diagnostics.machine import EXTRAS
from tests.supply.bounds import ROOT, extras, project, requirements
from tests.supply.environments import TESTS

_DEPENDENCIES = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Dependencies")[2]


def _lowest(requirement: Requirement) -> list[Specifier]:
    return [each for each in requirement.specifier if each.operator in (">=", "==")]


def test_every_direct_dependency_has_a_lower_bound() -> None:
    # `lowest` would else try the first release that there ever was.
    assert [str(each) for _, each in requirements() if not _lowest(each)] == []


def test_what_is_installed_is_within_the_bounds() -> None:
    here = [each for _, each in requirements() if each.marker is None or each.marker.evaluate()]
    assert [str(each) for each in here if not each.specifier.contains(version(each.name), prereleases=True)] == []


@pytest.mark.parametrize("name", sorted({each.name for extra, each in requirements() if extra != "dev"}))
def test_every_dependency_of_users_has_its_reason(name: str) -> None:
    assert re.search(rf"^\| [^|]*\b{re.escape(name)}\b", _DEPENDENCIES, re.MULTILINE)


def test_the_same_package_has_the_same_bound_wherever_it_is_named() -> None:
    bounds: dict[str, set[str]] = {}
    for _, requirement in requirements():
        bounds.setdefault(requirement.name, set()).add(str(requirement.specifier))
    assert {name: each for name, each in bounds.items() if len(each) > 1} == {}


def test_the_extras_that_are_tried_are_those_that_users_are_told_of() -> None:
    assert sorted(extras()) == sorted(EXTRAS)
    [everything] = project()["optional-dependencies"]["all"]
    assert Requirement(everything).extras == set(EXTRAS)


def test_the_folders_of_tests_are_there() -> None:
    assert [folder for folder in TESTS if not (ROOT / folder).is_dir()] == []
