"""A FastAPI service with a lifespan of its own that is called through p2plb.

    p2plb dev                                                              # an etcd, in another terminal
    PORT=8001 uvicorn --app-dir examples/fastapi app:app --port 8001       # again with other ports
    p2plb curl hello/

The last route is for servers that end before anybody could be told (see the README beside this file).
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request

import p2plb


@asynccontextmanager
async def my_lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    """Open what the application needs, and close it again once nobody calls any more."""
    yield {"greeting": "hello"}


lifespan = p2plb.lifespan("hello", also=my_lifespan)
app = FastAPI(lifespan=lifespan)


@app.get("/")
async def hello(request: Request) -> dict[str, str]:
    """Answer with what the application's own lifespan has made."""
    return {"says": request.state.greeting, "process": str(os.getpid())}


@app.get("/ready")
async def ready() -> dict[str, str]:
    """Tell an orchestrator how the registration is doing."""
    registration = lifespan.registration
    return {"state": registration.state if registration else "off", "process": str(os.getpid())}


@app.post("/-/drain")
async def drain(request: Request) -> None:
    """Tell callers to stay away, and return when they have heard: for a preStop hook on this machine."""
    if request.client is None or request.client.host not in ("127.0.0.1", "::1"):
        raise HTTPException(403)
    if lifespan.registration:
        await lifespan.registration.drain_async()
