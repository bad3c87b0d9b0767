"""A program that uses everything, beside providers elsewhere: run by test_nothing_leaves.py in a process of its own.

`python -m tests.privacy.program PARTS...` prints one JSON document: what was answered, what was refused and by which
rule, and where this process and those that it started wanted to connect to or whose name they asked for.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tests.privacy.watch import outside, watch

KEY = "sk-test-secret-1234567890"
PNG = b"\x89PNG\r\n\x1a\n and the rest of an image"
# Addresses of documentation (RFC 5737, RFC 3849), and a name of the same kind.
FAR = {
    "groq": {"api_key": KEY},
    "together": {"api_key": KEY},
    "cloud": {"kind": "openai", "base_url": "https://llm.example.com/v1", "api_key": KEY},
    "address": {"kind": "openai", "base_url": "http://203.0.113.5/v1", "api_key": KEY},
    "address6": {"kind": "openai", "base_url": "http://[2001:db8::1]/v1", "api_key": KEY},
    "daemon": {"kind": "ollama", "base_url": "http://ollama.example.com:11434"},
    "proxied": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "proxy": "http://203.0.113.5:3128"},
}
QUESTION = "What is the capital of Japan?"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


class Capital(BaseModel):
    """What is parsed."""

    city: str


def configuration(url: str, folder: str) -> dict[str, Any]:
    """Providers elsewhere first in each route; behind them what is here."""
    here = {
        "vllm": {"kind": "openai", "base_url": f"{url}/v1"},
        "ollama": {"base_url": url},
        "gguf": {"n_ctx": 2048},
    }
    far = [f"{name}/some/model" for name in FAR]
    return {
        "default_model": "chat",
        "providers": {**FAR, **here},
        "routes": {"chat": {"targets": [*far, "gguf/smollm2-135m"]}, "served": {"targets": [*far, "vllm/some/model"]}},
        "routing": {"retries": 0, "deadline_s": 60},
        "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
        "budgets": [{"usd": 1.0, "window": "day", "on_unpriced": "allow"}],
    }


def use(config: dict[str, Any], told: dict[str, Any]) -> None:
    """Every public call of the blocking client."""
    from llama_client import LlamaClient

    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}]
    with LlamaClient(config) as client:
        completions = client.chat.completions
        reply = client.ask(QUESTION, temperature=0, max_tokens=12)
        told["chat"] = [reply.text, [attempt.outcome for attempt in reply.attempts]]
        with completions.create(messages=_asking(), temperature=0, max_tokens=12, stream=True) as stream:
            told["stream"] = "".join(chunk.text for chunk in stream)
        parsed = completions.parse(messages=_asking(), response_format=Capital, temperature=0, max_tokens=40)
        told["parse"] = type(parsed.choices[0].message.parsed).__name__
        told["tools"] = completions.create(model="served", messages=_asking(), tools=[TOOL]).text
        told["image"] = client.ask(picture, model="served").text
        told["ollama"] = client.ask(QUESTION, model="ollama/some/model").text
        told["sdk"] = [model.id for model in client.sdk("vllm").models.list()]
        told["models"] = sorted(each.provider for each in client.providers.list() if each.is_reachable)
        told["tokens"] = client.count_tokens(QUESTION).tokens > 0
        told["estimate"] = client.estimate_cost(QUESTION, max_tokens=5).target
        for each in (*FAR, "ollama"):
            refusal(f"ask {each}", partial(client.ask, QUESTION, model=f"{each}/some-cloud"), told)
        for each in ("groq", "together", "cloud", "address"):
            refusal(f"sdk {each}", partial(client.sdk, each), told)
        url = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}]
        refusal("image", lambda: client.ask(url, model=["vllm/some/model", "ollama/some/model", "gguf/x"]), told)
        refusal("ledger", lambda: LlamaClient({"ledger": {"url": "postgresql://db.example.com/x"}}), told)
    with LlamaClient(config) as client:
        report = client.costs.report(by="provider")
        told["report"] = [report.calls, str(report.total_usd), report.unrecorded_calls]
        told["budgets"] = len(client.costs.budgets())


async def ause(config: dict[str, Any], told: dict[str, Any]) -> None:
    """The same on an event loop."""
    from llama_client import AsyncLlamaClient

    async with AsyncLlamaClient(config) as client:
        completions = client.chat.completions
        told["async chat"] = (await client.ask(QUESTION, temperature=0, max_tokens=12)).text
        async with await completions.create(messages=_asking(), temperature=0, max_tokens=12, stream=True) as stream:
            told["async stream"] = "".join([chunk.text async for chunk in stream])
        parsed = await completions.parse(messages=_asking(), response_format=Capital, temperature=0, max_tokens=40)
        told["async parse"] = type(parsed.choices[0].message.parsed).__name__
        told["async served"] = (await client.ask(QUESTION, model="served")).text
        told["async ollama"] = (await client.ask(QUESTION, model="ollama/some/model")).text
        told["async sdk"] = [model.id async for model in client.sdk("vllm").models.list()]
        told["async models"] = sorted(each.provider for each in await client.providers.list() if each.is_reachable)
        for each in (*FAR, "ollama"):
            await arefusal(f"async ask {each}", client.ask(QUESTION, model=f"{each}/some-cloud"), told)
        told["async report"] = (await client.costs.report()).calls
        told["async budgets"] = len(await client.costs.budgets())


def leave(config: dict[str, Any], told: dict[str, Any]) -> None:
    """A question to each who is elsewhere, in both colours; nobody answers."""
    from llama_client import AsyncLlamaClient, LlamaClient, LlamaClientError

    async def ask_each() -> None:
        async with AsyncLlamaClient(config) as client:
            for each in ("cloud", "address"):
                try:
                    await client.ask(QUESTION, model=f"{each}/some/model", timeout=1)
                except LlamaClientError as error:
                    told[f"async {each}"] = type(error).__name__

    with LlamaClient(config) as client:
        for each in ("groq", "cloud", "address"):
            # The first call also opens what all need, which takes a busy machine a while. Only an address stays silent.
            timeout = 1 if each == "address" else 30
            try:
                client.ask(QUESTION, model=f"{each}/some/model", timeout=timeout)
            except LlamaClientError as error:
                told[each] = type(error).__name__
    asyncio.run(ask_each())


def commands(config: dict[str, Any], told: dict[str, Any], folder: str) -> None:
    """The command, in processes of its own."""
    file = Path(folder) / "ledger.json"
    environ = {**os.environ, "LLAMA_CLIENT_LEDGER__URL": config["ledger"]["url"], "WATCHED_TO": str(file)}
    crossover = ("crossover", "llama-3.1-8b", "--from-ledger", "--api-input", "0.1", "--api-output", "0.2", "--json")
    for arguments in (crossover, ("pull", "hf:o/r/m.gguf")):
        done = subprocess.run(
            [sys.executable, "-m", "tests.privacy.watch", *arguments],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        told[f"$ {' '.join(arguments[:2])}"] = [done.returncode, "rule: pull" in done.stderr]
        if done.returncode and "rule: pull" not in done.stderr:
            told["stderr"] = done.stderr[-2000:]
        outside.extend(json.loads(file.read_text(encoding="utf-8")))


def refusal(what: str, act: Callable[[], object], told: dict[str, Any]) -> None:
    """Notes by which rule it was refused; None: it was not."""
    from llama_client import LlamaClientError

    try:
        act()
        told.setdefault("refused", {})[what] = None
    except LlamaClientError as error:
        told.setdefault("refused", {})[what] = getattr(error, "rule", type(error).__name__)


async def arefusal(what: str, answer: Any, told: dict[str, Any]) -> None:
    """The same of what is awaited."""
    from llama_client import LlamaClientError

    try:
        await answer
        told.setdefault("refused", {})[what] = None
    except LlamaClientError as error:
        told.setdefault("refused", {})[what] = getattr(error, "rule", type(error).__name__)


def _asking() -> list[dict[str, Any]]:
    return [{"role": "user", "content": QUESTION}]


def main(parts: list[str]) -> None:
    """Does the parts and prints what came of them."""
    # The server brings modules that look at the machine; the watch is only over what follows.
    from llama_client.testing.loopback import WireServer
    from tests.privacy.asking import answer_all

    watch(blocks="blocked" in parts)
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, WireServer(answer_all) as server:
        config = configuration(server.url, folder)
        if "use" in parts:
            use(config, told)
        if "ause" in parts:
            asyncio.run(ause(config, told))
        if "commands" in parts:
            commands(config, told, folder)
        if "leave" in parts:
            leave(config, told)
        told["asked here"] = len(server.requests)
    print(json.dumps({"told": told, "outside": outside}))


if __name__ == "__main__":
    main(sys.argv[1:])
