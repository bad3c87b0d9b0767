#!/usr/bin/env bash
# respx 0.23.1 and openai 3.57.0: the official client's requests pass a mock of its address, and are really sent.
#
# Since openai moved from httpx to httpx2, respx, which patches httpx's transports, sees nothing of it: no error says so, and
# with `assert_all_called=False` a test passes against the real server. groq 1.7.0, which is on httpx, is mocked by the very
# same lines. A suite that mocks both clients' addresses so is offline for one of them alone.
#
# Seen: openai: answered by the server, 1 request there; groq: answered by the mock, 0 requests there.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "respx==0.23.1" "openai==3.57.0" "groq==1.7.0"
"$work/venv/bin/python" - <<'PY'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import groq
import httpx
import openai
import respx


def answer(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


class Handler(BaseHTTPRequestHandler):
    count = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        type(self).count += 1
        body = json.dumps(answer("the server")).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    found = {}
    for kind in (openai.OpenAI, groq.Groq):
        Handler.count = 0
        with respx.mock(assert_all_called=False) as mock, kind(api_key="none", base_url=url, max_retries=0) as client:
            mock.post(url__startswith=url).mock(return_value=httpx.Response(200, json=answer("the mock")))
            reply = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        found[kind.__name__] = text, requests = reply.choices[0].message.content, Handler.count
        print(f"{kind.__name__}: answered by {text}, {requests} requests there")
    server.shutdown()
assert found["OpenAI"] == ("the server", 1), "openai is mocked now"
assert found["Groq"] == ("the mock", 0), "groq is not mocked any more"
PY
