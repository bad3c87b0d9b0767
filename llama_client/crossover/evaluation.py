"""The answer: on which volumes self-hosting is cheaper, and the cheapest machine for a scenario that names none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Literal

from llama_client.crossover.crossings import Crossings, Interval, Line, Staircase, crossings
from llama_client.crossover.economics import (
    MAX_MONTHS,
    CostInputs,
    Hybrid,
    Investment,
    LoadCurve,
    cheapest_mix,
    internal_rate_per_year,
    line,
    net_present_value_usd,
    payback_months,
    running_usd_per_replica,
    staircase,
)
from llama_client.crossover.format import share, tokens, usd
from llama_client.crossover.offers import Offers
from llama_client.crossover.resolve import Resolved, resolve
from llama_client.crossover.scenario import ApiPrice, Scenario
from llama_client.crossover.sensitivity import ProbabilityBand, Swing, band, swings
from llama_client.crossover.tables import Tables
from llama_client.errors import InvalidRequestError

if TYPE_CHECKING:
    from llama_client.crossover.assumptions import Assumption
    from llama_client.crossover.throughput.points import MeasuredPoint


Verdict = Literal["never", "self-host", "api", "depends", "no-api"]
# Between these, nobody can say which side is cheaper.
_UNSURE_FROM, _UNSURE_TO = 0.2, 0.8
# Volumes of a chart or a band: so many, spread evenly over orders of magnitude.
_VOLUMES = 61
_DAYS_A_YEAR = 365.25
# In the middle of a step.
_MANY_REPLICAS = 19.5


@dataclass(frozen=True, slots=True)
class Crossover:
    """When one's own machines are cheaper than an API.

    Attributes:
        scenario: What was asked.
        resolved: The same in numbers, with what they rest on.
        today: The day for which it holds.
        crossings: The intervals, and whether all of them are listed.
        band: How sure that is; None: nothing was drawn.
        verdict: `never`, `no-api`, `self-host` or `api` at the scenario's volume, or `depends`.
    """

    scenario: Scenario
    resolved: Resolved
    today: date
    crossings: Crossings
    band: ProbabilityBand | None
    verdict: Verdict
    _stairs: Staircase = field(repr=False)
    _lines: tuple[Line, ...] = field(repr=False)

    def _repr_html_(self) -> str:
        """The verdict and what leads to it as a table in a notebook."""
        from llama_client.types.report import html_table

        volume, likely = self.reference_volume, self.probability
        api = self.api_usd_per_month(volume)
        cheaper = [
            f"{tokens(low)} to {tokens(high)}" if high else f"over {tokens(low)}" for low, high in self.intervals
        ]
        rows = [
            ("verdict", self.verdict),
            ("self-hosting is cheaper at", f"{', '.join(cheaper)} tokens a day" if cheaper else "no volume"),
            (f"self-hosting {tokens(volume)} tokens a day", f"{usd(self.self_host_usd_per_month(volume))} a month"),
            ("the same from the cheapest API", "not sold" if api is None else f"{usd(api)} a month"),
            ("probability that self-hosting is cheaper", "not drawn" if likely is None else share(likely)),
        ]
        gpu = self.scenario.self_host.gpu or "own GPU"
        return html_table(f"{self.scenario.model or 'model'} on {self.plan.n_gpus} x {gpu}", ("figure", "value"), rows)

    @property
    def intervals(self) -> list[Interval]:
        """Tokens a day on which one's own are cheaper: from above the first up to the second; None: for good."""
        return self.crossings.intervals

    @property
    def first_crossing(self) -> float | None:
        """The lowest volume above which one's own are cheaper; None: they never are."""
        return self.crossings.first

    @property
    def permanent_crossing(self) -> float | None:
        """The volume above which they stay cheaper; None: never for good."""
        return self.crossings.permanent

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """What all of it rests on, judgement first."""
        return self.resolved.assumptions

    @property
    def plan(self) -> CostInputs:
        """The scenario in numbers."""
        return self.resolved.plan

    @property
    def volume(self) -> float | None:
        """The scenario's own volume, in tokens a day; None: it was asked for all."""
        return self.scenario.traffic.tokens_per_day

    @property
    def probability(self) -> float | None:
        """How likely one's own are cheaper at the scenario's volume; None: nothing was drawn, or there is no volume."""
        return None if self.band is None else self.band.at_volume

    def replicas(self, tokens_per_day: float) -> int:
        """Replicas that are paid for at a volume, spare ones included.

        Args:
            tokens_per_day: The volume, input and output together.
        """
        return self._stairs.replicas(_volume(tokens_per_day))

    def self_host_usd_per_month(self, tokens_per_day: float) -> float:
        """What one's own machines cost a month at a volume.

        Args:
            tokens_per_day: The volume, input and output together.
        """
        return self._stairs.usd(_volume(tokens_per_day))

    def api_usd_per_month(self, tokens_per_day: float) -> float | None:
        """What the cheapest API costs a month at a volume; None: nobody sells the model.

        Args:
            tokens_per_day: The volume, input and output together.
        """
        volume = _volume(tokens_per_day)
        return min((each.usd(volume) for each in self._lines), default=None)

    def cheapest_api(self, tokens_per_day: float) -> ApiPrice | None:
        """Who sells it cheapest at a volume; None: nobody does.

        Args:
            tokens_per_day: The volume, input and output together.
        """
        volume = _volume(tokens_per_day)
        return min(self.plan.apis, key=lambda api: line(api, self.plan).usd(volume), default=None)

    @property
    def replica_tokens_per_day(self) -> float:
        """The volume that fills one replica, its peaks included."""
        return self._stairs.tokens_per_day_per_replica

    @property
    def break_even_utilisation(self) -> float | None:
        """The share of its usable rate at which a replica costs what the API would; None: there is none, or it is free.

        What a replica costs, divided by what the tokens of its full rate, with answers as quick as they must be, would
        cost at the cheapest API. At `max_utilisation / peak_to_mean` and above it never pays off, whatever the volume.
        """
        price = min((each.usd_per_daily_token for each in self._lines), default=0.0) - self._stairs.usd_per_daily_token
        if price <= 0:
            return None
        return self._stairs.usd_per_replica / (self.plan.full_tokens_per_day * self.plan.slo_derate * price)

    @property
    def reference_volume(self) -> float:
        """The volume of tables and pictures: the scenario's own, else where it crosses, else one full replica.

        Where it never crosses, so many replicas that a step more or less says nothing.
        """
        if self.verdict == "never" and self.volume is None:
            return _MANY_REPLICAS * self.replica_tokens_per_day
        return self.volume or self.permanent_crossing or self.first_crossing or self.replica_tokens_per_day

    def volumes(self) -> tuple[float, ...]:
        """Volumes for a chart, evenly over orders of magnitude, around all that is of interest."""
        of_interest = [self.reference_volume, self.replica_tokens_per_day, self.first_crossing or self.reference_volume]
        if self.permanent_crossing:
            of_interest.append(self.permanent_crossing)
        low, high = math.log10(min(of_interest) / 30), math.log10(max(of_interest) * 10)
        return tuple(10 ** (low + (high - low) * place / (_VOLUMES - 1)) for place in range(_VOLUMES))

    def swings(self) -> tuple[Swing, ...]:
        """What each uncertain figure changes on its own at the volume of reference, widest first."""
        return swings(self.plan, self.assumptions, self.reference_volume)

    def hybrid(self, tokens_per_day: float | None = None) -> Hybrid | None:
        """The cheapest mix of one's own machines for the base and an API for the peaks.

        Args:
            tokens_per_day: The volume; None: the one of reference.

        Returns:
            None: nobody sells the model.
        """
        plan, traffic = self.plan, self.scenario.traffic
        return cheapest_mix(
            self._stairs,
            self._lines,
            LoadCurve(peak_to_mean=plan.peak_to_mean, hourly_tokens=traffic.hourly_tokens),
            tokens_per_day=self.reference_volume if tokens_per_day is None else _volume(tokens_per_day),
            usable_tokens_per_day=plan.usable_tokens_per_day,
        )

    def investment(self, tokens_per_day: float | None = None) -> Investment | None:
        """What buying the machines brings.

        Args:
            tokens_per_day: The volume; None: the one of reference.

        Returns:
            None: they are rented, or nobody sells the model.
        """
        owned, plan = self.plan.owned, self.plan
        if owned is None or not self._lines:
            return None
        volume = self.reference_volume if tokens_per_day is None else _volume(tokens_per_day)
        replicas = self._stairs.replicas(volume)
        price = replicas * plan.n_gpus * owned.usd_per_gpu
        running = (
            replicas * running_usd_per_replica(plan)
            + self._stairs.fixed_usd
            + self._stairs.usd_per_daily_token * volume
        )

        def saved(month: int) -> float | None:
            api = self._api_usd_in_month(volume, month)
            return None if api is None else api - running

        known = next((month - 1 for month in range(1, MAX_MONTHS + 1) if saved(month) is None), None)
        months = min(math.ceil(owned.months), MAX_MONTHS if known is None else known)
        flows = [-price, *(saved(month) or 0.0 for month in range(1, months + 1))]
        sold = [*flows[:-1], flows[-1] + price * owned.residual_share]
        return Investment(
            replicas=replicas,
            price_usd=price,
            running_usd_per_month=running,
            api_usd_per_month=self.api_usd_per_month(volume) or 0.0,
            payback_months=payback_months(price, saved),
            discounted_payback_months=payback_months(price, saved, monthly_interest=owned.monthly_interest),
            npv_usd=net_present_value_usd(sold, owned.monthly_interest),
            irr_per_year=internal_rate_per_year(sold),
            cash_usd=tuple(_summed(flows)),
            compared_months=known,
        )

    def _api_usd_in_month(self, volume: float, month: int) -> float | None:
        """What the cheapest API that is still sold costs in a month to come, and leaving the one that no longer is."""
        now = self._cheapest_in_month(volume, month)
        if now is None:
            return None
        before = self._cheapest_in_month(volume, month - 1) if month > 1 else None
        is_left = before is not None and not self._is_sold_in_month(before[1], month)
        return now[0] + (before[1].migration_usd if before is not None and is_left else 0.0)

    def _cheapest_in_month(self, volume: float, month: int) -> tuple[float, ApiPrice] | None:
        sold = [
            (each.fixed_usd + each.usd_per_daily_token * volume * (1 - api.yearly_decline) ** ((month - 1) / 12), api)
            for api, each in zip(self.plan.apis, self._lines, strict=True)
            if self._is_sold_in_month(api, month)
        ]
        return min(sold, key=lambda each: each[0], default=None)

    def _is_sold_in_month(self, api: ApiPrice, month: int) -> bool:
        return api.available_until is None or month <= (api.available_until - self.today).days / _DAYS_A_YEAR * 12


def evaluate(
    scenario: Scenario,
    *,
    tables: Tables | None = None,
    offers: Offers | None = None,
    measured: Sequence[MeasuredPoint] = (),
    draws: int = 0,
    seed: int = 0,
    today: date | None = None,
) -> Crossover:
    """When one's own machines are cheaper than an API.

    Args:
        scenario: The model, its traffic, the machine and who sells the model; what is left out is looked up or assumed.
        tables: What is known of models, GPUs and rents; None: what comes with the package.
        offers: Who sells the model, where the scenario does not say; None: whoever is known to.
        measured: What the user measured; wins over published and estimated rates.
        draws: How often uncertain figures are drawn, for a band and a probability; 0: not at all.
        seed: Of the draws.
        today: The day, for who sells what and how old a figure is; None: this one.

    Returns:
        The answer. Its costs are US dollars a month as float, since a forecast is an estimate.

    Raises:
        InvalidRequestError: A name is unknown, a figure out of its range or missing, or the model does not fit.
        ProviderNotInstalledError: numpy is missing, and something was to be drawn.

    Examples:
        >>> from llama_client.crossover import ApiPrice, Scenario, SelfHost, Traffic, evaluate
        >>> crossover = evaluate(Scenario(
        ...     model="llama-3.1-8b",
        ...     traffic=Traffic(tokens_per_day=1e9, output_share=0.5, peak_to_mean=1),
        ...     self_host=SelfHost(gpu="h100_sxm", gpu_usd_per_hour=2.69, tokens_per_second=15220, slo_derate=0.8,
        ...                        ops_usd_per_month=0),
        ...     apis=[ApiPrice(input_usd_per_mtok=0.18, output_usd_per_mtok=0.18)],
        ... ))
        >>> crossover.verdict
        'self-host'
        >>> crossover.replicas(1e9)
        1
    """
    today = today or datetime.now(UTC).date()
    resolved = resolve(scenario, tables=tables or Tables.bundled(), today=today, measured=measured, offers=offers)
    plan = resolved.plan
    stairs, lines = staircase(plan), tuple(line(api, plan) for api in plan.apis)
    found = Crossover(scenario, resolved, today, crossings(stairs, lines), None, "depends", stairs, lines)
    if draws:
        drawn = band(plan, resolved.assumptions, found.volumes(), draws=draws, seed=seed, at=found.volume)
        found = replace(found, band=drawn)
    return replace(found, verdict=_verdict(found))


def _verdict(found: Crossover) -> Verdict:
    if not found.plan.apis:
        return "no-api"
    if not found.intervals:
        return "never"
    volume, likely = found.volume, found.probability
    if volume is None or (likely is not None and _UNSURE_FROM < likely < _UNSURE_TO):
        return "depends"
    api = found.api_usd_per_month(volume)
    assert api is not None
    return "self-host" if found.self_host_usd_per_month(volume) < api else "api"


def _summed(flows: Sequence[float]) -> list[float]:
    sums, total = [], 0.0
    for flow in flows:
        total += flow
        sums.append(total)
    return sums


def _volume(tokens_per_day: float) -> float:
    if isinstance(tokens_per_day, bool) or not 0 < tokens_per_day < math.inf:
        raise InvalidRequestError(
            f"tokens_per_day: must be a number of tokens above 0, got {tokens_per_day!r}", param="tokens_per_day"
        )
    return float(tokens_per_day)


# Servers have so many GPUs; a replica is never split over more.
_GPUS_OF_A_REPLICA = (1, 2, 4, 8)
_SIZES_TRIED = 2


@dataclass(frozen=True, slots=True)
class RankedMachines:
    """Machines for a scenario, cheapest first.

    Attributes:
        best: The one that is compared.
        others: The next ones.
    """

    best: Crossover
    others: tuple[Crossover, ...]


def choose(scenario: Scenario, evaluate: Callable[[Scenario], Crossover], *, tables: Tables) -> RankedMachines:
    """Evaluates a scenario on each machine that can be rented and holds the model, and puts the cheapest first.

    Each GPU is taken as often as the model needs it, or twice that where this is cheaper, up to eight. The cheapest is
    that whose month costs least at the scenario's volume; without a volume, whose full replica costs least for a token.
    Machines whose rent has no date come last.

    Args:
        scenario: With no `gpu`; its `n_gpus` is not looked at.
        evaluate: How one is evaluated.
        tables: What is known of GPUs and rents.

    Raises:
        InvalidRequestError: No machine does; the message is that of the last one.
    """
    found: list[Crossover] = []
    error = InvalidRequestError("gpu: no GPU of the tables can be rented; name one", param="gpu")
    for gpu in tables.gpus:
        if tables.rents(gpu.name):
            try:
                found.append(_cheapest(scenario, gpu.name, evaluate))
            except InvalidRequestError as refusal:
                error = refusal
    if not found:
        raise error
    ranked = sorted(found, key=lambda each: (_is_undated(each), _cost(each)))
    return RankedMachines(ranked[0], tuple(ranked[1:]))


def _cheapest(scenario: Scenario, gpu: str, evaluate: Callable[[Scenario], Crossover]) -> Crossover:
    """The scenario on the fewest GPUs of a kind that hold the model and answer in time, or on twice as many."""
    found: list[Crossover] = []
    for count in _GPUS_OF_A_REPLICA:
        try:
            found.append(evaluate(replace(scenario, self_host=replace(scenario.self_host, gpu=gpu, n_gpus=count))))
        except InvalidRequestError:
            if not found and count == _GPUS_OF_A_REPLICA[-1]:
                raise
        if len(found) == _SIZES_TRIED:
            break
    return min(found, key=_cost)


def _is_undated(crossover: Crossover) -> bool:
    rent = crossover.resolved.assumption("gpu_usd_per_hour")
    return rent is not None and not rent.is_given and rent.as_of is None


def _cost(crossover: Crossover) -> float:
    volume = crossover.volume
    if volume is not None:
        return crossover.self_host_usd_per_month(volume)
    full = crossover.replica_tokens_per_day
    return (crossover.self_host_usd_per_month(2 * full) - crossover.self_host_usd_per_month(full)) / full
