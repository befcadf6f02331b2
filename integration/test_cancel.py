"""F63, F64: a call may be cancelled at any suspension, twice, and leaves no claim, no slot and no socket behind."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
import pytest

import p2plb
from integration.harness import cancelling
from integration.harness.cancelling import Run, Way
from integration.harness.sockets import sockets_to
from p2plb import AsyncClient, Policy, Retry
from p2plb.discovery.memory import MemoryRegistry
from p2plb.discovery.registry import Listener, Watch
from p2plb.wire.idle import IdleLanes
from tests.certificates import Authority
from tests.families import HTTPX2, of_family
from tests.scripted import Script, ScriptedServer, answer, drip, late, ok, serving

Act = Callable[[AsyncClient], Coroutine[Any, Any, None]]
WITHIN = 10.0


class Silent(MemoryRegistry):
    """A registry that has not answered yet."""

    def watch(self, service: str, listener: Listener) -> Watch:
        return super().watch(service, lambda _snapshot: None)


async def get(client: AsyncClient) -> None:
    await client.get("http://users/")


async def leave_early(client: AsyncClient) -> None:
    async with client.stream("GET", "http://users/") as response:
        assert response.status_code == 200


async def read_slowly(client: AsyncClient) -> None:
    async with client.stream("GET", "http://users/") as response:
        async for _ in response.aiter_raw():
            pass


async def run_out_of_time(client: AsyncClient) -> None:
    with pytest.raises(httpx.TimeoutException):
        await client.get("http://users/", extensions=p2plb.call(timeout=0.04))


async def wait_for_a_slot(client: AsyncClient) -> None:
    async with client.stream("GET", "http://users/"):
        with pytest.raises(httpx.PoolTimeout):
            await client.get("http://users/", timeout=httpx.Timeout(5, pool=0.02))


async def wait_for_the_first_view(client: AsyncClient) -> None:
    with pytest.raises(httpx.ConnectError):
        await client.get("http://users/")


BIG = answer(200, b"x" * 300_000)
BUSY = answer(503, b"x" * 3000)
UNREAD = drip(b"HTTP/1.1 503 x\r\ncontent-length: 100000\r\n\r\n", 1000, 0.01)
DRIP = drip(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", 3, 0.002)
ONE = httpx.Limits(max_connections=1)
SHORTLY = Policy(retry=Retry(attempts=3, backoff=0.002, max_backoff=0.004))


@dataclass(frozen=True)
class Stage:
    """Something that a call does, in all its suspensions; `pauses` is how many of them there are at least."""

    name: str
    act: Act
    script: Script = ok
    tls: bool = False
    warm: bool = False
    limits: httpx.Limits | None = None
    policy: Policy | None = None
    silent: bool = False
    pauses: int = 1


STAGES = (
    Stage("a new connection", get),
    Stage("a connection used again", get, warm=True),
    Stage("a TLS handshake", get, tls=True, pauses=5),
    Stage("a body left early", leave_early, BIG),
    Stage("a body that drips", read_slowly, DRIP, warm=True, pauses=5),
    Stage("retries, disposal and back-off", get, BUSY, policy=SHORTLY, pauses=4),
    Stage("disposal of an answer that does not end", run_out_of_time, UNREAD),
    Stage("waiting for a slot", wait_for_a_slot, limits=ONE, pauses=2),
    Stage("waiting for the first view", wait_for_the_first_view, silent=True, pauses=1),
)
WAYS: tuple[tuple[Run, Way], ...] = (
    *((cancelling.run_asyncio, way) for way in cancelling.ON_ASYNCIO),
    (cancelling.run_trio, cancelling.by_trio_scope),
)
WAYS_OF_HTTPX2 = (WAYS[0], WAYS[-1])


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def server(stage: Stage, authority: Authority) -> Iterator[ScriptedServer]:
    server = ScriptedServer(context=authority.server("users") if stage.tls else None)
    with serving(server):
        yield server


@pytest.mark.parametrize("run_way", WAYS, ids=[way.__name__ for _, way in WAYS])
@pytest.mark.parametrize("stage", STAGES, ids=[stage.name for stage in STAGES])
def test_cancel_everywhere(
    stage: Stage, run_way: tuple[Run, Way], server: ScriptedServer, authority: Authority
) -> None:
    """F63: cancelled at its k-th suspension, for every k, a call is as if it had never been."""
    cancel_everywhere(stage, run_way, server, authority)


@pytest.mark.parametrize("run_way", WAYS_OF_HTTPX2, ids=[way.__name__ for _, way in WAYS_OF_HTTPX2])
@pytest.mark.parametrize("stage", STAGES, ids=[stage.name for stage in STAGES])
def test_cancel_everywhere_with_httpx2(
    stage: Stage, run_way: tuple[Run, Way], server: ScriptedServer, authority: Authority
) -> None:
    """F63: the same on httpcore2's connections."""
    of_family(cancel_everywhere, HTTPX2)(stage, run_way, server, authority)


def cancel_everywhere(stage: Stage, run_way: tuple[Run, Way], server: ScriptedServer, authority: Authority) -> None:
    run, way = run_way
    act: Act = globals()[stage.act.__name__]  # of this family
    registry = (Silent if stage.silent else MemoryRegistry)()
    registry.put(server.instance())

    async def case() -> None:
        async with AsyncClient(
            registry,
            policy=stage.policy,
            limits=stage.limits,
            start_timeout=0.02,
            verify=authority.client(),
            trust_env=False,
        ) as client:
            if not stage.silent:
                await client.get("http://users/")
            server.script = late(stage.script, 0.002)  # or an answer may be there before a call has to wait for it

            async def work() -> None:
                if not stage.warm:
                    await close_idle(client)
                await act(client)

            async def check() -> None:
                await nothing_held(client, server)

            assert await cancelling.at_every_pause(way, work, check) >= stage.pauses
            await check()
            assert sockets_to(server.port) == len(idle_lanes(client))
            if not stage.silent:
                server.script = ok
                assert (await client.get("http://users/")).status_code == 200

    with registry:
        run(case)


@pytest.mark.parametrize("run_way", WAYS, ids=[way.__name__ for _, way in WAYS])
@pytest.mark.parametrize("stage", [Stage("an old lane is reaped", get)], ids=["reaping"])
def test_cancel_while_others_are_closed(run_way: tuple[Run, Way], server: ScriptedServer) -> None:
    """F63: cancelled while it closes an old lane, a call has given its own lane back whole, or closed it."""
    run, way = run_way

    async def case() -> None:
        async with AsyncClient(server.static(), trust_env=False) as client:

            async def check() -> None:
                assert all(lane.alive() for lane in idle_lanes(client)._by_age)
                await nothing_held(client, server)
                await client.get("http://users/")
                for lane in idle_lanes(client)._by_age:
                    lane.idle_since -= 100.0

            await check()
            server.script = late(ok, 0.002)
            assert await cancelling.at_every_pause(way, lambda: get(client), check) >= 1

    run(case)


async def asleep(client: AsyncClient) -> None:
    await client.get("http://users/", timeout=None)


@pytest.mark.parametrize("stage", [Stage("", asleep, answer(503, retry_after="5")), Stage("", asleep, silent=True)])
@pytest.mark.parametrize("run", [cancelling.run_asyncio, cancelling.run_trio])
def test_cancel_is_immediate(stage: Stage, run: Run, server: ScriptedServer) -> None:
    """F64: a call that waits for its first instance or backs off ends at once when it is cancelled."""
    server.script = stage.script
    registry = (Silent if stage.silent else MemoryRegistry)()
    registry.put(server.instance())

    async def case() -> None:
        async with AsyncClient(registry, start_timeout=60, trust_env=False) as client:
            started = time.monotonic()
            with anyio.move_on_after(0.1) as scope:
                await stage.act(client)
            assert scope.cancelled_caught
            assert time.monotonic() - started < 4
            if run is cancelling.run_asyncio:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(stage.act(client), 0.1)
            for service in client.stats().services.values():
                assert [node.in_flight for node in service.nodes] in ([], [0])

    with registry:
        run(case)


async def close_idle(client: AsyncClient) -> None:
    for lane in idle_lanes(client).make_room(0):
        await lane.aclose()


def idle_lanes(client: AsyncClient) -> IdleLanes[Any]:
    lanes: IdleLanes[Any] = client._peers._lanes.here().idle
    return lanes


async def nothing_held(client: AsyncClient, server: ScriptedServer) -> None:
    """No claim, no slot, no ejection, and the server sees no connection but the idle ones."""
    for service in client.stats().services.values():
        assert [(node.in_flight, node.ejected_because) for node in service.nodes] in ([], [(0, None)])
    slots = client._peers._core.slots
    assert slots is None or slots.taken == 0
    idle, deadline = idle_lanes(client), time.monotonic() + WITHIN
    while server.open != len(idle):
        assert time.monotonic() < deadline, f"{server.open} connections are open, {len(idle)} of them idle"
        await anyio.sleep(0.001)
