"""Random: each node with the probability that its weight says, whatever was picked before."""

import itertools
import random
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.view import Picker


@dataclass(frozen=True)
class Random:
    """A random node, in proportion to weight. `draw` returns a random number from 0 up to 1."""

    draw: Callable[[], float] = field(default=random.random, kw_only=True, repr=False)

    def __call__(self, nodes: Sequence[Node]) -> Picker:
        """Return the picker for these nodes."""
        draw, size = self.draw, len(nodes)
        reach = list(itertools.accumulate(node.weight for node in nodes))
        total = reach[-1]

        def pick(_call: Call) -> Node:
            return nodes[int(draw() * size)]

        def pick_by_weight(_call: Call) -> Node:
            return nodes[bisect(reach, draw() * total, hi=size - 1)]

        return pick if len({node.weight for node in nodes}) == 1 else pick_by_weight
