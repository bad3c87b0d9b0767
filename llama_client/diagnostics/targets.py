"""Checks what a call would reach: the default model and the targets of each route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llama_client.config.schema import Config
from llama_client.diagnostics.finding import Fact, Finding, Status
from llama_client.diagnostics.providers import ProviderState
from llama_client.errors import LlamaClientError
from llama_client.routing.targets import TargetResolver, default_model, ollama_to_ask
from llama_client.validation import suggestion

if TYPE_CHECKING:
    from llama_client.diagnostics.gguf import GgufView
    from llama_client.providers.gguf.store import ModelStore
    from llama_client.providers.registry import Providers


# These list all that they serve to whoever asks, so that what is not listed is not served. Others may have endpoints
# of an account's own, and a server of one model may answer under any name.
_LIST_EVERYTHING = ("groq", "ollama")


@dataclass(frozen=True, slots=True)
class TargetState:
    """Whether a target can answer."""

    name: str
    provider: str
    model: str
    can_answer: bool | None
    why: str
    finding: Finding


_OF_ROUTE: dict[Status, str] = {
    "ok": "all of its targets can answer",
    "warning": "some of its targets cannot answer",
    "problem": "nobody can answer",
    "skipped": "whether anybody answers is not known",
}


class Targets:
    """Judges targets by what their providers have said."""

    def __init__(
        self,
        config: Config,
        providers: Providers,
        store: ModelStore,
        views: Mapping[str, ProviderState],
        files: Mapping[str, GgufView],
    ) -> None:
        self._config = config
        self._providers = providers
        self._store = store
        self._views = views
        self._files = files
        self._resolver = TargetResolver(providers, store, config.routes)
        self.states: dict[str, TargetState] = {}
        self._choices: list[list[TargetState]] = []

    def findings(self, model: str | None) -> list[Finding]:
        """The model that was asked for or the default, each route, and each target of theirs."""
        found = [self._default() if model is None else self._meant("model", model, model)]
        found += [self._meant("route", f"routes.{name}", name) for name in self._config.routes]
        return [*found, *(self._weighed(state) for state in self.states.values())]

    def _weighed(self, state: TargetState) -> Finding:
        """What is said of a target: a warning where somebody else can answer wherever it is named."""
        finding = state.finding
        has_others = all(any(other.can_answer for other in states) for states in self._choices if state in states)
        return replace(finding, status="warning") if finding.status == "problem" and has_others else finding

    def _default(self) -> Finding:
        ollama = ollama_to_ask(self._config, self._providers)
        view = self._views.get(ollama) if ollama is not None else None
        try:
            name = default_model(self._config, self._providers, self._store, view.default if view else None)
        except LlamaClientError as error:
            if self._config.providers:
                remedy = (
                    'Set default_model in the configuration to one of these, as in default_model = "PROVIDER/MODEL".'
                )
            else:
                remedy = (
                    "Run `llama-client pull smollm2-135m` (a tiny demo), start Ollama, or configure a provider with "
                    "`llama-client config init`."
                )
            return Finding("default_model", "models", "default_model", "problem", str(error), remedy)
        said = name if self._config.default_model else f"not set, so it is {name}"
        return self._meant("default_model", "default_model", name, said=said)

    def _meant(self, check: str, subject: str, model: str, *, said: str | None = None) -> Finding:
        try:
            [choice] = self._resolver.choices(model)
        except LlamaClientError as error:
            where = f"{subject}.targets" if check == "route" else "default_model" if said else "--model"
            remedy = f"Correct {where}; `llama-client models` lists what is served."
            return Finding(check, "models", subject, "problem", str(error), remedy)
        states = [self._state(target.provider_name, target.model) for target in choice.targets]
        status, message = _together(states)
        if said is not None:
            # Where it means one target alone, that has been said.
            message = said + message.removeprefix(model) if message.startswith(model) else f"{said}: {message}"
        if choice.route is not None and check == "default_model":
            return Finding(check, "models", subject, status, f"{said}, a route: {_OF_ROUTE[status]}")
        facts: dict[str, Fact] = {"targets": [state.name for state in states], "policy": choice.policy}
        self._choices.append(states)
        if status != "problem":
            return Finding(check, "models", subject, status, message, facts=facts)
        where = f"routes.{choice.route}.targets" if choice.route else "default_model"
        remedy = _first_remedy(states) or f"Make one of them answer (see below), or add another to {where}."
        return Finding(check, "models", subject, status, message, remedy, facts)

    def _state(self, provider: str, model: str) -> TargetState:
        name = f"{provider}/{model}"
        if name not in self.states:
            if provider in self._files:
                self.states[name] = self._of_file(self._files[provider], name, model)
            else:
                self.states[name] = self._of_server(self._views.get(provider), name, provider, model)
        return self.states[name]

    def _of_file(self, view: GgufView, name: str, model: str) -> TargetState:
        error = view.why_not(model)
        if error is None:
            return _stated(name, True, "ready", "ok", "a file of this machine")
        message, remedy = error
        return _stated(name, False, "its file is not usable", "problem", message, remedy)

    def _of_server(self, view: ProviderState | None, name: str, provider: str, model: str) -> TargetState:
        if view is None:
            return _stated(name, None, "not looked at", "skipped", "its provider was not looked at")
        if view.state == "forbidden":
            return _stated(name, False, "forbidden by local_only", "problem", f"local_only forbids {provider}")
        retired = self._retired(provider, view.kind, model)
        if view.state != "reached" or view.served is None:
            can_answer = None if view.state == "not asked" else False
            message = f"whether it is served is not known: {provider} was {view.state}"
            if retired is not None:
                return _stated(name, can_answer, "retired", "warning", f"{retired}; {message}", self._instead(name))
            return _stated(name, can_answer, f"{provider} was {view.state}", "skipped", message)
        return self._listed(view, name, model, retired)

    def _listed(self, view: ProviderState, name: str, model: str, retired: str | None) -> TargetState:
        from llama_client.providers.http.sdk import is_cloud_model
        from llama_client.providers.ollama import Ollama

        is_same = Ollama().is_same_model if view.kind == "ollama" else str.__eq__
        served = next((each for each in view.served or () if is_same(each.id, model)), None)
        if view.kind == "ollama" and self._config.local_only:
            is_remote = served.is_remote if served is not None else is_cloud_model(model)
            if is_remote:
                why = "local_only forbids it: Ollama hands it on to its cloud"
                remedy = f"Name a model that Ollama runs itself in the place of {name}."
                return _stated(name, False, "forbidden by local_only", "problem", why, remedy)
        if served is not None:
            loaded = ", and loaded" if served.is_loaded else ""
            message = f"served{loaded}" + (f", though {retired}" if retired else "")
            return _stated(name, True, "served", "ok", message)
        if not view.served and view.kind not in _LIST_EVERYTHING:
            return _stated(name, None, "not listed", "info", f"{view.name} lists no models, so nobody knows")
        near = suggestion(model, [each.id for each in view.served or ()])
        message = f"{view.name} does not list it among the {len(view.served or ())} that it serves{near}"
        if retired is not None:
            return _stated(name, False, "retired", "problem", f"{retired}; {message}", self._instead(name))
        if view.kind == "ollama":
            return _stated(name, False, "not pulled", "problem", message, f"Run `ollama pull {model}`.")
        is_sure = view.kind in _LIST_EVERYTHING
        remedy = f"Take a name that `llama-client models` lists for {view.name}, wherever {name} is named."
        status: Status = "problem" if is_sure else "warning"
        return _stated(name, False if is_sure else None, "not served", status, message, remedy)

    def _retired(self, provider: str, kind: str, model: str) -> str | None:
        today = self._providers.clock.today()
        catalog = self._providers.catalog
        return catalog.explain_retirement(provider, model, today) or catalog.explain_retirement(kind, model, today)

    def _instead(self, name: str) -> str:
        provider, _, model = name.partition("/")
        offer = self._providers.offer(provider, model)
        if offer is not None and offer.replacement:
            return f"Name {provider}/{offer.replacement} in the place of {name}."
        return f"Name another model in the place of {name}; `llama-client models` lists what is served."


def _stated(
    name: str, can_answer: bool | None, why: str, status: Status, message: str, remedy: str | None = None
) -> TargetState:
    provider, _, model = name.partition("/")
    finding = Finding("target", "models", name, status, message, remedy, {"can_answer": can_answer})
    return TargetState(name, provider, model, can_answer, why, finding)


def _together(states: Sequence[TargetState]) -> tuple[Status, str]:
    """How a choice stands, of which each target may answer."""
    names = ", then ".join(state.name for state in states)
    wrong = [state for state in states if state.can_answer is False]
    if not wrong:
        if all(state.can_answer is None for state in states):
            is_doubtful = any(state.finding.status == "warning" for state in states)
            return "warning" if is_doubtful else "skipped", f"{names}; whether anybody answers is not known"
        return "ok", names
    told = ", ".join(f"{state.name} ({state.why})" for state in wrong)
    if len(wrong) == len(states):
        return "problem", f"nobody can answer: {told}"
    return "warning", f"{len(wrong)} of {len(states)} targets cannot answer: {told}"


def _first_remedy(states: Sequence[TargetState]) -> str | None:
    return next((state.finding.remedy for state in states if state.finding.remedy is not None), None)
