"""What a job would cost and take at each venue, and which one it takes: plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Literal

PlannedVenue = Literal["now", "batch", "idle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueQuote:
    """One way of answering rows. Amounts are in US dollars; None: unknown.

    Attributes:
        venue: `now`: at once, through the router; `batch`: a provider's batch API; `idle`: this machine, in idle hours.
        target: Whose: `provider/model`, or all that the router may try.
        rows: How many rows it takes; of idle hours, how many they answer before the deadline.
        is_possible: Whether it can be chosen.
        why: Why not, or what the figures rest on.
        usd: What is expected.
        most_usd: The most, with one billed call for each row and target.
        ends_in_s: When the end is expected, in seconds; None: unknown.
        latest_s: The latest end that is promised; None: none is.
        parts: How many batches it would be; None: no batches.
    """

    venue: PlannedVenue
    target: str
    rows: int
    is_possible: bool
    why: str
    usd: Decimal | None = None
    most_usd: Decimal | None = None
    ends_in_s: float | None = None
    latest_s: float | None = None
    parts: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkPlan:
    """What a job is going to do. Amounts are in US dollars; None: unknown.

    Attributes:
        rows: The rows that are left to be answered, within `limit`.
        kept_rows: How many of them have their answers in the cache, and cost nothing.
        input_tokens: Of the prompts of the others, estimated.
        output_tokens: Of their answers, estimated.
        deadline_s: In how many seconds the job should be done; None: no matter.
        venue: Where most rows go.
        batch_rows: How many rows are handed in as batches.
        idle_rows: How many rows wait for idle hours.
        rescued_rows: How many of these are expected to be asked at once in the end, as their batch is late.
        usd: What is expected.
        most_usd: The most, with one billed call for each row and target.
        quotes: The price of every venue.
        explanation: What was chosen, and why, in a few sentences.
    """

    rows: int
    kept_rows: int
    input_tokens: int
    output_tokens: int
    deadline_s: float | None
    venue: PlannedVenue
    batch_rows: int
    idle_rows: int
    rescued_rows: int
    usd: Decimal | None
    most_usd: Decimal | None
    quotes: tuple[VenueQuote, ...]
    explanation: str

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON has it: amounts are text, since a float would round them."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return f"{value:f}" if isinstance(value, Decimal) else value
