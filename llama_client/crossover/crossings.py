"""The volumes at which a staircase (self-hosting) lies below a line (an API): exact, without a solver."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Interval = tuple[float, float | None]
# Listed at most: where a full replica costs almost what the API does, the winner changes millions of times.
MAX_INTERVALS = 2_000
# Beyond any fleet, and floats still count exactly.
MAX_REPLICAS = 2**52


@dataclass(frozen=True, slots=True)
class Staircase:
    """The machines' cost a month: the same up to the volume that fills them, beside what each token adds."""

    tokens_per_day_per_replica: float
    usd_per_replica: float
    fixed_usd: float = 0.0  # at any volume
    usd_per_daily_token: float = 0.0  # beside the steps
    min_replicas: int = 1
    spare: int = 0
    usd_per_block: float = 0.0  # of what several replicas share, such as a bought computer
    replicas_per_block: int = 1

    @property
    def usd_per_full_replica(self) -> float:
        """With its part of what full blocks share."""
        return self.usd_per_replica + self.usd_per_block / self.replicas_per_block

    @property
    def usd_per_full_daily_token(self) -> float:
        """The cost a month of one more token a day where all replicas are full: without staff and disks."""
        return self.usd_per_full_replica / self.tokens_per_day_per_replica + self.usd_per_daily_token

    def needed(self, tokens_per_day: float) -> int:
        """Without the spare ones."""
        count = math.ceil(tokens_per_day / self.tokens_per_day_per_replica)
        # A volume that fills them exactly must not take one more because a quotient was rounded up.
        full = self.edge(count - 1) >= tokens_per_day
        return max(self.min_replicas, count - full)

    def replicas(self, tokens_per_day: float) -> int:
        """With the spare ones: all that are paid for."""
        return self.needed(tokens_per_day) + self.spare

    def usd(self, tokens_per_day: float) -> float:
        return self.step_usd(self.needed(tokens_per_day)) + self.usd_per_daily_token * tokens_per_day

    def step_usd(self, needed: int) -> float:
        count = needed + self.spare
        return self.fixed_usd + self.usd_per_replica * count + self.usd_per_block * self.blocks(count)

    def blocks(self, count: int) -> int:
        """The blocks that a number of replicas fills, the last one perhaps in part."""
        return -(-count // self.replicas_per_block)

    def edge(self, needed: int) -> float:
        """The volume that fills a number of replicas."""
        return needed * self.tokens_per_day_per_replica


@dataclass(frozen=True, slots=True)
class Line:
    """An API's cost a month, by volume."""

    usd_per_daily_token: float
    fixed_usd: float = 0.0

    def usd(self, tokens_per_day: float) -> float:
        return self.fixed_usd + self.usd_per_daily_token * tokens_per_day


@dataclass(frozen=True, slots=True)
class Crossings:
    """The volumes at which the staircase is below the cheapest line."""

    intervals: list[Interval]
    is_complete: bool

    @property
    def first(self) -> float | None:
        """The lowest volume above which the staircase is below; None: nowhere."""
        return self.intervals[0][0] if self.intervals else None

    @property
    def permanent(self) -> float | None:
        """The volume above which it stays below; None: it never does for good."""
        return self.intervals[-1][0] if self.intervals and self.intervals[-1][1] is None else None

    @property
    def flips(self) -> int | None:
        """How often the winner changes as the volume grows from 0; None: too often to be listed."""
        if not self.is_complete:
            return None
        return sum((low > 0) + (high is not None) for low, high in self.intervals)


def crossings(stairs: Staircase, lines: Sequence[Line]) -> Crossings:
    """The volumes at which the staircase lies below every line."""
    # Within one step and one line the answer is an interval in closed form; the whole is their union.
    found: list[Interval] = []
    is_complete = True
    for line, low, high in _cheapest(lines):
        wins, is_all = _wins(stairs, line, low, high, room=MAX_INTERVALS - len(found))
        is_complete = is_complete and is_all
        for start, end in wins:
            if found and found[-1][1] == start:
                found[-1] = (found[-1][0], end)
            else:
                found.append((start, end))
    return Crossings(found, is_complete)


def is_ever_below(stairs: Staircase, lines: Sequence[Line]) -> bool:
    """Whether the staircase lies below every line anywhere; much faster than all the intervals."""
    # All steps that may be below are so, except perhaps the first two: their bound is taken wide. Where replicas share
    # blocks, steps below and above alternate in between, and those at the ends of blocks tell.
    return any(
        _wins(stairs, line, low, high, room=4)[0]
        or any(_win_on(stairs, line, step, low, high) for step in _telling(stairs, low, high))
        for line, low, high in _cheapest(lines)
    )


def _cheapest(lines: Sequence[Line]) -> list[tuple[Line, float, float]]:
    """The lower envelope of the lines: each of its lines, from one volume to another."""
    pieces: list[tuple[Line, float, float]] = []
    at = 0.0
    current = min(lines, key=lambda line: (line.fixed_usd, line.usd_per_daily_token), default=None)
    while current is not None:
        meets = [
            ((other.fixed_usd - current.fixed_usd) / (current.usd_per_daily_token - other.usd_per_daily_token), other)
            for other in lines
            if other.usd_per_daily_token < current.usd_per_daily_token
        ]
        if not meets:
            return [*pieces, (current, at, math.inf)]
        # Of those that meet it at the same volume, the flattest continues.
        where, following = min(meets, key=lambda meet: (meet[0], meet[1].usd_per_daily_token))
        if where > at:
            pieces.append((current, at, where))
            at = where
        current = following
    return pieces


def _telling(stairs: Staircase, low: float, high: float) -> set[int]:
    """The steps between two volumes of which one is below a line if any is: gains are linear within and over blocks."""
    if not stairs.usd_per_block:
        return set()
    steps, size = _steps(stairs, low, high), stairs.replicas_per_block
    if not steps:
        return set()
    # The outermost steps may be cut by the volumes; between them, the ends of the outermost blocks.
    first, last = min(steps[0] + 1, steps[-1]), max(steps[0], steps[-1] - 1)
    ends = {stairs.blocks(step + stairs.spare) * size - stairs.spare for step in (first, last)}
    around = {end + off for end in ends for off in (0, 1, -size, 1 - size)}
    return {steps[0], steps[-1], first, last, *(step for step in around if first <= step <= last)}


def _steps(stairs: Staircase, low: float, high: float) -> range:
    """The steps between two volumes."""
    size, lowest = stairs.tokens_per_day_per_replica, stairs.min_replicas
    return range(max(lowest, _floor(low / size) + 1), max(lowest, _ceil(high / size)) + 1)


def _wins(stairs: Staircase, line: Line, low: float, high: float, *, room: int) -> tuple[list[Interval], bool]:
    """The intervals between two volumes at which the staircase is below a line, and whether these are all."""
    some, whole = _winning_steps(stairs, line)
    within = _steps(stairs, low, high)
    some, whole = _both(some, within), _both(whole, within)
    if not whole:
        whole = range(some.stop, some.stop)
    wins: list[Interval] = []
    left_out = 0
    for steps in (range(some.start, whole.start), whole, range(whole.stop, some.stop)):
        if steps is whole and whole:
            end = high if whole.stop == within.stop else stairs.edge(whole.stop - 1)
            wins.append((max(low, stairs.edge(whole.start - 1)), None if math.isinf(end) else end))
        elif steps:
            left_out += max(0, len(steps) - room)
            wins += (win for win in (_win_on(stairs, line, n, low, high) for n in steps[: max(0, room)]) if win)
    return wins, left_out == 0


def _winning_steps(stairs: Staircase, line: Line) -> tuple[range, range]:
    """The steps on which the staircase may be below the line somewhere, and those on which it is below throughout."""
    # Step n reaches from n - 1 to n times a replica's volume and costs n x usd + rest more than the line's fixed part:
    # it is below somewhere where n x gain > rest, and throughout where n x gain >= rest + slope x size. Because of
    # rounding, the first bound is a step wide, the second a step narrow. The lowest begins at 0: it is never whole.
    # A block that is not full costs up to `unused` more than its replicas' part of it: the first bound leaves that out.
    size, usd, lowest = stairs.tokens_per_day_per_replica, stairs.usd_per_full_replica, stairs.min_replicas
    slope = line.usd_per_daily_token - stairs.usd_per_daily_token
    rest = stairs.fixed_usd + usd * stairs.spare - line.fixed_usd
    unused = stairs.usd_per_block * (1 - 1 / stairs.replicas_per_block)
    gain = slope * size - usd  # what a further full replica saves against the API
    every, none = range(lowest, MAX_REPLICAS + 1), range(0)
    if gain > 0:
        some = range(_floor(rest / gain), every.stop)
        return some, range(max(lowest + 1, _ceil((rest + unused + slope * size) / gain) + 1), every.stop)
    if gain < 0:
        some = range(lowest, max(lowest, _ceil((rest + min(0.0, slope) * size) / gain) + 1) + 1)
        return some, range(lowest + 1, _floor((rest + unused + max(0.0, slope) * size) / gain))
    return (every if rest < 0 else none), (range(lowest + 1, every.stop) if rest + unused + usd <= 0 else none)


def _win_on(stairs: Staircase, line: Line, needed: int, low: float, high: float) -> Interval | None:
    """The interval of one step on which the staircase is below the line."""
    start = max(low, stairs.edge(needed - 1) if needed > stairs.min_replicas else 0.0)
    end = min(high, stairs.edge(needed))
    slope = line.usd_per_daily_token - stairs.usd_per_daily_token
    excess = stairs.step_usd(needed) - line.fixed_usd
    if slope > 0:
        start = max(start, excess / slope)
    elif slope < 0:
        end = min(end, excess / slope)
    elif excess >= 0:
        return None
    return (start, end) if start < end else None


def _both(one: range, other: range) -> range:
    return range(max(one.start, other.start), max(min(one.stop, other.stop), max(one.start, other.start)))


def _floor(number: float) -> int:
    return math.floor(max(-1.0, min(number, MAX_REPLICAS)))


def _ceil(number: float) -> int:
    return math.ceil(max(-1.0, min(number, MAX_REPLICAS)))
