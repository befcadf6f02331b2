"""Waiting at a gate: the same in a thread, on asyncio and on trio, and no wake-up is lost when a waiter gives up."""

import asyncio
import threading
import time
from collections.abc import Callable

import anyio
import pytest

from p2plb.balancing.attempts import Wait
from p2plb.balancing.gate import Gate
from p2plb.wire.waiting import wait, wait_async
from tests.contract_registry import until

LONG = 30.0

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Thing:
    """What is waited for."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.there = False

    def comes(self) -> None:
        self.there = True
        self.gate.open_one()

    def step(self, seconds: float | None = LONG) -> Wait:
        return Wait(self.gate, lambda: self.there, seconds)

    @property
    def waiting(self) -> int:
        return len(self.gate._wakers)


def in_thread(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target)
    thread.start()
    return thread


def test_a_thread_is_woken() -> None:
    """F28: another thread ends the wait; nothing is left at the gate."""
    thing = Thing()
    thread = in_thread(lambda: wait(thing.step(None)))
    until(lambda: thing.waiting == 1)
    thing.comes()
    thread.join(LONG)
    assert not thread.is_alive()
    assert thing.waiting == 0


def test_a_thread_does_not_wait_in_vain() -> None:
    """What has come between the look and the wait is seen; a wait without success ends with its time."""
    thing = Thing()
    wait(thing.step(0.0))
    assert thing.waiting == 0
    thing.there = True
    wait(thing.step(None))
    assert thing.waiting == 0


def test_a_thread_that_is_interrupted_hands_on() -> None:
    """F65: a waiter that is interrupted after it was woken passes the wake-up to the next."""
    thing, woken = Thing(), threading.Event()

    def interrupted() -> bool:
        thing.gate.open_one()  # woken while it looks …
        thing.gate.enrol(woken.set)
        raise KeyboardInterrupt  # … and interrupted before it can take anything

    with pytest.raises(KeyboardInterrupt):
        wait(Wait(thing.gate, interrupted, None))
    assert woken.is_set()


@both
def test_a_task_is_woken_by_a_thread(backend: str) -> None:
    """F28, F61: the same on asyncio and on trio, from a thread that knows nothing of loops."""
    thing = Thing()

    def other_thread() -> None:
        until(lambda: thing.waiting == 1)
        thing.comes()

    async def main() -> None:
        thread = in_thread(other_thread)
        with anyio.fail_after(LONG):
            await wait_async(thing.step(None))
        thread.join()

    anyio.run(main, backend=backend)
    assert thing.waiting == 0


@both
def test_a_task_does_not_wait_in_vain(backend: str) -> None:
    """What is there needs no wait; a wait without success ends with its time."""
    thing = Thing()

    async def main() -> None:
        await wait_async(thing.step(0.001))
        thing.there = True
        await wait_async(thing.step(None))

    anyio.run(main, backend=backend)
    assert thing.waiting == 0


@both
def test_a_cancelled_task_leaves(backend: str) -> None:
    """F64: cancelled while it waits, a task is gone at once and takes no wake-up from others."""
    thing = Thing()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(wait_async, thing.step())
            await anyio.wait_all_tasks_blocked()
            assert thing.waiting == 1
            group.cancel_scope.cancel()

    started = time.monotonic()
    anyio.run(main, backend=backend)
    assert time.monotonic() - started < LONG
    assert thing.waiting == 0


@both
def test_a_cancelled_task_hands_on(backend: str) -> None:
    """F63: woken and cancelled in one go, a task passes the wake-up to the next."""
    thing = Thing()
    done: list[str] = []

    async def waiter(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            await wait_async(thing.step())
            done.append(name)

    async def main() -> None:
        scopes = [anyio.CancelScope(), anyio.CancelScope()]
        async with anyio.create_task_group() as group:
            for number, scope in enumerate(scopes):
                group.start_soon(waiter, f"waiter {number}", scope)
                await anyio.wait_all_tasks_blocked()
                assert thing.waiting == number + 1
            thing.comes()  # wakes the first …
            scopes[0].cancel()  # … which is cancelled before it runs
            group.cancel_scope.deadline = anyio.current_time() + LONG

    anyio.run(main, backend=backend)
    assert done == ["waiter 1"]
    assert thing.waiting == 0


def test_two_loops_at_one_gate() -> None:
    """F60, F61: tasks of several loops and threads wait at one gate; each is woken where it lives."""
    thing = Thing()
    waiters = [
        in_thread(lambda: asyncio.run(wait_async(thing.step()))),
        in_thread(lambda: asyncio.run(wait_async(thing.step()))),
        in_thread(lambda: anyio.run(wait_async, thing.step(), backend="trio")),
        in_thread(lambda: wait(thing.step())),
    ]
    until(lambda: thing.waiting == 4)
    thing.there = True
    thing.gate.open()
    for thread in waiters:
        thread.join(LONG)
        assert not thread.is_alive()
