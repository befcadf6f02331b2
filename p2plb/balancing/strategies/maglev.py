"""The lookup table of Maglev: a fixed number of slots, each owned by one member, nearly as many by each.

D. Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016), section 3.4, with the
paper's small table of 65,537 slots; weights as in Envoy, where a light member passes on some of its turns.
"""

import logging
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from heapq import heapify, heapreplace
from itertools import cycle
from typing import Final, Self

from p2plb.balancing.strategies.hashing import Breath
from p2plb.balancing.strategies.placement import Placement
from p2plb.quiet import Quiet

complain = Quiet(logging.getLogger("p2plb")).warning

SLOTS: Final = 65_537
FEW: Final = 50
"""With fewer slots than this the mean member's share may be off by more than 2 %."""


class Table(Placement):
    """Slots and their owners."""

    def __init__(self, members: Mapping[str, float], slots: "array[int]") -> None:
        self.members = members
        self.names = tuple(members)
        self._slots = slots

    @classmethod
    def of(cls, members: Mapping[str, float], before: Self | None = None) -> Self:  # noqa: ARG003  nothing is reused
        """Return the table for these members; `ValueError` if there are not slots for all."""
        if len(members) > SLOTS:
            raise ValueError(f"Maglev has {SLOTS} slots for {len(members)} instances: use ConsistentHash")
        if len(members) * FEW > SLOTS:
            complain(
                "Maglev gives each of %d instances %.0f slots, so shares differ by more than 2 %%: use ConsistentHash",
                len(members),
                SLOTS / len(members),
            )
        return cls(members, fill(SLOTS, [_walk(name) for name in members], tuple(members.values())))

    def owner(self, hashed: int) -> int:
        """Return the owner of the slot of this hash."""
        return self._slots[hashed % SLOTS]

    def owners(self, hashed: int) -> Iterator[int]:
        """Yield the owners of this slot and of those after it, each once."""
        seen = set[int]()
        for step in range(SLOTS):
            number = self._slots[(hashed + step) % SLOTS]
            if number not in seen:
                seen.add(number)
                yield number
        yield from (number for number in range(len(self.names)) if number not in seen)  # too light to own a slot


def fill(size: int, walks: Iterable[tuple[int, int]], weights: Sequence[float]) -> "array[int]":
    """Return the owners of `size` slots, a prime number; a walk (offset, step) is the order that a member prefers."""
    breathe = Breath()
    at, steps = map(list, zip(*walks, strict=True))
    slots = array("l", [-1]) * size
    turns = _turns(weights)
    for _ in range(size):
        number = next(turns)
        slot, step = at[number], steps[number]
        while slots[slot] >= 0:
            slot = (slot + step) % size
        slots[slot] = number
        at[number] = (slot + step) % size
        breathe()
    return slots


def _turns(weights: Sequence[float]) -> Iterator[int]:
    """Yield numbers for ever, each as often as its weight says: one of half the weight is in every second round."""
    if len(set(weights)) == 1:
        yield from cycle(range(len(weights)))
    due = [(1 / weight, number) for number, weight in enumerate(weights)]
    heapify(due)
    while True:
        when, number = due[0]
        yield number
        heapreplace(due, (when + 1 / weights[number], number))


def _walk(name: str) -> tuple[int, int]:
    digest = blake2b(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") % SLOTS, int.from_bytes(digest[8:16], "big") % (SLOTS - 1) + 1
