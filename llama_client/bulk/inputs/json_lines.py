"""JSON lines: one object per line."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

from llama_client.bulk.inputs.files import InputFile
from llama_client.bulk.inputs.tables import Record, Unit
from llama_client.errors import InvalidRequestError, JobError

_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}


def kind_of(value: object) -> str:
    """The kind of a value in the words of JSON."""
    return "null" if value is None else _KINDS.get(type(value), f"a value of type {type(value).__name__}")


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class _TwiceError(ValueError):
    """An object has a name twice, with perhaps another value."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return made


_decoder = json.JSONDecoder(parse_constant=_refused, object_pairs_hook=_object)


class JsonLines:
    """A file of JSON lines. Blank lines are skipped."""

    unit: Unit = "line"
    is_replayable = True
    columns: tuple[str, ...] | None = None

    def __init__(self, file: InputFile) -> None:
        self._file = file
        self.name = file.name

    def count(self) -> int | None:
        return None

    def records(self) -> Generator[Record]:
        is_first = True
        for number, line in self._file.lines():
            text = line.strip()
            if text:
                yield Record(number, self._object(text, number, is_first=is_first))
                is_first = False

    def _object(self, text: str, number: int, *, is_first: bool) -> dict[str, Any]:
        if is_first and text.startswith("["):
            raise self._file.wrong(
                f"is a JSON array, and must be JSON lines, one object per line; "
                f"convert it: jq -c '.[]' {self.name} > lines-{self.name}"
            )
        try:
            value = _decoder.decode(text)
        except (ValueError, RecursionError) as error:
            raise self._broken(text, number, error, is_first=is_first) from None
        if type(value) is not dict:
            raise self._file.wrong_line(
                f'{kind_of(value)}; each line must be an object, such as {{"text": ...}}', number
            )
        return value

    def _broken(self, text: str, number: int, error: Exception, *, is_first: bool) -> InvalidRequestError | JobError:
        if is_first and text == "{":
            return self._file.wrong_line(
                "an object over several lines; each line must hold a whole one. "
                f"Convert it: jq -c . {self.name} > lines-{self.name}",
                number,
            )
        if isinstance(error, _TwiceError):
            return self._file.wrong_line(
                f"an object with the name {str(error)!r:.80} twice, and which one counts is not said; leave one", number
            )
        if isinstance(error, json.JSONDecodeError):
            return self._file.wrong_line(
                f"not JSON ({error.msg}, column {error.colno}); correct the line or remove it", number
            )
        why = "nested too deeply" if isinstance(error, RecursionError) else f"{error!s:.80}"
        return self._file.wrong_line(f"not JSON ({why}); correct the line or remove it", number)
