"""What a report says beside the answer: the quality of both sides, other models that do the same, electricity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llama_client.crossover.alternatives import Alternative, alternatives_note, alternatives_of
from llama_client.crossover.economics import MTOK
from llama_client.crossover.energy import EnergyUse, energy_of
from llama_client.crossover.quality import quality_document, quality_note
from llama_client.crossover.resolve import Resolved
from llama_client.crossover.scenario import ApiPrice

if TYPE_CHECKING:
    from llama_client.crossover.evaluation import Crossover


@dataclass(frozen=True, slots=True)
class LikeForLike:
    """The figures of it at the reference volume, as sentences and as JSON."""

    resolved: Resolved
    api: ApiPrice | None  # the cheapest; None: no API sells the model
    alternatives: tuple[Alternative, ...]
    energy: EnergyUse | None  # None: the power of the GPUs is unknown

    def notes(self) -> Iterator[str]:
        quality = quality_note(self.resolved.model, self.resolved.precision, self.api)
        energy = None if self.energy is None else self.energy.sentence()
        yield from filter(None, (quality, alternatives_note(self.alternatives), energy))

    def as_document(self) -> dict[str, Any]:
        return {
            "quality": quality_document(self.resolved.model, self.resolved.precision, self.api),
            "alternatives": [each.as_document() for each in self.alternatives],
            "energy": None if self.energy is None else self.energy.as_document(),
        }


def like_for_like_of(crossover: Crossover) -> LikeForLike:
    found, at, grid = crossover.resolved, crossover.reference_volume, crossover.scenario.self_host.grid_g_per_kwh
    energy = energy_of(crossover.plan, found.gpu, at, grid_g_per_kwh=grid)
    return LikeForLike(found, crossover.cheapest_api(at), _alternatives(crossover), energy)


def _alternatives(crossover: Crossover) -> tuple[Alternative, ...]:
    """Other models for less than the cheaper of both sides costs at the reference volume."""
    model, plan, at = crossover.resolved.model, crossover.plan, crossover.reference_volume
    if model is None:
        return ()
    costs = [crossover.self_host_usd_per_month(at), crossover.api_usd_per_month(at)]
    now = min(cost for cost in costs if cost is not None) / (at * plan.days_per_month) * MTOK
    return alternatives_of(model.name, plan, below_usd_per_mtok=now, today=crossover.today)
