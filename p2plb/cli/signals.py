"""How a command that has started processes ends when it is told to: by unwinding, so that each `finally` runs."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def leave(number: int, _frame: FrameType | None) -> None:
    """Unwind, with the exit status that shells give to a process ended by this signal."""
    signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the cleaning up
    raise SystemExit(128 + number)


@contextmanager
def unwinding() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind like Ctrl-C for as long as the block runs."""
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
