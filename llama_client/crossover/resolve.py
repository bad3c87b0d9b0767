"""Resolves a scenario into numbers, and records the source of each."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import NamedTuple

from llama_client.catalog.catalog import Catalog
from llama_client.crossover.assumptions import TENTH, Assumption, AssumptionLog, Distribution, share_of_tdp
from llama_client.crossover.caching import own_cached_share
from llama_client.crossover.computers import is_on_desk, with_computer
from llama_client.crossover.economics import CostInputs, Owned, line
from llama_client.crossover.offers import Apart, Offers, is_sold, like_for_like, offers_of
from llama_client.crossover.precisions import canonical, family
from llama_client.crossover.scenario import ApiPrice, Purchase, Scenario, SelfHost, Traffic, invalid
from llama_client.crossover.tables import Architecture, Gpu, Tables
from llama_client.crossover.throughput.engines import canonical_engine, runs, usual_server
from llama_client.crossover.throughput.points import CPU, MeasuredPoint, is_usable
from llama_client.crossover.throughput.rates import Rate, measured_rate, replica_rate
from llama_client.crossover.throughput.replica import Replica, require_possible
from llama_client.errors import InvalidRequestError

# Where one price is known, others are so much lower and higher: our judgement, about as rents of one GPU differ.
_LONE_QUOTE = 0.3


@dataclass(frozen=True, slots=True)
class Resolved:
    """A scenario in numbers, with their sources."""

    plan: CostInputs
    assumptions: tuple[Assumption, ...]  # in the order of a report: judgement first
    model: Architecture | None  # None: not in the tables
    gpu: Gpu | None  # None: not in the tables
    precision: str | None
    rate: Rate | None  # None: the rate is known from the user alone
    engine: str | None  # None: it does not matter, as the rate is known from the user alone
    is_too_slow: bool  # even a single request is not answered within the latency limits
    ended: tuple[ApiPrice, ...]
    unpriced: tuple[str, ...]
    apart: tuple[Apart, ...] = ()  # sold otherwise: of another precision, context or region

    def assumption(self, name: str) -> Assumption | None:
        """The assumption about a figure; None: the scenario has no such figure."""
        return next((each for each in self.assumptions if each.name == name), None)


def resolve(
    scenario: Scenario,
    *,
    tables: Tables,
    today: date,
    measured: Sequence[MeasuredPoint] = (),
    offers: Offers | None = None,
) -> Resolved:
    """Looks up or assumes all that a scenario leaves out."""
    log = AssumptionLog()
    host, traffic = scenario.self_host, scenario.traffic
    model = None if scenario.model is None else _model(scenario.model, host, tables)
    gpu = None if host.gpu in (None, CPU) else tables.gpu(host.gpu, param="self_host.gpu")
    output_share = log.figure("output_share", traffic.output_share, traffic.source)
    tokens = log.figure("tokens_per_request", traffic.tokens_per_request, traffic.source, unit="tokens")
    log.add_rows(model, gpu)
    osl = max(1, round(tokens * output_share))
    isl = max(1, round(tokens) - osl)
    n_gpus = host.n_gpus or 1
    precision, engine, rate = _rate(host, traffic, model, gpu, n_gpus, isl=isl, osl=osl, measured=measured, log=log)
    apis = _apis(scenario, model, tables, today, offers)
    if scenario.apis is None:
        apis = like_for_like(apis, precision=precision, tokens_per_request=tokens)
    tokens_per_second, counts_input = _full_rate(host, rate, log)
    owned = _owned(host.purchase, gpu, tables, log) if host.purchase else None
    is_too_slow = host.slo_derate is None and rate is not None and rate.within_limits.output_tokens_per_s <= 0
    staff = "ops_usd_per_month_owned" if host.purchase else "ops_usd_per_month_rented"
    plan = CostInputs(
        tokens_per_second=tokens_per_second,
        counts_input=counts_input,
        slo_derate=_derate(host, rate, log),
        max_utilisation=log.figure("max_utilisation", host.max_utilisation),
        n_gpus=n_gpus,
        gpu_usd_per_hour=0.0 if owned else _rent(host, gpu, tables, log),
        spot_overhead=host.spot_overhead,
        owned=owned,
        min_replicas=host.min_replicas,
        spare=int(log.figure("spare", host.spare, unit="replicas")),
        ops_usd_per_month=log.figure("ops_usd_per_month", host.ops_usd_per_month, unit="USD", row=staff),
        storage_usd_per_month=host.storage_usd_per_month,
        powered_hours_per_month=min(host.powered_hours_per_month or math.inf, scenario.hours_per_month),
        hours_per_month=scenario.hours_per_month,
        escalated_share=host.escalated_share,
        output_share=output_share,
        cached_share=log.figure("cached_share", traffic.cached_share, traffic.source),
        batch_share=traffic.batch_share,
        retry_share=traffic.retry_share,
        peak_to_mean=log.figure("peak_to_mean", traffic.peak_to_mean, traffic.source),
        tokens_per_request=tokens,
        apis=apis.current,
    )
    if host.purchase:
        plan = with_computer(plan, host.purchase, gpu, traffic.tokens_per_day, log)
    if host.escalated_share:
        plan = replace(plan, escalation=_escalation(plan, traffic.tokens_per_day))
    log.add_unusual(scenario)
    found = (model, gpu, precision, rate, engine, is_too_slow)
    return Resolved(plan, log.all(apis.current), *found, apis.ended, apis.unpriced, apis.apart)


def has_own_rate(host: SelfHost) -> bool:
    return host.tokens_per_second is not None or host.total_tokens_per_second is not None


def _model(name: str, host: SelfHost, tables: Tables) -> Architecture | None:
    """The model's row; a measured rate needs none."""
    found = tables.find_model(name)
    if found is not None or has_own_rate(host):
        return found
    known = Catalog.bundled().find(name)
    if known is None:
        return tables.model(name)  # its error has the nearest name
    unknown = f"the dimensions of {known.name!r} are not in the tables, so its speed cannot be estimated"
    raise invalid("model", f"{unknown}; give tokens_per_second, or a row of your own in [[crossover.models]]")


def _rate(
    host: SelfHost,
    traffic: Traffic,
    model: Architecture | None,
    gpu: Gpu | None,
    n_gpus: int,
    *,
    isl: int,
    osl: int,
    measured: Sequence[MeasuredPoint],
    log: AssumptionLog,
) -> tuple[str | None, str | None, Rate | None]:
    """Precision, engine and rate of one replica: measured, published or estimated; None where the tables lack it."""
    if (model is None or gpu is None) and has_own_rate(host):
        return host.precision, host.engine, None
    if model is None or (gpu is None and host.gpu != CPU):
        field = "model" if model is None else "self_host.gpu"
        raise invalid(field, "is required where no tokens_per_second was measured")
    given = None if host.precision is None else canonical(host.precision, param="self_host.precision")
    limits = {
        "tpot_limit_ms": log.figure("tpot_limit_ms", host.tpot_limit_ms, unit="ms"),
        "ttft_limit_s": log.figure("ttft_limit_s", host.ttft_limit_s, unit="s"),
    }
    if gpu is None:
        points = _measured_on_cpu(model, given, measured)
        precisions = {point.precision for point in points}
        only = precisions.pop() if len(precisions) == 1 else None
        return only, host.engine, measured_rate(points, isl, osl, **limits)
    precision, engine = served_as(host, given, model, gpu, n_gpus, measured)
    rate = None
    try:
        share = 0.0 if has_own_rate(host) else log.add(own_cached_share(host, traffic))
        rate = replica_rate(
            model,
            gpu,
            n_gpus=n_gpus,
            precision=precision,
            engine=engine,
            measured=measured,
            input_tokens=isl,
            output_tokens=osl,
            cached_share=share,
            **limits,
        )
    except InvalidRequestError:
        # A measured rate proves that it runs, whatever the estimate says.
        if not has_own_rate(host):
            raise
    own = host.tokens_per_second
    if host.total_tokens_per_second is not None:
        own = host.total_tokens_per_second * osl / (isl + osl)
    if own is not None:
        replica = Replica(model, gpu, n_gpus, precision, engine)
        require_possible(own, replica, isl=isl, osl=osl, param="self_host.tokens_per_second")
    return precision, engine, rate


def _measured_on_cpu(
    model: Architecture, precision: str | None, measured: Sequence[MeasuredPoint]
) -> list[MeasuredPoint]:
    """The measurements on this processor; there is no estimate for one."""
    points = [
        point
        for point in measured
        if (point.model, point.gpu) == (model.name, CPU) and precision in (None, point.precision)
    ]
    if not points:
        raise invalid(
            "self_host.gpu",
            f"no measurement of {model.name} on this processor, and there is no estimate for one; "
            "measure it with `llama-client bench`, or give tokens_per_second",
        )
    return points


def served_as(
    host: SelfHost,
    precision: str | None,
    model: Architecture,
    gpu: Gpu,
    n_gpus: int,
    measured: Sequence[MeasuredPoint],
) -> tuple[str, str]:
    """Precision and engine: as given, else those of the best own measurement on this machine, else the usual ones."""
    engine = None if host.engine is None else canonical_engine(host.engine, param="self_host.engine")
    own = [
        point
        for point in measured
        if (point.model, point.gpu, point.n_gpus) == (model.name, gpu.name, n_gpus)
        and precision in (None, point.precision)
        and engine in (None, point.engine)
        and is_usable(point, model, gpu)
    ]
    if own:
        best = max(own, key=lambda point: point.output_tokens_per_s)
        precision, engine = precision or best.precision, engine or best.engine
    published = model.published_precision and canonical(model.published_precision, param="published_precision")
    if engine is None:
        is_desktop = gpu.bf16_tflops is None or gpu.memory_kind == "unified"
        is_gguf = precision is not None and family(precision) == "gguf"
        engine = "llama.cpp" if is_desktop or is_gguf else usual_server(precision or published, gpu)
    elif gpu.vendor == "amd" and engine == "trtllm":
        raise invalid("self_host.engine", f"TensorRT-LLM runs on GPUs of NVIDIA, and {gpu.title} is none; give 'vllm'")
    if precision is None:
        usual = "fp8" if gpu.fp8_tflops else "bf16"
        served = published if published and runs(published, engine, gpu) else usual
        precision = "Q4_K_M" if engine == "llama.cpp" else served
    return precision, engine


def _apis(scenario: Scenario, model: Architecture | None, tables: Tables, today: date, offers: Offers | None) -> Offers:
    """The scenario's own prices, else those that are known."""
    if scenario.apis is not None:
        current = tuple(api for api in scenario.apis if is_sold(api, today))
        return Offers(current, tuple(api for api in scenario.apis if not is_sold(api, today)), ())
    if offers is not None:
        return offers
    if model is not None:
        return offers_of(model, tables=tables, today=today)
    if scenario.model is None:
        raise invalid("apis", "is required where the model is not one of the tables")
    found = offers_of(scenario.model, tables=tables, today=today)
    if not (found.current or found.ended or found.unpriced):
        tables.model(scenario.model)  # its error has the nearest name
    return found


def _full_rate(host: SelfHost, rate: Rate | None, log: AssumptionLog) -> tuple[float, bool]:
    total, output = host.total_tokens_per_second, host.tokens_per_second
    if total is not None:
        return log.given("total_tokens_per_second", total, unit="tokens/s", source="measured, as given"), True
    if output is not None:
        return log.given("tokens_per_second", output, unit="output tokens/s", source="measured, as given"), False
    assert rate is not None
    found = Assumption(
        name="tokens_per_second",
        value=rate.output_tokens_per_s,
        unit="output tokens/s",
        source=rate.source,
        as_of=rate.as_of,
        low=rate.output_tokens_per_s * math.exp(-TENTH * rate.error),
        high=rate.output_tokens_per_s * math.exp(TENTH * rate.error),
        spread="lognormal",
        rung=rate.rung,
    )
    return log.add(found), False


def _derate(host: SelfHost, rate: Rate | None, log: AssumptionLog) -> float:
    """The share of the full rate that is left within the latency limits; of one request where that is too slow."""
    if host.slo_derate is not None or rate is None:
        return log.figure("slo_derate", host.slo_derate)
    share = rate.share_within_limits
    source = f"the same curve at {rate.within_limits.batch} requests at once, the most within both limits"
    if rate.within_limits.output_tokens_per_s <= 0:
        source = "one request at a time, as the machine is slower than the limits"
    return log.add(
        Assumption(
            name="slo_derate",
            value=share,
            source=source,
            rung=rate.rung,
            low=min(share, max(0.05, share * 0.75)),
            high=min(1.0, share * 1.25),
        )
    )


class _Bounds(NamedTuple):
    low: float | None
    high: float | None
    spread: Distribution


def _around(price: float) -> _Bounds:
    """The bounds of a price of which only one quote is known."""
    return _Bounds(price * (1 - _LONE_QUOTE), price * (1 + _LONE_QUOTE), "triangular")


def _rent(host: SelfHost, gpu: Gpu | None, tables: Tables, log: AssumptionLog) -> float:
    """US dollars for an hour of one GPU: as given, else the median of the quotes on demand."""
    field = "self_host.gpu_usd_per_hour"
    if host.gpu_usd_per_hour is not None:
        return log.given("gpu_usd_per_hour", host.gpu_usd_per_hour, unit="USD")
    if gpu is None:
        raise invalid(field, "is required where the GPU is not one of the tables")
    quotes = tables.rents(gpu.name)
    if not quotes:
        sentence = f"no quote known for renting the {gpu.title}; give gpu_usd_per_hour"
        bought = "buy it: --buy 0 or Purchase() takes the known price" if tables.purchase(gpu.name) else "buy it"
        raise invalid(field, f"{sentence}, or {bought}")
    prices = [float(quote.usd_per_gpu_hour) for quote in quotes]
    doubts = [quote.unverified for quote in quotes if quote.unverified]
    source = f"{quotes[0].provider}: {quotes[0].source}"
    bounds = _Bounds(prices[0], prices[-1], "quotes")
    if prices[0] == prices[-1]:
        # A lone row of the user's own is a contract.
        bounds = _around(prices[0]) if quotes[0] in Tables.bundled().gpu_prices else _Bounds(None, None, "none")
    if len(quotes) > 1:
        source = f"the median of {len(quotes)} quotes from {quotes[0].provider} to {quotes[-1].provider}"
    return log.add(
        Assumption(
            name="gpu_usd_per_hour",
            value=statistics.median(prices),
            unit="USD",
            source=source,
            as_of=min((quote.as_of for quote in quotes if quote.as_of is not None), default=None),
            low=bounds.low,
            high=bounds.high,
            spread=bounds.spread,
            quotes=tuple(prices),
            unverified=f"{len(doubts)} of {len(quotes)}: {'; '.join(sorted(set(doubts)))}" if doubts else None,
        )
    )


def _owned(purchase: Purchase, gpu: Gpu | None, tables: Tables, log: AssumptionLog) -> Owned:
    quote = None if gpu is None else tables.purchase(gpu.name)
    if purchase.usd_per_gpu is not None:
        price = log.given("usd_per_gpu", purchase.usd_per_gpu, unit="USD")
    elif quote is not None:
        usd = float(quote.usd_per_gpu)
        known = Assumption("usd_per_gpu", usd, "USD", quote.source, quote.as_of, unverified=quote.unverified)
        bounds = _around(usd)
        price = log.add(replace(known, low=bounds.low, high=bounds.high, spread=bounds.spread))
    else:
        what = "this machine" if gpu is None else f"the {gpu.title}"
        raise invalid("purchase.usd_per_gpu", f"no price is known for {what}; give its price")
    is_computer = gpu is not None and gpu.memory_kind == "unified"
    missing = [name for name in ("idle_w", "load_w") if getattr(purchase, name) is None]
    if missing and (gpu is None or gpu.tdp_w is None):
        beside = f" with {missing[1]}" if len(missing) > 1 else ""
        raise invalid(f"purchase.{missing[0]}", f"is required{beside}: the power of this machine is not known")
    idle = _watts("idle_w", purchase.idle_w, "idle_share_of_tdp", gpu, log)
    load = _watts("load_w", purchase.load_w, "load_share_of_tdp", gpu, log)
    return Owned(
        usd_per_gpu=price,
        months=log.figure("months", purchase.months),
        residual_share=log.figure("residual_share", purchase.residual_share),
        yearly_interest=log.figure("yearly_interest", purchase.yearly_interest),
        idle_w=min(idle, load),
        load_w=max(idle, load),
        node_factor=log.figure(
            "node_factor", purchase.node_factor, row="node_factor_of_computers" if is_computer else None
        ),
        pue=log.figure("pue", purchase.pue, row="pue_of_desks" if gpu is not None and is_on_desk(gpu) else None),
        usd_per_kwh=log.figure("usd_per_kwh", purchase.usd_per_kwh, unit="USD"),
        colocation_usd_per_month=purchase.colocation_usd_per_month or 0.0,
        support_share_per_year=purchase.support_share_per_year,
    )


def _watts(name: str, watts: float | None, row: str, gpu: Gpu | None, log: AssumptionLog) -> float:
    """A GPU's power: as given, else a share of the power of its data sheet."""
    if watts is not None:
        return log.given(name, watts, unit="W")
    assert gpu is not None
    assert gpu.tdp_w is not None
    return log.add(share_of_tdp(name, row, gpu.tdp_w))


def _escalation(plan: CostInputs, tokens_per_day: float | None) -> ApiPrice:
    """The cheapest API for the escalated share at the volume; without one, by the token."""
    if not plan.apis:
        sentence = "no API sells this model, so none can take a share of it; give apis"
        raise invalid("self_host.escalated_share", sentence)
    far = 1e18 if tokens_per_day is None else tokens_per_day * plan.escalated_share
    return min(plan.apis, key=lambda api: line(api, plan).usd(far))
