"""The command `llama-client`: a thin skin over the package, one file a command."""

from __future__ import annotations

from llama_client.cli.app import main as main
