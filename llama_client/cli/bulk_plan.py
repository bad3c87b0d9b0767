"""What `--dry-run` prints of a job's plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_client.bulk.progress_text import about, duration
from llama_client.cli.terminal import answer_console, table_of

if TYPE_CHECKING:
    from decimal import Decimal

    from llama_client.bulk.planning.quotes import BulkPlan

_COLUMNS = [
    ("venue", False),
    ("target", False),
    ("rows", True),
    ("expected", True),
    ("at most", True),
    ("ends in", True),
]


def print_plan(plan: BulkPlan) -> None:
    """Rows and tokens, the price of each venue that is possible, and what the job would do."""
    console = answer_console()
    asked = plan.rows - plan.kept_rows
    rows = "row" if asked == 1 else "rows"
    console.print(f"{asked:,} {rows} to ask, about {plan.input_tokens:,} tokens in and {plan.output_tokens:,} out")
    possible = [
        [
            quote.venue,
            quote.target,
            f"{quote.rows:,}",
            _usd(quote.usd),
            _usd(quote.most_usd),
            "unknown" if quote.ends_in_s is None else duration(quote.ends_in_s),
        ]
        for quote in plan.quotes
        if quote.is_possible
    ]
    if possible:
        console.print(table_of(_COLUMNS, possible, width=console.width))
    console.print(plan.explanation)
    console.print("Nothing was asked.")


def _usd(amount: Decimal | None) -> str:
    return "unknown" if amount is None else about(amount)
