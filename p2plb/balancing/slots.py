"""Limits: how many calls of one client may hold a connection at a time.

A call takes a slot before its first attempt and gives it back when its body is closed. Idle lanes are no calls: the
wire closes the oldest to make room, so that calls and idle lanes together stay within `max_connections`.
"""

from collections import deque

from p2plb.balancing.gate import Gate


class Slots:
    """A counter with a gate, without a lock: a slot may be given back from `__del__`. Any thread may call."""

    __slots__ = ("_free", "gate", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.gate = Gate()
        self._free = deque(range(limit))

    @property
    def taken(self) -> int:
        """How many calls hold a slot."""
        return self.limit - len(self._free)

    def take(self) -> bool:
        """Take a slot; False if all are taken."""
        try:
            self._free.popleft()
        except IndexError:
            return False
        return True

    def give_back(self) -> None:
        """Give a slot back and wake one call that waits for it."""
        self._free.append(0)
        self.gate.open_one()

    def free(self) -> bool:
        """Whether a slot is free just now."""
        return bool(self._free)
