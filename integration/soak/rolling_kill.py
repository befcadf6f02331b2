"""GETs over four instances of which one after the other is killed and started again.

    python -m integration.soak.rolling_kill [--count 20000] [--in-flight 16] [--every 0.5]

Prints for sync and async how many calls failed, how many needed a second attempt, and what the journals say. 0 is the
only right number of failed calls and of complaints (F01).
"""

import argparse
import itertools
import sys
import time
from dataclasses import dataclass

from integration.harness import journal
from integration.soak.load import Load
from integration.soak.report import kind, report
from integration.soak.scene import scene

INSTANCES = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it; `complaints` are what the journals have against the client's log."""

    calls: int
    failed: list[str]
    repeated: int
    kills: int
    seconds: float
    complaints: list[str]

    def __str__(self) -> str:
        text = f"{self.calls:,} GETs in {self.seconds:.1f} s, {self.kills} kills: {len(self.failed)} failed, "
        return text + f"{self.repeated} needed a second attempt, {len(self.complaints)} complaints of the journals"


def rolling_kill(*, asynchronous: bool, count: int = 20_000, in_flight: int = 16, every: float = 0.5) -> Outcome:
    """Make `count` calls while one instance is killed and started again, with `every` seconds between."""
    with scene(INSTANCES) as (etcd, servers):
        start, kills = time.monotonic(), 0
        with Load(etcd.registry, asynchronous=asynchronous, in_flight=in_flight, count=count) as load:
            for server in itertools.cycle(servers):
                if not load.runs(every):  # a schedule would kill one right after the other where restarts are slow
                    break
                server.kill9()
                server.restart()
                kills += 1
        seconds = time.monotonic() - start
        log, entries = load.log, journal.read(server.journal for server in servers)
    failed = [f"{answer.id}: {answer.error or answer.status}" for answer in log.failed]
    complaints = journal.complaints(log.answers, entries)
    return Outcome(len(log.answers), failed, len(log.repeated), kills, seconds, complaints)


def main() -> int:
    """Run it both ways and print the figures; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="how many calls (20000)")
    parser.add_argument("--in-flight", type=int, default=16, help="how many at a time (16)")
    parser.add_argument("--every", type=float, default=0.5, help="seconds from one start to the next kill (0.5)")
    options = parser.parse_args()
    outcomes = (
        (asynchronous, rolling_kill(asynchronous=asynchronous, **vars(options))) for asynchronous in (False, True)
    )
    return 1 if sum(report(kind(asynchronous=way), outcome) for way, outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
