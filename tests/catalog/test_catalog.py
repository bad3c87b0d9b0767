"""The catalogue: that its rows are sound, what names and ids mean, and how the user's own rows win."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections import defaultdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

import llama_client.catalog
from llama_client.catalog.catalog import ABILITIES, Catalog, Offer, UserRow

TODAY = date(2026, 11, 23)
DATA = Path(llama_client.catalog.__file__).with_name("models.toml")
TABLES: dict[str, list[dict[str, Any]]] = tomllib.loads(DATA.read_text(encoding="utf-8"))
ROWS = TABLES["models"] + TABLES["offers"]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.bundled()


def offer(catalog: Catalog, provider: str, model_id: str) -> Offer:
    found = catalog.offer(provider, model_id)
    assert found is not None
    return found


# The data


def test_rows_have_only_keys_that_are_read() -> None:
    common = {"name", "context_tokens", "abilities", "source", "checked_on"}
    ends = {"deprecated_on", "deprecated_text", "replacement", "unverified"}
    for row in TABLES["models"]:
        assert set(row) <= common | {"aliases", "family"}
    for row in TABLES["offers"]:
        assert set(row) <= common | ends | {"provider", "ids", "max_output_tokens"}
    assert set(TABLES) == {"models", "offers"}


def test_every_row_is_sourced_and_dated_and_names_no_place_of_this_machine() -> None:
    for row in ROWS:
        assert row["source"].strip()
        assert type(row["checked_on"]) is date
        assert row["checked_on"] <= date.today() + timedelta(days=1)  # noqa: DTZ011 -- only bounds typing errors
    assert "/work" not in DATA.read_text(encoding="utf-8")
    assert "shared/" not in DATA.read_text(encoding="utf-8")


def test_no_name_or_alias_means_two_models(catalog: Catalog) -> None:
    owners = defaultdict(list)
    for model in catalog.models:
        for word in (model.name, *model.aliases):
            assert word == word.lower()
            assert "/" not in word
            owners[word].append(model.name)
    assert {word: names for word, names in owners.items() if len(names) > 1} == {}


def test_a_word_that_is_both_an_alias_and_an_id_means_one_model(catalog: Catalog) -> None:
    for served in catalog.all_offers:
        model = catalog.find(served.id)
        assert model is None or model.name == served.name


def test_no_target_is_there_twice(catalog: Catalog) -> None:
    targets = [served.target for served in catalog.all_offers]
    assert len(targets) == len(set(targets))


def test_every_offer_is_of_a_known_model(catalog: Catalog) -> None:
    assert {served.name for served in catalog.all_offers} <= {model.name for model in catalog.models}


def test_abilities_are_of_the_known_ones() -> None:
    assert {ability for row in ROWS for ability in row.get("abilities", ())} <= set(ABILITIES)


def test_a_replacement_is_in_the_catalogue_and_served(catalog: Catalog) -> None:
    for served in catalog.all_offers:
        if served.replacement is not None:
            assert not served.is_served(TODAY)
            assert offer(catalog, served.provider_kind, served.replacement).is_served(TODAY)


def test_local_models_have_no_end(catalog: Catalog) -> None:
    for served in catalog.all_offers:
        if served.provider_kind == "ollama":
            assert served.deprecated_on is None


@pytest.mark.parametrize(
    ("family", "sizes", "context_tokens"),
    [
        ("llama-2", 3, 4096),
        ("llama-3", 2, 8192),
        ("llama-3.1", 3, 131072),
        ("llama-3.2", 2, 131072),
        ("llama-3.2-vision", 2, 131072),
        ("llama-3.3", 1, 131072),
    ],
)
def test_every_llama_generation_is_there(catalog: Catalog, family: str, sizes: int, context_tokens: int) -> None:
    models = [model for model in catalog.models if model.family == family]
    assert len(models) == sizes
    assert {model.context_tokens for model in models} == {context_tokens}
    assert all(catalog.offers(model.name) for model in models)


def test_llama_4_and_code_llama_are_there(catalog: Catalog) -> None:
    contexts = {model.name: model.context_tokens for model in catalog.models}
    assert contexts["llama-4-scout"] == 10 * 2**20
    assert contexts["llama-4-maverick"] == 2**20
    assert [contexts[f"code-llama-{size}-instruct"] for size in ("7b", "13b", "34b", "70b")] == [16384] * 3 + [None]


# Names and ids


@pytest.mark.parametrize("name", ["llama-3.1-8b-instruct", "llama-3.1-8b", "llama3.1-8b", "Llama-3.1-8B-Instruct"])
def test_a_model_is_found_by_name_and_alias_in_any_case(catalog: Catalog, name: str) -> None:
    model = catalog.find(name)
    assert model is not None
    assert model.name == "llama-3.1-8b-instruct"


def test_llama_3_1_8b_is_served_by_ollama_today_and_was_by_the_others(catalog: Catalog) -> None:
    offers = catalog.offers("llama-3.1-8b-instruct")
    assert {served.provider_kind for served in offers} == {"groq", "together", "ollama"}
    assert [served.target for served in offers if served.is_served(TODAY)] == ["ollama/llama3.1:8b", "ollama/llama3.1"]


def test_the_last_day_before_the_shutdown_is_served_and_the_day_itself_is_not(catalog: Catalog) -> None:
    retired = offer(catalog, "groq", "llama-3.3-70b-versatile")
    assert retired.is_served(date(2026, 8, 15))
    assert not retired.is_served(date(2026, 8, 16))


def test_groq_and_together_serve_no_llama_today_that_we_could_check(catalog: Catalog) -> None:
    hosted = [
        served.target
        for served in catalog.all_offers
        if served.provider_kind != "ollama" and served.is_served(TODAY) and not served.unverified
    ]
    assert hosted == [
        "groq/openai/gpt-oss-120b",
        "groq/openai/gpt-oss-20b",
        "groq/qwen/qwen3.8-27b",
        "together/openai/gpt-oss-120b",
        "together/meta-models/Muse-Glimmer-30B",
        "together/meta-models/Muse-Spark-Open-816B-A42B",
    ]


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("llama3", "llama-3-8b-instruct"),
        ("llama3.1", "llama-3.1-8b-instruct"),
        ("llama3.1:latest", "llama-3.1-8b-instruct"),
        ("llama3.1:405b", "llama-3.1-405b-instruct"),
        ("llama3.2", "llama-3.2-3b-instruct"),
        ("llama3.2:1b", "llama-3.2-1b-instruct"),
        ("llama3.2-vision", "llama-3.2-11b-vision-instruct"),
        ("llama3.3:latest", "llama-3.3-70b-instruct"),
        ("llama4", "llama-4-scout"),
        ("llama4:128x17b", "llama-4-maverick"),
        ("llama2:70b", "llama-2-70b-chat"),
        ("codellama:34b", "code-llama-34b-instruct"),
        ("gpt-oss:120b", "gpt-oss-120b"),
    ],
)
def test_an_ollama_tag_means_its_model(catalog: Catalog, tag: str, name: str) -> None:
    assert offer(catalog, "ollama", tag).name == name


def test_latest_says_nothing_only_for_ollama(catalog: Catalog) -> None:
    assert [served.id for served in catalog.ids("llama3.1:latest")] == ["llama3.1"]
    assert catalog.offer("groq", "openai/gpt-oss-20b:latest") is None


def test_an_id_of_several_providers_gives_each(catalog: Catalog) -> None:
    assert [served.provider_kind for served in catalog.ids("openai/gpt-oss-120b")] == ["groq", "together"]
    assert len(catalog.ids("llama-3.1-8b-instant")) == 1


def test_what_is_not_known_is_none_and_never_an_error(catalog: Catalog) -> None:
    assert catalog.find("llama-9") is None
    assert catalog.offers("llama-9") == ()
    assert catalog.offer("groq", "llama-9") is None
    assert catalog.offer("nobody", "llama3.1") is None
    assert catalog.ids("llama-9") == ()
    assert catalog.explain_retirement("groq", "llama-9", TODAY) is None
    assert offer(catalog, "together", "meta-models/Muse-Spark-Open-816B-A42B").abilities is None


# Retirement


def test_the_retired_snippet_is_told_its_month_its_replacement_and_who_else_has_it(catalog: Catalog) -> None:
    assert catalog.explain_retirement("groq", "llama-3.1-70b-versatile", TODAY) == (
        "groq retired llama-3.1-70b-versatile in January 2025; its replacement there is openai/gpt-oss-120b "
        "(a different model); the same model is served by ollama as llama3.1:70b"
    )


def test_without_a_known_replacement_only_the_day_and_the_others_are_told(catalog: Catalog) -> None:
    assert catalog.explain_retirement("together", "openai/gpt-oss-20b", TODAY) == (
        "together retired openai/gpt-oss-20b on 2026-09-15; the same model is served by groq as openai/gpt-oss-20b "
        "and by ollama as gpt-oss:20b"
    )


def test_who_may_not_serve_it_any_more_is_not_recommended(catalog: Catalog) -> None:
    assert offer(catalog, "together", "meta-llama/Meta-Llama-3-8B-Instruct-Lite").unverified
    sentence = catalog.explain_retirement("groq", "llama3-8b-8192", TODAY)
    assert sentence is not None
    assert "together" not in sentence


def test_what_is_served_is_not_called_retired(catalog: Catalog) -> None:
    assert catalog.explain_retirement("groq", "openai/gpt-oss-120b", TODAY) is None
    assert catalog.explain_retirement("groq", "llama-3.1-8b-instant", date(2026, 8, 15)) is None


def test_a_replacement_that_is_gone_as_well_is_not_recommended(catalog: Catalog) -> None:
    gone = UserRow("groq/openai/gpt-oss-120b", "gpt-oss-120b", deprecated_on=TODAY)
    sentence = catalog.extended([gone]).explain_retirement("groq", "llama-3.1-70b-versatile", TODAY)
    assert sentence is not None
    assert "gpt-oss" not in sentence


def test_a_replacement_of_the_same_model_is_not_called_a_different_one(catalog: Catalog) -> None:
    rows = [
        UserRow("together/old", "llama-3.3-70b", deprecated_on=TODAY, replacement="new"),
        UserRow("together/new", "llama-3.3-70b"),
    ]
    assert catalog.extended(rows).explain_retirement("together", "old", TODAY) == (
        "together retired old on 2026-11-23; its replacement there is new; the same model is served by ollama as "
        "llama3.3:70b"
    )


# Suggestions


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("openai/gpt-oss-20b", "groq/openai/gpt-oss-20b"),
        ("lama-3.1-8b", "llama-3.1-8b"),
        ("together/meta-models/muse-glimmer-30b", "together/meta-models/Muse-Glimmer-30B"),
        ("zzzzzz", None),
    ],
)
def test_the_nearest_known_name_is_suggested(catalog: Catalog, written: str, meant: str | None) -> None:
    assert catalog.nearest(written) == meant


def test_no_retired_target_is_suggested_where_the_day_is_given(catalog: Catalog) -> None:
    written = "groq/llama-3.1-8b-instan"
    assert catalog.nearest(written) == "groq/llama-3.1-8b-instant"
    assert catalog.nearest(written, day=TODAY) != "groq/llama-3.1-8b-instant"


# The user's own rows


def test_a_users_row_wins_over_ours_and_keeps_what_it_does_not_say(catalog: Catalog) -> None:
    row = UserRow("groq/llama-3.3-70b-versatile", "llama-3.3-70b", context_tokens=65536)
    kept = offer(catalog.extended([row]), "groq", "llama-3.3-70b-versatile")
    assert kept.is_served(TODAY)
    assert kept.context_tokens == 65536
    assert kept.source.startswith("the configuration; ")
    assert not offer(catalog, "groq", "llama-3.3-70b-versatile").is_served(TODAY)


def test_a_users_row_that_means_another_model_takes_nothing_from_ours(catalog: Catalog) -> None:
    row = UserRow("groq/openai/gpt-oss-20b", "my-model")
    assert catalog.extended([row]).offer("groq", "openai/gpt-oss-20b") == Offer(
        "groq", "openai/gpt-oss-20b", "my-model"
    )


def test_a_users_endpoint_of_a_known_model_serves_it_under_its_name(catalog: Catalog) -> None:
    row = UserRow("together/me/my-endpoint", "Llama-3.3-70B", abilities=frozenset({"tools"}))
    extended = catalog.extended([row])
    served = [o.target for o in extended.offers("llama-3.3-70b-instruct") if o.is_served(TODAY)]
    assert served == ["ollama/llama3.3:70b", "ollama/llama3.3", "together/me/my-endpoint"]
    assert offer(extended, "together", "me/my-endpoint").abilities == frozenset({"tools"})


def test_a_users_new_model_is_found_by_its_name_and_aliases(catalog: Catalog) -> None:
    rows = [UserRow("vllm/tuned", "My-Tuned", aliases=("mine",)), UserRow("laptop/tuned.gguf", "MINE")]
    extended = catalog.extended(rows)
    model = extended.find("Mine")
    assert model is not None
    assert model.name == "My-Tuned"
    assert [served.target for served in extended.offers("My-Tuned")] == ["vllm/tuned", "laptop/tuned.gguf"]
    assert extended.find("llama-3.1-8b") == catalog.find("llama-3.1-8b")


def test_a_users_alias_wins_over_our_alias_but_not_over_a_canonical_name(catalog: Catalog) -> None:
    row = UserRow("vllm/tuned", "tuned", aliases=("llama-3.3-70b", "gpt-oss-20b"))
    extended = catalog.extended([row])
    mine, theirs = extended.find("llama-3.3-70b"), extended.find("gpt-oss-20b")
    assert mine is not None
    assert mine.name == "tuned"
    assert theirs is not None
    assert theirs.name == "gpt-oss-20b"


def test_a_users_alias_wins_wherever_the_model_stands(catalog: Catalog) -> None:
    model = catalog.extended([UserRow("vllm/old", "llama-2-7b", aliases=("Llama-3.3-70B",))]).find("llama-3.3-70b")
    assert model is not None
    assert model.name == "llama-2-7b-chat"


def test_a_row_of_a_canonical_name_is_of_that_model_even_after_an_alias_like_it(catalog: Catalog) -> None:
    rows = [UserRow("vllm/tuned", "tuned", aliases=("gpt-oss-20b",)), UserRow("vllm/oss", "gpt-oss-20b")]
    assert offer(catalog.extended(rows), "vllm", "oss").name == "gpt-oss-20b"


# The module


def test_importing_reads_no_data_and_brings_no_parser() -> None:
    code = (
        "import sys, llama_client; before = set(sys.modules); "
        "sys.addaudithook(lambda event, args: event == 'open' and '.toml' in str(args[0]) and print(args[0])); "
        "import llama_client.catalog.catalog; "
        "print(*sorted({'tomllib', 'pydantic', 'importlib.resources'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


def test_a_bundled_model_is_found_by_alias_id_and_retirement() -> None:
    catalog, day = Catalog.bundled(), date(2026, 11, 23)
    model = catalog.find("Llama3.1-8B")
    assert model is not None
    assert model.name == "llama-3.1-8b-instruct"
    served = [offer.target for offer in catalog.offers("llama-3.3-70b-instruct") if offer.is_served(day)]
    assert served == ["ollama/llama3.3:70b", "ollama/llama3.3"]
    assert catalog.offer("groq", "an-id-of-tomorrow") is None
    assert catalog.nearest("openai/gpt-oss-20b") == "groq/openai/gpt-oss-20b"
    assert catalog.explain_retirement("groq", "llama-3.1-8b-instant", day) == (
        "groq retired llama-3.1-8b-instant on 2026-08-16; "
        "its replacement there is openai/gpt-oss-20b (a different model); "
        "the same model is served by ollama as llama3.1:8b"
    )
    kept = catalog.extended([UserRow("groq/llama-3.3-70b-versatile", "llama-3.3-70b")])
    offer = kept.offer("groq", "llama-3.3-70b-versatile")
    assert offer is not None
    assert offer.is_served(day)
