"""The cloud behind each built-in kind of provider: which variable holds its key, who may see that, where it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CloudService:
    """One of them."""

    key_variable: str
    hosts: tuple[str, ...]
    keys_url: str
    is_usual: bool = True

    @property
    def usual_host(self) -> str | None:
        """The host of a provider without an address of its own; None: it is not there."""
        return self.hosts[0] if self.is_usual else None


CLOUDS: Mapping[str, CloudService] = {
    "groq": CloudService("GROQ_API_KEY", ("api.groq.com",), "https://console.groq.com/keys"),
    "together": CloudService(
        "TOGETHER_API_KEY", ("api.together.ai", "api.together.xyz"), "https://api.together.ai/settings/api-keys"
    ),
    "openai": CloudService("OPENAI_API_KEY", ("api.openai.com",), "https://platform.openai.com/api-keys"),
    "ollama": CloudService("OLLAMA_API_KEY", ("ollama.com",), "https://ollama.com/settings/keys", is_usual=False),
}
