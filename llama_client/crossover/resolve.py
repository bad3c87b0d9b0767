"""Resolves a scenario into numbers, and records where each comes from."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

from llama_client.crossover.assumptions import TENTH, Assumption, AssumptionLog, default, given
from llama_client.crossover.economics import CostInputs, Owned, line
from llama_client.crossover.offers import Offers, offers_of
from llama_client.crossover.scenario import ApiPrice, Purchase, Scenario, SelfHost
from llama_client.crossover.tables import Architecture, Gpu, Tables
from llama_client.crossover.throughput.points import CPU, MeasuredPoint
from llama_client.errors import InvalidRequestError

if TYPE_CHECKING:
    from llama_client.crossover.throughput.rates import Rate
    from llama_client.crossover.throughput.replica import Replica


def rent(host: SelfHost, gpu: Gpu | None, tables: Tables, book: AssumptionLog) -> float:
    """US dollars for an hour of one GPU: as given, else the median of what is asked on demand."""
    if host.gpu_usd_per_hour is not None:
        return book.add(given("gpu_usd_per_hour", host.gpu_usd_per_hour, unit="USD"))
    if gpu is None:
        raise InvalidRequestError(
            "self_host.gpu_usd_per_hour: is required where the GPU is not one of the tables",
            param="self_host.gpu_usd_per_hour",
        )
    quotes = tables.rents(gpu.name)
    if not quotes:
        raise InvalidRequestError(
            f"self_host.gpu_usd_per_hour: nobody is known to rent out a {gpu.title}; give gpu_usd_per_hour, or buy it",
            param="self_host.gpu_usd_per_hour",
        )
    prices = [float(quote.usd_per_gpu_hour) for quote in quotes]
    dated = [quote.as_of for quote in quotes if quote.as_of is not None]
    doubts = [quote.unverified for quote in quotes if quote.unverified]
    one = quotes[0]
    between = f"the median of {len(quotes)} quotes from {one.provider} to {quotes[-1].provider}"
    return book.add(
        Assumption(
            name="gpu_usd_per_hour",
            value=statistics.median(prices),
            unit="USD",
            source=between if len(quotes) > 1 else f"{one.provider}: {one.source}",
            as_of=min(dated, default=None),
            low=prices[0],
            high=prices[-1],
            spread="quotes",
            quotes=tuple(prices),
            unverified=f"{len(doubts)} of {len(quotes)}: {'; '.join(sorted(set(doubts)))}" if doubts else None,
        )
    )


def owned(purchase: Purchase, gpu: Gpu | None, tables: Tables, book: AssumptionLog) -> Owned:
    """A purchase in numbers."""
    quote = None if gpu is None else tables.purchase(gpu.name)
    if purchase.usd_per_gpu is None and quote is None:
        raise InvalidRequestError(
            "purchase.usd_per_gpu: nobody here knows what this machine costs; give its price",
            param="purchase.usd_per_gpu",
        )
    if purchase.usd_per_gpu is not None:
        price = book.add(given("usd_per_gpu", purchase.usd_per_gpu, unit="USD"))
    else:
        assert quote is not None
        usd = float(quote.usd_per_gpu)
        found = Assumption(
            "usd_per_gpu",
            usd,
            "USD",
            quote.source,
            quote.as_of,
            low=usd * 0.7,
            high=usd * 1.3,
            unverified=quote.unverified,
        )
        price = book.add(found)
    idle, load = _power(purchase, gpu, book)
    return Owned(
        usd_per_gpu=price,
        months=book.figure("months", purchase.months),
        residual_share=book.figure("residual_share", purchase.residual_share),
        yearly_interest=book.figure("yearly_interest", purchase.yearly_interest),
        idle_w=idle,
        load_w=load,
        node_factor=book.figure("node_factor", purchase.node_factor),
        pue=book.figure("pue", purchase.pue),
        usd_per_kwh=book.figure("usd_per_kwh", purchase.usd_per_kwh, unit="USD"),
        colocation_usd_per_month=purchase.colocation_usd_per_month,
        support_share_per_year=purchase.support_share_per_year,
    )


def _power(purchase: Purchase, gpu: Gpu | None, book: AssumptionLog) -> tuple[float, float]:
    """A GPU's watts without work and at full work: as given, else by shares of what its maker names."""
    tdp = None if gpu is None else gpu.tdp_w
    watts = []
    for name, row, value in (
        ("idle_w", "idle_share_of_tdp", purchase.idle_w),
        ("load_w", "load_share_of_tdp", purchase.load_w),
    ):
        if value is not None:
            watts.append(book.add(given(name, value, unit="W")))
            continue
        if tdp is None:
            raise InvalidRequestError(
                f"purchase.{name}: is required, since nobody here knows what this machine draws",
                param=f"purchase.{name}",
            )
        share = default(row)
        watts.append(
            book.add(
                Assumption(
                    name,
                    tdp * float(share.value),
                    "W",
                    f"{float(share.value):g} of {tdp:g} W: {share.source}",
                    share.as_of,
                    is_judgement=share.is_judgement,
                )
            )
        )
    return min(watts), max(watts)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A scenario in numbers, and what they rest on."""

    plan: CostInputs
    assumptions: tuple[Assumption, ...]
    model: Architecture | None
    gpu: Gpu | None
    precision: str | None
    rate: Rate | None
    ended: tuple[ApiPrice, ...]
    unpriced: tuple[str, ...]

    def assumption(self, name: str) -> Assumption | None:
        """What a figure rests on; None: it is not one of this scenario."""
        return next((each for each in self.assumptions if each.name == name), None)


def resolve(
    scenario: Scenario,
    *,
    tables: Tables,
    today: date,
    measured: Sequence[MeasuredPoint] = (),
    offers: Offers | None = None,
) -> Resolved:
    """Looks up and assumes whatever a scenario leaves out."""
    book = AssumptionLog(scenario)
    host, traffic = scenario.self_host, scenario.traffic
    model = None if scenario.model is None else _model(scenario.model, host, tables)
    gpu = None if host.gpu in (None, CPU) else tables.gpu(host.gpu, param="self_host.gpu")
    share = book.figure("output_share", traffic.output_share, traffic.source)
    length = book.figure("tokens_per_request", traffic.tokens_per_request, traffic.source, unit="tokens")
    book.note_rows(model, gpu)
    precision, rate = _rate(host, model, gpu, lengths=_lengths(share, length), measured=measured, book=book)
    apis, ended, unpriced = _apis(scenario, model, tables, today, offers)
    plan = _plan(scenario, gpu, rate, apis, share=share, length=length, tables=tables, book=book)
    book.note_given(traffic, host)
    return Resolved(plan, book.all(apis), model, gpu, precision, rate, ended, unpriced)


def _plan(
    scenario: Scenario,
    gpu: Gpu | None,
    rate: Rate | None,
    apis: tuple[ApiPrice, ...],
    *,
    share: float,
    length: float,
    tables: Tables,
    book: AssumptionLog,
) -> CostInputs:
    """The numbers, once model, machine and sellers are known."""
    host, traffic = scenario.self_host, scenario.traffic
    staff = "ops_usd_per_month_owned" if host.purchase else "ops_usd_per_month_rented"
    tokens_per_second, counts_input = _full_rate(host, rate, book)
    bought = owned(host.purchase, gpu, tables, book) if host.purchase else None
    plan = CostInputs(
        tokens_per_second=tokens_per_second,
        counts_input=counts_input,
        slo_derate=_derate(host, rate, book),
        max_utilisation=book.figure("max_utilisation", host.max_utilisation),
        n_gpus=host.n_gpus,
        gpu_usd_per_hour=0.0 if bought else rent(host, gpu, tables, book),
        spot_overhead=host.spot_overhead,
        owned=bought,
        min_replicas=host.min_replicas,
        spare=int(book.figure("spare", host.spare, unit="replicas")),
        ops_usd_per_month=book.figure("ops_usd_per_month", host.ops_usd_per_month, unit="USD", row=staff),
        storage_usd_per_month=host.storage_usd_per_month,
        powered_hours_per_month=min(host.powered_hours_per_month or scenario.hours_per_month, scenario.hours_per_month),
        hours_per_month=scenario.hours_per_month,
        escalated_share=host.escalated_share,
        output_share=share,
        cached_share=book.figure("cached_share", traffic.cached_share, traffic.source),
        batch_share=traffic.batch_share,
        retry_share=traffic.retry_share,
        peak_to_mean=book.figure("peak_to_mean", traffic.peak_to_mean, traffic.source),
        tokens_per_request=length,
        apis=apis,
    )
    return replace(plan, escalation=_escalation(plan, traffic.tokens_per_day)) if host.escalated_share else plan


def _escalation(plan: CostInputs, tokens_per_day: float | None) -> ApiPrice:
    """To whom the escalated share goes: who is cheapest for it at the volume; without one, by the token."""
    if not plan.apis:
        raise InvalidRequestError(
            "self_host.escalated_share: nobody sells this model, so there is no API for a share of it; give apis",
            param="self_host.escalated_share",
        )
    far = 1e18 if tokens_per_day is None else tokens_per_day * plan.escalated_share
    return min(plan.apis, key=lambda api: line(api, plan).usd(far))


def _model(name: str, host: SelfHost, tables: Tables) -> Architecture | None:
    """The model's row; a rate that was measured needs none."""
    try:
        return tables.model(name)
    except InvalidRequestError:
        if host.tokens_per_second is None and host.total_tokens_per_second is None:
            raise
        return None


def _rate(
    host: SelfHost,
    model: Architecture | None,
    gpu: Gpu | None,
    *,
    lengths: tuple[int, int],
    measured: Sequence[MeasuredPoint],
    book: AssumptionLog,
) -> tuple[str | None, Rate | None]:
    """What one replica gives by the ladder of measured, published and estimated; None where the tables cannot say."""
    is_measured = host.tokens_per_second is not None or host.total_tokens_per_second is not None
    if model is None or gpu is None:
        if is_measured:
            return host.precision, None
        if model is not None and host.gpu == CPU:
            return _on_cpu(host, model, measured, lengths, book)
        field = "model" if model is None else "self_host.gpu"
        raise InvalidRequestError(f"{field}: is required where no tokens_per_second was measured", param=field)
    from llama_client.crossover.throughput.rates import replica_rate
    from llama_client.crossover.throughput.replica import Replica

    precision, engine = _served_as(host, model, gpu, measured)
    tpot_ms = book.figure("tpot_limit_ms", host.tpot_limit_ms, unit="ms")
    ttft_s = book.figure("ttft_limit_s", host.ttft_limit_s, unit="s")
    isl, osl = lengths
    rate = None
    try:
        rate = replica_rate(
            model,
            gpu,
            n_gpus=host.n_gpus,
            precision=precision,
            engine=engine,
            tpot_limit_ms=tpot_ms,
            ttft_limit_s=ttft_s,
            measured=measured,
            input_tokens=isl,
            output_tokens=osl,
        )
    except InvalidRequestError:
        # Who has measured it knows that it runs, whatever we reckon.
        if not is_measured:
            raise
    _require_possible(host, Replica(model, gpu, host.n_gpus, precision, engine), isl, osl)
    return precision, rate


def _require_possible(host: SelfHost, replica: Replica, isl: int, osl: int) -> None:
    """Refuses a rate of the user's that no machine reaches."""
    from llama_client.crossover.throughput.replica import require_possible

    said = host.tokens_per_second
    if host.total_tokens_per_second is not None:
        said = host.total_tokens_per_second * osl / (isl + osl)
    if said is not None:
        require_possible(said, replica, isl=isl, osl=osl, param="self_host.tokens_per_second")


def _lengths(share: float, length: float) -> tuple[int, int]:
    """A mean call's input and output tokens."""
    output = max(1, round(length * share))
    return max(1, round(length) - output), output


def _on_cpu(
    host: SelfHost,
    model: Architecture,
    measured: Sequence[MeasuredPoint],
    lengths: tuple[int, int],
    book: AssumptionLog,
) -> tuple[str | None, Rate | None]:
    """What was measured of a model on this processor, for which there is no estimate."""
    from llama_client.crossover.precisions import canonical
    from llama_client.crossover.throughput.rates import measured_rate

    precision = None if host.precision is None else canonical(host.precision, param="self_host.precision")
    points = [
        point
        for point in measured
        if (point.model, point.gpu) == (model.name, CPU) and precision in (None, point.precision)
    ]
    if not points:
        raise InvalidRequestError(
            f"self_host.gpu: nothing was measured of {model.name} on this processor, and there is no estimate for one; "
            "measure it with `llama-client bench`, or give tokens_per_second",
            param="self_host.gpu",
        )
    rate = measured_rate(
        points,
        *lengths,
        tpot_limit_ms=book.figure("tpot_limit_ms", host.tpot_limit_ms, unit="ms"),
        ttft_limit_s=book.figure("ttft_limit_s", host.ttft_limit_s, unit="s"),
    )
    return points[0].precision if len({point.precision for point in points}) == 1 else None, rate


def _served_as(host: SelfHost, model: Architecture, gpu: Gpu, measured: Sequence[MeasuredPoint]) -> tuple[str, str]:
    """Precision and engine: as given, else as the user has measured the model on this machine, else what is usual."""
    from llama_client.crossover.precisions import canonical, family
    from llama_client.crossover.throughput.points import is_usable

    precision = None if host.precision is None else canonical(host.precision, param="self_host.precision")
    machine = (model.name, gpu.name, host.n_gpus)
    own = [
        point
        for point in measured
        if (point.model, point.gpu, point.n_gpus) == machine
        and precision in (None, point.precision)
        and host.engine in (None, point.engine)
        and is_usable(point, model, gpu)
    ]
    best = max(own, key=lambda point: point.output_tokens_per_s, default=None)
    engine = host.engine or (None if best is None else best.engine)
    precision = precision or (None if best is None else best.precision)
    if engine is None:
        alone = gpu.bf16_tflops is None or gpu.memory_kind == "unified"
        is_gguf = precision is not None and family(precision) == "gguf"
        engine = "llama.cpp" if alone or is_gguf else "trtllm"
    if precision is None:
        precision = "Q4_K_M" if engine == "llama.cpp" else "fp8" if gpu.fp8_tflops else "bf16"
    return precision, engine


def _full_rate(host: SelfHost, rate: Rate | None, book: AssumptionLog) -> tuple[float, bool]:
    """A replica's rate under full load, and whether it counts input too."""
    if host.total_tokens_per_second is not None:
        said = given(
            "total_tokens_per_second", host.total_tokens_per_second, unit="tokens/s", source="measured, as given"
        )
        return book.add(said), True
    if host.tokens_per_second is not None:
        said = given("tokens_per_second", host.tokens_per_second, unit="output tokens/s", source="measured, as given")
        return book.add(said), False
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
    return book.add(found), False


def _derate(host: SelfHost, rate: Rate | None, book: AssumptionLog) -> float:
    """The share of the full rate that is left within the limits of waiting."""
    if host.slo_derate is not None or rate is None:
        return book.figure("slo_derate", host.slo_derate)
    if rate.slo_output_tokens_per_s <= 0:
        limit = host.tpot_limit_ms or float(default("tpot_limit_ms").value)
        is_slow = rate.alone_tpot_ms > limit or rate.alone_ttft_ms is None
        field = "tpot_limit_ms" if is_slow else "ttft_limit_s"
        takes = f"{rate.alone_tpot_ms:.3g} ms a token" if is_slow else f"{(rate.alone_ttft_ms or 0) / 1e3:.3g} s"
        raise InvalidRequestError(
            f"self_host.{field}: even a single request takes {takes}{'' if is_slow else ' to the first token'} on this "
            f"machine; allow more, or give slo_derate",
            param=f"self_host.{field}",
        )
    share = min(1.0, rate.slo_output_tokens_per_s / rate.output_tokens_per_s)
    return book.add(
        Assumption(
            name="slo_derate",
            value=share,
            source=f"the same curve at {rate.slo_batch} requests at once, the most within both limits",
            rung=rate.rung,
            low=max(0.05, share * 0.75),
            high=min(1.0, share * 1.25),
        )
    )


def _apis(
    scenario: Scenario, model: Architecture | None, tables: Tables, today: date, offers: Offers | None
) -> tuple[tuple[ApiPrice, ...], tuple[ApiPrice, ...], tuple[str, ...]]:
    if scenario.apis is not None:
        ended = tuple(api for api in scenario.apis if api.available_until is not None and api.available_until <= today)
        return tuple(api for api in scenario.apis if api not in ended), ended, ()
    if model is None:
        if scenario.model is not None:
            tables.model(scenario.model)  # says which names there are
        raise InvalidRequestError("apis: is required where the model is not one of the tables", param="apis")
    found = offers or offers_of(model, tables=tables, today=today)
    return found.current, found.ended, found.unpriced
