"""Ollama's native API: its own `/v1` hides errors inside streams and cannot set the context or the thinking."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from llama_client.config.provider_tables import HttpProviderConfig, OllamaConfig
from llama_client.errors import ModelNotFoundError, ProviderError
from llama_client.hosts import host_in, name_in
from llama_client.providers.base import Codec, ServedModel
from llama_client.providers.http.error_mapping import is_refused
from llama_client.providers.http.sdk import HttpService, is_cloud_model
from llama_client.providers.wire.ollama_request import OllamaCodec
from llama_client.providers.wire.openai_codec import Abilities
from llama_client.providers.wire.usage import below, count
from llama_client.redaction import without_credentials

_PORT = 11434
# Also where it is no number.
_WRITTEN_PORT = re.compile(r":[^:\]]*$")
_OTHER_PATHS = re.compile(r"/(?:v1|api)(?:/chat(?:/completions)?)?/?$")
# Without a host it is refused at its use. What was written may contain a password, so it is not quoted.
_NO_URL = "http://"


class Ollama(HttpService):
    """An Ollama server. It has no official client: its API needs only HTTP."""

    fetches_images = True
    lists_remote_models = True
    liveness_path = "api/ps"

    @property
    def listing_paths(self) -> tuple[str, ...]:
        return "api/tags", "api/ps"

    def codec(self, table: HttpProviderConfig, abilities: Abilities) -> Codec:
        if isinstance(table, OllamaConfig):
            quirks = self._quirks(table)
            return OllamaCodec(abilities, options=table.options, keep_alive=table.keep_alive, quirks=quirks)
        return OllamaCodec(abilities, options={})

    def key_variable_for(self, table: HttpProviderConfig, environ: Mapping[str, str]) -> str | None:
        """Ollama's key is for its cloud, or for the server that `OLLAMA_HOST` names."""
        is_named = table.base_url is None and environ.get("OLLAMA_HOST")
        return self.row.key_variable(environ) if is_named else super().key_variable_for(table, environ)

    def url(self, table: HttpProviderConfig, environ: Mapping[str, str]) -> str:
        return ollama_url(table.base_url or environ.get("OLLAMA_HOST") or "")

    def is_free(self, model: str, url: str) -> bool:
        return not is_cloud_model(model) and name_in(url) not in self.row.key_hosts

    def is_same_model(self, one: str, other: str) -> bool:
        return _full_name(one) == _full_name(other)

    def right_address(self, url: str) -> str | None:
        """Its own API is below `/api`, which is added; `/v1` is its copy of OpenAI's."""
        found = _OTHER_PATHS.search(url)
        return url[: found.start()] if found is not None else None

    def explain(self, error: ProviderError, url: str, model: str) -> str | None:
        if is_refused(error):
            where = without_credentials(url)
            return f"Ollama is not running at {where}: start it with `ollama serve`, or set OLLAMA_HOST"
        if isinstance(error, ModelNotFoundError) and model:
            return f"run `ollama pull {model}`"
        return super().explain(error, url, model)

    def served(self, bodies: Sequence[Any]) -> list[ServedModel]:
        """Newest first, as Ollama lists them."""
        tags, running = (_rows(body) for body in bodies)
        loaded = {row["name"]: row for row in running}
        return [
            ServedModel(
                id=row["name"],
                context_tokens=count(loaded.get(row["name"], {}).get("context_length")),
                size_bytes=count(row.get("size")),
                is_loaded=row["name"] in loaded,
                is_remote=bool(row.get("remote_host") or row.get("remote_model")) or is_cloud_model(row["name"]),
            )
            for row in tags
        ]


def ollama_url(host: str) -> str:
    """The address in `OLLAMA_HOST`: a host, a host and port, or a URL."""
    text = host.strip().rstrip("/")
    if text.count(":") > 1 and not any(mark in text for mark in ("[", "@", "://")):
        text = f"[{text}]"  # an IPv6 address as it is
    has_scheme = "://" in text
    try:
        parts = urlsplit(text if has_scheme else f"http://{text}")
    except ValueError:
        return _NO_URL
    place = _WRITTEN_PORT.sub("", parts.netloc.rpartition("@")[2])
    name = host_in(f"//{place}") if place else "127.0.0.1"
    if not name:
        return _NO_URL
    # A server that listens on every address is reached at loopback.
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104 - it is compared, not bound
    try:
        port = parts.port
    except ValueError:
        port = None
    if port is None and not has_scheme:
        port = _PORT
    shown = f"[{name.replace('%', '%25')}]" if ":" in name else name
    return f"{parts.scheme}://{shown}{f':{port}' if port is not None else ''}{parts.path}"


def _full_name(model: str) -> str:
    """A model's name with all that Ollama adds to a short one: `registry.ollama.ai/library/llama3.2:latest`."""
    name = model.lower().rpartition("://")[2]
    *above, last = name.split("/")
    namespace = above[-1] if above else "library"
    host = above[-2] if len(above) > 1 else "registry.ollama.ai"
    return f"{host}/{namespace}/{last if ':' in last else f'{last}:latest'}"


def _rows(body: Any) -> list[dict[str, Any]]:
    rows = below(body, "models")
    return [row for row in rows if isinstance(below(row, "name"), str)] if isinstance(rows, list) else []
