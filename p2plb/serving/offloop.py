"""Blocking work off the event loop, always to its end: a task that is cancelled meanwhile hears of it afterwards.

Whoever leaves must have left when the task ends, or the record outlives it. A shield of anyio holds off what trio and
anyio cancel, but not asyncio's own `task.cancel()`, `asyncio.timeout` and `wait_for`, which may come more than once.
It knows nothing of registrations, and is loaded only by async programs.
"""

import asyncio
from collections.abc import Callable

import anyio.to_thread


async def in_thread(function: Callable[[], object]) -> None:
    """Run something bounded on a thread and return when it has ended; a cancellation is raised only then."""
    with anyio.CancelScope(shield=True):
        if _on_asyncio():
            await _to_its_end(asyncio.get_running_loop().run_in_executor(None, function))
        else:
            await anyio.to_thread.run_sync(function)


async def _to_its_end(work: "asyncio.Future[object]") -> None:
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])  # unlike `await work`, this does not cancel the work
        except asyncio.CancelledError as error:
            cancelled = error
    work.result()
    try:
        if cancelled is not None:
            raise cancelled
    finally:
        cancelled = None  # or the error would hold this frame, which holds the error


def _on_asyncio() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:  # no loop of asyncio runs in this thread
        return False
