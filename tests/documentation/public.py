"""What the reference shows: the pages' names, and what stands behind them, as it is written."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

import griffe

import llama_client
from llama_client import crossover
from tests.documentation.pages import DOCS, ROOT

_SHOWN = re.compile(r"^::: (?P<name>[\w.]+)$", flags=re.MULTILINE)
_STARS = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}
# Docstrings of twins point to the other: `LlamaClient.ask`, awaited.
_POINTS_ELSEWHERE = re.compile(r"`[\w.]+`(,| for)|See `")


@functools.cache
def package() -> griffe.Object:
    """The package, read and not imported."""
    loaded = griffe.load("llama_client", search_paths=[str(ROOT)], docstring_parser="google")
    assert isinstance(loaded, griffe.Object)
    return loaded


def shown_names() -> list[str]:
    """The names on the pages of the reference, in order; of a module, what it defines."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in sorted((DOCS / "reference").glob("*.md")))
    names: list[str] = []
    for name in _SHOWN.findall(text):
        found = behind(name)
        names += [member.path for member in _members(found)] if found.is_module else [name]
    return names


def public_names() -> list[str]:
    """The names that users import: all but the version."""
    names = [f"llama_client.{name}" for name in llama_client.__all__ if name != "__version__"]
    return names + [f"llama_client.crossover.{name}" for name in crossover.__all__]


def behind(name: str) -> griffe.Object:
    """What a dotted name stands for."""
    found = package()[name.removeprefix("llama_client.")]
    return found.final_target if isinstance(found, griffe.Alias) else found


def documented() -> list[griffe.Object]:
    """Everything that the reference shows: classes, functions, and the public members of classes."""
    found: dict[str, griffe.Object] = {}
    for name in shown_names():
        thing = behind(name)
        found[thing.path] = thing
        if thing.is_class:
            found.update({member.path: member for member in _members(thing)})
    return list(found.values())


def _members(thing: griffe.Object) -> Iterator[griffe.Object]:
    """The public classes, functions and properties that a class or module defines."""
    for name, member in thing.members.items():
        if name.startswith("_") or isinstance(member, griffe.Alias):
            continue
        if member.is_class or member.is_function or (member.is_attribute and "property" in member.labels):
            yield member


def sections(thing: griffe.Object) -> dict[str, set[str]]:
    """The sections of a docstring, with the names in each."""
    parsed = thing.docstring.parse("google", warnings=False) if thing.docstring else []
    return {
        section.kind.value: {element.name for element in section.value if hasattr(element, "name")}
        for section in parsed
        if section.kind.value in ("parameters", "attributes", "raises", "returns", "yields")
    }


def parameters(function: griffe.Function) -> griffe.Parameters:
    """What a function takes: of overloads, what the last one does, which covers all of them."""
    return (function.overloads or [function])[-1].parameters


def written(parameter: griffe.Parameter) -> str:
    """A parameter's name as a docstring writes it: `**params`."""
    stars = _STARS.get(parameter.kind, "") if parameter.kind is not None else ""
    return stars + parameter.name


def fields(thing: griffe.Object) -> set[str]:
    """What a class declares for its users to read or to give."""
    return {
        name
        for name, member in thing.members.items()
        if not name.startswith("_")
        and not isinstance(member, griffe.Alias)
        and isinstance(member, griffe.Attribute)
        and member.annotation is not None
        and "instance-attribute" in member.labels
        and not member.has_docstring
    }


def describes_a_call(thing: griffe.Object) -> bool:
    """Whether a TypedDict's docstring leads to the call that describes its keys."""
    return thing.docstring is not None and thing.docstring.value.startswith("See `")


def points_elsewhere(thing: griffe.Object) -> bool:
    """Whether the docstring says that another one holds."""
    return thing.docstring is not None and _POINTS_ELSEWHERE.match(thing.docstring.value) is not None
