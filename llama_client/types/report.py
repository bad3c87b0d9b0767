"""Reports: what was spent, and what a call may cost before it is sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from pydantic import Field, field_serializer

from llama_client.types.completion import AnswerModel


class TokenCount(AnswerModel):
    """How many tokens a prompt has.

    Attributes:
        tokens: Probably.
        most_tokens: At the very most, which is what budgets count with: a token has a byte or more.
        status: `estimated`: by its bytes. Nobody's tokenizer is asked.
    """

    tokens: int
    most_tokens: int
    status: Literal["estimated"] = "estimated"


class CostEstimate(AnswerModel):
    """What a call would cost with the first target that it would ask.

    Attributes:
        target: Who: `provider/model`.
        usd: Probably; None: no price is known.
        most_usd: At the very most, which is what budgets set aside; None: nobody knows.
        status: `free`, `estimated` or `unknown`.
        input_tokens: Of the prompt, probably.
        output_tokens: Of the answer, probably: as long as answers were of late, and at most `max_tokens`.
        source: Where the price comes from.
    """

    target: str
    usd: Decimal | None = None
    most_usd: Decimal | None = None
    status: Literal["free", "estimated", "unknown"] = "unknown"
    input_tokens: int
    output_tokens: int
    source: str | None = None


# The tag of calls that only measure a server. They are paid for like all others, and are nobody's traffic.
BENCH_TAG = ("llama_client", "bench")


def _plain(usd: Decimal) -> str:
    """JSON for people and programs alike: `0.0000375`, never `3.75E-5`."""
    return f"{usd:f}"


def html_table(caption: str, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table for notebooks. All of its text is escaped, as names in it may come from a server."""
    from html import escape

    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


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

    def _repr_html_(self) -> str:
        """The groups as a table in a notebook."""
        since = "" if self.since is None else f" since {self.since:%Y-%m-%d %H:%M}"
        unknown = f", {self.unpriced_calls} of them unpriced" if self.unpriced_calls else ""
        lost = f", {self.unrecorded_calls} more not recorded" if self.unrecorded_calls else ""
        columns = ("group", "calls", "input tokens", "output tokens", "USD", "unpriced calls", "errors")
        rows = [each.model_dump(mode="json").values() for each in self.groups]
        return html_table(f"${_plain(self.total_usd)} in {self.calls} calls{since}{unknown}{lost}", columns, rows)


class DayCosts(AnswerModel):
    """One day's costs.

    Attributes:
        day: In the configuration's time zone.
        groups: Its costs by what was asked for.
    """

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


class TargetTraffic(AnswerModel):
    """What one target has answered.

    Attributes:
        target: `provider/model`.
        calls: How many calls it answered.
        input_tokens: Of their prompts.
        output_tokens: Of its answers, reasoning included.
    """

    target: str
    calls: int
    input_tokens: int
    output_tokens: int


class TrafficReport(AnswerModel):
    """What a machine that took over the traffic would have to serve: the answered calls of a period.

    The period is made of whole hours (of Coordinated Universal Time): from that of the first call to that of the last,
    hours without a call included, and at least 24 of them, so that a burst of an hour is not taken for a day of such
    hours. A call belongs to the hour in which it began. All that follows is worked out over that period.

    Attributes:
        calls: How many calls were answered in the period. Attempts that failed, broke off or were stopped are left out.
        since: From when on calls were looked at; None: from the beginning.
        first_call_at: When the first of them began; None: there is none.
        last_call_at: When the last of them began.
        days: The period's length in days, at least 1; None: there is no call.
        tokens_per_day: Input and output tokens together; None: there is no call.
        input_tokens: Of all prompts, the cached ones included.
        output_tokens: Of all answers, reasoning included.
        cached_tokens: Of the prompts, those that a cache had; None: no provider told.
        input_share: Input tokens among all tokens, 0 to 1; None: there are no tokens.
        output_share: Output tokens among all tokens, 0 to 1.
        cached_share: Cached tokens among the input tokens of those calls whose provider tells, 0 to 1; None: none does.
        mean_input_tokens: Of a call; None: there is no call.
        mean_output_tokens: Of a call.
        peak_to_mean: The tokens of the busiest hour over those of the mean hour, at least 1; None: there are no tokens.
            With few calls it tells more of chance than of load.
        hourly_tokens: Input and output tokens of each hour of the period, in order; hours without a call are 0.
        hourly_output_tokens: The output tokens alone.
        targets: Who answered, most tokens first.
        estimated_calls: Calls whose tokens nobody counted, so that they are estimated by their bytes.
        older_calls: Answered calls before the last 400 days, which are left out of everything else.
        unrecorded_calls: Calls that could not be written down in time, or not wholly; nothing above counts them.
    """

    calls: int = 0
    since: datetime | None = None
    first_call_at: datetime | None = None
    last_call_at: datetime | None = None
    days: float | None = None
    tokens_per_day: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int | None = None
    input_share: float | None = None
    output_share: float | None = None
    cached_share: float | None = None
    mean_input_tokens: float | None = None
    mean_output_tokens: float | None = None
    peak_to_mean: float | None = None
    hourly_tokens: tuple[int, ...] = ()
    hourly_output_tokens: tuple[int, ...] = ()
    targets: list[TargetTraffic] = Field(default_factory=list)
    estimated_calls: int = 0
    older_calls: int = 0
    unrecorded_calls: int = 0
