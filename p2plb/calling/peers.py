"""What clients and transports can do with instances beside sending requests: look at them, wait for them, pick one.

Each method is written once for all families; what waits has a twin for event loops. The decisions are in picking.py.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from p2plb.calling.core import Core
from p2plb.calling.picking import Picked, Picking, until_ready
from p2plb.discovery.registry import Registry
from p2plb.observe.stats import Stats
from p2plb.wire.waiting import wait, wait_async


class Looks:
    """What needs no waiting."""

    _core: Core

    @property
    def registry(self) -> Registry:
        """The registry in use."""
        return self._core.services.registry

    def stats(self) -> Stats:
        """Return how the registry, the services and their nodes are doing: frozen dataclasses, ready for JSON."""
        return self._core.services.stats()


class Peers(Looks):
    """Instances as blocking code reaches them."""

    @contextmanager
    def pick(self, service: str, *, key: Any = None) -> Iterator[Picked]:
        """Choose an instance for something else than an HTTP request, and count it as a call in flight in the block.

        Its service's policy chooses it, by `key` if the strategy is a keyed one. It waits for the registry's first list
        as a call does. Leaving the block by an exception counts as the instance's failure, as a refused connection
        does: it is passed over for a second, then for two, four, …; leaving it otherwise as a success. A cancellation
        or an interrupt counts as neither. `NoInstances` if there is none.
        """
        with Picking(self._core, service, key) as picking:
            for step in picking.steps():
                wait(step)
            yield picking.claim()

    def wait_ready(self, *services: str, timeout: float = 5.0) -> None:
        """Return as soon as each service (without names: each in `services=`) has an instance that calls may go to.

        After `timeout` seconds raise `NoInstances` with the reasons, or `DiscoveryError` if the registry has never
        answered; not for a service that has a fallback. What P2PLB_BYPASS covers is not waited for. Once all are there
        it costs next to nothing, so a readiness probe may call it with `timeout=0`.
        """
        for step in until_ready(self._core, services, timeout):
            wait(step)


class AsyncPeers(Looks):
    """Instances as asyncio and trio reach them."""

    @asynccontextmanager
    async def pick(self, service: str, *, key: Any = None) -> AsyncIterator[Picked]:
        """Choose an instance for something else than an HTTP request, and count it as a call in flight in the block.

        Its service's policy chooses it, by `key` if the strategy is a keyed one. It waits for the registry's first list
        as a call does. Leaving the block by an exception counts as the instance's failure, as a refused connection
        does: it is passed over for a second, then for two, four, …; leaving it otherwise as a success. A cancellation
        or an interrupt counts as neither. `NoInstances` if there is none.
        """
        with Picking(self._core, service, key) as picking:
            for step in picking.steps():
                await wait_async(step)
            yield picking.claim()

    async def wait_ready(self, *services: str, timeout: float = 5.0) -> None:  # noqa: ASYNC109  as its twin
        """Return as soon as each service (without names: each in `services=`) has an instance that calls may go to.

        After `timeout` seconds raise `NoInstances` with the reasons, or `DiscoveryError` if the registry has never
        answered; not for a service that has a fallback. What P2PLB_BYPASS covers is not waited for. Once all are there
        it costs next to nothing, so a readiness probe may call it with `timeout=0`.
        """
        for step in until_ready(self._core, services, timeout):
            await wait_async(step)
