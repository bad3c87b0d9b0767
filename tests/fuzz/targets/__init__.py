"""The targets, each in a module of its own, whose `opened()` gives it: imports of the package come after the engine."""

from __future__ import annotations

TARGETS = {
    "decoders": "tests.fuzz.targets.decoders",
    "wire": "tests.fuzz.targets.wire",
    "config": "tests.fuzz.targets.config",
    "catalogue": "tests.fuzz.targets.catalogue",
    "gguf": "tests.fuzz.targets.gguf_heads",
    "commands": "tests.fuzz.targets.commands",
    "headers": "tests.fuzz.targets.headers",
    "ledger": "tests.fuzz.targets.ledger",
}
