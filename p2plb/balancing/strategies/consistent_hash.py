"""Consistent hashing: equal keys go to the same node, and few keys move when nodes come and go.

D. Karger et al., "Consistent Hashing and Random Trees" (1997), as a ring with 160 points for a node of weight 1
(Finagle's and Dubbo's number). The hash is BLAKE2b: the same in every process, whatever PYTHONHASHSEED.
"""

import math
import random
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.keys import Key
from p2plb.balancing.view import Picker

POINTS: Final = 160
HEAVY: Final = 16.0
"""Up to this weight of the heaviest node a node has 160 points for each unit; above, all have proportionally fewer."""
PER_DIGEST: Final = 8  # one BLAKE2b digest of 64 bytes makes eight points
INDEX_BITS: Final = 20
INDEX_MASK: Final = (1 << INDEX_BITS) - 1
BUCKETS: Final = 256
WORK: Final = 0.001


def _no_key(_request: Any) -> None:
    return None


@dataclass(frozen=True)
class ConsistentHash:
    """Equal keys to the same node: the key is `call(key=…)`, else what `key(request)` returns.

    Without a key the node is random (as gRPC's A42). Nodes own keys by their id, not their address, in proportion to
    their weight. If the owner is to be avoided, the next node on the ring is asked.
    """

    key: Key = field(default=_no_key)

    def __post_init__(self) -> None:
        if not callable(self.key):
            raise TypeError(f"ConsistentHash(key=) is a function such as p2plb.header('x-customer'), not {self.key!r}")

    def __call__(self, nodes: Sequence[Node]) -> Picker:
        """Return the picker for these nodes."""
        ring = Ring(nodes)

        def pick(call: Call) -> Node:
            key = call.key
            if key is None and call.request is not None:  # `pick` makes a call without a request
                key = self.key(call.request)
            if key is None:
                return random.choice(nodes)
            owners = ring.owners(hash_key(key))
            first = next(owners)
            if first not in call.avoid:
                return first
            return next((node for node in owners if node not in call.avoid), first)

        return pick


def hash_key(key: Any) -> int:
    """Return the 64-bit hash of a key, the same in every process; keys that are equal as text are equal."""
    data = key if isinstance(key, bytes) else str(key).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


class Ring:
    """Points of all nodes on a circle, as one sorted array of integers: hash above index of the node."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._points = array("Q", _sorted_in_pieces(nodes))

    def owners(self, hashed: int) -> Iterator[Node]:
        """Yield the nodes in the order in which they come on the circle after `hashed`, each once."""
        points, seen = self._points, set[int]()
        start = bisect_left(points, hashed & ~INDEX_MASK)
        for step in range(len(points)):
            index = points[(start + step) % len(points)] & INDEX_MASK
            if index not in seen:
                seen.add(index)
                yield self._nodes[index]
                if len(seen) == len(self._nodes):
                    return


def _sorted_in_pieces(nodes: Sequence[Node]) -> Iterator[int]:
    """Sort bucket by bucket and let other threads run in between: a big ring must not stall the callers."""
    breathe = _Breath()
    scale = _scale(max(node.weight for node in nodes))
    buckets: list[list[int]] = [[] for _ in range(BUCKETS)]
    for index, node in enumerate(nodes):
        for point in _points(node.id, _count(node.weight, scale)):
            buckets[point >> 56].append(point & ~INDEX_MASK | index)
        breathe()
    for bucket in buckets:
        bucket.sort()
        yield from bucket
        breathe()


class _Breath:
    """Lets other threads run once this one has worked for a millisecond: each time costs it 5 ms if they are busy."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._since > WORK:
            time.sleep(0)
            self._since = time.monotonic()


def _scale(heaviest: float) -> float:
    """Return by what points are divided, a power of two so that it seldom changes: heavy weights mean proportions."""
    return 2.0 ** max(0, math.ceil(math.log2(heaviest / HEAVY))) if heaviest > HEAVY else 1.0


def _count(weight: float, scale: float) -> int:
    """Return how many points a weight has; weight 0 (then all have it) counts as 1."""
    return max(1, round(POINTS * (weight or 1.0) / scale))


def _points(node_id: str, count: int) -> Iterator[int]:
    for number in range(-(-count // PER_DIGEST)):
        digest = blake2b(f"{node_id}#{number}".encode()).digest()
        for start in range(0, min(PER_DIGEST, count - number * PER_DIGEST) * 8, 8):
            yield int.from_bytes(digest[start : start + 8], "big")
