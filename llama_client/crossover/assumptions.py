"""The assumptions of a scenario: each figure with its source, age and bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from llama_client.crossover.scenario import ApiPrice, Scenario
from llama_client.crossover.tables import Architecture, Gpu, data_of

# A price or a rent that is older may have changed, and is flagged.
STALE_AFTER_DAYS = 60
# The 10th and the 90th percentile of a normal distribution lie this many standard deviations from its mean.
TENTH = 1.2816
Distribution = Literal["none", "quotes", "lognormal", "triangular"]


@dataclass(frozen=True, slots=True)
class Assumption:
    """One figure of a scenario.

    Attributes:
        name: The field, as in `peak_to_mean`.
        value: The figure, or a word.
        unit: As in `tokens/s`; empty: a plain number.
        source: Where it comes from.
        as_of: The day of the source; None: given by hand, or undated.
        is_given: It was given by the user.
        is_judgement: It was not measured; reports list it first.
        low: The lower bound; None: it does not vary.
        high: The upper bound; None: it does not vary.
        spread: The distribution between these.
        quotes: All quotes of which `value` is the median.
        rung: Of a rate: `measured`, `published` or `estimated`.
        unverified: What could not be checked.
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
    spread: Distribution = "none"
    quotes: tuple[float, ...] = ()
    rung: str | None = None
    unverified: str | None = None

    def age_days(self, today: date) -> int | None:
        """The age in days; None: undated.

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
    found: dict[str, Any] = data_of("defaults.toml")[row]
    usual = {"name": name or row, "unit": unit, "spread": "triangular" if "low" in found else "none"}
    return Assumption(**(usual | found | {"value": float(found["value"])}))


def share_of_tdp(name: str, row: str, tdp_w: float) -> Assumption:
    """A GPU's power in watts, as a share of what its maker names: a row of the defaults."""
    share = default(row)
    part = float(share.value)
    source = f"{part:g} of {tdp_w:g} W: {share.source}"
    return Assumption(name, tdp_w * part, "W", source, share.as_of, is_judgement=share.is_judgement)


class AssumptionLog:
    def __init__(self) -> None:
        self._made: list[Assumption] = []

    def add(self, assumption: Assumption) -> float:
        self._made.append(assumption)
        return float(assumption.value)

    def given(self, name: str, value: float, *, unit: str = "", source: str = "given") -> float:
        return self.add(Assumption(name, value, unit, source, is_given=True))

    def figure(
        self, name: str, value: float | None, source: str = "given", *, unit: str = "", row: str | None = None
    ) -> float:
        """The given figure, else the one of a row of the defaults."""
        if value is not None:
            return self.given(name, value, unit=unit, source=source)
        return self.add(default(row or name, name=name, unit=unit))

    def add_rows(self, model: Architecture | None, gpu: Gpu | None) -> None:
        """Adds the rows of the tables that the scenario rests on."""
        if model is not None:
            size = f"{model.all_parameters / 1e9:.3g} B parameters"
            row = Assumption("model", model.name, size, model.source, model.checked_on, unverified=model.unverified)
            self._made.append(row)
        if gpu is not None:
            size = f"{gpu.memory_gib:g} GiB, {gpu.bandwidth_gb_per_s:g} GB/s"
            self._made.append(Assumption("gpu", gpu.name, size, gpu.source, gpu.checked_on, unverified=gpu.unverified))

    def add_unusual(self, scenario: Scenario) -> None:
        """Adds the given figures that differ from their usual 0, or 1 replica."""
        traffic, host = scenario.traffic, scenario.self_host
        for owner, names in (
            (traffic, ("batch_share", "retry_share")),
            (host, ("storage_usd_per_month", "spot_overhead", "powered_hours_per_month", "escalated_share")),
        ):
            for name in names:
                if value := getattr(owner, name):
                    self.given(name, value)
        if host.min_replicas > 1:
            self.given("min_replicas", host.min_replicas)

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
        return (*sorted(self._made, key=lambda each: not each.is_judgement), *prices)
