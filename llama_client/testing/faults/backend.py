"""What a `FaultServer` stands on: a server in threads of this process; `process` has the one in another process.

Both take the same commands by name, with arguments and results that JSON has.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import unquote

from llama_client.testing.chat_request import OLLAMA_CHAT, OPENAI_CHAT
from llama_client.testing.dialects import OLLAMA, dialect_of
from llama_client.testing.faults.answers import Asked
from llama_client.testing.faults.arguments import checked_arguments, checked_name
from llama_client.testing.faults.plan import FaultPlan, Rate
from llama_client.testing.faults.table import FAULTS
from llama_client.testing.loopback import Answer, Received, WireServer, as_json

_BY_ADDRESS = re.compile(r"/fault/([^/?]+)(/.*)", re.DOTALL)
_BY_MODEL = "fault/"
_ORIGIN = re.compile(r"^https?://[^/?#]*(?=/)", re.IGNORECASE)
_PLAYED = (
    "this server plays chats (POST /v1/chat/completions, /openai/v1/chat/completions and /api/chat) "
    "and lists of models (GET /v1/models, /api/tags)"
)
_MODEL = "some/model"
_MOST_KEPT = 100_000
_MOST_CHARS = 200


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
        before: Answers what is no chat; None as its answer: it is for this server.
    """

    def __init__(self, port: int = 0, before: Callable[[Received], Answer | None] | None = None) -> None:
        self._before = before
        self._plan = FaultPlan()
        self._lock = threading.Lock()
        self._kept: deque[dict[str, Any]] = deque(maxlen=_MOST_KEPT)
        self._chats: Counter[str] = Counter()
        self._wire = WireServer(self._answer, port=port)
        self.url = self._wire.url

    def call(self, do: str, /, **arguments: Any) -> Any:
        checked = checked_arguments(do, arguments)
        return getattr(self, f"_{do}")(**checked)

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
        self._plan.begin_anew()
        self._wire.early_closes = 0
        self._wire.malformed.clear()

    def _wait_until_idle(self, within_s: float) -> bool:
        return self._wire.wait_until_idle(within_s)

    def _answer(self, received: Received) -> Answer:
        # The report has them; the server would keep them once more, whole.
        self._wire.requests.clear()
        if self._before is not None and (answer := self._before(received)) is not None:
            return answer
        try:
            # A proxy is asked by the whole address.
            path, named = _named_by_address(_ORIGIN.sub("", received.path))
            asked = _asked(received, path)
            if asked is None:
                message = f"nothing is at {received.method} {path[:_MOST_CHARS]}: {_PLAYED}"
                return as_json({"error": {"message": message}}, status=404)
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
    short = replace(asked, model=asked.model[:_MOST_CHARS], prompt=asked.prompt[:_MOST_CHARS])
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
