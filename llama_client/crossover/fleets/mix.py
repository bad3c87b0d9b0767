"""The cheapest way to serve each layer of a load, and so the cheapest fleet.

Layers are independent (`levels.py`), and all that is shared is paid once: staff where there is a machine at all, an
API's fees where it gets a token. So the search compares all API, machines without and with bought ones; within each,
every layer takes what is cheapest for it. That is exact, and takes no search over numbers of replicas.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llama_client.crossover.fleets.levels import Following, Levels, Scaling
from llama_client.crossover.fleets.supply import Api, Supplies, Supply
from llama_client.crossover.scenario import FleetKind


@dataclass(frozen=True, slots=True)
class Option:
    """One way to serve the layers; the lists have one entry a block, of one layer over the whole curve."""

    supply: Supply | None  # None: the API
    usd: list[float]
    paid_hours: list[float]
    api_tokens: list[float]
    late_tokens: list[float]  # what waits for a start
    following: Following | None = None

    @property
    def kind(self) -> FleetKind:
        return "api" if self.supply is None else self.supply.kind


@dataclass(frozen=True, slots=True)
class Mix:
    """The cheapest fleet for a load; `chosen` has the option of each block."""

    levels: Levels
    api: Api | None
    chosen: tuple[Option, ...]
    usd: float  # of the layers, over the whole curve
    fixed_usd_per_month: float  # staff and disks
    fees_usd_per_month: float
    spare: Supply | None
    spare_usd_per_month: float
    unfilled_usd_per_month: float  # of bought computers with room for more replicas
    usd_per_month: float

    @property
    def owned(self) -> int:
        """The layers on bought replicas."""
        pairs = zip(self.levels.counts, self.chosen, strict=True)
        return sum(count for count, option in pairs if option.kind == "own")

    @property
    def has_machine(self) -> bool:
        return any(option.supply is not None for option in self.chosen)

    @property
    def always_on(self) -> int:
        """The layers whose replicas always run."""
        return sum(
            count
            for count, option in zip(self.levels.counts, self.chosen, strict=True)
            if option.supply is not None and option.supply.scaling is None
        )


@dataclass(frozen=True, slots=True)
class Mixer:
    """Finds mixes for loads; all have the same replicas, prices and policy."""

    supplies: Supplies
    capacity: float
    hours_per_month: float
    spare: int
    least: int
    is_late_to_api: bool

    def levels(self, loads: Sequence[float]) -> Levels:
        return Levels(loads, self.capacity, edges=(self.least,))

    def best(self, levels: Levels, *, kinds: Sequence[FleetKind], base: int = 0) -> Mix | None:
        """The cheapest mix of some kinds; `base` replicas always run. None: these kinds cannot serve it."""
        levels = levels.with_edge(base)
        machines = [each for each in self.supplies.machines if each.kind in kinds]
        # With and without the staff of bought machines.
        fleets = [[each for each in machines if each.kind != "own"], machines]
        fleets = [each for place, each in enumerate(fleets) if each and each not in fleets[:place]]
        apis = self._apis(kinds)
        found: list[Mix] = []
        for api in _or_none(apis):
            if api is not None and not base:
                found.append(self._all_to(api, levels))
            for fleet in fleets:
                found += self._filled(levels, fleet, api, base)
        if apis and all(api.fees_usd_per_month > 0 for api in apis):
            # A fee is saved where no layer needs the API, which each layer on its own does not see.
            found += self._without_fees(levels, fleets, apis, base)
        return min(found, key=lambda mix: mix.usd_per_month, default=None)

    def _filled(self, levels: Levels, fleet: Sequence[Supply], api: Api | None, base: int) -> Iterator[Mix]:
        """A mix, and the same with bought computers that are full: one fewer, or the last one filled."""
        mix = self._layered(levels, fleet, api, base)
        yield mix
        size = next((each.replicas_per_computer for each in fleet if each.kind == "own"), 1)
        spare = self.spare if mix.spare is not None and mix.spare.kind == "own" else 0
        more = (mix.owned + spare) % size
        if more:
            for owned in (max(0, mix.owned - more), mix.owned - more + size):
                yield self._layered(levels.with_edge(owned), fleet, api, base, owned=owned)

    def _without_fees(
        self, levels: Levels, fleets: Sequence[Sequence[Supply]], apis: Sequence[Api], base: int
    ) -> Iterator[Mix]:
        may_wait = not self.is_late_to_api or not self.supplies.start_s
        for fleet in fleets:
            steady = [each for each in fleet if may_wait or each.scaling is None]
            if steady:
                yield self._layered(levels, steady, None, base)
            for each in fleet:
                for api in apis:
                    yield self._layered(levels, [each], api, base, is_alone=True)

    def alone(self, levels: Levels, kind: FleetKind, *, kinds: Sequence[FleetKind]) -> Mix | None:
        """All on one kind, but for what comes while replicas start, which goes where it goes beside the other kinds."""
        if kind == "api":
            return self.best(levels, kinds=("api",))
        machines = [each for each in self.supplies.machines if each.kind == kind]
        apis = self._apis(kinds) if self.is_late_to_api else []
        found = [self._layered(levels, machines, api, 0, is_alone=True) for api in _or_none(apis) if machines]
        return min(found, key=lambda mix: mix.usd_per_month, default=None)

    def flexible_usd_per_month(self, mix: Mix, block: int) -> float | None:
        """The cost of a layer without a replica that always runs; None: there is no other way."""
        levels, api = mix.levels, mix.api
        followers = [each for each in self.supplies.machines if each.scaling is not None]
        options = [each for supply in followers for each in self._options(levels, supply, api, is_alone=False)]
        if api is not None:
            options.append(self._api_option(levels, api))
        usd = min((option.usd[block] for option in options), default=None)
        return None if usd is None else usd * self.hours_per_month / len(levels.loads)

    def _apis(self, kinds: Sequence[FleetKind]) -> list[Api]:
        """The APIs of which each is the cheapest at some volume."""
        ranked = sorted(self.supplies.apis, key=lambda api: (api.fees_usd_per_month, api.usd_per_token))
        found: list[Api] = []
        lowest = float("inf")
        for api in ranked if "api" in kinds else ():
            if api.usd_per_token < lowest:
                found.append(api)
                lowest = api.usd_per_token
        return found

    def _all_to(self, api: Api, levels: Levels) -> Mix:
        return self._mix(levels, api, [self._api_option(levels, api)] * len(levels.tops), [])

    def _layered(
        self,
        levels: Levels,
        machines: Sequence[Supply],
        api: Api | None,
        base: int,
        *,
        is_alone: bool = False,
        owned: int | None = None,
    ) -> Mix:
        options = [option for supply in machines for option in self._options(levels, supply, api, is_alone=is_alone)]
        free = options if api is None or is_alone else [self._api_option(levels, api), *options]
        least = max(self.least, base)
        always = [self._always(levels, supply) for supply in machines]
        fixed = [each for each in always if each.supply is not None and each.supply.scaling is None]
        # A base for work that waits is of what is made to run for good, if there is such.
        ranges = ((base, fixed or always), (least, always), (math.inf, free))
        chosen: list[Option] = []
        for top, allowed in ranges:
            if owned is not None:
                # What no other kind can serve stays on bought ones.
                bought = [option for option in (*allowed, *always) if option.kind == "own"]
                chosen += self._cheapest(levels, len(chosen), min(owned, top), bought or allowed)
                allowed = [option for option in (*allowed, *always) if option.kind != "own"] or bought
            chosen += self._cheapest(levels, len(chosen), top, allowed)
        return self._mix(levels, api, chosen, machines)

    def _cheapest(self, levels: Levels, first: int, top: float, options: Sequence[Option]) -> Iterator[Option]:
        """The cheapest option of each block from one on, up to a layer."""
        blocks = slice(first, bisect.bisect_right(levels.tops, top))
        for usd in zip(*(option.usd[blocks] for option in options), strict=True):
            yield options[usd.index(min(usd))]

    def _mix(self, levels: Levels, api: Api | None, chosen: list[Option], machines: Sequence[Supply]) -> Mix:
        usd, owned, to_api, has_machine = 0.0, 0, False, False
        for block, (count, option) in enumerate(zip(levels.counts, chosen, strict=True)):
            usd += count * option.usd[block]
            to_api = to_api or option.api_tokens[block] > 0
            if option.supply is not None:
                has_machine = True
                owned += count if option.supply.kind == "own" else 0
        fixed = fees = spare_usd = 0.0
        spare = None
        if has_machine:
            if self.spare:
                spare = min(machines, key=lambda each: each.usd_per_hour)
                spare_usd = self.spare * spare.usd_per_hour * self.hours_per_month
                owned += self.spare if spare.kind == "own" else 0
            fixed = self.supplies.fixed_usd_per_month[owned > 0]
        if api is not None and to_api:
            fees = api.fees_beside(has_machine=has_machine)
        own = next((each for each in machines if each.kind == "own"), None)
        unfilled = 0.0 if own is None else own.unfilled_usd_per_month(owned, self.hours_per_month)
        month = usd * self.hours_per_month / len(levels.loads) + fixed + fees + spare_usd + unfilled
        return Mix(levels, api, tuple(chosen), usd, fixed, fees, spare, spare_usd, unfilled, month)

    def _api_option(self, levels: Levels, api: Api) -> Option:
        none = [0.0] * len(levels.tops)
        return Option(None, [api.usd_per_token * tokens for tokens in levels.tokens], none, levels.tokens, none)

    def _always(self, levels: Levels, supply: Supply) -> Option:
        hours, none = float(len(levels.loads)), [0.0] * len(levels.tops)
        usd = [supply.usd_per_hour * hours + supply.usd_per_token * tokens for tokens in levels.tokens]
        return Option(supply, usd, [hours] * len(levels.tops), none, none)

    def _options(self, levels: Levels, supply: Supply, api: Api | None, *, is_alone: bool) -> list[Option]:
        if supply.scaling is None:
            return [self._always(levels, supply)]
        found = [self._follows(levels, supply, supply.scaling, api, 0.0)]
        if api is not None and not is_alone:
            # Below this share of a replica an hour of it costs more than the API.
            gain = (api.usd_per_token - supply.usd_per_token) * self.capacity
            share = supply.usd_per_hour / gain if gain > 0 else 1.0
            if 0 < share < 1:
                found.append(self._follows(levels, supply, supply.scaling, api, share))
        return found

    def _follows(self, levels: Levels, supply: Supply, scaling: Scaling, api: Api | None, share: float) -> Option:
        following = levels.following(scaling, smallest_share=share)
        late = following.late_tokens
        away = following.left_tokens
        if api is not None and self.is_late_to_api:
            away = [left + each for left, each in zip(away, late, strict=True)]
            late = [0.0] * len(late)
        hour_usd, token_usd = supply.usd_per_hour, supply.usd_per_token
        api_usd = 0.0 if api is None else api.usd_per_token
        usd = [
            hour_usd * hours + (token_usd * (tokens - sent) if tokens > sent else 0.0) + api_usd * sent
            for hours, tokens, sent in zip(following.billed_hours, levels.tokens, away, strict=True)
        ]
        return Option(supply, usd, following.billed_hours, away, late, following)


def _or_none(apis: Sequence[Api]) -> Sequence[Api | None]:
    return apis or (None,)
