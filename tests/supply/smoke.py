"""Runs in an environment with the package and one extra: every module is imported, and calls are made.

Its arguments are the packages that this environment may lack, as they are imported.
"""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_client
from llama_client import AsyncLlamaClient, LlamaClient
from llama_client.testing.loopback import WireServer, as_json

_ANSWER = {
    "id": "1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}  # fmt: skip


def _import_all(may_lack: set[str]) -> list[str]:
    """Imports every module; returns what failed."""
    failures = []
    for module in pkgutil.walk_packages(llama_client.__path__, "llama_client."):
        if module.name == "llama_client.__main__":
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in may_lack:
                failures.append(f"{module.name}: {error}")
        except Exception as error:  # noqa: BLE001 - whatever an old version raises is what is looked for
            failures.append(f"{module.name}: {type(error).__name__}: {error}")
    return failures


def _calls(url: str, folder: str) -> Iterator[str]:
    """A call on each wire, sync and async, and what the ledger says of them; yields what is wrong."""
    for wire in ("builtin", "httpx"):
        config = {
            "providers": {"p": {"kind": "openai", "base_url": url}},
            "ledger": {"url": f"sqlite:///{Path(folder, wire).as_posix()}.db"},
            "http": {"wire": wire},
        }
        with LlamaClient(config) as client:
            texts = [client.ask("Hi", model="p/m").text, asyncio.run(_asked(config))]
        with LlamaClient(config) as client:
            calls = client.costs.report().calls
        if (texts, calls) != (["hi", "hi"], 2):
            yield f"wire {wire}: the answers are {texts}, and the ledger has {calls} calls"


async def _asked(config: dict[str, Any]) -> str:
    async with AsyncLlamaClient(config) as client:
        return (await client.ask("Hi", model="p/m")).text


def main() -> int:
    failures = _import_all(set(sys.argv[1:]))
    with WireServer(lambda _: as_json(_ANSWER)) as server, tempfile.TemporaryDirectory() as folder:
        try:
            failures += _calls(f"{server.url}/v1", folder)
        except Exception:  # noqa: BLE001 - likewise
            failures.append(traceback.format_exc())
    for failure in failures:
        print(f"- {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
