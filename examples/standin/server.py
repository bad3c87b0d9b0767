"""A loopback server that plays Groq, Together, Ollama or any OpenAI-compatible server, and a model that knows little.

It knows two capitals, reads numbers and names out of a question for the tools that the question speaks of, and sees how
large a PNG is and which colour most of it has. It is no model: it shows programs that need one at work without keys.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER = "The capital of Japan is Tokyo."
ANSWERS = {"Japan": ANSWER, "Germany": "The capital city of Germany is Berlin."}
USAGE = {"prompt_tokens": 14, "completion_tokens": 8, "total_tokens": 22}
MODELS = ("openai/gpt-oss-20b", "llama3.1:8b")
# What it refuses, and how: a key, and models with these names.
WRONG_KEY = "wrong-key"
UNKNOWN_MODEL = "no-such-model"
BUSY_MODEL = "busy-model"
# A model whose server breaks down in the middle of a stream.
BREAKING_MODEL = "breaking-model"

_COLOURS = {
    "red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0),
    "white": (255, 255, 255), "grey": (128, 128, 128), "black": (0, 0, 0),
}  # fmt: skip
_WORD = re.compile(r"\s*\S+")
_CHANNELS = {2: 3, 6: 4}  # by PNG's colour type: with 8 bits each

Json = dict[str, Any]


def seen(png: bytes) -> str:
    """What a PNG holds: its size, and the named colour that is nearest to most of its pixels."""
    chunks: list[tuple[bytes, bytes]] = []
    place = 8
    while place < len(png):
        size, kind = struct.unpack_from(">I4s", png, place)
        chunks.append((kind, png[place + 8 : place + 8 + size]))
        place += size + 12
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", dict(chunks)[b"IHDR"])
    if depth != 8 or colour not in _CHANNELS or interlaced:
        return f"A picture of {width} x {height} pixels."
    data = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    channels, names = _CHANNELS[colour], Counter[str]()
    above = bytes(width * channels)
    for row in range(height):
        start = row * (width * channels + 1)
        above = _unfiltered(data[start], data[start + 1 : start + 1 + width * channels], above, channels)
        for x in range(0, len(above), channels):
            names[_nearest(above[x : x + 3])] += 1
    return f"A picture of {width} x {height} pixels, most of it {names.most_common(1)[0][0]}."


def _nearest(rgb: bytes) -> str:
    return min(_COLOURS, key=lambda name: sum((a - b) ** 2 for a, b in zip(rgb, _COLOURS[name], strict=True)))


def _unfiltered(kind: int, row: bytes, above: bytes, channels: int) -> bytes:
    """A row of a PNG without the prediction that it was stored with."""
    pixels = bytearray(row)
    for i in range(len(pixels)):
        left = pixels[i - channels] if i >= channels else 0
        corner = above[i - channels] if i >= channels else 0
        up, guess = above[i], left + above[i] - corner
        paeth = min((left, up, corner), key=lambda value: abs(guess - value))
        pixels[i] = (pixels[i] + (0, left, up, (left + up) // 2, paeth)[kind]) % 256
    return bytes(pixels)


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def _pictures(messages: list[Json]) -> list[bytes]:
    """The pictures of a conversation, as OpenAI's content parts or as Ollama's `images`."""
    found: list[str] = []
    for message in messages:
        parts = content if isinstance(content := message.get("content"), list) else []
        found += [part["image_url"]["url"].partition(",")[2] for part in parts if part["type"] == "image_url"]
        found += message.get("images") or []
    return [base64.b64decode(picture) for picture in found]


def _arguments(schema: Mapping[str, Any], name: str, question: str, *, strict: bool) -> Json:
    """Arguments for a tool, read out of the question: as it says them, or (strict) as the schema allows."""
    number = re.search(r"\d+", question)
    arguments: Json = {}
    for key, kind in schema.get("properties", {}).items():
        if kind.get("type") in ("integer", "number") and number is not None:
            said = int(number.group())
            arguments[key] = min(said, kind.get("maximum", said)) if strict else said
        elif kind.get("type") == "string" and name:
            arguments[key] = name
    return arguments


def tool_calls(asked: Json) -> list[tuple[str, Json]]:
    """The tools that the last message wants called: those that it names, once for each proper name in it.

    After a tool's message that begins with "error" they are called again, within what their schema allows.
    """
    messages, tools, choice = asked["messages"], asked.get("tools") or [], asked.get("tool_choice", "auto")
    last = messages[-1]
    corrects = last["role"] == "tool" and _text(last).lower().startswith("error")
    if not tools or choice == "none" or not (last["role"] == "user" or corrects):
        return []
    question = next(_text(message) for message in reversed(messages) if message["role"] == "user")
    functions = [tool["function"] for tool in tools]
    wanted = [f for f in functions if any(word in question.lower() for word in f["name"].lower().split("_"))]
    if isinstance(choice, dict):
        wanted = [f for f in functions if f["name"] == choice["function"]["name"]]
    elif choice == "required":
        wanted = wanted or functions[:1]
    names = re.findall(r"(?<=\w )[A-Z][a-z]+", question) or [""]
    calls = [
        (f["name"], _arguments(f.get("parameters") or {}, name, question, strict=corrects))
        for f in wanted
        for name in names
    ]
    return calls[:1] if asked.get("parallel_tool_calls") is False else calls


def said(asked: Json) -> str | None:
    """The text of the answer; None: there is a picture that is none."""
    messages = asked["messages"]
    if messages[-1]["role"] == "tool":
        results = [_text(message) for message in messages if message["role"] == "tool"]
        return " ".join(result for result in results if not result.lower().startswith("error"))
    pictures = _pictures(messages)
    if pictures:
        with suppress(zlib.error, struct.error, LookupError):
            return " ".join(seen(picture) for picture in pictures)
        return None
    question = next((_text(message) for message in reversed(messages) if message["role"] == "user"), "")
    schema = asked.get("format") or asked.get("response_format", {}).get("json_schema", {}).get("schema")
    text = next((answer for name, answer in ANSWERS.items() if name in question), ANSWER)
    if isinstance(schema, dict):
        # Held to a schema it fills each field with the only name that it knows.
        return json.dumps(dict.fromkeys(schema.get("properties", {}), text.split()[-1].rstrip(".")))
    return text


class _OpenAIWire:
    """How OpenAI-compatible servers write an answer."""

    content_type, end = "text/event-stream", b"data: [DONE]\n\n"

    def __init__(self, asked: Json, *, is_groq: bool) -> None:
        self._head = {"id": "chatcmpl-1", "created": 1_767_225_600, "model": asked["model"]}
        self._streams_usage = (asked.get("stream_options") or {}).get("include_usage")
        # Groq sends it unasked, in a field of its own.
        self._last = {"x_groq": {"id": "req_1", "usage": USAGE}} if is_groq else {}

    def _calls(self, calls: list[tuple[str, Json]]) -> list[Json]:
        return [
            {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for i, (name, arguments) in enumerate(calls)
        ]

    def whole(self, text: str, calls: list[tuple[str, Json]]) -> Json:
        message: Json = {"role": "assistant", "content": None if calls else text}
        if calls:
            message["tool_calls"] = self._calls(calls)
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": USAGE}

    def pieces(self, text: str, calls: list[tuple[str, Json]]) -> Iterator[bytes]:
        """The same in a stream."""
        yield self._event({"role": "assistant", "content": None if calls else ""})
        for i, call in enumerate(self._calls(calls)):
            yield self._event({"tool_calls": [{"index": i, **call}]})
        for word in () if calls else _WORD.findall(text):
            yield self._event({"content": word})
        yield self._event({}, "tool_calls" if calls else "stop", **self._last)
        if self._streams_usage:
            yield self._sse({**self._head, "object": "chat.completion.chunk", "choices": [], "usage": USAGE})

    def _event(self, delta: Json, finish: str | None = None, **more: Json) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return self._sse({**self._head, "object": "chat.completion.chunk", "choices": [choice], **more})

    def _sse(self, body: Json) -> bytes:
        return b"data: " + json.dumps(body).encode() + b"\n\n"

    def error(self, message: str, code: str) -> Json:
        return {"error": {"message": message, "type": "invalid_request_error", "code": code}}


class _OllamaWire:
    """How Ollama's own API writes an answer."""

    content_type, end = "application/x-ndjson", b""

    def __init__(self, asked: Json) -> None:
        self._head = {"model": asked["model"], "created_at": "2026-01-01T00:00:00Z"}

    def _line(self, text: str, calls: list[tuple[str, Json]], **more: Any) -> Json:
        message: Json = {"role": "assistant", "content": text}
        if calls:
            message["tool_calls"] = [{"function": {"name": name, "arguments": given}} for name, given in calls]
        return {**self._head, "message": message, "done": False} | more

    def whole(self, text: str, calls: list[tuple[str, Json]]) -> Json:
        counts = {"prompt_eval_count": 14, "eval_count": 8, "total_duration": 50_000_000, "eval_duration": 40_000_000}
        return self._line("" if calls else text, calls, done=True, done_reason="stop", **counts)

    def pieces(self, text: str, calls: list[tuple[str, Json]]) -> Iterator[bytes]:
        """The same in a stream."""
        lines = [self._line("", calls)] if calls else [self._line(word, []) for word in _WORD.findall(text)]
        for line in (*lines, self.whole("", [])):
            yield json.dumps(line).encode() + b"\n"

    def error(self, message: str, code: str) -> Json:
        return {"error": message}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    outage: threading.Event | None = None

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client may disconnect
            super().handle()

    def do_GET(self) -> None:
        # Models are listed under the ids of their own service.
        rows = [{"id": name, "model": name, "name": name, "object": "model", "created": 1} for name in MODELS]
        self._send(200, {"object": "list", "data": rows, "models": rows[1:], "version": "0.0.0"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        is_ollama = self.path == "/api/chat"
        wire = _OllamaWire(asked) if is_ollama else _OpenAIWire(asked, is_groq=self.path.startswith("/openai/"))
        refusal = self._refusal(asked["model"])
        if refusal is not None:
            status, message, code = refusal
            self._send(status, wire.error(message, code))
        elif (text := said(asked)) is None:
            self._send(400, wire.error("That is no picture.", "invalid_image"))
        elif asked.get("stream", is_ollama):  # Ollama streams unless `stream` is false
            pieces = [*wire.pieces(text, tool_calls(asked)), wire.end]
            self._stream(wire.content_type, pieces, breaks=asked["model"] == BREAKING_MODEL)
        else:
            self._send(200, wire.whole(text, tool_calls(asked)))

    def _refusal(self, model: str) -> tuple[int, str, str] | None:
        """The status, message and code of a request that is refused."""
        if self.outage is not None and self.outage.is_set():
            return 500, "We are down.", "internal_error"
        if self.headers.get("authorization") == f"Bearer {WRONG_KEY}":
            return 401, "Invalid API Key", "invalid_api_key"
        return {
            UNKNOWN_MODEL: (404, f"model '{model}' not found", "model_not_found"),
            BUSY_MODEL: (429, "Rate limit reached", "rate_limit_exceeded"),
        }.get(model)

    def _send(self, status: int, answer: Json) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if status == 429:
            self.send_header("retry-after", "30")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, content_type: str, pieces: list[bytes], *, breaks: bool) -> None:
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in pieces[: len(pieces) // 2] if breaks else filter(None, pieces):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.close_connection = breaks
        self.wfile.write(b"" if breaks else b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Says nothing: the examples' own output is what counts."""


@contextmanager
def serve(outage: threading.Event | None = None) -> Iterator[str]:
    """The address of a running stand-in, which is down while `outage` is set."""
    handler = type("_HandlerWithOutage", (_Handler,), {"outage": outage})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
