"""How fast a target has answered, by the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select

from llama_client.costs.database import attempts, labels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection

_US = 1_000_000
# The latest ones: a model may have moved to another machine since.
_CALLS = 1_000
_DAYS_US = 30 * 86_400 * _US
# Fewer say little.
_LEAST_CALLS = 3


class MeasuredRate(NamedTuple):
    """Of answered calls.

    Attributes:
        calls: How many.
        input_tokens: Of all their prompts.
        output_tokens: Of all their answers.
        busy_s: For how long at least one of them was in flight.
        calls_s: The sum of their lengths.
    """

    calls: int
    input_tokens: int
    output_tokens: int
    busy_s: float
    calls_s: float


def measured_rate(connection: Connection, target: str, now: float) -> MeasuredRate | None:
    """The rate of the latest calls of a target, those of `llama-client bench` among them; None: there are too few.

    Args:
        connection: To the ledger.
        target: `provider/model`.
        now: Unix time.
    """
    row = attempts.c
    own = select(labels.c.id).where(labels.c.target == target)
    query = (
        select(row.at_us, row.latency_us, row.input_tokens, row.output_tokens)
        .where(row.label_id.in_(own), row.at_us >= round(now * _US) - _DAYS_US, row.outcome == "ok")
        .order_by(row.at_us.desc())
        .limit(_CALLS)
    )
    calls = [each for each in connection.execute(query) if each.latency_us and each.output_tokens is not None]
    if len(calls) < _LEAST_CALLS:
        return None
    return MeasuredRate(
        len(calls),
        sum(each.input_tokens or 0 for each in calls),
        sum(each.output_tokens for each in calls),
        _busy_us((each.at_us, each.at_us + each.latency_us) for each in calls) / _US,
        sum(each.latency_us for each in calls) / _US,
    )


def _busy_us(spans: Iterable[tuple[int, int]]) -> int:
    """How long the spans last together, those that overlap counted once."""
    total, until = 0, 0
    for begin, end in sorted(spans):
        total += max(end - max(begin, until), 0)
        until = max(until, end)
    return total
