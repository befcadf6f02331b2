"""A lane: one connection to one node, for one call at a time.

Four verbs: open, send, close (its owner only), abort (anyone).
Opening is construction: the connection itself is made by the first `send`. A lane dials the instance's address and
sends the caller's headers, body and path as they are; nothing of a URL is rewritten. See rule 6 of the design: a
cancelled call closes its lane, so nothing can leak into a pool.
"""

import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from p2plb.balancing.node import Node
from p2plb.instance import Instance, is_address
from p2plb.wire.loops import trio_token
from p2plb.wire.network import AsyncLink, Link, SocketOption


@dataclass(frozen=True, slots=True)
class Dial:
    """How lanes of a client are made. `context` makes the TLS context when the first https lane needs it."""

    core: Any  # httpcore or its successor
    context: Callable[[], ssl.SSLContext]
    http1: bool = True
    http2: bool = False
    local_address: str | None = None
    socket_options: Iterable[SocketOption] | None = None


@dataclass(frozen=True, slots=True, repr=False)  # headers hold credentials, and what reports errors shows variables
class Wire:
    """What one attempt sends beside the request: path, headers and extensions as the instance shall see them."""

    target: bytes
    headers: list[tuple[bytes, bytes]]
    extensions: dict[str, Any]
    deadline: float | None


class _Lane:
    """What sync and async lanes have in common."""

    __slots__ = ("_connection", "_core", "_link", "_origin", "idle_since", "name", "node", "reused")

    def __init__(self, node: Node, name: str | None, dial: Dial, link: Any, connection: Callable[..., Any]) -> None:
        self.node = node
        self.name = name
        self.idle_since = 0.0
        self.reused = False
        """Whether the connection had served before the call that has it now."""
        one, core = node.instance, dial.core
        self._core = core
        self._link = link
        self._origin = (one.scheme.encode("ascii"), one.host.encode("ascii"), one.port)
        self._connection = connection(
            core.Origin(*self._origin),
            ssl_context=dial.context() if one.scheme == "https" else None,
            http1=dial.http1,
            http2=dial.http2,
            local_address=dial.local_address,
            network_backend=link,
            socket_options=dial.socket_options,
        )

    def limit(self, deadline: float | None) -> None:
        """Let every operation from now on end at this moment of the monotonic clock."""
        self._link.deadline = deadline

    def check(self) -> None:
        """Do nothing: every operation of a lane ends at its limit by itself."""

    def may_have_sent(self, error: Exception) -> bool:  # noqa: ARG002  an inner transport's twin asks it
        """Whether something of the request under way has left, whatever the error says."""
        return bool(self._link.written)

    def alive(self) -> bool:
        """Whether an idle lane can be used: nothing has come in, nor has the server closed it."""
        return bool(self._connection.is_idle() and not self._link.readable())

    def abort(self) -> None:
        """End the call that is under way on the lane; from any thread."""
        self._link.abort()

    def _prepare(self, request: Any, wire: Wire) -> Any:
        scheme, host, port = self._origin
        core = self._core
        self._link.deadline = wire.deadline
        self._link.written = False
        return core.Request(
            method=request.method,
            url=core.URL(scheme=scheme, host=host, port=port, target=wire.target),
            headers=wire.headers,
            content=request.stream,
            extensions=wire.extensions,
        )


class Lane(_Lane):
    """A lane of blocking code."""

    __slots__ = ()

    def __init__(self, node: Node, name: str | None, dial: Dial) -> None:
        link = Link(dial.core, dial.core.SyncBackend().connect_tcp)
        super().__init__(node, name, dial, link, dial.core.HTTPConnection)

    def send(self, request: Any, wire: Wire) -> Any:
        """Send a request and return httpcore's response at its head."""
        return self._connection.handle_request(self._prepare(request, wire))

    def close(self) -> None:
        """Close the connection."""
        self._link.close()


class AsyncLane(_Lane):
    """A lane of asyncio or trio, of the loop on which it was opened."""

    __slots__ = ()

    def __init__(self, node: Node, name: str | None, dial: Dial) -> None:
        link = AsyncLink(dial.core, _connect(node.instance, dial.core))
        super().__init__(node, name, dial, link, dial.core.AsyncHTTPConnection)

    async def send(self, request: Any, wire: Wire) -> Any:
        """Send a request and return httpcore's response at its head."""
        return await self._connection.handle_async_request(self._prepare(request, wire))

    async def aclose(self) -> None:
        """Close the connection."""
        await self._link.aclose()


def _connect(instance: Instance, core: Any) -> Callable[..., Awaitable[Any]]:
    """Return what connects to an instance on the loop that runs now."""
    if trio_token() is not None:
        return core.TrioBackend().connect_tcp  # type: ignore[no-any-return]
    if instance.scheme == "https" or not is_address(instance.host):
        return core.AnyIOBackend().connect_tcp  # type: ignore[no-any-return]
    from p2plb.wire import asyncio_stream  # noqa: PLC0415  asyncio is heavy, and sync users need none of it

    return partial(asyncio_stream.connect, core)
