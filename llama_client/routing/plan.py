"""The plan of attempts: decides what is tried next, and does nothing itself.

A generator. It yields a `Try` and is sent what came of it; it returns the winner's value or raises. Tested without a
network, closed on cancellation.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from llama_client.clock import Deadline
from llama_client.errors import AllTargetsFailedError, LocalOnlyError, ProviderError, UnsupportedFeatureError
from llama_client.routing.targets import Target

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Try:
    """Ask this target, and give it this many seconds (None: no limit)."""

    target: Target
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Won(Generic[T]):
    """The target answered."""

    value: T


@dataclass(frozen=True, slots=True)
class Lost:
    """The target failed, or `local_only` forbids it."""

    error: ProviderError | LocalOnlyError

    @property
    def moves_on(self) -> bool:
        """Whether another target may be tried."""
        return isinstance(self.error, LocalOnlyError) or self.error.failover


def plan(targets: Sequence[Target], deadline: Deadline) -> Generator[Try, Won[T] | Lost, T]:
    """Tries each target in its order until one answers.

    Args:
        targets: Who may answer; at least one.
        deadline: When the whole call must be over.

    Returns:
        The winner's value.

    Raises:
        ProviderError: A lone target's error, or one that no other target could mend (`failover` is False).
        UnsupportedFeatureError: No target can honour a parameter.
        LocalOnlyError: `local_only` is on and no target is local.
        AllTargetsFailedError: Several were tried and none is left.
        APITimeoutError: The deadline passed before anything was tried.
    """
    errors: list[ProviderError | LocalOnlyError] = []
    for target in targets:
        try:
            left = deadline.remaining_s()
        except ProviderError as timeout:
            timeout.provider, timeout.target = target.provider_name, target.name
            errors.append(timeout)
            break
        outcome = yield Try(target, left)
        if isinstance(outcome, Won):
            return outcome.value
        errors.append(outcome.error)
        if not outcome.moves_on:
            raise outcome.error
    tried = [error for error in errors if not _was_skipped(error)]
    if len(tried) == 1:
        raise tried[0]
    # That no target can honour a parameter, or none is local, is the request's failure, not theirs.
    if len(errors) == 1 or not tried:
        raise errors[-1]
    reasons = "; ".join(
        f"{target.name}: {type(error).__name__}: {error}" for target, error in zip(targets, errors, strict=False)
    )
    failure = AllTargetsFailedError(f"every target failed: {reasons}", errors=errors)
    last = targets[len(errors) - 1]
    failure.provider, failure.target = last.provider_name, last.name
    raise failure from errors[-1]


def _was_skipped(error: ProviderError | LocalOnlyError) -> bool:
    """Whether the target was not asked at all."""
    return isinstance(error, LocalOnlyError) or (
        isinstance(error, UnsupportedFeatureError) and error.http_status is None
    )
