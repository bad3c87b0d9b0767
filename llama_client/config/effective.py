"""A configuration with the source and line of each value: as found, and as effective."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, SecretStr

from llama_client.config.environment import KeyPath, Overrides
from llama_client.config.files import MAX_CONFIG_BYTES, read_regular_file, text_of
from llama_client.config.schema import Config
from llama_client.config.tables import RouteTarget
from llama_client.config.untrusted_files import refusals
from llama_client.redaction import shown_value
from llama_client.validation import Problem, place

# To find the end of a statement takes time by the square of its lines.
_MAX_STATEMENT_LINES = 200


def key_lines(text: str) -> Mapping[KeyPath, int]:
    """The line, counted from 1, of every key, table and item of a list; empty where that is not certain.

    Example:
        >>> key_lines('a = 1\\n[b]\\nc = [2,\\n  3]\\n')[("b", "c", 1)]
        4
    """
    with suppress(ValueError, RecursionError):
        found = _document(text.replace("\r\n", "\n").split("\n"))
        return found if set(found) == set(_paths(tomllib.loads(text))) else {}
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
        with suppress(ValueError):
            return end, tomllib.loads("\n".join(lines[start:end]))
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
        with suppress(ValueError):
            # The items that are complete at the end of this line.
            paths = set(_paths(tomllib.loads("\n".join(lines[:number]) + "\n]")))
            yield from ((path, line) for path in paths - seen)
            seen |= paths
            line = number + 1
    yield from ((path, line) for path in _paths(values) if path not in seen)


class ValueSource(NamedTuple):
    kind: Literal["file", "environment", "argument", "default"]
    file: Path | None = None
    line: int | None = None
    variable: str | None = None


class ConfigLocation(NamedTuple):
    where: str
    state: Literal["taken", "absent", "passed over"]


class Document(NamedTuple):
    values: dict[str, Any]
    origin: str
    folder: Path
    file: Path | None = None
    table: KeyPath = ()


@dataclass(frozen=True)
class Found:
    document: Document
    overrides: Overrides
    values: dict[str, Any]
    variables: Mapping[KeyPath, str]
    origin: str
    # Found in the working folder, not named by the user.
    is_untrusted: bool
    local_only: ValueSource | None = None
    places: Sequence[ConfigLocation] = ()

    def refusals(self) -> Iterator[Problem]:
        if self.is_untrusted:
            users = dict(self.overrides.values)
            if self.local_only is not None:
                users["local_only"] = True
            yield from refusals(self.document.values, self.document.folder, users)

    @property
    def local_only_by(self) -> str:
        """What sets `local_only`, if anything does: a variable, the path of a file, or the document's name."""
        source = self.local_only
        return self.document.origin if source is None else source.variable or str(source.file)

    def source_of(self, path: KeyPath) -> ValueSource:
        """Where the value at a path comes from; an absent value has its default."""
        if path == ("local_only",) and self.local_only is not None:
            return self._with_line(self.local_only, path)
        for length in range(len(path), 0, -1):
            if path[:length] in self.variables:
                return ValueSource("environment", variable=self.variables[path[:length]])
        if not _is_there(self.document.values, path):
            return ValueSource("default")
        if self.document.file is None:
            return ValueSource("argument")
        return self._with_line(ValueSource("file", file=self.document.file), (*self.document.table, *path))

    def _with_line(self, source: ValueSource, path: KeyPath) -> ValueSource:
        if source.file is None:
            return source
        lines = self._lines if source.file == self.document.file else _lines_of(source.file)
        # A part of a value without a line of its own has that of the value.
        line = next((lines[path[:length]] for length in range(len(path), 0, -1) if path[:length] in lines), None)
        return source._replace(line=line)

    @cached_property
    def _lines(self) -> Mapping[KeyPath, int]:
        return {} if self.document.file is None else _lines_of(self.document.file)


def _lines_of(file: Path) -> Mapping[KeyPath, int]:
    with suppress(OSError, UnicodeDecodeError):  # gone since it was read
        return key_lines(text_of(read_regular_file(file, max_bytes=MAX_CONFIG_BYTES)))
    return {}


def _is_there(values: Any, path: KeyPath) -> bool:
    try:
        for part in path:
            values = values[part]
    except (LookupError, TypeError):
        return False
    return True


class EffectiveValue(NamedTuple):
    path: KeyPath
    value: Any
    source: ValueSource
    is_masked: bool

    @property
    def key(self) -> str:
        return place(self.path)


def effective_values(
    config: Config, found: Found, environ: Mapping[str, str], *, with_defaults: bool = False
) -> list[EffectiveValue]:
    values = []
    for path, value in _walk(config, ()):
        source = found.source_of(path)
        is_kind = path[0] == "providers" and path[2:] == ("kind",)
        if with_defaults or source.kind != "default" or is_kind:
            shown, is_masked = shown_value(str(path[-1]), plain(value), environ)
            values.append(EffectiveValue(path, shown, source, is_masked))
    return values


def _walk(table: BaseModel, here: KeyPath) -> Iterator[tuple[KeyPath, object]]:
    """The keys of a table (`kind` first), then those of the tables in it."""
    fields = {name: getattr(table, name) for name in type(table).model_fields}
    tables = {name: _tables_in(name, value) for name, value in fields.items()}
    for name in sorted(fields, key=lambda name: (name != "kind", bool(tables[name]))):
        if not tables[name]:
            yield (*here, name), fields[name]
        for path, below in tables[name]:
            yield from _walk(below, (*here, name, *path))


def _tables_in(name: str, value: object) -> list[tuple[KeyPath, BaseModel]]:
    """The tables of a value that have headers of their own: itself, those of a list, or those by name."""
    items: list[tuple[KeyPath, object]] = []
    match value:
        case BaseModel():
            items = [((), value)]
        case Mapping():
            items = [((key,), below) for key, below in value.items()]
        case tuple():
            items = [((number,), below) for number, below in enumerate(value)]
    tables = [(path, below) for path, below in items if isinstance(below, BaseModel)]
    # These are shown as the value of one key, though made of tables.
    is_value = name in ("targets", "lora", "moe") or len(tables) < len(items)
    return [] if is_value else tables


def plain(value: object) -> Any:
    """A value of the configuration in TOML's types, and `SecretStr`."""
    match value:
        case RouteTarget() if value.model_fields_set == {"target"}:
            return value.target
        case BaseModel():
            fields = type(value).model_fields
            return {name: plain(getattr(value, name)) for name in fields if name in value.model_fields_set}
        case SecretStr():
            return value
        case Mapping():
            return {str(name): plain(below) for name, below in value.items()}
        case Path():
            return str(value)
        case Sequence() if not isinstance(value, str):
            return [plain(item) for item in value]
        case _:
            return value
