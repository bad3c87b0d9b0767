"""Monthly costs: an API as a line over volume, machines as a staircase, a mix of both; and the return on a purchase."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from llama_client.crossover.crossings import Line, Staircase
from llama_client.crossover.scenario import ApiPrice

HOURS_A_DAY, SECONDS_AN_HOUR, MTOK = 24.0, 3600.0, 1e6


@dataclass(frozen=True, slots=True)
class Owned:
    """A bought machine in numbers, as in `Purchase`; figures are of one GPU unless noted."""

    usd_per_gpu: float
    months: float
    residual_share: float
    yearly_interest: float
    idle_w: float
    load_w: float
    node_factor: float
    pue: float
    usd_per_kwh: float
    colocation_usd_per_month: float  # for each replica
    support_share_per_year: float

    @property
    def monthly_interest(self) -> float:
        return float((1 + self.yearly_interest) ** (1 / 12) - 1)

    def usd_per_hour(self, watts: float) -> float:
        """The price of an hour at a GPU's power, with its node and building."""
        return watts * self.node_factor * self.pue / 1000 * self.usd_per_kwh


@dataclass(frozen=True, slots=True)
class CostInputs:
    """A scenario in numbers; fields mean the same as in `Traffic` and `SelfHost`."""

    tokens_per_second: float  # of one replica under full load: output, or all tokens where `counts_input`
    counts_input: bool
    slo_derate: float
    max_utilisation: float
    n_gpus: int
    gpu_usd_per_hour: float  # 0 where it is bought
    spot_overhead: float
    owned: Owned | None
    min_replicas: int
    spare: int
    ops_usd_per_month: float
    storage_usd_per_month: float
    powered_hours_per_month: float
    hours_per_month: float
    escalated_share: float
    output_share: float
    cached_share: float
    batch_share: float
    retry_share: float
    peak_to_mean: float
    tokens_per_request: float
    apis: tuple[ApiPrice, ...]
    escalation: ApiPrice | None = None  # the API that takes the escalated share

    @property
    def days_per_month(self) -> float:
        return self.hours_per_month / HOURS_A_DAY

    @property
    def full_tokens_per_day(self) -> float:
        """Tokens of the traffic, input too, that one replica serves in a day under full load."""
        seconds = SECONDS_AN_HOUR * self.powered_hours_per_month / self.days_per_month
        return self.tokens_per_second * seconds / (1.0 if self.counts_input else self.output_share)

    @property
    def usable_tokens_per_day(self) -> float:
        """The same within the latency limits and the planned utilisation: the most of an even load."""
        return self.full_tokens_per_day * self.slo_derate * self.max_utilisation


def usd_per_mtok(api: ApiPrice, plan: CostInputs) -> float:
    """An API's price of a million of the traffic's tokens, monthly fees apart.

    Input (cached or not) and output by their shares, less the discount of batches, plus the fee of a request; all of it
    more by the share of retries.
    """
    cached = api.input_usd_per_mtok if api.cached_usd_per_mtok is None else api.cached_usd_per_mtok
    share = plan.cached_share
    of_input = (1 - share) * (api.input_usd_per_mtok + api.cache_write_usd_per_mtok) + share * cached
    tokens = (1 - plan.output_share) * of_input + plan.output_share * api.output_usd_per_mtok
    tokens *= api.token_ratio * (1 - plan.batch_share * api.batch_discount)
    return (tokens + api.usd_per_request * MTOK / plan.tokens_per_request) * (1 + plan.retry_share)


def line(api: ApiPrice, plan: CostInputs) -> Line:
    return Line(usd_per_mtok(api, plan) / MTOK * plan.days_per_month, api.fees_usd_per_month)


def staircase(plan: CostInputs) -> Staircase:
    """The machines' cost a month over tokens a day.

    The mean volume of a replica is its usable one divided by the peak: the fleet is sized for the busiest hour and paid
    for in all hours.
    """
    escalated = Line(0.0) if plan.escalation is None else line(plan.escalation, plan)
    return Staircase(
        tokens_per_day_per_replica=plan.usable_tokens_per_day / plan.peak_to_mean,
        usd_per_replica=_usd_per_replica(plan),
        fixed_usd=plan.ops_usd_per_month + plan.storage_usd_per_month + escalated.fixed_usd,
        usd_per_daily_token=_energy_usd_per_daily_token(plan) + plan.escalated_share * escalated.usd_per_daily_token,
        min_replicas=plan.min_replicas,
        spare=plan.spare,
    )


def running_usd_per_replica(plan: CostInputs) -> float:
    """A bought replica's cost a month beside its price: idle power, colocation, support."""
    owned = plan.owned
    if owned is None:
        return 0.0
    power = plan.n_gpus * owned.usd_per_hour(owned.idle_w) * plan.powered_hours_per_month
    support = plan.n_gpus * owned.usd_per_gpu * owned.support_share_per_year / 12
    return power + support + owned.colocation_usd_per_month


def capital_usd_per_month(price_usd: float, *, months: float, residual_usd: float, monthly_interest: float) -> float:
    """The even monthly charge (annuity) that pays off a price less its residual value.

    Examples:
        >>> round(capital_usd_per_month(36_000, months=36, residual_usd=0, monthly_interest=0))
        1000
        >>> round(capital_usd_per_month(36_000, months=36, residual_usd=0, monthly_interest=0.01))
        1196
    """
    if monthly_interest == 0:
        return (price_usd - residual_usd) / months
    left = (1 + monthly_interest) ** -months
    return float((price_usd - residual_usd * left) * monthly_interest / (1 - left))


def _usd_per_replica(plan: CostInputs) -> float:
    owned = plan.owned
    if owned is None:
        return plan.n_gpus * plan.gpu_usd_per_hour * (1 + plan.spot_overhead) * plan.powered_hours_per_month
    price = plan.n_gpus * owned.usd_per_gpu
    return running_usd_per_replica(plan) + capital_usd_per_month(
        price,
        months=owned.months,
        residual_usd=price * owned.residual_share,
        monthly_interest=owned.monthly_interest,
    )


def _energy_usd_per_daily_token(plan: CostInputs) -> float:
    """The power that load adds to idle power: proportional to the tokens, up to full power at the full rate."""
    owned = plan.owned
    if owned is None:
        return 0.0
    full = plan.n_gpus * owned.usd_per_hour(owned.load_w - owned.idle_w) * plan.powered_hours_per_month
    return full / plan.full_tokens_per_day


@dataclass(frozen=True, slots=True)
class Hybrid:
    """The cheapest mix at one volume."""

    replicas: int  # spare ones included; 0: all goes to the API
    api_share: float  # of the tokens
    usd_per_month: float
    saves_usd_per_month: float  # against the cheaper of all self-hosted and all API; at least 0


class LoadCurve:
    """The spread of the load over hours: the share of it above a capacity.

    Without measured hours, the load is R (1 - x)^(R - 1) times the mean after the busiest share x of the time: the mean
    is 1, the peak R, and R = 1 is flat.

    Examples:
        >>> round(LoadCurve(peak_to_mean=2).share_above(1.0), 3)
        0.25
        >>> LoadCurve(hourly_tokens=(1, 3)).share_above(1.0)
        0.25
        >>> LoadCurve(peak_to_mean=1).share_above(0.4)
        0.6
    """

    def __init__(self, *, peak_to_mean: float = 1.0, hourly_tokens: Sequence[float] = ()) -> None:
        self.peak_to_mean = peak_to_mean
        self._loads: list[float] = []
        if hourly_tokens:
            mean = math.fsum(hourly_tokens) / len(hourly_tokens)
            self._loads = sorted(load / mean for load in hourly_tokens)
            # Sums of the loads from each place on.
            self._above: list[float] = [*list(accumulate(reversed(self._loads)))[::-1], 0.0]
            self.peak_to_mean = self._loads[-1]

    def share_above(self, capacity: float) -> float:
        """The share of all tokens above a capacity, in means."""
        peak = self.peak_to_mean
        if capacity >= peak:
            return 0.0
        if capacity <= 0:
            return 1.0
        if self._loads:
            place = bisect.bisect_right(self._loads, capacity)
            busy = len(self._loads) - place
            return float((self._above[place] - busy * capacity) / len(self._loads))
        if peak == 1:
            return 1 - capacity
        left = float((capacity / peak) ** (1 / (peak - 1)))
        return float((1 - left**peak) - capacity * (1 - left))


def cheapest_mix(
    stairs: Staircase, lines: Sequence[Line], curve: LoadCurve, *, tokens_per_day: float, usable_tokens_per_day: float
) -> Hybrid | None:
    """The cheapest number of replicas for the base of the load, with one API for what is above them; None: no API."""
    if not lines:
        return None

    def share(base: int) -> float:
        return curve.share_above(base * usable_tokens_per_day / tokens_per_day)

    def usd(base: int, line: Line) -> float:
        to_api = tokens_per_day * share(base)
        own = stairs.step_usd(base) + stairs.usd_per_daily_token * (tokens_per_day - to_api) if base else 0.0
        return own + (line.usd(to_api) if to_api > 0 else 0.0)

    most = max(stairs.min_replicas, math.ceil(curve.peak_to_mean * tokens_per_day / usable_tokens_per_day))
    tried = [(usd(base, line), base) for line in lines for base in (0, most)]
    if most > stairs.min_replicas:
        # While an API takes some load, each further machine saves less than the one before: costs fall, then rise.
        found = ((line, _lowest(partial(usd, line=line), stairs.min_replicas, most - 1)) for line in lines)
        tried += [(usd(base, line), base) for line, base in found]
    cost, base = min(tried)
    pure = min(stairs.usd(tokens_per_day), *(line.usd(tokens_per_day) for line in lines))
    return Hybrid(base + stairs.spare if base else 0, share(base), cost, max(0.0, pure - cost))


def _lowest(usd: Callable[[int], float], low: int, high: int) -> int:
    """The minimum between two numbers of a cost that falls, then rises."""
    while low < high:
        middle = (low + high) // 2
        if usd(middle) <= usd(middle + 1):
            high = middle
        else:
            low = middle + 1
    return low


# A payback of more than a hundred years is none.
MAX_MONTHS = 1_200


@dataclass(frozen=True, slots=True)
class Investment:
    """The return on buying machines instead of paying an API, at one volume."""

    replicas: int
    price_usd: float  # of all replicas
    running_usd_per_month: float  # power, colocation, support and staff
    api_usd_per_month: float  # in the first month
    payback_months: float | None  # None: not within a hundred years
    discounted_payback_months: float | None
    npv_usd: float  # over the period of depreciation, with the residual value
    irr_per_year: float | None
    cash_usd: tuple[float, ...]  # the balance after each month; the first is the price alone
    compared_months: int | None  # months for which an API sells the model; None: no end is known


def payback_months(
    price_usd: float, saved_usd: Callable[[int], float | None], *, monthly_interest: float = 0.0
) -> float | None:
    """The month, with a fraction, at which savings have paid for a price; None: never, or `saved_usd` ends before.

    Examples:
        >>> payback_months(1000, lambda month: 400)
        2.5
        >>> payback_months(1000, lambda month: -1) is None
        True
    """
    left = price_usd
    for month in range(1, MAX_MONTHS + 1):
        saved = saved_usd(month)
        if saved is None:
            return None
        saved /= (1 + monthly_interest) ** month
        if saved >= left:
            return month - 1 + (left / saved if saved > 0 else 0.0)
        left -= saved
    return None


def net_present_value_usd(flows_usd: list[float], monthly_interest: float) -> float:
    # By Horner's rule: the powers of an extreme rate would overflow a float.
    worth, kept = 0.0, 1 / (1 + monthly_interest)
    for flow in reversed(flows_usd):
        worth = worth * kept + flow
    return worth


def internal_rate_per_year(flows_usd: list[float]) -> float | None:
    """The yearly interest at which the net present value is 0; None: there is none.

    Examples:
        >>> round(internal_rate_per_year([-1000] + [0] * 11 + [1100]), 3)
        0.1
    """
    low, high = -0.5, 100.0
    if not net_present_value_usd(flows_usd, low) > 0 > net_present_value_usd(flows_usd, high):
        return None
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if net_present_value_usd(flows_usd, middle) > 0 else (low, middle)
    return float((1 + low) ** 12 - 1)
