#!/usr/bin/env bash
# thinkbudget 0.1.0: each request is charged the rent of the whole GPU for its time, however many run on it at once.
#
# The cost of a request is its duration times the GPU's price an hour. A server such as vLLM serves many requests at once on one
# GPU, so eight that take a second together cost eight GPU seconds, though one second of one GPU is paid. Its own limit of
# dollars an hour is used up as much sooner, and requests are refused with 429.
#
# Seen: 8 requests one after the other: $N for N s of GPU; 8 at once: $N for N s.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "thinkbudget==0.1.0"
"$work/venv/bin/python" - <<'PY'
import asyncio
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from thinkbudget.models import BudgetConfig, ProxyConfig
from thinkbudget.proxy import create_app

TAKES_S, REQUESTS = 0.5, 8


class Server(BaseHTTPRequestHandler):
    """Answers any number of requests at once, each in half a second."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(TAKES_S)
        message = {"role": "assistant", "content": "4"}
        body = json.dumps({"choices": [{"message": message}], "usage": {"prompt_tokens": 9, "completion_tokens": 1}})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


async def charged(backend: str, *, at_once: bool) -> tuple[float, float]:
    """Dollars that the proxy counts, and seconds that went by."""
    # A dollar a second.
    app = create_app(ProxyConfig(backend_url=backend, budget=BudgetConfig(gpu_cost_per_hour=3600)))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://proxy", trust_env=False) as client:
        began = time.perf_counter()

        async def ask() -> None:
            sent = {"model": "m", "messages": [{"role": "user", "content": "2 + 2?"}]}
            (await client.post("/v1/chat/completions", json=sent, timeout=30)).raise_for_status()

        if at_once:
            await asyncio.gather(*(ask() for _ in range(REQUESTS)))
        else:
            for _ in range(REQUESTS):
                await ask()
        took_s = time.perf_counter() - began
        return (await client.get("/api/stats")).json()["total_cost"], took_s


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
backend = f"http://127.0.0.1:{server.server_port}"
found = {at_once: asyncio.run(charged(backend, at_once=at_once)) for at_once in (False, True)}
for at_once, (usd, took_s) in found.items():
    print(f"{REQUESTS} requests {'at once' if at_once else 'in turn'}: ${usd:.2f} for {took_s:.2f} s of a GPU at $1 a second")
(in_turn, in_turn_s), (at_once, at_once_s) = found[False], found[True]
assert abs(in_turn / in_turn_s - 1) < 0.2, "requests in turn cost something else than the GPU does"
assert at_once / at_once_s > REQUESTS / 2, "requests at once share the GPU's rent now"
PY
