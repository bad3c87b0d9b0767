"""A service that counts what it is asked, and clients with the cache on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """One priced target, a ledger of its own, and a cache in a file."""
    monkeypatch.setenv("LLAMA_CLIENT_LEDGER__ENABLED", "true")
    return {
        "default_model": "some/m",
        "providers": {"some": {"kind": "openai", "api_key": "k", "base_url": "http://127.0.0.1:9/v1"}},
        "prices": [{"target": "some/m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2}],
        "ledger": {"url": f"sqlite:///{tmp_path / 'ledger.db'}"},
        "cache": {"enabled": True, "url": f"sqlite:///{tmp_path / 'answers.db'}"},
    }
