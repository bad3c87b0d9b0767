"""The tokens of each hour of a day, a week or years, in order: from the ledger, given, or with a given peak."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from llama_client.crossover.scenario import invalid

HOURS_A_DAY, HOURS_A_WEEK, HOURS_A_YEAR = 24, 168, 8_760
MAX_HOURS = 10 * HOURS_A_YEAR
# Above what the largest volume of a traffic has in its busiest hour.
_MOST_TOKENS = 1e24
# The busiest hour of a curve without measured hours.
_BUSIEST_HOUR = 14


@dataclass(frozen=True, slots=True)
class HourlyLoad:
    """The tokens of each hour, input and output together; after the last hour the first one follows again.

    Attributes:
        tokens: The tokens of each hour, in order: ten years at most.
        source: Where they come from.

    Examples:
        >>> load = HourlyLoad.of([0, 0, 3, 1], tokens_per_day=96e6)
        >>> load.tokens
        (0.0, 0.0, 12000000.0, 4000000.0)
        >>> load.peak_to_mean
        3.0
        >>> HourlyLoad.of([1, -2])
        Traceback (most recent call last):
        llama_client.errors.InvalidRequestError: hours[1]: must be a number of tokens from 0 to 1e24, got -2
    """

    tokens: tuple[float, ...]
    source: str = "given"

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(_checked(self.tokens)))

    @classmethod
    def of(cls, hours: Iterable[float], *, tokens_per_day: float | None = None, source: str = "given") -> HourlyLoad:
        """The load of given hours.

        Args:
            hours: The load of each hour, in order: at least one, ten years at most.
            tokens_per_day: The mean volume that they are scaled to; None: they are tokens.
            source: Where they come from.

        Raises:
            InvalidRequestError: An hour is no load, or there are none or too many; the message names the hour.
        """
        tokens = _checked(hours)
        if tokens_per_day is not None:
            if not _is_number(tokens_per_day) or not 0 < tokens_per_day < math.inf:
                raise invalid("tokens_per_day", f"must be a number of tokens above 0, got {tokens_per_day!r}")
            scale = tokens_per_day / HOURS_A_DAY / (math.fsum(tokens) / len(tokens))
            tokens = [each * scale for each in tokens]
        return cls(tuple(tokens), source)

    @classmethod
    def with_peak(cls, peak_to_mean: float, *, tokens_per_day: float) -> HourlyLoad:
        """A curve with one hump whose busiest hour has a given load: a day, or longer for a rare peak.

        The load after the busiest share x of the time is `q (1 - x)^(q - 1)` times the mean, the curve of the mix in
        `economics.py`; q is such that the mean over the busiest hour is the given peak.

        Args:
            peak_to_mean: The busiest hour against the mean one, from 1 to 10,000.
            tokens_per_day: The mean volume.

        Examples:
            >>> load = HourlyLoad.with_peak(2.5, tokens_per_day=24e6)
            >>> len(load.tokens), round(load.peak_to_mean, 6), load.tokens.index(max(load.tokens))
            (24, 2.5, 14)
        """
        if not _is_number(peak_to_mean) or not 1 <= peak_to_mean <= 10_000:
            raise invalid("peak_to_mean", f"must be a number of at least 1 and up to 10000, got {peak_to_mean!r}")
        # Half of the hours at most may be the peak alone: beyond that the period is longer.
        lengths = (HOURS_A_DAY, HOURS_A_WEEK, HOURS_A_YEAR, MAX_HOURS)
        count = next(length for length in lengths if peak_to_mean <= length / 2)
        power = math.log1p(-peak_to_mean / count) / math.log1p(-1 / count)
        edges = [(1 - place / count) ** power for place in range(count + 1)]
        ranked = [count * (left - right) for left, right in pairwise(edges)]
        hours = [0.0] * count
        for rank, load in enumerate(ranked):
            step = (rank + 1) // 2
            hours[(_BUSIEST_HOUR + (step if rank % 2 else -step)) % count] = load
        return cls.of(
            hours, tokens_per_day=tokens_per_day, source=f"a curve with a peak of {peak_to_mean:g} x the mean"
        )

    @property
    def tokens_per_day(self) -> float:
        """The mean volume."""
        return math.fsum(self.tokens) / len(self.tokens) * HOURS_A_DAY

    @property
    def peak_to_mean(self) -> float:
        """The busiest hour against the mean one."""
        return max(self.tokens) * len(self.tokens) / math.fsum(self.tokens)


# A line of a file has so many bytes at most, so that a file of another kind is not read whole.
_MAX_FILE_BYTES = 64 * MAX_HOURS
# A first line of these alone is no heading, but an hour that is written otherwise.
_OF_NUMBERS = frozenset("0123456789.,' ")


def read_hours(path: Path) -> list[float]:
    """The last column of a CSV file, a line an hour; a first line of words is skipped.

    Raises:
        InvalidRequestError: It cannot be read, or a line is no load; the message names the line.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise invalid("hours", f"{path.name} is larger than ten years of hours ({_MAX_FILE_BYTES:,} bytes)")
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise invalid("hours", f"{path.name} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise invalid("hours", f"{path.name} must be a text file with a number of tokens a line") from None
    found: list[float] = []
    for number, line in enumerate(text.splitlines(), 1):
        last = _last_cell(line)
        if not last:
            continue
        try:
            found.append(float(last))
        except ValueError:
            if number == 1 and not set(last) <= _OF_NUMBERS:
                continue
            plain = "; write it plainly, as in 1234567.5" if "," in last else ""
            raise invalid("hours", f"line {number}: must be a number of tokens, got {last[:40]!r}{plain}") from None
        if not 0 <= found[-1] <= _MOST_TOKENS:
            raise invalid("hours", f"line {number}: must be a number of tokens from 0 to 1e24, got {last[:40]!r}")
    if not any(found):
        raise invalid("hours", f"{path.name} must have an hour with a load")
    return found


def _last_cell(line: str) -> str:
    """The last cell of a line that has something in it. What is quoted stays whole: `"1,234"` is not 234."""
    # Where `;` divides, a comma is part of a number.
    delimiter = ";" if ";" in line else ","
    cells = line.split(delimiter)
    if '"' in line:
        import csv

        # Of a cell of more than 128 KiB, the line stays as it is: no number.
        with contextlib.suppress(csv.Error):
            cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
    return next((cell.strip() for cell in reversed(cells) if cell.strip()), "")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked(hours: object) -> list[float]:
    if isinstance(hours, str | bytes) or not isinstance(hours, Iterable):
        raise invalid("hours", f"must be a list of numbers, got a value of type {type(hours).__name__}")
    found: list[float] = []
    for place, hour in enumerate(hours):
        if place == MAX_HOURS:
            raise invalid("hours", f"must be at most {MAX_HOURS:,} hours, which are ten years")
        # Far below the largest float, so that sums of hours stay finite.
        if not (isinstance(hour, int | float) and 0 <= hour <= _MOST_TOKENS) or isinstance(hour, bool):
            shown = repr(hour) if isinstance(hour, int | float) else f"a value of type {type(hour).__name__}"
            wanted = "must be a number of tokens from 0 to 1e24"
            raise invalid(f"hours[{place}]", f"{wanted}, got {shown if len(shown) < 40 else 'a longer number'}")
        found.append(float(hour))
    if not any(found):
        raise invalid("hours", "must have an hour with a load")
    return found


def repeated(tokens: Sequence[float], at_least: int) -> list[float]:
    """The hours so often in a row that they are at least so many."""
    return list(tokens) * max(1, math.ceil(at_least / len(tokens)))
