"""Probing: by what instances say of their load, which is what all their clients together put on them.

B. Wydrowski et al., "Load is not what you should balance: Introducing Prequal" (NSDI 2024): of a small pool of fresh
reports the hot nodes are left out, and of the cold ones the fastest is taken. Reports come with ordinary answers
(p2plb/load.py); no request is made for their sake.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from p2plb.balancing.call import Call
from p2plb.balancing.health import Health
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.turns import cycle
from p2plb.balancing.view import Picker
from p2plb.instance import check_number

LEAST: Final = 2
"""With fewer fresh reports than this there is nothing to compare."""
HOT: Final = 0.5
"""Prequal has 0.84, for probes of its own. Reports that ride on answers are older: with 0.84 a fast node that loses its
processors is flooded before it says so (simulated: p99.9 of 10 s instead of 0.5 s at a load of 1.7)."""


@dataclass(frozen=True)
class Probing:
    """The fastest of up to `pool` random nodes that have reported within `max_age` seconds and are not hot.

    Hot are those with more requests in flight, in proportion to weight, than the quantile `hot` of the pool. The part
    `explore` of the calls goes to any node, and a node that nobody has heard of gets one call. Where there are no two
    fresh reports, the node with fewer calls of this client in flight is the better of two. Instances report with
    `p2plb.LoadReportMiddleware`. `clock` returns seconds, `draw` a random number from 0 up to 1.
    `ValueError` or `TypeError` says what is wrong.
    """

    pool: int = 16
    max_age: float = 1.0
    hot: float = HOT
    explore: float = 0.03
    clock: Callable[[], float] = field(default=time.monotonic, kw_only=True, repr=False)
    draw: Callable[[], float] = field(default=random.random, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        check_number(self.pool, "Probing(pool=)", LEAST, 64)
        if not isinstance(self.pool, int):
            raise TypeError(f"Probing(pool=) is a whole number, not {self.pool!r}")
        check_number(self.max_age, "Probing(max_age=)", 0.01, 60)
        check_number(self.hot, "Probing(hot=)", 0, 1)
        check_number(self.explore, "Probing(explore=)", 0, 1)

    def __call__(self, nodes: Sequence[Node]) -> Picker:
        """Return the picker for these nodes."""
        return _Pools(self, nodes).pick if len(nodes) > 1 else lambda _call: nodes[0]


_Place = tuple[Node, Health, float]
_Known = tuple[float, float, int, Node]
"""Latency, load, a number that tells equals apart, and the node that reported them; plain, as picks make many."""


class _Pools:
    """Random pools of nodes, by weight: pieces of one circle on which nodes stand as often as their weight says."""

    def __init__(self, probing: Probing, nodes: Sequence[Node]) -> None:
        self._probing = probing
        turns = _scattered([nodes[index] for index in cycle([node.weight for node in nodes])], probing.draw)
        self._places = len(turns)
        self._size = min(probing.pool, self._places)
        places = [(node, node.health, node.weight or 1.0) for node in turns]
        self._circle = places + places[: self._size]

    def pick(self, call: Call) -> Node:
        """Return the node for a call."""
        probing, avoid = self._probing, call.avoid
        start = int(probing.draw() * self._places)
        pool = self._circle[start : start + self._size]
        if probing.draw() < probing.explore:
            return pool[0][0]
        oldest = probing.clock() - probing.max_age
        known: list[_Known] = []
        for order, (node, health, weight) in enumerate(pool):
            if node in avoid:
                continue
            report = health.report
            if report is None:
                if health.peak.seen is None and not node.in_flight:
                    return node  # nobody has heard of it, not even a failure: this call will tell
            elif report.at >= oldest and report.in_flight is not None:
                latency = health.latency or 0.0 if report.latency is None else report.latency
                known.append((latency, (report.in_flight + node.in_flight) / weight, order, node))
        return _coldest(known, probing.hot) if len(known) >= LEAST else self._idler(pool)

    def _idler(self, pool: Sequence[_Place]) -> Node:
        first, _, weight = pool[0]
        second, _, other = pool[-1 - int(self._probing.draw() * (self._size - 1))]
        return second if second.in_flight * weight < first.in_flight * other else first


def _coldest(known: Sequence[_Known], hot: float) -> Node:
    """Return the fastest of the nodes up to the quantile of the load."""
    loads = sorted([one[1] for one in known])
    bound = loads[int(hot * (len(loads) - 1))]
    return min([one for one in known if one[1] <= bound])[-1]


def _scattered(turns: Sequence[Node], draw: Callable[[], float]) -> list[Node]:
    """Return the turns in an order in which neighbours by name stand apart, another one for each client."""
    size = len(turns)
    stride = 1 + int(draw() * (size - 1))
    while math.gcd(stride, size) != 1:
        stride += 1
    return [turns[number * stride % size] for number in range(size)]
