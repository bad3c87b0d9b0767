"""What fine-tuning needs: against sums that are known, and adapters counted by hand."""

from __future__ import annotations

import pytest

from llama_client.crossover.fitting.memory import ATTENTION_MATRICES, GIB, METHODS, lora_parameters, training_need
from llama_client.crossover.tables import Tables
from llama_client.errors import InvalidRequestError

TABLES = Tables.bundled()


def test_a_full_fine_tuning_of_70b_takes_eight_times_its_weights() -> None:
    model = TABLES.model("llama-3.3-70b")
    full, eight_bit = training_need(model, "full"), training_need(model, "full-8bit-adam")
    assert full.weights_bytes / 1e9 == pytest.approx(141, abs=0.5)
    assert full.state_bytes / 1e12 == pytest.approx(1.13, abs=0.005)
    assert full.state_bytes == 16 * model.parameters
    assert eight_bit.state_bytes / 1e9 == pytest.approx(423, abs=0.5)
    assert full.trained_parameters == model.parameters
    assert training_need(model, "qlora").total_bytes / 2**30 == pytest.approx(46, abs=0.5)


# What PEFT prints as trainable parameters, at rank 16 over all linear layers and rank 8 over queries and values.
@pytest.mark.parametrize(
    ("name", "rank", "matrices", "parameters"),
    [
        ("llama-3.1-8b", 16, None, 41_943_040),
        ("llama-3.1-8b", 8, ("q", "v"), 3_407_872),
        ("llama-2-7b", 8, ("q", "v"), 4_194_304),
        ("llama-3.3-70b", 16, None, 207_093_760),
    ],
)
def test_adapters_are_counted_from_the_dimensions(
    name: str, rank: int, matrices: tuple[str, ...] | None, parameters: int
) -> None:
    model = TABLES.model(name)
    if matrices is None:
        assert lora_parameters(model, rank=rank) == parameters
    else:
        assert lora_parameters(model, rank=rank, matrices=matrices) == parameters


def test_every_expert_has_adapters_of_its_own() -> None:
    maverick = TABLES.model("llama-4-maverick")
    # 24 layers of 128 experts and a shared one, 24 dense ones.
    of_gates = 16 * (24 * 129 * (5120 + 8192) + 24 * (5120 + 16384))
    assert lora_parameters(maverick, matrices=("gate",)) == of_gates


def test_lora_trains_adapters_alone_and_qlora_keeps_the_rest_in_4_bits() -> None:
    model = TABLES.model("llama-3.1-8b")
    lora, qlora = training_need(model, "lora"), training_need(model, "qlora")
    adapters = lora_parameters(model)
    assert lora.trained_parameters == qlora.trained_parameters == adapters
    assert lora.gradient_bytes + lora.optimizer_bytes == 14 * adapters
    assert lora.weights_bytes == 2 * (model.parameters + adapters)
    # 4.127 bits for what is not embeddings (2 x 128,256 x 4,096), which stay at 16.
    narrow, wide = model.parameters - 2 * 128256 * 4096, 2 * 128256 * 4096
    assert qlora.weights_bytes == pytest.approx(narrow * 4.127 / 8 + 2 * wide + 2 * adapters, abs=1)
    assert narrow * 4.127 / 8 / narrow == pytest.approx(0.52, abs=0.005)


def test_ways_of_training_need_less_in_their_order_and_more_with_longer_examples() -> None:
    for model in TABLES.models:
        totals = [training_need(model, method).total_bytes for method in METHODS]
        assert totals == sorted(totals, reverse=True)
        short, long = (training_need(model, "qlora", sequence_tokens=tokens) for tokens in (512, 4096))
        assert long.activation_bytes == 8 * short.activation_bytes
        assert long.state_bytes == short.state_bytes
    small = lora_parameters(TABLES.models[0], matrices=ATTENTION_MATRICES)
    assert small < lora_parameters(TABLES.models[0])
    assert training_need(TABLES.model("llama-3.1-8b"), "qlora").total_bytes / GIB < 12


def test_what_is_wrong_is_named() -> None:
    model = TABLES.model("llama-3.1-8b")
    with pytest.raises(InvalidRequestError, match=r"^method: 'qlore' .* did you mean 'qlora'\?"):
        training_need(model, "qlore")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match=r"^rank: must be a whole number above 0, got 0"):
        lora_parameters(model, rank=0)
    with pytest.raises(InvalidRequestError, match=r"^matrices: 'query' "):
        lora_parameters(model, matrices=("query",))
    with pytest.raises(InvalidRequestError, match=r"^matrices: must name one of q, k"):
        lora_parameters(model, matrices=())
    with pytest.raises(InvalidRequestError, match=r"^batch: "):
        training_need(model, "lora", batch=0)
