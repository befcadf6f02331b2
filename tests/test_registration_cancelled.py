"""Cancelled, interrupted and raced: whoever has left is not in the registry, whatever cut in on the way."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from p2plb.discovery.memory import MemoryRegistry
from p2plb.discovery.registry import Announcement, AnnouncementState
from p2plb.instance import Instance
from p2plb.serving.registration import Registration, register
from tests.contract_registry import PATIENCE, until

UP, GONE = AnnouncementState.UP, AnnouncementState.GONE


class Slow(MemoryRegistry):
    """A registry in memory that can be held up while it takes a registration."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go_on = threading.Event(), threading.Event()
        self.announced: list[Announcement] = []

    def announce(self, instance: Instance, **settings: Any) -> Announcement:
        self.asked.set()
        assert self.go_on.wait(PATIENCE)
        self.announced.append(super().announce(instance, **settings))
        return self.announced[-1]

    def is_left(self) -> bool:
        """Say whether nothing is registered nor going to be."""
        return not self.states() and all(each.state is GONE for each in self.announced)

    def states(self) -> list[str]:
        return [instance.state for snapshot in self.list() for instance in snapshot.instances]


@pytest.fixture(name="registry")
def _registry() -> Iterator[Slow]:
    with Slow() as registry:
        yield registry


def users(registry: Slow, **settings: Any) -> Registration:
    return register("users", port=8001, registry=registry, ready=lambda: True, **{"drain_grace": 0.2} | settings)


async def until_async(condition: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110  threads make it true, on no event loop
            await asyncio.sleep(0.005)


async def cancel_twice(task: "asyncio.Task[object]", registry: Slow) -> None:
    """Cancel as a deadline and Ctrl-C do together, then let the registry go on."""
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0.02)
    registry.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_task_that_is_cancelled_while_it_enters_is_not_registered(registry: Slow) -> None:
    """F63: asyncio's own cancellation ends no thread, so what that thread begins must be taken back."""

    async def main() -> None:
        registration = users(registry)
        task = asyncio.create_task(registration.__aenter__())
        await until_async(registry.asked.is_set)
        await cancel_twice(task, registry)
        await until_async(lambda: registry.announced)
        assert registration.state is GONE
        assert registry.is_left()

    asyncio.run(main())


def test_a_task_that_is_cancelled_while_it_leaves_has_left(registry: Slow) -> None:
    """F63: the drain and the removal are done when the cancelled task ends."""
    registry.go_on.set()

    async def main() -> None:
        registration = users(registry)
        await registration.__aenter__()
        await until_async(lambda: registration.state is UP)
        task = asyncio.create_task(registration.stop_async())
        await until_async(lambda: registry.states() == ["draining"])
        await cancel_twice(task, registry)
        assert registration.state is GONE
        assert registry.is_left()

    asyncio.run(main())


def test_entering_fails_as_its_thread_does(registry: Slow) -> None:
    """What goes wrong on the thread is raised."""

    async def main() -> None:
        registration = users(registry)
        await registration.stop_async()
        with pytest.raises(RuntimeError, match="runs once"):
            await registration.__aenter__()

    asyncio.run(main())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_deadline_around_leaving_does_not_cut_it_short(registry: Slow, backend: str) -> None:
    """F63: a scope of anyio or trio that runs out is told of after the leaving."""
    registry.go_on.set()

    async def main() -> None:
        registration = users(registry)
        await registration.__aenter__()
        await registration.wait_async(PATIENCE)
        with anyio.move_on_after(0.02) as scope:
            await registration.stop_async()
        assert registration.state is GONE
        assert registry.is_left()
        assert backend == "asyncio" or not scope.cancelled_caught

    anyio.run(main, backend=backend)


def test_a_thread_that_stops_while_another_starts(registry: Slow) -> None:
    """F79: whichever comes first, in the end nothing is registered."""
    registration = users(registry)
    threads = [threading.Thread(target=registration.start), threading.Thread(target=registration.stop)]
    threads[0].start()
    assert registry.asked.wait(PATIENCE)
    threads[1].start()
    threads[1].join(0.05)
    registry.go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert registration.state is GONE
    assert registry.is_left()


@pytest.mark.parametrize("stop", [Registration.stop, lambda registration: asyncio.run(registration.stop_async())])
def test_a_signal_that_comes_while_leaving_does_not_cut_it_short(
    registry: Slow, stop: Callable[[Registration], None]
) -> None:
    """F02: an impatient SIGTERM during an ordinary end is handed on once the record is out."""
    registry.go_on.set()
    left: list[list[str]] = []
    before = signal.signal(signal.SIGUSR1, lambda _number, _frame: left.append(registry.states()))
    registration = users(registry, drain_on=(signal.SIGUSR1,)).start()
    assert registration.wait(PATIENCE)

    def interrupt() -> None:
        until(lambda: registry.states() == ["draining"])
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=interrupt)
    thread.start()
    stop(registration)
    thread.join()
    assert left == [[]]
    signal.signal(signal.SIGUSR1, before)
