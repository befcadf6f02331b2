"""The lanes of one client: where a call gets a lane and where it gives it back.

Sync and async twins over the same `IdleLanes`. `Slots` (limits) say how many idle lanes may stay beside the calls.
"""

import time
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

from p2plb.balancing.node import Node
from p2plb.balancing.slots import Slots
from p2plb.wire.idle import IdleLanes
from p2plb.wire.lane import AsyncLane, Dial, Lane

L = TypeVar("L", Lane, AsyncLane)


class _Lanes(Generic[L]):
    """What both twins have in common."""

    def __init__(
        self, dial: Dial, slots: Slots | None, *, expiry: float | None = None, keep: int | None = None
    ) -> None:
        self._dial = dial
        self._slots = slots
        self.idle: IdleLanes[L] = IdleLanes(expiry=expiry, keep=keep)
        self.final = False
        """Whether a `close` holds for ever: then what calls on their way still take is closed when it comes back."""
        self._closed = False
        self._dropped = False

    def _take_idle(self, node: Node, name: str | None, *, repeatable: bool, fresh: bool) -> L | None:
        self._closed = self.final
        lane = None if fresh else self.idle.take(node, name, repeatable=repeatable, now=time.monotonic())
        if lane is not None:
            lane.reused = True
        return lane

    def _keeps(self, lane: L, *, complete: bool) -> bool:
        return complete and not self._closed and not lane.node.retired and lane.alive()

    def _make_room(self) -> list[L]:
        """Return the idle lanes that must make room for one that is opened."""
        return [] if self._slots is None else self.idle.make_room(self._slots.limit - self._slots.taken)

    def mark(self) -> None:
        """Do nothing when nodes have left: each lane that comes back looks at the oldest two."""

    def drop(self) -> None:
        """In a forked child: never touch what was inherited again."""
        self._dropped = True


class Lanes(_Lanes[Lane]):
    """Lanes of blocking code. Any thread may call."""

    def take(self, node: Node, name: str | None, *, repeatable: bool, fresh: bool) -> Lane:
        """Return an idle lane of the node or a new one."""
        if (lane := self._take_idle(node, name, repeatable=repeatable, fresh=fresh)) is not None:
            return lane
        _close(self._make_room())
        return Lane(node, name, self._dial)

    def give_back(self, lane: Lane, *, complete: bool) -> None:
        """Keep a lane whose answer was read to its end for the next call, close any other."""
        if self._dropped:
            return
        if self._keeps(lane, complete=complete):
            lane.limit(None)
            _close(self.idle.put(lane, time.monotonic()))
        else:
            lane.close()
            _close(self.idle.reap(time.monotonic()))

    def close(self) -> None:
        """Close the idle lanes, and the busy ones when they come back; a later `take` opens again."""
        self._closed = True
        if not self._dropped:
            _close(self.idle.make_room(0))


def _close(lanes: list[Lane]) -> None:
    for lane in lanes:
        lane.close()


class AsyncLanes(_Lanes[AsyncLane]):
    """Lanes of one event loop; to be called on it only."""

    _parked: AsyncGenerator[None, None] | None = None

    async def take(self, node: Node, name: str | None, *, repeatable: bool, fresh: bool) -> AsyncLane:
        """Return an idle lane of the node or a new one."""
        if (lane := self._take_idle(node, name, repeatable=repeatable, fresh=fresh)) is not None:
            return lane
        await _aclose(self._make_room())
        if self._parked is None:
            self._parked = self._close_with_the_loop()
            await anext(self._parked)
        return AsyncLane(node, name, self._dial)

    async def give_back(self, lane: AsyncLane, *, complete: bool) -> None:
        """Keep a lane whose answer was read to its end for the next call, close any other."""
        if self._dropped:
            return
        if self._keeps(lane, complete=complete):
            lane.limit(None)
            await _aclose(self.idle.put(lane, time.monotonic()))
        else:
            await lane.aclose()
            await _aclose(self.idle.reap(time.monotonic()))

    async def aclose(self) -> None:
        """Close the idle lanes, and the busy ones when they come back; a later `take` opens again."""
        self._closed = True
        if self._dropped:
            return
        await _aclose(self.idle.make_room(0))
        parked, self._parked = self._parked, None
        if parked is not None:
            await parked.aclose()

    async def _close_with_the_loop(self) -> AsyncGenerator[None, None]:
        """Close what is left when the loop shuts its asynchronous generators down: this one waits for nothing else."""
        try:
            yield
        finally:
            self._parked = None  # it holds the loop
            if not self._dropped:
                await _aclose(self.idle.make_room(0))


async def _aclose(lanes: list[AsyncLane]) -> None:
    """Close all of them, whatever interrupts in between."""
    interrupted: BaseException | None = None
    for lane in lanes:
        try:
            await lane.aclose()
        except BaseException as error:
            interrupted = error
    if interrupted is not None:
        raise interrupted
