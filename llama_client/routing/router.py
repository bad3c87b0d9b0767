"""The order in which targets are tried: filters, then sorts. The plan takes it from there."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from llama_client.clock import Clock
from llama_client.costs.prices import HourPrice, PriceBook
from llama_client.errors import BudgetExceededError, ContextLengthError
from llama_client.routing.candidate import Candidate
from llama_client.routing.health import HealthRegistry
from llama_client.routing.request_size import RequestSize

if TYPE_CHECKING:
    from llama_client.routing.targets import TargetList
    from llama_client.types.request import ChatRequest

# No served model has less.
_SMALLEST_CONTEXT_TOKENS = 512
# Of the user's own machine before it is measured: a single stream on a mid-range GPU.
_USUAL_TOKENS_PER_S = 30.0
# How often the policy `fastest` tries another target first, to learn whether it has become faster.
_EXPLORED_SHARE = 0.05


class Router(NamedTuple):
    health: HealthRegistry
    prices: PriceBook
    clock: Clock
    context_tokens: Callable[[str, str], int | None]
    random: random.Random

    def candidates(self, choices: Sequence[TargetList], request: ChatRequest) -> list[Candidate]:
        """The targets of a call in order, excluded ones with their error included."""
        size = RequestSize(request)
        found: dict[str, Candidate] = {}
        for choice in choices:
            candidates = []
            for target in choice.targets:
                health = self.health.of(target.name, target.provider_name)
                candidates.append(Candidate(target, health, request, size, choice.route))
            if choice.max_price_usd is not None or (choice.policy != "ordered" and len(candidates) > 1):
                candidates = self._sorted(candidates, choice)
            for candidate in candidates:
                params = candidate.target.params
                found.setdefault(f"{candidate.target.name} {params}" if params else candidate.target.name, candidate)
        candidates = list(found.values())
        if len(candidates) == 1:
            return candidates
        if size.least_input_tokens >= _SMALLEST_CONTEXT_TOKENS:
            self._exclude_too_long(candidates)
        for candidate in candidates:
            if candidate.health.limits.are_known:
                return self._low_last(candidates)
        return candidates

    def has_prices_at_hand(self, choices: Sequence[TargetList]) -> bool:
        """Whether all prices can be looked up without importing a package."""
        at = self.clock.wall()
        return all(
            self.prices.is_at_hand(target.provider_name, target.model, at, is_free=target.is_free)
            for choice in choices
            for target in choice.targets
        )

    def expected_usd(self, candidate: Candidate) -> Decimal | None:
        """The expected cost of the call; None: the price is unknown."""
        target = candidate.target
        price = self.prices.price(target.provider_name, target.model, self.clock.wall(), is_free=target.is_free)
        if price is None:
            return None
        now, tokens = self.clock.monotonic(), candidate.size.input_tokens
        output_tokens = candidate.size.output_tokens(self.health.output_tokens.value(now))
        if isinstance(price, HourPrice):
            streams = candidate.request.stream
            expected_s = candidate.health.latency.expected_s(now, tokens=output_tokens, streams=streams)
            return price.usd(output_tokens / _USUAL_TOKENS_PER_S if expected_s is None else expected_s)
        cached = tokens * (candidate.health.cached_share.value(now) or 0.0)
        return price.parts(tokens, output_tokens, cached).usd

    def _sorted(self, candidates: list[Candidate], choice: TargetList) -> list[Candidate]:
        if choice.max_price_usd is not None:
            self._exclude_too_expensive(candidates, choice.max_price_usd, choice.route)
        match choice.policy:
            case "ordered":
                return candidates
            case "cheapest":
                return sorted(candidates, key=self._by_price)
            case "fastest":
                return self._fastest_first(candidates)
            case "weighted":
                return sorted(candidates, key=lambda candidate: self._draw(candidate.target.weight))

    def _exclude_too_long(self, candidates: Sequence[Candidate]) -> None:
        """Excludes targets whose context is certainly too short for the prompt, unless all are."""
        excluded = []
        for candidate in candidates:
            target = candidate.target
            context = self.context_tokens(target.provider_name, target.model)
            if context is not None and candidate.size.least_input_tokens > context:
                excluded.append((candidate, context))
        for candidate, context in excluded if len(excluded) < len(candidates) else ():
            least = round(candidate.size.least_input_tokens)
            message = f"the prompt has at least {least} tokens, and the context holds {context}"
            candidate.exclude(ContextLengthError(message, context_tokens=context))

    def _exclude_too_expensive(self, candidates: Sequence[Candidate], most: Decimal, route: str | None) -> None:
        budget = f"routes.{route}.max_price_usd"
        for candidate in candidates:
            usd = self.expected_usd(candidate)
            if usd is None or usd > most:
                costs = "has no known price" if usd is None else f"is expected to cost ${usd:.6f}"
                error = BudgetExceededError(
                    f"the call {costs} at {candidate.target.name}, and {budget} is ${most}",
                    budget=budget,
                    needed_usd=usd,
                )
                candidate.exclude(error)

    def _by_price(self, candidate: Candidate) -> tuple[bool, Decimal]:
        usd = self.expected_usd(candidate)
        return (usd is None, usd if usd is not None else Decimal(0))

    def _fastest_first(self, candidates: list[Candidate]) -> list[Candidate]:
        """By the expected duration of the answer; targets without a measurement come first."""
        now = self.clock.monotonic()
        tokens_before = self.health.output_tokens.value(now)

        def expected_s(candidate: Candidate) -> float:
            tokens = candidate.size.output_tokens(tokens_before)
            expected = candidate.health.latency.expected_s(now, tokens=tokens, streams=candidate.request.stream)
            return -math.inf if expected is None else expected

        ordered = sorted(candidates, key=expected_s)
        if self.random.random() < _EXPLORED_SHARE:
            ordered.insert(0, ordered.pop(self.random.randrange(len(ordered))))
        return ordered

    def _draw(self, weight: float) -> float:
        """A random sort key: Efraimidis and Spirakis, "Weighted random sampling with a reservoir" (2006)."""
        return -math.log(1.0 - self.random.random()) / weight if weight else math.inf

    def _low_last(self, candidates: list[Candidate]) -> list[Candidate]:
        """Puts targets last that would refuse the request, as far as their rate limit headers say."""
        now = self.clock.monotonic()
        low = [candidate for candidate in candidates if candidate.health.limits.is_low(now, candidate.size)]
        if not low or len(low) == len(candidates):
            return candidates
        return [candidate for candidate in candidates if candidate not in low] + low
