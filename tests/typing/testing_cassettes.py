"""The test kit as users type it, checked by mypy and pyright: never run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from llama_client.testing.cassettes import (
    Cassette,
    CassetteError,
    Mode,
    UnrecordedRequestError,
    cassette,
    recording,
    replaying,
)
from llama_client.testing.clock import FakeClock


def cassettes(path: Path, mode: Mode) -> None:
    with recording("chat.json") as tape:
        assert_type(tape, Cassette)
    with replaying(path, timing="recorded", clock=FakeClock(), ignore=("seed", "metadata.user"), repeat=True) as tape:
        assert_type(tape.unused, list[str])
        tape.assert_all_used()
    with cassette(path, mode) as tape:
        assert_type(tape.changes, list[str])
    try:
        with cassette(path, "refresh", ignore=["seed"]):
            pass
    except CassetteError as error:
        assert_type(error.file, Path | None)
        assert_type(error.place, str | None)
    except UnrecordedRequestError as error:
        assert_type(error.difference, tuple[str, ...])
