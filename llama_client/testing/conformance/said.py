"""What a service says in one answer, apart from the bytes in which it says it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
"""Why an answer ended."""

Feature = Literal[
    "streams",
    "tools",
    "split tools",
    "reasoning",
    "usage",
    "cached tokens",
    "reasoning tokens",
    "length",
    "content filter",
    "n",
    "errors",
    "errors in a 200",
    "error events",
]
"""What not every service can say.

`streams`: an answer in several parts; `tools`: calls of tools; `split tools`: a call's arguments in parts; `length`,
`content filter`: these finish reasons; `n`: several choices; `errors`: a status and a message; `errors in a 200`: an
error in the place of a whole answer; `error events`: an error in the midst of a stream.
"""


@dataclass(frozen=True, slots=True)
class Counts:
    """Tokens.

    Attributes:
        prompt: Of the prompt, including cached ones.
        completion: Of the answer, including those of reasoning.
        cached: Of the prompt, from a cache; None: the service does not tell.
        reasoning: Of the answer, for reasoning; None: the service does not tell.
    """

    prompt: int
    completion: int
    cached: int | None = None
    reasoning: int | None = None


@dataclass(frozen=True, slots=True)
class SaidCall:
    """A call of a tool.

    Attributes:
        id: Its id.
        name: The tool.
        arguments: The parts of its arguments, which together are JSON.
    """

    id: str
    name: str
    arguments: tuple[str, ...]

    @property
    def whole_arguments(self) -> str:
        """All of its arguments."""
        return "".join(self.arguments)


@dataclass(frozen=True, slots=True)
class Said:
    """One answer.

    Attributes:
        texts: The parts of its text.
        reasoning: The parts of its reasoning, which come before the text.
        calls: Its calls of tools. A stream tells their parts in turns: see `call_parts`.
        counts: The tokens; None: the service does not tell.
        finish_reason: Why it ended; None: it breaks off, so that nothing of what ends an answer comes.
        has_preamble: Whether a stream begins with a part that only says that the assistant speaks.
        more_choices: The texts of further choices, where several were asked for.

    Example:
        >>> said = Said(("Hello", " there"), counts=Counts(3, 2))
        >>> said.text
        'Hello there'
    """

    texts: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    calls: tuple[SaidCall, ...] = ()
    counts: Counts | None = None
    finish_reason: FinishReason | None = "stop"
    has_preamble: bool = False
    more_choices: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of its text."""
        return "".join(self.texts)

    @property
    def call_parts(self) -> Iterator[tuple[int, SaidCall, str, bool]]:
        """The parts of its calls in turns: the call's number, the call, the part, whether it is the first."""
        for turn in range(max((len(call.arguments) for call in self.calls), default=0)):
            for number, call in enumerate(self.calls):
                if turn < len(call.arguments):
                    yield number, call, call.arguments[turn], turn == 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error in place of an answer.

    Attributes:
        status: The HTTP status.
        message: What the service says of it.
        retry_after_s: The wait that it asks for, in whole seconds; None: none.
    """

    status: int
    message: str
    retry_after_s: int | None = None
