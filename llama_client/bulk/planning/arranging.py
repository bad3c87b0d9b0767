"""Where the rows of a run go: plans it, hands batches in, and says which rows wait for idle hours. All of it blocks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llama_client.bulk.asking import Asker, SplitAsker
from llama_client.bulk.cancelling import until_left
from llama_client.bulk.idle.limits import IdleLimits
from llama_client.bulk.idle.places import place_of
from llama_client.bulk.idle.shift import IdleShift, slack_s
from llama_client.bulk.limits import AdaptiveLimits
from llama_client.bulk.pending import PendingRow
from llama_client.bulk.planning.deadlines import deadline_at, seconds_left
from llama_client.bulk.planning.planner import ASSUMED_ROWS_PER_S
from llama_client.bulk.planning.preparing import cancelling_at, chosen, hand_in, rows_left
from llama_client.bulk.planning.speeds import Speeds
from llama_client.errors import InvalidRequestError, LlamaClientError

if TYPE_CHECKING:
    from pathlib import Path

    from llama_client.bulk.contracts import Journal
    from llama_client.bulk.idle.hours import IdleHours
    from llama_client.bulk.idle.targets import LocalTargets
    from llama_client.bulk.inputs.rows_input import RowsInput
    from llama_client.bulk.planning.kept_answers import KeptAnswers
    from llama_client.bulk.planning.measure import Measure
    from llama_client.bulk.planning.planner import Choice
    from llama_client.bulk.planning.pricing import Pricing
    from llama_client.bulk.planning.purse import Purse
    from llama_client.bulk.planning.terms import Terms
    from llama_client.bulk.planning.venues import BatchWork
    from llama_client.bulk.receipt import Tally
    from llama_client.bulk.rows import Row
    from llama_client.chat import CallContext

logger = logging.getLogger("llama_client.bulk")


@dataclass(frozen=True, slots=True, eq=False)
class IdleWork:
    """What a run has for rows that wait for idle hours.

    Attributes:
        shift: The rows.
        limits: Those of all rows.
        asker: Asks all rows.
        pending: Makes what the dispatcher takes of a row that waits.
    """

    shift: IdleShift
    limits: IdleLimits
    asker: SplitAsker
    pending: Callable[[Row], PendingRow]


@dataclass(frozen=True, slots=True, eq=False)
class Arranging:
    """Arranges the rows of a run.

    Args:
        context: The client's.
        source: The rows.
        journal: What was done.
        pricing: Prices rows.
        terms: What the job may cost and take.
        locals_: Tells the targets of this machine.
        purse: The money of the job; None: no limit.
        tally: Measures rates.
        most: The most calls in flight.
        answers: The client's cache; None: it is off.
        is_left: Whether nothing waits for the run any more.
    """

    context: CallContext
    source: RowsInput
    journal: Journal
    pricing: Pricing
    terms: Terms
    locals_: LocalTargets
    purse: Purse | None
    tally: Tally
    most: int
    answers: KeptAnswers | None
    is_left: Callable[[], bool]

    def arranged(self, folder: Path | None, batches: BatchWork | None) -> IdleWork | None:
        """Plans what is left of the job, says so in the log, and starts its batches, those of earlier runs too.

        Args:
            folder: The job's; None: it has none.
            batches: Takes batches; None: the job has no folder to keep them.

        Returns:
            The rows for idle hours; None: there are none.

        Raises:
            InvalidRequestError: Idle hours cannot answer rows that have no other venue.
            JobError: A file cannot be written.
        """
        terms, wall = self.terms, self.context.clock.wall
        require_replayable(self.source, terms)
        deadline = deadline_at(folder, terms.deadline_s, wall())
        idle, rate = None, ASSUMED_ROWS_PER_S
        if terms.are_planned and self.source.is_replayable and (batches is not None or terms.hours is not None):

            def undone() -> Iterator[Row]:
                return until_left(rows_left(self.source, self.journal, batches), self.is_left)

            def left() -> Iterator[Row]:
                return undone() if self.answers is None else self.answers.missing(undone())

            left_s = seconds_left(deadline, wall())
            measure = self.pricing.measure(undone(), self.answers)
            require_local(measure, terms)
            speeds = Speeds(self.context, self.locals_, self.most)
            choice = chosen(self.context, measure, speeds, terms, left_s, has_folder=batches is not None)
            logger.info("%s", choice.plan.explanation)
            idle, rate = self._idle(choice, measure, speeds, deadline, left), choice.rows_per_s
            if batches is not None:
                waits = (lambda row: False) if idle is None else idle.shift.holds
                hand_in(choice, left, waits, self.pricing, batches, self.purse, left_s)
        if batches is not None and batches.has_batches:
            batches.start(cancelling_at(deadline, self.tally, batches.open_rows(), rate))
        return idle

    def _idle(
        self,
        choice: Choice,
        measure: Measure,
        speeds: Speeds,
        deadline: float | None,
        left: Callable[[], Iterator[Row]],
    ) -> IdleWork | None:
        hours, form = self.terms.hours, self.source.answers.form
        if hours is None or not choice.idle:
            return None
        everywhere, at_once = Asker(self._with_default(), form), Asker(self.locals_.at_once, form)
        shift = self._shift(choice, measure, speeds, deadline, left, everywhere, hours)
        local = {key: group.local for key, group in measure.groups.items() if group.local is not None}
        slots = {place_of(each.name): self.locals_.slots(each) for each in local.values()}

        def pending(row: Row) -> PendingRow:
            target = local[shift.key_of(row)].name
            worst = None if self.purse is None else self.pricing.idle_worst_usd(row, target)
            found = PendingRow(row, place_of(target), worst_usd=worst, venue="idle")
            if shift.may_leave:
                found.at_once = at_once.target_of(row), None if self.purse is None else self.pricing.worst_usd(row)
            return found

        most = {place: number for place, number in slots.items() if number is not None}
        limits = IdleLimits(AdaptiveLimits(self.most), shift, most, self.most)
        return IdleWork(shift, limits, SplitAsker(at_once, Asker(self.locals_.idle, form), shift), pending)

    def _with_default(self) -> CallContext:
        """The context with the model of rows that name none, which was looked up when they were measured."""
        try:
            return replace(self.context, model=self.context.model or self.context.default.name())
        except LlamaClientError:
            # There is none, and every row names its own.
            return self.context

    def _shift(
        self,
        choice: Choice,
        measure: Measure,
        speeds: Speeds,
        deadline: float | None,
        left: Callable[[], Iterator[Row]],
        asker: Asker,
        hours: IdleHours,
    ) -> IdleShift:
        def key_of(row: Row) -> tuple[str, ...]:
            return tuple(sorted(asker.targets_of(row)))

        rows = sum(choice.idle.values())
        times = {key: speeds.idle(measure.groups[key]) for key in choice.idle}
        known = [each.row_s * choice.idle[key] for key, each in times.items() if each is not None]
        return IdleShift(
            hours,
            self.context.clock.wall,
            deadline,
            sum(known) / rows if len(known) == len(times) else None,
            slack_s(max((each.call_s for each in times.values() if each is not None), default=0.0)),
            lambda: self.tally.rate_at_once() or choice.rows_per_s,
            "now" in self.terms.permitted,
            _begins(choice, measure, left, key_of),
            key_of,
            rows,
        )


def require_replayable(source: RowsInput, terms: Terms) -> None:
    """Raises `InvalidRequestError` where rows should wait, and can be read once only."""
    if terms.hours is not None and not source.is_replayable:
        raise InvalidRequestError(
            f"idle: {source.name} gives its rows once, and which of them wait is planned before; give a list or a file",
            param="idle",
        )


def require_local(measure: Measure, terms: Terms) -> None:
    """Raises `InvalidRequestError` where rows may wait for idle hours alone, and none can answer them."""
    if set(terms.permitted) != {"idle"}:
        return
    for group in measure.groups.values():
        if group.idle.rows < group.now.rows:
            raise InvalidRequestError(
                f"venues: idle alone is permitted, and no model of this machine can take all rows for {group.name}; "
                "name a GGUF model, or one of a server on loopback, or permit 'now' too",
                param="venues",
            )


def _begins(
    choice: Choice, measure: Measure, left: Callable[[], Iterator[Row]], key_of: Callable[[Row], tuple[str, ...]]
) -> dict[tuple[str, ...], int]:
    """From which position on the rows of a group wait: the last ones do, so that the others are read first."""
    others = {key: measure.groups[key].now.rows - rows for key, rows in choice.idle.items()}
    begins = {key: 0 for key, rows in others.items() if rows <= 0}
    if len(begins) == len(others):
        return begins
    for row in left():
        key = key_of(row)
        if key not in others or key in begins:
            continue
        if others[key] == 0:
            begins[key] = row.position
            if len(begins) == len(others):
                break
        others[key] -= 1
    return begins
