"""Cancel a call at its k-th suspension, for every k, in each way in which event loops cancel.

A way runs `work`, cancels it at its k-th suspension and returns whether it was cancelled: False says that the work
ended before that. It knows nothing of what is cancelled.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final

import anyio
import trio

Work = Callable[[], Coroutine[Any, Any, object]]
Way = Callable[[Work, int], Coroutine[Any, Any, bool]]


class _Stepped:
    """Awaits a coroutine and tells `at_pause` of each suspension, with what it waits for."""

    def __init__(self, work: Work, at_pause: Callable[[int, Any], object]) -> None:
        self.pauses = 0
        self._work = work
        self._at_pause = at_pause

    def __await__(self) -> Generator[Any, Any, object]:
        steps = self._work().__await__()
        advance: Callable[[], Any] = lambda: next(steps)  # noqa: E731  replaced by what comes back
        while True:
            try:
                waits_for = advance()
            except StopIteration as end:
                return end.value
            self.pauses += 1
            self._at_pause(self.pauses, waits_for)
            advance = lambda: next(steps)  # noqa: E731  as above
            try:
                yield waits_for
            except BaseException as error:  # whatever is thrown in goes further in
                advance = lambda error=error: steps.throw(error)  # type: ignore[misc]  # noqa: E731  bound early


async def _in_task(work: Work, at_pause: Callable[[asyncio.Task[object], int, Any], object]) -> bool:
    """Run work in a task; whether it was cancelled."""

    async def run() -> object:
        return await _Stepped(work, lambda pause, waits_for: at_pause(task, pause, waits_for))

    task = asyncio.ensure_future(run())
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return task.cancelled()


async def as_it_pauses(work: Work, k: int) -> bool:
    """Cancel as the work begins to wait."""
    return await _in_task(work, lambda task, pause, _on: task.cancel() if pause == k else None)


async def twice(work: Work, k: int) -> bool:
    """Cancel as the work begins to wait, and again at whatever its cleaning up waits for."""
    return await _in_task(work, lambda task, pause, _on: task.cancel() if pause >= k else None)


async def as_it_resumes(work: Work, k: int) -> bool:
    """Cancel when what the work waits for is there, just before it learns of it."""

    def at_pause(task: asyncio.Task[object], pause: int, waits_for: Any) -> None:
        if pause != k:
            return
        if waits_for is None:
            task.cancel()
        else:
            waits_for.add_done_callback(lambda _future: task.cancel())

    return await _in_task(work, at_pause)


async def after_turns(work: Work, k: int) -> bool:
    """Cancel after so many turns of the loop, wherever the work and its children are."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work())

    def turn(left: int) -> None:
        if left:
            loop.call_soon(turn, left - 1)
        else:
            task.cancel()

    loop.call_soon(turn, k)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return task.cancelled()


async def by_anyio_scope(work: Work, k: int) -> bool:
    """Cancel a scope of anyio, which goes on cancelling until the work has left it."""
    with anyio.CancelScope() as scope:
        await _Stepped(work, lambda pause, _on: scope.cancel() if pause == k else None)
    return scope.cancelled_caught


class _AtStep(trio.abc.Instrument):
    """Cancels a scope at the k-th suspension of a task."""

    def __init__(self, scope: trio.CancelScope, task: trio.lowlevel.Task, k: int) -> None:
        self._scope, self._task, self._left = scope, task, k

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()


async def by_trio_scope(work: Work, k: int) -> bool:
    """Cancel a scope of trio."""
    with trio.CancelScope() as scope:
        instrument = _AtStep(scope, trio.lowlevel.current_task(), k)
        trio.lowlevel.add_instrument(instrument)
        try:
            await work()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancelled_caught


ON_ASYNCIO: Final = (as_it_pauses, twice, as_it_resumes, after_turns, by_anyio_scope)


async def at_every_pause(way: Way, work: Work, check: Callable[[], Awaitable[None]]) -> int:
    """Cancel `work` at one suspension after the other, until it gets through; return at how many.

    Turns of the loop are many while the network is awaited: the further, the fewer of them are tried.
    """
    k, tried = 1, 0
    while await way(work, k):
        await check()
        k, tried = k + (1 + k // 8 if way is after_turns else 1), tried + 1
    return tried


Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


def run_asyncio(case: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a case on asyncio."""
    asyncio.run(case())


def run_trio(case: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a case on trio."""
    trio.run(case)
