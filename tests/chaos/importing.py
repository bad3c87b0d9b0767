"""A program that prints what its main thread imports while a client is opened, asked and closed.

There an interrupt may leave Python's import lock taken, so it should be nothing. Its arguments are a kind of provider,
and how that is asked.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llama_client import AsyncLlamaClient, LlamaClient
from llama_client.testing.dialects import DIALECTS
from llama_client.testing.loopback import WireServer
from tests.chaos.dropped import MESSAGES

KINDS = [dialect.kind for dialect in DIALECTS]
HOW = ("sync", "async", "fallback")


class _Watch:
    """Says which modules the main thread looks for; finds none of them."""

    is_on = False

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: object = None) -> None:
        if self.is_on and threading.current_thread() is threading.main_thread():
            print(name)


@contextmanager
def _watched() -> Iterator[None]:
    _Watch.is_on = True
    try:
        yield
    finally:
        _Watch.is_on = False


def _ask(config: dict[str, Any], model: list[str]) -> None:
    with _watched(), LlamaClient(config=config) as client:
        for stream in (False, True):
            made: Any = client.chat.completions.create(messages=MESSAGES, model=model, stream=stream)
            if stream:
                list(made)


async def _ask_in_a_loop(config: dict[str, Any], model: list[str]) -> None:
    async with AsyncLlamaClient(config=config) as client:
        for stream in (False, True):
            made: Any = await client.chat.completions.create(messages=MESSAGES, model=model, stream=stream)
            if stream:
                async for _ in made:
                    pass


def main(kind: str, how: str) -> None:
    sys.meta_path.insert(0, _Watch())
    dialect = next(each for each in DIALECTS if each.kind == kind)
    with WireServer(lambda request: dialect.good(streams=bool(request.json.get("stream")))) as server:
        config = dialect.config(server.url, api_key="k")
        model = ["x/some/model"]
        if how == "fallback":
            closed = WireServer()
            closed.close()
            config["providers"]["y"] = {**config["providers"]["x"], "base_url": closed.url}
            model = ["y/some/model", "x/some/model"]
        if how == "async":
            with _watched():
                asyncio.run(_ask_in_a_loop(config, model))
        else:
            _ask(config, model)


if __name__ == "__main__":
    main(*sys.argv[1:])
