"""A `ChatCompletion` or stream for a test of code that takes one, in one line; made by a real client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from llama_client.testing.clock import FakeClock
from llama_client.testing.played import Played
from llama_client.testing.script.fake_provider import FakeProvider
from llama_client.testing.script.replies import Reply, ScriptedCall, read
from llama_client.testing.seams import client_classes

if TYPE_CHECKING:
    from llama_client.client import AsyncLlamaClient, LlamaClient
    from llama_client.streams import AsyncChatStream, ChatStream
    from llama_client.types.completion import ChatCompletion

_TARGET = "groq/openai/gpt-oss-20b"
_MESSAGES = [{"role": "user", "content": "Hello?"}]


def completion(
    text: str | BaseModel | Mapping[str, object] | None = None,
    *,
    tool_calls: Sequence[ScriptedCall] = (),
    reasoning: str | None = None,
    refusal: str | None = None,
    usage: Sequence[int] | None = None,
    cost_usd: Decimal | str | float | None = None,
    finish_reason: str | None = None,
    target: str = _TARGET,
    warnings: Sequence[str] = (),
) -> ChatCompletion[Any]:
    """An answer, as a client returns it: with attempts, timing, usage, and a cost by the target's price.

    Args:
        text: What it says; a mapping is said as JSON, as is a Pydantic object, which is also
            `choices[0].message.parsed`.
        tool_calls: The tools that it calls.
        reasoning: What was thought before.
        refusal: Why nothing is said.
        usage: Tokens: see `Reply`.
        cost_usd: The cost in US dollars instead of that by the target's price.
        finish_reason: Why it ended.
        target: The target that answered, as `provider/model`.
        warnings: Its warnings.

    Example:
        >>> reply = completion("Hello", usage=(3, 2), cost_usd="0.001")
        >>> reply.text, reply.usage.total_tokens, reply.cost.usd, reply.target
        ('Hello', 5, Decimal('0.001'), 'groq/openai/gpt-oss-20b')
    """
    said = read(text) if isinstance(text, BaseModel | Mapping) else Reply("" if text is None else text)
    assert isinstance(said, Reply)
    reply = Reply(
        said.text,
        tool_calls=tool_calls,
        reasoning=reasoning,
        refusal=refusal,
        usage=usage,
        finish_reason=finish_reason,
    )
    fake, sync, _ = _clients(reply)
    with sync(_config(fake, target)) as client:
        made: ChatCompletion[Any] = client.chat.completions.create(messages=_MESSAGES)
    if isinstance(text, BaseModel):
        made.choices[0].message.parsed = text
    if cost_usd is not None:
        _set_cost(made, Decimal(str(cost_usd)))
    made.warnings.extend(warnings)
    return made


def stream(
    *pieces: str,
    tool_calls: Sequence[ScriptedCall] = (),
    reasoning: str | None = None,
    usage: Sequence[int] | None = None,
    breaks: Literal["reset", "cut", "error"] | None = None,
    target: str = _TARGET,
) -> ChatStream:
    """A stream, as a client returns it, not yet read.

    Args:
        *pieces: Its text, a chunk each.
        tool_calls: The tools that it calls.
        reasoning: What is thought before.
        usage: Tokens: see `Reply`.
        breaks: How it breaks off after the pieces; None: it does not.
        target: The target that answers, as `provider/model`.

    Example:
        >>> with stream("Hel", "lo") as chunks:
        ...     print([chunk.text for chunk in chunks if chunk.text], chunks.completion.text)
        ['Hel', 'lo'] Hello
    """
    reply = Reply(pieces=pieces, tool_calls=tool_calls, reasoning=reasoning, usage=usage, breaks=breaks)
    fake, sync, _ = _clients(reply)
    return sync(_config(fake, target)).chat.completions.create(messages=_MESSAGES, stream=True)


async def astream(
    *pieces: str,
    tool_calls: Sequence[ScriptedCall] = (),
    reasoning: str | None = None,
    usage: Sequence[int] | None = None,
    breaks: Literal["reset", "cut", "error"] | None = None,
    target: str = _TARGET,
) -> AsyncChatStream:
    """`stream`, for an event loop.

    Args:
        *pieces: Its text, a chunk each.
        tool_calls: The tools that it calls.
        reasoning: What is thought before.
        usage: Tokens: see `Reply`.
        breaks: How it breaks off after the pieces; None: it does not.
        target: The target that answers, as `provider/model`.
    """
    reply = Reply(pieces=pieces, tool_calls=tool_calls, reasoning=reasoning, usage=usage, breaks=breaks)
    fake, _, asynchronous = _clients(reply)
    return await asynchronous(_config(fake, target)).chat.completions.create(messages=_MESSAGES, stream=True)


def _config(fake: FakeProvider, target: str) -> dict[str, Any]:
    # A ledger would take time, and is out of reach.
    return {**fake.config(target), "ledger": {"enabled": False}}


def _clients(reply: Reply) -> tuple[FakeProvider, type[LlamaClient], type[AsyncLlamaClient]]:
    clock = FakeClock()
    fake = FakeProvider(clock=clock)
    fake.says(reply)
    return (fake, *client_classes(clock=clock.clock, interceptor=Played(fake.play, clock)))


def _set_cost(made: ChatCompletion[Any], usd: Decimal) -> None:
    """Of the answer and its attempt; where only a total is known, its parts are unknown."""
    cost = type(made.cost)(usd=usd, status="exact", source="the test")
    made.cost = cost
    made.attempts[-1].cost = cost
