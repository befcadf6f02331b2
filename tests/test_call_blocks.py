"""`with p2plb.call(…)`: options for others' calls and what became of them, in threads, tasks and generators."""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import pytest

import p2plb
from p2plb import Policy
from p2plb.balancing.call import Served, Via
from p2plb.calling.options import DEFAULTS, REMEMBERED, Options, options, record
from tests.drivers import World, everywhere, on_loops
from tests.scripted import Refusing, ScriptedServer, drop, hang, serving, static

USERS = "http://users/"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    with serving(server):
        yield server


def in_force() -> Options:
    return options({})


def reasons(calls: Any) -> list[str]:
    return [attempt.reason.partition(":")[0] for attempt in calls.attempts]


# --- which options hold ------------------------------------------------------------------------------------------


def test_fields_come_from_the_nearest_that_says_them() -> None:
    """A request's own options win field by field, then the inner block's, then the outer one's."""
    with p2plb.call(key="outer", timeout=1.0):
        with p2plb.call(key="inner", repeatable=False):
            assert in_force() == Options("inner", 1.0, False)
            assert options(p2plb.call(timeout=2.0, repeatable=True)) == Options("inner", 2.0, True)
        assert in_force() == Options("outer", 1.0)
    assert in_force() is DEFAULTS


def test_where_comes_from_the_nearest_that_says_it() -> None:
    """A wish for metadata replaces the outer one's whole, and what is no mapping is refused where it is written."""
    with p2plb.call(where={"version": "2", "zone": "a"}), p2plb.call(key="k"):
        assert in_force() == Options("k", where={"version": "2", "zone": "a"})
        assert options(p2plb.call(where={"version": "3"})).where == {"version": "3"}
    with pytest.raises(TypeError, match=r"where=\) is a mapping of metadata, such as \{'version': '2'\}, not 'v2'"):
        p2plb.call(where="v2")  # type: ignore[arg-type]  # the wrong argument is the subject


def test_falsy_values_are_values() -> None:
    """A key of 0 or "" is a key, and a timeout of 0 is one."""
    with p2plb.call(key="outer", timeout=1.0, repeatable=True):
        assert options(p2plb.call(key=0, timeout=0.0, repeatable=False)) == Options(0, 0.0, False)


def test_one_object_many_times() -> None:
    """The same options may be entered again, within themselves and in threads; each entry has calls of its own."""
    shared = p2plb.call(key="k")
    with shared as first, shared as second:
        assert first is not second
        with shared:
            pass
        assert in_force() == Options("k")
        thread = threading.Thread(target=shared.__enter__)
        thread.start()
        thread.join()
    assert in_force() is DEFAULTS
    with shared:
        assert in_force() == Options("k")
    assert in_force() is DEFAULTS


def test_it_is_still_a_dict() -> None:
    """As extensions of a request the options are an ordinary dict, alone or merged with others."""
    asked = p2plb.call(key="42")
    request = httpx.Request("GET", USERS, extensions=asked | {"timeout": {}})
    assert options(request.extensions) == Options("42")
    assert request.extensions["timeout"] == {}


def test_generators_leave_nothing_behind() -> None:
    """Generators that are entered and left out of order take nothing from each other and leave nothing in force."""

    def block(key: str) -> Generator[Options, None, None]:
        with p2plb.call(key=key):
            yield in_force()
            yield in_force()

    first, second = block("first"), block("second")
    assert (next(first).key, next(second).key) == ("first", "second")
    first.close()
    assert in_force() == Options("second")
    second.close()
    assert in_force() is DEFAULTS


def test_a_generator_that_ends_elsewhere() -> None:
    """A block that is left in another context than it was entered in disturbs neither."""

    def block() -> Generator[None, None, None]:
        with p2plb.call(key="here"):
            yield

    begun = block()
    contextvars.copy_context().run(next, begun)
    with p2plb.call(key="mine"):
        begun.close()
        assert in_force() == Options("mine")


def test_an_exit_stack() -> None:
    """A stack enters and leaves blocks like any other, also when something is raised."""
    stack = contextlib.ExitStack()
    stack.enter_context(p2plb.call(key="a"))
    stack.enter_context(p2plb.call(timeout=1))
    assert in_force() == Options("a", 1)
    with pytest.raises(LookupError), stack:
        raise LookupError
    assert in_force() is DEFAULTS


def test_threads_inherit_nothing() -> None:
    """A thread pool's threads have no options but those of a copied context, as with every context variable."""
    with ThreadPoolExecutor(1) as pool, p2plb.call(key="k"):
        assert pool.submit(in_force).result() is DEFAULTS
        assert pool.submit(contextvars.copy_context().run, in_force).result() == Options("k")
        assert asyncio.run(asyncio.to_thread(in_force)) == Options("k")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_inherit(backend: str) -> None:
    """Tasks started in a block have its options, also after the block was left; tasks beside it have their own."""
    seen: list[Any] = []

    async def look(started: anyio.Event) -> None:
        await started.wait()
        seen.append(in_force().key)

    async def beside(key: str) -> None:
        with p2plb.call(key=key):
            await anyio.lowlevel.checkpoint()
            seen.append(in_force().key)

    async def main() -> None:
        left = anyio.Event()
        async with anyio.create_task_group() as group:
            with p2plb.call(key="inherited"):
                group.start_soon(look, left)
            for key in "abc":
                group.start_soon(beside, key)
            left.set()

    anyio.run(main, backend=backend)
    assert sorted(seen) == ["a", "b", "c", "inherited"]


# --- what became of the calls ------------------------------------------------------------------------------------


@everywhere
async def test_who_served_the_calls_of_others(world: World, server: ScriptedServer) -> None:
    """Calls in a block carry its key, and it knows who served each; calls before and after it are none of its."""
    keys: list[Any] = []

    def strategy(nodes: Any) -> Any:
        def pick(call: p2plb.Call) -> p2plb.Node:
            keys.append(call.key)
            first: p2plb.Node = nodes[0]
            return first

        return pick

    async with world.client(server.static(), strategy=strategy) as client:
        await client.get(USERS)
        with p2plb.call(key="conv-7") as calls:
            assert calls.served == []
            await client.get(USERS)
            await client.get(USERS, extensions=p2plb.call(key="own"))
            await client.get(server.url)
        await client.get(USERS)
    assert keys == [None, "conv-7", "own", None]
    assert reasons(calls) == ["200", "200"]
    assert [served.instance.url for served in calls.served if served.instance] == [server.url] * 2


@everywhere
async def test_blocks_in_blocks(world: World, server: ScriptedServer) -> None:
    """A call belongs to each block around it."""
    async with world.client(server.static()) as client:
        with p2plb.call(key="a") as outer:
            await client.get(USERS)
            with p2plb.call(timeout=30) as inner:
                await client.get(USERS)
    assert (len(outer.served), len(inner.served)) == (2, 1)


@everywhere
async def test_calls_that_failed(world: World, server: ScriptedServer) -> None:
    """What was tried is known after a call that raised too: who refused, who broke off, and that nobody was there."""
    server.script = drop
    dead = Refusing()
    async with world.client(f"{static(dead, server)}&none={server.url}") as client:
        with p2plb.call(repeatable=False) as calls:
            for url in (USERS, "http://unknown/"):
                with pytest.raises(httpx.TransportError):
                    await client.get(url)
    assert reasons(calls)[-1] == "RemoteProtocolError"
    assert [(one.service, one.instance) for one in calls.served] == [("users", None), ("unknown", None)]


@on_loops
async def test_cancelled_calls(world: World, server: ScriptedServer) -> None:
    """A call that was cancelled is remembered with the attempt that was under way."""
    server.script = hang
    async with world.client(server.static()) as client:
        with p2plb.call(key="k") as calls, anyio.move_on_after(30) as scope:

            async def cancel() -> None:
                await world.until(lambda: bool(server.requests))
                scope.cancel()

            async with anyio.create_task_group() as group:
                group.start_soon(cancel)
                await client.get(USERS)
    assert reasons(calls) == ["cancelled"]


@everywhere
async def test_blocks_at_a_time(world: World, server: ScriptedServer) -> None:
    """Threads or tasks with a block each see their own calls only."""
    seen: dict[str, list[Any]] = {}
    async with world.client(server.static(), policy=Policy()) as client:

        def work(key: str, count: int) -> Any:
            async def calls_with() -> None:
                with p2plb.call(key=key) as calls:
                    for _ in range(count):
                        await client.get(USERS + key)
                seen[key] = reasons(calls)

            return calls_with

        await world.together(*(work(key, count) for count, key in enumerate("abcd", 1)))
    assert {key: len(found) for key, found in seen.items()} == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_memory_is_bounded() -> None:
    """A block around a whole program remembers the last 1,000 calls."""
    with p2plb.call(key="k") as calls:
        for number in range(REMEMBERED + 5):
            record(lambda number=number: Served(str(number), None, Via.PEER))  # type: ignore[misc]  # the loop's own
    assert (len(calls.served), calls.served[0].service) == (REMEMBERED, "5")
