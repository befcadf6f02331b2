"""Which nodes are passed over for a while, and why: refused connections and nodes that asked for a rest.

Pure: time is passed in. Reading costs one comparison while nothing is ejected. Outlier detection will be a second
reason beside these.
"""

import threading
from collections.abc import Iterable
from typing import Final

from p2plb.balancing.health import Ejection
from p2plb.balancing.node import Node

FIRST: Final = 1.0
LONGEST: Final = 30.0
"""A refused connection ejects for 1 s · 2^(n-1), at most 30 s: elastic-transport's and Ribbon's growth."""


class Ejections:
    """The ejected nodes of one service. Any thread may call; `avoid` takes no lock while no ejection has run out."""

    __slots__ = ("_avoid", "_ejected", "_lock", "_next")

    def __init__(self) -> None:
        self._ejected: dict[Node, Ejection] = {}
        self._avoid: frozenset[Node] = frozenset()
        self._next = 0.0
        self._lock = threading.Lock()

    def avoid(self, now: float) -> frozenset[Node]:
        """Return the nodes to pass over now."""
        if self._avoid and now >= self._next:
            self._change(now)
        return self._avoid

    def refused(self, node: Node, now: float, reason: str) -> None:
        """Eject a node that refused a connection, each time in a row for longer."""
        if node in self._avoid:
            return  # many calls can be refused at once: that is one refusal
        health = node.health
        if health.ejection is None or health.ejection.until <= now:  # or another client was refused just before
            seconds = min(LONGEST, FIRST * 2.0 ** min(health.refusals, 10))
            health.refusals += 1
            health.ejection = Ejection(now + seconds, reason)
        self._change(now, node, health.ejection)

    def rest(self, node: Node, seconds: float, now: float, reason: str) -> None:
        """Eject a node that asked for a rest (`Retry-After`), at most `LONGEST`."""
        node.health.ejection = Ejection(now + min(seconds, LONGEST), reason)
        self._change(now, node, node.health.ejection)

    def answered(self, node: Node, now: float) -> None:
        """Take a node back that has accepted a connection."""
        node.health.refusals, node.health.ejection = 0, None
        if node in self._avoid:
            self._change(now, node, None)

    def recall(self, nodes: Iterable[Node]) -> None:
        """Pass over nodes that are new here and were ejected before; `avoid` drops what has run out."""
        known = {node: node.health.ejection for node in nodes if node.health.ejection is not None}
        if known:
            with self._lock:
                self._ejected = {**self._ejected, **known}
                self._avoid, self._next = frozenset(self._ejected), 0.0

    def reasons(self, now: float) -> dict[Node, Ejection]:
        """Return the ejections in force, for statistics and texts."""
        return {node: ejection for node, ejection in self._ejected.items() if ejection.until > now}

    def _change(self, now: float, node: Node | None = None, ejection: Ejection | None = None) -> None:
        with self._lock:
            ejected = {n: e for n, e in self._ejected.items() if e.until > now and not n.retired and n is not node}
            if node is not None and ejection is not None:
                ejected[node] = ejection
            self._next = min((e.until for e in ejected.values()), default=0.0)
            self._ejected = ejected
            self._avoid = frozenset(ejected)
