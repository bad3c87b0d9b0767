"""The error tree."""

from __future__ import annotations

import copy
import pickle
import re

import pytest

import llama_client
from llama_client import (
    APIConnectionError,
    APITimeoutError,
    BadRequestError,
    ContextLengthError,
    GenerationFailedError,
    LlamaClientError,
    ModelLoadError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    RequestTooLargeError,
    StreamInterruptedError,
    errors,
)


def _tree(cls: type[LlamaClientError]) -> list[type[LlamaClientError]]:
    # The test kit has errors of its own, which only tests see.
    own = [child for child in cls.__subclasses__() if not child.__module__.startswith("llama_client.testing")]
    return [cls, *(below for child in own for below in _tree(child))]


ALL = _tree(LlamaClientError)


def test_the_map_at_the_top_of_the_file_names_every_error_under_its_parent() -> None:
    lines = [line for line in (errors.__doc__ or "").splitlines() if re.match(r"\s+[│├└ ]*(── )?\w+Error\b", line)]
    parents: list[tuple[int, str]] = []
    drawn = {}
    for line in lines:
        name = re.search(r"\w+Error", line)
        assert name
        while parents and parents[-1][0] >= name.start():
            parents.pop()
        drawn[name[0]] = parents[-1][1] if parents else None
        parents.append((name.start(), name[0]))
    assert drawn == {cls.__name__: None if cls is LlamaClientError else cls.__bases__[0].__name__ for cls in ALL}


@pytest.mark.parametrize("error", ALL, ids=lambda cls: cls.__name__)
def test_every_error_is_public_and_starts_without_attempts(error: type[LlamaClientError]) -> None:
    assert getattr(llama_client, error.__name__) is error
    assert error("what happened").attempts == []
    assert str(error("what happened")) == "what happened"


@pytest.mark.parametrize("error", ALL, ids=lambda cls: cls.__name__)
def test_every_error_can_cross_processes(error: type[LlamaClientError]) -> None:
    original = error("what happened")
    copy = pickle.loads(pickle.dumps(original))
    assert type(copy) is error
    assert vars(copy) == vars(original)


def test_an_error_of_another_package_can_be_copied() -> None:
    class TheirError(LlamaClientError):
        def __init__(self, code: int, *, words: str) -> None:
            super().__init__(f"{code}: {words}")
            self.code = code

    error = TheirError(5, words="no")
    same = copy.copy(error)
    assert (type(same), str(same), same.code, same.attempts) == (TheirError, "5: no", 5, [])
    assert same is not error


@pytest.mark.parametrize(
    ("error", "retryable", "failover"),
    [
        (RateLimitError, True, True),
        (QuotaExceededError, False, True),
        (RequestTooLargeError, False, True),
        (GenerationFailedError, True, True),
        (APIConnectionError, True, True),
        (APITimeoutError, True, True),
        (BadRequestError, False, False),
        (ContextLengthError, False, True),
        (ModelLoadError, False, True),
        (StreamInterruptedError, False, False),
    ],
)
def test_an_error_says_what_may_be_tried_next(error: type[ProviderError], retryable: bool, failover: bool) -> None:
    assert (error().retryable, error().failover) == (retryable, failover)
