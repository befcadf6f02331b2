"""Calls while etcd is away: frozen (SIGSTOP), then killed and started again with its data.

    python -m integration.soak.etcd_outage [--seconds 60] [--in-flight 4]

Prints how many calls failed (0: callers keep the last good list) and how long after etcd's return a record that was
put right then could be picked (under 2 s), for each way and for sync and async (F26, F30, F31).
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from integration.harness.etcd import Etcd, single
from integration.harness.records import Arrivals, closing_registries, writer
from integration.harness.servers import running
from integration.soak.load import SERVICE, Load
from integration.soak.report import kind, report
from p2plb.instance import Instance

FRESH_WITHIN = 2.0
PATIENCE = 60.0
PAUSE = 0.01
"""Seconds between two calls of a worker: a minute of load need not be a minute of stress."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it; `fresh` is in seconds after etcd's answer to the put."""

    calls: int
    failed: list[str]
    fresh: float

    @property
    def complaints(self) -> list[str]:
        """Return that the client was late, if it was."""
        return [f"fresh only after {self.fresh:.2f} s"] if self.fresh > FRESH_WITHIN else []

    def __str__(self) -> str:
        return f"{self.calls:,} GETs: {len(self.failed)} failed, fresh {self.fresh:.2f} s after the return"


def etcd_outage(how: str, *, asynchronous: bool, seconds: float = 60.0, in_flight: int = 4) -> Outcome:
    """Take etcd away for `seconds` under load; `how` is "stop" or "kill"."""
    arrivals = Arrivals()
    with (
        single(()) as etcd,
        closing_registries(),
        writer(etcd.url) as out,
        running(3, service=SERVICE) as (*servers, spare),
    ):
        for server in servers:
            out.put(server.instance)
        with Load(
            etcd.registry, asynchronous=asynchronous, in_flight=in_flight, pause=PAUSE, observers=[arrivals]
        ) as load:
            arrivals.wait(servers[0].name, PATIENCE)
            with away(etcd, how):
                load.runs(seconds)
            returned = out.put(Instance(id="spare", service=SERVICE, url=spare.url))
            fresh = arrivals.wait("spare", PATIENCE) - returned
            load.runs(0.2)
    failed = [f"{answer.id}: {answer.error or answer.status}" for answer in load.log.failed]
    return Outcome(len(load.log.answers), failed, max(fresh, 0.0))


@contextmanager
def away(etcd: Etcd, how: str) -> Iterator[None]:
    """Freeze or kill etcd for as long as the block runs."""
    (etcd.freeze if how == "stop" else etcd.kill9)()
    yield
    (etcd.thaw if how == "stop" else etcd.restart)()


def main() -> int:
    """Run it each way and print the figures; 1 if a call failed or the client was late."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long etcd is away (60)")
    parser.add_argument("--in-flight", type=int, default=4, help="how many calls at a time (4)")
    options = parser.parse_args()
    wrong = 0
    for how, asynchronous in itertools.product(("stop", "kill"), (False, True)):
        what = f"etcd {'frozen' if how == 'stop' else 'killed'} for {options.seconds:g} s"
        outcome = etcd_outage(how, asynchronous=asynchronous, **vars(options))
        wrong += report(f"{what}, {kind(asynchronous=asynchronous)}", outcome)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
