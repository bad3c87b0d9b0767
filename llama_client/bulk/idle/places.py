"""The names under which a job keeps what it knows of a target in idle hours, apart from what it knows otherwise."""

_PREFIX = "idle "


def place_of(target: str) -> str:
    """No target's own name has a space."""
    return f"{_PREFIX}{target}"


def is_idle(place: str) -> bool:
    return place.startswith(_PREFIX)


def name_of(place: str) -> str:
    """The target's, for people."""
    return place.removeprefix(_PREFIX)
