"""Which targets of a row run on this machine, and the client's context with these, or with all others."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from llama_client.errors import LocalOnlyError
from llama_client.hosts import name_in
from llama_client.local_only import leads_here
from llama_client.providers.services import service_of
from llama_client.routing.targets import SomeTargets

if TYPE_CHECKING:
    from llama_client.chat import CallContext
    from llama_client.routing.targets import Target

# Targets that are remembered; rows of a job name a few.
_MAX_KNOWN = 1_000


class LocalTargets:
    """Tells the targets of this machine from the others.

    Args:
        context: The client's.
    """

    def __init__(self, context: CallContext) -> None:
        self._context = context
        # By target, as each row asks.
        self._local: dict[str, bool] = {}
        self._reachable: dict[str, bool] = {}
        self.at_once = replace(context, resolver=SomeTargets(context.resolver, self.asked_at_once))
        self.idle = replace(context, resolver=SomeTargets(context.resolver, self.local))

    def is_local(self, target: Target) -> bool:
        """Whether a target is a model in this process, or a server on loopback that answers itself."""
        known = self._local.get(target.name)
        return _kept(self._local, target.name, self._is_local(target)) if known is None else known

    def _is_local(self, target: Target) -> bool:
        providers = self._context.providers
        kind = providers.kind(target.provider_name)
        if kind == "gguf":
            return True
        url = providers.url(target.provider_name)
        if url is None or not leads_here(url):
            return False
        if kind == "ollama":
            # Some of its models are answered in its cloud.
            return target.is_free
        service = service_of(kind)
        return service is not None and (service.is_local or service.is_any_server) and not service.forwards

    def local(self, targets: Sequence[Target]) -> list[Target]:
        """Those of this machine."""
        return [target for target in targets if self.is_local(target)]

    def asked_at_once(self, targets: Sequence[Target]) -> list[Target]:
        """The others, as this machine is left alone outside its idle hours; all, where there are no others."""
        reachable = [target for target in targets if self._may_be_reached(target)]
        return [target for target in reachable if not self.is_local(target)] or reachable or list(targets)

    def slots(self, target: Target) -> int | None:
        """How many requests a target of this machine works on at once; None: unknown.

        Those that only wait would go on after the hours have ended.
        """
        table = self._context.config.providers.get(target.provider_name)
        if self._context.providers.kind(target.provider_name) == "gguf":
            return getattr(table, "n_parallel", 1)
        return getattr(table, "max_concurrency", None)

    def _may_be_reached(self, target: Target) -> bool:
        """By the rules of `local_only`."""
        known = self._reachable.get(target.name)
        return _kept(self._reachable, target.name, self._is_permitted(target)) if known is None else known

    def _is_permitted(self, target: Target) -> bool:
        url = self._context.providers.url(target.provider_name)
        with suppress(LocalOnlyError, OSError):
            if url is not None:
                self._context.providers.guard.require_allowed(name_in(url))
            return True
        return False


def _kept(found: dict[str, bool], name: str, answer: bool) -> bool:
    if len(found) < _MAX_KNOWN:
        found[name] = answer
    return answer
