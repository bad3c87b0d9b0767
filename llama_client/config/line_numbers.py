"""The line of each key in a TOML document, which `tomllib` does not report."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from llama_client.config.environment import KeyPath

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL = re.compile(r"'[^'\n]*'")
# The end of a text of several lines may have two quotes of the text before it.
_LONG_BASIC = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''(?:[^']|'(?!''))*'{3,5}", re.DOTALL)
_SCALAR = re.compile(r"[^,\]}#\n]*")


def key_lines(text: str) -> Mapping[KeyPath, int]:
    """The line, counted from 1, of every key, table and item of a list; nothing where that cannot be told for certain.

    Example:
        >>> key_lines('a = 1\\n[b]\\nc = [2,\\n  3]\\n')[("b", "c", 1)]
        4
    """
    try:
        lines = _Scanner(text.replace("\r\n", "\n")).document()
        return lines if set(lines) == set(_paths(tomllib.loads(text), ())) else {}
    except (IndexError, RecursionError, AttributeError, tomllib.TOMLDecodeError):
        return {}


def _paths(value: Any, here: KeyPath) -> list[KeyPath]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([here] if here else []), *(path for part, below in inner for path in _paths(below, (*here, part)))]


class _Scanner:
    """Walks through a document once, from its beginning to its end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted_to, self._line = 0, 1
        self._found: dict[KeyPath, int] = {}
        # How many tables the lists of tables have so far.
        self._tables: dict[KeyPath, int] = {}

    def document(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._skip_blank():
            line = self._line_here()
            if self._text.startswith("[[", self._at):
                table = self._next_table(self._header(2), line)
            elif self._text[self._at] == "[":
                table = self._resolved(self._header(1))
                self._note(table, line)
            else:
                self._pair(table)
        return self._found

    def _header(self, brackets: int) -> KeyPath:
        self._at += brackets
        key = self._key()
        self._skip(_SPACE)
        self._at += brackets
        return key

    def _next_table(self, key: KeyPath, line: int) -> KeyPath:
        path = (*self._resolved(key[:-1]), key[-1])
        number = self._tables.get(path, 0)
        self._tables[path] = number + 1
        self._note((*path, number), line)
        return (*path, number)

    def _resolved(self, key: KeyPath) -> KeyPath:
        """A header's place: the name of a list of tables means its last one."""
        path: KeyPath = ()
        for part in key:
            path = (*path, part)
            if path in self._tables:
                path = (*path, self._tables[path] - 1)
        return path

    def _pair(self, table: KeyPath) -> None:
        line = self._line_here()
        path = (*table, *self._key())
        self._skip(_SPACE)
        self._at += 1  # the equals sign
        self._skip(_SPACE)
        self._note(path, line)
        self._value(path)

    def _key(self) -> KeyPath:
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            quoted = self._text[self._at] in "\"'"
            pattern = {'"': _BASIC, "'": _LITERAL}.get(self._text[self._at], _BARE_KEY)
            part = self._skip(pattern)
            parts.append(tomllib.loads(f"key = {part}")["key"] if quoted else part)
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return tuple(parts)
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        for opening, pattern in (('"""', _LONG_BASIC), ("'''", _LONG_LITERAL), ('"', _BASIC), ("'", _LITERAL)):
            if self._text.startswith(opening, self._at):
                self._skip(pattern)
                return
        match self._text[self._at]:
            case "[":
                self._list(path)
            case "{":
                self._inline_table(path)
            case _:
                self._skip(_SCALAR)

    def _list(self, path: KeyPath) -> None:
        self._at += 1
        number = 0
        while self._skip_blank() and self._text[self._at] != "]":
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._note((*path, number), self._line_here())
            self._value((*path, number))
            number += 1
        self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while self._skip_blank() and self._text[self._at] != "}":
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._pair(path)
        self._at += 1

    def _note(self, path: KeyPath, line: int) -> None:
        """A table stands where it, or what is in it, is first named."""
        for length in range(1, len(path) + 1):
            self._found.setdefault(path[:length], line)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise IndexError
        self._at = found.end()
        return found.group()

    def _skip_blank(self) -> bool:
        """Goes on to the next thing; whether there is one."""
        self._skip(_BLANK)
        return self._at < len(self._text)

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted_to, self._at)
        self._counted_to = self._at
        return self._line
