"""One target in a process of its own: a fork, where there is one, of a process that has imported all of them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fuzz.engines import Engine, Run, by_atheris, by_hypothesis
from tests.fuzz.targets import TARGETS


def import_targets(names: Iterable[str], engine: Engine) -> None:
    """Imports targets with the package; for atheris so that it counts the branches, which takes long."""
    with _instrumented(engine):
        for name in names:
            import_module(TARGETS[name])


def run_target(name: str, engine: Engine, share_s: float, seed: int, output: Path, report: Connection) -> None:
    """Runs one target for so much processor time, writes what it prints to a file, and reports what came of it."""
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    # libFuzzer writes to the descriptors themselves.
    for stream in (1, 2):
        os.dup2(written, stream)
    with _instrumented(engine), import_module(TARGETS[name]).opened() as target:
        run, started = Run(target), time.process_time()
        until = started + share_s

        def tell() -> None:
            faults = [
                {"where": fault.where, "times": fault.times, "text": fault.text, "data": repr(fault.data)}
                for fault in run.faults.values()
            ]
            report.send((run.executions, time.process_time() - started, faults))

        for number, data in enumerate(target.seeds):
            if number == 0 or time.process_time() < until:
                run.one(data)
        if engine == "atheris":
            by_atheris(run, until=until, first_seed=seed, at_end=tell)
        else:
            by_hypothesis(run, until=until, first_seed=seed)
            tell()


def _instrumented(engine: Engine) -> contextlib.AbstractContextManager[object]:
    if engine == "hypothesis":
        return contextlib.nullcontext()
    import atheris

    instrumented: contextlib.AbstractContextManager[object] = atheris.instrument_imports(
        include=["llama_client"], enable_loader_override=False
    )
    return instrumented
