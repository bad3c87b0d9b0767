"""The doctor asked in this process, of a configuration file, an environment and a machine that a test makes up."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llama_client.clock import Clock
from llama_client.crossover.fitting.machines import Machine
from llama_client.diagnostics.finding import DiagnosticsReport, Finding
from llama_client.diagnostics.machine import DiagnosticsOptions, Environment
from llama_client.diagnostics.run import examine
from llama_client.providers.gguf.store import ModelStore
from llama_client.system_probe import SystemProbe
from llama_client.testing.loopback import Answer, Received, as_json

KEY = "gsk_planted_1234567890"
GIB = 2**30
MACHINE = Machine("this machine", (), 16 * GIB)
DEVICES = '[["GGML_BACKEND_DEVICE_TYPE_CPU", "a processor", 17179869184]]'


def probe(*, meminfo: str | None = None, devices: str | None = DEVICES) -> SystemProbe:
    """A system that says of itself what a test wants."""
    return SystemProbe(
        "Linux", lambda path: meminfo if path == "/proc/meminfo" else None, lambda _: devices, lambda: None
    )


@dataclass
class Doctor:
    """Asks it, and finds what it said."""

    folder: Path
    variables: pytest.MonkeyPatch
    machine: Machine = MACHINE
    probe: SystemProbe = field(default_factory=probe)
    clock: Clock = field(default_factory=Clock)

    def says(
        self, text: str | None = None, environ: Mapping[str, str] | None = None, **wanted: Any
    ) -> DiagnosticsReport:
        """The report on a configuration file with that text; None: there is no file."""
        if text is not None:
            (self.folder / "llama-client.toml").write_text(text, encoding="utf-8")
            wanted.setdefault("source", str(self.folder / "llama-client.toml"))
        # The official clients read the process's own environment.
        for name, value in (environ or {}).items():
            self.variables.setenv(name, value)
        surroundings = Environment(
            environ=os.environ,
            folder=self.folder,
            clock=self.clock,
            store=ModelStore.of_user(),
            probe=self.probe,
            machine=lambda _: self.machine,
        )
        # A good server is slow on a busy machine.
        wanted.setdefault("timeout_s", 30.0)
        return examine(DiagnosticsOptions(**wanted), surroundings)


@pytest.fixture
def doctor(clean_home: Path, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    return Doctor(clean_home / "work", monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a ledger is, or will be."""
    return tmp_path / "books" / "ledger.db"


def ledger(file: Path, more: str = "") -> str:
    """A configuration with its ledger there."""
    return f"[ledger]\nurl = 'sqlite:///{file}'\n{more}"


def of(report: DiagnosticsReport, check: str, subject: str | None = None) -> Finding:
    """The only finding of a check, or of that check on a subject."""
    found = [f for f in report.findings if f.check == check and subject in (None, f.subject)]
    assert len(found) == 1, found
    return found[0]


def listing(*ids: str) -> Callable[[Received], Answer]:
    """A server that serves these models, as OpenAI's shape has it."""
    return lambda _: as_json({"object": "list", "data": [{"id": each} for each in ids]})


def key_command(program: str) -> str:
    """The setting of a command for a key, which is a program in Python: there is no `printf` on Windows."""
    return f"api_key_command = {json.dumps([sys.executable, '-S', '-E', '-c', program])}"


def compatible(name: str, url: str, more: str = "") -> str:
    """A table of a compatible server."""
    return f'[providers.{name}]\nkind = "openai"\nbase_url = "{url}"\n{more}\n'
