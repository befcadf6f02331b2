"""One thing for each running event loop: async lanes belong to the loop on which they were opened."""

import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """Makes one `T` for each event loop, forgotten with the loop."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._by_loop: weakref.WeakKeyDictionary[Any, T] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()  # loops run in several threads

    def here(self) -> T:
        """Return the one of the loop that runs now."""
        loop = running_loop()
        found = self._by_loop.get(loop)
        if found is None:
            with self._lock:
                for other in [one for one in self._by_loop if getattr(one, "is_closed", bool)()]:
                    del self._by_loop[other]
                found = self._by_loop[loop] = self._make()
        return found

    def get(self) -> T | None:
        """Return the one of the loop that runs now if there is one."""
        return self._by_loop.get(running_loop())

    def all(self) -> list[T]:
        """Return those of all loops."""
        with self._lock:
            return list(self._by_loop.values())

    def after_fork(self) -> list[T]:
        """In a forked child: forget those of the parent's loops, and return them."""
        inherited, self._by_loop = self._by_loop, weakref.WeakKeyDictionary()
        self._lock = threading.Lock()  # the old one may be held by a thread that is not here
        return list(inherited.values())


def running_loop() -> Any:
    """Return asyncio's running loop, or what stands for trio's."""
    if (token := trio_token()) is not None:
        return token
    import asyncio  # noqa: PLC0415  heavy, and sync users need none of it

    return asyncio.get_running_loop()


def trio_token() -> Any:
    """Return the token of the trio that the code that runs now runs in; None if it runs in none."""
    trio = sys.modules.get("trio")
    return trio.lowlevel.current_trio_token() if trio is not None and trio.lowlevel.in_trio_task() else None
