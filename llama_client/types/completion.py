"""An answer, whole or in chunks, with its usage, cost, timing and attempts: OpenAI's shape plus our fields."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from datetime import date
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr
from pydantic_core import from_json

if TYPE_CHECKING:
    from typing import Generic

    from typing_extensions import TypeVar as TypeVarWithDefault

    # What `parsed` holds: any object, where nobody says. Not Any, which would make an answer Any in `asyncio.gather`.
    Parsed_co = TypeVarWithDefault("Parsed_co", covariant=True, default=object)
else:
    Parsed_co = Any


class AnswerModel(BaseModel):
    """A part of an answer.

    Unknown fields are ignored: providers add fields at any time, and `ChatCompletion.raw` keeps them all. Schemas are
    built at first use, so that importing the package stays cheap.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", defer_build=True)


if TYPE_CHECKING:

    class ParsedModel(AnswerModel, Generic[Parsed_co]):
        """A part of an answer that may hold an object, whose type `parse` tells to type checkers."""

else:

    class ParsedModel(AnswerModel):
        """A part of an answer that may hold an object.

        While a program runs there is one class, whatever stands in its brackets: only `parse` knows a type, and
        pydantic would build the class anew for each.
        """

        def __class_getitem__(cls, _parsed: object) -> type[ParsedModel]:
            return cls


class PromptTokensDetails(AnswerModel):
    """What the prompt's tokens were."""

    cached_tokens: int | None = None


class CompletionTokensDetails(AnswerModel):
    """What the answer's tokens were."""

    reasoning_tokens: int | None = None


class Usage(AnswerModel):
    """Token counts under OpenAI's names. A count that the provider did not report is None, never 0.

    Attributes:
        prompt_tokens: Of the prompt, the cached ones included; counted once for `n > 1`.
        completion_tokens: Of the answer, the sum over all choices.
        total_tokens: Both together.
        prompt_tokens_details: What the prompt's tokens were.
        completion_tokens_details: What the answer's tokens were.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None

    @property
    def cached_tokens(self) -> int | None:
        """Prompt tokens that came from a cache; None where the provider does not say."""
        return self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else None

    @property
    def reasoning_tokens(self) -> int | None:
        """Answer tokens spent on reasoning; None where the provider does not say."""
        return self.completion_tokens_details.reasoning_tokens if self.completion_tokens_details else None


CostStatus = Literal["exact", "estimated", "free", "unknown"]


class Cost(AnswerModel):
    """Money, in US dollars.

    Attributes:
        usd: The total; None where no price is known. Never 0 for want of a price.
        status: The worst of its parts: `free` (nobody is paid by the token), `exact`, `estimated`, `unknown`.
        input_usd: For prompt tokens that were not cached.
        cached_usd: For cached prompt tokens.
        output_usd: For the answer. The three add up to `usd`.
        source: Where the price comes from.
        effective_from: Since when that price holds.
    """

    usd: Decimal | None = None
    status: CostStatus = "unknown"
    input_usd: Decimal | None = None
    cached_usd: Decimal | None = None
    output_usd: Decimal | None = None
    source: str | None = None
    effective_from: date | None = None


AttemptOutcome = Literal["ok", "error", "interrupted", "cancelled", "skipped"]


class Attempt(AnswerModel):
    """One try at one target.

    Attributes:
        target: `provider/model`.
        outcome: `ok`; `error`; `interrupted` (broke after text had arrived); `cancelled` (the caller stopped it);
            `skipped` (it was not asked: it could not have honoured the request, or was left alone for somebody else).
        sent: Whether the request may have reached the model.
        error: The error's class name.
        http_status: The status of the provider's answer; None where none came.
        reason: Why it was skipped or failed, in words.
        provider_request_id: The provider's id of the request.
        latency_s: From the start of the try to its end.
        ttft_s: From the start of the try to its first content (text, reasoning or tool call).
        usage: Its tokens, as far as the provider has reported them.
        estimated_usage: Its tokens where it was worked on and nobody has counted them: stopped, cut, or not told.
        cost: Its money.
        rate_limit: What the provider said of its limits.
        waited_s: The wait before the try: for a retry, a limit, a place at the provider.
    """

    target: str
    outcome: AttemptOutcome
    sent: bool
    error: str | None = None
    http_status: int | None = None
    reason: str | None = None
    provider_request_id: str | None = None
    latency_s: float | None = None
    ttft_s: float | None = None
    usage: Usage | None = None
    estimated_usage: Usage | None = None
    cost: Cost | None = None
    rate_limit: dict[str, Any] | None = None
    waited_s: float | None = None


class Timing(AnswerModel):
    """The times of a call in seconds, where known.

    Attributes:
        total_s: From the call to the end of the answer; for Ollama, what the server itself measured for the answer.
        ttft_s: From the call to the first content.
        tokens_per_s: The speed that the server itself measured (Ollama, llama.cpp); else the answer's tokens after the
            first, over the time from the first content to the end.
        load_s: Loading the model, where this call had to wait for that.
        queue_s: Waiting for a free slot of the model.
    """

    total_s: float | None = None
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    load_s: float | None = None
    queue_s: float | None = None


class TargetHealth(AnswerModel):
    """What a client has learned of a target, at the moment of asking. What was not measured, or too long ago, is None.

    Attributes:
        target: `provider/model`.
        breaker: `closed`: asked as usual; `open`: left alone after failures; `half-open`: one call may try it.
        failures_in_row: Failures since its last answer.
        probe_in_s: Seconds until one call may try it; None where the breaker is closed.
        last_error: The class name of its last failure.
        ttft_s: Time to the first token of its streams.
        tokens_per_s: Its speed after the first token.
        latency_s: Time of its whole answers and streams from start to end.
        remaining_requests: What its headers said is left of its requests, less those sent since.
        remaining_tokens: The same for its tokens.
        blocked_s: For how much longer it asked to be left alone (`Retry-After`).
        in_flight: Attempts that are under way.
        queued: Calls that wait for a place at its provider (`max_concurrency`).
    """

    target: str
    breaker: Literal["closed", "open", "half-open"] = "closed"
    failures_in_row: int = 0
    probe_in_s: float | None = None
    last_error: str | None = None
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    latency_s: float | None = None
    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    blocked_s: float | None = None
    in_flight: int = 0
    queued: int = 0


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

    @property
    def text(self) -> str:
        """The first choice's text, or an empty string."""
        return (self.choices[0].message.content or "") if self.choices else ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.target}: {beginning(_said(self))} {_facts(self)}>"

    def _repr_html_(self) -> str:
        """The answer in a notebook, as text: rendering a model's own markup could load what its links point to."""
        from html import escape

        facts = escape(f"{self.target}: {_facts(self)}")
        return f'<div style="white-space: pre-wrap">{escape(_said(self))}</div><small>{facts}</small>'

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


# As much of a text as a line about it shows.
_SHOWN_CHARS = 60


def beginning(text: str) -> str:
    """The beginning of a text on one line, in quotes."""
    return repr(text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 3]}...")


def _said(reply: ChatCompletion) -> str:
    """The first choice in words, where it has no text too."""
    if reply.text or not reply.choices:
        return reply.text
    message = reply.choices[0].message
    return message.refusal or ", ".join(f"{call.function.name}()" for call in message.tool_calls or ())


def _facts(reply: ChatCompletion) -> str:
    tokens, seconds, usd = reply.usage.total_tokens, reply.timing.total_s, reply.cost.usd
    finish = reply.choices[0].finish_reason if reply.choices else None
    facts = [f"finish {finish}"] if finish not in ("stop", None) else []
    facts += [f"{tokens} tokens"] if tokens is not None else []
    if usd is None or reply.cost.status == "free":
        facts.append("free" if reply.cost.status == "free" else "cost unknown")
    else:
        shown = f"{usd:.2f}" if usd >= 1 else f"{Context(prec=3).create_decimal(usd).normalize():f}"
        facts.append(f"${shown} {reply.cost.status}")
    facts += [f"{seconds:.2f} s"] if seconds is not None else []
    return ", ".join(facts)


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


class FunctionDelta(AnswerModel):
    """A piece of a function call.

    Attributes:
        name: The function's name, once.
        arguments: The next bit of its arguments, which together are a JSON string.
    """

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(AnswerModel):
    """A piece of a tool call.

    Attributes:
        index: Pieces with the same one belong together.
        id: The call's id, once.
        type: Always `function`, once.
        function: What it adds to the function.
    """

    index: int = Field(ge=0)
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta | None = None


class Delta(AnswerModel):
    """What a chunk adds to the message.

    Attributes:
        role: `assistant`, once.
        content: Text.
        tool_calls: Pieces of tool calls.
        reasoning: The model's thinking, where it is told apart from the answer.
        refusal: The text of a refusal.
    """

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    reasoning: str | None = None
    refusal: str | None = None

    @property
    def has_content(self) -> bool:
        """Whether there is anything to show: text, reasoning, a refusal or a piece of a tool call."""
        return bool(self.content or self.reasoning or self.refusal or self.tool_calls)


class ChunkChoice(AnswerModel):
    """What a chunk adds to one choice.

    Attributes:
        index: Which choice.
        delta: What it adds.
        finish_reason: Why the answer ends there; None as long as it does not.
        logprobs: The log probabilities of the tokens that it adds, where they were asked for.
    """

    index: int = Field(ge=0)
    delta: Delta
    finish_reason: FinishReason | None = None
    logprobs: ChoiceLogprobs | None = None


class ChatCompletionChunk(AnswerModel):
    """A piece of an answer.

    The chunk that carries only usage (no choices) is handed on only to who passed
    `stream_options={"include_usage": True}`.

    Attributes:
        id: The provider's id of the answer, the same in all of its chunks.
        created: Unix time in seconds.
        model: The model, as the provider names it.
        choices: What it adds to each choice.
        usage: Token counts, in the last chunk alone.
        system_fingerprint: The provider's word for its setup.
        service_tier: The tier that serves it, as the provider names it.
        target: Who answers: `provider/model`.
        provider: The provider's name in the configuration.
        request_id: Ours, the same in logs and attempts.
    """

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    target: str = ""
    provider: str = ""
    request_id: str = ""

    @property
    def text(self) -> str:
        """What this chunk adds to the first choice's text; often an empty string."""
        return "".join(choice.delta.content or "" for choice in self.choices if choice.index == 0)

    @property
    def has_content(self) -> bool:
        """Whether there is anything in it to show."""
        return any(choice.delta.has_content for choice in self.choices)

    def to_openai(self) -> dict[str, Any]:
        """A dict that `openai.types.chat.ChatCompletionChunk.model_validate` accepts."""
        body = self.model_dump(
            mode="json", include={"id", "object", "created", "model", "system_fingerprint"}, exclude_none=True
        )
        choices = [
            {
                "index": choice.index,
                "finish_reason": choice.finish_reason,
                "delta": choice.delta.model_dump(
                    mode="json", include={"role", "content", "tool_calls", "refusal"}, exclude_none=True
                ),
                "logprobs": choice.logprobs.model_dump(mode="json") if choice.logprobs else None,
            }
            for choice in self.choices
        ]
        return body | openai_extras(self.usage, self.service_tier) | {"choices": choices}


# An answer in pieces, in the two colours.
SyncChunks = Generator[ChatCompletionChunk]
AsyncChunks = AsyncGenerator[ChatCompletionChunk]
Chunks = TypeVar("Chunks", SyncChunks, AsyncChunks)
