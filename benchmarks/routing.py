"""What failover costs, against loopback servers in processes of their own: medians of interleaved calls, and ratios.

First a call through a route of two targets beside the same call without one (`for_provider`), as a whole call and as a
stream. Then what a dead first target costs: the calls until its breaker opens, and a call after that beside one on a
route without the dead target.

    python benchmarks/routing.py [--rounds 400]
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_client import LlamaClient

MESSAGES = [{"role": "user", "content": "Why do llamas hum?"}]


def configuration(url: str, dead_url: str) -> dict[str, Any]:
    """One server that answers under two names, and one that is dead; a route for each case."""
    kind = {"kind": "openai"}
    providers = {
        "one": {**kind, "base_url": f"{url}/v1"},
        "two": {**kind, "base_url": f"{url}/v1"},
        "dead": {**kind, "base_url": f"{dead_url}/v1"},
    }
    policies = ("ordered", "cheapest", "fastest", "weighted")
    routes: dict[str, Any] = {name: {"targets": ["one/m", "two/m"], "policy": name} for name in policies}
    routes["dead first"] = {"targets": ["dead/m", "one/m"]}
    prices = [
        {"target": f"{name}/m", "input_usd_per_mtok": price, "output_usd_per_mtok": price}
        for name, price in (("one", 0.1), ("two", 0.2))
    ]
    # Longer than the measurement: what a trial of the dead target costs is shown by itself.
    routing = {"breaker_cooldown_s": 3600.0}
    return {"providers": providers, "routes": routes, "prices": prices, "routing": routing}


def interleaved(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """How long each way takes, all in turn, after a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 20):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if turn >= 20:
                times[name].append(time.perf_counter() - started)
    return times


def report(title: str, times_s: dict[str, list[float]]) -> None:
    """The medians, and what each is more than the first."""
    medians = {name: statistics.median(values) * 1e6 for name, values in times_s.items()}
    first = next(iter(medians.values()))
    print(title)
    for name, median in medians.items():
        print(f"  {name:26} {median:9.1f} us  {median / first:5.2f} x  {median - first:+8.1f} us")


def measure(url: str, dead_url: str, rounds: int) -> None:
    """All of it."""
    alone = LlamaClient.for_provider("openai", base_url=f"{url}/v1")
    client = LlamaClient(configuration(url, dead_url))

    def call(to: LlamaClient, model: str) -> Callable[[], object]:
        return lambda: to.chat.completions.create(model=model, messages=MESSAGES)

    def stream(to: LlamaClient, model: str) -> Callable[[], object]:
        return lambda: list(to.chat.completions.create(model=model, messages=MESSAGES, stream=True))

    names = ("ordered", "cheapest", "fastest", "weighted")
    whole = {"without a route": call(alone, "m")} | {f"route, {name}": call(client, name) for name in names}
    report("a whole call", interleaved(whole, rounds))
    streams = {"without a route": stream(alone, "m"), "route, ordered": stream(client, "ordered")}
    report("a stream of 500 chunks", interleaved(streams, max(rounds // 10, 10)))

    print("a dead first target")
    for number in range(5):
        started = time.perf_counter()
        reply = client.chat.completions.create(model="dead first", messages=MESSAGES)
        tried = [f"{attempt.target} {attempt.outcome}" for attempt in reply.attempts]
        print(f"  call {number + 1}: {(time.perf_counter() - started) * 1e3:6.2f} ms ({', '.join(tried)})")
    both = {"without the dead target": call(client, "ordered"), "after its breaker opened": call(client, "dead first")}
    report("a call once that is known", interleaved(both, rounds))
    client.close()
    alone.close()


def main() -> None:
    """Measures, with the server in a child."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=400)
    arguments = parser.parse_args()
    server = Path(__file__).with_name("http_calls.py")
    child = subprocess.Popen([sys.executable, str(server), "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        url = f"http://127.0.0.1:{int(child.stdout.readline())}"
        with socket.socket() as taken:
            # Bound and not listening: connections are refused.
            taken.bind(("127.0.0.1", 0))
            measure(url, f"http://127.0.0.1:{taken.getsockname()[1]}", arguments.rounds)
    finally:
        child.kill()
        child.wait()


if __name__ == "__main__":
    main()
