"""A small HTTP/2 server whose answers are scripts, on the thread of `tests.scripted.serving`.

A script gets the connection's state and a stream's number and queues what is to be sent; the server sends it. It knows
nothing of what is tested.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events

Script2 = Callable[[h2.connection.H2Connection, int], None]


def ok(state: h2.connection.H2Connection, stream: int) -> None:
    """Answer with the stream's number."""
    state.send_headers(stream, [(":status", "200")])
    state.send_data(stream, str(stream).encode(), end_stream=True)


def endless(state: h2.connection.H2Connection, stream: int) -> None:
    """Send the beginning of a body."""
    state.send_headers(stream, [(":status", "200")])
    state.send_data(stream, b"x" * 1000)


def refuse(state: h2.connection.H2Connection, stream: int) -> None:
    """Refuse the stream, unprocessed."""
    state.reset_stream(stream, error_code=7)


def fail(state: h2.connection.H2Connection, stream: int) -> None:
    """Break the stream off with INTERNAL_ERROR."""
    state.reset_stream(stream, error_code=2)


def go_away(state: h2.connection.H2Connection, stream: int) -> None:
    """Leave, and say that this stream was not processed."""
    state.close_connection(last_stream_id=max(0, stream - 2))


class Http2Server:
    """The server; with a context it speaks TLS, without one it expects HTTP/2 at once."""

    def __init__(self, script: Script2 = ok, *, context: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.methods: list[str] = []
        self.connections = 0
        self.open = 0
        self.port = 0
        self.loop = asyncio.new_event_loop()
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The origin that it serves."""
        return f"http{'s' if self._context else ''}://127.0.0.1:{self.port}"

    async def start(self) -> asyncio.Server:
        """Begin to listen."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def stop(self) -> None:
        """Close all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: Any = asyncio.current_task()
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)
            self.open -= 1
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        state.initiate_connection()
        writer.write(state.data_to_send())
        while data := await reader.read(65_536):
            for event in state.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    headers = {str(name): str(value) for name, value in event.headers or ()}
                    self.methods.append(headers[":method"])
                elif isinstance(event, h2.events.DataReceived):
                    state.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
                elif isinstance(event, h2.events.StreamEnded):
                    self.script(state, event.stream_id or 0)
            writer.write(state.data_to_send())
            await writer.drain()
