"""A loopback server that speaks the wire of Groq, Together, Ollama and any OpenAI-compatible server, and knows one
answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER = "The capital of Japan is Tokyo."


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    outage: threading.Event | None = None

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        message = {"role": "assistant", "content": ANSWER}
        answer: dict[str, Any] = {"model": asked["model"], "message": message, "done": True, "done_reason": "stop"}
        if self.path != "/api/chat":
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 14, "completion_tokens": 8, "total_tokens": 22}
            answer = {"id": "1", "created": 1, "model": asked["model"], "choices": [choice], "usage": usage}
        is_down = self.outage is not None and self.outage.is_set()
        body = json.dumps({"error": {"message": "We are down."}} if is_down else answer).encode()
        self.send_response(500 if is_down else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Says nothing: the examples' own output is what counts."""


@contextmanager
def standin(outage: threading.Event | None = None) -> Iterator[str]:
    """The address of a running stand-in, which is down while `outage` is set."""
    handler = type("_HandlerWithOutage", (_Handler,), {"outage": outage})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
