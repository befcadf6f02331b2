"""Slow start: a node that joins gets a small part of its share at first, and more from second to second.

Envoy's slow start mode. It works on the answers of the inner strategy: a node that is still new is taken with the
probability that its age says, else the inner strategy is asked again. So it fits around every strategy, and the ramp
goes on without a new view.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

from p2plb.balancing.call import Call
from p2plb.balancing.health import Health
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.groups import check_inner
from p2plb.balancing.view import Picker, Strategy
from p2plb.errors import NoInstances
from p2plb.instance import check_number

ASKS: Final = 5
"""How often the inner strategy is asked at most; the last answer is taken, however new."""

_seen: WeakKeyDictionary[Health, float] = WeakKeyDictionary()
"""When each node was first seen; it goes with what else is known of the node, and outlives views and clients alike."""


@dataclass(frozen=True)
class SlowStart:
    """A new node's part of what `inner` would give it grows from `least` to all in `seconds`.

    After t seconds it is (t / seconds) ** (1 / aggression), but at least `least`. Time runs from when this client
    first saw the node. Those that it has known for longest, at its own start all, count as warmed up.
    `clock` is a monotonic clock in seconds; `draw` returns a random number from 0 up to 1.
    """

    inner: Strategy
    seconds: float = field(default=30.0, kw_only=True)
    aggression: float = field(default=1.0, kw_only=True)
    least: float = field(default=0.1, kw_only=True)
    clock: Callable[[], float] = field(default=time.monotonic, kw_only=True, repr=False)
    draw: Callable[[], float] = field(default=random.random, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        check_inner(self.inner, "SlowStart")
        check_number(self.seconds, "SlowStart(seconds=)", 0.001, 86_400)
        check_number(self.aggression, "SlowStart(aggression=)", 0.01, 100)
        check_number(self.least, "SlowStart(least=)", 0.001, 1)

    def __call__(self, nodes: Sequence[Node]) -> Picker:
        """Return the picker for these nodes."""
        inner, clock, draw = self.inner(nodes), self.clock, self.draw
        now = clock()
        since = {node: _seen.setdefault(node.health, now) for node in nodes}
        oldest = min(since.values())
        new = {node: seen for node, seen in since.items() if seen > oldest and now - seen < self.seconds}

        def taken(node: Node) -> bool:
            return node not in new or draw() < self.part(clock() - new[node])

        def pick(call: Call) -> Node:
            node = inner(call)
            return node if taken(node) else _another(inner, call, node, taken)

        return pick if new else inner

    def part(self, age: float) -> float:
        """Return the part of its share that a node has this many seconds after it was first seen."""
        return min(1.0, max(self.least, math.pow(max(0.0, age) / self.seconds, 1.0 / self.aggression)))


def _another(inner: Picker, call: Call, node: Node, taken: Callable[[Node], bool]) -> Node:
    """Ask for another node than this, if there is one; a keyed strategy goes on to its next candidate."""
    avoid = call.avoid
    try:
        for _ in range(ASKS - 1):
            call.avoid = call.avoid | {node}
            node = inner(call)
            if taken(node):
                break
    except NoInstances:  # nobody else may serve this call, so a new node does
        pass
    finally:
        call.avoid = avoid
    return node
