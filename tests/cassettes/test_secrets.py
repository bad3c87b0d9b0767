"""No secret gets into a cassette, wherever a provider, a program or a model puts it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llama_client import LlamaClient
from llama_client.testing.cassettes import cassette
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, as_json, streamed, whole
from tests.cassettes.playing import both, no_sockets, plain
from tests.routing.asking import MODES, ask_all

KEY = "the-key-of-my-server-0123456789"
OTHER = 'gsk_"quoted"\\Zz0123456789'
FOREIGN = "sk-proj-AbCdEf0123456789AbCdEf"
PASSWORD = "signature-of-the-address"


def _config(url: str) -> dict[str, Any]:
    headers = {"X-Own": OTHER, "Cookie": f"a={PASSWORD}"}
    table = {"kind": "openai", "base_url": f"{url}/v1?sig={PASSWORD}", "api_key": KEY, "headers": headers}
    return {"default_model": "x/m", "providers": {"x": table}, "routing": {"retries": 0}}


HEADERS = {
    "set-cookie": f"session={KEY}",
    "openai-organization": "org-my-company",
    "x-account": "acct-77",
    "x-request-id": f"req-{KEY}",
    "x-ratelimit-limit-requests": KEY,
}


def _echoing(text: str, *, streams: bool) -> Answer:
    if not streams:
        return as_json(OPENAI.whole(text) | {"echo": {text: [text]}}, headers=HEADERS)
    return streamed([OPENAI.preamble(), OPENAI.text(text), *OPENAI.ending()], headers=HEADERS)


SAID = f"{KEY} {OTHER} {FOREIGN} {PASSWORD} Bearer {KEY}"
ANSWERS: dict[str, Any] = {
    "echo": lambda request: _echoing(SAID, streams=request.json.get("stream", False)),
    "error": lambda _: as_json({"error": {"message": f"wrong key {SAID}", "code": KEY}}, status=401, headers=HEADERS),
    "page": lambda _: whole(f"<p>{SAID}</p>".encode(), status=502, headers=HEADERS),
    "torn": lambda _: streamed(
        [OPENAI.preamble(), *[bytes([each]) for each in OPENAI.text(SAID)], *OPENAI.ending()], headers=HEADERS
    ),
    "cut": lambda _: streamed(
        [OPENAI.preamble(), OPENAI.text(KEY).partition(KEY[-8:].encode())[0]], "cut", headers=HEADERS
    ),
    "bit-by-bit": lambda _: streamed(
        [OPENAI.preamble(), *(OPENAI.text(SAID[at : at + 3]) for at in range(0, len(SAID), 3)), *OPENAI.ending()],
        headers=HEADERS,
    ),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("answer", ANSWERS)
def test_no_secret_is_written(answer: str, mode: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    own: dict[str, Any] = {
        "extra_headers": {"X-Trace": "trace-secret-123456"},
        "extra_body": {"token": f"a {KEY}", "n_keep": OTHER},
    }
    messages = [{"role": "user", "content": f"my keys are {SAID} trace-secret-123456"}]
    with WireServer(ANSWERS[answer]) as server:
        there = _config(server.url)
        recorded, replayed, _ = both(path, there, mode, messages=messages, **own)
        assert KEY in str(server.requests[0])
    assert_clean(path)
    # In an answer that echoes a secret, a mask stands for it.
    assert type(replayed[0]) is type(recorded[0])


def test_official_clients_leave_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    with WireServer(ANSWERS["echo"]) as server:
        table = {"kind": "groq", "base_url": server.url, "api_key": KEY, "headers": {"X-Own": OTHER}}
        there = {"providers": {"x": table}}
        messages: Any = [{"role": "user", "content": f"{SAID} {PASSWORD}"}]
        with cassette(path, "record"), LlamaClient(there) as client:
            client.sdk("x").chat.completions.create(
                model="m", messages=messages, extra_headers={"x-secret": PASSWORD}, extra_query={"key": KEY}
            )
    assert_clean(path)


def assert_clean(path: Path) -> None:
    written = path.read_bytes()
    text = written.decode("utf-8") + _joined(json.loads(written))
    quoted = json.dumps(OTHER)[1:-1]
    found = [
        each
        for each in (KEY, KEY[:14], OTHER, quoted, "Zz0123456789", FOREIGN, PASSWORD, "org-my-company")
        if each in text
    ]
    assert not found
    assert "trace-secret" not in text
    assert "acct-77" not in text
    assert "127.0.0.1" not in text


def _joined(content: Any) -> str:
    """What a reader of the streams would see."""
    lines = [line for each in content["exchanges"] for line in each["answer"].get("lines", ())]
    events = [line["data"] for line in lines if "data" in line]
    deltas = "".join(str(choice["delta"].get("content", "")) for each in events for choice in each.get("choices", ()))
    return deltas + "".join(line.get("text", "") for line in lines)


@pytest.mark.parametrize("mode", MODES)
def test_a_request_with_a_secret_is_found_again_without_it(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    with WireServer(lambda request: OPENAI.good(streams=request.json.get("stream", False))) as server:
        with cassette(path, "record"):
            recorded = ask_all(_config(server.url), mode, 1, extra_body={"token": f"a {KEY}"})
        there = _config(server.url)
    there["providers"]["x"]["api_key"] = "another-key-of-mine"
    with no_sockets(), cassette(path):
        replayed = ask_all(there, mode, 1, extra_body={"token": "a another-key-of-mine"})
    assert [plain(each) for each in replayed] == [plain(each) for each in recorded]


def test_a_word_that_stands_for_a_key_is_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "c.json"

    def answer(request: Received) -> Answer:
        return OPENAI.good(streams=False, text="ollama run")

    with WireServer(answer) as server:
        table = {"kind": "openai", "base_url": f"{server.url}/v1", "api_key": "ollama"}
        recorded, replayed, _ = both(path, {"default_model": "x/m", "providers": {"x": table}}, "call-sync")
    assert replayed == recorded


def _deltas(*deltas: dict[str, Any]) -> bytes:
    events = (OPENAI.event(OPENAI.whole() | {"object": "chat.completion.chunk", "choices": [each]}) for each in deltas)
    return b"".join([*events, *OPENAI.ending()])


def _bits(text: str) -> list[str]:
    return [text[at : at + 4] for at in range(0, len(text), 4)]


def _of_choice(number: int, text: str) -> dict[str, Any]:
    return {"index": number, "delta": {"content": text}, "finish_reason": None}


def _of_tool(number: int, text: str, **more: Any) -> dict[str, Any]:
    called = {"index": number, "function": {"arguments": text, **more}}
    if more:
        called |= {"id": f"call_{number}", "type": "function"}
    return {"index": 0, "delta": {"tool_calls": [called]}, "finish_reason": None}


STREAMS = {
    "text": _deltas(*(_of_choice(0, bit) for bit in _bits(SAID))),
    "choices": _deltas(*(_of_choice(n, bit if n else "hum ") for bit in _bits(SAID) for n in (0, 1))),
    "tools": _deltas(
        *(_of_tool(n, "", name="hum") for n in (0, 1)),
        *(_of_tool(n, bit if n else "la ") for bit in _bits(f"{KEY} {FOREIGN}") for n in (0, 1)),
    ),
}
STREAMS["named"] = STREAMS["text"].replace(b"data: ", b"event: delta\ndata: ")
STREAMS["crlf"] = STREAMS["text"].replace(b"\n", b"\r\n")


@pytest.mark.parametrize("size", [10, 200, 1460, 1 << 20])
@pytest.mark.parametrize("stream", STREAMS)
def test_no_secret_comes_bit_by_bit_wherever_the_network_cuts(stream: str, size: int, tmp_path: Path) -> None:
    path, sent = tmp_path / "c.json", STREAMS[stream]
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
    said = []
    with WireServer(lambda _: streamed(pieces)) as server:
        there = _config(server.url)
        for mode in ("record", "replay"):
            with cassette(path, "record" if mode == "record" else "replay"):
                [outcome] = ask_all(there, "stream-sync", 1, n=2 if stream == "choices" else None)
            said.append(json.dumps(outcome.to_openai()["choices"], ensure_ascii=False))
    assert_clean(path)
    assert FOREIGN in said[0]
    assert not [each for each in (KEY[:14], KEY[14:], FOREIGN[:14], FOREIGN[14:]) if each in said[1]]
    if stream == "choices":
        assert said[1].count("hum ") == said[0].count("hum ")
