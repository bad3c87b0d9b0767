"""A client's accounting: prices, machine time, ledger and budgets, opened from its configuration."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import platformdirs

from llama_client.costs.bills import MachineTime
from llama_client.costs.ledger import Ledger
from llama_client.costs.prices import PriceBook, Seller
from llama_client.errors import MissingExtraError

if TYPE_CHECKING:
    from decimal import Decimal

    from llama_client.catalog.prices import ListPrices
    from llama_client.clock import Clock
    from llama_client.config.schema import Config
    from llama_client.costs.budgets import Budgets
    from llama_client.costs.database import DatabaseLocation, Storage
    from llama_client.costs.ledger import Ledger
    from llama_client.costs.money import Calendar
    from llama_client.costs.prices import PriceBook
    from llama_client.local_only import ConnectionGuard


@dataclass(frozen=True, slots=True)
class MachineUse:
    """The time of a machine that an attempt has."""

    machine: MachineTime
    began: float


class Machines:
    """The machines that cost by time: each provider with such a price is one."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self._begin()

    def begin(self, provider: str, now: float) -> MachineUse:
        """An attempt begins at one of them."""
        if self._pid != os.getpid():
            # What the parent has under way will never end here.
            self._begin()
        machine = self._machines[provider]
        return MachineUse(machine, machine.begin(now))

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._machines = {name: MachineTime() for name in self.names}


@dataclass(frozen=True, slots=True)
class Accounting:
    """What a client keeps its accounts with. All of its views share it."""

    prices: PriceBook
    machines: Machines
    ledger: Ledger | None
    budgets: Budgets | None

    def close(self) -> None:
        """Settles and writes what is left."""
        if self.budgets is not None:
            self.budgets.close()
        if self.ledger is not None:
            self.ledger.close()

    async def aclose(self) -> None:
        """The same off the event loop."""
        import asyncio

        await asyncio.to_thread(self.close)


_APP_NAME, _FILE_NAME = "llama-client", "ledger.db"
_PORT = 5432
_CONNECT_TIMEOUT_S = 5


class Sellers(Protocol):
    """The providers of a configuration, as far as prices hang on them: `providers.registry.Providers` is it."""

    @property
    def list_prices(self) -> ListPrices:
        """What they ask for their tokens."""
        ...

    def kind(self, name: str) -> str:
        """The kind of one."""
        ...

    def url(self, name: str) -> str | None:
        """Where one is; None: here, or nobody knows."""
        ...

    def usd_per_hour(self, name: str) -> Decimal | None:
        """What an hour of one's machine costs; None: it does not cost by time."""
        ...


def price_book(config: Config, calendar: Calendar, sellers: Sellers) -> PriceBook:
    """The prices of a configuration's providers. Nothing is read yet."""

    def seller(name: str) -> Seller:
        return Seller(name, sellers.kind(name), sellers.url(name), sellers.usd_per_hour(name))

    return PriceBook(config.prices, lambda: sellers.list_prices, calendar, seller)


def open_accounting(
    config: Config,
    calendar: Calendar,
    *,
    clock: Clock,
    sellers: Sellers,
    database: Database,
) -> Accounting:
    """The books of one client. Nothing is opened yet."""
    machines = frozenset(name for name, table in config.providers.items() if _costs_by_time(table))
    ledger = None
    if config.ledger.enabled:
        ledger = Ledger(
            database.open,
            database.name,
            flush_interval_s=config.ledger.flush_interval_s,
            retention_days=config.ledger.retention_days,
            wall=clock.wall,
        )
    budgets = None
    if config.budgets:
        # Only who has budgets pays for what keeps them.
        from llama_client.costs.budgets import Budgets

        budgets = Budgets(config.budgets, database.open, calendar, clock)
    return Accounting(price_book(config, calendar, sellers), Machines(machines), ledger, budgets)


def _costs_by_time(table: object) -> bool:
    usd: Any = getattr(table, "machine_usd_per_hour", None)
    return usd is not None


class Database:
    """The database that a configuration names, under the guard of connections."""

    def __init__(self, config: Config, guard: ConnectionGuard) -> None:
        self._url = config.ledger.url
        self._guard = guard
        is_needed = config.ledger.enabled or bool(config.budgets)
        self._file = _file_of(self._url.get_secret_value())
        self.name = f"sqlite:///{self._file}" if self._file is not None else _without_password(self._url)
        # None: it is a file, or its address names no host.
        self.host = None if self._file is not None else urlsplit(self._url.get_secret_value()).hostname
        if self._file is None and is_needed:
            if find_spec("psycopg") is None:
                raise MissingExtraError(
                    'ledger.url is a PostgreSQL database, which needs psycopg: pip install "llama-client[postgres]"',
                    extra="postgres",
                )
            self._judged_host()

    def open(self) -> Storage:
        """The database. Imports SQLAlchemy, which takes a third of a second: not for an event loop."""
        from llama_client.costs.database import Storage

        return Storage(self.place())

    def place(self) -> DatabaseLocation:
        """Where it is, and how it is reached."""
        from llama_client.costs.database import DatabaseLocation

        return DatabaseLocation(self.name, file=self._file, connect=None if self._file is not None else self._connect)

    def _connect(self) -> Any:
        import psycopg

        pinned: dict[str, Any] = {}
        host = self._judged_host()
        if host is not None:
            addresses = self._guard.addresses(host, urlsplit(self._url.get_secret_value()).port or _PORT, rule="ledger")
            # What was judged is what is connected to; each of a name's addresses is tried. Kerberos would ask its own
            # server first.
            pinned = {
                "hostaddr": ",".join(addresses),
                "host": ",".join([host] * len(addresses)),
                "gssencmode": "disable",
            }
        return psycopg.connect(self._url.get_secret_value(), connect_timeout=_CONNECT_TIMEOUT_S, **pinned)

    def _judged_host(self) -> str | None:
        """Where it is, judged by `local_only`; None where that is off."""
        if not self._guard.local_only:
            return None
        parts = urlsplit(self._url.get_secret_value())
        host = parts.hostname
        if not host or "host" in parts.query or "service" in parts.query or "," in parts.netloc:
            self._guard.refuse(
                "ledger",
                "a ledger whose address does not name one host itself, as postgresql://user@localhost/name does "
                "(ledger.url)",
            )
        assert host is not None
        self._guard.require_allowed(host, rule="ledger")
        return host


def _file_of(url: str) -> Path | None:
    if url == "sqlite":
        return platformdirs.user_data_path(_APP_NAME, appauthor=False) / _FILE_NAME
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def _without_password(url: Any) -> str:
    parts = urlsplit(url.get_secret_value())
    return f"postgresql://{parts.hostname or ''}{parts.path}"
