"""A span and the headers of a trace for each attempt on a lane, by whatever has instrumented httpx itself.

OpenTelemetry's `HTTPXClientInstrumentor().instrument()` wraps a method of httpx's own transport, which lanes do
without. While that method is wrapped, an attempt goes through it, with the lane where httpx has its pool: so spans,
metrics, hooks and excluded URLs are what the user has set up there, and we load nothing of OpenTelemetry.
This file knows no family: it is given the method.
"""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

from p2plb.balancing.call import Call
from p2plb.wire.lane import AsyncLane, Lane, Wire


def sender(method: Callable[..., Any], lane: Any, call: Call) -> Callable[[Any, Wire], Any]:
    """Return what sends a request on a lane; `method` is what makes a request of the family's own transport."""
    if hasattr(method, "__wrapped__"):
        if isinstance(lane, Lane):
            return _Pool(method, lane, call).send
        if isinstance(lane, AsyncLane):
            return _AsyncPool(method, lane, call).send
    send: Callable[[Any, Wire], Any] = lane.send  # an inner transport is instrumented or not, as the user wants
    return send


class _Attempt:
    """One attempt, in the place of httpx's transport and of its pool."""

    def __init__(self, method: Callable[..., Any], lane: Any, call: Call) -> None:
        self._pool = self  # where the method looks for what sends
        self._method = method.__get__(self)
        self._lane = lane
        self._call = call
        self._outer = _current_span()
        self._error: Exception | None = None

    def _begin(self, request: Any, wire: Wire) -> Any:
        """Return a copy of the request, for the instrumentation to write its headers on."""
        self._request, self._wire = request, wire
        return type(request)(
            request.method, request.url, headers=wire.headers, stream=request.stream, extensions=wire.extensions
        )

    def _traced(self, headers: list[tuple[bytes, bytes]]) -> Wire:
        """Complete the span by what only we know, and return what to send."""
        span = _current_span()
        if span is not self._outer:  # else this request is excluded, or instrumentation is suppressed
            instance, resent = self._lane.node.instance, len(self._call.history)
            span.set_attribute("network.peer.address", instance.host)
            span.set_attribute("network.peer.port", instance.port)
            if resent:
                span.set_attribute("http.request.resend_count", resent)
        return dataclasses.replace(self._wire, headers=headers)

    def _taken(self) -> Exception:
        """Return the lane's own error, once: what httpx has made of it says less of the request."""
        error, self._error = self._error, None
        return error or AssertionError("there was an error")


class _Pool(_Attempt):
    """The same for blocking code."""

    def send(self, request: Any, wire: Wire) -> Any:
        """Send through the method and return httpx's response at its head."""
        try:
            return self._method(self._begin(request, wire))
        except Exception:
            if self._error is None:
                raise
        raise self._taken()

    def handle_request(self, request: Any) -> Any:
        """Send what the method has made of the request; it takes us for its pool."""
        try:
            return self._lane.send(self._request, self._traced(request.headers))
        except Exception as error:
            self._error = error
            raise


class _AsyncPool(_Attempt):
    """The same on asyncio or trio."""

    async def send(self, request: Any, wire: Wire) -> Any:
        """Send through the method and return httpx's response at its head."""
        try:
            return await self._method(self._begin(request, wire))
        except Exception:
            if self._error is None:
                raise
        raise self._taken()

    async def handle_async_request(self, request: Any) -> Any:
        """Send what the method has made of the request; it takes us for its pool."""
        try:
            return await self._lane.send(self._request, self._traced(request.headers))
        except Exception as error:
            self._error = error
            raise


def _current_span() -> Any:
    """Return OpenTelemetry's current span, None if nobody has loaded that."""
    trace = sys.modules.get("opentelemetry.trace")
    return None if trace is None else trace.get_current_span()
