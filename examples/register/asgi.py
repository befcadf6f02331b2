"""The same for an ASGI application on uvicorn: the registration lives in its lifespan.

    uvicorn --app-dir examples/register asgi:app --port 8001

uvicorn installs its signal handlers before it starts the lifespan, so `drain_on` finds them and hands the signal on to
them once callers have been told: only then does uvicorn close its port.
"""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from p2plb import register

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PORT = int(os.environ.get("PORT", "8001"))


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    """Be registered while the application runs; frameworks such as FastAPI take this as `lifespan=`."""
    async with register("hello", port=PORT, drain_on=(signal.SIGTERM, signal.SIGINT)):
        yield


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Answer every request with who it is. A framework would hide what this does by hand."""
    if scope["type"] == "lifespan":
        await receive()
        async with lifespan():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        body = f"hello from process {os.getpid()}\n".encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})
