"""How a thread or task waits at a gate for what another thread brings.

Enrol, look once more, then wait. A waiter that was woken and is cancelled before it could take what it waited for
hands the wake-up on, or another would wait for ever. (After a time-out the caller looks once more by itself.)
"""

import contextlib
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue

import anyio

from p2plb.balancing.attempts import Wait
from p2plb.wire.loops import trio_token


def wait(step: Wait) -> None:
    """Wait until `step.ready()` or for `step.seconds`."""
    # Unlike an Event's, its lock may be met again by a gate opened in `__del__`.
    woken: SimpleQueue[None] = SimpleQueue()
    with _enrolled(step, lambda: woken.put(None)):
        if not step.ready():
            with contextlib.suppress(Empty):
                woken.get(timeout=step.seconds)


async def wait_async(step: Wait) -> None:
    """Wait until `step.ready()` or for `step.seconds`, on asyncio or trio."""
    event = anyio.Event()
    with _enrolled(step, _waker(event)):
        if not step.ready():
            with anyio.move_on_after(step.seconds):
                await event.wait()


@contextlib.contextmanager
def _enrolled(step: Wait, waker: Callable[[], object]) -> Iterator[None]:
    step.gate.enrol(waker)
    try:
        yield
    except BaseException:
        if not step.gate.leave(waker):
            step.gate.open_one()
        raise
    step.gate.leave(waker)


def _waker(event: anyio.Event) -> Callable[[], object]:
    """Return a function that sets the event from any thread; it raises RuntimeError once the loop is closed."""
    if (token := trio_token()) is not None:
        return lambda: token.run_sync_soon(event.set)
    import asyncio  # noqa: PLC0415  heavy, and sync users need none of it

    loop = asyncio.get_running_loop()
    return lambda: loop.call_soon_threadsafe(event.set)
