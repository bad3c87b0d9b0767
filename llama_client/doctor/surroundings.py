"""What the doctor looks at beside the configuration: environment, folders, time and machine. Injected, so that tests
have their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llama_client.clock import Clock
from llama_client.crossover.fitting.machines import Machine, this_machine
from llama_client.crossover.fitting.probes import Probe
from llama_client.providers.gguf.store import ModelStore

if TYPE_CHECKING:
    from llama_client.config.discovery import Source

DEFAULT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be looked at.

    Attributes:
        source: The configuration, as of `load_config`.
        model: What a call would ask for; None: the default.
        offline: Ask nobody beyond this machine.
        timeout_s: How long providers, the database and the machine may take, which are asked at once.
    """

    source: Source = None
    model: str | None = None
    offline: bool = False
    timeout_s: float = DEFAULT_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where it looks.

    Attributes:
        environ: The environment.
        folder: The working folder.
        clock: The time.
        store: The pulled models.
        probe: How the machine is asked.
        machine: What the machine has.
    """

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    folder: Path = field(default_factory=Path)
    clock: Clock = field(default_factory=Clock)
    store: ModelStore = field(default_factory=ModelStore.of_user)
    probe: Probe = field(default_factory=Probe.real)
    machine: Callable[[Probe], Machine] = this_machine
