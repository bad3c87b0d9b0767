"""A client's configuration on its way to other processes: secrets stay behind, and each node reads its own.

What goes through Ray is kept in its object store, and may be written to a disk of any node.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from socket import gethostname
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from llama_client.errors import ConfigError, InvalidRequestError, JobError
from llama_client.redaction import key_spans, looks_secret
from llama_client.redaction import without_secrets as without_secrets_in
from llama_client.version import __version__

if TYPE_CHECKING:
    from llama_client.bulk.pending import Done, PendingRow
    from llama_client.chat import CacheMode, CallContext
    from llama_client.client import AsyncLlamaClient
    from llama_client.config.schema import Config

Place = tuple[str, ...]
# Headers whose names say so hold secrets; others go along.
_HEADERS = ("extra_headers", "headers")
# Fields of a request that hold secrets: others have such words in their names too (`prompt_cache_key`, `stop_token`).
_SECRET_FIELD = re.compile(
    r"(^|[_-])(api_?key|(access|auth|bearer|session|id|refresh)_?token|authorization|passw(or)?d|passphrase|pwd|bearer"
    r"|(client_?)?secret|(private|secret|access)_?key|credentials?|cookie)$",
    re.IGNORECASE,
)
_SECRET_WORDS = ("auth", "key", "token", "secret", "cookie", "passw", "passphrase", "pwd", "bearer", "credential")
# Of headers alone: addresses have such words too.
_SECRET_HEADER_WORDS = ("session", "signature", "jwt")


@dataclass(frozen=True, slots=True)
class Handover:
    """What another process opens the same client with.

    Attributes:
        config: The configuration without its secrets.
        variables: The environment variables that hold them, by place.
    """

    config: Config
    variables: Mapping[Place, str]
    only_provider: str | None
    model: str | Sequence[str] | None
    timeout: float | None
    tags: Mapping[str, str]
    cache_mode: CacheMode
    version: str = __version__

    @classmethod
    def of(cls, context: CallContext, environ: Mapping[str, str] = os.environ) -> Handover:
        """Of an open client.

        Raises:
            ConfigError: A secret stands in the configuration itself.
            InvalidRequestError: The client cannot be opened anew elsewhere.
        """
        if not context.providers.is_portable:
            raise InvalidRequestError(
                "engine: with 'ray' each worker opens a client of its own, which can have neither your http_client nor "
                "what tests put in its place; use a configuration (proxy, ca_file, headers), or engine='local'",
                param="engine",
            )
        config, variables = without_secrets(context.config, environ)
        only = context.resolver.only_provider
        return cls(config, variables, only, context.model, context.timeout, context.tags, context.cache_mode)

    def open(self, environ: Mapping[str, str] = os.environ) -> AsyncLlamaClient:
        """The same client, in this process.

        Raises:
            ConfigError: A variable is not set on this node.
            JobError: Another version of the package is installed here.
        """
        from llama_client.client import AsyncLlamaClient

        if self.version != __version__:
            raise JobError(
                f"node {gethostname()}: has llama-client {__version__}, and the job is of {self.version}; install the "
                "same on all nodes"
            )
        config = with_secrets(self.config, self.variables, environ)
        context = AsyncLlamaClient._context_of(config, self.tags, None, None, only_provider=self.only_provider)
        client = AsyncLlamaClient._of(context)
        return client.with_options(timeout=self.timeout, model=self.model, cache=self.cache_mode)


def without_secrets(config: Config, environ: Mapping[str, str]) -> tuple[Config, dict[Place, str]]:
    """The configuration without its secrets, and the variables that hold them.

    Raises:
        ConfigError: A secret is in no variable.
    """
    names = {value: name for name, value in sorted(environ.items(), reverse=True) if value}
    # Of two variables with the same value the one that is ours is set where the package is.
    names |= {value: name for name, value in environ.items() if value and name.startswith("LLAMA_CLIENT_")}
    found: dict[Place, str] = {}

    def leave(place: Place, secret: SecretStr) -> SecretStr:
        text = secret.get_secret_value()
        if _is_plain(place, text):
            return secret
        if text not in names:
            raise ConfigError(_stays(place), key=".".join(place))
        found[place] = names[text]
        return SecretStr("")

    return _mapped(config, leave), found


def with_secrets(config: Config, variables: Mapping[Place, str], environ: Mapping[str, str]) -> Config:
    """The configuration whole again, from this process's environment.

    Raises:
        ConfigError: A variable is not set.
    """

    def put(place: Place, secret: SecretStr) -> SecretStr:
        name = variables.get(place)
        if name is None:
            return secret
        if not environ.get(name):
            where = f"node {gethostname()}, process {os.getpid()}"
            raise ConfigError(
                f"{name}: not set at {where}; {'.'.join(place)} is read from it on every node", variable=name
            )
        return SecretStr(environ[name])

    whole: Config = _mapped(config, put)
    return whole


def _is_plain(place: Place, text: str) -> bool:
    """Whether it is no secret, although the configuration never shows it."""
    if not text:
        return True
    if place[-1] in ("url", "proxy", "base_url"):
        return "@" not in text and not urlsplit(text).password and not _has_secret_word(text)
    return "headers" in place and not _is_secret_header(place[-1], text)


def require_no_secret_headers(params: Mapping[str, Any], where: str) -> None:
    """Raises `InvalidRequestError` where a row holds a secret beside its messages: rows go through Ray as they are.

    Args:
        params: Of a call.
        where: What has them.
    """
    found = _secret_place({name: value for name, value in params.items() if name != "messages"})
    if found:
        # A malformed name can be the whole header line.
        shown = ".".join(map(without_secrets_in, found))
        raise InvalidRequestError(
            f"{shown} of {where}: a secret would go through Ray in the clear; put it into "
            "providers.<name>.headers by a variable that is set on every node, or use engine='local'",
            param=found[0],
        )


def _secret_place(params: Mapping[str, Any]) -> Place:
    """Where the first secret stands; empty: nowhere."""
    left: list[tuple[Place, Any]] = [((str(name),), value) for name, value in params.items()]
    while left:
        place, value = left.pop()
        if isinstance(value, Mapping):
            left += [((*place, str(name)), each) for name, each in value.items()]
        elif isinstance(value, list | tuple) and place[-1] not in _HEADERS:
            left += [(place, each) for each in value]
        elif value is not None and _is_secret_value(place, value):
            return place
    return ()


def _is_secret_value(place: Place, value: object) -> bool:
    if isinstance(value, SecretStr):
        return True
    if any(each in _HEADERS for each in place[-2:]):
        # What is no text is no header, and unknown.
        return not isinstance(value, str) or place[-1] in _HEADERS or _is_secret_header(place[-1], value)
    if not isinstance(value, str):
        return False
    return _SECRET_FIELD.search(place[-1]) is not None or (place[0] == "extra_body" and any(key_spans(value)))


def without_secret_headers(rows: Iterable[PendingRow]) -> tuple[list[PendingRow], list[Done]]:
    """The rows that may go through Ray, and the failures of the others."""
    sent: list[PendingRow] = []
    refused: list[Done] = []
    for pending in rows:
        try:
            require_no_secret_headers(pending.row.params, pending.row.where or f"row {pending.row.position + 1}")
            sent.append(pending)
        except InvalidRequestError as error:
            refused.append((pending, error))
    return sent, refused


def _is_secret_header(name: str, value: str) -> bool:
    return _has_secret_word(name) or any(word in name.lower() for word in _SECRET_HEADER_WORDS) or looks_secret(value)


def _has_secret_word(text: str) -> bool:
    return any(word in text.lower() for word in _SECRET_WORDS)


def _stays(place: Place) -> str:
    name = ".".join(place)
    if place[-1] == "api_key":
        remedy = "say with api_key_env or api_key_file where every node finds it"
    else:
        remedy = f"set LLAMA_CLIENT_{'__'.join(place).upper()} (or another variable with it) here and on every node"
    return f"{name}: a secret in the configuration itself would go through Ray in the clear; {remedy}"


def _mapped(value: Any, change: Callable[[Place, SecretStr], SecretStr], place: Place = ()) -> Any:
    """The value with each secret in it changed."""
    match value:
        case SecretStr():
            return change(place, value)
        case BaseModel():
            fields = ((name, getattr(value, name)) for name in type(value).model_fields)
            made = {name: (each, _mapped(each, change, (*place, name))) for name, each in fields}
            changed = {name: new for name, (old, new) in made.items() if new is not old}
            return value.model_copy(update=changed) if changed else value
        case Mapping():
            entries = {key: _mapped(each, change, (*place, str(key))) for key, each in value.items()}
            return value if all(entries[key] is value[key] for key in value) else entries
        case tuple() if type(value) is tuple:
            items = tuple(_mapped(each, change, (*place, str(number))) for number, each in enumerate(value))
            return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    return value
