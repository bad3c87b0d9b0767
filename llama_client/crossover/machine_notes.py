"""Sentences about the machine itself: what is bought, what is slower than asked, and where a count comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from llama_client.crossover.computers import hardware_in_words, hardware_of
from llama_client.crossover.economics import HOURS_A_DAY, staircase
from llama_client.crossover.format import counted, figure, share, tokens, usd
from llama_client.crossover.resolve import Resolved
from llama_client.crossover.throughput.engines import is_weight_only
from llama_client.crossover.throughput.replica import Saturation

_ENGINES = {"trtllm": "TensorRT-LLM", "vllm": "vLLM", "sglang": "SGLang"}


def machine_notes(found: Resolved, tokens_per_day: float) -> Iterator[str]:
    """What is to be said of the machine at a volume."""
    if found.plan.owned is not None and not found.plan.apis:
        yield f"{purchase_of(found, tokens_per_day)} serves {tokens(tokens_per_day)} tokens a day."
    gpu, precision, engine = found.gpu, found.precision, found.engine
    if gpu is not None and precision is not None and engine is not None and is_weight_only(precision, engine, gpu):
        yield (
            f"The {gpu.title} has no arithmetic for {precision}: {_ENGINES.get(engine, engine)} keeps the weights "
            "in it and computes in 16 bits."
        )
    if found.rate is not None and (found.is_too_slow or engine == "llama.cpp"):
        yield _why_so_many(found, found.rate.alone, tokens_per_day)


def purchase_of(found: Resolved, tokens_per_day: float) -> str:
    """The purchase for a volume, as in `The purchase of $930,000 (24 GPUs in 3 servers of 8)`."""
    bought = hardware_of(found.plan, tokens_per_day)
    assert bought is not None
    return f"The purchase of {usd(bought.usd)} ({hardware_in_words(bought)})"


def slowness(found: Resolved) -> str | None:
    """What a user would feel of a machine that is slower than the limits; None: it keeps them."""
    parts = slow_document(found)
    if parts is None:
        return None
    pace, wanted, first, latest = parts.values()
    felt = []
    if pace is not None and wanted is not None and pace < wanted:
        felt.append(f"come at {_few(pace, wanted)} tokens a second instead of {_few(wanted, pace)}")
    if first is not None and latest is not None and first > latest:
        felt.append(f"begin after {_few(first, latest)} s instead of {_few(latest, first)} s")
    if not felt:
        return None
    return f"The machine is slower than asked: answers would {' and '.join(felt)}; the cost is that at its own speed."


def slow_document(found: Resolved) -> dict[str, float | None] | None:
    """The speed of a single request beside the limits; None: it keeps them."""
    if not found.is_too_slow or found.rate is None:
        return None
    alone, pace, first = found.rate.alone, found.assumption("tpot_limit_ms"), found.assumption("ttft_limit_s")
    assert pace is not None
    assert first is not None
    return {
        "tokens_per_s": 1e3 / alone.tpot_ms,
        "asked_tokens_per_s": 1e3 / float(pace.value),
        "first_token_s": None if alone.ttft_ms is None else alone.ttft_ms / 1e3,
        "asked_first_token_s": float(first.value),
    }


def hardware_document(found: Resolved, tokens_per_day: float) -> dict[str, Any] | None:
    """What is bought at a volume, for JSON; None: the machine is rented."""
    bought = hardware_of(found.plan, tokens_per_day)
    if bought is None:
        return None
    return asdict(bought) | {"tokens_per_day": tokens_per_day, "words": hardware_in_words(bought)}


def _why_so_many(found: Resolved, alone: Saturation, tokens_per_day: float) -> str:
    """Where the number of machines comes from: what one serves in an hour, and what the busiest hour brings."""
    plan = found.plan
    call = plan.tokens_per_request
    alone_s = call * plan.output_share / alone.output_tokens_per_s
    each = plan.full_tokens_per_day * plan.slo_derate / HOURS_A_DAY / call
    busiest = tokens_per_day / HOURS_A_DAY * plan.peak_to_mean / call
    count = counted(staircase(plan).replicas(tokens_per_day), "replica")
    first = "" if alone.ttft_ms is None else f", {_few(alone.ttft_ms / 1e3)} s of it until the answer begins"
    load = "one call at a time" if found.is_too_slow else "as many at once as the limits allow"
    return (
        f"Why {count} at {tokens(tokens_per_day)} tokens a day: a call of {figure(round(call))} tokens takes a replica "
        f"{_few(alone_s)} s on its own{first}; with {load} it serves {_few(each)} calls an hour, of which "
        f"{share(plan.max_utilisation)} are planned with, and the busiest hour brings {_few(busiest)}."
    )


def _few(value: float, other: float | None = None) -> str:
    """Two digits or whole, as people say them; four where another figure would look the same."""
    short = figure(round(value)) if value >= 10 else f"{value:.2g}"
    return f"{value:.4g}" if other is not None and short == _few(other) else short
