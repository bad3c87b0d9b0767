"""When is a machine of one's own cheaper than an API, what fits on it, and how fast is it?

Usable on its own: nothing here opens a connection or needs a client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_client.crossover.assumptions import Assumption
    from llama_client.crossover.evaluation import Crossover, evaluate
    from llama_client.crossover.fitting.fit import Fit, fit
    from llama_client.crossover.scenario import ApiPrice, Purchase, Scenario, SelfHost, Traffic
    from llama_client.crossover.tables import Architecture, Gpu, GpuPrice, Tables
    from llama_client.crossover.throughput.points import MeasuredPoint
    from llama_client.crossover.throughput.rates import decode_tpot_ms, max_throughput

_PLACES = {
    "ApiPrice": "scenario",
    "Architecture": "tables",
    "Assumption": "assumptions",
    "Crossover": "evaluation",
    "Fit": "fitting.fit",
    "Gpu": "tables",
    "GpuPrice": "tables",
    "MeasuredPoint": "throughput.points",
    "Purchase": "scenario",
    "Scenario": "scenario",
    "SelfHost": "scenario",
    "Tables": "tables",
    "Traffic": "scenario",
    "decode_tpot_ms": "throughput.rates",
    "evaluate": "evaluation",
    "fit": "fitting.fit",
    "max_throughput": "throughput.rates",
}

__all__ = [
    "ApiPrice",
    "Architecture",
    "Assumption",
    "Crossover",
    "Fit",
    "Gpu",
    "GpuPrice",
    "MeasuredPoint",
    "Purchase",
    "Scenario",
    "SelfHost",
    "Tables",
    "Traffic",
    "decode_tpot_ms",
    "evaluate",
    "fit",
    "max_throughput",
]


def __getattr__(name: str) -> object:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{place}"), name)
