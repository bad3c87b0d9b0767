"""When is a machine of one's own cheaper than an API, what fits on it, and how fast is it? No client is needed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_client.crossover.assumptions import Assumption
    from llama_client.crossover.evaluation import Crossover, evaluate
    from llama_client.crossover.fitting.fit import Fit, fit
    from llama_client.crossover.fleets.load import HourlyLoad
    from llama_client.crossover.fleets.parts import FleetPlan
    from llama_client.crossover.fleets.plan import plan_fleet
    from llama_client.crossover.scenario import ApiPrice, FleetPolicy, PriceTier, Purchase, Scenario, SelfHost, Traffic
    from llama_client.crossover.tables import Architecture, Gpu, GpuPrice, Tables
    from llama_client.crossover.throughput.points import MeasuredPoint
    from llama_client.crossover.throughput.rates import decode_tpot_ms, max_throughput

_NAMES = {
    "assumptions": ("Assumption",),
    "evaluation": ("Crossover", "evaluate"),
    "fitting.fit": ("Fit", "fit"),
    "fleets.load": ("HourlyLoad",),
    "fleets.parts": ("FleetPlan",),
    "fleets.plan": ("plan_fleet",),
    "scenario": ("ApiPrice", "FleetPolicy", "PriceTier", "Purchase", "Scenario", "SelfHost", "Traffic"),
    "tables": ("Architecture", "Gpu", "GpuPrice", "Tables"),
    "throughput.points": ("MeasuredPoint",),
    "throughput.rates": ("decode_tpot_ms", "max_throughput"),
}
_PLACES = {name: place for place, names in _NAMES.items() for name in names}

__all__ = [
    "ApiPrice",
    "Architecture",
    "Assumption",
    "Crossover",
    "Fit",
    "FleetPlan",
    "FleetPolicy",
    "Gpu",
    "GpuPrice",
    "HourlyLoad",
    "MeasuredPoint",
    "PriceTier",
    "Purchase",
    "Scenario",
    "SelfHost",
    "Tables",
    "Traffic",
    "decode_tpot_ms",
    "evaluate",
    "fit",
    "max_throughput",
    "plan_fleet",
]


def __getattr__(name: str) -> object:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{place}"), name)
