"""Keys of random requests: `python -m tests.cache.neighbours --rows 1000000`.

Each row is a request, a neighbour that differs in one detail, and the same request written otherwise. A wrong answer
would be a key that two different requests have; a lost one, two keys of equal requests. A sample of the rows is really
asked of a client whose provider answers each request with that request.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from llama_client import LlamaClient
from llama_client.cache.key import key_of, place_of
from llama_client.testing import FakeProvider
from llama_client.types.request import check_request
from tests.cache.requests import Params, neighbour_of, request_of, rewritten

_PLACE = place_of("a model", "", ())
_TARGET = "some/m"


@dataclass
class Found:
    """What was found."""

    rows: int = 0
    wrong: int = 0
    lost: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    wrong_answers: int = 0
    lost_answers: int = 0

    @property
    def is_good(self) -> bool:
        return not (self.wrong or self.lost or self.wrong_answers or self.lost_answers)


def key(params: Params) -> bytes:
    return key_of(check_request(params, stream=False), _PLACE)


def written(params: Params) -> bytes:
    """What tells two requests apart, by their own text: the reference that keys are held against."""
    same = {name: value for name, value in params.items() if name not in ("extra_headers", "extra_body", "logit_bias")}
    sorted_ones = {name: sorted(params[name].items()) for name in params if name not in same}
    text = json.dumps([sorted(same.items()), sorted(sorted_ones.items())], ensure_ascii=False)
    return blake2b(text.encode(), digest_size=16).digest()


def keys_of(rows: int, seed: int) -> Found:
    """Looks at keys alone."""
    chance, found = random.Random(seed), Found()
    # The first 64 bits of each, as millions are kept: that two be the same by chance is one in ten million.
    known: dict[int, int] = {}
    for _ in range(rows):
        params = request_of(chance)
        change, other = neighbour_of(params, chance)
        own = key(params)
        found.rows += 1
        found.changes[change] += 1
        # Of the neighbour, and of all requests before.
        for each, each_key in ((params, own), (other, key(other))):
            text = int.from_bytes(written(each)[:8])
            if known.setdefault(int.from_bytes(each_key[:8]), text) != text:
                found.wrong += 1
        if key(rewritten(params, chance)) != own:
            found.lost += 1
    return found


def calls_of(rows: int, seed: int, found: Found) -> None:
    """Asks a client: no two answers are the same, so that one of another request is seen."""
    chance = random.Random(seed)
    table = {"kind": "openai", "api_key": "k", "base_url": "http://127.0.0.1:9/v1"}
    config: dict[str, Any] = {
        "default_model": _TARGET,
        "providers": {"some": table},
        "ledger": {"enabled": False},
        "cache": {"enabled": True, "url": "memory"},
    }
    with FakeProvider() as fake, LlamaClient(config) as client:
        numbers = itertools.count()
        fake.always(lambda request: f"answer {next(numbers)}")
        answers: dict[bytes, str] = {}
        for _ in range(rows):
            params = request_of(chance)
            other = neighbour_of(params, chance)[1]
            # The one that plays the provider says a text once.
            if any(name in each for each in (params, other) for name in ("response_format", "tools", "n", "logprobs")):
                continue
            for each in (params, other):
                reply = client.chat.completions.create(**each)
                found.asked += 1
                known = answers.setdefault(written(each), reply.text)
                found.wrong_answers += reply.is_cached and known != reply.text
            again = client.chat.completions.create(**rewritten(params, chance))
            found.wrong_answers += again.is_cached and again.text != answers[written(params)]
            found.lost_answers += not again.is_cached


def main() -> int:
    """Looks, and says what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    started = time.perf_counter()
    found = keys_of(arguments.rows, arguments.seed)
    calls_of(arguments.calls, arguments.seed, found)
    print(
        f"{found.rows:,} requests, each with a neighbour and written again: {found.wrong} wrong, {found.lost} lost keys"
    )
    print("changed: " + ", ".join(f"{name} {count:,}" for name, count in sorted(found.changes.items())))
    print(f"{found.asked:,} calls: {found.wrong_answers} wrong, {found.lost_answers} lost answers")
    print(f"in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return 0 if found.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
