"""What a `FaultServer` stands on: a server in a thread of this process, or one in a process of its own.

Both take the same commands by name, with arguments and results that JSON has.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from llama_client.testing.chat_request import OLLAMA_CHAT, OPENAI_CHAT
from llama_client.testing.dialects import OLLAMA, dialect_of
from llama_client.testing.faults.answers import Asked
from llama_client.testing.faults.library import FAULTS
from llama_client.testing.faults.plan import FaultPlan, Rate, checked_name
from llama_client.testing.loopback import Answer, Received, WireServer, as_json

_BY_ADDRESS = re.compile(r"/fault/([^/?]+)(/.*)", re.DOTALL)
_BY_MODEL = "fault/"
_MODEL = "some/model"
_COMMANDS = frozenset(("next", "always", "at_rate", "report", "clear", "wait_until_idle"))
_MOST_KEPT = 100_000
_MOST_CHARS = 200
# A machine under load takes seconds to start a Python.
_PATIENCE_S = 60.0
_END_S = 10.0


class Backend(Protocol):
    """What a fault server stands on."""

    url: str

    def call(self, do: str, /, **arguments: Any) -> Any:
        """Carries out a command.

        Raises:
            ValueError: Of the command, or its arguments.
        """

    def close(self) -> None:
        """Ends the server."""


class ThreadBackend:
    """A server in threads of this process.

    Args:
        port: Where to listen; 0: at a free port.
    """

    def __init__(self, port: int = 0) -> None:
        self._plan = FaultPlan()
        self._lock = threading.Lock()
        self._kept: deque[dict[str, Any]] = deque(maxlen=_MOST_KEPT)
        self._chats: Counter[str] = Counter()
        self._wire = WireServer(self._answer, port=port)
        self.url = self._wire.url

    def call(self, do: str, /, **arguments: Any) -> Any:
        if do not in _COMMANDS:
            raise ValueError(f"no command is called {do!r}: there are {', '.join(sorted(_COMMANDS))}")
        try:
            return getattr(self, f"_{do}")(**arguments)
        except TypeError as error:
            raise ValueError(f"the command {do!r} cannot take these arguments: {error}") from None

    def close(self) -> None:
        self._wire.close()

    def _next(self, names: Sequence[str]) -> None:
        self._plan.next(names)

    def _always(self, name: str) -> None:
        self._plan.always(name)

    def _at_rate(self, **rate: Any) -> None:
        self._plan.at_rate(Rate(**rate))

    def _report(self) -> dict[str, Any]:
        with self._lock:
            kept, chats = list(self._kept), dict(self._chats)
        return {
            "requests": kept,
            "chats": chats,
            "open_connections": self._wire.open_connections,
            "closed_early": self._wire.early_closes,
            "malformed": len(self._wire.malformed),
        }

    def _clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._chats.clear()
        self._wire.early_closes = 0
        self._wire.malformed.clear()

    def _wait_until_idle(self, within_s: float) -> bool:
        return self._wire.wait_until_idle(within_s)

    def _answer(self, received: Received) -> Answer:
        # The report has them; the server would keep them once more, whole.
        self._wire.requests.clear()
        try:
            path, named = _named_by_address(received.path)
            asked = _asked(received, path)
            if asked is None:
                return as_json({"error": {"message": f"nothing is at {received.method} {path}"}}, status=404)
            if named is None and asked.listing is None and asked.model.startswith(_BY_MODEL):
                named = checked_name(asked.model.removeprefix(_BY_MODEL))
        except ValueError as error:
            return as_json({"error": {"message": str(error)}}, status=400)
        dealt = self._plan.deal(asked, named)
        if asked.listing is None:
            request = {
                "dialect": asked.dialect.kind,
                "path": received.path[:_MOST_CHARS],
                "model": asked.model,
                "prompt": asked.prompt,
                "streams": asked.streams,
                "fault": dealt.name,
                "text": dealt.text,
            }
            with self._lock:
                self._chats[asked.dialect.kind] += 1
                self._kept.append(request)
        return dealt.answer


class ProcessBackend:
    """A server in a process of its own, which ends with this one.

    Args:
        port: Where to listen; 0: at a free port.

    Raises:
        RuntimeError: It cannot be started.
    """

    def __init__(self, port: int = 0) -> None:
        # Found as it was found here, whatever the working directory is by now.
        paths = [str(Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._lock = threading.Lock()
        self._process = subprocess.Popen(  # noqa: S603 - this package by this Python
            [sys.executable, "-m", "llama_client.testing.faults", "--commands", "--port", str(port)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        try:
            self.url: str = self._reply()["url"]
        except BaseException:
            self.close()
            raise

    def call(self, do: str, /, **arguments: Any) -> Any:
        with self._lock:
            assert self._process.stdin is not None
            with suppress(OSError, ValueError):  # it has ended; that is told below
                self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
                self._process.stdin.flush()
            reply = self._reply()
        if "error" in reply:
            raise ValueError(reply["error"])
        return reply["result"]

    def close(self) -> None:
        # The end of its input ends it.
        try:
            self._process.communicate(timeout=_END_S)
        except (subprocess.TimeoutExpired, ValueError):
            self._process.kill()
            self._process.wait(_END_S)

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


def _named_by_address(path: str) -> tuple[str, str | None]:
    """The path behind `/fault/NAME`, and the name."""
    found = _BY_ADDRESS.fullmatch(path)
    if found is None:
        return path, None
    return found[2], checked_name(unquote(found[1]))


def _asked(received: Received, path: str) -> Asked | None:
    """What was asked for; None: nothing that is here."""
    plain = path.partition("?")[0]
    dialect = dialect_of(plain)
    if dialect is None:
        return None
    asked = Asked.of(received, dialect)
    short = Asked(dialect, asked.streams, received.path, asked.model[:_MOST_CHARS], asked.prompt[:_MOST_CHARS])
    if received.method == "POST" and plain.endswith(OLLAMA_CHAT if dialect is OLLAMA else OPENAI_CHAT):
        return short
    listing = _listing(plain, is_ollama=dialect is OLLAMA)
    return None if listing is None else Asked(dialect, streams=False, path=received.path, listing=listing)


def _listing(path: str, *, is_ollama: bool) -> Any:
    """What stands at another address than that of chats; None: nothing."""
    names = [_MODEL, *(f"{_BY_MODEL}{name}" for name in FAULTS)]
    if not is_ollama:
        models = [{"id": name, "object": "model", "created": 1, "owned_by": "llama-client"} for name in names]
        found = path.partition("/v1/models")[2]
        if path.endswith("/v1/models"):
            return {"object": "list", "data": models}
        return next((model for model in models if found == f"/{model['id']}"), None)
    match path.rpartition("/api/")[2]:
        case "tags":
            return {"models": [{"name": name, "model": name, "size": 1, "details": {}} for name in names]}
        case "ps":
            return {"models": []}
        case "show":
            return {"details": {}, "model_info": {}, "capabilities": ["completion"]}
        case "version":
            return {"version": "0.34.0"}
        case _:
            return None
