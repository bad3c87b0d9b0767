"""Which row that failed is asked again, and when; which errors are those of every row. No I/O."""

from __future__ import annotations

import random

from llama_client.bulk.pending import PendingRow, may_pass
from llama_client.errors import (
    AuthenticationError,
    ConfigError,
    LlamaClientError,
    LocalOnlyError,
    MissingExtraError,
    ModelLoadError,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
)

LASTING = (
    AuthenticationError,
    ConfigError,
    LocalOnlyError,
    MissingExtraError,
    ModelLoadError,
    ModelNotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
)
"""Errors of the account or the configuration."""
MAX_LASTING = 8
"""When so many rows of a target have met one of these in succession, no other row would fare better."""

# How often a row is asked: of a million, at a target that fails 30 of a hundred, hardly one fails so often.
_MAX_TRIES = 12
# A refused request cost nothing, and limits are found by meeting them.
_MAX_REFUSALS = 30
# A row that can be asked elsewhere does not wait for this machine as long.
_MAX_IDLE_TRIES = 3
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 8.0
# No provider's window of requests is longer than a day.
_LONGEST_ASKED_S = 86_400.0


def delay_s(pending: PendingRow, error: LlamaClientError, chance: random.Random) -> float | None:
    """Counts the try, and says how long the row waits for its next one; None: it has failed for good."""
    if not isinstance(error, ProviderError) or not may_pass(error):
        return None
    if isinstance(error, RateLimitError | OverloadedError):
        pending.refusals += 1
    else:
        pending.tries += 1
    most = _MAX_TRIES if pending.at_once is None else _MAX_IDLE_TRIES
    if pending.tries >= most or pending.refusals >= _MAX_REFUSALS:
        return None
    exponent = min(pending.tries + pending.refusals - 1, 16)
    own_s = min(_FIRST_DELAY_S * 2.0**exponent, _LONGEST_DELAY_S) * chance.uniform(0.5, 1.0)
    asked_s = error.retry_after_s
    return own_s if asked_s is None else max(min(asked_s, _LONGEST_ASKED_S), own_s)
