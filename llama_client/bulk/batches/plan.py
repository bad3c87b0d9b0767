"""The life of one part at a batch API: a generator that decides, and does no I/O.

It yields steps, and is sent what came of each: a value, or the error. It changes the part, and yields `Save` before and
after each step that changes something at the provider, so that the next run knows what to look for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from llama_client.bulk.batches.api import RemoteBatch, RemoteFile
from llama_client.bulk.batches.ending import clean, fetch, settle
from llama_client.bulk.batches.parts import Part, State
from llama_client.bulk.batches.patience import (
    MOST_TRIES,
    GivenUpError,
    asked,
    may_retry,
    require_no_error,
    require_not_fatal,
    require_triable,
    require_wanted,
    wait_after_s,
)
from llama_client.bulk.batches.steps import (
    Cancel,
    Collect,
    Create,
    FindBatches,
    FindFiles,
    Hold,
    Reserve,
    Retrieve,
    Save,
    Settle,
    Step,
    Steps,
    Upload,
    Wait,
)
from llama_client.errors import BudgetExceededError, LlamaClientError

# Small batches take minutes, large ones hours.
_FIRST_POLL_S, _LONGEST_POLL_S, _POLL_GROWTH = 5.0, 300.0, 1.5
# How long after its window a batch may still be told to be running, before it is given up.
_GRACE_S = 3600.0
# A batch may be in no list yet when its creation has just been answered, or was not.
_LOOKS_S = (0.0, 3.0, 10.0)
# How long after its creation a batch is looked for that may have been made beside it.
_LISTED_AFTER_S = 120.0
# A batch may have ended some moments before its files are there.
_FILE_LOOKS_S = (2.0, 10.0, 30.0, 60.0)
_ENDED_AS = {"failed": "failed", "expired": "has expired", "cancelled": "was cancelled"}


def plan(part: Part, now: Callable[[], float], is_unwanted: Callable[[], bool]) -> Steps:
    """What to do about a part, from whatever state it is in.

    Args:
        part: The part; it is changed.
        now: Unix time.
        is_unwanted: Whether the part was cancelled.

    Raises:
        LlamaClientError: What ends the whole job, such as a wrong key. The part stays as it is, to be resumed.
    """
    try:
        if part.state in (State.WRITTEN, State.RESERVING):
            yield from _reserve(part, is_unwanted)
        if part.state in (State.RESERVED, State.UPLOADING):
            yield from _upload(part, is_unwanted)
        if part.state in (State.UPLOADED, State.CREATING):
            yield from _create(part, now, is_unwanted)
        if part.state is State.CREATED:
            yield from _poll(part, now, is_unwanted)
        if part.state is State.ENDED:
            yield from fetch(part)
    except GivenUpError as given_up:
        part.why = given_up.why
        if part.state is not State.ENDED:
            part.status = "unknown" if given_up.may_cost else "refused"
    if part.state not in (State.COLLECTED, State.DONE):
        require_no_error((yield Collect()))
        part.state = State.COLLECTED
        yield Save()
    if part.state is State.COLLECTED:
        yield from settle(part)
    yield from clean(part)


def _reserve(part: Part, is_unwanted: Callable[[], bool]) -> Steps:
    if part.hold is not None:
        # Whether it was set aside before the process ended is unknown; this undoes it either way.
        yield Settle("nothing")
        part.hold = None
    require_wanted(is_unwanted)
    yield Hold()
    part.state = State.RESERVING
    yield Save()
    outcome = yield Reserve()
    if isinstance(outcome, BudgetExceededError):
        raise GivenUpError(str(outcome))
    require_no_error(outcome)
    part.state = State.RESERVED
    yield Save()


def _upload(part: Part, is_unwanted: Callable[[], bool]) -> Steps:
    is_doubtful = part.state is State.UPLOADING
    part.state = State.UPLOADING
    yield Save()
    for tried in range(MOST_TRIES):
        if is_doubtful and (yield from _has_found_file(part)):
            break
        require_wanted(is_unwanted)
        outcome = yield Upload()
        if not isinstance(outcome, LlamaClientError):
            part.file_id = outcome
            break
        require_triable(outcome)
        is_doubtful = True
        yield Wait(wait_after_s(tried, outcome))
    else:
        if not (yield from _has_found_file(part)):
            raise GivenUpError("its file could not be uploaded")
    part.state = State.UPLOADED
    yield Save()


def _has_found_file(part: Part) -> Generator[Step, Any, bool]:
    """Whether an upload that was not answered is there. What is there beside it, or in part, is to be deleted."""
    files: Sequence[RemoteFile] = (yield from asked(FindFiles())) or ()
    whole = [each.id for each in files if each.size_bytes in (None, part.size_bytes)]
    part.file_id = whole[0] if whole else None
    part.undeleted = [each.id for each in files if each.id != part.file_id]
    return part.file_id is not None


def _create(part: Part, now: Callable[[], float], is_unwanted: Callable[[], bool]) -> Steps:
    is_doubtful = part.is_doubtful = part.state is State.CREATING
    part.state = State.CREATING
    yield Save()
    for tried in range(MOST_TRIES):
        batch = (yield from _found_batch()) if is_doubtful else None
        if batch is not None:
            break
        require_wanted(is_unwanted)
        outcome = yield Create()
        if not isinstance(outcome, LlamaClientError):
            batch = outcome
            break
        require_triable(outcome)
        is_doubtful = part.is_doubtful = True
        yield Wait(wait_after_s(tried, outcome))
    else:
        batch = yield from _found_batch()
    if batch is None:
        raise GivenUpError("its batch could not be created")
    part.batch_id = batch.id
    part.created_at = now() if batch.created_at is None else batch.created_at
    part.state = State.CREATED
    yield Save()


def _found_batch() -> Generator[Step, Any, RemoteBatch | None]:
    """The batch whose creation was not answered; None: there is none."""
    for seconds in _LOOKS_S:
        if seconds:
            yield Wait(seconds)
        found: Sequence[RemoteBatch] | None = yield from asked(FindBatches())
        if found is None:
            why = "whether its batch was created is unknown, and the API lists none; look for it at the provider"
            raise GivenUpError(why, may_cost=True)
        if found:
            return next((each for each in found if each.status not in ("failed", "cancelled")), found[0])
    return None


def _cancel_others(part: Part, now: Callable[[], float]) -> Steps:
    """Cancels a second batch of the part: its creation was lost, and it came into the list after another was made."""
    try:
        for other in (yield from asked(FindBatches())) or ():
            if other.id != part.batch_id and other.status == "running":
                if other.id not in part.others:
                    part.others.append(other.id)
                    yield Save()
                yield from asked(Cancel(other.id))
    except GivenUpError:
        # It has ended meanwhile, or lists are refused now.
        return
    part.is_doubtful = now() < (part.created_at or 0.0) + _LISTED_AFTER_S


def _poll(part: Part, now: Callable[[], float], is_unwanted: Callable[[], bool]) -> Steps:
    assert part.batch_id is not None
    until = (part.created_at or now()) + part.window_s + _GRACE_S
    wait_s, tried = _FIRST_POLL_S, 0
    while True:
        if not part.is_cancelled and (is_unwanted() or now() > until):
            outcome = yield Cancel(part.batch_id)
            require_not_fatal(outcome)
            # One that cannot be cancelled any more is over; one that failed is asked again after the next look.
            part.is_cancelled = not isinstance(outcome, LlamaClientError) or not may_retry(outcome)
            wait_s = _FIRST_POLL_S
            yield Save()
        if part.is_doubtful:
            yield from _cancel_others(part, now)
        outcome = yield Retrieve(part.batch_id)
        if isinstance(outcome, RemoteBatch):
            tried, part.progress = 0, outcome.answered
            if outcome.status != "running":
                yield from _ended(part, outcome)
                return
        else:
            require_not_fatal(outcome)
            if not may_retry(outcome):
                raise GivenUpError(f"its batch is gone: {outcome}", may_cost=True)
            tried += 1
        if now() > until + _GRACE_S:
            raise GivenUpError("its batch has not ended, long after its window", may_cost=True)
        yield Wait(max(wait_s, wait_after_s(tried - 1, outcome)) if tried else wait_s)
        wait_s = min(wait_s * _POLL_GROWTH, _LONGEST_POLL_S)


def _ended(part: Part, batch: RemoteBatch) -> Steps:
    """Keeps what a batch that is over tells of itself. Its files may come some moments later."""
    for seconds in _FILE_LOOKS_S:
        if batch.output_file_id or batch.error_file_id or not batch.answered:
            break
        yield Wait(seconds)
        batch = yield from asked(Retrieve(batch.id))
    part.status = batch.status
    part.output_file_id, part.error_file_id = batch.output_file_id, batch.error_file_id
    if batch.status != "completed":
        told = f": {'; '.join(batch.problems)}" if batch.problems else ""
        part.why = f"its batch {_ENDED_AS.get(batch.status, batch.status)}{told}"
    elif batch.answered and not batch.output_file_id:
        part.why, part.status = "its batch has no file of answers", "unknown"
    part.state = State.ENDED
    yield Save()
