"""Asks under `local_only`, in the four modes of a call, and looks at what it was refused with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from llama_client import ChatCompletion, LocalOnlyError
from llama_client.errors import LocalOnlyRule
from llama_client.testing.dialects import GROQ, OLLAMA, OPENAI
from llama_client.testing.loopback import Answer, Received, as_json
from tests.asking import MODES, Asker
from tests.wire.sending import KEY, MODEL, PROMPT

__all__ = ["KEY", "MODEL", "ONCE", "PROMPT", "answer_all", "ask", "calls", "each_mode", "local", "refused"]

each_mode = pytest.mark.parametrize("mode", MODES)
calls = pytest.mark.parametrize("mode", ["call-sync", "call-async"])
# Nobody answers there (RFC 5737), and nobody is asked.
FAR_ADDRESS = "203.0.113.5"
ADDRESSES = {"near.test": ["127.0.0.1"], "far.test": [FAR_ADDRESS], "both.test": ["127.0.0.1", FAR_ADDRESS]}
_TIMEOUT_S = 10.0
# For what is tried, in vain.
ONCE = {"routing": {"retries": 0}}


def answer_all(request: Received) -> Answer:
    """An answer to whatever a provider of any kind is asked; Ollama has the model here."""
    for dialect in (GROQ, OLLAMA, OPENAI):
        if request.path.endswith(dialect.path):
            return dialect.good(streams=bool(request.json.get("stream")))
    return as_json({"object": "list", "data": [{"id": MODEL}], "models": [{"name": MODEL}]})


def local(kind: str, *, allow: list[str] | None = None, **table: Any) -> dict[str, Any]:
    """A configuration under `local_only` with one provider."""
    return {"local_only": True, "privacy": {"allow_hosts": allow or []}, "providers": {kind: table}}


def ask(mode: str, config: Mapping[str, Any], model: Any, prompt: Any = PROMPT, **params: Any) -> ChatCompletion:
    """Asks in a mode."""
    return Asker(mode, config, [])(prompt, model=model, timeout=_TIMEOUT_S, **params)


def refused(
    mode: str,
    config: Mapping[str, Any],
    model: Any,
    prompt: Any = PROMPT,
    *,
    rule: LocalOnlyRule = "connection",
    **params: Any,
) -> LocalOnlyError:
    """Asks, and is refused by that rule, which the error and its only attempt say; returns the error."""
    with pytest.raises(LocalOnlyError) as caught:
        ask(mode, config, model, prompt, **params)
    error = caught.value
    assert error.rule == rule
    assert f"rule: {rule}" in str(error)
    (attempt,) = error.attempts
    assert (attempt.outcome, attempt.sent, attempt.error) == ("skipped", False, "LocalOnlyError")
    assert f"rule: {rule}" in (attempt.reason or "")
    return error
