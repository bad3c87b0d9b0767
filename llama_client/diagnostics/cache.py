"""Checks the cache of answers, where it is on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llama_client.cache.answers import database_of
from llama_client.diagnostics.finding import Fact, Facts, Finding, Status
from llama_client.diagnostics.ledger import BUSY, MOVE_AWAY, QUERY_S, why_not_writable
from llama_client.diagnostics.machine import gib
from llama_client.errors import LlamaClientError, LocalOnlyError, MissingExtraError

if TYPE_CHECKING:
    from llama_client.config.schema import Config
    from llama_client.costs.accounting import Database
    from llama_client.local_only import ConnectionGuard

_GOES_ON = "calls are made without it"


def load_cache(config: Config, guard: ConnectionGuard) -> None:
    """Imports what the check needs, so that the time limit of a database does not include it."""
    if not config.cache.enabled:
        return
    try:
        place = database_of(config, guard).place()
    except LlamaClientError:
        return
    if place.file is None or place.file.is_file():
        from llama_client.cache import tables  # noqa: F401
        from llama_client.costs import inspection

        inspection.load(place)


def examine_cache(config: Config, guard: ConnectionGuard, *, offline: bool) -> list[Finding]:
    """The finding on the cache; none where it is off. May block for as long as the database takes to answer."""
    if not config.cache.enabled:
        return []
    try:
        return [_CacheCheck(config, database_of(config, guard)).finding(offline=offline)]
    except LlamaClientError as error:
        return [_unusable(error)]


def _unusable(error: LlamaClientError) -> Finding:
    facts: dict[str, Fact] = {}
    match error:
        case LocalOnlyError():
            remedy = 'Set cache.url = "sqlite", or add its host to privacy.allow_hosts.'
            facts = {"rule": "local_only"}
        case MissingExtraError():
            remedy = 'Run `pip install "llama-client[postgres]"`.'
        case _:
            remedy = f"Correct {getattr(error, 'key', None) or 'cache.url'}."
    return Finding("cache", "money", "cache", "problem", str(error), remedy, facts)


class _CacheCheck:
    def __init__(self, config: Config, database: Database) -> None:
        self._database = database
        self._table = config.cache
        self._place = database.place()
        file = self._place.file
        self._subject = database.name if file is None else str(file)

    def finding(self, *, offline: bool) -> Finding:
        if self._database.is_in_memory:
            return self._made("info", f"in memory: of one client, and gone when it closes; {self._bounds}")
        if offline and not self._database.is_here:
            return self._made("skipped", "not contacted: --offline")
        file = self._place.file
        if file is not None and (why := why_not_writable(file)) is not None:
            remedy = f"Make {file} writable, or name another file in cache.url."
            return self._made("problem", f"it cannot be written ({why}), so {_GOES_ON}", remedy)
        if file is not None and not file.is_file():
            return self._made("info", f"none yet; the first call creates it; {self._bounds}")
        return self._of_content(file)

    def _of_content(self, file: Path | None) -> Finding:
        from llama_client.cache.tables import size
        from llama_client.costs.inspection import StorageError, read, why_not

        try:
            found = read(self._place, size, within_s=QUERY_S)
        except StorageError as error:
            why = why_not(error)
            if why in BUSY:
                return self._made("skipped", f"not read: {BUSY[why]}")
            remedy = "Check that the server runs, and host, user and password in cache.url."
            if file is not None:
                remedy = MOVE_AWAY.format(file)
            message = str(error).removeprefix(f"{self._database.name}: ")
            return self._made("problem", f"it cannot be read ({message}), so {_GOES_ON}", remedy)
        if found is None:
            return self._made("info", f"empty; the first call fills it; {self._bounds}")
        count, size_bytes = found
        answers = "1 answer" if count == 1 else f"{count:,} answers"
        facts: dict[str, Fact] = {"answers": count, "size_bytes": size_bytes}
        return self._made("ok", f"{answers}, {gib(size_bytes)}; {self._bounds}", facts=facts)

    @property
    def _bounds(self) -> str:
        table = self._table
        return f"at most {gib(table.max_mib << 20)}, and {table.max_age_days:g} days old"

    def _made(self, status: Status, message: str, remedy: str | None = None, facts: Facts | None = None) -> Finding:
        bounds: dict[str, Fact] = {"most_bytes": self._table.max_mib << 20, "max_age_days": self._table.max_age_days}
        return Finding("cache", "money", self._subject, status, message, remedy, {**(facts or {}), **bounds})
