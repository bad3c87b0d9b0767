"""Money as whole pico-dollars, and days and budget windows in the user's time zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from functools import reduce, wraps
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar

if TYPE_CHECKING:
    from llama_client.config.tables import Window

P = ParamSpec("P")
R = TypeVar("R")

PICO_PER_USD = 10**12
# Integers of the databases have 64 bits; two of these may be added.
MAX_PICO = 2**62 - 1
_PICO = Decimal(1).scaleb(-12)
_MILLION = Decimal(1_000_000)
# The largest amounts have 7 digits before the point and 12 after; a product with tokens has twice as many.
_CONTEXT = Context(prec=60, rounding=ROUND_HALF_EVEN, traps=[DivisionByZero, InvalidOperation, Overflow])


def exactly(function: Callable[P, R]) -> Callable[P, R]:
    """Runs a function with enough digits, whatever decimal context the program has set."""

    @wraps(function)
    def exact_function(*args: P.args, **kwargs: P.kwargs) -> R:
        with localcontext(_CONTEXT):
            return function(*args, **kwargs)

    return exact_function


def exact(usd: Decimal) -> Decimal:
    """The amount in whole pico-dollars. A price per million tokens with up to six decimals loses nothing."""
    exponent = usd.as_tuple().exponent
    return usd if isinstance(exponent, int) and exponent >= -12 else usd.quantize(_PICO, context=_CONTEXT)


def per_million(number: float, usd_per_million: Decimal) -> Decimal:
    return exact(_CONTEXT.divide(_CONTEXT.multiply(Decimal(number), usd_per_million), _MILLION))


def added(*amounts: Decimal) -> Decimal:
    return reduce(_CONTEXT.add, amounts)


def to_pico(usd: Decimal) -> int:
    scaled = usd.scaleb(12, _CONTEXT)
    whole = int(scaled)
    # Nearly always it is an integer already.
    return whole if scaled == whole else int(scaled.to_integral_value(ROUND_HALF_EVEN, _CONTEXT))


def from_pico(pico: int) -> Decimal:
    """Pico-dollars as dollars, without trailing zeros."""
    usd = Decimal(pico).scaleb(-12, _CONTEXT)
    whole = usd.to_integral_value()
    return whole if usd == whole else usd.normalize(_CONTEXT)


def shown(usd: Decimal) -> str:
    """Dollars for people: `$0.0035`, never with an exponent."""
    text = f"{usd:f}"
    whole, _, decimals = text.partition(".")
    return f"${whole}.{decimals.rstrip('0').ljust(2, '0')}"


_HOUR_S = 3600
# The windows that begin at a midnight of the user's time zone.
CALENDAR_WINDOWS: tuple[Window, ...] = ("day", "month")


class Span(NamedTuple):
    """A half-open interval in seconds since the Unix epoch; end None: unbounded."""

    start: int
    end: int | None

    @property
    def ends_at(self) -> datetime | None:
        return None if self.end is None else datetime.fromtimestamp(self.end, tz=UTC)


class Calendar:
    def __init__(self, zone: str) -> None:
        from zoneinfo import ZoneInfo

        self.zone: tzinfo = UTC if zone == "UTC" else ZoneInfo(zone)
        # A cache of one: each call needs its day, and nearly all have the same.
        self.known = (0, 0, date.min)

    def day(self, at: float) -> date:
        start, end, day = self.known
        if not start <= at < end:
            day = datetime.fromtimestamp(at, tz=self.zone).date()
            self.known = (self.start_of(day), self.start_of(day + timedelta(days=1)), day)
        return day

    def span(self, window: Window, at: float) -> Span:
        """The window that contains a moment. Hours are those of UTC: local hours may occur twice a day."""
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

    def start_of(self, day: date) -> int:
        return int(datetime(day.year, day.month, day.day, tzinfo=self.zone).timestamp())

    def _of_day(self, day: date) -> Span:
        return Span(self.start_of(day), self.start_of(day + timedelta(days=1)))


def windows_differ(other_start: int, calendar: Calendar) -> str:
    """What to say where another time zone has begun a budget anew."""
    start = datetime.fromtimestamp(other_start, tz=UTC)
    return (
        f"the ledger has a window of it that begins at {start:%Y-%m-%d %H:%M} UTC, which is not midnight in this "
        f"program's time zone (timezone = '{calendar.zone}'); the programs of each time zone may spend all of it"
    )
