# Written by `python -m tests.generate` from p2plb/httpx/inner.py: change that file, not this one.
"""Any httpx2 transport in a lane's place: `inner=` makes one for each instance (mocks, ASGI, other HTTP engines).

It stands behind the lanes' own seam. The request is re-targeted to the instance's address; its Host header stays. A
transport is closed when its instance has left, or has not been called for long, and nothing is in flight on it.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import httpx2

from p2plb.balancing.node import Node
from p2plb.instance import Instance
from p2plb.wire.lane import Wire
from p2plb.wire.network import clip

IDLE: Final = 300.0
_LONG_AGO: Final = float("-inf")


class InnerLane:
    """One call on an origin's transport: the transport is shared, so there is nothing to close with the call."""

    reused = False

    def __init__(self, origin: str, transport: Any, node: Node | None = None) -> None:
        self.node = node
        self._origin = origin
        self._transport = transport
        self._sent: httpx2.Request | None = None
        self._deadline: float | None = None

    def send(self, request: httpx2.Request, wire: Wire) -> httpx2.Response:
        """Send a request through the transport."""
        response: httpx2.Response = self._transport.handle_request(self._retarget(request, wire))
        return response

    def _retarget(self, request: httpx2.Request, wire: Wire) -> httpx2.Request:
        self._sent = httpx2.Request(
            request.method,
            self._origin + wire.target.decode("ascii"),
            headers=wire.headers,
            stream=request.stream,
            extensions={**wire.extensions, "timeout": _clipped(wire)},
        )
        if isinstance(request.stream, httpx2.ByteStream):
            self._sent.read()  # engines look at `content`, and would send a stream in chunks, even an empty one
        return self._sent

    def limit(self, deadline: float | None) -> None:
        """Let `check` fail from this moment on: the transport's own time-outs were set when the request was sent."""
        self._deadline = deadline

    def check(self) -> None:
        """Raise `ReadTimeout` once the limit has passed."""
        clip(None, self._deadline, httpx2.ReadTimeout)

    def may_have_sent(self, error: Exception) -> bool:
        """Whether the error is of another request: one that the application behind the transport has made."""
        try:
            return getattr(error, "request", None) not in (None, self._sent)
        except RuntimeError:  # httpx2's way to say that there is none
            return False

    def abort(self) -> None:
        """Do nothing: only the transport knows its connection."""

    def close(self) -> None:
        """Do nothing: closing the answer's stream has done it."""


class AsyncInnerLane(InnerLane):
    """The same for an async transport."""

    async def send(self, request: httpx2.Request, wire: Wire) -> httpx2.Response:  # type: ignore[override]  # its twin
        """Send a request through the transport."""
        response: httpx2.Response = await self._transport.handle_async_request(self._retarget(request, wire))
        return response

    async def aclose(self) -> None:
        """Do nothing: closing the answer's stream has done it."""


class Outside(InnerLane):
    """One call on a transport that leads past the instances: it is whoever made it that closes it."""

    def give_back(self, lane: InnerLane, *, complete: bool) -> None:
        """Do nothing."""


class AsyncOutside(AsyncInnerLane):
    """The same for an async transport."""

    async def give_back(self, lane: InnerLane, *, complete: bool) -> None:
        """Do nothing."""


def _clipped(wire: Wire) -> dict[str, float | None]:
    timeout = wire.extensions["timeout"]
    names = ("connect", "read", "write", "pool")
    return {name: clip(timeout.get(name), wire.deadline, httpx2.ReadTimeout) for name in names}


class _Inners:
    """The transports by node, with when each was last used. A claim is taken before, so what has none may be closed."""

    verb = "handle_request"
    final = False

    def __init__(self, make: Callable[[Instance], Any]) -> None:
        self._make = make
        self._transports: dict[Node, tuple[Any, float]] = {}
        self._look = False
        self._look_at = 0.0
        self._lock = threading.Lock()

    def _get(self, node: Node) -> Any:
        with self._lock:
            found = self._transports.get(node)
            transport = self._made(node.instance) if found is None else found[0]
            self._transports[node] = transport, time.monotonic()
            return transport

    def _made(self, instance: Instance) -> Any:
        transport = self._make(instance)
        if not hasattr(transport, self.verb):
            raise TypeError(f"inner= returns an httpx2 transport with {self.verb}() here, not {transport!r}")
        return transport

    def mark(self) -> None:
        """Say that nodes have left: their transports are closed when the next call ends."""
        self._look = True

    def _over(self, node: Node | None) -> list[Any]:
        """Take out the transports that nobody needs any more; none while a call is on them, but the one that ends."""
        now = time.monotonic()
        if not (self._look or self.final) and now < self._look_at:
            return []
        with self._lock:
            self._look_at = now + IDLE / 4
            old = now - IDLE
            free = [(n, used) for n, (_, used) in self._transports.items() if n.in_flight <= (n is node)]
            closing = self._taken(n for n, used in free if self.final or n.retired or used < old)
            self._look = any(n.retired or used < old for n, (_, used) in self._transports.items())
        return closing

    def _all(self) -> list[Any]:
        """Take out the transports that no call is on; the others are over when their calls end."""
        with self._lock:
            closing = self._taken([node for node in self._transports if not node.in_flight])
            self._transports = {node: (transport, _LONG_AGO) for node, (transport, _) in self._transports.items()}
            self._look = bool(self._transports)
        return closing

    def _taken(self, nodes: Iterable[Node]) -> list[Any]:
        taken = {id(one): one for one in [self._transports.pop(node)[0] for node in nodes]}
        still = {id(transport) for transport, _ in self._transports.values()}  # one may serve several instances
        return [transport for key, transport in taken.items() if key not in still]

    def drop(self) -> None:
        """In a forked child: forget what was inherited."""
        self._transports = {}


class Inners(_Inners):
    """Inner transports of blocking code, in the place of `Lanes`."""

    def take(self, node: Node, name: str | None, *, repeatable: bool, fresh: bool) -> InnerLane:  # noqa: ARG002  as Lanes
        """Return the node's transport as a lane."""
        return InnerLane(node.instance.url, self._get(node), node)

    def give_back(self, lane: InnerLane, *, complete: bool) -> None:  # noqa: ARG002  as Lanes
        """Close the transports that nobody needs any more."""
        for transport in self._over(lane.node):
            transport.close()

    def close(self) -> None:
        """Close the transports that no call is on, the others when their calls end."""
        for transport in self._all():
            transport.close()


class AsyncInners(_Inners):
    """Inner transports of one event loop, in the place of `AsyncLanes`."""

    verb = "handle_async_request"

    async def take(self, node: Node, name: str | None, *, repeatable: bool, fresh: bool) -> AsyncInnerLane:  # noqa: ARG002
        """Return the node's transport as a lane."""
        return AsyncInnerLane(node.instance.url, self._get(node), node)

    async def give_back(self, lane: InnerLane, *, complete: bool) -> None:  # noqa: ARG002  as Lanes
        """Close the transports that nobody needs any more."""
        for transport in self._over(lane.node):
            await transport.aclose()

    async def aclose(self) -> None:
        """Close the transports that no call is on, the others when their calls end."""
        for transport in self._all():
            await transport.aclose()
