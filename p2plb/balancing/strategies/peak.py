"""A moving average that rises at once and falls slowly: what a call to a node has cost lately, in seconds.

Finagle's Peak EWMA (loadbalancer/PeakEwma.scala), with the weights of uneven samples by time. Pure: time is passed in.
Failures are part of it: an error that comes fast must not make a node look fast.
"""

import math
from typing import Final

DECAY: Final = 10.0
"""Seconds after which a sample weighs 1/e, and after which an idle node's cost is 1/e of what it was: Finagle's."""
FAILURE: Final = 1.0
"""What a failed attempt costs at least, in seconds."""


class Peak:
    """The cost of calls to one node. Any thread may call; of samples at the same moment one may be lost."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen: tuple[float, float] | None = None
        """The cost and when it was so; None before the first sample."""

    def answered(self, seconds: float, now: float) -> None:
        """Take in an answer: one slower than what is left of the average is the new average, others blend in."""
        self._take(seconds, now, jumps=True)

    def failed(self, seconds: float, now: float) -> None:
        """Take in a failure after `seconds`: it blends in as a call of at least `FAILURE`, so one of many is little."""
        self._take(max(seconds, FAILURE), now, jumps=seconds > FAILURE)

    def at_least(self, seconds: float, now: float) -> None:
        """Take in that an answer had not come after `seconds`: news only if that is above what is left."""
        if self.seen is None or seconds > self.seen[0] * faded(self.seen[1], now):
            self.seen = seconds, now

    def _take(self, sample: float, now: float, *, jumps: bool) -> None:
        if self.seen is None:
            self.seen = sample, now
            return
        keep = faded(self.seen[1], now)
        left = self.seen[0] * keep
        self.seen = (sample if jumps and sample > left else left + sample * (1.0 - keep)), now


def faded(at: float, now: float) -> float:
    """Return what is left, 1 to 0, of what was seen at a moment."""
    return math.exp(min(0.0, at - now) / DECAY)
