"""Monthly costs: an API as a line over volume, machines as a staircase, a mix of both; and the return on a purchase."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import accumulate

from llama_client.crossover.crossings import MAX_REPLICAS, Line, Staircase
from llama_client.crossover.scenario import ApiPrice

HOURS_A_DAY, SECONDS_AN_HOUR, DAYS_A_YEAR, MTOK = 24.0, 3600.0, 365.25, 1e6


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
    # What stands around the GPUs; of a chip that is a computer of its own: nothing.
    computer: str | None = None
    gpus_per_computer: int = 1
    computer_usd: float = 0.0  # without its GPUs
    is_sold_full: bool = False  # its GPUs are on one board, and are bought together
    kw_per_gpu: float = 0.0  # the power that a place in a rack must have for each slot; 0: it stands elsewhere
    colocation_usd_per_kw: float = 0.0  # a month

    @property
    def monthly_interest(self) -> float:
        return float((1 + self.yearly_interest) ** (1 / 12) - 1)

    @property
    def capital_share_per_month(self) -> float:
        """The even monthly charge (annuity) that pays off a dollar of a price less its residual value."""
        if self.monthly_interest == 0:
            return (1 - self.residual_share) / self.months
        left = float((1 + self.monthly_interest) ** -self.months)
        return (1 - self.residual_share * left) * self.monthly_interest / (1 - left)

    @property
    def charge_share_per_month(self) -> float:
        """What a dollar of the price costs a month: its capital, and support."""
        return self.capital_share_per_month + self.support_share_per_year / 12

    def replicas_per_computer(self, n_gpus: int) -> int:
        """Whole replicas of so many GPUs; 1 where a replica needs a computer or more."""
        return max(1, self.gpus_per_computer // n_gpus)

    def computers_per_replica(self, n_gpus: int) -> int:
        return math.ceil(n_gpus / self.gpus_per_computer)

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
    """An API's price of a million of the traffic's tokens, monthly fees apart."""
    cached = api.input_usd_per_mtok if api.cached_usd_per_mtok is None else api.cached_usd_per_mtok
    share = plan.cached_share
    # Without reads from the cache, nothing is written to it.
    written = api.cache_write_usd_per_mtok if share else 0.0
    of_input = (1 - share) * (api.input_usd_per_mtok + written) + share * cached
    tokens = (1 - plan.output_share) * of_input + plan.output_share * api.output_usd_per_mtok
    tokens = (1 - plan.batch_share) * tokens + plan.batch_share * _batch_usd_per_mtok(api, plan, tokens)
    tokens *= api.token_ratio
    return (tokens + api.usd_per_request * MTOK / plan.tokens_per_request) * (1 + plan.retry_share)


def _batch_usd_per_mtok(api: ApiPrice, plan: CostInputs, usual: float) -> float:
    """The price of a million tokens that wait for the batch API: its own, else the usual one less the discount."""
    if api.batch_input_usd_per_mtok is None or api.batch_output_usd_per_mtok is None:
        return usual * (1 - api.batch_discount)
    own = (1 - plan.output_share) * api.batch_input_usd_per_mtok + plan.output_share * api.batch_output_usd_per_mtok
    # Its use is optional: with much of the input cached, the usual price may be lower.
    return min(usual, own)


def cheapest_somewhere(plan: CostInputs) -> tuple[ApiPrice, ...]:
    """The APIs of which no other has both the lower price by the token and the lower fees."""
    lines = sorted(((line(api, plan), place) for place, api in enumerate(plan.apis)), key=_by_price)
    kept: list[int] = []
    fees = math.inf
    for each, place in lines:
        if each.fixed_usd < fees:
            kept.append(place)
            fees = each.fixed_usd
    return tuple(plan.apis[place] for place in sorted(kept))


def _by_price(found: tuple[Line, int]) -> tuple[float, float, int]:
    each, place = found
    return each.usd_per_daily_token, each.fixed_usd, place


def line(api: ApiPrice, plan: CostInputs) -> Line:
    return Line(usd_per_mtok(api, plan) / MTOK * plan.days_per_month, api.fees_usd_per_month)


def staircase(plan: CostInputs) -> Staircase:
    """The machines' cost a month over tokens a day."""
    escalated = Line(0.0) if plan.escalation is None else line(plan.escalation, plan)
    usd_per_block, replicas_per_block = 0.0, 1
    if plan.owned is None:
        rent = plan.gpu_usd_per_hour * (1 + plan.spot_overhead) * plan.powered_hours_per_month
        usd_per_replica, energy = plan.n_gpus * rent, 0.0
    else:
        usd_per_replica, usd_per_block = _owned_usd(plan, plan.owned)
        replicas_per_block = plan.owned.replicas_per_computer(plan.n_gpus)
        if replicas_per_block == 1:
            usd_per_replica, usd_per_block = usd_per_replica + usd_per_block, 0.0
        # The power that load adds to idle power: proportional to the tokens, up to full power at the full rate.
        full = plan.n_gpus * plan.owned.usd_per_hour(plan.owned.load_w - plan.owned.idle_w)
        energy = full * plan.powered_hours_per_month / plan.full_tokens_per_day
    return Staircase(
        # The fleet is sized for the busiest hour, and paid for in all hours.
        tokens_per_day_per_replica=plan.usable_tokens_per_day / plan.peak_to_mean,
        usd_per_replica=usd_per_replica,
        fixed_usd=plan.ops_usd_per_month + plan.storage_usd_per_month + escalated.fixed_usd,
        usd_per_daily_token=energy + plan.escalated_share * escalated.usd_per_daily_token,
        min_replicas=plan.min_replicas,
        spare=plan.spare,
        usd_per_block=usd_per_block,
        replicas_per_block=replicas_per_block,
    )


def _owned_usd(plan: CostInputs, owned: Owned) -> tuple[float, float]:
    """What a bought replica costs a month, and each group of computers that it or several of them fill."""
    computers = owned.computers_per_replica(plan.n_gpus)
    a_gpu = owned.usd_per_gpu * owned.charge_share_per_month
    a_gpu += owned.usd_per_hour(owned.idle_w) * plan.powered_hours_per_month
    place = owned.gpus_per_computer * owned.kw_per_gpu * owned.colocation_usd_per_kw
    a_computer = owned.computer_usd * owned.charge_share_per_month + place
    if owned.is_sold_full:
        return owned.colocation_usd_per_month, computers * (a_computer + owned.gpus_per_computer * a_gpu)
    return owned.colocation_usd_per_month + plan.n_gpus * a_gpu, computers * a_computer


@dataclass(frozen=True, slots=True)
class BoughtHardware:
    """What is bought for a number of replicas: whole computers."""

    gpus: int
    computers: int | None  # None: it is not known what stands around the GPUs
    gpus_per_computer: int
    computer: str | None
    usd: float


def bought_hardware(plan: CostInputs, replicas: int) -> BoughtHardware | None:
    """The hardware of a number of replicas; None: it is rented."""
    owned = plan.owned
    if owned is None:
        return None
    groups = math.ceil(replicas / owned.replicas_per_computer(plan.n_gpus))
    computers = groups * owned.computers_per_replica(plan.n_gpus)
    gpus = computers * owned.gpus_per_computer if owned.is_sold_full else replicas * plan.n_gpus
    usd = gpus * owned.usd_per_gpu + computers * owned.computer_usd
    known = computers if owned.computer is not None else None
    return BoughtHardware(gpus, known, owned.gpus_per_computer, owned.computer, usd)


@dataclass(frozen=True, slots=True)
class Hybrid:
    """The cheapest mix at one volume."""

    replicas: int  # spare ones included; 0: all goes to the API
    api_share: float  # of the tokens
    usd_per_month: float
    saves_usd_per_month: float  # against the cheaper of all self-hosted and all API; at least 0


class LoadCurve:
    """The spread of the load over hours: the share of it above a capacity."""

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
        # Without measured hours, the load is R (1 - x)^(R - 1) times the mean after the busiest share x of the time:
        # the mean is 1, the peak R, and R = 1 is flat.
        left = float((capacity / peak) ** (1 / (peak - 1)))
        return float((1 - left**peak) - capacity * (1 - left))


def cheapest_mix(plan: CostInputs, hourly_tokens: Sequence[float], tokens_per_day: float) -> Hybrid | None:
    """The cheapest number of replicas for the base of the load, with one API for what is above them; None: no API."""
    if not plan.apis:
        return None
    stairs = staircase(plan)
    apis = [
        (line(api, plan), api.fees_usd_per_month if api == plan.escalation else 0.0) for api in cheapest_somewhere(plan)
    ]
    curve = LoadCurve(peak_to_mean=plan.peak_to_mean, hourly_tokens=hourly_tokens)
    least, needed = stairs.min_replicas, curve.peak_to_mean * tokens_per_day / plan.usable_tokens_per_day
    most = max(least, math.ceil(min(needed, MAX_REPLICAS)))

    def share(base: int) -> float:
        return curve.share_above(base * plan.usable_tokens_per_day / tokens_per_day)

    def usd(base: int, api: Line, paid: float) -> float:
        to_api = tokens_per_day * share(base)
        if not base:
            return api.usd(to_api)
        own = stairs.step_usd(base) + stairs.usd_per_daily_token * (tokens_per_day - to_api)
        # Fees are paid once: machines that escalate to this API have paid them.
        return own + (api.usd(to_api) - paid if to_api > 0 else 0.0)

    def lowest(api: Line, paid: float) -> int:
        # While an API takes some load, each further machine saves less than the one before: costs fall, then rise.
        def alone(base: int) -> float:
            return usd(base, api, paid) - stairs.usd_per_block * stairs.blocks(base + stairs.spare)

        bases = range(least, most - 1)
        best = least + bisect.bisect_left(bases, True, key=lambda base: alone(base) <= alone(base + 1))
        if not stairs.usd_per_block:
            return best
        # The same holds of blocks, each filled, but the last one only as far as that saves.
        first, last = (stairs.blocks(base + stairs.spare) for base in (least, best))

        def filled(block: int) -> int:
            return min(best, block * stairs.replicas_per_block - stairs.spare)

        blocks = range(first, last)
        fewer = bisect.bisect_left(
            blocks, True, key=lambda n: usd(filled(n), api, paid) <= usd(filled(n + 1), api, paid)
        )
        return filled(first + fewer)

    cost, base = min((usd(base, *each), base) for each in apis for base in (0, lowest(*each), most))
    pure = min(stairs.usd(tokens_per_day), *(api.usd(tokens_per_day) for api, _ in apis))
    return Hybrid(base + stairs.spare if base else 0, share(base), cost, max(0.0, pure - cost))


# A payback of more than a hundred years is none.
MAX_MONTHS = 1_200


@dataclass(frozen=True, slots=True)
class Investment:
    """The return on buying machines instead of paying an API, at one volume."""

    replicas: int
    price_usd: float  # of whole computers for all replicas
    running_usd_per_month: float  # power, colocation, support and staff
    api_usd_per_month: float  # in the first month
    payback_months: float | None  # None: not within a hundred years
    discounted_payback_months: float | None
    npv_usd: float  # over the period of depreciation, with the residual value
    irr_per_year: float | None
    cash_usd: tuple[float, ...]  # the balance after each month; the first is the price alone
    compared_months: int | None  # months for which an API sells the model; None: no end is known


def investment(plan: CostInputs, tokens_per_day: float, today: date) -> Investment | None:
    """The return on buying the machines; None: they are rented, or no API sells the model."""
    owned = plan.owned
    if owned is None or not plan.apis:
        return None
    stairs = staircase(plan)
    replicas = stairs.replicas(tokens_per_day)
    hardware = bought_hardware(plan, replicas)
    assert hardware is not None
    price = hardware.usd
    running = stairs.usd(tokens_per_day) - price * owned.capital_share_per_month
    savings = [api - running for api in _api_usd_by_month(plan, tokens_per_day, today)]
    flows = [-price, *savings[: math.ceil(owned.months)]]
    sold = [*flows[:-1], flows[-1] + price * owned.residual_share]
    return Investment(
        replicas=replicas,
        price_usd=price,
        running_usd_per_month=running,
        api_usd_per_month=min(line(api, plan).usd(tokens_per_day) for api in plan.apis),
        payback_months=payback_months(price, savings),
        discounted_payback_months=payback_months(price, savings, monthly_interest=owned.monthly_interest),
        npv_usd=net_present_value_usd(sold, owned.monthly_interest),
        irr_per_year=internal_rate_per_year(sold),
        cash_usd=tuple(accumulate(flows)),
        compared_months=len(savings) if len(savings) < MAX_MONTHS else None,
    )


def _api_usd_by_month(plan: CostInputs, tokens_per_day: float, today: date) -> Iterator[float]:
    """The cost of the cheapest API in each month while one is sold, with the move away from one that no longer is."""

    def is_sold(api: ApiPrice, month: int) -> bool:
        return api.available_until is None or month <= (api.available_until - today).days / DAYS_A_YEAR * 12

    lines = [(api, line(api, plan)) for api in plan.apis]
    before: ApiPrice | None = None
    for month in range(1, MAX_MONTHS + 1):
        years = (month - 1) / 12
        sold = [
            (each.fixed_usd + each.usd_per_daily_token * tokens_per_day * (1 - api.yearly_decline) ** years, api)
            for api, each in lines
            if is_sold(api, month)
        ]
        if not sold:
            return
        usd, api = min(sold, key=lambda each: each[0])
        yield usd + (before.migration_usd if before is not None and not is_sold(before, month) else 0.0)
        before = api


def payback_months(price_usd: float, savings_usd: Sequence[float], *, monthly_interest: float = 0.0) -> float | None:
    """The month, with a fraction, at which savings have paid for a price; None: they do not."""
    left = price_usd
    for month, saved in enumerate(savings_usd, 1):
        worth = saved / (1 + monthly_interest) ** month
        if worth >= left:
            return month - 1 + (left / worth if worth > 0 else 0.0)
        left -= worth
    return None


def net_present_value_usd(flows_usd: list[float], monthly_interest: float) -> float:
    # By Horner's rule: the powers of an extreme rate would overflow a float.
    worth, kept = 0.0, 1 / (1 + monthly_interest)
    for flow in reversed(flows_usd):
        worth = worth * kept + flow
    return worth


def internal_rate_per_year(flows_usd: list[float]) -> float | None:
    """The yearly interest at which the net present value is 0; None: there is none."""
    low, high = -0.5, 100.0
    if not net_present_value_usd(flows_usd, low) > 0 > net_present_value_usd(flows_usd, high):
        return None
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if net_present_value_usd(flows_usd, middle) > 0 else (low, middle)
    return float((1 + low) ** 12 - 1)
