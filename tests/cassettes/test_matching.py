"""Which recorded answer a request gets, and what is said where it gets none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llama_client import LlamaClient
from llama_client.errors import StreamInterruptedError
from llama_client.testing.cassettes import Cassette, UnrecordedRequestError, cassette, recording, replaying
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import WireServer, streamed
from tests.cassettes.playing import no_sockets
from tests.routing.asking import MESSAGES, MODES, ask, ask_all, config, good


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    """A call with some parameters, recorded once."""
    path = tmp_path / "c.json"
    with WireServer(good()) as server, recording(path):
        ask(
            config(server), "call-sync", seed=1, temperature=1.0, extra_body={"metadata": {"user": "a", "b": [1, None]}}
        )
    return path


def _again(path: Path, mode: str = "call-sync", *, options: dict[str, Any] | None = None, **params: Any) -> Any:
    base: dict[str, Any] = {"seed": 1, "temperature": 1.0, "extra_body": {"metadata": {"user": "a", "b": [1, None]}}}
    with no_sockets(), replaying(path, **(options or {})):
        return ask(config("http://127.0.0.1:9"), mode, **{**base, **params})


SAME: dict[str, dict[str, Any]] = {
    "the same": {},
    "other numbers": {"temperature": 1, "extra_body": {"metadata": {"user": "a", "b": [1.0, None]}}},
    "another order": {"extra_body": {"metadata": {"b": [1, None], "user": "a"}}},
    "none in a table": {"extra_body": {"metadata": {"user": "a", "b": [1, None], "c": None}}},
}


@pytest.mark.parametrize("change", SAME)
def test_spelling_does_not_matter(change: str, tape: Path) -> None:
    assert _again(tape, **SAME[change]).text == "Hello"


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 2}, '"seed": 2'),
    "bool": ({"extra_body": {"metadata": {"user": "a", "b": [True, None]}}}, "true"),
    "list": ({"extra_body": {"metadata": {"user": "a", "b": [1]}}}, "-"),
    "text": ({"messages": [{"role": "user", "content": "Why?"}]}, '+      "content": "Why?"'),
    "mode": ({"tools": [{"type": "function", "function": {"name": "hum"}}]}, '"hum"'),
}


@pytest.mark.parametrize("mode", ["call-sync", "call-async"])
@pytest.mark.parametrize("change", OTHERS)
def test_a_request_that_differs_is_told_with_the_difference(change: str, mode: str, tape: Path) -> None:
    params, told = OTHERS[change]
    with pytest.raises(UnrecordedRequestError) as caught:
        _again(tape, mode, **params)
    assert told in str(caught.value)
    assert "the nearest recorded request is exchanges[0]" in str(caught.value)
    assert "refresh" in str(caught.value)
    assert len(str(caught.value).splitlines()) < 30
    [attempt] = caught.value.attempts
    assert (attempt.sent, attempt.error) == (False, "UnrecordedRequestError")


def test_what_is_ignored_does_not_matter(tape: Path) -> None:
    params: dict[str, Any] = {"seed": 99, "extra_body": {"metadata": {"user": "z", "b": [1, None]}}}
    assert _again(tape, options={"ignore": ("seed", "metadata.user")}, **params).text == "Hello"


def test_each_answer_is_given_once_unless_it_may_be_repeated(tape: Path) -> None:
    base: dict[str, Any] = {"seed": 1, "temperature": 1.0, "extra_body": {"metadata": {"user": "a", "b": [1, None]}}}
    with replaying(tape, repeat=True):
        assert [each.text for each in ask_all(config("http://x.test"), "call-sync", 3, **base)] == ["Hello"] * 3
    with pytest.raises(UnrecordedRequestError, match="recorded 1 time, and each has answered"), replaying(tape):
        ask_all(config("http://x.test"), "call-sync", 2, **base)


@pytest.mark.parametrize("mode", MODES)
def test_what_the_program_catches_is_raised_when_the_block_ends(mode: str, tape: Path) -> None:
    with (
        pytest.raises(UnrecordedRequestError, match="no recorded answer to a: POST chat/completions") as caught,
        replaying(tape),
    ):
        ask_all(config("http://a.test", "http://b.test"), mode, 1)
    # No retry and no failover.
    assert [each.target for each in caught.value.attempts] == ["a/m"]


def _ask_and_fail(configuration: dict[str, Any]) -> None:
    ask_all(configuration, "call-sync", 1)
    raise ZeroDivisionError


def test_an_error_of_the_block_comes_first(tape: Path) -> None:
    with pytest.raises(ZeroDivisionError), replaying(tape):
        _ask_and_fail(config("http://a.test"))


def test_what_was_not_asked_for_can_be_asserted(tape: Path) -> None:
    with replaying(tape) as cassette_in_use:
        pass
    assert cassette_in_use.unused == ["a: POST chat/completions"]
    with pytest.raises(AssertionError, match="1 recorded exchanges were not asked for: a: POST"):
        cassette_in_use.assert_all_used()


def test_another_provider_or_path_is_told(tape: Path) -> None:
    there = config("http://a.test")
    there["providers"]["z"] = there["providers"]["a"]
    with (
        pytest.raises(UnrecordedRequestError, match="z: POST chat/completions: recorded are: a: POST"),
        replaying(tape),
    ):
        ask(there, "call-sync", model="z/m")


def test_once_records_where_there_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "c.json"
    with WireServer(good()) as server:
        for _ in range(2):
            with cassette(path, "once"):
                ask(config(server), "call-sync")
        assert len(server.requests) == 1


@pytest.mark.parametrize("mode", ["call-sync", "call-async"])
def test_refreshing_asks_only_what_has_changed(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    there: dict[str, Any]

    def asked(*texts: str) -> Cassette:
        with cassette(path, "refresh") as used:
            for text in texts:
                ask(there, mode, messages=[{"role": "user", "content": text}])
        return used

    with WireServer(good()) as server:
        there = config(server)
        assert asked("a", "b").changes == ['+ a: POST chat/completions m "a"', '+ a: POST chat/completions m "b"']
        first = path.read_bytes()
        assert asked("a", "b").changes == []
        assert path.read_bytes() == first
        assert asked("b", "c").changes == [
            '- a: POST chat/completions m "a"',
            '+ a: POST chat/completions m "c"',
        ]
        assert [each.json["messages"][0]["content"] for each in server.requests] == ["a", "b", "c"]
    with no_sockets(), replaying(path):
        for text in ("c", "b"):
            ask(there, mode, messages=[{"role": "user", "content": text}])


MODES_THAT_ASK: list[Any] = ["record", "once", "refresh"]


@pytest.mark.parametrize("mode", MODES_THAT_ASK)
@pytest.mark.parametrize("has_file", [True, False], ids=["file", "no file"])
def test_a_block_that_fails_before_it_asks_writes_nothing(mode: Any, has_file: bool, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    with WireServer(good()) as server:
        there = config(server)
        if has_file:
            with recording(path):
                ask(there, "call-sync")
        before = path.read_bytes() if has_file else None
        with pytest.raises(ZeroDivisionError), cassette(path, mode):
            raise ZeroDivisionError
        assert (path.read_bytes() if path.exists() else None) == before


def test_once_records_again_where_the_block_failed(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    with WireServer(good()) as server:
        there = config(server)
        with pytest.raises(ZeroDivisionError), cassette(path, "once"):
            _ask_and_fail(there)
        with cassette(path, "once") as tape:
            ask(there, "call-sync")
        assert tape.mode == "record"
    with no_sockets(), cassette(path, "once"):
        assert ask(there, "call-sync").text == "Hello"


def test_a_refresh_that_fails_drops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    with WireServer(good()) as server:
        there = config(server)
        with recording(path):
            _ask_text(there, "a")
        with pytest.raises(ZeroDivisionError), cassette(path, "refresh") as tape:
            _ask_and_fail(there)
        assert len(tape.changes) == 1
    with no_sockets(), replaying(path) as tape:
        _ask_text(there, "a")
        ask(there, "call-sync")
    tape.assert_all_used()


def test_what_was_recorded_before_a_failure_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    with WireServer(good()) as server:
        there = config(server)
        with pytest.raises(ZeroDivisionError), recording(path):
            _ask_and_fail(there)
    with replaying(path):
        assert ask(there, "call-sync").text == "Hello"


def test_a_stream_that_was_left_early_can_be_left_again_and_not_be_read_on(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    stream = streamed([OPENAI.preamble(), OPENAI.text("a")], "stall")
    with WireServer(lambda _: stream) as server:
        there = config(server)
        with recording(path):
            assert _first_texts(there, 1) == "a"
    with (
        no_sockets(),
        pytest.raises(UnrecordedRequestError, match="the recording ends here"),
        replaying(path, repeat=True),
    ):
        _read_further(there)
    with WireServer(good("Hum.")) as server, cassette(path, "refresh"):
        there["providers"]["a"]["base_url"] = f"{server.url}/v1"
        assert ask(there, "stream-sync").text == "Hum."
    with no_sockets(), replaying(path):
        assert ask(there, "stream-sync").text == "Hum."


@pytest.mark.parametrize("closes", ["client", "nothing"])
def test_a_stream_that_is_open_when_the_block_ends_is_kept(closes: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    stream = streamed([OPENAI.preamble(), OPENAI.text("a")], "stall")
    with WireServer(lambda _: stream) as server:
        there = config(server)
        with recording(path):
            client = LlamaClient(there)
            chunks = client.chat.completions.create(messages=MESSAGES, stream=True)
            next(iter(chunks))
            if closes == "client":
                client.close()
        client.close()
    with no_sockets(), replaying(path) as tape:
        assert _first_texts(there, 1) == "a"
    tape.assert_all_used()


def _read_further(configuration: dict[str, Any]) -> None:
    assert _first_texts(configuration, 1) == "a"
    with pytest.raises(StreamInterruptedError, match="the recording ends here"):
        _first_texts(configuration, 2)


def _first_texts(configuration: dict[str, Any], count: int) -> str:
    with LlamaClient(configuration) as client:
        with client.chat.completions.create(messages=MESSAGES, stream=True) as stream:
            texts = (chunk.text for chunk in stream if chunk.text)
            return "".join(next(texts) for _ in range(count))


def test_a_test_that_has_failed_is_not_told_again_what_had_no_answer(tape: Path) -> None:
    with replaying(tape) as in_use:
        ask_all(config("http://a.test"), "call-sync", 1)
        in_use.fail()
    assert len(in_use.missing) == 1


def _ask_text(configuration: dict[str, Any], text: str) -> Any:
    return ask(configuration, "call-sync", messages=[{"role": "user", "content": text}])


def test_asterisks_of_a_prompt_are_no_secrets(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    with WireServer(good()) as server, recording(path):
        _ask_text(config(server), "a *** b")
    with pytest.raises(UnrecordedRequestError), replaying(path):
        _ask_text(config("http://a.test"), "a whatever b")


@pytest.mark.parametrize(
    ("text", "fits"),
    [("<x>1<y>2<z>", True), ("<x><y><z>", True), ("<x>1<z>", False), ("<x>1<y>", False), ("<y>1<z>", False)],
)
def test_anything_may_stand_where_secrets_stood(text: str, fits: bool, tmp_path: Path) -> None:
    key = "a-key-of-some-length"
    path = tmp_path / "c.json"
    with WireServer(good()) as server, recording(path):
        there = config(server)
        there["providers"]["a"]["api_key"] = key
        _ask_text(there, f"<x>{key}<y>{key}<z>")
    with replaying(path) as tape:
        outcome = ask_all(there, "call-sync", 1, messages=[{"role": "user", "content": text}])[0]
        tape.missing.clear()
    assert isinstance(outcome, UnrecordedRequestError) is not fits


def test_many_secrets_in_a_request_that_differs_take_no_time(tmp_path: Path) -> None:
    key = "a-key-of-some-length"
    path = tmp_path / "c.json"
    with WireServer(good()) as server, recording(path):
        there = config(server)
        there["providers"]["a"]["api_key"] = key
        _ask_text(there, f"{key}\n" * 500 + "End of A")
    # It would last for ever where each secret doubles the work.
    with pytest.raises(UnrecordedRequestError), replaying(path):
        _ask_text(there, "line\n" * 500 + "End of B")
