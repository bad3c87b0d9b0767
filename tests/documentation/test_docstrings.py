"""The examples in docstrings run: sessions (`>>>`) by doctest, and code below `Example:` as it stands."""

from __future__ import annotations

import ast
import asyncio
import doctest
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

import llama_client
from llama_client import LlamaClient, crossover

_EXAMPLE = re.compile(r"^(?P<indent> *)Example:\n(?P<code>(?:(?P=indent)    .*\n|\n)+)", flags=re.MULTILINE)
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.REPORT_ONLY_FIRST_FAILURE
# What the examples of pictures call so.
SCENARIO = crossover.Scenario(
    model="llama-3.3-70b",
    traffic=crossover.Traffic(tokens_per_day=2e9),
    self_host=crossover.SelfHost(gpu="h100_sxm", n_gpus=2, gpu_usd_per_hour=2.69),
    apis=(crossover.ApiPrice(input_usd_per_mtok=0.88, output_usd_per_mtok=0.88),),
)


def sources() -> Iterator[tuple[str, str]]:
    folder = Path(llama_client.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        name = ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__")
        yield name, path.read_text(encoding="utf-8")


def examples() -> Iterator[tuple[str, str]]:
    """The code below `Example:` of each docstring that is no session, with the module that it stands in."""
    for module, source in sources():
        if not _EXAMPLE.search(source):
            continue
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for found in _EXAMPLE.finditer((ast.get_docstring(node) or "") + "\n"):
                code = textwrap.dedent(found["code"])
                if ">>>" not in code:
                    yield f"{module}:{node.body[0].lineno if node.body else 1}", code


EXAMPLES = list(examples())


@pytest.mark.parametrize("module", [module for module, source in sources() if ">>> " in source])
def test_the_sessions_of_a_module_go_as_they_are_shown(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    ran = doctest.testmod(importlib.import_module(module), optionflags=_FLAGS)
    assert ran.attempted > 0
    assert ran.failed == 0


@pytest.mark.parametrize(("place", "code"), EXAMPLES, ids=[place for place, _ in EXAMPLES])
def test_the_example_of_a_docstring_runs(
    place: str, code: str, reader: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may use what its module knows, all public names, and `client`: one that asks the demo model."""
    module = importlib.import_module(place.partition(":")[0])
    names = {name: getattr(llama_client, name) for name in llama_client.__all__}
    names |= {name: getattr(crossover, name) for name in crossover.__all__}
    with LlamaClient() as client:
        client.ask("What is the capital of Japan?", temperature=0)
        given = {"client": client, "scenario": SCENARIO, "BaseModel": BaseModel, "Path": Path}
        compiled = compile(textwrap.dedent(code), place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        result = eval(compiled, {**vars(module), **names, **given})
        if inspect.iscoroutine(result):
            asyncio.run(result)
    assert "Traceback" not in capsys.readouterr().err
