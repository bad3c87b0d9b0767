"""Scenarios for tests: those of the worked table, and a way to change one figure of them."""

from typing import Any

from llama_client.crossover import ApiPrice, Crossover, Scenario, SelfHost, Traffic, evaluate

# Rates of TensorRT-LLM for 1,000 tokens in and 1,000 out, and what the worked examples take for the rest.
H100_PAIR: dict[str, Any] = {"n_gpus": 2, "tokens_per_second": 4205}
B200: dict[str, Any] = {"n_gpus": 1, "tokens_per_second": 7007, "gpu_usd_per_hour": 6.69}
H100_WITH_8B: dict[str, Any] = {"n_gpus": 1, "tokens_per_second": 15_220}
USUAL: dict[str, Any] = {"slo_derate": 0.6, "max_utilisation": 0.85, "ops_usd_per_month": 2000, "spare": 0}


def price(usd: float, output_usd: float | None = None, **more: Any) -> ApiPrice:
    """An API that asks so much per million tokens."""
    return ApiPrice(input_usd_per_mtok=usd, output_usd_per_mtok=usd if output_usd is None else output_usd, **more)


def asked(
    *apis: ApiPrice, volume: float | None = None, peak: float = 2.5, draws: int = 0, traffic: Any = None, **host: Any
) -> Crossover:
    """A crossover of a machine with its rate given, half of whose tokens are output."""
    return evaluate(
        Scenario(
            model=None,
            traffic=Traffic(
                **({"tokens_per_day": volume, "output_share": 0.5, "peak_to_mean": peak} | (traffic or {}))
            ),
            self_host=SelfHost(**(USUAL | host)),
            apis=apis,
        ),
        draws=draws,
    )
