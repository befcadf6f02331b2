"""Rendezvous hashing: each member draws a score for the hash, and the highest owns it.

D. Thaler and C. Ravishankar, "A Name-Based Mapping Scheme for Rendezvous" (1996); weights by the logarithm of the
draw, as in J. Schindelhauer and G. Schomaker, "Weighted Distributed Hash Tables" (2005). It asks every member.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import log
from typing import Final, Self

from p2plb.balancing.strategies.hashing import hash_key
from p2plb.balancing.strategies.placement import Placement

_FACTOR: Final = 0xBF58476D1CE4E5B9
_PRIME: Final = (1 << 64) - 59


class Scores(Placement):
    """Members and the seeds of what they draw."""

    def __init__(self, members: Mapping[str, float]) -> None:
        self.members = members
        self.names = tuple(members)
        self._seeds = [hash_key(name) for name in members]
        self._weights = tuple(members.values())
        self._even = len(set(self._weights)) == 1

    @classmethod
    def of(cls, members: Mapping[str, float], before: Self | None = None) -> Self:  # noqa: ARG003  it is quickly made
        """Return the scores for these members."""
        return cls(members)

    def owner(self, hashed: int) -> int:
        """Return the number of the member with the highest score."""
        scores = self._scores(hashed)
        return scores.index(max(scores))

    def owners(self, hashed: int) -> Iterator[int]:
        """Yield all, the highest score first."""
        scores = self._scores(hashed)
        return iter(sorted(range(len(scores)), key=lambda number: -scores[number]))

    def _scores(self, hashed: int) -> Sequence[float]:
        draws = [(hashed ^ seed) * _FACTOR % _PRIME for seed in self._seeds]
        if self._even:
            return draws
        return [-weight / log(((d >> 12) + 0.5) / 2**52) for d, weight in zip(draws, self._weights, strict=True)]
