"""What a configuration that loads says in vain: models that are gone, budgets that nothing fits, rows about nobody.

Only what can be told without a network. Each rule is a function that yields what it found; those about targets are in
`lint_targets`, those about providers in `lint_providers`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from llama_client.config.lint_providers import provider_lints
from llama_client.config.lint_subject import Knowledge, Lint, Named, Subject
from llama_client.config.lint_targets import target_lints
from llama_client.config.schema import BUILT_IN_PROVIDERS, Config
from llama_client.config.sources import Found
from llama_client.config.variables import KeyPath
from llama_client.validation import quoted, suggestion


def lints(
    config: Config,
    found: Found,
    knowledge: Knowledge,
    *,
    environ: Mapping[str, str],
    broken: Collection[KeyPath],
) -> Iterator[Lint]:
    """Everything that is found.

    Args:
        config: The configuration, without what is wrong.
        found: The configuration with what is wrong.
        knowledge: What is known beside it.
        environ: The environment.
        broken: The first two names of the places of what is wrong: of a provider that is, nothing more is said.
    """
    subject = Subject(config, found, knowledge, environ, broken, tuple(_named(config)))
    for rule in (_default_model, _names, target_lints, provider_lints, _unused, _budgets, _rows):
        yield from rule(subject)


def _named(config: Config) -> Iterator[Named]:
    written = [
        (f"routes.{name}.targets[{number}]", row.target)
        for name, route in config.routes.items()
        for number, row in enumerate(route.targets)
    ]
    if config.default_model is not None and config.default_model not in config.routes:
        written.insert(0, ("default_model", config.default_model))
    known = (*config.providers, *BUILT_IN_PROVIDERS)
    for key, text in written:
        provider, slash, model = text.partition("/")
        if slash and model and provider in known:
            yield Named(key, provider, model)


def _default_model(subject: Subject) -> Iterator[Lint]:
    # Also those that are wrong: of them that was said.
    routes = subject.found.values.get("routes")
    model, providers = subject.config.default_model, subject.config.providers
    if model is None:
        only = [table.kind for table in providers.values()]
        if providers and only not in (["gguf"], ["ollama"]):
            yield Lint("note", "default_model", "is not set, so a call that names no model is an error")
    elif not (isinstance(routes, Mapping) and model in routes) and not subject.is_broken(model.partition("/")[0]):
        why = subject.knowledge.why_nobody(model)
        if why is not None:
            known = (*providers, *BUILT_IN_PROVIDERS)
            hint = "" if "did you mean" in why else suggestion(model.partition("/")[0], known)
            yield Lint("error", "default_model", f"{why}{hint}")


def _names(subject: Subject) -> Iterator[Lint]:
    """Targets of routes that are names of the catalogue."""
    for name, route in subject.config.routes.items():
        for number, row in enumerate(route.targets):
            why = subject.knowledge.why_nobody(row.target) if "/" not in row.target else None
            if why is not None:
                yield Lint("error", f"routes.{name}.targets[{number}]", why)


def _unused(subject: Subject) -> Iterator[Lint]:
    config = subject.config
    # A name of the catalogue means whoever serves it.
    plain = [row.target for route in config.routes.values() for row in route.targets if "/" not in row.target]
    if plain or not subject.names or len(config.providers) < 2:
        return
    used = {named.provider for named in subject.names}
    for name in config.providers:
        if name not in used and not subject.is_broken(name):
            what = f'neither a route nor default_model names it; a call may, as in model="{name}/..."'
            yield Lint("note", f"providers.{name}", what)


def _budgets(subject: Subject) -> Iterator[Lint]:
    """Targets that a budget never lets through, as nobody knows what they cost."""
    for number, budget in enumerate(subject.config.budgets):
        if budget.on_unpriced == "allow" or budget.on_exceeded == "warn":
            continue
        kind, _, scope = budget.scope.partition(":")
        targets = dict.fromkeys(
            (named.provider, named.model)
            for named in subject.names
            if (kind != "provider" or named.provider == scope) and not subject.is_broken(named.provider)
        )
        for provider, model in targets:
            if not subject.knowledge.has_price(provider, model):
                yield Lint(
                    "warning",
                    f"budgets[{number}]",
                    f"nobody knows the price of {provider}/{model}, so this budget refuses it: add a [[prices]] row "
                    'for it, or say on_unpriced = "allow"',
                )


def _rows(subject: Subject) -> Iterator[Lint]:
    """Rows about targets of providers that are not there."""
    known = tuple(dict.fromkeys([*subject.config.providers, *BUILT_IN_PROVIDERS]))
    rows = [(f"prices[{number}].target", row.target) for number, row in enumerate(subject.config.prices)]
    rows += [(f"models[{number}].target", row.target) for number, row in enumerate(subject.config.models)]
    for key, target in rows:
        provider = target.partition("/")[0]
        if provider not in known:
            yield Lint("warning", key, f"no provider is named {quoted(provider)}{suggestion(provider, known)}")
