"""One client in many threads and loops, while the list of instances changes."""

import asyncio
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from p2plb import AsyncClient, Client
from p2plb.discovery.memory import MemoryRegistry
from p2plb.instance import Instance
from tests.scripted import ScriptedServer, serving

ROOT = Path(__file__).parents[1]
THREADS = 64
SECONDS = 2.0


@pytest.fixture
def servers() -> Iterator[list[ScriptedServer]]:
    servers = [ScriptedServer(id=f"s{number}") for number in range(4)]
    with serving(*servers):
        yield servers


@pytest.fixture
def quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def in_threads(count: int, work: Callable[[], None]) -> None:
    """Do work in so many threads; what one of them raises is raised here."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # carried over to the thread that waits
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


@pytest.mark.usefixtures("quick_switches")
def test_many_threads_while_the_list_changes(servers: list[ScriptedServer]) -> None:
    """F62: 64 threads call while instances come and go every few milliseconds: no call fails, no claim is left."""
    registry = MemoryRegistry()
    for server in servers[:2]:
        registry.put(server.instance())
    over = time.monotonic() + SECONDS
    calls: list[int] = []

    def change() -> None:
        chance = random.Random(7)
        while time.monotonic() < over:
            server = chance.choice(servers[2:])
            if chance.random() < 0.5:
                registry.put(server.instance())
            else:
                registry.remove(server.id)
            time.sleep(0.003)

    with registry, Client(registry, trust_env=False, timeout=60) as client:
        changing = threading.Thread(target=change)
        changing.start()

        def work() -> None:
            while time.monotonic() < over:
                path = f"/{random.random()}"
                response = client.get(f"http://users{path}")
                assert response.text == path, "the body of another request"
                calls.append(1)

        in_threads(THREADS, work)
        changing.join()
        assert len(calls) > THREADS
        (service,) = client._peers._core.services._services.values()
        assert all(node.in_flight == 0 for node in service.view.nodes)  # type: ignore[union-attr]  # it was called


def test_limits_in_many_threads(servers: list[ScriptedServer]) -> None:
    """F62: with a place for every fourth thread all calls get one in turn, and all places come back."""
    limits = httpx.Limits(max_connections=4)
    with Client(servers[0].static(), limits=limits, trust_env=False, timeout=60) as client:

        def work() -> None:
            for _ in range(10):
                client.get("http://users/")

        in_threads(16, work)
        slots = client._peers._core.slots
        assert slots is not None
        assert slots.taken == 0
    assert servers[0].open <= 4


def test_one_client_in_one_loop_after_the_other(servers: list[ScriptedServer]) -> None:
    """F60: one client serves several `asyncio.run`, each with connections of its own that end with it."""
    client = AsyncClient(servers[0].static(), trust_env=False)

    async def call() -> None:
        for _ in range(3):
            assert (await client.get("http://users/a")).text == "/a"

    for number in (1, 2, 3):
        asyncio.run(call())
        assert servers[0].connections == number
    asyncio.run(client.aclose())


def test_two_loops_in_two_threads(servers: list[ScriptedServer]) -> None:
    """F60: two loops in two threads use one client at a time and never meet on a connection."""
    client = AsyncClient(servers[0].static(), trust_env=False)

    async def calls() -> None:
        for number in range(50):
            path = f"/{threading.get_ident()}/{number}"
            assert (await client.get(f"http://users{path}")).text == path

    in_threads(2, lambda: asyncio.run(calls()))
    assert servers[0].connections == 2
    asyncio.run(client.aclose())


def test_trio_then_asyncio(servers: list[ScriptedServer]) -> None:
    """F61: nothing that is shared belongs to one kind of loop."""
    client = AsyncClient(servers[0].static(), trust_env=False)

    async def call() -> None:
        assert (await client.get("http://users/a")).text == "/a"

    trio.run(call)
    asyncio.run(call())
    trio.run(call)
    asyncio.run(client.aclose())
    assert servers[0].connections == 3


INTERRUPTED = """
import gc, random, signal, sys
import p2plb
from integration.harness.sockets import sockets_to

def interrupt(*_):
    if armed:  # one that strikes in a __del__ is lost, as Python has it: the next one comes
        raise KeyboardInterrupt

armed = False
signal.signal(signal.SIGALRM, interrupt)
url, port = sys.argv[1], int(sys.argv[2])
client = p2plb.Client(url, trust_env=False)
client.get("http://users/")
random.seed(5)
for _ in range(150):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.003), 0.05)
        armed = True
        while True:
            client.get("http://users/")
    except KeyboardInterrupt:
        armed = False
signal.setitimer(signal.ITIMER_REAL, 0)
client.get("http://users/")  # it buries what was found dead
gc.collect()
(service,) = client.stats().services.values()
idle = client._peers._lanes.idle
print([node.in_flight for node in service.nodes], sockets_to(port) - len(idle))
client.close()
print(sockets_to(port))
"""


def test_interrupted_anywhere(servers: list[ScriptedServer]) -> None:
    """F65: a KeyboardInterrupt out of a signal handler, at any bytecode, leaves no claim and no socket behind."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, servers[0].static(), str(servers[0].port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[0] 0\n0\n"), done.stderr


def test_the_instances_view_is_whole(servers: list[ScriptedServer]) -> None:
    """F62: a pick never sees half of a list: a strategy gets all of one snapshot or all of the next."""
    seen: set[frozenset[str]] = set()

    def strategy(nodes: Any) -> Any:
        seen.add(frozenset(node.id for node in nodes))
        return lambda call: nodes[0]

    with MemoryRegistry() as registry, Client(registry, strategy=strategy, trust_env=False) as client:
        registry.put(servers[0].instance())
        client.get("http://users/")
        for number in range(20):
            registry.put(Instance(id=f"x{number}", service="users", url=servers[0].url))
        client.get("http://users/")
    assert all(ids == {"s0"} | {f"x{n}" for n in range(len(ids) - 1)} for ids in seen)
