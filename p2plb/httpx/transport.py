"""The transports of the httpx family, and the two drivers that carry out the steps of a call.

What to do next is decided in balancing/attempts.py; here it is only done, once in blocking code, once on asyncio or
trio. `Transport` sends what is not for a service out as plain httpx would.
"""

import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, Unpack

import anyio
import httpcore
import httpx

from p2plb import forks
from p2plb.balancing.attempts import Send, Sleep, Wait
from p2plb.balancing.call import Call, Ending, Outcome
from p2plb.balancing.policy import Policy
from p2plb.balancing.view import Strategy
from p2plb.core import Core, Exchange
from p2plb.discovery.registry import Registry
from p2plb.httpx.arguments import Context, TransportOptions, bounds, refuse
from p2plb.httpx.body import AsyncBody, Body
from p2plb.httpx.family import NoInstances, replayable, understand
from p2plb.httpx.inner import AsyncInners, Inners
from p2plb.instance import Instance
from p2plb.observe.events import Observer
from p2plb.observe.stats import Stats
from p2plb.routing import Route
from p2plb.wire.lane import Dial
from p2plb.wire.lanes import AsyncLanes, Lanes
from p2plb.wire.loops import PerLoop
from p2plb.wire.network import SocketOption
from p2plb.wire.waiting import wait, wait_async


class _Base(ABC):
    """What both transports have in common: the configuration, and what an outcome means to httpx."""

    def __init__(
        self,
        registry: Registry | str | None = None,
        *,
        strategy: Strategy | None = None,
        policy: Policy | None = None,
        services: Mapping[str, Policy] | None = None,
        route: Route | str | None = None,
        observers: Collection[Observer] = (),
        inner: Callable[[Instance], Any] | None = None,
        start_timeout: float = 3.0,
        verify: ssl.SSLContext | str | bool = True,
        cert: Any = None,
        trust_env: bool = True,
        http1: bool = True,
        http2: bool = False,
        limits: httpx.Limits | None = None,
        local_address: str | None = None,
        socket_options: Collection[SocketOption] | None = None,
        **unknown: Any,
    ) -> None:
        refuse(unknown)
        if inner is not None and not callable(inner):
            raise TypeError(f"inner= is a function from an instance to an httpx transport, not {inner!r}")
        if not (http1 or http2):
            raise ValueError("one of http1= and http2= must be True")
        self._limits = limits
        self._inner = inner
        self._trust_env = trust_env
        self._dial = Dial(
            httpcore,
            Context(verify, cert, trust_env=trust_env, http=(http1, http2)),
            http1,
            http2,
            local_address,
            socket_options,
        )
        self._plain: Any = None
        self._core = Core(
            registry,
            strategy=strategy,
            policy=policy,
            services=services,
            route=route,
            observers=observers,
            start_timeout=start_timeout,
            max_connections=None if limits is None else limits.max_connections,
            on_gone=self._mark,
        )
        forks.watch(self)

    @property
    def registry(self) -> Registry:
        """The registry in use."""
        return self._core.services.registry

    def stats(self) -> Stats:
        """Return how the registry, the services and their nodes are doing: frozen dataclasses, ready for JSON."""
        return self._core.services.stats()

    def exchange(self, request: httpx.Request) -> Exchange | None:
        """Return the call that a request makes, None if it is not for a service."""
        return self._core.exchange(request, replayable=replayable(request))

    @abstractmethod
    def after_fork(self) -> None:
        """In a forked child: begin anew, and leave what was inherited alone."""

    @abstractmethod
    def _mark(self) -> None:
        """Nodes have left: what was open to them may be closed."""

    def client_arguments(self) -> dict[str, Any]:
        """Return what httpx itself shall use for hosts that are no services."""
        dial, limits = self._dial, {} if self._limits is None else {"limits": self._limits}
        http = {"http1": dial.http1, "http2": dial.http2}
        return {"verify": dial.context(), "trust_env": self._trust_env, **http, **limits}

    def _plain_arguments(self) -> dict[str, Any]:
        dial = self._dial
        return {**self.client_arguments(), "local_address": dial.local_address, "socket_options": dial.socket_options}

    def _outcome(self, error: BaseException, call: Call, *, reused: bool) -> Outcome:
        """Return what a failed attempt means; what is not the wire's fault (a bug, a cancellation) goes through."""
        found = understand(error, call.request) if isinstance(error, Exception) else None
        if found is None:
            raise error
        mapped, fault = found
        if mapped is not error:
            mapped.__cause__ = error
        return Outcome(error=mapped, fault=fault, reused=reused, timed_out=isinstance(mapped, httpx.TimeoutException))

    def _head(self, response: Any, body: Any, *, reused: bool) -> Outcome:
        """Return the outcome of an attempt that has its answer's head, from httpcore or from an inner transport."""
        if isinstance(response, httpx.Response):
            response.stream = body
        else:
            response = httpx.Response(
                response.status, headers=response.headers, stream=body, extensions=response.extensions
            )
        return self._core.answered(response.status_code, response, reused=reused)

    def _result(self, exchange: Exchange) -> httpx.Response:
        """Return the answer of a call, or raise what has become of it."""
        call, outcome = exchange.call, exchange.call.outcome
        served = call.served()
        if outcome is not None and outcome.error is None:
            self._core.ended(call, None)
            response: httpx.Response = outcome.response
            response.extensions = {**response.extensions, "p2plb": served}
            return response
        error = self._given_up(exchange) if outcome is None or outcome.error is None else outcome.error
        call.release()
        call.outcome = None
        error.p2plb = served  # type: ignore[attr-defined]  # as on an answer's extensions
        for number, attempt in enumerate(served.attempts, 1):
            where = f"{served.service}/{attempt.instance.id} at {attempt.instance.url}"
            error.add_note(f"p2plb attempt {number}: {where}: {attempt.reason} ({attempt.fault})")
        try:
            raise error
        finally:
            del outcome, error  # or error, traceback and frame would hold each other

    def _given_up(self, exchange: Exchange) -> Exception:
        call = exchange.call
        if call.give_up is not None and call.give_up.ending is Ending.NO_CONNECTION:
            text = f"all {self._limits and self._limits.max_connections} connections of limits= are busy"
            return httpx.PoolTimeout(text, request=call.request)
        return NoInstances(self._core.services.explain(exchange.balancer), request=call.request)


def _retried(call: Call) -> Any:
    """Take the answer that is not wanted off a call and return its body; the call holds its slot meanwhile."""
    body, call.outcome = call.outcome.response.stream, None  # type: ignore[union-attr]  # the caller has looked
    body.done = call.let_go
    return body


class Transport(_Base, httpx.BaseTransport):
    """A transport that picks the instance for each request itself: `httpx.Client(transport=p2plb.Transport(…))`.

    `registry` is a URL (`etcd://h1:2379,h2:2379/prefix`, `static://users=10.0.0.7:80`, …) or a Registry; without one
    `P2PLB_REGISTRY` names it. The other arguments are those of `Client`. Any thread may use it.
    """

    def __init__(self, registry: Registry | str | None = None, **options: Unpack[TransportOptions]) -> None:
        self._lanes: Any = None
        super().__init__(registry, **options)
        self._lock = threading.Lock()
        self._lanes = self._make_lanes()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to an instance of its service, or out as plain httpx would."""
        exchange = self.exchange(request)
        return self._plain_transport().handle_request(request) if exchange is None else self.drive(exchange)

    def drive(self, exchange: Exchange) -> httpx.Response:
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
            return self._result(exchange)
        except BaseException as error:
            self._core.ended(call, error)
            raise

    def _send(self, exchange: Exchange, step: Send) -> Outcome:
        call = exchange.call
        lane = self._lanes.take(step.node, exchange.tls_name, repeatable=call.repeatable, fresh=step.fresh)
        try:
            response = lane.send(call.request, exchange.wire(call.sent_at))
        except BaseException as error:
            lane.close()
            return self._outcome(error, call, reused=lane.reused)
        lane.limit(call.deadline)
        body = Body(response.stream, lane, self._lanes, call.request, call.release)
        if getattr(response, "is_closed", False):  # an inner transport's answer that was read already
            body.close()
        return self._head(response, body, reused=lane.reused)

    def close(self) -> None:
        """Close idle connections and give the registry up; busy connections end with their calls. Idempotent.

        A later request opens again, as with httpx's own transports.
        """
        self._lanes.close()
        plain, self._plain = self._plain, None
        if plain is not None:
            plain.close()
        self._core.services.close()

    def _make_lanes(self) -> Any:
        if self._inner is not None:
            return Inners(self._inner)
        return Lanes(self._dial, self._core.slots, **bounds(self._limits))

    def _mark(self) -> None:
        if self._lanes is not None:
            self._lanes.mark()

    def _plain_transport(self) -> httpx.BaseTransport:
        with self._lock:
            if self._plain is None:
                self._plain = httpx.HTTPTransport(**self._plain_arguments())
            plain: httpx.BaseTransport = self._plain
            return plain

    def after_fork(self) -> None:
        """In a forked child: begin anew, and leave what was inherited alone."""
        self._core.after_fork()
        self._lanes.drop()
        self._lanes = self._make_lanes()
        self._plain = None
        self._lock = threading.Lock()


class AsyncTransport(_Base, httpx.AsyncBaseTransport):
    """The same for `httpx.AsyncClient`, on asyncio and trio. Each event loop has lanes of its own."""

    def __init__(self, registry: Registry | str | None = None, **options: Unpack[TransportOptions]) -> None:
        self._lanes: PerLoop[Any] = PerLoop(self._make_lanes)
        super().__init__(registry, **options)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to an instance of its service, or out as plain httpx would."""
        exchange = self.exchange(request)
        if exchange is None:
            return await self._plain_transport().handle_async_request(request)
        return await self.drive(exchange)

    async def drive(self, exchange: Exchange) -> httpx.Response:
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
            return self._result(exchange)
        except BaseException as error:
            self._core.ended(call, error)
            raise

    async def _send(self, exchange: Exchange, step: Send) -> Outcome:
        call, lanes = exchange.call, self._lanes.here()
        lane = await lanes.take(step.node, exchange.tls_name, repeatable=call.repeatable, fresh=step.fresh)
        try:
            response = await lane.send(call.request, exchange.wire(call.sent_at))
        except BaseException as error:
            lane.abort()
            await lane.aclose()
            return self._outcome(error, call, reused=lane.reused)
        lane.limit(call.deadline)
        body = AsyncBody(response.stream, lane, lanes, call.request, call.release)
        if getattr(response, "is_closed", False):  # an inner transport's answer that was read already
            await body.aclose()
        return self._head(response, body, reused=lane.reused)

    async def aclose(self) -> None:
        """Close this loop's idle connections and give the registry up; busy connections end with their calls.

        Idempotent; a later request opens again, as with httpx's own transports.
        """
        self._core.services.close()
        plain, self._plain = self._plain, None
        if plain is not None:
            await plain.aclose()
        await self._lanes.here().aclose()

    def _make_lanes(self) -> Any:
        if self._inner is not None:
            return AsyncInners(self._inner)
        return AsyncLanes(self._dial, self._core.slots, **bounds(self._limits))

    def _mark(self) -> None:
        for lanes in self._lanes.all():
            lanes.mark()

    def _plain_transport(self) -> httpx.AsyncBaseTransport:
        if self._plain is None:
            self._plain = httpx.AsyncHTTPTransport(**self._plain_arguments())
        plain: httpx.AsyncBaseTransport = self._plain
        return plain

    def after_fork(self) -> None:
        """In a forked child: begin anew, and leave what was inherited alone."""
        self._core.after_fork()
        for lanes in self._lanes.after_fork():
            lanes.drop()
        self._plain = None
