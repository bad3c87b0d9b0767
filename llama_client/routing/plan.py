"""The plan of attempts: decides what is tried next, and does nothing itself.

A generator. It yields a `Try` and is sent what came of it; it returns the winner's value or raises. Tested without a
network, closed on cancellation.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from llama_client.clock import Deadline
from llama_client.errors import AllTargetsFailedError, ProviderError, UnsupportedFeatureError
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
    """The target failed."""

    error: ProviderError


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
        AllTargetsFailedError: Several were tried and none is left.
        APITimeoutError: The deadline passed before anything was tried.
    """
    errors: list[ProviderError] = []
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
        if not outcome.error.failover:
            raise outcome.error
    # That no target can honour a parameter is the request's failure, not theirs.
    if len(errors) == 1 or all(isinstance(error, UnsupportedFeatureError) for error in errors):
        raise errors[-1]
    reasons = "; ".join(f"{error.target}: {type(error).__name__}: {error}" for error in errors)
    failure = AllTargetsFailedError(f"every target failed: {reasons}", errors=errors)
    failure.provider, failure.target = errors[-1].provider, errors[-1].target
    raise failure from errors[-1]
