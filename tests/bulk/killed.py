"""A job that is killed with -9 again and again, and resumed: each row once, the ledger as the server's books.

`python -m tests.bulk.killed --rows 100000 --kills 5` is the long form.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llama_client import AsyncLlamaClient, LlamaClient
from tests.bulk.jobs import lines
from tests.bulk.served import handed_out, serving

_ROOT = Path(__file__).parents[2]
WORKERS = 128
RAY_WORKERS = 2
_MEMORY_MIB = 20.0
# From here on a job has all of its threads and connections.
_WARM_ROWS = 2_000


@dataclass(frozen=True)
class Rows:
    """Prompts, each as often as it is read. A few are the same."""

    count: int

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number in range(self.count):
            yield {"messages": [{"role": "user", "content": f"row {number - number % 2}"}], "custom_id": f"id-{number}"}


def configuration(url: str, ledger: Path) -> dict[str, Any]:
    return {
        "default_model": "a/m",
        "providers": {"a": {"kind": "openai", "base_url": f"{url}/v1"}},
        "routing": {"breaker_failures": 1_000_000},
        "prices": [{"target": "a/m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 1}],
        "ledger": {"url": f"sqlite:///{ledger}"},
    }


def run_job(url: str, folder: Path, rows: int, *, is_async: bool, engine: str = "local") -> None:
    """The job, in a process of its own: a line for each progress, the receipt at its end."""
    if engine == "ray":
        from tests.bulk.ray_clusters import small_cluster

        with small_cluster():
            _run_job(url, folder, rows, is_async=is_async, more={"engine": "ray", "ray_workers": RAY_WORKERS})
    else:
        _run_job(url, folder, rows, is_async=is_async, more={})


def _run_job(url: str, folder: Path, rows: int, *, is_async: bool, more: dict[str, Any]) -> None:

    def tell(progress: Any) -> None:
        # Before the first call, rows of earlier runs are passed over, and Ray starts.
        mib = _resident_mib() if progress.in_flight else None
        print(json.dumps({"done": progress.done + progress.failed, "mib": mib}), flush=True)

    config, out = configuration(url, folder / "ledger.db"), folder / "out.jsonl"
    options: dict[str, Any] = {"max_concurrency": WORKERS, "on_progress": tell, **more}
    if is_async:

        async def run() -> Any:
            async with AsyncLlamaClient(config) as client:
                return await client.bulk(Rows(rows), **options).run(out)

        receipt = asyncio.run(run())
    else:
        with LlamaClient(config) as client:
            receipt = client.bulk(Rows(rows), **options).run(out)
    print(json.dumps({"receipt": asdict(receipt)}, default=str), flush=True)


def _resident_mib() -> float | None:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


@dataclass
class Seen:
    kills: int
    receipt: dict[str, Any]
    grown_mib: float | None
    seconds: float


def kill_a_worker() -> bool:
    """One of Ray's, of this process or below it, that works on a job, as `kill -9` does; False: none is there."""
    import psutil

    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any("MapWorker(MapBatches(Shard)" in part for part in process.cmdline()):
                process.kill()
                return True
    return False


def kill_and_resume(
    url: str, folder: Path, rows: int, kills: int, seed: int, *, is_async: bool = False, engine: str = "local"
) -> Seen:
    """On Ray every other kill is one of a worker, and the job goes on by itself."""
    chance = random.Random(seed)
    at = sorted(chance.sample(range(rows // 10, rows * 9 // 10), kills))
    grown: list[float] = []
    started = time.monotonic()
    while True:
        command = [
            sys.executable,
            "-m",
            "tests.bulk.killed",
            "--job",
            url,
            "--folder",
            str(folder),
            "--rows",
            str(rows),
        ]
        command += ["--async"] if is_async else []
        command += ["--engine", engine]
        process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        first: float | None = None
        start = receipt = None
        with process:
            for line in process.stdout:
                if not line.startswith("{"):
                    # Ray's.
                    continue
                told = json.loads(line)
                if "receipt" in told:
                    receipt = told["receipt"]
                    continue
                if start is None and told["mib"] is not None:
                    start = told["done"]
                if told["mib"] is not None and told["done"] - (start or 0) >= min(_WARM_ROWS, rows // 20):
                    first = told["mib"] if first is None else first
                    grown.append(told["mib"] - first)
                if at and told["done"] >= at[0]:
                    at.pop(0)
                    if engine == "ray" and len(at) % 2 == 1 and kill_a_worker():
                        continue
                    time.sleep(chance.random() * 0.05)
                    process.kill()
                    break
            else:
                assert process.wait() == 0, "the job failed"
                assert receipt is not None
                return Seen(kills - len(at), receipt, max(grown, default=None), time.monotonic() - started)


def check(url: str, folder: Path, rows: int, seen: Seen) -> None:
    """Compares the output, the journal and the ledger with what the server handed out."""
    books = handed_out(url)
    handed = Counter(number for numbers in books["answers"].values() for number in numbers)
    out = lines(folder / "out.jsonl")
    assert [line["custom_id"] for line in out] == [f"id-{n}" for n in range(rows)]
    job = folder / "out.jsonl.job"
    failed = lines(job / "failures.jsonl")
    answered = lines(job / "results.jsonl")
    positions = Counter(int(line["id"].partition("-")[0]) for line in (*answered, *failed))
    assert positions == Counter(range(rows)), "a row is missing, or there twice"
    kept = Counter(line["completion"]["usage"]["prompt_tokens"] for line in answered)
    with closing(sqlite3.connect(folder / "ledger.db")) as connection:
        query = "SELECT input_tokens FROM llama_client_attempts WHERE outcome = 'ok'"
        ledger = Counter(number for (number,) in connection.execute(query))
    assert not kept - ledger, "an answer is done, and not in the ledger"
    assert not ledger - handed, "the ledger has what was never handed out"
    lost, told = (handed - ledger).total(), seen.receipt["maybe_paid_twice"]
    twice = (handed - kept).total()
    print(
        f"{rows} rows, {seen.kills} kills, {len(failed)} failed, {books['asked']} answers handed out, "
        f"{lost} of them not in the ledger, {twice} paid twice, {told} told; memory grew by {seen.grown_mib} MiB; "
        f"{books['most']} in flight at most; {seen.seconds:.0f} s"
    )
    assert lost <= twice <= told <= WORKERS * seen.kills, "more was paid twice than was told, or than there are workers"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--async", dest="is_async", action="store_true")
    parser.add_argument("--engine", choices=["local", "ray"], default="local")
    parser.add_argument("--job")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.job:
        run_job(given.job, given.folder, given.rows, is_async=given.is_async, engine=given.engine)
        return
    with tempfile.TemporaryDirectory() as folder, serving(faults=0.3, delay_s=0.02, seed=given.seed) as url:
        seen = kill_and_resume(
            url, Path(folder), given.rows, given.kills, given.seed, is_async=given.is_async, engine=given.engine
        )
        check(url, Path(folder), given.rows, seen)
        assert seen.grown_mib is None or seen.grown_mib <= _MEMORY_MIB, "memory is not flat"


if __name__ == "__main__":
    main()
