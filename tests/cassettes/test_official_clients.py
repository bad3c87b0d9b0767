"""The official clients of `client.sdk`, recorded and replayed on the HTTPX client that they are given."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llama_client import AsyncLlamaClient, LlamaClient
from llama_client.testing.cassettes import UnrecordedRequestError, cassette
from llama_client.testing.dialects import GROQ, OPENAI, Dialect
from llama_client.testing.loopback import Answer, Received, WireServer, as_json, closed_port, gzipped, streamed
from tests.cassettes.playing import no_sockets

QUESTION: dict[str, Any] = {"model": "some/model", "messages": [{"role": "user", "content": "Hi"}]}


def _chat(dialect: Dialect, url: str, *, is_async: bool, **params: Any) -> Any:
    """One chat of the official client: its text, or its error."""
    if is_async:
        return asyncio.run(_achat(dialect, url, params))
    with LlamaClient(dialect.config(url, api_key="sk-official-1234567890")) as client:
        official = client.sdk("x").with_options(max_retries=0)
        try:
            answer = official.chat.completions.create(**QUESTION, **params)
            return "".join(_texts(chunk) for chunk in answer) if params.get("stream") else _whole(answer)
        except Exception as error:  # noqa: BLE001 - compared with the replay's
            return type(error).__name__, str(error)


async def _achat(dialect: Dialect, url: str, params: dict[str, Any]) -> Any:
    async with AsyncLlamaClient(dialect.config(url, api_key="sk-official-1234567890")) as client:
        official = client.sdk("x").with_options(max_retries=0)
        try:
            answer = await official.chat.completions.create(**QUESTION, **params)
            if params.get("stream"):
                return "".join([_texts(chunk) async for chunk in answer])
            return _whole(answer)
        except Exception as error:  # noqa: BLE001 - as above
            return type(error).__name__, str(error)


def _texts(chunk: Any) -> str:
    return "".join(choice.delta.content or "" for choice in chunk.choices)


def _whole(answer: Any) -> Any:
    return answer.model_dump()


ANSWERS: dict[str, Any] = {
    "good": lambda request: GROQ.good(streams=request.json.get("stream", False), text="Grüße 🦙"),
    "compressed": lambda _: gzipped(b'{"id": "c", "choices": []}', headers={"content-type": "application/json"}),
    "refused": lambda _: as_json({"error": {"message": "no"}}, status=403),
    "broken": lambda _: streamed([GROQ.preamble(), GROQ.text("Hel")], "cut"),
}


@pytest.mark.parametrize("streams", [False, True], ids=["call", "stream"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("dialect", [GROQ, OPENAI], ids=str)
def test_official_clients_are_replayed(
    dialect: Dialect, answer: str, is_async: bool, streams: bool, tmp_path: Path
) -> None:
    path = tmp_path / "c.json"
    with WireServer(ANSWERS[answer]) as server:
        url = server.url
        with cassette(path, "record"):
            recorded = _chat(dialect, url, is_async=is_async, stream=streams)
        assert server.requests
    with no_sockets(), cassette(path) as tape:
        replayed = _chat(dialect, url, is_async=is_async, stream=streams)
    assert replayed == recorded
    tape.assert_all_used()
    text = path.read_text("utf-8")
    assert "sk-official" not in text
    assert '"path": "chat/completions"' in text


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_server_that_is_not_there_is_replayed_to_official_clients(is_async: bool, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    with closed_port() as url:
        with cassette(path, "record"):
            recorded = _chat(OPENAI, url, is_async=is_async)
        with no_sockets(), cassette(path):
            assert _chat(OPENAI, url, is_async=is_async) == recorded
    # aiohttp's transport calls a refused connection a timeout.
    assert recorded[0] in ("APIConnectionError", "APITimeoutError")


def test_a_form_with_a_file_is_matched_whatever_its_boundary(tmp_path: Path) -> None:
    def told(request: Received) -> Answer:
        assert "multipart/form-data" in request.headers["content-type"]
        return as_json({"text": "hum"})

    def transcribed(url: str) -> str:
        with LlamaClient(GROQ.config(url, api_key="sk-official-1234567890")) as client:
            groq = client.sdk("x")
            text: str = groq.audio.transcriptions.create(file=("a.wav", b"\x00\xff" * 99), model="w").text
            return text

    path = tmp_path / "c.json"
    with WireServer(told) as server, cassette(path, "record"):
        assert transcribed(server.url) == "hum"
    with no_sockets(), cassette(path):
        assert transcribed("https://api.groq.com") == "hum"


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_refreshing_asks_anew_what_an_official_client_asks_otherwise(is_async: bool, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    with WireServer(ANSWERS["good"]) as server:
        for seed, asked in ((1, 1), (1, 1), (2, 2)):
            with cassette(path, "refresh"):
                assert "Grüße" in str(_chat(GROQ, server.url, is_async=is_async, seed=seed))
            assert len(server.requests) == asked
    with no_sockets(), pytest.raises(UnrecordedRequestError, match='"seed"'), cassette(path):
        _chat(GROQ, "http://127.0.0.1:9", is_async=is_async, seed=1)
