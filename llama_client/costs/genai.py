"""The prices that the package genai-prices comes with. It asks nobody and starts no thread; imported when needed.

See https://github.com/pydantic/genai-prices. It knows tiers by length and by service, and dated prices of some models.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import date, datetime
from importlib.metadata import version
from urllib.parse import urlsplit

import genai_prices
from genai_prices import types

from llama_client.costs.money import exact, exactly
from llama_client.costs.prices import Origin, Parts, doubt_of_tier

# Its names for our kinds; a compatible server is found by its address.
_PROVIDERS = {"groq": "groq", "together": "together"}
# What follows a model's name where an id names one of its versions; anything else may be another model.
_A_DATE = re.compile(r"(-\d{4}-\d{2}-\d{2}|-\d{4,8})?")


@dataclass(frozen=True, slots=True, eq=False)
class GenaiPrice:
    """One of its prices, on one day.

    Attributes:
        origin: Where it comes from.
    """

    origin: Origin
    _provider: types.Provider
    _model: types.ModelInfo
    _at: datetime
    _context: dict[str, str]

    @property
    def is_nothing(self) -> bool:
        """Whether nobody is paid at all: some models are offered for nothing."""
        return not self.parts(1_000_000, 1_000_000).usd

    @exactly
    def parts(self, input_tokens: float, output_tokens: float, cached_tokens: float = 0) -> Parts:
        """What tokens cost.

        Args:
            input_tokens: Of the prompt, the cached ones included.
            output_tokens: Of the answer.
            cached_tokens: Of the prompt, from a cache.
        """
        whole, cached = round(input_tokens), round(cached_tokens)
        price = self._of(whole, round(output_tokens), cached)
        # A price by tiers hangs on the length of the whole prompt, so the tokens that were not cached have their share
        # of a prompt of which none was.
        rest = self._of(whole, 0, 0).input_price * (whole - cached) / whole if cached else price.input_price
        return Parts(exact(rest), exact(price.input_price) - exact(rest), exact(price.output_price))

    def _of(self, input_tokens: int, output_tokens: int, cached_tokens: int) -> types.PriceCalculation:
        usage = genai_prices.Usage(
            input_tokens=input_tokens, output_tokens=output_tokens, cache_read_tokens=cached_tokens or None
        )
        return self._model.calc_price(
            usage, self._provider, genai_request_timestamp=self._at, price_context=self._context or None
        )


class GenaiPrices:
    """Finds a price among them."""

    def __init__(self) -> None:
        self._source = f"genai-prices {version('genai-prices')}"

    def find(self, kind: str, url: str | None, model: str, at: datetime, tier: str | None) -> GenaiPrice | None:
        """What a model costs at a moment; None: it does not know.

        Args:
            kind: The provider's kind.
            url: Where the provider is.
            model: The provider's own id.
            at: The moment.
            tier: The tier that served the call.
        """
        named = _PROVIDERS.get(kind)
        if named is None and (url is None or _is_nearby(url)):
            return None
        nothing = genai_prices.Usage(input_tokens=0, output_tokens=0)
        try:
            if named is not None:
                found = genai_prices.calc_price(nothing, model, provider_id=named, genai_request_timestamp=at)
            else:
                found = genai_prices.calc_price(nothing, model, provider_api_url=url, genai_request_timestamp=at)
        except (LookupError, ValueError):
            return None
        rest = model.lower().removeprefix(found.model.id)
        doubts = [] if _A_DATE.fullmatch(rest) else [f"the price is that of {found.model.id}"]
        context = {} if tier is None else {"service_tier": tier}
        usual, of_tier = (found.model.get_prices(at, each) for each in (None, context or None))
        doubt = doubt_of_tier(tier)
        if doubt is not None and usual == of_tier:
            doubts.append(doubt)
        origin = Origin(self._source, _begin_of(found.model, at), "; ".join(doubts) or None)
        price = GenaiPrice(origin, found.provider, found.model, at, context)
        # A model that is paid by the request or by the image has no price of tokens.
        if usual.output_mtok is None or usual.input_mtok is None:
            return None
        return price


def _begin_of(model: types.ModelInfo, at: datetime) -> date | None:
    """Since when the price holds, where the model's prices are dated."""
    if isinstance(model.prices, list):
        for row in reversed(model.prices):
            if row.constraint is None or row.constraint.active(at):
                return row.constraint.start_date if isinstance(row.constraint, types.StartDateConstraint) else None
    return None


def _is_nearby(url: str) -> bool:
    """Whether an address is of this machine or its network, where nobody has a public price."""
    host = urlsplit(url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or "." not in host or host.endswith((".local", ".internal", ".localhost"))
