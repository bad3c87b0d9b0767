"""Other open models that do the same for less: a line beside the answer, never a part of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from functools import cache
from typing import Any

from llama_client.crossover.economics import CostInputs, usd_per_mtok
from llama_client.crossover.format import iso_day, usd
from llama_client.crossover.offers import sold_offers
from llama_client.crossover.scenario import ApiPrice
from llama_client.crossover.tables import rows

# Scores that differ by less are about the same: a repeated run of GPQA Diamond, of 198 questions, differs by more.
_ABOUT_THE_SAME = 2.0
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Score:
    model: str
    benchmark: str
    score: float
    source: str
    published_on: date
    checked_on: date
    setting: str | None = None  # how hard it reasoned; None: it does not reason, or cannot be set


@dataclass(frozen=True, slots=True)
class SharedScore:
    """A benchmark that both models have a published score of."""

    benchmark: str
    score: float
    asked_score: float
    setting: str | None

    @property
    def is_less(self) -> bool:
        return self.score < self.asked_score - _ABOUT_THE_SAME


@dataclass(frozen=True, slots=True)
class Alternative:
    """The cheapest offer of another model, at the mix of the traffic."""

    model: str
    price: ApiPrice
    usd_per_mtok: float
    scores: tuple[SharedScore, ...]  # empty: no benchmark is published for both

    def as_document(self) -> dict[str, Any]:
        scores = [asdict(each) for each in self.scores]
        return {
            "model": self.model,
            "api": self.price.name,
            "usd_per_mtok": self.usd_per_mtok,
            "scores": scores,
            "unverified": self.price.unverified,
            "as_of": iso_day(self.price.as_of),
        }


def alternatives_of(
    model: str,
    plan: CostInputs,
    *,
    below_usd_per_mtok: float,
    today: date,
    offers: Iterable[tuple[str, ApiPrice]] | None = None,
) -> tuple[Alternative, ...]:
    """The other open models of about the same or better quality that are sold for less, cheapest first.

    On no benchmark that both have does one score clearly less. Those that share none come last: whether they do the
    same is unknown, unless a third model scores more than they do, and less than the one to replace.

    Args:
        model: The name of the model to replace, in the tables.
        plan: The traffic's mix of tokens, and the length of a request that an offer must hold.
        below_usd_per_mtok: What a million tokens cost now.
        today: The day of the question.
        offers: What is sold, by the model's name; None: all known offers of that day.
    """
    cheapest: dict[str, Alternative] = {}
    for name, price in sold_offers(today=today) if offers is None else offers:
        other, cost = _plain(name), usd_per_mtok(price, plan)
        if other == _plain(model) or cost >= below_usd_per_mtok:
            continue
        if price.context_tokens is not None and price.context_tokens < plan.tokens_per_request:
            continue
        if other in cheapest and cheapest[other].usd_per_mtok <= cost:
            continue
        shared = _shared(_plain(model), other)
        is_less = any(each.is_less for each in shared) if shared else _is_less_by_a_third(_plain(model), other)
        if not is_less:
            cheapest[other] = Alternative(other, price, cost, shared)
    return tuple(sorted(cheapest.values(), key=lambda each: (not each.scores, each.usd_per_mtok)))


def alternatives_note(found: Iterable[Alternative]) -> str | None:
    """One line on them; None: there is none."""
    alike = [each for each in found if each.scores]
    unknown = [each for each in found if not each.scores]
    sentences = []
    if alike:
        named = "; ".join(_named(each) for each in alike[:_MOST_NAMED])
        sentences.append(f"Other open models of about the same or better scores for less, no like for like: {named}.")
    if unknown:
        named = ", ".join(f"{each.model} ({_price(each)})" for each in unknown[:_MOST_NAMED])
        sentences.append(f"Cheaper too, with no benchmark that is published here for both: {named}.")
    return " ".join(sentences) or None


def _named(each: Alternative) -> str:
    scores = ", ".join(f"{one.benchmark} {one.score:g} against {one.asked_score:g}" for one in each.scores)
    settings = sorted({one.setting for one in each.scores if one.setting})
    extra = f"; {', '.join(settings)}, and what it writes while it reasons comes on top" if settings else ""
    return f"{each.model} for {_price(each)} ({scores}{extra})"


def _price(each: Alternative) -> str:
    doubt = ", unverified" if each.price.unverified else ""
    return f"{usd(each.usd_per_mtok)} per million tokens at {each.price.provider}{doubt}"


def _shared(asked: str, other: str) -> tuple[SharedScore, ...]:
    own, others = known_scores().get(asked, {}), known_scores().get(other, {})
    return tuple(
        SharedScore(benchmark, others[benchmark].score, score.score, others[benchmark].setting)
        for benchmark, score in own.items()
        if benchmark in others
    )


def _is_less_by_a_third(asked: str, other: str) -> bool:
    def is_less(one: str, than: str) -> bool:
        return any(each.is_less for each in _shared(than, one))

    return any(is_less(other, third) and is_less(third, asked) for third in known_scores())


@cache
def known_scores() -> Mapping[str, Mapping[str, Score]]:
    """Every score, by model and benchmark."""
    found: dict[str, dict[str, Score]] = {}
    for card in rows("scores.toml", "cards"):
        told = {name: value for name, value in card.items() if name != "scores"}
        for model, scores in card["scores"].items():
            for benchmark, score in scores.items():
                found.setdefault(model, {})[benchmark] = Score(model, benchmark, float(score), **told)
    return found


def _plain(name: str) -> str:
    """A model's name in the catalogue as in the tables."""
    return name.removesuffix("-instruct")
