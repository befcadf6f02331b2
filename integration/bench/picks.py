"""What a pick costs under each strategy, against `next(itertools.count()) % n`, from 10 to 10,000 nodes.

python -m integration.bench.picks [--only PeakEwma,Random] [--picks 20000] [--rounds 7]
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from integration.simulate.contenders import names, strategy
from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.view import Picker, Strategy
from p2plb.instance import Instance

SIZES = (10, 100, 1_000, 10_000)
KEYS = 1_000
BUDGET = 0.1  # seconds of one measurement


def main() -> None:
    """Measure and print a table of ratios, and how long it takes to make the picker of the largest service."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="names of strategies, with commas (all that p2plb exports)")
    parser.add_argument("--picks", type=int, default=20_000, help="picks of one measurement (20,000)")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each, of which the best counts (7)")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else names()
    base = best(turn(), options.picks, options.rounds)
    print(f"next(count) % n: {base * 1e6:.3f} µs; picks cost so many times that\n")
    print(f"{'nodes':<28}" + "".join(f"{size:>9,}" for size in SIZES) + "  10,000/10   new view of 10,000, ms")
    for name in chosen:
        for label, weights in ((name, (1.0,)), (f"{name}, weights", (1.0, 2.0, 3.0))):
            print(row(label, strategy(name), weights, base, options))


def row(label: str, made: Strategy, weights: Sequence[float], base: float, options: argparse.Namespace) -> str:
    """Return one line of the table."""
    found = []
    for size in SIZES:
        some = nodes(size, weights)
        started = time.process_time()
        pick = made(some)
        built = time.process_time() - started
        calls = itertools.cycle([Call("users", key=f"key-{number}") for number in range(KEYS)])
        found.append(best(partial(once, pick, calls), options.picks, options.rounds) / base)
    cells = "".join(f"{one:>9.1f}" for one in found)
    return f"{label:<28}{cells}{found[-1] / found[0]:>11.2f}{built * 1000:>25.1f}"


def once(pick: Picker, calls: Iterator[Call]) -> Node:
    """Pick for the next call."""
    return pick(next(calls))


def nodes(size: int, weights: Sequence[float]) -> list[Node]:
    """Return nodes that have all answered once."""
    made = []
    for number in range(size):
        origin = f"http://10.{number >> 16}.{number >> 8 & 255}.{number & 255}:80"
        node = Node(Instance(f"n{number:05}", "users", origin, weight=weights[number % len(weights)]))
        node.health.sample(0.01, time.monotonic())
        made.append(node)
    return made


def turn() -> Callable[[], int]:
    """Return what picks are measured against."""
    count, size = itertools.count(), 10
    return lambda: next(count) % size


def best(call: Callable[[], object], picks: int, rounds: int) -> float:
    """Return the seconds of one call, the least of several rounds; slow ones are called less often."""
    first = seconds(call, 3)
    picks = max(3, min(picks, int(BUDGET / first))) if first else picks
    return min(seconds(call, picks) for _ in range(rounds))


def seconds(call: Callable[[], object], picks: int) -> float:
    """Return the processor time of one call."""
    started = time.process_time()
    for _ in range(picks):
        call()
    return (time.process_time() - started) / picks


if __name__ == "__main__":
    main()
