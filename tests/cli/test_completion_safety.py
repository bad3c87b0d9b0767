"""Names in a configuration that somebody else wrote: pressing Tab, and Enter after it, runs nothing of them."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from llama_client.cli.app import main
from tests.cli.conftest import TIMEOUT_S, run
from tests.cli.forks import forks

# Behind a start of its own, so that each is the only one that fits.
ENDINGS = [
    "$(touch PWNED)", "`touch PWNED`", ";touch PWNED;", "|touch PWNED", "&touch PWNED&", ">PWNED",
    "$(touch${IFS}PWNED)", "${x:=$(touch PWNED)}", "\ntouch PWNED\n", "\rtouch PWNED\r", "';touch PWNED;'",
    '";touch PWNED;"', "' $(touch PWNED)", " touch PWNED", "\\\ntouch PWNED", "*", "?", "[a-z]*", "{a,b}", "!!", "~",
    "#", "<(touch PWNED)", "\x03touch PWNED\r", "\x1b[201~touch PWNED\r", "\u2028", "(touch PWNED)", "\\;touch PWNED",
    "\nplain\nPWNED\n_",
]  # fmt: skip
EVIL = {f"zz{number:02}": f"zz{number:02}{ending}" for number, ending in enumerate(ENDINGS)}
TITLE = "x\nplain\nzzPWNED\n_"
# Each takes as long as the command needs to answer, so not all are typed: both substitutions, ends of commands, a line
# end, quotes, a blank and a pattern.
AT_THE_KEYBOARD = (0, 1, 2, 4, 8, 10, 13, 15)
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source <(llama-client completion bash)"),
    "zsh": (["zsh", "-f", "-i"], 'autoload -U compinit; compinit -D -u; eval "$(llama-client completion zsh)"'),
    "fish": (["fish", "--no-config", "-i"], "llama-client completion fish | source"),
}
# As a terminal starts one: it belongs to the terminal.
_STARTED = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
on_unix = pytest.mark.skipif(sys.platform == "win32", reason="these shells are Unix's")


# Sends how it was started, and prints what comes back.
_ASK = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect(sys.argv[1])
    asked.sendall(json.dumps([sys.argv[2:], dict(os.environ)]).encode())
    asked.shutdown(socket.SHUT_WR)
    with asked.makefile("rb") as answer:
        sys.stdout.buffer.write(answer.read())
"""


@pytest.fixture
def command(clean_home: Path) -> Iterator[str]:
    """What the shell's script starts: the command, or what asks for a fork of it, in a tenth of the time."""
    if forks() is None:
        yield f'"{sys.executable}" -m llama_client'
        return
    path = str(clean_home / "asked")

    def serve() -> None:
        while True:
            asking, _ = listening.accept()
            with asking, asking.makefile("rb") as request:
                content = request.read()
                if not content:
                    return
                arguments, environment = json.loads(content)
                asking.sendall(run(*arguments, env=environment).out.encode())

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        serving = threading.Thread(target=serve)
        serving.start()
        (clean_home / "ask.py").write_text(_ASK, encoding="utf-8")
        try:
            yield f'"{sys.executable}" -S -E "{clean_home}/ask.py" "{path}"'
        finally:
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(path)
            serving.join(TIMEOUT_S)


@pytest.fixture
def cloned(clean_home: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with such a configuration, and a `llama-client` that completes as it does, and else tells how it ran."""
    folder = clean_home / "work"
    names = ["zzgood", *EVIL.values(), "-zz", "--config=zz"]
    (folder / "llama-client.toml").write_text(
        "".join(f'[routes.{json.dumps(name)}]\ntargets = ["groq/m"]\n' for name in names)
        + f"[[crossover.gpus]]\nname = 'zzgpu'\ntitle = {json.dumps(TITLE)}\n"
        "memory_gib = 48\nbandwidth_gb_per_s = 768\n",
        encoding="utf-8",
    )
    # What a pattern would find.
    for name in ("zz15PWNED", "zz16P", "zz17aPWNED", "plain,zzPWNED"):
        (folder / name).touch()
    script = clean_home / "bin" / "llama-client"
    script.parent.mkdir()
    script.write_text(
        '#!/bin/sh\nif [ -n "$_LLAMA_CLIENT_COMPLETE" ] || [ "$1" = completion ]; then\n'
        f'  exec {command} "$@"\nfi\nprintf "ran:"; printf "<%s>" "$@"; echo ":ran"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")
    return folder


def offered(shell: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> list[str]:
    """Each value that a shell is told for `-m zz`, in whatever form it is told it."""
    line = "llama-client chat -m zz"
    monkeypatch.setenv("_LLAMA_CLIENT_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", "zz" if shell == "fish" else "3")
    assert main([]) == 0
    lines = capfd.readouterr().out.removesuffix("\n").split("\n")
    if shell in ("zsh", "powershell"):
        assert set(lines[::3]) == {"plain"}
        return [value.replace("\\:", ":") for value in lines[1::3]]
    assert all(line.startswith("plain,") for line in lines)
    return [line.removeprefix("plain,").partition("\t")[0] for line in lines]


@pytest.mark.parametrize("shell", ["bash", "powershell"])
def test_a_shell_that_quotes_nothing_is_told_only_of_what_needs_no_quotes(
    shell: str, cloned: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert offered(shell, monkeypatch, capfd) == ["zzgood"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_shell_that_quotes_is_told_of_all_that_is_one_line(
    shell: str, cloned: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    names = [name for name in EVIL.values() if name.isprintable() and not (shell == "fish" and set(",~") & set(name))]
    assert len(names) > 15
    assert offered(shell, monkeypatch, capfd) == ["zzgood", *names]


def test_a_title_with_line_ends_adds_no_answer(
    cloned: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_LLAMA_CLIENT_COMPLETE", "zsh_complete")
    monkeypatch.setenv("COMP_WORDS", "llama-client fit llama-3.1-8b --gpu zz")
    monkeypatch.setenv("COMP_CWORD", "4")
    assert main([]) == 0
    assert capfd.readouterr().out == "plain\nzzgpu\nx\\nplain\\nzzPWNED\\n_\n"


@contextmanager
def interactive(shell: str) -> Iterator[Callable[[str, str], str]]:
    """A shell on a terminal; what is called types a text and returns what appears until another one does."""
    pty = pytest.importorskip("pty", reason="this platform has no pseudo-terminals")
    arguments, load = SHELLS[shell]
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    screen, keyboard = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _STARTED, *arguments],
        stdin=keyboard,
        stdout=keyboard,
        stderr=keyboard,
        start_new_session=True,
        env={**os.environ, "TERM": "dumb", "PS1": "> ", "HISTFILE": "/dev/null"},
    )
    os.close(keyboard)
    seen = ""

    def type_and_wait(text: str, wanted: str) -> str:
        nonlocal seen
        os.write(screen, text.encode())
        deadline = time.monotonic() + TIMEOUT_S
        while wanted not in seen:
            assert time.monotonic() < deadline, f"{wanted!r} did not appear in {seen!r}"
            if select.select([screen], [], [], 0.2)[0]:
                seen += os.read(screen, 4096).decode(errors="replace")
        appeared, _, seen = seen.partition(wanted)
        return appeared

    with process:
        try:
            # The words that are waited for are not those that are typed, as a terminal repeats these.
            type_and_wait(f"{load}; llama-client is loaded\n", "ran:<is><loaded>:ran")
            yield type_and_wait
        finally:
            process.kill()
            with suppress(OSError):
                os.close(screen)


@on_unix
@pytest.mark.parametrize("shell", SHELLS)
def test_neither_tab_nor_enter_runs_anything_of_a_name(shell: str, cloned: Path) -> None:
    before = set(cloned.iterdir())
    with interactive(shell) as type_and_wait:
        whole = type_and_wait("llama-client chat -m zzgo\t\n", ":ran").partition("ran:")[2]
        assert whole == "<chat><-m><zzgood>"
        for number in AT_THE_KEYBOARD:
            start = f"zz{number:02}"
            ran = type_and_wait(f"llama-client chat -m {start}\t\n", ":ran").partition("ran:")[2]
            # Bash adds nothing to it; the others add all of it, quoted.
            assert ran in (f"<chat><-m><{start}>", f"<chat><-m><{EVIL[start]}>")
            assert (ran == f"<chat><-m><{start}>") == (shell == "bash" or not EVIL[start].isprintable())
            assert set(cloned.iterdir()) == before
