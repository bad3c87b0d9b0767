"""Electricity and carbon dioxide of machines of one's own, for a million tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llama_client.crossover.assumptions import Assumption, default, share_of_tdp
from llama_client.crossover.economics import MTOK, CostInputs, bought_hardware, staircase
from llama_client.crossover.format import figure, tokens
from llama_client.crossover.tables import Gpu


@dataclass(frozen=True, slots=True)
class EnergyUse:
    """What a million tokens take at a volume: of the machines in use, without what making them took."""

    tokens_per_day: float
    kwh_per_mtok: float
    g_co2_per_mtok: float
    assumptions: tuple[Assumption, ...]

    def sentence(self) -> str:
        told = {each.name: each for each in self.assumptions}
        idle, load, node, pue, grid = (
            figure(float(told[name].value)) for name in ("idle_w", "load_w", "node_factor", "pue", "grid_g_per_kwh")
        )
        a_token = f"{self.kwh_per_mtok:.3g} kWh and {figure(float(f'{self.g_co2_per_mtok:.3g}'))} g of CO2"
        power = f"a GPU takes {idle} W idle and {load} W under load, x {node} for its node, x {pue} for its building"
        return (
            f"Your own machines take {a_token} per million tokens at {tokens(self.tokens_per_day)} a day ({power}; "
            f"{grid} g a kWh: {told['grid_g_per_kwh'].source})."
        )

    def as_document(self) -> dict[str, Any]:
        assumed = {each.name: {"value": each.value, "source": each.source} for each in self.assumptions}
        return {"kwh_per_mtok": self.kwh_per_mtok, "g_co2_per_mtok": self.g_co2_per_mtok, "assumed": assumed}


def energy_of(
    plan: CostInputs, gpu: Gpu | None, tokens_per_day: float, *, grid_g_per_kwh: float | None = None
) -> EnergyUse | None:
    """The electricity of a fleet at a volume, rented or bought; None: the power of its GPUs is unknown.

    Args:
        plan: The fleet. A bought one has its own figures of power; of a rented one they are assumed alike.
        gpu: Its GPU.
        tokens_per_day: The volume, input and output together.
        grid_g_per_kwh: Grams of carbon dioxide for a kWh of electricity; None: assumed.
    """
    power = _power(plan, gpu)
    if power is None:
        return None
    grid = _grid(grid_g_per_kwh)
    idle, load, node, pue = (float(each.value) for each in power)
    replicas = staircase(plan).replicas(tokens_per_day)
    bought = bought_hardware(plan, replicas)
    gpus = replicas * plan.n_gpus if bought is None else bought.gpus
    # Every GPU draws its idle power in all powered hours; load adds to it in proportion to the tokens.
    watts = gpus * idle + plan.n_gpus * (load - idle) * tokens_per_day / plan.full_tokens_per_day
    kwh = watts * node * pue / 1000 * plan.powered_hours_per_month
    per_mtok = kwh / (tokens_per_day * plan.days_per_month) * MTOK
    return EnergyUse(tokens_per_day, per_mtok, per_mtok * float(grid.value), (*power, grid))


def _power(plan: CostInputs, gpu: Gpu | None) -> tuple[Assumption, ...] | None:
    """Watts of an idle and of a busy GPU, and the factors of node and building."""
    owned = plan.owned
    if owned is not None:
        figures = {"idle_w": owned.idle_w, "load_w": owned.load_w, "node_factor": owned.node_factor, "pue": owned.pue}
        return tuple(Assumption(name, value, source="of the purchase") for name, value in figures.items())
    if gpu is None or gpu.tdp_w is None:
        return None
    return (
        *(share_of_tdp(name, row, gpu.tdp_w) for name, row in _SHARES_OF_TDP.items()),
        default("node_factor"),
        default("pue"),
    )


_SHARES_OF_TDP = {"idle_w": "idle_share_of_tdp", "load_w": "load_share_of_tdp"}


def _grid(given: float | None) -> Assumption:
    if given is not None:
        return Assumption("grid_g_per_kwh", given, "g/kWh", is_given=True)
    return default("grid_g_per_kwh", unit="g/kWh")
