"""What stands in for a hub, for Ollama, and for the processes that a page's session starts."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

from llama_client.config.environment import CASSETTE_VARIABLE
from llama_client.providers.gguf import pull
from llama_client.providers.gguf.store import checksum
from llama_client.testing.cassettes import commands
from llama_client.testing.conformance.__main__ import main
from tests import fresh
from tests.documentation.models import stand_in_for
from tests.documentation.named import WrongSessionError

# A page's tests as a reader runs them; the fork has imported the package already, of which pytest would warn.
_PYTEST = """
import os, sys, pytest
sys.path.insert(0, os.getcwd())
options = ["-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
sys.exit(pytest.main([*options, *sys.argv[1:]]))
"""


@contextlib.contextmanager
def elsewhere(demo_model: Path) -> Iterator[None]:
    """The hub has every file, and Ollama every model; it is always the demo model."""
    import huggingface_hub

    def hub_download(repo_id: str, file: str, **_: object) -> str:
        path = Path.cwd().parent / "hub" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        stand_in_for(path, demo_model)
        return str(path)

    def find_blob(_: str) -> tuple[Path, str]:
        return demo_model, _checksum(demo_model.resolve())

    found = types.SimpleNamespace(etag="")
    with (
        mock.patch.object(huggingface_hub, "get_hf_file_metadata", return_value=found),
        mock.patch.object(huggingface_hub, "hf_hub_download", hub_download),
        mock.patch.object(pull, "find_blob", find_blob),
        # Whatever a page calls it, it is one file.
        mock.patch.object(pull, "checksum", lambda path, _: _checksum(path.resolve())),
        mock.patch.object(commands, "_ran", _recorded),
    ):
        yield


def conformance(arguments: Sequence[str]) -> tuple[int, str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(arguments)
    return code, out.getvalue()


def _recorded(command: Sequence[str], cassette: str, *, output_to_stderr: bool) -> int:
    """The command that `record` runs, as a fork; what it prints is no part of a session."""
    source = "import sys; from llama_client.cli.app import main; sys.exit(main(sys.argv[1:]))"
    program, *arguments = command
    if Path(program).stem != "llama-client":
        raise WrongSessionError(f"a session may record llama-client alone, not {program}")
    with mock.patch.dict(os.environ, {CASSETTE_VARIABLE: cassette}):
        return fresh.run(source, *arguments).code


@functools.cache
def _checksum(path: Path) -> str:
    return checksum(path, lambda *_: None)


def tests(arguments: Sequence[str]) -> tuple[int, str]:
    """Runs pytest on the tests that a page shows."""
    ran = fresh.run(_PYTEST, *arguments)
    return ran.code, ran.out + ran.err
