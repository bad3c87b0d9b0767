"""Takes secrets out of every text of a report, whoever wrote it: servers and libraries repeat what they were sent.

Each check leaves them out by itself; this is the second lock on that door.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from llama_client.config.keys import text_of_key_file
from llama_client.config.masking import MASK_IN_TEXT, SECRET_NAME, secrets_of_address
from llama_client.config.schema import TABLES
from llama_client.providers.http.redaction import Secrets

if TYPE_CHECKING:
    from llama_client.config.schema import Config

# Words that a report needs. Servers without keys are often given one of them, and whoever's key is one has none.
_ORDINARY = frozenset({*TABLES, "default", "password", "postgres", "secret", "sqlite"})
# A user and a password in an address.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
# Names whose values may hold a secret, beside those that say so.
_HOLDS_A_SECRET = re.compile(r"(^|[_-])(headers?|proxy|url|uri|dsn)($|[_-])", re.IGNORECASE)
# Names of what is no secret itself: a variable, a place.
_OPEN_NAME = re.compile(r"(_env|_file|_path|_dir|_home|_sock|^no_proxy|^xauthority|^(old)?pwd)$", re.IGNORECASE)
# Below these, users choose names, which say nothing of what is below them.
_NAMED_BY_USERS = ("providers", "routes")
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
        pieces = {piece.strip() for text in found for piece in _pieces(text)}
        self._secrets = Secrets(pieces - _ORDINARY - set(config.providers))

    def __call__(self, text: str) -> str:
        """A text without them."""
        return _CREDENTIALS.sub(f"{MASK_IN_TEXT}@", self._secrets.cleaned(text))


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
        yield text_of_key_file(file)
    except OSError:
        return


def _below(value: Any, *, is_secret: bool, depth: int, is_named_by_users: bool = False) -> Iterator[str]:
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
                told = not is_named_by_users and _tells(str(name))
                users = depth == 0 and name in _NAMED_BY_USERS
                yield from _below(each, is_secret=is_secret or told, depth=depth + 1, is_named_by_users=users)


def _tells(name: str) -> bool:
    """Whether a name says that there is a secret below it."""
    return bool(SECRET_NAME.search(name) or _HOLDS_A_SECRET.search(name)) and not _OPEN_NAME.search(name)


def _pieces(text: str) -> Iterator[str]:
    """What of a text is the secret: of an address what nobody needs, else the whole and what follows `Bearer`."""
    if "://" in text or "@" in text:
        yield from secrets_of_address(text if "://" in text else f"//{text}")
    else:
        yield text
        yield text.partition(" ")[2]
