"""The prefix cache of a server of one's own: the share of prompts that it holds, and what that share changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llama_client.crossover.assumptions import Assumption, default
from llama_client.crossover.economics import MTOK, CostInputs, staircase
from llama_client.crossover.scenario import SelfHost, Traffic
from llama_client.crossover.sensitivity import Swing
from llama_client.crossover.throughput.rates import Rate

NAME = "own_cached_share"


def own_cached_share(host: SelfHost, traffic: Traffic) -> Assumption:
    """The share of input tokens that the own server finds in its cache: as given, else as the API does, else none."""
    if host.own_cached_share is not None:
        return Assumption(NAME, host.own_cached_share, is_given=True)
    if traffic.cached_share:
        source = "the same prompts repeat as on the API's side; vLLM and SGLang keep their beginnings unasked"
        share = traffic.cached_share
        return Assumption(NAME, share, source=f"judgement: {source}", is_judgement=True, low=0.0, high=share)
    return default(NAME)


def swing_of_cache(
    plan: CostInputs, rate: Rate | None, assumptions: Sequence[Assumption], tokens_per_day: float
) -> Swing | None:
    """What a million self-hosted tokens cost at both bounds of the cached share; None: it is given or has no effect."""
    named = {each.name: each for each in assumptions}
    share, derate = named.get(NAME), named.get("slo_derate")
    if rate is None or rate.cached is None or share is None or share.low is None or share.high is None:
        return None
    rate_with, now = rate.cached, share.value
    is_derate_given = derate is not None and derate.is_given

    def usd_per_mtok(bound: float) -> float:
        other = rate if bound == now else rate_with(cached_share=bound)
        left = 1.0 if is_derate_given else other.share_within_limits / rate.share_within_limits
        changed = replace(
            plan,
            tokens_per_second=plan.tokens_per_second * other.output_tokens_per_s / rate.output_tokens_per_s,
            slo_derate=min(1.0, plan.slo_derate * left),
        )
        return staircase(changed).usd(tokens_per_day) / (tokens_per_day * plan.days_per_month) * MTOK

    return Swing(NAME, share.low, share.high, usd_per_mtok(share.low), usd_per_mtok(share.high))
