"""Takes secrets out of whatever an error could show: servers and HTTP libraries repeat what they were sent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from llama_client.config.masking import MASK_IN_TEXT, can_be_secret
from llama_client.errors import GenerationFailedError, ProviderError
from llama_client.providers.base import AttemptFacts

_MAX_CHAIN = 20


# Headers that hold nothing to hide.
_OPEN_HEADERS = frozenset({"accept", "accept-encoding", "connection", "content-type", "user-agent"})


def secrets_in(headers: Mapping[str, str]) -> list[str]:
    """What headers hold that must not be shown: a whole value, and what stands behind its first word (`Bearer`)."""
    values = [value for name, value in headers.items() if name.lower() not in _OPEN_HEADERS]
    return [*values, *(rest for value in values if (rest := value.partition(" ")[2]))]


class Secrets:
    """The secrets of one provider, or of one call.

    Args:
        values: The key, and the values of headers.
    """

    def __init__(self, values: Collection[str]) -> None:
        # The longest first, so that none is left in part.
        self._values = tuple(sorted({value for value in values if can_be_secret(value)}, key=len, reverse=True))

    def plus(self, values: Collection[str]) -> Secrets:
        """These and more."""
        return Secrets([*self._values, *values]) if values else self

    def __repr__(self) -> str:
        return f"Secrets({len(self._values)})"

    def cleaned(self, text: str) -> str:
        """A text without them."""
        return str(self._without(text))

    def clean(self, error: ProviderError, facts: AttemptFacts | None = None) -> None:
        """Takes them out of an error, out of what it was raised from, and out of what the provider sent."""
        if not self._values:
            return
        if self._are_in(error):
            error.args = tuple(self._without(arg) for arg in error.args)
            error.body = self._without(error.body)
            error.provider_code = self._without(error.provider_code)
            if isinstance(error, GenerationFailedError):
                error.failed_generation = self._without(error.failed_generation)
        link: BaseException = error
        for _ in range(_MAX_CHAIN):
            below = link.__cause__ or link.__context__
            if below is None:
                break
            if self._are_in(below):
                # Exceptions of others cannot be rewritten; so the chain ends above the one that tells too much.
                link.__cause__ = link.__context__ = None
                break
            link = below
        if facts is not None:
            facts.bodies[:] = [self._without(body) for body in facts.bodies]
            facts.body = self._without(facts.body)
            facts.provider_request_id = self._without(facts.provider_request_id)
            facts.warnings[:] = [self._without(warning) for warning in facts.warnings]

    def _are_in(self, error: BaseException) -> bool:
        texts = [str(error), repr(error)]
        texts += [repr(getattr(error, name, None)) for name in ("body", "failed_generation", "provider_code")]
        return any(value in text for value in self._values for text in texts)

    def _without(self, value: Any) -> Any:
        match value:
            case str():
                for secret in self._values:
                    value = value.replace(secret, MASK_IN_TEXT)
                return value
            case bytes():
                for secret in self._values:
                    value = value.replace(secret.encode(), MASK_IN_TEXT.encode())
                return value
            case dict():
                return {self._without(key): self._without(inner) for key, inner in value.items()}
            case list():
                return [self._without(inner) for inner in value]
            case _:
                return value
