"""How the doctor waits: for all at once, no longer than it was told, and what it does not leave behind."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import threading
from pathlib import Path

from llama_client.diagnostics.run import MAX_AT_ONCE, run_all
from tests.cli.conftest import run
from tests.diagnostics.conftest import compatible, key_command

PATIENCE_S = 30.0


def test_forty_that_wait_for_each_other_are_all_asked_at_once() -> None:
    together = threading.Barrier(40)
    results = run_all({str(n): lambda: together.wait(PATIENCE_S) for n in range(40)}, within_s=PATIENCE_S)
    assert sorted(map(str, results.values())) == sorted(map(str, range(40)))


def test_more_than_can_be_asked_at_once_have_one_deadline_between_them() -> None:
    asked, answers = [], threading.Event()

    def hang() -> None:
        asked.append(True)
        answers.wait(PATIENCE_S)

    names = [str(number) for number in range(MAX_AT_ONCE + 40)]
    results = run_all(dict.fromkeys(names, hang), within_s=0.2)
    assert results == dict.fromkeys(names)
    # Those that had no turn get none after the deadline either.
    before = set(threading.enumerate())
    answers.set()
    for thread in before - {threading.current_thread()}:
        if thread.name.startswith("llama-client-doctor"):
            thread.join(PATIENCE_S)
    assert len(asked) <= MAX_AT_ONCE


def test_what_a_job_raises_is_its_result() -> None:
    results = run_all({"wrong": lambda: 1 // 0, "right": lambda: 1}, within_s=PATIENCE_S)
    assert isinstance(results["wrong"], ZeroDivisionError)
    assert results["right"] == 1


def test_a_command_for_a_key_that_hangs_ends_with_the_doctor(clean_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)
        # It holds a connection open for as long as it lives.
        hang = (
            f"import socket, time; held = socket.create_connection(('127.0.0.1', {listener.getsockname()[1]})); "
            "time.sleep(300)"
        )
        table = compatible("cloud", "http://127.0.0.1:1", key_command(hang))
        file = clean_home / "mine.toml"
        file.write_text(table, encoding="utf-8")
        for seconds in ("1", "4", "16"):
            ran = run("doctor", "--json", "--timeout", seconds, "--config", str(file))
            assert f"did not answer within {seconds} s" in ran.out
            # On a busy machine it may end before it has begun.
            if select.select([listener], [], [], 0)[0]:
                break
        held, _ = listener.accept()
        with held:
            held.settimeout(PATIENCE_S)
            assert _end_of(held) == b""


def _end_of(connection: socket.socket) -> bytes:
    """What is read where the other side has ended, in whichever way."""
    try:
        return connection.recv(1)
    except ConnectionResetError:
        return b""


WATCHED = """
import sys
import llama_client.diagnostics.run as examination
from llama_client.diagnostics.machine import DiagnosticsOptions

run_all = examination.run_all

def watched(jobs, **options):
    before = set(sys.modules)
    results = run_all(jobs, **options)
    print("imported:", *sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
    return results

examination.run_all = watched
examination.examine(DiagnosticsOptions("llama-client.toml"))
"""


def test_what_is_imported_does_not_count_against_who_is_asked(clean_home: Path) -> None:
    text = f"[ledger]\nenabled = true\nurl = 'sqlite:///{clean_home / 'ledger.db'}'\n"
    for name in ("groq", "together"):
        text += f'[providers.{name}]\napi_key = "x-key-of-none"\nbase_url = "http://127.0.0.1:1"\n'
    (clean_home / "work" / "llama-client.toml").write_text(text, encoding="utf-8")
    (clean_home / "ledger.db").touch()
    ran = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True, timeout=120, check=True)
    imported = set(ran.stdout.removeprefix("imported:").split())
    assert not imported & {"groq", "openai", "httpx", "httpcore", "anyio", "aiohttp", "sqlalchemy"}
