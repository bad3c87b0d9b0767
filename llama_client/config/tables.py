"""The tables of the configuration, apart from those of providers."""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Mapping
from datetime import date
from decimal import Context, Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StrictBool,
    StrictStr,
    ValidationInfo,
    model_validator,
)

from llama_client.types.messages import MAX_TIMEOUT_S
from llama_client.validation import broken_rule, quoted, suggestion

Seconds = Annotated[float, Field(strict=True, gt=0, le=MAX_TIMEOUT_S, allow_inf_nan=False)]


class ConfigTable(BaseModel):
    """A table of the configuration: unknown keys are errors, and nothing changes once read."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def _absolute(path: Path, info: ValidationInfo) -> Path:
    """`~` is the user's home; a relative path starts at the folder of the file that names it."""
    folder: Path | None = (info.context or {}).get("folder")
    try:
        # Pinned now: a program that changes its working folder before the first load means the same file.
        return ((folder or Path()) / path.expanduser()).absolute()
    except (RuntimeError, OSError) as error:  # no such user's home, or no working folder any more
        raise broken_rule("", f"has no such place: {error}") from None


def _path_text(value: object) -> object:
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise broken_rule("", "must be the path of a file")
    return value


FilePath = Annotated[Path, BeforeValidator(_path_text), AfterValidator(_absolute)]
Name = Annotated[StrictStr, Field(min_length=1)]


Window = Literal["hour", "day", "month", "total"]
OnExceeded = Literal["block", "local", "warn"]

# Money is kept as whole pico-dollars in 64 bits; sums of more than this would not fit there.
MAX_BUDGET_USD = 9_000_000
# Whatever context of decimals the program has set for itself.
_CONTEXT = Context(prec=60)
_WORDS = {"hour": "an hour", "day": "a day", "month": "a month", "total": "in total"}
_SQLITE_FILE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")
_WORD = r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
_POSTGRES_URL = re.compile(
    rf"postgres(?:ql)?://(?:{_WORD}*(?::{_WORD}*)?@)?(?P<host>{_WORD}*|\[[0-9A-Fa-f:.%]+\])(?::\d+)?"
    rf"(?:/(?P<name>{_WORD}*))?(?:\?(?:{_WORD}+={_WORD}*(?:&|$))*)?"
)


def _money(value: object) -> object:
    """TOML knows no decimal numbers: a float's shortest text is what was written."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise broken_rule("", "must be a number of US dollars")
    return Decimal(str(value))


Usd = Annotated[Decimal, BeforeValidator(_money), Field(ge=0, allow_inf_nan=False)]
PositiveUsd = Annotated[Decimal, BeforeValidator(_money), Field(gt=0, allow_inf_nan=False)]


def time_zone(name: str) -> str:
    """Checks the name of a time zone."""
    try:
        zoneinfo.ZoneInfo(name)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        near = suggestion(name, zoneinfo.available_timezones())
        told = f"must be a time zone such as 'UTC' or 'Europe/Berlin', got {quoted(name)}{near}"
        raise broken_rule("", told) from None
    return name


def _ledger_url(value: object, info: ValidationInfo) -> object:
    """The address of the ledger; it may hold a password. A relative file starts at the folder of the configuration."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str) or not (text == "sqlite" or text.startswith((_SQLITE_FILE, *_POSTGRES))):
        raise broken_rule("", "must be 'sqlite', 'sqlite:///path/to/file' or 'postgresql://...'")
    if text.startswith(_POSTGRES):
        _check_postgres(text)
    if text.startswith(_SQLITE_FILE):
        path = text.removeprefix(_SQLITE_FILE)
        if not path.strip() or "\0" in path or path == ":memory:":
            raise broken_rule("", "must name a file after 'sqlite:///'")
        folder: Path | None = (info.context or {}).get("folder")
        try:
            text = f"{_SQLITE_FILE}{((folder or Path()) / Path(path).expanduser()).absolute()}"
        except (RuntimeError, OSError) as error:
            raise broken_rule("", f"has no such place: {error}") from None
    return SecretStr(text)


class LedgerTable(ConfigTable):
    """Where each attempt is written down.

    Attributes:
        enabled: Whether it is.
        url: `sqlite` (a file in the user's data folder), `sqlite:///path` or `postgresql://user:password@host/name`.
            Budgets are kept there too.
        retention_days: Rows older than this are deleted.
        flush_interval_s: At most so long after an attempt its row is on disk; a process that is killed loses no more.
    """

    enabled: StrictBool = True
    url: Annotated[SecretStr, BeforeValidator(_ledger_url)] = SecretStr("sqlite")
    retention_days: Annotated[int, Field(strict=True, ge=1, le=36_500)] = 400
    flush_interval_s: Annotated[float, Field(strict=True, gt=0, le=60, allow_inf_nan=False)] = 0.2


def _check_postgres(url: str) -> None:
    """Refuses an address in which a password would be taken for something else, which would then be shown."""
    found = _POSTGRES_URL.fullmatch(url)
    if found is None:
        raise broken_rule(
            "",
            "must look like postgresql://user:password@host:5432/name; write what else is in a user name or password "
            "as %XX (%40 for @, %2F for /, %25 for %)",
        )
    if not found["host"] and not found["name"]:
        raise broken_rule("", "must name a host or a database, as in postgresql://user@host/name")


def _scope(scope: str) -> str:
    kind, _, name = scope.partition(":")
    if scope != "all" and not (kind in ("tag", "provider") and name):
        raise broken_rule("", f"must be 'all', 'tag:<key>' or 'provider:<name>', got {quoted(scope)}")
    return scope


class BudgetTable(ConfigTable):
    """What may be spent.

    Attributes:
        usd: How much, in each window.
        window: `hour`, `day`, `month` (in the configuration's time zone) or `total`.
        scope: `all`; `tag:<key>`: so much for each value of that tag, and nothing is said of calls without it;
            `provider:<name>`.
        on_exceeded: `block`: what would not fit is not asked; `local`: from then on only free local targets are;
            `warn`: the answer carries a warning.
        on_unpriced: Whether a target whose worst case nobody can name may be asked: `refuse` or `allow`.
    """

    usd: Annotated[PositiveUsd, Field(le=MAX_BUDGET_USD)]
    window: Window
    scope: Annotated[str, Field(strict=True), AfterValidator(_scope)] = "all"
    on_exceeded: OnExceeded = "block"
    on_unpriced: Literal["refuse", "allow"] = "refuse"

    def name_for(self, value: str | None) -> str:
        """What people call it: `all a day`, or `tag:user=ann a month`.

        Args:
            value: The tag's, where the scope is a tag.
        """
        return f"{self.scope}{'' if value is None else f'={value}'} {_WORDS[self.window]}"


class TelemetryConfig(ConfigTable):
    """OpenTelemetry's spans and metrics, sent through whatever the program itself has set up.

    Attributes:
        enabled: Whether they are made.
        content: Whether spans hold what was asked and answered.
    """

    enabled: StrictBool = False
    content: StrictBool = False


class OwnMachine(ConfigTable):
    """What an hour of the machine costs on which a provider of the user's own runs; absent: nothing is known of it.

    Attributes:
        usd_per_hour: What an hour costs.
        watts: What it draws while it answers.
        usd_per_kwh: What its power costs.
    """

    usd_per_hour: PositiveUsd | None = None
    watts: Annotated[float, Field(strict=True, gt=0, le=1e9, allow_inf_nan=False)] | None = None
    usd_per_kwh: PositiveUsd | None = None

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> OwnMachine:
        if (self.watts is None) != (self.usd_per_kwh is None):
            missing = "watts" if self.watts is None else "usd_per_kwh"
            raise broken_rule(missing, "is required: watts and usd_per_kwh belong together")
        if self.usd_per_hour is not None and self.watts is not None:
            raise broken_rule("watts", "and usd_per_hour both give the machine's price; keep one of them")
        return self

    @property
    def machine_usd_per_hour(self) -> Decimal | None:
        """What an hour costs, however it was said; None: it was not."""
        if self.watts is not None and self.usd_per_kwh is not None:
            return _CONTEXT.multiply(Decimal(str(self.watts)), self.usd_per_kwh).scaleb(-3, _CONTEXT)
        return self.usd_per_hour


_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
# What looks like a number is read as an address by some systems and as a name by others.
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*")
_EXPECTED = "must be a name (gpu-box.lan), an IP address (10.0.0.5) or a network (10.0.0.0/24)"


def _host(text: str) -> str:
    """A host in the one form in which it is compared."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return _name(text)
    if network.prefixlen == 0:
        raise broken_rule("", f"{text} is every address there is: switch local_only off instead")
    if str(network.network_address) != str(ipaddress.ip_address(text.partition("/")[0])):
        raise broken_rule("", f"{text} is no network: did you mean {network}?")
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.num_addresses == 1:
        return str(mapped)
    return str(network if "/" in text else network.network_address)


def _name(text: str) -> str:
    name = text.lower().removesuffix(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            name = ""
    if len(name) > 253 or not _NAME.fullmatch(name) or _NUMBER.fullmatch(name):
        without = " without scheme, port, path or wildcard" if any(mark in text for mark in ":/*[") else ""
        raise broken_rule("", f"{_EXPECTED}{without}, got {quoted(text)}")
    return name


class PrivacyConfig(ConfigTable):
    """What `local_only` may reach beside this machine.

    Attributes:
        allow_hosts: Names (exactly these, not what is below them; whatever addresses they have), IP addresses, and
            networks such as `10.0.0.0/24`. Every port of them.
    """

    allow_hosts: tuple[Annotated[Name, AfterValidator(_host)], ...] = ()


Policy = Literal["ordered", "cheapest", "fastest", "weighted"]

# What shapes the answer itself (tools, its form, how many) is the call's to say, and must be the same wherever it goes.
_TARGET_PARAMS = (
    "temperature", "top_p", "top_k", "min_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty",
    "repetition_penalty", "logit_bias", "parallel_tool_calls", "reasoning_effort", "reasoning_format", "service_tier",
    "user", "extra_body",
)  # fmt: skip
_NOBODY_ASKS = [{"role": "user", "content": "?"}]


# A million dollars for a million tokens: more is a slip of the pen.
_Price = Annotated[Usd, Field(le=1_000_000)]


def is_target(target: str) -> str:
    """Checks that a text is `provider/model-id`."""
    if not all(target.partition("/")):
        raise broken_rule("", f"must be 'provider/model-id', got {quoted(target)}")
    return target


def _checked_params(params: object) -> object:
    """Parameters as a call could have given them, in the form that a checked request holds."""
    if not isinstance(params, Mapping):
        raise broken_rule("", "must be a table of parameters")
    for name in params:
        if name not in _TARGET_PARAMS:
            raise broken_rule(str(name), f"is no parameter of a target{suggestion(str(name), _TARGET_PARAMS)}")
    # Building the request's schema takes as long as importing the package, so it waits until somebody needs it.
    from llama_client.errors import InvalidRequestError
    from llama_client.types.request import check_request

    try:
        request = check_request({"messages": _NOBODY_ASKS, **params}, stream=False)
    except InvalidRequestError as error:
        raise broken_rule("", str(error)) from None
    return {name: getattr(request, name) for name in params if getattr(request, name) is not None}


class RouteTarget(ConfigTable):
    """One target of a route.

    Attributes:
        target: `provider/model-id`, or a name that the catalogue knows.
        weight: Its share under the policy `weighted`; 0: only after all others.
        params: Parameters for this target where the call itself does not give them.
    """

    target: Name
    weight: Annotated[float, Field(strict=True, ge=0, le=1e9, allow_inf_nan=False)] = 1.0
    params: Annotated[dict[str, Any], BeforeValidator(_checked_params)] = Field(default_factory=dict)


def _as_table(target: object) -> object:
    return {"target": target} if isinstance(target, str) else target


class RouteConfig(ConfigTable):
    """A named list of targets, and how they are ordered.

    Attributes:
        targets: Who may answer: texts, or tables with `weight` and `params`.
        policy: `ordered` (as written), `cheapest` (expected cost of the request at hand), `fastest` (as measured by
            this client), `weighted` (at random, by `weight`).
        max_price_usd: Targets whose expected cost of a call is more, or unknown, are skipped; absent: no limit.
    """

    targets: Annotated[tuple[Annotated[RouteTarget, BeforeValidator(_as_table)], ...], Field(min_length=1)]
    policy: Policy = "ordered"
    max_price_usd: PositiveUsd | None = None


class RoutingConfig(ConfigTable):
    """What failover does.

    Attributes:
        retries: How often a target is asked again after a failure that may pass.
        deadline_s: The seconds that a call may take in all; a stream, until its first content. A call's own `timeout`
            replaces it.
        first_content_s: How long one attempt of a stream may take to its first content.
        stall_s: How long a stream may pause between chunks.
        breaker_failures: After that many failures in a row a target is left alone.
        breaker_cooldown_s: For that long; then exactly one call tries it.
        hedge_after_s: Ask the next target too where the first has not answered by then; absent: never.
        on_interrupt: `continue`: another target goes on from what has arrived where a stream breaks off; absent: the
            break is raised.
        drop_unsupported: Leave out what a target cannot honour, with a warning, instead of skipping the target.
    """

    retries: Annotated[int, Field(strict=True, ge=0, le=100)] = 2
    deadline_s: Seconds = 120.0
    first_content_s: Seconds = 30.0
    stall_s: Seconds = 60.0
    breaker_failures: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 3
    breaker_cooldown_s: Seconds = 30.0
    hedge_after_s: Seconds | None = None
    on_interrupt: Literal["continue"] | None = None
    drop_unsupported: StrictBool = False


class PriceRow(ConfigTable):
    """A price of the user's own; it wins over every other source.

    Attributes:
        target: `provider/model-id`.
        input_usd_per_mtok: US dollars per million tokens of the prompt.
        output_usd_per_mtok: US dollars per million tokens of the answer.
        cached_usd_per_mtok: US dollars per million tokens of the prompt that were cached; absent: as the others.
        service_tier: The tier that it is the price of, as the provider's answers name it; absent: of every tier that
            has no row of its own.
        effective_from: The first day on which it holds; absent: always.
        effective_until: The first day on which it no longer does.
    """

    target: Annotated[Name, AfterValidator(is_target)]
    input_usd_per_mtok: _Price
    output_usd_per_mtok: _Price
    cached_usd_per_mtok: _Price | None = None
    service_tier: Name | None = None
    effective_from: date | None = None
    effective_until: date | None = None

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> PriceRow:
        if self.effective_from and self.effective_until and self.effective_from >= self.effective_until:
            raise broken_rule("effective_until", "must be after effective_from")
        return self

    def holds_on(self, day: date) -> bool:
        """Whether it is the price of that day.

        Args:
            day: In the configuration's time zone.
        """
        return (self.effective_from is None or self.effective_from <= day) and (
            self.effective_until is None or day < self.effective_until
        )


_SOURCE = "the configuration"
# Bounds that no row passes by being real: they catch a unit that was mistaken, and keep sums finite.
_Count = Annotated[int, Field(strict=True, ge=1, le=10**15)]
_Dimension = Annotated[int, Field(strict=True, ge=1, le=10**8)]
_Figure = Annotated[float, Field(strict=True, gt=0, le=1e9, allow_inf_nan=False)]
_RowName = Annotated[Name, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)]
_GpuName = Annotated[Name, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=100)]


class ExpertsTable(ConfigTable):
    """A mixture of experts.

    Attributes:
        experts: How many there are in a layer that has them.
        experts_per_token: How many answer each token.
        shared_experts: How many answer every token beside these.
        every_n_layers: 1: each layer has them; 2: every other one.
        expert_ffn: The width of one.
    """

    experts: _Dimension
    experts_per_token: _Dimension
    shared_experts: Annotated[int, Field(strict=True, ge=0, le=10**6)] = 0
    every_n_layers: _Dimension = 1
    expert_ffn: _Dimension

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> ExpertsTable:
        if self.experts_per_token > self.experts:
            raise broken_rule("experts_per_token", f"must be at most experts ({self.experts})")
        return self


class ModelTable(ConfigTable):
    """A model's shape and licence; it wins over our own row of that name.

    Attributes:
        name: In small letters, as in `llama-3.1-70b`.
        parameters: How many the language part has.
        layers: How many.
        hidden: The width between layers.
        ffn: The width of the feed-forward part; in a mixture of experts, of the layers without experts.
        heads: Heads of queries.
        kv_heads: Heads of keys and values.
        head_dim: The width of a head.
        vocab: How many tokens it knows.
        context_tokens: The context that it was trained for.
        tied_embeddings: The same matrix reads tokens and writes them.
        moe: Its experts.
        active_parameters: How many a token meets; absent: all.
        published_parameters: With parts that are not in the dimensions; absent: the same.
        attention_chunk_tokens: Most layers look back within such a chunk alone.
        global_attention_every_n_layers: Of those models, every n-th layer looks at everything.
        cross_attention_layers: More layers, that look at pictures.
        licence: Its name.
        released_on: The day of the release.
        monthly_users_clause: Above 700 million monthly users on that day Meta's grant is needed.
        eu_multimodal_bar: The use policy excludes the EU.
        note: What else is worth knowing.
        unverified: What is in doubt.
        source: Where this comes from.
        checked_on: When it was last compared with that.
    """

    name: _RowName
    parameters: _Count
    layers: _Dimension
    hidden: _Dimension
    ffn: _Dimension
    heads: _Dimension
    kv_heads: _Dimension
    head_dim: _Dimension
    vocab: _Dimension
    context_tokens: _Dimension
    tied_embeddings: StrictBool = False
    moe: ExpertsTable | None = None
    active_parameters: _Count | None = None
    published_parameters: _Count | None = None
    attention_chunk_tokens: _Dimension | None = None
    global_attention_every_n_layers: _Dimension | None = None
    cross_attention_layers: Annotated[int, Field(strict=True, ge=0, le=10**6)] = 0
    licence: Name = "unknown"
    released_on: date | None = None
    monthly_users_clause: StrictBool = False
    eu_multimodal_bar: StrictBool = False
    note: Name | None = None
    unverified: Name | None = None
    source: Name = _SOURCE
    checked_on: date | None = None

    @model_validator(mode="after")
    def _parts_go_together(self) -> ModelTable:
        if self.heads % self.kv_heads:
            raise broken_rule("kv_heads", f"must divide heads ({self.heads}): each serves as many queries")
        if self.active_parameters is not None and self.active_parameters > self.parameters:
            raise broken_rule("active_parameters", f"must be at most parameters ({self.parameters})")
        if (self.attention_chunk_tokens is None) != (self.global_attention_every_n_layers is None):
            missing = (
                "attention_chunk_tokens" if self.attention_chunk_tokens is None else "global_attention_every_n_layers"
            )
            raise broken_rule(
                missing, "is required: attention_chunk_tokens and global_attention_every_n_layers belong together"
            )
        return self


class GpuTable(ConfigTable):
    """A GPU; it wins over our own row of that name.

    Attributes:
        name: In small letters and underscores, as in `rtx_a6000`.
        memory_gib: As sold, in 2^30 bytes; what the driver keeps for itself is up to 1% of it.
        bandwidth_gb_per_s: Of its memory, in 10^9 bytes per second.
        title: As its maker writes it; absent: the name.
        vendor: `nvidia`, `amd` or `apple`.
        memory_kind: `hbm`, `gddr` or `unified`.
        bf16_tflops: Dense, in 10^12 a second.
        fp8_tflops: The same for 8 bits.
        fp4_tflops: The same for 4 bits.
        tdp_w: The power that its maker names.
        unverified: What is in doubt.
        source: Where this comes from.
        checked_on: When it was last compared with that.
    """

    name: _GpuName
    memory_gib: _Figure
    bandwidth_gb_per_s: _Figure
    title: str = ""
    vendor: Literal["nvidia", "amd", "apple"] = "nvidia"
    memory_kind: Literal["hbm", "gddr", "unified"] = "gddr"
    bf16_tflops: _Figure | None = None
    fp8_tflops: _Figure | None = None
    fp4_tflops: _Figure | None = None
    tdp_w: _Figure | None = None
    unverified: Name | None = None
    source: Name = _SOURCE
    checked_on: date | None = None


class GpuPriceTable(ConfigTable):
    """What one GPU costs for an hour.

    Attributes:
        gpu: Its name: one of ours or of `[[crossover.gpus]]`.
        provider: Who rents it out.
        usd_per_gpu_hour: US dollars.
        kind: `on_demand`, or `spot`, which may be taken away.
        as_of: The day of the quote.
        unverified: What is in doubt.
        source: Where it comes from.
    """

    gpu: Name
    provider: Name
    usd_per_gpu_hour: PositiveUsd
    kind: Literal["on_demand", "spot"] = "on_demand"
    as_of: date | None = None
    unverified: Name | None = None
    source: Name = _SOURCE


class CrossoverConfig(ConfigTable):
    """What the user knows beyond our tables of models, GPUs and rents.

    Attributes:
        models: Models.
        gpus: GPUs.
        gpu_prices: What an hour of one costs.
    """

    models: tuple[ModelTable, ...] = ()
    gpus: tuple[GpuTable, ...] = ()
    gpu_prices: tuple[GpuPriceTable, ...] = ()
