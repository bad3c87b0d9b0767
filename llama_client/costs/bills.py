"""The cost of an attempt (its tokens, reported or else estimated, at a price) and of a whole call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from llama_client.costs.money import added, exact, exactly
from llama_client.costs.prices import FREE, HourPrice
from llama_client.types.completion import (
    CompletionTokensDetails,
    Cost,
    CostStatus,
    PromptTokensDetails,
    Usage,
    unchecked,
)

if TYPE_CHECKING:
    from llama_client.costs.prices import Price
    from llama_client.providers.base import Charge

_ZERO = Decimal(0)
# From the most certain to the least.
_STATUSES: tuple[CostStatus, ...] = ("free", "exact", "estimated", "unknown")
_AMOUNTS = ("usd", "input_usd", "cached_usd", "output_usd")


class Tokens(NamedTuple):
    input_tokens: int
    output_tokens: int
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    are_estimated: bool = False
    cache_write_tokens: int | None = None

    def as_usage(self) -> Usage:
        cached, written, reasoning = self.cached_tokens, self.cache_write_tokens, self.reasoning_tokens
        of_prompt = None
        if cached is not None or written is not None:
            of_prompt = PromptTokensDetails(cached_tokens=cached, cache_write_tokens=written)
        of_answer = None if reasoning is None else CompletionTokensDetails(reasoning_tokens=reasoning)
        return Usage(
            prompt_tokens=self.input_tokens,
            completion_tokens=self.output_tokens,
            total_tokens=self.input_tokens + self.output_tokens,
            prompt_tokens_details=of_prompt,
            completion_tokens_details=of_answer,
        )


def counted(usage: Usage | None, estimate: Callable[[], tuple[float, float]]) -> Tokens:
    """The tokens that a provider reported; what it did not is estimated."""
    usage = usage or Usage()
    prompt, answer, whole = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    has_details = usage.prompt_tokens_details is not None or usage.completion_tokens_details is not None
    is_hidden = False
    if prompt is None and whole is not None and answer is not None and whole > answer:
        prompt = whole - answer
    if prompt is not None and whole is not None and whole > prompt + (answer or 0):
        # Reasoning that only the total counts is generated, and billed, as part of the answer.
        is_hidden, answer = answer is not None, whole - prompt
    if prompt is not None and answer is not None and not has_details:
        return Tokens(prompt, answer, are_estimated=is_hidden)
    is_guessed, cached, written = prompt is None or answer is None, usage.cached_tokens, usage.cache_write_tokens
    guessed_prompt, guessed_answer = estimate() if is_guessed else (0.0, 0.0)
    if prompt is None:
        prompt = round(guessed_prompt) if whole is None else min(round(guessed_prompt), whole)
    if answer is None:
        answer = round(guessed_answer) if whole is None else max(whole - prompt, round(guessed_answer))
    # More cached tokens than there are is impossible; the prompt's count is the more certain one.
    is_impossible = (cached or 0) + (written or 0) > prompt
    if is_impossible:
        cached = None if cached is None else min(cached, prompt)
        written = None if written is None else min(written, prompt - (cached or 0))
    is_doubtful = is_guessed or is_hidden or is_impossible
    return Tokens(prompt, answer, cached, usage.reasoning_tokens, is_doubtful, written)


def nothing_charged(source: str) -> Cost:
    return Cost(usd=_ZERO, status="exact", input_usd=_ZERO, cached_usd=_ZERO, output_usd=_ZERO, source=source)


def cost_of_tokens(price: Price | None, tokens: Tokens) -> Cost:
    if price is None:
        return Cost()
    assert not isinstance(price, HourPrice)
    parts = price.parts(
        tokens.input_tokens, tokens.output_tokens, tokens.cached_tokens or 0, tokens.cache_write_tokens or 0
    )
    status: CostStatus = "exact"
    if price is FREE:
        status = "free"
    elif tokens.are_estimated or price.origin.doubt is not None:
        status = "estimated"
    values = {
        "usd": parts.usd,
        "status": status,
        "input_usd": parts.input_usd,
        "cached_usd": parts.cached_usd,
        "output_usd": parts.output_usd,
        "source": price.origin.source,
        "effective_from": price.origin.effective_from,
    }
    return unchecked(Cost, values)


def cost_as_told(charge: Charge, provider: str) -> Cost:
    status: CostStatus = "estimated" if charge.is_estimated else "exact"
    return Cost(usd=exact(charge.usd), status=status, source=f"{charge.source} of {provider}")


@exactly
def cost_of_time(price: HourPrice, seconds: float, reading_share: float) -> Cost:
    usd = price.usd(seconds)
    reading = min(price.usd(seconds * min(max(reading_share, 0.0), 1.0)), usd)
    return Cost(
        usd=usd,
        status="estimated",
        input_usd=reading,
        cached_usd=_ZERO,
        output_usd=usd - reading,
        source=price.origin.source,
    )


def total(costs: Sequence[Cost]) -> Cost:
    """The cost of a call from those of its charged attempts, in order: the sum, with the least certain status."""
    sums: dict[str, object] = {name: _sum([getattr(cost, name) for cost in costs]) for name in _AMOUNTS}
    status = max((cost.status for cost in costs), key=_STATUSES.index)
    return costs[-1].model_copy(update={**sums, "status": status})


def _sum(amounts: Sequence[Decimal | None]) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    return added(*known) if len(known) == len(amounts) else None


class MachineTime:
    """The time of one machine, shared equally among the attempts in flight: the shares add up to its busy time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uses: set[MachineUse] = set()
        # The time of an attempt in flight from the start on.
        self._share_s = 0.0
        self._at = 0.0

    def start(self, use: MachineUse, now: float) -> None:
        with self._lock:
            self._pass(now)
            use.began = self._share_s
            self._uses.add(use)

    def end(self, use: MachineUse, now: float) -> None:
        with self._lock:
            if use in self._uses:
                self._pass(now)
                use.seconds = self._share_s - use.began
                self._uses.discard(use)

    def _pass(self, now: float) -> None:
        if self._uses:
            self._share_s += max(now - self._at, 0.0) / len(self._uses)
        self._at = now


class MachineUse:
    """An attempt's use of a machine, known to the attempt before it starts."""

    __slots__ = ("_machine", "began", "seconds")

    def __init__(self, machine: MachineTime) -> None:
        self._machine = machine
        self.began = self.seconds = 0.0

    def start(self, now: float) -> None:
        self._machine.start(self, now)

    def end(self, now: float) -> float:
        """Its seconds; a second time the same."""
        self._machine.end(self, now)
        return self.seconds
