"""What providers list, and rows of the user for the catalogue and the prices; and the package's own files of facts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from llama_client import ConfigError, LlamaClientError
from llama_client.catalog.catalog import Catalog
from llama_client.config.schema import Config, read_config
from llama_client.crossover.throughput.measurements import Measurements
from llama_client.models import AsyncProviderDirectory, ProviderDirectory
from llama_client.providers.gguf.store import ModelStore
from llama_client.providers.registry import Providers
from tests.fuzz.sandbox import sandbox
from tests.fuzz.target import KEY, Target, require, require_no_secret, require_nothing_like_a_key, texts_of
from tests.fuzz.targets.scripted_server import KINDS, Server, providers, scripted
from tests.property.test_decoders import nearly

_DAY = date(2026, 11, 30)
_FORMS = ("listing", "rows", "record", "points")


class _Reader:
    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._providers: Providers = providers(KEY)
        self._open: list[Any] = [self._providers.get(kind) for kind in KINDS]
        self._folder = folder
        self._measured = Measurements(folder / "measurements.jsonl")
        self._store = ModelStore(folder)

    def close(self) -> None:
        self._providers.close()

    def check(self, data: bytes) -> None:
        """The first byte chooses what the rest is."""
        if data:
            getattr(self, f"_{_FORMS[data[0] % len(_FORMS)]}")(data[1:])

    def _listing(self, data: bytes) -> None:
        """A list of models, as each kind of server sends it; Ollama's answers two questions."""
        first, _, second = data.partition(b"\n\n")
        self._server.answers = [_http(first), _http(second or first)]
        kind = data[-1] % len(KINDS) if data else 0
        try:
            served = self._open[kind].served_models()
        except LlamaClientError as error:
            require_no_secret(texts_of(error), data)
            return
        for model in served:
            require(isinstance(model.id, str) and model.id, "a model has an id")
            for number in (model.context_tokens, model.size_bytes):
                require(number is None or 0 <= number <= 10**12, "counts are in bounds")
        self._server.answers = [_http(first), _http(second or first)]
        info = ProviderDirectory(self._providers)._ask(KINDS[kind])
        require_no_secret(iter((info.model_dump_json(),)), data)
        if kind == 0:
            self._server.answers = [_http(first)]
            again = asyncio.run(self._aask(kind))
            require(again == info, "the same list on an event loop")

    async def _aask(self, kind: int) -> Any:
        opened = providers(KEY)
        try:
            return await AsyncProviderDirectory(opened, None)._ask(KINDS[kind])  # type: ignore[arg-type]
        finally:
            await opened.aclose()

    def _rows(self, data: bytes) -> None:
        """Rows of the user, as JSON with the tables of the configuration."""
        try:
            values = json.loads(data)
            config = read_config(values if isinstance(values, dict) else {"models": values}, origin="fuzz")
        except (ValueError, RecursionError):
            return
        except ConfigError as error:
            require_nothing_like_a_key(texts_of(error))
            return
        self._use(config)

    def _use(self, config: Config) -> None:
        catalog = Catalog.bundled().extended([row.as_row() for row in config.models])
        for row in config.models:
            provider, _, model_id = row.target.partition("/")
            offer = catalog.offer(provider, model_id)
            require(offer is not None, "a row of the user is in the catalogue")
            require(catalog.find(row.name) is not None, "a name of the user is known")
            catalog.explain_retirement(provider, model_id, _DAY)
            catalog.nearest(row.target[1:], day=_DAY)
            catalog.ids(model_id)
        for price in config.prices:
            require(price.target, "a price is of a target")

    def _record(self, data: bytes) -> None:
        """The record of a pulled model."""
        (self._folder / "m.json").write_bytes(data)
        for model in self._store.all():
            require(model.path.is_file(), "a pulled model has a file")
        self._store.find("m")
        self._store.preferred()

    def _points(self, data: bytes) -> None:
        """What `bench` has measured."""
        self._measured.file.write_bytes(data)
        for point in self._measured.read().points:
            require(0 < point.output_tokens_per_s < float("inf"), "a rate is finite")


def _http(body: bytes) -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    return [head + body]


_MODEL = {"id": "m", "object": "model", "context_window": 8192, "meta": {"n_ctx": 4096}, "max_model_len": 4096}
_TAG = {"name": "m:latest", "size": 5, "remote_host": "x", "details": {"family": "llama"}}
_ROW = {"target": "ollama/m:8b", "name": "m", "aliases": ["n"], "context_tokens": 8, "deprecated_on": "2026-01-01"}
_PRICE = {"target": "groq/m", "input_usd_per_mtok": 0.075, "output_usd_per_mtok": 0.3, "effective_from": "2026-01-01"}
_RECORD = {"name": "m", "path": "m.json", "sha256": "0" * 64, "bytes": 5, "source": "x", "pulled_at": 1.5}
_POINT = {
    "model": "llama-3.1-8b", "gpu": "h100_sxm", "n_gpus": 1, "precision": "bf16", "engine": "vllm",
    "input_tokens": 512, "output_tokens": 128, "concurrency": 8, "output_tokens_per_s": 1500.5, "tpot_ms": 5.0,
    "ttft_ms": None, "measured_on": "2026-11-01",
}  # fmt: skip
_LISTS: dict[str, list[Any]] = {
    "listing": [{"object": "list", "data": [_MODEL]}, [_MODEL, {"id": KEY}], {"models": [_TAG]}, {"error": KEY}, {}],
    "rows": [{"models": [_ROW], "prices": [_PRICE]}, [_ROW, {**_ROW, "target": "groq/llama-3.3-70b-versatile"}]],
    "record": [_RECORD],
    "points": [_POINT],
}
_SEEDS = tuple(
    bytes((number,)) + json.dumps(value).encode() + end
    for number, form in enumerate(_FORMS)
    for value in _LISTS[form]
    for end in (b"", b" ", b"\n\n" + json.dumps({"models": [{**_TAG, "context_length": 4096}]}).encode(), b"  \n")
)
_WORDS = (
    b'{|}|[|]|,|:|"id":|"name":|"data":|"models":|"target":|"aliases":|"context_length":|null|true|1e400|-1|0|'
    b'10000000000000|"9999-12-31"|"0001-01-01"|"\\ud800"|"\\u0000"|"/"|\n\n|"size":|"deprecated_on":'
)
_TOKENS = (*_WORDS.split(b"|"), KEY.encode())


@st.composite
def _cases(draw: st.DrawFn) -> bytes:
    form = draw(st.sampled_from(_FORMS))
    value = draw(nearly(draw(st.sampled_from(_LISTS[form]))))
    return bytes((_FORMS.index(form),)) + json.dumps(value).encode() + b" " * draw(st.integers(0, 3))


@contextmanager
def opened() -> Iterator[Target]:
    with scripted() as server, sandbox() as folder:
        reader = _Reader(server, folder)
        yield Target("catalogue", reader.check, _SEEDS, _cases(), _TOKENS, lines=(100_000, 1500))
        reader.close()
