"""How a request's `response_format` is sent to the engine: as a grammar of ours, made once for each schema."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from llama_client.errors import BadRequestError
from llama_client.providers.base import ProviderCall
from llama_client.providers.gguf.schemas.classes import class_schema
from llama_client.providers.gguf.schemas.compiler import Compiled, NoTextError, compiled
from llama_client.providers.gguf.schemas.frames import Frame
from llama_client.providers.gguf.schemas.merging import SchemaError
from llama_client.schema_keywords import NOT_ENFORCED

# A grammar has 1 kB to 300 kB.
_MAX_KEPT = 64
# So much of an answer that did not fit is shown to the model.
_MAX_SHOWN_CHARS = 1500


# What llama.cpp's own grammar leaves out in part or as a whole, beside what ours does; patterns are taken out, as it
# refuses some.
_DOUBTFUL = NOT_ENFORCED | {
    *("pattern", "format", "multipleOf", "uniqueItems", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minProperties", "maxProperties", "patternProperties", "propertyNames", "contentSchema", "contentMediaType"),
}
# Keywords whose values have names for keys, and those whose values are no schemas.
_NAMED = frozenset({"properties", "$defs", "definitions"})
_DATA = frozenset({"enum", "const", "default", "examples"})


class _ByClass:
    """The grammars of classes, as of a day. They leave with their classes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: WeakKeyDictionary[type, tuple[date, Compiled]] = WeakKeyDictionary()

    def of(self, model: type, today: date) -> Compiled:
        with self._lock:
            kept = self._kept.get(model)
        if kept is not None and kept[0] == today:
            return kept[1]
        made = compiled(class_schema(model, today), of_class=True)
        with self._lock:
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            self._kept[model] = today, made
        return made


_by_class = _ByClass()


@lru_cache(maxsize=_MAX_KEPT)
def _of_schema(schema: str) -> Compiled:
    return compiled(json.loads(schema), of_class=False)


def require_some_text(call: ProviderCall, now: float) -> None:
    """Refuses a schema that no text satisfies. One that is none is left to `answer_grammar`."""
    try:
        _grammar(call, now)
    except NoTextError as error:
        raise call.unsupported("response_format", f"no text satisfies its schema ({error})") from None
    except SchemaError:
        pass


def answer_grammar(call: ProviderCall, now: float, frame: Frame) -> dict[str, Any]:
    """The fields of the engine's body; says in a warning what the answer is not held to."""
    wanted = call.request.response_format
    if wanted is None:
        return {}
    try:
        made = _grammar(call, now)
    except NoTextError as error:
        raise call.unsupported("response_format", f"no text satisfies its schema ({error})") from None
    except SchemaError as error:
        raise BadRequestError(f"response_format: not a JSON schema: {error}") from None
    if made is None:
        form = wanted.model_dump(mode="json", by_alias=True, exclude_unset=True)
        doubtful = sorted(set(_rules_in(form.get("json_schema"))) & _DOUBTFUL) if call.request.tools else []
        if doubtful:
            rules = ", ".join(doubtful)
            call.facts.warn(
                f"{call.target} may not be held to all of the schema beside tools, where llama.cpp makes the grammar "
                f"({rules}).{_checked(call)}",
                is_of_request=True,
            )
            form = _without_patterns(form)
        return {"response_format": form}
    if made.not_held:
        warning = f"{call.target} is not held to all of the schema: {'; '.join(made.not_held)}.{_checked(call)}"
        call.facts.warn(warning, is_of_request=True)
    return {"grammar": frame.around(made.term) + made.rules}


def _grammar(call: ProviderCall, now: float) -> Compiled | None:
    """None: the engine's own does."""
    request = call.request
    wanted = request.response_format
    # The engine takes no grammar beside tools.
    if wanted is None or wanted.json_schema is None or request.tools:
        return None
    if request.answer_class is not None:
        return _by_class.of(request.answer_class, datetime.fromtimestamp(now, UTC).date())
    return _of_schema(json.dumps(wanted.json_schema.schema_))


def _checked(call: ProviderCall) -> str:
    return " The answer was checked after." if call.request.answer_class is not None else " Nothing checks that."


def _rules_in(schema: Any) -> Iterator[str]:
    """The keywords of a schema and of those within it."""
    if isinstance(schema, list):
        for each in schema:
            yield from _rules_in(each)
    elif isinstance(schema, Mapping):
        for key, value in schema.items():
            yield key
            if key not in _DATA:
                is_named = key in _NAMED and isinstance(value, Mapping)
                yield from _rules_in(list(value.values()) if is_named else value)


def _without_patterns(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_patterns(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    is_pattern = isinstance(schema.get("pattern"), str)
    return {
        key: value if key in _DATA else _without_patterns(value)
        for key, value in schema.items()
        if key != "pattern" or not is_pattern
    }


def with_misfit(call: ProviderCall, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages, and what the last try wrote that did not fit: asked in the same words, it would write it again."""
    if call.misfit is None or messages[-1]["role"] == "assistant":
        return messages
    text, why = call.misfit
    # Of the warnings, which follow, it can make nothing.
    why = why.partition(f"; {call.target} ")[0]
    shown = text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}…"
    told = {"role": "user", "content": f"That will not do: {why}. Write all of it again, so that it fits."}
    return [*messages, {"role": "assistant", "content": shown}, told]
