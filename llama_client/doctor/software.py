"""Python, this package, and the extras that the configuration needs."""

from __future__ import annotations

import platform
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from llama_client.doctor.findings import Fact, Finding
from llama_client.version import __version__

if TYPE_CHECKING:
    from llama_client.config.schema import Config

# What each extra brings, as far as it is looked for.
EXTRAS = {
    "gguf": ("xllamacpp", "huggingface_hub", "filelock"),
    "postgres": ("psycopg",),
    "plot": ("matplotlib", "numpy"),
    "otel": ("opentelemetry",),
    "crossover": ("gguf", "numpy"),
}
# Each kind's official client; the others need none.
_OFFICIAL = {"groq": "groq", "together": "openai", "openai": "openai"}


def software_findings(config: Config, *, needs_gguf: bool) -> list[Finding]:
    """What runs here, and what is missing.

    Args:
        config: The configuration.
        needs_gguf: Whether it names a model that runs in this process.
    """
    running = f"llama-client {__version__} on Python {platform.python_version()}, {platform.system()}"
    facts: dict[str, Fact] = {"version": __version__, "python": platform.python_version(), "system": platform.system()}
    found = [Finding("software", "configuration", "llama-client", "ok", running, facts=facts)]
    missing = {name for name, modules in EXTRAS.items() if not all(find_spec(module) for module in modules)}
    reasons = _reasons(config, needs_gguf=needs_gguf)
    for name in sorted(missing & reasons.keys()):
        remedy = f'Run `pip install "llama-client[{name}]"`.'
        message = f"the extra {name} is not installed, and {reasons[name]} needs it"
        found.append(Finding("extra", "configuration", name, "problem", message, remedy))
    installed = [name for name in EXTRAS if name not in missing]
    others = [name for name in EXTRAS if name in missing and name not in reasons]
    message = f"installed: {', '.join(installed) or 'none'}"
    if others:
        message += f"; not installed, and not needed here: {', '.join(others)}"
    facts = {"installed": installed, "missing": sorted(missing)}
    return [*found, Finding("extras", "configuration", "extras", "ok", message, facts=facts)]


def load_official(kind: str) -> None:
    """Imports the official client of a kind of provider, if it has one."""
    if kind in _OFFICIAL:
        import_module(_OFFICIAL[kind])


def _reasons(config: Config, *, needs_gguf: bool) -> dict[str, str]:
    """The extras that the configuration needs, and what for."""
    reasons = {}
    if needs_gguf:
        reasons["gguf"] = "a model that runs in this process"
    is_kept = config.ledger.enabled or bool(config.budgets)
    if is_kept and config.ledger.url.get_secret_value().startswith("postgres"):
        reasons["postgres"] = "ledger.url"
    if config.telemetry.enabled:
        reasons["otel"] = "telemetry.enabled"
    return reasons
