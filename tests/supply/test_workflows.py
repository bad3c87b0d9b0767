"""The workflows run what is there, on what is declared, with pinned actions and no more rights than they need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.supply.bounds import ROOT, project

_FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
_PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")


def _workflow(file: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return read


def _steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


@pytest.mark.parametrize("file", _FILES, ids=lambda file: file.stem)
def test_every_action_is_pinned_to_a_commit(file: Path) -> None:
    used = [step["uses"] for step in _steps(_workflow(file)) if "uses" in step]
    assert used
    assert [action for action in used if not _PINNED.fullmatch(action)] == []


@pytest.mark.parametrize("file", _FILES, ids=lambda file: file.stem)
def test_one_action_is_one_version_everywhere(file: Path) -> None:
    everywhere = {line.strip() for each in _FILES for line in re.findall(r"uses: (.*)", each.read_text("utf-8"))}
    names = [line.partition("@")[0] for line in everywhere]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("file", _FILES, ids=lambda file: file.stem)
def test_a_workflow_may_only_read_and_a_job_writes_what_it_says(file: Path) -> None:
    workflow = _workflow(file)
    assert workflow["permissions"] == {"contents": "read"}
    rights = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    expected = {
        "publish": {"id-token": "write", "attestations": "write"},
        "page": {"contents": "write"},
    }
    assert rights == (expected if file.stem == "release" else {})
    # What may publish runs nothing of the repository or of a dependency, and holds no stored secret.
    assert "secrets." not in file.read_text(encoding="utf-8")
    for name in rights.keys() & {"publish"}:
        assert [step for step in workflow["jobs"][name]["steps"] if "run" in step] == []


def test_the_versions_that_are_tested_are_those_that_are_declared() -> None:
    found = re.findall(r":: (3\.\d+)$", "\n".join(project()["classifiers"]), re.MULTILINE)
    jobs = _workflow(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    assert jobs["systems"]["strategy"]["matrix"]["python"] == found
    assert project()["requires-python"] == f">={found[0]}"


@pytest.mark.parametrize("file", _FILES, ids=lambda file: file.stem)
def test_every_script_and_folder_that_a_workflow_names_is_there(file: Path) -> None:
    text = "\n".join(step.get("run", "") for step in _steps(_workflow(file)))
    named = re.findall(r"(?<![\w/])(?:\.ci|tests)/[\w/]+", text)
    named += [f"{name.replace('.', '/')}" for name in re.findall(r"python -m (tests\.\w+)", text)]
    assert [name for name in named if not (ROOT / name).exists()] == []
