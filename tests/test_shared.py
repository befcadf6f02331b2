"""One registry for each URL in a process: held, counted, kept for a while, closed."""

import os
import threading
from collections.abc import Iterator

import pytest

from p2plb.discovery import shared
from p2plb.discovery.memory import MemoryRegistry
from p2plb.discovery.shared import Table
from p2plb.discovery.snapshot import Snapshot
from p2plb.errors import DiscoveryError
from tests.contract_registry import Heard, instance, until


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(clock: Clock) -> Iterator[Table]:
    table = Table(clock)
    yield table
    table.evict(linger=0.0)
    assert not table._shared, "a test has kept a hold"


def is_closed(hold: shared.Hold) -> bool:
    return not hold.registry.status().connected


def test_the_same_url_is_the_same_registry(table: Table) -> None:
    """Who holds an equal URL gets the same registry, another URL another."""
    first, second = table.hold("etcd://h1:2379,h2"), table.hold("etcd://h2:2379,h1/p2plb")
    other, secret = table.hold("etcd://h1,h2/team"), table.hold("etcd://me:pw@h1,h2")
    assert first.registry is second.registry
    assert len({first.registry, other.registry, secret.registry}) == 3
    for hold in (first, second, other, secret):
        hold.close()


def test_kept_for_a_while_after_the_last_user(table: Table, clock: Clock) -> None:
    """The registry lives while anybody holds it, and for 60 s more; then the next hold closes it."""
    first, second = table.hold("memory://a"), table.hold("memory://a")
    first.close()
    clock.now += 1000
    table.evict()
    assert not is_closed(second), "the second user still holds it"
    second.close()
    clock.now += 59
    again = table.hold("memory://a")
    assert again.registry is first.registry
    again.close()
    clock.now += 61
    fresh = table.hold("memory://a")
    assert fresh.registry is not first.registry
    assert is_closed(first)
    fresh.close()


def test_closing_a_hold_twice_counts_once(table: Table) -> None:
    """F79: `close` is idempotent, so one user never lets go for another."""
    first, second = table.hold("memory://a"), table.hold("memory://a")
    first.close()
    first.close()
    table.evict(linger=0.0)
    assert not is_closed(second)
    second.close()


def test_a_given_registry_is_its_makers(table: Table) -> None:
    """A registry object is passed on and never closed."""
    with MemoryRegistry() as registry:
        hold = table.hold(registry)
        assert hold.registry is registry
        hold.close()
        table.evict(linger=0.0)
        assert registry.status().connected


def test_a_wrong_url_holds_nothing(table: Table) -> None:
    """A wrong URL is a ValueError, and the next hold works."""
    with pytest.raises(ValueError, match="etcd://"):
        table.hold("nonsense")
    table.hold("memory://").close()


def test_the_default_is_shared_with_its_url(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """No URL means the default's, the same registry."""
    monkeypatch.setenv("P2PLB_REGISTRY", "memory://x")
    first, second = table.hold(None), table.hold("memory://x")
    assert first.registry is second.registry
    first.close()
    second.close()


def test_many_threads_hold_one_registry(table: Table) -> None:
    """F62: threads that come at the same moment share, and the count is exact."""
    barrier = threading.Barrier(16)
    holds: list[shared.Hold] = []

    def use() -> None:
        barrier.wait()
        for _ in range(50):
            table.hold("memory://x").close()
        holds.append(table.hold("memory://x"))

    threads = [threading.Thread(target=use) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({hold.registry for hold in holds}) == 1
    (entry,) = table._shared.values()
    assert len(entry.holders) == 16
    for hold in holds:
        hold.close()
    assert not entry.holders


def test_close_unused() -> None:
    """`close_unused` closes at once what nobody holds, and nothing else."""
    used, unused = shared.hold("memory://used"), shared.hold("memory://unused")
    unused.close()
    shared.close_unused()
    assert is_closed(unused)
    assert not is_closed(used)
    with pytest.raises(DiscoveryError):
        unused.registry.watch("users", Heard())
    used.close()


def test_snapshots_stay_between_users(table: Table) -> None:
    """F60: who comes soon after the last user finds the last good snapshot."""
    first = table.hold("memory://x")
    assert isinstance(first.registry, MemoryRegistry)
    first.registry.put(instance())
    watch = first.registry.watch("users", heard := Heard())
    heard.waits_for("a1")
    watch.close()
    first.close()
    second = table.hold("memory://x")
    snapshot = second.registry.snapshot("users")
    assert isinstance(snapshot, Snapshot)
    assert len(snapshot.instances) == 1
    second.close()


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_fork_while_the_table_is_locked() -> None:
    """F59: a child forked while another thread holds the lock can hold and close as usual."""
    inherited = shared.hold("memory://forked")
    locked, leave = threading.Event(), threading.Event()

    def lock() -> None:
        with shared._table._lock:
            locked.set()
            leave.wait(10)

    thread = threading.Thread(target=lock)
    thread.start()
    locked.wait(10)
    child = os.fork()
    if child == 0:
        hold = shared.hold("memory://forked")
        same = hold.registry is inherited.registry
        hold.close()
        inherited.close()
        os._exit(0 if same else 1)
    leave.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    inherited.close()


def test_an_unwatched_etcd_registry_closes_itself(table: Table, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without further holds the watch thread of a registry notices that nobody uses it, and closes it."""
    hold = table.hold("etcd://127.0.0.1:1")
    watcher = hold.registry._watcher  # type: ignore[attr-defined]  # the test shortens its timers
    watcher._timing = watcher._timing.__class__(rest=0.01)
    hold.registry._notifier._linger = 0.0  # type: ignore[attr-defined]  # the same
    hold.registry.watch("users", Heard()).close()
    hold.close()
    clock.now += 61
    until(lambda: not table._shared)
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("p2plb-watch")])
