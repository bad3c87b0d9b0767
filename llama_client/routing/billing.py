"""What attempts cost: the worst case before, the bill after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.clock import Clock
from llama_client.costs.bills import (
    BYTES_PER_TOKEN,
    Tokens,
    cost_of_time,
    cost_of_tokens,
    counted,
    nothing_charged,
    total,
)
from llama_client.costs.budgets import Budgets, PendingReservation
from llama_client.costs.money import exactly
from llama_client.costs.prices import FREE, HourPrice, PriceBook
from llama_client.costs.reservations import ReservationRequest, WorstCase
from llama_client.errors import (
    APIConnectionError,
    GenerationFailedError,
    InvalidResponseError,
    LlamaClientError,
    ProviderError,
)
from llama_client.routing.attempt import RunningAttempt
from llama_client.routing.request_size import RequestSize
from llama_client.types.completion import AttemptOutcome, Cost

if TYPE_CHECKING:
    from llama_client.costs.prices import Price, PriceBook
    from llama_client.routing.candidate import Candidate
    from llama_client.types.request import ChatRequest


class Billing:
    """The bill of one call."""

    def __init__(self, prices: PriceBook, at: float, clock: Clock) -> None:
        self._prices = prices
        self._at = at
        self._clock = clock
        self._charged: list[Cost] = []

    def bill(
        self, running: RunningAttempt, outcome: AttemptOutcome, error: LlamaClientError | None
    ) -> tuple[Tokens | None, Cost | None]:
        """The charged tokens and their cost; None: not charged, or not sent.

        What it may have set aside is settled, and a machine's time ends.
        """
        tokens, cost = self._charged_for(running, outcome, error)
        if running.reservation is not None:
            running.reservation.settle(_settled(cost, tokens))
        return tokens, cost

    def total(self, running: RunningAttempt) -> Cost:
        """The cost of the call up to this attempt."""
        if len(self._charged) == 1:
            return self._charged[0]
        # While it runs, a charged cost is unknown.
        return total(self._charged or [cost_of_tokens(FREE, Tokens(0, 0)) if self._price(running) is FREE else Cost()])

    def _charged_for(
        self, running: RunningAttempt, outcome: AttemptOutcome, error: LlamaClientError | None
    ) -> tuple[Tokens | None, Cost | None]:
        use, machine_s = running.machine_use, 0.0
        if use is not None:
            machine_s = use(self._clock.monotonic())
        if not running.facts.sent:
            return None, None
        price, is_worked_on = self._price(running), outcome == "ok" or _was_worked_on(running, outcome, error)
        tokens = self._tokens(running, outcome, error) if is_worked_on else None
        if isinstance(price, HourPrice):
            cost = cost_of_time(price, machine_s, self._reading_share(running))
        elif tokens is not None:
            cost = cost_of_tokens(price, tokens)
        else:
            return None, nothing_charged("local" if price is FREE else "it was refused")
        self._charged.append(cost)
        if price is not None and not isinstance(price, HourPrice):
            for doubt in (price.origin.doubt, price.origin.warning):
                if doubt is not None:
                    running.facts.warn(f"cost: {doubt}")
        return tokens, cost

    def _price(self, running: RunningAttempt) -> Price | None:
        target = running.target
        return self._prices.price(
            target.provider_name,
            target.model,
            self._at,
            is_free=target.is_free,
            service_tier=running.fold.service_tier or running.call.request.service_tier,
        )

    def _tokens(self, running: RunningAttempt, outcome: AttemptOutcome, error: LlamaClientError | None) -> Tokens:
        usage, fold = running.fold.usage, running.fold
        if usage is not None:
            # Running counts of an incomplete answer are not the whole.
            is_whole = outcome == "ok" or fold.is_complete
            # A prompt has tokens, and so has an answer with content.
            has_count = bool(usage.completion_tokens) or not fold.answer_bytes
            if not (is_whole and has_count and usage.prompt_tokens):
                answer = usage.completion_tokens if is_whole and has_count else None
                known = {"prompt_tokens": usage.prompt_tokens or None, "completion_tokens": answer}
                usage = usage.model_copy(update=known)
        return counted(usage, lambda: self._guessed(running, error))

    def _guessed(self, running: RunningAttempt, error: LlamaClientError | None) -> tuple[float, float]:
        """Estimated tokens of an attempt without reported usage."""
        generated = float(running.fold.answer_bytes)
        if isinstance(error, GenerationFailedError) and not generated:
            generated = float(len((error.failed_generation or "").encode("utf-8", "replace")))
        size = running.candidate.size
        if not generated and not running.call.request.stream:
            # A whole answer may have been generated without a chunk.
            return size.input_tokens, size.output_tokens(running.candidate.health.usual_output_tokens)
        return size.input_tokens, generated / BYTES_PER_TOKEN

    def _reading_share(self, running: RunningAttempt) -> float:
        took_s = self._clock.monotonic() - running.started_at
        return (
            running.ttft_s / took_s
            if running.call.request.stream and running.ttft_s is not None and took_s > 0
            else 0.0
        )


def _settled(cost: Cost | None, tokens: Tokens | None) -> Decimal | None:
    """What a budget settles at; None: unknown, so the worst case."""
    if cost is None:
        return Decimal(0)
    return None if tokens is not None and tokens.are_estimated else cost.usd


def _was_worked_on(running: RunningAttempt, outcome: AttemptOutcome, error: LlamaClientError | None) -> bool:
    """Whether a sent attempt is charged: all are, except refused ones."""
    if outcome != "error" or running.fold.usage is not None or running.fold.has_content:
        return outcome != "skipped"
    if isinstance(error, GenerationFailedError):
        return True
    status = running.facts.http_status
    if status is None and isinstance(error, ProviderError):
        status = error.http_status
    # Without a status its progress is unknown. An error in place of an answer is a refusal; an answer that was
    # interrupted or cannot be read was generated.
    return status is None or (status < 400 and isinstance(error, InvalidResponseError | APIConnectionError))


_MTOK = 1_000_000
# Fields of `extra_body` that make an answer longer, or more than one.
_ENLARGING = frozenset(
    {"best_of", "max_new_tokens", "max_output_tokens", "min_tokens", "n_predict", "num_predict", "options"}
)


@dataclass(frozen=True, slots=True)
class Reservations:
    """The budget reservations of one client's attempts."""

    budgets: Budgets
    prices: PriceBook
    max_output_tokens: Callable[[str, str], int | None]
    context_tokens: Callable[[str, str], int | None]

    def is_covered(self, candidate: Candidate, tags: Mapping[str, str], at: float) -> bool:
        return bool(self.budgets.limits(candidate.target.provider_name, tags, at))

    def is_free(self, candidate: Candidate, at: float) -> bool:
        """Whether it costs nothing, in every tier."""
        return all(price is not None and price.is_nothing for price in self._prices(candidate, at))

    def reserve(self, candidate: Candidate, tags: Mapping[str, str], at: float, timeout_s: float) -> PendingReservation:
        """Reserves what an attempt can cost, without waiting."""
        target = candidate.target
        # A continuation has a longer prompt.
        size = candidate.size if candidate.continued is None else RequestSize(candidate.request)
        most = longest_answer(candidate, self.max_output_tokens, self.context_tokens)
        request = candidate.request
        if any(name.casefold() in _ENLARGING for name in request.extra_body or ()):
            # It may ask for more than its parameters say.
            most = None
        cases = [worst_case(price, request, size, most, timeout_s) for price in self._prices(candidate, at)]
        known = [case for case in cases if case is not None]
        worst = max(known, key=lambda case: case.usd) if len(known) == len(cases) else None
        return self.budgets.reserve(ReservationRequest(target.name, target.provider_name, tags, at, worst))

    def _prices(self, candidate: Candidate, at: float) -> list[Price | None]:
        """The prices that may apply: the provider chooses the tier."""
        target = candidate.target
        return self.prices.of_any_tier(
            target.provider_name,
            target.model,
            at,
            is_free=target.is_free,
            service_tier=candidate.request.service_tier,
        )


def longest_answer(
    candidate: Candidate,
    max_output_tokens: Callable[[str, str], int | None],
    context_tokens: Callable[[str, str], int | None],
) -> int | None:
    """The tokens of the longest answer of a candidate; None: unknown."""
    name, model = candidate.target.provider_name, candidate.target.model
    most = candidate.request.max_tokens
    if most is None:
        most = max_output_tokens(name, model)
    if most is None:
        context = context_tokens(name, model)
        most = None if context is None else max(context - int(candidate.size.least_input_tokens), 1)
    return most


@exactly
def worst_case(
    price: Price | None, request: ChatRequest, size: RequestSize, most_output_tokens: int | None, timeout_s: float
) -> WorstCase | None:
    """The worst-case cost of an attempt; None: unknown.

    A token has at least one byte, so a request has no more tokens than bytes, beside what the model's template adds.
    """
    if isinstance(price, HourPrice):
        return WorstCase(price.usd(timeout_s), Decimal(0), None) if timeout_s < float("inf") else None
    if price is None or most_output_tokens is None:
        return None
    choices = request.n or 1
    tokens, output_tokens = size.most_input_tokens, choices * most_output_tokens
    # The whole prompt may be cached, which may cost more.
    whole = max((price.parts(tokens, output_tokens, cached) for cached in (0, tokens)), key=lambda parts: parts.usd)
    a_token = price.parts(size.most_input_tokens, choices * _MTOK).output_usd / _MTOK
    return WorstCase(whole.usd, whole.usd - whole.output_usd, a_token or None)
