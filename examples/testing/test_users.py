"""The four ways of testing code that calls through p2plb, as its guide lists them."""

from typing import Any

import anyio
import httpx
import respx

from p2plb import AsyncClient, Client, Instance
from p2plb.discovery.memory import MemoryRegistry

USERS = "static://users=10.9.9.1:8001,10.9.9.2:8001"


def name_of(client: httpx.Client, user: int) -> str:
    """Return a user's name: the code under test, which takes any httpx client."""
    response = client.get(f"http://users/{user}")
    response.raise_for_status()
    return str(response.json()["name"])


def test_above_p2plb() -> None:
    """`using="httpx"` matches the logical URL, and nothing of p2plb runs."""
    with Client(USERS) as client, respx.mock(using="httpx") as mocked:
        mocked.get("http://users/42").respond(json={"name": "Ada"})
        assert name_of(client, 42) == "Ada"


def test_below_p2plb() -> None:
    """The default of respx sees the address of the instance, and each attempt."""
    with Client(USERS) as client, respx.mock() as mocked:
        route = mocked.get(host__in=["10.9.9.1", "10.9.9.2"], path="/42")
        route.side_effect = [httpx.ConnectError("refused"), httpx.Response(200, json={"name": "Ada"})]
        assert name_of(client, 42) == "Ada"
        first, second = (call.request.url.host for call in route.calls)
        assert {first, second} == {"10.9.9.1", "10.9.9.2"}


def test_an_application_in_this_process() -> None:
    """`inner=` puts any httpx transport in an instance's place."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"name": request.url.host})

    with Client(USERS, inner=lambda _instance: httpx.MockTransport(answer)) as client:
        assert name_of(client, 42) in {"10.9.9.1", "10.9.9.2"}


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request: the smallest ASGI application."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b'{"name": "Ada"}'})


def test_an_asgi_application() -> None:
    """An ASGI application serves in an instance's place."""

    async def ask() -> str:
        async with AsyncClient(USERS, inner=lambda _instance: httpx.ASGITransport(application)) as client:
            response = await client.get("http://users/42")
            return str(response.json()["name"])

    assert anyio.run(ask) == "Ada"


def test_instances_that_come_and_go() -> None:
    """A registry in memory stands for etcd."""
    registry = MemoryRegistry()
    registry.put(Instance("a", "users", "http://10.9.9.1:8001"))
    handler = httpx.MockTransport(lambda request: httpx.Response(200, json={"name": request.url.host}))
    with registry, Client(registry, inner=lambda _instance: handler) as client:
        assert name_of(client, 42) == "10.9.9.1"
