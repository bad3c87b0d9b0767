"""Cases about errors and answers that break off."""

from __future__ import annotations

from collections.abc import Iterator

from llama_client.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    InvalidResponseError,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
    StreamInterruptedError,
)
from llama_client.providers.wire.errors import Failure, error_of
from llama_client.testing.conformance.bench import MODES, Bench
from llama_client.testing.conformance.case import CALLS, STREAMS, Case, case
from llama_client.testing.conformance.expectations import demand, expect, is_foreign
from llama_client.testing.conformance.said import Refusal, Said
from llama_client.testing.conformance.wires import Engine
from llama_client.testing.loopback import Answer, closed_port, hangup, head, streamed, whole

_TIMEOUT_S = 0.1
_MESSAGE = "the suite says no"


def _status(
    status: int, kind: type[ProviderError], message: str, wait_s: int | None = None, *, suffix: str = ""
) -> Case:
    def refused(bench: Bench) -> None:
        outcome = bench.ask(Refusal(status, message, wait_s))
        error = outcome.refused(kind)
        assert isinstance(error, ProviderError)
        expect("the class", kind.__name__, type(error).__name__)
        if not isinstance(bench.wire, Engine):
            expect("http_status", status, error.http_status)
        plan = (kind.retryable_by_default, kind.failover_by_default)
        expect("retryable and failover", plan, (error.retryable, error.failover))
        expect("retry_after_s", None if wait_s is None else float(wait_s), error.retry_after_s)
        demand(message in str(error), f"the message to hold {message!r}", str(error))
        expect(
            "the provider and the target of the error",
            (bench.name, f"{bench.name}/{bench.wire.model}"),
            (error.provider, error.target),
        )
        expect("the outcome of the attempt", ["error"], [attempt.outcome for attempt in outcome.attempts])

    refused.__name__ = f"status_{status}{suffix}"
    why = "The class, and whether and when to try again or elsewhere, decide what becomes of the call."
    return case(why, needs=["errors"], engine=MODES)(refused)


def _class_of(status: int) -> type[ProviderError]:
    """The class that this package gives a status that few services have."""
    return type(error_of(Failure(status, {}, {"error": {"message": _MESSAGE}}, 0.0)))


_STATUSES = (
    _status(400, BadRequestError, _MESSAGE),
    _status(401, AuthenticationError, "the key is not valid"),
    _status(403, PermissionDeniedError, _MESSAGE),
    _status(404, ModelNotFoundError, "the model does not exist"),
    _status(413, RequestTooLargeError, "the request is too large"),
    _status(429, RateLimitError, "rate limit reached", 7),
    _status(500, ServerError, "something went wrong"),
    _status(503, OverloadedError, "the service is overloaded"),
    _status(429, RateLimitError, "rate limit reached", 0, suffix="_try_at_once"),
    _status(503, OverloadedError, "the service is overloaded", 3, suffix="_with_a_wait"),
    _status(502, _class_of(502), _MESSAGE),
    _status(504, _class_of(504), _MESSAGE),
    _status(529, _class_of(529), _MESSAGE),
    _status(402, _class_of(402), _MESSAGE),
    _status(408, _class_of(408), _MESSAGE),
    _status(409, _class_of(409), _MESSAGE),
    _status(498, _class_of(498), _MESSAGE),
)


@case(
    "The request of an attempt goes out once: the router decides on retries, and accounts for them.", needs=["errors"]
)
def no_hidden_retry(bench: Bench) -> None:
    for status in (429, 500, 503):
        bench.ask(Refusal(status, _MESSAGE, 1 if status == 429 else None)).failed()
        expect(f"the number of requests where the answer is {status}", 1, len(bench.received))
    bench.ask(hangup()).failed()
    expect("the number of requests where the connection ends without an answer", 1, len(bench.received))


@case("Whether the model may have worked decides whether the call is charged.")
def sent_once_sent(bench: Bench) -> None:
    outcome = bench.ask(hangup())
    _is_connection_error(outcome.failed())
    expect("facts.sent", [True], [attempt.sent for attempt in outcome.attempts])
    outcome = bench.ask(Said(("Hello",)))
    outcome.answered()
    expect("facts.sent of an answer", [True], [attempt.sent for attempt in outcome.attempts])


@case("A server that is not running has charged nothing, and another target can answer.")
def not_sent_where_nothing_listens(bench: Bench) -> None:
    with closed_port() as url:
        outcome = bench.ask_times(1, url=url)[0]
    error = outcome.refused(APIConnectionError)
    assert isinstance(error, ProviderError)
    expect("retryable and failover", (True, True), (error.retryable, error.failover))
    expect("facts.sent", [False], [attempt.sent for attempt in outcome.attempts])


@case("What is no answer must not be taken for one.")
def malformed_body(bench: Bench) -> None:
    wire = bench.spoken
    body = streamed([wire.malformed_piece()], headers=wire.stream_headers)
    error = bench.ask(body if bench.streams else whole(wire.malformed, headers=wire.headers)).failed()
    demand(isinstance(error, InvalidResponseError), "an InvalidResponseError", f"{type(error).__name__}: {error}")
    _expect_once(bench)


@case(
    "A part that cannot be read ends the answer with an error, not with what came before.",
    needs=["streams"],
    modes=STREAMS,
)
def malformed_midway(bench: Bench) -> None:
    wire = bench.spoken
    begun = Said(("Hello ",), finish_reason=None)
    _expect_interruption(bench, streamed([*wire.pieces(begun), wire.malformed_piece()], headers=wire.stream_headers))


@case("An answer that was cut is not whole.")
def connection_cut(bench: Bench) -> None:
    wire = bench.spoken
    if not bench.streams:
        body = wire.whole(Said(("Hello there",)))
        cut = Answer([head(200, {**wire.headers, "content-length": str(len(body))}) + body[: len(body) // 2]], "close")
        _is_connection_error(bench.ask(cut).failed())
        _expect_once(bench)
        return
    if "streams" in wire.can:
        begun = streamed(wire.pieces(Said(("Hello ",), finish_reason=None)), "cut", headers=wire.stream_headers)

        def pieces() -> Iterator[bytes | float]:
            yield from begun.pieces
            # Some HTTP libraries lose what comes together with the break.
            bench.begun.wait(bench.patience_s)

        _expect_interruption(bench, Answer(pieces(), begun.then), text="Hello ")
        return
    body = wire.whole(Said(("Hello there",)))
    bench.ask(streamed([body[: len(body) // 2]], "cut", headers=wire.stream_headers)).failed()


@case(
    "A stream that ends without a finish reason was broken off, however politely.",
    needs=["streams"],
    modes=STREAMS,
    engine=MODES,
)
def ends_without_finish_reason(bench: Bench) -> None:
    begun = Said(("Hello ", "there"), finish_reason=None)
    outcome = bench.ask(begun)
    error = outcome.failed()
    kinds = StreamInterruptedError if bench.streams else APIConnectionError
    demand(isinstance(error, kinds), kinds.__name__, f"{type(error).__name__}: {error}")


@case(
    "An error in the midst of an answer is not swallowed, and what was said before is kept.",
    needs=["streams", "error events"],
    modes=STREAMS,
)
def error_event_midway(bench: Bench) -> None:
    wire = bench.spoken
    pieces = [*wire.pieces(Said(("Hello ",), finish_reason=None)), wire.error_event(_MESSAGE)]
    _expect_interruption(bench, streamed(pieces, headers=wire.stream_headers), says=_MESSAGE, text="Hello ")


@case(
    "An error in place of an answer can go to another target.",
    needs=["streams", "error events"],
    modes=STREAMS,
)
def error_event_first(bench: Bench) -> None:
    wire = bench.spoken
    error = bench.ask(streamed([wire.error_event(_MESSAGE)], headers=wire.stream_headers)).failed()
    demand(_MESSAGE in str(error), f"the message to hold {_MESSAGE!r}", str(error))


@case("Some servers say 200 to everything; an error is no answer without text.", needs=["errors in a 200"], modes=CALLS)
def error_in_a_200(bench: Bench) -> None:
    wire = bench.spoken
    error = bench.ask(whole(wire.refusal(Refusal(200, _MESSAGE)), headers=wire.headers)).failed()
    demand(_MESSAGE in str(error), f"the message to hold {_MESSAGE!r}", str(error))


@case("A call with a timeout fails at it, and the wait ends.")
def stall_is_a_timeout(bench: Bench) -> None:
    bench.says(Answer([bench.patience_s], "close"))
    outcome = bench.ask_times(1, timeout=_TIMEOUT_S)[0]
    error = outcome.failed()
    demand(isinstance(error, APITimeoutError), "an APITimeoutError", f"{type(error).__name__}: {error}")
    if bench.received:  # else a slow machine has not come so far
        _expect_once(bench)
        expect("facts.sent of a request that was received", [True], [attempt.sent for attempt in outcome.attempts])


@case("A stream that stalls is no answer that takes its time.", needs=["streams"], modes=STREAMS)
def stall_midway_is_a_timeout(bench: Bench) -> None:
    begun = list(bench.answer(Said(("Hello ",), finish_reason=None)).pieces)[:-1]
    bench.says(Answer([*begun, bench.patience_s], "close"))
    error = bench.ask_times(1, silence_s=_TIMEOUT_S)[0].failed()
    # A slow machine may not have come to the first content.
    cause = error.__cause__ if isinstance(error, StreamInterruptedError) else error
    demand(isinstance(cause, APITimeoutError), "an APITimeoutError as its cause", f"{type(error).__name__}: {error}")
    demand(len(bench.received) <= 1, "one request for a question", f"{len(bench.received)}")


@case("A client lives on after an error.", needs=["errors"])
def next_answer_after_failures(bench: Bench) -> None:
    bench.says(Refusal(500, _MESSAGE), Refusal(401, _MESSAGE), Said(("Hello",)))
    *failures, answer = bench.ask_times(3)
    for outcome in failures:
        outcome.failed()
    expect("the text", "Hello", answer.answered().text)


@case("Only errors of the package tell the router what to do.")
def no_foreign_exceptions(bench: Bench) -> None:
    wire = bench.spoken
    bodies = [b"", b"[]", b"null", b"<html>busy</html>", b"\xff\xfe", b'{"says": 5, "choices": [], "message": 7}']
    for body in bodies:
        for status in (200, 500):
            framed = (
                streamed([body], status=status) if bench.streams else whole(body, status=status, headers=wire.headers)
            )
            error = bench.ask(framed).error
            demand(not is_foreign(error), f"a ProviderError for the body {body!r} with status {status}", f"{error}")


def _expect_interruption(bench: Bench, answer: Answer, *, says: str = "", text: str | None = None) -> None:
    outcome = bench.ask(answer)
    error = outcome.refused(StreamInterruptedError)
    _expect_once(bench)
    demand(says in str(error), f"the message to hold {says!r}", str(error))
    assert isinstance(error, StreamInterruptedError)
    if text is not None:
        expect("the partial text", text, error.partial.text if error.partial is not None else None)
        expect("the text of the chunks before it", text, outcome.text)


def _expect_once(bench: Bench) -> None:
    expect("the number of requests for a question", 1, len(bench.received))


def _is_connection_error(error: ProviderError) -> None:
    demand(isinstance(error, APIConnectionError), "an APIConnectionError", f"{type(error).__name__}: {error}")


CASES: tuple[Case, ...] = (
    *_STATUSES, no_hidden_retry, sent_once_sent, not_sent_where_nothing_listens, malformed_body, malformed_midway,
    connection_cut, ends_without_finish_reason, error_event_midway, error_event_first, error_in_a_200,
    stall_is_a_timeout,
    stall_midway_is_a_timeout, next_answer_after_failures, no_foreign_exceptions,
)  # fmt: skip
