"""What `config init` finds on this machine: keys, a running Ollama, models that were pulled. Only Ollama is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib.util import find_spec

from llama_client.catalog.catalog import Catalog, Offer
from llama_client.catalog.prices import ListPrices
from llama_client.clock import Clock
from llama_client.config.clouds import CLOUDS
from llama_client.config.discovery import says_local_only
from llama_client.config.lint_subject import LISTED_KINDS
from llama_client.config.schema import Config
from llama_client.errors import LlamaClientError
from llama_client.providers.gguf.store import DEMO_NAME, ModelStore
from llama_client.providers.registry import Providers

# In the order in which they are proposed: the clouds, and where they are down what runs here.
_CLOUDS = {kind: CLOUDS[kind].key_variable for kind in LISTED_KINDS}
LOCAL = ("ollama", "gguf")
NAMES = (*_CLOUDS, *LOCAL)
DEMO_TARGET = f"gguf/{DEMO_NAME}"


@dataclass(frozen=True, slots=True)
class Detected:
    """What was found of one provider.

    Attributes:
        name: The provider.
        is_there: Whether it can be used as it is.
        what: What was found, in words.
        models: Its models, the proposed one first; empty: nobody knows.
        is_listed: Whether there are no others.
        needs: What would have to be done first; None: nothing.
    """

    name: str
    is_there: bool
    what: str
    models: tuple[str, ...]
    is_listed: bool = False
    needs: str | None = None


def detect(environ: Mapping[str, str], *, today: date | None = None) -> dict[str, Detected]:
    """Looks for each provider that needs no address of its own.

    Args:
        environ: The environment.
        today: The day; None: this one.
    """
    store, clock = ModelStore.of_user(environ), Clock()
    day = today or clock.today()
    catalog, prices = Catalog.bundled(), ListPrices.bundled()
    found = [_cloud(name, variable, environ, _served(catalog, prices, name, day)) for name, variable in _CLOUDS.items()]
    config = Config(local_only=says_local_only(environ))
    found += [_ollama(Providers(config, store, clock, environ=environ)), _gguf(store)]
    return {each.name: each for each in found}


def _cloud(name: str, variable: str, environ: Mapping[str, str], models: tuple[str, ...]) -> Detected:
    if environ.get(variable):
        return Detected(name, True, f"{variable} is set", models)
    return Detected(name, False, f"{variable} is not set", models, needs=f"set {variable}")


def _served(catalog: Catalog, prices: ListPrices, kind: str, day: date) -> tuple[str, ...]:
    """What a cloud serves on a day, the best known first: its abilities, its price, and then the cheapest."""

    def rank(offer: Offer) -> tuple[bool, bool, Decimal]:
        price = prices.of(kind, offer.id, day)
        cost = Decimal(0) if price is None else price.input_usd_per_mtok + price.output_usd_per_mtok
        return offer.abilities is None, price is None, cost

    offers = [o for o in catalog.all_offers if o.provider_kind == kind and o.is_served(day) and not o.unverified]
    return tuple(offer.id for offer in sorted(offers, key=rank))


def _ollama(providers: Providers) -> Detected:
    try:
        served = providers.get("ollama").served_models()
        default = providers.ollama_default("ollama")
    except LlamaClientError:
        return Detected("ollama", False, "is not running", (), needs="start Ollama")
    finally:
        providers.close()
    # What it would hand on to its cloud, and what answers no chat, may be named and is not proposed.
    models = [model.id for model in served]
    if default is None:
        return Detected("ollama", False, "is running, and has no chat model", (), needs="run `ollama pull llama3.2`")
    models.sort(key=lambda model: model != default)
    return Detected("ollama", True, f"is running: {_listed(models)}", tuple(models), is_listed=True)


def _gguf(store: ModelStore) -> Detected:
    pulled, preferred = store.names(), store.preferred()
    demo = f"run `llama-client pull {DEMO_NAME}` (a tiny demo model, 93 MB to download)"
    if preferred is None:
        return Detected("gguf", False, "no model has been pulled", (DEMO_NAME,), is_listed=True, needs=demo)
    pulled.sort(key=lambda name: name != preferred.name)
    what = f"pulled: {_listed(pulled)}"
    if find_spec("xllamacpp") is None:
        install = 'run `pip install "llama-client[gguf]"`'
        what = f"{what}, but the extra is not installed"
        return Detected("gguf", False, what, tuple(pulled), is_listed=True, needs=install)
    return Detected("gguf", True, what, tuple(pulled), is_listed=True)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
