"""A fault server in a process of its own, which takes its commands as lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

# A machine under load takes seconds to start a Python.
_PATIENCE_S = 60.0
_END_S = 10.0
_POLL_S = 0.02


class ProcessBackend:
    """A server in a process of its own, which ends with this one.

    Args:
        port: Where to listen; 0: at a free port.

    Raises:
        OSError: The port is taken.
        RuntimeError: It cannot be started.
    """

    def __init__(self, port: int = 0) -> None:
        # Found as it was found here, whatever the working directory is by now.
        paths = [str(Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._process = subprocess.Popen(  # noqa: S603 - this package by this Python
            [sys.executable, "-m", "llama_client.testing.faults", "--commands", "--port", str(port)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        _running.add(self)
        try:
            begun = self._reply()
            if "error" in begun:
                raise OSError(begun["errno"], begun["error"])
            self.url: str = begun["url"]
        except BaseException:
            self.close()
            raise

    def call(self, do: str, /, **arguments: Any) -> Any:
        if do == "wait_until_idle":
            return self._wait_until_idle(**arguments)
        return self._command(do, arguments)

    def _command(self, do: str, arguments: Mapping[str, Any]) -> Any:
        if os.getpid() != self._owner:
            raise RuntimeError("the fault server takes commands from the process that made it, and not from its forks")
        with self._lock:
            self._tell({"do": do, **arguments})
            reply = self._reply()
        if "error" in reply:
            raise ValueError(reply["error"])
        return reply["result"]

    def close(self) -> None:
        if os.getpid() != self._owner:
            return
        # The end of its input ends it too, but something else may hold the pipe open.
        with self._lock:
            self._tell({"do": "close"})
        try:
            self._process.communicate(timeout=_END_S)
        except (subprocess.TimeoutExpired, ValueError):
            self._process.kill()
            self._process.wait(_END_S)

    def let_go(self) -> None:
        """Leaves the server to the process that this one was forked from."""
        null = os.open(os.devnull, os.O_RDWR)
        for pipe in (self._process.stdin, self._process.stdout):
            # Its object stays as it is: another thread may have been using it when this process was forked.
            if pipe is not None and not pipe.closed:
                os.dup2(null, pipe.fileno(), inheritable=False)
        os.close(null)

    def _wait_until_idle(self, within_s: float) -> bool:
        # Asked again and again, so that other threads have their turn, and no answer takes longer than others.
        until = time.monotonic() + within_s
        while True:
            if self._command("wait_until_idle", {"within_s": 0.0}):
                return True
            left = until - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(_POLL_S, left))

    def _tell(self, command: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):  # it has ended; then no reply comes
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()

    def _reply(self) -> Mapping[str, Any]:
        assert self._process.stdout is not None
        # Whatever holds it up, the pipe ends with it.
        watch = threading.Timer(_PATIENCE_S, self._process.kill)
        watch.daemon = True
        watch.start()
        try:
            line = self._process.stdout.readline()
        except ValueError:  # closed
            line = ""
        finally:
            watch.cancel()
            watch.join()
        if not line:
            raise RuntimeError("the process of the fault server has ended")
        reply: Mapping[str, Any] = json.loads(line)
        return reply


_running: weakref.WeakSet[ProcessBackend] = weakref.WeakSet()


def _let_all_go() -> None:
    for backend in list(_running):
        backend.let_go()


# A fork that lives on would hold the server's input open, so that the server outlived its parent.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_all_go)
