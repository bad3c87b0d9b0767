"""Renders the templates of Ollama's models, in the part of Go's language that they use for plain messages. No I/O.

Anything else, tools for one, is a `TemplateError`: what such a template does is unknown. https://pkg.go.dev/text/template
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

# Far above any template, and what it makes of two short messages.
_MAX_CHARS = 256 << 10
_MAX_STEPS = 100_000
_MAX_DEPTH = 50

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:\\.|[^"\\])*"|`[^`]*`)|(?P<number>-?\d+)|(?P<path>\$\w*(?:\.\w+)*|(?:\.\w+)+|\.)"""
    r"""|(?P<word>[A-Za-z]\w*)|(?P<sign>:=|[()|,=]))"""
)
_FIELD = re.compile(r"(?<!\w)(?:\$\w*)?\.(\w+)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}


class TemplateError(ValueError):
    """A template that cannot be rendered here."""


@dataclass(slots=True)
class _Block:
    """What stands between an opening action and its `end` or `else`."""

    kind: str
    words: list[str] = field(default_factory=list)
    parts: list[str | _Block] = field(default_factory=list)
    otherwise: list[str | _Block] | None = None


class _Next(Exception):  # noqa: N818 - no failure
    pass


class _Break(Exception):  # noqa: N818 - no failure
    pass


def rendered(template: str, values: Mapping[str, Any]) -> str:
    """A template's text for these values.

    Raises:
        TemplateError: It has what is not known here.
    """
    if len(template) > _MAX_CHARS:
        raise TemplateError("it is too long")
    try:
        return "".join(_Run(values).block(_parsed(template), values))
    except TemplateError:
        raise
    except (_Next, _Break, RecursionError, TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise TemplateError(f"it cannot be rendered ({type(error).__name__})") from error


def names_in(template: str) -> set[str]:
    """The names of the fields that a template uses."""
    return {name for action in actions_in(template) for name in _FIELD.findall(action)}


def actions_in(template: str) -> Iterator[str]:
    """What stands between the brackets, without comments."""
    return (inside for _, inside in _pieces(template) if inside and not inside.startswith("/*"))


def _pieces(template: str) -> Iterator[tuple[str, str]]:
    """Each text, without the white space that an action next to it trims, and the action behind it; "" at the end."""
    at, trims = 0, False
    while True:
        start = template.find("{{", at)
        end = template.find("}}", start)
        text = template[at : start if start >= 0 else len(template)]
        text = text.lstrip() if trims else text
        if start < 0:
            yield text, ""
            return
        if end < 0:
            raise TemplateError("an action is not closed")
        inside = template[start + 2 : end]
        # A minus is a trim marker only beside white space.
        if inside[:1] == "-" and inside[1:2].isspace():
            text, inside = text.rstrip(), inside[1:]
        trims = inside[-1:] == "-" and inside[-2:-1].isspace()
        yield text, (inside[:-1] if trims else inside).strip() or "/* */"
        at = end + 2


def _parsed(template: str) -> list[str | _Block]:
    root = _Block("root")
    # Each open block, and where its parts go.
    stack: list[tuple[_Block, list[str | _Block]]] = [(root, root.parts)]
    for text, inside in _pieces(template):
        stack[-1][1].append(text)
        if not inside or inside.startswith("/*"):
            continue
        words = _words(inside)
        first = words[0]
        if first in ("if", "range", "with"):
            block = _Block(first, words[1:])
            stack[-1][1].append(block)
            stack.append((block, block.parts))
            if len(stack) > _MAX_DEPTH:
                raise TemplateError("it is nested too deeply")
        elif first in ("end", "else"):
            _close(stack, words)
        elif first in ("define", "template", "block"):
            raise TemplateError(f"it has {first}")
        else:
            stack[-1][1].append(_Block("action", words))
    if len(stack) > 1:
        raise TemplateError("a block is not closed")
    return root.parts


def _close(stack: list[tuple[_Block, list[str | _Block]]], words: list[str]) -> None:
    if len(stack) < 2:
        raise TemplateError("an end or else without a block")
    if words[0] == "end":
        opened, _ = stack.pop()
        # An `else if` is a block within the else, and has no end of its own.
        while opened.kind.startswith("else "):
            opened, _ = stack.pop()
        return
    opened, _ = stack[-1]
    opened.otherwise = []
    stack[-1] = (opened, opened.otherwise)
    if len(words) > 1:
        inner = _Block(f"else {words[1]}", words[2:])
        opened.otherwise.append(inner)
        stack.append((inner, inner.parts))


def _words(inside: str) -> list[str]:
    words, at = [], 0
    while at < len(inside):
        found = _TOKEN.match(inside, at)
        if found is None:
            if inside[at:].strip():
                raise TemplateError("it has what is not known here")
            break
        words.append(found[0].strip())
        at = found.end()
    return words


class _Run:
    """One rendering: its variables, and how much it may still do."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._variables: list[tuple[str, Any]] = [("$", root)]
        self._steps = 0

    def block(self, parts: Sequence[str | _Block], dot: Any) -> Iterator[str]:
        before = len(self._variables)
        try:
            for part in parts:
                self._steps += 1 if isinstance(part, str) else 1 + len(part.words)
                if self._steps > _MAX_STEPS:
                    raise TemplateError("it takes too long")
                if isinstance(part, str):
                    yield part
                else:
                    yield from self._block(part, dot)
        finally:
            del self._variables[before:]

    def _block(self, block: _Block, dot: Any) -> Iterator[str]:
        kind = block.kind.removeprefix("else ")
        if kind == "action":
            yield from self._action(block.words, dot)
        elif kind == "range":
            yield from self._range(block, dot)
        else:
            before = len(self._variables)
            value = self._declared(block.words, dot)
            if _is_true(value):
                yield from self.block(block.parts, value if kind == "with" else dot)
            else:
                yield from self.block(block.otherwise or (), dot)
            del self._variables[before:]

    def _range(self, block: _Block, dot: Any) -> Iterator[str]:
        words, names = block.words, []
        if ":=" in words:
            split = words.index(":=")
            names, words = [word for word in words[:split] if word != ","], words[split + 1 :]
        items = self._value(words, dot)
        if not isinstance(items, list | dict | None):
            raise TemplateError("it ranges over what is no list")
        pairs = list(enumerate(items) if isinstance(items, list) else sorted((items or {}).items()))
        if not pairs:
            yield from self.block(block.otherwise or (), dot)
        before = len(self._variables)
        for pair in pairs:
            self._variables += zip(names, pair if len(names) == 2 else pair[1:], strict=False)
            try:
                yield from self.block(block.parts, pair[1])
            except _Next:
                pass
            except _Break:
                break
            finally:
                del self._variables[before:]

    def _action(self, words: list[str], dot: Any) -> Iterator[str]:
        if words == ["continue"]:
            raise _Next
        if words == ["break"]:
            raise _Break
        if len(words) > 1 and words[1] in (":=", "="):
            self._declared(words, dot)
            return
        yield _shown(self._value(words, dot))

    def _declared(self, words: list[str], dot: Any) -> Any:
        """The value of a pipeline, which may declare or set a variable."""
        if len(words) < 2 or words[1] not in (":=", "="):
            return self._value(words, dot)
        name, value = words[0], self._value(words[2:], dot)
        if words[1] == ":=":
            self._variables.append((name, value))
            return value
        places = [at for at, (each, _) in enumerate(self._variables) if each == name]
        self._variables[places[-1]] = (name, value)
        return value

    def _value(self, words: list[str], dot: Any) -> Any:
        value, at = self._pipeline(words, 0, dot)
        if at != len(words):
            raise TemplateError("it has what is not known here")
        return value

    def _pipeline(self, words: list[str], at: int, dot: Any) -> tuple[Any, int]:
        value, at = self._command(words, at, dot, ())
        while at < len(words) and words[at] == "|":
            value, at = self._command(words, at + 1, dot, (value,))
        return value, at

    def _command(self, words: list[str], at: int, dot: Any, last: tuple[Any, ...]) -> tuple[Any, int]:
        word = words[at]
        is_function = word[0].isalpha() and word not in ("true", "false", "nil")
        operands: list[Any] = []
        at += is_function
        while at < len(words) and words[at] not in (")", "|"):
            operand, at = self._operand(words, at, dot)
            operands.append(operand)
        if is_function:
            return _call(word, [*operands, *last]), at
        if len(operands) != 1 or last:
            raise TemplateError("it calls what is no function")
        return operands[0], at

    def _operand(self, words: list[str], at: int, dot: Any) -> tuple[Any, int]:
        word = words[at]
        if word == "(":
            value, at = self._pipeline(words, at + 1, dot)
            if words[at] != ")":
                raise TemplateError("a bracket is not closed")
            if at + 1 < len(words) and words[at + 1].startswith(".") and len(words[at + 1]) > 1:
                return _field(value, words[at + 1]), at + 2
            return value, at + 1
        if word[0] in '"`':
            return (word[1:-1] if word[0] == "`" else _unescaped(word[1:-1])), at + 1
        if word[0] == ".":
            return _field(dot, word), at + 1
        if word[0] == "$":
            name, _, path = word.partition(".")
            found = [value for each, value in self._variables if each == name]
            if not found:
                raise TemplateError(f"it has no variable {name[:40]}")
            return _field(found[-1], f".{path}"), at + 1
        if word in ("true", "false", "nil"):
            return {"true": True, "false": False}.get(word), at + 1
        return (int(word) if word.lstrip("-").isdigit() else _call(word, [])), at + 1


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES[found[1]], text)


def _field(value: Any, path: str) -> Any:
    for name in filter(None, path.split(".")):
        if not isinstance(value, Mapping | None):
            raise TemplateError(f"it reads {name} of what has no fields")
        value = None if value is None else value.get(name)
    return value


def _is_true(value: Any) -> bool:
    return bool(value)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | None):
        raise TemplateError("it shows what is no text")
    return "" if value is None else str(value)


def _and(values: list[Any]) -> Any:
    return next((value for value in values if not _is_true(value)), values[-1])


def _or(values: list[Any]) -> Any:
    return next((value for value in values if _is_true(value)), values[-1])


def _sliced(values: list[Any]) -> Any:
    first, *last = values[1:]
    return values[0][first : last[0] if last else None]


def _indexed(values: list[Any]) -> Any:
    value = values[0]
    for key in values[1:]:
        value = value.get(key) if isinstance(value, Mapping) else value[key]
    return value


def _printed(values: list[Any]) -> str:
    form, *rest = values
    if re.search(r"%[^sdv%]", form):
        raise TemplateError("it prints in a form that is not known here")
    texts = [*map(_shown, rest)]
    _require_short(texts)
    return str(re.sub(r"%[dv]", "%s", form) % tuple(texts))


def _joined(values: list[Any]) -> str:
    texts = [*map(_shown, values)]
    _require_short(texts)
    return "".join(texts)


def _require_short(texts: list[str]) -> None:
    if sum(map(len, texts)) > _MAX_CHARS:
        raise TemplateError("it prints too much")


def _compared(is_so: Callable[[Any, Any], bool], values: list[Any]) -> bool:
    return is_so(values[0], values[1])


_FUNCTIONS: Mapping[str, Callable[[list[Any]], Any]] = {
    "and": _and,
    "or": _or,
    "not": lambda values: not _is_true(values[0]),
    "eq": lambda values: any(values[0] == each for each in values[1:]),
    "ne": partial(_compared, lambda one, other: one != other),
    "lt": partial(_compared, lambda one, other: one < other),
    "le": partial(_compared, lambda one, other: one <= other),
    "gt": partial(_compared, lambda one, other: one > other),
    "ge": partial(_compared, lambda one, other: one >= other),
    "len": lambda values: len(values[0] or ()),
    "slice": _sliced,
    "index": _indexed,
    "print": _joined,
    "printf": _printed,
    # Of Ollama's own: the day is in no message.
    "currentDate": lambda _: "2026-01-01",
    "yesterdayDate": lambda _: "2026-01-01",
}


def _call(name: str, values: list[Any]) -> Any:
    if name not in _FUNCTIONS:
        raise TemplateError(f"it calls {name[:40]}")
    return _FUNCTIONS[name](values)
