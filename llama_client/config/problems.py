"""Everything that is wrong with a configuration's values, where `read_config` tells of the first thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llama_client.config.schema import Config, problem_at, with_kinds
from llama_client.config.variables import KeyPath
from llama_client.validation import all_telling, place

# Each round finds something new or is the last; who has made more mistakes than this has enough to do.
_MAX_ROUNDS = 200


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing that is wrong.

    Attributes:
        field: The dotted key (`providers.laptop.n_ctx`); empty: the whole.
        what: What is wrong with it, and what would be right.
        path: Where it stands; of what is missing, where it belongs.
    """

    field: str
    what: str
    path: KeyPath = ()

    @property
    def sentence(self) -> str:
        """Both as one."""
        return f"{self.field}: {self.what}" if self.field else self.what


def all_problems(values: dict[str, Any], *, folder: Path | None = None) -> tuple[Config, list[ConfigProblem]]:
    """Checks a configuration's values and tells of everything that is wrong.

    What is wrong is left out and the rest checked again, since some rules are only looked at where all else is right.

    Args:
        values: The tables and keys of the TOML.
        folder: Where relative paths start; None: the working directory.

    Returns:
        The configuration without what is wrong, and what that is.

    Example:
        >>> _, found = all_problems({"local_only": "yes", "providers": {"gguf": {"n_cxt": 1}}})
        >>> for problem in found:
        ...     print(problem.field, "-", problem.what)
        local_only - must be true or false, got 'yes'
        providers.gguf.n_cxt - unknown name; did you mean 'n_ctx'?
    """
    checked, kinds = with_kinds(values)
    places = paths_by_place(values)
    found = []
    for kind in kinds:
        path, _ = nearest_path(kind.field, places)
        found.append(ConfigProblem(kind.field, kind.what, path))
    removed: set[KeyPath] = set()
    for _ in range(_MAX_ROUNDS):
        originals: dict[str, KeyPath] = {}
        left = _without(checked, removed, (), (), originals)
        try:
            return Config.model_validate(left, context={"folder": folder}), list(dict.fromkeys(found))
        except ValidationError as error:
            details = error.errors(include_url=False)
        telling, before = all_telling(details), len(removed)
        for detail in details:
            problem = problem_at(detail)
            path, rest = nearest_path(problem.field, originals)
            # What was there and wrong is not missing.
            was_there = detail["type"] == "missing" and (*path, rest.removeprefix(".")) in removed
            if detail in telling and not was_there:
                found.append(ConfigProblem(place(path) + rest, problem.what, path))
            removed |= {path} if path else set()
        if len(removed) == before:
            break
    return Config(), list(dict.fromkeys(found))


def nearest_path(field: str, places: Mapping[str, KeyPath]) -> tuple[KeyPath, str]:
    """The place of a dotted key, and what of the key is beyond it, where it is not there itself.

    Args:
        field: The dotted key.
        places: What is there: see `paths_by_place`.
    """
    above = field
    while above not in places and above:
        above = above[: max(above.rfind("."), above.rfind("["), 0)]
    return places.get(above, ()), field.removeprefix(above) if above else field


def paths_by_place(values: object) -> dict[str, KeyPath]:
    """Where everything is, by its dotted key."""
    places: dict[str, KeyPath] = {}
    _without(values, frozenset(), (), (), places)
    return places


def _without(
    value: Any, removed: set[KeyPath] | frozenset[KeyPath], here: KeyPath, now: KeyPath, originals: dict[str, KeyPath]
) -> Any:
    """The value without what is removed; notes where each part of it stood before that."""
    originals[place(now)] = here
    match value:
        case Mapping():
            kept = {name: below for name, below in value.items() if (*here, name) not in removed}
            return {
                name: _without(below, removed, (*here, name), (*now, str(name)), originals)
                for name, below in kept.items()
                if not _is_emptied(below, (*here, name), removed)
            }
        case list() | tuple():
            left = [(number, item) for number, item in enumerate(value) if (*here, number) not in removed]
            return [
                _without(item, removed, (*here, number), (*now, place_now), originals)
                for place_now, (number, item) in enumerate(left)
            ]
        case _:
            return value


def _is_emptied(value: object, here: KeyPath, removed: set[KeyPath] | frozenset[KeyPath]) -> bool:
    """Whether nothing is left of a list, or of a route without its targets: that is no fault of its own."""
    match value:
        case Mapping() if len(here) == 2 and here[0] == "routes" and "targets" in value:
            targets = (*here, "targets")
            return targets in removed or _is_emptied(value["targets"], targets, removed)
        case Sequence() if not isinstance(value, str):
            return bool(value) and all((*here, number) in removed for number in range(len(value)))
        case _:
            return False
