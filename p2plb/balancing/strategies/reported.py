"""Turns by weights that instances report: requests a second for each unit of processor that they take.

gRPC's A58 (weighted round robin by backend metrics) with its static stride scheduler: a pick is a step of a counter,
and a node passes on its turn unless its weight is due. So weights can change each second without a table to sort.
"""

import itertools
from collections.abc import Callable, Sequence
from statistics import median_low
from typing import Final
from weakref import WeakKeyDictionary

from p2plb.balancing.call import Call
from p2plb.balancing.health import Health
from p2plb.balancing.node import Node

PERIOD: Final = 1.0
BLACKOUT: Final = 10.0
EXPIRY: Final = 180.0
"""Seconds between two looks at the reports, until a new reporter is believed, and until an old report is dropped."""
GREATEST: Final = 10.0
"""No weight is more than so many times the mean, so a turn comes after about as many steps: gRPC's bound. No reported
one is more than so many times the median either, which a single report cannot raise."""
SMALLEST: Final = 0.01
"""No reported weight is less than this part of the median: who had no calls could never report better. gRPC's bound."""
IDLE: Final = 0.001
"""Use below this is not measured well enough to be divided by."""
WHOLE: Final = 65_535
OFFSET: Final = WHOLE // 2  # neighbours of the same weight are not due in the same round

_since: WeakKeyDictionary[Health, float] = WeakKeyDictionary()
"""Since when an instance reports without a pause; kept beside its health, for views and clients come and go."""


class ReportedTurns:
    """The picker: `pick` is called in many threads; two that weigh at the same time come to the same weights."""

    def __init__(self, nodes: Sequence[Node], clock: Callable[[], float], draw: Callable[[], float]) -> None:
        self._nodes = nodes
        self._clock = clock
        self._turn = itertools.count(int(draw() * len(nodes) * WHOLE))
        self._due = clock() + PERIOD
        self._steps = steps(weights(nodes, clock()))

    def pick(self, _call: Call) -> Node:
        """Return the next node whose weight is due."""
        if (now := self._clock()) >= self._due:
            self._due = now + PERIOD
            self._steps = steps(weights(self._nodes, now))
        found, size = self._steps, len(self._nodes)
        while True:
            turn, index = divmod(next(self._turn), size)
            step = found[index]
            if (step * turn + index * OFFSET) % WHOLE >= WHOLE - step:
                return self._nodes[index]


def steps(found: Sequence[float]) -> list[int]:
    """Return weights as parts of the greatest, which is due at each turn; if all are 0, they count as equal."""
    most = min(max(found), GREATEST * sum(found) / len(found))
    if most <= 0.0:
        return [WHOLE] * len(found)
    return [min(WHOLE, max(1, round(weight / most * WHOLE))) if weight else 0 for weight in found]


def weights(nodes: Sequence[Node], now: float) -> list[float]:
    """Return the reported weights, their mean where there is none; those of the records unless two report."""
    found = [capacity(node.health, now) for node in nodes]
    known = [one for one in found if one is not None]
    if len(known) < 2:  # noqa: PLR2004  one weight says nothing of the others
        return [node.weight for node in nodes]
    middle = median_low(known)
    believed = [min(max(one, SMALLEST * middle), GREATEST * middle) for one in known]
    mean, rest = sum(believed) / len(believed), iter(believed)
    return [mean if one is None else next(rest) for one in found]


def capacity(health: Health, now: float) -> float | None:
    """Return the requests a second at full use that a report promises; each error counts as one more unit of use."""
    report = health.report
    if report is None or now - report.at > EXPIRY or not report.rate or not report.utilization:
        _since.pop(health, None)
        return None
    if now - _since.setdefault(health, now) < BLACKOUT:
        return None
    return report.rate / (max(report.utilization, IDLE) + (report.errors or 0.0) / report.rate)
