"""What a report says beside the answer: the quality of both sides, other models that do the same, electricity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llama_client.crossover.alternatives import Alternative, alternatives_note, alternatives_of
from llama_client.crossover.economics import MTOK
from llama_client.crossover.energy import EnergyUse, energy_of
from llama_client.crossover.quality import quality_document, quality_note

if TYPE_CHECKING:
    from llama_client.crossover.evaluation import Crossover


def like_for_like_notes(crossover: Crossover) -> Iterator[str]:
    found, energy = crossover.resolved, _energy(crossover)
    quality = quality_note(found.model, found.precision, crossover.cheapest_api(crossover.reference_volume))
    others = alternatives_note(_alternatives(crossover))
    yield from filter(None, (quality, others, None if energy is None else energy.sentence()))


def like_for_like_document(crossover: Crossover) -> dict[str, Any]:
    found, energy = crossover.resolved, _energy(crossover)
    api = crossover.cheapest_api(crossover.reference_volume)
    return {
        "quality": quality_document(found.model, found.precision, api),
        "alternatives": [each.as_document() for each in _alternatives(crossover)],
        "energy": None if energy is None else energy.as_document(),
    }


def _alternatives(crossover: Crossover) -> tuple[Alternative, ...]:
    """Other models for less than the cheaper of both sides costs at the reference volume."""
    model, plan, at = crossover.resolved.model, crossover.plan, crossover.reference_volume
    if model is None:
        return ()
    costs = [crossover.self_host_usd_per_month(at), crossover.api_usd_per_month(at)]
    now = min(cost for cost in costs if cost is not None) / (at * plan.days_per_month) * MTOK
    return alternatives_of(model.name, plan, below_usd_per_mtok=now, today=crossover.today)


def _energy(crossover: Crossover) -> EnergyUse | None:
    found, grid = crossover.resolved, crossover.scenario.self_host.grid_g_per_kwh
    return energy_of(crossover.plan, found.gpu, crossover.reference_volume, grid_g_per_kwh=grid)
