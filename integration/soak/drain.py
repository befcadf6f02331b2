"""POSTs over three instances of which one after the other is drained with SIGTERM and started again.

    python -m integration.soak.drain [--drains 10] [--in-flight 8]

Prints how many calls failed and how many were executed twice, by the journals of the instances (F02): 0 and 0.
"""

import argparse
import itertools
import sys
from dataclasses import dataclass

from integration.harness import journal
from integration.soak.load import Load
from integration.soak.report import kind, report
from integration.soak.scene import await_up, scene

INSTANCES = 3
WORK = 0.02
"""Seconds that an instance takes to answer, so that calls are under way when it is told to leave."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it; `statuses` are the exit statuses of the drained instances."""

    calls: int
    failed: list[str]
    complaints: list[str]
    statuses: list[int]

    def __str__(self) -> str:
        text = f"{self.calls:,} POSTs, {len(self.statuses)} drains: {len(self.failed)} failed, "
        return text + f"{len(self.complaints)} executed twice, exit statuses {sorted(set(self.statuses))}"


def drain(*, asynchronous: bool, drains: int = 10, in_flight: int = 8) -> Outcome:
    """Drain and restart one instance after the other under POST load."""
    statuses = []
    with scene(INSTANCES) as (etcd, servers):
        for server in servers:
            server.switch("slow", seconds=WORK)
        with Load(etcd.registry, asynchronous=asynchronous, in_flight=in_flight, method="POST") as load:
            for server in itertools.islice(itertools.cycle(servers), drains):
                load.runs(0.3)
                statuses.append(server.term())
                server.restart()
                server.switch("slow", seconds=WORK)
                await_up(etcd, [server])
        log, entries = load.log, journal.read(server.journal for server in servers)
    failed = [f"{answer.id}: {answer.error or answer.status}" for answer in log.failed]
    return Outcome(len(log.answers), failed, journal.complaints(log.answers, entries), statuses)


def main() -> int:
    """Run it both ways and print the figures; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drains", type=int, default=10, help="how many instances are drained (10)")
    parser.add_argument("--in-flight", type=int, default=8, help="how many calls at a time (8)")
    options = parser.parse_args()
    outcomes = ((asynchronous, drain(asynchronous=asynchronous, **vars(options))) for asynchronous in (False, True))
    return 1 if sum(report(kind(asynchronous=way), outcome) for way, outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
