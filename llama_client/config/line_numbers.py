"""The line of each key in a TOML document, which `tomllib` does not report.

A statement (a header, or a key with its value) begins on a line of its own and ends at the first line up to which it
parses, since an open string or list never does. So each is parsed by itself, and gives the paths in it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llama_client.config.environment import KeyPath

# To find the end of a statement takes time by the square of its lines.
_MAX_STATEMENT_LINES = 200


def key_lines(text: str) -> Mapping[KeyPath, int]:
    """The line, counted from 1, of every key, table and item of a list; empty where that is not certain.

    Example:
        >>> key_lines('a = 1\\n[b]\\nc = [2,\\n  3]\\n')[("b", "c", 1)]
        4
    """
    try:
        found = _document(text.replace("\r\n", "\n").split("\n"))
        return found if set(found) == set(_paths(tomllib.loads(text))) else {}
    except (ValueError, RecursionError):
        return {}


def _paths(value: Any, here: KeyPath = ()) -> Iterator[KeyPath]:
    if here:
        yield here
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, below in inner:
        yield from _paths(below, (*here, part))


def _document(lines: Sequence[str]) -> dict[KeyPath, int]:
    found: dict[KeyPath, int] = {}
    tables_in_list: dict[KeyPath, int] = {}
    table: KeyPath = ()
    start = 0
    while start < len(lines):
        end, values = _statement(lines, start)
        first = lines[start].lstrip(" \t")
        if first.startswith("["):
            table = _table(values, tables_in_list, is_item=first.startswith("[["))
            for length in range(1, len(table) + 1):
                found.setdefault(table[:length], start + 1)
        else:
            for path, line in _lines_of_value(lines[start:end], values):
                found.setdefault((*table, *path), start + line)
        start = end
    return found


def _statement(lines: Sequence[str], start: int) -> tuple[int, dict[str, Any]]:
    """The end of a statement, and its parsed values."""
    for end in range(start + 1, min(start + _MAX_STATEMENT_LINES, len(lines)) + 1):
        try:
            return end, tomllib.loads("\n".join(lines[start:end]))
        except tomllib.TOMLDecodeError:
            continue
    raise ValueError("too long")


def _table(header: dict[str, Any], tables_in_list: dict[KeyPath, int], *, is_item: bool) -> KeyPath:
    """The path of a header; the name of a list of tables means its last one."""
    names = [part for part in max(_paths(header), key=len) if isinstance(part, str)]
    path: KeyPath = ()
    for number, name in enumerate(names, start=1):
        path = (*path, name)
        if is_item and number == len(names):
            tables_in_list[path] = tables_in_list.get(path, -1) + 1
        if path in tables_in_list:
            path = (*path, tables_in_list[path])
    return path


def _lines_of_value(lines: Sequence[str], values: dict[str, Any]) -> Iterator[tuple[KeyPath, int]]:
    """Each path of a statement with its line; in a list of several lines, an item begins after the item before it."""
    seen: set[KeyPath] = set()
    line = 1
    for number in range(1, len(lines)):
        try:
            # The items that are complete at the end of this line.
            paths = set(_paths(tomllib.loads("\n".join(lines[:number]) + "\n]")))
        except tomllib.TOMLDecodeError:
            continue
        yield from ((path, line) for path in paths - seen)
        seen |= paths
        line = number + 1
    yield from ((path, line) for path in _paths(values) if path not in seen)
