"""The one hash of all placements, and how long work on them lets other threads run.

BLAKE2b from hashlib (RFC 7693): it is the same on each machine and in each process, whatever PYTHONHASHSEED, for all
time, and needs no package. xxHash takes 0.4 µs less a call, which is a thousandth of what a call costs.
"""

import time
from hashlib import blake2b
from typing import Any, Final

BITS64: Final = (1 << 64) - 1
GOLDEN: Final = 0x9E3779B97F4A7C15
WORK: Final = 0.001


def hash_key(key: Any) -> int:
    """Return the 64-bit hash of a key, the same in every process; keys that are equal as text are equal."""
    data = key if isinstance(key, bytes) else str(key).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def scramble(number: int) -> int:
    """Return another 64-bit number for each one, as if drawn: a step of SplitMix64 (Steele, Lea, Flood 2014)."""
    number = (number + GOLDEN) & BITS64
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & BITS64
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & BITS64
    return number ^ (number >> 31)


class Breath:
    """Lets other threads run once this one has worked for a millisecond: each time costs it 5 ms if they are busy."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def __call__(self) -> None:
        """Let others run if it is time."""
        if time.monotonic() - self._since > WORK:
            time.sleep(0)
            self._since = time.monotonic()
