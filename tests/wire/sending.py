"""What our code sends, caught before it leaves the process."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import respx

from llama_client import ChatCompletion, UnsupportedFeatureError
from llama_client.providers.http import async_wire, sync_wire
from llama_client.providers.http.http1 import RequestHeads
from llama_client.testing.dialects import DIALECTS, Dialect
from llama_client.testing.wire_format import JSON
from tests.asking import Asker

KEY = "sk-test-secret-1234567890"
MODEL = "some/model"
PROMPT = "Why do llamas hum?"
MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": PROMPT}]
PNG = b"\x89PNG\r\n\x1a\n and the rest of an image"
DATA_URI = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
IMAGE_URL = "https://images.test/llama.png"
_VARIABLES = ("GROQ_", "TOGETHER_", "OPENAI_", "OLLAMA_")


def forget_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes away what the machine's own environment says of providers and proxies."""
    for name in list(os.environ):
        if name.startswith(_VARIABLES) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@dataclass(frozen=True)
class Kind:
    """A kind of provider at its usual address.

    Attributes:
        dialect: How it talks.
        url: Where it takes chats.
        table: Its table in the configuration.
    """

    dialect: Dialect
    url: str
    table: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.dialect.kind

    @property
    def target(self) -> str:
        return f"{self}/{MODEL}"


_OF_NAME = {dialect.kind: dialect for dialect in DIALECTS}
GROQ = Kind(_OF_NAME["groq"], "https://api.groq.com/openai/v1/chat/completions", {"api_key": KEY})
TOGETHER = Kind(_OF_NAME["together"], "https://api.together.ai/v1/chat/completions", {"api_key": KEY})
OPENAI = Kind(
    _OF_NAME["openai"], "https://llm.test/v1/chat/completions", {"api_key": KEY, "base_url": "https://llm.test/v1"}
)
OLLAMA = Kind(_OF_NAME["ollama"], "http://127.0.0.1:11434/api/chat")
KINDS = [GROQ, TOGETHER, OPENAI, OLLAMA]
OPENAI_LIKE = [GROQ, TOGETHER, OPENAI]


@dataclass(frozen=True)
class Outcome:
    """What was sent, in order, and what came of it."""

    requests: list[httpx.Request]
    reply: ChatCompletion

    @property
    def sent(self) -> httpx.Request:
        """The only chat."""
        (request,) = (request for request in self.requests if request.method == "POST")
        return request

    @property
    def body(self) -> Any:
        return json.loads(self.sent.content)


@contextmanager
def caught(*, assert_all_called: bool = False) -> Iterator[respx.MockRouter]:
    """Answers requests before they leave the process, on each wire."""
    with (
        respx.mock(using="httpx", assert_all_called=assert_all_called) as router,
        pytest.MonkeyPatch.context() as patch,
    ):

        def send(endpoint: sync_wire.WireEndpoint, *request: Any) -> _Answered:
            return _Answered(router.handler(_as_httpx(endpoint.heads, *request)))

        async def asend(endpoint: async_wire.AsyncWireEndpoint, *request: Any) -> _Answered:
            return _Answered(await router.async_handler(_as_httpx(endpoint.heads, *request)))

        patch.setattr(sync_wire.WireEndpoint, "send", send)
        patch.setattr(async_wire.AsyncWireEndpoint, "send", asend)
        yield router


def _as_httpx(
    heads: RequestHeads, method: str, path: str, body: bytes, headers: Mapping[str, str], _: object
) -> httpx.Request:
    """The request as HTTPX would have it, read from the bytes of its head."""
    line, *lines = heads.head(method, path, headers).content.decode().splitlines()
    origin = heads.origin
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    url = f"{origin.scheme}://{host}:{origin.port}{line.split()[1]}"
    pairs = [(name, value) for name, _, value in (each.partition(": ") for each in lines)]
    return httpx.Request(line.split()[0], url, headers=pairs, content=body)


class _Answered:
    """A mocked answer, as the wires give it."""

    follows_waits = True

    def __init__(self, response: httpx.Response) -> None:
        self.status, self.headers = response.status_code, dict(response.headers)
        self._body = response.content

    def pieces(self) -> Any:
        return _Pieces([self._body])

    def close(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


class _Pieces:
    """For both kinds of loops."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._left = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._left)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._left:
            yield piece


def _answers(router: respx.MockRouter, kind: Kind, message: Mapping[str, Any] | None) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        dialect = kind.dialect
        if json.loads(request.content).get("stream"):
            events = [dialect.preamble(), dialect.text("Hello"), *dialect.ending()]
            return httpx.Response(200, headers=dialect.stream_headers, content=b"".join(events))
        body = dialect.whole()
        if message is not None:
            (body if dialect.is_ndjson else body["choices"][0])["message"] = dict(message)
        return httpx.Response(200, headers=JSON, content=json.dumps(body))

    router.post(kind.url).mock(side_effect=answer)


def send(
    kind: Kind,
    mode: str = "call-sync",
    messages: Any = PROMPT,
    *,
    table: Mapping[str, Any] | None = None,
    message: Mapping[str, Any] | None = None,
    **params: Any,
) -> Outcome:
    """Asks once; `message` is what the answer's message is in the provider's own shape."""
    with caught() as router:
        _answers(router, kind, message)
        router.get(IMAGE_URL).respond(content=PNG, headers={"content-type": "image/png"})
        config = {"providers": {str(kind): {**kind.table, **(table or {})}}}
        reply = Asker(mode, config, [])(messages, model=kind.target, **params)
        return Outcome([call.request for call in router.calls], reply)


def refuse(kind: Kind, mode: str, messages: Any = PROMPT, **params: Any) -> UnsupportedFeatureError:
    """The error of a call that the provider cannot honour; that anything was sent fails the test."""
    with caught() as router:
        router.route()
        with pytest.raises(UnsupportedFeatureError) as refused:
            Asker(mode, {"providers": {str(kind): kind.table}}, [])(messages, model=kind.target, **params)
        assert not router.calls
    return refused.value


def try_in_order(kinds: list[Kind], mode: str, messages: Any = PROMPT, **params: Any) -> Outcome:
    """Asks a list of targets."""
    with caught() as router:
        for kind in kinds:
            _answers(router, kind, None)
        config = {"providers": {str(kind): kind.table for kind in kinds}}
        reply = Asker(mode, config, [])(messages, model=[kind.target for kind in kinds], **params)
        return Outcome([call.request for call in router.calls], reply)
