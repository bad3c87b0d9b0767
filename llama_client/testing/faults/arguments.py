"""The arguments of a fault server's commands, checked before anything is done with them. No I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llama_client.testing.faults.table import GOOD, canonical, fault

LONGEST_WAIT_S = 86_400.0
_PORTS = range(65_536)
_SHOWN = 80


def checked_name(name: object, field: str = "fault") -> str:
    """A name as `FAULTS` has it, or `GOOD`; ValueError: there is no such fault, or it is no text."""
    if not isinstance(name, str):
        raise _wrong(field, name, "the name of a fault, such as '429-integer'")
    return GOOD if canonical(name) == GOOD else fault(name).name


def checked_names(names: object, field: str = "faults") -> list[str]:
    """Names of faults in a list."""
    if isinstance(names, str | bytes | Mapping) or not isinstance(names, Sequence):
        raise _wrong(field, names, "a list of names of faults, such as ['429-integer', 'reset']")
    return [checked_name(name, f"{field}[{index}]") for index, name in enumerate(names)]


def checked_share(share: object, field: str) -> float:
    """A share from 0 to 1."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise _wrong(field, share, "a share from 0 to 1")
    return share


def checked_seed(seed: object, field: str = "seed") -> int:
    """A whole number."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise _wrong(field, seed, "a whole number")
    return seed


def checked_wait(seconds: object, field: str = "within_s") -> float:
    """Seconds to wait, a day at most."""
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not math.isfinite(seconds) or not 0 <= seconds <= LONGEST_WAIT_S:  # type: ignore[arg-type, operator]
        raise _wrong(field, seconds, f"a number of seconds from 0 to {LONGEST_WAIT_S:.0f}")
    return float(seconds)  # type: ignore[arg-type]


def checked_prefix(prefix: object, field: str = "failing_prompts") -> str | None:
    """The beginning of some prompts, or None."""
    if prefix is not None and not isinstance(prefix, str):
        raise _wrong(field, prefix, "the text that some prompts begin with, or None")
    return prefix


def checked_port(port: object) -> int:
    """A port; 0: any."""
    if isinstance(port, bool) or not isinstance(port, int) or port not in _PORTS:
        raise _wrong("port", port, "a whole number from 0 to 65535")
    return port


Check = Callable[[Any, str], Any]
# The arguments of each command: what must be there, and what may be.
_NEEDED: Mapping[str, Mapping[str, Check]] = {
    "next": {"names": checked_names},
    "always": {"name": checked_name},
    "at_rate": {"share": checked_share},
    "report": {},
    "clear": {},
    "wait_until_idle": {"within_s": checked_wait},
}
_FURTHER: Mapping[str, Mapping[str, Check]] = {
    "at_rate": {
        "seed": checked_seed,
        "names": checked_names,
        "slow": checked_share,
        "failing_prompts": checked_prefix,
    },
}


def checked_arguments(do: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a command as it takes them.

    Raises:
        ValueError: There is no such command, or an argument is missing, unknown or wrong.
    """
    if do not in _NEEDED:
        raise ValueError(f"no command is called {_shown(do)}: there are {', '.join(sorted(_NEEDED))}")
    checks = {**_NEEDED[do], **_FURTHER.get(do, {})}
    takes = f"it takes {', '.join(checks)}" if checks else "it takes none"
    missing = [name for name in _NEEDED[do] if name not in arguments]
    unknown = [name for name in arguments if name not in checks]
    if missing:
        raise ValueError(f"the command {do!r} needs {', '.join(missing)}: {takes}")
    if unknown:
        raise ValueError(f"the command {do!r} has no argument {_shown(unknown[0])}: {takes}")
    return {name: checks[name](value, name) for name, value in arguments.items()}


def _wrong(field: str, value: object, right: str) -> ValueError:
    return ValueError(f"{field}: {_shown(value)} is not {right}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
