"""Takes secrets out of every text of a report, whoever wrote it: servers and libraries repeat what they were sent.

Each check leaves them out by itself; this is the second lock on that door.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

if TYPE_CHECKING:
    from llama_client.config.schema import Config

_MASK = "[secret]"
# A shorter text would be found in ordinary words; servers without keys are often given one such as "none" or "ollama".
_MIN_SECRET_CHARS = 8
# A user and a password in an address.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
# Names of variables and of keys whose values are secret, or hold a secret in an address.
_SECRET_NAME = re.compile(r"(^|[_-])(api_?)?(key|secret|token|password|headers?|proxy|url)($|[_-])", re.IGNORECASE)
_OPEN_NAME = re.compile(r"(_env|_file|^no_proxy)$", re.IGNORECASE)
_MAX_KEY_BYTES = 64 << 10
_MAX_DEPTH = 20


class Masks:
    """What must not be seen.

    Args:
        environ: The environment.
        config: The configuration.
        values: The raw values of a configuration that could not be read.
    """

    def __init__(self, environ: Mapping[str, str], config: Config, values: Mapping[str, Any]) -> None:
        found = [*_below(environ, is_secret=False, depth=0), *_of_config(config)]
        found += _below(values, is_secret=False, depth=0)
        pieces = {piece.strip() for text in found for piece in _pieces(text)} - set(config.providers)
        # The longest first, so that none is left in part.
        self._values = sorted((p for p in pieces if len(p) >= _MIN_SECRET_CHARS), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """A text without them."""
        for value in self._values:
            text = text.replace(value, _MASK)
        return _CREDENTIALS.sub(f"{_MASK}@", text)


def _of_config(config: Config) -> Iterator[str]:
    yield config.ledger.url.get_secret_value()
    for table in config.providers.values():
        for name in ("api_key", "proxy"):
            secret = getattr(table, name, None)
            if isinstance(secret, SecretStr):
                yield secret.get_secret_value()
        for header in getattr(table, "headers", {}).values():
            yield header.get_secret_value()
        yield getattr(table, "base_url", None) or ""
        file = getattr(table, "api_key_file", None)
        if isinstance(file, Path):
            yield from _of_file(file)


def _of_file(file: Path) -> Iterator[str]:
    try:
        with file.open("rb") as opened:
            yield opened.read(_MAX_KEY_BYTES).decode("utf-8", "replace")
    except OSError:
        return


def _below(value: Any, *, is_secret: bool, depth: int) -> Iterator[str]:
    """The texts below names that say that they hold a secret."""
    if depth > _MAX_DEPTH:
        return
    match value:
        case str() if is_secret:
            yield value
        case list():
            for each in value:
                yield from _below(each, is_secret=is_secret, depth=depth + 1)
        case Mapping():
            for name, each in value.items():
                told = bool(_SECRET_NAME.search(str(name))) and not _OPEN_NAME.search(str(name))
                yield from _below(each, is_secret=is_secret or told, depth=depth + 1)


def _pieces(text: str) -> Iterator[str]:
    """What of a text is the secret: of an address its user and password, else the whole and what follows `Bearer`."""
    if "://" in text or "@" in text or text == "sqlite":
        try:
            parts = urlsplit(text if "://" in text else f"//{text}")
            pieces = (parts.netloc.rpartition("@")[0], parts.password or "", parts.query)
        except ValueError:
            pieces = (text, "", "")
        for piece in pieces:
            yield piece
            yield unquote(piece)
        return
    yield text
    yield text.partition(" ")[2]
