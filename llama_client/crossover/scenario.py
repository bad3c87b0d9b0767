"""What is compared: the traffic, who sells the model by the token, and the machine that could answer instead.

Whatever is left out is looked up or assumed when the scenario is evaluated, and is then named with its source. Money is
float here, since a forecast is an estimate; only prices of tables stay decimal, up to this border.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

# 365 days of 24 hours, by twelve.
HOURS_A_MONTH = 730.0
_MAX_HOURS_A_MONTH = 744.0
# A trillion; what is more is a slip of the keyboard.
_MOST_USD = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What is asked: how much of it, of what kind, and how unevenly.

    Attributes:
        tokens_per_day: Input and output together; None: the answer is wanted for all volumes.
        output_share: The share of tokens that are output, above 0 and up to 1; None: assumed.
        cached_share: The share of input tokens that a provider reads from its cache; None: assumed.
        batch_share: The share that may wait for a batch API and its discount.
        retry_share: The share of calls that are paid a second time.
        peak_to_mean: The busiest hour against the mean one, at least 1; None: assumed.
        tokens_per_request: Input and output of a mean call; None: assumed.
        hourly_tokens: The load of each hour of some days, in any unit; empty: a curve with that peak to mean.
        source: Where the figures come from.
        notes: What is to be known about them.

    Raises:
        InvalidRequestError: A figure is out of its range; the message names the field.

    Examples:
        >>> Traffic(tokens_per_day=5e8, output_share=0.25, peak_to_mean=2).tokens_per_day
        500000000.0
        >>> Traffic(output_share=25)
        Traceback (most recent call last):
        llama_client.errors.InvalidRequestError: traffic.output_share: must be a number above 0 and up to 1, got 25
    """

    tokens_per_day: float | None = None
    output_share: float | None = None
    cached_share: float | None = None
    batch_share: float = 0.0
    retry_share: float = 0.0
    peak_to_mean: float | None = None
    tokens_per_request: float | None = None
    hourly_tokens: tuple[float, ...] = ()
    source: str = "given"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check = _Fields(self, "traffic")
        check.number("tokens_per_day", above=0, at_most=1e18)
        check.number("output_share", above=0, at_most=1)
        check.number("cached_share", at_least=0, at_most=1)
        check.number("batch_share", at_least=0, at_most=1)
        check.number("retry_share", at_least=0, at_most=10)
        check.number("peak_to_mean", at_least=1, at_most=10_000)
        check.number("tokens_per_request", above=0, at_most=1e18)
        hours = tuple(_number(each, "traffic.hourly_tokens", at_least=0) for each in self.hourly_tokens)
        if hours and not any(hours):
            raise _wrong("traffic.hourly_tokens", "must have an hour with a load", hours[0])
        object.__setattr__(self, "hourly_tokens", hours)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiPrice:
    """Who sells the model by the token, and for how much.

    Attributes:
        input_usd_per_mtok: US dollars per million input tokens.
        output_usd_per_mtok: The same for output.
        cached_usd_per_mtok: For input that is read from the provider's cache; None: as other input.
        cache_write_usd_per_mtok: On top, for input that is written to its cache.
        batch_discount: What a batch API takes off, as a share.
        usd_per_request: What each call costs beside its tokens.
        fees_usd_per_month: What is paid whatever is asked.
        yearly_decline: By which share the same model gets cheaper a year; looks at purchases alone.
        token_ratio: Tokens that it counts for each of the traffic's; 1: the same tokenizer.
        is_same_model: Another model is another comparison, and the report says so.
        available_until: The first day on which it is not sold; None: no end is known.
        migration_usd: What it costs to leave once it is not sold any more.
        provider: Who.
        model: The provider's own id.
        source: Where the price comes from.
        as_of: When it was last compared with that; None: given by hand.
        unverified: What is in doubt.

    Raises:
        InvalidRequestError: A figure is out of its range; the message names the field.
    """

    input_usd_per_mtok: float
    output_usd_per_mtok: float
    cached_usd_per_mtok: float | None = None
    cache_write_usd_per_mtok: float = 0.0
    batch_discount: float = 0.0
    usd_per_request: float = 0.0
    fees_usd_per_month: float = 0.0
    yearly_decline: float = 0.0
    token_ratio: float = 1.0
    is_same_model: bool = True
    available_until: date | None = None
    migration_usd: float = 0.0
    provider: str = "an API"
    model: str = ""
    source: str = "given"
    as_of: date | None = None
    unverified: str | None = None

    def __post_init__(self) -> None:
        check = _Fields(self, "api")
        for name in ("input_usd_per_mtok", "output_usd_per_mtok", "cached_usd_per_mtok", "cache_write_usd_per_mtok"):
            check.number(name, at_least=0, at_most=1e6)
        check.number("batch_discount", at_least=0, at_most=1)
        check.number("usd_per_request", at_least=0, at_most=1e6)
        check.number("fees_usd_per_month", at_least=0, at_most=_MOST_USD)
        check.number("yearly_decline", at_least=-1, at_most=0.999)
        check.number("token_ratio", above=0, at_most=1000)
        check.number("migration_usd", at_least=0, at_most=_MOST_USD)

    @property
    def name(self) -> str:
        """Who sells it, as a report names it."""
        return f"{self.provider} {self.model}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """A machine that is bought: what it costs, what it is worth later, and the power that it draws.

    Attributes:
        usd_per_gpu: With its part of chassis, network and rack; None: the table's, where it has one.
        months: How long it is written off; None: assumed.
        residual_share: What it is worth then, as a share; None: assumed.
        yearly_interest: What money costs; None: assumed.
        idle_w: A GPU's power without work; None: assumed.
        load_w: The same at full work; None: from its data sheet.
        node_factor: The node's power for each watt of its GPUs; None: assumed.
        pue: Power usage effectiveness: the building's power for each watt of the node; None: assumed.
        usd_per_kwh: None: assumed.
        colocation_usd_per_month: For each replica.
        support_share_per_year: Of the price, for support and spare parts.

    Raises:
        InvalidRequestError: A figure is out of its range; the message names the field.
    """

    usd_per_gpu: float | None = None
    months: float | None = None
    residual_share: float | None = None
    yearly_interest: float | None = None
    idle_w: float | None = None
    load_w: float | None = None
    node_factor: float | None = None
    pue: float | None = None
    usd_per_kwh: float | None = None
    colocation_usd_per_month: float = 0.0
    support_share_per_year: float = 0.0

    def __post_init__(self) -> None:
        check = _Fields(self, "purchase")
        check.number("usd_per_gpu", above=0, at_most=1e9)
        check.number("months", above=0, at_most=600)
        check.number("residual_share", at_least=0, at_most=1)
        check.number("yearly_interest", at_least=0, at_most=10)
        for name in ("idle_w", "load_w", "usd_per_kwh", "support_share_per_year"):
            check.number(name, at_least=0, at_most=1e6)
        check.number("colocation_usd_per_month", at_least=0, at_most=_MOST_USD)
        check.number("node_factor", at_least=1, at_most=100)
        check.number("pue", at_least=1, at_most=100)
        if self.idle_w is not None and self.load_w is not None and self.idle_w > self.load_w:
            raise _wrong("purchase.idle_w", f"must be at most load_w ({self.load_w:g})", self.idle_w)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfHost:
    """The machine that could answer instead: rented by the hour, or bought.

    Attributes:
        gpu: A GPU of the tables; None: a machine that they do not know, with its rate and price given.
        n_gpus: GPUs of one replica.
        precision: As in `fp8` or `Q4_K_M`; None: the widest common one that the GPU computes in.
        engine: `trtllm`, `vllm`, `sglang` or `llama.cpp`.
        gpu_usd_per_hour: The rent of one GPU; None: the median of the table's quotes.
        purchase: Bought instead of rented.
        tokens_per_second: Output tokens per second of one replica under full load, as measured; wins over the estimate.
        total_tokens_per_second: The same, where what was measured counts input too. One of the two.
        slo_derate: The share of that rate which is left once answers must stay quick, up to 1; None: estimated.
        max_utilisation: The share of the remaining rate that is planned with, up to 1; None: assumed.
        min_replicas: Never fewer than these.
        spare: Replicas beside those that are needed; None: assumed.
        ops_usd_per_month: Staff; None: assumed.
        storage_usd_per_month: Disks, traffic and the like, for the whole fleet.
        spot_overhead: What interruptions add to the rent, as a share.
        powered_hours_per_month: When it runs, and is paid for or draws power; None: always.
        escalated_share: The share of requests that still goes to the API, since the own model does not do.
        tpot_limit_ms: The longest time between two tokens of a stream; None: assumed.
        ttft_limit_s: The longest wait for the first token; None: assumed.

    Raises:
        InvalidRequestError: A figure is out of its range; the message names the field.
    """

    gpu: str | None = None
    n_gpus: int = 1
    precision: str | None = None
    engine: str | None = None
    gpu_usd_per_hour: float | None = None
    purchase: Purchase | None = None
    tokens_per_second: float | None = None
    total_tokens_per_second: float | None = None
    slo_derate: float | None = None
    max_utilisation: float | None = None
    min_replicas: int = 1
    spare: int | None = None
    ops_usd_per_month: float | None = None
    storage_usd_per_month: float = 0.0
    spot_overhead: float = 0.0
    powered_hours_per_month: float | None = None
    escalated_share: float = 0.0
    tpot_limit_ms: float | None = None
    ttft_limit_s: float | None = None

    def __post_init__(self) -> None:
        check = _Fields(self, "self_host")
        check.whole("n_gpus", at_least=1, at_most=100_000)
        check.number("gpu_usd_per_hour", above=0, at_most=1e6)
        check.number("tokens_per_second", above=0, at_most=1e15)
        check.number("total_tokens_per_second", above=0, at_most=1e15)
        check.number("slo_derate", above=0, at_most=1)
        check.number("max_utilisation", above=0, at_most=1)
        check.whole("min_replicas", at_least=1, at_most=1_000_000)
        check.whole("spare", at_least=0, at_most=1_000_000)
        for name in ("ops_usd_per_month", "storage_usd_per_month"):
            check.number(name, at_least=0, at_most=_MOST_USD)
        check.number("spot_overhead", at_least=0, at_most=100)
        check.number("powered_hours_per_month", above=0, at_most=_MAX_HOURS_A_MONTH)
        check.number("escalated_share", at_least=0, at_most=1)
        check.number("tpot_limit_ms", above=0, at_most=1e9)
        check.number("ttft_limit_s", above=0, at_most=1e6)
        for name in ("gpu", "precision", "engine"):
            check.text(name)
        if self.purchase is not None and not isinstance(self.purchase, Purchase):
            raise _wrong("self_host.purchase", "must be a Purchase", self.purchase)
        if self.purchase is not None and self.gpu_usd_per_hour is not None:
            raise InvalidRequestError(
                "self_host.purchase: a machine is bought or rented; leave out purchase or gpu_usd_per_hour",
                param="self_host.purchase",
            )
        if self.tokens_per_second is not None and self.total_tokens_per_second is not None:
            raise InvalidRequestError(
                "self_host.total_tokens_per_second: give either this or tokens_per_second, which counts output alone",
                param="self_host.total_tokens_per_second",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A model, its traffic, and the two ways to have it answered.

    Attributes:
        model: The canonical name, as in `llama-3.3-70b`; None: one that the tables do not know, with its rate given.
        traffic: What is asked.
        self_host: The machine of one's own.
        apis: Who sells it; None: whoever is known to sell it on that day; empty: nobody.
        hours_per_month: What a month is; others count with 720.

    Raises:
        InvalidRequestError: A figure is out of its range; the message names the field.

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

    model: str | None
    traffic: Traffic = field(default_factory=Traffic)
    self_host: SelfHost
    apis: Sequence[ApiPrice] | None = None
    hours_per_month: float = HOURS_A_MONTH

    def __post_init__(self) -> None:
        check = _Fields(self, "")
        check.number("hours_per_month", above=0, at_most=_MAX_HOURS_A_MONTH)
        check.text("model")
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
            tokens_per_day: The volume; None: it is not known.
        """
        return replace(self, traffic=replace(self.traffic, tokens_per_day=tokens_per_day))


class _Fields:
    """Checks the fields of an object that is being made, and keeps their numbers as float."""

    def __init__(self, owner: Traffic | ApiPrice | Purchase | SelfHost | Scenario, place: str) -> None:
        self._owner, self._place = owner, place
        self._optional = {each.name for each in fields(owner) if "None" in str(each.type)}

    def number(
        self, name: str, *, above: float | None = None, at_least: float | None = None, at_most: float | None = None
    ) -> None:
        value = getattr(self._owner, name)
        if value is None and name in self._optional:
            return
        number = _number(value, self._field(name), above=above, at_least=at_least, at_most=at_most)
        object.__setattr__(self._owner, name, number)

    def text(self, name: str) -> None:
        value = getattr(self._owner, name)
        if value is not None and not (isinstance(value, str) and value.strip()):
            raise _wrong(self._field(name), "must be a name", value)

    def _field(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name

    def whole(self, name: str, *, at_least: int, at_most: int) -> None:
        value = getattr(self._owner, name)
        if value is None and name in self._optional:
            return
        if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value <= at_most:
            raise _wrong(self._field(name), f"must be a whole number from {at_least} to {at_most}", value)


def _number(
    value: object,
    place: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> float:
    lower = (
        ""
        if above is None and at_least is None
        else f" above {above:g}"
        if above is not None
        else f" of at least {at_least:g}"
    )
    upper = "" if at_most is None or at_most >= 1e6 else f"{' and' if lower else ''} up to {at_most:g}"
    wanted = f"must be a number{lower}{upper}"
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise _wrong(place, wanted, value)
    try:
        number = float(value)
    except (OverflowError, ValueError):
        raise _wrong(place, wanted, value) from None
    if not math.isfinite(number):
        raise _wrong(place, wanted, value)
    if (above is not None and number <= above) or (at_least is not None and number < at_least):
        raise _wrong(place, wanted, value)
    if at_most is not None and number > at_most:
        raise _wrong(place, wanted if upper else f"must be a number up to {at_most:g}", value)
    return number


def _wrong(place: str, wanted: str, value: object) -> InvalidRequestError:
    shown = f"{value}" if isinstance(value, int | float | Decimal) else repr(value)
    if len(shown) > 40:
        shown = f"a value of type {type(value).__name__}"
    return InvalidRequestError(f"{place}: {wanted}, got {shown}", param=place)
