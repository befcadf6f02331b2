"""Telling clients how loaded this instance is: an ASGI middleware that adds one header to each answer.

    app.add_middleware(p2plb.LoadReportMiddleware)   # Starlette, FastAPI
    app = p2plb.LoadReportMiddleware(app)            # any ASGI application

It knows nothing of registrations, and nothing of how clients use it (`p2plb.Probing`).
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from p2plb.load import HEADER, format_load
from p2plb.serving.meter import LoadMeter

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

NAME = HEADER.encode("ascii")


class LoadReportMiddleware:
    """An ASGI application that adds a load report (ORCA's `endpoint-load-metrics`) to the answers of another.

    It reports this process: requests in flight, bodies included, the median time to the head of recent answers, the
    processor's use, and answers and server errors a second. A report that the application writes itself stays.
    """

    def __init__(self, app: Application) -> None:
        if not callable(app):
            raise TypeError(f"LoadReportMiddleware takes an ASGI application, not {app!r}")
        self._app = app
        self._meter = LoadMeter()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection; only HTTP requests are counted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = self._meter.begin()

        async def report(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = self._with_report(message, begun)
            await send(message)

        try:
            await self._app(scope, receive, report)
        finally:
            self._meter.end()

    def _with_report(self, message: Message, begun: tuple[int, float]) -> Message:
        self._meter.answered(begun, message["status"])
        headers = list(message.get("headers", ()))
        if any(name.lower() == NAME for name, _ in headers):
            return message
        headers.append((NAME, format_load(self._meter.report()).encode("ascii")))
        return {**message, "headers": headers}
