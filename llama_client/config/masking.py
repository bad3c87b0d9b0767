"""What of a configuration may be shown: a value as it is, or what is left of it when its secret is taken out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

MASK = "***"
_VARIABLE_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
# Names of texts that users put into free tables (Ollama's `options`, a target's `extra_body`).
_SECRET_NAME = re.compile(r"key|token|secret|passw|auth|credential|cookie", re.IGNORECASE)
_WITHOUT_SECRETS = "sqlite"


def shown_value(key: str, value: object, environ: Mapping[str, str]) -> tuple[Any, bool]:
    """A value as it may be shown, and whether something of it was masked.

    Args:
        key: The key's own name.
        value: A text, number, list or table as TOML has it, or a secret.
        environ: The environment, which tells a variable's name from a key that was put in its place.

    Examples:
        >>> shown_value("api_key", SecretStr("gsk_1"), {})
        ('***', True)
        >>> shown_value("url", SecretStr("postgresql://ann:pw@db.example/costs"), {})
        ('postgresql://***@db.example/costs', True)
        >>> shown_value("api_key_env", "GROQ_API_KEY", {})
        ('GROQ_API_KEY', False)
    """
    match key, value:
        case _, None:
            return None, False
        case (("url" | "proxy"), SecretStr()):
            return _address(value.get_secret_value())
        case "base_url", str():
            return _address(value)
        case "headers", Mapping():
            return dict.fromkeys(value, MASK), bool(value)
        case "api_key_env", str():
            return (value, False) if is_variable_name(value, environ) else (MASK, True)
        case "api_key_command", _:
            return MASK, True
        case _, SecretStr():
            return MASK, True
        case _:
            shown = _free(value)
            return shown, shown != value


def is_variable_name(text: str, environ: Mapping[str, str]) -> bool:
    """Whether a text is the name of a variable rather than a key that was put in its place."""
    return text in environ or _VARIABLE_NAME.fullmatch(text) is not None


def _address(text: str) -> tuple[str, bool]:
    """An address without user, password, query and fragment."""
    if text == _WITHOUT_SECRETS or text.startswith("sqlite:///"):
        return text, False
    try:
        parts = urlsplit(text)
    except ValueError:
        return MASK, True
    beyond = f"{parts.path}{parts.query}{parts.fragment}"
    if not parts.netloc or "@" in beyond:
        # A password that holds a slash, say, is cut in the wrong place: nobody knows what is the host.
        return (text, False) if not {"@", "?", "#"} & set(text) else (MASK, True)
    at, host = "@" in parts.netloc, parts.netloc.rpartition("@")[2]
    shown = parts._replace(
        netloc=f"{MASK}@{host}" if at else host, query=MASK if parts.query else "", fragment=""
    ).geturl()
    return shown, shown != text


def _free(value: Any) -> Any:
    match value:
        case Mapping():
            return {
                name: MASK if isinstance(below, str) and _SECRET_NAME.search(str(name)) else _free(below)
                for name, below in value.items()
            }
        case list():
            return [_free(item) for item in value]
        case _:
            return value
