"""What may stand between a client and its providers: a test's stand-in, a recording, a replay.

A client has none, but where `llama_client.testing` puts one in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from llama_client.providers.base import Provider
    from llama_client.providers.http.exchange import AsyncEndpoint, Endpoint


class Interceptor(Protocol):
    """Is asked at each way out of a client; what it gets as `opened` makes the real one, which it may never call."""

    @property
    def plays(self) -> bool:
        """Whether it answers by itself, so that no key is read and nothing is connected to."""

    def endpoint(self, provider: str, url: str, headers: Mapping[str, str], opened: Callable[[], Endpoint]) -> Endpoint:
        """The way to an address of a provider's, for sync requests with these headers."""

    def async_endpoint(
        self, provider: str, url: str, headers: Mapping[str, str], opened: Callable[[], AsyncEndpoint]
    ) -> AsyncEndpoint:
        """The same for async requests."""

    def http_client(self, provider: str, opened: Callable[[], Any], *, is_async: bool) -> Any:
        """The HTTPX client on which a provider's official client sends."""

    def engine(self, provider: str, opened: Callable[[], Provider]) -> Provider:
        """A provider that runs in this process."""
