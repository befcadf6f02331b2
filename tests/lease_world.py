"""Processes that register in an etcd in memory, all in one virtual time: no thread runs, no second passes."""

import random
from collections.abc import Callable

from p2plb.discovery.etcd import records
from p2plb.discovery.etcd.announcement import EtcdAnnouncement
from p2plb.discovery.etcd.driver import DriverError, Unavailable
from p2plb.discovery.etcd.leases import LeaseKeeper
from p2plb.discovery.registry import AnnouncementState
from p2plb.instance import Instance
from p2plb.testing.fake_etcd import FakeEtcd

ROOT = "/p2plb/services/"
KEY = f"{ROOT}users/a".encode()
UP, RETRYING = AnnouncementState.UP, AnnouncementState.RETRYING
WAITING, FAILED, GONE = AnnouncementState.WAITING, AnnouncementState.FAILED, AnnouncementState.GONE
DOWN = Unavailable("etcd is down")


def instance(name: str = "a", port: int = 8001, service: str = "users", weight: float = 1.0) -> Instance:
    return Instance(id=name, service=service, url=f"http://127.0.0.1:{port}", weight=weight)


class World:
    """An etcd in memory and processes that register in it, all in one virtual time."""

    def __init__(self) -> None:
        self.etcd = FakeEtcd()
        self.now = 1000.0
        self.processes: list[Process] = []

    def process(self, seed: int = 1) -> "Process":
        self.processes.append(Process(self, seed))
        return self.processes[-1]

    def run(self, seconds: float) -> None:
        """Let time pass, each process doing what is due when it is due."""
        end = self.now + seconds
        while (when := min((each.work() for each in self.processes), default=end)) <= end:
            self._advance(max(self.now, when))
        self._advance(end)

    def stored(self) -> dict[str, Instance]:
        entries = self.etcd.entries(ROOT.encode())
        found = (records.decode(ROOT, e.key, e.value or b"", loopback=True) for e in entries)
        return {each.id: each for each in found}

    def fail_all(self, error: DriverError) -> None:
        for method in ("grant", "keepalive", "publish", "revoke", "read"):
            self.etcd.fail(method, error, times=None)

    def _advance(self, to: float) -> None:
        if to > self.now:
            self.etcd.advance(to - self.now)
            self.now = to


class Process(LeaseKeeper):
    """A keeper without a thread: `World.run` drives it. A stopped one (SIGSTOP, or dead) does nothing."""

    def __init__(self, world: World, seed: int) -> None:
        super().__init__(world.etcd.driver(), ROOT, clock=lambda: world.now, rng=random.Random(seed))
        self.stopped = False
        self.told: list[AnnouncementState] = []

    def work(self) -> float:
        """Do everything that is due and return when the next step is."""
        while not self.stopped:
            self._work()
            due = self._next()
            if due is None:
                break
            if due[0] > self._clock():
                return due[0]
        return float("inf")

    def register(self, of: Instance, ttl: float = 10, ready: Callable[[], bool] = lambda: True) -> EtcdAnnouncement:
        return self.announce(of, ttl=ttl, ready=ready, on_state=lambda state, _error: self.told.append(state))

    def _ensure_thread(self) -> None:
        pass
