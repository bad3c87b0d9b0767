"""Figures as text, in sentences and on axes."""

from collections.abc import Callable

import pytest

from llama_client.crossover.format import counted, figure, share, short_usd, times, tokens, usd


@pytest.mark.parametrize(
    ("written", "values", "texts"),
    [
        (
            tokens,
            (439_628_891, 7_411_083_437, 950, 999.6, 0, 1e15, 0.001),
            ("440 M", "7.41 G", "950", "1 k", "0", "1,000 T", "0.001"),
        ),
        (
            usd,
            (13383.4, 87.5, 0.2705, -1200, 0, 2.68e-5, 999.996),
            ("$13,383", "$87.50", "$0.271", "-$1,200", "$0", "$0.0000268", "$1,000"),
        ),
        (share, (0.126, 0.004, 0.9915, 0.9999, 1.0), ("13%", "0.4%", "99.2%", "99.9%", "100%")),
        (figure, (0.2, 4205.0, 1234567.0, "fp8", 2.69), ("0.2", "4,205", "1,234,567", "fp8", "2.69")),
        (
            short_usd,
            (0.88, 1.5, 12.29, 12_345, -2e6, 0.0001, 0),
            ("$0.88", "$1.50", "$12.29", "$12.3k", "-$2M", "$0.0001", "$0"),
        ),
        (times, (1.004, 1.5, 12.34, 1e6), ("1.004", "1.5", "12.3", "1000000")),
    ],
    ids=["tokens", "usd", "share", "figure", "short_usd", "times"],
)
def test_a_figure_is_written_as_a_reader_expects(
    written: Callable[..., str], values: tuple[object, ...], texts: tuple[str, ...]
) -> None:
    assert tuple(map(written, values)) == texts


def test_a_count_has_its_noun() -> None:
    assert [counted(count, "call") for count in (0, 1, 1_200)] == ["0 calls", "1 call", "1,200 calls"]
