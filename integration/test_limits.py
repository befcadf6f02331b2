"""Limits count over one client: who waits, who makes room, and that no node is blamed for a full house."""

from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from p2plb import Policy
from p2plb.balancing.node import Node
from p2plb.balancing.view import Picker
from tests.drivers import Caller, World, everywhere
from tests.scripted import ScriptedServer, hang, prefer, serving, static


@pytest.fixture
def servers() -> Iterator[list[ScriptedServer]]:
    servers = [ScriptedServer() for _ in range(3)]
    with serving(*servers):
        yield servers


def limited(world: World, servers: list[ScriptedServer], **limits: Any) -> Caller:
    """Return a client with limits and a strategy that takes the server of the path's number."""

    def by_path(nodes: Sequence[Node]) -> Picker:
        by_url = {node.instance.url: node for node in nodes}
        return lambda call: by_url[servers[int(call.request.url.path[1:])].url]

    return world.client(
        static(*servers), strategy=by_path, limits=httpx.Limits(**limits), timeout=httpx.Timeout(10, pool=0.05)
    )


def connections(servers: list[ScriptedServer]) -> int:
    return sum(server.open for server in servers)


@everywhere
async def test_a_full_house(world: World, servers: list[ScriptedServer]) -> None:
    """At the bound a call waits for the pool timeout, then raises `PoolTimeout`: local, not retried, nobody blamed."""
    async with limited(world, servers, max_connections=2) as client:
        async with client.stream("GET", "http://users/0"), client.stream("GET", "http://users/1"):
            with pytest.raises(httpx.PoolTimeout, match="all 2 connections") as caught:
                await client.get("http://users/2")
            assert caught.value.p2plb.attempts == ()  # type: ignore[attr-defined]  # set by p2plb
            assert client.in_flight() == 2
        nodes = client.raw.stats().services["users"].nodes
        assert [node.ejected_because for node in nodes] == [None] * 3
        assert (await client.get("http://users/2")).status_code == 200
        assert client.in_flight() == 0


@everywhere
async def test_idle_connections_make_room(world: World, servers: list[ScriptedServer]) -> None:
    """The oldest idle connection of any node is closed for a call to another node."""
    async with limited(world, servers, max_connections=2) as client:
        for number in (0, 1, 2, 2, 0):
            assert (await client.get(f"http://users/{number}")).status_code == 200
            await world.until(lambda: connections(servers) <= 2)
        assert [server.connections for server in servers] == [2, 1, 1]


@everywhere
async def test_a_place_that_becomes_free(world: World, servers: list[ScriptedServer]) -> None:
    """Waiting calls go on one after the other as places become free: nobody is forgotten."""
    async with limited(world, servers, max_connections=2) as client:
        done: list[int] = []

        async def call() -> None:
            for number in (0, 1, 2):
                await client.get(f"http://users/{number}", timeout=30)
                done.append(number)

        await world.together(*[call] * 12)
        assert len(done) == 36
        assert client.in_flight() == 0
        assert client.raw._peers._core.slots.taken == 0


@pytest.mark.parametrize("keep", [1, 0])
@everywhere
async def test_how_many_may_be_idle(world: World, servers: list[ScriptedServer], keep: int) -> None:
    """`max_keepalive_connections` bounds the idle ones over all nodes; 0 keeps none."""
    async with limited(world, servers, max_keepalive_connections=keep) as client:
        for number in (0, 1, 2):
            await client.get(f"http://users/{number}")
        await world.until(lambda: connections(servers) == keep)


@everywhere
async def test_how_long_they_may_be_idle(world: World, servers: list[ScriptedServer]) -> None:
    """`keepalive_expiry` bounds their age from above."""
    async with limited(world, servers, keepalive_expiry=0.05) as client:
        await client.get("http://users/0")
        await world.sleep(0.1)
        response = await client.get("http://users/0")
        assert not response.extensions["p2plb"].attempts[0].reused


@everywhere
async def test_a_call_that_fails_gives_its_place_back(world: World, servers: list[ScriptedServer]) -> None:
    """Time-outs and retries hold one place in all, and give it back."""
    servers[0].script = hang
    policy = Policy(strategy=prefer(*servers), attempt_timeout=0.05)
    limits = httpx.Limits(max_connections=1)
    async with world.client(static(*servers), policy=policy, limits=limits) as client:
        for _ in range(3):
            assert len((await client.get("http://users/")).extensions["p2plb"].attempts) == 2
        with pytest.raises(httpx.ReadTimeout):
            await client.post("http://users/", content=b"x")
        assert client.raw._peers._core.slots.taken == 0
