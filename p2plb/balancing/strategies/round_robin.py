"""Round robin: each node in turn, all alike or by weight."""

import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.reported import ReportedTurns
from p2plb.balancing.strategies.turns import cycle
from p2plb.balancing.view import Picker


@dataclass(frozen=True)
class RoundRobin:
    """Each node in turn, from a random start, whatever its weight.

    The random start matters: processes that all begin with the first node send it all first calls (gRPC's round robin
    starts at random too). `draw` returns a random number from 0 up to 1.
    """

    draw: Callable[[], float] = field(default=random.random, kw_only=True, repr=False)

    def __call__(self, nodes: Sequence[Node]) -> Picker:
        """Return the picker for these nodes."""
        return in_turn(nodes, range(len(nodes)), self.draw)


@dataclass(frozen=True)
class WeightedRoundRobin:
    """Each node in turn, as often as its weight says, its turns spread over the whole cycle; the start is random.

    Over one cycle the shares are exact if the weights have a common measure (whole numbers, halves, … thousandths) and
    add up to at most 16,384 of it; else they are rounded to that. This is stride scheduling (Waldspurger, Weihl, 1995),
    which gRPC's weighted round robin uses too. With `reported=True` weights are what instances report
    (`p2plb.LoadReportMiddleware`), requests a second for each unit of processor, in place of the records' once two have
    reported for ten seconds. `draw` returns a random number from 0 up to 1, `clock` seconds.
    """

    reported: bool = False
    clock: Callable[[], float] = field(default=time.monotonic, kw_only=True, repr=False)
    draw: Callable[[], float] = field(default=random.random, kw_only=True, repr=False)

    def __call__(self, nodes: Sequence[Node]) -> Picker:
        """Return the picker for these nodes."""
        if self.reported:
            return ReportedTurns(nodes, self.clock, self.draw).pick
        return in_turn(nodes, cycle([node.weight for node in nodes]), self.draw)


def in_turn(nodes: Sequence[Node], order: Sequence[int], draw: Callable[[], float]) -> Picker:
    """Return a picker that goes through the nodes in this order, over and over, from a random start."""
    turns = [nodes[index] for index in order]
    size = len(turns)
    turn = itertools.count(int(draw() * size))  # `next` on it is atomic: no lock

    def pick(_call: Call) -> Node:
        return turns[next(turn) % size]

    return pick
