"""Peak EWMA: the better of two, by what calls to them have cost lately and how many are in flight.

Finagle's balancer of this name, also Linkerd's. What calls have cost is kept with the node's health (peak.py), so it
outlives views; errors, time-outs and cancelled calls are part of it.
"""

import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import exp
from typing import Final

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.groups import weight_of
from p2plb.balancing.strategies.peak import DECAY
from p2plb.balancing.strategies.turns import cycle
from p2plb.balancing.view import Picker
from p2plb.instance import check_number

FURTHEST: Final = 100.0
"""How many times `DECAY` two samples are taken to be apart at most: what is older costs nothing."""


@dataclass(frozen=True)
class PeakEwma:
    """Of two different nodes the one where a call is likely to cost less: seconds times calls in flight, by weight.

    The seconds are a moving average of 10 s that jumps to each slower answer; failures count as at least 1 s; while a
    node is idle they fade, so it is tried again. A node that has not answered yet gets one call, and more after its
    answer. A node that has not been picked for `explore` seconds and is drawn gets a call whatever it may cost.
    `clock` is a monotonic clock in seconds, the one that calls go by; `draw` returns a random number from 0 up to 1.
    """

    explore: float = 30.0
    clock: Callable[[], float] = field(default=time.monotonic, kw_only=True, repr=False)
    draw: Callable[[], float] = field(default=random.random, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        check_number(self.explore, "PeakEwma(explore=)", 0.1, 86_400)

    def __call__(self, nodes: Sequence[Node]) -> Picker:
        """Return the picker for these nodes."""
        if len(nodes) == 1:
            return lambda _call: nodes[0]
        clock, draw, explore = self.clock, self.draw, self.explore
        cheaper = comparison(nodes)
        order = cycle([node.weight for node in nodes])
        length, rest = len(order), len(nodes) - 1
        turn = itertools.count(int(draw() * length))
        picked = [clock()] * len(nodes)

        def pick(_call: Call) -> Node:
            now = clock()
            i = order[next(turn) % length]
            j = int(draw() * rest)
            j += j >= i  # another one than i, with one draw
            if cheaper(i, j):
                i, j = j, i
            if now - picked[j] > explore and not nodes[j].in_flight:
                i = j
            picked[i] = now
            return nodes[i]

        return pick


def comparison(nodes: Sequence[Node]) -> Callable[[int, int], bool]:
    """Return a function from two nodes' indexes to whether a call to the second is likely to cost less.

    Both costs fade alike, so only the time between their last samples counts, not the time that it is.
    """
    known = [(node, node.health.peak, 1.0 / weight_of(node)) for node in nodes]

    def cheaper(first: int, second: int) -> bool:
        node, peak, part = known[first]
        other, its_peak, its_part = known[second]
        seen, its_seen = peak.seen, its_peak.seen
        if seen is None:
            return other.in_flight < node.in_flight if its_seen is None else node.in_flight > 0
        if its_seen is None:
            return other.in_flight == 0
        later = exp(min(FURTHEST, (its_seen[1] - seen[1]) / DECAY))
        return its_seen[0] * later * (other.in_flight + 1) * its_part < seen[0] * (node.in_flight + 1) * part

    return cheaper
