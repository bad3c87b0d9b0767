"""One question to a server of a test, with a key that must never be seen, and what may become of it."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from llama_client import ChatCompletion, LlamaClientError, ProviderError
from llama_client.testing.dialects import Dialect
from llama_client.testing.faults import fault
from llama_client.testing.faults.answers import Asked
from llama_client.testing.loopback import Answer
from tests.asking import Asker

KEY = "sk-test-secret-1234567890"
PROMPT = "Why do llamas hum?"
# Long enough for whatever comes at all, however busy the machine is; no test waits for it in vain.
PLENTY_S = 60.0
SOON_S = 30.0


def fault_answer(name: str, dialect: Dialect, *, streams: bool) -> Answer:
    """What a server answers that has a named fault."""
    return fault(name).answer(Asked(dialect, streams, dialect.path))


def ask(dialect: Dialect, url: str, mode: str, timeout: float = PLENTY_S, **options: Any) -> ChatCompletion:
    asker = Asker(mode, dialect.config(url, api_key=KEY, **options), [])
    return asker(PROMPT, model="x/some/model", timeout=timeout)


def failure(dialect: Dialect, url: str, mode: str, timeout: float = PLENTY_S) -> ProviderError:
    """The error of a call; whatever else is raised fails the test."""
    with pytest.raises(LlamaClientError) as caught:
        ask(dialect, url, mode, timeout)
    assert isinstance(caught.value, ProviderError)
    return caught.value


def check_no_key(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """Looks for the key in everything that may end up in a log."""
    told = ["".join(traceback.format_exception(error)), caplog.text]
    told += [repr(vars(record)) for record in caplog.records]
    if isinstance(error, LlamaClientError):
        told += [repr(error.attempts), *(attempt.model_dump_json() for attempt in error.attempts)]
    cause: BaseException | None = error
    while cause is not None:
        told += [str(cause), repr(cause)]
        cause = cause.__cause__ or cause.__context__
    assert not [text for text in told if KEY in text]
