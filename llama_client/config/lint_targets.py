"""What is found of the targets that a configuration names: gone, unknown, not pulled, or forbidden."""

from __future__ import annotations

from collections.abc import Iterator

from llama_client.config.clouds import CLOUDS
from llama_client.config.lint_subject import LISTED_KINDS, Lint, Named, Subject
from llama_client.config.providers import GgufProvider
from llama_client.validation import quoted, suggestion

_DEMO = "llama-client pull smollm2-135m"


def target_lints(subject: Subject) -> Iterator[Lint]:
    """What is found."""
    for named in subject.names:
        if subject.is_broken(named.provider):
            continue
        match subject.kind(named.provider):
            case "gguf":
                yield from _pulled(subject, named)
            case kind:
                yield from _served(subject, named, kind)
                yield from _forbidden(subject, named, kind)


def _served(subject: Subject, named: Named, kind: str) -> Iterator[Lint]:
    catalog, today = subject.knowledge.catalog, subject.knowledge.today
    retired = catalog.explain_retirement(named.provider, named.model, today) or catalog.explain_retirement(
        kind, named.model, today
    )
    if retired is not None:
        yield Lint("warning", named.key, retired)
        return
    offer = catalog.offer(named.provider, named.model) or catalog.offer(kind, named.model)
    if offer is None and kind in LISTED_KINDS and not subject.has_address(named.provider):
        near = catalog.nearest(f"{kind}/{named.model}", day=today)
        is_there = near is not None and near.startswith(f"{kind}/")
        hint = f"; did you mean {named.provider + near.removeprefix(kind)!r}?" if near and is_there else ""
        yield Lint("warning", named.key, f"the catalogue knows no {quoted(named.model)} at {kind}{hint}")


def _pulled(subject: Subject, named: Named) -> Iterator[Lint]:
    table = subject.config.providers.get(named.provider)
    has_file = isinstance(table, GgufProvider) and table.model_path is not None
    if named.model == "default":
        if not has_file and not subject.knowledge.has_demo:
            yield Lint("warning", named.key, f"is the demo model, which has not been pulled: `{_DEMO}` gets it")
    elif named.model not in subject.knowledge.pulled:
        names = sorted(subject.knowledge.pulled)
        there = f"there are {', '.join(names)}" if names else "there is none"
        hint = suggestion(named.model, names)
        get = _DEMO if named.model == _DEMO.rpartition(" ")[2] else "llama-client pull"
        what = f"no model named {quoted(named.model)} has been pulled ({there}){hint or f': `{get}` gets it'}"
        yield Lint("warning", named.key, what)


def _forbidden(subject: Subject, named: Named, kind: str) -> Iterator[Lint]:
    is_usual = kind in CLOUDS and not subject.has_address(named.provider)
    host = CLOUDS[kind].usual_host if is_usual else None
    if subject.config.local_only and host and host not in subject.config.privacy.allow_hosts:
        yield Lint("warning", named.key, f"local_only is on, which refuses {host}: this target is never asked")
