"""What a job may cost and take, checked."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import tzinfo
from decimal import Decimal, InvalidOperation

from llama_client.bulk.idle.hours import IdleHours
from llama_client.errors import InvalidRequestError
from llama_client.validation import nearest

VENUES = ("now", "batch", "idle")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a job may cost and take.

    Attributes:
        max_usd: The most, over all runs of the job; None: no limit.
        deadline_s: In how many seconds it should be done; None: no matter.
        venues: Those that are permitted; None: all.
        hours: When this machine is idle; None: never.
    """

    max_usd: Decimal | None = None
    deadline_s: float | None = None
    venues: Collection[str] | None = None
    hours: IdleHours | None = None

    @property
    def are_planned(self) -> bool:
        """Whether anything but asking at once is in question."""
        return self.deadline_s is not None or self.venues is not None or self.hours is not None

    @property
    def permitted(self) -> Collection[str]:
        venues = VENUES if self.venues is None else self.venues
        return venues if self.hours is not None else [each for each in venues if each != "idle"]


def checked_terms(
    max_usd: object, deadline_s: object, venues: object, idle: object = None, zone: tzinfo | None = None
) -> Terms:
    """The arguments of `bulk`.

    Args:
        max_usd: The most that the job may cost.
        deadline_s: In how many seconds it should be done.
        venues: Those that are permitted.
        idle: The idle hours of this machine, in words.
        zone: Their time zone; None: that of the machine.

    Raises:
        InvalidRequestError: One of them is wrong.
    """
    hours = None if idle is None else IdleHours.of(idle, zone)
    terms = Terms(_checked_usd(max_usd), _checked_seconds(deadline_s), _checked_venues(venues), hours)
    if terms.venues is not None and ("idle" in terms.venues) != (hours is not None):
        if hours is None:
            raise InvalidRequestError(
                "venues: 'idle' needs the hours in which this machine is idle: give idle='22:00-06:00' too",
                param="venues",
            )
        raise InvalidRequestError("idle: venues leaves 'idle' out; add it there, or leave out idle", param="idle")
    return terms


def _checked_usd(value: object) -> Decimal | None:
    if value is None:
        return None
    try:
        # A float by its shortest text: 0.1 is meant as 0.1.
        usd = Decimal(str(value)) if isinstance(value, int | float | str | Decimal) and value is not True else None
    except InvalidOperation:
        usd = None
    if usd is None or not usd.is_finite() or usd <= 0:
        raise InvalidRequestError(
            f"max_usd: must be an amount above 0 in US dollars, got {value!r:.60}", param="max_usd"
        )
    return usd


def _checked_seconds(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InvalidRequestError(
            f"deadline_s: must be a number of seconds above 0, such as 6 * 3600, got {value!r:.60}", param="deadline_s"
        )
    return float(value)


def _checked_venues(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = list(value) if isinstance(value, list | tuple | set | frozenset) else []
    for name in names:
        if name not in VENUES:
            near = nearest(str(name), VENUES)
            hint = f"; did you mean {near!r}?" if near else f"; must be of {', '.join(VENUES)}"
            raise InvalidRequestError(f"venues: {name!r:.60} is none{hint}", param="venues")
    if not names:
        raise InvalidRequestError(
            f"venues: must be a list of some of {', '.join(VENUES)}, got {value!r:.60}", param="venues"
        )
    return tuple(names)
