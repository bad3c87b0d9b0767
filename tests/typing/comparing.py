"""`llama_client.crossover` as users type it, checked by mypy and pyright: never run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Literal, assert_type

from llama_client.crossover import (
    ApiPrice,
    Architecture,
    Assumption,
    Crossover,
    Fit,
    FleetPlan,
    FleetPolicy,
    Gpu,
    GpuPrice,
    HourlyLoad,
    MeasuredPoint,
    PriceTier,
    Purchase,
    Scenario,
    SelfHost,
    Tables,
    Traffic,
    decode_tpot_ms,
    evaluate,
    fit,
    max_throughput,
    plan_fleet,
)
from llama_client.crossover.fitting.machines import this_machine


def seen(*_: object) -> None:
    """Takes what has a type that no user has to name."""


def of_api_price(it: ApiPrice) -> None:
    assert_type(it.input_usd_per_mtok, float)
    assert_type(it.output_usd_per_mtok, float)
    assert_type(it.cached_usd_per_mtok, float | None)
    assert_type(it.cache_write_usd_per_mtok, float)
    assert_type(it.batch_discount, float)
    assert_type(it.batch_input_usd_per_mtok, float | None)
    assert_type(it.batch_output_usd_per_mtok, float | None)
    assert_type(it.tiers, tuple[PriceTier, ...])
    assert_type(it.usd_per_request, float)
    assert_type(it.fees_usd_per_month, float)
    assert_type(it.yearly_decline, float)
    assert_type(it.token_ratio, float)
    assert_type(it.is_same_model, bool)
    assert_type(it.available_until, date | None)
    assert_type(it.migration_usd, float)
    assert_type(it.provider, str)
    assert_type(it.model, str)
    assert_type(it.precision, str | None)
    assert_type(it.region, str | None)
    assert_type(it.context_tokens, int | None)
    assert_type(it.source, str)
    assert_type(it.as_of, date | None)
    assert_type(it.unverified, str | None)
    assert_type(it.name, str)


def of_price_tier(it: PriceTier) -> None:
    assert_type(it.kind, Literal["flex", "off_peak"])
    assert_type(it.input_usd_per_mtok, float)
    assert_type(it.output_usd_per_mtok, float)
    assert_type(it.utc_windows, tuple[str, ...])


def of_architecture(it: Architecture) -> None:
    assert_type(it.name, str)
    assert_type(it.parameters, int)
    assert_type(it.layers, int)
    assert_type(it.hidden, int)
    assert_type(it.ffn, int)
    assert_type(it.heads, int)
    assert_type(it.kv_heads, int)
    assert_type(it.head_dim, int)
    assert_type(it.vocab, int)
    assert_type(it.context_tokens, int)
    assert_type(it.tied_embeddings, bool)
    seen(it.moe)
    assert_type(it.active_parameters, int | None)
    assert_type(it.published_parameters, int | None)
    assert_type(it.attention_chunk_tokens, int | None)
    assert_type(it.global_attention_every_n_layers, int | None)
    assert_type(it.cross_attention_layers, int)
    assert_type(it.published_precision, str | None)
    assert_type(it.licence, str)
    assert_type(it.released_on, date | None)
    assert_type(it.monthly_users_clause, bool)
    assert_type(it.eu_multimodal_bar, bool)
    assert_type(it.note, str | None)
    assert_type(it.unverified, str | None)
    assert_type(it.source, str)
    assert_type(it.checked_on, date | None)
    assert_type(it.all_parameters, int)
    assert_type(it.parameters_per_token, int)


def of_assumption(it: Assumption) -> None:
    assert_type(it.name, str)
    assert_type(it.value, float | str)
    assert_type(it.unit, str)
    assert_type(it.source, str)
    assert_type(it.as_of, date | None)
    assert_type(it.is_given, bool)
    assert_type(it.is_judgement, bool)
    assert_type(it.low, float | None)
    assert_type(it.high, float | None)
    assert_type(it.spread, Literal["none", "quotes", "lognormal", "triangular"])
    assert_type(it.quotes, tuple[float, ...])
    assert_type(it.rung, str | None)
    assert_type(it.unverified, str | None)


def of_crossover(it: Crossover) -> None:
    assert_type(it.scenario, Scenario)
    seen(it.resolved)
    assert_type(it.today, date)
    seen(it.crossings)
    seen(it.crossing_band)
    seen(it.band)
    assert_type(it.verdict, Literal["never", "self-host", "api", "depends", "no-api"])
    assert_type(it.assumptions, tuple[Assumption, ...])
    assert_type(it.break_even_utilisation, float | None)
    assert_type(it.first_crossing, float | None)
    assert_type(it.intervals, list[tuple[float, float | None]])
    assert_type(it.permanent_crossing, float | None)
    seen(it.plan)
    seen(it.full_usd_per_mtok)
    assert_type(it.probability, float | None)
    assert_type(it.reference_volume, float)
    assert_type(it.replica_tokens_per_day, float)
    assert_type(it.volume, float | None)


def of_fit(it: Fit) -> None:
    assert_type(it.model, Architecture)
    seen(it.machine)
    assert_type(it.context_tokens, int)
    assert_type(it.sequences, int)
    assert_type(it.cache_precision, str | None)
    assert_type(it.chunked_attention, bool)
    assert_type(it.asked_precision, str | None)
    seen(it.answer)
    seen(it.best)
    seen(it.options)
    assert_type(it.gpus_needed, int | None)
    assert_type(it.fits, bool)


def of_gpu(it: Gpu) -> None:
    assert_type(it.name, str)
    assert_type(it.memory_gib, float)
    assert_type(it.bandwidth_gb_per_s, float)
    assert_type(it.title, str)
    assert_type(it.vendor, str)
    assert_type(it.memory_kind, Literal["hbm", "gddr", "unified"])
    assert_type(it.bf16_tflops, float | None)
    assert_type(it.fp8_tflops, float | None)
    assert_type(it.fp4_tflops, float | None)
    assert_type(it.tdp_w, float | None)
    assert_type(it.unverified, str | None)
    assert_type(it.source, str)
    assert_type(it.checked_on, date | None)


def of_gpu_price(it: GpuPrice) -> None:
    assert_type(it.gpu, str)
    assert_type(it.provider, str)
    assert_type(it.usd_per_gpu_hour, Decimal)
    assert_type(it.kind, Literal["on_demand", "spot"])
    assert_type(it.as_of, date | None)
    assert_type(it.unverified, str | None)
    assert_type(it.source, str)


def of_measured_point(it: MeasuredPoint) -> None:
    assert_type(it.model, str)
    assert_type(it.gpu, str)
    assert_type(it.n_gpus, int)
    assert_type(it.precision, str)
    assert_type(it.engine, str | None)
    assert_type(it.input_tokens, int)
    assert_type(it.output_tokens, int)
    assert_type(it.concurrency, int)
    assert_type(it.output_tokens_per_s, float)
    assert_type(it.tpot_ms, float | None)
    assert_type(it.ttft_ms, float | None)
    assert_type(it.measured_on, date)


def of_purchase(it: Purchase) -> None:
    assert_type(it.usd_per_gpu, float | None)
    assert_type(it.computer_usd, float | None)
    assert_type(it.gpus_per_computer, int | None)
    assert_type(it.months, float | None)
    assert_type(it.residual_share, float | None)
    assert_type(it.yearly_interest, float | None)
    assert_type(it.idle_w, float | None)
    assert_type(it.load_w, float | None)
    assert_type(it.node_factor, float | None)
    assert_type(it.pue, float | None)
    assert_type(it.usd_per_kwh, float | None)
    assert_type(it.colocation_usd_per_month, float | None)
    assert_type(it.support_share_per_year, float)


def of_scenario(it: Scenario) -> None:
    assert_type(it.model, str | None)
    assert_type(it.traffic, Traffic)
    assert_type(it.self_host, SelfHost)
    assert_type(it.apis, Sequence[ApiPrice] | None)
    assert_type(it.hours_per_month, float)


def of_self_host(it: SelfHost) -> None:
    assert_type(it.gpu, str | None)
    assert_type(it.n_gpus, int | None)
    assert_type(it.precision, str | None)
    assert_type(it.engine, str | None)
    assert_type(it.gpu_usd_per_hour, float | None)
    assert_type(it.purchase, Purchase | None)
    assert_type(it.tokens_per_second, float | None)
    assert_type(it.total_tokens_per_second, float | None)
    assert_type(it.slo_derate, float | None)
    assert_type(it.max_utilisation, float | None)
    assert_type(it.min_replicas, int)
    assert_type(it.spare, int | None)
    assert_type(it.ops_usd_per_month, float | None)
    assert_type(it.storage_usd_per_month, float)
    assert_type(it.spot_overhead, float)
    assert_type(it.powered_hours_per_month, float | None)
    assert_type(it.escalated_share, float)
    assert_type(it.tpot_limit_ms, float | None)
    assert_type(it.ttft_limit_s, float | None)
    assert_type(it.own_cached_share, float | None)
    assert_type(it.grid_g_per_kwh, float | None)


def of_fleet_policy(it: FleetPolicy) -> None:
    seen(it.kinds)
    assert_type(it.start_s, float | None)
    assert_type(it.network_gb_per_s, float | None)
    assert_type(it.disk_gb_per_s, float | None)
    assert_type(it.engine_start_s, float | None)
    assert_type(it.idle_timeout_s, float | None)
    assert_type(it.serverless_idle_timeout_s, float | None)
    assert_type(it.min_replicas, int | None)
    assert_type(it.headroom, float | None)
    assert_type(it.cold_requests, Literal["api", "wait"])
    assert_type(it.billing_s, float | None)
    assert_type(it.serverless_usd_per_gpu_second, float | None)
    assert_type(it.reserved_1_year_discount, float | None)
    assert_type(it.reserved_3_years_discount, float | None)
    assert_type(it.batch_wait_hours, int | None)


def of_fleet_plan(it: FleetPlan) -> None:
    assert_type(it.hours, int)
    assert_type(it.tokens_per_day, float)
    assert_type(it.peak_to_mean, float)
    assert_type(it.source, str)
    assert_type(it.replica_tokens_per_hour, float)
    assert_type(it.usd_per_month, float)
    seen(it.parts)
    assert_type(it.fixed_usd_per_month, float)
    seen(it.cold_starts)
    seen(it.batch)
    seen(it.considered)
    assert_type(it.explanation, tuple[str, ...])
    assert_type(it.assumptions, tuple[Assumption, ...])
    seen(it.part("own"))


def of_hourly_load(it: HourlyLoad) -> None:
    assert_type(it.tokens, tuple[float, ...])
    assert_type(it.source, str)
    assert_type(it.tokens_per_day, float)
    assert_type(it.peak_to_mean, float)
    assert_type(HourlyLoad.of([1, 2.5], tokens_per_day=1e6), HourlyLoad)
    assert_type(HourlyLoad.with_peak(2.5, tokens_per_day=1e6), HourlyLoad)


def of_tables(it: Tables) -> None:
    assert_type(it.models, tuple[Architecture, ...])
    assert_type(it.gpus, tuple[Gpu, ...])
    assert_type(it.gpu_prices, tuple[GpuPrice, ...])
    seen(it.gpu_purchases)


def of_traffic(it: Traffic) -> None:
    assert_type(it.tokens_per_day, float | None)
    assert_type(it.output_share, float | None)
    assert_type(it.cached_share, float | None)
    assert_type(it.batch_share, float)
    assert_type(it.retry_share, float)
    assert_type(it.peak_to_mean, float | None)
    assert_type(it.tokens_per_request, float | None)
    assert_type(it.hourly_tokens, tuple[float, ...])
    assert_type(it.source, str)
    assert_type(it.notes, tuple[str, ...])


def comparing() -> None:
    scenario = Scenario(
        model="llama-3.3-70b",
        traffic=Traffic(tokens_per_day=2e9, output_share=0.2),
        self_host=SelfHost(gpu="h100_sxm", n_gpus=2, purchase=Purchase(usd_per_gpu=30_000)),
        apis=[ApiPrice(input_usd_per_mtok=0.88, output_usd_per_mtok=0.88)],
    )
    assert_type(scenario.at(1e9), Scenario)
    found = evaluate(scenario, draws=10)
    assert_type(found, Crossover)
    assert_type(found.api_usd_per_month(1e9), float | None)
    assert_type(found.cheapest_api(1e9), ApiPrice | None)
    assert_type(found.self_host_usd_per_month(1e9), float)
    assert_type(found.replicas(1e9), int)
    assert_type(found.volumes(), tuple[float, ...])
    assert_type(found.probability_at(1e9), float | None)
    seen(found.hybrid(), found.investment(), found.swings(), found.saving(), found.if_stated())
    assert_type(plan_fleet(found, hours=[1, 2], policy=FleetPolicy(kinds=("own", "api"))), FleetPlan)
    for assumption in found.assumptions:
        assert_type(assumption, Assumption)
        assert_type(assumption.age_days(date.today()), int | None)  # noqa: DTZ011 - never run
        assert_type(assumption.is_stale(date.today()), bool)  # noqa: DTZ011 - never run
    assert_type(decode_tpot_ms("llama-3.1-8b", "h100_sxm", isl=1000, osl=1000, batch=8), float)
    assert_type(max_throughput("llama-3.1-8b", "h100_sxm", isl=1000, osl=1000, engine="vllm"), float)


def fitting() -> None:
    found = fit(Tables.bundled().model("llama-3.1-8b"), this_machine(), context_tokens=8192, sequences=2)
    assert_type(found, Fit)
    assert_type(found.fits, bool)
    assert_type(found.as_dict(), dict[str, Any])


def tables(mine: Gpu, rent: GpuPrice) -> None:
    bundled = Tables.bundled()
    assert_type(bundled, Tables)
    assert_type(bundled.find_model("llama-3.3-70b"), Architecture | None)
    assert_type(bundled.model("llama-3.1-8b"), Architecture)
    assert_type(bundled.model("llama-3.1-8b").kv_bytes_per_token(), float)
    assert_type(bundled.gpu("h100_sxm"), Gpu)
    assert_type(bundled.rents("h100_sxm", kind="spot"), tuple[GpuPrice, ...])
    assert_type(bundled.extended(gpus=[mine], gpu_prices=[rent]), Tables)
    seen(bundled.purchase("h100_sxm"))


def wrong() -> None:
    SelfHost(gpus=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
