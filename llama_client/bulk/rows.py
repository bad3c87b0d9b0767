"""A row of a job: one request, where it stands in the input, and what makes it the same row in a later run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any

from pydantic import BaseModel

from llama_client.redaction import MASK


@dataclass(frozen=True)
class Row:
    """One request of a job.

    Attributes:
        position: Its place in the input, from 0.
        params: What `chat.completions.create` gets.
        custom_id: The id that the input gives it.
        columns: What the input says beside the request, and the output repeats.
        where: Where it stands, for people: `tickets.csv, line 3`.
    """

    position: int
    params: Mapping[str, Any]
    custom_id: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    def __repr__(self) -> str:
        # A header may hold a secret.
        params = {name: MASK if name == "extra_headers" else value for name, value in self.params.items()}
        return (
            f"Row(position={self.position}, params={params}, custom_id={self.custom_id!r}, columns={self.columns}, "
            f"where={self.where!r})"
        )

    @cached_property
    def digest(self) -> bytes:
        """Of the request and its id: the same row at the same position has the same one in every run."""
        content = json.dumps([self.custom_id, self.params], sort_keys=True, ensure_ascii=False, default=plain_json)
        return blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).digest()

    @property
    def id(self) -> str:
        """Its position and its content, as journals and batch files name it."""
        return f"{self.position}-{self.digest.hex()}"


def plain_json(value: object) -> object:
    """What stands in JSON for a value that it has no form of."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | list | set | frozenset):
        return sorted(value, key=repr) if isinstance(value, set | frozenset) else list(value)
    return str(value)
