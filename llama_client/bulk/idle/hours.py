"""The hours in which this machine has nothing else to do: windows of the week in local time. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo

from llama_client.errors import InvalidRequestError

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAMED = {"weekdays": (0, 1, 2, 3, 4), "weekends": (5, 6), "daily": (0, 1, 2, 3, 4, 5, 6)}
_WINDOW = re.compile(r"(?:(?P<days>[a-z]+(?:-[a-z]+)?)\s*)?(?:(?P<begin>\d{1,2}:\d{2})\s*-\s*(?P<end>\d{1,2}:\d{2}))?")
_REMEDY = "write '22:00-06:00', or with days: 'mon-fri 22:00-06:00, weekends'"
_MAX_WINDOWS = 64
# No job is planned further ahead.
_HORIZON = timedelta(days=366)
# Closer than this is now: times are floats.
_NOW_S = 1e-3


@dataclass(frozen=True, slots=True)
class _Window:
    """From a minute of some days of the week to another one, which may be of the day after."""

    days: tuple[int, ...]
    begin: int
    end: int

    def on(self, day: date, zone: tzinfo | None) -> tuple[float, float]:
        ends_on = day if self.end > self.begin else day + timedelta(days=1)
        return _moment(day, self.begin, zone), _moment(ends_on, self.end, zone)


@dataclass(frozen=True, slots=True)
class IdleHours:
    """Windows of the week, by the clock on the wall.

    Where the clock is put forward or back, a window is as much shorter or longer. One begins on the day that is named,
    and may end on the next: `fri 22:00-06:00` ends on Saturday.

    Attributes:
        text: As they were stated.
    """

    text: str
    _windows: tuple[_Window, ...]
    _zone: tzinfo | None

    @classmethod
    def of(cls, text: object, zone: tzinfo | None) -> IdleHours:
        """Hours as a user states them.

        Args:
            text: Windows with commas between them: `22:00-06:00`, `mon-fri 20:00-07:00, weekends`.
            zone: The time zone; None: that of this machine.

        Raises:
            InvalidRequestError: It cannot be understood.
        """
        if not isinstance(text, str):
            raise _wrong(text, "must be a text")
        parts = [part.strip().lower() for part in text.split(",")]
        if len(parts) > _MAX_WINDOWS:
            raise _wrong(text, f"must have at most {_MAX_WINDOWS} windows")
        return cls(", ".join(parts), tuple(_window(part, text) for part in parts), zone)

    def opens_in_s(self, at: float) -> float:
        """In how many seconds a window is open; 0: one is.

        Args:
            at: Unix time.
        """
        day = datetime.fromtimestamp(at, tz=self._zone).date() - timedelta(days=1)
        while True:
            coming = [(begin, close) for begin, close in self._of_day(day) if close > at]
            if coming:
                begin = min(begin for begin, _ in coming)
                # A window of the next day begins later.
                return begin - at if begin - at > _NOW_S else 0.0
            day += timedelta(days=1)

    def open_s(self, start: float, end: float) -> float:
        """For how many seconds windows are open between two moments, at most a year apart."""
        total = 0.0
        for begin, close in self._spans(start, end):
            total += min(close, end) - max(begin, start)
        return total

    def worked_until(self, start: float, work_s: float) -> float | None:
        """When so many seconds of work in windows are done; None: not within a year."""
        for begin, close in self._spans(start, start + _HORIZON.total_seconds()):
            length_s = close - max(begin, start)
            if length_s >= work_s:
                return max(begin, start) + work_s
            work_s -= length_s
        return None

    def _spans(self, start: float, end: float) -> Iterator[tuple[float, float]]:
        """When windows are open, of those that close after `start` and open before `end`; none overlaps another."""
        day = datetime.fromtimestamp(start, tz=self._zone).date() - timedelta(days=1)
        last: tuple[float, float] | None = None
        for number in range(_HORIZON.days):
            for begin, close in self._of_day(day + timedelta(days=number)):
                if close <= start:
                    continue
                if begin >= end:
                    if last is not None:
                        yield last
                    return
                if last is not None and begin > last[1]:
                    yield last
                    last = None
                last = (begin, close) if last is None else (last[0], max(last[1], close))
        if last is not None:
            yield last

    def _of_day(self, day: date) -> list[tuple[float, float]]:
        spans = (each.on(day, self._zone) for each in self._windows if day.weekday() in each.days)
        # In the hour that a clock skips, nothing is open.
        return sorted((begin, close) for begin, close in spans if close > begin)


def _window(part: str, text: str) -> _Window:
    found = _WINDOW.fullmatch(part)
    if not part or found is None:
        raise _wrong(text, f"{part!r:.40} is no window")
    days = _NAMED["daily"] if found["days"] is None else _days(found["days"], text)
    if found["begin"] is None:
        return _Window(days, 0, 24 * 60)
    begin, end = _minute(found["begin"], text), _minute(found["end"], text)
    if begin == end:
        raise _wrong(text, f"{part!r:.40} is empty; '00:00-24:00' is the whole day")
    if begin == 24 * 60:
        raise _wrong(text, f"{part!r:.40} begins at 24:00; write 00:00")
    return _Window(days, begin, end)


def _days(text: str, whole: str) -> tuple[int, ...]:
    if text in _NAMED:
        return _NAMED[text]
    first, _, last = text.partition("-")
    if first not in _DAYS or (last or first) not in _DAYS:
        raise _wrong(whole, f"{text!r:.40} are no days of {', '.join(_DAYS)}, weekdays, weekends, daily")
    begin, end = _DAYS.index(first), _DAYS.index(last or first)
    return tuple((begin + number) % 7 for number in range((end - begin) % 7 + 1))


def _minute(text: str, whole: str) -> int:
    hours, _, minutes = text.partition(":")
    minute = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or minute > 24 * 60:
        raise _wrong(whole, f"{text} is no time of a day")
    return minute


def _moment(day: date, minute: int, zone: tzinfo | None) -> float:
    if minute == 24 * 60:
        day, minute = day + timedelta(days=1), 0
    # Without a zone, Python takes that of the machine.
    return datetime.combine(day, time(minute // 60, minute % 60), tzinfo=zone).timestamp()


def _wrong(text: object, why: str) -> InvalidRequestError:
    return InvalidRequestError(f"idle: {why}: {_REMEDY}, got {text!r:.80}", param="idle")
