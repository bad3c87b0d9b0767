#!/usr/bin/env bash
# thinkbudget 0.1.0: each request is charged the rent of the whole GPU for its time, however many run on it at once.
#
# The cost of a request is its duration times the GPU's price an hour. A server such as vLLM serves many requests at once on one
# GPU, so eight that take a second together cost eight GPU seconds, though one second of one GPU is paid. Its own limit of
# dollars an hour is used up as much sooner, and requests are refused with 429.
#
# Seen, with requests of two seconds: 8 in turn: 15.6 s of a GPU charged in 16.4 s; 8 at once: 17.0 s charged in 2.2 s.
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

TAKES_S, REQUESTS, USD_PER_S = 2, 8, 0.01


class Server(BaseHTTPRequestHandler):
    """Answers any number of requests at once, each in two seconds."""

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
    """Seconds of a GPU that the proxy charges, and those that went by."""
    app = create_app(ProxyConfig(backend_url=backend, budget=BudgetConfig(gpu_cost_per_hour=USD_PER_S * 3600)))
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
        return (await client.get("/api/stats")).json()["total_cost"] / USD_PER_S, took_s


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
backend = f"http://127.0.0.1:{server.server_port}"
found = {at_once: asyncio.run(charged(backend, at_once=at_once)) for at_once in (False, True)}
for at_once, (charged_s, took_s) in found.items():
    print(f"{REQUESTS} requests {'at once' if at_once else 'in turn'}: {charged_s:.1f} s of a GPU charged in {took_s:.1f} s")
(in_turn_s, of_turn_s), (at_once_s, of_once_s) = found[False], found[True]
assert 0.7 * of_turn_s < in_turn_s <= of_turn_s, "requests in turn are charged something else than the time that went by"
assert at_once_s > 2 * of_once_s, "requests at once share the GPU now"
PY
