"""The package as a whole: its names, its import, its version."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import llama_client

_WATCHED_IMPORT = """
import json, os, sys
from pydantic import BaseModel
allowed = [os.path.realpath(p) for p in (sys.prefix, sys.base_prefix, *sys.path) if p]
seen = {"sockets": [], "files": []}
def watch(event, args):
    if event.startswith("socket.") and event not in ("socket.__new__",):
        seen["sockets"].append(event)
    if event == "open" and isinstance(args[0], str):
        path = os.path.realpath(args[0])
        if not any(path.startswith(root) for root in allowed):
            seen["files"].append(path)
sys.addaudithook(watch)
from llama_client import LlamaClient, ChatCompletion
seen["modules"] = sorted({name.partition(".")[0] for name in sys.modules})
seen["ours"] = sorted(name for name in sys.modules if name.startswith("llama_client."))
print(json.dumps(seen))
"""


def test_importing_loads_no_provider_library_and_touches_neither_network_nor_home(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _WATCHED_IMPORT], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
    )
    seen = json.loads(run.stdout)
    heavy = {"groq", "openai", "genai_prices", "sqlalchemy", "xllamacpp", "rich", "click", "huggingface_hub", "httpx"}
    assert not heavy & set(seen["modules"])
    assert seen["sockets"] == []
    assert [path for path in seen["files"] if "llama_client" not in path] == []
    at_once = ["chat", "client", "clock", "errors", "imports", "models", "process", "streams", "types"]
    at_once += ["types.completion", "types.deferred", "version", "waiting"]
    assert seen["ours"] == [f"llama_client.{name}" for name in at_once]


def test_every_public_name_is_there() -> None:
    missing = [name for name in llama_client.__all__ if not hasattr(llama_client, name)]
    assert missing == []
    assert sorted(llama_client.__all__) == dir(llama_client)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    assert not hasattr(llama_client, "Telepathy")


def test_the_version_is_the_distributions() -> None:
    assert llama_client.__version__ == version("llama-client")
