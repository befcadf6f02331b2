"""The balancer of one service: snapshots come in on the registry's thread, calls read one view and pick.

`update` diffs once, keeps the nodes that stay with all that is known of them, and publishes one new view with one
assignment. Picking takes no lock and scans nothing, unless the strategy's answer is to be avoided. It closes nothing.
"""

import random
import threading
from collections.abc import Callable, Iterable

from p2plb.balancing.call import Call
from p2plb.balancing.ejection import Ejections
from p2plb.balancing.gate import Gate
from p2plb.balancing.health import Health
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.among import Matching, among
from p2plb.balancing.strategies.guarded import Guarded
from p2plb.balancing.view import Strategy, View, select
from p2plb.discovery.snapshot import Snapshot
from p2plb.instance import Instance
from p2plb.observe.events import Observer, ViewChanged, emit

ASKS = 3
"""How often the strategy is asked for a node that is not to be avoided (go-zero draws three times as well)."""


class Balancer:
    """The nodes of one service and the view in force. `update` runs on one thread at a time, all else on any.

    `known` is the health of instances by id and URL, shared with others who reach them the same way.
    """

    def __init__(
        self,
        service: str,
        strategy: Strategy,
        *,
        secure: bool = False,
        only: Callable[[Instance], bool] | None = None,
        start_timeout: float = 3.0,
        observers: Iterable[Observer] = (),
        rng: random.Random | None = None,
        known: dict[tuple[str, str], Health] | None = None,
    ) -> None:
        self.service = service
        self.view: View | None = None
        self.gate = Gate()
        self.ejections = Ejections()
        self.rng = rng or random.Random()
        self.strategy = Guarded(strategy, service, self.rng)
        self.secure = secure
        self._only = only
        self._start_timeout = start_timeout
        self._observers = observers
        self._nodes: dict[tuple[str, str], Node] = {}
        self._known = {} if known is None else known
        self._update_lock = threading.Lock()
        self._patience_ends: float | None = None
        self.abandoned = False
        """Whether its watch has ended."""

    # --- the registry's side -----------------------------------------------------------------------------------

    def update(self, snapshot: Snapshot) -> tuple[Node, ...]:
        """Put a snapshot in force and return the nodes that have left: what they hold open may be closed."""
        with self._update_lock:
            usable, left_out = select(snapshot.instances, secure=self.secure, only=self._only)
            before = self._nodes
            nodes = {(i.id, i.url): self._node(i) for i in usable}
            members = tuple(nodes.values())
            self.ejections.recall(node for key, node in nodes.items() if key not in before)
            pick, matching = self.strategy(members), Matching(self.strategy, members)
            self._nodes = nodes
            by_id = {node.id: node for node in members}
            self.view = View(snapshot, members, frozenset(members), pick, left_out, by_id, matching)
            gone = tuple(node for key, node in before.items() if key not in nodes)
            for node in gone:  # after the view is published: who claims now and finds it retired picks again
                node.retired = True
            self._forget(snapshot)
        self.gate.open()
        if self._observers:
            self._tell(snapshot, before.values(), members)
        return gone

    def _node(self, instance: Instance) -> Node:
        node = self._nodes.get((instance.id, instance.url))
        if node is None:
            return Node(instance, self._known.setdefault((instance.id, instance.url), Health()))
        node.instance = instance
        return node

    def _forget(self, snapshot: Snapshot) -> None:
        for key in set(self._known).difference((one.id, one.url) for one in snapshot.instances):
            self._known.pop(key, None)

    def _tell(self, snapshot: Snapshot, before: Iterable[Node], now: Iterable[Node]) -> None:
        old, new = {n.instance.id for n in before}, {n.instance.id for n in now}
        if old != new:
            added, removed = tuple(sorted(new - old)), tuple(sorted(old - new))
            emit(self._observers, ViewChanged(self.service, snapshot.revision, added, removed, len(new)))

    # --- the callers' side -------------------------------------------------------------------------------------

    def ready(self) -> bool:
        """Whether there is nothing to wait for: the registry has answered for this service, or will not any more."""
        return self.view is not None or self.abandoned

    def usable(self) -> bool:
        """Whether there is a node that calls may go to."""
        return self.view is not None and bool(self.view.nodes)

    def abandon(self) -> None:
        """Let nobody wait for a first view any more: its watch has ended."""
        self.abandoned = True
        self.gate.open()

    def patience(self, now: float) -> float:
        """Return how long a call may still wait for the first view: all calls share one wait of `start_timeout`."""
        if self.abandoned:
            return 0.0
        if self._patience_ends is None:
            self._patience_ends = now + self._start_timeout
        return self._patience_ends - now

    def claim(self, call: Call, now: float) -> Node | None:
        """Pick a node for the call and claim it; None if there is none at all."""
        ejected = self.ejections.avoid(now)
        call.avoid = ejected | call.tried if call.tried else ejected
        while (view := self._seen(call)) is not None and view.nodes:
            node = self._pick(view, call)
            call.hold(node, node.claim())
            if not node.retired:
                return node
        return None

    def untried(self, call: Call) -> bool:
        """Whether a node is in force that the call has not tried."""
        return (view := self._seen(call)) is not None and any(node not in call.tried for node in view.nodes)

    def others(self, call: Call, now: float) -> bool:
        """Whether a node is in force that the call has not tried and that is not ejected."""
        avoid = self.ejections.avoid(now)
        view = self._seen(call)
        return view is not None and any(n not in call.tried and n not in avoid for n in view.nodes)

    def _seen(self, call: Call) -> View | None:
        """Return the view in force, or as much of it as the call may go to."""
        return self.view if self.view is None or call.among is None else among(self.view, call.among)

    def _pick(self, view: View, call: Call) -> Node:
        first = node = self.strategy.ask(view, call)
        if not call.avoid:
            return node
        for _ in range(ASKS - 1):
            if node not in call.avoid:
                return node
            node = self.strategy.ask(view, call)
        return node if node not in call.avoid else self._last_look(view, call, first)

    def _last_look(self, view: View, call: Call, first: Node) -> Node:
        rest = [n for n in view.nodes if n not in call.avoid] or [n for n in view.nodes if n not in call.tried]
        return first if not rest or first in rest else self.rng.choice(rest)
