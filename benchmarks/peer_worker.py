"""One peer of peers.py, in its own environment: reads what to measure from standard input, and writes times.

It needs the peer's package alone, and must not be imported by others.
"""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any

from http_calls import CHUNKS, MESSAGES

WARM_UPS = 100
Sync = Callable[[], object]
Async = Callable[[], Awaitable[object]]


class Peer:
    """What each does; None: it cannot."""

    package = ""
    has_routes = False

    def __init__(self, url: str, targets: int = 2) -> None:
        """`targets`: how many its route has, if it has routes."""
        self.url = url
        self.targets = targets

    def call(self) -> object:
        raise NotImplementedError

    def stream(self) -> object:
        raise NotImplementedError

    async def acall(self) -> object:
        raise NotImplementedError


class Bare(Peer):
    package = "httpx"

    def __init__(self, url: str, targets: int = 2) -> None:
        import httpx

        super().__init__(url, targets)
        self._client = httpx.Client(verify=trusted())
        self._target = f"{url}/chat/completions"
        self._headers = {"authorization": "Bearer key"}

    def call(self) -> object:
        body = {"model": "m", "messages": MESSAGES}
        return self._client.post(self._target, json=body, headers=self._headers).json()

    def stream(self) -> object:
        body = {"model": "m", "messages": MESSAGES, "stream": True}
        with self._client.stream("POST", self._target, json=body, headers=self._headers) as response:
            return [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {")][-1]


class BareAsync(Peer):
    package = "httpx-aiohttp"

    def __init__(self, url: str, targets: int = 2) -> None:
        import httpx
        from httpx_aiohttp import AiohttpTransport

        super().__init__(url, targets)
        self._client = httpx.AsyncClient(transport=AiohttpTransport(limits=httpx.Limits(max_connections=1000)))

    async def acall(self) -> object:
        body = {"model": "m", "messages": MESSAGES}
        headers = {"authorization": "Bearer key"}
        return (await self._client.post(f"{self.url}/chat/completions", json=body, headers=headers)).json()


class Aiohttp(Peer):
    package = "aiohttp"
    _session: Any = None

    async def acall(self) -> object:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1000))
        body, headers = {"model": "m", "messages": MESSAGES}, {"authorization": "Bearer key"}
        async with self._session.post(f"{self.url}/chat/completions", json=body, headers=headers) as response:
            return await response.json()


class Ours(Peer):
    """With a route, prices and the ledger."""

    package = "llama-client"
    has_routes = True

    def __init__(self, url: str, targets: int = 2) -> None:
        import tempfile

        from llama_client import LlamaClient

        super().__init__(url, targets)
        table = {"kind": "openai", "base_url": url, "api_key": "key"}
        price = {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.3}
        if url.startswith("https"):
            table["ca_file"] = CERTIFICATE
        names = [f"{('first', 'second')[number % 2]}/m{number // 2}" for number in range(targets)]
        self._config = {
            "providers": {"first": table, "second": table},
            "routes": {"chat": {"targets": names}},
            "default_model": "chat",
            "prices": [{"target": name, **price} for name in names],
            "ledger": {"url": f"sqlite:///{tempfile.mkdtemp()}/ledger.db"},
        }
        self._client = LlamaClient(self._config)
        self._async_client: Any = None

    def call(self) -> object:
        return self._client.chat.completions.create(messages=MESSAGES)

    def stream(self) -> object:
        return list(self._client.chat.completions.create(messages=MESSAGES, stream=True))[-1]

    async def acall(self) -> object:
        if self._async_client is None:
            from llama_client import AsyncLlamaClient

            self._async_client = AsyncLlamaClient(self._config)
        return await self._async_client.chat.completions.create(messages=MESSAGES)


class OpenAI(Peer):
    package = "openai"

    def __init__(self, url: str, targets: int = 2) -> None:
        import openai

        super().__init__(url, targets)
        self._client: Any = openai.OpenAI(api_key="key", base_url=url)
        self._async_client: Any = openai.AsyncOpenAI(api_key="key", base_url=url)

    def call(self) -> object:
        return self._client.chat.completions.create(model="m", messages=MESSAGES)

    def stream(self) -> object:
        return list(self._client.chat.completions.create(model="m", messages=MESSAGES, stream=True))[-1]

    async def acall(self) -> object:
        return await self._async_client.chat.completions.create(model="m", messages=MESSAGES)


class Groq(OpenAI):
    package = "groq"

    def __init__(self, url: str, targets: int = 2) -> None:
        import groq

        Peer.__init__(self, url, targets)
        base = url.removesuffix("/v1")
        self._client = groq.Groq(api_key="key", base_url=base)
        self._async_client = groq.AsyncGroq(api_key="key", base_url=base)


class AnyLlm(Peer):
    package = "any-llm-sdk"

    def __init__(self, url: str, targets: int = 2) -> None:
        super().__init__(url, targets)
        create = import_module("any_llm").AnyLLM.create
        # A client belongs to one event loop, and synchronous calls have one of their own.
        self._llm, self._async_llm = (create("openai", api_key="key", api_base=url) for _ in range(2))

    def call(self) -> object:
        return self._llm.completion(model="m", messages=MESSAGES)

    def stream(self) -> object:
        return list(self._llm.completion(model="m", messages=MESSAGES, stream=True))[-1]

    async def acall(self) -> object:
        return await self._async_llm.acompletion(model="m", messages=MESSAGES)


class PydanticAi(Peer):
    package = "pydantic-ai-slim"

    def __init__(self, url: str, targets: int = 2) -> None:
        super().__init__(url, targets)
        provider = import_module("pydantic_ai.providers.openai").OpenAIProvider(base_url=url, api_key="key")
        model = import_module("pydantic_ai.models.openai").OpenAIChatModel("m", provider=provider)
        self._agent = import_module("pydantic_ai").Agent(model)

    async def acall(self) -> object:
        return await self._agent.run(MESSAGES[0]["content"])


class LangChain(Peer):
    package = "langchain-openai"

    def __init__(self, url: str, targets: int = 2) -> None:
        super().__init__(url, targets)
        self._model = import_module("langchain_openai").ChatOpenAI(model="m", base_url=url, api_key="key")

    def call(self) -> object:
        return self._model.invoke(MESSAGES)

    def stream(self) -> object:
        return list(self._model.stream(MESSAGES))[-1]

    async def acall(self) -> object:
        return await self._model.ainvoke(MESSAGES)


class LiteLlm(Peer):
    package = "litellm"

    def __init__(self, url: str, targets: int = 2) -> None:
        super().__init__(url, targets)
        self._litellm = import_module("litellm")
        self._asked = {"model": "openai/m", "messages": MESSAGES, "api_base": url, "api_key": "key"}

    def call(self) -> object:
        return self._litellm.completion(**self._asked)

    def stream(self) -> object:
        return list(self._litellm.completion(**self._asked, stream=True))[-1]

    async def acall(self) -> object:
        return await self._litellm.acompletion(**self._asked)


class LiteLlmRouter(Peer):
    package = "litellm"
    has_routes = True

    def __init__(self, url: str, targets: int = 2) -> None:
        super().__init__(url, targets)
        params = [{"model": f"openai/m{number}", "api_base": url, "api_key": "key"} for number in range(targets)]
        models = [{"model_name": "chat", "litellm_params": each} for each in params]
        self._router = import_module("litellm").Router(model_list=models)

    def call(self) -> object:
        return self._router.completion(model="chat", messages=MESSAGES)

    async def acall(self) -> object:
        return await self._router.acompletion(model="chat", messages=MESSAGES)


PEERS: dict[str, type[Peer]] = {
    "httpx": Bare,
    "httpx-aiohttp": BareAsync,
    "aiohttp": Aiohttp,
    "llama_client": Ours,
    "openai": OpenAI,
    "groq": Groq,
    "any-llm": AnyLlm,
    "pydantic-ai": PydanticAi,
    "langchain-openai": LangChain,
    "litellm": LiteLlm,
    "litellm Router": LiteLlmRouter,
}
CERTIFICATE = ""


def trusted() -> Any:
    """The certificates of the server with TLS."""
    return ssl.create_default_context(cafile=CERTIFICATE) if CERTIFICATE else True


def work(name: str, addresses: dict[str, str]) -> None:
    """Measures what standard input asks for."""
    global CERTIFICATE
    CERTIFICATE = addresses.get("certificate", "")
    kind = PEERS[name]
    peer = kind(addresses["url"])
    ways: dict[str, Sync] = {}
    if kind.call is not Peer.call:
        ways["call"] = peer.call
        if CERTIFICATE and name in ("httpx", "llama_client"):
            ways["call over TLS"] = kind(addresses["tls"]).call
    if kind.stream is not Peer.stream:
        ways["stream, per chunk"] = peer.stream
    if kind.has_routes:
        ways |= {f"call, route of {number}": kind(addresses["url"], number).call for number in (1, 10, 100)}
    async_ways: dict[str, Async] = {}
    if kind.acall is not Peer.acall:
        async_ways = {f"async call, {number} in flight": peer.acall for number in (1, 32, 200)}
    loop = asyncio.new_event_loop()
    # What happens once, such as opening a ledger in the background, is over then.
    for _ in range(WARM_UPS):
        for way in ways.values():
            way()
    for async_way in list(async_ways.values())[:1]:
        loop.run_until_complete(async_way())
    gc.collect()
    gc.freeze()
    print(json.dumps({"version": version(kind.package), "ways": [*ways, *async_ways]}), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        wanted, in_flight, calls = question["way"], question["in_flight"], question["calls"]
        times = []
        for _ in range(calls):
            started = time.perf_counter()
            if wanted in ways:
                ways[wanted]()
                number = CHUNKS if wanted.startswith("stream") else 1
            else:
                loop.run_until_complete(many(async_ways[wanted], in_flight))
                number = in_flight
            times.append((time.perf_counter() - started) / number * 1e6)
        print(json.dumps({"microseconds": times}), flush=True)


async def many(way: Async, in_flight: int) -> None:
    """So many at once."""
    await asyncio.gather(*(way() for _ in range(in_flight)))


def work_once(name: str, addresses: dict[str, str]) -> None:
    """One call of a process that has just begun."""
    kind = PEERS[name]
    peer = kind(addresses["url"])
    if kind.call is Peer.call:
        asyncio.run(many(peer.acall, 1))
    else:
        peer.call()
    print("answered", flush=True)


if __name__ == "__main__":
    (work_once if sys.argv[3:] else work)(sys.argv[1], json.loads(sys.argv[2]))
