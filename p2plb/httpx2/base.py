# Written by `python -m tests.generate` from p2plb/httpx/base.py: change that file, not this one.
"""What both transports of the httpx2 family have in common: configuration, and what an outcome means to httpx2."""

import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any

import httpcore2
import httpx2

from p2plb import forks
from p2plb.balancing.call import Call, Ending, Fault, Outcome, Served, Via
from p2plb.balancing.view import Strategy
from p2plb.calling.arguments import refuse
from p2plb.calling.core import Core, Exchange
from p2plb.calling.policy import Policy
from p2plb.calling.routing import Route
from p2plb.calling.shared_health import way
from p2plb.discovery.registry import Registry
from p2plb.httpx2.arguments import Context
from p2plb.httpx2.family import NoInstances, replayable, understand
from p2plb.instance import Instance
from p2plb.observe.events import Observer
from p2plb.wire.lane import Dial
from p2plb.wire.network import SocketOption


class Base(ABC):
    """A transport without its drivers."""

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
        limits: httpx2.Limits | None = None,
        local_address: str | None = None,
        socket_options: Collection[SocketOption] | None = None,
        **unknown: Any,
    ) -> None:
        refuse(unknown)
        if inner is not None and not callable(inner):
            raise TypeError(f"inner= is a function from an instance to an httpx2 transport, not {inner!r}")
        if not (http1 or http2):
            raise ValueError("one of http1= and http2= must be True")
        self._limits = limits
        self._inner = inner
        self.outlets: Mapping[str, Any] = {}
        """The transports for fallbacks that shall not go out through the plain one: proxies and mounts of a client."""
        self._trust_env = trust_env
        self._dial = Dial(
            httpcore2,
            Context(verify, cert, trust_env=trust_env, http=(http1, http2)),
            http1,
            http2,
            local_address,
            socket_options,
        )
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
            no_instances=NoInstances,
            reach=way(inner, verify, cert, trust_env, local_address),
        )
        forks.watch(self)

    def exchange(self, request: httpx2.Request) -> Exchange | None:
        """Return the call that a request makes, None if it is not for a service."""
        return self._core.exchange(request, replayable=replayable(request))

    def fallbacks(self) -> frozenset[str]:
        """Return the origins that calls may fall back to."""
        return self._core.services.fallbacks()

    @abstractmethod
    def after_fork(self) -> None:
        """In a forked child: begin anew, and leave what was inherited alone."""

    @abstractmethod
    def _mark(self) -> None:
        """Nodes have left: what was open to them may be closed."""

    @abstractmethod
    def _plain_transport(self) -> Any:
        """Return httpx2's own transport, made at first use."""

    def client_arguments(self) -> dict[str, Any]:
        """Return what httpx2 itself shall use for hosts that are no services."""
        dial, limits = self._dial, {} if self._limits is None else {"limits": self._limits}
        http = {"http1": dial.http1, "http2": dial.http2}
        return {"verify": dial.context(), "trust_env": self._trust_env, **http, **limits}

    def _plain_arguments(self) -> dict[str, Any]:
        dial = self._dial
        return {**self.client_arguments(), "local_address": dial.local_address, "socket_options": dial.socket_options}

    def _closes(self, plain: Any) -> bool:
        """Whether a `close` closes httpx2's own transport: not while it carries calls of others who share ours."""
        carried = plain._pool.connections  # noqa: SLF001  only httpcore2 knows
        return self._core.services.final or all(connection.is_idle() for connection in carried)

    def _outcome(self, error: BaseException, call: Call, lane: Any) -> Outcome:
        """Return what a failed attempt means; what is not the wire's fault (a bug, a cancellation) goes through."""
        found = understand(error, call.request) if isinstance(error, Exception) else None
        if found is None:
            raise error
        mapped, fault = found
        if fault is Fault.NEVER_SENT and lane.may_have_sent(error):
            fault = Fault.MAYBE_PROCESSED  # the error is of the body's, or of the application's, own calls
        if mapped is not error:
            mapped.__cause__ = error
        timed_out = isinstance(mapped, httpx2.TimeoutException)
        return Outcome(error=mapped, fault=fault, reused=lane.reused, timed_out=timed_out)

    def _head(self, response: Any, body: Any, *, reused: bool) -> Outcome:
        """Return the outcome of an attempt that has its answer's head, from httpcore2 or from an inner transport."""
        if isinstance(response, httpx2.Response):
            response.stream = body
        else:
            response = httpx2.Response(
                response.status, headers=response.headers, stream=body, extensions=response.extensions
            )
        return self._core.answered(response.status_code, response, reused=reused)

    def _outlet(self, exchange: Exchange, plain: Callable[[], Any]) -> Any:
        """Let go of the instances and return the transport past them."""
        call = exchange.call
        call.release()
        call.outcome = None
        if call.via is Via.PLAIN or exchange.fallback is None:
            return plain()
        self._core.services.falls_back(call.service)
        return self.outlets.get(exchange.fallback) or self._plain_transport()

    def _result(self, exchange: Exchange) -> httpx2.Response:
        """Return the answer of a call, or raise what has become of it."""
        call, outcome = exchange.call, exchange.call.outcome
        served = call.served()
        if outcome is not None and outcome.error is None:
            self._core.ended(call, None)
            return _signed(outcome.response, served)
        error = self._given_up(exchange) if outcome is None or outcome.error is None else outcome.error
        call.release()
        call.outcome = None
        error.p2plb = served  # type: ignore[attr-defined]  # as on an answer's extensions
        for note in self._core.history(exchange):
            error.add_note(note)
        try:
            raise error
        finally:
            del outcome, error  # or error, traceback and frame would hold each other

    def _given_up(self, exchange: Exchange) -> Exception:
        call = exchange.call
        if call.give_up is not None and call.give_up.ending is Ending.NO_CONNECTION:
            text = f"all {self._limits and self._limits.max_connections} connections of limits= are busy"
            return httpx2.PoolTimeout(text, request=call.request)
        return self._core.nobody(exchange.peers(), call.give_up.why if call.give_up else "", request=call.request)


def unrouted(response: httpx2.Response) -> httpx2.Response:
    """Write on an answer that its request was for no service."""
    return _signed(response, Served(None, None, Via.PLAIN))


def _signed(response: httpx2.Response, served: Served) -> httpx2.Response:
    response.extensions = {**response.extensions, "p2plb": served}
    return response
