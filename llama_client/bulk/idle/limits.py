"""The limits of a job that also has rows for idle hours: none of these begins outside them. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_client.bulk.idle.places import is_idle
from llama_client.bulk.limits import AdaptiveLimits

if TYPE_CHECKING:
    from llama_client.bulk.contracts import Limits
    from llama_client.bulk.idle.shift import IdleShift
    from llama_client.bulk.limits.flights import Flight
    from llama_client.errors import LlamaClientError
    from llama_client.types.completion import ChatCompletion


class IdleLimits:
    """Limits with closing hours.

    Args:
        others: For all other rows.
        shift: The rows that wait.
        most: How many may be in flight at a place, by its name.
        otherwise: How many where that is unknown.
    """

    def __init__(self, others: Limits, shift: IdleShift, most: dict[str, int], otherwise: int) -> None:
        self._others = others
        self._shift = shift
        self._otherwise = AdaptiveLimits(otherwise)
        self._idle = {place: AdaptiveLimits(min(number, otherwise)) for place, number in most.items()}

    def wait_s(self, target: str, now: float) -> float | None:
        if is_idle(target):
            closed_s = self._shift.closed_s()
            if closed_s > 0:
                return closed_s
        return self._of(target).wait_s(target, now)

    def started(self, target: str, now: float) -> Flight:
        return self._of(target).started(target, now)

    def ended(self, flight: Flight, now: float, outcome: ChatCompletion | LlamaClientError) -> None:
        self._of(flight.target).ended(flight, now, outcome)

    def abandoned(self, flight: Flight) -> None:
        self._of(flight.target).abandoned(flight)

    def _of(self, target: str) -> Limits:
        if not is_idle(target):
            return self._others
        return self._idle.get(target, self._otherwise)
