"""A whole answer, in OpenAI's shape, with what this package knows beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, PrivateAttr
from pydantic_core import from_json

from llama_client.types.attempt import Attempt, Timing
from llama_client.types.base import AnswerModel, Parsed_co, ParsedModel
from llama_client.types.cost import Cost
from llama_client.types.usage import Usage

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class FunctionCall(AnswerModel):
    """The function that a tool call names.

    Attributes:
        name: Its name.
        arguments: Always a JSON string, as the model wrote it.
    """

    name: str
    arguments: str


class ToolCall(AnswerModel):
    """One tool call of an answer.

    Attributes:
        id: What the message with the tool's result refers to, as its `tool_call_id`.
        type: Always `function`.
        function: What to call.
    """

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class TopLogprob(AnswerModel):
    """One candidate for a token.

    Attributes:
        token: Its text.
        bytes: Its bytes, where the provider tells them.
        logprob: Its log probability.
    """

    token: str
    bytes: list[int] | None = None
    logprob: float


class TokenLogprob(TopLogprob):
    """A token of the answer.

    Attributes:
        top_logprobs: The candidates that it was chosen from, as many as `top_logprobs` asked for.
    """

    top_logprobs: list[TopLogprob] = Field(default_factory=list)


class ChoiceLogprobs(AnswerModel):
    """The log probabilities of an answer's tokens.

    Attributes:
        content: Of its text.
        refusal: Of its refusal.
    """

    content: list[TokenLogprob] | None = None
    refusal: list[TokenLogprob] | None = None


class Message(ParsedModel[Parsed_co]):
    """The message of an answer. It may be handed back as it is in the next request's `messages`.

    Attributes:
        role: Always `assistant`.
        content: The text; None where there is none (a tool call, say).
        tool_calls: The tools that the model wants called.
        reasoning: The model's thinking, where it is told apart from the answer. It is never sent back.
        refusal: The text of a refusal.
        parsed: The answer as an object, where a schema was asked for.
    """

    role: Literal["assistant"] = "assistant"
    content: str | None = None
    tool_calls: list[ToolCall] | None = None
    reasoning: str | None = None
    refusal: str | None = None
    parsed: Parsed_co | None = None


class Choice(ParsedModel[Parsed_co]):
    """One of the answers asked for by `n`.

    Attributes:
        index: Its place among them.
        message: The answer.
        finish_reason: Why it ends there; None only in the partial answer of a broken stream.
        logprobs: The log probabilities of its tokens, where they were asked for.
    """

    index: int
    message: Message[Parsed_co]
    finish_reason: FinishReason | None = None
    logprobs: ChoiceLogprobs | None = None


class ChatCompletion(ParsedModel[Parsed_co]):
    """A whole answer: OpenAI's fields, and what is known of its making.

    Attributes:
        id: The provider's id of the answer.
        created: Unix time in seconds.
        model: The model, as the provider names it.
        choices: The answers, by index.
        usage: Token counts of the attempt that answered.
        system_fingerprint: The provider's word for its setup.
        service_tier: The tier that served it, as the provider names it.
        target: Who answered: `provider/model`.
        provider: The provider's name in the configuration.
        request_id: Ours, the same in logs and attempts.
        cost: The whole call: the answer and every other attempt that was charged.
        attempts: Every try, in order.
        timing: Times in seconds.
        warnings: What a careful user would want to know.
    """

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice[Parsed_co]]
    usage: Usage = Field(default_factory=Usage)
    system_fingerprint: str | None = None
    service_tier: str | None = None
    target: str
    provider: str
    request_id: str
    cost: Cost = Field(default_factory=Cost)
    attempts: list[Attempt] = Field(default_factory=list)
    timing: Timing = Field(default_factory=Timing)
    warnings: list[str] = Field(default_factory=list)
    _raw: dict[str, Any] | None = PrivateAttr(default=None)
    _raw_chunks: Sequence[bytes | dict[str, Any]] = PrivateAttr(default=())

    @property
    def raw(self) -> dict[str, Any]:
        """The provider's own body, lossless; `{"chunks": [...]}` where the answer came in pieces."""
        # Read when it is asked for: parsing each piece a second time would be a good part of a stream's cost.
        if self._raw is None:
            pieces = [_parsed(piece) if isinstance(piece, bytes) else piece for piece in self._raw_chunks]
            self._raw, self._raw_chunks = {"chunks": pieces}, ()
        return self._raw

    @classmethod
    def with_raw(
        cls, body: dict[str, Any] | None, chunks: Sequence[bytes | dict[str, Any]], **values: Any
    ) -> ChatCompletion:
        """An answer with the provider's own body, or the pieces that it came in.

        Args:
            body: The body, where there was one.
            chunks: Else the pieces.
            **values: Its fields.
        """
        completion = cls(**values)
        if body is not None:
            completion._raw = body
        else:
            completion._raw_chunks = tuple(chunks)
        return completion

    @property
    def text(self) -> str:
        """The first choice's text, or an empty string."""
        return (self.choices[0].message.content or "") if self.choices else ""

    def to_openai(self) -> dict[str, Any]:
        """A dict that `openai.types.chat.ChatCompletion.model_validate` accepts.

        Usage is left out where the provider did not report all of it: that type has no word for "unknown".
        """
        body = self.model_dump(
            mode="json", include={"id", "object", "created", "model", "system_fingerprint"}, exclude_none=True
        )
        return (
            body | openai_extras(self.usage, self.service_tier) | {"choices": [_openai_choice(c) for c in self.choices]}
        )


def _parsed(piece: bytes) -> Any:
    """A piece of a stream; as text where it is no JSON, which is why that stream broke."""
    try:
        return from_json(piece)
    except ValueError:
        return piece.decode("utf-8", "replace")


# The tiers that OpenAI's own types know; others (Groq's on_demand, say) would not validate there.
_OPENAI_TIERS = frozenset({"auto", "default", "flex", "scale", "priority"})


def openai_extras(usage: Usage | None, service_tier: str | None) -> dict[str, Any]:
    """The fields that go into OpenAI's types only where these can hold the value."""
    extras: dict[str, Any] = {}
    if service_tier in _OPENAI_TIERS:
        extras["service_tier"] = service_tier
    if usage is not None and None not in (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens):
        extras["usage"] = usage.model_dump(mode="json", exclude_none=True)
    return extras


def _openai_choice(choice: Choice) -> dict[str, Any]:
    message = choice.message.model_dump(mode="json", include={"role", "tool_calls"}, exclude_none=True)
    return {
        "index": choice.index,
        "finish_reason": choice.finish_reason,
        "message": message | {"content": choice.message.content, "refusal": choice.message.refusal},
        "logprobs": choice.logprobs.model_dump(mode="json") if choice.logprobs else None,
    }
