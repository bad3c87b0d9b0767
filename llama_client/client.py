"""The clients: what they own, and how it is opened and closed."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypedDict, Unpack

from llama_client.chat import AsyncChat, CallContext, Chat, DefaultModel, asked, checked_tags
from llama_client.clock import Clock, EventLoop
from llama_client.models import AsyncModels, Models
from llama_client.types.completion import ChatCompletion, Message, TargetHealth
from llama_client.types.request import CallParams

if TYPE_CHECKING:
    import httpx
    from pydantic import SecretStr

    from llama_client.config.load import Source
    from llama_client.config.schema import Config
    from llama_client.costs.accounting import Accounting
    from llama_client.costs.api import AsyncCosts, Costs
    from llama_client.providers.registry import Providers
    from llama_client.routing.billing import Reservations
    from llama_client.telemetry import Instrumentation
    from llama_client.types.report import CostEstimate, TokenCount

# What an error says where this switched `local_only` on.
_ARGUMENT = "local_only=True"


class ProviderOptions(TypedDict, total=False):
    """The keys of a provider's table, for `for_provider`.

    Attributes:
        kind: The kind of provider, where its name is none.
        api_key: The key itself; better one of the next three.
        api_key_env: The environment variable that holds it.
        api_key_file: The file that holds it.
        api_key_command: The command that prints it.
        base_url: Where the provider is.
        headers: Headers of every request.
        timeout_s: The longest silence in seconds before and within an answer.
        proxy: The proxy to go through.
        ca_file: The certificates to trust instead of the usual ones.
        max_concurrency: How many requests are under way at once; more wait their turn.
        options: Ollama's `options` for every request, such as `num_ctx`.
        keep_alive: How long Ollama keeps a model in memory.
        model_path: The GGUF file behind `default`.
        n_ctx: The context of one request in tokens.
        n_parallel: How many requests a model in this process works on at once.
        n_gpu_layers: Layers on the GPU.
        n_threads: CPU threads.
        mmproj: The projector file that lets the model see images.
        lora: Adapters, as tables of `path` and `scale`.
        usd_per_hour: What an hour of the machine costs.
        watts: What it draws while it answers.
        usd_per_kwh: What its power costs.
    """

    kind: str
    api_key: str | SecretStr
    api_key_env: str
    api_key_file: str | Path
    api_key_command: str | Sequence[str]
    base_url: str
    headers: Mapping[str, str]
    timeout_s: float
    proxy: str | SecretStr
    ca_file: str | Path
    max_concurrency: int
    options: Mapping[str, object]
    keep_alive: str | float
    model_path: str | Path
    n_ctx: int
    n_parallel: int
    n_gpu_layers: int
    n_threads: int
    mmproj: str | Path
    lora: Sequence[Mapping[str, object]]
    usd_per_hour: float | Decimal
    watts: float
    usd_per_kwh: float | Decimal


class _BaseClient:
    """What both colours share. All views of a client share its providers; closing any of them closes these."""

    _is_async: ClassVar[bool]
    # Tests put their own time and chance here.
    _clock: ClassVar[Clock | None] = None
    _random: ClassVar[type[random.Random]] = random.Random
    _context: CallContext

    def _open(
        self,
        config: Source,
        *,
        http_client: httpx.Client | httpx.AsyncClient | None,
        tags: Mapping[str, str] | None,
        local_only: bool | None,
    ) -> None:
        from llama_client.config.load import load_config

        loaded = load_config(config)
        if local_only:
            loaded = loaded.made_local_only(_ARGUMENT)
        self._context = self._context_of(loaded, tags=tags, http_client=http_client)
        self._bind()

    def _bind(self) -> None:
        """Makes what hangs on the context."""
        raise NotImplementedError

    def sdk(self, provider: str) -> Any:
        """The official client of a provider, in this client's colour."""
        raise NotImplementedError

    def health(self) -> dict[str, TargetHealth]:
        """What this client has learned of each target that it asked, by `provider/model`: breaker, times, limits.

        Example:
            for name, target in client.health().items():
                print(name, target.breaker, target.ttft_s, target.remaining_requests)
        """
        return self._context.router.health.snapshot()

    @classmethod
    def for_provider(
        cls,
        provider: str,
        *,
        http_client: httpx.Client | httpx.AsyncClient | None = None,
        tags: Mapping[str, str] | None = None,
        local_only: bool | None = None,
        **options: Unpack[ProviderOptions],
    ) -> Self:
        """A client for one provider, where `model` is that provider's own id, verbatim. It reads no configuration file.

        Nor does it read any `LLAMA_CLIENT_*` variable but `LLAMA_CLIENT_LOCAL_ONLY`. Attempts are written to the ledger
        in the user's data folder, as ever.

        Example:
            messages = [{"role": "user", "content": "Why do llamas hum?"}]
            with LlamaClient.for_provider("groq", api_key="...") as client:
                reply = client.chat.completions.create(model="openai/gpt-oss-20b", messages=messages)
                print(reply.choices[0].message.content)
        """
        from llama_client.config.schema import read_config

        config = read_config({"providers": {provider: dict(options)}}, origin="options")
        if local_only:
            config = config.made_local_only(_ARGUMENT)
        return cls._of(cls._context_of(config, tags=tags, http_client=http_client, only_provider=provider))

    def with_options(
        self,
        *,
        tags: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        model: str | Sequence[str] | None = None,
    ) -> Self:
        """A view with other defaults that shares everything else, loaded models included.

        Example:
            mine = client.with_options(tags={"user": "ann"}, timeout_s=20)
            print(mine.ask("Why do llamas hum?").text)
        """
        return self._of(self._context.with_options(tags=tags, timeout_s=timeout_s, model=model))

    @classmethod
    def _context_of(
        cls,
        config: Config,
        *,
        tags: Mapping[str, str] | None,
        http_client: httpx.Client | httpx.AsyncClient | None,
        only_provider: str | None = None,
    ) -> CallContext:
        # What only an open client needs is imported here, so that importing the package stays cheap.
        from llama_client.config.load import local_only_source
        from llama_client.costs.accounting import Database, open_accounting
        from llama_client.costs.api import CostSource
        from llama_client.costs.money import Calendar
        from llama_client.providers.gguf.store import ModelStore
        from llama_client.providers.registry import Providers
        from llama_client.routing.concurrency import ClosingEvent
        from llama_client.routing.health import HealthBook
        from llama_client.routing.plan import Backoff
        from llama_client.routing.policies import Router
        from llama_client.routing.targets import TargetResolver, default_model, ollama_to_ask

        # Any source that says true wins, also where no file was looked for.
        users = local_only_source(os.environ)
        if users is not None and not config.local_only:
            config = config.made_local_only(users.variable or str(users.file))
        closing = ClosingEvent()
        clock, store = cls._clock or Clock(sleep=closing.sleep, asleep=closing.asleep), ModelStore.of_user()
        providers = Providers(config, store, clock, environ=os.environ, http_client=http_client, is_async=cls._is_async)
        chance, calendar = cls._random(), Calendar(config.timezone)
        database = Database(config, providers.guard)
        accounting = open_accounting(
            config,
            calendar,
            clock=clock,
            sellers=providers,
            database=database,
        )
        router = Router(
            HealthBook(config, clock),
            accounting.prices,
            clock,
            providers.context_tokens,
            chance,
        )
        return CallContext(
            config,
            providers,
            TargetResolver(providers, store, config.routes, only_provider=only_provider),
            clock,
            router,
            accounting,
            _purchases(accounting, providers),
            CostSource(accounting, database, calendar, config.budgets, clock),
            _telemetry(config, providers),
            Backoff(chance.uniform),
            closing,
            EventLoop(),
            DefaultModel(
                ollama_to_ask(config, providers),
                providers.ollama_default,
                providers.aollama_default,
                lambda running: default_model(config, providers, store, running, only_provider=only_provider),
            ),
            tags=checked_tags(tags),
        )

    @classmethod
    def _of(cls, context: CallContext) -> Self:
        client = cls.__new__(cls)
        client._context = context
        client._bind()
        return client


def _as_messages(messages: object) -> object:
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else messages


def _purchases(accounting: Accounting, providers: Providers) -> Reservations | None:
    if accounting.budgets is None:
        return None
    from llama_client.routing.billing import Reservations

    return Reservations(accounting.budgets, accounting.prices, providers.max_output_tokens, providers.context_tokens)


def _telemetry(config: Config, providers: Providers) -> Instrumentation | None:
    if not config.telemetry.enabled:
        return None
    # Only who has it on pays for OpenTelemetry.
    from llama_client.telemetry import Instrumentation

    return Instrumentation(content=config.telemetry.content, kind=providers.kind, url=providers.url)


class LlamaClient(_BaseClient):
    """One chat interface over every configured model. Safe to share between threads.

    Args:
        config: A path, a dict with the TOML's keys, a `Config`, or None to look for a file (see `load_config`).
        tags: Labels of every call, for logs, the ledger and budgets.
        http_client: Your own `httpx.Client`, used for every provider behind HTTP and never closed here.
        local_only: True: refuse whatever would leave this machine, whatever the configuration says.

    Attributes:
        chat: `chat.completions.create` and `chat.completions.parse`: see `Completions`.
        models: Who is reached, and what each serves: see `Models`.
        costs: What was spent, and what of it is not known: see `Costs`.

    Raises:
        ConfigError: The configuration is wrong.
        InvalidRequestError: A tag is no text, or `http_client` is none.
        LocalOnlyError: `local_only` is on and there is an `http_client`, whose connections nobody here can judge.
        ProviderNotInstalledError: `[telemetry]` is on, or the ledger is PostgreSQL, and that extra is missing.

    Example:
        with LlamaClient() as client:
            reply = client.ask("Why do llamas hum?")
            print(reply.text, reply.target)
    """

    _is_async = False
    chat: Chat
    models: Models
    costs: Costs

    def __init__(
        self,
        config: Source = None,
        *,
        http_client: httpx.Client | None = None,
        tags: Mapping[str, str] | None = None,
        local_only: bool | None = None,
    ) -> None:
        self._open(config, http_client=http_client, tags=tags, local_only=local_only)

    def _bind(self) -> None:
        from llama_client.costs.api import Costs

        self.chat = Chat(self._context)
        self.costs = Costs(self._context.cost_source)
        self.models = Models(self._context.providers)

    def sdk(self, provider: str) -> Any:
        """The official client of a provider, configured, for all that is not wrapped here; on the same connections.

        What it sends goes past failover, cost and budgets. Do not close it: its connections are this client's.

        Under `local_only` its connections are guarded as all others are; what it asks a server for is not judged. So
        the rules `cloud_model` and `remote_image` do not hold for it: a local server may hand on what it is sent.

        Args:
            provider: The provider's name.

        Returns:
            A `groq.Groq` for kind `groq`, an `openai.OpenAI` for kinds `together` and `openai`.

        Raises:
            ConfigError: There is no such provider.
            InvalidRequestError: It has no official client (`ollama`, `gguf`).

        Example:
            groq = client.sdk("groq")
            print(groq.base_url)
        """
        return self._context.providers.sdk(provider)

    def default_model(self) -> str:
        """What `model` means where a call omits it. Asks a running Ollama, so it may take a moment.

        Raises:
            ConfigError: There is none; says how to get one.
        """
        return self._context.default.name()

    def ask(
        self, prompt: str | Sequence[Mapping[str, object] | Message], **params: Unpack[CallParams]
    ) -> ChatCompletion:
        """The short form of `chat.completions.create`: a text, or a list of messages.

        Args:
            prompt: What to ask.
            **params: As of `create`.

        Returns:
            The answer.

        Raises:
            LlamaClientError: As `create`.

        Example:
            reply = client.ask("What is the capital of Japan?", temperature=0)
            print(reply.text, reply.cost.usd, reply.target)
        """
        return self.chat.completions.create(**asked(prompt, params))

    def count_tokens(
        self,
        messages: str | Sequence[Mapping[str, object] | Message],
        model: str | Sequence[str] | None = None,
    ) -> TokenCount:
        """How many tokens a prompt has, estimated by its bytes before anything is sent.

        Args:
            messages: A text, or a list of messages.
            model: As of `create`.

        Raises:
            InvalidRequestError: They are neither.
            ConfigError: `model` names nobody.
        """
        return self._context.count_tokens(_as_messages(messages), model)

    def estimate_cost(
        self,
        messages: str | Sequence[Mapping[str, object] | Message],
        model: str | Sequence[str] | None = None,
        *,
        max_tokens: int | None = None,
    ) -> CostEstimate:
        """What a call would cost with the first target that it would ask, before anything is sent.

        Args:
            messages: A text, or a list of messages.
            model: As of `create`.
            max_tokens: The most that the answer may have.

        Raises:
            InvalidRequestError: A parameter is wrong.
            ConfigError: `model` names nobody.

        Example:
            estimate = client.estimate_cost("Why do llamas hum?", "groq/openai/gpt-oss-20b", max_tokens=500)
            print(estimate.usd, "probably, and", estimate.most_usd, "at the very most")
        """
        return self._context.estimate_cost(_as_messages(messages), model, max_tokens)

    def close(self) -> None:
        """Ends what runs and frees every model that no other client uses. Further calls are errors."""
        self._context.closing.set()
        self._context.providers.close()
        self._context.router.health.close()
        self._context.accounting.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncLlamaClient(_BaseClient):
    """`LlamaClient` for asyncio: `await` each call, `async with`, `aclose()`. Safe to share between one loop's tasks.

    Args:
        config: As of `LlamaClient`.
        tags: As of `LlamaClient`.
        http_client: Your own `httpx.AsyncClient`, used for every provider behind HTTP and never closed here.
        local_only: As of `LlamaClient`.

    Attributes:
        chat: `chat.completions.create` and `chat.completions.parse`: see `AsyncCompletions`.
        models: Who is reached, and what each serves: see `AsyncModels`.
        costs: What was spent, and what of it is not known: see `AsyncCosts`.

    Raises:
        LlamaClientError: As `LlamaClient`.

    Example:
        async with AsyncLlamaClient() as client:
            reply = await client.ask("Why do llamas hum?")
    """

    _is_async = True
    chat: AsyncChat
    models: AsyncModels
    costs: AsyncCosts

    def __init__(
        self,
        config: Source = None,
        *,
        http_client: httpx.AsyncClient | None = None,
        tags: Mapping[str, str] | None = None,
        local_only: bool | None = None,
    ) -> None:
        self._open(config, http_client=http_client, tags=tags, local_only=local_only)

    def _bind(self) -> None:
        from llama_client.costs.api import AsyncCosts

        self.chat = AsyncChat(self._context)
        self.costs = AsyncCosts(self._context.cost_source, self._context.loop)
        self.models = AsyncModels(self._context.providers, self._context.loop)

    def sdk(self, provider: str) -> Any:
        """The official client of a provider, configured, for all that is not wrapped here; on the same connections.

        What it sends goes past failover, cost and budgets. Do not close it: its connections are this client's.

        Under `local_only` its connections are guarded as all others are; what it asks a server for is not judged. So
        the rules `cloud_model` and `remote_image` do not hold for it: a local server may hand on what it is sent.

        Args:
            provider: The provider's name.

        Returns:
            A `groq.AsyncGroq` for kind `groq`, an `openai.AsyncOpenAI` for kinds `together` and `openai`.

        Raises:
            ConfigError: There is no such provider.
            InvalidRequestError: It has no official client (`ollama`, `gguf`).

        The first call for a provider imports its package, which takes up to half a second.
        """
        return self._context.providers.async_sdk(provider)

    async def default_model(self) -> str:
        """What `model` means where a call omits it. Asks a running Ollama.

        Raises:
            ConfigError: There is none; says how to get one.
        """
        self._context.loop.check()
        return await self._context.default.aname()

    async def ask(
        self, prompt: str | Sequence[Mapping[str, object] | Message], **params: Unpack[CallParams]
    ) -> ChatCompletion:
        """`LlamaClient.ask`, awaited."""
        return await self.chat.completions.create(**asked(prompt, params))

    async def count_tokens(
        self,
        messages: str | Sequence[Mapping[str, object] | Message],
        model: str | Sequence[str] | None = None,
    ) -> TokenCount:
        """`LlamaClient.count_tokens`, awaited."""
        import asyncio

        await self._context.prepare(model)
        return await asyncio.to_thread(self._context.count_tokens, _as_messages(messages), model)

    async def estimate_cost(
        self,
        messages: str | Sequence[Mapping[str, object] | Message],
        model: str | Sequence[str] | None = None,
        *,
        max_tokens: int | None = None,
    ) -> CostEstimate:
        """`LlamaClient.estimate_cost`, awaited."""
        import asyncio

        await self._context.prepare(model)
        return await asyncio.to_thread(self._context.estimate_cost, _as_messages(messages), model, max_tokens)

    async def aclose(self) -> None:
        """Ends what runs and frees every model that no other client uses. Further calls are errors."""
        self._context.closing.set()
        await self._context.providers.aclose()
        self._context.router.health.close()
        await self._context.accounting.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
