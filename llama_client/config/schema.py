"""The configuration as a whole, and how it is read."""

from __future__ import annotations

from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    Discriminator,
    Field,
    PrivateAttr,
    StrictBool,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from llama_client.catalog.catalog import ABILITIES, UserRow
from llama_client.config.provider_tables import GgufConfig, OllamaConfig, PluginConfig, ServiceConfig
from llama_client.config.tables import (
    BudgetTable,
    CacheConfig,
    ConfigTable,
    HttpConfig,
    LedgerTable,
    Name,
    PriceRow,
    PrivacyConfig,
    RouteConfig,
    RoutingConfig,
    RowsOf,
    TelemetryConfig,
    is_target,
    time_zone,
)
from llama_client.errors import ConfigError, PluginError
from llama_client.providers.services import SERVICES, service_names, service_of
from llama_client.validation import Problem, broken_rule, most_telling, place, problem_of, quoted, suggestion

_CLASSES: dict[str, type[ServiceConfig] | type[OllamaConfig] | type[GgufConfig]] = {
    "service": ServiceConfig,
    "plugin": PluginConfig,
    "ollama": OllamaConfig,
    "gguf": GgufConfig,
}
# Their values are shown in no error.
SECRET_KEYS = frozenset({"api_key", "headers", "proxy", "api_key_command", "url"})


def _class_of(kind: str) -> str:
    """The key of a kind's table in `_CLASSES`; of an unknown kind, itself."""
    service = None if kind in ("ollama", "gguf") else service_of(kind)
    if service is None:
        return kind
    return "service" if service.factory is None else "plugin"


def table_of(kind: str) -> ServiceConfig | OllamaConfig | GgufConfig:
    return _CLASSES[_class_of(kind)].model_validate({"kind": kind})


def provider_kinds() -> tuple[str, ...]:
    """All kinds, which are also the names of the providers that need no table."""
    return tuple(dict.fromkeys(["groq", "together", "ollama", "gguf", *service_names()]))


def is_kind(name: object) -> bool:
    """Whether a name is a kind, also one of a package that cannot be used."""
    # Packages are searched only for names that are not built in.
    return isinstance(name, str) and (name in SERVICES or name == "gguf" or name in service_names())


Provider = Annotated[
    Annotated[ServiceConfig, Tag("=service")]
    | Annotated[PluginConfig, Tag("=plugin")]
    | Annotated[OllamaConfig, Tag("=ollama")]
    | Annotated[GgufConfig, Tag("=gguf")],
    Discriminator(lambda table: f"={_class_of(table['kind'] if isinstance(table, dict) else table.kind)}"),
]


def _known_ability(ability: str) -> str:
    if ability not in ABILITIES:
        raise broken_rule("", f"must be one of {', '.join(sorted(ABILITIES))}{suggestion(ability, ABILITIES)}")
    return ability


class ModelRow(ConfigTable):
    """A model that the user knows; it takes precedence over the catalogue's row.

    Attributes:
        target: `provider/model-id`.
        name: The canonical name, known or new, under which routing finds it too.
        aliases: Other names for it.
        context_tokens: The context that the provider serves it with.
        max_output_tokens: The longest answer.
        abilities: All that it has of `tools`, `vision`, `reasoning`, `json_schema` and `prefill` (it continues an
            assistant message at the end); absent: unknown.
        deprecated_on: The first day on which it is no longer served.
        replacement: The same provider's id to use then.
    """

    target: Annotated[Name, AfterValidator(is_target)]
    name: Name
    aliases: tuple[Name, ...] = ()
    context_tokens: Annotated[int, Field(strict=True, ge=1)] | None = None
    max_output_tokens: Annotated[int, Field(strict=True, ge=1)] | None = None
    abilities: tuple[Annotated[str, AfterValidator(_known_ability)], ...] | None = None
    deprecated_on: date | None = None
    replacement: Name | None = None

    def as_row(self) -> UserRow:
        """The row as the catalogue takes it."""
        return UserRow(**dict(self))


def _is_route_name(name: str) -> str:
    if not name or "/" in name:
        raise broken_rule("", f"a route's name must not be empty or contain '/', got {quoted(name)}")
    return name


if TYPE_CHECKING:
    from llama_client.config.crossover_tables import GpuPriceTable, GpuTable, ModelTable

    ModelTables: TypeAlias = tuple[ModelTable, ...]
    GpuTables: TypeAlias = tuple[GpuTable, ...]
    GpuPriceTables: TypeAlias = tuple[GpuPriceTable, ...]
else:
    _rows = partial(RowsOf, "llama_client.config.crossover_tables")
    ModelTables = Annotated[tuple[BaseModel, ...], _rows("ModelTable")]
    GpuTables = Annotated[tuple[BaseModel, ...], _rows("GpuTable")]
    GpuPriceTables = Annotated[tuple[BaseModel, ...], _rows("GpuPriceTable")]


class CrossoverConfig(ConfigTable):
    """Models, GPUs and rents beyond the package's own.

    Attributes:
        models: Models.
        gpus: GPUs.
        gpu_prices: Rents of GPUs.
    """

    models: ModelTables = ()
    gpus: GpuTables = ()
    gpu_prices: GpuPriceTables = ()


class Config(ConfigTable):
    """The whole configuration.

    Attributes:
        default_model: The model of calls that name none.
        local_only: Refuse every connection beyond this machine.
        timezone: The time zone of days and months, for budgets, reports and prices.
        providers: Providers, by name.
        routes: Named lists of targets.
        routing: Failover and timeouts.
        models: Models beyond the catalogue, or with other facts.
        prices: The user's own prices.
        ledger: Where each attempt is recorded.
        budgets: Limits on spending.
        cache: Answers that are kept.
        telemetry: OpenTelemetry's spans and metrics.
        crossover: Models, GPUs and rents beyond the package's own.
        privacy: Exceptions from `local_only`.
        http: How requests go to providers behind HTTP.
    """

    default_model: Annotated[str, Field(min_length=1)] | None = None
    local_only: StrictBool = False
    timezone: Annotated[Name, AfterValidator(time_zone)] = "UTC"
    providers: dict[str, Provider] = Field(default_factory=dict)
    routes: dict[Annotated[str, AfterValidator(_is_route_name)], RouteConfig] = Field(default_factory=dict)
    routing: RoutingConfig = RoutingConfig()
    models: tuple[ModelRow, ...] = ()
    prices: tuple[PriceRow, ...] = ()
    ledger: LedgerTable = LedgerTable()
    budgets: tuple[BudgetTable, ...] = ()
    cache: CacheConfig = CacheConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    crossover: CrossoverConfig = CrossoverConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    http: HttpConfig = HttpConfig()
    _local_only_source: str | None = PrivateAttr(None)

    @property
    def local_only_source(self) -> str | None:
        """What set `local_only`, as in `LocalOnlyError.source`; None where it is off."""
        return (self._local_only_source or "config") if self.local_only else None

    def made_local_only(self, source: str) -> Config:
        """The same with `local_only` on.

        Args:
            source: What sets it.
        """
        made = self.model_copy(update={"local_only": True})
        made._local_only_source = source
        return made

    @model_validator(mode="after")
    def _names_are_of_providers(self) -> Config:
        for name, route in self.routes.items():
            for number, row in enumerate(route.targets):
                provider, slash, model = row.target.partition("/")
                where = f"routes.{name}.targets[{number}]"
                if slash and not (model and self._is_provider(provider)):
                    raise broken_rule(where, self._no_provider(provider))
                if row.target in self.routes:
                    raise broken_rule(where, f"{quoted(row.target)} is a route itself; a route lists targets")
        for number, budget in enumerate(self.budgets):
            kind, _, provider = budget.scope.partition(":")
            if kind == "provider" and not self._is_provider(provider):
                raise broken_rule(f"budgets[{number}].scope", self._no_provider(provider))
        return self

    def _is_provider(self, name: str) -> bool:
        return name in self.providers or is_kind(name)

    def _no_provider(self, name: str) -> str:
        known = tuple(dict.fromkeys([*self.providers, *provider_kinds()]))
        return f"no provider is named {quoted(name)} (providers: {', '.join(known)}){suggestion(name, known)}"


def read_config(values: dict[str, Any], *, origin: str, folder: Path | None = None, file: Path | None = None) -> Config:
    """The configuration of values; relative paths start at `folder`. All problems: see `config_check.all_problems`."""
    values, wrong = with_kinds(values)
    if wrong:
        raise ConfigError(f"{origin}: {wrong[0].sentence}", key=wrong[0].field, file=file)
    try:
        return Config.model_validate(values, context={"folder": folder})
    except ValidationError as error:
        problem = problem_at(most_telling(error.errors(include_url=False)))
        raise ConfigError(f"{origin}: {problem.sentence}", key=problem.field or None, file=file) from None


def problem_at(detail: ErrorDetails) -> Problem:
    """An error of pydantic as a sentence: suggests the keys of its table, shows no secret."""
    show_values = not SECRET_KEYS.intersection(str(part) for part in detail["loc"])
    return problem_of(detail, known=_names_beside(detail["loc"]), show_values=show_values)


def kind_of(name: str, table: object) -> object:
    """The kind of a provider's table; without `kind`, its name."""
    return table.get("kind", name) if isinstance(table, dict) else name


def with_kinds(values: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The values with each provider's kind, and the problems of kinds and names of providers."""
    providers = values.get("providers")
    if not isinstance(providers, dict):
        return values, []
    written: dict[str, Any] = {}
    wrong = []
    for name, table in providers.items():
        if (problem := _wrong_kind(name, table)) is not None:
            wrong.append(Problem(problem[0], ": ".join(problem)))
            # An empty valid table in its place, so that the rest can be checked.
            table = {"kind": "gguf"}
        if isinstance(name, str):
            written[name] = {**table, "kind": kind_of(name, table)}
    return {**values, "providers": written}, wrong


def _wrong_kind(name: object, table: object) -> tuple[str, str] | None:
    """The key that is wrong, and what is wrong with it."""
    if not isinstance(name, str):
        return "providers", "every name must be text"
    kind, key = kind_of(name, table), place(("providers", name, "kind"))
    if not is_kind(kind):
        known = provider_kinds()
        hint = suggestion(kind, known) if isinstance(kind, str) else ""
        return key, f"must be one of {', '.join(map(repr, known))}, got {quoted(kind)}{hint}"
    try:
        _class_of(str(kind))
    except PluginError as error:
        return key, str(error)
    if "/" in name or not name:
        return "providers", f"a name must not be empty or contain '/', got {quoted(name)}"
    return None if isinstance(table, dict) else (place(("providers", name)), "must be a table of keys")


def _names_beside(location: tuple[int | str, ...]) -> tuple[str, ...]:
    table: type[BaseModel] = Config
    parts = iter(location[:-1])
    for part in parts:
        field = table.model_fields.get(str(part))
        if isinstance(part, str) and part.startswith("="):
            table = _CLASSES[part.removeprefix("=")]
        elif field is not None:
            rows = next((each.table() for each in field.metadata if isinstance(each, RowsOf)), None)
            table = rows or _table_in(field.annotation) or table
            if get_origin(field.annotation) in (dict, tuple):
                # The name or index of an item.
                next(parts, None)
    return tuple(table.model_fields)


def _table_in(kind: Any) -> type[BaseModel] | None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return next((table for part in get_args(kind) if (table := _table_in(part)) is not None), None)
