"""Writes the tables of services in the guides from the rows: `python -m tests.providers.services_page`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from llama_client.providers.services import OPENAI_TAKES_BACK, SERVICES, Service

_GUIDES = Path(__file__).parents[2] / "docs" / "guides"
PAGE, MESSAGES = _GUIDES / "providers.md", _GUIDES / "messages.md"
_MARKED = re.compile(r"(<!-- services -->\n).*?(<!-- end of services -->)", re.DOTALL)
_HANDED_BACK = re.compile(r"(<!-- handed back -->\n).*?(<!-- end of handed back -->)", re.DOTALL)


def filled(page: str) -> str:
    """The page with the tables as the rows have them."""
    page = _MARKED.sub(lambda found: f"{found[1]}\n{table()}\n{found[2]}", page)
    return _HANDED_BACK.sub(lambda found: f"{found[1]}\n{handed_back()}\n{found[2]}", page)


def table() -> str:
    """A row of the page for each row of the package."""
    lines = ["| name | what it is | address | key | prices | checked |", "|---|---|---|---|---|---|"]
    return "\n".join([*lines, *map(_line, SERVICES.values())]) + "\n"


def _line(row: Service) -> str:
    key = " or ".join(f"`{variable}`" for variable in row.key_variables)
    key = f"[{key}]({row.keys_url})" if row.keys_url else key
    key = f"none needed; {key}" if row.is_local else key
    prices = "yes" if row.price_source else "none" if row.is_local and not row.forwards else "your own rows"
    prices = "estimates" if row.price_doubt else prices
    title = f"[{row.title}]({row.docs_url})" if row.docs_url else row.title
    return f"| `{row.name}` | {title} | `{row.base_url}{row.below}` | {key} | {prices} | {row.verified} |"


def handed_back() -> str:
    """What each service takes of messages, beside text, tool calls and images."""
    lines = ["| service | its own answers go back with | parts | tools | other names |", "|---|---|---|---|---|"]
    lines += map(_rules, SERVICES.values())
    # The engine in this process has no row.
    lines.append("| `gguf` | `reasoning_content` | `image_url`, `text` | `function` | refused |")
    return "\n".join(lines) + "\n"


def _rules(row: Service) -> str:
    quirks = row.quirks
    taken = "all" if quirks.takes_back is None else _names(quirks.takes_back) or "nothing more"
    if quirks.own_only:
        taken += ", of objects alone"
    if row.is_any_server:
        taken = f"{_names(OPENAI_TAKES_BACK)}; with a `base_url` all"
    needs = [_names(quirks.needs)] if quirks.needs else []
    needs += [f"{_names(quirks.calls_need)} on the first call"] if quirks.calls_need else []
    taken += "".join(f"; never without {need}" for need in needs)
    parts = "any" if quirks.part_types is None else _names(quirks.part_types)
    tools = "any" if quirks.tool_types is None else _names(quirks.tool_types)
    names = "sent" if not quirks.is_strict else f"refused, but {_names(quirks.takes)}" if quirks.takes else "refused"
    return f"| `{row.name}` | {taken} | {parts} | {tools} | {names} |"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


if __name__ == "__main__":
    for guide in (PAGE, MESSAGES):
        guide.write_text(filled(guide.read_text(encoding="utf-8")), encoding="utf-8")
