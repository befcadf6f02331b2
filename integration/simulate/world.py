"""Virtual time: events that happen one after the other, and chance that is the same in each run.

It knows nothing of load balancing. A simulated second takes no time; two runs with one seed are equal.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from heapq import heappop, heappush

Action = Callable[[], object]


class World:
    """A clock and what is still to happen; `rng` is for what the world itself leaves to chance."""

    def __init__(self, seed: int = 1) -> None:
        self.now = 0.0
        self.rng = random.Random(seed)
        self._events: list[tuple[float, int, Action]] = []
        self._order = itertools.count()

    def clock(self) -> float:
        """Return the virtual time in seconds."""
        return self.now

    def at(self, moment: float, action: Action) -> None:
        """Have `action` called at a moment; those of one moment are called in the order in which they were given."""
        heappush(self._events, (moment, next(self._order), action))

    def after(self, seconds: float, action: Action) -> None:
        """Have `action` called some seconds from now."""
        self.at(self.now + seconds, action)

    def run(self) -> None:
        """Let everything happen."""
        events = self._events
        while events:
            self.now, _, action = heappop(events)
            action()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make the module `random`, from which strategies draw, the same in each run; as it was afterwards."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
