"""What happens in the demo and when: a timetable as data, and the loop that plays it.

It knows neither processes nor screens; both are given to it as functions, as are time and sleep.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

TICK = 0.1
"""Seconds between two looks at the screen."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is done after `share` of the running time."""

    share: float
    act: Callable[[], None]


def play(
    steps: Iterable[Step],
    seconds: float,
    show: Callable[[], None],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Do each step when its time has come, and show how things are, for `seconds`."""
    start, waiting = clock(), sorted(steps, key=lambda step: step.share)
    while (now := clock() - start) < seconds:
        while waiting and waiting[0].share * seconds <= now:
            waiting.pop(0).act()
        show()
        sleep(TICK)
    show()
