"""The registry while a real etcd is killed, frozen, wiped, compacted, cut off, and loses its leader or its quorum.

The timers are short; what must hold is the order of events: the last good list stands, and it is right again soon after
etcd is back.
"""

import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import NoReturn

import pytest

from integration.harness.etcd import Etcd, cluster, single
from integration.harness.proxy import FaultProxy
from p2plb.discovery.etcd import records
from p2plb.discovery.etcd.gateway import Gateway
from p2plb.discovery.etcd.registry import EtcdRegistry
from p2plb.discovery.ghosts import MassLoss
from p2plb.discovery.plan import Timing
from p2plb.discovery.snapshot import Snapshot
from tests.contract_registry import Heard, instance, until

LONG = 30.0  # what a loaded machine may take
QUICK = Timing(read=1.0, open=1.0, idle=(0.3, 0.5), first_retry=0.1, last_retry=0.2, loss=MassLoss(keep=20.0))


def put(etcd: Etcd, number: int, prefix: str = records.PREFIX) -> None:
    record = instance(f"a{number}")
    key = records.key(records.services_root(prefix), "users", record.id)
    etcd.put(key.decode(), records.encode(record).decode())


def remove(etcd: Etcd, number: int) -> None:
    etcd.delete_prefix(records.key(records.services_root(), "users", f"a{number}").decode())


def registry(*urls: str, timing: Timing = QUICK, prefix: str = records.PREFIX) -> EtcdRegistry:
    return EtcdRegistry(Gateway(urls), prefix=prefix, timing=timing)


@contextmanager
def watching(*urls: str, timing: Timing = QUICK) -> Iterator[tuple[EtcdRegistry, Heard]]:
    """Watch `users` through a registry of our own."""
    with registry(*urls, timing=timing) as ours:
        ours.watch("users", heard := Heard())
        yield ours, heard


@pytest.fixture
def own() -> Iterator[Etcd]:
    """Run an etcd that the test may break."""
    with single() as node:
        yield node


def connected(ours: EtcdRegistry) -> None:
    until(lambda: ours.status().connected, LONG)


def disconnected(ours: EtcdRegistry) -> None:
    until(lambda: not ours.status().connected, LONG)


def hears(heard: Heard, *ids: str) -> None:
    until(lambda: heard.ids == list(ids), LONG)


def test_killed_and_restarted_with_its_data(own: Etcd) -> None:
    """F28, F31: no etcd at the start, then one, then it is killed and comes back: the list stands, then goes on."""
    own.kill9()
    with watching(own.url) as (ours, heard):
        until(lambda: ours.status().error, LONG)
        assert heard.snapshots == []
        own.restart()
        hears(heard)
        put(own, 1)
        hears(heard, "a1")
        own.kill9()
        disconnected(ours)
        assert heard.ids == ["a1"]
        told = len(heard.snapshots)
        own.restart()
        connected(ours)
        assert len(heard.snapshots) == told, "nothing has changed, so nothing is told"
        put(own, 2)
        hears(heard, "a1", "a2")


def test_wiped_while_instances_live(own: Etcd) -> None:
    """F32: a wiped etcd never empties the list; the instances register again, and no ghost remains."""
    timing = Timing(idle=(0.3, 0.5), first_retry=0.1, last_retry=0.2, loss=MassLoss(keep=60.0))
    with registry(own.url) as theirs, watching(own.url, timing=timing) as (ours, heard):
        for number in (1, 2, 3, 4):
            theirs.announce(instance(f"a{number}"), ttl=3)
        hears(heard, "a1", "a2", "a3", "a4")
        own.wipe()
        until(lambda: [len(snapshot.instances) for snapshot in theirs.list()] == [4], LONG)
        connected(ours)
        until(lambda: heard.ids == ["a1", "a2", "a3", "a4"] and not heard.snapshots[-1].ghosts, LONG)
        full = [snapshot for snapshot in heard.snapshots if len(snapshot.instances) == 4]
        after = heard.snapshots[heard.snapshots.index(full[0]) :]
        assert all(len(snapshot.instances) == 4 for snapshot in after)


def test_wiped_and_nobody_returns(own: Etcd) -> None:
    """F32: ghosts age out."""
    timing = Timing(idle=(0.3, 0.5), first_retry=0.1, last_retry=0.2, loss=MassLoss(keep=1.5))
    for number in (1, 2, 3):
        put(own, number)
    with watching(own.url, timing=timing) as (_, heard):
        hears(heard, "a1", "a2", "a3")
        own.wipe()
        until(lambda: heard.snapshots[-1].ghosts == {"a1", "a2", "a3"}, LONG)
        hears(heard)


def test_compacted_while_away_and_while_live(own: Etcd) -> None:
    """F35: history that is gone costs a list, not the watch, and tells listeners only what has changed."""
    put(own, 1)
    with FaultProxy(own.port) as proxy, watching(proxy.url) as (ours, heard):
        hears(heard, "a1")
        proxy.refuse()
        disconnected(ours)
        put(own, 2)
        remove(own, 1)
        own.compact()
        proxy.pass_through()
        hears(heard, "a2")
        own.put("/elsewhere")
        own.compact()
        time.sleep(3 * QUICK.idle[1])  # some rotations, the first of which meets the compaction
        put(own, 3)
        hears(heard, "a2", "a3")
        assert [len(snapshot.instances) for snapshot in heard.snapshots] == [1, 1, 2]


def test_frozen(own: Etcd) -> None:
    """F40: an etcd that is stopped in its tracks is noticed; the list stands, and is right when it goes on."""
    put(own, 1)
    with watching(own.url) as (ours, heard):
        hears(heard, "a1")
        own.freeze()
        try:
            disconnected(ours)
            assert heard.ids == ["a1"]
            age = ours.age("users") or 0.0
            until(lambda: (ours.age("users") or 0.0) > age)
        finally:
            own.thaw()
        put(own, 2)
        hears(heard, "a1", "a2")
        connected(ours)


def test_blackholed(own: Etcd) -> None:
    """F26, F40: a network that swallows everything in silence is noticed by the rotation."""
    put(own, 1)
    with FaultProxy(own.port) as proxy, watching(proxy.url) as (ours, heard):
        hears(heard, "a1")
        connected(ours)
        proxy.blackhole()
        put(own, 2)
        disconnected(ours)
        assert heard.ids == ["a1"]
        proxy.pass_through()
        hears(heard, "a1", "a2")


def test_close_while_frozen(own: Etcd) -> None:
    """F79: `close` does not wait for an etcd that never answers."""
    with watching(own.url) as (ours, heard):
        hears(heard)
        own.freeze()
        try:
            disconnected(ours)
            start = time.monotonic()
            ours.close()
            assert time.monotonic() - start < 3.0, "0.02 s where nothing else runs"
            until(lambda: not [each for each in threading.enumerate() if each.name.startswith("p2plb-watch")], 3.0)
        finally:
            own.thaw()


def test_deleted_by_an_operator_while_the_lease_lives(own: Etcd) -> None:
    """F36, F53: whoever deletes everything leaves ghosts, until the instances have put their records back."""
    with registry(own.url) as theirs, watching(own.url) as (_, heard):
        for number in (1, 2, 3):
            theirs.announce(instance(f"a{number}"), ttl=2)
        hears(heard, "a1", "a2", "a3")
        own.delete_prefix("/p2plb/")
        until(lambda: heard.snapshots[-1].ghosts, LONG)
        until(lambda: not heard.snapshots[-1].ghosts, LONG)
        assert heard.ids == ["a1", "a2", "a3"]
        full = next(place for place, snapshot in enumerate(heard.snapshots) if len(snapshot.instances) == 3)
        assert all(len(snapshot.instances) == 3 for snapshot in heard.snapshots[full:])


def test_nonsense_in_etcd(own: Etcd) -> None:
    """F46, F48: nonsense written by anybody is counted and hides nobody."""
    with watching(own.url) as (ours, heard):
        hears(heard)
        for key, value in (("users/a7", "{"), ("users/../a8", "{}"), ("users/a9", "[" * 5000), ("users//", "")):
            own.put(f"/p2plb/services/{key}", value)
        put(own, 1)
        hears(heard, "a1")
        assert ours.status().skipped == 4
        own.delete_prefix("/p2plb/services/users/a")
        hears(heard)
        assert ours.status().skipped == 2


def test_refused_and_let_in_again(own: Etcd) -> None:
    """F44, F45: authentication that is switched on refuses us, the list stands; switched off, all goes on."""
    put(own, 1)
    timing = Timing(idle=(0.3, 0.5), first_retry=0.1, last_retry=0.2, denied=0.3)
    with watching(own.url, timing=timing) as (ours, heard):
        hears(heard, "a1")
        own.lock("hunter2")
        disconnected(ours)
        assert heard.ids == ["a1"]
        put(own, 2)
        own.unlock()
        hears(heard, "a1", "a2")


def test_the_leader_dies_and_then_the_quorum() -> None:
    """F37, F38: with a new leader all goes on; without a quorum the list stands; with it again, it goes on."""
    with cluster() as three, registry(*three.urls) as theirs, watching(*three.urls) as (ours, heard):
        theirs.announce(instance("a1"), ttl=60)
        hears(heard, "a1")
        leader = three.leader()
        leader.kill9()
        theirs.announce(instance("a2"), ttl=60)
        hears(heard, "a1", "a2")
        second, living = (node for node in three.nodes if node is not leader)
        second.kill9()
        disconnected(ours)
        assert heard.ids == ["a1", "a2"]
        second.start()
        living.wait_ready()
        put(living, 3)
        hears(heard, "a1", "a2", "a3")
        shown = [len(snapshot.instances) for snapshot in heard.snapshots]
        assert shown == sorted(shown), "never fewer"


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_fork(etcd: Etcd, prefix: str) -> None:
    """F58: a child watches and lists through connections of its own, and takes nothing from its parent."""
    with registry(etcd.url, prefix=prefix) as ours:
        ours.watch("users", heard := Heard())
        announcement = ours.announce(instance("a1"), ttl=60)
        hears(heard, "a1")
        child = os.fork()
        if child == 0:
            _in_child(ours)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        put(etcd, 2, prefix)
        hears(heard, "a1", "a2")
        assert ours.status().connected
        assert [len(snapshot.instances) for snapshot in ours.list()] == [2], "the child has withdrawn nothing"
        announcement.withdraw(LONG)


def _in_child(ours: EtcdRegistry) -> NoReturn:
    code = 1
    try:
        assert ours.snapshot("users") is not None
        assert not [each for each in threading.enumerate() if each.name.startswith("p2plb")]
        ours.watch("users", heard := Heard())
        hears(heard, "a1")
        assert len(ours.list()) == 1
        connected(ours)
        ours.close()
        code = 0
    finally:
        os._exit(code)


def test_many_services_on_one_stream(etcd: Etcd, prefix: str) -> None:
    """F40: a stream for many services opens each time, though etcd's gateway loses parts of long requests."""
    timing = Timing(open=1.0, idle=(0.02, 0.03), gap=0.0)
    errors: set[str | None] = set()
    with registry(etcd.url, timing=timing, prefix=prefix) as ours:
        heard = [Heard() for _ in range(30)]
        for number, listener in enumerate(heard):
            ours.watch(f"service{number}", listener)
        over = time.monotonic() + 2.5
        while time.monotonic() < over:
            errors.add(ours.status().error)
            time.sleep(0.01)
        assert errors == {None}, "some sixty openings"
        for number in range(30):
            record = instance("a1", service=f"service{number}")
            key = records.key(records.services_root(prefix), record.service, record.id)
            etcd.put(key.decode(), records.encode(record).decode())
        for listener in heard:
            hears(listener, "a1")


def test_put_to_listener(etcd: Etcd, prefix: str) -> None:
    """From etcd's answer to a put until the listener has heard it: a few milliseconds."""
    times: dict[int, float] = {}

    def listener(snapshot: Snapshot) -> None:
        times[len(snapshot.instances)] = time.monotonic()

    with registry(etcd.url, timing=Timing(), prefix=prefix) as ours:
        ours.watch("users", listener)
        connected(ours)
        delays = []
        for number in range(1, 31):
            put(etcd, number, prefix)
            answered = time.monotonic()
            until(partial(times.__contains__, number))
            delays.append(times[number] - answered)
    assert statistics.median(delays) < 0.05, "1 ms where nothing else runs"
