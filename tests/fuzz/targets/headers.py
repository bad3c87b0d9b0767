"""Headers of answers: waits, rate limits and ids in any form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import strategies as st

from llama_client import RateLimitError
from llama_client.cli.failures import next_step
from llama_client.clock import Clock
from llama_client.config.schema import Config
from llama_client.providers.base import AttemptFacts, HttpAnswer, ProviderCall
from llama_client.providers.http.exchange import Exchange
from llama_client.providers.wire.openai_codec import CompatibleCodec
from llama_client.routing.attempt import require_plain
from llama_client.routing.health import HealthRegistry, Result
from llama_client.types.request import check_request
from tests.fuzz.target import Target, require
from tests.property.test_decoders import FORMS, HEADERS

_NOW = 1_800_000_000.0
_CODEC = CompatibleCodec()
_REQUEST = check_request({"messages": [{"role": "user", "content": "hi"}]}, stream=True)
_CLOCK = Clock(monotonic=lambda: 100.0, wall=lambda: _NOW, sleep=lambda _: None)


class _Head:
    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers


def headers_of(data: bytes) -> dict[str, str]:
    """As the wire reads them: names in lower case, of two alike the last."""
    fields = (line.partition(":") for line in data.decode("latin-1").split("\n"))
    return {name.strip().lower(): value.strip() for name, _, value in fields if name.strip()}


def check(data: bytes) -> None:
    """A line with the words of the error, then a line for each header."""
    words, _, rest = data.partition(b"\n")
    headers, text = headers_of(rest), words.decode("utf-8", "replace")
    facts = AttemptFacts()
    call = ProviderCall(_REQUEST, "x", "m", "req_1", 10.0, facts)
    exchange = Exchange(call, _CODEC, _CLOCK, 10.0, None)
    exchange.receive_head(_Head(429, headers))
    require_plain(facts)
    for limit in (facts.rate_limit or {}).values():
        require(all(0 <= value < float("inf") for value in limit.values()), "limits are finite and not negative")
    error = _CODEC.failure(HttpAnswer(429, headers, text.encode(), _NOW), call)
    require(isinstance(error, RateLimitError), "a 429 is a rate limit")
    assert isinstance(error, RateLimitError)
    require(error.retry_after_s is None or 0 <= error.retry_after_s < float("inf"), "a wait is finite")
    _learn(facts, error)


def _learn(facts: AttemptFacts, error: RateLimitError) -> None:
    """What the target's health and the command's words make of it."""
    health = HealthRegistry(Config(), _CLOCK).of("x/m", "x")
    health.learn(Result(error, 1.0, rate_limit=facts.rate_limit), _CLOCK.monotonic())
    health.snapshot().model_dump_json()
    require(health.why_unavailable(_CLOCK.monotonic()), "an unavailable target says why")
    next_step(error)


_SEEDS = (
    b"slow down\nretry-after: 7\ndate: Mon, 30 Nov 2026 02:00:00 GMT",
    b"Rate limit reached. Please try again in 2m59.56s.\nx-request-id: req_1",
    b"\nretry-after-ms: 1500\nretry-after: 9",
    b"\nretry-after: Mon, 30 Nov 2026 02:00:30 GMT\ndate: Mon, 30 Nov 2026 02:00:00 GMT",
    b"\nx-ratelimit-limit-requests: 14400\nx-ratelimit-remaining-requests: 14399\nx-ratelimit-reset-requests: 1h2m3s",
    b"\nx-ratelimit-limit-tokens: 6000\nx-ratelimit-remaining-tokens: 0\nx-ratelimit-reset-tokens: 172ms",
    b"\nx-tokenlimit-limit: 1e6\nx-tokenlimit-remaining: 5\nx-ratelimit-limit: 600\nx-ratelimit-reset: 12",
    b"\ncontent-type: application/json; charset=utf-8\nx-amzn-requestid: a\nrequest-id: b",
    b"\nretry-after: nan\nx-ratelimit-reset-tokens: inf\nx-ratelimit-remaining: -3",
)
_TOKENS = tuple(
    b"\nretry-after: |\nretry-after-ms: |\ndate: |\nx-ratelimit-reset-tokens: |\nx-ratelimit-reset: |nan|inf|-1|1e308|"
    b"1e400|h|m|s|ms|try again in |Mon, 30 Nov 2026 02:00:00 GMT|\nx-ratelimit-remaining-tokens: |\nx-request-id: "
    b"|9999999999|0000|+0000|-9999|_|.".split(b"|")
)


@st.composite
def _cases(draw: st.DrawFn) -> bytes:
    fields = draw(st.dictionaries(HEADERS, FORMS, max_size=5))
    lines = [f"try again in {draw(FORMS)}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\n".join(lines).encode("utf-8", "replace")


@contextmanager
def opened() -> Iterator[Target]:
    yield Target("headers", check, _SEEDS, _cases(), _TOKENS, lines=(3000, 60))
