"""What a scenario rests on: each figure with where it comes from, how old it is, and within which bounds it may lie."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any, Literal

# A price or a rent that is older may have changed, and is flagged.
STALE_AFTER_DAYS = 60
# So many standard deviations from the middle lie the tenth and the ninetieth of a hundred draws of a normal spread.
TENTH = 1.2816
Spread = Literal["none", "quotes", "lognormal", "triangular"]


@dataclass(frozen=True, slots=True)
class Assumption:
    """One figure of a scenario.

    Attributes:
        name: The field, as in `peak_to_mean`.
        value: The figure, or a word.
        unit: As in `tokens/s`; empty: a plain number.
        source: Where it comes from.
        as_of: The day of that; None: given by hand, or undated.
        is_given: The user said so.
        is_judgement: Nobody measured it; it stands first in a report.
        low: The least that it may be; None: taken as it is.
        high: The most.
        spread: How it lies between these.
        quotes: Where it was looked up, all quotes of which `value` is the median.
        rung: Of a rate: `measured`, `published` or `estimated`.
        unverified: What is in doubt.
    """

    name: str
    value: float | str
    unit: str = ""
    source: str = "given"
    as_of: date | None = None
    is_given: bool = False
    is_judgement: bool = False
    low: float | None = None
    high: float | None = None
    spread: Spread = "none"
    quotes: tuple[float, ...] = ()
    rung: str | None = None
    unverified: str | None = None

    def age_days(self, today: date) -> int | None:
        """How old it is; None: undated.

        Args:
            today: The day of the question.
        """
        return None if self.as_of is None else (today - self.as_of).days

    def is_stale(self, today: date) -> bool:
        """Whether it is older than 60 days.

        Args:
            today: The day of the question.
        """
        age = self.age_days(today)
        return age is not None and age > STALE_AFTER_DAYS


def default(row: str, *, name: str | None = None, unit: str = "") -> Assumption:
    """What is assumed where nobody says otherwise: a row of `defaults.toml`.

    Args:
        row: The row's name.
        name: The field that it stands for; None: of the same name.
        unit: Its unit.
    """
    found = _defaults()[row]
    return Assumption(
        name=name or row,
        value=float(found["value"]),
        unit=unit,
        source=found["source"],
        as_of=found.get("as_of"),
        is_judgement=found.get("is_judgement", False),
        low=found.get("low"),
        high=found.get("high"),
        spread=found.get("spread", "triangular" if "low" in found else "none"),
    )


def given(name: str, value: float | str, *, unit: str = "", source: str = "given") -> Assumption:
    """What the user said."""
    return Assumption(name=name, value=value, unit=unit, source=source, is_given=True)


@cache
def _defaults() -> dict[str, dict[str, Any]]:
    import tomllib
    from importlib import resources

    text = resources.files("llama_client.crossover.data").joinpath("defaults.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
