"""What attempts cost: the worst case before, the bill after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from llama_client.clock import Clock
from llama_client.costs.bills import Tokens, cost_as_told, cost_of_time, cost_of_tokens, counted, nothing_charged, total
from llama_client.costs.money import exactly
from llama_client.costs.prices import FREE, HourPrice, PriceBook
from llama_client.costs.reservations import WorstCase
from llama_client.errors import (
    APIConnectionError,
    GenerationFailedError,
    InvalidResponseError,
    LlamaClientError,
    ProviderError,
)
from llama_client.providers.base import Charge
from llama_client.routing.attempt import RunningAttempt
from llama_client.routing.plan import Reserve
from llama_client.routing.request_size import BYTES_PER_TOKEN, RequestSize
from llama_client.types.completion import AttemptOutcome, Cost

if TYPE_CHECKING:
    from llama_client.costs.budgets import Budgets, PendingReservation
    from llama_client.costs.prices import Price
    from llama_client.providers.registry import Providers
    from llama_client.routing.candidate import Candidate
    from llama_client.types.request import ChatRequest


# How a warning begins that is about the price, and not about the answer.
COST_DOUBT = "cost: "


@dataclass(slots=True, eq=False)
class Billing:
    _prices: PriceBook
    _at: float
    _clock: Clock
    # Of each attempt: one that an interrupt makes billed twice is charged once.
    _charged: dict[RunningAttempt, Cost] = field(default_factory=dict)

    def bill(
        self, attempt: RunningAttempt, outcome: AttemptOutcome, error: LlamaClientError | None
    ) -> tuple[Tokens | None, Cost | None]:
        """The tokens charged for and their cost, if any. Ends the machine's time."""
        if attempt.stored is not None:
            cost = self._charged[attempt] = nothing_charged("cache")
            return None, cost
        use = attempt.machine_use
        machine_s = use.end(self._clock.monotonic()) if use is not None else 0.0
        if not attempt.facts.sent:
            return None, None
        price, is_worked_on = self._price(attempt), outcome == "ok" or _was_worked_on(attempt, outcome, error)
        tokens = self._tokens(attempt, outcome, error) if is_worked_on else None
        charge = self._charge(attempt, outcome, price) if is_worked_on else None
        if charge is not None:
            cost = cost_as_told(charge, attempt.target.provider_name)
        elif isinstance(price, HourPrice):
            cost = cost_of_time(price, machine_s, self._reading_share(attempt))
        elif tokens is not None:
            cost = cost_of_tokens(price, tokens)
        else:
            return None, nothing_charged("local" if price is FREE else "it was refused")
        self._charged[attempt] = cost
        if charge is None and price is not None and not isinstance(price, HourPrice):
            for doubt in (price.origin.doubt, price.origin.warning):
                if doubt is not None:
                    attempt.facts.warn(f"{COST_DOUBT}{doubt}")
        return tokens, cost

    def total(self, attempt: RunningAttempt) -> Cost:
        """The cost of the call so far, `attempt` being its last."""
        charged = list(self._charged.values())
        if charged:
            return charged[0] if len(charged) == 1 else total(charged)
        # While the first attempt runs, its cost is unknown unless the target is free.
        return cost_of_tokens(FREE, Tokens(0, 0)) if self._price(attempt) is FREE else Cost()

    def _charge(self, attempt: RunningAttempt, outcome: AttemptOutcome, price: Price | None) -> Charge | None:
        """What the provider itself says, where that is the cost: not a part of it, nor 0 in place of one."""
        charge = attempt.facts.charge
        if charge is None or (price is not None and price.origin.is_own):
            return None
        if not charge.usd and price is not None and not price.is_nothing:
            return None
        if outcome == "ok" or attempt.answer.is_complete:
            return charge
        return charge._replace(is_estimated=True) if price is None else None

    def _price(self, attempt: RunningAttempt) -> Price | None:
        target, tier = attempt.target, attempt.answer.service_tier or attempt.call.request.service_tier
        return self._prices.price(
            target.provider_name, target.model, self._at, is_free=target.is_free, service_tier=tier
        )

    def _tokens(self, attempt: RunningAttempt, outcome: AttemptOutcome, error: LlamaClientError | None) -> Tokens:
        answer = attempt.answer
        usage = answer.usage
        if usage is not None:
            # Some providers count while they stream: the usage of an incomplete answer is not its whole.
            is_whole = outcome == "ok" or answer.is_complete
            # Neither a prompt nor an answer with content has 0 tokens.
            has_count = bool(usage.completion_tokens) or not answer.answer_bytes
            if not (is_whole and has_count and usage.prompt_tokens):
                output = usage.completion_tokens if is_whole and has_count else None
                known = {
                    "prompt_tokens": usage.prompt_tokens or None,
                    "completion_tokens": output,
                    "total_tokens": (usage.total_tokens or None) if is_whole else None,
                }
                usage = usage.model_copy(update=known)
        return counted(usage, lambda: self._estimated(attempt, error))

    def _estimated(self, attempt: RunningAttempt, error: LlamaClientError | None) -> tuple[float, float]:
        generated = float(attempt.answer.answer_bytes)
        if isinstance(error, GenerationFailedError) and not generated:
            generated = float(len((error.failed_generation or "").encode("utf-8", "replace")))
        size = attempt.candidate.size
        if not generated and not attempt.call.request.stream:
            # A whole answer may have been generated without a byte arriving here.
            return size.input_tokens, size.output_tokens(attempt.candidate.health.usual_output_tokens)
        return size.input_tokens, generated / BYTES_PER_TOKEN

    def _reading_share(self, attempt: RunningAttempt) -> float:
        """The share of the attempt's time before its first content."""
        took_s, ttft_s = self._clock.monotonic() - attempt.started_at, attempt.ttft_s
        return ttft_s / took_s if attempt.call.request.stream and ttft_s is not None and took_s > 0 else 0.0


def _was_worked_on(attempt: RunningAttempt, outcome: AttemptOutcome, error: LlamaClientError | None) -> bool:
    """Whether an attempt that was sent is charged for: all are, except refusals."""
    answer = attempt.answer
    if outcome != "error" or answer.usage is not None or answer.has_content or answer.answer_bytes:
        return outcome != "skipped"
    if isinstance(error, GenerationFailedError):
        return True
    status = attempt.facts.http_status
    if status is None and isinstance(error, ProviderError):
        status = error.http_status
    # Without a status it is unknown how far the request came. An error instead of an answer is a refusal; an answer
    # that was interrupted, or cannot be read, was generated.
    return status is None or (status < 400 and isinstance(error, InvalidResponseError | APIConnectionError))


_MTOK = 1_000_000
# Fields of `extra_body` with which servers make answers longer, or more than one.
_ENLARGING = frozenset(
    {"best_of", "max_new_tokens", "max_output_tokens", "min_tokens", "n_predict", "num_predict", "options"}
)


class Reserver(NamedTuple):
    budgets: Budgets
    prices: PriceBook
    providers: Providers

    def mark(self, candidate: Candidate, tags: Mapping[str, str], at: float) -> None:
        """Finds whether the candidate is free in every tier, else whether a budget covers it."""
        prices = self._prices(candidate, at)
        candidate.is_free = all(price is not None and price.is_nothing for price in prices)
        limits = () if candidate.is_free else self.budgets.limits(candidate.target.provider_name, tags, at)
        candidate.is_budgeted = bool(limits)

    def reserve(self, step: Reserve, tags: Mapping[str, str], at: float) -> PendingReservation:
        candidate = step.candidate
        target = candidate.target
        # A continuation has a longer prompt.
        size = candidate.size if candidate.continued is None else RequestSize(candidate.request)
        most = longest_answer(candidate, self.providers)
        request = candidate.request
        if any(name.casefold() in _ENLARGING for name in request.extra_body or ()):
            # The answer may be longer than `max_tokens`.
            most = None
        context = self.providers.context_tokens(target.provider_name, target.model)
        prices = self._prices(candidate, at)
        prompt = candidate.counted_tokens or most_prompt_tokens(size, context)
        cases = [worst_case(price, request, prompt, most, step.timeout_s) for price in prices]
        known = [case for case in cases if case is not None]
        worst = max(known, key=lambda case: case.usd) if len(known) == len(cases) else None
        limits = self.budgets.limits(target.provider_name, tags, at)
        return self.budgets.reserve(target.name, limits, worst, step.keep)

    def _prices(self, candidate: Candidate, at: float) -> list[Price | None]:
        """Its prices in all tiers: the provider decides which tier serves a call."""
        target, tier = candidate.target, candidate.request.service_tier
        return self.prices.of_any_tier(
            target.provider_name, target.model, at, is_free=target.is_free, service_tier=tier
        )


def longest_answer(candidate: Candidate, providers: Providers) -> int | None:
    """The tokens of the longest answer that a candidate can give; None: unknown."""
    name, model = candidate.target.provider_name, candidate.target.model
    limit, overrun = candidate.request.max_tokens, candidate.health.overrun_tokens
    if limit is not None and not overrun:
        return limit
    most = providers.max_output_tokens(name, model)
    if most is None:
        context = providers.context_tokens(name, model)
        most = None if context is None else max(context - int(candidate.size.least_input_tokens), 1)
    # Of a server that does not keep limits and whose longest answer is unknown, the longest one so far.
    return max(limit, overrun) if most is None and limit is not None else most


def most_prompt_tokens(size: RequestSize, context_tokens: int | None) -> int | None:
    """The upper bound of a prompt's tokens; None: unknown."""
    return size.most_input_tokens if size.is_bounded else context_tokens


@exactly
def worst_case(
    price: Price | None, request: ChatRequest, tokens: int | None, most_output_tokens: int | None, timeout_s: float
) -> WorstCase | None:
    """The most that an attempt with so many tokens of its prompt can cost; None: unknown."""
    if isinstance(price, HourPrice):
        return WorstCase(price.usd(timeout_s), Decimal(0), None) if timeout_s < float("inf") else None
    if price is None or most_output_tokens is None or tokens is None:
        return None
    choices = request.n or 1
    output_tokens = choices * most_output_tokens
    # All of the prompt may come from the cache, or go there, which may cost more.
    of_caches = ((0, 0), (tokens, 0), (0, tokens))
    whole = max((price.parts(tokens, output_tokens, *each) for each in of_caches), key=lambda parts: parts.usd)
    a_token = price.parts(tokens, choices * _MTOK).output_usd / _MTOK
    return WorstCase(whole.usd, whole.usd - whole.output_usd, a_token or None)
