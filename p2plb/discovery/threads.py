"""What the registries' threads have in common: how they start, how they end, and what a forked child makes anew."""

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, MutableMapping
from typing import Protocol, TypeVar

from p2plb.errors import DiscoveryError

Key = TypeVar("Key")
Value = TypeVar("Value")


class Forked(Protocol):
    """What has threads, locks or sockets that a forked child must not share."""

    def after_fork(self) -> None:
        """In the child: drop references, make locks anew; close nothing, send nothing, start nothing."""


_alive: weakref.WeakSet[Forked] = weakref.WeakSet()


def start(target: Callable[[], None], name: str) -> threading.Thread:
    """Start a daemon thread; `DiscoveryError` if there can be none, as when the interpreter shuts down."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise DiscoveryError(f"the thread {name} can't be started: {error}") from error
    return thread


def join(thread: threading.Thread | None, timeout: float) -> None:
    """Wait for the end of a thread, unless it is this one or was never started."""
    if thread is not None and thread is not threading.current_thread():
        # A thread that the parent of a fork had started can't be joined in the child.
        with contextlib.suppress(RuntimeError):
            thread.join(timeout)


def survivors(cache: MutableMapping[Key, Value]) -> dict[Key, Value]:
    """Return what can be read of a cache that another thread may have been changing when this child was forked."""
    kept = {}
    for key in tuple(cache):
        with contextlib.suppress(KeyError):
            kept[key] = cache[key]
    return kept


def remember_forks(owner: Forked) -> None:
    """Call `owner.after_fork()` in every child that is forked while `owner` lives."""
    _alive.add(owner)


def _in_child() -> None:
    for owner in tuple(_alive):
        owner.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
