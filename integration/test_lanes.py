"""Lanes over time: how old they may get, that the dead are not used, and that instances that left leave no socket."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2plb import Client
from p2plb.discovery.memory import MemoryRegistry
from p2plb.instance import Instance
from tests.drivers import Caller, World, everywhere
from tests.scripted import ScriptedServer, serving


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    with serving(server):
        yield server


@pytest.fixture
def registry() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as registry:
        yield registry


def age(client: Caller, seconds: float) -> None:
    """Let all idle lanes be so much older."""
    lanes = client.raw._peers._lanes
    for lane in (lanes if hasattr(lanes, "idle") else lanes.here()).idle._by_age:
        lane.idle_since -= seconds


async def reused(client: Caller, method: str) -> bool:
    response = await client.request(method, "http://users/")
    reused: bool = response.extensions["p2plb"].attempts[0].reused
    return reused


@pytest.mark.parametrize(
    ("method", "seconds", "expected"),
    [("POST", 1.0, True), ("POST", 2.0, False), ("GET", 2.0, True), ("GET", 4.5, False)],
)
@everywhere
async def test_how_old_a_lane_may_be(
    world: World, server: ScriptedServer, method: str, seconds: float, expected: bool
) -> None:
    """F07: a GET rides lanes idle for less than 4 s, a POST for less than 1.5 s: below what servers keep."""
    async with world.client(server.static()) as client:
        await client.get("http://users/")
        age(client, seconds)
        assert await reused(client, method) is expected


@everywhere
async def test_a_server_that_says_how_long(world: World, server: ScriptedServer, registry: MemoryRegistry) -> None:
    """F07: a record's `keepalive` overrides both, downwards and upwards."""
    for keepalive, seconds, expected in ((60.0, 50.0, True), (0.5, 1.0, False)):
        registry.put(replace(server.instance(), keepalive=keepalive))
        async with world.client(registry) as client:
            await client.get("http://users/")
            age(client, seconds)
            assert await reused(client, "POST") is expected


@everywhere
async def test_a_burst_is_forgotten(world: World, server: ScriptedServer) -> None:
    """F81: what a burst has left is reaped by the calls after it, two at a time, without a timer."""
    async with world.client(server.static()) as client:

        async def call() -> None:
            async with client.stream("GET", "http://users/") as response:
                await world.until(lambda: server.connections >= 12)
                await client.read(response)

        await world.together(*[call] * 12)
        age(client, 100)
        for _ in range(7):
            await client.get("http://users/")
        await world.until(lambda: server.open <= 1)


@everywhere
async def test_instances_come_and_go(world: World, server: ScriptedServer, registry: MemoryRegistry) -> None:
    """F80, F81: 300 instances come, serve and leave; sockets and all that is known of nodes stay flat."""
    async with world.client(registry) as client:
        registry.put(server.instance())
        await client.get("http://users/")
        before = descriptors()
        for number in range(300):
            name = f"new-{number}"
            registry.put(Instance(id=name, service="users", url=server.url))
            registry.remove("scripted" if number == 0 else f"new-{number - 1}")
            while _in_force(client) != (name,):
                await world.sleep(0.0005)
            assert (await client.get("http://users/")).extensions["p2plb"].instance.id == name
        await world.until(lambda: server.open <= 3)
        assert descriptors() <= before + 4
        assert len(client.raw.stats().services["users"].nodes) == 1


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _in_force(client: Caller) -> tuple[str, ...]:
    return tuple(node.id for node in client.raw.stats().services["users"].nodes)


@everywhere
async def test_an_instance_that_leaves_under_a_call(
    world: World, server: ScriptedServer, registry: MemoryRegistry
) -> None:
    """F02: a call under way on an instance that left ends well; then its connection is closed, not kept."""
    registry.put(server.instance())
    other = ScriptedServer(id="other")
    with serving(other):
        async with world.client(registry) as client:
            async with client.stream("GET", "http://users/still") as response:
                registry.put(other.instance())
                registry.remove("scripted")
                await world.until(lambda: [n.id for n in client.raw.stats().services["users"].nodes] == ["other"])
                assert await client.read(response) == b"/still"
            await world.until(lambda: not server.open)
            assert (await client.get("http://users/x")).text == "/x"


def test_another_thread_ends_a_call(server: ScriptedServer) -> None:
    """`abort` from another thread frees a blocked read at once."""
    with Client(server.static(), trust_env=False) as client, client.stream("GET", "http://users/") as response:
        response.read()
        lane = next(iter(client._peers._lanes.idle._by_age))
        reading = threading.Thread(target=lambda: lane._link.stream.read(1, 30))
        reading.start()
        lane.abort()
        reading.join(5)
        assert not reading.is_alive()
