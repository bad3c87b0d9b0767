"""A case: what is asked of every provider, and why it matters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llama_client.testing.conformance.bench import MODES, Bench, Mode
from llama_client.testing.conformance.said import Feature
from llama_client.testing.conformance.wires import Engine, Wire

STREAMS: tuple[Mode, ...] = ("stream-sync", "stream-async")
CALLS: tuple[Mode, ...] = ("call-sync", "call-async")
ASYNC: tuple[Mode, ...] = ("call-async", "stream-async")


@dataclass(frozen=True, slots=True)
class Case:
    """One demand.

    Attributes:
        name: Its stable name.
        why: Why it matters, in one sentence.
        run: Raises an `UnmetError` where a provider does otherwise.
        needs: What the service must be able to say.
        modes: Those in which it applies.
        engine_modes: Those in which it applies to an `Engine`.
    """

    name: str
    why: str
    run: Callable[[Bench], None]
    needs: frozenset[Feature]
    modes: tuple[Mode, ...]
    engine_modes: tuple[Mode, ...]

    def why_not(self, wire: Wire | Engine, mode: Mode) -> str | None:
        """Why it does not apply; None: it does."""
        if missing := sorted(self.needs - wire.can):
            return f"the provider is declared unable to say: {', '.join(missing)}"
        if mode not in self.modes:
            return f"it is about {', '.join(self.modes)}"
        if isinstance(wire, Engine) and mode not in self.engine_modes:
            return "an engine has no bytes, addresses and connections"
        return None


def case(
    why: str,
    *,
    needs: Iterable[Feature] = (),
    modes: tuple[Mode, ...] = MODES,
    engine: tuple[Mode, ...] = (),
) -> Callable[[Callable[[Bench], None]], Case]:
    """Makes a case of a function, which gives it its name.

    Args:
        why: Why it matters.
        needs: What the service must be able to say.
        modes: Those in which it applies.
        engine: Those in which it applies to an engine.
    """
    return lambda run: Case(run.__name__.replace("_", "-"), why, run, frozenset(needs), modes, engine)
