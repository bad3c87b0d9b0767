"""The tables of the configuration, apart from those of providers."""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    SecretStr,
    StrictBool,
    StrictStr,
    TypeAdapter,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from llama_client.hosts import NUMBER, address_of, name_of
from llama_client.types.deferred import DeferredModel
from llama_client.types.messages import MAX_TIMEOUT_S
from llama_client.validation import broken_rule, quoted, suggestion

Seconds = Annotated[float, Field(strict=True, gt=0, le=MAX_TIMEOUT_S, allow_inf_nan=False)]


class ConfigTable(DeferredModel):
    """A table of the configuration: immutable, and unknown keys are errors."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class RowsOf:
    """A list of tables whose class is imported when there are any: few need it, and all would wait for it."""

    module: str
    name: str

    def table(self) -> type[BaseModel]:
        found: type[BaseModel] = getattr(import_module(self.module), self.name)
        return found

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._validated, handler(source))

    def _validated(self, value: object) -> object:
        rows: Any = tuple[self.table(), ...]  # type: ignore[misc]
        return TypeAdapter(rows).validate_python(value)


def _absolute(path: Path, info: ValidationInfo) -> Path:
    """`~` is the user's home; a relative path starts at the folder of the file that names it."""
    folder: Path | None = (info.context or {}).get("folder")
    try:
        # Resolved now, so that it means the same after the program changes its working folder.
        return ((folder or Path()) / path.expanduser()).absolute()
    except (RuntimeError, OSError) as error:  # an unknown user's home, or a deleted working folder
        raise broken_rule("", f"is not a usable path: {error}") from None


def _path_text(value: object) -> object:
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise broken_rule("", "must be the path of a file")
    return value


FilePath = Annotated[Path, BeforeValidator(_path_text), AfterValidator(_absolute)]
Name = Annotated[StrictStr, Field(min_length=1)]

Window = Literal["hour", "day", "month", "total"]
OnExceeded = Literal["block", "local", "warn"]

# Money is stored as whole pico-dollars in 64 bits, in which a sum of more than this does not fit.
MAX_BUDGET_USD = 9_000_000
# Independent of the program's own decimal context.
_CONTEXT = Context(prec=60)
_WORDS = {"hour": "an hour", "day": "a day", "month": "a month", "total": "in total"}
_SQLITE_FILE = "sqlite:///"
_LEDGER_NAMES = ("sqlite", "memory")
_POSTGRES = ("postgresql://", "postgres://")
_WORD = r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
_POSTGRES_URL = re.compile(
    rf"postgres(?:ql)?://(?:{_WORD}*(?::{_WORD}*)?@)?(?P<host>{_WORD}*|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\])(?::\d+)?"
    rf"(?:/(?P<name>{_WORD}*))?(?:\?(?:{_WORD}+={_WORD}*(?:&|$))*)?"
)


def _money(value: object) -> object:
    """TOML has no decimal numbers: the shortest text of a float is what was written."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise broken_rule("", "must be a number of US dollars")
    return Decimal(str(value))


Usd = Annotated[Decimal, BeforeValidator(_money), Field(ge=0, allow_inf_nan=False)]
PositiveUsd = Annotated[Decimal, BeforeValidator(_money), Field(gt=0, allow_inf_nan=False)]


def time_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        known = zoneinfo.available_timezones()
        if not known:
            # As in slim images of containers.
            raise broken_rule("", "this system has no time zone data; run `pip install tzdata`") from None
        near = suggestion(name, known)
        message = f"must be a time zone such as 'UTC' or 'Europe/Berlin', got {quoted(name)}{near}"
        raise broken_rule("", message) from None
    return name


def _ledger_url(value: object, info: ValidationInfo) -> object:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str) or not (text in _LEDGER_NAMES or text.startswith((_SQLITE_FILE, *_POSTGRES))):
        raise broken_rule("", "must be 'sqlite', 'sqlite:///path/to/file', 'postgresql://...' or 'memory'")
    if text.startswith(_POSTGRES):
        _check_postgres(text)
    if text.startswith(_SQLITE_FILE):
        path = text.removeprefix(_SQLITE_FILE)
        if path == ":memory:":
            raise broken_rule("", "must be 'memory' for what is in no file")
        if not path.strip() or "\0" in path:
            raise broken_rule("", "must name a file after 'sqlite:///'")
        text = f"{_SQLITE_FILE}{_absolute(Path(path), info)}"
    return SecretStr(text)


class LedgerTable(ConfigTable):
    """Where each attempt is recorded.

    Attributes:
        enabled: Whether attempts are recorded.
        url: `sqlite` (a file in the user's data folder), `sqlite:///path`, `postgresql://user:password@host/name` or
            `memory` (for tests: of one client, and gone when it closes). Budgets are kept there too.
        retention_days: Rows older than this are deleted.
        flush_interval_s: The longest time from an attempt until its row is on disk; a killed process loses no more.
    """

    enabled: StrictBool = True
    url: Annotated[SecretStr, BeforeValidator(_ledger_url)] = SecretStr("sqlite")
    retention_days: Annotated[int, Field(strict=True, ge=1, le=36_500)] = 400
    flush_interval_s: Annotated[float, Field(strict=True, gt=0, le=60, allow_inf_nan=False)] = 0.2


def _check_postgres(url: str) -> None:
    """Refuses a URL in which a password would be parsed as another part, which would then be shown."""
    found = _POSTGRES_URL.fullmatch(url)
    if found is None:
        raise broken_rule(
            "",
            "must look like postgresql://user:password@host:5432/name; write other characters of a user name or "
            "password as %XX (%40 for @, %2F for /, %25 for %)",
        )
    if not found["host"] and not found["name"]:
        raise broken_rule("", "must name a host or a database, as in postgresql://user@host/name")


def _scope(scope: str) -> str:
    kind, _, name = scope.partition(":")
    if scope != "all" and not (kind in ("tag", "provider") and name):
        raise broken_rule("", f"must be 'all', 'tag:<key>' or 'provider:<name>', got {quoted(scope)}")
    return scope


class BudgetTable(ConfigTable):
    """A limit on spending.

    Attributes:
        usd: The limit, in each window.
        window: `hour`, `day`, `month` (in the configuration's time zone) or `total`.
        scope: `all`; `tag:<key>`: the limit applies to each value of that tag, and not to calls without it;
            `provider:<name>`.
        on_exceeded: `block`: calls that would exceed it are refused; `local`: from then on only free local targets are
            called; `warn`: the completion has a warning.
        on_unpriced: `refuse` or `allow` targets without a known worst-case cost.
    """

    usd: Annotated[PositiveUsd, Field(le=MAX_BUDGET_USD)]
    window: Window
    scope: Annotated[str, Field(strict=True), AfterValidator(_scope)] = "all"
    on_exceeded: OnExceeded = "block"
    on_unpriced: Literal["refuse", "allow"] = "refuse"

    def name_for(self, value: str | None) -> str:
        """The name for people: `all a day`, or `tag:user=ann a month`.

        Args:
            value: The tag's value, if the scope is a tag.
        """
        return f"{self.scope}{'' if value is None else f'={value}'} {_WORDS[self.window]}"


class CacheConfig(ConfigTable):
    """Answers that are kept, so that the same request to the same model is not asked again.

    Attributes:
        enabled: Whether answers are kept, and looked for. They are kept in the clear.
        url: `sqlite` (a file in the user's cache folder), `sqlite:///path`, `postgresql://user:password@host/name` or
            `memory` (of one client, and gone when it closes).
        namespace: Answers of another namespace are not found.
        namespace_tags: The names of tags whose values belong to the namespace: calls with other values of them find
            none of each other's answers.
        max_age_days: Older answers are not used, and deleted.
        max_mib: The size of all answers in MiB; beyond it the oldest are deleted.
    """

    enabled: StrictBool = False
    url: Annotated[SecretStr, BeforeValidator(_ledger_url)] = SecretStr("sqlite")
    namespace: StrictStr = ""
    namespace_tags: tuple[Name, ...] = ()
    max_age_days: Annotated[float, Field(strict=True, gt=0, le=36_500, allow_inf_nan=False)] = 30.0
    max_mib: Annotated[int, Field(strict=True, ge=1, le=1 << 20)] = 512


class TelemetryConfig(ConfigTable):
    """OpenTelemetry's spans and metrics, sent through the exporters that the program has set up.

    Attributes:
        enabled: Whether spans and metrics are made.
        content: Whether spans contain prompts and answers.
    """

    enabled: StrictBool = False
    content: StrictBool = False


class OwnMachine(ConfigTable):
    """The cost of a machine of the user's own that a provider runs on; absent: unknown.

    Attributes:
        usd_per_hour: US dollars per hour.
        watts: Power drawn while it answers.
        usd_per_kwh: US dollars per kWh.
    """

    usd_per_hour: PositiveUsd | None = None
    watts: Annotated[float, Field(strict=True, gt=0, le=1e9, allow_inf_nan=False)] | None = None
    usd_per_kwh: PositiveUsd | None = None

    @model_validator(mode="after")
    def _one_price(self) -> OwnMachine:
        if (self.watts is None) != (self.usd_per_kwh is None):
            missing = "watts" if self.watts is None else "usd_per_kwh"
            raise broken_rule(missing, "is required: watts and usd_per_kwh belong together")
        if self.usd_per_hour is not None and self.watts is not None:
            raise broken_rule("watts", "and usd_per_hour both give the machine's cost; keep one of them")
        return self

    @property
    def machine_usd_per_hour(self) -> Decimal | None:
        """US dollars per hour, from either form; None: unknown."""
        if self.watts is not None and self.usd_per_kwh is not None:
            return _CONTEXT.multiply(Decimal(str(self.watts)), self.usd_per_kwh).scaleb(-3, _CONTEXT)
        return self.usd_per_hour


_EXPECTED = "must be a name (gpu-box.lan), an IP address (10.0.0.5) or a network (10.0.0.0/24)"


def _host(text: str) -> str:
    if "%" in text:
        # With a zone, which Python's networks may have too.
        return _name(text)
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return _name(text)
    if network.prefixlen == 0:
        raise broken_rule("", f"{text} is every address: switch local_only off instead")
    if str(network.network_address) != str(ipaddress.ip_address(text.partition("/")[0])):
        raise broken_rule("", f"{text} is not a network: did you mean {network}?")
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.num_addresses == 1:
        return str(mapped)
    return str(network if "/" in text else network.network_address)


def _name(text: str) -> str:
    name = name_of(text)
    # In other scripts, or with a zone.
    if address_of(name) is not None:
        return name
    # With a hyphen before it, it is an option that was meant for a command.
    if not name or name.startswith("-") or NUMBER.fullmatch(name):
        without = " without scheme, port, path or wildcard" if any(mark in text for mark in ":/*[") else ""
        raise broken_rule("", f"{_EXPECTED}{without}, got {quoted(text)}")
    return name


class PrivacyConfig(ConfigTable):
    """Exceptions from `local_only`.

    Attributes:
        allow_hosts: Host names (exactly these, without subdomains, for any address), IP addresses, and networks such as
            `10.0.0.0/24`; all their ports.
    """

    allow_hosts: tuple[Annotated[Name, AfterValidator(_host)], ...] = ()


class HttpConfig(ConfigTable):
    """How requests go to providers behind HTTP.

    Attributes:
        wire: `"builtin"`: this package's own connections, the fastest; `"httpx"`: HTTPX, for tools that hook into it.
            Behind a proxy, and with `http_client`, it is HTTPX in any case.
    """

    wire: Literal["builtin", "httpx"] = "builtin"


Policy = Literal["ordered", "cheapest", "fastest", "weighted"]

# Parameters of the answer itself (tools, its format, how many) belong to the call, and are the same for every target.
_TARGET_PARAMS = (
    "temperature", "top_p", "top_k", "min_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty",
    "repetition_penalty", "logit_bias", "parallel_tool_calls", "reasoning_effort", "reasoning_format", "service_tier",
    "user", "extra_body",
)  # fmt: skip

# A million dollars per million tokens: more is a typing error.
_Price = Annotated[Usd, Field(le=1_000_000)]


def is_target(target: str) -> str:
    if not all(target.partition("/")):
        raise broken_rule("", f"must be 'provider/model-id', got {quoted(target)}")
    return target


def _checked_params(params: object) -> object:
    if not isinstance(params, Mapping):
        raise broken_rule("", "must be a table of parameters")
    for name in params:
        if name not in _TARGET_PARAMS:
            raise broken_rule(str(name), f"is not a parameter of a target{suggestion(str(name), _TARGET_PARAMS)}")
    # Imported when needed: to build the request's schema takes as long as importing the package.
    from llama_client.errors import InvalidRequestError
    from llama_client.types.request import check_request

    try:
        request = check_request({"messages": [{"role": "user", "content": "?"}], **params}, stream=False)
    except InvalidRequestError as error:
        raise broken_rule("", str(error)) from None
    return {name: getattr(request, name) for name in params if getattr(request, name) is not None}


class RouteTarget(ConfigTable):
    """One target of a route.

    Attributes:
        target: `provider/model-id`, or a name in the catalogue.
        weight: Its share under the policy `weighted`; 0: only after all others.
        params: Parameters for this target that the call does not set.
    """

    target: Name
    weight: Annotated[float, Field(strict=True, ge=0, le=1e9, allow_inf_nan=False)] = 1.0
    params: Annotated[dict[str, Any], BeforeValidator(_checked_params)] = Field(default_factory=dict)


def _as_table(target: object) -> object:
    return {"target": target} if isinstance(target, str) else target


class RouteConfig(ConfigTable):
    """A named list of targets, and how they are ordered.

    Attributes:
        targets: Targets: texts, or tables with `weight` and `params`.
        policy: `ordered` (as written), `cheapest` (expected cost of the request), `fastest` (as measured by this
            client), `weighted` (at random, by `weight`).
        max_price_usd: Targets are skipped if the expected cost of the call is higher, or unknown; absent: no limit.
    """

    targets: Annotated[tuple[Annotated[RouteTarget, BeforeValidator(_as_table)], ...], Field(min_length=1)]
    policy: Policy = "ordered"
    max_price_usd: PositiveUsd | None = None


class RoutingConfig(ConfigTable):
    """Retries, timeouts, failover.

    Attributes:
        retries: How many times a target is retried after a transient failure.
        deadline_s: The longest time in seconds for a call, over all attempts; for a stream, until its first content. A
            call's own `timeout` replaces it.
        first_content_s: The longest time in seconds for one attempt of a stream until its first content; for a lone
            target or a server of your own, until a sign of life.
        stall_s: The longest pause of a stream in seconds.
        breaker_failures: The number of consecutive failures that opens the circuit of a target.
        breaker_cooldown_s: How many seconds the circuit stays open; then a single call tries the target.
        hedge_after_s: Call the next target too if the first has not answered after so many seconds; absent: never.
        on_interrupt: `continue`: if a stream breaks off, another target continues its text; absent: an error is raised.
        drop_unsupported: Leave out parameters that a target does not support, with a warning, instead of skipping the
            target.
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
    """A price of the user's own; it takes precedence over every other source.

    Attributes:
        target: `provider/model-id`.
        input_usd_per_mtok: US dollars per million tokens of the prompt.
        output_usd_per_mtok: US dollars per million tokens of the answer.
        cached_usd_per_mtok: US dollars per million tokens of the prompt that were cached; absent: as the others.
        cache_write_usd_per_mtok: US dollars per million tokens of the prompt that were written to a cache; absent: as
            the others.
        service_tier: Its service tier, as the provider's answers name it; absent: every tier without a row of its own.
        effective_from: The first day on which it is valid; absent: always.
        effective_until: The first day on which it is no longer valid.
    """

    target: Annotated[Name, AfterValidator(is_target)]
    input_usd_per_mtok: _Price
    output_usd_per_mtok: _Price
    cached_usd_per_mtok: _Price | None = None
    cache_write_usd_per_mtok: _Price | None = None
    service_tier: Name | None = None
    effective_from: date | None = None
    effective_until: date | None = None

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> PriceRow:
        if self.effective_from and self.effective_until and self.effective_from >= self.effective_until:
            raise broken_rule("effective_until", "must be after effective_from")
        return self

    def holds_on(self, day: date) -> bool:
        """Whether it is valid on that day.

        Args:
            day: In the configuration's time zone.
        """
        return (self.effective_from is None or self.effective_from <= day) and (
            self.effective_until is None or day < self.effective_until
        )
