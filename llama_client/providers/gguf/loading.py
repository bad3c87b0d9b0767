"""Loads a GGUF file with xllamacpp, silently, and says what is wrong where that fails."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_client.errors import ModelLoadError, ProviderNotInstalledError
from llama_client.providers.gguf.header import GgufHeader, read_header

# The context where the configuration names none: enough for a long chat, and 1 GiB of cache for an 8B model.
DEFAULT_CONTEXT_TOKENS = 8192
# A prompt can be stopped once a batch, when its progress is reported. On a CPU 256 tokens at a time read a prompt at
# 0.98 of the speed of the library's own 512 (measured, 135M model), and are done twice as soon; a GPU needs the larger.
_CPU_BATCH_TOKENS, _GPU_BATCH_TOKENS = 256, 512
_DIAGNOSIS_TIMEOUT_S = 120.0
_SILENT, _ERRORS_ONLY = 0, 1
# A line of llama.cpp's log at level "error": `0.00.121.281 E llama_model_load: error loading model: ...`.
_LOG_ERROR = re.compile(r"^[\d.]+ E (?:\S+ +)*?\w+: (?:error loading model: |error: )?(?P<reason>.+)$")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """All that makes one loaded engine differ from another.

    Attributes:
        model_path: The real path of the model.
        n_ctx: The context of one request in tokens; None: the trained one, at most DEFAULT_CONTEXT_TOKENS.
        n_parallel: How many requests are worked on at once.
        n_gpu_layers: Layers on the GPU; None: as many as fit.
        n_threads: CPU threads; None: the library's choice.
        mmproj: The real path of the projector that lets the model see images.
        lora: Adapters as (real path, scale).
    """

    model_path: Path
    n_ctx: int | None = None
    n_parallel: int = 1
    n_gpu_layers: int | None = None
    n_threads: int | None = None
    mmproj: Path | None = None
    lora: tuple[tuple[Path, float], ...] = ()


def load_server(options: EngineOptions, api_key: str) -> Any:
    """The library's server for a model, its loopback port closed to all who lack the key.

    Raises:
        ModelLoadError: A file is missing, is no GGUF file, is damaged, or the library refuses it.
        ProviderNotInstalledError: xllamacpp is not installed.
    """
    xllamacpp = _library()
    header = read_header(options.model_path)
    _check_kinds(options, header)
    n_ctx = options.n_ctx or min(header.context_tokens or DEFAULT_CONTEXT_TOKENS, DEFAULT_CONTEXT_TOKENS)
    parameters = _parameters(xllamacpp, options, n_ctx, verbosity=_SILENT)
    parameters.api_keys = [api_key]
    try:
        return xllamacpp.Server(parameters)
    except Exception as error:
        # The library's own text is one for all cases: "Failed to init server, please check the input params."
        reason = _diagnose(options, n_ctx) or "llama.cpp refused it without saying why"
        raise ModelLoadError(f"cannot load {options.model_path}: {reason}", path=str(options.model_path)) from error


def _library() -> Any:
    try:
        import xllamacpp
    except ImportError as error:
        raise ProviderNotInstalledError(
            'running GGUF files needs the "gguf" extra: pip install "llama-client[gguf]"', extra="gguf"
        ) from error
    return xllamacpp


def _check_kinds(options: EngineOptions, header: GgufHeader) -> None:
    if header.is_adapter:
        raise ModelLoadError(
            f"cannot load {options.model_path}: it is a LoRA adapter, not a model; "
            "name the model in model_path and the adapter in lora",
            path=str(options.model_path),
        )
    if options.mmproj is not None:
        read_header(options.mmproj)
    for path, _ in options.lora:
        if not read_header(path).is_adapter:
            raise ModelLoadError(f"cannot load {path} as a LoRA adapter: it is not one", path=str(path))


def _parameters(xllamacpp: Any, options: EngineOptions, n_ctx: int, *, verbosity: int) -> Any:
    parameters = xllamacpp.CommonParams()
    parameters.verbosity = verbosity
    parameters.model.path = str(options.model_path)
    # What answers call the model; without it they would carry the file's path.
    parameters.model_alias = {options.model_path.stem}
    # The library divides its context among its slots; ours is what one request may use.
    parameters.n_ctx = n_ctx * options.n_parallel
    parameters.n_parallel = options.n_parallel
    on_gpu = any("GPU" in device["type"].name for device in xllamacpp.get_device_info())
    parameters.n_batch = _GPU_BATCH_TOKENS if on_gpu else _CPU_BATCH_TOKENS
    # The library would keep up to 8 GiB of earlier prompts in memory; each slot still keeps its last one.
    parameters.cache_ram_mib = 0
    parameters.ui = False
    if options.n_gpu_layers is not None:
        parameters.n_gpu_layers = options.n_gpu_layers
    if options.n_threads is not None:
        parameters.cpuparams.n_threads = options.n_threads
        parameters.cpuparams_batch.n_threads = options.n_threads
    if options.mmproj is not None:
        parameters.mmproj.path = str(options.mmproj)
    if options.lora:
        parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(path), scale) for path, scale in options.lora]
    return parameters


def _diagnose(options: EngineOptions, n_ctx: int) -> str | None:
    """Why the library refuses a model: it only tells its log, so a child process loads the model again, aloud.

    Redirecting this process's own stderr would swallow what other threads write meanwhile.
    """
    if getattr(sys, "frozen", False) or not Path(sys.executable or "").stem.startswith("python"):
        return None
    task = {
        "model_path": str(options.model_path),
        "n_ctx": n_ctx,
        "n_parallel": options.n_parallel,
        "n_gpu_layers": options.n_gpu_layers,
        "n_threads": options.n_threads,
        "mmproj": str(options.mmproj) if options.mmproj else None,
        "lora": [[str(path), scale] for path, scale in options.lora],
    }
    code = f"from {__name__} import load_aloud; load_aloud()"
    try:
        child = subprocess.run(  # noqa: S603 - our own interpreter and our own code
            [sys.executable, "-P", "-c", code],  # -P: nothing of the working folder is imported
            input=json.dumps(task),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_DIAGNOSIS_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return reason_in_log(child.stderr)


def reason_in_log(log: str) -> str | None:
    """The first error in llama.cpp's log, without its decoration."""
    for line in log.splitlines():
        match = _LOG_ERROR.match(line)
        if match:
            return match["reason"].strip()
    return None


def load_aloud() -> None:
    """Loads the model that standard input describes, with the library's errors on standard error. For `_diagnose`."""
    task: Mapping[str, Any] = json.load(sys.stdin)
    options = EngineOptions(
        model_path=Path(task["model_path"]),
        n_parallel=task["n_parallel"],
        n_gpu_layers=task["n_gpu_layers"],
        n_threads=task["n_threads"],
        mmproj=Path(task["mmproj"]) if task["mmproj"] else None,
        lora=tuple((Path(path), scale) for path, scale in task["lora"]),
    )
    xllamacpp = _library()
    try:
        server = xllamacpp.Server(_parameters(xllamacpp, options, task["n_ctx"], verbosity=_ERRORS_ONLY))
    except RuntimeError:
        server = None
    # Not by way of the server's destructor, which may wait for ever where nothing was asked of the server.
    sys.stderr.flush()
    os._exit(1 if server is None else 0)
