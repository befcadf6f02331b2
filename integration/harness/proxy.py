"""A TCP proxy that fails on command: what lies between a client and a server, on a bad day.

It runs on an event loop in a thread of its own; its verbs may be called from any thread and hold from their return on.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Self

_CHUNK = 65_536
_VERB_WITHIN = 10.0
_LINGER_NOT = struct.pack("ii", 1, 0)  # closing then sends RST instead of FIN


class FaultProxy:
    """Forwards a free loopback port to a server. A context manager; it begins by passing everything through."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.port = 0
        self.accepted = 0  # connections so far
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._reset_faults()

    @property
    def url(self) -> str:
        """The origin to use instead of the server's."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.pass_through()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._do(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def pass_through(self) -> None:
        """Forward everything; data that a blackhole held back flow on."""
        self._do(self._pass_through())

    def refuse(self) -> None:
        """Refuse new connections and reset those there are."""
        self._do(self._refuse())

    def refuse_new(self) -> None:
        """Refuse new connections and keep those there are."""
        self._do(self._stop_listening())

    def blackhole(self) -> None:
        """Take connections and data, and forward nothing."""
        self._do(self._blackhole())

    def cut(self) -> None:
        """Reset all present connections, and go on as before."""
        self._do(self._cut())

    def delay(self, seconds: float) -> None:
        """Hold back each piece of data, both ways, for a time."""
        self._delay = seconds

    def reset_after(self, count: int) -> None:
        """Reset a connection once it has answered so many bytes from now on; 0 swallows the answer whole."""
        self._limit_answers("reset", count)

    def truncate_after(self, count: int) -> None:
        """Close a connection in order once it has answered so many bytes from now on."""
        self._limit_answers("close", count)

    def half_close_after(self, count: int) -> None:
        """End only the answering half once so many bytes were answered from now on."""
        self._limit_answers("half", count)

    def _limit_answers(self, end: str, count: int) -> None:
        async def limit() -> None:
            self._end, self._left = end, count
            for link in self._links:
                link.answered = 0

        self._do(limit())

    def _reset_faults(self) -> None:
        self._delay = 0.0
        self._end = ""
        self._left = 0
        self._refusing = False

    def _do(self, verb: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(verb, self._loop).result(_VERB_WITHIN)

    async def _pass_through(self) -> None:
        self._reset_faults()
        self._flowing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server is not None:
            for sock in self._server.sockets:
                self._loop.remove_reader(sock.fileno())
            await asyncio.sleep(0)  # asyncio loses a connection that it is just taking in when the server is closed
            self._server.close()
            self._server = None

    async def _refuse(self) -> None:
        self._refusing = True  # also those that are on their way in: it takes some rounds of the loop
        await self._stop_listening()
        await self._cut()

    async def _blackhole(self) -> None:
        self._flowing.clear()

    async def _cut(self) -> None:
        for link in tuple(self._links):
            link.reset()

    async def _shut_down(self) -> None:
        await self._stop_listening()
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in self._tasks:  # the others are connections on their way in, and end by themselves
                task.cancel()
            await asyncio.wait(left, timeout=0.1)
        await asyncio.sleep(0)  # transports close in the next round of the loop
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        if self._refusing:
            link.reset()
            return
        self.accepted += 1
        self._links.add(link)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._join(reader, link)
        finally:
            link.reset()
            self._links.discard(link)
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, link: "_Link") -> None:
        await self._flowing.wait()
        answers, link.upstream = await asyncio.open_connection(*self._target)
        asking = asyncio.ensure_future(self._pump(reader, link.upstream))
        try:
            await self._answer(answers, link)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await self._hold_back(reader):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def _answer(self, answers: asyncio.StreamReader, link: "_Link") -> None:
        while data := await self._hold_back(answers):
            if self._end and link.answered + len(data) > self._left:
                link.client.write(data[: self._left - link.answered])
                await self._finish(link)
                return
            link.answered += len(data)
            link.client.write(data)
            await link.client.drain()
        link.client.close()
        await link.client.wait_closed()

    async def _finish(self, link: "_Link") -> None:
        await link.client.drain()
        if self._end == "half":
            link.client.write_eof()
            await asyncio.Event().wait()  # until somebody cuts the link
        if self._end == "close":
            link.client.close()
            await link.client.wait_closed()

    async def _hold_back(self, reader: asyncio.StreamReader) -> bytes:
        data = await reader.read(_CHUNK)
        await asyncio.sleep(self._delay)
        await self._flowing.wait()
        return data


class _Link:
    """One client's connection and the one that stands for it towards the server."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.upstream: asyncio.StreamWriter | None = None
        self.answered = 0

    def reset(self) -> None:
        for writer in filter(None, (self.client, self.upstream)):
            raw = writer.get_extra_info("socket")
            if not writer.is_closing() and raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            writer.transport.abort()
