"""Classes of many kinds, asked of the demo model with three seeds: `python -m tests.providers.gguf.schema_classes`.

Counted are answers that the class accepts (held), those beside which a warning or an error names what the grammar does
not hold (told), those that `max_tokens` cut (cut), and all others (wrong). With a number, only every so many classes.
"""

from __future__ import annotations

import ipaddress
import sys
import uuid
from collections import Counter
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from re import Pattern
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    UUID4,
    AnyUrl,
    AwareDatetime,
    Base64Bytes,
    Base64Str,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    FutureDate,
    HttpUrl,
    IPvAnyAddress,
    IPvAnyNetwork,
    Json,
    NaiveDatetime,
    NegativeInt,
    PastDate,
    PostgresDsn,
    RootModel,
    SecretStr,
    StringConstraints,
    create_model,
)

from llama_client import GenerationFailedError, LlamaClient, LlamaClientError, UnsupportedFeatureError


class Colour(Enum):
    RED = "red"
    GREEN = "green"
    REDDISH = "reddish"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    label: str


class Inner(BaseModel):
    size: int = Field(ge=1, le=40)
    unit: Literal["m", "km"]


class Node(BaseModel):
    name: str = Field(max_length=8)
    children: list[Node] = Field(max_length=2)


class Chain(BaseModel):
    value: int
    next: Chain | None = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=0, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str = Field(max_length=10)


class Numbers(RootModel[list[Annotated[int, Field(ge=0, le=9)]]]):
    root: list[Annotated[int, Field(ge=0, le=9)]] = Field(max_length=4)


class Python(BaseModel):
    model_config = ConfigDict(regex_engine="python-re")
    password: str = Field(pattern=r"^(?=.*\d)(?=.*[A-Z])[A-Za-z\d]{8,12}$")


class References(BaseModel):
    model_config = ConfigDict(regex_engine="python-re")
    word: str = Field(pattern=r"^(\w)\w*\1$", max_length=12)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str = Field(max_length=8)


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=8)
    size: float | None = None


def _field(kind: Any, **rules: Any) -> type[BaseModel]:
    return create_model("Answer", value=(kind, Field(**rules)))


_PATTERNS = (
    r"^\d{3}-\d{4}$", r"[A-Z]{3}-[0-9]{4}", r"^[^@]+@[^@]+\.[a-z]+$", r"^.{10,60}$", r"^[^\n]{30,60}$", r"\bcat\b",
    r"^\w+$", r"^\w+( \w+){1,3}$", r"^\S+$", r"^a|b$", r"^(?i)abc[x-z]$", r"^[A-Z]{2}\d+?$", r"^\D\W\S$",
    r"^#[0-9a-fA-F]{6}$", r"^https?://\S+$", r"^(\d+\.){2}\d+$", r"^\p{Lu}\p{Ll}+$",
    r'^"[^"]*"$', r"^[a-z&&[^aeiou]]{3,6}$", r"^\s*\d+\s*$", r"(foo|bar)baz",
)  # fmt: skip
CLASSES: tuple[type[BaseModel], ...] = (
    *(_field(str, pattern=pattern) for pattern in _PATTERNS),
    _field(str, max_length=5), _field(str, min_length=20, max_length=30), _field(str, pattern="^[a-z]+$", max_length=3),
    _field(str, pattern=r"^[\w ]+$", min_length=12, max_length=40),
    _field(Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=9)]),
    _field(Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True, pattern="^[a-z]{2}$")]),
    _field(int, ge=3, le=117), _field(int, gt=-5, lt=5), _field(int, multiple_of=7), _field(NegativeInt),
    _field(int, ge=1000, multiple_of=15), _field(float, ge=0, le=1),
    _field(float, gt=0, lt=0.001), _field(float, ge=-2.5, le=-0.25), _field(float, multiple_of=0.5, ge=0, le=10),
    _field(float, gt=100), _field(Decimal), _field(Decimal, max_digits=5, decimal_places=2),
    _field(Decimal, ge=0, le=10, decimal_places=3), _field(Colour), _field(Level),
    _field(Literal[1, "a", None, True]), _field(date), _field(datetime), _field(time), _field(timedelta),
    _field(NaiveDatetime), _field(AwareDatetime), _field(PastDate), _field(FutureDate),
    _field(date, ge=date(2020, 2, 1), lt=date(2021, 3, 5)), _field(timedelta, le=timedelta(hours=1)),
    _field(UUID4), _field(HttpUrl), _field(AnyUrl), _field(PostgresDsn),
    _field(IPvAnyAddress), _field(IPvAnyNetwork), _field(ipaddress.IPv6Address),
    _field(bytes, max_length=6), _field(Base64Bytes), _field(Base64Str), _field(SecretStr, max_length=9),
    _field(Json[list[int]]), _field(ByteSize), _field(Pattern),
    _field(complex), _field(set[Literal["a", "b", "c"]], min_length=2), _field(set[int], min_length=2, max_length=4),
    _field(tuple[int, str]), _field(list[Inner], min_length=1, max_length=3), _field(Point),
    _field(dict[str, int], max_length=3), _field(dict[Literal["a", "b"], int]), _field(dict[int, bool], max_length=2),
    _field(dict[uuid.UUID, int], max_length=2),
    _field(dict[Annotated[str, Field(pattern="^[a-z]{2}$")], int], max_length=3), _field(int | str),
    _field(Cat | Dog, discriminator="kind"), _field(Inner | None),
    _field(list[Annotated[str, Field(pattern=r"^\d\d$")]], max_length=4),
    Node, Chain, Numbers, Python, References, Open, Closed, _field(Any),
)  # fmt: skip
SEEDS = (1, 2, 3)
_MAX_TOKENS = 110


def outcome(client: LlamaClient, model: type[BaseModel], seed: int) -> tuple[str, str]:
    """`held`, `told`, `cut` or `wrong`, and the sentence."""
    messages = [{"role": "user", "content": "Fill in this form with anything you like, as JSON."}]
    try:
        reply = client.chat.completions.parse(
            messages=messages, response_format=model, temperature=1.3, max_tokens=_MAX_TOKENS, seed=seed
        )
    except UnsupportedFeatureError as error:
        return "told", str(error)
    except GenerationFailedError as error:
        if "maximum length" in str(error):
            return "cut", str(error)
        return "told" if "is not held to" in str(error) else "wrong", f"{error} {error.failed_generation!r:.80}"
    except LlamaClientError as error:
        return "wrong", f"{type(error).__name__}: {error}"
    return "told" if reply.warnings else "held", "; ".join(reply.warnings)


def main(step: int) -> int:
    config = {
        "default_model": "gguf/default", "ledger": {"enabled": False},
        "routing": {"retries": 0, "breaker_failures": 10**6}, "providers": {"gguf": {"n_threads": 1, "n_ctx": 2048}},
    }  # fmt: skip
    counts: Counter[str] = Counter()
    with LlamaClient(config) as client:
        for number, model in enumerate(CLASSES[::step]):
            for seed in SEEDS:
                kind, sentence = outcome(client, model, seed)
                counts[kind] += 1
                if kind != "held":
                    print(number, str(model.model_fields)[:90], kind, sentence[:200], flush=True)
    print(f"{len(CLASSES[::step])} classes, {len(SEEDS)} seeds:", dict(counts))
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1))
