"""What goes wrong at a provider, by name: rate limits, refusals, broken connections, broken answers, odd streams.

`FAULTS` has them all. A fault is data, and a function from a request to an `Answer`: `FaultServer` plays it over a
socket, and a fake provider without one.
"""

from __future__ import annotations

import difflib
import re

from llama_client.testing.faults import answers, streams
from llama_client.testing.faults.answers import limited, refused
from llama_client.testing.faults.everyday import EVERYDAY
from llama_client.testing.faults.row import Fault
from llama_client.testing.loopback import (
    endless_head,
    garbage,
    hangup,
    redirect,
    silence,
    whole,
)

GOOD = "good"
"""The name of no fault: a good answer."""


def fault(name: str) -> Fault:
    """A fault by its name.

    Args:
        name: Its name; spaces, commas and hyphens are the same.

    Raises:
        ValueError: There is no such fault.

    Example:
        >>> fault("429 integer").wait_s
        (1, 1)
    """
    found = FAULTS.get(canonical(name))
    if found is None:
        near = difflib.get_close_matches(canonical(name), FAULTS, 1)
        hint = f"did you mean {near[0]!r}?" if near else "llama_client.testing.faults.FAULTS has all names"
        raise ValueError(f"no fault is called {name!r}: {hint}")
    return found


def canonical(name: str) -> str:
    """A name as `FAULTS` has it."""
    return re.sub(r"[\s,_-]+", "-", name.strip().lower())


_RATE, _LOST, _LATE = ("RateLimitError",), ("APIConnectionError",), ("APITimeoutError",)
_SERVER, _INVALID, _CUT = ("ServerError",), ("InvalidResponseError",), ("StreamInterruptedError",)
# Where the connection itself breaks, an HTTP library may drop what it has not handed over; then nothing was shown.
_CUT_OR_LOST = (*_CUT, *_LOST)
_SOON = (0.02, 0.02)
# A wait of a second, or until a timeout, is drawn rarely.
_SLOW, _VERY_SLOW = 0.1, 0.15
# Breaks after content are rarer than those before it.
_LATER = 0.4
_OVERLOADED, _SERVER_ERROR = "overloaded_error", "server_error"
_FAILED = "The server had an error while processing your request."

_LIMITS = (
    Fault("429", "rate limited, without a wait", _RATE, (429,), limited()),
    Fault("429-now", "rate limited, with `Retry-After: 0`", _RATE, (429,), limited({"retry-after": "0"}),
          wait_s=(0, 0)),
    Fault("429-integer", "rate limited, with `Retry-After` in seconds", _RATE, (429,),
          limited({"retry-after": "1"}), wait_s=(1, 1), weight=_SLOW),
    Fault("429-decimal", "rate limited, with `Retry-After` in fractions of a second", _RATE, (429,),
          limited({"retry-after": "0.02"}), wait_s=_SOON),
    Fault("429-long", "rate limited for an hour", _RATE, (429,), limited({"retry-after": "3600"}),
          wait_s=(3600, 3600), weight=0),
    Fault("429-date", "rate limited, with `Retry-After` as a date beside the server's `Date`", _RATE, (429,),
          answers.limited_until(1, with_date=True), wait_s=(1, 1), weight=_SLOW),
    # Dates know no fractions, and the two clocks are the same one.
    Fault("429-date-alone", "rate limited, with `Retry-After` as a date, without the server's `Date`", _RATE, (429,),
          answers.limited_until(1, with_date=False), wait_s=(0, 1), weight=_SLOW),
    Fault("429-milliseconds", "rate limited, with OpenAI's `retry-after-ms`", _RATE, (429,),
          limited({"retry-after-ms": "20"}), wait_s=_SOON),
    Fault("429-reset", "rate limited, with the reset of requests as Groq writes it (`20ms`)", _RATE, (429,),
          limited({"x-ratelimit-reset-requests": "20ms", "x-ratelimit-reset": "20ms"}), wait_s=_SOON),
    Fault("429-reset-seconds", "rate limited, with the reset in seconds as Together writes it", _RATE, (429,),
          limited({"x-ratelimit-reset": "0.02"}), wait_s=_SOON),
    Fault("429-text", "rate limited; only the message tells the wait", _RATE, (429,),
          limited(message="Rate limit reached. Please try again in 15ms."), wait_s=(0.015, 0.015)),
    Fault("429-nonsense", "rate limited, with a `Retry-After` that is no time", _RATE, (429,),
          limited({"retry-after": "soon"})),
    Fault("quota", "429, as the account has no quota left", ("QuotaExceededError",), (429,),
          refused(429, "You exceeded your current quota (insufficient_quota): check your plan and billing details.",
                  "insufficient_quota", "insufficient_quota")),
    Fault("quota-402", "402, as the account has no credit left", ("QuotaExceededError",), (402,),
          refused(402, "Your account has insufficient credit.", "insufficient_credits")),
)  # fmt: skip

_REFUSALS = (
    Fault("400", "the request is called invalid", ("BadRequestError",), (400,),
          refused(400, "The request body is invalid.")),
    Fault("401", "the API key is refused", ("AuthenticationError",), (401,),
          refused(401, "Incorrect API key provided.", code="invalid_api_key")),
    Fault("403", "the key may not do this", ("PermissionDeniedError",), (403,),
          refused(403, "You have no access to this model.", "permission_error")),
    Fault("404-model", "the model does not exist", ("ModelNotFoundError",), (404,),
          refused(404, "model 'some/model' not found", code="model_not_found")),
    Fault("404-page", "the address does not exist: a page in HTML", _INVALID, (404,),
          answers.page(404, "<html><h1>404 Not Found</h1></html>")),
    Fault("413", "the request is too large", ("RequestTooLargeError",), (413,),
          refused(413, "Request entity too large.", "request_too_large")),
    Fault("422", "a field is called invalid", ("BadRequestError",), (422,),
          refused(422, "messages: field required")),
    Fault("context-length", "the prompt is longer than the model's context", ("ContextLengthError",), (400,),
          refused(400, "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 "
                  "tokens.", code="context_length_exceeded")),
    Fault("unsupported", "a parameter is not supported", ("UnsupportedFeatureError",), (400,),
          refused(400, "Unsupported parameter: 'temperature' is not supported with this model.",
                  code="unsupported_parameter")),
    Fault("content-filter-refusal", "a content filter refuses the prompt", ("BadRequestError",), (400,),
          refused(400, "The response was filtered due to the content management policy.", code="content_filter")),
    Fault("failed-generation", "the model wrote a broken tool call, as Groq or Ollama tells it",
          ("GenerationFailedError", "ServerError"), (400, 500), answers.failed_generation),
    Fault("500", "an internal error", _SERVER, (500,), refused(500, _FAILED, _SERVER_ERROR), weight=3),
    Fault("500-empty", "an internal error without a body", _SERVER, (500,),
          answers.anyhow(whole(b"", status=500))),
    Fault("502-html", "a gateway's page", _SERVER, (502,), answers.page(502, "<html><h1>Bad gateway</h1></html>"),
          weight=3),
    Fault("503", "overloaded", ("OverloadedError",), (503,),
          refused(503, "The service is overloaded.", _OVERLOADED)),
    Fault("503-wait", "overloaded, with a `Retry-After`", ("OverloadedError",), (503,),
          refused(503, "The service is overloaded.", _OVERLOADED, headers={"retry-after": "0.02"}), wait_s=_SOON),
    Fault("504", "a gateway's timeout: a page in HTML", _SERVER, (504,),
          answers.page(504, "<html><h1>Gateway timeout</h1></html>")),
    Fault("529", "overloaded, by the status that Anthropic has for it", ("OverloadedError",), (529,),
          refused(529, "Overloaded.", _OVERLOADED)),
)  # fmt: skip

_CONNECTIONS = (
    Fault("reset", "the connection is reset once the request was read", _LOST, (None,),
          answers.anyhow(hangup("reset")), weight=3),
    Fault("hangup", "the connection is closed once the request was read", _LOST, (None,), answers.anyhow(hangup()),
          weight=3),
    Fault("stall", "no answer, and the connection stays open", _LATE, (None,), answers.anyhow(silence()),
          weight=_VERY_SLOW),
    Fault("no-http", "bytes that are no HTTP", _LOST, (None,), answers.anyhow(garbage())),
    Fault("head-endless", "headers that do not end", _LOST, (None,), answers.anyhow(endless_head()), weight=0),
    Fault("head-reset", "a reset after the headers", _LOST, (200,), answers.head_then("reset")),
    Fault("head-cut", "the connection is closed after the headers", _LOST, (200,), answers.head_then("cut")),
    Fault("head-stall", "silence after the headers", _LATE, (200,), answers.head_then("stall"), weight=_VERY_SLOW),
    Fault("body-reset", "a reset within the body, before any text of a stream", _LOST, (200,),
          answers.body_then("reset")),
    Fault("body-cut", "the connection is closed within the body, before any text of a stream", _LOST, (200,),
          answers.body_then("cut")),
    Fault("body-stall", "silence within the body, before any text of a stream", _LATE, (200,),
          answers.body_then("stall"), weight=_VERY_SLOW),
    Fault("short-body", "less than the content length says, and the connection is closed", _LOST, (200,),
          answers.short, weight=3),
    Fault("trickle", "a byte now and then, and never anything to show", _LATE, (200,), answers.trickle, weight=0),
)  # fmt: skip

_BODIES = (
    Fault("garbage", "a body that is no JSON", _INVALID, (200,), answers.only(b"{no json"), weight=2),
    Fault("torn-json", "JSON that breaks off, though the body is as long as it says", _INVALID, (200,), answers.torn),
    Fault("not-an-object", "JSON that is a list", _INVALID, (200,), answers.instead(b"[1, 2]")),
    Fault("a-string", "JSON that is a string", _INVALID, (200,), answers.instead(b'"hello"')),
    Fault("other-items", "lists of other things than documented", _INVALID, (200,),
          answers.instead(b'{"choices": [7], "message": [7]}')),
    Fault("other-fields", "fields of other types than documented", _INVALID, (200,),
          answers.instead(b'{"choices": 7, "message": 7, "done": true}')),
    Fault("not-text", "JSON with bytes that are no UTF-8", _INVALID, (200,), answers.instead(b'{"model": "\xff\xfe"}')),
    Fault("deep-json", "JSON that is nested 100,000 deep", _INVALID, (200,), answers.instead(b"[" * 100_000)),
    Fault("empty", "an empty body", _INVALID, (200,), answers.only(b"")),
    Fault("empty-object", "an empty object", _INVALID, (200,), answers.only(b"{}\n")),
    Fault("html-200", "a page of HTML with a good status, as a hotel's network sends it", _INVALID, (200,),
          answers.page(200, "<html><body>Welcome to the network of this hotel</body></html>\n")),
    Fault("error-in-200", "an error in an HTTP 200", _SERVER, (200,), answers.error_in_200),
    Fault("not-gzip", "a body that is not compressed, though its headers say so", _INVALID, (200,), answers.not_gzip),
    Fault("wrong-content-type", "a good answer with the content type of something else", (), (200,),
          answers.mislabelled),
    Fault("redirect", "a redirect to an address where nothing is", _INVALID, (307,),
          answers.anyhow(redirect("/nowhere"))),
    Fault("redirect-loop", "a redirect to the same address", _INVALID, (307,), answers.round_and_round),
    Fault("endless-body", "one string that does not end (320 MiB)", _INVALID, (200,), answers.endless_body, weight=0),
    Fault("endless-event", "an event or object that does not end (320 MiB)", _INVALID, (200,), answers.endless_event,
          weight=0),
    Fault("endless-error", "a status of 500 whose explanation does not end (320 MiB)", _SERVER, (500,),
          answers.endless_error(), weight=0),
)  # fmt: skip

_BROKEN_STREAMS = (
    Fault("preamble-cut", "a stream whose connection is closed before any text", _LOST, (200,),
          streams.broken("cut"), only="stream", weight=2),
    Fault("preamble-end", "a stream that ends well, without any text or a finish reason", _INVALID, (200,),
          streams.broken("eof"), only="stream"),
    Fault("preamble-reset", "a stream whose connection is reset before any text", _LOST, (200,),
          streams.broken("reset"), only="stream"),
    Fault("preamble-stall", "a stream that is silent before any text", _LATE, (200,), streams.broken("stall"),
          only="stream", weight=_VERY_SLOW),
    Fault("preamble-error", "a stream with an error event before any text", _SERVER, (200,),
          streams.failed(after_content=False), only="stream"),
    Fault("preamble-garbage", "a stream with an event that is no JSON before any text", _INVALID, (200,),
          streams.garbled(after_content=False), only="stream"),
    Fault("text-cut", "a stream whose connection is closed after text", _CUT_OR_LOST, (200,),
          streams.broken_later("cut"), only="stream", weight=_LATER),
    Fault("text-end", "a stream that ends after text without a finish reason", _CUT, (200,),
          streams.broken_later("eof"), only="stream", weight=_LATER),
    Fault("text-reset", "a stream whose connection is reset after text", _CUT_OR_LOST, (200,),
          streams.broken_later("reset"), only="stream", weight=_LATER),
    Fault("text-stall", "a stream that is silent after text", _CUT, (200,), streams.broken_later("stall"),
          only="stream", weight=_SLOW),
    Fault("text-error", "a stream with an error event after text", _CUT, (200,), streams.failed(after_content=True),
          only="stream", weight=_LATER),
    Fault("text-garbage", "a stream with an event that is no JSON after text", _CUT, (200,),
          streams.garbled(after_content=True), only="stream", weight=_LATER),
)  # fmt: skip

_ODD = (
    Fault("no-usage", "a good answer that does not count its tokens", (), (200,), streams.without_usage),
    Fault("usage-twice", "a good stream with two counts of tokens; the second is right", (), (200,),
          streams.with_usage_twice, only="stream"),
    Fault("slow-first-token", "a good answer that begins after half a second", (), (200,),
          streams.paced_by(0.0, first_s=0.5), weight=_SLOW),
    Fault("slow-trickle", "a good answer, 50 ms between its pieces", (), (200,), streams.paced_by(0.05),
          weight=_SLOW),
    Fault("one-chunk", "a good stream that arrives in one piece", (), (200,), streams.in_one_chunk, only="stream"),
    Fault("torn-utf8", "a good stream in scraps, of which some end within a character", (), (200,), streams.scraps,
          only="stream"),
    Fault("keep-alives", "a good stream with comments (empty lines) between its events", (), (200,),
          streams.commented, only="stream"),
    Fault("crlf", "a good stream with the line ends of Windows", (), (200,), streams.with_crlf, only="stream"),
    Fault("no-done", "a good stream without its last sign: `[DONE]`, or Ollama's last line end", (), (200,),
          streams.without_done, only="stream"),
    Fault("double-finish", "a good stream that tells its end twice", (), (200,), streams.with_two_finishes,
          only="stream"),
    Fault("unknown-finish", "a good answer with a finish reason that no documentation has", (), (200,),
          streams.finished_by("moonrise")),
    Fault("content-filter", "an answer that a content filter cut", (), (200,), streams.finished_by("content_filter")),
)  # fmt: skip

FAULTS: dict[str, Fault] = {
    fault.name: fault for fault in (*_LIMITS, *_REFUSALS, *_CONNECTIONS, *_BODIES, *_BROKEN_STREAMS, *_ODD, *EVERYDAY)
}
"""Every fault, by name."""
