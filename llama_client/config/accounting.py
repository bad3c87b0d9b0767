"""The tables of accounting: the ledger, budgets, telemetry, and what a machine of the user's own costs by time."""

from __future__ import annotations

import re
import zoneinfo
from decimal import Context, Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, StrictBool, ValidationInfo, model_validator

from llama_client.config.tables import ConfigTable
from llama_client.validation import broken_rule, quoted, suggestion

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


class Telemetry(ConfigTable):
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
