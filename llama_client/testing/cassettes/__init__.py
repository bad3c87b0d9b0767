"""Record and replay: what an application asks its providers, kept in a file, and answered from it in its tests."""

from llama_client.testing.cassettes.errors import CassetteError, UnrecordedRequestError
from llama_client.testing.cassettes.recording import Recorder
from llama_client.testing.cassettes.replaying import Player
from llama_client.testing.cassettes.sessions import Cassette, Mode, cassette, of_environment, recording, replaying

__all__ = [
    "Cassette",
    "CassetteError",
    "Mode",
    "Player",
    "Recorder",
    "UnrecordedRequestError",
    "cassette",
    "of_environment",
    "recording",
    "replaying",
]
