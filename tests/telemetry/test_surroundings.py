"""Telemetry that is off, missing, set up later or failing, and processes that fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from llama_client import ChatStream, LlamaClient, MissingExtraError
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import WireServer, streamed
from tests.routing.asking import MESSAGES, ask_all, config, good
from tests.telemetry.program import TELEMETRY, Program, each_mode, known


@each_mode
@pytest.mark.parametrize(("event", "spans", "measured"), [("start", 0, 0), ("end", 2, 2), ("measure", 2, 0)])
def test_what_the_program_set_up_may_fail_and_no_call_does(
    program: Program, mode: str, event: str, spans: int, measured: int, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(now: str) -> None:
        if now == event:
            raise RuntimeError("the prompt was: hum")

    program.does = fail
    with WireServer(good()) as server:
        replies = ask_all(config(server, telemetry=TELEMETRY), mode, 2)
    assert [reply.text for reply in replies] == ["Hello", "Hello"]
    # Once a client, and without the words of who failed.
    assert caplog.messages == ["telemetry is incomplete: OpenTelemetry raised RuntimeError"]
    # The rest is there.
    assert len(program.spans()) == spans
    durations = program.points().get("gen_ai.client.operation.duration s", [])
    assert sum(point.count for point in durations) == measured


def test_a_stream_that_is_dropped_while_a_span_ends_does_not_wait_for_itself(program: Program) -> None:
    lock = threading.Lock()
    held: list[ChatStream] = []
    events: list[str] = []

    def locked(event: str) -> None:
        # As exporters do, with a lock that is not re-entrant; the garbage collector may come at any time.
        with_lock = lock.acquire(timeout=2)
        events.append(event if with_lock else f"{event} within the one before")
        held.clear()
        if with_lock:
            lock.release()

    begun = streamed([OPENAI.preamble(), OPENAI.text("Hel")], "stall")
    with WireServer(lambda request: begun if request.json.get("stream") else good()(request)) as server:
        with LlamaClient(config(server, telemetry=TELEMETRY)) as client:
            held.append(client.chat.completions.create(messages=MESSAGES, stream=True))
            program.does = locked
            client.ask("hi")
    # The stream was dropped while the call's span began.
    assert [event for event in events if event != "measure"] == ["start", "end", "end"]
    assert sorted(known(span)["llama_client.attempt.outcome"] for span in program.spans()) == ["cancelled", "ok"]


def test_without_the_package_the_client_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingExtraError, match=r"llama-client\[otel\]") as caught:
        LlamaClient({"telemetry": TELEMETRY})
    assert caught.value.extra == "otel"
    LlamaClient({"telemetry": {"enabled": False, "content": True}}).close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_process_has_spans_too(program: Program) -> None:
    with WireServer(good()) as server, LlamaClient(config(server, telemetry=TELEMETRY)) as client:
        client.ask("hi")
        child = os.fork()
        if child == 0:
            client.ask("hi")
            os._exit(0 if len(program.spans()) == 2 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(program.spans()) == 1


_OFF = """
import sys
from llama_client import LlamaClient
with LlamaClient({tables!r}) as client:
    assert client.ask("hi").text == "Hello"
print([name for name in sys.modules if name.startswith(("opentelemetry", "llama_client.telemetry"))])
"""

_SET_UP_LATER = """
from llama_client import LlamaClient
with LlamaClient({tables!r}) as client:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    client.ask("hi")
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace.set_tracer_provider(provider)
    client.ask("hi")
print([span.name for span in kept.get_finished_spans()])
"""


@pytest.mark.parametrize(
    ("script", "telemetry", "printed"),
    [(_OFF, {"content": True}, "[]"), (_SET_UP_LATER, TELEMETRY, "['chat m']")],
    ids=["off", "set up after the client was made"],
)
def test_in_a_fresh_process(script: str, telemetry: dict[str, Any], printed: str, tmp_path: Path) -> None:
    with WireServer(good()) as server:
        tables = config(server, telemetry=telemetry, ledger={"enabled": False})
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", script.format(tables=tables)],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
        )
    assert (run.stdout.strip(), run.stderr) == (printed, "")
