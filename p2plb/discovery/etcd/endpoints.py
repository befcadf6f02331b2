"""Which endpoint to ask first: the one that worked last, and those that failed lately after all others.

Pure but for the clock and the dice that it is given. Calls may race: each writes single values, none must be exact.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

LATELY: Final = 10.0  # seconds during which an endpoint that failed is asked last


class Endpoints:
    """The endpoints of one etcd; begins at one taken at random, so that clients spread."""

    def __init__(self, origins: Sequence[str], clock: Callable[[], float], rng: Random) -> None:
        self._origins = tuple(origins)
        self._clock = clock
        self._first = rng.randrange(len(self._origins))
        self._failed: dict[str, float] = {}

    def order(self) -> list[str]:
        """Return all of them in the order in which to try them."""
        rotated = self._origins[self._first :] + self._origins[: self._first]
        return sorted(rotated, key=self._failed_at)

    def worked(self, origin: str) -> None:
        """Stay with this one."""
        self._failed.pop(origin, None)
        self._first = self._origins.index(origin)

    def failed(self, origin: str) -> None:
        """Ask this one last for a while."""
        self._failed[origin] = self._clock()

    def _failed_at(self, origin: str) -> float:
        at = self._failed.get(origin)
        return at if at is not None and self._clock() - at < LATELY else float("-inf")
