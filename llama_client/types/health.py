"""What a client has learned of a target."""

from __future__ import annotations

from typing import Literal

from llama_client.types.base import AnswerModel


class TargetHealth(AnswerModel):
    """What a client has learned of a target, at the moment of asking. What was not measured, or too long ago, is None.

    Attributes:
        target: `provider/model`.
        breaker: `closed`: asked as usual; `open`: left alone after failures; `half-open`: one call may try it.
        failures_in_row: Failures since its last answer.
        probe_in_s: Seconds until one call may try it; None where the breaker is closed.
        last_error: The class name of its last failure.
        ttft_s: Time to the first token of its streams.
        tokens_per_s: Its speed after the first token.
        latency_s: Time of its whole answers and streams from start to end.
        remaining_requests: What its headers said is left of its requests, less those sent since.
        remaining_tokens: The same for its tokens.
        blocked_s: For how much longer it asked to be left alone (`Retry-After`).
        in_flight: Attempts that are under way.
        queued: Calls that wait for a place at its provider (`max_concurrency`).
    """

    target: str
    breaker: Literal["closed", "open", "half-open"] = "closed"
    failures_in_row: int = 0
    probe_in_s: float | None = None
    last_error: str | None = None
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    latency_s: float | None = None
    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    blocked_s: float | None = None
    in_flight: int = 0
    queued: int = 0
