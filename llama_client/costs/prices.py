"""Which price holds for a target on a day: the user's, the machine's, the list's, or genai-prices'."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from llama_client.costs.money import added, exact, exactly, per_million

if TYPE_CHECKING:
    from genai_prices import types

    from llama_client.catalog.prices import ListPrices
    from llama_client.config.tables import PriceRow
    from llama_client.costs.money import Calendar


_ZERO = Decimal(0)
# What a list says may have changed since; after so many days an answer says so.
STALE_AFTER_DAYS = 60
# The names by which providers call what nobody has asked for.
_USUAL_TIERS = (None, "default", "auto", "on_demand", "standard")
# Of what was looked up; programs may make up model ids.
_MAX_KNOWN = 1024


@dataclass(frozen=True, slots=True)
class Parts:
    """An amount of money, by what it is for; the total is their sum."""

    input_usd: Decimal
    cached_usd: Decimal
    output_usd: Decimal

    @property
    def usd(self) -> Decimal:
        """The sum."""
        return added(self.input_usd, self.cached_usd, self.output_usd)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a price comes from."""

    source: str
    effective_from: date | None = None
    doubt: str | None = None
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """Tokens at so much a million, in US dollars."""

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

        Example:
            >>> price = TokenPrice(Origin("mine"), Decimal("0.15"), Decimal("0.60"), Decimal("0.075"))
            >>> price.parts(1000, 100, 500).usd
            Decimal('0.0001725')
        """
        cached_rate = self.input_usd_per_mtok if self.cached_usd_per_mtok is None else self.cached_usd_per_mtok
        return Parts(
            per_million(input_tokens - cached_tokens, self.input_usd_per_mtok),
            per_million(cached_tokens, cached_rate) if cached_tokens else _ZERO,
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


# Its names for our kinds; a compatible server is found by its address.
_PROVIDERS = {"groq": "groq", "together": "together"}
# What follows a model's name where an id names one of its versions; anything else may be another model.
_A_DATE = re.compile(r"(-\d{4}-\d{2}-\d{2}|-\d{4,8})?")


@dataclass(frozen=True, slots=True, eq=False)
class GenaiPrice:
    """One of its prices, on one day."""

    origin: Origin
    _provider: types.Provider
    _model: types.ModelInfo
    _at: datetime
    _context: dict[str, str]
    _package: ModuleType

    @property
    def is_nothing(self) -> bool:
        """Whether nobody is paid at all: some models are offered for nothing."""
        return not self.parts(1_000_000, 1_000_000).usd

    @exactly
    def parts(self, input_tokens: float, output_tokens: float, cached_tokens: float = 0) -> Parts:
        """What tokens cost."""
        whole, cached = round(input_tokens), round(cached_tokens)
        price = self._of(whole, round(output_tokens), cached)
        # A price by tiers hangs on the length of the whole prompt, so the tokens that were not cached have their share
        # of a prompt of which none was.
        rest = self._of(whole, 0, 0).input_price * (whole - cached) / whole if cached else price.input_price
        return Parts(exact(rest), exact(price.input_price) - exact(rest), exact(price.output_price))

    def _of(self, input_tokens: int, output_tokens: int, cached_tokens: int) -> types.PriceCalculation:
        usage = self._package.Usage(
            input_tokens=input_tokens, output_tokens=output_tokens, cache_read_tokens=cached_tokens or None
        )
        return self._model.calc_price(
            usage, self._provider, genai_request_timestamp=self._at, price_context=self._context or None
        )


Price: TypeAlias = TokenPrice | HourPrice | GenaiPrice

FREE = TokenPrice(Origin("local"), _ZERO, _ZERO, _ZERO)


@dataclass(frozen=True, slots=True)
class Seller:
    """A provider, as far as its prices hang on it."""

    name: str
    kind: str
    url: str | None = None
    usd_per_hour: Decimal | None = None


class PriceBook:
    """Which price holds for a target on a day."""

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
        """What a target's answers cost on a day; None: nobody knows, which is not nothing."""
        start, end, day = self._calendar.known
        key = (provider, model, service_tier, is_free, day if start <= at < end else self._calendar.day(at))
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
        """What a target's answers may cost, whichever tier the provider serves them with."""
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


class GenaiPrices:
    """Finds a price among them."""

    def __init__(self) -> None:
        import genai_prices

        self._package = genai_prices
        self._source = f"genai-prices {version('genai-prices')}"

    def find(self, kind: str, url: str | None, model: str, at: datetime, tier: str | None) -> GenaiPrice | None:
        """What a model costs at a moment; None: it does not know."""
        named = _PROVIDERS.get(kind)
        if named is None and (url is None or _is_nearby(url)):
            return None
        nothing = self._package.Usage(input_tokens=0, output_tokens=0)
        try:
            if named is not None:
                found = self._package.calc_price(nothing, model, provider_id=named, genai_request_timestamp=at)
            else:
                found = self._package.calc_price(nothing, model, provider_api_url=url, genai_request_timestamp=at)
        except (LookupError, ValueError):
            return None
        rest = model.lower().removeprefix(found.model.id)
        doubts = [] if _A_DATE.fullmatch(rest) else [f"the price is that of {found.model.id}"]
        context = {} if tier is None else {"service_tier": tier}
        usual, of_tier = (found.model.get_prices(at, each) for each in (None, context or None))
        doubt = doubt_of_tier(tier)
        if doubt is not None and usual == of_tier:
            doubts.append(doubt)
        since = _begin_of(found.model, at, self._package.types.StartDateConstraint)
        origin = Origin(self._source, since, "; ".join(doubts) or None)
        price = GenaiPrice(origin, found.provider, found.model, at, context, self._package)
        # A model that is paid by the request or by the image has no price of tokens.
        if usual.output_mtok is None or usual.input_mtok is None:
            return None
        return price


def _begin_of(model: types.ModelInfo, at: datetime, dated: type[types.StartDateConstraint]) -> date | None:
    """Since when the price holds, where the model's prices are dated."""
    if isinstance(model.prices, list):
        for row in reversed(model.prices):
            if row.constraint is None or row.constraint.active(at):
                return row.constraint.start_date if isinstance(row.constraint, dated) else None
    return None


def _is_nearby(url: str) -> bool:
    """Whether an address is of this machine or its network, where nobody has a public price."""
    host = urlsplit(url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or "." not in host or host.endswith((".local", ".internal", ".localhost"))
