"""Who owns what: a transport that several clients were given, and clients that are made for one call each."""

from collections.abc import Iterator

import httpx
import pytest

from p2plb import Policy
from tests.drivers import Caller, World, everywhere
from tests.fake_registry import FakeRegistry
from tests.fakes import snapshot
from tests.scripted import ScriptedServer, drip, serving

USERS = "http://users/"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    with serving(server):
        yield server


@everywhere
async def test_one_client_closes_while_another_calls(world: World, server: ScriptedServer) -> None:
    """F79: clients that share a transport come and go, and each close closes it; nobody's call fails."""
    transport = world.transport(server.static())
    staying, failed, served = world.plain(transport=transport), list[Exception](), list[int]()

    async def call(client: Caller) -> None:
        try:
            served.append((await client.get(USERS)).status_code)
        except Exception as error:
            failed.append(error)

    async def stay() -> None:
        for _ in range(60):
            await call(staying)

    async def come_and_go() -> None:
        for _ in range(30):
            client = world.plain(transport=transport)
            await call(client)
            await client.close()

    await world.together(stay, stay, come_and_go, come_and_go)
    assert failed == []
    assert served == [200] * 180
    await staying.close()
    await world.until(lambda: not server.open)


@pytest.mark.parametrize("past", ["plain", "fallback"])
@everywhere
async def test_calls_past_the_instances_go_on(world: World, server: ScriptedServer, past: str) -> None:
    """F79: closing a shared transport cuts off neither what another client reads from a plain host nor a fallback."""
    origin = f"http://127.0.0.1:{server.port}"
    server.script = drip(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", 3, 0.02)
    transport = world.transport(server.static(), policy=Policy(fallback=origin, share=0))
    staying, leaving = world.plain(transport=transport), world.plain(transport=transport)
    async with staying.stream("GET", USERS if past == "fallback" else f"{origin}/") as response:
        await leaving.close()
        assert await staying.read(response) == b"xxx"
    await staying.close()
    await world.until(lambda: not server.open)


@everywhere
async def test_closed_while_another_waits_for_its_first_list(world: World, server: ScriptedServer) -> None:
    """F79: who waits for the registry's first answer still gets it when another client closes the transport."""
    registry, answers = FakeRegistry(), list[str]()
    transport = world.transport(registry, start_timeout=60)
    waiting, leaving = world.plain(transport=transport), world.plain(transport=transport)

    async def wait() -> None:
        answers.append((await waiting.get(f"{USERS}waited")).text)

    async def close_then_answer() -> None:
        await world.until(lambda: registry.watches != [])
        await leaving.close()
        registry.tell(snapshot(server.instance()))

    await world.together(wait, close_then_answer)
    assert answers == ["/waited"]
    assert registry.watched == [], "its watch ended with the answer"
    await waiting.close()


@everywhere
async def test_a_client_that_is_closed_while_it_waits(world: World) -> None:
    """F79: a client's own close ends the wait of its calls at once, with httpx's words."""
    registry, failed = FakeRegistry(), list[Exception]()
    client = world.client(registry, start_timeout=60)

    async def wait() -> None:
        try:
            await client.get(USERS)
        except RuntimeError as error:
            failed.append(error)

    async def close() -> None:
        await world.until(lambda: registry.watches != [])
        await client.close()

    await world.together(wait, close)
    assert [str(error) for error in failed] == ["Cannot send a request, as the client has been closed."]
    assert registry.watched == []


@everywhere
async def test_inner_transports_end_with_their_calls(world: World) -> None:
    """F79: closing closes the inner transports that no call is on, the others when their calls end."""
    closed: list[str] = []

    class Noting(httpx.MockTransport):
        def close(self) -> None:
            closed.append("closed")

        async def aclose(self) -> None:
            closed.append("closed")

    def handler(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=world.pieces([b"a", b"b"]))

    transport = world.transport("static://users=10.0.0.7:80", inner=lambda _instance: Noting(handler))
    staying, leaving = world.plain(transport=transport), world.plain(transport=transport)
    async with staying.stream("GET", USERS) as response:
        await leaving.close()
        assert closed == []
        assert await staying.read(response) == b"ab"
    assert closed == ["closed"]
    await staying.close()
    assert closed == ["closed"]
