"""A case is written once and runs six times: in blocking code, on asyncio and on trio, with httpx and with httpx2.

    @everywhere
    async def test_get(world: World) -> None:
        async with world.client("static://users=10.0.0.7:80") as client:
            assert (await client.get("http://users/")).status_code == 200

In blocking code `await` never waits: each method does its work and returns, and the case is stepped to its end without
an event loop. It knows nothing of servers or of what is tested.
"""

import asyncio
import contextlib
import functools
import inspect
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import Any, Self

import httpx
import pytest
import trio

from tests.families import HTTPX, HTTPX2, Family, of_family

PATIENCE = 15.0
"""Seconds that a test waits for what takes milliseconds on an idle machine."""

Case = Callable[..., Coroutine[Any, Any, None]]


class Caller:
    """A client or transport, sync or async, with methods to be awaited either way."""

    def __init__(self, client: Any) -> None:
        self.raw = client
        self._is_async = hasattr(client, "aclose")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Send a request and read its answer."""
        response: httpx.Response = await self._settle(self.raw.request(method, url, **options))
        return response

    get = functools.partialmethod(request, "GET")
    post = functools.partialmethod(request, "POST")

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request that was built before."""
        response: httpx.Response = await self._settle(self.raw.send(request, **options))
        return response

    @contextlib.asynccontextmanager
    async def stream(self, method: str, url: str, **options: Any) -> AsyncIterator[httpx.Response]:
        """Send a request and lend its answer at the head."""
        response = await self.send(self.raw.build_request(method, url, **options), stream=True)
        try:
            yield response
        finally:
            await self.shut(response)

    @contextlib.asynccontextmanager
    async def pick(self, service: str, **options: Any) -> AsyncIterator[Any]:
        """Pick an instance without sending."""
        if self._is_async:
            async with self.raw.pick(service, **options) as node:
                yield node
        else:
            with self.raw.pick(service, **options) as node:
                yield node

    async def wait_ready(self, *services: str, **options: Any) -> None:
        """Wait until services have instances."""
        await self._settle(self.raw.wait_ready(*services, **options))

    async def read(self, response: httpx.Response) -> bytes:
        """Read the rest of an answer."""
        body: bytes = await self._settle(response.aread() if self._is_async else response.read())
        return body

    async def pieces(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Yield the pieces of an answer as they come."""
        if self._is_async:
            async for piece in response.aiter_raw():
                yield piece
        else:
            for piece in response.iter_raw():
                yield piece

    async def shut(self, response: httpx.Response) -> None:
        """Close an answer."""
        if self._is_async:
            await response.aclose()
        else:
            response.close()

    async def first_byte(self, response: httpx.Response) -> None:
        """Read one piece of the body, and no more."""
        pieces: Any = response.aiter_raw(1) if self._is_async else response.iter_raw(1)
        await self._settle(anext(pieces) if self._is_async else next(pieces))
        await self._settle(pieces.aclose() if self._is_async else pieces.close())

    async def close(self) -> None:
        """Close the client."""
        await self._settle(self.raw.aclose() if self._is_async else self.raw.close())

    def in_flight(self) -> int:
        """Return how many calls are counted on all nodes."""
        services = self.raw.stats().services.values()
        return sum(node.in_flight for service in services for node in service.nodes)

    async def _settle(self, result: Any) -> Any:
        return await result if self._is_async else result


class World(ABC):
    """Where a case runs, and with which httpx."""

    name: str

    def __init__(self, family: Family) -> None:
        self.httpx, self.p2plb = family.httpx, family.p2plb
        self.family = family

    def __str__(self) -> str:
        return self.name if self.family is HTTPX else f"{self.name}-httpx2"

    @abstractmethod
    def run(self, case: Coroutine[Any, Any, None]) -> None:
        """Run a case to its end."""

    @abstractmethod
    async def together(self, *works: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do all works at a time."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Wait while other threads or tasks go on."""

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "what was waited for has not come"
            await self.sleep(0.005)

    def client(self, registry: Any, **options: Any) -> Caller:
        """Return p2plb's client; proxies of the environment of whoever runs the tests are none of its business."""
        return Caller(self.p2plb.AsyncClient(registry, **{"trust_env": False, **options}))

    def plain(self, **options: Any) -> Caller:
        """Return httpx's own client."""
        return Caller(self.httpx.AsyncClient(**{"trust_env": False, **options}))

    def transport(self, registry: Any, **options: Any) -> Any:
        """Return p2plb's transport."""
        return self.p2plb.AsyncTransport(registry, **{"trust_env": False, **options})

    def mock(self, handler: Callable[[httpx.Request], httpx.Response]) -> Any:
        """Return httpx's transport that answers from a function."""
        return self.httpx.MockTransport(handler)

    def pieces(self, parts: Iterable[bytes]) -> Any:
        """Return a body that can be read once, and piece by piece only."""

        async def generate() -> AsyncIterator[bytes]:
            for part in parts:
                yield part

        return generate()


class Sync(World):
    name = "sync"

    def run(self, case: Coroutine[Any, Any, None]) -> None:
        try:
            case.send(None)
        except StopIteration:
            return
        raise AssertionError("a case has waited in blocking code")

    async def together(self, *works: Callable[[], Coroutine[Any, Any, None]]) -> None:
        failed: list[BaseException] = []

        def do(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
            try:
                self.run(work())
            except BaseException as error:  # carried over to the thread that waits
                failed.append(error)

        threads = [threading.Thread(target=do, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251  there is no loop to hold up

    def client(self, registry: Any, **options: Any) -> Caller:
        return Caller(self.p2plb.Client(registry, **{"trust_env": False, **options}))

    def plain(self, **options: Any) -> Caller:
        return Caller(self.httpx.Client(**{"trust_env": False, **options}))

    def transport(self, registry: Any, **options: Any) -> Any:
        return self.p2plb.Transport(registry, **{"trust_env": False, **options})

    def pieces(self, parts: Iterable[bytes]) -> Any:
        return (part for part in parts)


class Asyncio(World):
    name = "asyncio"

    def run(self, case: Coroutine[Any, Any, None]) -> None:
        asyncio.run(case)

    async def together(self, *works: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Trio(World):
    name = "trio"

    def run(self, case: Coroutine[Any, Any, None]) -> None:
        async def main() -> None:
            await case

        trio.run(main)

    async def together(self, *works: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with trio.open_nursery() as nursery:
            for work in works:
                nursery.start_soon(work)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


WORLDS: tuple[World, ...] = tuple(kind(family) for family in (HTTPX, HTTPX2) for kind in (Sync, Asyncio, Trio))
"""Where cases run; those with httpx2 get the case in its names (see tests/families.py)."""


def everywhere(case: Case) -> Callable[..., None]:
    """Make a test of a case, which takes the world as its first argument and fixtures after it."""
    return _test(case, WORLDS)


def on_loops(case: Case) -> Callable[..., None]:
    """Make a test of a case that is about event loops."""
    return _test(case, [world for world in WORLDS if not isinstance(world, Sync)])


def on_asyncio(case: Case) -> Callable[..., None]:
    """Make a test of a case about what there is for asyncio only (aiohttp)."""
    return _test(case, [world for world in WORLDS if isinstance(world, Asyncio)])


def with_httpx(case: Case) -> Callable[..., None]:
    """Make a test of a case about what there is for httpx only (respx)."""
    return _test(case, [world for world in WORLDS if world.family is HTTPX])


def _test(case: Case, worlds: Sequence[World]) -> Callable[..., None]:
    @functools.wraps(case)
    def test(world: World, **fixtures: Any) -> None:
        world.run(of_family(case, world.family)(world, **fixtures))

    assert next(iter(inspect.signature(case).parameters)) == "world"
    marked: Callable[..., None] = pytest.mark.parametrize("world", worlds, ids=str)(test)
    return marked
