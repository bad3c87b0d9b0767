"""The text of a new configuration file: what was chosen, with comments, and examples that are switched off.

An example is a line that begins with `#` and no space; taking the `#` away, from all such lines that stand together,
switches it on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources

from llama_client.config.accounting import Window
from llama_client.config.toml_text import toml_value

ROUTE = "chat"
_EXAMPLES = "examples.toml"
_PROVIDERS = ("groq", "together", "ollama", "gguf", "openai")
_OF_DEMO = "The demo model: it proves the plumbing and knows little."
# Marks in the file of examples: where a section begins, by its name.
_SECTION = "#= "


@dataclass(frozen=True, slots=True)
class Choices:
    """What stands in a new configuration.

    Attributes:
        targets: Who answers: the first, and where it fails the next.
        local_only: Whether whatever would leave this machine is refused.
        budget_usd: What may be spent; None: no limit.
        window: In which time.
        demo: The target that is the demo model, which proves the plumbing and knows little; None: there is none.
        free: The targets that cost nothing.
    """

    targets: Sequence[str]
    local_only: bool = False
    budget_usd: Decimal | None = None
    window: Window = "month"
    demo: str | None = None
    free: Sequence[str] = ()

    @property
    def default_model(self) -> str:
        """What `model` means where it is omitted."""
        return ROUTE if len(self.targets) > 1 else self.targets[0]

    @property
    def providers(self) -> list[str]:
        """Who answers, by name."""
        return list(dict.fromkeys(target.partition("/")[0] for target in self.targets))


def config_text(choices: Choices) -> str:
    """The file's text.

    Args:
        choices: What was chosen.
    """
    examples = _examples()
    parts = [_top(examples["top"], choices), examples["providers"]]
    parts += [_switched_on(examples[name]) for name in choices.providers]
    parts += [_lifted(examples[name]) for name in _PROVIDERS if name not in choices.providers]
    parts += [examples["routes"], _route(examples["route"], choices), examples["routing"]]
    parts += [examples["money"], _budget(examples["budget"], choices), examples["rest"]]
    return "\n".join(parts)


def _examples() -> dict[str, str]:
    """The sections of the file of examples, by name."""
    text = resources.files("llama_client.config").joinpath(_EXAMPLES).read_text(encoding="utf-8")
    sections: dict[str, str] = {}
    for section in f"\n{text}".split(f"\n{_SECTION}")[1:]:
        name, _, body = section.partition("\n")
        sections[name.strip()] = f"{body.strip()}\n"
    return sections


def _top(text: str, choices: Choices) -> str:
    model = f"default_model = {toml_value(choices.default_model)}"
    text = text.replace("#default_model", model, 1)
    return text.replace("#local_only", f"local_only = {toml_value(choices.local_only)}", 1)


def _lifted(text: str) -> str:
    """A block that stays switched off, with its comments above it, so that its lines stand together."""
    lines = text.splitlines()
    comments = [line for line in lines if line.startswith("# ")]
    return "\n".join([*comments, *(line for line in lines if line not in comments)]) + "\n"


def _switched_on(text: str) -> str:
    """A provider's table; its first key too where it says where the key is."""
    return text.replace("#[providers.", "[providers.", 1).replace("#api_key_env", "api_key_env", 1)


def _route(text: str, choices: Choices) -> str:
    if len(choices.targets) < 2:
        return _lifted(text)
    rows = []
    for target in choices.targets:
        note = f"    # {_OF_DEMO}\n" if target == choices.demo else ""
        rows.append(f"{note}    {toml_value(target)},\n")
    # In the place of the example's own targets.
    rest = text.partition("\n")[2].partition("\n")[2]
    return f"[routes.{ROUTE}]\ntargets = [\n{''.join(rows)}]\n{rest}"


def _budget(text: str, choices: Choices) -> str:
    if choices.budget_usd is None:
        return _lifted(text)
    chosen = {
        "usd": choices.budget_usd,
        "window": choices.window,
        # Whoever is free goes on answering, where there is somebody.
        "on_exceeded": "local" if choices.free else "block",
    }
    lines = []
    for line in text.splitlines():
        key = line.removeprefix("#").partition(" = ")[0]
        if line == "#[[budgets]]":
            line = "[[budgets]]"
        elif line.startswith("#") and key in chosen:
            line = f"{key} = {toml_value(chosen[key])}"
        lines.append(line)
    return "\n".join(lines) + "\n"
