"""The service `orders` as it was: httpx, and one URL for all instances of `users`.

USERS_URL is the old way there: a load balancer, a Kubernetes Service, nginx. `orders.py` is the same with p2plb.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI, Request


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """Hold one client for as long as the application runs."""
    async with httpx.AsyncClient(base_url=os.environ["USERS_URL"]) as users:
        yield {"users": users}


app = FastAPI(lifespan=lifespan)


@app.post("/orders/{customer}", status_code=201)
async def place(customer: int, request: Request) -> dict[str, Any]:
    """Place an order for a customer, whom `users` knows."""
    response = await request.state.users.get(f"/users/{customer}")
    response.raise_for_status()
    return {"customer": response.json()}
