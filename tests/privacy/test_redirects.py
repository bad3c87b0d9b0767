"""Under `local_only` a server that sends elsewhere is not followed, and the error names the rule; and what a name of a
model tells is told however the name is written."""

from __future__ import annotations

import asyncio

import pytest

from llama_client import AsyncLlamaClient, LlamaClient, LocalOnlyError
from llama_client.models import ProviderInfo
from llama_client.testing.loopback import WireServer, redirect
from tests.privacy.asking import MODEL, ask, each_mode, local, refused

KINDS = pytest.mark.parametrize("kind", ["openai", "ollama"])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@each_mode
def test_a_redirect_is_refused_by_its_rule(status: int, mode: str, there: WireServer, lookups: list[str]) -> None:
    with WireServer(lambda _: redirect("http://far.test/v1/x?key=k", status=status)) as server:
        with pytest.raises(LocalOnlyError) as caught:
            ask(mode, local("openai", base_url=server.url), f"openai/{MODEL}")
        assert len(server.requests) == 1
    error = caught.value
    assert error.rule == "redirect"
    assert "far.test" in str(error)
    assert "key=k" not in str(error)
    assert "nothing was sent" not in str(error)
    (attempt,) = error.attempts
    # The server that redirects had the request.
    assert (attempt.outcome, attempt.sent, attempt.error) == ("error", True, "LocalOnlyError")
    assert lookups == []


@each_mode
def test_nor_is_one_followed_that_leads_to_this_machine(mode: str, there: WireServer) -> None:
    with WireServer(lambda request: redirect(there.url + request.path)) as server:
        with pytest.raises(LocalOnlyError, match="rule: redirect"):
            ask(mode, local("openai", base_url=server.url), f"openai/{MODEL}")
    assert there.requests == []


@each_mode
def test_a_route_goes_on_to_its_next_target(mode: str, there: WireServer) -> None:
    config = local("openai", base_url=there.url + "/v1")
    with WireServer(lambda _: redirect("/elsewhere")) as server:
        config["providers"]["moved"] = {"kind": "openai", "base_url": server.url}
        reply = ask(mode, config, [f"moved/{MODEL}", f"openai/{MODEL}"])
    assert reply.text == "Hello"
    assert [attempt.outcome for attempt in reply.attempts] == ["error", "ok"]


@KINDS
def test_a_list_of_models_is_not_asked_for_elsewhere_either(kind: str) -> None:
    with WireServer(lambda _: redirect("http://far.test/v1/models")) as server:
        config = local(kind, base_url=server.url)

        async def listed() -> list[ProviderInfo]:
            async with AsyncLlamaClient(config) as client:
                return await client.providers.list()

        with LlamaClient(config) as client:
            both = [client.providers.list(), asyncio.run(listed())]
    for providers in both:
        (errors,) = [provider.error for provider in providers if provider.provider == kind]
        assert "rule: redirect" in (errors or "")


def test_the_official_client_does_not_follow_one() -> None:
    with WireServer(lambda _: redirect("http://far.test/v1/x")) as server:
        with LlamaClient(local("openai", base_url=server.url, api_key="k")) as client:
            sdk = client.sdk("openai").with_options(max_retries=0)
            with pytest.raises(Exception) as caught:  # noqa: PT011 - the official client has a class of its own
                sdk.models.list()
    causes = [caught.value, caught.value.__cause__]
    assert any(isinstance(cause, LocalOnlyError) and cause.rule == "redirect" for cause in causes)


@pytest.mark.parametrize(
    "model",
    ["a:1b-cloud ", "a:1b-cloud\u200b", "a:1b-cl\u00adoud", "a:\uff43\uff4c\uff4f\uff55\uff44", "a-cloud\t\ufeff"],
)
@KINDS
@each_mode
def test_a_cloud_s_model_is_known_by_its_name_however_that_is_written(
    kind: str, model: str, mode: str, there: WireServer
) -> None:
    refused(mode, local(kind, base_url=there.url), f"{kind}/{model}", rule="cloud_model")
    assert there.requests == []
