"""What the limits of a job reach at servers of many kinds, in a time of their own: the whole table.

python -m tests.bulk.limits_table
"""

from __future__ import annotations

import math

from llama_client.bulk.limits import AdaptiveLimits
from llama_client.errors import OverloadedError, RateLimitError
from tests.bulk.simulated import TARGET, Bucket, Capacity, Places, Server, Window, simulate

TELLS = {"rounded up": lambda s: max(1.0, float(math.ceil(s))), "exact": lambda s: s, "absent": lambda s: None}


def capacity(name: str, server: Capacity, *, best: float, since: float = 0.0, seconds: float = 60.0) -> None:
    """A line: how much of the best rate was reached."""
    limits = AdaptiveLimits()
    outcome = simulate(limits, server, seconds=seconds)
    share = outcome.rate(since, seconds) / best
    print(f"{name:50} {share:6.3f} of the best, limit {limits.limit(TARGET)}, most {outcome.most_in_flight}")


def permitted(name: str, server: Bucket | Window | Places, rate: float, seconds: float = 300.0) -> None:
    """A line: how much of the permitted rate was reached, and how many were refused."""
    outcome = simulate(AdaptiveLimits(), server, seconds=seconds)
    answered = len(outcome.answers)
    share = outcome.rate(0.0, seconds) / rate
    print(f"{name:50} {share:6.3f} of the permitted, {100 * server.refused / answered:6.2f} refused in 100 answered")


def all_rows(server: Server, rows: int) -> None:
    outcome = simulate(AdaptiveLimits(), server, rows=rows)
    print(f"{rows} rows of 100 ms without limits: {outcome.ended_at:.2f} s")


def main() -> None:
    """All of it."""
    all_rows(Capacity(10**6, 0.1), 256)
    for slots in (1, 2, 4, 16, 30, 64, 100, 200):
        for spread in (0.0, 0.5, 1.0):
            capacity(f"{slots} slots, times vary {spread}", Capacity(slots, 0.5, spread), best=2.0 * slots)
    for fails in (0.1, 0.3):
        capacity(f"64 slots, {fails} fail", Capacity(64, 0.5, 0.5, fails), best=128.0)
    for then in (32, 128):
        changed = Capacity(64, 0.5, 0.3, changes_at=60.0, then=then)
        capacity(f"64 slots, {then} after 60 s, 20 s later", changed, best=2.0 * then, since=80.0, seconds=120.0)
    for rate in (0.5, 5.0, 50.0, 200.0):
        for burst in sorted({1.0, 5.0, max(1.0, rate), 10 * rate}):
            for how, tells in TELLS.items():
                permitted(f"{rate:g}/s, burst {burst:g}, Retry-After {how}", Bucket(rate, burst, tells=tells), rate)
    for admits, window_s in ((30, 60.0), (1000, 60.0), (10, 1.0), (100, 10.0)):
        permitted(f"{admits} in {window_s:g} s", Window(admits, window_s), admits / window_s)
    for places, takes_s in ((8, 0.5), (64, 1.0)):
        for status in (OverloadedError, RateLimitError):
            for retry_after_s in (None, 1.0):
                name = f"{places} places, {status.__name__}, Retry-After {retry_after_s}"
                permitted(name, Places(places, takes_s, status, retry_after_s), places / takes_s)


if __name__ == "__main__":
    main()
