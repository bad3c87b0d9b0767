"""Takes secrets out of texts, errors, addresses and configuration values."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import unquote, unquote_plus, urlsplit

from pydantic import SecretStr

from llama_client.errors import GenerationFailedError, ProviderError
from llama_client.validation import without_secrets

# It stands for a whole value; in the midst of a text, where stars may be anything, MASK_IN_TEXT does.
MASK = "***"
MASK_IN_TEXT = "[secret]"
# A shorter text would be found in ordinary words.
_MIN_SECRET_CHARS = 6
# What is given in the place of a key to servers that want none. To hide "ollama" would make messages unreadable.
_PLACEHOLDERS = frozenset({"ollama", "lm-studio", "not-needed", "no-key-required", "sk-no-key-required", "xxxxxx"})
# Names of variables and keys whose values are secret, also those that users put into free tables (Ollama's `options`, a
# target's `extra_body`).
SECRET_NAME = re.compile(
    r"key|token|secret|passw|auth|credential|cookie|bearer|pwd|(?<![a-z])pass(?![a-z])", re.IGNORECASE
)
# A number below such a name is none: `max_tokens`, `budget_tokens`.
_COUNT_NAME = re.compile(r"tokens$", re.IGNORECASE)
_VARIABLE_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_WITHOUT_SECRETS = "sqlite"


def shown_value(key: str, value: object, environ: Mapping[str, str]) -> tuple[Any, bool]:
    """A value as it may be shown, and whether something of it was masked.

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
            # A name that is none can hold the whole line of a header.
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
    """Whether a text is the name of a variable rather than a key that was put in its place."""
    return text in environ or _VARIABLE_NAME.fullmatch(text) is not None


def can_be_secret(text: str) -> bool:
    """Whether a key, password or header's value is to be taken out of messages: no short or well-known word is."""
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
        # A password that holds a slash, say, is cut in the wrong place: nobody knows what is the host.
        return MASK if {"@", "?", "#"} & set(url) else url
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(
        netloc=f"{mark}@{host}" if user and mark else host, query=mark if parts.query else "", fragment=""
    ).geturl()


def secrets_of_address(url: str) -> list[str]:
    """What `without_credentials` takes out of an address: its user and password, and its query as a whole and in parts.

    Each as it is written and as it is meant. A version, as Azure has one in its query, is no secret.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return [url]
    pieces = [parts.netloc.rpartition("@")[0], parts.password or ""]
    fields = [field.partition("=") for field in parts.query.split("&")]
    told = [(name, value) if equals else ("", name) for name, equals, value in fields]
    pieces += [value for name, value in told if "version" not in name.lower()]
    return [form for piece in pieces if piece for form in dict.fromkeys((piece, unquote(piece), unquote_plus(piece)))]


def _address(text: str) -> tuple[str, bool]:
    """An address as it may be shown, and whether something of it was masked."""
    if text == _WITHOUT_SECRETS or text.startswith("sqlite:///"):
        return text, False
    shown = without_credentials(text, mark=MASK)
    return shown, shown != text


def _free(value: Any, name: str = "") -> Any:
    """What may be shown of a table that anything may stand in."""
    is_number = isinstance(value, int | float)
    if SECRET_NAME.search(name) and not isinstance(value, bool) and not (is_number and _COUNT_NAME.search(name)):
        # Whatever it is: a list of keys, or a table whose names could be the secrets.
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


# Headers that hold nothing to hide.
_OPEN_HEADERS = frozenset({"accept", "accept-encoding", "connection", "content-type", "user-agent"})


def secrets_in(headers: Mapping[str, str]) -> list[str]:
    """What headers hold that must not be shown: a whole value, and what stands behind its first word (`Bearer`)."""
    values = [value for name, value in headers.items() if name.lower() not in _OPEN_HEADERS]
    return [*values, *(rest for value in values if (rest := value.partition(" ")[2]))]


class Secrets:
    """The secrets of one provider, or of one call."""

    def __init__(self, values: Collection[str]) -> None:
        # The longest first, so that none is left in part.
        self._values = tuple(sorted({value for value in values if can_be_secret(value)}, key=len, reverse=True))

    def plus(self, values: Collection[str]) -> Secrets:
        """These and more."""
        return Secrets([*self._values, *values]) if values else self

    def __repr__(self) -> str:
        return f"Secrets({len(self._values)})"

    def cleaned(self, text: str) -> str:
        """A text without them."""
        return str(self.without(text))

    def clean(self, error: ProviderError) -> None:
        """Takes them out of an error and of what it was raised from."""
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
                # Exceptions of others cannot be rewritten; so the chain ends above the one that tells too much.
                link.__cause__ = link.__context__ = None
                break
            link = below

    def _are_in(self, error: BaseException) -> bool:
        texts = [str(error), repr(error)]
        texts += [repr(getattr(error, name, None)) for name in ("body", "failed_generation", "provider_code")]
        return any(value in text for value in self._values for text in texts)

    def without(self, value: Any) -> Any:
        """A value of any shape without them."""
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
