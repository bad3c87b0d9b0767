"""Writes the table of services in docs/guides/providers.md from the rows: `python -m tests.providers.services_page`."""

from __future__ import annotations

import re
from pathlib import Path

from llama_client.providers.services import SERVICES, Service

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "providers.md"
_MARKED = re.compile(r"(<!-- services -->\n).*?(<!-- end of services -->)", re.DOTALL)


def filled(page: str) -> str:
    """The page with the table as the rows have it."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{table()}\n{found[2]}", page)


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


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
