"""What is done about a part whose batch is over: its files, its money, and what is left at the provider. No I/O."""

from __future__ import annotations

from llama_client.bulk.batches.api import RemoteBatch
from llama_client.bulk.batches.parts import Part, State
from llama_client.bulk.batches.patience import (
    GONE,
    MOST_TRIES,
    GivenUpError,
    asked,
    may_retry,
    require_not_fatal,
    wait_after_s,
)
from llama_client.bulk.batches.steps import Delete, Download, Forget, Retrieve, Save, Settle, Steps, Wait, Which
from llama_client.errors import LlamaClientError, ProviderError


def fetch(part: Part) -> Steps:
    """Downloads its answers and errors; a file that is gone is noted."""
    wanted: list[tuple[Which, str | None]] = [("answers", part.output_file_id), ("errors", part.error_file_id)]
    for which, file_id in wanted:
        if file_id is None:
            continue
        for tried in range(MOST_TRIES):
            outcome = yield Download(which, file_id)
            if not isinstance(outcome, LlamaClientError):
                break
            if isinstance(outcome, ProviderError) and outcome.http_status in GONE:
                part.why = f"the file of its {which} is gone"
                # What was answered was paid for, whatever it was.
                part.status = "unknown" if which == "answers" else part.status
                break
            require_not_fatal(outcome)
            if not may_retry(outcome) or tried == MOST_TRIES - 1:
                # Paid for, and there: given up for now, and not for good.
                raise outcome
            yield Wait(wait_after_s(tried, outcome))


def settle(part: Part) -> Steps:
    """Puts what it cost in the place of what was set aside."""
    if part.hold is not None:
        if part.batch_id is None and part.status != "unknown":
            yield Settle("nothing")
        else:
            yield Settle("told" if part.usd is not None and part.status != "unknown" else "most")
    part.undeleted = [
        each for each in (part.file_id, part.output_file_id, part.error_file_id, *part.undeleted) if each is not None
    ]
    part.state = State.DONE
    yield Save()


def clean(part: Part) -> Steps:
    """Deletes what is left of it, here and at the provider. What cannot be deleted is left to the next run."""
    yield Forget()
    for batch_id in tuple(part.others):
        try:
            other: RemoteBatch = yield from asked(Retrieve(batch_id))
        except GivenUpError:
            part.others.remove(batch_id)
            continue
        except ProviderError:
            continue
        if other.status != "running":
            part.others.remove(batch_id)
            part.undeleted += [each for each in (other.output_file_id, other.error_file_id) if each is not None]
    if not part.undeleted:
        yield Save()
        return
    left = []
    for file_id in part.undeleted:
        try:
            yield from asked(Delete(file_id))
        except (GivenUpError, ProviderError):
            # Nothing is owed any more, so no error ends the job. The next run tries again.
            left.append(file_id)
    part.undeleted = left
    yield Save()
