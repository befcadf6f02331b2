"""Any httpx transport in a lane's place: `inner=` makes one for each instance (mocks, ASGI, other HTTP engines).

It stands behind the lanes' own seam. The request is re-targeted to the instance's address; its Host header stays. A
transport is closed when its instance has left, or has not been called for long, and nothing is in flight on it.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import httpx

from p2plb.balancing.node import Node
from p2plb.instance import Instance
from p2plb.wire.lane import Wire
from p2plb.wire.network import clip

IDLE: Final = 300.0


class InnerLane:
    """One call on a node's transport: the transport is shared, so there is nothing to close with the call."""

    reused = False

    def __init__(self, node: Node, transport: Any) -> None:
        self.node = node
        self.transport = transport
        self.used = 0.0

    def send(self, request: httpx.Request, wire: Wire) -> httpx.Response:
        """Send a request through the transport."""
        response: httpx.Response = self.transport.handle_request(self._retarget(request, wire))
        return response

    def _retarget(self, request: httpx.Request, wire: Wire) -> httpx.Request:
        one = self.node.instance
        host = f"[{one.host}]" if ":" in one.host else one.host
        return httpx.Request(
            request.method,
            f"{one.scheme}://{host}:{one.port}" + wire.target.decode("ascii"),
            headers=wire.headers,
            stream=request.stream,
            extensions={**wire.extensions, "timeout": _clipped(wire)},
        )

    def limit(self, deadline: float | None) -> None:
        """Do nothing: a foreign transport's time-outs were set when the request was sent."""

    def abort(self) -> None:
        """Do nothing: only the transport knows its connection."""

    def close(self) -> None:
        """Do nothing: closing the answer's stream has done it."""


class AsyncInnerLane(InnerLane):
    """The same for an async transport."""

    async def send(self, request: httpx.Request, wire: Wire) -> httpx.Response:  # type: ignore[override]  # its twin
        """Send a request through the transport."""
        response: httpx.Response = await self.transport.handle_async_request(self._retarget(request, wire))
        return response

    async def aclose(self) -> None:
        """Do nothing: closing the answer's stream has done it."""


def _clipped(wire: Wire) -> dict[str, float | None]:
    timeout = wire.extensions["timeout"]
    names = ("connect", "read", "write", "pool")
    return {name: clip(timeout.get(name), wire.deadline, httpx.ReadTimeout) for name in names}


class _Inners:
    """The transports by node. A claim is taken before `_get`, so what has none may be closed."""

    lane: type[InnerLane] = InnerLane
    verb = "handle_request"

    def __init__(self, make: Callable[[Instance], Any]) -> None:
        self._make = make
        self._lanes: dict[Node, InnerLane] = {}
        self._look = False
        self._look_at = 0.0
        self._lock = threading.Lock()

    def _get(self, node: Node) -> InnerLane:
        with self._lock:
            lane = self._lanes.get(node)
            if lane is None:
                lane = self._lanes[node] = self.lane(node, self._made(node.instance))
            lane.used = time.monotonic()
            return lane

    def _made(self, instance: Instance) -> Any:
        transport = self._make(instance)
        if not hasattr(transport, self.verb):
            raise TypeError(f"inner= returns an httpx transport with {self.verb}() here, not {transport!r}")
        return transport

    def mark(self) -> None:
        """Say that nodes have left: their transports are closed when the next call ends."""
        self._look = True

    def _over(self) -> list[Any]:
        """Take out the transports whose node has left, or was not called for long; none while a call is on them."""
        now = time.monotonic()
        if not self._look and now < self._look_at:
            return []
        with self._lock:
            self._look_at = now + IDLE / 4
            unused = [n for n, lane in self._lanes.items() if not n.in_flight and (n.retired or lane.used < now - IDLE)]
            closed = [self._lanes.pop(node).transport for node in unused]
            self._look = any(node.retired for node in self._lanes)
        return closed

    def _all(self) -> list[Any]:
        with self._lock:
            lanes, self._lanes = self._lanes, {}
        return [lane.transport for lane in lanes.values()]

    def drop(self) -> None:
        """In a forked child: forget what was inherited."""
        self._lanes = {}


class Inners(_Inners):
    """Inner transports of blocking code, in the place of `Lanes`."""

    def take(self, node: Node, name: str | None, *, repeatable: bool, fresh: bool) -> InnerLane:  # noqa: ARG002  as Lanes
        """Return the node's transport as a lane."""
        return self._get(node)

    def give_back(self, lane: InnerLane, *, complete: bool) -> None:  # noqa: ARG002  as Lanes
        """Close transports whose instances have left."""
        for transport in self._over():
            transport.close()

    def close(self) -> None:
        """Close all transports."""
        for transport in self._all():
            transport.close()


class AsyncInners(_Inners):
    """Inner transports of one event loop, in the place of `AsyncLanes`."""

    lane = AsyncInnerLane
    verb = "handle_async_request"

    async def take(self, node: Node, name: str | None, *, repeatable: bool, fresh: bool) -> InnerLane:  # noqa: ARG002
        """Return the node's transport as a lane."""
        return self._get(node)

    async def give_back(self, lane: InnerLane, *, complete: bool) -> None:  # noqa: ARG002  as Lanes
        """Close transports whose instances have left."""
        for transport in self._over():
            await transport.aclose()

    async def aclose(self) -> None:
        """Close all transports."""
        for transport in self._all():
            await transport.aclose()
