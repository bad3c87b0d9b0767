"""Who has no key, or a wrong one, is told where keys are made, but not of one cloud's page for another's server."""

from __future__ import annotations

from typing import Any

import pytest

from llama_client import AuthenticationError, LlamaClient
from llama_client.testing.loopback import WireServer, as_json
from tests.wire.sending import forget_variables

PAGES = {
    "groq": "https://console.groq.com/keys",
    "together": "https://api.together.ai/settings/api-keys",
    "openai": "https://platform.openai.com/api-keys",
}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_variables(monkeypatch)


def refused(kind: str, **table: Any) -> str:
    config = {"providers": {"x": {"kind": kind, **table}}, "routing": {"retries": 0}}
    with LlamaClient(config) as client, pytest.raises(AuthenticationError) as caught:
        client.ask("hi", model="x/some-model")
    return str(caught.value)


@pytest.mark.parametrize(("kind", "page"), PAGES.items(), ids=PAGES)
def test_who_has_no_key_is_told_where_it_is_made(kind: str, page: str) -> None:
    assert f"(keys are made at {page})" in refused(kind)


@pytest.mark.parametrize("kind", ["openai", "ollama"])
def test_no_cloud_is_named_for_a_server_of_somebodys_own(kind: str) -> None:
    with WireServer(lambda _: as_json({"error": {"message": "wrong key"}}, status=401)) as server:
        told = refused(kind, base_url=server.url, api_key="sk-another-secret-1234")
    assert "keys" not in told.lower()


def test_no_page_is_named_where_the_environment_leads_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert PAGES["openai"] not in refused("openai")
