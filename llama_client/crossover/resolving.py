"""Turns a scenario into a plan in which every figure is a number, and keeps where each of them comes from.

What the user said wins; then what was measured or quoted; then what is assumed. What nobody can know is an error that
names the field to give.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from llama_client.crossover.assumptions import Assumption, default, given
from llama_client.crossover.economics import Owned, Plan
from llama_client.crossover.offers import Offers, offers_of
from llama_client.crossover.scenario import ApiPrice, Purchase, Scenario, SelfHost
from llama_client.crossover.tables import Architecture, Gpu, Tables
from llama_client.errors import InvalidRequestError

if TYPE_CHECKING:
    from llama_client.crossover.serving.measured_point import MeasuredPoint
    from llama_client.crossover.serving.rates import Rate


@dataclass(frozen=True, slots=True)
class Resolved:
    """A scenario in numbers, and what they rest on.

    Attributes:
        plan: The numbers.
        assumptions: What they rest on, in the order of a report: judgement first.
        model: The model's row; None: not one of the tables.
        gpu: The GPU's; None: not one of the tables.
        precision: Of the weights; None: not known.
        rate: What one replica gives; None: only what the user said about it.
        ended: Who has sold the model before.
        unpriced: Who sells it for a price that nobody knows.
    """

    plan: Plan
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
    """Looks up and assumes whatever a scenario leaves out.

    Args:
        scenario: What is compared.
        tables: What is known of models, GPUs and rents.
        today: The day, for who sells what and how old a figure is.
        measured: What the user measured.
        offers: Who sells the model; None: whoever is known to.

    Raises:
        InvalidRequestError: A name is unknown, the model does not fit, or a figure is missing that nobody knows.
    """
    book = _Book(scenario)
    host = scenario.self_host
    model = None if scenario.model is None else _model(scenario.model, host, tables)
    gpu = None if host.gpu is None else tables.gpu(host.gpu, param="self_host.gpu")
    traffic = scenario.traffic
    share = book.figure("output_share", traffic.output_share, traffic.source)
    cached = book.figure("cached_share", traffic.cached_share, traffic.source)
    length = book.figure("tokens_per_request", traffic.tokens_per_request, traffic.source, unit="tokens")
    peak = book.figure("peak_to_mean", traffic.peak_to_mean, traffic.source)
    utilisation = book.figure("max_utilisation", host.max_utilisation)
    precision, rate = _rate(host, model, gpu, share=share, length=length, measured=measured, book=book)
    full, counts_input = _full_rate(host, rate, book)
    derate = _derate(host, rate, book)
    spare = int(book.figure("spare", host.spare, unit="replicas"))
    staff = "ops_usd_per_month_owned" if host.purchase else "ops_usd_per_month_rented"
    ops = book.figure("ops_usd_per_month", host.ops_usd_per_month, unit="USD", row=staff)
    rent, owned = (
        (0.0, _owned(host.purchase, gpu, tables, book)) if host.purchase else (_rent(host, gpu, tables, book), None)
    )
    apis, ended, unpriced = _apis(scenario, model, tables, today, offers)
    if host.escalated_share and not apis:
        raise InvalidRequestError(
            "self_host.escalated_share: nobody sells this model, so there is no API for a share of it; give apis",
            param="self_host.escalated_share",
        )
    book.note_given(traffic, host)
    plan = Plan(
        tokens_per_second=full,
        counts_input=counts_input,
        slo_derate=derate,
        max_utilisation=utilisation,
        n_gpus=host.n_gpus,
        gpu_usd_per_hour=rent,
        owned=owned,
        min_replicas=host.min_replicas,
        spare=spare,
        ops_usd_per_month=ops,
        storage_usd_per_month=host.storage_usd_per_month,
        powered_hours_per_month=min(host.powered_hours_per_month or scenario.hours_per_month, scenario.hours_per_month),
        hours_per_month=scenario.hours_per_month,
        escalated_share=host.escalated_share,
        output_share=share,
        cached_share=cached,
        batch_share=traffic.batch_share,
        retry_share=traffic.retry_share,
        peak_to_mean=peak,
        tokens_per_request=length,
        apis=apis,
    )
    return Resolved(plan, book.all(apis), model, gpu, precision, rate, ended, unpriced)


class _Book:
    """The assumptions, as they are made."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._kept: list[Assumption] = []

    def add(self, assumption: Assumption) -> float:
        self._kept.append(assumption)
        return float(assumption.value)

    def figure(
        self, name: str, value: float | None, source: str = "given", *, unit: str = "", row: str | None = None
    ) -> float:
        """What was given, or what is assumed by a row of the defaults."""
        if value is not None:
            return self.add(given(name, value, unit=unit, source=source))
        return self.add(default(row or name, name=name, unit=unit))

    def note_given(self, traffic: object, host: object) -> None:
        """What else the user said that is not its usual self."""
        for owner, names in (
            (traffic, ("batch_share", "retry_share")),
            (host, ("storage_usd_per_month", "spot_overhead", "powered_hours_per_month", "escalated_share")),
        ):
            for name in names:
                value = getattr(owner, name)
                if value:
                    self.add(given(name, value))
        if self._scenario.self_host.min_replicas > 1:
            self.add(given("min_replicas", self._scenario.self_host.min_replicas))

    def all(self, apis: Sequence[ApiPrice]) -> tuple[Assumption, ...]:
        """Judgement first, prices last."""
        prices = [
            Assumption(
                name=f"api: {api.name}",
                value=f"{api.input_usd_per_mtok:g} in, {api.output_usd_per_mtok:g} out",
                unit="USD per million tokens",
                source=api.source if api.is_same_model else f"{api.source}; another model",
                as_of=api.as_of,
                is_given=api.source == "given",
                unverified=api.unverified,
            )
            for api in apis
        ]
        return (*sorted(self._kept, key=lambda each: not each.is_judgement), *prices)


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
    share: float,
    length: float,
    measured: Sequence[MeasuredPoint],
    book: _Book,
) -> tuple[str | None, Rate | None]:
    """What one replica gives by the ladder of measured, published and estimated; None where the tables cannot say."""
    is_measured = host.tokens_per_second is not None or host.total_tokens_per_second is not None
    if model is None or gpu is None:
        if is_measured:
            return host.precision, None
        field = "model" if model is None else "self_host.gpu"
        raise InvalidRequestError(f"{field}: is required where no tokens_per_second was measured", param=field)
    from llama_client.crossover.precisions import canonical
    from llama_client.crossover.serving.ceiling import require_possible
    from llama_client.crossover.serving.rates import replica_rate
    from llama_client.crossover.serving.replica import Replica

    engine = host.engine or ("llama.cpp" if gpu.bf16_tflops is None or gpu.memory_kind == "unified" else "trtllm")
    precision = canonical(host.precision or _usual_precision(gpu, engine), param="self_host.precision")
    tpot_ms = book.figure("tpot_limit_ms", host.tpot_limit_ms, unit="ms")
    ttft_s = book.figure("ttft_limit_s", host.ttft_limit_s, unit="s")
    output_tokens = max(1, round(length * share))
    lengths = {"input_tokens": max(1, round(length) - output_tokens), "output_tokens": output_tokens}
    rate = replica_rate(
        model,
        gpu,
        n_gpus=host.n_gpus,
        precision=precision,
        engine=engine,
        tpot_limit_ms=tpot_ms,
        ttft_limit_s=ttft_s,
        measured=measured,
        **lengths,
    )
    said = host.tokens_per_second
    if host.total_tokens_per_second is not None:
        said = host.total_tokens_per_second * share
    if said is not None:
        require_possible(
            said,
            Replica(model, gpu, host.n_gpus, precision, engine),
            isl=lengths["input_tokens"],
            osl=lengths["output_tokens"],
            param="self_host.tokens_per_second",
        )
    return precision, rate


def _usual_precision(gpu: Gpu, engine: str) -> str:
    if engine == "llama.cpp":
        return "Q4_K_M"
    return "fp8" if gpu.fp8_tflops else "bf16"


def _full_rate(host: SelfHost, rate: Rate | None, book: _Book) -> tuple[float, bool]:
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
        low=rate.output_tokens_per_s * 2.718281828 ** (-1.2816 * rate.error),  # the tenth and the ninetieth percentile
        high=rate.output_tokens_per_s * 2.718281828 ** (1.2816 * rate.error),
        spread="lognormal",
        rung=rate.rung,
    )
    return book.add(found), False


def _derate(host: SelfHost, rate: Rate | None, book: _Book) -> float:
    """The share of the full rate that is left within the limits of waiting."""
    if host.slo_derate is not None or rate is None:
        return book.figure("slo_derate", host.slo_derate)
    if rate.slo_output_tokens_per_s <= 0:
        raise InvalidRequestError(
            "self_host.tpot_limit_ms: on this machine even a single request takes longer than this for a token, or "
            "longer than ttft_limit_s for the first one; allow more, or give slo_derate",
            param="self_host.tpot_limit_ms",
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


def _rent(host: SelfHost, gpu: Gpu | None, tables: Tables, book: _Book) -> float:
    if host.gpu_usd_per_hour is not None:
        rent = book.add(given("gpu_usd_per_hour", host.gpu_usd_per_hour, unit="USD"))
        return rent * (1 + host.spot_overhead)
    if gpu is None:
        raise InvalidRequestError(
            "self_host.gpu_usd_per_hour: is required where the GPU is not one of the tables",
            param="self_host.gpu_usd_per_hour",
        )
    quotes = tables.rents(gpu.name)
    if not quotes:
        raise InvalidRequestError(
            f"self_host.gpu_usd_per_hour: nobody is known to rent out a {gpu.title}; give its price by the hour, or a "
            "purchase",
            param="self_host.gpu_usd_per_hour",
        )
    prices = [float(quote.usd_per_gpu_hour) for quote in quotes]
    dated = [quote.as_of for quote in quotes if quote.as_of is not None]
    rent = book.add(
        Assumption(
            name="gpu_usd_per_hour",
            value=statistics.median(prices),
            unit="USD",
            source=f"the median of {len(quotes)} quotes from {quotes[0].provider} to {quotes[-1].provider}"
            if len(quotes) > 1
            else f"{quotes[0].provider}: {quotes[0].source}",
            as_of=min(dated, default=None),
            low=prices[0],
            high=prices[-1],
            spread="quotes",
            quotes=tuple(prices),
            unverified=quotes[0].unverified if len(quotes) == 1 else None,
        )
    )
    return rent * (1 + host.spot_overhead)


def _owned(purchase: Purchase, gpu: Gpu | None, tables: Tables, book: _Book) -> Owned:
    quote = None if gpu is None else tables.purchase(gpu.name)
    if purchase.usd_per_gpu is None and quote is None:
        raise InvalidRequestError(
            "purchase.usd_per_gpu: is required, since nobody here knows what this machine costs",
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


def _power(purchase: Purchase, gpu: Gpu | None, book: _Book) -> tuple[float, float]:
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


def _apis(
    scenario: Scenario, model: Architecture | None, tables: Tables, today: date, offers: Offers | None
) -> tuple[tuple[ApiPrice, ...], tuple[ApiPrice, ...], tuple[str, ...]]:
    if scenario.apis is not None:
        return tuple(scenario.apis), (), ()
    if model is None:
        raise InvalidRequestError("apis: is required where the model is not one of the tables", param="apis")
    found = offers or offers_of(model, tables=tables, today=today)
    return found.current, found.ended, found.unpriced
