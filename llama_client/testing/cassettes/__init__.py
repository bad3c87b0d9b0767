"""Record and replay: what an application asks its providers, kept in a file, and answered from it in its tests."""

from llama_client.testing.cassettes.errors import CassetteError, UnrecordedRequestError
from llama_client.testing.cassettes.sessions import Cassette, Mode, cassette, recording, replaying
from llama_client.testing.cassettes.sessions import of_environment as of_environment

__all__ = [
    "Cassette",
    "CassetteError",
    "Mode",
    "UnrecordedRequestError",
    "cassette",
    "recording",
    "replaying",
]
