# Written by `python -m tests.generate` from p2plb/httpx/body.py: change that file, not this one.
"""The body of an answer: gives the lane back and releases the call when it is closed, once, however it ends."""

import contextlib
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import httpx2

from p2plb.httpx2.family import understand

DISPOSED: Final = 64 * 1024
DISPOSE_SECONDS: Final = 0.25
"""How much of an answer that nobody wants is read, and for how long, so that its connection can be used again."""


class _Body:
    """What both twins have in common: the lane, and `done` to be called when all is over."""

    def __init__(self, stream: Any, lane: Any, lanes: Any, request: httpx2.Request, done: Callable[[], None]) -> None:
        self.done = done
        self._lane = lane
        self._lanes = lanes
        self._stream = stream
        self._request = request
        self._complete = False
        self._closed = False

    def _mapped(self, error: Exception) -> Exception:
        found = understand(error, self._request)
        return error if found is None else found[0]

    def _let_go(self) -> None:
        """Free what was held: httpx2 ties answer and stream into a cycle, which lives until garbage is collected."""
        self._stream = self._lane = self._lanes = None
        self.done = _nothing

    def _lost(self) -> None:
        if not self._closed:
            self._closed = True
            self._give_up()
            self.done()
            which = f"{self._request.method} to {self._request.url.host}"  # a URL may hold secrets
            warnings.warn(f"the answer to a {which} was never closed", ResourceWarning, stacklevel=3)

    def _give_up(self) -> None:
        self._lane.abort()  # only its own loop may close it


class Body(_Body, httpx2.SyncByteStream):
    """The body of an answer in blocking code."""

    def __iter__(self) -> Iterator[bytes]:
        lane = self._lane  # another thread may close meanwhile
        try:
            for chunk in self._stream:
                lane.check()
                yield chunk
        except Exception as error:
            mapped = self._mapped(error)
            raise mapped from (None if mapped is error else error)
        self._complete = True

    def close(self) -> None:
        """Give the lane back, or close it if the body was not read to its end."""
        if self._closed:
            return
        self._closed, complete = True, False
        try:
            if hasattr(self._stream, "close"):
                self._stream.close()
            complete = self._complete
        finally:
            try:
                self._lanes.give_back(self._lane, complete=complete)
            finally:
                self.done()
                self._let_go()

    def _give_up(self) -> None:
        self._lane.close()

    def dispose(self, deadline: float | None) -> None:
        """Read the rest if it is short, and close."""
        if self._closed:
            return
        self._lane.limit(_soon(deadline))
        size = 0
        with contextlib.suppress(httpx2.TransportError), contextlib.closing(self):
            for chunk in self:
                size += len(chunk)
                if size > DISPOSED:
                    break

    def __del__(self) -> None:
        self._lost()


class AsyncBody(_Body, httpx2.AsyncByteStream):
    """The body of an answer on asyncio or trio."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        lane = self._lane  # another task may close meanwhile
        try:
            async for chunk in self._stream:
                lane.check()
                yield chunk
        except Exception as error:
            mapped = self._mapped(error)
            raise mapped from (None if mapped is error else error)
        self._complete = True

    async def aclose(self) -> None:
        """Give the lane back, or close it if the body was not read to its end."""
        if self._closed:
            return
        self._closed, complete = True, False
        try:
            if hasattr(self._stream, "aclose"):
                await self._stream.aclose()
            complete = self._complete
        finally:
            try:
                await self._lanes.give_back(self._lane, complete=complete)
            finally:
                self.done()
                self._let_go()

    async def dispose(self, deadline: float | None) -> None:
        """Read the rest if it is short, and close."""
        if self._closed:
            return
        self._lane.limit(_soon(deadline))
        size = 0
        try:
            with contextlib.suppress(httpx2.TransportError):
                async for chunk in self:
                    size += len(chunk)
                    if size > DISPOSED:
                        break
        finally:
            await self.aclose()

    def __del__(self) -> None:
        self._lost()


def _nothing() -> None:
    """Do nothing."""


def _soon(deadline: float | None) -> float:
    soon = time.monotonic() + DISPOSE_SECONDS
    return soon if deadline is None else min(soon, deadline)
