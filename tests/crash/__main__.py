"""The long form of `test_kill`: as many kills as wanted, with any seed."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.crash.kills import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: %(default)s)")
    parser.add_argument(
        "--slack-s", type=float, default=0.0, help="how much older a lost row may be on a busy machine (default: 0)"
    )
    parser.add_argument(
        "--pause-s", type=float, default=0.0, help="of each of four threads after each call (default: 0)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llama-client-crash-") as folder:
        figures = run(options.kills, options.seed, Path(folder), slack_s=options.slack_s, pause_s=options.pause_s)
    print(figures)
    for problem in figures.problems[:20]:
        print(f"- {problem}")
    return 1 if figures.problems else 0


if __name__ == "__main__":
    sys.exit(main())
