"""What importing the package costs, against `from pydantic import BaseModel`: whole processes, interleaved.

python benchmarks/import_time.py [--rounds 21]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

STATEMENTS = {
    "nothing": "pass",
    "pydantic": "from pydantic import BaseModel",
    "llama_client": "from llama_client import LlamaClient, ChatCompletion",
}


def seconds(statement: str) -> float:
    """One process's time from its start to its end."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - started


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    for statement in STATEMENTS.values():
        seconds(statement)
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(rounds):
        for name, statement in STATEMENTS.items():
            times[name].append(seconds(statement))
    for name, values in times.items():
        print(f"{name:14}{statistics.median(values) * 1000:7.1f} ms")
    whole = [ours / theirs for ours, theirs in zip(times["llama_client"], times["pydantic"], strict=True)]
    print(f"ratio of the processes: {statistics.median(whole):.2f}")
    empty = statistics.median(times["nothing"])
    ours, theirs = (statistics.median(times[name]) - empty for name in ("llama_client", "pydantic"))
    print(f"ratio of the imports alone: {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
