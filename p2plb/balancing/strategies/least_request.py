"""Least request: the best of a few, by calls in flight.

M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (1996); Envoy's LEAST_REQUEST and gRPC's A48
with two choices.
"""

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.turns import cycle
from p2plb.balancing.view import Picker
from p2plb.instance import check_number

FEW: Final = 4
"""Up to this many nodes all are compared: that is exact, and costs no more than drawing."""


@dataclass(frozen=True)
class LeastRequest:
    """Of `choices` different nodes the one with the fewest calls in flight (of this client, in proportion to weight).

    The first of them takes its turn as in weighted round robin and the others are random, so an idle client spreads its
    calls evenly. Four nodes or fewer are all compared. `active_request_bias` says how much load counts beside weight
    where weights differ, as in Envoy: nodes are compared by calls in flight to its power, divided by weight, so above 1
    busy nodes of great weight are avoided more, below 1 less. `draw` returns a random number from 0 up to 1.
    """

    choices: int = 2
    active_request_bias: float = 1.0
    draw: Callable[[], float] = field(default=random.random, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.choices, int) or isinstance(self.choices, bool):
            raise TypeError(f"LeastRequest(choices=) is a whole number, not {self.choices!r}")
        check_number(self.choices, "LeastRequest(choices=)", 2, 100)
        check_number(self.active_request_bias, "LeastRequest(active_request_bias=)", 0.1, 10)

    def __call__(self, nodes: Sequence[Node]) -> Picker:
        """Return the picker for these nodes."""
        if len(nodes) == 1:
            return lambda _call: nodes[0]
        rivals = len(nodes) - 1 if len(nodes) <= FEW else min(self.choices, len(nodes)) - 1
        parts = _parts([node.weight for node in nodes], self.active_request_bias)
        return _two(nodes, parts, self.draw) if rivals == 1 else _several(nodes, parts, rivals, self.draw)


def _parts(weights: Sequence[float], bias: float) -> list[float]:
    """Return by what calls in flight are multiplied, so that comparing is multiplying: load^bias / weight, its root."""
    if len(set(weights)) == 1:
        return [1.0] * len(weights)
    return [weight ** (-1 / bias) if weight else float("inf") for weight in weights]


def _two(nodes: Sequence[Node], parts: Sequence[float], draw: Callable[[], float]) -> Picker:
    order = cycle([node.weight for node in nodes])
    length, rest = len(order), len(nodes) - 1
    turn = itertools.count(int(draw() * length))

    def pick(_call: Call) -> Node:
        i = order[next(turn) % length]
        j = int(draw() * rest)
        j += j >= i  # another one than i, with one draw
        first, second = nodes[i], nodes[j]
        return second if second.in_flight * parts[j] < first.in_flight * parts[i] else first

    return pick


def _several(nodes: Sequence[Node], parts: Sequence[float], rivals: int, draw: Callable[[], float]) -> Picker:
    order = cycle([node.weight for node in nodes])
    length, size, rest = len(order), len(nodes), len(nodes) - 1
    turn = itertools.count(int(draw() * length))

    def pick(_call: Call) -> Node:
        first = order[next(turn) % length]
        start = int(draw() * rest)
        best, least = first, nodes[first].in_flight * parts[first]
        for step in range(start, start + rivals):  # neighbours from a random one on, so that no two are the same
            index = (first + 1 + step % rest) % size
            load = nodes[index].in_flight * parts[index]
            if load < least:
                best, least = index, load
        return nodes[best]

    return pick
