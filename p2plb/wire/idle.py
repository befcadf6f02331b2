"""The idle lanes of one client (async: of one client in one loop): a stack for each node and TLS name, one list by age.

Calls take the youngest lane of a stack, which is the likeliest to live. What a burst has left at the bottom is reaped
from the old end of the list, at most two for each lane that comes back, so no timer is needed. It closes nothing: it
returns what must be closed.
"""

import contextlib
import threading
from collections import OrderedDict, deque
from typing import Generic, Protocol, TypeVar

from p2plb.balancing.node import Node

REPEATABLE_AGE = 4.0
"""Seconds that a lane may have been idle for a request that can be sent again: below uvicorn's 5 s."""
ONCE_AGE = 1.5
"""The same for a request that must not be sent twice: below gunicorn's 2 s."""
REAPED = 2


class Idle(Protocol):
    """What a lane is to this file."""

    node: Node
    name: str | None
    idle_since: float

    def alive(self) -> bool:
        """Whether it can be used."""


L = TypeVar("L", bound=Idle)


class IdleLanes(Generic[L]):
    """Idle lanes. Any thread may call. `expiry` bounds every age from above, `keep` is how many may be idle."""

    def __init__(self, *, expiry: float | None = None, keep: int | None = None) -> None:
        self._expiry = float("inf") if expiry is None else expiry
        self._keep = keep
        self._stacks: dict[tuple[Node, str | None], deque[L]] = {}
        self._by_age: OrderedDict[L, None] = OrderedDict()
        self._dead: list[L] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._by_age)

    def take(self, node: Node, name: str | None, *, repeatable: bool, now: float) -> L | None:
        """Return a live lane of the node, if there is one."""
        oldest = now - self._age(node, REPEATABLE_AGE if repeatable else ONCE_AGE)
        while (lane := self._pop(node, name, oldest)) is not None:
            if lane.alive():
                return lane
            with self._lock:
                self._dead.append(lane)  # closed when a lane comes back: taking one closes nothing and never waits
        return None

    def put(self, lane: L, now: float) -> list[L]:
        """Take a lane in and return those that must be closed now."""
        lane.idle_since = now
        with self._lock:
            self._by_age[lane] = None  # first: what an interrupt leaves half done is in this list, and is reaped
            self._stacks.setdefault((lane.node, lane.name), deque()).append(lane)
            closed = [*self._buried(), *self._reap(now)]
            while self._keep is not None and len(self._by_age) > self._keep:
                closed.append(self._remove_oldest())
            return closed

    def make_room(self, room: int) -> list[L]:
        """Return the oldest lanes, to be closed, so that at most `room` stay."""
        with self._lock:
            return [*self._buried(), *(self._remove_oldest() for _ in range(len(self._by_age) - max(0, room)))]

    def reap(self, now: float) -> list[L]:
        """Return the lanes found dead, and at most two that are too old or whose node has left."""
        with self._lock:
            return [*self._buried(), *self._reap(now)]

    def _age(self, node: Node, default: float) -> float:
        known = node.instance.keepalive
        return min(self._expiry, default if known is None else known)

    def _buried(self) -> list[L]:
        dead, self._dead = self._dead, []
        return dead

    def _pop(self, node: Node, name: str | None, oldest: float) -> L | None:
        with self._lock:
            stack = self._stacks.get((node, name))
            if not stack or stack[-1].idle_since < oldest:
                return None  # what is too old for this call may serve another, or is reaped
            lane = stack.pop()
            self._forget(lane, stack)
            return lane

    def _reap(self, now: float) -> list[L]:
        reaped: list[L] = []
        for _ in range(min(REAPED, len(self._by_age))):
            lane = next(iter(self._by_age))
            idle = now - lane.idle_since
            if lane.node.retired or idle > self._age(lane.node, REPEATABLE_AGE):
                reaped.append(self._remove_oldest())
            elif idle > REPEATABLE_AGE:
                self._by_age.move_to_end(lane)  # its server keeps connections for longer: look at others meanwhile
            else:
                break
        return reaped

    def _remove_oldest(self) -> L:
        lane = next(iter(self._by_age))
        stack = self._stacks.get((lane.node, lane.name), deque())
        with contextlib.suppress(ValueError):  # an interrupt has struck between list and stack
            stack.remove(lane)  # it stands at or near the left end
        self._forget(lane, stack)
        return lane

    def _forget(self, lane: L, stack: deque[L]) -> None:
        if not stack:
            self._stacks.pop((lane.node, lane.name), None)
        self._by_age.pop(lane, None)
