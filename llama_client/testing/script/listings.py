"""What a played provider answers beside chats: its models, whether it lives, a model's template, an image."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from llama_client.config.schema import is_kind
from llama_client.providers.services import known_catalog
from llama_client.testing.loopback import Answer, Received, as_json, whole

# One pixel.
_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
_OLLAMA_VERSION = "0.34.2"
_MODIFIED_AT = "2026-11-18T11:08:20Z"


class Listings:
    """The models that providers list, and their small documents."""

    def __init__(self) -> None:
        self._models: dict[str, dict[str, None]] = {}

    def add(self, target: str) -> None:
        """Adds a target to the list of its provider; a provider alone adds nothing."""
        provider, _, model = target.partition("/")
        if model:
            self._models.setdefault(provider, {})[model] = None

    def answer(self, received: Received) -> Answer | None:
        """The answer to a request that is for no chat; None: it is for the script."""
        path, provider = received.path.partition("?")[0].rstrip("/"), received.provider or ""
        if received.method == "POST":
            return as_json({"template": "{{ .Prompt }}{{ .Response }}"}) if path.endswith("/api/show") else None
        if received.method != "GET":
            return None
        if received.headers.get("accept", "").startswith("image/"):
            return whole(_PNG, headers={"content-type": "image/png"})
        if path.endswith("/api/tags"):
            rows = [_row(model) for model in self._of(provider or "ollama", "ollama")]
            return as_json({"models": rows})
        if path.endswith("/api/ps"):
            return as_json({"models": []})
        if path.endswith("/api/version"):
            return as_json({"version": _OLLAMA_VERSION})
        if path.endswith("/models"):
            rows = [{"id": model, "object": "model"} for model in self._of(provider, provider)]
            return as_json({"object": "list", "data": rows})
        return None

    def _of(self, provider: str, kind: str) -> list[str]:
        known = [offer.id for offer in known_catalog().all_offers if offer.provider_kind == kind]
        return list(dict.fromkeys([*self._models.get(provider, ()), *known]))


def _row(model: str) -> dict[str, Any]:
    return {"name": model, "model": model, "modified_at": _MODIFIED_AT, "size": 2_000_000_000}


def config_of(targets: Sequence[str]) -> dict[str, Any]:
    """A configuration with a route `chat` of these targets, and a ledger in memory."""
    providers: dict[str, Any] = {}
    for target in targets:
        provider, _, model = target.partition("/")
        if not provider or not model:
            raise ValueError(f"targets: each must be provider/model, got {target!r}")
        own = {"kind": "openai", "base_url": f"https://{provider}.example/v1"}
        providers[provider] = {} if is_kind(provider) else own
    return {
        "default_model": "chat",
        "providers": providers,
        "routes": {"chat": {"targets": list(targets)}},
        "ledger": {"url": "memory"},
    }
