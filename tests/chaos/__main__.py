"""The long form of `test_chaos`: as many calls as wanted, with any seed."""

from __future__ import annotations

import argparse
import sys

from tests.chaos.calls import MODES, run, said


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000, help="in all, over the modes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the servers' chance (default: %(default)s)")
    parser.add_argument("--mode", choices=MODES, action="append", help="only this mode; may be repeated")
    options = parser.parse_args()
    modes = options.mode or MODES
    problems = []
    for mode in modes:
        chaos = run(mode, options.calls // len(modes), options.seed)
        print(said(chaos), flush=True)
        problems += chaos.problems
    for problem in problems[:20]:
        print(f"- {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
