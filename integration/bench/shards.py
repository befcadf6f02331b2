"""What computed shards cost and how even they are: `python -m integration.bench.shards`.

A lookup is given in units of `nodes[next(count) % n]`, measured beside it. Moves are the slots of one newcomer and of
one leaver as parts of a fair share: no others change hands. Times are the processor's. `--keys 1000000` asks instead
whether two processes agree on all owners.
"""

import argparse
import hashlib
import itertools
import os
import subprocess
import sys
import time
import timeit
from collections import Counter
from collections.abc import Callable
from typing import Any

from p2plb import Instance, Snapshot
from p2plb.sharding.shardmap import ShardMap, fill, moved
from p2plb.sharding.slots import SLOTS

COUNTS = (3, 10, 100, 1000)
SEEDS = ("1", "4711")
GROUPED = 100_000


def snapshot(count: int, without: int | None = None) -> Snapshot:
    """Return instances of weight 1, perhaps without one."""
    numbers = (number for number in range(count) if number != without)
    return Snapshot("users", tuple(Instance(f"i{n:05}", "users", f"http://i{n}.example:80") for n in numbers))


def seconds(work: Callable[[], Any]) -> float:
    """Return the processor's seconds for it."""
    started = time.process_time()
    work()
    return time.process_time() - started


def row(count: int) -> str:
    """Return the figures for so many instances."""
    found = fill(snapshot(count))
    filled = seconds(lambda: fill(snapshot(count)))
    more, fewer = fill(snapshot(count + 1), found), fill(snapshot(count, without=0), found)
    join = seconds(lambda: fill(snapshot(count + 1), found))
    leave = seconds(lambda: fill(snapshot(count, without=0), found))
    most = max(Counter(found.owners).values()) / (SLOTS / count)
    joined, left = len(moved(found, more)) / SLOTS * (count + 1), len(moved(found, fewer)) / SLOTS * count
    times = f"{filled * 1e3:9.1f} {join * 1e3:8.1f} {leave * 1e3:8.1f}"
    return f"{count:9,} {most:9.2f} {joined:9.2f} {left:9.2f} {times} {lookup(found, count):8.1f}"


def lookup(found: ShardMap, count: int) -> float:
    """Return what a lookup costs, in units of a pick by turns."""
    turn, nodes = itertools.count(), list(range(count))
    unit = min(timeit.repeat(lambda: nodes[next(turn) % count], number=100_000, repeat=3))
    return min(timeit.repeat(lambda: found.owner("user-42"), number=100_000, repeat=3)) / unit


def owners(keys: int) -> str:
    """Return a digest of who owns each of so many keys."""
    found, digest = fill(snapshot(10)), hashlib.blake2b()
    for number in range(keys):
        digest.update(found.owner(f"user-{number}").id.encode())
    return digest.hexdigest()[:16]


def agree(keys: int) -> None:
    """Have two processes with other hash seeds say who owns what."""
    command = [sys.executable, "-c", f"from integration.bench.shards import owners; print(owners({keys}))"]
    said = [
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in SEEDS
    ]
    print(f"{keys:,} keys, PYTHONHASHSEED {' and '.join(SEEDS)}: {'the same owners' if said[0] == said[1] else said}")


def main() -> None:
    """Print the table, or whether processes agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, help="compare the owners of so many keys in two processes")
    if keys := parser.parse_args().keys:
        agree(keys)
        return
    print("instances  max/mean    joined      left   fill ms  join ms leave ms   lookup")
    for count in COUNTS:
        print(row(count))
    found, many = fill(snapshot(10)), [f"user-{number}" for number in range(GROUPED)]
    print(f"group of {GROUPED:,} keys: {seconds(lambda: found.group(many)):.2f} s")


if __name__ == "__main__":
    main()
