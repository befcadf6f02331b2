"""Priorities: who has the lowest number is called first, the next once too few of those can be.

Envoy's priority levels (load balancing: "priority levels", "overprovisioning factor"). The balancer puts this around
each policy's strategy; strategies need not know of it.
"""

import random
from collections.abc import Sequence
from typing import Final

from p2plb.balancing.node import Node
from p2plb.balancing.strategies.groups import Group, Split
from p2plb.balancing.view import Picker, Strategy

OVERPROVISIONING: Final = 1.4
"""A level takes all calls until less than 1/1.4 of its weight, 71 %, is left; Envoy's factor."""


def by_priority(inner: Strategy, nodes: Sequence[Node]) -> Picker:
    """Return the picker of `inner` for these nodes; if they have different priorities, one that respects them."""
    levels: dict[int, list[Node]] = {}
    for node in nodes:
        levels.setdefault(node.instance.priority, []).append(node)
    if len(levels) == 1:
        return inner(nodes)
    return Split([Group(inner, levels[level]) for level in sorted(levels)], loads, random.random)


def loads(healthy: Sequence[float]) -> list[float]:
    """Return the part of the calls for each level, from the part of it that is healthy, the first level first."""
    able = [min(1.0, OVERPROVISIONING * part) for part in healthy]
    scale = max(1.0, 1.0 / sum(able)) if any(able) else 1.0
    left, shares = 1.0, []
    for one in able:
        shares.append(min(left, one * scale))
        left -= shares[-1]
    return shares if any(able) else [1.0, *([0.0] * (len(able) - 1))]
