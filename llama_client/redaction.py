"""Redacts secrets in texts, errors, addresses and configuration values."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import unquote, unquote_plus, urlsplit

from pydantic import SecretStr

from llama_client.errors import GenerationFailedError, ProviderError
from llama_client.validation import without_secrets

# For a whole value; MASK_IN_TEXT for a part of a text, where stars may have another meaning.
MASK = "***"
MASK_IN_TEXT = "[secret]"
# A shorter secret may be part of ordinary words.
_MIN_SECRET_CHARS = 6
# Common values for the key of servers that need none. Redacting "ollama" would make messages unreadable.
_PLACEHOLDERS = frozenset({"ollama", "lm-studio", "not-needed", "no-key-required", "sk-no-key-required", "xxxxxx"})
# Names of variables and keys with secret values, also in tables of the user (Ollama's `options`, a target's
# `extra_body`).
SECRET_NAME = re.compile(
    r"key|token|secret|passw|auth|credential|cookie|bearer|pwd|(?<![a-z])pass(?![a-z])", re.IGNORECASE
)
# Numbers under such names are not secret: `max_tokens`, `budget_tokens`.
_COUNT_NAME = re.compile(r"tokens$", re.IGNORECASE)
_VARIABLE_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_WITHOUT_SECRETS = "sqlite"


def shown_value(key: str, value: object, environ: Mapping[str, str]) -> tuple[Any, bool]:
    """A configuration value for display, and whether a part of it was redacted.

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
            # An invalid name may be a whole line of a header.
            return dict.fromkeys((without_secrets(str(name)) for name in value), MASK), bool(value)
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
    """Whether a text is the name of an environment variable, and not a key given in its place."""
    return text in environ or _VARIABLE_NAME.fullmatch(text) is not None


def can_be_secret(text: str) -> bool:
    """Whether to redact a key, password or header value: not if it is short or a well-known placeholder."""
    return len(text) >= _MIN_SECRET_CHARS and text.lower() not in _PLACEHOLDERS


def without_credentials(url: str, *, mark: str = "") -> str:
    """An address without user, password, query and fragment.

    Examples:
        >>> without_credentials("https://ann:pw@api.example/v1?key=k")
        'https://api.example/v1'
        >>> without_credentials("https://ann:pw@api.example/v1?key=k", mark="***")
        'https://***@api.example/v1?***'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    beyond = f"{parts.path}{parts.query}{parts.fragment}"
    if not parts.netloc or "@" in beyond:
        # The password contains a slash, say, so the host is not where urlsplit puts it.
        return MASK if {"@", "?", "#"} & set(url) else url
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(
        netloc=f"{mark}@{host}" if user and mark else host, query=mark if parts.query else "", fragment=""
    ).geturl()


def secrets_of_address(url: str) -> list[str]:
    """The secrets that `without_credentials` removes: user and password, and the values in the query.

    Each as written and percent-decoded. A version in the query, as Azure's, is not a secret.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return [url]
    pieces = [parts.netloc.rpartition("@")[0], parts.password or ""]
    fields = [field.partition("=") for field in parts.query.split("&")]
    fields_by_name = [(name, value) if equals else ("", name) for name, equals, value in fields]
    pieces += [value for name, value in fields_by_name if "version" not in name.lower()]
    return [form for piece in pieces if piece for form in dict.fromkeys((piece, unquote(piece), unquote_plus(piece)))]


def _address(text: str) -> tuple[str, bool]:
    """An address for display, and whether a part of it was redacted."""
    if text == _WITHOUT_SECRETS or text.startswith("sqlite:///"):
        return text, False
    shown = without_credentials(text, mark=MASK)
    return shown, shown != text


def _free(value: Any, name: str = "") -> Any:
    """A free-form value for display."""
    is_number = isinstance(value, int | float)
    if SECRET_NAME.search(name) and not isinstance(value, bool) and not (is_number and _COUNT_NAME.search(name)):
        # Of any type: a list of keys, or a table whose names may be secrets.
        return MASK
    match value:
        case Mapping():
            return {key: _free(below, str(key)) for key, below in value.items()}
        case list():
            return [_free(item) for item in value]
        case str() if "://" in value:
            return _address(value)[0]
        case _:
            return value


_MAX_CHAIN = 20
# Headers without secrets.
_OPEN_HEADERS = frozenset({"accept", "accept-encoding", "connection", "content-type", "user-agent"})


def secrets_in(headers: Mapping[str, str]) -> list[str]:
    """The secrets in headers: each whole value, and the part after its first word (`Bearer`)."""
    values = [value for name, value in headers.items() if name.lower() not in _OPEN_HEADERS]
    return [*values, *(rest for value in values if (rest := value.partition(" ")[2]))]


class Secrets:
    """The secrets of one provider, or of one call."""

    def __init__(self, values: Collection[str]) -> None:
        # The longest first, as one may contain another.
        self._values = tuple(sorted({value for value in values if can_be_secret(value)}, key=len, reverse=True))

    def plus(self, values: Collection[str]) -> Secrets:
        return Secrets([*self._values, *values]) if values else self

    def __repr__(self) -> str:
        return f"Secrets({len(self._values)})"

    def cleaned(self, text: str) -> str:
        return str(self.without(text))

    def clean(self, error: ProviderError) -> None:
        """Redacts an error and its causes."""
        if not self._values:
            return
        if self._are_in(error):
            error.args = tuple(self.without(arg) for arg in error.args)
            error.body = self.without(error.body)
            error.provider_code = self.without(error.provider_code)
            if isinstance(error, GenerationFailedError):
                error.failed_generation = self.without(error.failed_generation)
        link: BaseException = error
        for _ in range(_MAX_CHAIN):
            below = link.__cause__ or link.__context__
            if below is None:
                break
            if self._are_in(below):
                # Exceptions of other packages cannot be rewritten, so the chain ends above the one with a secret.
                link.__cause__ = link.__context__ = None
                break
            link = below

    def _are_in(self, error: BaseException) -> bool:
        texts = [str(error), repr(error)]
        texts += [repr(getattr(error, name, None)) for name in ("body", "failed_generation", "provider_code")]
        return any(value in text for value in self._values for text in texts)

    def without(self, value: Any) -> Any:
        """A value of any shape, redacted."""
        match value:
            case str():
                for secret in self._values:
                    value = value.replace(secret, MASK_IN_TEXT)
                return value
            case bytes():
                for secret in self._values:
                    value = value.replace(secret.encode(), MASK_IN_TEXT.encode())
                return value
            case dict():
                return {self.without(key): self.without(inner) for key, inner in value.items()}
            case list():
                return [self.without(inner) for inner in value]
            case _:
                return value
