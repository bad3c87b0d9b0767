"""The store of pulled models: records, each with the path and checksum of a GGUF file."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs
from pydantic import TypeAdapter

from llama_client.config.environment import CACHE_VARIABLE
from llama_client.config.files import atomic_file
from llama_client.config.load import APP_NAME, expanded
from llama_client.errors import InvalidRequestError, ModelLoadError
from llama_client.providers.gguf.header import present_parts, size_of
from llama_client.validation import quoted, suggestion

# Reports progress: the step, the bytes done, and all bytes (None: unknown).
Progress = Callable[[str, int, int | None], None]
BLOCK_BYTES = 1 << 20


def checksum(path: Path, progress: Progress) -> str:
    """The SHA-256 of a model's file; of a split model, that of its parts one after another."""
    return checksums(present_parts(path), progress)[0]


def checksums(paths: Sequence[Path], progress: Progress) -> tuple[str, list[str]]:
    """The SHA-256 of files one after another, and that of each."""
    whole, each, done = hashlib.sha256(), list[str](), 0
    path = paths[0]
    try:
        total = sum(path.stat().st_size for path in paths)
        for path in paths:
            own = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(BLOCK_BYTES):
                    own.update(block)
                    if len(paths) > 1:
                        whole.update(block)
                    done += len(block)
                    progress("checking", done, total)
            each.append(own.hexdigest())
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror or error}", path=str(path)) from error
    return (whole.hexdigest() if len(paths) > 1 else each[0]), each


DEMO_NAME = "smollm2-135m"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
# Of a file, and of the first part of a model.
_ENDING = re.compile(r"(-\d{5}-of-\d{5})?\.gguf\Z")
# Reserved by Windows for devices, with any suffix.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


@dataclass(frozen=True, slots=True)
class StoredModel:
    name: str
    path: Path
    sha256: str
    bytes: int
    source: str
    pulled_at: float


class ModelStore:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_user(cls, environ: Mapping[str, str] | None = None) -> ModelStore:
        """The store in the user's cache folder, or in `$LLAMA_CLIENT_CACHE_DIR`."""
        chosen = (os.environ if environ is None else environ).get(CACHE_VARIABLE)
        cache = expanded(chosen) if chosen else platformdirs.user_cache_path(APP_NAME, appauthor=False)
        return cls(cache / "models")

    def find(self, name: str) -> StoredModel | None:
        if not _NAME.fullmatch(name):
            return None
        model = self._read(self._record(name))
        return model if model is not None and model.path.is_file() else None

    def all(self) -> list[StoredModel]:
        """Every model whose file exists, newest first."""
        models = [self._read(path) for path in self.folder.glob("*.json")]
        present = [model for model in models if model is not None and model.path.is_file()]
        return sorted(present, key=lambda model: model.pulled_at, reverse=True)

    def preferred(self) -> StoredModel | None:
        """The default model: the one pulled last, the demo model only if there is no other."""
        pulled = self.all()
        return next((model for model in pulled if model.name != DEMO_NAME), pulled[0] if pulled else None)

    def names(self) -> list[str]:
        return [model.name for model in self.all()]

    def add(self, name: str, path: Path, *, sha256: str, source: str) -> StoredModel:
        """Records a model under a name, and replaces an earlier one of that name."""
        model = StoredModel(checked_name(name), path, sha256, size_of(path), source, time.time())
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(self._record(name)) as file:
            file.write(json.dumps(asdict(model), default=str).encode())
        return model

    def _record(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _read(self, path: Path) -> StoredModel | None:
        try:
            return _record_adapter().validate_json(path.read_bytes(), strict=True)
        except (OSError, ValueError):
            return None


@functools.cache
def _record_adapter() -> TypeAdapter[StoredModel]:
    # Built when the first record is read: it takes a moment.
    return TypeAdapter(StoredModel)


def not_pulled(name: str, known: Sequence[str]) -> tuple[str, str]:
    """The message about a model that the store does not have, and the remedy; `known`: what may be meant."""
    near = suggestion(name.strip(), known) if name.strip() else ""
    if name and not re.search(r"\s", name):
        return f"no model named {name!r} has been pulled{near}", f"run `llama-client pull {name}`"
    # What no model can be named needs no pulling.
    said = f"no model is named {quoted(name)}{near}" if name.strip() else "the name of the model is empty"
    return said, f"name one of {', '.join(known)}"


def checked_name(name: str) -> str:
    if not _NAME.fullmatch(name) or _RESERVED.fullmatch(name):
        raise InvalidRequestError(
            f"name: must be lowercase letters, digits, '.', '_' and '-', starting with a letter or digit, got {name!r}",
            param="name",
        )
    return name


def name_from(text: str) -> str:
    """A valid name, derived from a file's or a model's own."""
    name = _ENDING.sub("", text.lower())
    name = re.sub(r"[^a-z0-9._-]+", "-", name).strip("-._")[:128]
    return checked_name(f"model-{name}" if _RESERVED.fullmatch(name) else name or "model")
