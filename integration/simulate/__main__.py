"""Simulate p2plb's strategies and print a table for each situation.

    python -m integration.simulate [situation …] [--calls N] [--only RoundRobin,…] [--seed N] [--plot ramp.svg]

Without situations it simulates all of them, which takes minutes. README.md explains the tables.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial

from integration.simulate import placement, prefix, queues, ramp, subsets
from integration.simulate.contenders import ORACLE, Maker, makers

Report = Callable[..., str]


def situations() -> dict[str, Report]:
    """Return what makes the table of each situation, by name."""
    found: dict[str, Report] = {name: by_name(name) for name in queues.SETTINGS}
    return found | {"ramp": ramp.report, "prefix": prefix.report, "subsets": subsets.report} | placement.REPORTS


def by_name(name: str) -> Report:
    """Return what makes the table of one situation with queues."""
    return lambda makers, **changes: queues.report(name, makers, **changes)


def chosen(only: str | None) -> Mapping[str, Maker]:
    """Return the contenders, all or the oracle and those with these names."""
    found = makers()
    if only is None:
        return found
    return {name: found[name] for name in [ORACLE, *only.split(",")]}


def main() -> int:
    """Print the tables that are asked for."""
    known = situations()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("situations", nargs="*", help=", ".join(known), metavar="situation")
    parser.add_argument("--calls", type=int, help="how many calls (by default what README.md shows)")
    parser.add_argument("--seed", type=int, help="another beginning of chance (1)")
    parser.add_argument("--only", help="names of strategies, with commas")
    parser.add_argument("--plot", metavar="FILE", help="draw the ramp to a file too, .svg or .png")
    arguments = parser.parse_args()
    if unknown := set(arguments.situations).difference(known):
        parser.error(f"no such situation: {', '.join(sorted(unknown))}")
    changes = {name: value for name in ("calls", "seed") if (value := getattr(arguments, name)) is not None}
    known["ramp"] = partial(ramp.report, plot=arguments.plot)
    for name in arguments.situations or known:
        print(known[name](chosen(arguments.only), **changes), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
