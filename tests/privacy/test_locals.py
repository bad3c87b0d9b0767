"""What error trackers show of a failure: the locals of every frame, its causes and contexts, without the key."""

from __future__ import annotations

import io
import traceback
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from rich.console import Console
from rich.traceback import Traceback

from llama_client import LlamaClientError
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, WireServer, closed_port, garbage, hangup, silence, streamed, whole
from tests.asking import MODES
from tests.wire.asking import KEY, PLENTY_S, ask

FAILURES: dict[str, Answer] = {
    "silent": silence(),
    "hangs up": hangup(),
    "resets": hangup("reset"),
    "no HTTP": garbage(),
    "no JSON": whole(b"<html>"),
    "refused": whole(b'{"error": {"message": "no"}}', status=401),
    "cut off": streamed([b"data: {"], "reset", headers={"content-type": "text/event-stream"}),
}


def shown(error: BaseException, *, in_parts: bool) -> Iterator[str]:
    """The error as trackers show it: by representations, and, which takes long, by the parts of values."""
    yield "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    if not in_parts:
        return
    out = io.StringIO()
    made = Traceback.from_exception(
        type(error), error, error.__traceback__, show_locals=True, locals_max_string=10**6, locals_max_length=10**6
    )
    Console(file=out, width=400).print(made)
    yield out.getvalue().replace("\n", "")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("failing", [*FAILURES, "nobody listens"])
def test_no_local_of_any_frame_shows_the_key(failing: str, mode: str) -> None:
    with ExitStack() as stack:
        if failing in FAILURES:
            url = stack.enter_context(WireServer(OPENAI.answers(FAILURES[failing]))).url
        else:
            url = stack.enter_context(closed_port())
        with pytest.raises(LlamaClientError) as caught:
            ask(OPENAI, url, mode, timeout=0.2 if failing == "silent" else PLENTY_S)
    # This module's own frames, and those of the helpers, hold the configuration.
    frame = caught.value.__traceback__
    while frame is not None and "llama_client" not in frame.tb_frame.f_globals.get("__name__", "").split(".")[0]:
        frame = frame.tb_next
    error = caught.value.with_traceback(frame)
    in_parts = failing in ("silent", "nobody listens") and mode.startswith("call")
    assert not [text for text in shown(error, in_parts=in_parts) if KEY in text]
