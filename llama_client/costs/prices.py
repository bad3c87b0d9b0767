"""Whose price holds for a target on a day: the user's own, that of the user's machine, a list price, or nobody's.

In this order: the user's `[[prices]]`; what an hour of the user's own machine costs, or nothing where it costs nothing;
our own dated list; the package genai-prices, with the data that it comes with; else the price is unknown, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, TypeAlias

from llama_client.costs.money import added, exact, exactly, per_million

if TYPE_CHECKING:
    from llama_client.catalog.prices import ListPrices
    from llama_client.config.routing import PriceRow
    from llama_client.costs.genai import GenaiPrices
    from llama_client.costs.windows import Calendar

_ZERO = Decimal(0)
# What a list says may have changed since; after so many days an answer says so.
STALE_AFTER_DAYS = 60
# The names by which providers call what nobody has asked for.
_USUAL_TIERS = (None, "default", "auto", "on_demand", "standard")
# Of what was looked up; programs may make up model ids.
_MAX_KNOWN = 1024


@dataclass(frozen=True, slots=True)
class Parts:
    """An amount of money, by what it is for; the total is their sum.

    Attributes:
        input_usd: Tokens of the prompt that were not cached.
        cached_usd: Tokens of the prompt that were.
        output_usd: Tokens of the answer.
    """

    input_usd: Decimal
    cached_usd: Decimal
    output_usd: Decimal

    @property
    def usd(self) -> Decimal:
        """The sum."""
        return added(self.input_usd, self.cached_usd, self.output_usd)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a price comes from.

    Attributes:
        source: In words.
        effective_from: Since when it holds; None: nobody says.
        doubt: Why what it says is only an estimate; None: it is not.
        warning: What a careful user would want to know of it.
    """

    source: str
    effective_from: date | None = None
    doubt: str | None = None
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """Tokens at so much a million, in US dollars.

    Attributes:
        origin: Where it comes from.
        input_usd_per_mtok: For tokens of the prompt.
        output_usd_per_mtok: For tokens of the answer, reasoning included.
        cached_usd_per_mtok: For tokens of the prompt that come from a cache; None: as the others.
    """

    origin: Origin
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_usd_per_mtok: Decimal | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether nobody is paid at all."""
        return not (self.input_usd_per_mtok or self.output_usd_per_mtok or self.cached_usd_per_mtok)

    def parts(self, input_tokens: float, output_tokens: float, cached_tokens: float = 0) -> Parts:
        """What tokens cost.

        Args:
            input_tokens: Of the prompt, the cached ones included.
            output_tokens: Of the answer.
            cached_tokens: Of the prompt, from a cache.

        Example:
            >>> price = TokenPrice(Origin("mine"), Decimal("0.15"), Decimal("0.60"), Decimal("0.075"))
            >>> price.parts(1000, 100, 500).usd
            Decimal('0.0001725')
        """
        cached_rate = self.input_usd_per_mtok if self.cached_usd_per_mtok is None else self.cached_usd_per_mtok
        return Parts(
            per_million(input_tokens - cached_tokens, self.input_usd_per_mtok),
            per_million(cached_tokens, cached_rate),
            per_million(output_tokens, self.output_usd_per_mtok),
        )


@dataclass(frozen=True, slots=True)
class HourPrice:
    """A machine of the user's own at so much an hour."""

    origin: Origin
    usd_per_hour: Decimal

    @property
    def is_nothing(self) -> bool:
        """Whether nobody is paid at all."""
        return not self.usd_per_hour

    @exactly
    def usd(self, seconds: float) -> Decimal:
        """What so much of its time costs."""
        return exact(Decimal(seconds) * self.usd_per_hour / 3600)


if TYPE_CHECKING:
    from llama_client.costs.genai import GenaiPrice

    Price: TypeAlias = TokenPrice | HourPrice | GenaiPrice

FREE = TokenPrice(Origin("local"), _ZERO, _ZERO, _ZERO)


@dataclass(frozen=True, slots=True)
class Seller:
    """A provider, as far as its prices hang on it.

    Attributes:
        name: Its name in the configuration.
        kind: Its kind.
        url: Where it is; None: in this process.
        usd_per_hour: What an hour of its machine costs; None: it is no machine of the user's, or that was not said.
    """

    name: str
    kind: str
    url: str | None = None
    usd_per_hour: Decimal | None = None


class PriceBook:
    """Which price holds for a target on a day.

    Args:
        rows: The user's own; of several that hold on a day, the last begun.
        lists: Our dated list, read when it is first needed.
        calendar: The user's days.
        seller: A provider by its name.
    """

    def __init__(
        self,
        rows: Sequence[PriceRow],
        lists: Callable[[], ListPrices],
        calendar: Calendar,
        seller: Callable[[str], Seller],
    ) -> None:
        self._rows = rows
        self._lists = lists
        self._calendar = calendar
        self._seller = seller
        self._genai: GenaiPrices | None = None
        self._known: dict[tuple[str, str, str | None, bool, date], Price | None] = {}

    def price(
        self, provider: str, model: str, at: float, *, is_free: bool, service_tier: str | None = None
    ) -> Price | None:
        """What a target's answers cost on a day; None: nobody knows, which is not nothing.

        Args:
            provider: The provider's name.
            model: The provider's own model id.
            at: The moment of the call, in seconds since the Unix epoch.
            is_free: Whether it runs on a machine of the user's own.
            service_tier: The tier that served the call, where the provider says.
        """
        key = (provider, model, service_tier, is_free, self._calendar.day(at))
        if key in self._known:
            return self._known[key]
        price = self._found(*key, at)
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[key] = price
        return price

    def of_any_tier(
        self, provider: str, model: str, at: float, *, is_free: bool, service_tier: str | None
    ) -> list[Price | None]:
        """What a target's answers may cost, whichever tier the provider serves them with.

        Args:
            provider: The provider's name.
            model: The provider's own model id.
            at: The moment of the call, in seconds since the Unix epoch.
            is_free: Whether it runs on a machine of the user's own.
            service_tier: The tier that the call asks for.
        """
        target = f"{provider}/{model}"
        tiers = {None, service_tier, *(row.service_tier for row in self._rows if row.target == target)}
        tiers |= self._lists().tiers(self._seller(provider).kind, model)
        prices = (self.price(provider, model, at, is_free=is_free, service_tier=tier) for tier in tiers)
        return list(dict.fromkeys(prices))

    def is_at_hand(self, provider: str, model: str, at: float, *, is_free: bool) -> bool:
        """Whether a target's price is found without importing a package, which takes a quarter of a second."""
        if self._genai is not None or is_free:
            return True
        day = self._calendar.day(at)
        if (provider, model, None, is_free, day) in self._known or self._own(provider, model, day, None) is not None:
            return True
        seller = self._seller(provider)
        return seller.usd_per_hour is not None or self._lists().of(seller.kind, model, day) is not None

    def load_package(self) -> GenaiPrices:
        """Imports the package of prices: not for an event loop."""
        if self._genai is None:
            from llama_client.costs.genai import GenaiPrices

            self._genai = GenaiPrices()
        return self._genai

    def _found(self, provider: str, model: str, tier: str | None, is_free: bool, day: date, at: float) -> Price | None:
        own = self._own(provider, model, day, tier)
        if own is not None:
            return own
        seller = self._seller(provider)
        if seller.usd_per_hour is not None:
            return HourPrice(Origin("the time of the machine"), seller.usd_per_hour)
        if is_free:
            return FREE
        return self._listed(seller, model, tier, day) or self._of_package(seller, model, tier, at)

    def _own(self, provider: str, model: str, day: date, tier: str | None) -> TokenPrice | None:
        target = f"{provider}/{model}"
        holding = [row for row in self._rows if row.target == target and row.holds_on(day)]
        holding = [row for row in holding if row.service_tier == tier] or [r for r in holding if r.service_tier is None]
        if not holding:
            return None
        row = max(holding, key=lambda row: row.effective_from or date.min)
        origin = Origin("the configuration", row.effective_from)
        return TokenPrice(origin, row.input_usd_per_mtok, row.output_usd_per_mtok, row.cached_usd_per_mtok)

    def _listed(self, seller: Seller, model: str, tier: str | None, day: date) -> TokenPrice | None:
        row = self._lists().of(seller.kind, model, day, service_tier=tier)
        if row is None:
            return None
        doubt, warning = row.unverified, None
        if row.service_tier != tier:
            doubt = doubt or doubt_of_tier(tier)
        age_days = (day - row.checked_on).days
        if age_days > STALE_AFTER_DAYS:
            warning = (
                f"the price of {seller.name}/{model} was last checked on {row.checked_on}, {age_days} days before the "
                "call; a newer version of this package or a row in [[prices]] would know better"
            )
        origin = Origin(row.source, row.effective_from, doubt, warning)
        return TokenPrice(origin, row.input_usd_per_mtok, row.output_usd_per_mtok, row.cached_usd_per_mtok)

    def _of_package(self, seller: Seller, model: str, tier: str | None, at: float) -> GenaiPrice | None:
        return self.load_package().find(seller.kind, seller.url, model, datetime.fromtimestamp(at, tz=UTC), tier)


def doubt_of_tier(tier: str | None) -> str | None:
    """Why the usual price may not be that of a tier; None: it is."""
    return None if tier in _USUAL_TIERS else f"the price of the tier {tier!r} is not known; the usual one is taken"
