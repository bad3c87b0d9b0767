"""What a caller may write. Typed dicts, so that every call names its parameters once, in both colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Required, TypedDict

from llama_client.types.completion import Message


class AskParams(TypedDict, total=False):
    """What every way of asking takes, all by keyword. None means omitted.

    Attributes:
        model: `provider/model-id`, a catalogue's name such as `llama-3.1-8b` (whoever serves it), or a list of these as
            a fallback chain; omitted: the default.
        temperature: Randomness, 0 to 2.
        top_p: Keep the likeliest tokens up to this share of probability, 0 to 1.
        top_k: Keep this many of the likeliest tokens; 0 keeps all.
        min_p: Drop tokens less likely than this share of the likeliest, 0 to 1.
        max_tokens: The longest answer in tokens.
        max_completion_tokens: The same under OpenAI's newer name.
        stop: A text, or several, at which the answer ends.
        seed: Makes sampling repeatable where the provider can.
        n: How many answers.
        frequency_penalty: -2 to 2.
        presence_penalty: -2 to 2.
        repetition_penalty: Above 0; 1 is none.
        logit_bias: Token id to bias, -100 to 100.
        logprobs: Whether to return the tokens' log probabilities.
        top_logprobs: How many candidates for each token, 0 to 20; needs `logprobs`.
        tools: Functions that the model may ask to be called, in OpenAI's shape.
        tool_choice: `auto`, `none`, `required`, or `{"type": "function", "function": {"name": ...}}`.
        parallel_tool_calls: Whether several tools may be called at once.
        reasoning_effort: How much thinking: `none`, `default`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`.
        reasoning_format: How thinking is returned: `parsed`, `raw`, `hidden`.
        service_tier: The provider's own word for how a request is served and billed.
        user: An id of the end user, for the provider's abuse checks.
        timeout: Seconds for the whole call; for a stream, until its first content.
        tags: Labels for logs.
        extra_body: Fields for the provider's request body that have no parameter here.
        extra_headers: Headers for the provider.
    """

    model: str | Sequence[str] | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    max_tokens: int | None
    max_completion_tokens: int | None
    stop: str | Sequence[str] | None
    seed: int | None
    n: int | None
    frequency_penalty: float | None
    presence_penalty: float | None
    repetition_penalty: float | None
    logit_bias: Mapping[str, float] | Mapping[int, float] | None
    logprobs: bool | None
    top_logprobs: int | None
    tools: Sequence[Mapping[str, object]] | None
    tool_choice: str | Mapping[str, object] | None
    parallel_tool_calls: bool | None
    reasoning_effort: str | None
    reasoning_format: str | None
    service_tier: str | None
    user: str | None
    timeout: float | None
    tags: Mapping[str, str] | None
    extra_body: Mapping[str, object] | None
    extra_headers: Mapping[str, str] | None


class CallParams(AskParams, total=False):
    """The parameters of `ask`: those of every way of asking, and the form of the answer.

    Attributes:
        response_format: `{"type": "text" | "json_object"}` or `{"type": "json_schema", "json_schema": {...}}`.
        stream_options: `{"include_usage": True}` hands on the last chunk, which carries the usage.
    """

    response_format: Mapping[str, object] | None
    stream_options: Mapping[str, object] | None


class ParseParams(AskParams):
    """The parameters of `parse`: its `response_format` is a class.

    Attributes:
        messages: As of `create`.
    """

    messages: Required[Sequence[Mapping[str, object] | Message]]


class ChatParams(CallParams):
    """The parameters of `create`: those of `ask`, and the messages.

    Attributes:
        messages: Dicts in OpenAI's shape, or the message objects of earlier replies.
    """

    messages: Required[Sequence[Mapping[str, object] | Message]]
