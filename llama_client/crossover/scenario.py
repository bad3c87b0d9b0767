"""The input of a comparison: the traffic, the APIs that sell the model by the token, and the machine to host it on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args, get_type_hints

from llama_client.errors import InvalidRequestError

# Takes a field's value and its place; returns what is kept, or raises. Beside the type, as `Annotated` metadata.
_Rule: TypeAlias = Callable[[object, str], object]
_CHECKED = re.compile(r"^Annotated\[(.+?), (?:_|whole\().*\]$")
T = TypeVar("T")
# An upper bound from here on only catches slips of the keyboard: a message names it where it is exceeded.
_SLIP_FROM = 1e6


def _number(*, up_to: float, at_least: float | None = None, above: float | None = None) -> _Rule:
    """Any number within bounds, kept as float; of money too, since a forecast is an estimate."""
    lower = f" above {above:g}" if at_least is None else f" of at least {at_least:g}"
    wanted = f"must be a number{lower}" + (f" and up to {up_to:g}" if up_to < _SLIP_FROM else "")

    def checked(value: object, place: str) -> float:
        try:
            number = float(value) if isinstance(value, int | float | Decimal) else math.nan
        except (OverflowError, ValueError):  # an integer of more digits than a float has, a signalling NaN
            number = math.nan
        is_low = number < at_least if at_least is not None else above is not None and number <= above
        if isinstance(value, bool) or is_low or math.isnan(number):
            raise _wrong(place, wanted, value)
        if number > up_to or math.isinf(number):
            raise _wrong(place, wanted if up_to < _SLIP_FROM else f"must be a number up to {up_to:g}", value)
        return number

    return checked


def whole(at_least: int, up_to: int) -> _Rule:
    """A whole number within bounds, both included."""

    def checked(value: object, place: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value <= up_to:
            raise _wrong(place, f"must be a whole number from {at_least} to {up_to:,}", value)
        return value

    return checked


def _name(value: object, place: str) -> object:
    if not (isinstance(value, str) and value.strip()):
        raise _wrong(place, "must be a name", value)
    return value


def _readable(cls: type[T]) -> type[T]:
    """Shows the types alone in signatures, as editors and `help()` do, without what checks the values."""
    shown = cls.__init__.__annotations__
    shown |= {name: _CHECKED.sub(r"\1", text) for name, text in shown.items() if isinstance(text, str)}
    return cls


@_readable
@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The load: its volume, its mix of tokens, and how unevenly it is spread.

    Attributes:
        tokens_per_day: Input and output together; None: all volumes are of interest.
        output_share: The share of tokens that are output, above 0 and up to 1; None: assumed.
        cached_share: The share of input tokens that a provider reads from its cache; None: assumed.
        batch_share: The share that may wait for a batch API and its discount.
        retry_share: The share of calls that are paid a second time.
        peak_to_mean: The busiest hour against the mean one, at least 1; None: assumed.
        tokens_per_request: Input and output of a mean call; None: assumed.
        hourly_tokens: The load of each hour of some days, in any unit; empty: a curve with that peak to mean.
        source: Where the figures come from.
        notes: Remarks about them for the report.

    Raises:
        InvalidRequestError: A figure is out of its range; the message names the field.

    Examples:
        >>> Traffic(tokens_per_day=5e8, output_share=0.25, peak_to_mean=2).tokens_per_day
        500000000.0
        >>> Traffic(output_share=25)
        Traceback (most recent call last):
        llama_client.errors.InvalidRequestError: traffic.output_share: must be a number above 0 and up to 1, got 25
    """

    tokens_per_day: Annotated[float | None, _number(above=0, up_to=1e18)] = None
    output_share: Annotated[float | None, _number(above=0, up_to=1)] = None
    cached_share: Annotated[float | None, _number(at_least=0, up_to=1)] = None
    batch_share: Annotated[float, _number(at_least=0, up_to=1)] = 0.0
    retry_share: Annotated[float, _number(at_least=0, up_to=10)] = 0.0
    peak_to_mean: Annotated[float | None, _number(at_least=1, up_to=10_000)] = None
    tokens_per_request: Annotated[float | None, _number(above=0, up_to=1e18)] = None
    hourly_tokens: tuple[float, ...] = ()
    source: str = "given"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self, "traffic")
        hour = _number(at_least=0, up_to=math.inf)
        hours = tuple(hour(each, "traffic.hourly_tokens") for each in self.hourly_tokens)
        if hours and not any(hours):
            raise _wrong("traffic.hourly_tokens", "must have an hour with a load", hours[0])
        object.__setattr__(self, "hourly_tokens", hours)


# One window of UTC hours, on all days or on those before the `@`: 1 is Monday.
_WINDOW = re.compile(r"(?:[1-7]{1,7}@)?(?:[01]\d|2[0-3]):[0-5]\d-(?:[01]\d|2[0-3]):[0-5]\d")
TierKind: TypeAlias = Literal["flex", "off_peak"]


@_readable
@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTier:
    """A lower price of the same model on other terms.

    Attributes:
        kind: `flex`: answers may take longer; `off_peak`: within some hours of the day.
        input_usd_per_mtok: US dollars per million input tokens.
        output_usd_per_mtok: The same for output.
        utc_windows: The hours of `off_peak`, as in `16:30-00:30`, or `67@00:00-00:00` for Saturday and Sunday.

    Raises:
        InvalidRequestError: A figure is out of its range, or a window is missing or not written so.
    """

    kind: TierKind
    input_usd_per_mtok: Annotated[float, _number(at_least=0, up_to=1e6)]
    output_usd_per_mtok: Annotated[float, _number(at_least=0, up_to=1e6)]
    utc_windows: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self, "api.tiers")
        if self.kind not in get_args(TierKind):
            raise _wrong("api.tiers.kind", f"must be one of {', '.join(get_args(TierKind))}", self.kind)
        place = "api.tiers.utc_windows"
        windows: object = self.utc_windows
        if not isinstance(windows, tuple) or not all(isinstance(each, str) for each in windows):
            raise _wrong(place, "must be a tuple of texts, as in ('16:30-00:30',)", windows)
        for window in self.utc_windows:
            if not _WINDOW.fullmatch(window):
                raise _wrong(place, "must be hours as in 16:30-00:30 or 67@00:00-00:00", window)
        if (self.kind == "off_peak") != bool(windows):
            wanted = "must have hours" if self.kind == "off_peak" else "must be empty beside flex"
            raise _wrong(place, wanted, windows)


@_readable
@dataclass(frozen=True, slots=True, kw_only=True)
class ApiPrice:
    """One provider's price of the model by the token.

    Attributes:
        input_usd_per_mtok: US dollars per million input tokens.
        output_usd_per_mtok: The same for output.
        cached_usd_per_mtok: For input that is read from the provider's cache; None: as other input.
        cache_write_usd_per_mtok: On top, for input that is written to its cache, where some is read from it.
        batch_discount: The discount of the batch API, as a share of all its prices.
        batch_input_usd_per_mtok: The batch API's own price of input, cached or not; None: by the discount.
        batch_output_usd_per_mtok: The same for output. Both or neither, and no discount beside them.
        tiers: Lower prices on other terms, as a report lists them; the comparison uses the usual price.
        usd_per_request: The fee of each call beside its tokens.
        fees_usd_per_month: Fixed fees, whatever the volume.
        yearly_decline: The share by which the same model gets cheaper a year; matters to purchases alone.
        token_ratio: Tokens that it counts for each of the traffic's; 1: the same tokenizer.
        is_same_model: False: another model, which the report marks as no like for like.
        available_until: The first day on which it is not sold; None: no end is known.
        migration_usd: The cost of moving away once it is no longer sold.
        provider: The provider's name.
        model: The provider's own id.
        precision: Of the weights that it serves, as in `fp8`; None: not told.
        region: Where it is served, if the price holds there alone; None: no such limit.
        context_tokens: The longest request, with its answer; None: not told.
        source: Where the price comes from.
        as_of: When it was last compared with that; None: given by hand.
        unverified: What could not be checked.

    Raises:
        InvalidRequestError: A figure is out of its range, or excludes another; the message names the field.
    """

    input_usd_per_mtok: Annotated[float, _number(at_least=0, up_to=1e6)]
    output_usd_per_mtok: Annotated[float, _number(at_least=0, up_to=1e6)]
    cached_usd_per_mtok: Annotated[float | None, _number(at_least=0, up_to=1e6)] = None
    cache_write_usd_per_mtok: Annotated[float, _number(at_least=0, up_to=1e6)] = 0.0
    batch_discount: Annotated[float, _number(at_least=0, up_to=1)] = 0.0
    batch_input_usd_per_mtok: Annotated[float | None, _number(at_least=0, up_to=1e6)] = None
    batch_output_usd_per_mtok: Annotated[float | None, _number(at_least=0, up_to=1e6)] = None
    tiers: tuple[PriceTier, ...] = ()
    usd_per_request: Annotated[float, _number(at_least=0, up_to=1e6)] = 0.0
    fees_usd_per_month: Annotated[float, _number(at_least=0, up_to=1e12)] = 0.0
    yearly_decline: Annotated[float, _number(at_least=-1, up_to=0.999)] = 0.0
    token_ratio: Annotated[float, _number(above=0, up_to=1000)] = 1.0
    is_same_model: bool = True
    available_until: date | None = None
    migration_usd: Annotated[float, _number(at_least=0, up_to=1e12)] = 0.0
    provider: str = "an API"
    model: str = ""
    precision: Annotated[str | None, _name] = None
    region: Annotated[str | None, _name] = None
    context_tokens: Annotated[int | None, whole(1, 10**12)] = None
    source: str = "given"
    as_of: date | None = None
    unverified: str | None = None

    def __post_init__(self) -> None:
        _check(self, "api")
        tiers: object = self.tiers
        if not isinstance(tiers, tuple) or not all(isinstance(each, PriceTier) for each in tiers):
            raise _wrong("api.tiers", "must be a tuple of PriceTier", tiers)
        given, needed = "batch_input_usd_per_mtok", "batch_output_usd_per_mtok"
        if (self.batch_input_usd_per_mtok is None) != (self.batch_output_usd_per_mtok is None):
            given, needed = (given, needed) if self.batch_output_usd_per_mtok is None else (needed, given)
            raise invalid(f"api.{needed}", f"is required beside {given}")
        if self.batch_input_usd_per_mtok is not None and self.batch_discount:
            raise invalid("api.batch_discount", "give either this or the prices of the batch API")

    @property
    def name(self) -> str:
        """Provider and model, as a report names them."""
        return f"{self.provider} {self.model}".strip()


@_readable
@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """A machine that is bought: its price, its worth at the end, and its power.

    Attributes:
        usd_per_gpu: One GPU, or the whole computer where the chip is one (a Mac, a DGX Spark); None: the price of the
            tables, where there is one.
        computer_usd: What stands around its GPUs, without them: chassis, processors, memory, disks, network. 0: it is
            there already, or in `usd_per_gpu`; None: the price of the tables, 0 where the GPU is not one of them.
        gpus_per_computer: The GPUs that one computer has room for; None: of the computer that costs the fleet least.
        months: The period of depreciation; None: assumed.
        residual_share: The worth at its end, as a share of the price; None: assumed.
        yearly_interest: The interest rate of the capital; None: assumed.
        idle_w: The power of one idle GPU; None: assumed.
        load_w: The same under full load; None: from its data sheet.
        node_factor: The node's power for each watt of its GPUs; None: assumed.
        pue: Power usage effectiveness: the building's power for each watt of the node; None: assumed.
        usd_per_kwh: The price of electricity; None: assumed.
        colocation_usd_per_month: For each replica; None: assumed by power for servers, 0 for workstations and the like.
        support_share_per_year: Support and spare parts, as a share of the price.
    """

    usd_per_gpu: Annotated[float | None, _number(above=0, up_to=1e9)] = None
    computer_usd: Annotated[float | None, _number(at_least=0, up_to=1e9)] = None
    gpus_per_computer: Annotated[int | None, whole(1, 1024)] = None
    months: Annotated[float | None, _number(above=0, up_to=600)] = None
    residual_share: Annotated[float | None, _number(at_least=0, up_to=1)] = None
    yearly_interest: Annotated[float | None, _number(at_least=0, up_to=10)] = None
    idle_w: Annotated[float | None, _number(at_least=0, up_to=1e6)] = None
    load_w: Annotated[float | None, _number(at_least=0, up_to=1e6)] = None
    node_factor: Annotated[float | None, _number(at_least=1, up_to=100)] = None
    pue: Annotated[float | None, _number(at_least=1, up_to=100)] = None
    usd_per_kwh: Annotated[float | None, _number(at_least=0, up_to=1e6)] = None
    colocation_usd_per_month: Annotated[float | None, _number(at_least=0, up_to=1e12)] = None
    support_share_per_year: Annotated[float, _number(at_least=0, up_to=1e6)] = 0.0

    def __post_init__(self) -> None:
        _check(self, "purchase")
        if self.idle_w is not None and self.load_w is not None and self.idle_w > self.load_w:
            raise _wrong("purchase.idle_w", f"must be at most load_w ({self.load_w:g})", self.idle_w)


@_readable
@dataclass(frozen=True, slots=True, kw_only=True)
class SelfHost:
    """The machine to host the model on: rented by the hour, or bought.

    Attributes:
        gpu: A GPU of the tables; None: a machine that they do not have, with its rate and price given.
        n_gpus: GPUs of one replica; None: as many as it needs, which is the fewest that hold the model and keep the
            latency limits, or twice as many where that is cheaper.
        precision: As in `fp8` or `Q4_K_M`; None: the widest common one that the GPU computes in.
        engine: `trtllm`, `vllm`, `sglang` or `llama.cpp`; None: the usual one of GPU and precision.
        gpu_usd_per_hour: The rent of one GPU; None: the median of the quotes in the tables.
        purchase: Bought instead of rented.
        tokens_per_second: Output tokens per second of one replica under full load, as measured; wins over the estimate.
        total_tokens_per_second: The same, where the measured rate counts input too. One of the two.
        slo_derate: The share of that rate which is left within the latency limits, up to 1; None: estimated.
        max_utilisation: The share of the remaining rate that is planned with, up to 1; None: assumed.
        min_replicas: The least number of replicas.
        spare: Replicas beside those that the load needs; None: assumed.
        ops_usd_per_month: Staff; None: assumed.
        storage_usd_per_month: Disks, traffic and the like, for the whole fleet.
        spot_overhead: What interruptions add to the rent, as a share.
        powered_hours_per_month: Hours for which it is rented or draws power; None: all.
        escalated_share: The share of requests that still goes to the API, beyond the quality of the hosted model.
        tpot_limit_ms: The longest time between two tokens of a stream; None: assumed.
        ttft_limit_s: The longest wait for the first token; None: assumed.
        own_cached_share: The share of input tokens that its prefix cache holds, which are not computed again; None: as
            the traffic's `cached_share`, where that is given, else none.
        grid_g_per_kwh: Grams of carbon dioxide for a kWh of its electricity; None: assumed.
    """

    gpu: Annotated[str | None, _name] = None
    n_gpus: Annotated[int | None, whole(1, 100_000)] = None
    precision: Annotated[str | None, _name] = None
    engine: Annotated[str | None, _name] = None
    gpu_usd_per_hour: Annotated[float | None, _number(above=0, up_to=1e6)] = None
    purchase: Purchase | None = None
    tokens_per_second: Annotated[float | None, _number(above=0, up_to=1e15)] = None
    total_tokens_per_second: Annotated[float | None, _number(above=0, up_to=1e15)] = None
    slo_derate: Annotated[float | None, _number(above=0, up_to=1)] = None
    max_utilisation: Annotated[float | None, _number(above=0, up_to=1)] = None
    min_replicas: Annotated[int, whole(1, 1_000_000)] = 1
    spare: Annotated[int | None, whole(0, 1_000_000)] = None
    ops_usd_per_month: Annotated[float | None, _number(at_least=0, up_to=1e12)] = None
    storage_usd_per_month: Annotated[float, _number(at_least=0, up_to=1e12)] = 0.0
    spot_overhead: Annotated[float, _number(at_least=0, up_to=100)] = 0.0
    powered_hours_per_month: Annotated[float | None, _number(above=0, up_to=744)] = None
    escalated_share: Annotated[float, _number(at_least=0, up_to=1)] = 0.0
    tpot_limit_ms: Annotated[float | None, _number(above=0, up_to=1e9)] = None
    ttft_limit_s: Annotated[float | None, _number(above=0, up_to=1e6)] = None
    own_cached_share: Annotated[float | None, _number(at_least=0, up_to=1)] = None
    grid_g_per_kwh: Annotated[float | None, _number(at_least=0, up_to=1e5)] = None

    def __post_init__(self) -> None:
        _check(self, "self_host")
        if self.purchase is not None and not isinstance(self.purchase, Purchase):
            raise _wrong("self_host.purchase", "must be a Purchase", self.purchase)
        if self.purchase is not None and self.gpu_usd_per_hour is not None:
            raise invalid("self_host.purchase", "a machine is bought or rented; leave out purchase or gpu_usd_per_hour")
        if self.tokens_per_second is not None and self.total_tokens_per_second is not None:
            sentence = "give either this or tokens_per_second, which counts output alone"
            raise invalid("self_host.total_tokens_per_second", sentence)
        if self.own_cached_share is not None and (self.tokens_per_second or self.total_tokens_per_second):
            raise invalid("self_host.own_cached_share", "a measured rate has what its cache saves; give one of the two")


@_readable
@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A model, its traffic, and the two ways to serve it.

    Attributes:
        model: The canonical name, as in `llama-3.3-70b`; None: one that the tables do not have, with its rate given.
        traffic: The load.
        self_host: The machine to host it on.
        apis: The APIs to compare with; None: all that are known to sell it on that day; empty: none.
        hours_per_month: The length of a month; others count with 720.

    Raises:
        InvalidRequestError: A figure of it or of its parts is out of range; the message names the field.

    Examples:
        >>> from llama_client.crossover import evaluate
        >>> crossover = evaluate(Scenario(
        ...     model="llama-3.3-70b",
        ...     traffic=Traffic(output_share=0.5, peak_to_mean=2.5),
        ...     self_host=SelfHost(gpu="h100_sxm", n_gpus=2, precision="fp8", gpu_usd_per_hour=2.69,
        ...                        tokens_per_second=4205, slo_derate=0.6, max_utilisation=0.85,
        ...                        ops_usd_per_month=2000),
        ...     apis=[ApiPrice(input_usd_per_mtok=0.88, output_usd_per_mtok=0.88)],
        ... ))
        >>> round(crossover.first_crossing / 1e9, 1)
        7.4
    """

    model: Annotated[str | None, _name]
    traffic: Traffic = field(default_factory=Traffic)
    self_host: SelfHost
    apis: Sequence[ApiPrice] | None = None
    hours_per_month: Annotated[float, _number(above=0, up_to=744)] = 365 * 24 / 12

    def __post_init__(self) -> None:
        _check(self, "")
        for name, kind in (("traffic", Traffic), ("self_host", SelfHost)):
            if not isinstance(getattr(self, name), kind):
                raise _wrong(name, f"must be a {kind.__name__}", getattr(self, name))
        apis: object = self.apis
        if apis is not None:
            if not isinstance(apis, Iterable) or not all(isinstance(api, ApiPrice) for api in apis):
                raise _wrong("apis", "must be a list of ApiPrice", apis)
            object.__setattr__(self, "apis", tuple(apis))

    def at(self, tokens_per_day: float | None) -> Scenario:
        """The same scenario at another volume.

        Args:
            tokens_per_day: The volume; None: unknown.
        """
        return replace(self, traffic=replace(self.traffic, tokens_per_day=tokens_per_day))


FleetKind: TypeAlias = Literal["own", "reserved_3_years", "reserved_1_year", "on_demand", "serverless", "api"]
FLEET_KINDS: tuple[FleetKind, ...] = get_args(FleetKind)


@_readable
@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPolicy:
    """How a fleet follows its load, and what it may consist of; what is None is assumed, or from the tables.

    Attributes:
        kinds: What it may consist of.
        start_s: From the decision until a replica serves; None: weights over network and disk, then the engine.
        network_gb_per_s: How fast a new replica fetches the weights.
        disk_gb_per_s: How fast it loads them into its GPUs.
        engine_start_s: What the engine does beside that: compiling, warming up.
        idle_timeout_s: After so long without work a replica on demand stops.
        serverless_idle_timeout_s: The same where the seller scales; None: the seller's default.
        min_replicas: Replicas that always run; None: none, or those of the scenario from 2 on.
        headroom: The share of each replica that is kept free beyond the planned utilisation, below 1.
        cold_requests: What comes while a replica starts goes to an `api`, if one is sold, or must `wait`.
        billing_s: Replicas on demand are billed in whole units of this, up to an hour.
        serverless_usd_per_gpu_second: The price of a serverless GPU; None: the lowest of the tables.
        reserved_1_year_discount: Off the price on demand, for a year's commitment.
        reserved_3_years_discount: The same for three years.
        batch_wait_hours: How long the traffic's batch share may wait, up to a week.

    Raises:
        InvalidRequestError: A figure is out of its range; the message names the field.

    Examples:
        >>> FleetPolicy(idle_timeout_s=60).idle_timeout_s
        60.0
        >>> FleetPolicy(headroom=1.5)
        Traceback (most recent call last):
        llama_client.errors.InvalidRequestError: policy.headroom: must be a number of at least 0 and up to 0.9, got 1.5
    """

    kinds: tuple[FleetKind, ...] = FLEET_KINDS
    start_s: Annotated[float | None, _number(at_least=0, up_to=86_400)] = None
    network_gb_per_s: Annotated[float | None, _number(above=0, up_to=1e6)] = None
    disk_gb_per_s: Annotated[float | None, _number(above=0, up_to=1e6)] = None
    engine_start_s: Annotated[float | None, _number(at_least=0, up_to=86_400)] = None
    idle_timeout_s: Annotated[float | None, _number(at_least=0, up_to=604_800)] = None
    serverless_idle_timeout_s: Annotated[float | None, _number(at_least=0, up_to=604_800)] = None
    min_replicas: Annotated[int | None, whole(0, 1_000_000)] = None
    headroom: Annotated[float | None, _number(at_least=0, up_to=0.9)] = None
    cold_requests: Literal["api", "wait"] = "api"
    billing_s: Annotated[float | None, _number(above=0, up_to=3600)] = None
    serverless_usd_per_gpu_second: Annotated[float | None, _number(above=0, up_to=1e6)] = None
    reserved_1_year_discount: Annotated[float | None, _number(at_least=0, up_to=0.99)] = None
    reserved_3_years_discount: Annotated[float | None, _number(at_least=0, up_to=0.99)] = None
    batch_wait_hours: Annotated[int | None, whole(0, 168)] = None

    def __post_init__(self) -> None:
        _check(self, "policy")
        kinds: object = self.kinds
        if not isinstance(kinds, Iterable) or isinstance(kinds, str | bytes) or not (listed := tuple(kinds)):
            raise _wrong("policy.kinds", f"must be a list of {', '.join(FLEET_KINDS)}", kinds)
        for kind in listed:
            if kind not in FLEET_KINDS:
                raise _wrong("policy.kinds", f"must be of {', '.join(FLEET_KINDS)}", kind)
        object.__setattr__(self, "kinds", tuple(kind for kind in FLEET_KINDS if kind in listed))
        if self.cold_requests not in ("api", "wait"):
            raise _wrong("policy.cold_requests", "must be 'api' or 'wait'", self.cold_requests)


def _check(owner: Any, place: str) -> None:
    """Applies the rules of an object's fields while it is made; errors name the field as `place.name`."""
    for name, rule, is_optional in _rules(owner.__class__):
        value = getattr(owner, name)
        if value is not None or not is_optional:
            object.__setattr__(owner, name, rule(value, f"{place}.{name}" if place else name))


@cache
def _rules(owner: type) -> list[tuple[str, _Rule, bool]]:
    """Name and rule of each field that has one, and whether it may be None."""
    hints = get_type_hints(owner, include_extras=True)
    return [
        (name, hint.__metadata__[0], type(None) in get_args(hint.__origin__))
        for name, hint in hints.items()
        if hasattr(hint, "__metadata__")
    ]


def _wrong(place: str, wanted: str, value: object) -> InvalidRequestError:
    shown = f"{value}" if isinstance(value, int | float | Decimal) else repr(value)
    if len(shown) > 40:
        shown = f"a value of type {type(value).__name__}"
    return invalid(place, f"{wanted}, got {shown}")


def invalid(place: str, sentence: str) -> InvalidRequestError:
    return InvalidRequestError(f"{place}: {sentence}", param=place)
