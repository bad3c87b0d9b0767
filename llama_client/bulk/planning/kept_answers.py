"""The cache, for rows that go past calls: those that it has need no batch, and answers of batches are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from llama_client.cache.answers import identity_of
from llama_client.cache.key import is_whole, key_of, place_of
from llama_client.cache.stored import Stored, bytes_of, chunk_of, is_kept
from llama_client.errors import LlamaClientError
from llama_client.routing.billing import COST_DOUBT
from llama_client.routing.cached import values_of

if TYPE_CHECKING:
    from llama_client.bulk.planning.measure import Measure
    from llama_client.bulk.results import BulkResult
    from llama_client.bulk.rows import Row
    from llama_client.cache.answers import AnswerCache
    from llama_client.chat import CallContext
    from llama_client.routing.candidate import Candidate
    from llama_client.structured import AnswerForm

# Asked of the database at once.
_AT_ONCE = 100


class KeptAnswers:
    """What the cache has to do with the rows of a job. All of it blocks.

    Args:
        context: The client's.
        cache: Its cache.
        form: What answers are parsed to; None: they stay text.
    """

    def __init__(self, context: CallContext, cache: AnswerCache, form: AnswerForm | None) -> None:
        self._context = context
        self._cache = cache
        self._form = form

    def missing(self, rows: Iterable[Row], counted: Measure | None = None) -> Iterator[Row]:
        """The rows whose answers are not there: the others are answered by their calls, at once and for nothing.

        Args:
            rows: All rows.
            counted: Gets the number of the others.
        """
        if self._context.cache_mode == "refresh":
            yield from rows
            return
        left = iter(rows)
        while some := [*islice(left, _AT_ONCE)]:
            keys = [self._key_of(row) for row in some]
            known = self._cache.known([key for key in keys if key is not None], self._context.clock.wall())
            if counted is not None:
                counted.kept_rows += sum(key in known for key in keys)
            yield from (row for row, key in zip(some, keys, strict=True) if key not in known)

    def keep(self, result: BulkResult) -> None:
        """Keeps the answer of a batch, where it may be: the same call finds it then."""
        completion = result.completion
        if completion is None:
            return
        candidate = self._candidate(result.row, completion.target)
        key = None if candidate is None else self._key_at(candidate, result.row)
        if candidate is None or key is None or not is_kept(candidate.request, completion.choices):
            return
        if any(each not in candidate.warnings and not each.startswith(COST_DOUBT) for each in completion.warnings):
            return
        chunk = chunk_of(completion, completion.choices, completion.usage, completion.service_tier)
        sources, body = tuple(completion.sources), bytes_of(completion.raw)
        self._cache.put(key, Stored(chunk, result.usd, self._context.clock.wall(), sources, body))

    def _key_of(self, row: Row) -> bytes | None:
        """The key of a row at the target whose answer its call would take first; None: it is not in the cache."""
        candidate = self._candidate(row, None)
        return None if candidate is None else self._key_at(candidate, row)

    def _key_at(self, candidate: Candidate, row: Row) -> bytes | None:
        identity = identity_of(candidate.target.provider, candidate.target.model)
        if identity is None or not is_whole(candidate.request):
            return None
        table = self._context.config.cache
        tags = {**self._context.tags, **(candidate.request.tags or {})}
        return key_of(candidate.request, place_of(identity, table.namespace, values_of(tags, table.namespace_tags)))

    def _candidate(self, row: Row, target: str | None) -> Candidate | None:
        """A row at a target, or, None, at the first one that can take it; None: there is none."""
        context = self._context
        may_drop = context.config.routing.drop_unsupported
        try:
            request, choices = context.checked(row.params, stream=False, form=self._form)
            candidates = context.router.candidates(choices, request)
        except LlamaClientError:
            # The job says what is wrong with it, as a failure of the row.
            return None
        for each in candidates:
            # What its target cannot take leaves the request here, as in a call.
            if each.is_supported(may_drop=may_drop) and target in (None, each.target.name):
                return each
        return None


def kept_answers(context: CallContext, form: AnswerForm | None) -> KeptAnswers | None:
    """The cache of a client; None: it is off."""
    if context.cache is None or context.cache_mode == "off":
        return None
    return KeptAnswers(context, context.cache, form)
