"""What providers ask for their tokens, and since when: the rows of `prices.toml`, looked up by day.

Facts only: whose price holds for a call, and what the call cost, is decided in the room of costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

_BUNDLED = "prices.toml"


@dataclass(frozen=True, slots=True)
class ListPrice:
    """A provider's price of a model's tokens, in US dollars per million."""

    provider_kind: str
    id: str
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_usd_per_mtok: Decimal | None
    service_tier: str | None
    effective_from: date | None
    effective_until: date | None
    unverified: str | None
    source: str
    checked_on: date

    def holds_on(self, day: date) -> bool:
        """Whether it is the price of that day."""
        return (self.effective_from is None or self.effective_from <= day) and (
            self.effective_until is None or day < self.effective_until
        )


class ListPrices:
    """List prices, looked up by provider, model and day.

    Examples:
        >>> prices = ListPrices.bundled()
        >>> prices.of("groq", "openai/gpt-oss-20b", date(2026, 11, 23)).input_usd_per_mtok
        Decimal('0.075')
        >>> together = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
        >>> [prices.of("together", together, date(2026, month, 1)).output_usd_per_mtok for month in (5, 6)]
        [Decimal('0.88'), Decimal('1.04')]
        >>> prices.of("groq", "an-id-of-tomorrow", date(2026, 11, 23)) is None
        True
    """

    def __init__(self, rows: Iterable[ListPrice]) -> None:
        self._rows: dict[tuple[str, str], list[ListPrice]] = {}
        for row in rows:
            self._rows.setdefault((row.provider_kind, row.id), []).append(row)

    @classmethod
    @cache
    def bundled(cls) -> ListPrices:
        """The prices that come with the package, read once: they never change."""
        import tomllib
        from importlib import resources

        text = resources.files("llama_client.catalog").joinpath(_BUNDLED).read_text(encoding="utf-8")
        return cls(_row(table, model) for table in tomllib.loads(text)["prices"] for model in table["ids"])

    def of(self, provider_kind: str, model: str, day: date, *, service_tier: str | None = None) -> ListPrice | None:
        """The price that held on a day; None: nobody knows, which is not nothing."""
        holding = [row for row in self._rows.get((provider_kind, model), ()) if row.holds_on(day)]
        own = [row for row in holding if row.service_tier == service_tier]
        return next(iter(own or [row for row in holding if row.service_tier is None]), None)

    def tiers(self, provider_kind: str, model: str) -> set[str | None]:
        """The tiers that have a price of their own."""
        return {row.service_tier for row in self._rows.get((provider_kind, model), ())}

    def all(self) -> list[ListPrice]:
        """Every row."""
        return [row for rows in self._rows.values() for row in rows]


def _row(table: Mapping[str, Any], model: str) -> ListPrice:
    cached = table.get("cached_usd_per_mtok")
    return ListPrice(
        provider_kind=table["provider"],
        id=model,
        input_usd_per_mtok=Decimal(table["input_usd_per_mtok"]),
        output_usd_per_mtok=Decimal(table["output_usd_per_mtok"]),
        cached_usd_per_mtok=None if cached is None else Decimal(cached),
        service_tier=table.get("service_tier"),
        effective_from=table.get("effective_from"),
        effective_until=table.get("effective_until"),
        unverified=table.get("unverified"),
        source=table["source"],
        checked_on=table["checked_on"],
    )
