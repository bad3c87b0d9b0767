"""A client's accounting: prices, machine time, ledger and budgets, opened from its configuration."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

import platformdirs

from llama_client.costs.bills import MachineTime, MachineUse
from llama_client.costs.ledger import Ledger, RequestIds
from llama_client.costs.prices import PriceBook, Sellers
from llama_client.errors import MissingExtraError
from llama_client.imports import ready
from llama_client.local_only import is_this_machine
from llama_client.process import at_fork
from llama_client.reaper import Reaper

if TYPE_CHECKING:
    from pydantic import SecretStr

    from llama_client.clock import Clock
    from llama_client.config.schema import Config
    from llama_client.costs.budgets import Budgets
    from llama_client.costs.database import DatabaseLocation, Storage
    from llama_client.costs.memory_database import MemoryDatabase
    from llama_client.costs.money import Calendar
    from llama_client.local_only import ConnectionGuard


class Machines:
    """The machines that cost by time: each provider with such a price is one."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self._reset()
        # The parent's attempts never end in a forked child.
        at_fork("after_in_child", self._reset)

    def _reset(self) -> None:
        self._machines = {name: MachineTime() for name in self.names}

    def use(self, provider: str) -> MachineUse:
        return MachineUse(self._machines[provider])


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Accounting:
    prices: PriceBook
    machines: Machines
    ledger: Ledger | None
    budgets: Budgets | None
    # Streams that were dropped are still to be recorded.
    reaper: Reaper
    database: Database
    request_ids: RequestIds = field(default_factory=RequestIds)

    def close(self) -> None:
        self.reaper.close()
        if self.budgets is not None:
            self.budgets.close()
        if self.ledger is not None:
            self.ledger.close()
        self.database.close()

    async def aclose(self) -> None:
        import asyncio

        await asyncio.to_thread(self.close)


def open_accounting(
    config: Config, calendar: Calendar, *, clock: Clock, sellers: Sellers, database: Database
) -> Accounting:
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
        # Imported only where there are budgets: it takes time.
        from llama_client.costs.budgets import Budgets

        budgets = Budgets(config.budgets, database.open, calendar, clock)
    tables = config.providers.items()
    machines = {name for name, table in tables if getattr(table, "machine_usd_per_hour", None) is not None}
    prices = PriceBook(config.prices, sellers, calendar)
    accounting = Accounting(prices, Machines(frozenset(machines)), ledger, budgets, Reaper(), database)
    accounting.reaper.leave_with(accounting)
    if ledger is not None:
        ledger.leave_with(accounting)
    return accounting


_PORT = 5432
_CONNECT_TIMEOUT_S = 5


class Database:
    """A database that a configuration names, reached through the connection guard.

    `rule` is the table that names it, and what `local_only` calls it; `file` the one that `sqlite` means.
    """

    def __init__(
        self, url: SecretStr, guard: ConnectionGuard, *, rule: Literal["ledger", "cache"], file: Path, is_used: bool
    ) -> None:
        self._secret_url = url
        self._guard, self._rule = guard, rule
        text = self._url
        self._memory: MemoryDatabase | None = None
        if text == "memory":
            from llama_client.costs.memory_database import MemoryDatabase

            self._memory = MemoryDatabase()
        self._file = Path(text.removeprefix("sqlite:///")) if text.startswith("sqlite:///") else None
        if text == "sqlite":
            self._file = file
        parts = urlsplit(text)
        # As libpq reads it. None: it is SQLite, or the URL names no host.
        self.host = unquote(parts.hostname) if self._is_postgres and parts.hostname is not None else None
        # Without the password.
        self.name = text if self._file is None else f"sqlite:///{self._file}"
        if self._is_postgres:
            self.name = f"postgresql://{parts.hostname or ''}{parts.path}"
        if self._is_postgres and is_used:
            if find_spec("psycopg") is None:
                raise MissingExtraError(
                    f'{rule}.url is a PostgreSQL database, which needs psycopg: pip install "llama-client[postgres]"',
                    extra="postgres",
                )
            self._allowed_host()

    @classmethod
    def of_ledger(cls, config: Config, guard: ConnectionGuard) -> Database:
        file = platformdirs.user_data_path("llama-client", appauthor=False) / "ledger.db"
        is_used = config.ledger.enabled or bool(config.budgets)
        return cls(config.ledger.url, guard, rule="ledger", file=file, is_used=is_used)

    @property
    def _url(self) -> str:
        return self._secret_url.get_secret_value()

    @property
    def is_in_memory(self) -> bool:
        return self._memory is not None

    @property
    def _is_postgres(self) -> bool:
        return self._file is None and self._memory is None

    def close(self) -> None:
        """What is in memory is gone."""
        if self._memory is not None:
            self._memory.close()

    @property
    def is_here(self) -> bool:
        """Whether it is certainly on this machine: SQLite, or a server at loopback or a Unix socket."""
        if not self._is_postgres:
            return True
        fields = (field.partition("=") for field in urlsplit(self._url).query.split("&"))
        options = {unquote(name): unquote(value) for name, _, value in fields}
        if "service" in options or os.environ.get("PGSERVICE"):
            return False
        # libpq's own order: an address goes before a host.
        places = (options.get("hostaddr"), os.environ.get("PGHOSTADDR"), options.get("host"), self.host)
        place = next(filter(None, places), None) or os.environ.get("PGHOST", "")
        # None at all is its default, a Unix socket.
        return all(not host or host.startswith(("/", "@")) or is_this_machine(host) for host in place.split(","))

    def open(self) -> Storage:
        """The database. Imports SQLAlchemy, which takes a third of a second: not for an event loop."""
        ready("llama_client.costs.database")
        from llama_client.costs.database import Storage

        return Storage(self.place())

    def place(self) -> DatabaseLocation:
        from llama_client.costs.database import DatabaseLocation

        if self._memory is not None:
            return DatabaseLocation(self.name, connect=self._memory.connect, is_in_memory=True)
        return DatabaseLocation(self.name, file=self._file, connect=self._connect if self._is_postgres else None)

    def _connect(self) -> Any:
        import psycopg

        pinned: dict[str, Any] = {}
        host = self._allowed_host()
        if host is not None:
            addresses = self._guard.addresses(host, urlsplit(self._url).port or _PORT, rule=self._rule)
            # Connects to the addresses that were checked, each in turn. GSSAPI is off: Kerberos would first connect to
            # a server of its own.
            hosts = ",".join([host] * len(addresses))
            pinned = {"hostaddr": ",".join(addresses), "host": hosts, "gssencmode": "disable"}
        return psycopg.connect(self._url, connect_timeout=_CONNECT_TIMEOUT_S, **pinned)

    def _allowed_host(self) -> str | None:
        """The host, checked against `local_only`; None where that is off."""
        if not self._guard.local_only:
            return None
        parts = urlsplit(self._url)
        query = unquote(parts.query)
        if not self.host or "host" in query or "service" in query or "," in unquote(parts.netloc):
            where, rule = "postgresql://user@localhost/name", self._rule
            self._guard.refuse(rule, f"a {rule} address that does not name one host, as {where} does ({rule}.url)")
        assert self.host is not None
        self._guard.require_allowed(self.host, rule=self._rule)
        return self.host
