"""Each named fault does to a client what its row says, in each dialect, for whole answers and streams."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llama_client import ProviderError, StreamInterruptedError
from llama_client.testing.dialects import DIALECTS, Dialect
from llama_client.testing.fault_server import FaultServer
from llama_client.testing.faults import FAULTS, Fault
from tests.asking import MODES, Asker
from tests.lengths import values

PROMPT = "Why do llamas hum?"
# What ends only by a timeout gets a short one; nothing else is to be ended by it.
SHORT_S, PLENTY_S = 0.3, 20.0
ENDED_BY_TIMEOUT = ("stall", "head-stall", "body-stall", "trickle", "preamble-stall", "text-stall")
# Whole and streamed of each fault and dialect in the gate, sync and async in turn.
EACH_MODE = values(MODES, long=("call-async", "stream-sync"))


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


def played(server: FaultServer, dialect: Dialect, mode: str, each: Fault) -> str | ProviderError:
    """The text of the answer, or the error."""
    config = dialect.config("", api_key="none")
    config["providers"]["x"]["base_url"] = server.url_for(dialect.kind, fault=each.name)  # type: ignore[arg-type]
    is_late = each.name in ENDED_BY_TIMEOUT
    routing = {"retries": 0, "stall_s": SHORT_S} if is_late else {"retries": 0}
    try:
        reply = Asker(mode, config | {"routing": routing}, [])(
            PROMPT, model="x/some/model", timeout=SHORT_S if is_late else PLENTY_S
        )
    except ProviderError as error:
        return error
    return reply.text


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
@pytest.mark.parametrize("mode", EACH_MODE)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_does_what_its_row_says(name: str, mode: str, dialect: Dialect, server: FaultServer) -> None:
    each = FAULTS[name]
    if not each.fits(streams=mode.startswith("stream")):
        pytest.skip(f"{name} is of {each.only} answers")
    server.clear()
    result = played(server, dialect, mode, each)
    (request,) = server.report().requests
    assert (request.fault, request.streams) == (name, mode.startswith("stream"))
    if isinstance(result, str):
        assert each.errors == ()
        assert result == request.text
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
        assert request.text.startswith(result.partial.text)
