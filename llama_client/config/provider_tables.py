"""The tables of providers: one class for all services, and one each for what needs keys of its own."""

from __future__ import annotations

import os
import re
import shlex
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, StrictBool, StrictStr, model_validator

from llama_client.config.tables import ConfigTable, FilePath, Name, OwnMachine, Seconds
from llama_client.hosts import plain_url, with_plain_host
from llama_client.providers.services import service_of
from llama_client.types.messages import HeaderName, header_value
from llama_client.validation import broken_rule

Threads = Annotated[int, Field(strict=True, ge=1, le=4096)]
KEY_SOURCES = ("api_key", "api_key_env", "api_key_file", "api_key_command")


def _secret_text(value: object) -> object:
    if isinstance(value, SecretStr) or (isinstance(value, str) and value.strip()):
        return value
    raise broken_rule("", "must be text, and not empty")


def web_address(url: str) -> str:
    """Checks an address; its host comes in the form that is judged and connected to."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - it is read to be checked
    except ValueError:
        # Its message quotes the port, which is the password in a URL without a host after it.
        raise broken_rule("", "must be an address such as https://example.com/v1, its port a number") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise broken_rule("", "must be an address such as https://example.com/v1")
    if parts.username or parts.password:
        raise broken_rule("", "must contain no user name or password: use api_key or headers")
    try:
        return with_plain_host(url)
    except ValueError:
        raise broken_rule("", "must be an address such as https://example.com/v1, its host a name or an IP") from None


def proxy_address(proxy: str) -> str:
    """Checks the address of a proxy, as `web_address` does. It may contain a password, so no message repeats it."""
    try:
        url = plain_url(proxy)
        is_valid = url.parts.scheme in ("http", "https") and url.parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise broken_rule("", "must be an address such as http://proxy.example:3128 (http and https are known)")
    return url.text


def _proxy(proxy: SecretStr) -> SecretStr:
    return SecretStr(proxy_address(proxy.get_secret_value()))


def _header_value(value: SecretStr) -> SecretStr:
    header_value(value.get_secret_value())
    return value


def _words(value: object) -> object:
    if isinstance(value, str):
        # Split as a shell does; on Windows a backslash belongs to a path.
        try:
            return tuple(shlex.split(value, posix=os.name == "posix"))
        except ValueError as error:
            raise broken_rule("", f"cannot be split into words: {error}") from None
    return tuple(value) if isinstance(value, list) else value


# A duration of Go's, and a number, which Ollama refuses as text.
_GO_DURATION = re.compile(r"[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+")
_NUMBER = re.compile(r"[+-]?[0-9]{1,12}(?:\.[0-9]{1,9})?")


def _names(value: object) -> object:
    if value != "all" and not (isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)):
        raise broken_rule("", 'must be a list of names such as ["reasoning_content"], or "all"')
    return value if value == "all" else tuple(value)


def _duration(value: object) -> object:
    text = value.strip() if isinstance(value, str) else ""
    if _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    if not (is_number or _GO_DURATION.fullmatch(text)):
        raise broken_rule("", 'must be a duration such as "10m", or a number of seconds (-1: forever)')
    return text or value


Secret = Annotated[SecretStr, BeforeValidator(_secret_text)]
WebAddress = Annotated[StrictStr, AfterValidator(web_address)]
Headers = dict[HeaderName, Annotated[Secret, AfterValidator(_header_value)]]


class HttpProviderConfig(ConfigTable):
    """The keys of every provider behind HTTP.

    Attributes:
        api_key: The key itself; better one of the next three.
        api_key_env: The environment variable that holds the key.
        api_key_file: The file that holds the key.
        api_key_command: The command that prints the key; a list of words, or a text that is split at spaces.
        base_url: The provider's address; absent: its usual one.
        headers: Headers of every request.
        timeout_s: The longest silence in seconds before and within an answer. A call's own `timeout` limits the whole.
        proxy: The proxy of its connections; absent: the environment's.
        ca_file: The certificates to trust instead of the usual ones.
        max_concurrency: The most requests in flight at once; more wait, first in, first out. Absent: no limit.
        takes_back: The fields of its own answers that go back to it beside text and tool calls: their names
            (`["reasoning_content"]`), `[]` for none, or "all". Absent: those that the service is known to take; all
            for a server that is not known.
    """

    kind: str = ""
    api_key: Secret | None = None
    api_key_env: Name | None = None
    api_key_file: FilePath | None = None
    api_key_command: Annotated[tuple[Name, ...], BeforeValidator(_words), Field(min_length=1)] | None = None
    base_url: WebAddress | None = None
    headers: Headers = Field(default_factory=dict)
    timeout_s: Seconds = 600.0
    proxy: Annotated[Secret, AfterValidator(_proxy)] | None = None
    ca_file: FilePath | None = None
    max_concurrency: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = None
    takes_back: Annotated[Literal["all"] | tuple[Name, ...], BeforeValidator(_names)] | None = None

    @model_validator(mode="after")
    def _one_key(self) -> HttpProviderConfig:
        given = [name for name in KEY_SOURCES if getattr(self, name) is not None]
        if len(given) > 1:
            raise broken_rule(given[1], f"and {given[0]} both give the key; keep one of them")
        return self


class ServiceConfig(HttpProviderConfig, OwnMachine):
    """A known service, or any OpenAI-compatible server.

    `openai` without `base_url` is OpenAI itself, with that service's own environment. Each service of the package, with
    its address and its key's variable: the guide to providers.

    Attributes:
        kind: The service's name.
        timeout_s: As of every provider, but 60 for `groq` (which is either quick or broken) and 900 for `xai`.
    """

    kind: str = "openai"
    timeout_s: Seconds = Field(default_factory=lambda known: _timeout_s(known.get("kind", "")))


def _timeout_s(kind: str) -> float:
    service = service_of(kind)
    return 600.0 if service is None else service.timeout_s


class PluginConfig(ServiceConfig):
    """A provider that an installed package makes by itself.

    Attributes:
        options: Whatever that provider takes.
    """

    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_its_own_wire(self) -> PluginConfig:
        if self.takes_back is not None:
            raise broken_rule("takes_back", "is not known to providers that a package makes by itself")
        return self


class OllamaConfig(HttpProviderConfig, OwnMachine):
    """Ollama's own API.

    Attributes:
        options: Ollama's `options` for every request, such as `num_ctx`. Keep `num_ctx` the same for a model: to change
            it loads the model again.
        keep_alive: How long a model stays in memory: a duration such as "10m", or seconds; -1: forever.
        allow_truncation: Whether Ollama may cut a prompt that is longer than the context; else such a prompt is a
            `ContextLengthError`. It cuts silently, a lone message to half of the context, a conversation by whole
            messages; that a prompt was probably cut is in the answer's warnings.
    """

    kind: Literal["ollama"] = "ollama"
    options: dict[str, Any] = Field(default_factory=dict)
    keep_alive: Annotated[Any, BeforeValidator(_duration)] | None = None
    allow_truncation: StrictBool = False


_ADAPTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _adapter_name(name: str) -> str:
    if not _ADAPTER_NAME.fullmatch(name):
        raise broken_rule("", "must be at most 64 letters, digits, '.', '_' and '-', starting with a letter or digit")
    return name


class LoraAdapter(ConfigTable):
    """A fine-tuned adapter that changes a model's answers.

    Attributes:
        path: Its GGUF file.
        scale: Its strength.
        name: It is on where the model is `MODEL+NAME` (or `MODEL+NAME+OTHER`), and off elsewhere; absent: always on.
    """

    path: FilePath
    scale: Annotated[float, Field(strict=True, allow_inf_nan=False)] = 1.0
    name: Annotated[StrictStr, AfterValidator(_adapter_name)] | None = None


class GgufConfig(OwnMachine):
    """A provider of kind `gguf`: files run inside this process.

    Attributes:
        kind: `gguf`.
        model_path: The file behind `<provider>/default`; absent: the demo model, once pulled.
        n_ctx: The context of one request in tokens, which llama.cpp rounds up to a multiple of 256; absent: the model's
            own, at most 8192. Each of the `n_parallel` slots has as much.
        n_parallel: The most requests in progress at once; more wait.
        n_gpu_layers: Layers on the GPU; absent: as many as fit.
        n_threads: CPU threads; absent: one for each physical core that this process may use.
        mmproj: The projector file that lets the model see images.
        lora: Adapters: always on, or chosen in the name of the model.
        draft_model_path: A smaller model with the same vocabulary, which proposes tokens that this one checks several
            at a time: the same answers, faster where the two often agree.
        draft_tokens: The most tokens that it proposes at once.
        prompt_cache_mib: Memory in MiB for what was read in slots that others have taken since, so that it is not
            read again; 0: a slot keeps its own last prompt alone.
    """

    kind: Literal["gguf"] = "gguf"
    model_path: FilePath | None = None
    n_ctx: Annotated[int, Field(strict=True, ge=64, le=1 << 24)] | None = None
    n_parallel: Annotated[int, Field(strict=True, ge=1, le=256)] = 1
    n_gpu_layers: Annotated[int, Field(strict=True, ge=0, le=10_000)] | None = None
    n_threads: Threads | None = None
    mmproj: FilePath | None = None
    lora: tuple[LoraAdapter, ...] = ()
    draft_model_path: FilePath | None = None
    draft_tokens: Annotated[int, Field(strict=True, ge=1, le=64)] = 3
    prompt_cache_mib: Annotated[int, Field(strict=True, ge=0, le=1 << 20)] = 0

    @model_validator(mode="after")
    def _adapters_can_be_told_apart(self) -> GgufConfig:
        names = [adapter.name for adapter in self.lora if adapter.name is not None]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise broken_rule("lora", f"must have different names, got {twice!r} twice")
        if names and self.prompt_cache_mib:
            # llama.cpp finds a prompt by its tokens alone.
            raise broken_rule("prompt_cache_mib", "must be 0 beside adapters with names: they read prompts differently")
        return self

    @model_validator(mode="after")
    def _slots_can_be_counted(self) -> GgufConfig:
        # llama.cpp keeps all slots in one cache, and counts its tokens with 32 bits.
        if (self.n_ctx or 0) * self.n_parallel >= 2**31:
            raise broken_rule("n_ctx", f"times n_parallel must be below {2**31}, got {self.n_ctx} x {self.n_parallel}")
        return self
