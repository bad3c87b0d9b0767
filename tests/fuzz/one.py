"""One target in a process of its own; `python -m tests.fuzz` starts these and adds up what they print."""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib import import_module

from tests.fuzz.engines import Run, by_atheris, by_hypothesis
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.one", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--engine", choices=("atheris", "hypothesis"), required=True)
    parser.add_argument("--until", type=float, required=True, help="seconds since the Unix epoch")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.engine == "hypothesis":
        return _fuzz(options)
    import atheris

    # It counts the branches of what is imported from here on.
    with atheris.instrument_imports(include=["llama_client"], enable_loader_override=False):
        return _fuzz(options)


def _fuzz(options: argparse.Namespace) -> int:
    out = sys.stdout
    with import_module(TARGETS[options.target]).opened() as target:
        run, started = Run(target), time.time()

        def report() -> None:
            faults = [
                {"where": fault.where, "times": fault.times, "text": fault.text, "data": repr(fault.data)}
                for fault in run.faults.values()
            ]
            print(json.dumps([run.executions, time.time() - started, faults]), file=out, flush=True)

        for number, data in enumerate(target.seeds):
            if number == 0 or time.time() < options.until:
                run.one(data)
        if options.engine == "atheris":
            by_atheris(run, until=options.until, first_seed=options.seed, at_end=report)
        else:
            by_hypothesis(run, until=options.until, first_seed=options.seed)
            report()
    return 0


if __name__ == "__main__":
    sys.exit(main())
