#!/usr/bin/env bash
# vcrpy 9.4.2 with groq 1.7.0 (httpx 0.28.1): while a cassette records, a stream arrives whole or not at all.
#
# A server sends three events of a stream, a third of a second apart, and then either ends it or drops the connection. Without a
# cassette the reader gets each event as it comes, and of the dropped stream three events and then an error. Under
# `use_cassette` the first event comes only after the last one was sent; of the dropped stream the reader gets no event, another
# error, and the cassette stays empty: neither the break nor what came before it can be replayed. A test of what an app does
# with a broken stream cannot be recorded so.
#
# Seen: alone: 3 events, first after 0.1 s, RemoteProtocolError; recording: 0 events, APIConnectionError, 0 requests recorded;
# recording a stream that ends: 3 events, first after 0.7 s.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "vcrpy==9.4.2" "groq==1.7.0" "httpx==0.28.1"
"$work/venv/bin/python" - "$work/cassettes" <<'PY'
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import groq
import vcr


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for word in ("one", "two", "three"):
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            self.say({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})
            time.sleep(0.35 if word != "three" else 0)
        if asked["model"] == "dropped":
            self.close_connection = True
        else:
            self.wfile.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    def say(self, event: dict[str, Any]) -> None:
        data = f"data: {json.dumps(event)}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


def read(url: str, model: str) -> tuple[int, float, str]:
    """The events, the seconds until the first one, and the error."""
    begun, count, first_s = time.monotonic(), 0, 0.0
    client = groq.Groq(api_key="none", base_url=url, max_retries=0)
    try:
        for _ in client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}], stream=True):
            first_s = first_s if count else time.monotonic() - begun
            count += 1
    except Exception as error:
        return count, first_s, type(error).__name__
    return count, first_s, "no error"


with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    found = {}
    for model in ("whole", "dropped"):
        found[model, "alone"] = read(url, model)
        with vcr.use_cassette(f"{sys.argv[1]}/{model}.yaml", record_mode="once") as cassette:
            found[model, "recording"] = read(url, model)
        print(model, "recorded requests:", len(cassette))
    server.shutdown()
for case, (count, first_s, error) in found.items():
    print(*case, f"{count} events, first after {first_s:.1f} s, {error}")
assert found["dropped", "alone"][0] == 3, "the reader gets nothing without a cassette either"
assert (found["dropped", "recording"][0], len(cassette)) == (0, 0), "a stream that breaks off is recorded now"
assert found["dropped", "alone"][2] != found["dropped", "recording"][2], "the error is the same now"
assert found["whole", "alone"][1] < 0.3 < found["whole", "recording"][1], "events come in time while recording now"
PY
