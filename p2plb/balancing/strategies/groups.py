"""Groups of nodes, each with a picker of its own: what strategies are made of that stand around another.

The inner strategy is asked once for each group when the view is made; a pick chooses the group and asks its picker. So
wrappers compose, and what they wrap need not know of them.
"""

import itertools
import random
from bisect import bisect
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.view import Strategy
from p2plb.errors import NoInstances

ASKS: Final = 3
"""How often a group's picker is asked for a node that is not to be avoided, as the balancer does for all nodes."""

Loads = Callable[[Sequence[float]], Sequence[float]]
"""Maps for each group the part of its weight that is not to be avoided, 0 to 1, to its part of the calls."""


class Group:
    """Nodes and the picker that an inner strategy has made for them."""

    def __init__(self, inner: Strategy, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.weight = sum(map(weight_of, nodes))
        self._pick = inner(nodes)

    def pick(self, call: Call) -> Node:
        """Return a node of the group, one that is not to be avoided if there is any."""
        for _ in range(ASKS):
            node = self._pick(call)
            if node not in call.avoid:
                return node
        rest = [one for one in self.nodes if one not in call.avoid]
        return random.choice(rest) if rest else node


class Split:
    """A picker that shares calls out among groups by how well they are; a node may stand in several groups."""

    def __init__(self, groups: Sequence[Group], loads: Loads, draw: Callable[[], float]) -> None:
        self._groups = groups
        self._loads = loads
        self._draw = draw
        self._homes: dict[Node, list[int]] = {}
        for index, group in enumerate(groups):
            for node in group.nodes:
                self._homes.setdefault(node, []).append(index)
        self._reach: tuple[frozenset[Node], list[float]] = frozenset(), self._add_up(frozenset())

    def __call__(self, call: Call) -> Node:
        """Return a node of the group whose turn it is by chance, of another one if none there may serve this call."""
        avoid, reach = self._reach
        if avoid is not call.avoid:  # the same object until an ejection begins or ends
            reach = self._add_up(call.avoid)
            self._reach = call.avoid, reach
        group = self._groups[bisect(reach, self._draw() * reach[-1], hi=len(reach) - 1)]
        try:
            return group.pick(call)
        except NoInstances:
            return self._elsewhere(group, call)

    def _elsewhere(self, group: Group, call: Call) -> Node:
        for other in self._groups:
            if other is not group:
                with suppress(NoInstances):
                    return other.pick(call)
        return group.pick(call)

    def _add_up(self, avoid: frozenset[Node]) -> list[float]:
        lost = [0.0] * len(self._groups)
        for node in avoid:
            for index in self._homes.get(node, ()):
                lost[index] += weight_of(node)
        parts = [max(0.0, 1.0 - gone / group.weight) for gone, group in zip(lost, self._groups, strict=True)]
        return list(itertools.accumulate(self._loads(parts)))


def weight_of(node: Node) -> float:
    """Return a node's weight; weight 0 (then all have it) counts as 1."""
    return node.weight or 1.0


def check_inner(inner: object, wrapper: str) -> None:
    """Raise unless `inner` is a strategy."""
    if isinstance(inner, type):
        raise TypeError(f"{wrapper}(inner) is an instance: write {inner.__name__}(), with brackets")
    if not callable(inner):
        raise TypeError(f"{wrapper}(inner) is a strategy such as LeastRequest(), not {inner!r}")
