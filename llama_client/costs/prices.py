"""Which price holds for a target on a day: the configuration's, the machine's, the bundled list's, or genai-prices'."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from llama_client.catalog.prices import ListPrice, ListPrices
from llama_client.costs.money import added, exact, exactly, per_million
from llama_client.hosts import is_nearby
from llama_client.imports import ready
from llama_client.providers.services import SERVICES, service_of

if TYPE_CHECKING:
    from genai_prices import types

    from llama_client.config.tables import PriceRow
    from llama_client.costs.money import Calendar

_ZERO = Decimal(0)
# A list price may have changed since it was checked; after so many days an answer warns.
STALE_AFTER_DAYS = 60
# Providers' names of the default tier.
_USUAL_TIERS = (None, "default", "auto", "on_demand", "standard")
# Cached lookups; a program may make up model ids without end.
_MAX_KNOWN = 1024


class Parts(NamedTuple):
    input_usd: Decimal
    cached_usd: Decimal
    output_usd: Decimal

    @property
    def usd(self) -> Decimal:
        return added(self.input_usd, self.cached_usd, self.output_usd)


class Origin(NamedTuple):
    source: str
    effective_from: date | None = None
    doubt: str | None = None
    warning: str | None = None
    # Whether the user gave it: it counts before what the provider says.
    is_own: bool = False


class TokenPrice(NamedTuple):
    origin: Origin
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    # None: as input.
    cached_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None

    @property
    def is_nothing(self) -> bool:
        return not any(self[1:])

    def parts(
        self, input_tokens: float, output_tokens: float, cached_tokens: float = 0, cache_write_tokens: float = 0
    ) -> Parts:
        """Of the input, the cached tokens were read from a cache, and the others of `cache_write_tokens` put there."""
        cached_rate = self.input_usd_per_mtok if self.cached_usd_per_mtok is None else self.cached_usd_per_mtok
        input_usd = per_million(input_tokens - cached_tokens, self.input_usd_per_mtok)
        if cache_write_tokens and self.cache_write_usd_per_mtok is not None:
            more = self.cache_write_usd_per_mtok - self.input_usd_per_mtok
            input_usd = added(input_usd, per_million(cache_write_tokens, more))
        return Parts(
            input_usd,
            per_million(cached_tokens, cached_rate) if cached_tokens else _ZERO,
            per_million(output_tokens, self.output_usd_per_mtok),
        )


class HourPrice(NamedTuple):
    origin: Origin
    usd_per_hour: Decimal

    @property
    def is_nothing(self) -> bool:
        return not self.usd_per_hour

    @exactly
    def usd(self, seconds: float) -> Decimal:
        return exact(Decimal(seconds) * self.usd_per_hour / 3600)


# What follows a model's name in the id of one of its versions; anything else may be another model.
_DATE = re.compile(r"(-\d{4}-\d{2}-\d{2}|-\d{4,8})?")


@dataclass(frozen=True, slots=True, eq=False)
class GenaiPrice:
    origin: Origin
    _provider: types.Provider
    _model: types.ModelInfo
    _at: datetime
    _context: dict[str, str]
    # Whether it changes at some date or hour, which are those of UTC.
    is_timed: bool = False

    def at(self, moment: datetime) -> GenaiPrice:
        """The same model's price at another moment."""
        return replace(self, origin=self.origin._replace(effective_from=_begin_of(self._model, moment)), _at=moment)

    @property
    def is_nothing(self) -> bool:
        # Some models are offered for free.
        return not self.parts(1_000_000, 1_000_000).usd

    @exactly
    def parts(
        self, input_tokens: float, output_tokens: float, cached_tokens: float = 0, cache_write_tokens: float = 0
    ) -> Parts:
        whole, cached, written = round(input_tokens), round(cached_tokens), round(cache_write_tokens)
        price = self._of(whole, round(output_tokens), cached, written)
        # A tiered price depends on the length of the whole prompt, so the tokens that were not cached cost their share
        # of the prompt's price without a cache.
        rest = price.input_price
        if cached:
            rest = self._of(whole, 0, 0, written).input_price - self._of(whole, 0, 0, 0).input_price * cached / whole
        return Parts(exact(rest), exact(price.input_price) - exact(rest), exact(price.output_price))

    def _of(
        self, input_tokens: int, output_tokens: int, cached_tokens: int, cache_write_tokens: int
    ) -> types.PriceCalculation:
        from genai_prices import Usage

        usage = Usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=cached_tokens or None,
            cache_write_tokens=cache_write_tokens or None,
        )
        return self._model.calc_price(
            usage, self._provider, genai_request_timestamp=self._at, price_context=self._context or None
        )


Price: TypeAlias = TokenPrice | HourPrice | GenaiPrice

FREE = TokenPrice(Origin("local"), _ZERO, _ZERO, _ZERO)


class Sellers(Protocol):
    """What prices depend on of the providers; `providers.registry.Providers` is it."""

    @property
    def list_prices(self) -> ListPrices: ...

    def kind(self, name: str) -> str: ...

    def url(self, name: str) -> str | None: ...

    def usd_per_hour(self, name: str) -> Decimal | None: ...


class PriceBook:
    def __init__(self, rows: Sequence[PriceRow], sellers: Sellers, calendar: Calendar) -> None:
        self._own = ListPrices(_as_list_price(row) for row in rows)
        self._sellers = sellers
        self._calendar = calendar
        self._known: dict[tuple[str, str, str | None, bool, date], Price | None] = {}

    def price(
        self, provider: str, model: str, at: float, *, is_free: bool, service_tier: str | None = None
    ) -> Price | None:
        """The price of a target at a moment; None: unknown, which is not 0."""
        start, end, day = self._calendar.known
        key = (provider, model, service_tier, is_free, day if start <= at < end else self._calendar.day(at))
        if key not in self._known:
            found = self._found(*key, at)
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[key] = found
            return found
        price = self._known[key]
        if type(price) is GenaiPrice and price.is_timed:
            # Within a day too: DeepSeek's peak hours.
            return price.at(datetime.fromtimestamp(at, tz=UTC))
        return price

    def of_any_tier(
        self, provider: str, model: str, at: float, *, is_free: bool, service_tier: str | None
    ) -> list[Price | None]:
        """The prices that a target may have, whichever tier the provider serves a call with."""
        tiers = {None, service_tier} | self._own.tiers(provider, model)
        tiers |= self._sellers.list_prices.tiers(self._sellers.kind(provider), model)
        prices = (self.price(provider, model, at, is_free=is_free, service_tier=tier) for tier in tiers)
        return list(dict.fromkeys(prices))

    def is_at_hand(self, provider: str, model: str, at: float, *, is_free: bool) -> bool:
        """Whether the price is found without importing genai-prices, which takes a quarter of a second."""
        day = self._calendar.day(at)
        return (
            is_free
            or "genai_prices" in sys.modules
            or (provider, model, None, is_free, day) in self._known
            or self._own.of(provider, model, day) is not None
            or self._sellers.usd_per_hour(provider) is not None
            or self._sellers.list_prices.of(self._sellers.kind(provider), model, day) is not None
        )

    def load_package(self) -> None:
        """Imports genai-prices: not for an event loop."""
        ready("genai_prices.data")
        import genai_prices  # noqa: F401

    def _found(self, provider: str, model: str, tier: str | None, is_free: bool, day: date, at: float) -> Price | None:
        own = self._own.of(provider, model, day, service_tier=tier)
        if own is not None:
            return _token_price(own, Origin(own.source, own.effective_from, is_own=True))
        usd_per_hour = self._sellers.usd_per_hour(provider)
        if usd_per_hour is not None:
            return HourPrice(Origin("the time of the machine", is_own=True), usd_per_hour)
        if is_free:
            return FREE
        listed = self._listed(provider, model, tier, day)
        if listed is not None:
            return listed
        kind, url = self._sellers.kind(provider), self._sellers.url(provider)
        return _genai_price(kind, url, model, datetime.fromtimestamp(at, tz=UTC), tier)

    def _listed(self, provider: str, model: str, tier: str | None, day: date) -> TokenPrice | None:
        row = self._sellers.list_prices.of(self._sellers.kind(provider), model, day, service_tier=tier)
        if row is None:
            return None
        doubt, warning = row.unverified, None
        if row.service_tier != tier:
            doubt = doubt or doubt_of_tier(tier)
        age_days = (day - row.checked_on).days
        if age_days > STALE_AFTER_DAYS:
            warning = (
                f"the list price of {provider}/{model} was last checked on {row.checked_on}, {age_days} days before "
                "the call; upgrade llama-client, or add a row to [[prices]]"
            )
        return _token_price(row, Origin(row.source, row.effective_from, doubt, warning))


def _token_price(row: ListPrice, origin: Origin) -> TokenPrice:
    return TokenPrice(
        origin,
        row.input_usd_per_mtok,
        row.output_usd_per_mtok,
        row.cached_usd_per_mtok,
        row.cache_write_usd_per_mtok,
    )


def _as_list_price(row: PriceRow) -> ListPrice:
    provider, _, model = row.target.partition("/")
    facts = row.model_dump(exclude={"target"})
    return ListPrice(provider, model, source="the configuration", checked_on=date.max, **facts)


def doubt_of_tier(tier: str | None) -> str | None:
    """Why the default price may not be that of a tier; None: it is."""
    return None if tier in _USUAL_TIERS else f"no price known for tier {tier!r}; the default tier's is used"


def _genai_price(kind: str, url: str | None, model: str, at: datetime, tier: str | None) -> GenaiPrice | None:
    ready("genai_prices.data")
    import genai_prices

    service = service_of(kind)
    # A compatible server is found by its address.
    named = service.price_source if service is not None and not service.is_any_server else None
    # Models of the user's own machines have no public price.
    if named is None and (url is None or is_nearby(url)):
        return None
    seller: dict[str, Any] = {"provider_api_url": url} if named is None else {"provider_id": named}
    nothing = genai_prices.Usage()
    try:
        found = genai_prices.calc_price(nothing, model, **seller, genai_request_timestamp=at)
    except (LookupError, ValueError):
        return None
    context = {} if tier is None else {"service_tier": tier}
    usual, of_tier = (found.model.get_prices(at, each) for each in (None, context or None))
    # A model that is paid by the request or by the image has no price of tokens.
    if usual.output_mtok is None or usual.input_mtok is None:
        return None
    # Fireworks' ids are paths, and the package has the last part. Its own ids have capitals where the provider's have.
    ids = (model.lower(), model.lower().rpartition("/")[2])
    is_same = any(_DATE.fullmatch(each.removeprefix(found.model.id.lower())) for each in ids)
    doubts = [] if is_same else [f"the price is that of {found.model.id}"]
    seller_row = service
    if named is None:  # the same seller, found by its address
        seller_row = next((row for row in SERVICES.values() if row.price_source == found.provider.id), None)
    if seller_row is not None and seller_row.price_doubt is not None:
        doubts.append(seller_row.price_doubt)
    doubt = doubt_of_tier(tier)
    if doubt is not None and usual == of_tier:
        doubts.append(doubt)
    origin = Origin(f"genai-prices {version('genai-prices')}", _begin_of(found.model, at), "; ".join(doubts) or None)
    return GenaiPrice(origin, found.provider, found.model, at, context, _is_timed(found.model))


def _is_timed(model: types.ModelInfo) -> bool:
    rows = (*(model.prices if isinstance(model.prices, list) else ()), *(model.price_variants or ()))
    return any(row.constraint is not None for row in rows)


def _begin_of(model: types.ModelInfo, at: datetime) -> date | None:
    """The day from which the price holds, where the model's prices are dated."""
    from genai_prices.types import StartDateConstraint

    if isinstance(model.prices, list):
        for row in reversed(model.prices):
            if row.constraint is None or row.constraint.active(at):
                return row.constraint.start_date if isinstance(row.constraint, StartDateConstraint) else None
    return None
