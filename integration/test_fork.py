"""A process that forks with a warm client: each side goes on by itself, and nobody gets the other's answer."""

import asyncio
import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from p2plb import AsyncClient, Client
from p2plb.discovery.memory import MemoryRegistry
from tests.scripted import ScriptedServer, serving

ROOT = Path(__file__).parents[1]

# Children of a process with threads are the subject here.
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    with serving(server):
        yield server


def forked(work: Callable[[], None]) -> int:
    """Run work in a forked child that exits with 0 if it went well; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        warnings.simplefilter("ignore")
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def joined(pids: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def calls(client: Client, count: int) -> None:
    """Call and check that each answer belongs to its question."""
    for number in range(count):
        path = f"/{os.getpid()}/{number}"
        response = client.get(f"http://users{path}")
        assert response.text == path, f"{response.text} for {path}"


@pytest.mark.parametrize("source", ["static", "memory"])
def test_a_warm_client_in_four_children(server: ScriptedServer, source: str) -> None:
    """F58: four children and the parent call at a time: every body belongs to its request."""
    registry = MemoryRegistry()
    registry.put(server.instance())
    with registry, Client(server.static() if source == "static" else registry, trust_env=False) as client:
        calls(client, 5)
        before = server.connections
        children = [forked(lambda: calls(client, 200)) for _ in range(4)]
        calls(client, 200)
        assert joined(children) == [0] * 4
        assert server.connections == before + 4, "the parent kept its connection, each child opened its own"
        assert client.get("http://users/").extensions["p2plb"].attempts[0].reused


def test_forks_in_the_middle_of_everything(server: ScriptedServer) -> None:
    """F59: forked again and again under threads that call, no child hangs on a lock that a thread held."""
    program = (
        "import os, sys, threading\n"
        "from p2plb import Client\n"
        "from integration.test_fork import calls, forked, joined\n"
        "client, over = Client(sys.argv[1], trust_env=False, timeout=30), threading.Event()\n"
        "calls(client, 1)  # or a child waits for Python's own lock of a module that a thread was importing\n"
        "def work():\n"
        "    while not over.is_set(): calls(client, 1)\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "[thread.start() for thread in threads]\n"
        "statuses = [joined([forked(lambda: calls(client, 2))])[0] for _ in range(40)]\n"
        "over.set()\n"
        "[thread.join() for thread in threads]\n"
        "client.close()\n"
        "print(set(statuses))\n"
    )
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, server.static()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "{0}\n"), done.stderr


def test_an_asyncio_client(server: ScriptedServer) -> None:
    """F58: a child with a loop of its own leaves the parent's connections alone."""

    async def call(client: AsyncClient, count: int) -> None:
        for number in range(count):
            path = f"/{os.getpid()}/{number}"
            assert (await client.get(f"http://users{path}")).text == path

    async def parent() -> None:
        async with AsyncClient(server.static(), trust_env=False) as client:
            await call(client, 5)
            children = [forked(lambda: _in_new_loop(lambda: call(client, 50))) for _ in range(3)]
            await call(client, 50)
            assert joined(children) == [0] * 3
            assert (await client.get("http://users/")).extensions["p2plb"].attempts[0].reused
        assert server.connections == 4

    asyncio.run(parent())


def _in_new_loop(work: Callable[[], object]) -> None:
    asyncio.events._set_running_loop(None)  # as multiprocessing's children do
    asyncio.run(work())  # type: ignore[arg-type]  # a coroutine


def test_with_limits_and_a_call_under_way(server: ScriptedServer) -> None:
    """F58: places and claims of the parent do not count in the child, and closing its answer there harms nobody."""
    limits = httpx.Limits(max_connections=1)
    with Client(server.static(), trust_env=False, limits=limits) as client:
        with client.stream("GET", "http://users/parent") as response:

            def work() -> None:
                calls(client, 3)
                response.close()
                calls(client, 3)

            assert joined([forked(work)]) == [0]
            assert response.read() == b"/parent"
        calls(client, 3)


def test_hosts_that_are_no_services(server: ScriptedServer) -> None:
    """F58: nor does a child share the connections to plain hosts with its parent."""

    def plain_calls(client: Client) -> None:
        for number in range(50):
            path = f"/{os.getpid()}/{number}"
            assert client.get(server.url + path).text == path

    with Client("static://users=10.0.0.7:80", trust_env=False) as client:
        plain_calls(client)
        pids = [forked(lambda: plain_calls(client)) for _ in range(2)]
        plain_calls(client)
        assert joined(pids) == [0, 0]
