"""What one attempt cost: which tokens are charged, how many there were, and what they came to; and the whole of a call.

Whoever refuses a request charges nothing for it. Whoever has worked on one does, whatever became of the answer; where
nobody has counted the tokens they are estimated, and everything that is made of them says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.costs.money import added, exactly
from llama_client.costs.prices import FREE, HourPrice
from llama_client.types.completion import CompletionTokensDetails, Cost, CostStatus, PromptTokensDetails, Usage

if TYPE_CHECKING:
    from llama_client.costs.prices import Price

_ZERO = Decimal(0)
# From the best known to the worst.
_STATUSES: tuple[CostStatus, ...] = ("free", "exact", "estimated", "unknown")
# English text and code have about four bytes a token with the vocabularies of Llama 3 and GPT.
BYTES_PER_TOKEN = 4.0


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens that are charged for."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    are_estimated: bool = False

    def as_usage(self) -> Usage:
        """The same under OpenAI's names."""
        return Usage(
            prompt_tokens=self.input_tokens,
            completion_tokens=self.output_tokens,
            total_tokens=self.input_tokens + self.output_tokens,
            prompt_tokens_details=(
                None if self.cached_tokens is None else PromptTokensDetails(cached_tokens=self.cached_tokens)
            ),
            completion_tokens_details=(
                None
                if self.reasoning_tokens is None
                else CompletionTokensDetails(reasoning_tokens=self.reasoning_tokens)
            ),
        )


def counted(usage: Usage | None, estimate: Callable[[], tuple[float, float]]) -> Tokens:
    """The tokens that a provider reported; what it did not is estimated.

    Examples:
        >>> counted(Usage(prompt_tokens=10, completion_tokens=5), lambda: (0, 0)).are_estimated
        False
        >>> counted(None, lambda: (12.4, 3.6))
        Tokens(input_tokens=12, output_tokens=4, cached_tokens=None, reasoning_tokens=None, are_estimated=True)
    """
    if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
        guessed_input, guessed_output = estimate()
        known = usage or Usage()
        prompt = round(guessed_input) if known.prompt_tokens is None else known.prompt_tokens
        answer = round(guessed_output)
        if known.completion_tokens is not None:
            answer = known.completion_tokens + _reasoning_aside(known)
        cached = None if known.cached_tokens is None else min(known.cached_tokens, prompt)
        return Tokens(prompt, answer, cached, known.reasoning_tokens, are_estimated=True)
    prompt, answer = usage.prompt_tokens, usage.completion_tokens
    if usage.prompt_tokens_details is None and usage.completion_tokens_details is None:
        return Tokens(prompt, answer)
    cached, reasoning = usage.cached_tokens, usage.reasoning_tokens
    answer += _reasoning_aside(usage)
    # More cached tokens than there are is nonsense, of which the prompt is the surer half.
    is_nonsense = cached is not None and cached > prompt
    return Tokens(prompt, answer, prompt if is_nonsense else cached, reasoning, are_estimated=is_nonsense)


def _reasoning_aside(usage: Usage) -> int:
    """Tokens of reasoning that are not among those of the answer: some (x.ai) leave them out, and charge for both."""
    reasoning = usage.reasoning_tokens or 0
    counted_before = (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
    return reasoning if usage.total_tokens == counted_before + reasoning else 0


def nothing_charged(source: str) -> Cost:
    """The cost of what was refused."""
    return Cost(usd=_ZERO, status="exact", input_usd=_ZERO, cached_usd=_ZERO, output_usd=_ZERO, source=source)


def cost_of_tokens(price: Price | None, tokens: Tokens) -> Cost:
    """What tokens cost at a price; None: unknown, never 0."""
    if price is None:
        return Cost()
    assert not isinstance(price, HourPrice)
    parts = price.parts(tokens.input_tokens, tokens.output_tokens, tokens.cached_tokens or 0)
    status: CostStatus = "exact"
    if price is FREE:
        status = "free"
    elif tokens.are_estimated or price.origin.doubt is not None:
        status = "estimated"
    return Cost(
        usd=parts.usd,
        status=status,
        input_usd=parts.input_usd,
        cached_usd=parts.cached_usd,
        output_usd=parts.output_usd,
        source=price.origin.source,
        effective_from=price.origin.effective_from,
    )


@exactly
def cost_of_time(price: HourPrice, seconds: float, reading_share: float) -> Cost:
    """What the time of a machine costs."""
    usd = price.usd(seconds)
    reading = HourPrice(price.origin, price.usd_per_hour).usd(seconds * min(max(reading_share, 0.0), 1.0))
    reading = min(reading, usd)
    return Cost(
        usd=usd,
        status="estimated",
        input_usd=reading,
        cached_usd=_ZERO,
        output_usd=usd - reading,
        source=price.origin.source,
    )


def total(costs: Sequence[Cost]) -> Cost:
    """The cost of a call from those of its charged attempts, the one that answered last: the sum, as sure as its worst.

    Example:
        >>> total([Cost(), Cost(usd=Decimal(1), status="exact")]).status
        'unknown'
    """
    if len(costs) == 1:
        return costs[0]
    if not costs:
        return Cost()
    status: CostStatus = max((cost.status for cost in costs), key=_STATUSES.index)
    last = costs[-1]
    return Cost(
        usd=_sum([cost.usd for cost in costs]),
        status=status,
        input_usd=_sum([cost.input_usd for cost in costs]),
        cached_usd=_sum([cost.cached_usd for cost in costs]),
        output_usd=_sum([cost.output_usd for cost in costs]),
        source=last.source,
        effective_from=last.effective_from,
    )


def _sum(amounts: Sequence[Decimal | None]) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    return added(_ZERO, *known) if len(known) == len(amounts) else None


class MachineTime:
    """The time of one machine, shared among the attempts that it works on at once.

    With three of them under way, each has a third of every second. The shares add up to the time in which it had work.

    Example:
        >>> machine = MachineTime()
        >>> first = machine.begin(0.0)
        >>> second = machine.begin(10.0)
        >>> machine.end(first, 20.0), machine.end(second, 20.0)
        (15.0, 5.0)
    """

    def __init__(self) -> None:
        # The garbage collector may end an attempt, also while this thread is in here.
        self._lock = threading.RLock()
        self._running = 0
        # What an attempt would have had that was always there.
        self._share_s = 0.0
        self._at = 0.0

    def begin(self, now: float) -> float:
        """An attempt begins; returns what `end` wants."""
        with self._lock:
            self._pass(now)
            self._running += 1
            return self._share_s

    def end(self, began: float, now: float) -> float:
        """It is over; returns the seconds that it had."""
        with self._lock:
            self._pass(now)
            self._running -= 1
            return self._share_s - began

    def _pass(self, now: float) -> None:
        if self._running:
            self._share_s += max(now - self._at, 0.0) / self._running
        self._at = now
