"""The requests of a job at one target, in the order in which they started. No I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Flight:
    """One request at a target.

    Attributes:
        target: Where.
        started_at: When.
        number: How many had started there before, and itself.
        ahead: How many others were in flight when it started, without those that were refused since.
        is_refused: Whether the target refused it; None: it is in flight.
        era: Of a refused one: how many waits after refusals there had been before.
    """

    target: str
    started_at: float
    number: int
    ahead: int
    is_refused: bool | None = None
    era: int = 0
