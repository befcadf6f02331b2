"""Shards: calls that go to the instance that owns a key, through a client of either family.

    shards = p2plb.Shards(client, "users")
    shards.get("user-42", "http://users/profile/42")

Who owns what is computed in sharding/, what is sent is prepared in errands.py; here it is waited for and sent, in
blocking code and on event loops.
"""

import weakref
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Final, Generic, Protocol, TypeVar

import anyio
import anyio.to_thread

from p2plb.calling.errands import Errand, Errands, changed_hands, check_count, ends_at
from p2plb.calling.peers import AsyncPeers, Peers
from p2plb.discovery.registry import Watch
from p2plb.errors import NoInstances
from p2plb.instance import Instance, check_name
from p2plb.sharding.computed import Changes, Moved
from p2plb.sharding.scattering import Part, Scattered, answered, failed
from p2plb.sharding.shardmap import ShardMap
from p2plb.wire.waiting import wait, wait_async

CONCURRENCY: Final = 16

K = TypeVar("K")
Request = TypeVar("Request")
Request_co = TypeVar("Request_co", covariant=True)
Response = TypeVar("Response")
Response_co = TypeVar("Response_co", covariant=True)


class _Client(Protocol[Request_co, Response_co]):
    """What is needed of a client of either family; what an async one sends is to be awaited."""

    def build_request(self, *args: Any, **options: Any) -> Request_co: ...

    def send(self, *args: Any, **options: Any) -> Response_co: ...


class _Shards:
    """What waits for nothing."""

    def __init__(self, client: Any, service: str, kind: type) -> None:
        if not (isinstance(client, kind) and hasattr(client, "send")):  # a transport only looks like one
            raise TypeError(
                f"Shards takes a p2plb.Client, AsyncShards a p2plb.AsyncClient, not {type(client).__name__}"
            )
        check_name(service, "the service of shards")
        self._errands = Errands(client, service)

    def on_change(self, tell: Callable[[Moved], object]) -> Watch:
        """Have `tell` called with the slots that changed hands whenever some do, and return the watch to be closed.

        It runs on a thread of the registry and must not block; what it raises is logged. The map that is there first is
        no change. The watch ends at the latest with this object or with the client's registry; a forked child has none.
        """
        if not callable(tell):
            raise TypeError(f"on_change takes a function of what has moved, not {tell!r}")
        watch = self._errands.watch(Changes(self._errands.computed, tell))
        weakref.finalize(self, watch.close).atexit = False
        return watch


class Shards(_Shards, Generic[Request, Response]):
    """Which instance of a service owns which key, and calls to owners: `Shards(client, "users")`, for a `Client`.

    The map is computed from the instances that are up: 4,096 slots, in proportion to weight, the same in each process
    that knows the same instances. What stands in `{…}` in a key is all of it that counts. The first lookup waits for
    the registry as a call does; `NoInstances` if there is nobody. Any thread may use it.
    """

    def __init__(self, client: _Client[Request, Response], service: str) -> None:
        super().__init__(client, service, Peers)
        self._send: Callable[..., Response] = client.send

    def owner(self, key: Any) -> Instance:
        """Return the instance that owns a key."""
        return self._find().owner(key)

    def owners(self, key: Any, replicas: int = 3) -> tuple[Instance, ...]:
        """Return the owner of a key and those that come after it, distinct, in zones of their own where possible.

        They are fewer than `replicas` if there are fewer instances.
        """
        check_count(replicas)
        return self._find().replicas(key, replicas)

    def group(self, keys: Iterable[K]) -> dict[Instance, list[K]]:
        """Return the keys by their owner."""
        return self._find().group(keys)

    def request(self, key: Any, method: str, url: Any, *, replicas: int = 1, **options: Any) -> Response:
        """Send a request to the owner of a key, and to nobody else.

        `options` are those of the client's `request` (and `stream`). With more `replicas` the next one is asked where
        the owner can't be reached or the request may be sent again. If the owner leaves before it was reached, the call
        goes to the next owner. `ValueError` if the URL is not for the service.
        """
        check_count(replicas)
        request, send = self._errands.request(method, url, options)
        while True:
            found = self._find()
            self._errands.bind(request, found.replicas(key, replicas))
            try:
                return self._send(request, **send)
            except NoInstances as error:
                if not changed_hands(error, request, found, self._find()):
                    raise

    def get(self, key: Any, url: Any, **options: Any) -> Response:
        """Send a GET request to the owner of a key, as `request` does."""
        return self.request(key, "GET", url, **options)

    def post(self, key: Any, url: Any, **options: Any) -> Response:
        """Send a POST request to the owner of a key, as `request` does."""
        return self.request(key, "POST", url, **options)

    def scatter(
        self,
        keys: Iterable[K],
        build_request: Callable[[list[K]], Request],
        *,
        timeout: float | None = None,
        concurrency: int = CONCURRENCY,
    ) -> Scattered[K, Response]:
        """Send one request to each owner of some of the keys, `concurrency` at a time, and return what became of each.

        `build_request` makes the request for one owner's keys. A part that fails leaves the others alone. `timeout`
        bounds the whole in seconds. Nothing is on its way any more when it returns or is interrupted.
        """
        ends = ends_at(timeout, concurrency)
        errands = self._errands.plan(self._find(timeout), keys, build_request)
        pool = ThreadPoolExecutor(max(1, min(concurrency, len(errands))), thread_name_prefix="p2plb-scatter")
        try:
            futures = [pool.submit(copy_context().run, self._carry, errand, ends) for errand in errands]
            return Scattered(tuple(future.result() for future in futures))
        finally:
            pool.shutdown(cancel_futures=True)

    def _carry(self, errand: Errand[K], ends: float | None) -> Part[K, Response]:
        try:
            self._errands.set_out(errand, ends)
            return answered(errand.instance, errand.keys, self._send(errand.request))
        except Exception as error:  # the other parts are not to be lost with it
            return failed(errand.instance, errand.keys, errand.request, error)

    def _find(self, timeout: float | None = None) -> ShardMap:
        balancer = self._errands.balancer()
        if balancer.view is None:
            for step in self._errands.first_view(balancer, timeout):
                wait(step)
        snapshot = self._errands.snapshot(balancer)
        return self._errands.computed.known(snapshot) or self._errands.computed.of(snapshot)


class AsyncShards(_Shards, Generic[Request, Response]):
    """The same as `Shards` for an `AsyncClient`, on asyncio and trio; whatever may wait is awaited, lookups too."""

    def __init__(self, client: _Client[Request, Awaitable[Response]], service: str) -> None:
        super().__init__(client, service, AsyncPeers)
        self._send: Callable[..., Awaitable[Response]] = client.send

    async def owner(self, key: Any) -> Instance:
        """Return the instance that owns a key."""
        return (await self._find()).owner(key)

    async def owners(self, key: Any, replicas: int = 3) -> tuple[Instance, ...]:
        """Return the owner of a key and those that come after it, distinct, in zones of their own where possible.

        They are fewer than `replicas` if there are fewer instances.
        """
        check_count(replicas)
        return (await self._find()).replicas(key, replicas)

    async def group(self, keys: Iterable[K]) -> dict[Instance, list[K]]:
        """Return the keys by their owner."""
        return (await self._find()).group(keys)

    async def request(self, key: Any, method: str, url: Any, *, replicas: int = 1, **options: Any) -> Response:
        """Send a request to the owner of a key, and to nobody else.

        `options` are those of the client's `request` (and `stream`). With more `replicas` the next one is asked where
        the owner can't be reached or the request may be sent again. If the owner leaves before it was reached, the call
        goes to the next owner. `ValueError` if the URL is not for the service.
        """
        check_count(replicas)
        request, send = self._errands.request(method, url, options)
        while True:
            found = await self._find()
            self._errands.bind(request, found.replicas(key, replicas))
            try:
                return await self._send(request, **send)
            except NoInstances as error:
                if not changed_hands(error, request, found, await self._find()):
                    raise

    async def get(self, key: Any, url: Any, **options: Any) -> Response:
        """Send a GET request to the owner of a key, as `request` does."""
        return await self.request(key, "GET", url, **options)

    async def post(self, key: Any, url: Any, **options: Any) -> Response:
        """Send a POST request to the owner of a key, as `request` does."""
        return await self.request(key, "POST", url, **options)

    async def scatter(
        self,
        keys: Iterable[K],
        build_request: Callable[[list[K]], Request],
        *,
        timeout: float | None = None,  # noqa: ASYNC109  as its twin
        concurrency: int = CONCURRENCY,
    ) -> Scattered[K, Response]:
        """Send one request to each owner of some of the keys, `concurrency` at a time, and return what became of each.

        `build_request` makes the request for one owner's keys. A part that fails leaves the others alone. `timeout`
        bounds the whole in seconds. Nothing is on its way any more when it returns or is cancelled.
        """
        ends = ends_at(timeout, concurrency)
        errands = self._errands.plan(await self._find(timeout), keys, build_request)
        parts: dict[int, Part[K, Response]] = {}
        places = anyio.Semaphore(concurrency)

        async def carry(number: int, errand: Errand[K]) -> None:
            async with places:
                parts[number] = await self._carry(errand, ends)

        async with anyio.create_task_group() as group:
            for number, errand in enumerate(errands):
                group.start_soon(carry, number, errand)
        return Scattered(tuple(parts[number] for number in range(len(errands))))

    async def _carry(self, errand: Errand[K], ends: float | None) -> Part[K, Response]:
        try:
            self._errands.set_out(errand, ends)
            return answered(errand.instance, errand.keys, await self._send(errand.request))
        except Exception as error:  # the other parts are not to be lost with it
            return failed(errand.instance, errand.keys, errand.request, error)

    async def _find(self, timeout: float | None = None) -> ShardMap:  # noqa: ASYNC109  as its twin
        balancer = self._errands.balancer()
        if balancer.view is None:
            for step in self._errands.first_view(balancer, timeout):
                await wait_async(step)
        snapshot = self._errands.snapshot(balancer)
        if (found := self._errands.computed.known(snapshot)) is not None:
            return found
        return await anyio.to_thread.run_sync(self._errands.computed.of, snapshot)  # it takes milliseconds
