"""What an attempt can cost at the most, worked out before it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.costs.budgets import Budgets
from llama_client.costs.money import exactly
from llama_client.costs.prices import HourPrice
from llama_client.costs.reservations import Purchase, Refused, Reserved, WorstCase
from llama_client.routing.sizes import RequestSize

if TYPE_CHECKING:
    from llama_client.costs.prices import Price, PriceBook
    from llama_client.routing.candidates import Candidate
    from llama_client.types.request import ChatRequest

_MTOK = 1_000_000
# What servers take beside the parameters that makes an answer longer, or more than one.
_ENLARGING = frozenset(
    {"best_of", "max_new_tokens", "max_output_tokens", "min_tokens", "n_predict", "num_predict", "options"}
)


@dataclass(frozen=True, slots=True)
class Purchases:
    """Sets money aside for attempts, for one client.

    Attributes:
        budgets: What may be spent.
        prices: What tokens cost.
        max_output_tokens: The longest answer of a target; None: unknown.
        context_tokens: The context of a target; None: unknown.
    """

    budgets: Budgets
    prices: PriceBook
    max_output_tokens: Callable[[str, str], int | None]
    context_tokens: Callable[[str, str], int | None]

    def is_covered(self, candidate: Candidate, tags: Mapping[str, str], at: float) -> bool:
        """Whether there is a budget for what it costs."""
        return bool(self.budgets.limits(candidate.target.provider_name, tags, at))

    def is_free(self, candidate: Candidate, at: float) -> bool:
        """Whether nobody is paid for what it answers, whichever tier serves it."""
        return all(price is not None and price.is_nothing for price in self._prices(candidate, at))

    def reserve(self, candidate: Candidate, tags: Mapping[str, str], at: float, timeout_s: float) -> Reserved | Refused:
        """Sets aside what an attempt can cost, blocking."""
        return self.budgets.reserve(self._purchase(candidate, tags, at, timeout_s))

    async def areserve(
        self, candidate: Candidate, tags: Mapping[str, str], at: float, timeout_s: float
    ) -> Reserved | Refused:
        """The same on the event loop."""
        return await self.budgets.areserve(self._purchase(candidate, tags, at, timeout_s))

    def _purchase(self, candidate: Candidate, tags: Mapping[str, str], at: float, timeout_s: float) -> Purchase:
        target = candidate.target
        # What goes on from a break has more to read than was asked.
        size = candidate.size if candidate.continued is None else RequestSize(candidate.request)
        most = longest_answer(candidate, self.max_output_tokens, self.context_tokens)
        request = candidate.request
        if any(name.casefold() in _ENLARGING for name in request.extra_body or ()):
            # It may ask for more than its parameters say.
            most = None
        cases = [worst_case(price, request, size, most, timeout_s) for price in self._prices(candidate, at)]
        known = [case for case in cases if case is not None]
        worst = max(known, key=lambda case: case.usd) if len(known) == len(cases) else None
        return Purchase(target.name, target.provider_name, tags, at, worst)

    def _prices(self, candidate: Candidate, at: float) -> list[Price | None]:
        """What it may cost: the provider decides which tier serves a call."""
        target = candidate.target
        return self.prices.of_any_tier(
            target.provider_name,
            target.model,
            at,
            is_free=target.provider.is_free(target.model),
            service_tier=candidate.request.service_tier,
        )


def longest_answer(
    candidate: Candidate,
    max_output_tokens: Callable[[str, str], int | None],
    context_tokens: Callable[[str, str], int | None],
) -> int | None:
    """The tokens of the longest answer that a candidate can give; None: nobody knows."""
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
    """The most that an attempt can cost; None: nobody knows.

    A token has at least one byte, so a request has no more tokens than bytes, beside what the model's template adds.

    Args:
        price: What the target costs; None: unknown.
        request: The request.
        size: Its size.
        most_output_tokens: The longest answer; None: unknown.
        timeout_s: How long the attempt may take.
    """
    if isinstance(price, HourPrice):
        return WorstCase(price.usd(timeout_s), Decimal(0), None) if timeout_s < float("inf") else None
    if price is None or most_output_tokens is None:
        return None
    choices = request.n or 1
    tokens, output_tokens = size.most_input_tokens, choices * most_output_tokens
    # All of the prompt may come from a cache, which may be the dearer way.
    whole = max((price.parts(tokens, output_tokens, cached) for cached in (0, tokens)), key=lambda parts: parts.usd)
    a_token = price.parts(size.most_input_tokens, choices * _MTOK).output_usd / _MTOK
    return WorstCase(whole.usd, whole.usd - whole.output_usd, a_token or None)
