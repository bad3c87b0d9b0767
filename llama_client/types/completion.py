"""A completion, whole or in chunks, with its usage, cost, timing and attempts: OpenAI's shape and more fields."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from datetime import date
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr
from pydantic_core import from_json

from llama_client.types.deferred import DeferredModel

if TYPE_CHECKING:
    from typing import Generic

    from typing_extensions import TypeVar as TypeVarWithDefault

    # The type of `parsed`, by default `object`. With Any, type checkers would infer Any for answers in
    # `asyncio.gather`.
    Parsed_co = TypeVarWithDefault("Parsed_co", covariant=True, default=object)
else:
    Parsed_co = Any


class AnswerModel(DeferredModel):
    """A part of an answer. Fields that a provider adds are ignored; `ChatCompletion.raw` has them."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")


class OpenAnswerModel(AnswerModel):
    """A part of an answer that keeps fields which a provider adds, in `model_extra` and as attributes."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")


PartT = TypeVar("PartT", bound=AnswerModel)
# What pydantic keeps of an instance, past its own `__setattr__`.
_set_values, _set_names, _set_extra, _set_private = (
    vars(BaseModel)[name].__set__
    for name in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


def unchecked(
    part: type[PartT],
    values: dict[str, Any],
    private: dict[str, Any] | None = None,
    extra: dict[str, Any] | None = None,
) -> PartT:
    """A part of valid values, one for each field: pydantic would take several times as long to check them again."""
    made = part.__new__(part)
    _set_values(made, values)
    _set_names(made, set(values))
    _set_extra(made, extra)
    _set_private(made, private)
    return made


if TYPE_CHECKING:

    class ParsedModel(AnswerModel, Generic[Parsed_co]):
        """A part of an answer with an object, of a type that `parse` gives to type checkers."""

else:

    class ParsedModel(AnswerModel):
        # At run time one class for every type parameter: pydantic would build another class for each.

        def __class_getitem__(cls, _parsed: object) -> type[ParsedModel]:
            return cls


class PromptTokensDetails(AnswerModel):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class CompletionTokensDetails(AnswerModel):
    reasoning_tokens: int | None = None


class Usage(AnswerModel):
    """Token counts under OpenAI's names. A count that the provider did not report is None, never 0.

    Attributes:
        prompt_tokens: Of the prompt, including cached ones; counted once for `n > 1`.
        completion_tokens: Of the answer, the sum over all choices.
        total_tokens: The sum of both.
        prompt_tokens_details: Details of the prompt's tokens.
        completion_tokens_details: Details of the answer's tokens.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None

    @property
    def cached_tokens(self) -> int | None:
        """Prompt tokens that came from a cache; None if the provider did not report it."""
        return self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else None

    @property
    def cache_write_tokens(self) -> int | None:
        """Prompt tokens that were written to a cache; None if the provider did not report it."""
        return self.prompt_tokens_details.cache_write_tokens if self.prompt_tokens_details else None

    @property
    def reasoning_tokens(self) -> int | None:
        """Answer tokens spent on reasoning; None if the provider did not report it."""
        return self.completion_tokens_details.reasoning_tokens if self.completion_tokens_details else None


CostStatus = Literal["exact", "estimated", "free", "unknown"]


class Cost(AnswerModel):
    """A cost in US dollars.

    Attributes:
        usd: The total; None if the price is unknown, never 0 then.
        status: The worst of its parts: `free` (tokens cost nothing), `exact`, `estimated`, `unknown`.
        input_usd: For prompt tokens that did not come from a cache; those written to one cost more at some providers.
        cached_usd: For cached prompt tokens.
        output_usd: For the answer. The three add up to `usd`; each is None where the provider told the total alone.
        source: The source of the price, or where the provider told the charge.
        effective_from: The first day of that price.
    """

    usd: Decimal | None = None
    status: CostStatus = "unknown"
    input_usd: Decimal | None = None
    cached_usd: Decimal | None = None
    output_usd: Decimal | None = None
    source: str | None = None
    effective_from: date | None = None


AttemptOutcome = Literal["ok", "cached", "error", "interrupted", "cancelled", "skipped"]


class Attempt(AnswerModel):
    """One attempt at one target.

    Attributes:
        target: `provider/model`.
        outcome: `ok`; `cached` (the answer is from the cache, and nothing was sent); `error`; `interrupted` (failed
            after its first content); `cancelled` (by the caller); `skipped` (not sent: the target could
            not honour the request, its circuit was open, or it was rate limited).
        sent: Whether the request may have reached the model.
        error: The error's class name.
        http_status: The status of the response; None: there was none.
        reason: Why it was skipped or failed, in words; also that its request went over a new connection, since the
            server had closed the one that was used before.
        provider_request_id: The provider's id of the request.
        latency_s: Seconds from the start of the attempt to its end.
        ttft_s: Seconds from the start of the attempt to its first content (text, reasoning or tool call).
        usage: Its tokens, as far as the provider reported them.
        estimated_usage: Its tokens, estimated, if the model worked and the provider reported none (cancelled,
            interrupted, or without usage), or if the prompt may have been received twice.
        cost: Its cost; 0 for an answer from the cache.
        saved_usd: What an answer from the cache had cost when it was made; None: unknown, or it is not from there.
        rate_limit: The provider's rate limits: `{"requests": {"limit", "remaining", "reset_s"}, "tokens": {...}}`, each
            part where known.
        waited_s: Seconds waited before the attempt: for a retry, a rate limit, or the provider's `max_concurrency`.
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
    saved_usd: Decimal | None = None
    rate_limit: dict[str, Any] | None = None
    waited_s: float | None = None


class Timing(AnswerModel):
    """The times of a call in seconds, where known.

    Attributes:
        total_s: From the call to the end of the answer; for Ollama, the server's own measure of the answer.
        ttft_s: From the call to the first content.
        tokens_per_s: The speed measured by the server (Ollama, llama.cpp); otherwise the answer's tokens after the
            first, divided by the time from the first content to the end.
        load_s: The wait for the model to load.
        queue_s: The wait for a free slot of the model.
    """

    total_s: float | None = None
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    load_s: float | None = None
    queue_s: float | None = None


class TargetHealth(AnswerModel):
    """The state of a target, as measured by one client. None: not measured, or too long ago.

    Attributes:
        target: `provider/model`.
        breaker: The circuit breaker: `closed` (in use), `open` (skipped after consecutive failures), `half-open` (one
            call may try it).
        failures_in_row: Consecutive failures since its last success.
        probe_in_s: Seconds until one call may try it; None if the circuit is closed.
        last_error: The class name of its last failure.
        ttft_s: Seconds to the first token of its streams.
        tokens_per_s: Its speed after the first token.
        latency_s: Seconds from start to end of its answers.
        remaining_requests: The remaining requests according to its headers, less those sent since.
        remaining_tokens: The same for its tokens.
        blocked_s: Seconds for which it is still rate limited (`Retry-After`).
        in_flight: Attempts in flight.
        queued: Calls that wait for its provider's `max_concurrency`.
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


# More than any server gives.
MAX_CHOICES = 2048
# OpenAI's.
FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})


class FunctionCall(OpenAnswerModel):
    """The function that a tool call names.

    Attributes:
        name: The function's name.
        arguments: Always a JSON string, as the model wrote it.
    """

    name: str
    arguments: str


class ToolCall(OpenAnswerModel):
    """One tool call of an answer. `model_extra` has what the server put on it beside these (a signature, say).

    A call of a tool of another type than `function` is in `model_extra` as a whole, with that type as `tool_type`.

    Attributes:
        id: The `tool_call_id` of the message with the tool's result.
        type: Always `function`.
        function: The function to call; of a tool of another type, its name alone.
    """

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class TopLogprob(AnswerModel):
    """One candidate for a token.

    Attributes:
        token: Its text.
        bytes: Its bytes, if the provider sends them.
        logprob: Its log probability.
    """

    token: str
    bytes: list[int] | None = None
    logprob: float


class TokenLogprob(TopLogprob):
    """A token of the answer.

    Attributes:
        top_logprobs: The likeliest candidates, as many as the request's `top_logprobs`.
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


class Message(ParsedModel[Parsed_co], OpenAnswerModel):
    """The message of an answer. It may be used as it is in the next request's `messages`.

    What the server put on it beside these fields (`reasoning_content`, `reasoning_details`, ...) is kept: in
    `model_extra`, and as attributes. It goes back, with `reasoning`, to the target that made the message, and to no
    other. `content_parts` is the content as the server sent it, where that was a list with more than texts.

    Attributes:
        role: Always `assistant`.
        content: The text; None if there is none (a tool call, say).
        tool_calls: The model's tool calls.
        reasoning: The model's reasoning, if it is separate from the answer, under whatever name it came.
        refusal: The text of a refusal.
        parsed: The answer as an object, from `parse`.
    """

    role: Literal["assistant"] = "assistant"
    content: str | None = None
    tool_calls: list[ToolCall] | None = None
    reasoning: str | None = None
    refusal: str | None = None
    parsed: Parsed_co | None = None
    # The target that made it. "": more than one did. None: unknown.
    _made_by: str | None = PrivateAttr(default=None)


class Choice(ParsedModel[Parsed_co]):
    """One of the `n` answers of a completion.

    Attributes:
        index: Its index, from 0.
        message: The answer.
        finish_reason: Why it ended: `stop`, `length`, `tool_calls` or `content_filter`, or the server's own word where
            it means none of these. None only in the partial answer of an interrupted stream.
        logprobs: The log probabilities of its tokens, if requested.
    """

    index: int
    message: Message[Parsed_co]
    finish_reason: str | None = None
    logprobs: ChoiceLogprobs | None = None


class Source(AnswerModel):
    """Something that an answer is based on, or a tool that the provider has run for it.

    Attributes:
        kind: `citation` (the answer refers to it), `search_result` (it was found) or `tool` (a tool that was run).
        choice: The index of the choice that it belongs to; None: the whole answer.
        url: Its address.
        title: Its title.
        text: An excerpt; of a tool its output.
        name: The tool's name, or the file's id.
        arguments: The tool's arguments, as a JSON string.
        start_index: Where the text that refers to it begins in the answer, as the provider counts.
        end_index: Where that text ends.
    """

    kind: Literal["citation", "search_result", "tool"]
    choice: int | None = None
    url: str | None = None
    title: str | None = None
    text: str | None = None
    name: str | None = None
    arguments: str | None = None
    start_index: int | None = None
    end_index: int | None = None


class ChatCompletion(ParsedModel[Parsed_co]):
    """A whole completion: OpenAI's fields, and its target, cost, attempts and timing.

    Attributes:
        id: The provider's id of the answer.
        created: Unix time in seconds.
        model: The model, as the provider names it.
        choices: The answers, by index.
        usage: Token counts of the successful attempt.
        system_fingerprint: The provider's id of its setup.
        service_tier: The tier that served it, as the provider names it.
        target: The target that answered: `provider/model`.
        provider: The provider's name in the configuration.
        request_id: The package's id of the call, the same in logs, attempts and the ledger.
        cost: The whole call: the answer and every other attempt that was charged.
        attempts: Every attempt, in order.
        timing: Times in seconds.
        sources: What the answer is based on, as far as the provider tells: citations, search results, and tools that
            it ran itself.
        warnings: Dropped parameters, suspected truncation, doubtful prices and the like, in words.
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
    sources: list[Source] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    _raw: dict[str, Any] | bytes | None = PrivateAttr(default=None)
    _raw_chunks: Sequence[bytes | dict[str, Any]] = PrivateAttr(default=())

    @property
    def raw(self) -> dict[str, Any]:
        """The provider's own body, lossless; `{"chunks": [...]}` if the answer was a stream."""
        # Parsed on first access: parsing each chunk twice would be a good part of a stream's cost.
        if isinstance(self._raw, bytes):
            self._raw = {**_parsed(self._raw)}
        if self._raw is None:
            pieces = [_parsed(piece) if isinstance(piece, bytes) else piece for piece in self._raw_chunks]
            self._raw, self._raw_chunks = {"chunks": pieces}, ()
        return self._raw

    @property
    def is_cached(self) -> bool:
        """Whether the answer is from the cache. Its usage is then that of the call that made it."""
        return bool(self.attempts) and self.attempts[-1].outcome == "cached"

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

        Usage is omitted unless the provider reported all of it: that type cannot express unknown counts.
        """
        return _openai_body(self) | {"choices": [_openai_choice(choice, choice.message) for choice in self.choices]}


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
    """A body of a stream; as text if it is not JSON, which is why that stream failed."""
    try:
        return from_json(piece)
    except ValueError:
        return piece.decode("utf-8", "replace")


_OPENAI_FIELDS = {"id", "object", "created", "model", "system_fingerprint"}
# The tiers of OpenAI's own types; others (Groq's on_demand, say) would not validate there.
_OPENAI_TIERS = frozenset({"auto", "default", "flex", "scale", "priority"})


def _openai_body(answer: ChatCompletion | ChatCompletionChunk) -> dict[str, Any]:
    """OpenAI's fields but for the choices, without values that OpenAI's types do not accept."""
    body = answer.model_dump(mode="json", include=_OPENAI_FIELDS, exclude_none=True)
    usage = answer.usage
    if answer.service_tier in _OPENAI_TIERS:
        body["service_tier"] = answer.service_tier
    if usage is not None and None not in (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens):
        body["usage"] = usage.model_dump(mode="json", exclude_none=True)
    return body


# Of OpenAI's own types, which another server's fields of these names would not fit.
_OPENAI_TYPED = frozenset({"annotations", "audio", "function_call"})


def _openai_choice(choice: Choice | ChunkChoice, said: Message | Delta) -> dict[str, Any]:
    """A choice; a message, other than a delta, has its content and refusal also where they are None."""
    kept = said.model_extra.keys() - _OPENAI_TYPED if said.model_extra else set()
    fields = said.model_dump(
        mode="json", include={"role", "content", "tool_calls", "refusal", *kept}, exclude_none=True
    )
    if isinstance(said, Message):
        fields |= {"content": said.content, "refusal": said.refusal}
    return {
        "index": choice.index,
        # Theirs has no other.
        "finish_reason": reason if (reason := choice.finish_reason) is None or reason in FINISH_REASONS else "stop",
        "message" if isinstance(said, Message) else "delta": fields,
        "logprobs": choice.logprobs.model_dump(mode="json") if choice.logprobs else None,
    }


class FunctionDelta(OpenAnswerModel):
    """A part of a function call.

    Attributes:
        name: The function's name, in one part only.
        arguments: The next part of its arguments, a JSON string as a whole.
    """

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(OpenAnswerModel):
    """A part of a tool call.

    Attributes:
        index: The index of the call that it is a part of.
        id: The call's id, in one part only.
        type: Always `function`, in one part only.
        function: The part of the function call.
    """

    index: int = Field(ge=0)
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta | None = None


class Delta(OpenAnswerModel):
    """What a chunk adds to the message. `model_extra` has the parts of what else the server puts on it.

    Attributes:
        role: `assistant`, in one chunk only.
        content: Text.
        tool_calls: Parts of tool calls.
        reasoning: The model's reasoning, if it is separate from the answer.
        refusal: The text of a refusal.
    """

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    reasoning: str | None = None
    refusal: str | None = None

    @property
    def has_content(self) -> bool:
        """Whether there is any text, reasoning, refusal or part of a tool call."""
        return bool(self.content or self.reasoning or self.refusal or self.tool_calls)


class ChunkChoice(AnswerModel):
    """What a chunk adds to one choice.

    Attributes:
        index: The choice's index.
        delta: The addition to its message.
        finish_reason: Why the answer ended, as in `Choice`; None before its end.
        logprobs: The log probabilities of the tokens that it adds, if requested.
    """

    index: int = Field(ge=0, lt=MAX_CHOICES)
    delta: Delta
    finish_reason: str | None = None
    logprobs: ChoiceLogprobs | None = None


class ChatCompletionChunk(AnswerModel):
    """A part of a completion.

    The chunk with only usage (no choices) is delivered only with `stream_options={"include_usage": True}`.

    Attributes:
        id: The provider's id of the answer, the same in all of its chunks.
        created: Unix time in seconds.
        model: The model, as the provider names it.
        choices: The additions to each choice.
        usage: Token counts, in the last chunk only.
        system_fingerprint: The provider's id of its setup.
        service_tier: The tier that serves it, as the provider names it.
        target: The target that answers: `provider/model`.
        provider: The provider's name in the configuration.
        request_id: The package's id of the call, the same in logs, attempts and the ledger.
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
        """The addition to the first choice's text; often an empty string."""
        return "".join(choice.delta.content or "" for choice in self.choices if choice.index == 0)

    @property
    def has_content(self) -> bool:
        """Whether any choice has content; see `Delta.has_content`."""
        return any(choice.delta.has_content for choice in self.choices)

    def to_openai(self) -> dict[str, Any]:
        """A dict that `openai.types.chat.ChatCompletionChunk.model_validate` accepts."""
        return _openai_body(self) | {"choices": [_openai_choice(choice, choice.delta) for choice in self.choices]}


# A completion in chunks, sync and async.
SyncChunks = Generator[ChatCompletionChunk]
AsyncChunks = AsyncGenerator[ChatCompletionChunk]
Chunks = TypeVar("Chunks", SyncChunks, AsyncChunks)
