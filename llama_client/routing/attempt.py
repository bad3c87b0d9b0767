"""One attempt in progress: its answer so far, and when its content came."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from llama_client.clock import Clock
from llama_client.errors import GenerationFailedError, InvalidResponseError, LlamaClientError
from llama_client.providers.base import AttemptFacts, Charge, ProviderCall
from llama_client.routing.accumulator import Accumulator
from llama_client.routing.plan import Try
from llama_client.routing.repetition import BeganAnewError, Repetition
from llama_client.types.completion import ChatCompletionChunk, Source, SyncChunks

if TYPE_CHECKING:
    from llama_client.cache.stored import Stored
    from llama_client.costs.bills import MachineUse, Tokens
    from llama_client.structured import AnswerForm
    from llama_client.telemetry import AttemptSpan
    from llama_client.types.completion import Attempt, AttemptOutcome, Choice, Usage


def _text_bytes(chunk: ChatCompletionChunk) -> int:
    return sum(len((choice.delta.content or "").encode("utf-8", "replace")) for choice in chunk.choices)


def whole_number(value: object) -> int | None:
    """An integer, also from another type that means one; None: it is none."""
    with contextlib.suppress(TypeError, ValueError, ArithmeticError):
        number = int(value)  # type: ignore[call-overload]
        return number if abs(number) < _LARGEST else None
    return None


def _seconds(value: object) -> float | None:
    with contextlib.suppress(TypeError, ValueError, ArithmeticError):
        number = float(value)  # type: ignore[arg-type]
        return number if math.isfinite(number) else None
    return None


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str) else None


def _limits(value: object) -> dict[str, Any] | None:
    # A copy, as the provider may use its own again.
    limits: dict[str, Any] = {}
    for kind, limit in value.items() if isinstance(value, dict) else ():
        if isinstance(limit, dict):
            numbers = {name: number for name, number in limit.items() if isinstance(number, int | float)}
            # Neither infinite nor NaN.
            limits[str(kind)] = {name: number for name, number in numbers.items() if abs(number) < _LARGEST}
    return limits or None


def _charge(value: object) -> Charge | None:
    usd = value.usd if isinstance(value, Charge) else None
    is_amount = isinstance(usd, Decimal) and usd.is_finite() and 0 <= usd < _LARGEST_USD
    return value if isinstance(value, Charge) and is_amount else None


_LARGEST = 2**62
_LARGEST_USD = Decimal(10**6)
# Some servers count the tokens that end an answer.
_MARGIN_TOKENS = 8
# More is no count of an answer.
_MOST_TOKENS = 10_000_000
# No server writes one answer faster; more was not measured while it was written: a placeholder, or an answer that came
# all at once.
_MOST_TOKENS_PER_S = 100_000.0
_MEASURED = ("load_s", "queue_s", "total_s", "tokens_per_s")


def require_plain(facts: AttemptFacts) -> None:
    """Gives what a provider has set the types that are declared, and drops what has none of them."""
    status, request_id = facts.http_status, facts.provider_request_id
    if status is not None and (type(status) is not int or abs(status) >= _LARGEST):
        facts.http_status = whole_number(status)
    if request_id is not None and type(request_id) is not str:
        facts.provider_request_id = _text(request_id)
    for name in _MEASURED:
        if (value := getattr(facts, name)) is not None:
            setattr(facts, name, _seconds(value))
    if facts.rate_limit is not None:
        facts.rate_limit = _limits(facts.rate_limit)
    if facts.charge is not None:
        facts.charge = _charge(facts.charge)
    if facts.sources:
        told: Any = facts.sources
        facts.sources = [each for each in told if isinstance(each, Source)]
    if type(facts.sent) is not bool:
        facts.sent = bool(facts.sent)
    if facts.warnings or type(facts.warnings) is not list:
        given: Any = facts.warnings
        facts.warnings = [given] if isinstance(given, str) else [str(each) for each in given or ()]
    if facts.request_warnings or type(facts.request_warnings) is not list:
        about: Any = facts.request_warnings
        facts.request_warnings = [about] if isinstance(about, str) else [str(each) for each in about or ()]
    if facts.reason is not None and type(facts.reason) is not str:
        facts.reason = _text(facts.reason)
    if facts.body is not None and type(facts.body) not in (dict, bytes):
        facts.body = None
    if type(facts.bodies) is not list:
        facts.bodies = list(facts.bodies or ())


class Hit(NamedTuple):
    """An answer from the cache: the chunks that its attempt has got, and the others."""

    attempt: RunningAttempt
    arrived: list[ChatCompletionChunk]
    rest: list[ChatCompletionChunk]


class RunningAttempt:
    def __init__(self, step: Try, call: ProviderCall, clock: Clock, form: AnswerForm | None) -> None:
        self.candidate = step.candidate
        self.target = step.candidate.target
        self.lease = step.lease
        self.waited_s = step.waited_s
        self.reservation = step.reservation
        self.machine_use: MachineUse | None = None
        # Of a sync attempt, while it is read.
        self.chunks: SyncChunks | None = None
        # Of one in a task of its own, from any thread.
        self.cancel_task: Callable[[], object] | None = None
        self.span: AttemptSpan | None = None
        # Of one whose answer is from the cache.
        self.stored: Stored | None = None
        self.call = call
        self.facts = call.facts
        # Set where an `AnswerForm` has parsed them.
        self.choices: list[Choice] | None = None
        continued = step.candidate.continued
        made_by = f"{call.provider}/{call.model}"
        self.answer = Accumulator(continued.answer if continued is not None else None, made_by)
        self.started_at = clock.monotonic()
        self.first_content_at: float | None = None
        self.last_content_at: float | None = None
        # What is recorded of it, step by step: an interrupt may cut that off anywhere, and then the rest is done later.
        self.ending: tuple[AttemptOutcome, LlamaClientError | None] | None = None
        self.outcome: AttemptOutcome | None = None
        self.receipt: Attempt | None = None
        self.tokens: Tokens | None = None
        self.number: int | None = None
        self.is_written = False
        # Another attempt has won: the end of this one is no failure.
        self.is_abandoned = False
        # It exceeded `hedge_after_s`, so another target was tried too.
        self.is_late = False
        self._clock = clock
        self._form = form
        # Of an answer that is to go on from its beginning.
        self._repetition: Repetition | None = None
        if call.request.messages[-1].role == "assistant":
            self._repetition = Repetition.of(call.request, is_continuation=call.is_continuation)

    def add(self, chunk: ChatCompletionChunk) -> None:
        if self._repetition is not None:
            self._remove_repetition(chunk, self._repetition)
        self.answer.add(chunk)
        if self.answer.has_content and chunk.choices:
            before, self.last_content_at = self.last_content_at, self._clock.monotonic()
            if before is None:
                self.first_content_at = self.last_content_at
            elif self.span is not None:
                self.span.gaps_s.append(self.last_content_at - before)

    def _remove_repetition(self, chunk: ChatCompletionChunk, repetition: Repetition) -> None:
        came_bytes = _text_bytes(chunk)
        try:
            if repetition.remove(chunk):
                self.facts.warn(f"{self.target.name} said the beginning again, which was taken out of its answer")
            self.answer.withhold(came_bytes - _text_bytes(chunk))
        except BeganAnewError:
            self.answer.withhold(came_bytes)
            raise self.call.unsupported("messages", "it began the answer anew instead of continuing it") from None

    @property
    def ttft_s(self) -> float | None:
        return self.first_content_at - self.started_at if self.first_content_at is not None else None

    @property
    def tokens_per_s(self) -> float | None:
        """As the provider measured it, else of the tokens after the first."""
        tokens = self.answer.usage.completion_tokens if self.answer.usage else None
        if tokens is not None and tokens <= 1:
            # Ollama sends a microsecond for one token, and llama.cpp's server a speed of 0.
            return None
        speed = self.facts.tokens_per_s
        if speed is None or not 0 < speed <= _MOST_TOKENS_PER_S:
            first, last = self.first_content_at, self.last_content_at
            if tokens is None or first is None or last is None or last <= first:
                return None
            speed = (tokens - 1) / (last - first)
        return speed if speed <= _MOST_TOKENS_PER_S else None

    def stop(self) -> None:
        """Ends it, from any thread, where nothing is to come of it any more."""
        self.is_abandoned = self.facts.is_stopped = True
        if self.cancel_task is not None:
            # Its loop may be closed.
            with contextlib.suppress(RuntimeError):
                self.cancel_task()
        elif self.chunks is not None:
            try:
                self.chunks.close()
            except ValueError:
                # Another thread is reading them.
                self.facts.cancel()

    def _check_limit(self, limit: int, usage: Usage) -> None:
        """Servers ignore what they do not know: a limit under another name, for one."""
        most = limit * (self.call.request.n or 1) + _MARGIN_TOKENS
        if usage.completion_tokens is not None and most < usage.completion_tokens <= _MOST_TOKENS:
            health = self.lease.health
            health.overrun_tokens = max(health.overrun_tokens, usage.completion_tokens)
            self.facts.warn(
                f"{self.target.name} wrote {usage.completion_tokens} tokens where max_tokens is {limit}: it does not "
                "keep that limit"
            )

    def require_complete(self) -> None:
        """An end of the chunks without a finish reason is an interruption."""
        if not self.answer.is_complete:
            raise InvalidResponseError("the answer ended without a finish reason", http_status=self.facts.http_status)
        request, answer = self.call.request, self.answer
        if request.n is not None and answer.choice_count < request.n:
            self.facts.warn(f"{self.target.name} gave {answer.choice_count} of the {request.n} choices asked for")
        if request.max_tokens is not None and answer.usage is not None:
            self._check_limit(request.max_tokens, answer.usage)
        if self._form is not None:
            self.choices = self.answer.choices()
            try:
                parsed = self._form.parsed(self.choices)
            except GenerationFailedError as error:
                error.http_status = self.facts.http_status
                # What the target was not held to, for one: nobody sees the warnings of an answer that is none.
                error.args = ("; ".join([str(error), *self.facts.warnings]),)
                raise
            for choice, value in zip(self.choices, parsed, strict=True):
                choice.message.parsed = value
