"""The provider of models in this process passes the suite that other packages' providers pass.

A module stands in for xllamacpp, as in test_scripted.py; all else is real. What a socket has does not apply.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llama_client.testing.conformance import Engine, Mode, Refusal, Said, check
from tests.lengths import two_modes
from tests.providers.gguf.test_scripted import Script, chunk, script, tool_call

__all__ = ["script"]


class ScriptedModel(Engine):
    """Writes what is to be said as the script of the stand-in."""

    can = frozenset({"streams", "tools", "split tools", "reasoning", "length"})
    model = "default"
    takes = frozenset(
        {
            "temperature", "top_p", "top_k", "min_p", "max_tokens", "seed", "stop", "frequency_penalty",
            "presence_penalty", "repetition_penalty", "logit_bias", "tools", "tool_choice",
            "parallel_tool_calls", "reasoning_effort", "logprobs", "extra_body",
            "response_format", "n",
        }
    )  # fmt: skip

    def __init__(self, script: Script, model: Path) -> None:
        self.table: Mapping[str, Any] = {"model_path": str(model), "n_ctx": 512}
        self._script = script
        self._running: set[int] = set()
        play = script.play

        def counted(body: dict[str, Any], receive: Callable[[dict[str, Any]], bool]) -> None:
            self._running.add(threading.get_ident())
            try:
                play(body, receive)
            finally:
                self._running.discard(threading.get_ident())

        script.play = counted  # type: ignore[method-assign]

    def say(self, said: Said | Refusal) -> None:
        assert isinstance(said, Said)
        steps = [chunk({"role": "assistant", "content": ""})] if said.has_preamble else []
        steps += [chunk({"reasoning_content": part}) for part in said.reasoning]
        steps += [chunk({"content": text}) for text in said.texts]
        for number, call, part, is_first in said.call_parts:
            if is_first:
                steps.append(tool_call(number, id=call.id, type="function", function={"name": call.name}))
            steps.append(tool_call(number, function={"arguments": part}))
        steps += [] if said.finish_reason is None else [chunk({}, said.finish_reason)]
        self._script.steps = list(steps)

    def running(self) -> int:
        return len(self._running)


@two_modes
def test_a_model_in_this_process_conforms(mode: Mode, script: Script, tiny_model: Path) -> None:
    report = check("gguf", ScriptedModel(script, tiny_model), modes=[mode])
    report.require()
    assert report.ran >= 10
    left_out = {each.case for each in report.results if each.status == "does not apply"}
    assert left_out > {"connection-cut", "no-hidden-retry", "status-500"}
