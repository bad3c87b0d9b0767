"""What was spent, added up."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from pydantic import Field, field_serializer

from llama_client.types.base import AnswerModel


def _plain(usd: Decimal) -> str:
    """JSON for people and programs alike: `0.0000375`, never `3.75E-5`."""
    return f"{usd:f}"


class CostGroup(AnswerModel):
    """The attempts of one group.

    Attributes:
        key: What they share: a provider, target, route, day or tag's value; empty for those that have none.
        calls: Calls that had an attempt here.
        input_tokens: Of all prompts, as far as known.
        output_tokens: Of all answers, as far as known.
        usd: What they cost, as far as known.
        unpriced_calls: Calls with an attempt here whose cost nobody knows; `usd` holds nothing of that.
        errors: Attempts that failed or broke off.
    """

    key: str
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: Decimal = Decimal(0)
    unpriced_calls: int = 0
    errors: int = 0

    @field_serializer("usd", when_used="json")
    def _usd(self, usd: Decimal) -> str:
        return _plain(usd)


class CostReport(AnswerModel):
    """What was spent since a moment, and what of it is not known.

    Attributes:
        total_usd: What is known to have been spent.
        calls: How many calls there were.
        unpriced_calls: Of these, how many have a part whose cost nobody knows.
        unrecorded_calls: Calls that could not be written down in time, or not wholly; nothing above counts them.
        since: From when on; None: from the beginning.
        groups: The same by what was asked for: the dearest first, days in order.
    """

    total_usd: Decimal = Decimal(0)
    calls: int = 0
    unpriced_calls: int = 0
    unrecorded_calls: int = 0
    since: datetime | None = None
    groups: list[CostGroup] = Field(default_factory=list)

    @field_serializer("total_usd", when_used="json")
    def _total(self, usd: Decimal) -> str:
        return _plain(usd)


class DayCosts(AnswerModel):
    """One day's costs, by what was asked for."""

    day: date
    groups: list[CostGroup]


class BudgetState(AnswerModel):
    """A budget in the window that runs now.

    Attributes:
        budget: Its scope and window, in words.
        usd: How much may be spent.
        spent_usd: What has been settled.
        reserved_usd: What is set aside for attempts that are under way.
        resets_at: When the window ends; None: never.
        on_exceeded: What happens when it is spent.
    """

    budget: str
    usd: Decimal
    spent_usd: Decimal
    reserved_usd: Decimal
    resets_at: datetime | None
    on_exceeded: Literal["block", "local", "warn"]

    @field_serializer("usd", "spent_usd", "reserved_usd", when_used="json")
    def _money(self, usd: Decimal) -> str:
        return _plain(usd)
