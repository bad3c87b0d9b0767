"""A configuration file of any bytes: a `Config`, or a `ConfigError` that shows no key."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from llama_client import ConfigError
from llama_client.cli.config_show import _document, _heading, _row, _toml
from llama_client.config.effective import effective_values
from llama_client.config.load import FILE_NAME, find_config, load_config
from llama_client.diagnostics.config_check import check_config
from llama_client.diagnostics.machine import Environment
from llama_client.providers.gguf.store import ModelStore
from tests.fuzz.sandbox import sandbox
from tests.fuzz.target import KEY, Target, require, require_nothing_like_a_key, texts_of
from tests.property.test_decoders import nearly


class _Reader:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / FILE_NAME
        self._environment = Environment(environ={}, folder=folder, store=ModelStore(folder / "models"))

    def check(self, data: bytes) -> None:
        self._file.write_bytes(data)
        is_loaded = False
        with suppress(ConfigError):
            is_loaded = self._loads(data)
        try:
            # As a file that was found, which may do less.
            load_config(environ={}, working_folder=self._folder)
        except ConfigError as error:
            require_nothing_like_a_key(texts_of(error))
        checked = check_config(self._file, self._environment)
        require(is_loaded or checked.problems, "`config check` tells why a file does not load")
        rows = [_row(finding) for finding in checked.findings]
        require_nothing_like_a_key(iter((json.dumps(rows), str(rows))))

    def _loads(self, data: bytes) -> bool:
        try:
            config = load_config(self._file, environ={})
        except ConfigError as error:
            require(str(error), "an error says something")
            require_nothing_like_a_key(texts_of(error))
            raise
        found = find_config(self._file, environ={})
        values = effective_values(config, found, os.environ, with_defaults=True)
        shown = "\n".join((*_heading(found), *_toml(found, values)))
        require_nothing_like_a_key(iter((shown, json.dumps(_document(found, values)), repr(config))))
        with suppress(tomllib.TOMLDecodeError):
            tomllib.loads(shown)
            return True
        require(False, "what `config show` prints is TOML")
        return True


_VALID: dict[str, Any] = {
    "default_model": "chat",
    "local_only": False,
    "timezone": "Europe/Berlin",
    "providers": {
        "groq": {"api_key": KEY, "timeout_s": 60.0, "max_concurrency": 8, "headers": {"X-Token": KEY}},
        "vllm": {"kind": "openai", "base_url": f"http://user:{KEY}@127.0.0.1:8000/v1", "usd_per_hour": 1.99},
        "ollama": {"options": {"num_ctx": 8192, "api_key": KEY}, "keep_alive": "10m", "proxy": f"http://u:{KEY}@p:1"},
        "gguf": {"model_path": "m.gguf", "n_ctx": 8192, "n_parallel": 2, "lora": [{"path": "a.gguf", "scale": 1.0}]},
        "cloud": {"kind": "together", "api_key_env": "TOGETHER_API_KEY", "api_key_command": ["pass", KEY]},
    },
    "routes": {
        "chat": {
            "targets": ["groq/openai/gpt-oss-20b", {"target": "gguf/default", "weight": 3, "params": {"seed": 7}}],
            "policy": "ordered",
            "max_price_usd": 0.01,
        }
    },
    "routing": {"retries": 2, "deadline_s": 120.0, "breaker_failures": 3, "hedge_after_s": 2.0},
    "budgets": [{"usd": 5.0, "window": "month", "scope": "tag:team", "on_exceeded": "block"}],
    "prices": [{"target": "groq/m", "input_usd_per_mtok": 0.075, "output_usd_per_mtok": 0.3}],
    "ledger": {"url": f"postgresql://user:{KEY}@db/name", "retention_days": 400, "flush_interval_s": 0.2},
    "models": [{"target": "ollama/m:8b", "name": "m", "aliases": ["n"], "context_tokens": 8, "abilities": ["tools"]}],
    "crossover": {"gpu_prices": [{"gpu": "h100_sxm", "provider": "rack", "usd_per_gpu_hour": 2.1}]},
    "privacy": {"allow_hosts": ["gpu-box.lan", "[::1]:8080", "*.lan"]},
    "http": {"wire": "builtin"},
    "telemetry": {"enabled": False, "content": False},
}


def toml_of(value: Any) -> str:
    """A value in TOML; what TOML has no word for as a text."""
    match value:
        case dict():
            return "{" + ", ".join(f"{json.dumps(str(name))} = {toml_of(below)}" for name, below in value.items()) + "}"
        case list():
            return f"[{', '.join(map(toml_of, value))}]"
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case _:
            return json.dumps(value if isinstance(value, str) else "").replace("\\ud", "ud").replace("\x7f", "")


def _file_of(values: Any) -> bytes:
    if not isinstance(values, dict):
        return toml_of(values).encode()
    lines = (f"{json.dumps(str(name))} = {toml_of(value)}\n" for name, value in values.items())
    return "".join(lines).encode()


_BLOCKS = f"""
default_model = 'groq/m'
[providers.groq]
api_key = "{KEY}"
base_url = "https://api.groq.com"
[[budgets]]
usd = 5
window = "day"
[routes.a]
targets = [ "groq/m",
  {{ target = "ollama/x", params = {{ temperature = 0.5 }} }},
]
[prices]
""".encode()
_SEEDS = (
    b"",
    b"\xef\xbb\xbflocal_only = true\r\n",
    _BLOCKS,
    *(_file_of({name: value}) for name, value in _VALID.items()),
    f"[[models]]\ntarget = '{KEY}'\n['{KEY}']\n['{KEY}']\n".encode(),
    f"providers.'{KEY}'.kind = 1\n{KEY} = 2\n".encode(),
    f"[providers.x]\nkind = '{KEY}'\n".encode(),
    b"[a.b]\nc=1\n[a]\nb=2\n",
    b"x = 2026-10-01T00:00:00Z\ny = 1979-05-27\nz = 07:32:00\ninf = -inf\nn = nan\nh = 0xff\n",
    b"m = \"\"\"a\nb\"\"\"\nn = '''c\n'''\n",
    b"a = " + b"[" * 200 + b"]" * 200,
    b"tool.llama-client.local_only = 1",
    b"a = " + b"9" * 4400,
    b"default_model = 0x" + b"F" * 4000,
    b"[providers.x]\nkind = 0xFFFFFFFFFFFFFFFFF",
)
_WORDS = (
    b'[providers.|[[budgets]]|[routes.|[|]|{|}|=|"|\'|"""|\n|.|,|#|true|nan|-inf|1e400|0xFFFFFFFFFFFFFFFFFF|api_key = |'
    b'kind = |base_url = |"http://|"https://[::1]|"sqlite:///|"postgresql://|targets = |"tag:|"provider:|url = |headers'
    b'|proxy|"socks5://|"~nobody/x"|"\\u0000"|2026-13-01|9999-12-31|-1|0|\xff|\\ud800'
)
_TOKENS = (*_WORDS.split(b"|"), KEY.encode())


@contextmanager
def opened() -> Iterator[Target]:
    cases: st.SearchStrategy[bytes] = nearly(_VALID).map(_file_of)
    with sandbox() as folder:
        yield Target("config", _Reader(folder).check, _SEEDS, cases, _TOKENS, lines=(400_000, 3000), max_bytes=5000)
