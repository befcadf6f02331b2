"""Keys to slots, and how much an instance's claim to a slot counts: the hashes that all processes must agree on.

A slot is one of 4,096 parts of the key space, as in Redis Cluster (which has 16,384). It knows nothing of who is there.
"""

import math
import struct
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final

from p2plb.balancing.strategies.hashing import hash_key

SLOTS: Final = 4096
PER_DIGEST: Final = 8  # one BLAKE2b digest of 64 bytes makes eight scores
_DIGEST: Final = struct.Struct(f">{PER_DIGEST}Q")
_SPARE: Final = 12  # of 64 bits: the other 52 and a half make a float exactly, and never 0 or 1
_UNIT: Final = 2.0 ** (_SPARE - 64)


def slot_of(key: Any) -> int:
    """Return the slot of a key, from 0 to 4095; keys that are equal as text are equal.

    Only what stands between the first `{` and the next `}` counts, if that is anything: `{user-42}.orders` and
    `{user-42}.cart` are in one slot (Redis Cluster's hash tags).
    """
    data = key if isinstance(key, bytes) else str(key).encode("utf-8", "surrogatepass")
    start = data.find(b"{") + 1
    if start and (end := data.find(b"}", start)) > start:
        data = data[start:end]
    return hash_key(data) % SLOTS


def score(instance_id: str, weight: float, slot: int) -> float:
    """Return how much an instance's claim to a slot counts; the highest owns it."""
    block, place = divmod(slot, PER_DIGEST)
    return _scores(instance_id, weight, (block,))[place]


def scores(instance_id: str, weight: float) -> list[float]:
    """Return how much an instance's claims to all slots count, in their order."""
    return _scores(instance_id, weight, range(SLOTS // PER_DIGEST))


def _scores(instance_id: str, weight: float, blocks: Iterable[int]) -> list[float]:
    """Return the scores for eight slots a block: weighted rendezvous, so slots are owned in proportion to weight.

    C. Schindelhauer and G. Schomaker, "Weighted Distributed Hash Tables" (2005), the logarithmic method. Weight 0 (then
    all have it) counts as 1.
    """
    share, log = -(weight or 1.0), math.log
    digests = (blake2b(f"{instance_id}#{block}".encode()).digest() for block in blocks)
    drawn = (word for digest in digests for word in _DIGEST.unpack(digest))
    return [share / log(((word >> _SPARE) + 0.5) * _UNIT) for word in drawn]
