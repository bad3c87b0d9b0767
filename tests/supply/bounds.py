"""What pyproject.toml declares: the extras, and the lower bound of each direct dependency."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
_OURS = "llama-client"


def project() -> dict[str, Any]:
    declared: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return declared


def extras() -> list[str]:
    """The extras that users install; `all` and `dev` are made of these."""
    return [name for name in project()["optional-dependencies"] if name not in ("all", "dev")]


def requirements() -> Iterator[tuple[str, Requirement]]:
    """Each direct dependency, with the extra that it belongs to; empty: every installation has it."""
    declared = project()
    groups = {"": declared["dependencies"], **declared["optional-dependencies"]}
    for extra, lines in groups.items():
        for requirement in map(Requirement, lines):
            if requirement.name != _OURS:
                yield extra, requirement
