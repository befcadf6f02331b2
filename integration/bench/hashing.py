"""What keyed strategies cost and how even they are: `python -m integration.bench.hashing`.

Shares are exact for the ring and for Maglev, and those of 100,000 hashes for rendezvous; moves are the mean of ten that
leave. A pick is given in units of `nodes[next(count) % n]`, measured beside it. Times are the processor's.
`--keys 1000000` asks instead whether two processes agree on all owners.
"""

import argparse
import hashlib
import itertools
import os
import subprocess
import sys
import time
import timeit
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

from p2plb import Call, ConsistentHash, Instance, Maglev, Node, Picker, Rendezvous, Sticky
from p2plb.balancing.strategies.hashing import scramble
from p2plb.balancing.strategies.keyed import Keyed
from p2plb.balancing.strategies.maglev import SLOTS, Table
from p2plb.balancing.strategies.placement import Placement
from p2plb.balancing.strategies.ring import NUMBER, NUMBER_BITS, Ring

KEYED: tuple[Keyed, ...] = (ConsistentHash(), Maglev(), Rendezvous())
SEEDS = ("1", "4711")
HASHES = 100_000
MOST_SCORES = 1000
"""A pick of rendezvous asks all instances: with more than these it is not measured."""


def members(count: int) -> dict[str, float]:
    """Return instances of weight 1."""
    return {f"instance-{number:05}": 1.0 for number in range(count)}


def nodes(count: int) -> list[Node]:
    """Return their nodes."""
    return [Node(Instance(name, "bench", f"http://{name}.example:80")) for name in members(count)]


def unevenness(placement: Placement) -> float:
    """Return the largest share, divided by the mean."""
    if isinstance(placement, Ring):
        owned = Counter[int]()
        for before, point in itertools.pairwise([placement.points[-1] - (1 << 64), *placement.points]):
            owned[point & NUMBER] += (point >> NUMBER_BITS) - (before >> NUMBER_BITS)
    else:
        hashes = range(SLOTS) if isinstance(placement, Table) else map(scramble, range(HASHES))
        owned = Counter(placement.owner(hashed) for hashed in hashes)
    return max(owned.values()) * len(placement.members) / owned.total()


def moved(strategy: Keyed, count: int) -> float:
    """Return the part of the keys that move when one of `count` leaves, times `count`: the mean of ten leavers."""
    full, hashes = strategy.placement.of(members(count)), [scramble(number) for number in range(HASHES // 10)]
    changed = 0
    for leaver in range(0, count, count // 10):
        rest = members(count)
        del rest[f"instance-{leaver:05}"]
        less = strategy.placement.of(rest, full)
        changed += sum(full.names[full.owner(one)] != less.names[less.owner(one)] for one in hashes)
    return changed * count / (10 * len(hashes))


def microseconds(work: Callable[[], object], times: int = 20_000) -> float:
    """Return how long one call of `work` takes, the best of five rounds."""
    return min(timeit.repeat(work, number=times, repeat=5, timer=time.thread_time)) / times * 1e6


def pick_cost(strategy: Keyed, count: int) -> float:
    """Return what a pick with keys that differ costs, in picks of the plainest round robin."""
    some, turn = nodes(count), itertools.count()
    pick = strategy(some)
    calls = [Call("bench", key=f"user-{number}") for number in range(1000)]
    plain = microseconds(lambda: some[next(turn) % count])
    return microseconds(lambda: pick(calls[next(turn) % 1000]), 5000 if count <= 100 else 1000) / plain


def seconds(build: Callable[[], Placement]) -> tuple[Placement, float]:
    """Return what is built, and the seconds of processor time that this took."""
    started = time.thread_time()
    return build(), time.thread_time() - started


def size(build: Callable[[], Placement]) -> float:
    """Return the MiB that a placement holds."""
    tracemalloc.start()
    kept = [build()]
    held = tracemalloc.get_traced_memory()[0] / 2**20
    tracemalloc.stop()
    return held * len(kept)


def digest(picks: Iterable[Picker], keys: int) -> str:
    """Return one digest of the owners of all keys."""
    told = hashlib.blake2b()
    for pick in picks:
        for number in range(keys):
            told.update(pick(Call("bench", key=f"user-{number}")).id.encode())
    return told.hexdigest()


def agree(keys: int) -> bool:
    """Whether two processes with different PYTHONHASHSEED find the same owners."""
    command = [sys.executable, "-m", "integration.bench.hashing", "--digest", str(keys)]
    runs = [
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True)
        for seed in SEEDS
    ]
    return len({run.stdout for run in runs}) == 1


def table(sizes: list[int]) -> None:
    """Print all figures."""
    for strategy in KEYED:
        share, away = unevenness(strategy.placement.of(members(100))), moved(strategy, 100)
        print(f"{type(strategy).__name__}, 100 instances: largest share {share:.3f}; one leaves: {away:.2f}/n moved")
        for count in sizes:
            if isinstance(strategy, Rendezvous) and count > MOST_SCORES:
                continue
            ratio = pick_cost(strategy, count)
            first, built = seconds(partial(strategy.placement.of, members(count)))
            again = partial(strategy.placement.of, members(count + 1), first)
            joined = seconds(again)[1]
            print(
                f"{count:8} instances: pick {ratio:6.1f}; built in {built:5.3f} s, one more in {joined:5.3f} s", end=""
            )
            print(f"; {size(again):4.1f} MiB", flush=True)


def sessions(count: int = 10, keys: int = 5000) -> str:
    """Return what becomes of sticky sessions when one of `count` instances dies and another one joins."""
    some = nodes(count + 1)
    strategy = Sticky()

    def homes(those: list[Node]) -> list[str]:
        pick = strategy(those)
        return [pick(Call("bench", key=key)).id for key in range(keys)]

    before, joined, died = homes(some[:-1]), homes(some), homes(some[1:])
    heirs = Counter(new for old, new in zip(before, died, strict=True) if old == some[0].id)
    others = sum(old != new for old, new in zip(before, died, strict=True)) - heirs.total()
    uneven = max(heirs.values()) * count / heirs.total()
    moved_by_join = sum(map(str.__ne__, before, joined))
    moves = f"moved when one of {count} joined: {moved_by_join}; when one died, of others: {others}"
    return f"Sticky, sessions {moves}; heirs of its own: max/mean {uneven:.2f}"


def main() -> None:
    """Read the arguments and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--keys", type=int, default=0, help="compare the owners of so many keys in two processes")
    parser.add_argument("--digest", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.digest:
        print(digest([one(nodes(20)) for one in KEYED], arguments.digest))
    elif arguments.keys:
        verdict = "agree" if agree(arguments.keys) else "DIFFER"
        print(f"{arguments.keys} keys, 20 instances, PYTHONHASHSEED {' and '.join(SEEDS)}: the owners {verdict}")
    else:
        table(arguments.sizes)
        print(sessions())


if __name__ == "__main__":
    main()
