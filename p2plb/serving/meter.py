"""How loaded this instance is: requests in flight, how long they take at such a load, processor and rates.

Pure: the clocks are passed in. The latency is Prequal's: the median of recent answers that began with about as many
requests in flight as there are now (B. Wydrowski et al., NSDI 2024), so that it tells what one more would see.
"""

import time
from collections import deque
from collections.abc import Callable
from statistics import median_low
from typing import Final

from p2plb.load import LoadReport

SAMPLES: Final = 16
PERIOD: Final = 1.0
"""Seconds over which rates are counted."""
SERVER_ERROR: Final = 500


class LoadMeter:
    """Counts the requests of one process; all calls come from one thread, as from an event loop."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, processor: Callable[[], float] = time.process_time
    ) -> None:
        self.in_flight = 0
        self._clock, self._processor = clock, processor
        self._latencies: dict[int, deque[float]] = {}
        self._since, self._used = clock(), processor()
        self._answers = self._errors = 0
        self._rates: tuple[float | None, float | None, float | None] = (None, None, None)

    def begin(self) -> tuple[int, float]:
        """Count a request in, and return what `answered` needs to know of it."""
        self.in_flight += 1
        return self.in_flight, self._clock()

    def answered(self, begun: tuple[int, float], status: int) -> None:
        """Take in that the head of the answer is there. An error that comes fast says nothing of the latency."""
        at_load, start = begun
        self._answers += 1
        self._errors += status >= SERVER_ERROR
        if status < SERVER_ERROR:
            recent = self._latencies.setdefault(at_load.bit_length(), deque(maxlen=SAMPLES))
            recent.append(self._clock() - start)

    def end(self) -> None:
        """Count a request out."""
        self.in_flight -= 1

    def report(self) -> LoadReport:
        """Return how loaded the instance is now."""
        now = self._clock()
        if (seconds := now - self._since) >= PERIOD:
            used = self._processor()
            self._rates = ((used - self._used) / seconds, self._answers / seconds, self._errors / seconds)
            self._since, self._used, self._answers, self._errors = now, used, 0, 0
        return LoadReport(now, self.in_flight, self._latency(), *self._rates)

    def _latency(self) -> float | None:
        """Return the median at the load that is nearest to the present one, loads in powers of two."""
        if not self._latencies:
            return None
        load = max(self.in_flight, 1).bit_length()
        return median_low(self._latencies[min(self._latencies, key=lambda one: abs(one - load))])
