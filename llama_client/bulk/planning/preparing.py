"""Plans a run and hands its batches in: rows are read, files are written. All of it blocks."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.bulk.batches.limits import LIMITS, BatchLimits
from llama_client.bulk.planning.planner import ASSUMED_ROWS_PER_S, Choice, choose, rescue_s
from llama_client.costs.money import added
from llama_client.errors import JobError

if TYPE_CHECKING:
    from llama_client.bulk.contracts import Input, Journal
    from llama_client.bulk.planning.pricing import Measure, Pricing
    from llama_client.bulk.planning.purse import Purse
    from llama_client.bulk.planning.terms import Terms
    from llama_client.bulk.planning.venues import BatchWork
    from llama_client.bulk.receipt import Tally
    from llama_client.bulk.rows import Row
    from llama_client.chat import CallContext

logger = logging.getLogger("llama_client.bulk")
_LONGEST_WINDOW_S = 86_400.0


def chosen(
    context: CallContext, measure: Measure, terms: Terms, deadline_s: float | None, *, has_folder: bool
) -> Choice:
    """The choice for rows that were measured."""
    limits: dict[str, BatchLimits] = {}
    for group in measure.groups.values():
        for target in group.targets:
            limit = LIMITS.get(context.providers.kind(target.provider_name))
            if limit is not None:
                limits[target.name] = limit
    return choose(measure, limits, deadline_s=deadline_s, venues=terms.permitted, has_folder=has_folder)


def hand_in(
    context: CallContext,
    source: Input,
    journal: Journal,
    pricing: Pricing,
    batches: BatchWork,
    purse: Purse | None,
    terms: Terms,
    deadline_s: float | None,
) -> None:
    """Plans what is left of a job, says so in the log, and writes the files of its batches."""

    def left() -> Iterator[Row]:
        return (row for row in source.rows() if not (journal.is_done(row) or batches.holds(row)))

    choice = chosen(context, pricing.measure(left()), terms, deadline_s, has_folder=True)
    logger.info("%s", choice.plan.explanation)
    window_s = _LONGEST_WINDOW_S if deadline_s is None else deadline_s
    for target in dict.fromkeys(choice.targets.values()):
        room = None if purse is None else added(purse.left_usd, -batches.worst_open_usd())
        rows = (row for row in left() if choice.targets.get(pricing.targets_of(row)) == target)
        batches.add(target, _affordable(rows, pricing, target, room), window_s=window_s)


def _affordable(rows: Iterator[Row], pricing: Pricing, target: str, room: Decimal | None) -> Iterator[Row]:
    """The rows whose worst cases fit into what is left of the job's money."""
    for row in rows:
        if room is not None:
            worst = pricing.batch_worst_usd(row, target)
            if worst is None or worst > room:
                return
            room = added(room, -worst)
        yield row


def cancelling_at(deadline: float | None, tally: Tally, rows: int) -> Callable[[], float]:
    """When late batches are cancelled, in Unix time, by the rate that is measured by then."""

    def at() -> float:
        if deadline is None:
            return math.inf
        return deadline - rescue_s(rows, tally.rate_at_once() or ASSUMED_ROWS_PER_S)

    return at


def require_known(spent_usd: Decimal | None) -> Decimal:
    """What earlier runs cost.

    Raises:
        JobError: It is unknown.
    """
    if spent_usd is None:
        raise JobError(
            "max_usd: what earlier runs of the job cost is unknown, as a target has no price; set it in [[prices]] "
            "and use another job folder, or leave out max_usd"
        )
    return spent_usd
