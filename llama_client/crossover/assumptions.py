"""The assumptions of a scenario: each figure with its source, age and bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any, Literal

from llama_client.crossover.scenario import ApiPrice, Scenario
from llama_client.crossover.tables import Architecture, Gpu

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
    """What is assumed where nobody says otherwise: a row of `defaults.toml`."""
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


class AssumptionLog:
    """The assumptions, as they are made."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._kept: list[Assumption] = []

    def add(self, assumption: Assumption) -> float:
        """Keeps one, and returns its figure."""
        self._kept.append(assumption)
        return float(assumption.value)

    def figure(
        self, name: str, value: float | None, source: str = "given", *, unit: str = "", row: str | None = None
    ) -> float:
        """What was given, or what is assumed by a row of the defaults."""
        if value is not None:
            return self.add(given(name, value, unit=unit, source=source))
        return self.add(default(row or name, name=name, unit=unit))

    def note_rows(self, model: Architecture | None, gpu: Gpu | None) -> None:
        """Which rows of the tables the scenario rests on."""
        if model is not None:
            size = f"{model.all_parameters / 1e9:.3g} B parameters"
            row = Assumption("model", model.name, size, model.source, model.checked_on, unverified=model.unverified)
            self._kept.append(row)
        if gpu is not None:
            size = f"{gpu.memory_gib:g} GiB, {gpu.bandwidth_gb_per_s:g} GB/s"
            self._kept.append(Assumption("gpu", gpu.name, size, gpu.source, gpu.checked_on, unverified=gpu.unverified))

    def note_given(self, traffic: object, host: object) -> None:
        """What else the user said that is not its usual self."""
        for owner, names in (
            (traffic, ("batch_share", "retry_share")),
            (host, ("storage_usd_per_month", "spot_overhead", "powered_hours_per_month", "escalated_share")),
        ):
            for name in names:
                value = getattr(owner, name)
                if value:
                    self.add(given(name, value))
        if self._scenario.self_host.min_replicas > 1:
            self.add(given("min_replicas", self._scenario.self_host.min_replicas))

    def all(self, apis: Sequence[ApiPrice]) -> tuple[Assumption, ...]:
        """Judgement first, prices last."""
        prices = [
            Assumption(
                name=f"api: {api.name}",
                value=f"{api.input_usd_per_mtok:g} in, {api.output_usd_per_mtok:g} out",
                unit="USD per million tokens",
                source=api.source if api.is_same_model else f"{api.source}; another model",
                as_of=api.as_of,
                is_given=api.source == "given",
                unverified=api.unverified,
            )
            for api in apis
        ]
        return (*sorted(self._kept, key=lambda each: not each.is_judgement), *prices)
