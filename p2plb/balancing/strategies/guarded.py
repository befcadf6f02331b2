"""A policy's strategy as the balancer asks it: with priorities around it, and never the reason why a call fails.

Strategies may be anybody's code. What one raises or makes up is counted and logged, and a random node serves instead.
"""

import logging
import random
from collections.abc import Sequence

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.priorities import by_priority
from p2plb.balancing.view import Picker, Strategy, View
from p2plb.errors import P2PError
from p2plb.quiet import Quiet

complain = Quiet(logging.getLogger("p2plb")).exception


class Guarded:
    """The strategy of one service. Any thread may call."""

    def __init__(self, strategy: Strategy, service: str, rng: random.Random) -> None:
        self.mishaps = 0
        """How often it failed, or picked what is not one of its nodes."""
        self._strategy = strategy
        self._service = service
        self._rng = rng

    def __call__(self, nodes: Sequence[Node]) -> Picker:
        """Return the picker for these nodes, perhaps none."""
        if nodes:
            try:
                return by_priority(self._strategy, nodes)
            except Exception:
                self._mishap("strategy of service %s failed; its nodes are picked at random")
        return lambda _call: self._rng.choice(nodes)

    def ask(self, view: View, call: Call) -> Node:
        """Return what the view's picker picks; `P2PError` if it means that none of the nodes may serve this call."""
        try:
            node = view.pick(call)
            if node in view.members:
                return node
            self._mishap("strategy of service %s picked what is not one of its nodes")
        except P2PError:
            raise
        except Exception:
            self._mishap("picker of service %s failed; a node is picked at random")
        return self._rng.choice(view.nodes)

    def _mishap(self, text: str) -> None:
        self.mishaps += 1
        complain(text, self._service)
