"""Bounded loads: who has more than a fair part of the calls in flight, and who has the smallest.

V. Mirrokni, M. Thorup and M. Zadimoghaddam, "Consistent Hashing with Bounded Loads" (2016), with a floor: few calls in
flight would make the bound 1, and a key would leave its node at once.
"""

from collections.abc import Collection, Sequence
from typing import Final

from p2plb.balancing.node import Node

FRESH: Final = 64
"""The calls in flight on all nodes are counted again after one pick for each so many nodes."""


class Bound:
    """What this client's calls in flight allow. Any thread may ask; the counts may be some picks old."""

    def __init__(self, nodes: Sequence[Node], factor: float, slack: int) -> None:
        self._nodes = nodes
        self._factor = factor
        self._slack = slack
        self._picks_left = 0
        self._per_weight = 0.0

    def is_full(self, node: Node, avoid: Collection[Node]) -> bool:
        """Whether a node has more than `slack` calls in flight, and would have more than `factor` times its part."""
        in_flight = node.in_flight
        return in_flight > self._slack and in_flight + 1 > self._factor * self._mean(avoid) * _weight(node)

    def emptiest(self, avoid: Collection[Node]) -> Node:
        """Return the node with the fewest calls in flight for its weight."""
        return min(self._open(avoid), key=lambda node: node.in_flight / _weight(node))

    def _mean(self, avoid: Collection[Node]) -> float:
        """Return the calls in flight for each unit of weight, the next call counted."""
        self._picks_left -= 1
        if self._picks_left < 0:
            nodes = self._open(avoid)
            self._per_weight = (sum(node.in_flight for node in nodes) + 1) / sum(map(_weight, nodes))
            self._picks_left = len(nodes) // FRESH
        return self._per_weight

    def _open(self, avoid: Collection[Node]) -> Sequence[Node]:
        return [node for node in self._nodes if node not in avoid] or self._nodes


def _weight(node: Node) -> float:
    return node.weight or 1.0
