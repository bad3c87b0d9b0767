"""What is tried again, for how long, and what ends a part or the whole job. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from llama_client.bulk.batches.steps import Step, Wait
from llama_client.errors import (
    AuthenticationError,
    InvalidResponseError,
    LlamaClientError,
    PermissionDeniedError,
    ProviderError,
)

# Of a step that failed, and how long between two tries: about ten minutes in all.
MOST_TRIES = 10
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 120.0
# However long a provider asks to wait.
_LONGEST_ASKED_S = 300.0
GONE = (404, 410)


class GivenUpError(Exception):
    """The part gets no answers any more: its rows are for others."""

    def __init__(self, why: str, *, may_cost: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.may_cost = may_cost


def asked(step: Step) -> Generator[Step, Any, Any]:
    """What comes of a step that may be done twice, tried again where that may help."""
    tried = 0
    while True:
        outcome = yield step
        if not isinstance(outcome, LlamaClientError):
            return outcome
        require_triable(outcome)
        if tried >= MOST_TRIES - 1:
            # To be resumed: what was done so far is written down.
            raise outcome
        yield Wait(wait_after_s(tried, outcome))
        tried += 1


def require_no_error(outcome: object) -> None:
    if isinstance(outcome, LlamaClientError):
        raise outcome


def require_wanted(is_unwanted: Callable[[], bool]) -> None:
    if is_unwanted():
        raise GivenUpError("it was cancelled before its batch was created")


def is_fatal(error: LlamaClientError) -> bool:
    """Whether no other part would get past it either: a wrong key, a closed client."""
    return not isinstance(error, ProviderError) or isinstance(error, AuthenticationError | PermissionDeniedError)


def require_not_fatal(outcome: object) -> None:
    if isinstance(outcome, LlamaClientError) and is_fatal(outcome):
        raise outcome


def require_triable(outcome: LlamaClientError) -> None:
    require_not_fatal(outcome)
    if not may_retry(outcome):
        raise GivenUpError(f"it was refused: {outcome}")


def may_retry(outcome: object) -> bool:
    if isinstance(outcome, InvalidResponseError):
        # An answer cut off or garbled on its way; one that says that there is no such path stays so.
        return outcome.http_status not in GONE
    return isinstance(outcome, ProviderError) and outcome.retryable


def wait_after_s(tried: int, outcome: object) -> float:
    asked = outcome.retry_after_s if isinstance(outcome, ProviderError) else None
    usual = min(_FIRST_WAIT_S * 2.0 ** max(tried, 0), _LONGEST_WAIT_S)
    return usual if asked is None else min(max(asked, usual), _LONGEST_ASKED_S)
