"""Fuzzes every kind of input from outside: `python -m tests.fuzz --seconds 60`.

Each target gets an equal share of the time, two at once. Prints executions and time of each, and for each fault its
shortest input; exits 1 where there is a fault.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.fuzz.engines import Engine, default_engine
from tests.fuzz.targets import TARGETS

_AT_ONCE = 2
# The last input, and the start and end of a process, which take long where the machine is busy.
_GRACE_S = 120.0
_SHOWN_CHARS = 3000


@dataclass(frozen=True)
class Fuzzed:
    """What came of one target. `failed`: what its process wrote, where it ended without a report."""

    name: str
    executions: int = 0
    seconds: float = 0.0
    faults: Sequence[dict[str, Any]] = ()
    failed: str | None = None


def fuzz(name: str, engine: Engine, share_s: float, seed: int) -> Fuzzed:
    """One target for so many seconds, the start of its process included."""
    until = time.time() + share_s
    command = [sys.executable, "-m", "tests.fuzz.one", name, "--engine", engine, "--until", str(until)]
    try:
        done = subprocess.run(
            [*command, "--seed", str(seed)], capture_output=True, text=True, timeout=share_s + _GRACE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Fuzzed(name, failed=f"did not end {_GRACE_S:g} s after its time")
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return Fuzzed(name, failed=f"exit code {done.returncode}: {done.stderr[-_SHOWN_CHARS:]}")
    executions, seconds, faults = json.loads(lines[-1])
    return Fuzzed(name, executions, seconds, faults)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together (default: %(default)g)")
    parser.add_argument("--target", choices=TARGETS, action="append", help="only this one; may be repeated")
    parser.add_argument("--engine", choices=("atheris", "hypothesis"), default=default_engine())
    parser.add_argument("--seed", type=int, default=1, help="of the engine's chance (default: %(default)s)")
    options = parser.parse_args()
    names = options.target or list(TARGETS)
    at_once = min(_AT_ONCE, len(names))
    # Whole rounds: seven targets take as long as eight.
    share_s = options.seconds / -(-len(names) // at_once)
    print(f"{options.engine}, {share_s:.1f} s for each of {len(names)} targets, seed {options.seed}")
    print(f"{'target':12} {'executions':>11} {'run s':>7} {'a second':>9} {'faults':>7}", flush=True)
    found: list[Fuzzed] = []
    with ThreadPoolExecutor(at_once) as threads:
        for each in threads.map(lambda name: fuzz(name, options.engine, share_s, options.seed), names):
            found.append(each)
            rate = each.executions / each.seconds if each.seconds else 0.0
            faults = "FAILED" if each.failed is not None else str(len(each.faults))
            print(f"{each.name:12} {each.executions:11,} {each.seconds:7.1f} {rate:9,.0f} {faults:>7}", flush=True)
    for each in found:
        if each.failed is not None:
            print(f"\n{each.name}: {each.failed}")
        for fault in each.faults:
            print(f"\n{each.name}: {fault['where']} ({fault['times']} times)\n  data = {fault['data']}")
            print(fault["text"][-_SHOWN_CHARS:])
    return 1 if any(each.faults or each.failed is not None for each in found) else 0


if __name__ == "__main__":
    sys.exit(main())
