"""Crossovers of every kind that a picture must be able to show, each with what it is about as its name."""

from __future__ import annotations

from datetime import date
from functools import cache

from llama_client.crossover.evaluation import Crossover, evaluate
from llama_client.crossover.scenario import ApiPrice, Purchase, Scenario, SelfHost, Traffic

TODAY = date(2026, 11, 23)
EVIL = '<script>alert("x")</script> & $x^2$ \u202eabc ' + "long-" * 40
SEVEN = [
    ("deepinfra", "meta-llama/Llama-3.3-70B-Instruct-Turbo", 0.1, 0.32),
    ("nebius", "meta-llama/Llama-3.3-70B-Instruct", 0.13, 0.4),
    ("novita", "meta-llama/llama-3.3-70b-instruct", 0.135, 0.4),
    ("hyperbolic", "meta-llama/Llama-3.3-70B-Instruct", 0.4, 0.4),
    ("amazon-bedrock", "us.meta.llama3-3-70b-instruct-v1:0", 0.72, 0.72),
    ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo", 0.88, 0.88),
    ("fireworks", "accounts/fireworks/models/llama-v3p3-70b-instruct", 0.9, 0.9),
]


def api(usd: float, *, provider: str = "together", model: str = "llama", fees: float = 0.0) -> ApiPrice:
    """An API with one price for input and output."""
    return ApiPrice(
        input_usd_per_mtok=usd, output_usd_per_mtok=usd, provider=provider, model=model, fees_usd_per_month=fees
    )


def two_h100(usd_per_hour: float = 2.69) -> SelfHost:
    """Two rented H100, of which much is assumed."""
    return SelfHost(n_gpus=2, gpu_usd_per_hour=usd_per_hour, tokens_per_second=4205)


def bought() -> SelfHost:
    """Two bought ones."""
    return SelfHost(n_gpus=2, tokens_per_second=4205, purchase=Purchase(usd_per_gpu=32_000, idle_w=100, load_w=500))


@cache
def crossover(name: str) -> Crossover:
    """The crossover of a kind."""
    scenario, draws = _SCENARIOS[name]
    return evaluate(scenario, draws=draws, today=TODAY)


_SCENARIOS: dict[str, tuple[Scenario, int]] = {
    "never": (
        Scenario(model=None, traffic=Traffic(tokens_per_day=1e9), self_host=two_h100(3.99), apis=[api(0.1)]),
        300,
    ),
    "no-api": (Scenario(model=None, traffic=Traffic(tokens_per_day=3e8), self_host=two_h100(), apis=[]), 300),
    "depends": (
        Scenario(model=None, traffic=Traffic(tokens_per_day=3e8), self_host=two_h100(), apis=[api(0.88)]),
        300,
    ),
    "self-host": (
        Scenario(
            model=None,
            traffic=Traffic(tokens_per_day=3e9, output_share=0.5, peak_to_mean=1.5),
            self_host=SelfHost(gpu_usd_per_hour=2.69, tokens_per_second=15_220, slo_derate=0.8, ops_usd_per_month=0),
            apis=[api(0.18)],
        ),
        300,
    ),
    "purchase": (
        Scenario(model=None, traffic=Traffic(tokens_per_day=4e8), self_host=bought(), apis=[api(0.88)]),
        300,
    ),
    "purchase that never pays": (
        Scenario(model=None, traffic=Traffic(tokens_per_day=2e7), self_host=bought(), apis=[api(0.88)]),
        300,
    ),
    "seven apis": (
        Scenario(
            model=None,
            traffic=Traffic(tokens_per_day=5e8, output_share=0.1),
            self_host=two_h100(),
            apis=[
                ApiPrice(provider=provider, model=model, input_usd_per_mtok=given, output_usd_per_mtok=taken)
                for provider, model, given, taken in SEVEN
            ],
        ),
        300,
    ),
    "evil names": (
        Scenario(
            model=None,
            traffic=Traffic(tokens_per_day=5e8),
            self_host=two_h100(),
            apis=[api(0.5, provider=EVIL, fees=500), api(0, provider="flat", fees=9000)],
        ),
        300,
    ),
    # No volume, nothing uncertain but a spare replica, and a winner that changes with almost every replica.
    "flips": (
        Scenario(
            model=None,
            traffic=Traffic(output_share=0.5, peak_to_mean=2.5),
            self_host=SelfHost(
                n_gpus=2,
                gpu_usd_per_hour=2.69,
                tokens_per_second=4205,
                slo_derate=0.6,
                max_utilisation=0.85,
                ops_usd_per_month=2000,
            ),
            apis=[api(0.88)],
        ),
        0,
    ),
    "free": (Scenario(model=None, self_host=two_h100(), apis=[api(0)]), 0),
}
NAMES = tuple(_SCENARIOS)
