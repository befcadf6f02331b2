"""What the registries' threads have in common: how they start, how they end, and what a fork may leave torn.

They are daemons, so that the interpreter can end while they wait for etcd. It knows nothing of what they do.
"""

import contextlib
import threading
from collections.abc import Callable, MutableMapping
from typing import TypeVar

from p2plb.errors import DiscoveryError

Key = TypeVar("Key")
Value = TypeVar("Value")


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
