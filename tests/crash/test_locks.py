"""A child that is forked while another thread of its parent holds a lock of the package's is not held up by it."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

# Each thread holds what it has taken while the other one forks; the child then does what needs it.
_SETUP = """
import threading
from llama_client import LlamaClient, process

client = LlamaClient({"providers": {"a": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}},
                      "ledger": {"enabled": False}, "routing": {"retries": 0}})
taken, forked = threading.Event(), threading.Event()

def hold(lock):
    with lock:
        taken.set()
        forked.wait(60)

def forked_while(held, work):
    thread = threading.Thread(target=held, daemon=True)
    thread.start()
    taken.wait(60)
    pid = os.fork()
    if pid == 0:
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(10)
        os._exit(worker.is_alive())
    status = os.waitpid(pid, 0)[1]
    forked.set()
    thread.join()
    print("the child hangs" if status else "all is well")
"""
_CASES = {
    "providers": """
lock = client._context.providers._lock
forked_while(lambda: hold(lock), lambda: client._context.providers.get("a"))
""",
    "a provider's connections": """
from llama_client.providers.http.provider import HttpProvider
provider = client._context.providers.get("a")
assert isinstance(provider, HttpProvider)
forked_while(lambda: hold(provider._lock), provider.open)
""",
    "the pool of connections": """
provider = client._context.providers.get("a")
forked_while(lambda: hold(provider.connections._lock), provider.open)
""",
    "the hosts file": """
from llama_client import local_only
forked_while(lambda: hold(local_only._hosts._lock), lambda: local_only._hosts.addresses("somewhere"))
""",
    "a model whose schema is built": """
from llama_client.types.request import ChatRequest
from pydantic import main

def held():
    with process.between_forks():
        with main._rebuild_lock:
            taken.set()
            # The fork waits for this.
            forked.wait(1)

forked_while(held, lambda: ChatRequest.model_validate({"messages": [{"role": "user", "content": "hi"}]}))
""",
    "an object that is registered meanwhile": """
# The fork has called all that was registered, and waits; what is registered now has to wait for it.
missed = []

class Late:
    def __init__(self):
        process.at_fork("before", self.before)
        process.at_fork("after_in_child", self.after)
        self.is_prepared = False
    def before(self):
        self.is_prepared = True
    def after(self):
        if not self.is_prepared:
            missed.append(self)

late = []
started = threading.Event()

def register():
    started.set()
    late.append(Late())

def wait():
    threading.Thread(target=register, daemon=True).start()
    started.wait(60)
    forked.wait(0.5)

process.at_fork("before", wait)
pid = os.fork()
if pid == 0:
    os._exit(len(missed))
print("the child hangs" if os.waitpid(pid, 0)[1] else "all is well")
""",
}


# Each case is a process of its own, forked where the package is imported and nothing else has happened.
_PROGRAM = """
import json, os, sys
import llama_client.client, llama_client.config.load, llama_client.providers.http.provider

for number, case in enumerate(json.load(sys.stdin)):
    pid = os.fork()
    if pid == 0:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{number}.{name}", os.O_WRONLY | os.O_CREAT), stream)
        exec(case)
        break
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@cache
def _ran() -> dict[str, tuple[str, str, str]]:
    """The exit code, standard output and standard error of each case."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _PROGRAM]
    cases = json.dumps([_SETUP + case for case in _CASES.values()])
    done = subprocess.run(command, input=cases, capture_output=True, text=True, timeout=250)
    assert (done.returncode, done.stderr) == (0, "")
    codes = done.stdout.split()
    assert len(codes) == len(_CASES)
    texts = ((Path(f"{number}.out").read_text(), Path(f"{number}.err").read_text()) for number in range(len(codes)))
    return {case: (code, *each) for case, code, each in zip(_CASES, codes, texts, strict=True)}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.parametrize("case", _CASES)
def test_a_child_that_is_forked_while_a_lock_is_held_is_not_held_up(case: str) -> None:
    assert _ran()[case] == ("0", "all is well\n", "")
