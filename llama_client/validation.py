"""Turns pydantic's errors into one sentence: the field, what is wrong, and what is right; never a key or a password."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from llama_client.imports import ready

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

RULE = "rule"
OWN_SENTENCES = frozenset({"content_part", "content_form", "tool_type"})
_SHOWN_VALUE_CHARS = 40
_LARGEST_SHOWN = 10**_SHOWN_VALUE_CHARS
# Pydantic's error types, as the expected type in the words of JSON and TOML.
_EXPECTED = {
    "path_type": "a path",
    "tuple_type": "a list",
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a mapping of names to values"),
    "string_type": "text",
    "float_type": "a number",
    **dict.fromkeys(("int_type", "int_from_float"), "a whole number"),
    "bool_type": "true or false",
}
# Pydantic's locations contain the branch of a union. Our tags begin with `=`; the tag of a message is its role.
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


class Problem(NamedTuple):
    field: str
    sentence: str

    @property
    def what(self) -> str:
        return self.sentence.removeprefix(f"{self.field}: ")


def first_problem(error: ValidationError, *, known: Iterable[str] = (), show_values: bool = True) -> Problem:
    """The most informative of a validation's errors."""
    return problem_of(most_telling(error.errors(include_url=False)), known=known, show_values=show_values)


def most_telling(details: Sequence[ErrorDetails]) -> ErrorDetails:
    """The error to report if only one is reported."""
    # A wrong item of a list also makes the list "too short", and a wrong field keeps the defaults after it from being
    # computed: these are no causes.
    detail = next((d for d in details if d["type"] not in _FOLLOWING), details[0])
    if detail["type"] == "missing":
        # The missing field may be there under a misspelled name.
        beside = detail["loc"][:-1]
        detail = next((d for d in details if d["type"] == "extra_forbidden" and d["loc"][:-1] == beside), detail)
    return detail


def all_telling(details: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Every error except those that another one explains; see `most_telling`."""
    return [detail for detail in details if not any(_explains(other, detail) for other in details)]


_FOLLOWING = frozenset(("too_short", "default_factory_not_called"))


def _explains(one: ErrorDetails, other: ErrorDetails) -> bool:
    if other["type"] == "default_factory_not_called":
        return one["type"] != other["type"] and one["loc"][: len(other["loc"]) - 1] == other["loc"][:-1]
    if other["type"] == "too_short":
        return len(one["loc"]) > len(other["loc"]) and one["loc"][: len(other["loc"])] == other["loc"]
    if other["type"] != "missing" or one["type"] != "extra_forbidden" or one["loc"][:-1] != other["loc"][:-1]:
        return False
    return nearest(str(one["loc"][-1]), [str(other["loc"][-1])]) is not None


def problem_of(detail: ErrorDetails, *, known: Iterable[str] = (), show_values: bool = True) -> Problem:
    context: dict[str, Any] = detail.get("ctx") or {}
    location = detail["loc"]
    if detail["type"] == RULE and context["field"]:
        location = (*location, context["field"])
    elif detail["type"].startswith("union_tag_"):
        location = (*location, str(context["discriminator"]).strip("'"))
    field = place(location)
    sentence = _sentence(detail, context, known=known, show_values=show_values)
    return Problem(field, f"{field}: {sentence}" if field else sentence)


def broken_rule(field: str, sentence: str) -> PydanticCustomError:
    """The error for a model's own validator to raise: about one of its fields (empty: about itself)."""
    return PydanticCustomError(RULE, "{sentence}", {"field": field, "sentence": sentence})


def place(location: tuple[int | str, ...]) -> str:
    """A location as a user would write it: `messages[1].content`."""
    # Imported with the first error: its patterns take a millisecond to compile.
    from llama_client.redaction import without_secrets

    text = ""
    for before, part in zip((None, *location), location, strict=False):
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.startswith("=") or part == "[key]" or (isinstance(before, int) and part in _ROLES):
            continue
        else:
            part = without_secrets(part)
            text += f".{part}" if text else part
    return text


def quoted(value: object) -> str:
    """A value for a message; only its kind if it is long or looks like a secret."""
    return _shown(value, show_values=True)


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    # Imported only to help: it takes time.
    ready("difflib")
    import difflib

    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return matches[0] if matches else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing."""
    match = nearest(name, known)
    return f"; did you mean {match!r}?" if match else ""


def _sentence(detail: Any, context: dict[str, Any], *, known: Iterable[str], show_values: bool) -> str:
    kind: str = detail["type"]
    match kind:
        case "extra_forbidden":
            return f"unknown name{suggestion(str(detail['loc'][-1]), known)}"
        case "missing" | "union_tag_not_found":
            return f"is required{_misspelled(detail)}"
        case "too_short" | "string_too_short":
            return "must not be empty"
        case "invalid_key":
            return "every name in it must be text"
        case "string_unicode":
            return "must be Unicode text, without lone surrogates"
        case _ if kind == RULE or kind in OWN_SENTENCES:
            return str(detail["msg"])
    if kind == "union_tag_invalid":
        wanted, value = f"one of {context['expected_tags']}", context["tag"]
    else:
        message = re.sub(r"^(Input|Value|String|Tuple) should (be )?", "", detail["msg"])
        wanted, value = _EXPECTED.get(kind, message), detail["input"]
    return f"must {'' if wanted.startswith(('match', 'have')) else 'be '}{wanted}, got {_shown(value, show_values)}"


# Parts of a request that may have names of a server's own, and the names that they have anyway.
_OPEN = frozenset({"messages", "tools", "tool_choice"})
_NAMES_THERE = frozenset(
    {"role", "content", "name", "tool_calls", "tool_call_id", "type", "text", "image_url", "function", "arguments"}
)


def _misspelled(detail: Any) -> str:
    """Which of the names that are there, where any name may be, was probably meant for a missing one."""
    given, location = detail["input"], detail["loc"]
    if location[0] not in _OPEN or not isinstance(given, dict):
        return ""
    match = nearest(str(location[-1]), [name for name in given if isinstance(name, str) and name not in _NAMES_THERE])
    return f" (is {quoted(match)} a misspelling of it?)" if match is not None else ""


def _shown(value: object, show_values: bool) -> str:
    from llama_client.redaction import looks_secret

    is_plain = value is None or isinstance(value, bool | float | str)
    # Python refuses to print a number of thousands of digits.
    is_plain = is_plain or (isinstance(value, int) and abs(value) < _LARGEST_SHOWN)
    shown = repr(value) if is_plain else ""
    if show_values and shown and len(shown) <= _SHOWN_VALUE_CHARS:
        return "text that looks like a secret" if looks_secret(shown) else shown
    return f"a value of type {type(value).__name__}"
