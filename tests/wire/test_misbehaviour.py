"""Servers that misbehave in every way that a network knows: what leaves is one of our errors, soon, without the key."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from llama_client import (
    APIConnectionError,
    APITimeoutError,
    AsyncLlamaClient,
    InvalidResponseError,
    LlamaClient,
    LlamaClientError,
    ProviderError,
    StreamInterruptedError,
)
from llama_client.testing.dialects import DIALECTS, Dialect
from llama_client.testing.loopback import (
    Answer,
    WireServer,
    as_json,
    byte_by_byte,
    closed_port,
    gzipped,
    redirect,
    streamed,
    whole,
)
from llama_client.testing.wire_format import JSON
from tests.asking import MODES
from tests.lengths import two_modes
from tests.wire.asking import KEY, PROMPT, SOON_S, ask, check_no_key, failure, fault_answer
from tests.wire.certificates import SelfSigned

SHORT_S = 0.3

pytestmark = pytest.mark.parametrize("dialect", DIALECTS, ids=str)
each_mode = pytest.mark.parametrize("mode", MODES)


# Before there is any content, and the error that each is.
BROKEN: dict[str, type[ProviderError]] = {
    **dict.fromkeys(("hangup", "reset", "no-http", "head-endless", "head-reset", "head-cut"), APIConnectionError),
    **dict.fromkeys(("body-reset", "body-cut", "short-body"), APIConnectionError),
    **dict.fromkeys(("torn-json", "not-an-object", "a-string", "other-fields", "other-items"), InvalidResponseError),
    **dict.fromkeys(("not-text", "deep-json", "empty", "empty-object", "html-200"), InvalidResponseError),
}
SLOW = ("stall", "head-stall", "body-stall", "trickle")


def check_connection_error(error: ProviderError, *, sent: bool) -> None:
    """Holds an error against what the contract says of those that another try may mend."""
    assert (error.retryable, error.failover) == (True, True)
    assert (error.provider, error.target) == ("x", "x/some/model")
    (attempt,) = error.attempts
    assert (attempt.outcome, attempt.sent, attempt.error) == ("error", sent, type(error).__name__)


@each_mode
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_answer_is_one_of_our_errors(
    dialect: Dialect, name: str, mode: str, logs: pytest.LogCaptureFixture
) -> None:
    with WireServer(dialect.answers(fault_answer(name, dialect, streams=mode.startswith("stream")))) as server:
        error = failure(dialect, server.url, mode)
    assert type(error) is BROKEN[name]
    check_connection_error(error, sent=True)
    check_no_key(error, logs)


@two_modes
@pytest.mark.parametrize("name", SLOW)
def test_an_answer_that_does_not_come_in_time_is_a_timeout(
    dialect: Dialect, name: str, mode: str, logs: pytest.LogCaptureFixture
) -> None:
    with WireServer(dialect.answers(fault_answer(name, dialect, streams=mode.startswith("stream")))) as server:
        started = time.monotonic()
        error = failure(dialect, server.url, mode, timeout=SHORT_S)
        assert SHORT_S * 0.9 < time.monotonic() - started < SOON_S
        assert server.closed_early.wait(SOON_S)
    assert type(error) is APITimeoutError
    check_connection_error(error, sent=True)
    check_no_key(error, logs)


@each_mode
def test_a_refused_connection_was_not_sent(dialect: Dialect, mode: str, logs: pytest.LogCaptureFixture) -> None:
    with closed_port() as url:
        error = failure(dialect, url, mode)
    assert type(error) is APIConnectionError
    assert error.http_status is None
    check_connection_error(error, sent=False)
    check_no_key(error, logs)


@each_mode
def test_a_host_without_an_address_was_not_sent(
    dialect: Dialect, mode: str, logs: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def resolver(host: Any, *args: Any, **kwargs: Any) -> Any:
        # Said here, as some networks take long to say it, or resolve every name.
        if b"nonexistent" in (host if isinstance(host, bytes) else str(host).encode()):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    error = failure(dialect, "http://nonexistent.invalid:8000", mode)
    assert type(error) is APIConnectionError
    check_connection_error(error, sent=False)
    check_no_key(error, logs)


@each_mode
def test_a_server_that_drops_connections_may_have_been_sent_to(
    dialect: Dialect, mode: str, logs: pytest.LogCaptureFixture
) -> None:
    with WireServer(drops=True) as server:
        error = failure(dialect, server.url, mode)
    assert type(error) is APIConnectionError
    check_connection_error(error, sent=True)
    check_no_key(error, logs)


@each_mode
def test_a_certificate_that_nobody_vouches_for_is_not_sent_to(
    dialect: Dialect, mode: str, certificate: SelfSigned, logs: pytest.LogCaptureFixture
) -> None:
    with WireServer(tls=certificate.context) as server:
        error = failure(dialect, server.url, mode)
        assert server.requests == []
    assert type(error) is APIConnectionError
    assert "certificate" in str(error).lower()
    check_connection_error(error, sent=False)
    check_no_key(error, logs)


@each_mode
def test_a_certificate_that_the_user_trusts_is_good(dialect: Dialect, mode: str, certificate: SelfSigned) -> None:
    answer = dialect.good(streams=mode.startswith("stream"))
    with WireServer(dialect.answers(answer), tls=certificate.context) as server:
        assert ask(dialect, server.url, mode, ca_file=str(certificate.certificate)).text == "Hello"


@each_mode
def test_a_plain_server_behind_https_was_not_sent_to(
    dialect: Dialect, mode: str, logs: pytest.LogCaptureFixture
) -> None:
    with WireServer() as server:
        error = failure(dialect, server.url.replace("http:", "https:"), mode)
        assert server.requests == []
    assert type(error) is APIConnectionError
    check_connection_error(error, sent=False)
    check_no_key(error, logs)


@each_mode
def test_a_tls_server_behind_http_may_have_been_sent_to(
    dialect: Dialect, mode: str, certificate: SelfSigned, logs: pytest.LogCaptureFixture
) -> None:
    with WireServer(tls=certificate.context) as server:
        error = failure(dialect, server.url.replace("https:", "http:"), mode)
    assert type(error) is APIConnectionError
    check_connection_error(error, sent=True)
    check_no_key(error, logs)


class Hum(BaseModel):
    """What `parse` is asked for."""

    reason: str


def ask_sync(config: Any, verb: str) -> None:
    with LlamaClient(config) as client:
        if verb == "ask":
            client.ask(PROMPT, timeout=SHORT_S)
        else:
            messages = [{"role": "user", "content": PROMPT}]
            client.chat.completions.parse(messages=messages, response_format=Hum, timeout=SHORT_S)


async def ask_async(config: Any, verb: str) -> None:
    async with AsyncLlamaClient(config) as client:
        if verb == "ask":
            await client.ask(PROMPT, timeout=SHORT_S)
        else:
            messages = [{"role": "user", "content": PROMPT}]
            await client.chat.completions.parse(messages=messages, response_format=Hum, timeout=SHORT_S)


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("verb", ["ask", "parse"])
@pytest.mark.parametrize("name", ["hangup", "no-http", "torn-json", "stall"])
def test_ask_and_parse_raise_what_create_does(
    dialect: Dialect, name: str, verb: str, colour: str, logs: pytest.LogCaptureFixture
) -> None:
    with WireServer(dialect.answers(fault_answer(name, dialect, streams=False))) as server:
        config = dialect.config(server.url, api_key=KEY)
        with pytest.raises(BROKEN.get(name, APITimeoutError)) as caught:
            ask_sync(config, verb) if colour == "sync" else asyncio.run(ask_async(config, verb))
    check_connection_error(caught.value, sent=True)
    check_no_key(caught.value, logs)


INTERRUPTED: dict[str, Callable[[Dialect, bool], Answer]] = {
    "closes": lambda dialect, _: streamed([dialect.text("Hel")], "cut", headers=dialect.stream_headers),
    "resets": lambda dialect, _: streamed([dialect.text("Hel")], "reset", headers=dialect.stream_headers),
    "ends": lambda dialect, _: streamed([dialect.text("Hel")], "eof", headers=dialect.stream_headers),
    "sends broken JSON": lambda dialect, _: streamed(
        [dialect.text("Hel"), dialect.text("lo").replace(b"}", b""), *dialect.ending()], headers=dialect.stream_headers
    ),
    "sends a list": lambda dialect, _: streamed(
        [dialect.text("Hel"), dialect.event([1]), *dialect.ending()], headers=dialect.stream_headers
    ),
    "tells an error": lambda dialect, _: streamed(
        [dialect.text("Hel"), dialect.event(dialect.failure("boom")), *dialect.ending()],
        headers=dialect.stream_headers,
    ),
    "says less than announced": lambda dialect, _: whole(
        dialect.text("Hel"), headers=dialect.stream_headers, content_length=9999, then="close"
    ),
}


# aiohttp drops what it has received and not handed over when the connection fails.
@pytest.mark.own_wire(mode=["stream-async"], how=["closes", "resets", "says less than announced"])
@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
@pytest.mark.parametrize("how", INTERRUPTED)
def test_whatever_breaks_after_text_is_an_interruption_with_the_partial(
    dialect: Dialect, how: str, mode: str, logs: pytest.LogCaptureFixture
) -> None:
    with WireServer(dialect.answers(INTERRUPTED[how](dialect, True))) as server:
        error = failure(dialect, server.url, mode)
    assert isinstance(error, StreamInterruptedError)
    assert error.partial is not None
    assert error.partial.text == "Hel"
    assert (error.retryable, error.failover, error.http_status) == (False, False, 200)
    assert [(attempt.outcome, attempt.sent) for attempt in error.attempts] == [("interrupted", True)]
    cause = error.__cause__
    assert isinstance(cause, ProviderError)
    is_connection = how in ("closes", "resets", "says less than announced")
    assert isinstance(cause, APIConnectionError) is is_connection
    assert isinstance(cause, InvalidResponseError) is (not is_connection and how != "tells an error")
    check_no_key(error, logs)


ODD_CHOICES = [
    7,
    [7],
    [{"index": 0, "delta": {"content": 7}}],
    [{"index": 0, "delta": {"tool_calls": [{"index": [1], "id": "a", "function": {"name": "f"}}]}}],
    [{"index": 0, "delta": {"content": "x"}, "finish_reason": ["stop"]}],
]
ODD_LINES: list[dict[str, Any]] = [
    {"message": 7, "done": False},
    {"message": [7], "done": False},
    {"message": {"content": 7}, "done": False},
    {"message": {"thinking": 7}, "done": False},
    {"message": {"content": "x"}, "done": True, "done_reason": ["stop"]},
]


@pytest.mark.parametrize("number", range(5))
def test_an_event_of_another_shape_is_an_invalid_response(dialect: Dialect, number: int) -> None:
    odd = dialect.event(ODD_LINES[number] if dialect.is_ndjson else {"choices": ODD_CHOICES[number]})
    pieces = [dialect.text("Hel"), odd, *dialect.ending()]
    with WireServer(dialect.answers(streamed(pieces, headers=dialect.stream_headers))) as server:
        error = failure(dialect, server.url, "stream-sync")
    assert isinstance(error, StreamInterruptedError)
    assert type(error.__cause__) is InvalidResponseError


@pytest.mark.parametrize("wait", ["nan", "1e999", "-5", "soon", "9" * 400, "Mon, 99 Foo 99999 99:99:99 GMT"])
def test_a_wait_that_is_none_is_left_out(dialect: Dialect, wait: str) -> None:
    limited = as_json(dialect.failure("slow down"), status=429, headers={"retry-after": wait})
    with WireServer(dialect.answers(limited)) as server:
        error = failure(dialect, server.url, "call-sync")
    assert error.http_status == 429
    assert error.retry_after_s in (None, 0)


@each_mode
def test_an_error_within_a_good_status_is_an_error(dialect: Dialect, mode: str) -> None:
    failed = dialect.failure("unauthorized")
    body = dialect.event(failed) if mode.startswith("stream") else json.dumps(failed).encode()
    headers = dialect.stream_headers if mode.startswith("stream") else JSON
    with WireServer(dialect.answers(whole(body, headers=headers))) as server:
        error = failure(dialect, server.url, mode)
    assert error.http_status == 200
    assert not isinstance(error, StreamInterruptedError | InvalidResponseError)


@each_mode
def test_a_body_that_is_no_gzip_though_it_says_so_is_our_error(dialect: Dialect, mode: str) -> None:
    with WireServer(dialect.answers(fault_answer("not-gzip", dialect, streams=mode.startswith("stream")))) as server:
        error = failure(dialect, server.url, mode)
    assert type(error) in (InvalidResponseError, APIConnectionError)
    check_connection_error(error, sent=True)


@each_mode
def test_text_that_no_unicode_can_hold_does_no_harm(dialect: Dialect, mode: str) -> None:
    with WireServer(dialect.answers(dialect.good(streams=mode.startswith("stream"), text="\ud800"))) as server:
        try:
            # A reply that cannot be written down would be a trap.
            assert ask(dialect, server.url, mode).model_dump_json()
        except LlamaClientError as error:
            assert isinstance(error, ProviderError)


@two_modes
@pytest.mark.parametrize("name", ["endless-body", "endless-event", "endless-error"])
def test_an_endless_answer_is_given_up(dialect: Dialect, name: str, mode: str) -> None:
    with WireServer(dialect.answers(fault_answer(name, dialect, streams=mode.startswith("stream")))) as server:
        error = failure(dialect, server.url, mode, timeout=5)
        assert server.closed_early.wait(SOON_S)
        # More than any answer has, and far less than a machine's memory.
        assert not server.overran.is_set()
    assert [attempt.outcome for attempt in error.attempts] == ["error"]


@each_mode
def test_a_slow_server_within_its_time_is_heard_out(dialect: Dialect, mode: str) -> None:
    with WireServer(dialect.answers(byte_by_byte(dialect.good(streams=mode.startswith("stream"))))) as server:
        assert ask(dialect, server.url, mode).text == "Hello"


@pytest.mark.parametrize("mode", ["call-sync", "call-async"])
def test_a_compressed_answer_is_read(dialect: Dialect, mode: str) -> None:
    body = json.dumps(dialect.whole()).encode()
    with WireServer(dialect.answers(gzipped(body, headers=JSON))) as server:
        assert ask(dialect, server.url, mode).text == "Hello"


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_a_compressed_stream_is_read(dialect: Dialect, mode: str) -> None:
    body = b"".join([dialect.preamble(), dialect.text("Hello"), *dialect.ending()])
    with WireServer(dialect.answers(gzipped(body, headers=dialect.stream_headers))) as server:
        assert ask(dialect, server.url, mode).text == "Hello"


@each_mode
def test_a_redirect_is_followed_or_refused(dialect: Dialect, mode: str) -> None:
    good = dialect.good(streams=mode.startswith("stream"))
    with WireServer(lambda request: good if request.path == "/elsewhere" else redirect("/elsewhere")) as server:
        try:
            assert ask(dialect, server.url, mode).text == "Hello"
        except LlamaClientError as error:
            assert isinstance(error, ProviderError)
            assert error.http_status == 307
        assert server.requests[0].path == dialect.path


@each_mode
def test_a_redirect_that_never_ends_is_our_error(dialect: Dialect, mode: str) -> None:
    with WireServer(lambda request: redirect(request.path)) as server:
        error = failure(dialect, server.url, mode)
        assert len(server.requests) < 50
    assert error.attempts


@each_mode
@pytest.mark.parametrize("status", [301, 307, 308])
def test_a_redirect_to_another_server_never_takes_the_key_along(dialect: Dialect, status: int, mode: str) -> None:
    with WireServer(lambda _: dialect.good(streams=mode.startswith("stream"))) as other:
        with WireServer(lambda request: redirect(other.url + request.path, status=status)) as server:
            try:
                ask(dialect, server.url, mode)
            except LlamaClientError as error:
                assert isinstance(error, ProviderError)
        assert not [request for request in other.requests if KEY in repr(request)]


@each_mode
def test_a_location_that_is_none_is_our_error(dialect: Dialect, mode: str) -> None:
    with WireServer(dialect.answers(redirect("http://[:::1/%zz"))) as server:
        assert failure(dialect, server.url, mode).attempts
