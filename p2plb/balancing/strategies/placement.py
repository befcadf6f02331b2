"""Placements: which instance owns a hash, and who comes next. Pure data over ids and weights, without a node.

A placement is made once a view and never changed. Because it holds no nodes, clients of one service share it, and the
next one can be made from what has changed.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Self
from weakref import WeakValueDictionary


class Placement(ABC):
    """Who owns which hash. Any thread may ask."""

    members: Mapping[str, float]
    """The weight of each instance, by id."""
    names: Sequence[str | None]
    """The ids by their numbers; None is a number that nobody has."""

    @classmethod
    @abstractmethod
    def of(cls, members: Mapping[str, float], before: Self | None = None) -> Self:
        """Return the placement for these members, faster if `before` is one for nearly the same. May take long."""

    @abstractmethod
    def owner(self, hashed: int) -> int:
        """Return the number of the owner of a 64-bit hash."""

    @abstractmethod
    def owners(self, hashed: int) -> Iterator[int]:
        """Yield the numbers of all members, each once: the owner, then who would own the hash without those before."""


_made: WeakValueDictionary[tuple[type[Placement], str, str], Placement] = WeakValueDictionary()
"""The placements that pickers have, by kind, service and first member: some to begin with, never the truth."""


def place(kind: type[Placement], service: str, weights: Mapping[str, float]) -> Placement:
    """Return the placement for instances with these weights; a weight of 0 (then all have it) counts as 1."""
    members = {name: weights[name] or 1.0 for name in sorted(weights)}
    before = _nearest(kind, service, members)
    if before is not None and before.members == members:
        return before
    made = _made[kind, service, next(iter(members))] = kind.of(members, before)
    return made


def _nearest(kind: type[Placement], service: str, members: Mapping[str, float]) -> Placement | None:
    """Return the placement that has most of these members; there are several if a strategy gets each zone alone."""
    known = [(ref.key, ref()) for ref in _made.valuerefs()]  # in one go: other threads add theirs meanwhile
    found = [one for key, one in known if one is not None and key[:2] == (kind, service)]
    return max(found, key=lambda one: len(one.members.keys() & members.keys()), default=None)
