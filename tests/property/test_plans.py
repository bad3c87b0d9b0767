"""Whatever targets do, a plan ends, keeps to its rules and its time, and lets go of what it took."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from llama_client.errors import (
    AllTargetsFailedError,
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    GenerationFailedError,
    InvalidResponseError,
    LlamaClientError,
    OverloadedError,
    ProviderError,
    RateLimitError,
    ServerError,
    UnsupportedFeatureError,
)
from tests.routing.planning import Play, Script, Scripted

NAMES = ("a", "b", "c")
waits = st.one_of(st.none(), st.just(0.0), st.floats(0.001, 200), st.just(1e9))
scripts = st.one_of(
    st.just("answer"),
    st.sampled_from(
        [ServerError, APIConnectionError, AuthenticationError, GenerationFailedError, InvalidResponseError]
    ).map(lambda kind: kind("x")),
    st.builds(lambda s: RateLimitError("x", retry_after_s=s), waits),
    st.builds(lambda s: OverloadedError("x", retry_after_s=s), waits),
)
turns = st.lists(scripts, min_size=1, max_size=4)
rules = st.fixed_dictionaries(
    {
        "retries": st.integers(0, 3),
        "breaker_failures": st.integers(1, 4),
        "breaker_cooldown_s": st.floats(0.1, 100),
        "drop_unsupported": st.booleans(),
    }
)


@settings(max_examples=150, deadline=None)
@given(
    each=st.tuples(turns, turns, turns),
    rules=rules,
    cannot=st.tuples(*[st.booleans()] * 3),
    timeout_s=st.floats(0.5, 300),
    takes_s=st.floats(0, 20),
    calls=st.integers(1, 6),
)
def test_a_plan_ends_keeps_its_rules_and_lets_go(
    each: tuple[list[Script], ...],
    rules: dict[str, object],
    cannot: tuple[bool, ...],
    timeout_s: float,
    takes_s: float,
    calls: int,
) -> None:
    providers = {name: Scripted(frozenset({"seed"} if no else ())) for name, no in zip(NAMES, cannot, strict=True)}
    play = Play(dict(zip(NAMES, each, strict=True)), {"seed": 1}, dict(rules), providers=providers, takes_s=takes_s)
    for _ in range(calls):
        started = play.time.now
        outcome = play(*NAMES, timeout_s=timeout_s)
        tries = [step.candidate.target.model for step in play.tries]
        assert all(tries.count(name) <= play.config.routing.retries + 1 for name in NAMES)
        # It never waits beyond its time, and each try gets no more than is left.
        waited = sum(part for part in play.story if isinstance(part, float))
        assert waited <= timeout_s + 0.01
        assert play.time.now - started <= timeout_s + takes_s + 0.01
        assert all(step.timeout_s is not None and 0 < step.timeout_s <= timeout_s + 0.01 for step in play.tries)
        if not play.config.routing.drop_unsupported:
            assert not {name for name, no in zip(NAMES, cannot, strict=True) if no} & set(tries)
        assert all(health.in_flight == 0 for health in play.health.snapshot().values())
        match outcome:
            case str():
                assert outcome == "answer"
            case AllTargetsFailedError():
                assert 2 <= len(outcome.errors) <= len(NAMES)
                assert all(isinstance(error, ProviderError) for error in outcome.errors)
            case UnsupportedFeatureError():
                assert all(cannot)
                assert tries == []
            case _:
                assert isinstance(outcome, LlamaClientError)
                assert tries or isinstance(outcome, APITimeoutError)
        play.time.now += 1.0


@settings(max_examples=100, deadline=None)
@given(each=st.tuples(turns, turns), rules=rules)
def test_whoever_is_well_and_answers_answers(each: tuple[list[Script], ...], rules: dict[str, object]) -> None:
    """Failures before it that may pass, or that are the others' own, do not keep a call from a healthy last target."""
    play = Play({"a": each[0], "b": each[1], "c": ["answer"]}, rules=dict(rules))
    for _ in range(5):
        assert play(*NAMES) == "answer"


@given(before=st.sampled_from(["a", "b"]))
def test_a_callers_mistake_ends_everything(before: str) -> None:
    mistake = BadRequestError("x")
    play = Play({"a": [mistake if before == "a" else ServerError("x")], "b": [mistake], "c": ["answer"]})
    assert play(*NAMES) is mistake
    assert "c" not in play.story
