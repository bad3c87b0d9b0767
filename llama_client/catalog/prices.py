"""List prices of providers, by day: the rows of `prices.toml`. `costs.prices` decides which price holds for a call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

from llama_client.catalog.catalog import read_bundled


@dataclass(frozen=True, slots=True)
class ListPrice:
    provider_kind: str
    id: str
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    source: str
    checked_on: date
    # None: as input.
    cached_usd_per_mtok: Decimal | None = None
    # As above.
    cache_write_usd_per_mtok: Decimal | None = None
    service_tier: str | None = None
    effective_from: date | None = None
    # The first day on which it no longer holds.
    effective_until: date | None = None
    unverified: str | None = None

    def holds_on(self, day: date) -> bool:
        return (self.effective_from is None or self.effective_from <= day) and (
            self.effective_until is None or day < self.effective_until
        )


class ListPrices:
    def __init__(self, rows: Iterable[ListPrice]) -> None:
        self._rows: dict[tuple[str, str], list[ListPrice]] = {}
        for row in rows:
            self._rows.setdefault((row.provider_kind, row.id), []).append(row)

    @classmethod
    @cache
    def bundled(cls) -> ListPrices:
        return cls(_row(row, model) for row in read_bundled("prices.toml")["prices"] for model in row["ids"])

    def of(self, provider_kind: str, model: str, day: date, *, service_tier: str | None = None) -> ListPrice | None:
        """The price that held on a day; None: unknown, which is not 0."""
        held = [row for row in self._rows.get((provider_kind, model), ()) if row.holds_on(day)]
        of_tier = [row for row in held if row.service_tier == service_tier]
        rows = of_tier or [row for row in held if row.service_tier is None]
        return max(rows, key=lambda row: row.effective_from or date.min, default=None)

    def tiers(self, provider_kind: str, model: str) -> set[str | None]:
        return {row.service_tier for row in self._rows.get((provider_kind, model), ())}

    def all(self) -> list[ListPrice]:
        return [row for rows in self._rows.values() for row in rows]


def _row(row: Mapping[str, Any], model: str) -> ListPrice:
    facts: dict[str, Any] = {key: Decimal(value) if key.endswith("_mtok") else value for key, value in row.items()}
    del facts["ids"]
    return ListPrice(provider_kind=facts.pop("provider"), id=model, **facts)
