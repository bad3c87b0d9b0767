"""What each side costs a month: an API as a line over volume, machines as a staircase.

Formulas alone, over a plan in which every figure is a number. Where the figures come from: `resolving.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from llama_client.crossover.crossings import Line, Staircase
from llama_client.crossover.scenario import ApiPrice

HOURS_A_DAY, SECONDS_AN_HOUR, MTOK = 24.0, 3600.0, 1e6


@dataclass(frozen=True, slots=True)
class Owned:
    """A bought machine in numbers, for each GPU where nothing else is said.

    Attributes:
        usd_per_gpu: Its price.
        months: How long it is written off.
        residual_share: What it is worth then, as a share of the price.
        yearly_interest: What money costs.
        idle_w: Its power without work.
        load_w: The same at full work.
        node_factor: The node's power for each watt of its GPUs.
        pue: The building's for each watt of the node.
        usd_per_kwh: Electricity.
        colocation_usd_per_month: For each replica.
        support_share_per_year: Of the price.
    """

    usd_per_gpu: float
    months: float
    residual_share: float
    yearly_interest: float
    idle_w: float
    load_w: float
    node_factor: float
    pue: float
    usd_per_kwh: float
    colocation_usd_per_month: float
    support_share_per_year: float

    @property
    def monthly_interest(self) -> float:
        """What compounds to the yearly one."""
        return float((1 + self.yearly_interest) ** (1 / 12) - 1)

    def usd_per_hour(self, watts: float) -> float:
        """What so many watts of a GPU cost in an hour, with its node and building."""
        return watts * self.node_factor * self.pue / 1000 * self.usd_per_kwh


@dataclass(frozen=True, slots=True)
class Plan:
    """A scenario in numbers.

    Attributes:
        tokens_per_second: Of one replica under full load: output, or all tokens where `counts_input`.
        counts_input: The rate counts input too.
        slo_derate: What is left of it once answers must stay quick.
        max_utilisation: What is planned with of that.
        n_gpus: GPUs of a replica.
        gpu_usd_per_hour: The rent of one; 0 where it is bought.
        spot_overhead: What interruptions add to that, as a share.
        owned: The bought machine.
        min_replicas: Never fewer.
        spare: On top.
        ops_usd_per_month: Staff.
        storage_usd_per_month: Disks, traffic and the like.
        powered_hours_per_month: When it runs.
        hours_per_month: What a month is.
        escalated_share: What goes to the API in any case.
        output_share: Of the traffic.
        cached_share: Of its input.
        batch_share: Of all of it.
        retry_share: Of all calls.
        peak_to_mean: The busiest hour against the mean one.
        tokens_per_request: Of a mean call.
        apis: Who sells it.
        escalation: To whom the escalated share goes; None: there is none.
    """

    tokens_per_second: float
    counts_input: bool
    slo_derate: float
    max_utilisation: float
    n_gpus: int
    gpu_usd_per_hour: float
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
    escalation: ApiPrice | None = None

    @property
    def days_per_month(self) -> float:
        """30.42 in a month of 730 hours."""
        return self.hours_per_month / HOURS_A_DAY

    @property
    def full_tokens_per_day(self) -> float:
        """Tokens of the traffic that one replica answers in a day under full load."""
        seconds = SECONDS_AN_HOUR * self.powered_hours_per_month / self.days_per_month
        return self.tokens_per_second * seconds / (1.0 if self.counts_input else self.output_share)

    @property
    def usable_tokens_per_day(self) -> float:
        """The same while answers stay quick and with room to spare: what an even load may fill."""
        return self.full_tokens_per_day * self.slo_derate * self.max_utilisation


def usd_per_mtok(api: ApiPrice, plan: Plan) -> float:
    """What a million of the traffic's tokens costs at an API, monthly fees apart.

    The price of input (read from its cache or not) and output by their shares, less what a batch takes off, more for
    what is paid twice, and what a request costs beside its tokens.
    """
    cached = api.input_usd_per_mtok if api.cached_usd_per_mtok is None else api.cached_usd_per_mtok
    share = plan.cached_share
    of_input = (1 - share) * (api.input_usd_per_mtok + api.cache_write_usd_per_mtok) + share * cached
    tokens = (1 - plan.output_share) * of_input + plan.output_share * api.output_usd_per_mtok
    tokens *= api.token_ratio * (1 - plan.batch_share * api.batch_discount)
    return (tokens + api.usd_per_request * MTOK / plan.tokens_per_request) * (1 + plan.retry_share)


def line(api: ApiPrice, plan: Plan) -> Line:
    """An API's cost of a month, over tokens a day."""
    return Line(usd_per_mtok(api, plan) / MTOK * plan.days_per_month, api.fees_usd_per_month)


def staircase(plan: Plan) -> Staircase:
    """The machines' cost of a month, over tokens a day.

    A replica carries what it answers within its limits, divided by the peak: the fleet is sized for the busiest hour
    and paid for in all of them.
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


def running_usd_per_replica(plan: Plan) -> float:
    """What a month of a bought replica costs beside its price: idle power, colocation, support."""
    owned = plan.owned
    if owned is None:
        return 0.0
    power = plan.n_gpus * owned.usd_per_hour(owned.idle_w) * plan.powered_hours_per_month
    support = plan.n_gpus * owned.usd_per_gpu * owned.support_share_per_year / 12
    return power + support + owned.colocation_usd_per_month


def capital_usd_per_month(price_usd: float, *, months: float, residual_usd: float, monthly_interest: float) -> float:
    """The even monthly charge that pays a price off, less what is left of it at the end.

    Args:
        price_usd: What is paid at the start.
        months: How long it is written off.
        residual_usd: What it is worth then.
        monthly_interest: What money costs; with 0 the price is spread evenly.

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


def _usd_per_replica(plan: Plan) -> float:
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


def _energy_usd_per_daily_token(plan: Plan) -> float:
    """What work adds to idle power: in proportion to the tokens, since a full replica draws all of it."""
    owned = plan.owned
    if owned is None:
        return 0.0
    full = plan.n_gpus * owned.usd_per_hour(owned.load_w - owned.idle_w) * plan.powered_hours_per_month
    return full / plan.full_tokens_per_day
