"""A row as a call of a client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llama_client.errors import JobError, LlamaClientError

if TYPE_CHECKING:
    from llama_client.bulk.idle.shift import IdleShift
    from llama_client.bulk.rows import Row
    from llama_client.chat import CallContext
    from llama_client.routing.drive import Call
    from llama_client.routing.recorder import CallRecord
    from llama_client.structured import AnswerForm
    from llama_client.types.completion import ChatCompletion

# Models whose targets are remembered; rows of a job name a few.
_MAX_KNOWN = 1_000


class Asker:
    """Asks rows with a client's context.

    Args:
        context: The client's.
        form: What answers are parsed to; None: they stay text.
    """

    def __init__(self, context: CallContext, form: AnswerForm | None) -> None:
        self._context = context
        self._form = form
        self._targets: dict[object, tuple[str, ...]] = {}

    def question(self, row: Row) -> PendingCall:
        return PendingCall(self._context, row.params, self._form)

    async def answer(self, row: Row) -> ChatCompletion:
        try:
            call = _once(await self._context.acall(row.params, stream=False, form=self._form))
            with call.record.held():
                return call.record.won((await call.adrive()).attempt)
        except LlamaClientError as error:
            _require_open(self._context, error)
            raise

    def target_of(self, row: Row) -> str:
        """What a row's limit is kept for: its model's target, or all that the router may try for it.

        A route has one limit, not one for each target: while its first target is rate limited the router asks the next,
        and the limit holds rows back only if all of them refuse.
        """
        # Where there is none, the call itself will say what is wrong.
        return ", ".join(self.targets_of(row)) or str(self._model_of(row))

    def targets_of(self, row: Row) -> tuple[str, ...]:
        """The targets of a row's model, each once; none: there is no such model."""
        model = self._model_of(row)
        key = model if isinstance(model, str | None) else tuple(model)
        known = self._targets.get(key)
        if known is None:
            known = self._targets_of(model)
            if len(self._targets) < _MAX_KNOWN:
                self._targets[key] = known
        return known

    def _model_of(self, row: Row) -> Any:
        return model_of(row.params.get("model"), self._context)

    def _targets_of(self, model: object) -> tuple[str, ...]:
        try:
            choices = self._context.resolver.choices(model)
            return tuple(dict.fromkeys(target.name for choice in choices for target in choice.targets))
        except LlamaClientError:
            return ()


class SplitAsker:
    """Asks rows that wait for idle hours at this machine, and all others elsewhere.

    Args:
        at_once: For the others.
        idle: For those.
        shift: Says which they are.
    """

    def __init__(self, at_once: Asker, idle: Asker, shift: IdleShift) -> None:
        self._at_once = at_once
        self._idle = idle
        self._shift = shift

    def question(self, row: Row) -> PendingCall:
        return self._asker_of(row).question(row)

    async def answer(self, row: Row) -> ChatCompletion:
        return await self._asker_of(row).answer(row)

    def _asker_of(self, row: Row) -> Asker:
        return self._idle if row.position in self._shift.in_flight else self._at_once


def model_of(given: str | Sequence[str] | None, context: CallContext) -> str | Sequence[str] | None:
    """What a row asks that names `given`. An empty name is a name too, and wrong."""
    known = (given, context.model, context.config.default_model)
    return next((each for each in known if each is not None), None)


def first_model_of(given: str | Sequence[str] | None, context: CallContext) -> str:
    """The first name of it; empty: the model is looked up, or each row names its own."""
    named = model_of(given, context) or ""
    return named if isinstance(named, str) else named[0]


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
            call = _once(self._context.call(self._params, stream=False, form=self._form))
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


def _once(call: Call) -> Call:
    """The call without retries at a target: the job makes them, and its limits see each refusal."""
    return call._replace(retries_failures=False)


def _require_open(context: CallContext, error: LlamaClientError) -> None:
    """What a call raises because its client was closed is no failure of its row."""
    if context.closing.is_set:
        raise JobError("the client was closed while the job ran; the same call on an open one goes on") from error
