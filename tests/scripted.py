"""A tiny server whose answers are scripts: what a client under test gets to see, byte by byte.

It runs on an event loop in a thread of its own, speaks HTTP/1.1 over TCP or TLS, and notes requests and connections.
A script gets the request and the writer and says whether the connection goes on.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from integration.harness.child import wire
from integration.harness.servers import free_port
from p2plb.instance import Instance

Script = Callable[[wire.Request, asyncio.StreamWriter], Awaitable[bool]]


async def ok(request: wire.Request, writer: asyncio.StreamWriter) -> bool:
    """Answer with the request's target."""
    writer.write(wire.response(200, request.target.encode()))
    return True


def answer(status: int, body: bytes = b"", **headers: str) -> Script:
    """Return a script that answers always the same; `retry_after="1"` is a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def script(_request: wire.Request, writer: asyncio.StreamWriter) -> bool:
        writer.write(wire.response(status, body, named))
        return True

    return script


def raw(data: bytes, *, goes_on: bool = False) -> Script:
    """Return a script that sends these bytes, then closes."""

    async def script(_request: wire.Request, writer: asyncio.StreamWriter) -> bool:
        writer.write(data)
        return goes_on

    return script


async def drop(_request: wire.Request, _writer: asyncio.StreamWriter) -> bool:
    """Close without an answer."""
    return False


async def reset(_request: wire.Request, writer: asyncio.StreamWriter) -> bool:
    """Send RST instead of an answer."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


async def hang(_request: wire.Request, _writer: asyncio.StreamWriter) -> bool:
    """Never answer."""
    await asyncio.Event().wait()
    return False


def drip(head: bytes, pieces: int, seconds: float) -> Script:
    """Return a script that sends `head`, then a byte every `seconds`."""

    async def script(_request: wire.Request, writer: asyncio.StreamWriter) -> bool:
        writer.write(head)
        for _ in range(pieces):
            await asyncio.sleep(seconds)
            writer.write(b"x")
            await writer.drain()
        return True

    return script


def late(script: Script, seconds: float) -> Script:
    """Return a script that begins after some time: whoever waits for it has to wait."""

    async def begun_late(request: wire.Request, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(seconds)
        return await script(request, writer)

    return begun_late


def in_turn(*scripts: Script) -> Script:
    """Return a script that is another one for each request; the last stays."""
    left = list(scripts)

    async def script(request: wire.Request, writer: asyncio.StreamWriter) -> bool:
        return await (left.pop(0) if len(left) > 1 else left[0])(request, writer)

    return script


class ScriptedServer:
    """The server; `script` may be changed at any time and holds for requests that come from then on."""

    def __init__(self, script: Script = ok, *, context: ssl.SSLContext | None = None, id: str = "scripted") -> None:  # noqa: A002  the word of the record
        self.script = script
        self.requests: list[wire.Request] = []
        self.connections = 0
        self.open = 0
        self.port = 0
        self.id = id
        self.loop = asyncio.new_event_loop()
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The origin that it serves."""
        return f"http{'s' if self._context else ''}://127.0.0.1:{self.port}"

    def static(self, service: str = "users") -> str:
        """Return the URL of a registry that knows this one server."""
        return static(self, service=service)

    def instance(self, service: str = "users") -> Instance:
        """Return its record."""
        return Instance(id=self.id, service=service, url=self.url)

    async def start(self) -> asyncio.Server:
        """Begin to listen."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._context, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def stop(self) -> None:
        """Close all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def read_request(self, reader: asyncio.StreamReader) -> wire.Request | None:
        """Return the next request on a connection, None at its end."""
        return await wire.read_request(reader)

    def cut(self) -> None:
        """Close all connections that are open now, in order, and wait until that is done."""
        asyncio.run_coroutine_threadsafe(self.stop(), self.loop).result(10)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: Any = asyncio.current_task()
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                while (request := await self.read_request(reader)) is not None:
                    self.requests.append(request)
                    if not await self.script(request, writer):
                        break
                    await writer.drain()
        finally:
            self._tasks.discard(task)
            self.open -= 1
            await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
        await asyncio.wait_for(writer.wait_closed(), 1.0)


@contextlib.contextmanager
def serving(*servers: Any) -> Iterator[None]:
    """Run servers with `loop`, `start()` and `stop()`, on one thread for all of them."""
    loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
    for server in servers:
        server.loop.close()
        server.loop = loop
    thread = threading.Thread(target=loop.run_forever, name="scripted-servers", daemon=True)
    thread.start()

    def do(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    listening = [do(server.start()) for server in servers]
    try:
        yield
    finally:
        for one, server in zip(listening, servers, strict=True):
            loop.call_soon_threadsafe(one.close)
            do(server.stop())
        do(loop.shutdown_asyncgens())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def static(*servers: Any, service: str = "users") -> str:
    """Return the URL of a registry that knows these servers by one name."""
    return f"static://{service}=" + ",".join(server.url for server in servers)


def prefer(*servers: Any) -> Callable[[Any], Callable[[Any], Any]]:
    """Return a strategy that takes the first of these that is not to be avoided."""
    ports = [server.port for server in servers]

    def strategy(nodes: Any) -> Callable[[Any], Any]:
        ranked = sorted(nodes, key=lambda node: ports.index(node.instance.port))
        return lambda call: next((node for node in ranked if node not in call.avoid), ranked[0])

    return strategy


class Refusing:
    """Stands for a server that is not there: its port refuses at once."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
