"""Plans a run and hands its batches in: rows are read, files are written. All of it blocks."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.bulk.batches.limits import LIMITS, BatchLimits
from llama_client.bulk.planning.planner import Choice, choose, rescue_s
from llama_client.bulk.planning.quoting import Setting
from llama_client.costs.money import added
from llama_client.errors import JobError

if TYPE_CHECKING:
    from llama_client.bulk.contracts import Input, Journal
    from llama_client.bulk.planning.measure import Measure
    from llama_client.bulk.planning.pricing import Pricing
    from llama_client.bulk.planning.purse import Purse
    from llama_client.bulk.planning.speeds import Speeds
    from llama_client.bulk.planning.terms import Terms
    from llama_client.bulk.planning.venues import BatchWork
    from llama_client.bulk.receipt import Tally
    from llama_client.bulk.rows import Row
    from llama_client.chat import CallContext

logger = logging.getLogger("llama_client.bulk")
_LONGEST_WINDOW_S = 86_400.0


def chosen(
    context: CallContext, measure: Measure, speeds: Speeds, terms: Terms, deadline_s: float | None, *, has_folder: bool
) -> Choice:
    """The choice for rows that were measured."""
    limits: dict[str, BatchLimits] = {}
    for group in measure.groups.values():
        for target in group.targets:
            limit = LIMITS.get(context.providers.kind(target.provider_name))
            if limit is not None:
                limits[target.name] = limit
    row_times = {key: found for key, group in measure.groups.items() if (found := speeds.idle(group)) is not None}
    setting = Setting(
        limits,
        terms.permitted,
        deadline_s,
        has_folder,
        terms.hours,
        context.clock.wall(),
        {key: speeds.at_once(group) for key, group in measure.groups.items()},
        row_times,
    )
    return choose(measure, setting)


def hand_in(
    choice: Choice,
    left: Callable[[], Iterator[Row]],
    waits: Callable[[Row], bool],
    pricing: Pricing,
    batches: BatchWork,
    purse: Purse | None,
    deadline_s: float | None,
) -> None:
    """Writes the files of the batches that were chosen.

    Args:
        choice: What was chosen.
        left: Reads the rows that are not done.
        waits: Whether a row is for idle hours.
        pricing: Prices rows.
        batches: Takes them.
        purse: The money of the job; None: no limit.
        deadline_s: In how many seconds the job should be done; None: no matter.
    """
    window_s = _LONGEST_WINDOW_S if deadline_s is None else deadline_s
    for target in dict.fromkeys(choice.targets.values()):
        room = None if purse is None else added(purse.left_usd, -batches.worst_open_usd())
        rows = (row for row in left() if choice.targets.get(pricing.targets_of(row)) == target and not waits(row))
        batches.add(target, _affordable(rows, pricing, target, room), window_s=window_s)


def rows_left(source: Input, journal: Journal, batches: BatchWork | None) -> Iterator[Row]:
    """The rows that are neither done nor in a batch."""
    for row in source.rows():
        if not (journal.is_done(row) or (batches is not None and batches.holds(row))):
            yield row


def _affordable(rows: Iterator[Row], pricing: Pricing, target: str, room: Decimal | None) -> Iterator[Row]:
    """The rows whose worst cases fit into what is left of the job's money."""
    for row in rows:
        if room is not None:
            worst = pricing.batch_worst_usd(row, target)
            if worst is None or worst > room:
                return
            room = added(room, -worst)
        yield row


def cancelling_at(deadline: float | None, tally: Tally, rows: int, rows_per_s: float) -> Callable[[], float]:
    """When late batches are cancelled, in Unix time, by the rate that is measured by then.

    Args:
        deadline: In Unix time; None: there is none.
        tally: Has measured.
        rows: How many are in batches.
        rows_per_s: The rate that was expected.
    """

    def at() -> float:
        if deadline is None:
            return math.inf
        return deadline - rescue_s(rows, tally.rate_at_once() or rows_per_s)

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
