"""Takes secrets out of texts, errors, addresses and configuration values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, unquote_plus, urlsplit

from pydantic import SecretStr
from pydantic_core import from_json, to_json

# Replaces every secret, whether it is a whole value or a part of a text.
MASK = "***"
# Text longer than this is masked as a whole: to search it could take long.
_MAX_SEARCHED_CHARS = 400
# Keys and passwords put into the wrong place: what one of these patterns finds is never repeated.
_SECRETS = (
    # The prefixes of the keys of known services.
    (
        r"(?<![A-Za-z0-9])(?:sk-|sk_|gsk_|tgp_|xai-|pplx-|nvapi-|glpat-|gh[oprsu]_|github_pat_|xox[a-z]-|AKIA|AIza|eyJ)"
        r"[\w.=-]{6,}",
        MASK,
    ),
    (r"(?<![A-Za-z0-9])(?:hf|r8)_[A-Za-z0-9]{16,}", MASK),
    # Long, of letters and digits: no word.
    (r"(?<![A-Za-z0-9])(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{20,}", MASK),
    # User and password before a host; query and fragment of a URL.
    (r"[^\s/:@'\"]*:[^\s@]*@", f"{MASK}@"),
    (r"//[^\s/@]+@", f"//{MASK}@"),
    (r"(://[^\s?#]*)[?#][^\s'\"]+", rf"\1{MASK}"),
    # Values after a name such as `api_key=`.
    (r"(?i)\b(?:bearer|basic) +\S+", MASK),
    (r"(?i)[\w-]*(?:key|token|secret|passw[a-z]*|pwd|authorization|credentials?|cookie) *[=:] *\S.*", MASK),
)
# A shorter text would be found in ordinary words.
_MIN_SECRET_CHARS = 6
# Stand-ins for a key, for servers that need none. To mask "ollama" would make messages unreadable.
_PLACEHOLDERS = frozenset({"ollama", "lm-studio", "not-needed", "no-key-required", "sk-no-key-required", "xxxxxx"})
# Names of variables and keys with secret values, also in free tables (Ollama's `options`, a target's `extra_body`).
_SECRET_NAME = re.compile(
    r"key|token|secret|passw|auth|credential|cookie|bearer|pwd|(?<![a-z])pass(?![a-z])", re.IGNORECASE
)
# Names of values that may contain a secret: a password in a URL, say.
_MAY_HOLD_SECRET = re.compile(r"(^|[_-])(headers?|proxy|url|uri|dsn)($|[_-])", re.IGNORECASE)
# Names of values that are no secret themselves: a variable, a path.
_OPEN_NAME = re.compile(r"(_env|_file|_path|_dir|_home|_sock|^no_proxy|^xauthority|^(old)?pwd)$", re.IGNORECASE)
# Users name the keys of these tables, so those names say nothing of the values below them.
_NAMED_BY_USERS = ("providers", "routes")
_MAX_DEPTH = 20
# User and password in a URL.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
# A number with such a name is no secret: `max_tokens`, `budget_tokens`.
_COUNT_NAME = re.compile(r"tokens$", re.IGNORECASE)
_VARIABLE_NAME = re.compile(r"[A-Z][A-Z0-9_]*")


def looks_secret(text: str) -> bool:
    """Whether a text holds what looks like a key or a password, so that no message may repeat it."""
    return without_secrets(text) != text


def without_secrets(text: str) -> str:
    """The text with a mask for everything that looks like a key or a password; of a very long text, only the mask."""
    if len(text) > _MAX_SEARCHED_CHARS:
        return MASK
    for pattern, replacement in _SECRETS:
        text = re.sub(pattern, replacement, text)
    return text


def shown_value(key: str, value: object, environ: Mapping[str, str]) -> tuple[Any, bool]:
    """A configuration value as it may be shown, and whether any of it was masked."""
    match key, value:
        case _, None:
            return None, False
        case (("url" | "proxy"), SecretStr()):
            return _address(value.get_secret_value())
        case "base_url", str():
            return _address(value)
        case "headers", Mapping():
            # A malformed name can be the whole header line.
            return dict.fromkeys((without_secrets(str(name)) for name in value), MASK), bool(value)
        case "api_key_env", str():
            return (value, False) if is_variable_name(value, environ) else (MASK, True)
        case "api_key_command", _:
            return MASK, True
        case _, SecretStr():
            return MASK, True
        case _:
            shown = _masked(value)
            return shown, shown != value


def is_variable_name(text: str, environ: Mapping[str, str]) -> bool:
    return text in environ or _VARIABLE_NAME.fullmatch(text) is not None


def without_credentials(url: str, *, mark: str = "") -> str:
    """An address without user, password, query and fragment; `mark` stands for them."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    beyond = f"{parts.path}{parts.query}{parts.fragment}"
    if not parts.netloc or "@" in beyond:
        # A password with a slash, say, splits in the wrong place, so the host is unknown.
        return MASK if {"@", "?", "#"} & set(url) else url
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(
        netloc=f"{mark}@{host}" if user and mark else host, query=mark if parts.query else "", fragment=""
    ).geturl()


def secrets_of_address(url: str) -> list[str]:
    """What `without_credentials` removes: user, password and the query's values, percent-encoded and decoded."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return [url]
    pieces = [parts.netloc.rpartition("@")[0], parts.password or ""]
    fields = [field.partition("=") for field in parts.query.split("&")]
    named = [(name, value) if equals else ("", name) for name, equals, value in fields]
    # An API version, as of Azure, is no secret.
    pieces += [value for name, value in named if "version" not in name.lower()]
    return [form for piece in pieces if piece for form in dict.fromkeys((piece, unquote(piece), unquote_plus(piece)))]


def _address(text: str) -> tuple[str, bool]:
    if text in ("sqlite", "memory") or text.startswith("sqlite:///"):
        return text, False
    shown = without_credentials(text, mark=MASK)
    return shown, shown != text


def _masked(value: Any, name: str = "") -> Any:
    """A value of a free-form table, masked below names that say secret."""
    is_number = isinstance(value, int | float)
    if _SECRET_NAME.search(name) and not isinstance(value, bool) and not (is_number and _COUNT_NAME.search(name)):
        # Of any type: a list of keys, or a table with secrets for names.
        return MASK
    match value:
        case Mapping():
            return {key: _masked(below, str(key)) for key, below in value.items()}
        case list():
            return [_masked(item) for item in value]
        case str() if "://" in value:
            return _address(value)[0]
        case _:
            return value


def named_secrets(
    value: Any, *, is_secret: bool = False, depth: int = 0, is_named_by_user: bool = False
) -> Iterator[str]:
    """The secrets in an environment or a configuration: texts below names that say so, and every `SecretStr`."""
    if depth > _MAX_DEPTH:
        return
    match value:
        case SecretStr():
            yield from _secret_parts(value.get_secret_value())
        case str() if is_secret:
            yield from _secret_parts(value)
        case list() | tuple():
            for item in value:
                yield from named_secrets(item, is_secret=is_secret, depth=depth + 1)
        case Mapping():
            for name, below in value.items():
                says_secret = _SECRET_NAME.search(str(name)) or _MAY_HOLD_SECRET.search(str(name))
                names_secret = bool(says_secret) and not _OPEN_NAME.search(str(name)) and not is_named_by_user
                yield from named_secrets(
                    below,
                    is_secret=is_secret or names_secret,
                    depth=depth + 1,
                    is_named_by_user=depth == 0 and name in _NAMED_BY_USERS,
                )


def _secret_parts(text: str) -> Iterator[str]:
    """Of a URL, its secrets; else the text, and what follows its first word (`Bearer`)."""
    if "://" in text or "@" in text:
        yield from secrets_of_address(text if "://" in text else f"//{text}")
    else:
        yield text.strip()
        yield text.partition(" ")[2].strip()


# Headers without secrets.
_OPEN_HEADERS = frozenset({"accept", "accept-encoding", "connection", "content-type", "user-agent"})


def secrets_in(headers: Mapping[str, str]) -> list[str]:
    """The secrets in headers: each whole value, and what follows its first word (`Bearer`)."""
    values = [value for name, value in headers.items() if name.lower() not in _OPEN_HEADERS]
    return [*values, *(rest for value in values if (rest := value.partition(" ")[2]))]


_MAX_CHAIN = 20
# Ends an excerpt of a longer text.
CUT_MARK = "…"
# So much of a secret's beginning tells something of it, wherever it was cut.
_TELLING_CHARS = 12
# Longer than any message with excerpts: it is one.
_MAX_CUT_CHARS = 20_000
# What errors of providers quote beside their message.
_QUOTED_FIELDS = ("body", "provider_code", "failed_generation")


class Secrets:
    """Secrets to take out of texts: those of a provider, a call or a report."""

    def __init__(self, values: Collection[str]) -> None:
        masked = {value for value in values if len(value) >= _MIN_SECRET_CHARS and value.lower() not in _PLACEHOLDERS}
        # Longest first, so that no part of one remains.
        self._values = tuple(sorted(masked, key=len, reverse=True))
        self._beginnings = tuple(value[:_TELLING_CHARS].encode("utf-8", "surrogateescape") for value in self._values)

    def plus(self, values: Collection[str]) -> Secrets:
        return Secrets([*self._values, *values]) if values else self

    def __repr__(self) -> str:
        return f"Secrets({len(self._values)})"

    def cleaned(self, text: str) -> str:
        return str(self.without(text))

    def without_any(self, text: str) -> str:
        """A text without them, and without user and password in any URL."""
        return _CREDENTIALS.sub(f"{MASK}@", self.cleaned(text))

    def clean(self, error: BaseException) -> None:
        """Takes them out of an error and its chain of causes."""
        if not self._values:
            return
        if self._are_in(error):
            error.args = tuple(self.without(arg) for arg in error.args)
            for name in _QUOTED_FIELDS:
                if hasattr(error, name):
                    setattr(error, name, self.without(getattr(error, name)))
        link = error
        for _ in range(_MAX_CHAIN):
            below = link.__cause__ or link.__context__
            if below is None:
                break
            if self._are_in(below):
                # Foreign exceptions cannot be rewritten, so the chain ends above the one with the secret.
                link.__cause__ = link.__context__ = None
                break
            link = below

    def _are_in(self, error: BaseException) -> bool:
        texts = [str(error), repr(error), *(repr(getattr(error, name, None)) for name in _QUOTED_FIELDS)]
        return any(self.without(text) != text for text in texts)

    def _without_cut(self, text: str) -> str:
        """A text without the beginning of a secret that an excerpt ends with."""
        if CUT_MARK not in text:
            return text
        *excerpts, rest = text.split(CUT_MARK) if len(text) <= _MAX_CUT_CHARS else text.rsplit(CUT_MARK, 1)
        return CUT_MARK.join([*map(self._without_beginning, excerpts), rest])

    def _without_beginning(self, excerpt: str) -> str:
        # A character may be cut too.
        whole = excerpt.rstrip("\ufffd")
        for secret in self._values:
            longest = min(len(secret) - 1, len(whole))
            for length in range(longest, _MIN_SECRET_CHARS - 1, -1):
                if whole.endswith(secret[:length]):
                    return whole[:-length] + MASK
        return excerpt

    def _without_in(self, body: bytes) -> bytes:
        """A body without them, also where JSON writes them otherwise."""
        if b"\\" in body:
            with suppress(ValueError):
                value = from_json(body)
                cleaned = self.without(value)
                if cleaned != value:
                    return to_json(cleaned)
        # Of a name that comes twice, the value has the last one only.
        if not any(beginning in body for beginning in self._beginnings):
            return body
        text = body.decode("utf-8", "surrogateescape")
        return bytes(self.without(text).encode("utf-8", "surrogateescape"))

    def without(self, value: Any) -> Any:
        match value:
            case str():
                for secret in self._values:
                    value = _without_beginnings(value.replace(secret, MASK), secret)
                return self._without_cut(value)
            case bytes():
                return self._without_in(value)
            case dict():
                return {self.without(key): self.without(inner) for key, inner in value.items()}
            case list():
                return [self.without(inner) for inner in value]
            case _:
                return value


def _without_beginnings(text: str, secret: str) -> str:
    """A text without long beginnings of a secret: a server's answer may end within it."""
    beginning = secret[:_TELLING_CHARS]
    # All addresses begin alike.
    is_telling = len(secret) > _TELLING_CHARS and "://" not in secret
    at = text.find(beginning) if is_telling else -1
    kept: list[str] = []
    start = 0
    while at >= 0:
        end = at + _TELLING_CHARS
        while text[end : end + 1] == secret[end - at : end - at + 1] != "":
            end += 1
        kept += [text[start:at], MASK]
        start, at = end, text.find(beginning, end)
    return "".join([*kept, text[start:]]) if kept else text
