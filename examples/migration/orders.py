"""The service `orders` with p2plb; `before.py` is what it was, and the README beside this file has the difference.

All steps are this one program with other environment variables: USERS_URL is the old way to `users`, USERS_SHARE the
part of the calls that goes to instances, P2PLB_BYPASS the way back.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI, Request

import p2plb


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """Hold one client for as long as the application runs."""
    dial = p2plb.Policy(fallback=os.environ.get("USERS_URL"), share=float(os.environ.get("USERS_SHARE", "1")))
    async with p2plb.AsyncClient(base_url="http://users", services={"users": dial}) as users:
        yield {"users": users}


app = FastAPI(lifespan=p2plb.lifespan("orders", also=lifespan))


@app.post("/orders/{customer}", status_code=201)
async def place(customer: int, request: Request) -> dict[str, Any]:
    """Place an order for a customer, whom `users` knows."""
    response = await request.state.users.get(f"/users/{customer}")
    response.raise_for_status()
    return {"customer": response.json()}
