"""What a job's folder keeps: for the same call after anything, and for nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_client import BadRequestError, JobError, LlamaClient
from llama_client.bulk.job.folder import JobFolder
from llama_client.bulk.job.manifest import JobOptions
from llama_client.bulk.results import BulkResult
from llama_client.bulk.rows import Row
from llama_client.testing import FakeProvider, completion
from tests.bulk.jobs import MODES, lines, results, run

ROOT = Path(__file__).parents[2]
ROWS = [{"prompt": f"row {number}", "custom_id": f"id-{number}"} for number in range(6)]


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        fake.always("fine")
        yield fake


def opened(folder: Path) -> JobFolder:
    return JobFolder(folder, "the rows", JobOptions())


def row(position: int) -> Row:
    return Row(position, {"messages": [{"role": "user", "content": f"row {position}"}]})


def result(position: int) -> BulkResult:
    return BulkResult(row(position), completion("fine"))


CHANGES: dict[str, tuple[Callable[[list[Any]], list[Any]], str]] = {
    "changed": (lambda rows: [*rows[:2], {**rows[2], "prompt": "another"}, *rows[3:]], "item 3"),
    "moved": (lambda rows: [rows[0], rows[2], rows[1], *rows[3:]], "item 2"),
    "inserted": (lambda rows: [*rows[:4], {"prompt": "new", "custom_id": "new"}, *rows[4:]], "item 5"),
    "removed": (lambda rows: rows[:-1], "row 6"),
    "other-id": (lambda rows: [{**rows[0], "custom_id": "new"}, *rows[1:]], "item 1"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("as_iterator", [False, True], ids=["list", "iterator"])
def test_other_rows_than_before_are_refused_and_their_first_place_is_named(
    fake: FakeProvider, change: str, as_iterator: bool, tmp_path: Path
) -> None:
    run("sync", fake.config(), ROWS, tmp_path / "out.jsonl")
    changed, place = CHANGES[change]
    rows = changed(ROWS)
    with pytest.raises(JobError, match=place):
        run("sync", fake.config(), iter(rows) if as_iterator else rows, tmp_path / "out.jsonl")
    assert len(fake.requests) <= len(ROWS)


def test_rows_that_follow_are_new(fake: FakeProvider, tmp_path: Path) -> None:
    run("sync", fake.config(), ROWS[:4], tmp_path / "out.jsonl")
    receipt = run("sync", fake.config(), ROWS, tmp_path / "out.jsonl")
    assert (receipt.earlier, receipt.answered, len(fake.requests)) == (4, 2, 6)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"system": "Be brief."}, "system"),
        ({"params": {"temperature": 0}}, "params"),
        ({"prompt": "Say {prompt}"}, "prompt"),
        ({"model": "groq/other"}, "model"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_options_than_before_are_refused(
    fake: FakeProvider, options: dict[str, Any], named: str, tmp_path: Path
) -> None:
    run("sync", fake.config(), ROWS, tmp_path / "out.jsonl")
    with pytest.raises(JobError, match=f"{named} changed since the job began"):
        run("sync", fake.config(), ROWS, tmp_path / "out.jsonl", **options)
    assert len(fake.requests) == len(ROWS)


@pytest.mark.parametrize("mode", MODES)
def test_an_id_that_is_there_twice_is_refused_before_anything_is_asked(
    fake: FakeProvider, mode: str, tmp_path: Path
) -> None:
    rows = [{"prompt": "hi", "custom_id": f"id-{number % 9_000}"} for number in range(9_001)]
    with pytest.raises(JobError, match=r"item 9001: custom_id 'id-0' is also that of an iterable, item 1"):
        run(mode, fake.config(), rows, tmp_path / "out.jsonl")
    assert fake.requests == []


def test_a_job_without_its_index_or_with_a_torn_line_goes_on(fake: FakeProvider, tmp_path: Path) -> None:
    run("sync", fake.config(), ROWS, tmp_path / "out.jsonl")
    journal = tmp_path / "out.jsonl.job/results.jsonl"
    whole = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(whole[:-1]) + whole[-1][:30])
    receipt = run("sync", fake.config(), ROWS, tmp_path / "out.jsonl")
    assert (receipt.earlier, receipt.answered) == (5, 1)
    assert sorted(line["custom_id"] for line in lines(journal)) == [each["custom_id"] for each in ROWS]
    (tmp_path / "out.jsonl.job/index").unlink()
    assert run("sync", fake.config(), ROWS, tmp_path / "out.jsonl").earlier == 6
    assert len(fake.requests) == 7


def test_a_journal_that_was_written_over_is_told(fake: FakeProvider, tmp_path: Path) -> None:
    run("sync", fake.config(), ROWS, tmp_path / "out.jsonl")
    with (tmp_path / "out.jsonl.job/results.jsonl").open("a") as file:
        file.write("what is this?\n")
    with pytest.raises(JobError, match=r"results\.jsonl: what stands at byte \d+ is no line of a job"):
        run("sync", fake.config(), ROWS, tmp_path / "out.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("manifest.json", "{", "not the manifest of a job"),
        ("manifest.json", '{"format": 99, "options": {}}', "format 99"),
        ("novel.txt", "Once", "no job's folder"),
    ],
    ids=["torn", "later-format", "another-folder"],
)
def test_a_folder_that_is_none_of_a_job_is_refused(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(JobError, match=told):
        opened(tmp_path)
    assert (tmp_path / name).read_text() == content


def test_a_folder_belongs_to_one_job_at_a_time(tmp_path: Path) -> None:
    first = opened(tmp_path / "job")
    with pytest.raises(JobError, match="another job of this process"):
        opened(tmp_path / "job")
    opening = "import sys; from tests.bulk.test_job_folders import *; opened(Path(sys.argv[1]))"
    command = [sys.executable, "-c", opening, str(tmp_path / "job")]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"in use by process {json.loads((tmp_path / 'job/lock').read_text())['pid']} on " in refused.stderr
    first.close()
    opened(tmp_path / "job").close()


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    opening = "import os, sys; from tests.bulk.test_job_folders import *; opened(Path(sys.argv[1])); os._exit(9)"
    subprocess.run([sys.executable, "-c", opening, str(tmp_path / "job")], cwd=ROOT, check=False)
    assert json.loads((tmp_path / "job/lock").read_text())["pid"]
    opened(tmp_path / "job").close()


def test_a_holder_on_another_machine_is_told_until_it_is_silent(tmp_path: Path) -> None:
    opened(tmp_path / "job").close()
    lock = tmp_path / "job/lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 7, "since": "today"}))
    with pytest.raises(JobError, match="process 7 on elsewhere"):
        opened(tmp_path / "job")
    os.utime(lock, (0, 0))
    opened(tmp_path / "job").close()


def test_what_had_begun_when_a_process_was_killed_is_told_for_good(tmp_path: Path) -> None:
    job = opened(tmp_path / "job")
    job.began([row(0), row(1), row(2), row(3)])
    job.record([result(1)])
    job.record([BulkResult(row(0), None, BadRequestError("no"))])
    job.began([row(0)])
    job.withdrew(row(2))
    job.began([row(4)])
    # As a kill leaves it.
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in (tmp_path / "job").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    job.close()
    told = opened(copy)
    assert told.maybe_paid_twice == 3
    assert told.is_done(row(1))
    told.close()
    again = opened(copy)
    assert again.maybe_paid_twice == told.maybe_paid_twice
    again.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no file's size")
def test_a_full_disk_is_a_sentence_and_the_job_goes_on_after(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\n"
        "from tests.bulk.test_job_folders import *\n"
        "job = opened(Path(sys.argv[1]))\n"
        "job.record([result(0)])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "size = (Path(sys.argv[1]) / 'results.jsonl').stat().st_size\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 99, size + 99))\n"
        "try:\n    job.record([result(1)])\n"
        "except JobError as error:\n    print(error)\n"
        "job.close()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "job")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "file too large; the same call goes on once that is mended" in done.stdout.lower()
    assert len(lines(tmp_path / "job/results.jsonl")) == 1
    job = opened(tmp_path / "job")
    assert [job.is_done(row(0)), job.is_done(row(1))] == [True, False]
    job.close()


def test_earlier_results_of_an_iterator_have_their_columns(fake: FakeProvider, tmp_path: Path) -> None:
    rows = [{"prompt": "hi", "label": "a"}, {"prompt": "ho", "label": "b"}]
    for _ in range(2):
        found, _ = results("sync", fake.config(), iter(rows), job=tmp_path / "job")
        assert sorted(each.row.columns["label"] for each in found) == ["a", "b"]


def test_a_file_is_no_folder_of_a_job(tmp_path: Path) -> None:
    (tmp_path / "job").write_text("precious")
    with FakeProvider() as fake, LlamaClient(fake.config()) as client:
        with pytest.raises(JobError, match="is a file; name an empty folder, or a new one"):
            list(client.bulk(["a"], job=tmp_path / "job"))
    assert (tmp_path / "job").read_text() == "precious"
    assert fake.requests == []
