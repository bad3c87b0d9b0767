"""What a `FakeProvider` can say: texts, objects, tool calls, errors, and how an answer comes and ends."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import BaseModel
from pydantic_core import to_json, to_jsonable_python

from llama_client.errors import ProviderError
from llama_client.testing.loopback import Answer
from llama_client.testing.script.failures import Failing, fails, require_times
from llama_client.types.completion import ChatCompletion

if TYPE_CHECKING:
    from llama_client.testing.script.asked import AskedRequest

Break = Literal["reset", "cut", "stall", "error"]
"""How an answer breaks off: reset or closed connection, silence, or an error in its middle."""
_BREAKS = ("reset", "cut", "stall", "error")


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """A tool call of an answer; `tool_call` makes one.

    Attributes:
        name: The tool.
        arguments: A mapping, or JSON as the model writes it, which may be wrong.
        id: The call's id; None: one is made.
    """

    name: str
    arguments: Mapping[str, object] | str = field(default_factory=dict)
    id: str | None = None

    def __post_init__(self) -> None:
        _require("name", self.name, str, "a str")
        _require("id", self.id, str | None, "a str")
        _require("arguments", self.arguments, Mapping | str, "a mapping, or JSON as the model writes it")
        try:
            self.as_json  # noqa: B018 - that it can be written
        except ValueError as error:
            raise TypeError(f"arguments: must be what JSON can hold: {error}") from None

    @property
    def as_json(self) -> str:
        """The arguments as the model writes them; dates and the like as Pydantic writes them."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(to_jsonable_python(self.arguments))


def tool_call(name: str, /, **arguments: object) -> ScriptedCall:
    """A tool call for an answer.

    Args:
        name: The tool.
        **arguments: Its arguments.

    Example:
        >>> tool_call("roll", sides=6).as_json
        '{"sides": 6}'
    """
    return ScriptedCall(name, arguments)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in detail. A plain text, object or tool call needs none.

    Attributes:
        text: What is said.
        tool_calls: The tools that are called.
        reasoning: What is thought before.
        refusal: Why nothing is said.
        usage: Tokens as `(input, output)`, `(input, output, cached)` or `(input, output, cached, reasoning)`; empty:
            the provider tells none; None: counted from the texts, four bytes to a token.
        finish_reason: Why it ends; None: `stop`, or `tool_calls` with these.
        logprobs: Tokens of the text with their log probabilities, sent where they are asked for.
        others: The texts of further choices, where `n` asks for them; missing ones are the text again.
        pieces: The text as a stream brings it; None: word by word.
        after_s: Seconds before the answer begins.
        pace_s: Seconds between the pieces; a whole answer takes as long.
        tokens_per_s: The same as a speed.
        breaks: How it breaks off when all of the text has come; None: it does not.
        headers: Of the response, such as rate limits.
        request_id: The provider's id of the request; None: one is made.
        times: How often it is given.

    Example:
        >>> Reply(pieces=("Hel", "lo")).text
        'Hello'

    Raises:
        TypeError: A field has a value of another type.
        ValueError: A value is none that it can have.
    """

    text: str = ""
    _: KW_ONLY
    tool_calls: Sequence[ScriptedCall] = ()
    reasoning: str | None = None
    refusal: str | None = None
    usage: Sequence[int] | None = None
    finish_reason: str | None = None
    logprobs: Sequence[tuple[str, float]] | None = None
    others: Sequence[str] = ()
    pieces: Sequence[str] | None = None
    after_s: float = 0.0
    pace_s: float = 0.0
    tokens_per_s: float | None = None
    breaks: Break | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    request_id: str | None = None
    times: int = 1

    def __post_init__(self) -> None:
        self._require_types()
        if self.pieces is not None:
            whole = "".join(self.pieces)
            if self.text and self.text != whole:
                raise ValueError(f"pieces: must add up to the text {self.text!r}, got {whole!r}")
            object.__setattr__(self, "text", whole)
        if self.usage is not None and (len(self.usage) not in (0, 2, 3, 4) or min(self.usage, default=0) < 0):
            wanted = "(input, output[, cached[, reasoning]]), or () for none"
            raise ValueError(f"usage: must be {wanted}, got {tuple(self.usage)}")
        if self.breaks is not None and self.breaks not in _BREAKS:
            raise ValueError(f"breaks: must be one of {', '.join(_BREAKS)}, got {self.breaks!r}")
        for name, value in (("after_s", self.after_s), ("pace_s", self.pace_s)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}: must be 0 or more seconds, got {value}")
        if self.tokens_per_s is not None and not self.tokens_per_s > 0:
            raise ValueError(f"tokens_per_s: must be above 0, got {self.tokens_per_s}")
        require_times(self.times)

    def _require_types(self) -> None:
        _require("text", self.text, str, "a str (say an object or a tool call itself, without Reply)")
        for name in ("reasoning", "refusal", "finish_reason", "request_id"):
            _require(name, getattr(self, name), str | None, "a str")
        _require_all("tool_calls", self.tool_calls, ScriptedCall, "a list of tool_call(...)")
        _require_all("usage", self.usage, int, "whole numbers of tokens, such as (3, 2)")
        _require_all("others", self.others, str, "a list of str")
        _require_all("pieces", self.pieces, str, "a list of str")
        _require_all("logprobs", self.logprobs, tuple, "a list of (token, log probability)")
        for name in ("after_s", "pace_s"):
            _require(name, getattr(self, name), int | float, "a number of seconds")
        _require("tokens_per_s", self.tokens_per_s, int | float | None, "a number")
        _require("headers", self.headers, Mapping, "a mapping of str to str")
        for name, value in self.headers.items():
            _require(f"headers: {name!r}", value, str, "a str")


def _require(name: str, value: object, kind: type | UnionType, wanted: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name}: must be {wanted}, got {value!r} (a {type(value).__name__})")


def _require_all(name: str, values: Any, kind: type, wanted: str) -> None:
    if values is None:
        return
    is_list = isinstance(values, Sequence) and not isinstance(values, str | bytes)
    if not is_list or not all(isinstance(each, kind) for each in values):
        raise TypeError(f"{name}: must be {wanted}, got {values!r}")


Plain: TypeAlias = (
    str | BaseModel | Mapping[str, object] | ScriptedCall | Sequence[ScriptedCall] | Reply | Failing | Answer
    | ProviderError | type[ProviderError]
)  # fmt: skip
"""What may be said without looking at the request."""
Says: TypeAlias = "Plain | Callable[[AskedRequest], Plain]"
"""What may be said: see `Script.says`."""
Scripted: TypeAlias = "Reply | Failing | Answer | Callable[[AskedRequest], Plain]"


def read(said: Says) -> Scripted:
    """What was said, in one of the forms that can be played.

    Raises:
        TypeError: It is nothing that can be said.
    """
    match said:
        case Reply() | Failing() | Answer():
            return said
        case str():
            return Reply(said)
        case ChatCompletion():
            raise TypeError(
                "a ChatCompletion is what a client makes of an answer: say its text, or a Reply with its tool calls"
            )
        case BaseModel():
            return Reply(said.model_dump_json())
        case ScriptedCall():
            return Reply(tool_calls=(said,))
        case Mapping():
            return Reply(to_json(said).decode())
        case list() | tuple() if said and all(isinstance(each, ScriptedCall) for each in said):
            return Reply(tool_calls=tuple(each for each in said if isinstance(each, ScriptedCall)))
        case ProviderError():
            return fails(said)
        case type() if issubclass(said, ProviderError):
            return fails(said)
        case _ if callable(said) and not isinstance(said, type):
            return said
    raise TypeError(
        f"a {type(said).__name__} cannot be said: say a text, a dict or a Pydantic object (answers as JSON), "
        "tool_call(...) or a list of these, a Reply, fails(...), an Answer, or a function of the request"
    )
