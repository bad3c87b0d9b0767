"""The stand-in of the examples answers as the servers that it plays: the official packages take it for these."""

from __future__ import annotations

import importlib.util
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import groq
import ollama
import openai
import pytest

from llama_client import LlamaClient, StreamInterruptedError

# The examples find it beside them; here it has to be loaded from its file.
_PLACE = Path(__file__).parents[2] / "examples" / "standin" / "server.py"
_SPEC: Any = importlib.util.spec_from_file_location("standin_of_the_examples", _PLACE)
STANDIN: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(STANDIN)
ASKED: Any = [{"role": "user", "content": "What is the capital of Japan?"}]


@pytest.fixture
def server() -> Iterator[str]:
    with STANDIN.serve() as url:
        yield url


def sdk(kind: str, url: str, key: str = "a-key") -> Any:
    if kind == "groq":
        return groq.Groq(api_key=key, base_url=url, max_retries=0)
    return openai.OpenAI(api_key=key, base_url=f"{url}/v1", max_retries=0)


each_sdk = pytest.mark.parametrize("kind", ["groq", "openai"])


@each_sdk
def test_an_official_client_gets_whole_answers_and_streams(kind: str, server: str) -> None:
    with sdk(kind, server) as client:
        whole = client.chat.completions.create(model="m", messages=ASKED)
        chunks = list(client.chat.completions.create(model="m", messages=ASKED, stream=True))
    assert whole.choices[0].message.content == STANDIN.ANSWER
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == STANDIN.ANSWER
    assert chunks[-1].choices[0].finish_reason == "stop"


@each_sdk
def test_an_official_client_hears_of_a_wrong_key_and_of_an_unknown_model(kind: str, server: str) -> None:
    package: Any = groq if kind == "groq" else openai
    with sdk(kind, server, STANDIN.WRONG_KEY) as client, pytest.raises(package.AuthenticationError):
        client.chat.completions.create(model="m", messages=ASKED)
    with sdk(kind, server) as client, pytest.raises(package.NotFoundError):
        client.chat.completions.create(model=STANDIN.UNKNOWN_MODEL, messages=ASKED)


def test_ollamas_client_gets_whole_answers_and_streams(server: str) -> None:
    with ollama.Client(server) as client:
        assert client.chat(model="m", messages=ASKED).message.content == STANDIN.ANSWER
        chunks = list(client.chat(model="m", messages=ASKED, stream=True))
    assert "".join(chunk.message.content or "" for chunk in chunks) == STANDIN.ANSWER
    assert chunks[-1].done_reason == "stop"


def test_a_stream_of_the_breaking_model_breaks(server: str) -> None:
    with LlamaClient.for_provider("groq", api_key="k", base_url=server) as client:
        stream = client.chat.completions.create(model=STANDIN.BREAKING_MODEL, messages=ASKED, stream=True)
        with pytest.raises(StreamInterruptedError) as caught:
            list(stream)
    assert caught.value.partial is not None
    assert STANDIN.ANSWER.startswith(caught.value.partial.text)


def _png(rows: list[bytes], width: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "rows",
    [
        [b"\0" + b"\xff\0\0" * 3] * 2,
        [b"\1" + b"\xff\0\0" + bytes(6)] * 2,
        [b"\0" + b"\xff\0\0" * 3, b"\2" + bytes(9)],
        [b"\3" + b"\xff\0\0" + b"\x80\0\0" * 2, b"\3" + b"\x80\0\0" + b"\0\0\0" * 2],
        [b"\4" + b"\xff\0\0" + bytes(6), b"\4" + bytes(9)],
    ],
    ids=["none", "sub", "up", "average", "paeth"],
)
def test_it_sees_a_picture_however_its_rows_were_predicted(rows: list[bytes]) -> None:
    assert STANDIN.seen(_png(rows, 3)) == "A picture of 3 x 2 pixels, most of it red."


def test_a_picture_that_is_none_is_refused_as_a_bad_request(server: str) -> None:
    broken = _png([b"\0" + b"\xff\0\0"], 1)[:-20]
    with ollama.Client(server) as client, pytest.raises(ollama.ResponseError) as caught:
        client.chat(model="m", messages=[{"role": "user", "content": "What?", "images": [broken]}])
    assert caught.value.status_code == 400


def test_a_client_that_resets_its_connection_is_passed_over_in_silence(
    server: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = set(threading.enumerate())
    with socket.create_connection(("127.0.0.1", int(server.rpartition(":")[2]))) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\n\r\n")
        assert connection.recv(1)
        # A reset, in the place of an ordinary end.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    for thread in set(threading.enumerate()) - before:
        thread.join()
    assert capfd.readouterr().err == ""
