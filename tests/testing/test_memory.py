"""An answer in memory is what it is over a socket, but for the time that it takes."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from llama_client import AsyncLlamaClient, LlamaClient, LlamaClientError
from llama_client.testing.clock import FakeClock
from llama_client.testing.dialects import DIALECTS, OPENAI, Dialect
from llama_client.testing.loopback import (
    Answer,
    Received,
    WireServer,
    as_json,
    byte_by_byte,
    garbage,
    gzipped,
    hangup,
    head,
    paced,
    redirect,
    silence,
    streamed,
    whole,
)
from llama_client.testing.played import Played
from llama_client.testing.seams import client_classes
from tests.asking import MODES
from tests.lengths import two_modes

MESSAGES = [{"role": "user", "content": "Why do llamas hum?"}]
# On a busy machine, what comes before the silence takes its time; of a silent Ollama it is also asked whether it lives.
TIMEOUT_S = 1.0
OF_SILENCE_S = 3.0


def answers(dialect: Dialect, *, streams: bool) -> dict[str, Answer]:
    """Good ones and others, by name."""
    good = dialect.good(streams=streams)
    begun = [dialect.preamble(), dialect.text("Hel")]
    body = json.dumps(dialect.whole()).encode()
    return {
        "good": good,
        "byte by byte": byte_by_byte(good),
        "in one piece": Answer([good.content]),
        "then closed": Answer(good.pieces, "close"),
        "until the end of the connection": Answer([head(200, dialect.stream_headers), *begun], "close"),
        "cut": streamed(begun, "cut", headers=dialect.stream_headers),
        "reset": streamed(begun, "reset", headers=dialect.stream_headers),
        "ended early": streamed(begun, "eof", headers=dialect.stream_headers),
        "short": whole(body, content_length=len(body) + 5, headers={"content-type": "application/json"}, then="close"),
        "hung up": hangup(),
        "hung up by a reset": hangup("reset"),
        "garbage": garbage(),
        "no JSON": whole(b"{no json", headers={"content-type": "application/json"}),
        "gzip": gzipped(body, headers={"content-type": "application/json"}),
        "no gzip": whole(body, headers={"content-type": "application/json", "content-encoding": "gzip"}),
        "refused": as_json(dialect.failure("wrong key"), status=401),
        "limited": as_json(dialect.failure("slow down"), status=429, headers={"retry-after": "7"}),
        "broken": as_json(dialect.failure("oh"), status=500, headers={"x-request-id": "r-1"}),
        "a redirect": redirect("http://127.0.0.2:1/elsewhere"),
        "early hints": Answer([b"HTTP/1.1 103 Early Hints\r\n\r\n", *good.pieces]),
        "another protocol": Answer([b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"]),
        "silence": silence(),
        "a head and silence": streamed([], "stall", headers=dialect.stream_headers),
        "text and silence": streamed(begun, "stall", headers=dialect.stream_headers),
        "too slow": paced(good, 9.0, first_s=9.0),
    }


NAMES = list(answers(OPENAI, streams=False))
# These take time over a socket.
SLOW = ("silence", "a head and silence", "text and silence", "too slow")


def asked(client_class: Any, config: dict[str, Any], mode: str) -> object:
    """What came of it, but for times."""
    timeout_s = config["routing"]["stall_s"]
    create = {"messages": MESSAGES, "model": "x/some/model", "timeout": timeout_s, "stream": mode.startswith("stream")}

    async def ask() -> Any:
        async with client_class(config) as client:
            reply = await client.chat.completions.create(**create)
            if not create["stream"]:
                return [], reply
            async with reply as stream:
                return [chunk.text async for chunk in stream], stream.completion

    try:
        if mode.endswith("async"):
            chunks, reply = asyncio.run(ask())
        else:
            with client_class(config) as client:
                reply, chunks = client.chat.completions.create(**create), []
                if create["stream"]:
                    with reply as stream:
                        chunks = [chunk.text for chunk in stream]
                    reply = stream.completion
        return chunks, reply.text, reply.usage, reply.cost, [story(each) for each in reply.attempts]
    except LlamaClientError as error:
        return type(error), str(error), [story(each) for each in error.attempts]


def story(attempt: Any) -> object:
    return attempt.model_dump(exclude={"latency_s", "ttft_s"})


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
@pytest.mark.parametrize("name", NAMES)
@two_modes
def test_an_answer_in_memory_is_as_over_a_socket(dialect: Dialect, name: str, mode: str) -> None:
    config = dialect.config("http://127.0.0.1:1", api_key="k")
    config["routing"] |= {"stall_s": OF_SILENCE_S if name == "silence" else TIMEOUT_S}
    answer = answers(dialect, streams=mode.startswith("stream"))[name]
    is_async = mode.endswith("async")

    def play(received: Received) -> Answer:
        if received.method == "POST":
            assert (received.path, received.headers["content-type"]) == (dialect.path, "application/json")
            return answer
        # Whether a silent server lives.
        return as_json({"error": "not here"}, status=404)

    in_memory = client_classes(interceptor=Played(play, None))[is_async]
    if name in SLOW:
        # The same time for the client as for its answers.
        clock = FakeClock()
        in_memory = client_classes(clock=clock.clock, interceptor=Played(play, clock))[is_async]
    found = asked(in_memory, config, mode)
    with WireServer(play) as server:
        config["providers"]["x"]["base_url"] = server.url + dialect.base
        over_socket = asked(AsyncLlamaClient if is_async else LlamaClient, config, mode)
    assert _plain(found, "127.0.0.1:1/") == _plain(over_socket, f"{server.url[7:]}/")


def _plain(outcome: object, host: str) -> str:
    """Without the address, and without what a busy machine leaves of a timeout."""
    return re.sub(r"within [\d.]+ s", "within the time", str(outcome).replace(host, "HOST/"))


@pytest.mark.parametrize("mode", MODES)
def test_pauses_take_the_time_of_a_fake_clock(mode: str) -> None:
    clock = FakeClock()
    answer = paced(OPENAI.good(streams=mode.startswith("stream")), 600.0, first_s=600.0)
    classes = client_classes(clock=clock.clock, interceptor=Played(lambda _: answer, clock))
    config = OPENAI.config("https://example.com", timeout_s=3600)
    config["routing"] |= {"first_content_s": 3600, "stall_s": 3600, "deadline_s": 3600}
    begun = clock.now
    outcome = asked_without_timeout(classes[mode.endswith("async")], config, mode)
    assert outcome == "Hello"
    assert clock.now - begun >= 600.0


def asked_without_timeout(client_class: Any, config: dict[str, Any], mode: str) -> str:
    streams = mode.startswith("stream")

    async def ask() -> str:
        async with client_class(config) as client:
            reply = await client.chat.completions.create(messages=MESSAGES, stream=streams)
            return "".join([chunk.text async for chunk in reply]) if streams else str(reply.text)

    if mode.endswith("async"):
        return asyncio.run(ask())
    with client_class(config) as client:
        reply = client.chat.completions.create(messages=MESSAGES, stream=streams)
        return "".join(chunk.text for chunk in reply) if streams else str(reply.text)
