"""Models that a local Ollama has downloaded: its manifests name blobs, and a model's blob is a plain GGUF file.

The layout (github.com/ollama/ollama, server/manifest.go): `manifests/HOST/NAMESPACE/MODEL/TAG` is JSON with layers;
`blobs/sha256-HEX` holds each.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_client.errors import InvalidRequestError, ModelNotFoundError

_MODEL_LAYER = "application/vnd.ollama.image.model"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Where Ollama's Linux service, which runs as a user of its own, keeps them.
_SERVICE_FOLDER = Path("/usr/share/ollama/.ollama/models")


def find_blob(name: str, *, environ: Mapping[str, str] | None = None, home: Path | None = None) -> tuple[Path, str]:
    """The GGUF file of an Ollama model, and the SHA-256 that Ollama knows it by.

    Args:
        name: As `ollama list` shows it: `llama3.2:3b`; the tag is `latest` where none is given.
        environ: The environment; None: the process's own.
        home: The user's home; None: the process's own.

    Raises:
        InvalidRequestError: That cannot be a name.
        ModelNotFoundError: Ollama has not downloaded it, or keeps it in another form.
    """
    relative = _manifest_path(name)
    folders = _folders(os.environ if environ is None else environ, home)
    manifest = next(
        (folder / "manifests" / relative for folder in folders if _is_file(folder / "manifests" / relative)), None
    )
    if manifest is None:
        raise ModelNotFoundError(
            f"Ollama has no model {name!r} on this machine: run `ollama pull {name}`", provider="ollama"
        )
    folder = manifest.parents[4]
    for layer in _layers(manifest):
        digest = _DIGEST.fullmatch(str(layer.get("digest", "")))
        if layer.get("mediaType") == _MODEL_LAYER and digest:
            blob = folder / "blobs" / f"sha256-{digest[1]}"
            if not _is_file(blob):
                raise ModelNotFoundError(
                    f"Ollama's manifest of {name!r} names a file that is not there: run `ollama pull {name}` again",
                    provider="ollama",
                )
            return blob, digest[1]
    raise ModelNotFoundError(
        f"Ollama does not keep {name!r} as one GGUF file, so it runs only there", provider="ollama"
    )


def _manifest_path(name: str) -> Path:
    path, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        path, tag = name, ""
    parts = path.split("/")
    parts = [*("registry.ollama.ai", "library")[: 3 - len(parts)], *parts, tag or "latest"]
    if len(parts) != 4 or not all(_PART.fullmatch(part) for part in parts):
        raise InvalidRequestError(f"name: must be as `ollama list` shows it (llama3.2:3b), got {name!r}", param="name")
    return Path(*parts)


def _folders(environ: Mapping[str, str], home: Path | None) -> list[Path]:
    chosen = environ.get("OLLAMA_MODELS")
    if chosen:
        return [Path(chosen).expanduser()]
    return [(home or Path.home()) / ".ollama" / "models", _SERVICE_FOLDER]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # another user's folder
        return False


def _layers(manifest: Path) -> list[dict[str, Any]]:
    try:
        layers = json.loads(manifest.read_text(encoding="utf-8")).get("layers")
        return [layer for layer in layers if isinstance(layer, dict)]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ModelNotFoundError(f"Ollama's manifest {manifest} cannot be read: {error}", provider="ollama") from error
