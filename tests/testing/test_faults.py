"""Each named fault does to a client what its row says, in each dialect, for whole answers and streams."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import pytest

from llama_client import ProviderError, StreamInterruptedError, errors
from llama_client.testing.clock import FakeClock
from llama_client.testing.dialects import DIALECTS, GROQ, OLLAMA, OPENAI, Dialect, dialect_of
from llama_client.testing.faults import FAULTS, GOOD, Fault, FaultServer, Kind, fault
from llama_client.testing.faults.answers import Asked
from llama_client.testing.faults.table import canonical
from llama_client.testing.loopback import Answer, Received, as_json
from llama_client.testing.played import Played
from llama_client.testing.seams import using
from tests.asking import MODES, Asker

PROMPT = "Why do llamas hum?"
TEXT = "Llamas hum überall."
PLENTY_S = 20.0
# These take time; in memory it is that of a clock which is turned.
WAITING = (
    "stall", "head-stall", "body-stall", "trickle", "preamble-stall", "text-stall", "slow-first-token", "slow-trickle",
)  # fmt: skip
IN_MEMORY = (*WAITING, "429-date", "reset", "no-http", "torn-json", "text-cut", "torn-utf8", "endless-body")


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


def result_of(mode: str, config: dict[str, Any], timeout: float) -> str | ProviderError:
    """The text of the answer, or the error."""
    try:
        return Asker(mode, config, [])(PROMPT, model="x/some/model", timeout=timeout).text
    except ProviderError as error:
        return error


def check(each: Fault, result: str | ProviderError, text: str) -> None:
    """Holds what a client got against the row."""
    if isinstance(result, str):
        assert (each.errors, result) == ((), text)
        return
    assert type(result).__name__ in each.errors
    assert result.http_status in each.statuses
    if each.wait_s is None:
        assert result.retry_after_s is None
    else:
        assert result.retry_after_s is not None
        assert each.wait_s[0] <= result.retry_after_s <= each.wait_s[1]
    if isinstance(result, StreamInterruptedError):
        assert result.partial is not None
        assert text.startswith(result.partial.text)


def cases(names: Iterable[str], *, long: Collection[str] = ()) -> list[Any]:
    """Each fault in each mode that it exists in; the modes and faults in `long` are marked so."""
    return [
        pytest.param(name, mode, marks=pytest.mark.long if {name, mode} & {*long} else [])
        for name in names
        for mode in MODES
        if FAULTS[name].fits(streams=mode.startswith("stream"))
    ]


# What takes the processor for seconds is tried in tests/wire.
@pytest.mark.parametrize(
    ("name", "mode", "dialect"),
    [
        pytest.param(*case.values, dialect, marks=case.marks, id=f"{case.values[0]}-{case.values[1]}-{dialect}")
        for case in cases([n for n in FAULTS if n not in WAITING], long=("call-async", "stream-sync", "endless-event"))
        for dialect in DIALECTS
        if FAULTS[case.values[0]].fits(streams=case.values[1].startswith("stream"), kind=dialect.kind)
    ],
)
def test_a_fault_does_what_its_row_says(name: str, mode: str, dialect: Dialect, server: FaultServer) -> None:
    each = FAULTS[name]
    server.clear()
    kind: Kind = dialect.kind  # type: ignore[assignment]
    config = dialect.config("", api_key="none")
    config["providers"]["x"]["base_url"] = server.url_for(kind, fault=name)
    result = result_of(mode, config, PLENTY_S)
    (request,) = server.report().requests
    assert (request.fault, request.streams) == (name, mode.startswith("stream"))
    check(each, result, request.text)


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
@pytest.mark.parametrize(("name", "mode"), cases(IN_MEMORY))
def test_a_fault_plays_without_a_socket(name: str, mode: str, dialect: Dialect) -> None:
    each, clock = FAULTS[name], FakeClock()

    def play(received: Received) -> Answer:
        # Whether a silent server lives is asked otherwise.
        return each(received) if received.method == "POST" else as_json({"error": "not here"}, status=404)

    with using(clock=clock.clock, interceptor=Played(play, clock)):
        result = result_of(mode, dialect.config("http://127.0.0.1:1", api_key="none"), PLENTY_S)
    check(each, result, TEXT)


@pytest.mark.parametrize("name", WAITING)
def test_a_fault_that_takes_time_takes_it_over_a_socket_too(name: str, server: FaultServer) -> None:
    streams = FAULTS[name].only == "stream" or name == "slow-trickle"
    config = OPENAI.config("", api_key="none", timeout_s=0.3)
    config["providers"]["x"]["base_url"] = server.url_for("openai", fault=name)
    config["routing"] |= {"stall_s": 0.3}
    is_good = not FAULTS[name].errors or name == "text-stall"
    server.clear()
    result = result_of("stream-sync" if streams else "call-sync", config, PLENTY_S if is_good else 0.3)
    assert server.wait_until_idle()
    report = server.report()
    # Whether a silent server lives is asked too, and stalls as well.
    assert (report.closed_early >= 1) is not isinstance(result, str)
    if isinstance(result, str):
        assert (FAULTS[name].errors, result) == ((), report.requests[0].text)
    else:
        # A busy machine may read nothing in so short a time.
        assert type(result).__name__ in (*FAULTS[name].errors, "APITimeoutError")


@pytest.mark.parametrize("each", FAULTS.values(), ids=lambda each: each.name)
def test_a_row_is_whole(each: Fault) -> None:
    assert each.name == canonical(each.name) != GOOD
    assert each.what
    assert not each.what.endswith(".")
    assert each.statuses
    assert all(issubclass(getattr(errors, name), ProviderError) for name in each.errors)


@pytest.mark.parametrize("spelling", ["429 integer", "429-integer", " 429, Integer", "429_integer"])
def test_a_name_is_found_however_its_words_are_joined(spelling: str) -> None:
    assert fault(spelling) is FAULTS["429-integer"]


def test_a_name_that_is_none_is_told_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="no fault is called 'text-cutt': did you mean 'text-cut'"):
        fault("text-cutt")


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/openai/v1/chat/completions", GROQ),
        ("/v1/chat/completions", OPENAI),
        ("/proxy/v1/models/a/b?x=y", OPENAI),
        ("/api/chat", OLLAMA),
        ("/", None),
        ("/v2/chat", None),
    ],
)
def test_a_path_tells_the_dialect(path: str, dialect: Dialect | None) -> None:
    assert dialect_of(path) is dialect


@pytest.mark.parametrize(
    "body", [b"", b"{no json", b"[]", b'{"messages": 7}', b'{"messages": [7]}', b'{"messages": [{"content": [7]}]}']
)
def test_a_request_that_is_none_gets_its_fault_all_the_same(body: bytes) -> None:
    received = Received("POST", "/v1/chat/completions", {}, body)
    assert Asked.of(received).prompt == ""
    assert FAULTS["500"](received).content.startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("name", ["endless-body", "endless-event", "endless-error", "head-endless", "trickle"])
def test_what_does_not_end_ends_at_a_bound(name: str) -> None:
    answer = FAULTS[name](Received("POST", "/v1/chat/completions", {}, b"{}"))
    assert sum(piece if isinstance(piece, float) else len(piece) / 1e9 for piece in answer.pieces) < 700


@pytest.mark.parametrize(
    ("path", "body", "streams"),
    [
        ("/v1/chat/completions", b"{}", False),
        ("/api/chat", b"{}", True),
        ("/api/chat", b'{"stream": false}', False),
        ("/v1/chat/completions", b'{"stream": true}', True),
    ],
)
def test_ollama_streams_unless_it_is_told_not_to(path: str, body: bytes, streams: bool) -> None:
    assert Asked.of(Received("POST", path, {}, body)).streams is streams
