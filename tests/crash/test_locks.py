"""A child that is forked while another thread of its parent holds a lock of the package's is not held up by it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Each thread holds what it has taken while the other one forks; the child then does what needs it.
_SETUP = """
import os, sys, threading
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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.parametrize("case", _CASES)
def test_a_child_that_is_forked_while_a_lock_is_held_is_not_held_up(case: str) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _SETUP + _CASES[case]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (0, "all is well\n", "")
