"""A row on its way, and what became of a try of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, TypeAlias

from llama_client.errors import AllTargetsFailedError, APIConnectionError, LlamaClientError, ProviderError

if TYPE_CHECKING:
    from llama_client.bulk.limits.flights import Flight
    from llama_client.bulk.results import BulkResult, Venue
    from llama_client.bulk.rows import Row
    from llama_client.types.completion import Attempt, ChatCompletion


@dataclass(slots=True, eq=False)
class PendingRow:
    """A row on its way.

    Attributes:
        row: The row.
        target: What its limit is kept for.
        tries: How often it failed by an error that may pass.
        refusals: How often it was rate limited.
        attempts: Those of its failed tries.
        flight: What its limit knows of the call in flight.
        worst_usd: The most that a try costs; None: unknown, or nobody asks.
        kept: Its result, where that is recorded already.
        venue: Where it is asked.
        at_once: Of one that waits for idle hours, its target and `worst_usd` where it is asked at once after all; None:
            it is not to be.
    """

    row: Row
    target: str
    tries: int = 0
    refusals: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    flight: Flight | None = None
    worst_usd: Decimal | None = None
    kept: BulkResult | None = None
    venue: Venue = "now"
    at_once: tuple[str, Decimal | None] | None = None

    def leave_idle(self) -> None:
        """It does not wait for idle hours any more."""
        assert self.at_once is not None
        (self.target, self.worst_usd), self.at_once = self.at_once, None
        self.venue, self.tries, self.refusals = "now", 0, 0


Outcome: TypeAlias = "ChatCompletion | LlamaClientError"
Done: TypeAlias = tuple[PendingRow, Outcome]
"""A row that is to be recorded."""


def usd_of(attempts: Iterable[Attempt]) -> Decimal | None:
    """What attempts cost, None: unknown; those that have no cost were free, or never sent."""
    total = Decimal(0)
    for attempt in attempts:
        if attempt.cost is not None:
            if attempt.cost.usd is None:
                return None
            total += attempt.cost.usd
    return total


def may_pass(error: LlamaClientError) -> bool:
    """Whether asking again later may help: of several targets, at any one."""
    if isinstance(error, AllTargetsFailedError):
        return any(may_pass(each) for each in error.errors)
    return isinstance(error, ProviderError) and error.retryable


def is_unreached(error: LlamaClientError) -> bool:
    """Whether there was no connection: of several targets, to none."""
    if isinstance(error, AllTargetsFailedError):
        return bool(error.errors) and all(is_unreached(each) for each in error.errors)
    return isinstance(error, APIConnectionError) and error.is_unreached
