"""How long `llama-client crossover` takes as a whole process, without a band and with one of 10,000 draws; interleaved.

python benchmarks/crossover_command.py [--rounds 11]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

_PAIR = ["llama-3.3-70b", "--gpu", "h100_sxm", "--gpus", "2", "--volume", "1G"]
CASES = {
    "one machine, no band": [*_PAIR, "--draws", "0", "--json"],
    "one machine, 10,000 draws": [*_PAIR, "--draws", "10000", "--json"],
    "one machine, 10,000 draws, terminal": [*_PAIR, "--draws", "10000"],
    "all machines, no band": ["llama-3.3-70b", "--draws", "0", "--json"],
    "all machines, 10,000 draws": ["llama-3.3-70b", "--draws", "10000", "--json"],
    "(python that does nothing)": [],
}


def seconds(arguments: list[str], home: str) -> float:
    """One process's time from its start to its end."""
    command = ["-m", "llama_client", "crossover", *arguments] if arguments else ["-c", "pass"]
    environment = os.environ | {"HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home}
    started = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL, env=environment, cwd=home)
    return time.perf_counter() - started


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as home:
        times: dict[str, list[float]] = {name: [] for name in CASES}
        for place in range(rounds + 1):
            for name, arguments in CASES.items():
                taken = seconds(arguments, home)
                if place:  # the first round warms files up
                    times[name].append(taken)
    for name, values in times.items():
        print(f"{name:38}{statistics.median(values):7.3f} s, at most {max(values):.3f} s")


if __name__ == "__main__":
    main()
