"""LiteLLM's proxy in front of a stand-in: `python -m tests.real_servers litellm`."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from llama_client import AsyncLlamaClient, AuthenticationError, ChatCompletion, LlamaClient, ModelNotFoundError
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, as_json
from tests.asking import MODES, Asker
from tests.routing.asking import Session

each_mode = pytest.mark.parametrize("mode", MODES)
_START_S = 120.0
_KEY = "sk-some-master-key"
_RUN = "from litellm.proxy.proxy_cli import run_server; run_server()"
# What the stand-in does with the request that has this text.
SLOW, ENDLESS = "slow", "endless"


def answer(request: Received) -> Answer:
    if request.method != "POST":
        # The proxy asks it for its models when it starts.
        return as_json({"data": []})
    body = request.json
    wants_stream, text = bool(body.get("stream")), str(body["messages"][-1]["content"])
    good = OPENAI.good(streams=wants_stream)
    if text == SLOW:
        return Answer([2.0, good.content])
    if text == ENDLESS:
        return Answer(list(good.pieces)[:-2] if wants_stream else [], "stall")
    return good


@pytest.fixture(scope="module")
def upstream() -> Iterator[WireServer]:
    with WireServer(answer) as server:
        yield server


@contextmanager
def proxy(folder: Path, upstream: WireServer, *, needs_key: bool) -> Iterator[str]:
    settings = f"general_settings:\n  master_key: {_KEY}\n" if needs_key else ""
    (folder / "config.yaml").write_text(
        f"model_list:\n  - model_name: demo\n    litellm_params:\n      model: openai/demo\n"
        f"      api_base: {upstream.url}/v1\n      api_key: sk-upstream\n{settings}",
        encoding="utf-8",
    )
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = [os.environ["LITELLM_PYTHON"], "-c", _RUN, "--config", "config.yaml", "--host", "127.0.0.1"]
    # Nothing is fetched or reported.
    environ = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    if not needs_key:
        # Without a key it refuses to start.
        environ["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [*command, "--port", str(port)], cwd=folder, env=environ, stdout=log, stderr=subprocess.STDOUT
        ) as server,
    ):
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_for(f"{url}/health/liveliness", server)
            yield url
        finally:
            server.terminate()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert server.poll() is None, "the proxy has ended"
            assert time.monotonic() < until, "the proxy does not start"
            time.sleep(0.5)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, upstream: WireServer) -> Iterator[str]:
    with proxy(tmp_path_factory.mktemp("proxy"), upstream, needs_key=False) as url:
        yield url


@pytest.fixture(scope="module")
def url_with_key(tmp_path_factory: pytest.TempPathFactory, upstream: WireServer) -> Iterator[str]:
    with proxy(tmp_path_factory.mktemp("proxy"), upstream, needs_key=True) as url:
        yield url


def config(url: str, *, kind: str = "litellm", **options: Any) -> dict[str, Any]:
    providers = {"gateway": {"kind": kind, "base_url": url, **options}}
    routing = {"retries": 0, "breaker_failures": 1, "first_content_s": 0.5}
    return {"default_model": "gateway/demo", "providers": providers, "routing": routing}


@each_mode
def test_an_answer_comes_through(mode: str, url: str) -> None:
    with Session(config(url), mode) as session:
        replies = session.many(5)
    assert all(isinstance(reply, ChatCompletion) for reply in replies), replies
    assert {reply.text for reply in replies} == {"Hello"}
    assert {attempt.outcome for reply in replies for attempt in reply.attempts} == {"ok"}


@each_mode
def test_an_unknown_model_is_told_as_one(mode: str, url: str) -> None:
    with Session(config(url), mode) as session:
        [error] = session.many(1, model="gateway/no-such-model")
        assert isinstance(error, ModelNotFoundError), error


@each_mode
@pytest.mark.parametrize("key", [None, "sk-another"], ids=["none", "wrong"])
def test_a_key_that_is_missing_or_wrong_is_told_as_such(mode: str, key: str | None, url_with_key: str) -> None:
    options = {} if key is None else {"api_key": key}
    with Session(config(url_with_key, **options), mode) as session:
        [error] = session.many(1)
        if key is None:
            # Without a database the proxy says "Internal Server Error", so the remedy must name the key.
            assert "API key" in str(error)
        else:
            assert isinstance(error, AuthenticationError), error
    with Session(config(url_with_key, api_key=_KEY), mode) as session:
        [reply] = session.many(1)
    assert isinstance(reply, ChatCompletion), reply


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_a_slow_server_behind_it_is_waited_for(mode: str, url: str, upstream: WireServer) -> None:
    before = len(upstream.requests)
    assert Asker(mode, config(url), [])(SLOW).text == "Hello"
    assert len(upstream.requests) == before + 1


def test_closing_a_stream_stops_the_server_behind_it(url: str, upstream: WireServer) -> None:
    before = upstream.early_closes
    with LlamaClient(config(url)) as client:
        messages = [{"role": "user", "content": ENDLESS}]
        with client.chat.completions.create(messages=messages, stream=True) as stream:
            next(iter(stream))
    until = time.monotonic() + 10
    while upstream.early_closes == before and time.monotonic() < until:
        time.sleep(0.1)
    assert upstream.early_closes == before + 1


def test_cancelling_a_whole_call_does_not_stop_the_server_behind_it(url: str, upstream: WireServer) -> None:
    """A fact of the proxy's, which this test notices to have changed."""

    async def run() -> None:
        async with AsyncLlamaClient(config(url)) as client:
            sent = len(upstream.requests)
            task = asyncio.create_task(client.ask(ENDLESS))
            while len(upstream.requests) == sent:
                await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    before = upstream.early_closes
    asyncio.run(run())
    time.sleep(5)
    assert upstream.early_closes == before
