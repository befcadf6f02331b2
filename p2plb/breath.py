"""Long work in small pieces: a thread that computes for long must not stall the callers' threads and event loops."""

import time
from typing import Final

WORK: Final = 0.001
"""Seconds of work after which other threads get their turn; each time costs this one 5 ms if they are busy."""


class Breath:
    """Called after each piece of work, lets other threads run once a millisecond has gone."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = time.monotonic()

    def __call__(self) -> None:
        """Let others run if it is time."""
        if time.monotonic() - self._since > WORK:
            time.sleep(0)
            self._since = time.monotonic()
