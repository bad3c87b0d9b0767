"""The options of `llama-client crossover`, in the order and under the headings in which its help shows them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from llama_client.cli import suggestions

DEFAULT_DRAWS = 10_000
_AMOUNT = re.compile(r"(?P<number>\d+(?:\.\d+)?(?:e\d+)?)\s*(?P<unit>[kmgbt]?)", re.IGNORECASE)
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
# Heading -> names of the command's parameters.
SECTIONS = {
    "The traffic": (
        *("volume", "from_ledger", "since", "ledger_target"),
        *("output_share", "cached_share", "tokens_per_request", "peak_to_mean"),
    ),
    "Your own machine": ("gpu", "n_gpus", "precision", "engine", "gpu_usd_per_hour", "tokens_per_second"),
    "Bought instead of rented": ("buy", "months", "usd_per_kwh", "load_w", "idle_w"),
    "How it is run": (
        *("tpot_limit_ms", "ttft_limit_s", "slo_derate", "max_utilisation"),
        *("min_replicas", "spare", "ops_usd_per_month"),
    ),
    "The API": ("apis", "api_input", "api_output", "api_cached"),
    "The answer": ("plot", "html", "as_json", "draws", "seed"),
}


class _Tokens(click.ParamType[float]):
    """A number of tokens, as people write it: `500M`, `1.2G`, `20000`."""

    name = "tokens"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        match = _AMOUNT.fullmatch(str(value).strip().replace(",", "").replace("_", ""))
        if match is None:
            self.fail(f"{value!r} is no number of tokens, such as 20000, 500M or 1.2G", param, ctx)
        return float(match["number"]) * _UNITS[match["unit"].lower()]


_OPTIONS: tuple[Callable[..., Any], ...] = (
    click.option("--volume", type=_Tokens(), metavar="N", help="Tokens a day, in and out: 500M, 1.2G. [default: any]"),
    click.option("--from-ledger", is_flag=True, help="Take volume, shares and peak from your own calls."),
    click.option("--since", metavar="WHEN", help="With --from-ledger: from when on, as in 30d. [default: all calls]"),
    click.option(
        "--ledger-target",
        metavar="TARGET",
        shell_complete=suggestions.targets,
        help="With --from-ledger: the calls of one target alone.",
    ),
    click.option("--output-share", type=float, metavar="0..1", help="Of all tokens, those of answers. [default: 0.2]"),
    click.option("--cached-share", type=float, metavar="0..1", help="Of input, what the API caches. [default: 0]"),
    click.option("--tokens-per-request", type=float, metavar="N", help="Of a mean call, in and out. [default: 2000]"),
    click.option("--peak-to-mean", type=float, metavar="X", help="The busiest hour over the mean one. [default: 2.5]"),
    click.option(
        "--gpu",
        metavar="NAME",
        shell_complete=suggestions.gpus,
        help="h100_sxm, rtx_4090, ... [default: the cheapest to rent that holds the model]",
    ),
    click.option("--gpus", "n_gpus", type=int, metavar="N", default=1, show_default=True, help="Of one replica."),
    click.option(
        "--precision",
        metavar="NAME",
        shell_complete=suggestions.precisions,
        help="Of the weights: bf16, fp8, nvfp4, int4, Q4_K_M, ... [default: the GPU's usual one]",
    ),
    click.option(
        "--engine",
        metavar="NAME",
        shell_complete=suggestions.engines,
        help="trtllm, vllm, sglang or llama.cpp. [default: the GPU's usual one]",
    ),
    click.option("--gpu-usd-per-hour", type=float, metavar="USD", help="Rent of one GPU. [default: median of quotes]"),
    click.option(
        "--tokens-per-second",
        type=float,
        metavar="N",
        help="Output tokens a second of one replica, as you measured it (`llama-client bench`). [default: estimated]",
    ),
    click.option("--buy", type=float, metavar="USD", help="Price of one GPU; 0: the known one. [default: rent]"),
    click.option("--months", type=float, metavar="N", help="Until it is written off. [default: 36]"),
    click.option("--usd-per-kwh", type=float, metavar="USD", help="Electricity. [default: 0.13]"),
    click.option("--load-w", type=float, metavar="W", help="One GPU at full work. [default: its data sheet's]"),
    click.option("--idle-w", type=float, metavar="W", help="One GPU without work. [default: from its data sheet]"),
    click.option("--tpot-limit-ms", type=float, metavar="MS", help="Between two tokens, at most. [default: 50]"),
    click.option("--ttft-limit-s", type=float, metavar="S", help="To the first token, at most. [default: 2]"),
    click.option(
        "--slo-derate",
        type=float,
        metavar="0..1",
        help="What is left of the full rate once answers must be as quick as that. [default: estimated]",
    ),
    click.option("--max-utilisation", type=float, metavar="0..1", help="Planned with, of that. [default: 0.8]"),
    click.option("--min-replicas", type=int, metavar="N", default=1, show_default=True, help="Never fewer."),
    click.option("--spare", type=int, metavar="N", help="Replicas that stand by. [default: 0]"),
    click.option(
        "--ops-usd-per-month", type=float, metavar="USD", help="Staff. [default: 600 where rented, 1500 where bought]"
    ),
    click.option(
        "--api",
        "apis",
        multiple=True,
        metavar="TARGET",
        shell_complete=suggestions.targets,
        help="provider/model to compare with; may be repeated. [default: all who sell it today]",
    ),
    click.option("--api-input", type=float, metavar="USD", help="An API's price for a million input tokens."),
    click.option("--api-output", type=float, metavar="USD", help="The same for output."),
    click.option("--api-cached", type=float, metavar="USD", help="The same for cached input. [default: as input]"),
    click.option(
        "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw it into a FILE.png or FILE.svg."
    ),
    click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write it as one page to pass on."),
    click.option(
        "--draws", type=int, metavar="N", help=f"Of the uncertainty band; 0: none. [default: {DEFAULT_DRAWS}]"
    ),
    click.option("--seed", type=int, metavar="N", default=0, show_default=True, help="The same seed: the same band."),
)


def crossover_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
