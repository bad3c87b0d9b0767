"""Values that can stand in a JSON body, and so can be sent."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StrictStr

from llama_client.validation import broken_rule

# Far above any model's context, and enough for a large image as a data: URI.
_MAX_TEXT_CHARS = 1 << 26
# What models and servers count with; beyond it numbers would wrap around silently.
MAX_COUNT = 2**31 - 1


def _json_object(value: dict[str, Any]) -> dict[str, Any]:
    """A copy that the caller cannot change later."""
    try:
        copy: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise broken_rule("", f"must hold only what JSON can ({type(error).__name__}: {error})") from None
    return copy


# The bounds also make pydantic refuse what is no Unicode text (lone surrogates), which no JSON can hold.
Text = Annotated[StrictStr, Field(max_length=_MAX_TEXT_CHARS)]
SomeText = Annotated[StrictStr, Field(min_length=1, max_length=_MAX_TEXT_CHARS)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_json_object)]
