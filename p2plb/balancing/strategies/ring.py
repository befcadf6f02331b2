"""The ring of consistent hashing: points of all members on a circle of 64-bit hashes.

D. Karger et al., "Consistent Hashing and Random Trees" (1997), with 160 points for a member of weight 1 (Finagle's and
Dubbo's number). All points stand in one sorted array, the hash above the member's number: 8 bytes a point, at most
16 MiB. When few members change, the next ring is copied from the last one around their points.
"""

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import chain, groupby
from struct import Struct
from typing import Final, Self

from p2plb.balancing.strategies.hashing import Breath
from p2plb.balancing.strategies.placement import Placement

POINTS: Final = 160
HEAVY: Final = 16.0
"""Up to this weight of the heaviest member there are 160 points for each unit of weight; above, in proportion."""
MOST_POINTS: Final = 1 << 21
"""Above this number of points in all, everybody has half of them, or a quarter…: time and memory are bounded."""
NUMBER_BITS: Final = 20
NUMBER: Final = (1 << NUMBER_BITS) - 1
MOST_MEMBERS: Final = NUMBER + 1
BUCKETS: Final = 256
FEW: Final = 4
"""If at most one member in so many has changed, the next ring is made from the last one."""
_EIGHT: Final = Struct(">8Q")  # one BLAKE2b digest of 64 bytes makes eight points


class Ring(Placement):
    """A ring, and how to make the next one from it."""

    def __init__(
        self, members: Mapping[str, float], names: Sequence[str | None], counts: Mapping[str, int], points: "array[int]"
    ) -> None:
        self.members = members
        self.names = names
        self.counts = counts
        self.points = points

    @classmethod
    def of(cls, members: Mapping[str, float], before: Self | None = None) -> Self:
        """Return the ring for these members; `ValueError` if they are more than a million."""
        if len(members) > MOST_MEMBERS:
            raise ValueError(f"a ring holds at most {MOST_MEMBERS} instances, not {len(members)}: use a Subset")
        counts = _counts(members)
        changed = {} if before is None else dict(before.counts.items() ^ counts.items())
        if before is None or len(changed) * FEW > len(counts):
            points = chain.from_iterable(_points(name, number, counts[name]) for number, name in enumerate(counts))
            return cls(members, tuple(counts), counts, _sorted_in_pieces(points))
        names = _numbered(before.names, counts)
        gone = chain.from_iterable(
            _points(name, number, before.counts[name]) for number, name in _those(before.names, changed)
        )
        new = chain.from_iterable(_points(name, number, counts[name]) for number, name in _those(names, changed))
        return cls(members, names, counts, _merged(before.points, gone, new))

    def owner(self, hashed: int) -> int:
        """Return the number of the first member on the circle from `hashed` on."""
        points = self.points
        at = bisect_left(points, hashed & ~NUMBER)
        if at >= len(points) - 1:
            return next(self.owners(hashed))
        point = points[at]
        if points[at + 1] ^ point <= NUMBER:  # two members at one place
            return next(self.owners(hashed))
        return point & NUMBER

    def owners(self, hashed: int) -> Iterator[int]:
        """Yield all members in the order in which they come on the circle."""
        points, names, seen = self.points, self.names, set[int]()
        size, start = len(points), bisect_left(points, hashed & ~NUMBER)
        around = (points[(start + step) % size] for step in range(size))
        for _, here in groupby(around, lambda point: point >> NUMBER_BITS):
            # Numbers depend on what came before this ring, ids do not.
            for number in sorted((point & NUMBER for point in here), key=lambda number: names[number] or ""):
                if number not in seen:
                    seen.add(number)
                    yield number
            if len(seen) == len(self.members):
                return


def _counts(members: Mapping[str, float]) -> dict[str, int]:
    """Return how many points each member has, at least 1."""
    scale = _scale(members)
    return {name: max(1, round(POINTS * weight / scale)) for name, weight in members.items()}


def _scale(members: Mapping[str, float]) -> float:
    """Return by what points are divided: a power of two, so that it seldom changes."""
    too_heavy = max(members.values()) / HEAVY
    too_many = POINTS * sum(members.values()) / MOST_POINTS
    return float(2.0 ** max(0, math.ceil(math.log2(max(too_heavy, too_many)))))


def _points(name: str, number: int, count: int) -> Iterator[int]:
    """Yield the points of one member."""
    for block in range(-(-count // 8)):
        for point in _EIGHT.unpack(blake2b(f"{name}#{block}".encode()).digest())[: count - block * 8]:
            yield point & ~NUMBER | number


def _those(names: Sequence[str | None], changed: Mapping[str, int]) -> Iterator[tuple[int, str]]:
    for number, name in enumerate(names):
        if name is not None and name in changed:
            yield number, name


def _numbered(before: Sequence[str | None], counts: Mapping[str, int]) -> tuple[str | None, ...]:
    """Return the ids by number: who stays keeps its number, newcomers take free ones first."""
    stay = {name for name in before if name in counts}
    new = iter([name for name in counts if name not in stay])
    kept = [name if name in stay else next(new, None) for name in before]
    return (*kept, *new)


def _sorted_in_pieces(points: Iterable[int]) -> "array[int]":
    """Sort bucket by bucket and let other threads run in between: a big ring must not stall the callers."""
    breathe = Breath()
    buckets = [array("Q") for _ in range(BUCKETS)]
    for count, point in enumerate(points):
        buckets[point >> 56].append(point)
        if not count % POINTS:
            breathe()
    made = array("Q")
    for bucket in buckets:
        made.extend(sorted(bucket))
        breathe()
    return made


def _merged(old: "array[int]", gone: Iterable[int], new: Iterable[int]) -> "array[int]":
    """Return a sorted array without the points that are gone and with the new ones."""
    breathe = Breath()
    made, start = array("Q"), 0
    for point, stays in sorted([*((point, False) for point in gone), *((point, True) for point in new)]):
        end = bisect_left(old, point, start)
        made.extend(old[start:end])
        start = end if stays else end + 1
        if stays:
            made.append(point)
        breathe()
    made.extend(old[start:])
    return made
