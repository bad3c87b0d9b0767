"""What a provider in this process is asked, learns and raises, as JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from llama_client import errors
from llama_client.errors import LlamaClientError, ProviderError
from llama_client.providers.base import AttemptFacts, Charge, ProviderCall
from llama_client.testing.cassettes.bodies import UnreadableError, json_value
from llama_client.testing.cassettes.exchanges import EngineError
from llama_client.testing.cassettes.scrubbing import Scrubber, request_value
from llama_client.types.completion import Source

# What of a request does not change the answer, or is not data.
_UNTOLD = frozenset(("timeout", "tags", "extra_headers", "schema_in_words", "answer_class", "stream_options"))
# What is learnt of an attempt and decides what its record says.
_FACTS = (
    "sent", "http_status", "provider_request_id", "rate_limit", "load_s", "queue_s", "total_s", "tokens_per_s",
    "charge", "sources", "warnings", "request_warnings", "body", "is_loading", "reason",
)  # fmt: skip
_BASE_FIELDS = ("http_status", "provider_code", "request_id", "retryable", "failover", "retry_after_s", "body")
_OWN_FIELDS = ("path", "prompt_tokens", "context_tokens", "param", "is_lasting", "failed_generation")


def params_of(call: ProviderCall, scrubber: Scrubber) -> dict[str, Any]:
    """The parameters of a request in one spelling."""
    request = call.request
    dumped = request.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=set(_UNTOLD))
    dumped = {name: value for name, value in dumped.items() if name in request.set_parameters or name == "messages"}
    if not dumped.get("stream"):
        dumped.pop("stream", None)
    if call.is_continuation:
        dumped["is_continuation"] = True
    cleaned: dict[str, Any] = scrubber.value(request_value(dumped))
    return cleaned


def stored_error(error: LlamaClientError, scrubber: Scrubber) -> EngineError:
    """An error by its class, its message and its fields."""
    names = (*(_BASE_FIELDS if isinstance(error, ProviderError) else ()), *_OWN_FIELDS)
    fields = {name: getattr(error, name) for name in names if getattr(error, name, None) is not None}
    return EngineError(
        error=type(error).__name__, message=scrubber.text(str(error)), fields=scrubber.value(plain(fields))
    )


def stored_facts(facts: AttemptFacts) -> dict[str, Any]:
    return {name: plain(getattr(facts, name)) for name in _FACTS}


def plain(value: Any) -> Any:
    """A value of facts or errors as JSON."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Charge():
            return {"usd": str(value.usd), "source": value.source, "is_estimated": value.is_estimated}
        case Source():
            return value.model_dump(mode="json", exclude_none=True)
        case bytes():
            try:
                return json_value(value)
            except UnreadableError:
                return value.decode("utf-8", "replace")
        case Mapping():
            return {str(name): plain(below) for name, below in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case _:
            return str(value)


def learn(facts: AttemptFacts, stored: Mapping[str, Any]) -> None:
    for name, value in stored.items():
        if name == "bodies":
            facts.bodies += [each.encode() if isinstance(each, str) else each for each in value]
        if name not in _FACTS:
            continue
        if name == "charge" and value is not None:
            value = Charge(Decimal(value["usd"]), value["source"], bool(value["is_estimated"]))
        elif name == "sources":
            value = [Source.model_validate(each) for each in value]
        setattr(facts, name, value)


def raised(stored: EngineError) -> LlamaClientError:
    kind = getattr(errors, stored.error, None)
    if not (isinstance(kind, type) and issubclass(kind, LlamaClientError)):
        # A package's own class: the fields decide what becomes of it.
        kind = ProviderError
    error: LlamaClientError = kind(stored.message)
    for name, value in stored.fields.items():
        if name in (*_BASE_FIELDS, *_OWN_FIELDS):
            setattr(error, name, value)
    return error
