"""A gate: where a call waits for what another thread brings (a first view, a free connection), in plain callables.

It never blocks and holds no lock: a deque's operations are atomic, and a gate may be opened from `__del__`. How a
thread or task sleeps meanwhile is wire/waiting.py's matter.
"""

from collections import deque
from collections.abc import Callable

Waker = Callable[[], object]


class Gate:
    """Wakes those that wait, oldest first. A waker may be called from any thread and must not block."""

    __slots__ = ("_wakers",)

    def __init__(self) -> None:
        self._wakers: deque[Waker] = deque()

    def enrol(self, waker: Waker) -> None:
        """Have `waker` called at a later `open`; look once more at what is waited for after this."""
        self._wakers.append(waker)

    def leave(self, waker: Waker) -> bool:
        """Stop waiting; False says that the waker was taken already, so a wake-up may be unused: hand it on."""
        try:
            self._wakers.remove(waker)
        except ValueError:
            return False
        return True

    def open(self) -> None:
        """Wake everybody."""
        while self.open_one():
            pass

    def open_one(self) -> bool:
        """Wake the oldest waiter whose loop still runs; False if there is none."""
        while self._wakers:
            try:
                self._wakers.popleft()()
            except (IndexError, RuntimeError):  # another thread was faster; the waiter's event loop is closed
                continue
            return True
        return False
