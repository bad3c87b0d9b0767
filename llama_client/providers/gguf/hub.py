"""Models of the Hugging Face hub, by the hub's own library: its cache, its token, its mirrors, resumed downloads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from llama_client.errors import (
    APIConnectionError,
    InvalidRequestError,
    LlamaClientError,
    ModelLoadError,
    ModelNotFoundError,
    PermissionDeniedError,
    ServerError,
)
from llama_client.providers.gguf.checksum import Progress, checksum

_SHA256 = re.compile(r"[0-9a-f]{64}")


def download(reference: str, progress: Progress) -> tuple[Path, str]:
    """A file of the hub, by `ORG/REPO/FILE.gguf`.

    Returns:
        Where it lies in the hub's own cache, and its SHA-256, checked against what the hub says.

    Raises:
        LlamaClientError: See `pull`.
    """
    import huggingface_hub as hub

    organisation, _, rest = reference.partition("/")
    repository, _, file = rest.partition("/")
    if not (organisation and repository and file.endswith(".gguf")):
        raise InvalidRequestError(f"name: must be hf:ORG/REPO/FILE.gguf, got {'hf:' + reference!r}", param="name")
    repo_id = f"{organisation}/{repository}"
    try:
        progress("downloading", 0, None)
        expected = hub.get_hf_file_metadata(hub.hf_hub_url(repo_id, file)).etag or ""
        path = Path(hub.hf_hub_download(repo_id, file, tqdm_class=_reporting(progress)))
        found = checksum(path, progress)
    except Exception as error:
        raise _translated(error, repo_id, file) from error
    # Large files carry their SHA-256 as their tag; others carry git's own, which says nothing here.
    if _SHA256.fullmatch(expected) and found != expected:
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise ModelLoadError(
            f"{file} arrived damaged (SHA-256 {found}, expected {expected}) and was removed: pull it again",
            path=str(path),
        )
    return path, found


def _reporting(progress: Progress) -> Any:
    """The hub draws its bars with tqdm; this one draws nothing and reports."""
    from tqdm import tqdm

    class Reporter(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._bytes = kwargs.get("initial") or 0
            self._all_bytes = kwargs.get("total")
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            self._bytes += int(n or 0)
            progress("downloading", self._bytes, self._all_bytes)
            return None

    return Reporter


def _translated(error: Exception, repo_id: str, file: str) -> LlamaClientError:
    from huggingface_hub import errors as hub_errors

    known: dict[str, Any] = {"provider": "huggingface", "target": f"hf:{repo_id}/{file}"}
    match error:
        case hub_errors.GatedRepoError():
            return PermissionDeniedError(
                f"{repo_id} is gated: accept its licence at https://huggingface.co/{repo_id}, then set HF_TOKEN",
                **known,
            )
        case hub_errors.RepositoryNotFoundError():
            return ModelNotFoundError(
                f"the hub has no repository {repo_id}, or it is private (then set HF_TOKEN)", **known
            )
        case hub_errors.LocalEntryNotFoundError() | hub_errors.OfflineModeIsEnabled():
            return APIConnectionError(f"the hub cannot be reached: {_first_line(error)}", **known)
        case hub_errors.EntryNotFoundError():
            return ModelNotFoundError(f"{repo_id} has no file {file}", **known)
        case hub_errors.HFValidationError():
            return InvalidRequestError(f"name: {_first_line(error)}", param="name")
        case hub_errors.HfHubHTTPError():
            status = error.response.status_code
            return ServerError(f"the hub answered with an error: {_first_line(error)}", http_status=status, **known)
        case OSError() if error.errno is not None and error.filename is not None:
            return ModelLoadError(f"{error.filename} cannot be written: {error.strerror}", path=str(error.filename))
        case _:
            return APIConnectionError(f"the download failed: {_first_line(error)}", **known)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
