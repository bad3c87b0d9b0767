"""Every public name, and what is public of it, stands in tests/typing, which mypy and pyright check as users' code."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

import llama_client
import llama_client.crossover
from llama_client import chat, models
from llama_client.costs import api as reporting

# Public for the package's own rooms alone.
_OURS = {"made_local_only", "model_post_init"}
# What a client holds, and users call without naming its class.
_HELD = (
    chat.Chat, chat.AsyncChat, chat.Completions, chat.AsyncCompletions, models.Models, models.AsyncModels,
    reporting.Costs, reporting.AsyncCosts,
)  # fmt: skip


@pytest.fixture(scope="module")
def typed() -> tuple[set[str], set[str]]:
    """The names that stand in tests/typing beside imports, and the attributes, keywords and keys."""
    names: set[str] = set()
    members: set[str] = set()
    for file in (Path(__file__).parent / "typing").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Name(id=name):
                    names.add(name)
                case ast.Attribute(attr=name):
                    members.add(name)
                case ast.keyword(arg=str(name)):
                    members.add(name)
                case ast.Constant(value=str(name)):
                    members.add(name)
    return names, members


def public_members(kind: type) -> Iterator[str]:
    """What users may write behind a dot, or as a keyword, of a class."""
    if issubclass(kind, BaseModel):
        yield from kind.model_fields
    if dataclasses.is_dataclass(kind):
        yield from (field.name for field in dataclasses.fields(kind) if not field.name.startswith("_"))
    if issubclass(kind, Exception):
        yield from vars(kind())
    yield from (name for name in getattr(kind, "__annotations__", {}) if not name.startswith("_"))
    inherited = {name for base in (BaseModel, Exception, dict) if issubclass(kind, base) for name in dir(base)}
    for name, member in inspect.getmembers(kind):
        is_ours = inspect.isfunction(member) or inspect.ismethod(member) or isinstance(member, property)
        if is_ours and not name.startswith("_") and name not in inherited | _OURS:
            yield name


@pytest.mark.parametrize("package", [llama_client, llama_client.crossover], ids=lambda package: package.__name__)
def test_every_public_name_is_typed(package: object, typed: tuple[set[str], set[str]]) -> None:
    names, members = typed
    public = set(getattr(package, "__all__"))  # noqa: B009 - a module's, which no type knows
    assert public - names - members == set()


@pytest.mark.parametrize("package", [llama_client, llama_client.crossover], ids=lambda package: package.__name__)
def test_whatever_is_public_of_a_class_is_typed(package: object, typed: tuple[set[str], set[str]]) -> None:
    public = (getattr(package, name) for name in getattr(package, "__all__"))  # noqa: B009 - as above
    classes = [thing for thing in public if isinstance(thing, type)]
    missing = {f"{kind.__name__}.{name}" for kind in classes for name in public_members(kind) if name not in typed[1]}
    # A configuration's tables are written as TOML or a dict, and read by nobody but the package.
    assert {name for name in missing if not name.startswith("Config.")} == set()


@pytest.mark.parametrize("kind", _HELD, ids=lambda kind: kind.__name__)
def test_whatever_a_client_holds_is_typed(kind: type, typed: tuple[set[str], set[str]]) -> None:
    assert set(public_members(kind)) - typed[1] == set()
