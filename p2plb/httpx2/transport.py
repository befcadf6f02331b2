# Written by `python -m tests.generate` from p2plb/httpx/transport.py: change that file, not this one.
"""The transports of the httpx2 family, and the two drivers that carry out the steps of a call.

What to do next is decided in balancing/attempts.py; here it is only done, once in blocking code, once on asyncio or
trio. `Transport` sends what is not for a service out as plain httpx2 would.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Unpack

import anyio
import httpx2

from p2plb.balancing.attempts import Send, Sleep, Wait
from p2plb.balancing.call import Call, Outcome
from p2plb.calling.core import Exchange
from p2plb.calling.peers import AsyncPeers, Peers
from p2plb.discovery.registry import Registry
from p2plb.httpx2.arguments import TransportOptions, bounds
from p2plb.httpx2.base import Base, unrouted
from p2plb.httpx2.body import AsyncBody, Body
from p2plb.httpx2.inner import AsyncInners, AsyncOutside, Inners, Outside
from p2plb.observe.tracing import sender
from p2plb.wire.lane import Wire
from p2plb.wire.lanes import AsyncLanes, Lanes
from p2plb.wire.loops import PerLoop
from p2plb.wire.waiting import wait, wait_async


def _retried(call: Call) -> Any:
    """Take the answer that is not wanted off a call and return its body; the call holds its slot meanwhile."""
    body, call.outcome = call.outcome.response.stream, None  # type: ignore[union-attr]  # the caller has looked
    body.done = call.let_go
    return body


class Transport(Base, Peers, httpx2.BaseTransport):
    """A transport that picks the instance for each request itself: `httpx2.Client(transport=p2plb.Transport(…))`.

    `registry` is a URL (`etcd://h1:2379,h2:2379/prefix`, `static://users=10.0.0.7:80`, …) or a Registry; without one
    `P2PLB_REGISTRY` names it. The other arguments are those of `Client`. Any thread may use it.
    """

    def __init__(self, registry: Registry | str | None = None, **options: Unpack[TransportOptions]) -> None:
        self._lanes: Any = None
        self._plain: httpx2.HTTPTransport | None = None
        super().__init__(registry, **options)
        self._lock = threading.Lock()
        self._lanes = self._make_lanes()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request to an instance of its service, or out as plain httpx2 would."""
        return self.carry(request, self._plain_transport)

    def carry(self, request: httpx2.Request, plain: Callable[[], httpx2.BaseTransport]) -> httpx2.Response:
        """Do the same with `plain` for what goes out as it is."""
        exchange = self.exchange(request)
        return unrouted(plain().handle_request(request)) if exchange is None else self.drive(exchange, plain)

    def drive(self, exchange: Exchange, plain: Callable[[], httpx2.BaseTransport]) -> httpx2.Response:
        """Carry out the steps of a call and return its answer."""
        call = exchange.call
        try:
            for step in exchange.steps():
                if call.outcome is not None and call.outcome.response is not None:
                    _retried(call).dispose(call.deadline)
                match step:
                    case Send():
                        call.outcome = self._send(exchange, step)
                    case Sleep():
                        time.sleep(step.seconds)
                    case Wait():
                        wait(step)
            if self._core.goes_out(exchange):
                call.outcome = self._go_out(exchange, plain)
            return self._result(exchange)
        except BaseException as error:
            self._core.ended(call, error)
            raise

    def _send(self, exchange: Exchange, step: Send) -> Outcome:
        lanes, call = self._lanes, exchange.call
        lane = lanes.take(step.node, exchange.tls_name, repeatable=exchange.repeats, fresh=step.fresh)
        return self._use(lane, lanes, call, exchange.wire(call.sent_at))

    def _go_out(self, exchange: Exchange, plain: Callable[[], httpx2.BaseTransport]) -> Outcome:
        origin, wire = exchange.outside()
        lane = Outside(origin, self._outlet(exchange, plain))
        return self._use(lane, lane, exchange.call, wire)

    def _use(self, lane: Any, lanes: Any, call: Call, wire: Wire) -> Outcome:
        try:
            send = sender(httpx2.HTTPTransport.handle_request, lane, call)
            response = send(call.request, wire)
        except BaseException as error:
            lane.close()
            return self._outcome(error, call, lane)
        lane.limit(call.deadline)
        body = Body(response.stream, lane, lanes, call.request, call.release)
        if getattr(response, "is_closed", False):  # an inner transport's answer that was read already
            body.close()
        return self._head(response, body, reused=lane.reused)

    def close(self) -> None:
        """Close idle connections and give the registry up; busy connections end with their calls. Idempotent.

        A later request opens again, as with httpx2's own transports, so clients that share one may close at any time.
        """
        self._lanes.close()
        if self._plain is not None and self._closes(self._plain):
            self._plain.close()
        self._core.services.close()

    def finish(self) -> None:
        """Let the next `close` hold for ever: a call that another thread has begun opens nothing that would stay."""
        self._core.services.final = self._lanes.final = True

    def _make_lanes(self) -> Any:
        if self._inner is not None:
            return Inners(self._inner)
        return Lanes(self._dial, self._core.slots, **bounds(self._limits))

    def _mark(self) -> None:
        if self._lanes is not None:
            self._lanes.mark()

    def _plain_transport(self) -> httpx2.BaseTransport:
        with self._lock:
            if self._plain is None:
                self._plain = httpx2.HTTPTransport(**self._plain_arguments())
            return self._plain

    def after_fork(self) -> None:
        """In a forked child: begin anew, and leave what was inherited alone."""
        self._core.after_fork()
        self._lanes.drop()
        self._lanes = self._make_lanes()
        self._plain = None
        self._lock = threading.Lock()


class AsyncTransport(Base, AsyncPeers, httpx2.AsyncBaseTransport):
    """The same for `httpx2.AsyncClient`, on asyncio and trio. Each event loop has lanes of its own."""

    def __init__(self, registry: Registry | str | None = None, **options: Unpack[TransportOptions]) -> None:
        self._lanes: PerLoop[Any] = PerLoop(self._make_lanes)
        self._plain = PerLoop(lambda: httpx2.AsyncHTTPTransport(**self._plain_arguments()))
        super().__init__(registry, **options)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request to an instance of its service, or out as plain httpx2 would."""
        return await self.carry(request, self._plain_transport)

    async def carry(self, request: httpx2.Request, plain: Callable[[], httpx2.AsyncBaseTransport]) -> httpx2.Response:
        """Do the same with `plain` for what goes out as it is."""
        exchange = self.exchange(request)
        if exchange is None:
            return unrouted(await plain().handle_async_request(request))
        return await self.drive(exchange, plain)

    async def drive(self, exchange: Exchange, plain: Callable[[], httpx2.AsyncBaseTransport]) -> httpx2.Response:
        """Carry out the steps of a call and return its answer."""
        call = exchange.call
        try:
            for step in exchange.steps():
                if call.outcome is not None and call.outcome.response is not None:
                    await _retried(call).dispose(call.deadline)
                match step:
                    case Send():
                        call.outcome = await self._send(exchange, step)
                    case Sleep():
                        await anyio.sleep(step.seconds)
                    case Wait():
                        await wait_async(step)
            if self._core.goes_out(exchange):
                call.outcome = await self._go_out(exchange, plain)
            return self._result(exchange)
        except BaseException as error:
            self._core.ended(call, error)
            raise

    async def _send(self, exchange: Exchange, step: Send) -> Outcome:
        lanes, call = self._lanes.here(), exchange.call
        lane = await lanes.take(step.node, exchange.tls_name, repeatable=exchange.repeats, fresh=step.fresh)
        return await self._use(lane, lanes, call, exchange.wire(call.sent_at))

    async def _go_out(self, exchange: Exchange, plain: Callable[[], httpx2.AsyncBaseTransport]) -> Outcome:
        origin, wire = exchange.outside()
        lane = AsyncOutside(origin, self._outlet(exchange, plain))
        return await self._use(lane, lane, exchange.call, wire)

    async def _use(self, lane: Any, lanes: Any, call: Call, wire: Wire) -> Outcome:
        try:
            send = sender(httpx2.AsyncHTTPTransport.handle_async_request, lane, call)
            response = await send(call.request, wire)
        except BaseException as error:
            await lane.aclose()
            return self._outcome(error, call, lane)
        lane.limit(call.deadline)
        body = AsyncBody(response.stream, lane, lanes, call.request, call.release)
        if getattr(response, "is_closed", False):  # an inner transport's answer that was read already
            await body.aclose()
        return self._head(response, body, reused=lane.reused)

    async def aclose(self) -> None:
        """Close this loop's idle connections and give the registry up; busy connections end with their calls.

        Idempotent; a later request opens again, as with httpx2's own transports.
        """
        self._core.services.close()
        if (plain := self._plain.get()) is not None and self._closes(plain):
            await plain.aclose()
        await self._lanes.here().aclose()

    def _plain_transport(self) -> httpx2.AsyncBaseTransport:
        return self._plain.here()

    def finish(self) -> None:
        """Let the next `aclose` hold for ever: a call that another task has begun opens nothing that would stay."""
        self._core.services.final = True
        for lanes in self._lanes.all():
            lanes.final = True

    def _make_lanes(self) -> Any:
        if self._inner is not None:
            return AsyncInners(self._inner)
        return AsyncLanes(self._dial, self._core.slots, **bounds(self._limits))

    def _mark(self) -> None:
        for lanes in self._lanes.all():
            lanes.mark()

    def after_fork(self) -> None:
        """In a forked child: begin anew, and leave what was inherited alone."""
        self._core.after_fork()
        for lanes in self._lanes.after_fork():
            lanes.drop()
        self._plain.after_fork()
