"""Zone aware: calls stay in the caller's zone as far as each instance gets its fair share of them.

Envoy's zone aware routing. Envoy knows how many callers each zone has; here `callers=` says it, and without it zones
are taken to have the same number of calls to make.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from p2plb.balancing.node import Node
from p2plb.balancing.strategies.groups import Group, Split, check_inner
from p2plb.balancing.strategies.priorities import OVERPROVISIONING
from p2plb.balancing.view import Picker, Strategy
from p2plb.instance import check_number

PANIC: Final = 0.5
"""With less than this part of all weight left zones do not matter: Envoy's panic threshold."""


@dataclass(frozen=True)
class ZoneAware:
    """Calls go to instances in `zone`, the caller's own, as many as these can take; `inner` picks within a zone.

    Proportional: if a zone has less of the instances' weight than of the callers, the rest of its calls goes to the
    zones that have more, so that each instance gets the same. `callers` maps zones to their parts of all calls; without
    it they are equal. A zone whose instances are ejected counts fully until less than 1/1.4 of it is left. With less
    than half of all left, or fewer than `min_size` instances, zones do not matter.
    With `hard=True` all calls stay in the zone while one of its instances can serve, whatever the others get.
    """

    inner: Strategy
    zone: str
    hard: bool = field(default=False, kw_only=True)
    callers: Mapping[str, float] | None = field(default=None, kw_only=True, hash=False)
    min_size: int = field(default=6, kw_only=True)
    draw: Callable[[], float] = field(default=random.random, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        check_inner(self.inner, "ZoneAware")
        if not isinstance(self.zone, str):
            raise TypeError(f"ZoneAware(zone=) is the caller's own zone, such as 'eu-1', not {self.zone!r}")
        if not self.zone:
            raise ValueError(
                "ZoneAware(zone=) is the caller's own zone, such as 'eu-1'; leave ZoneAware out without one"
            )
        for zone, part in (self.callers or {}).items():
            check_number(part, f"ZoneAware(callers={{{zone!r}: …}})", 0, 1e9)
        check_number(self.min_size, "ZoneAware(min_size=)", 0, 1e6)

    def __call__(self, nodes: Sequence[Node]) -> Picker:
        """Return the picker for these nodes."""
        zones: dict[str, list[Node]] = {}
        for node in nodes:
            zones.setdefault(node.zone, []).append(node)
        if self._off(zones, len(nodes)):
            return self.inner(nodes)
        used = {self.zone: zones[self.zone]} if self.hard else zones
        groups = {zone: Group(self.inner, some) for zone, some in used.items()}
        loads = self._all_at_home if self.hard else partial(self._shared, {z: g.weight for z, g in groups.items()})
        return Split([Group(self.inner, nodes), *groups.values()], loads, self.draw)

    def _off(self, zones: Mapping[str, object], size: int) -> bool:
        return len(zones) == 1 or (self.zone not in zones if self.hard else size < self.min_size)

    @staticmethod
    def _all_at_home(healthy: Sequence[float]) -> list[float]:
        return [0.0, 1.0] if healthy[1] else [1.0, 0.0]

    def _shared(self, weights: Mapping[str, float], healthy: Sequence[float]) -> list[float]:
        everywhere, *parts = healthy
        if everywhere < PANIC:
            return [1.0, *(0.0 for _ in parts)]
        able = {
            zone: weights[zone] * min(1.0, OVERPROVISIONING * part) for zone, part in zip(weights, parts, strict=True)
        }
        shares = proportional(self.zone, able, self.callers)
        return [0.0, *(shares[zone] for zone in weights)]


def proportional(home: str, able: Mapping[str, float], callers: Mapping[str, float] | None) -> dict[str, float]:
    """Return the part of the calls from `home` that each zone gets, so that all zones are loaded alike.

    `able` is what each zone can take and `callers` what comes from each, both in any unit; None: the same from each.
    """
    calls = _parts(dict.fromkeys({home, *able}, 1.0) if callers is None else callers)
    takes = _parts(able)
    asks = calls.get(home, 0.0)
    stay = min(1.0, takes.get(home, 0.0) / asks) if asks else 1.0 * (home in takes)
    spare = {zone: max(0.0, part - calls.get(zone, 0.0)) for zone, part in takes.items() if zone != home}
    moved = _parts(spare)
    return {zone: stay if zone == home else (1.0 - stay) * moved[zone] for zone in takes}


def _parts(amounts: Mapping[str, float]) -> dict[str, float]:
    total = sum(amounts.values()) or 1.0
    return {name: amount / total for name, amount in amounts.items()}
