"""One try at one target, and the times of a whole call."""

from __future__ import annotations

from typing import Any, Literal

from llama_client.types.base import AnswerModel
from llama_client.types.cost import Cost
from llama_client.types.usage import Usage

AttemptOutcome = Literal["ok", "error", "interrupted", "cancelled", "skipped"]


class Attempt(AnswerModel):
    """One try at one target.

    Attributes:
        target: `provider/model`.
        outcome: `ok`; `error`; `interrupted` (broke after text had arrived); `cancelled` (the caller stopped it);
            `skipped` (it was not asked: it could not have honoured the request, or was left alone for somebody else).
        sent: Whether the request may have reached the model.
        error: The error's class name.
        http_status: The status of the provider's answer; None where none came.
        reason: Why it was skipped or failed, in words.
        provider_request_id: The provider's id of the request.
        latency_s: From the start of the try to its end.
        ttft_s: From the start of the try to its first content (text, reasoning or tool call).
        usage: Its tokens, as far as the provider has reported them.
        estimated_usage: Its tokens where it was worked on and nobody has counted them: stopped, cut, or not told.
        cost: Its money.
        rate_limit: What the provider said of its limits.
        waited_s: The wait before the try: for a retry, a limit, a place at the provider.
    """

    target: str
    outcome: AttemptOutcome
    sent: bool
    error: str | None = None
    http_status: int | None = None
    reason: str | None = None
    provider_request_id: str | None = None
    latency_s: float | None = None
    ttft_s: float | None = None
    usage: Usage | None = None
    estimated_usage: Usage | None = None
    cost: Cost | None = None
    rate_limit: dict[str, Any] | None = None
    waited_s: float | None = None


class Timing(AnswerModel):
    """The times of a call in seconds, where known.

    Attributes:
        total_s: From the call to the end of the answer; for Ollama, what the server itself measured for the answer.
        ttft_s: From the call to the first content.
        tokens_per_s: The speed that the server itself measured (Ollama, llama.cpp); else the answer's tokens after the
            first, over the time from the first content to the end.
        load_s: Loading the model, where this call had to wait for that.
        queue_s: Waiting for a free slot of the model.
    """

    total_s: float | None = None
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    load_s: float | None = None
    queue_s: float | None = None
