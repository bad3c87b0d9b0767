"""Turns `model` into an ordered list of targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llama_client.errors import ConfigError, InvalidRequestError
from llama_client.providers.base import Provider

if TYPE_CHECKING:
    from llama_client.config.schema import Config
    from llama_client.providers.gguf.store import ModelStore
    from llama_client.providers.registry import Providers


@dataclass(frozen=True, slots=True)
class Target:
    """One who may answer.

    Attributes:
        provider_name: The provider's name in the configuration.
        model: The provider's own model id.
        provider: The open provider.
    """

    provider_name: str
    model: str
    provider: Provider

    @property
    def name(self) -> str:
        """`provider/model`."""
        return f"{self.provider_name}/{self.model}"


def resolve(
    model: object, providers: Providers, config: Config, store: ModelStore, *, only_provider: str | None = None
) -> list[Target]:
    """The targets that `model` means, in the order in which they are tried.

    Args:
        model: `provider/model-id`, a list of these, or None for the default.
        providers: Who there is.
        config: The configuration.
        store: The pulled models.
        only_provider: Where `model` is this provider's own id, verbatim.

    Raises:
        ConfigError: It names a provider that is not there, or there is no default.
        InvalidRequestError: It is neither a text nor a list of texts.
    """
    if model is None:
        return [_target(default_model(config, store), providers, store)]
    names = [model] if isinstance(model, str) else model
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) and name for name in names):
        raise InvalidRequestError(
            "model: must be 'provider/model-id', a list of these, or absent for the default", param="model"
        )
    if only_provider is not None:
        return [Target(only_provider, name, providers.get(only_provider)) for name in names]
    return [_target(name, providers, store) for name in names]


def default_model(config: Config, store: ModelStore) -> str:
    """What `model` means where it is omitted.

    The configuration's `default_model`; else the only configured provider's own default; without any configuration the
    model that was pulled last, the demo model only where there is no other.

    Raises:
        ConfigError: There is none; says how to get one.
    """
    if config.default_model is not None:
        return config.default_model
    if len(config.providers) == 1:
        return f"{next(iter(config.providers))}/default"
    if config.providers:
        raise ConfigError("several providers are configured and default_model is not set: set it, or pass model")
    pulled = store.preferred()
    if pulled is None:
        raise ConfigError(
            "no model is configured and none has been pulled: run `llama-client pull smollm2-135m` (a tiny demo), or "
            "`llama-client pull hf:ORG/REPO/FILE.gguf` for a real one"
        )
    return f"gguf/{pulled.name}"


def _target(name: str, providers: Providers, store: ModelStore) -> Target:
    provider, slash, model = name.partition("/")
    if not slash or not model:
        hint = f"; did you mean 'gguf/{name}'?" if name in store.names() else ""
        raise ConfigError(
            f"model: must be 'provider/model-id', got {name!r} (providers: {', '.join(providers.names)}){hint}"
        )
    return Target(provider, model, providers.get(provider))
