"""Values that can stand in a JSON body, and so can be sent."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StrictStr

from llama_client.validation import broken_rule

# Far above any model's context, and enough for a large image as a data: URI.
_MAX_TEXT_CHARS = 1 << 26
# What models and servers count with; beyond it numbers would wrap around silently.
MAX_COUNT = 2**31 - 1
MAX_TIMEOUT_S = 1_000_000


def _json_object(value: dict[str, Any]) -> dict[str, Any]:
    """A copy that the caller cannot change later."""
    try:
        copy: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise broken_rule("", f"must hold only what JSON can ({type(error).__name__}: {error})") from None
    return copy


# RFC 9110's tokens, and values without line ends: anything else would write headers of its own.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def header_name(name: str) -> str:
    """Checks the name of a header."""
    if not _HEADER_NAME.fullmatch(name):
        raise broken_rule("", "must hold names of headers, such as X-Team")
    return name


def header_value(value: str) -> str:
    """Checks the value of a header."""
    if not value.isascii() or not value.isprintable():
        raise broken_rule("", "must be one line of ASCII text")
    return value


# The bounds also make pydantic refuse what is no Unicode text (lone surrogates), which no JSON can hold.
Text = Annotated[StrictStr, Field(max_length=_MAX_TEXT_CHARS)]
SomeText = Annotated[StrictStr, Field(min_length=1, max_length=_MAX_TEXT_CHARS)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_json_object)]
HeaderName = Annotated[Text, AfterValidator(header_name)]
HeaderValue = Annotated[Text, AfterValidator(header_value)]
