"""A configuration with the source of each value: as found, and as effective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, SecretStr

from llama_client.config.environment import KeyPath, Overrides
from llama_client.config.files import MAX_CONFIG_BYTES, read_regular_file, text_of
from llama_client.config.schema import Config
from llama_client.config.tables import RouteTarget
from llama_client.config.untrusted_files import redirections
from llama_client.redaction import shown_value
from llama_client.validation import Problem, place

SourceKind = Literal["file", "environment", "argument", "default"]


@dataclass(frozen=True, slots=True)
class ValueSource:
    """Where one value comes from."""

    kind: SourceKind
    file: Path | None = None
    line: int | None = None
    variable: str | None = None


@dataclass(frozen=True, slots=True)
class ConfigLocation:
    """One of the places where a configuration is looked for."""

    where: str
    state: Literal["taken", "absent", "passed over"]


@dataclass(frozen=True, slots=True)
class Document:
    """What stands in one place."""

    values: dict[str, Any]
    origin: str
    folder: Path
    file: Path | None = None
    table: KeyPath = ()


@dataclass(frozen=True)
class Found:
    """A configuration as it was found, with the variables on top."""

    document: Document
    overrides: Overrides
    values: dict[str, Any]
    variables: Mapping[KeyPath, str]
    origin: str
    is_only_found: bool
    local_only: ValueSource | None = None
    places: Sequence[ConfigLocation] = field(default=())

    def redirections(self) -> Iterator[Problem]:
        """What a file that was only found may not do and this one does; see `cloned`."""
        if self.is_only_found:
            users = dict(self.overrides.values)
            if self.local_only is not None:
                users["local_only"] = True
            yield from redirections(self.document.values, self.document.folder, users)

    @property
    def local_only_by(self) -> str:
        """What says `local_only`, where anything does: a variable, the path of a file, or the document's name."""
        wins = self.local_only
        return self.document.origin if wins is None else wins.variable or str(wins.file)

    def source_of(self, path: KeyPath) -> ValueSource:
        """Where the value at a place comes from; a value that is not there has its default."""
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
        if source.kind != "file" or source.file is None:
            return source
        lines = self._lines if source.file == self.document.file else _lines_of(source.file)
        # A part of a value stands where the value does.
        line = next((lines[path[:length]] for length in range(len(path), 0, -1) if path[:length] in lines), None)
        return ValueSource("file", file=source.file, line=line)

    @cached_property
    def _lines(self) -> Mapping[KeyPath, int]:
        return {} if self.document.file is None else _lines_of(self.document.file)


def _lines_of(file: Path) -> Mapping[KeyPath, int]:
    from llama_client.config.line_numbers import key_lines

    try:
        return key_lines(text_of(read_regular_file(file, max_bytes=MAX_CONFIG_BYTES)))
    except (OSError, UnicodeDecodeError):  # gone since it was read
        return {}


def _is_there(values: object, path: KeyPath) -> bool:
    for part in path:
        match values:
            case Mapping() if part in values:
                values = values[part]
            case list() | tuple() if isinstance(part, int) and part < len(values):
                values = values[part]
            case _:
                return False
    return True


# What is shown as the value of one key, though it is made of tables.
_AS_VALUES = ("targets", "lora", "moe")


@dataclass(frozen=True, slots=True)
class EffectiveValue:
    """A value that holds."""

    path: KeyPath
    value: Any
    source: ValueSource
    is_masked: bool

    @property
    def key(self) -> str:
        """Its dotted key: `providers.laptop.n_ctx`."""
        return place(self.path)

    @property
    def is_set(self) -> bool:
        """Whether anybody has set it."""
        return self.source.kind != "default"


def effective_values(
    config: Config, found: Found, environ: Mapping[str, str], *, with_defaults: bool = False
) -> list[EffectiveValue]:
    """Every value of a configuration, in the order of its tables."""
    values = [EffectiveValue(path, *_split(path, value, environ, found)) for path, value in _walk(config, ())]
    return [value for value in values if with_defaults or value.is_set or _is_kind(value.path)]


def _split(path: KeyPath, value: object, environ: Mapping[str, str], found: Found) -> tuple[Any, ValueSource, bool]:
    shown, is_masked = shown_value(str(path[-1]), plain(value), environ)
    return shown, found.source_of(path), is_masked


def _is_kind(path: KeyPath) -> bool:
    return len(path) == 3 and path[0] == "providers" and path[2] == "kind"


def _walk(table: BaseModel, here: KeyPath) -> Iterator[tuple[KeyPath, object]]:
    """The keys of a table, and then those of the tables in it."""
    fields = [(name, getattr(table, name)) for name in type(table).model_fields]
    fields.sort(key=lambda field: (field[0] != "kind", _is_table(*field)))
    for name, value in fields:
        path = (*here, name)
        match value:
            case BaseModel() if _is_table(name, value):
                yield from _walk(value, path)
            case Mapping() if _is_table(name, value):
                for key, below in value.items():
                    yield from _walk(below, (*path, key))
            case tuple() if _is_table(name, value):
                for number, below in enumerate(value):
                    yield from _walk(below, (*path, number))
            case _:
                yield path, value


def _is_table(name: str, value: object) -> bool:
    """Whether a value has a heading of its own: a table, a list of tables, or tables by name."""
    if name in _AS_VALUES:
        return False
    match value:
        case BaseModel():
            return True
        case Mapping():
            return bool(value) and all(isinstance(below, BaseModel) for below in value.values())
        case tuple():
            return bool(value) and all(isinstance(below, BaseModel) for below in value)
        case _:
            return False


def plain(value: object) -> Any:
    """A value of the configuration in what TOML has, and secrets."""
    match value:
        case RouteTarget() if value.model_fields_set == {"target"}:
            return value.target
        case BaseModel():
            return {
                name: plain(getattr(value, name)) for name in type(value).model_fields if name in value.model_fields_set
            }
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
