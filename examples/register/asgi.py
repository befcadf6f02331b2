"""The same for an ASGI application: the registration lives in its lifespan.

    uvicorn --app-dir examples/register asgi:app --port 8001

A framework takes `lifespan` as an argument and hides what this does by hand; see examples/fastapi.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import p2plb

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

lifespan = p2plb.lifespan("hello", port=int(os.environ.get("PORT", "8001")))


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Answer every request with who it is."""
    if scope["type"] == "lifespan":
        await receive()
        async with lifespan(app):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        body = f"hello from process {os.getpid()}\n".encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})
