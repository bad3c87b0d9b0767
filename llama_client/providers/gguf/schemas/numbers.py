"""Numbers within bounds, as trees of the digits that write them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor
from typing import NamedTuple

from llama_client.providers.gguf.schemas.automata import Automaton, TooLargeError, automaton_of, product, trimmed
from llama_client.providers.gguf.schemas.characters import DIGITS, of_text
from llama_client.providers.gguf.schemas.patterns import EMPTY, Alt, Node, Repeat, Seq, Set

# Of whole numbers: every one of 64 bits has no more. Of others: what a double holds exactly.
_INTEGER_DIGITS = 19
_FLOAT_DIGITS = 15
_FRACTION_DIGITS = 10
_MOST_FRACTION_DIGITS = 30
# Of multiples, so many are listed.
_MAX_LISTED = 64
_MAX_REMAINDERS = 250
# Bounds of more digits than any double's are not worth a rule for each.
_MAX_BOUND = Decimal(10) ** 40


class NumberRules(NamedTuple):
    is_integer: bool
    least: Decimal | None = None
    most: Decimal | None = None
    # Whether the bounds themselves are left out.
    above: bool = False
    below: bool = False
    multiple_of: Decimal | None = None
    # At most so many digits before and after the point.
    digits: tuple[int | None, int | None] = (None, None)


class Numbers(NamedTuple):
    """Either a tree or an automaton; neither: there is no such number."""

    node: Node | None = None
    automaton: Automaton | None = None
    not_held: tuple[str, ...] = ()


_DIGIT = Set(DIGITS)
_MINUS, _POINT = Set(of_text("-")), Set(of_text("."))
_POSITIVE = Seq((Set(of_text("123456789")), Repeat(_DIGIT, 0, _INTEGER_DIGITS - 1)))
_ANY_INTEGER = Alt((Set(of_text("0")), Seq((Repeat(_MINUS, 0, 1), _POSITIVE))))
_EXPONENT = Seq((Set(of_text("eE")), Repeat(Set(of_text("+-")), 0, 1), Set(of_text("123456789")), Repeat(_DIGIT, 0, 1)))
_ANY_NUMBER = Seq(
    (
        Repeat(_MINUS, 0, 1),
        Alt((Set(of_text("0")), Seq((Set(of_text("123456789")), Repeat(_DIGIT, 0, _FLOAT_DIGITS - 1))))),
        Repeat(Seq((_POINT, Repeat(_DIGIT, 1, _FLOAT_DIGITS))), 0, 1),
        Repeat(_EXPONENT, 0, 1),
    )
)


@lru_cache(maxsize=1024)
def numbers(rules: NumberRules) -> Numbers:
    """What may be written, and the keywords that the grammar does not hold."""
    if rules == NumberRules(rules.is_integer):
        return Numbers(_ANY_INTEGER if rules.is_integer else _ANY_NUMBER)
    with localcontext() as context:
        context.prec = 120
        return _numbers(rules)


def _numbers(rules: NumberRules) -> Numbers:
    low, high, multiple = rules.least, rules.most, rules.multiple_of
    if low is not None and high is not None and (low > high or (low == high and (rules.above or rules.below))):
        return Numbers()
    if any(bound is not None and abs(bound) > _MAX_BOUND for bound in (low, high, multiple)):
        return Numbers(_ANY_INTEGER if rules.is_integer else _ANY_NUMBER, not_held=("minimum", "maximum", "multipleOf"))
    places = 0 if rules.is_integer else _places(rules)
    step = _step(multiple, is_integer=rules.is_integer)
    if multiple is not None and step is not None:
        # Every multiple has at most so many digits after the point.
        places = min(_decimals(step), places) if rules.is_integer or places >= _decimals(step) else places
    unit = Decimal(1).scaleb(-places)
    top = Decimal(10) ** (rules.digits[0] if rules.digits[0] is not None else _whole_digits(rules)) - unit
    lowest = -top if low is None else _up(low, unit, above=rules.above)
    highest = top if high is None else _down(high, unit, below=rules.below)
    if rules.digits[0] is not None:
        lowest, highest = max(lowest, -top), min(highest, top)
    if lowest > highest:
        # A range that is narrower than what is written of a fraction.
        is_empty = rules.is_integer or rules.digits != (None, None)
        return Numbers() if is_empty else Numbers(_ANY_NUMBER, not_held=("minimum", "maximum"))
    node = decimals(lowest, highest, places)
    if multiple is None or step == unit:
        return Numbers(node)
    return _multiples(node, lowest, highest, step, places)


def _places(rules: NumberRules) -> int:
    """How many digits after the point are written, such that no bound is crossed where the number is rounded."""
    if rules.digits[1] is not None:
        return min(rules.digits[1], _MOST_FRACTION_DIGITS)
    bounds = [bound for bound in (rules.least, rules.most) if bound is not None]
    whole = max((len(str(abs(int(bound)))) for bound in bounds), default=1)
    needed = max(
        (_decimals(bound) for bound in (*bounds, *((rules.multiple_of,) if rules.multiple_of else ()))), default=0
    )
    return min(max(min(_FRACTION_DIGITS, _FLOAT_DIGITS - whole), needed, 0), _MOST_FRACTION_DIGITS)


def _whole_digits(rules: NumberRules) -> int:
    digits = _INTEGER_DIGITS if rules.is_integer else _FLOAT_DIGITS
    bounds = [bound for bound in (rules.least, rules.most) if bound is not None]
    return max([digits, *(len(str(abs(int(bound)))) + 1 for bound in bounds)])


def _decimals(number: Decimal) -> int:
    exponent = number.normalize().as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


def _step(multiple: Decimal | None, *, is_integer: bool) -> Decimal | None:
    if multiple is None:
        return None
    return Decimal(Fraction(multiple).numerator) if is_integer else multiple


def _up(bound: Decimal, unit: Decimal, *, above: bool) -> Decimal:
    least = (bound / unit).to_integral_value(ROUND_CEILING) * unit
    return least + unit if above and least == bound else least


def _down(bound: Decimal, unit: Decimal, *, below: bool) -> Decimal:
    most = (bound / unit).to_integral_value(ROUND_FLOOR) * unit
    return most - unit if below and most == bound else most


def _multiples(node: Node, low: Decimal, high: Decimal, step: Decimal | None, places: int) -> Numbers:
    if step is None or step <= 0:
        return Numbers(node, not_held=("multipleOf",))
    first, last = ceil(Fraction(low) / Fraction(step)), floor(Fraction(high) / Fraction(step))
    if first > last:
        return Numbers()
    if last - first < _MAX_LISTED:
        listed = [step * factor for factor in range(first, last + 1)]
        return Numbers(Alt(tuple(text_node(f"{each.normalize():f}") for each in listed)))
    whole = int(step.scaleb(places))
    if step.scaleb(places) != whole or whole > _MAX_REMAINDERS:
        return Numbers(node, not_held=("multipleOf",))
    try:
        return Numbers(automaton=product(automaton_of(node), _remainders(whole, places)))
    except TooLargeError:
        return Numbers(node, not_held=("multipleOf",))


def _remainders(divisor: int, places: int) -> Automaton:
    """The numbers of at most so many digits after the point that are multiples of `divisor` units of the last one."""
    digits = [of_text(str(digit)) for digit in range(10)]
    # By the digits that follow the point so far, then by the remainder: 0 is the start.
    number = {(at, rest): 2 + at * divisor + rest for at in range(places + 1) for rest in range(divisor)}
    count = 2 + (places + 1) * divisor
    moves: list[list[tuple[tuple[tuple[int, int], ...], int]]] = [[] for _ in range(count + places * divisor)]
    final = set()
    for (at, rest), state in number.items():
        if rest * 10 ** (places - at) % divisor == 0:
            final.add(state)
        if at < places:
            point = count + at * divisor + rest if at == 0 else state
            if at == 0:
                moves[state].append((of_text("."), point))
            moves[point] += [(digits[d], number[at + 1, (rest * 10 + d) % divisor]) for d in range(10)]
        if at == 0:
            moves[state] += [(digits[d], number[0, (rest * 10 + d) % divisor]) for d in range(10)]
    begin = [(digits[d], number[0, d % divisor]) for d in range(10)]
    moves[0], moves[1] = [*begin, (of_text("-"), 1)], begin
    return trimmed(Automaton(tuple(map(tuple, moves)), frozenset(final)))


def text_node(text: str) -> Node:
    return Seq(tuple(Set(of_text(char)) for char in text))


def decimals(low: Decimal, high: Decimal, places: int) -> Node:
    """The numbers from one to another, both included, of at most so many digits after the point."""
    options: list[Node] = []
    unit = Decimal(1).scaleb(-places)
    if low < 0:
        options.append(Seq((_MINUS, _positive(max(-high, unit), -low, places))))
    if high >= 0:
        options.append(_positive(max(low, Decimal(0)), high, places))
    return options[0] if len(options) == 1 else Alt(tuple(options))


def _positive(low: Decimal, high: Decimal, places: int) -> Node:
    whole_low, part_low = _split(low, places)
    whole_high, part_high = _split(high, places)
    none, all_ = "0" * places, "9" * places
    if whole_low == whole_high:
        return Seq((text_node(str(whole_low)), _fraction(part_low, part_high)))
    options: list[Node] = []
    if part_low != none:
        options.append(Seq((text_node(str(whole_low)), _fraction(part_low, all_))))
        whole_low += 1
    if part_high != all_:
        options.append(Seq((text_node(str(whole_high)), _fraction(none, part_high))))
        whole_high -= 1
    if whole_low <= whole_high:
        options.append(Seq((integers(whole_low, whole_high), _fraction(none, all_))))
    return options[0] if len(options) == 1 else Alt(tuple(options))


def _split(number: Decimal, places: int) -> tuple[int, str]:
    whole, _, part = f"{number:f}".partition(".")
    return int(whole), part.ljust(places, "0")[:places]


def integers(low: int, high: int) -> Node:
    """From one to another, neither negative."""
    options: list[Node] = []
    for digits in range(len(str(low)), len(str(high)) + 1):
        first = max(low, 10 ** (digits - 1) if digits > 1 else 0)
        options.append(_same_length(str(first), str(min(high, 10**digits - 1))))
    return options[0] if len(options) == 1 else Alt(tuple(options))


def _same_length(low: str, high: str) -> Node:
    return _between(low, high, _same_length, fewest=len(low) - 1) if low else EMPTY


def _between(low: str, high: str, rest_of: Callable[[str, str], Node], *, fewest: int) -> Node:
    """A digit and what may follow it, between two rows of as many digits.

    `rest_of`: what follows where the first digit is that of a bound; `fewest`: the digits that follow elsewhere.
    """
    rest = len(low) - 1
    if low[0] == high[0]:
        return Seq((_digits_from(low[0], low[0]), rest_of(low[1:], high[1:])))
    options: list[Node] = []
    first, last = int(low[0]), int(high[0])
    if low[1:] != "0" * rest:
        options.append(Seq((_digits_from(low[0], low[0]), rest_of(low[1:], "9" * rest))))
        first += 1
    if high[1:] != "9" * rest:
        options.append(Seq((_digits_from(high[0], high[0]), rest_of("0" * rest, high[1:]))))
        last -= 1
    if first <= last:
        options.append(Seq((_digits_from(str(first), str(last)), Repeat(_DIGIT, fewest, rest))))
    return options[0] if len(options) == 1 else Alt(tuple(options))


def _digits_from(low: str, high: str) -> Set:
    return Set(((ord(low), ord(high)),))


def _fraction(low: str, high: str) -> Node:
    """What may follow a whole number: nothing, or the point and digits, between two fractions of as many digits."""
    if not low or high == "0" * len(high):
        return EMPTY if not low else Repeat(Seq((_POINT, Set(of_text("0")))), 0, 1)
    some = Seq((_POINT, _part(low, high)))
    return Repeat(some, 0, 1) if low == "0" * len(low) else some


def _part(low: str, high: str) -> Node:
    """At least one digit, such that what is written lies between these."""
    return _between(low, high, _rest_of, fewest=0)


def _rest_of(low: str, high: str) -> Node:
    if not low:
        return EMPTY
    some = _part(low, high)
    return Repeat(some, 0, 1) if low == "0" * len(low) else some
