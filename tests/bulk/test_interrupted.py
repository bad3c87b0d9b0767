"""Ctrl-C: no new row is begun, those in flight end and are kept, and the same call goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bulk.jobs import MODES, lines
from tests.bulk.served import handed_out, serving

ROOT = Path(__file__).parents[2]
JOB = """
import sys
from pathlib import Path
from tests.bulk.jobs import run
from tests.bulk.killed import configuration
mode, url, folder = sys.argv[1:]
tell = lambda progress: print(progress.done, flush=True)
config = configuration(url, Path(folder) / "ledger.db")
rows = (f"row {number}" for number in range(100_000))
try:
    run(mode, config, rows, Path(folder) / "out.jsonl", max_concurrency=8, on_progress=tell)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to whole groups of processes")
def test_ctrl_c_keeps_every_answer_that_was_in_flight(mode: str, tmp_path: Path) -> None:
    with serving(delay_s=0.3) as url:
        command = [sys.executable, "-c", JOB, mode, url, str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as job:
            assert job.stdout is not None
            # The first rows are done, and the next ones in flight.
            job.stdout.readline()
            job.send_signal(signal.SIGINT)
            assert "interrupted" in job.stdout.read()
        books = handed_out(url)
    kept = [line["completion"]["usage"]["prompt_tokens"] for line in lines(tmp_path / "out.jsonl.job/results.jsonl")]
    assert sorted(kept) == list(range(1, books["asked"] + 1))
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to whole groups of processes")
def test_a_second_ctrl_c_ends_the_job_at_once(mode: str, tmp_path: Path) -> None:
    with serving(delay_s=0.0) as fast, serving(delay_s=3_600.0) as slow:
        # The first target answers its row, the second one never.
        code = JOB.replace(
            'rows = (f"row {number}" for number in range(100_000))',
            f"config['providers']['b'] = {{'kind': 'openai', 'base_url': '{slow}/v1'}}\n"
            "asked = [{'role': 'user', 'content': 'hi'}]\n"
            "rows = [{'custom_id': name, 'body': {'messages': asked, 'model': f'{name}/m'}} for name in 'ab']",
        )
        command = [sys.executable, "-c", code, mode, fast, str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as job:
            assert job.stdout is not None
            job.stdout.readline()
            job.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                job.wait(0.5)
            job.send_signal(signal.SIGINT)
            assert "interrupted" in job.stdout.read()
    assert len(lines(tmp_path / "out.jsonl.job/results.jsonl")) == 1
