"""Ollama's native API: its own `/v1` hides errors inside streams and cannot set the context or the thinking."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import to_json

from llama_client.config.provider_tables import HttpProviderConfig, OllamaConfig
from llama_client.errors import ContextLengthError, LlamaClientError, ModelNotFoundError, ProviderError
from llama_client.hosts import host_in, name_in
from llama_client.providers.base import Codec, ProviderCall, ServedModel
from llama_client.providers.http.error_mapping import is_refused
from llama_client.providers.http.sdk import HttpService, LookUp, LookUps, is_cloud_model
from llama_client.providers.wire.ollama_prompt import (
    context_in,
    is_suspect,
    leaves_answer_open,
    prompt_tokens,
    text_bytes,
    was_probably_cut,
)
from llama_client.providers.wire.ollama_request import OllamaCodec
from llama_client.providers.wire.openai_codec import Abilities
from llama_client.providers.wire.usage import below, count
from llama_client.redaction import without_credentials

_PORT = 11434
_RUNNING = "api/ps"
# Also where it is no number.
_WRITTEN_PORT = re.compile(r":[^:\]]*$")
_OTHER_PATHS = re.compile(r"/(?:v1|api)(?:/chat(?:/completions)?)?/?$")
# The names that Ollama's `/api/tags` has for our abilities, since 0.34 at the latest.
_ABILITIES = {"tools": "tools", "vision": "vision", "thinking": "reasoning", "completion": "json_schema"}
# Without a host it is refused at its use. What was written may contain a password, so it is not quoted.
_NO_URL = "http://"


class Ollama(HttpService):
    """An Ollama server. It has no official client: its API needs only HTTP."""

    fetches_images = True
    lists_remote_models = True
    looks_up = True

    @property
    def liveness_path(self) -> str:
        return _RUNNING

    @property
    def listing_paths(self) -> tuple[str, ...]:
        return "api/tags", _RUNNING

    def codec(self, table: HttpProviderConfig, abilities: Abilities, url: str) -> Codec:
        if isinstance(table, OllamaConfig):
            return OllamaCodec(
                abilities,
                options=table.options,
                keep_alive=table.keep_alive,
                quirks=self._quirks(table, url),
                allow_truncation=table.allow_truncation,
            )
        return OllamaCodec(abilities, options={})

    def key_variable_for(self, table: HttpProviderConfig, environ: Mapping[str, str]) -> str | None:
        """Ollama's key is for its cloud, or for the server that `OLLAMA_HOST` names."""
        is_named = table.base_url is None and environ.get("OLLAMA_HOST")
        return self.row.key_variable(environ) if is_named else super().key_variable_for(table, environ)

    def url(self, table: HttpProviderConfig, environ: Mapping[str, str]) -> str:
        return ollama_url(table.base_url or environ.get("OLLAMA_HOST") or "")

    def is_free(self, model: str, url: str) -> bool:
        return not is_cloud_model(model) and name_in(url) not in self.row.key_hosts

    def before(self, call: ProviderCall, known: frozenset[str] | None) -> LookUps:
        """Whether its template leaves an answer open that the model is to continue."""
        if not call.is_continuation or (known is not None and "prefill" in known):
            return
        shown = yield LookUp("api/show", to_json({"model": call.model}))
        if isinstance(shown, LlamaClientError):
            raise shown
        if not leaves_answer_open(shown):
            raise call.unsupported(
                "messages",
                "its template is not known to leave the last message open, so that the model would begin anew (if it "
                'is, say so: abilities = ["prefill"] in its row of [[models]])',
            )

    def after(self, call: ProviderCall, table: HttpProviderConfig) -> LookUps:
        """Whether Ollama has cut the prompt: it does not tell, and only its list of running models has the context."""
        size_bytes, tokens = text_bytes(call.request), prompt_tokens(call.facts)
        if tokens is None or not is_suspect(tokens, size_bytes):
            return
        running = yield LookUp(_RUNNING)
        rows = [row for row in _rows(running) if self.is_same_model(row["name"], call.model)]
        context = next((count(row.get("context_length")) for row in rows), None)
        if context is None and isinstance(table, OllamaConfig):
            context = context_in(call.request, table.options)
        if was_probably_cut(tokens, size_bytes, context):
            holds = f", and its context holds {context}" if context is not None else ""
            call.facts.warn(
                f"{call.target} has probably cut the prompt, which Ollama does not tell: it read {tokens} tokens of "
                f"{size_bytes} bytes of text{holds}; raise options.num_ctx, or shorten the prompt"
            )

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
        if isinstance(error, ContextLengthError):
            return "options.num_ctx raises it; with allow_truncation = true Ollama cuts the prompt instead"
        return super().explain(error, url, model)

    def served(self, bodies: Sequence[Any]) -> list[ServedModel]:
        """Newest first, as Ollama lists them."""
        tags, running = (_rows(body) for body in bodies)
        loaded = {row["name"]: row for row in running}
        return [_served(row, loaded.get(row["name"])) for row in tags]


def _served(row: Mapping[str, Any], running: Mapping[str, Any] | None) -> ServedModel:
    # Of a model that is loaded, the context that it has; else the longest that it may have.
    context = count(running.get("context_length")) if running is not None else None
    told = row.get("capabilities")
    abilities = None
    if isinstance(told, list):
        # Ollama enforces a schema with every model that answers chats.
        abilities = frozenset(_ABILITIES[name] for name in told if isinstance(name, str) and name in _ABILITIES)
    return ServedModel(
        id=row["name"],
        context_tokens=context or count(below(row, "details", "context_length")),
        size_bytes=count(row.get("size")),
        is_loaded=running is not None,
        is_remote=bool(row.get("remote_host") or row.get("remote_model")) or is_cloud_model(row["name"]),
        abilities=abilities,
        is_chat="completion" in told if isinstance(told, list) else None,
    )


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
