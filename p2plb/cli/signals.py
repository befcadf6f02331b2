"""How a command that has started processes ends when it is told to: by unwinding, so that each `finally` runs."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def unwinding() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind like Ctrl-C for as long as the block runs; only the first signal counts.

    A signal that is ignored on entry, as SIGHUP is under nohup, stays ignored.
    """
    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, _frame: FrameType | None) -> None:
    """Unwind, with the exit status that shells give to a process ended by this signal."""
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)  # another one must not interrupt the cleaning up
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
