"""What the server child does with its connections: read a request, note it, answer it in the mode in force, note that.

It knows nothing of the parent, of signals or of registration (`__main__`).
"""

import asyncio
import os
import time
from contextlib import suppress
from typing import Any

from integration.harness.child import wire
from integration.harness.child.behaviours import MODES, Settings


class Child:
    """One server: its settings, its journal and the connections it holds."""

    def __init__(self, name: str, journal: str) -> None:
        self.settings = Settings()
        self._name = name
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._busy = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side closes it."""
        with suppress(ConnectionError, asyncio.CancelledError):
            while (request := await self._next(reader)) and await self._answer(request, writer):
                pass
        writer.close()

    async def settle(self, seconds: float) -> None:
        """Wait until no request is being executed, at most `seconds`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), seconds)

    def switch(self, order: dict[str, Any]) -> None:
        """Put other settings in force, for requests that have not started yet."""
        MODES[order.get("mode", "ok")]  # an unknown mode fails here and not in the middle of a test
        self.settings = Settings(**order)

    async def _next(self, reader: asyncio.StreamReader) -> wire.Request | None:
        try:
            return await asyncio.wait_for(wire.read_request(reader), self.settings.idle)
        except TimeoutError:
            return None

    async def _answer(self, request: wire.Request, writer: asyncio.StreamWriter) -> bool:
        self._note("start", request)
        self._count(1)
        try:
            goes_on = await MODES[self.settings.mode](self.settings, self._body(request), writer)
            await writer.drain()
        finally:
            self._count(-1)
        self._note("end", request)
        return goes_on

    def _body(self, request: wire.Request) -> bytes:
        return wire.to_json(
            {
                "id": request.id,
                "instance": self._name,
                "pid": os.getpid(),
                "method": request.method,
                "target": request.target,
                "headers": request.headers,
                "body": request.body[:1024].decode("latin-1"),
            }
        )

    def _count(self, step: int) -> None:
        self._busy += step
        (self._quiet.clear if self._busy else self._quiet.set)()

    def _note(self, event: str, request: wire.Request) -> None:
        """Add a line to the journal with one write, so that not even SIGKILL leaves half of one."""
        line = {
            "event": event,
            "id": request.id,
            "instance": self._name,
            "pid": os.getpid(),
            "method": request.method,
            "target": request.target,
            "at": time.monotonic(),
        }
        os.write(self._journal, wire.to_json(line) + b"\n")
