"""A configuration as it was found: its values before they are checked, and where each of them comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from llama_client.config.cloned import redirections
from llama_client.config.reading import MAX_CONFIG_BYTES, read_regular_file, text_of
from llama_client.config.variables import KeyPath, Overrides
from llama_client.validation import Problem

SourceKind = Literal["file", "environment", "argument", "default"]


@dataclass(frozen=True, slots=True)
class ValueSource:
    """Where one value comes from.

    Attributes:
        kind: `file`, `environment`, `argument` (a dict that a program gave) or `default`.
        file: The file.
        line: The line in it, counted from 1; None: it is not known.
        variable: The environment variable.
    """

    kind: SourceKind
    file: Path | None = None
    line: int | None = None
    variable: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """One of the places where a configuration is looked for.

    Attributes:
        where: In words.
        state: `taken`, `absent` (nothing is there), or `passed over` (an earlier one was taken).
    """

    where: str
    state: Literal["taken", "absent", "passed over"]


@dataclass(frozen=True, slots=True)
class Document:
    """What stands in one place.

    Attributes:
        values: The tables and keys.
        origin: Its name in messages.
        folder: Where its relative paths start.
        file: The file; None: it is none.
        table: The table of the file that is the configuration; empty: the whole file.
    """

    values: dict[str, Any]
    origin: str
    folder: Path
    file: Path | None = None
    table: KeyPath = ()


@dataclass(frozen=True)
class Found:
    """A configuration as it was found, with the variables on top.

    Attributes:
        document: What the variables were laid over.
        overrides: What the variables say.
        values: Both, unchecked.
        variables: Which variable a value is of, by its place in `values`.
        origin: The name of it all in messages.
        is_only_found: Nobody named it: it lay in the working folder.
        local_only: What says `local_only`, and wins over whatever else does not.
        places: Where it was looked for; empty: it was given.
    """

    document: Document
    overrides: Overrides
    values: dict[str, Any]
    variables: Mapping[KeyPath, str]
    origin: str
    is_only_found: bool
    local_only: ValueSource | None = None
    places: Sequence[Place] = field(default=())

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
    from llama_client.config.positions import key_lines

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
