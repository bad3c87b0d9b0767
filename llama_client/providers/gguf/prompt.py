"""What a loaded model is asked with: the messages of a call as its template takes them."""

from __future__ import annotations

import http.client

from llama_client.errors import UnsupportedFeatureError
from llama_client.providers.base import ProviderCall
from llama_client.providers.gguf.chat_template import Plan
from llama_client.providers.gguf.codec import bodies, messages_to, shaping_of
from llama_client.providers.gguf.engine import Body, Engine
from llama_client.providers.gguf.tool_calling import demands_a_call


class Prompt:
    def __init__(self, call: ProviderCall, engine: Engine) -> None:
        """Raises `UnsupportedFeatureError` for what no template can show."""
        self._call = call
        self._engine = engine
        self._template = engine.template
        self._messages = messages_to(call)
        # Each with the number of choices that it asks for.
        self.bodies = list(bodies(call.request, engine.n_parallel))
        self._shaping = shaping_of(self.bodies[0][0])
        # A schema has its own grammar, and what goes on from a beginning has one already.
        can_begin = call.request.response_format is None and self._messages[-1]["role"] != "assistant"
        self._is_begun = can_begin and demands_a_call(call.request)
        self._plan: Plan | None = self._template.plan(self._messages, self._shaping)

    @property
    def has_new_form(self) -> bool:
        """Whether `learn` comes first: it is not known yet what the template does with such a conversation."""
        return self._plan is None or (self._is_begun and not self._template.knows_beginning(self._shaping))

    def learn(self) -> None:
        """Blocks for some milliseconds."""
        if self._plan is None:
            self._plan = self._template.learn(self._messages, self._shaping)
        if self._is_begun and not self._template.knows_beginning(self._shaping):
            self._template.learn_beginning(self._shaping)

    def messages(self) -> list[Body]:
        """The messages as the template takes them.

        Raises:
            UnsupportedFeatureError: It would not show all of them, however they are written.
        """
        plan = self._plan or Plan()
        if plan.refusal is not None:
            raise self._call.unsupported("messages", f"{plan.refusal}; write them otherwise, or list another target")
        for rewrite in plan.rewrites:
            if rewrite.warning is not None:
                self._call.facts.warn(rewrite.warning, is_of_request=True)
        return plan.apply(self._messages)

    def beginning(self) -> list[Body]:
        """Where a call is demanded, the beginning of a call as that of the answer, so that nothing precedes it."""
        beginning = self._template.call_beginning(self._shaping) if self._is_begun else None
        return [] if beginning is None else [{"role": "assistant", "content": beginning}]

    def forget_beginning(self) -> None:
        """Keeps that llama.cpp does not take it."""
        self._template.forget_beginning(self._shaping)

    def count(self) -> int | None:
        """The tokens of the prompt; None: the model would refuse it. Blocks for some milliseconds."""
        try:
            if self.has_new_form:
                self.learn()
            messages = [*self.messages(), *self.beginning()]
            return self._engine.count_tokens({**self.bodies[0][0], "messages": messages})
        except (UnsupportedFeatureError, OSError, ValueError, http.client.HTTPException):
            return None
