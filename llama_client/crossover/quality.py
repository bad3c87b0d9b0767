"""Published quality: what a precision keeps of a model's scores, and in which precision sellers serve it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from functools import cache
from typing import Any

from llama_client.crossover.format import iso_day
from llama_client.crossover.precisions import canonical
from llama_client.crossover.scenario import ApiPrice
from llama_client.crossover.tables import Architecture, Tables, rows
from llama_client.crossover.throughput.points import same_shape
from llama_client.errors import InvalidRequestError

# At these nothing is lost.
_SIXTEEN_BITS = frozenset({"bf16", "F16"})
_PERPLEXITY = "perplexity"


@dataclass(frozen=True, slots=True)
class QualityFigure:
    """A published result of a model in a precision, and that of the same weights at 16 bits."""

    model: str  # the one whose weights were tested
    precision: str
    metric: str
    value: float
    baseline: float
    source: str
    checked_on: date
    published_on: date | None = None  # None: the source does not say
    method: str | None = None
    weights: str | None = None  # None: those tuned for instructions

    @property
    def lost(self) -> float:
        """What is lost against 16 bits, as a share: of the score, or by which perplexity grows."""
        ratio = self.value / self.baseline
        return ratio - 1 if self.metric == _PERPLEXITY else 1 - ratio

    def sentence(self) -> str:
        """What the figure says, as in `fp8 keeps 99.5% of BF16's score on OpenLLM v1 (...)`."""
        if self.metric == _PERPLEXITY:
            return f"{self.precision} raises perplexity by {self.lost:.1%} over 16 bits ({self._where()})"
        return f"{self.precision} keeps {self._kept()} of BF16's score on {self.metric} ({self._where()})"

    def addition(self) -> str:
        """The same beside another figure of the precision."""
        return f"{self._kept()} on {self.metric} ({self._where()})"

    def _kept(self) -> str:
        kept = 1 - self.lost
        # What is not quite all is not shown as all.
        return f"{min(kept, 0.999) if kept < 1 else kept:.1%}"

    def _where(self) -> str:
        day = f"checked {self.checked_on}" if self.published_on is None else str(self.published_on)
        weights = None if self.weights is None else f"{self.weights} weights"
        return "; ".join(filter(None, (weights, self.method, self.source, day)))

    def as_document(self) -> dict[str, Any]:
        days = {"checked_on": iso_day(self.checked_on), "published_on": iso_day(self.published_on)}
        return asdict(self) | days | {"lost": self.lost}


@dataclass(frozen=True, slots=True)
class ServedPrecision:
    """How a seller serves a model, as far as it is known."""

    precision: str | None  # None: a format of its own
    told: str | None
    source: str
    checked_on: date | None  # None: given by hand


def quality_of(model: Architecture, precision: str) -> QualityFigure | None:
    """The broadest published figure of a precision; None: none is known.

    Args:
        model: The model. Where its own weights were not tested, those of a model of the same shape stand in, the one
            that was released nearest to it.
        precision: Any spelling that `precisions.canonical` knows.
    """
    return next(iter(figures_of(model, precision)), None)


def figures_of(model: Architecture, precision: str) -> tuple[QualityFigure, ...]:
    """All of them, the broadest first."""
    name, tables = canonical(precision), Tables.bundled()
    found = [each for each in known_figures() if each.precision == name]
    tested = {each.model: tables.model(each.model) for each in found}
    alike = [each for each in tested.values() if each.name == model.name or same_shape(each, model)]
    nearest = min(alike, key=lambda each: (each.name != model.name, _days_between(each, model)), default=None)
    return tuple(each for each in found if nearest is not None and each.model == nearest.name)


def served_precision(api: ApiPrice) -> ServedPrecision | None:
    """The precision in which a seller serves an offer, of the table or as its price has it; None: it was not told."""
    seller, model = api.provider.lower(), api.model.lower()
    for row in rows("quality.toml", "sellers"):
        if seller.startswith(row.get("seller", "").lower()) and row.get("id_has", "") in model:
            return ServedPrecision(row.get("precision"), row.get("told"), row["source"], row["checked_on"])
    return None if api.precision is None else ServedPrecision(api.precision, None, api.source, api.as_of)


def quality_note(model: Architecture | None, precision: str | None, api: ApiPrice | None) -> str | None:
    """One line beside the price: what both sides' precisions keep; None: there is nothing to say."""
    parts = []
    if model is not None and precision is not None and precision not in _SIXTEEN_BITS:
        parts.append(_own(model, precision))
    if model is not None and api is not None and api.is_same_model:
        parts.append(_sold(model, api, precision))
    return " ".join(part for part in parts if part) or None


def quality_document(model: Architecture | None, precision: str | None, api: ApiPrice | None) -> dict[str, Any]:
    served = None if api is None else served_precision(api)
    figures = () if model is None or precision is None else figures_of(model, precision)
    return {
        "own": [each.as_document() for each in figures],
        "served": None if served is None else asdict(served) | {"checked_on": iso_day(served.checked_on)},
    }


def _own(model: Architecture, precision: str) -> str:
    found = figures_of(model, precision)
    published = model.published_precision
    if not found and published is not None and canonical(precision) == canonical(published):
        return f"{model.name} was published in {precision}, so nothing of its quality is lost."
    if not found:
        return f"What {precision} keeps of {model.name}'s quality at 16 bits: no published figure is known here."
    lowest = max(found, key=lambda each: each.lost)
    beside = f", {lowest.addition()}" if lowest.lost > found[0].lost else ""
    return f"Quality: {found[0].sentence()}{beside}{_of_another(found[0], model)}."


def _of_another(figure: QualityFigure, model: Architecture) -> str:
    return "" if figure.model == model.name else f", measured on {figure.model}, which has the same shape"


def _sold(model: Architecture, api: ApiPrice, own: str | None) -> str:
    served = served_precision(api)
    if served is None:
        # Sellers by hand, as `an API`, have no precision that could be looked up.
        return "" if api.source == "given" else f"The precision in which {api.provider} serves it is not known here."
    where = served.source if served.checked_on is None else f"{served.source}, checked {served.checked_on}"
    how = "; ".join(filter(None, (served.precision, served.told)))
    sentence = f"{api.provider} serves it in {how} ({where})"
    precision = None if served.precision is None else _known(served.precision)
    figure = None if precision in (None, own) else quality_of(model, str(precision))
    return f"{sentence}." if figure is None else f"{sentence}: {figure.sentence()}{_of_another(figure, model)}."


def _known(precision: str) -> str | None:
    """The canonical name; None: a seller's own word for a format, of which no figure is known."""
    try:
        return canonical(precision)
    except InvalidRequestError:
        return None


def _days_between(one: Architecture, other: Architecture) -> float:
    if one.released_on is None or other.released_on is None:
        return math.inf
    return abs((one.released_on - other.released_on).days)


@cache
def known_figures() -> tuple[QualityFigure, ...]:
    """Every figure, as it is in the table."""
    return tuple(_read())


def _read() -> Iterator[QualityFigure]:
    for row in rows("quality.toml", "figures"):
        numbers = {"value": float(row["value"]), "baseline": float(row["baseline"])}
        yield QualityFigure(**(row | numbers))
    for row in rows("quality.toml", "perplexities"):
        same = {name: value for name, value in row.items() if name != "values"}
        for precision, value in row["values"].items():
            yield QualityFigure(**same, precision=precision, metric=_PERPLEXITY, value=value)
