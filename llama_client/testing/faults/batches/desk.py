"""The files and batches of a batch API, and the requests about them. No I/O; the time is handed in."""

from __future__ import annotations

import hashlib
import random
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from llama_client.testing.faults.batches.answering import read_requests, written
from llama_client.testing.faults.batches.plays import BatchKind, BatchPlay, Mishap, Step
from llama_client.testing.faults.batches.shapes import (
    Batch,
    File,
    batch_json,
    file_json,
    refusal,
    spoilt,
    step_of,
)
from llama_client.testing.faults.batches.uploads import read_form
from llama_client.testing.loopback import Answer, Received, as_json, whole

_PATH = re.compile(r"(?:/openai)?/v1/(files|batches)(?:/([^/]+))?(?:/(content|cancel|preprocess|put))?")
_RETRY_AFTER = {"retry-after": "2"}
_ENDS = ("completed", "failed", "expired", "cancelled")
_PAGE = 20


class Desk:
    """One batch API.

    Args:
        kind: Whose.
        now: Unix time, by the server's clock.
        url: Gives the server's address.
    """

    def __init__(self, kind: BatchKind, now: Callable[[], float], url: Callable[[], str]) -> None:
        self.kind = kind
        self._now = now
        self._url = url
        self.lock = threading.RLock()
        self.files: dict[str, File] = {}
        self.batches: dict[str, Batch] = {}
        self.asked: Counter[str] = Counter()
        self.cancelled = 0
        self.plays: deque[BatchPlay] = deque()
        self.play = BatchPlay()
        self.mishaps: dict[str, deque[Mishap]] = {}
        self.chance: tuple[float, random.Random, Sequence[Mishap]] | None = None
        self._numbers = 0

    def answer(self, received: Received) -> Answer | None:
        """The answer to a request; None: it is not about files and batches."""
        parts = urlsplit(received.path)
        found = _PATH.fullmatch(parts.path)
        if found is None:
            return None
        with self.lock:
            what, identity, action = found.groups()
            step = step_of(received.method, what, identity, action)
            if step is None:
                return refusal(404, "no such path")
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            self.asked[step] += 1
            mishap = self._mishap(step)
            if mishap in ("500", "429", "401", "404"):
                headers = _RETRY_AFTER if mishap == "429" else {}
                return refusal(int(mishap), f"the server says {mishap}", headers)
            if mishap == "reset":
                return Answer((), "reset")
            answer = self._done(step, received, identity or "", action, query)
            return spoilt(answer, mishap)

    def settle(self) -> None:
        """Brings every batch to where it is by now."""
        with self.lock:
            for batch in self.batches.values():
                self._progress(batch)

    def _mishap(self, step: Step) -> Mishap | None:
        planned = self.mishaps.get(step)
        if planned:
            return planned.popleft()
        if self.chance is not None:
            rate, chance, mishaps = self.chance
            if chance.random() < rate:
                return chance.choice(mishaps)
        return None

    def _done(
        self, step: Step, received: Received, identity: str, action: str | None, query: Mapping[str, str]
    ) -> Answer:
        match step:
            case "upload":
                return self._upload(received)
            case "put":
                return self._put(received, identity, action)
            case "create":
                return self._create(received.json)
            case "list_files":
                files = [each for each in self.files.values() if not each.is_deleted]
                return self._listed([file_json(self.kind, each) for each in files], query)
            case "list_batches":
                self.settle()
                now = self._now()
                listed = [each for each in self.batches.values() if now >= each.created_at + each.play.listed_after_s]
                return self._listed([batch_json(self.kind, each) for each in listed], query)
            case "retrieve" | "cancel":
                return self._about_batch(step, identity)
            case _:
                return self._about_file(step, identity)

    def _put(self, received: Received, identity: str, action: str | None) -> Answer:
        file = self.files.get(identity)
        if file is None:
            return refusal(404, "no such file")
        if action == "put":
            file.content, file.is_whole = received.body, True
            return whole(b"")
        return as_json(file_json(self.kind, file))

    def _upload(self, received: Received) -> Answer:
        form = read_form(received.headers.get("content-type", ""), received.body)
        if self.kind != "together":
            if form.file_name is None or form.fields.get("purpose") != "batch":
                return refusal(400, "a file with the purpose batch is needed")
            file = self._new_file(form.file_name, "batch", form.content)
            return as_json(file_json(self.kind, file))
        checksum = form.fields.get("checksum", "")
        same = [
            each for each in self.files.values() if each.checksum == checksum and each.is_whole and not each.is_deleted
        ]
        if same:
            return as_json({"file_id": same[0].id}, status=409)
        file = self._new_file(form.fields["file_name"], form.fields["purpose"], b"")
        file.checksum, file.is_whole = checksum, False
        headers = {"location": f"{self._url()}/v1/files/{file.id}/put", "x-together-file-id": file.id}
        return as_json({}, status=302, headers=headers)

    def _create(self, asked: Mapping[str, Any]) -> Answer:
        file = self.files.get(asked.get("input_file_id", ""))
        if file is None or file.is_deleted or not file.is_whole:
            return refusal(400, "no such file")
        file.is_used = True
        play = self.plays.popleft() if self.plays else self.play
        problem = play.problem if play.ending == "failed" else None
        requests: list[dict[str, Any]] = []
        try:
            requests = read_requests(file.content)
        except ValueError as error:
            problem = str(error)
        batch = Batch(self._new_id("batch"), file.id, asked.get("metadata"), self._now(), play, requests, problem)
        self.batches[batch.id] = batch
        described = batch_json(self.kind, batch)
        return as_json({"job": described} if self.kind == "together" else described)

    def _about_batch(self, step: Step, identity: str) -> Answer:
        batch = self.batches.get(identity)
        if batch is None:
            return refusal(404, "no such batch")
        self._progress(batch)
        if step == "cancel" and batch.status not in _ENDS:
            batch.is_cancelling = True
            batch.status = "cancelling"
            self.cancelled += 1
        return as_json(batch_json(self.kind, batch))

    def _about_file(self, step: Step, identity: str) -> Answer:
        file = self.files.get(identity)
        if file is None or file.is_deleted:
            return refusal(404, "no such file")
        if step == "delete":
            file.is_deleted = True
            return as_json({"id": identity, "object": "file", "deleted": True})
        return whole(file.content, headers={"content-type": "application/octet-stream"})

    def _progress(self, batch: Batch) -> None:
        if batch.status in _ENDS:
            return
        play, passed_s = batch.play, self._now() - batch.created_at
        if batch.is_cancelling:
            share = 1.0 if not play.takes_s else min(passed_s / play.takes_s, play.answered)
            self._end(batch, "cancelled", share)
        elif passed_s < play.takes_s or play.ending == "never":
            batch.status = "in_progress"
        elif batch.problem is not None:
            batch.status = "failed"
        else:
            self._end(batch, play.ending, play.answered if play.ending == "expired" else 1.0)

    def _end(self, batch: Batch, status: str, share: float) -> None:
        files = written(self.kind, batch.requests, share, batch.play, status)
        batch.status, batch.billed = status, files.billed
        purpose = "batch_output"
        if files.answers is not None:
            output = self._new_file(f"{batch.id}_output.jsonl", purpose, files.answers)
            output.is_used, output.is_deleted = True, not batch.play.has_output
            batch.output_file_id = output.id
        if files.errors is not None:
            errors = self._new_file(f"{batch.id}_error.jsonl", purpose, files.errors)
            errors.is_used = True
            batch.error_file_id = errors.id

    def _new_file(self, name: str, purpose: str, content: bytes) -> File:
        file = File(self._new_id("file"), name, purpose, int(self._now()), content)
        file.checksum = hashlib.sha256(content).hexdigest()
        self.files[file.id] = file
        return file

    def _new_id(self, what: str) -> str:
        self._numbers += 1
        return f"{what}-{self._numbers:06d}"

    def _listed(self, rows: list[dict[str, Any]], query: Mapping[str, str]) -> Answer:
        newest = rows[::-1]
        if self.kind == "together":
            return as_json({"data": newest} if newest and "filename" in newest[0] else newest)
        if self.kind == "groq":
            return as_json({"object": "list", "data": newest})
        ids = [row["id"] for row in newest]
        start = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
        end = start + int(query.get("limit", _PAGE))
        return as_json({"object": "list", "data": newest[start:end], "has_more": end < len(newest)})
