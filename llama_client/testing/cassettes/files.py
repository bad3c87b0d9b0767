"""A cassette as a file: JSON that a reviewer can read, one line an event, checked when it is read."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from llama_client.config.files import atomic_file
from llama_client.testing.cassettes.bodies import pieces_of
from llama_client.testing.cassettes.errors import CassetteError
from llama_client.testing.cassettes.exchanges import VERSION, EngineExchange, Exchange, HttpExchange
from llama_client.validation import first_problem

# A larger file is no cassette that anybody reviews, and would fill the memory.
MAX_BYTES = 64 << 20
_MARK = "llama_client_cassette"
# Lists whose items are a line each.
_ONE_LINE = frozenset(("lines", "chunks"))
_HTTP = TypeAdapter(HttpExchange)
_ENGINE = TypeAdapter(EngineExchange)
_AGAIN = 'record it anew with mode="record", or take it from version control'


def load(path: Path) -> list[Exchange]:
    """The exchanges of a cassette.

    Raises:
        CassetteError: There is no such file, or it is no cassette that this version can read.
    """
    text = _text(path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise CassetteError(f"{path}: {place}: is no JSON ({error.msg}): {_AGAIN}", file=path, place=place) from None
    except (ValueError, RecursionError) as error:
        raise CassetteError(f"{path}: is no JSON ({error}): {_AGAIN}", file=path) from None
    if not isinstance(content, dict) or _MARK not in content:
        raise CassetteError(f"{path}: is no cassette, as it lacks {_MARK!r}: {_AGAIN}", file=path, place=_MARK)
    if content[_MARK] != VERSION or isinstance(content[_MARK], bool):
        message = f"{path}: {_MARK}: is {content[_MARK]!r}, and this llama-client reads {VERSION}"
        raise CassetteError(f"{message}: use the version that wrote it, or {_AGAIN}", file=path, place=_MARK)
    listed = content.get("exchanges")
    if not isinstance(listed, list):
        raise CassetteError(f"{path}: exchanges: must be a list: {_AGAIN}", file=path, place="exchanges")
    return [_checked(path, number, value) for number, value in enumerate(listed)]


def save(path: Path, exchanges: Sequence[Exchange]) -> None:
    """Writes a cassette, whole or not at all.

    Raises:
        CassetteError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(text_of(exchanges).encode())
    except OSError as error:
        raise CassetteError(f"{path}: cannot be written ({error.strerror or error})", file=path) from None


def require_writable(path: Path) -> None:
    """To be called before anything is asked that costs money.

    Raises:
        CassetteError: The file cannot be written.
    """
    if path.is_dir():
        raise CassetteError(f"{path}: is a folder; name a file in it", file=path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise CassetteError(f"{path}: cannot be written ({error.strerror or error})", file=path) from None


def text_of(exchanges: Sequence[Exchange]) -> str:
    """The text of a cassette."""
    items = [_indented(as_data(each), "") for each in exchanges]
    listed = "[]" if not items else "[\n" + ",\n".join(items) + "\n]"
    return f'{{\n"{_MARK}": {VERSION},\n"exchanges": {listed}\n}}\n'


def as_data(exchange: Exchange) -> dict[str, Any]:
    """An exchange as JSON values, without what has its default."""
    return exchange.model_dump(mode="json", exclude_defaults=True)


def of_data(value: Any) -> Exchange:
    """An exchange of JSON values.

    Raises:
        ValidationError: It is none.
    """
    is_engine = isinstance(value, dict) and "asked" in value
    return (_ENGINE if is_engine else _HTTP).validate_python(value)


def _text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise CassetteError(f"{path}: is a folder; name a file in it", file=path)
        if size > MAX_BYTES:
            message = f"{path}: has {size >> 20} MiB, and a cassette at most {MAX_BYTES >> 20} MiB: split the test"
            raise CassetteError(message, file=path)
        return path.read_text("utf-8")
    except FileNotFoundError:
        message = f'{path}: does not exist: record it with mode="once", or with llama-client record --to {path} -- ...'
        raise CassetteError(message, file=path) from None
    except UnicodeDecodeError as error:
        message = f"{path}: byte {error.start}: is no text in UTF-8: {_AGAIN}"
        raise CassetteError(message, file=path, place=f"byte {error.start}") from None
    except OSError as error:
        raise CassetteError(f"{path}: cannot be read ({error.strerror or error})", file=path) from None


def _checked(path: Path, number: int, value: Any) -> Exchange:
    place = f"exchanges[{number}]"
    try:
        exchange = of_data(value)
        if isinstance(exchange, HttpExchange):
            pieces_of(exchange.answer.lines)
        return exchange
    except ValidationError as error:
        problem = first_problem(error)
        place = f"{place}.{problem.field}" if problem.field else place
        sentence = problem.sentence.removeprefix(f"{problem.field}: ")
        message = f"{path}: {place}: {sentence}: correct it, or {_AGAIN}"
        raise CassetteError(message, file=path, place=place) from None
    except ValueError as error:
        place = f"{place}.answer.lines"
        raise CassetteError(f"{path}: {place}: {error}: correct it, or {_AGAIN}", file=path, place=place) from None


def _indented(value: Any, indent: str, name: str = "") -> str:
    inner = f"{indent}  "
    if isinstance(value, dict) and value:
        rows: Iterable[str] = (f"{inner}{_line(key)}: {_indented(below, inner, key)}" for key, below in value.items())
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and value:
        rows = (f"{inner}{each}" for each in _items(value, inner, is_one_line=name in _ONE_LINE))
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    return _line(value)


def _items(values: Sequence[Any], indent: str, *, is_one_line: bool) -> Iterator[str]:
    for value in values:
        yield _line(value) if is_one_line else _indented(value, indent)


def _line(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    # Half of a surrogate pair can only be written as an escape.
    return text if _is_text(text) else json.dumps(value)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
