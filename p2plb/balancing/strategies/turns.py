"""Turns: the order in which nodes are asked so that each gets its share and none has all of its turns at once.

One cycle of stride scheduling (C. Waldspurger, W. Weihl, "Stride Scheduling", 1995), worked out when the view is made,
so that a pick is one look into a table, whatever the weights and the number of nodes.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Final

from p2plb.balancing.strategies.hashing import Breath

LONGEST: Final = 16_384
"""A cycle is at most this long, or four times the number of nodes if that is more."""
DENOMINATORS: Final = (1, 2, 3, 4, 5, 8, 10, 20, 100, 1000)
"""Weights that are whole numbers of halves, thirds, … thousandths are kept exactly if the cycle is not too long."""
GRAIN: Final = 1e-9  # 1/3 times 3 is 1; in proportion, or a tiny weight would be none
PIECE: Final = 256
MOMENTS: Final = 32  # bits of the place in the cycle
INDEXES: Final = 28  # bits of the index
MASK: Final = (1 << INDEXES) - 1


def cycle(weights: Sequence[float]) -> Sequence[int]:
    """Return the indexes of the weights in turn: each as often as its weight says, spread over the whole.

    Nothing is lost if the weights have a common measure and the cycle is at most `LONGEST`; else shares are rounded to
    that length, but none above 0 to nothing. If all weights are 0, they count as equal.
    """
    turns = counts(weights)
    return range(len(weights)) if set(turns) == {1} else tuple(_spread(turns))


def counts(weights: Sequence[float]) -> list[int]:
    """Return how many turns of a cycle each weight has."""
    if not any(weights) or min(weights) == max(weights):
        return [1] * len(weights)
    longest = max(LONGEST, 4 * len(weights))
    for denominator in DENOMINATORS:
        scaled = [weight * denominator for weight in weights]
        if all(abs(one - round(one)) <= GRAIN * one for one in scaled):
            whole = [round(one) for one in scaled]
            measure = math.gcd(*whole)
            if sum(whole) <= longest * measure:
                return [one // measure for one in whole]
    scale = longest / sum(weights)
    return [max(1, round(weight * scale)) if weight else 0 for weight in weights]


def _spread(turns: Sequence[int]) -> Iterator[int]:
    """Yield indexes by when their turns come, sorted in small pieces: other threads must not wait for one long sort."""
    pieces: list[list[int]] = [[] for _ in range(sum(turns) // PIECE + 1)]
    size = -(-(1 << MOMENTS) // len(pieces))
    breathe = Breath()
    for index, count in enumerate(turns):
        for number in range(count):
            moment = ((2 * number + 1) << MOMENTS) // (2 * count)
            pieces[moment // size].append(moment << INDEXES | index)  # an integer sorts faster than a pair
        breathe()
    for piece in pieces:
        piece.sort()
        yield from (one & MASK for one in piece)
        breathe()
