"""How users test what calls services: respx on either side of the balancer, and `inner=` transports."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import respx

from p2plb import AsyncClient, Client, Policy
from tests.drivers import World, everywhere, on_loops, with_httpx

USERS = "static://users=10.9.9.1:80,10.9.9.2:80"


@with_httpx
async def test_respx_below_the_balancer(world: World) -> None:
    """By default respx stands in for the wire: it sees the instance's address and the Host of the service."""
    with respx.mock(assert_all_called=False) as mock:
        route = mock.route(host__in=["10.9.9.1", "10.9.9.2"], path="/42").respond(json={"id": 42})
        async with world.client(USERS) as client:
            response = await client.get("http://users/42")
            assert response.json() == {"id": 42}
            assert response.extensions["p2plb"].instance.host in {"10.9.9.1", "10.9.9.2"}
            assert client.in_flight() == 0
    assert route.calls.last.request.headers["host"] == "users"


@with_httpx
async def test_respx_below_sees_retries(world: World) -> None:
    """Faults that respx plays below the balancer are retried like real ones."""
    with respx.mock() as mock:
        mock.get("http://10.9.9.1/").mock(side_effect=httpx.ConnectError)
        mock.get("http://10.9.9.2/").respond(text="two")
        async with world.client(USERS, strategy=lambda nodes: lambda call: nodes[0]) as client:
            response = await client.get("http://users/")
    reasons = [one.reason.partition(":")[0] for one in response.extensions["p2plb"].attempts]
    assert (response.text, reasons) == ("two", ["ConnectError", "200"])


@with_httpx
async def test_respx_above_the_balancer(world: World) -> None:
    """`respx.mock(using="httpx")` stands in for the whole client: it sees the logical URL, no instance is picked."""
    with respx.mock(using="httpx") as mock:
        mock.get("http://users/42").respond(json={"id": 42})
        async with world.client(USERS) as client:
            response = await client.get("http://users/42")
    assert response.json() == {"id": 42}
    assert "p2plb" not in response.extensions


@everywhere
async def test_a_mock_transport_for_each_instance(world: World) -> None:
    """Each instance gets one transport, which sees the address and is closed with the client."""

    class Recorded(httpx.MockTransport):
        closed = 0

        def close(self) -> None:
            self.closed += 1

        async def aclose(self) -> None:
            self.closed += 1

    made: dict[str, Recorded] = {}

    def inner(instance: Any) -> Recorded:
        return made.setdefault(
            instance.id, Recorded(lambda request: httpx.Response(200, text=f"{request.url} {request.headers['host']}"))
        )

    async with world.client(USERS, inner=inner) as client:
        for _ in range(8):
            response = await client.get("http://users/a?b=%20")
            instance = response.extensions["p2plb"].instance
            assert response.text == f"http://{instance.host}/a?b=%20 users"
        assert client.in_flight() == 0, "an answer that was read already is released too"
    assert {id_: one.closed for id_, one in made.items()} == {"10.9.9.1-80": 1, "10.9.9.2-80": 1}


@everywhere
async def test_faults_of_inner_transports(world: World) -> None:
    """F01, F10: errors and statuses of inner transports are judged like the wire's."""

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.host == "10.9.9.1":
            raise httpx.ReadError("lost", request=request)
        return httpx.Response(200)

    async with world.client(
        USERS, inner=lambda _one: world.mock(handler), strategy=lambda nodes: lambda call: nodes[0]
    ) as client:
        assert (await client.get("http://users/")).status_code == 200
        with pytest.raises(httpx.ReadError) as caught:
            await client.post("http://users/", content=b"x")
        assert client.in_flight() == 0
    assert caught.value.p2plb.maybe_processed  # type: ignore[attr-defined]  # set by p2plb


@everywhere
async def test_bugs_in_inner_transports_go_through(world: World) -> None:
    """A programming error below is neither retried nor wrapped, and nothing stays counted."""

    def handler(_request: httpx.Request) -> httpx.Response:
        raise AssertionError("a failed check in a mock")

    async with world.client(USERS, inner=lambda _one: world.mock(handler)) as client:
        with pytest.raises(AssertionError, match="a failed check"):
            await client.get("http://users/")
        assert client.in_flight() == 0


@on_loops
async def test_an_asgi_app(world: World) -> None:
    """An ASGI application serves as an instance, its name and path are those of the call."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        host = dict(scope["headers"])[b"host"]
        await send({"type": "http.response.body", "body": scope["raw_path"] + b" " + host})

    async with world.client(USERS, inner=lambda _one: httpx.ASGITransport(app)) as client:
        assert (await client.get("http://users/p/q")).text == "/p/q users"


@everywhere
async def test_streams_of_inner_transports(world: World) -> None:
    """A streamed answer of an inner transport holds its claim until it is closed, and is closed once."""
    closed: list[str] = []

    class Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"x" * 1000

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"x" * 1000

        def close(self) -> None:
            closed.append("closed")

        async def aclose(self) -> None:
            closed.append("closed")

    statuses = iter((503, 200))
    async with world.client(
        USERS, inner=lambda _one: world.mock(lambda _request: httpx.Response(next(statuses), stream=Stream()))
    ) as client:
        async with client.stream("GET", "http://users/") as response:
            assert closed == ["closed"], "the answer that is retried was disposed of"
            assert client.in_flight() == 1
            await client.read(response)
        assert client.in_flight() == 0
    assert closed == ["closed", "closed"]


def test_a_users_transport_wins() -> None:
    """What a user gives as `transport=` or in `mounts=` gets its requests, service or not."""
    mine = httpx.MockTransport(lambda request: httpx.Response(200, text=f"mine {request.url}"))
    with Client(USERS, transport=mine) as client:
        assert client.get("http://users/").text == "mine http://users/"
    inner = httpx.MockTransport(lambda _request: httpx.Response(200, text="peer"))
    with Client(USERS, mounts={"http://orders": mine}, inner=lambda _one: inner, policy=Policy()) as client:
        assert client.get("http://orders/").text == "mine http://orders/"
        assert client.get("http://users/").text == "peer"


def test_a_sync_inner_transport_in_an_async_client() -> None:
    """An inner transport of the wrong kind is refused by name, not by an obscure failure."""

    async def call() -> None:
        async with AsyncClient(USERS, inner=lambda _one: httpx.HTTPTransport()) as client:
            with pytest.raises(TypeError, match=r"handle_async_request\(\) here"):
                await client.get("http://users/")

        asyncio.run(call())


ALIASED = """
import httpx2
httpx2.alias_httpx()  # before anything imports httpx
import p2plb, p2plb.httpx2, respx

for client in p2plb.Client, p2plb.httpx2.Client:
    with respx.mock() as mock, client("static://users=10.9.9.1:80", trust_env=False) as users:
        mock.get("http://10.9.9.1/42").respond(json={"id": 42})
        print(users.get("http://users/42").json(), isinstance(users, httpx2.Client))
"""


def test_respx_with_httpx2() -> None:
    """Where httpx2 has taken httpx's name, respx mocks it, and p2plb's clients are httpx2's under both names."""
    done = subprocess.run([sys.executable, "-c", ALIASED], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("{'id': 42} True\n" * 2, "")
