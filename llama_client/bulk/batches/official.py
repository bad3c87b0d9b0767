"""The batch APIs behind the official packages of OpenAI (and whatever is compatible with it), Groq and Together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeVar

from llama_client.bulk.batches.api import BatchApi, BatchStatus, RemoteBatch, RemoteFile
from llama_client.bulk.batches.limits import LIMITS, BatchLimits, window_name
from llama_client.errors import InvalidResponseError, JobError, ProviderError, UnsupportedFeatureError
from llama_client.providers.http.provider import HttpProvider

T = TypeVar("T")

_ENDPOINT = "/v1/chat/completions"
# The key of a batch's metadata that holds its name.
_NAME = "llama_client"
_ENDS: Mapping[str, BatchStatus] = {
    "completed": "completed", "failed": "failed", "expired": "expired", "cancelled": "cancelled",
    "canceled": "cancelled",
}  # fmt: skip
# A list is read until here; what is looked for is among the newest.
_MOST_LISTED = 10_000
_PAGE = 100
# Of one exchange; an upload of 100 MB over a slow line takes minutes.
_TIMEOUT_S, _TRANSFER_TIMEOUT_S = 60.0, 1800.0
_CHUNK_BYTES = 1 << 16
# A file of 50,000 long answers; more is no answer to what was asked.
_MOST_FILE_BYTES = 8 << 30
_NO_SUCH_PATH = (404, 405, 501)
_MAX_PROBLEMS, _MAX_PROBLEM_CHARS = 5, 300


class OfficialBatches:
    """What the three have in common: OpenAI's shape.

    Args:
        provider: The provider whose client, key and connections are used.
        limits: Those of its API.
        package: The official package.
    """

    def __init__(self, provider: HttpProvider, limits: BatchLimits, package: str) -> None:
        self.limits = limits
        self._provider = provider
        self._package = package

    def upload(self, path: Path) -> str:
        def upload() -> str:
            with path.open("rb") as file:
                client = self._client(_TRANSFER_TIMEOUT_S)
                return self._id(client.files.create(file=(path.name, file), purpose=self.limits.purpose))

        return self._asked(upload)

    def files_named(self, name: str) -> Sequence[RemoteFile] | None:
        def listed() -> list[RemoteFile]:
            files = self._listed(self._client().files)
            ours = [each for each in files if getattr(each, "filename", None) == name]
            return [RemoteFile(self._id(each), getattr(each, "bytes", None)) for each in ours]

        return self._if_listed(listed)

    def create(self, file_id: str, name: str, window_s: float) -> RemoteBatch:
        return self._asked(lambda: self._batch(self._created(file_id, name, window_name(window_s, self.limits)[0])))

    def batches_named(self, name: str, file_id: str) -> Sequence[RemoteBatch] | None:
        def is_wanted(batch: Any) -> bool:
            metadata = getattr(batch, "metadata", None)
            has_name = isinstance(metadata, Mapping) and metadata.get(_NAME) == name
            return has_name or getattr(batch, "input_file_id", None) == file_id

        def listed() -> list[RemoteBatch]:
            return [self._batch(each) for each in self._listed(self._client().batches) if is_wanted(each)]

        return self._if_listed(listed)

    def retrieve(self, batch_id: str) -> RemoteBatch:
        return self._asked(lambda: self._batch(self._client().batches.retrieve(batch_id)))

    def cancel(self, batch_id: str) -> None:
        self._asked(lambda: self._client().batches.cancel(batch_id))

    def download(self, file_id: str, to: Path) -> None:
        def download() -> None:
            files = self._client(_TRANSFER_TIMEOUT_S).files
            with files.with_streaming_response.content(file_id) as response, _written(to) as file:
                size = 0
                for piece in response.iter_bytes(_CHUNK_BYTES):
                    size += len(piece)
                    if size > _MOST_FILE_BYTES:
                        raise InvalidResponseError(f"the file {file_id} is longer than 8 GiB", retryable=False)
                    _write(file, piece)

        self._asked(download)

    def delete(self, file_id: str) -> None:
        try:
            self._asked(lambda: self._client().files.delete(file_id))
        except ProviderError as error:
            if error.http_status not in (404, 410):
                raise

    def _created(self, file_id: str, name: str, window: str) -> Any:
        more = {"metadata": {_NAME: name}} if self.limits.has_metadata else {}
        return self._client().batches.create(
            input_file_id=file_id, endpoint=_ENDPOINT, completion_window=window, **more
        )

    def _listed(self, resource: Any) -> Iterable[Any]:
        # OpenAI's lists fetch their next page themselves.
        return islice(resource.list(limit=_PAGE), _MOST_LISTED)

    def _client(self, timeout_s: float = _TIMEOUT_S) -> Any:
        # Nothing is tried again below: a second try of a creation would make a second batch.
        client: Any = self._provider.client_of(self._package)
        return client.with_options(max_retries=0, timeout=timeout_s)

    def _asked(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except Exception as error:
            told = self._provider.of_sdk(error)
            if told is error:
                raise
            raise told from error

    def _if_listed(self, ask: Callable[[], T]) -> T | None:
        try:
            return self._asked(ask)
        except ProviderError as error:
            if error.http_status in _NO_SUCH_PATH:
                return None
            raise

    def _id(self, answer: Any) -> str:
        identity = getattr(answer, "id", None)
        if not isinstance(identity, str) or not identity:
            raise InvalidResponseError(f"{self._provider.name} sent a file or batch without an id")
        return identity

    def _batch(self, batch: Any) -> RemoteBatch:
        status = str(getattr(batch, "status", None) or "").lower()
        counts = getattr(batch, "request_counts", None)
        return RemoteBatch(
            id=self._id(batch),
            status=_ENDS.get(status, "running"),
            file_id=str(getattr(batch, "input_file_id", None) or ""),
            created_at=_moment(getattr(batch, "created_at", None)),
            output_file_id=getattr(batch, "output_file_id", None) or None,
            error_file_id=getattr(batch, "error_file_id", None) or None,
            answered=getattr(counts, "completed", None),
            problems=_problems(batch),
        )


class GroqBatches(OfficialBatches):
    """Groq's, whose lists have one page."""

    def _listed(self, resource: Any) -> Iterable[Any]:
        return islice(resource.list().data, _MOST_LISTED)


class TogetherBatches(OfficialBatches):
    """Together's: without metadata, with an upload in three steps, and a creation whose answer holds the batch."""

    def upload(self, path: Path) -> str:
        # Its own check of the file reads all of it once more, and the server checks it too.
        client = self._client(_TRANSFER_TIMEOUT_S)
        return self._asked(lambda: self._id(client.files.upload(path, purpose=self.limits.purpose, check=False)))

    def _created(self, file_id: str, name: str, window: str) -> Any:
        return getattr(super()._created(file_id, name, window), "job", None)

    def _listed(self, resource: Any) -> Iterable[Any]:
        listed = resource.list()
        return islice(getattr(listed, "data", listed) or (), _MOST_LISTED)


_KINDS: Mapping[str, tuple[type[OfficialBatches], str]] = {
    "groq": (GroqBatches, "groq"), "together": (TogetherBatches, "together"), "openai": (OfficialBatches, "openai"),
}  # fmt: skip


def has_batches(kind: str) -> bool:
    """Whether a kind of provider has a batch API that is known here."""
    return kind in _KINDS


def batch_api(provider: object, kind: str) -> BatchApi:
    """The batch API of a provider.

    Args:
        provider: The provider.
        kind: Its kind.

    Raises:
        UnsupportedFeatureError: It has none.
    """
    if kind not in _KINDS or not isinstance(provider, HttpProvider):
        known = ", ".join(_KINDS)
        raise UnsupportedFeatureError(f"providers of kind {kind!r} have no batch API here (these have: {known})")
    made, package = _KINDS[kind]
    return made(provider, LIMITS[kind], package)


@contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    try:
        file = path.open("wb", buffering=0)
    except OSError as error:
        raise _unwritable(path, error) from error
    with file:
        yield file


def _write(file: IO[bytes], piece: bytes) -> None:
    """Writes all of a piece. What the disk refuses is no failure of the connection."""
    try:
        written = 0
        while written < len(piece):
            written += file.write(piece[written:])
    except OSError as error:
        raise _unwritable(Path(file.name), error) from error


def _unwritable(path: Path, error: OSError) -> JobError:
    message = f"{path}: cannot be written ({error.strerror or error}); make room, and resume the job"
    return JobError(message, folder=path.parent)


def _moment(told: object) -> float | None:
    if isinstance(told, datetime):
        return told.timestamp()
    return float(told) if isinstance(told, int | float) and not isinstance(told, bool) else None


def _problems(batch: Any) -> tuple[str, ...]:
    listed = getattr(getattr(batch, "errors", None), "data", None) or ()
    texts = []
    for each in list(listed)[:_MAX_PROBLEMS]:
        line = getattr(each, "line", None)
        place = f"line {line}: " if isinstance(line, int) else ""
        texts.append(f"{place}{getattr(each, 'message', None) or getattr(each, 'code', None) or 'no reason given'}")
    told = getattr(batch, "error", None)
    if isinstance(told, str) and told:
        texts.append(told)
    return tuple(text[:_MAX_PROBLEM_CHARS] for text in texts)
