"""Days, and the windows of budgets, in the user's time zone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_client.config.accounting import Window

_HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Span:
    """A time from its start until just before its end, in seconds since the Unix epoch; None: without end."""

    start: int
    end: int | None


class Calendar:
    """The user's days.

    Args:
        zone: The name of a time zone.

    Examples:
        >>> calendar = Calendar("Europe/Berlin")
        >>> noon = datetime(2026, 3, 29, 12, tzinfo=UTC).timestamp()
        >>> calendar.day(noon)
        datetime.date(2026, 3, 29)
        >>> span = calendar.span("day", noon)  # that day the clocks are put forward
        >>> (span.end - span.start) / 3600
        23.0
    """

    def __init__(self, zone: str) -> None:
        from zoneinfo import ZoneInfo

        self.zone: tzinfo = UTC if zone == "UTC" else ZoneInfo(zone)
        # Each call asks for its day, and nearly all for the same.
        self._known = (Span(0, 0), date.min)

    def day(self, at: float) -> date:
        """The day of a moment.

        Args:
            at: Seconds since the Unix epoch.
        """
        span, day = self._known
        if not (span.start <= at and (span.end is None or at < span.end)):
            day = datetime.fromtimestamp(at, tz=self.zone).date()
            self._known = (self._of_day(day), day)
        return day

    def span(self, window: Window, at: float) -> Span:
        """The window in which a moment lies.

        Hours begin at the full hour of Coordinated Universal Time, as hours of the clock may come twice.
        """
        match window:
            case "hour":
                start = int(at // _HOUR_S) * _HOUR_S
                return Span(start, start + _HOUR_S)
            case "day":
                return self._of_day(self.day(at))
            case "month":
                first = self.day(at).replace(day=1)
                return Span(self.start_of(first), self.start_of((first + timedelta(days=32)).replace(day=1)))
            case "total":
                return Span(0, None)

    def days(self, since: float, until: float) -> Iterator[tuple[date, Span]]:
        """Each day that has a moment of that time, in order."""
        day, last = self.day(since), self.day(until)
        while day <= last:
            yield day, self._of_day(day)
            day += timedelta(days=1)

    def start_of(self, day: date) -> int:
        """When a day begins."""
        return int(datetime(day.year, day.month, day.day, tzinfo=self.zone).timestamp())

    def _of_day(self, day: date) -> Span:
        return Span(self.start_of(day), self.start_of(day + timedelta(days=1)))
