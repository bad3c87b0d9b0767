"""What the rules of `lints` look at, and what they yield."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal

from llama_client.config.schema import Config
from llama_client.config.sources import Found
from llama_client.config.variables import KeyPath

if TYPE_CHECKING:
    from llama_client.catalog.catalog import Catalog

# Whose models the catalogue lists; of the others nobody but the user knows what they serve.
LISTED_KINDS = ("groq", "together")


@dataclass(frozen=True, slots=True)
class Lint:
    """One thing that was found; see `check.CheckFinding`."""

    severity: Literal["error", "warning", "note"]
    key: str
    message: str


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is known beside the configuration.

    Attributes:
        catalog: What models there are, with the configuration's own rows.
        today: The day.
        pulled: The names of the models that were pulled.
        has_demo: Whether the demo model is among them.
        why_nobody: Why a `model` names nobody; None: it names somebody.
        has_price: Whether somebody knows what a target costs.
    """

    catalog: Catalog
    today: date
    pulled: Collection[str]
    has_demo: bool
    why_nobody: Callable[[str], str | None]
    has_price: Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class Named:
    """A target that the configuration names, and by which key."""

    key: str
    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Subject:
    """What the rules look at.

    Attributes:
        config: The configuration, without what is wrong.
        found: The configuration with what is wrong.
        knowledge: What is known beside it.
        environ: The environment.
        broken: The first two names of the places of what is wrong.
        names: The targets that it names.
    """

    config: Config
    found: Found
    knowledge: Knowledge
    environ: Mapping[str, str]
    broken: Collection[KeyPath]
    names: tuple[Named, ...]

    def kind(self, provider: str) -> str:
        """The kind of a provider."""
        table = self.config.providers.get(provider)
        return provider if table is None else table.kind

    def is_broken(self, provider: str) -> bool:
        """Whether something is wrong with a provider's table, so that no more is said of it."""
        return ("providers", provider) in self.broken

    def has_address(self, provider: str) -> bool:
        """Whether a provider is elsewhere than its kind usually is."""
        return getattr(self.config.providers.get(provider), "base_url", None) is not None
