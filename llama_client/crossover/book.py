"""The assumptions of a scenario, as they are made while it is resolved."""

from __future__ import annotations

from collections.abc import Sequence

from llama_client.crossover.assumptions import Assumption, default, given
from llama_client.crossover.scenario import ApiPrice, Scenario
from llama_client.crossover.tables import Architecture, Gpu


class Book:
    """The assumptions, as they are made.

    Args:
        scenario: What is resolved.
    """

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
