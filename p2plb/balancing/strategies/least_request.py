"""Least request: the better of two, by calls in flight.

M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (1996); Envoy's LEAST_REQUEST and gRPC's A48
with two choices.
"""

import itertools
import random
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.view import Picker


@dataclass(frozen=True)
class LeastRequest:
    """Of two nodes the one with fewer calls in flight (of this client, in proportion to weight).

    With equal weights the first of the two takes its turn as in round robin and the other is random, so an idle client
    spreads its calls evenly. With unequal weights both are drawn by weight.
    """

    def __call__(self, nodes: Sequence[Node]) -> Picker:
        """Return the picker for these nodes."""
        if len(nodes) == 1:
            return lambda _call: nodes[0]
        if len({node.weight for node in nodes}) == 1:
            return _even(nodes)
        return _weighted(nodes)


def _even(nodes: Sequence[Node]) -> Picker:
    size = len(nodes)
    turn = itertools.count(random.randrange(size))
    draw = random.random

    def pick(_call: Call) -> Node:
        i = next(turn) % size
        j = int(draw() * (size - 1))
        first, second = nodes[i], nodes[j + (j >= i)]  # two different nodes with one draw
        return second if second.in_flight < first.in_flight else first

    return pick


def _weighted(nodes: Sequence[Node]) -> Picker:
    reach = list(itertools.accumulate(node.weight for node in nodes))
    total, last = reach[-1], len(nodes) - 1
    draw = random.random

    def pick(_call: Call) -> Node:
        first = nodes[min(bisect(reach, draw() * total), last)]
        second = nodes[min(bisect(reach, draw() * total), last)]
        return second if second.in_flight * first.weight < first.in_flight * second.weight else first

    return pick
