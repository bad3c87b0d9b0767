"""A row as a call of a client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llama_client.errors import JobError, LlamaClientError

if TYPE_CHECKING:
    from llama_client.bulk.rows import Row
    from llama_client.chat import CallContext
    from llama_client.routing.recorder import CallRecord
    from llama_client.structured import AnswerForm
    from llama_client.types.completion import ChatCompletion


class Asker:
    """Asks rows with a client's context.

    Args:
        context: The client's.
        form: What answers are parsed to; None: they stay text.
    """

    def __init__(self, context: CallContext, form: AnswerForm | None) -> None:
        self._context = context
        self._form = form
        self._targets: dict[object, str] = {}

    def question(self, row: Row) -> PendingCall:
        return PendingCall(self._context, row.params, self._form)

    async def answer(self, row: Row) -> ChatCompletion:
        try:
            call = await self._context.acall(row.params, stream=False, form=self._form)
            with call.record.held():
                return call.record.won((await call.adrive()).attempt)
        except LlamaClientError as error:
            _require_open(self._context, error)
            raise

    def target_of(self, row: Row) -> str:
        """What the router would try first for the row's model; where that is not known, the model."""
        model = row.params.get("model") or self._context.model
        key = model if isinstance(model, str | None) else tuple(model)
        known = self._targets.get(key)
        if known is None:
            known = self._targets[key] = self._first_target(model)
        return known

    def _first_target(self, model: object) -> str:
        try:
            choices = self._context.resolver.choices(model)
            return choices[0].targets[0].name
        except (LlamaClientError, IndexError):
            # The call itself will say what is wrong.
            return str(model)


class PendingCall:
    """One call, which another thread may stop."""

    def __init__(self, context: CallContext, params: Mapping[str, Any], form: AnswerForm | None) -> None:
        self._context = context
        self._params = params
        self._form = form
        self._record: CallRecord | None = None
        self._is_stopped = False

    def answer(self) -> ChatCompletion:
        """Blocks until the answer has come.

        Raises:
            LlamaClientError: As `create`.
            JobError: The client was closed.
        """
        try:
            call = self._context.call(self._params, stream=False, form=self._form)
            self._record = call.record
            if self._is_stopped:
                call.record.stop()
            with call.record.held():
                return call.record.won(call.drive().attempt)
        except LlamaClientError as error:
            _require_open(self._context, error)
            raise

    def stop(self) -> None:
        """Ends it soon, from any thread."""
        self._is_stopped = True
        record = self._record
        if record is not None:
            record.stop()


def _require_open(context: CallContext, error: LlamaClientError) -> None:
    """What a call raises because its client was closed is no failure of its row."""
    if context.closing.is_set:
        raise JobError("the client was closed while the job ran; the same call on an open one goes on") from error
