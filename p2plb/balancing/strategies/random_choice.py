"""Random: each node with the probability that its weight says, whatever was picked before.

By M. Vose's form of Walker's alias method (1991): one draw and two looks into tables, however many nodes there are.
"""

import random
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
        weights = [node.weight for node in nodes]

        def pick(_call: Call) -> Node:
            return nodes[int(draw() * size)]

        if len(set(weights)) == 1:
            return pick
        keeps, others = aliases(weights)

        def pick_by_weight(_call: Call) -> Node:
            point = draw() * size
            index = int(point)
            return nodes[index if point - index < keeps[index] else others[index]]

        return pick_by_weight


def aliases(weights: Sequence[float]) -> tuple[list[float], list[int]]:
    """Return for each index the part of its draws that it keeps, and the index that gets the others."""
    scale = len(weights) / sum(weights)
    parts = [weight * scale for weight in weights]
    poor = [index for index, part in enumerate(parts) if part < 1]
    rich = [index for index, part in enumerate(parts) if part >= 1]
    keeps, others = [1.0] * len(parts), list(range(len(parts)))
    while poor and rich:
        index, giver = poor.pop(), rich[-1]
        keeps[index], others[index] = parts[index], giver
        parts[giver] -= 1.0 - parts[index]
        if parts[giver] < 1:
            poor.append(rich.pop())
    return keeps, others
