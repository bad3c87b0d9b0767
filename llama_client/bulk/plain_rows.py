"""Rows of an iterable: prompts, messages, or parameters of `create`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_client.bulk.rows import Row
from llama_client.errors import InvalidRequestError


@dataclass(slots=True, eq=False)
class IterableInput:
    """An iterable of prompts (text), lists of messages, or mappings with `messages` and further parameters.

    Args:
        items: The iterable.
        defaults: Parameters of rows that do not name them.
        system: Instructions before each prompt.
    """

    items: Iterable[object]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    name: str = "the rows"

    @property
    def is_replayable(self) -> bool:
        return not isinstance(self.items, Iterator)

    def rows(self) -> Iterator[Row]:
        for position, item in enumerate(self.items):
            yield self._row(position, item)

    def count(self) -> int | None:
        return len(self.items) if isinstance(self.items, Sequence) else None

    def _row(self, position: int, item: object) -> Row:
        where = f"row {position + 1}"
        given = dict(item) if isinstance(item, Mapping) else {"messages": item}
        custom_id = given.pop("custom_id", None)
        if custom_id is not None and not isinstance(custom_id, str):
            raise InvalidRequestError(f"{where}: custom_id must be text, got {custom_id!r:.40}", param="custom_id")
        messages = given.pop("messages", None)
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        if not isinstance(messages, Sequence) or not messages:
            raise InvalidRequestError(
                f"{where}: must be text, a list of messages, or a mapping with messages, got {type(item).__name__}",
                param="rows",
            )
        if self.system is not None:
            messages = [{"role": "system", "content": self.system}, *messages]
        return Row(position, {**self.defaults, **given, "messages": messages}, custom_id, {}, where)
