"""The cloud behind each built-in kind of provider: which variable holds its key, who may see that, where it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cloud:
    """One of them.

    Attributes:
        key_variable: The variable that holds its key.
        hosts: The hosts that may see that key, the usual one first.
        keys_url: Where its users make their keys.
        is_usual: Whether the kind is there where nothing says otherwise; Ollama is on this machine.
    """

    key_variable: str
    hosts: tuple[str, ...]
    keys_url: str
    is_usual: bool = True

    @property
    def usual_host(self) -> str | None:
        """The host of a provider without an address of its own; None: it is not there."""
        return self.hosts[0] if self.is_usual else None


CLOUDS: Mapping[str, Cloud] = {
    "groq": Cloud("GROQ_API_KEY", ("api.groq.com",), "https://console.groq.com/keys"),
    "together": Cloud(
        "TOGETHER_API_KEY", ("api.together.ai", "api.together.xyz"), "https://api.together.ai/settings/api-keys"
    ),
    "openai": Cloud("OPENAI_API_KEY", ("api.openai.com",), "https://platform.openai.com/api-keys"),
    "ollama": Cloud("OLLAMA_API_KEY", ("ollama.com",), "https://ollama.com/settings/keys", is_usual=False),
}
