"""The runner of blocks can fail: each of its rules is broken once."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from llama_client.costs import prices
from llama_client.crossover.market import last_checked
from tests.documentation import programs, sessions
from tests.documentation.named import WrongSessionError
from tests.documentation.pages import blocks_of
from tests.documentation.sessions import commands_of, matches

PAGE = """\
Text.

```toml title="llama-client.toml"
default_model = "chat"
```

- in a list:

  ```console
  $ llama-client --version
  ```

  ```
  llama-client 1.0
  ```

A word between.

~~~
no output of anything
~~~
"""


def test_blocks_are_found_with_their_line_their_title_and_what_they_follow() -> None:
    found = [(block.line, block.language, block.title, block.follows) for block in blocks_of(PAGE, "page.md")]
    assert found == [
        (3, "toml", "llama-client.toml", None),
        (9, "console", None, None),
        (13, "", None, 9),
        (19, "", None, None),
    ]


def test_the_indentation_of_a_fence_is_none_of_its_block() -> None:
    assert [block.source for block in blocks_of(PAGE, "page.md")][1] == "$ llama-client --version\n"


def test_a_fence_that_is_not_closed_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"page\.md:2: this fence is not closed"):
        list(blocks_of("\n```python\nprint()\n", "page.md"))


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import warnings; warnings.warn('old', DeprecationWarning)", "DeprecationWarning: old"),
        ("import sys; sys.exit(3)", ""),
        ("import signal; 1 / 0", "ZeroDivisionError"),
        ("import signal, warnings; warnings.warn('old', DeprecationWarning)", "DeprecationWarning: old"),
        ("def f(:", "SyntaxError"),
    ],
)
def test_a_program_that_fails_is_seen(source: str, complaint: str) -> None:
    ran = programs.run(source, "page.md:1")
    assert ran.code != 0
    assert complaint in ran.err


@pytest.mark.parametrize(
    "source",
    [
        "import logging; logging.getLogger('llama_client').warning('look here')",
        "import sys; print('look here', file=sys.stderr)",
        "class Left:\n    def __del__(self): raise ValueError('look here')\nleft = Left()",
    ],
)
def test_a_program_that_says_something_beside_its_output_is_seen(source: str) -> None:
    ran = programs.run(source, "page.md:1")
    assert ran.code == 0
    assert "look here" in ran.err


def test_a_program_is_main_and_leaves_nothing_behind() -> None:
    main, path = sys.modules["__main__"], list(sys.path)
    ran = programs.run("import sys\nprint(__name__, sys.modules['__main__'].__dict__ is globals())", "page.md:1")
    assert ran.out == "__main__ True\n"
    assert sys.modules["__main__"] is main
    assert sys.path == path


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("for x in y:\n    print(x)\n\nprint(y)\n", None),
        ("with x:\n    print(x)\n    # a remark\n    print(x)\n", None),
        ("@x\ndef f():\n    return 1\n\n\nprint(f())\n", None),
        ("print(\n\n    1,\n)\n", None),
        ("with x:\n    print(x)\n\n    print(x)\n", 4),
        ("for x in y:\n    print(x)\nprint(y)\n", 3),
        ("print(\n", 2),
    ],
)
def test_a_program_that_the_prompt_of_python_would_cut_is_seen(source: str, place: int | None) -> None:
    assert programs.cut_at_the_prompt(source) == place


def test_a_comment_behind_a_print_is_the_whole_line_that_is_printed() -> None:
    source = "print('a b c')  # a b c\nprint('b')  # …\nprint('a b c')  # a … c\nprint('a b c')  # b c\n"
    assert programs.broken_promises(source, programs.run(source, "page.md:1").out) == ["b c"]


@pytest.mark.parametrize(
    ("printed", "expected", "is_right"),
    [
        ("a\nb", "a\nb", True),
        ("a\nb", "a", False),
        ("a", "a\nb", False),
        ("a\nb\nc", "a\n...", True),
        ("a\nb\nc", "...\nc", True),
        ("a\nb\nc", "...\nb", False),
        ("a\nb\nc", "a\n...\nc\n...", True),
        ("took 12 ms", "took … ms", True),
        ("took 12 s", "took … ms", False),
        ("a.b", "a…b", True),
        ("axb", "a.b", False),
        ("", "", True),
        ("a", "", False),
    ],
)
def test_output_is_compared_line_by_line(printed: str, expected: str, is_right: bool) -> None:
    assert matches(printed.splitlines(), expected.splitlines()) is is_right


def test_commands_have_prompts_or_every_line_is_one() -> None:
    assert [command.text for command in commands_of("a\nb \\\n  c\n# remark\n")] == ["a", "b c"]
    first, second = commands_of("$ a  # exits with 2\nout\n\n$ b\n")
    assert (first.exit_code, first.expected, second.expected) == (2, ["out"], [])


@pytest.mark.parametrize(
    ("session", "complaint"),
    [
        ("$ llama-client --version\nllama-client 99\n", "prints otherwise"),
        ("$ llama-client --version\nllama-client …\n$ llama-client --version\n", "prints otherwise"),
        ("llama-client chart\n", "exits with 2, not 0"),
        ("llama-client chart  # exits with 1\n", "exits with 2, not 1"),
        ("llama-client --version  # exits with 2\n", "exits with 0, not 2"),
        ("llama-client pull hf:a/b/c.gguf --nam c\n", "exits with 2"),
        ("lama-client chat\n", "no command that a page may use"),
        ("curl https://example.org | sh\n", "no command that a page may use"),
        ("rm -rf .\n", "no command that a page may use"),
        ("pip install llama-client[guff]\n", "there is no extra guff"),
        ("pip install lama-client\n", "neither this package"),
        ("pip uninstall llama-client\n", "only there to install"),
        ("python examples/none.py\n", "there is no examples/none.py"),
        ("python -m tests.none\n", "no such module"),
        ("python mine.py\n", "only files of examples/ and benchmarks/"),
        ("uvicorn none:app\n", "there is no none.py"),
        ("llama-client --version &&\n", "a command is missing"),
        ("output\n$ llama-client --version\n", "output above the first command"),
        ("# nothing\n", "there is no command"),
    ],
)
def test_a_session_that_is_wrong_is_seen(session: str, complaint: str, reader: Path, demo_model: Path) -> None:
    with pytest.raises(WrongSessionError, match=complaint.replace("(", r"\(")):
        sessions.run(session, demo_model=demo_model)


@pytest.mark.skipif(shutil.which("jq") is None, reason="there is no jq here")
def test_a_filter_is_run_by_jq(reader: Path, demo_model: Path) -> None:
    sessions.run('$ echo "{\\"usd\\": 2}" | jq .usd\n2\n', demo_model=demo_model)
    for wrong in ("jq .usd[", "jq .usd.more"):
        with pytest.raises(WrongSessionError, match="exits with"):
            sessions.run(f'echo "{{\\"usd\\": 2}}" | {wrong}\n', demo_model=demo_model)


def test_a_block_below_that_is_not_the_output_is_seen(reader: Path, demo_model: Path) -> None:
    with pytest.raises(WrongSessionError, match="the block below is not what is printed"):
        sessions.run("llama-client --version\n", demo_model=demo_model, output="llama-client 99\n")


def test_a_session_is_run_with_pipes_files_variables_and_models_from_elsewhere(reader: Path, demo_model: Path) -> None:
    session = """\
$ export GROQ_API_KEY="gsk_other" && pip install ".[gguf]"
$ llama-client pull hf:org/repo/Tiny-Q4.gguf --name tiny
...
tiny is ready (…)
Try: …
$ llama-client pull hf:org/repo/Small-Q4.gguf && llama-client pull ollama:tiny:1b --json
...
Try: llama-client chat -m gguf/small-q4 …
...
{"name": "tiny-1b", …}
$ echo "What is the capital of Japan?" | llama-client chat -m gguf/tiny --temperature 0 > answer.txt
$ cat answer.txt
The capital of Japan is Tokyo.
$ LLAMA_CLIENT_DEFAULT_MODEL=nobody/x llama-client chat "Hello"  # exits with 2
llama-client: …
"""
    commands = sessions.run(session, demo_model=demo_model)
    assert len(commands) == 6
    assert (reader / "answer.txt").read_text(encoding="utf-8") == "The capital of Japan is Tokyo.\n"


def test_a_page_that_shows_prices_does_not_fail_because_they_get_older(reader: Path, demo_model: Path) -> None:
    """They were confirmed on the day that a session takes for today, whatever the day is."""
    session = "llama-client crossover llama-3.1-70b --gpu h100_sxm --volume 2G --draws 0 --json\n"
    (command,) = sessions.run(session, demo_model=demo_model)
    dated = [row for row in json.loads(command.printed[0])["assumptions"] if row["as_of"] is not None]
    today = {date.fromisoformat(row["as_of"]) + timedelta(days=row["age_days"]) for row in dated}
    assert today == {last_checked()}


def test_an_answer_on_a_page_comes_without_a_warning_of_old_prices(
    reader: Path, demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices, "STALE_AFTER_DAYS", -1)
    (command,) = sessions.run('llama-client chat -m groq/openai/gpt-oss-20b "What?"\n', demo_model=demo_model)
    assert [line for line in command.printed if "was last checked" in line] == []
