"""Round robin: each node in turn."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.view import Picker


@dataclass(frozen=True)
class RoundRobin:
    """Each node in turn, from a random start, whatever its weight.

    The random start matters: processes that all begin with the first node send it all first calls (gRPC's round robin
    starts at random too).
    """

    def __call__(self, nodes: Sequence[Node]) -> Picker:
        """Return the picker for these nodes."""
        size = len(nodes)
        turn = itertools.count(random.randrange(size))  # `next` on it is atomic: no lock

        def pick(_call: Call) -> Node:
            return nodes[next(turn) % size]

        return pick
