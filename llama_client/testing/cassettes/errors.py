"""What can be wrong with a cassette, and a request that it has no answer for."""

from __future__ import annotations

from pathlib import Path

from llama_client.errors import LlamaClientError, ProviderError


class CassetteError(LlamaClientError):
    """A cassette cannot be read or written, or was not used as the test says.

    Attributes:
        file: The cassette.
        place: Where in it, such as `exchanges[2].answer.status`, or a line and column; None: the whole file.
    """

    def __init__(self, message: str = "", *, file: Path | None = None, place: str | None = None) -> None:
        super().__init__(message)
        self.file = file
        self.place = place


class UnrecordedRequestError(ProviderError):
    """A request for which the cassette has no answer (any more). Neither retried nor failed over.

    The message shows what differs from the nearest recorded request.

    Attributes:
        difference: The lines of that comparison; empty where nothing similar was recorded.
    """

    failover_by_default = False

    def __init__(
        self,
        message: str = "",
        *,
        provider: str | None = None,
        target: str | None = None,
        difference: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, provider=provider, target=target)
        self.difference = difference
