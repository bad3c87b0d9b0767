"""The answer: the volumes at which self-hosting is cheaper; and the cheapest machine for a scenario that names none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import partial
from typing import TYPE_CHECKING, Literal

from llama_client.crossover.caching import swing_of_cache
from llama_client.crossover.crossings import Crossings, Interval, Line, Staircase, crossings
from llama_client.crossover.draws import OPEN_FROM, OPEN_TO, CrossingBand, Draws, ProbabilityBand, Spread, draw
from llama_client.crossover.economics import CostInputs, Hybrid, Investment, cheapest_mix, investment, line, staircase
from llama_client.crossover.format import share, tokens, usd
from llama_client.crossover.offers import Offers
from llama_client.crossover.resolve import Resolved, resolve
from llama_client.crossover.scenario import ApiPrice, Scenario, invalid
from llama_client.crossover.sensitivity import Swing, swings
from llama_client.crossover.sizes import possible_sizes, smallest
from llama_client.crossover.tables import Tables
from llama_client.errors import InvalidRequestError

if TYPE_CHECKING:
    from llama_client.crossover.assumptions import Assumption
    from llama_client.crossover.throughput.points import MeasuredPoint


Verdict = Literal["never", "self-host", "api", "depends", "no-api"]
# The volumes of a chart or a band, spread evenly over orders of magnitude.
_VOLUMES = 61
# The middle of a step that is small against the whole.
_MANY_REPLICAS = 19.5


@dataclass(frozen=True, slots=True)
class Stated:
    """The answer if one assumed figure were stated as it is assumed.

    Attributes:
        name: The figure.
        probability: The share of draws in which self-hosting is cheaper then.
        saving: What it saves then, in US dollars a month.
    """

    name: str
    probability: float
    saving: Spread


@dataclass(frozen=True, slots=True)
class Crossover:
    """The volumes at which self-hosting is cheaper than an API, and the costs of both.

    Volumes are tokens a day, input and output together; costs are US dollars a month.

    Attributes:
        scenario: The question, with the number of GPUs that was picked where it left that out.
        resolved: The same in numbers, with their sources.
        today: The day for which it holds.
        crossings: The intervals with every figure at its assumed value, and whether all of them are listed.
        crossing_band: The volumes between which the draws leave the answer open; None: nothing drawn, or no API.
        band: The spread of the draws; None: nothing was drawn.
        verdict: `self-host` at the scenario's volume in more than 80% of the draws, `api` in less than 20%, `depends`
            between these and without a volume; `never` where no volume reaches 20%; `no-api` where none sells it.
            Without draws, what the figures give at their assumed values.
    """

    scenario: Scenario
    resolved: Resolved
    today: date
    crossings: Crossings
    crossing_band: CrossingBand | None
    band: ProbabilityBand | None
    verdict: Verdict
    _stairs: Staircase = field(repr=False)
    _lines: tuple[Line, ...] = field(repr=False)
    _draws: Draws | None = field(repr=False, compare=False)

    def _repr_html_(self) -> str:
        from llama_client.types.report import html_table

        volume = self.reference_volume
        likely = self.probability_at(volume)
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
        """The volumes at which self-hosting is cheaper: from above the first up to the second; None: for good."""
        return self.crossings.intervals

    @property
    def first_crossing(self) -> float | None:
        """The lowest volume above which self-hosting is cheaper; None: it never is."""
        return self.crossings.first

    @property
    def permanent_crossing(self) -> float | None:
        """The volume above which it stays cheaper; None: never for good."""
        return self.crossings.permanent

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """All assumptions, judgement first."""
        return self.resolved.assumptions

    @property
    def plan(self) -> CostInputs:
        """The scenario in numbers."""
        return self.resolved.plan

    @property
    def volume(self) -> float | None:
        """The scenario's own volume; None: all volumes are of interest."""
        return self.scenario.traffic.tokens_per_day

    @property
    def probability(self) -> float | None:
        """The share of draws in which self-hosting is cheaper at that volume; None: nothing was drawn, or no volume."""
        return None if self.volume is None else self.probability_at(self.volume)

    def probability_at(self, tokens_per_day: float) -> float | None:
        """The share of draws in which self-hosting is cheaper at a volume.

        Args:
            tokens_per_day: The volume, input and output together.

        Returns:
            None: nothing was drawn, or no API sells the model.
        """
        drawn = self._compared
        return None if drawn is None else drawn.probability(_volume(tokens_per_day))

    def saving(self, tokens_per_day: float | None = None) -> Spread | None:
        """What self-hosting saves against the cheapest API, in US dollars a month, over all draws; below 0: a loss.

        Args:
            tokens_per_day: The volume; None: the reference volume.

        Returns:
            None: nothing was drawn, or no API sells the model.
        """
        volume = self._volume_or_reference(tokens_per_day)
        drawn = self._compared
        return None if drawn is None else drawn.saving(volume)

    def if_stated(self) -> tuple[Stated, ...]:
        """The answer at the reference volume where one of the drawn figures is stated as it is assumed.

        Returns:
            One entry for each drawn figure, the one that narrows the saving most first; empty: nothing was drawn.
        """
        drawn, volume = self._compared, self.reference_volume
        if drawn is None:
            return ()
        found = []
        for name in drawn.varied:
            others = drawn.given(name)
            found.append(Stated(name, others.probability(volume), others.saving(volume)))
        return tuple(sorted(found, key=lambda each: each.saving.high - each.saving.low))

    @property
    def full_usd_per_mtok(self) -> Spread | None:
        """What a million tokens of a full replica costs, without staff, over all draws; None: nothing was drawn."""
        return None if self._draws is None else self._draws.full_usd_per_mtok()

    @property
    def _compared(self) -> Draws | None:
        return self._draws if self.plan.apis else None

    def _volume_or_reference(self, tokens_per_day: float | None) -> float:
        return self.reference_volume if tokens_per_day is None else _volume(tokens_per_day)

    def replicas(self, tokens_per_day: float) -> int:
        """Replicas that are paid for at a volume, spare ones included.

        Args:
            tokens_per_day: The volume, input and output together.
        """
        return self._stairs.replicas(_volume(tokens_per_day))

    def self_host_usd_per_month(self, tokens_per_day: float) -> float:
        """The cost of self-hosting at a volume.

        Args:
            tokens_per_day: The volume, input and output together.
        """
        return self._stairs.usd(_volume(tokens_per_day))

    def api_usd_per_month(self, tokens_per_day: float) -> float | None:
        """The cost of the cheapest API at a volume; None: no API sells the model.

        Args:
            tokens_per_day: The volume, input and output together.
        """
        volume = _volume(tokens_per_day)
        return min((each.usd(volume) for each in self._lines), default=None)

    def cheapest_api(self, tokens_per_day: float) -> ApiPrice | None:
        """The cheapest API at a volume; None: no API sells the model.

        Args:
            tokens_per_day: The volume, input and output together.
        """
        volume = _volume(tokens_per_day)
        return min(self.plan.apis, key=lambda api: line(api, self.plan).usd(volume), default=None)

    @property
    def replica_tokens_per_day(self) -> float:
        """The mean volume that fills one replica in the busiest hour."""
        return self._stairs.tokens_per_day_per_replica

    @property
    def break_even_utilisation(self) -> float | None:
        """The utilisation at which a replica costs what the API would; None: no API, or a free one.

        A replica's cost, divided by the API's cost of the tokens at its full rate within the latency limits. From
        `max_utilisation / peak_to_mean` on, self-hosting never pays off at any volume.
        """
        price = min((each.usd_per_daily_token for each in self._lines), default=0.0) - self._stairs.usd_per_daily_token
        if price <= 0:
            return None
        return self._stairs.usd_per_full_replica / (self.plan.full_tokens_per_day * self.plan.slo_derate * price)

    @property
    def reference_volume(self) -> float:
        """The volume of tables and plots: the scenario's own, else the crossing, else one full replica.

        Where it never crosses, so many replicas that one more or less does not matter.
        """
        if self.verdict == "never" and self.volume is None:
            return _MANY_REPLICAS * self.replica_tokens_per_day
        if self.crossing_band is not None:
            band = self.crossing_band
            return self.volume or band.likely or band.high or band.low or self.replica_tokens_per_day
        return self.volume or self.permanent_crossing or self.first_crossing or self.replica_tokens_per_day

    def volumes(self) -> tuple[float, ...]:
        """Volumes for a chart, evenly over orders of magnitude, around reference volume and crossings."""
        places = [self.reference_volume, self.replica_tokens_per_day, self.first_crossing, self.permanent_crossing]
        if self.crossing_band is not None:
            places[2:] = self.crossing_band.low, self.crossing_band.likely, self.crossing_band.high
        of_interest = [place for place in places if place]
        low, high = math.log10(min(of_interest) / 30), math.log10(max(of_interest) * 10)
        return tuple(10 ** (low + (high - low) * place / (_VOLUMES - 1)) for place in range(_VOLUMES))

    def swings(self) -> tuple[Swing, ...]:
        """The effect of each uncertain figure on its own at the reference volume, widest first."""
        volume = self.reference_volume
        found = swings(self.plan, self.assumptions, volume)
        cached = swing_of_cache(self.plan, self.resolved.rate, self.assumptions, volume)
        return found if cached is None else tuple(sorted((*found, cached), key=lambda swing: -swing.width))

    def hybrid(self, tokens_per_day: float | None = None) -> Hybrid | None:
        """The cheapest mix of own machines for the base and an API for the peaks.

        Args:
            tokens_per_day: The volume; None: the reference volume.

        Returns:
            None: no API sells the model.
        """
        volume = self._volume_or_reference(tokens_per_day)
        return cheapest_mix(self.plan, self.scenario.traffic.hourly_tokens, volume)

    def investment(self, tokens_per_day: float | None = None) -> Investment | None:
        """The return on buying the machines.

        Args:
            tokens_per_day: The volume; None: the reference volume.

        Returns:
            None: they are rented, or no API sells the model.
        """
        volume = self._volume_or_reference(tokens_per_day)
        return investment(self.plan, volume, self.today)


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
    """Compares self-hosting with APIs at all volumes.

    Args:
        scenario: The model, its traffic, the machine and the APIs; fields left out are looked up or assumed.
        tables: Rows of models, GPUs and prices; None: those of the package.
        offers: The APIs that sell the model, where the scenario names none; None: all known ones.
        measured: The user's own measurements; they win over published and estimated rates.
        draws: Draws of the uncertain figures, for a band and a probability; 0: none.
        seed: The seed of the draws.
        today: The day, for offers and the age of figures; None: the current one, in UTC.

    Returns:
        The answer. Its costs are US dollars a month as float, since a forecast is an estimate.

    Raises:
        InvalidRequestError: A name is unknown, a figure out of its range or missing, or the model does not fit.
        MissingExtraError: Draws were asked for, and numpy is missing.

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
    today, tables = today or datetime.now(UTC).date(), tables or Tables.bundled()
    if scenario.self_host.n_gpus is None:
        run = partial(evaluate, tables=tables, offers=offers, measured=measured, today=today)
        sizes = possible_sizes(scenario, tables, measured)
        picked = smallest(sizes, scenario, run, is_in_time=_is_in_time, cost=_cost)
        if not draws:
            return picked
        scenario = picked.scenario
    resolved = resolve(scenario, tables=tables, today=today, measured=measured, offers=offers)
    plan = resolved.plan
    stairs, lines = staircase(plan), tuple(line(api, plan) for api in plan.apis)
    exact = crossings(stairs, lines)
    drawn = draw(plan, resolved.assumptions, draws=draws, seed=seed) if draws else None
    between = drawn.crossing(exact) if drawn is not None and plan.apis else None
    found = Crossover(scenario, resolved, today, exact, between, None, "depends", stairs, lines, drawn)
    found = replace(found, verdict=_verdict(found))
    return found if drawn is None else replace(found, band=drawn.band(found.volumes()))


def _verdict(found: Crossover) -> Verdict:
    if not found.plan.apis:
        return "no-api"
    band = found.crossing_band
    if band.is_never if band is not None else not found.intervals:
        return "never"
    if found.volume is None:
        return "depends"
    likely = found.probability
    if likely is not None:
        return "self-host" if likely > OPEN_TO else "api" if likely < OPEN_FROM else "depends"
    api = found.api_usd_per_month(found.volume)
    assert api is not None
    return "self-host" if found.self_host_usd_per_month(found.volume) < api else "api"


def _volume(tokens_per_day: float) -> float:
    if isinstance(tokens_per_day, bool) or not 0 < tokens_per_day < math.inf:
        raise invalid("tokens_per_day", f"must be a number of tokens above 0, got {tokens_per_day!r}")
    return float(tokens_per_day)


@dataclass(frozen=True, slots=True)
class RankedMachines:
    """A scenario on several machines, cheapest first."""

    best: Crossover
    others: tuple[Crossover, ...]


def cheapest_machine(
    scenario: Scenario, evaluate: Callable[[Scenario], Crossover], *, tables: Tables
) -> RankedMachines:
    """Evaluates a scenario without a GPU on each machine that has a known price and holds the model."""
    found: list[Crossover] = []
    is_bought = scenario.self_host.purchase is not None
    error = invalid("gpu", f"no GPU of the tables can be {'bought' if is_bought else 'rented'}; name one")
    for gpu in tables.gpus:
        if tables.purchase(gpu.name) if is_bought else tables.rents(gpu.name):
            try:
                found.append(evaluate(replace(scenario, self_host=replace(scenario.self_host, gpu=gpu.name))))
            except InvalidRequestError as refusal:
                error = refusal
    if not found:
        raise error
    in_time = [each for each in found if _is_in_time(each)]
    # Rents without a date come last, however low they are.
    ranked = sorted(in_time or found, key=lambda each: (_is_undated(each), _cost(each)))
    return RankedMachines(ranked[0], tuple(ranked[1:]))


def _is_in_time(crossover: Crossover) -> bool:
    return not crossover.resolved.is_too_slow


def _is_undated(crossover: Crossover) -> bool:
    rent = crossover.resolved.assumption("gpu_usd_per_hour")
    return rent is not None and not rent.is_given and rent.as_of is None


def _cost(crossover: Crossover) -> float:
    """The cost of a month at the scenario's volume; without one, of a token in a further full replica."""
    volume, stairs = crossover.volume, staircase(crossover.plan)
    return stairs.usd_per_full_daily_token if volume is None else stairs.usd(volume)
