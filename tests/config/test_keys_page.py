"""The page about the configuration has every key of the schema, with its type, its default and what it means."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from llama_client.config.schema import Config
from tests.config.keys_page import PAGE, TABLES, filled, type_words

TEXT = PAGE.read_text(encoding="utf-8")


def tables_below(kind: Any) -> Iterator[type[BaseModel]]:
    """Every table that a type may hold."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from tables_below(field.annotation)
    for part in get_args(kind):
        yield from tables_below(part)


def test_every_key_of_the_schema_is_on_the_page() -> None:
    told = {(base, field) for table, _ in TABLES.values() for base in table.__mro__ for field in fields_of(base)}
    keys = {(base, field) for table in tables_below(Config) for base in table.__mro__ for field in fields_of(base)}
    assert {(base.__name__, field) for base, field in keys - told} == set()


def fields_of(base: type) -> list[str]:
    own = inspect.get_annotations(base)
    return [name for name in own if issubclass(base, BaseModel) and name in base.model_fields]


def test_the_tables_of_keys_are_those_of_the_schema() -> None:
    assert filled(TEXT) == TEXT, "run `python -m tests.config.keys_page`, which writes them anew"


def test_every_table_of_keys_has_its_place() -> None:
    assert [name for name in TABLES if f"<!-- keys: {name} -->" not in TEXT] == []


@pytest.mark.parametrize(
    ("most", "told"),
    [
        (64, ", 1 to 64"),
        (100_000, ", 1 to 100,000"),
        (1 << 20, ", 1 to 1,048,576"),
        (10**6, " from 1 on"),
        (1e9, " from 1 on"),
    ],
)
def test_a_bound_is_told_unless_it_only_catches_a_slip_of_the_pen(most: float, told: str) -> None:
    assert type_words({"type": "integer", "minimum": 1, "maximum": most}, {}) == f"whole number{told}"
