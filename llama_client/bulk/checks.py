"""All rows of an input, looked at before the first one is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_client.errors import JobError

if TYPE_CHECKING:
    from llama_client.bulk.contracts import Input, Journal


def check_rows(source: Input, journal: Journal, limit: int | None) -> int:
    """How many rows there are.

    Raises:
        JobError: A row is not what it was, or its id is there twice.
        InvalidRequestError: A row is broken.
    """
    seen: dict[str, str] = {}
    count = 0
    for row in source.rows():
        if limit is not None and count >= limit:
            break
        count += 1
        journal.is_done(row)
        if row.custom_id is not None:
            first = seen.setdefault(row.custom_id, row.where)
            if first is not row.where:
                raise JobError(
                    f"{row.where}: custom_id {row.custom_id!r} is that of {first} too; each must be there once",
                    where=row.where,
                )
    return count
