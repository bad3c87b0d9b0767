"""Every public name, and what is public of it, stands in tests/typing, which mypy and pyright check as users' code."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import llama_client
import llama_client.crossover
from llama_client import AsyncLlamaClient, LlamaClient, chat, models
from llama_client.config.schema import Config
from llama_client.costs import api as reporting
from llama_client.types.request import ChatRequest
from tests import signatures

# Public for the package's own rooms alone.
_OURS = {"made_local_only", "model_post_init"}
# What a client holds, and users call without naming its class.
_HELD = (
    chat.Chat, chat.AsyncChat, chat.Completions, chat.AsyncCompletions, models.Models, models.AsyncModels,
    models.ProviderDirectory, models.AsyncProviderDirectory, reporting.Costs, reporting.AsyncCosts,
)  # fmt: skip


# Of the checked request, what only the package sets.
_SET_BY_US = {"schema_in_words", "answer_class"}
_CALLS: dict[Callable[..., Any], set[str]] = {
    chat.Completions.create: set(),
    chat.AsyncCompletions.create: set(),
    chat.Completions.parse: {"stream", "stream_options"},
    chat.AsyncCompletions.parse: {"stream", "stream_options"},
    LlamaClient.ask: {"messages", "stream", "stream_options"},
    AsyncLlamaClient.ask: {"messages", "stream", "stream_options"},
}


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


def keywords(call: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a call takes by keyword, as `help` and editors show it."""
    shown = inspect.signature(call).parameters
    assert all(parameter.kind is not parameter.VAR_KEYWORD for parameter in shown.values())
    return {name: each for name, each in shown.items() if each.kind is each.KEYWORD_ONLY}


@pytest.mark.parametrize(("call", "missing"), _CALLS.items(), ids=lambda each: getattr(each, "__qualname__", ""))
def test_a_signature_shows_each_field_of_the_checked_request(call: Callable[..., Any], missing: set[str]) -> None:
    shown = keywords(call)
    ours = {"model"} | ({"system"} if call.__name__ == "ask" else set())
    assert set(shown) == set(ChatRequest.model_fields) - _SET_BY_US - missing | ours
    required = {name for name, each in shown.items() if each.default is each.empty}
    assert required == {"create": {"messages"}, "parse": {"messages", "response_format"}, "ask": set()}[call.__name__]
    assert all(each.default is None for name, each in shown.items() if name not in required)
    hints = inspect.signature(call, eval_str=True).parameters
    assert not [name for name in shown if hints[name].annotation is inspect.Parameter.empty]


def test_overloads_show_the_same_parameters_as_the_call() -> None:
    for call in (chat.Completions.create, chat.AsyncCompletions.create):
        for overload in typing.get_overloads(call):
            assert list(keywords(overload)) == list(keywords(call))


@pytest.mark.parametrize("call", [LlamaClient.ask, chat.Completions.create, LlamaClient.for_provider])
def test_a_docstring_describes_each_parameter_in_order(call: Callable[..., Any]) -> None:
    rows = (inspect.getdoc(call) or "").partition("Args:\n")[2].partition("\n\n")[0]
    described = re.findall(r"^    (\w+): ", rows, flags=re.MULTILINE)
    assert described == [name for name in inspect.signature(call).parameters if name != "self"]


def test_generated_signatures_are_current() -> None:
    create = signatures.FILES[0].read_text(encoding="utf-8")
    for file in signatures.FILES:
        source = file.read_text(encoding="utf-8")
        assert signatures.written(source, create) == source, "run: python -m tests.signatures"


def test_one_providers_client_takes_the_keys_of_every_kind_of_provider() -> None:
    kinds = ("groq", "together", "openai", "ollama", "gguf")
    tables = Config.model_validate({"providers": {kind: {"kind": kind} for kind in kinds}}).providers.values()
    keys = {"timeout" if name == "timeout_s" else name for table in tables for name in type(table).model_fields}
    assert set(keywords(LlamaClient.for_provider)) == keys | {"http_client", "tags", "local_only"}
