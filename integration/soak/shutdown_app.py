"""The application of the check on shutdowns: takes a moment for each call, and keeps a journal of them.

Plain ASGI, so that every server can run it. With WAY=register it leaves registering to the program that runs the
server; else its lifespan registers it. `POST /-/drain` is what a preStop hook would call.
"""

import json
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio

import p2plb

WORK = 0.02
"""Seconds that a call takes, so that some are under way when the server is told to end."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

journal = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
lifespan = p2plb.lifespan("users") if os.environ["WAY"] != "register" else None


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Serve the lifespan and calls."""
    if scope["type"] == "lifespan":
        await run(receive, send)
    elif scope["path"] == "/-/drain":
        if lifespan and lifespan.registration:
            await lifespan.registration.drain_async()
        await answer(send, {})
    else:
        await serve(scope, send)


async def run(receive: Receive, send: Send) -> None:
    """Be registered from the start-up to the shutdown, as a framework would see to it."""
    await receive()
    if lifespan is None:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    else:
        async with lifespan(app):
            await send({"type": "lifespan.startup.complete"})
            await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def serve(scope: Message, send: Send) -> None:
    """Do the work of one call."""
    number = dict(scope["headers"])[b"x-request-id"].decode()
    note("start", number, scope)
    await anyio.sleep(WORK)
    await answer(send, {"id": number})
    note("end", number, scope)


async def answer(send: Send, content: object) -> None:
    """Answer with JSON."""
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})


def note(event: str, number: str, scope: Message) -> None:
    """Write a line of the journal, at once."""
    line = {"event": event, "id": number, "instance": os.environ["PORT"], "pid": os.getpid()}
    line |= {"method": scope["method"], "target": scope["path"], "at": time.monotonic()}
    os.write(journal, json.dumps(line).encode() + b"\n")
