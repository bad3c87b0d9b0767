"""Reports: costs and traffic of the past, and estimates for a call before it is sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from llama_client.types.completion import AnswerModel


class TokenCount(AnswerModel):
    """The number of tokens of a prompt.

    Attributes:
        tokens: The number, or the estimate.
        most_tokens: The upper bound, which budgets use: a token has at least one byte of the text, or of its Unicode
            normal form (NFC or NFKC), as some vocabularies normalise first. Files, videos and sounds, which have no
            known bound, count in it as images do; a budget takes the model's context for them. The same as `tokens`
            where these are exact.
        status: `exact`: by the model's own chat template and tokenizer, for a GGUF model that is loaded; `estimated`:
            from the prompt's bytes, without a tokenizer.
    """

    tokens: int
    most_tokens: int
    status: Literal["exact", "estimated"] = "estimated"


class CostEstimate(AnswerModel):
    """The estimated cost of a call at the first target of its route. Amounts are in US dollars.

    Attributes:
        target: `provider/model`.
        usd: The expected cost; None: the price is unknown.
        most_usd: The worst-case cost, which budgets reserve; None: unknown.
        status: `free`, `estimated` or `unknown`.
        input_tokens: The estimated tokens of the prompt.
        output_tokens: The expected tokens of the answer: the length of recent answers, at most `max_tokens`.
        source: The source of the price.
    """

    target: str
    usd: Decimal | None = None
    most_usd: Decimal | None = None
    status: Literal["free", "estimated", "unknown"] = "unknown"
    input_tokens: int
    output_tokens: int
    source: str | None = None


# The tag of calls that only measure a server: they cost money like all others, but are not part of the traffic.
BENCH_TAG = ("llama_client", "bench")


# In JSON `0.0000375`, never `3.75E-5`.
_Usd = Annotated[Decimal, PlainSerializer(lambda usd: f"{usd:f}", return_type=str, when_used="json")]


def html_table(caption: str, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table for notebooks. All of its text is escaped, as names in it may come from a server."""
    from html import escape

    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class CostGroup(AnswerModel):
    """The attempts of one group.

    Attributes:
        key: The provider, target, route, day or tag value of the group; empty for attempts without one.
        calls: Calls with an attempt in this group.
        input_tokens: Of all prompts, as far as known.
        output_tokens: Of all answers, as far as known.
        usd: The cost in US dollars, as far as known.
        unpriced_calls: Calls with an attempt of unknown cost in this group, which `usd` does not include.
        errors: Attempts that failed or were interrupted.
        cached_calls: Those of the calls that were answered from the cache; they have no tokens and no cost.
        saved_usd: What the answers from the cache had cost when they were made, in US dollars, as far as known.
    """

    key: str
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: _Usd = Decimal(0)
    unpriced_calls: int = 0
    errors: int = 0
    cached_calls: int = 0
    saved_usd: _Usd = Decimal(0)


class CostReport(AnswerModel):
    """The costs since a moment.

    Attributes:
        total_usd: The known costs in US dollars.
        calls: The number of calls.
        unpriced_calls: Those of them with an attempt of unknown cost.
        unrecorded_calls: Calls that were not, or not completely, recorded in the ledger; not counted above.
        cached_calls: Those of the calls that were answered from the cache.
        saved_usd: What the answers from the cache had cost when they were made, as far as known.
        since: The start of the period; None: the first call.
        groups: The costs by group: most expensive first, days in order.
    """

    total_usd: _Usd = Decimal(0)
    calls: int = 0
    unpriced_calls: int = 0
    unrecorded_calls: int = 0
    cached_calls: int = 0
    saved_usd: _Usd = Decimal(0)
    since: datetime | None = None
    groups: list[CostGroup] = Field(default_factory=list)

    def _repr_html_(self) -> str:
        """The groups as a table in a notebook."""
        since = "" if self.since is None else f" since {self.since:%Y-%m-%d %H:%M}"
        unknown = f", {self.unpriced_calls} of them unpriced" if self.unpriced_calls else ""
        lost = f", {self.unrecorded_calls} more not recorded" if self.unrecorded_calls else ""
        names = ("group", "calls", "input tokens", "output tokens", "USD", "unpriced calls", "errors")
        columns = (*names, "from the cache", "saved USD")
        rows = [each.model_dump(mode="json").values() for each in self.groups]
        return html_table(f"${self.total_usd:f} in {self.calls} calls{since}{unknown}{lost}", columns, rows)


class DayCosts(AnswerModel):
    """One day's costs.

    Attributes:
        day: In the configuration's time zone.
        groups: Its costs by group.
    """

    day: date
    groups: list[CostGroup]


class BudgetState(AnswerModel):
    """A budget in its current window. Amounts are in US dollars.

    Attributes:
        budget: Its scope and window, in words.
        usd: The limit.
        spent_usd: Settled costs.
        reserved_usd: Reserved for attempts in flight.
        resets_at: The end of the window; None: never.
        on_exceeded: What happens to calls that do not fit.
    """

    budget: str
    usd: _Usd
    spent_usd: _Usd
    reserved_usd: _Usd
    resets_at: datetime | None
    on_exceeded: Literal["block", "local", "warn"]


class TargetTraffic(AnswerModel):
    """The traffic that one target answered.

    Attributes:
        target: `provider/model`.
        calls: The calls that it answered.
        input_tokens: Of their prompts.
        output_tokens: Of its answers, including reasoning.
    """

    target: str
    calls: int
    input_tokens: int
    output_tokens: int


class TrafficReport(AnswerModel):
    """The answered calls of a period: the load of a machine that would serve them instead.

    The period consists of whole hours in UTC, from the hour of the first call to that of the last, including hours
    without a call, and is at least 24 hours long, so that a burst of an hour does not count as a day of such hours. A
    call belongs to the hour in which it began. All other figures are for this period.

    Attributes:
        calls: The answered calls. Attempts that failed, were interrupted or cancelled do not count.
        since: The start of the search for calls; None: no limit.
        first_call_at: The start of the first call; None: no calls.
        last_call_at: The start of the last call.
        days: The period's length in days, at least 1; None: no calls.
        tokens_per_day: Input and output tokens together; None: no calls.
        input_tokens: Of all prompts, including cached ones.
        output_tokens: Of all answers, including reasoning.
        cached_tokens: The cached tokens of the prompts; None: no provider reported them.
        input_share: Input tokens / all tokens, 0 to 1; None: no tokens.
        output_share: Output tokens / all tokens, 0 to 1.
        cached_share: Cached tokens / input tokens of the calls whose provider reports them, 0 to 1; None: none does.
        mean_input_tokens: Per call; None: no calls.
        mean_output_tokens: Per call.
        peak_to_mean: The tokens of the busiest hour / the tokens of the mean hour, at least 1; None: no tokens. With
            few calls it reflects chance more than load.
        hourly_tokens: Input and output tokens of each hour of the period, in order; 0 for hours without a call.
        hourly_output_tokens: The output tokens only.
        targets: The traffic by target, most tokens first.
        estimated_calls: Calls without reported tokens, which are estimated from the bytes.
        older_calls: Answered calls more than 400 days ago, which no other figure includes.
        unrecorded_calls: Calls that were not, or not completely, recorded in the ledger; no other figure includes them.
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
