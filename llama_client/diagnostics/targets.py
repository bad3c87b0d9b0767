"""Checks what a call would reach: the default model and the targets of each route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from llama_client.config.schema import Config
from llama_client.diagnostics.finding import Fact, Finding, Status
from llama_client.diagnostics.gguf import GgufView
from llama_client.diagnostics.providers import ProviderState
from llama_client.errors import LlamaClientError
from llama_client.providers.gguf.store import ModelStore
from llama_client.providers.registry import Providers
from llama_client.routing.targets import TargetResolver, default_model, ollama_to_ask
from llama_client.validation import suggestion

# These list everything that they serve. Others may have private endpoints, and a server of one model may answer under
# any name.
_LIST_EVERYTHING = ("groq", "ollama")


@dataclass(frozen=True, slots=True)
class TargetState:
    name: str
    provider: str
    model: str
    # None: unknown.
    can_answer: bool | None
    why: str
    finding: Finding


_OF_ROUTE: dict[Status, str] = {
    "ok": "all of its targets can answer",
    "warning": "some of its targets cannot answer",
    "problem": "no target can answer",
    "skipped": "unknown whether any target can answer",
}


@dataclass(frozen=True)
class Targets:
    config: Config
    providers: Providers
    store: ModelStore
    provider_states: Mapping[str, ProviderState]
    views: Mapping[str, GgufView]
    states: dict[str, TargetState] = field(default_factory=dict)
    target_lists: list[list[TargetState]] = field(default_factory=list)

    @cached_property
    def resolver(self) -> TargetResolver:
        return TargetResolver(self.providers, self.store, self.config.routes)

    def findings(self, model: str | None) -> list[Finding]:
        found = [self._default() if model is None else self._model("model", model, model)]
        found += [self._model("route", f"routes.{name}", name) for name in self.config.routes]
        return [*found, *map(self._target, self.states.values())]

    def _target(self, state: TargetState) -> Finding:
        """A target's finding; a problem is a warning if each of its lists has another target that can answer."""
        finding = state.finding
        has_others = all(any(other.can_answer for other in states) for states in self.target_lists if state in states)
        return replace(finding, status="warning") if finding.status == "problem" and has_others else finding

    def _default(self) -> Finding:
        ollama = self.provider_states.get(ollama_to_ask(self.config, self.providers) or "")
        try:
            name = default_model(self.config, self.providers, self.store, ollama.default if ollama else None)
        except LlamaClientError as error:
            remedy = (
                "Run `llama-client pull smollm2-135m` (a tiny demo), start Ollama, or configure a provider with "
                "`llama-client config init`."
            )
            if self.config.providers:
                remedy = 'Set default_model, as in default_model = "PROVIDER/MODEL".'
            return Finding("default_model", "models", "default_model", "problem", str(error), remedy)
        value = name if self.config.default_model else f"not set, so it is {name}"
        return self._model("default_model", "default_model", name, value=value)

    def _model(self, check: str, subject: str, model: str, *, value: str | None = None) -> Finding:
        try:
            [choice] = self.resolver.choices(model)
        except LlamaClientError as error:
            where = f"{subject}.targets" if check == "route" else "default_model" if value else "--model"
            remedy = f"Correct {where}; `llama-client models` lists what is served."
            return Finding(check, "models", subject, "problem", str(error), remedy)
        states = [self._state(target.provider_name, target.model) for target in choice.targets]
        status, message = _together(states)
        if value is not None:
            # A single target is not named twice.
            message = value + message.removeprefix(model) if message.startswith(model) else f"{value}: {message}"
        if choice.route is not None and check == "default_model":
            return Finding(check, "models", subject, status, f"{value}, a route: {_OF_ROUTE[status]}")
        facts: dict[str, Fact] = {"targets": [state.name for state in states], "policy": choice.policy}
        self.target_lists.append(states)
        if status != "problem":
            return Finding(check, "models", subject, status, message, facts=facts)
        where = f"routes.{choice.route}.targets" if choice.route else "default_model"
        remedies = [state.finding.remedy for state in states if state.finding.remedy is not None]
        remedy = remedies[0] if remedies else f"Make one of them answer (see below), or add another to {where}."
        return Finding(check, "models", subject, status, message, remedy, facts)

    def _state(self, provider: str, model: str) -> TargetState:
        name = f"{provider}/{model}"
        if name in self.states:
            return self.states[name]
        if provider not in self.views:
            state = self._of_server(self.provider_states.get(provider), name, provider, model)
        elif why_not := self.views[provider].why_not(model):
            state = _target_state(name, False, "its file is not usable", "problem", *why_not)
        else:
            state = _target_state(name, True, "ready", "ok", "a file of this machine")
        self.states[name] = state
        return state

    def _of_server(self, view: ProviderState | None, name: str, provider: str, model: str) -> TargetState:
        if view is None:
            return _target_state(name, None, "not checked", "skipped", "its provider was not checked")
        if view.state == "forbidden":
            return _target_state(name, False, "forbidden by local_only", "problem", f"local_only forbids {provider}")
        retired = self.providers.retirement(provider, model)
        if view.state != "reached" or view.served is None:
            can_answer = None if view.state == "not contacted" else False
            message = f"unknown whether it is served: {provider} was {view.state}"
            if retired is not None:
                message = f"{retired}; {message}"
                return _target_state(name, can_answer, "retired", "warning", message, self._replacement(name))
            return _target_state(name, can_answer, f"{provider} was {view.state}", "skipped", message)
        return self._listed(view, name, model, retired)

    def _listed(self, view: ProviderState, name: str, model: str, retired: str | None) -> TargetState:
        from llama_client.providers.http.sdk import http_service_of, is_cloud_model

        is_same = http_service_of(view.kind).is_same_model
        served = next((each for each in view.served or () if is_same(each.id, model)), None)
        is_remote = served.is_remote if served is not None else is_cloud_model(model)
        if view.kind == "ollama" and self.config.local_only and is_remote:
            message = "local_only forbids it: Ollama forwards it to its cloud"
            remedy = f"Name a model that Ollama runs itself instead of {name}."
            return _target_state(name, False, "forbidden by local_only", "problem", message, remedy)
        if served is not None and served.is_chat is False:
            message = f"{view.name} serves it, and says that it answers no chats"
            return _target_state(name, False, "answers no chats", "problem", message, self._replacement(name))
        if served is not None:
            loaded = ", and loaded" if served.is_loaded else ""
            message = f"served{loaded}" + (f", though {retired}" if retired else "")
            return _target_state(name, True, "served", "ok", message)
        if not view.served and view.kind not in _LIST_EVERYTHING:
            return _target_state(name, None, "not listed", "info", f"unknown: {view.name} lists no models")
        near = suggestion(model, [each.id for each in view.served or ()])
        message = f"not among the {len(view.served or ())} models that {view.name} lists{near}"
        if retired is not None:
            return _target_state(name, False, "retired", "problem", f"{retired}; {message}", self._replacement(name))
        if view.kind == "ollama":
            return _target_state(name, False, "not pulled", "problem", message, f"Run `ollama pull {model}`.")
        is_sure = view.kind in _LIST_EVERYTHING
        remedy = f"Replace {name} by a name that `llama-client models` lists for {view.name}."
        status: Status = "problem" if is_sure else "warning"
        return _target_state(name, False if is_sure else None, "not served", status, message, remedy)

    def _replacement(self, name: str) -> str:
        provider, _, model = name.partition("/")
        offer = self.providers.offer(provider, model)
        if offer is not None and offer.replacement:
            return f"Name {provider}/{offer.replacement} instead of {name}."
        return f"Name another model instead of {name}; `llama-client models` lists what is served."


def _target_state(
    name: str, can_answer: bool | None, why: str, status: Status, message: str, remedy: str | None = None
) -> TargetState:
    provider, _, model = name.partition("/")
    finding = Finding("target", "models", name, status, message, remedy, {"can_answer": can_answer})
    return TargetState(name, provider, model, can_answer, why, finding)


def _together(states: Sequence[TargetState]) -> tuple[Status, str]:
    names = ", then ".join(state.name for state in states)
    wrong = [state for state in states if state.can_answer is False]
    if not wrong:
        if all(state.can_answer is None for state in states):
            is_doubtful = any(state.finding.status == "warning" for state in states)
            return "warning" if is_doubtful else "skipped", f"{names}; unknown whether any target can answer"
        return "ok", names
    reasons = ", ".join(f"{state.name} ({state.why})" for state in wrong)
    if len(wrong) == len(states):
        return "problem", f"no target can answer: {reasons}"
    return "warning", f"{len(wrong)} of {len(states)} targets cannot answer: {reasons}"
