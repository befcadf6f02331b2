"""The thread of the keeper: it starts late, ends early, and no one waits for it longer than they said."""

import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from p2plb.discovery.etcd.leases import LeaseKeeper
from p2plb.discovery.registry import AnnouncementState
from p2plb.errors import DiscoveryError
from p2plb.testing.fake_etcd import FakeEtcd
from tests.lease_world import FAILED, GONE, ROOT, UP, WAITING, instance

PATIENCE = 20.0


@pytest.fixture(name="etcd")
def _etcd() -> FakeEtcd:
    return FakeEtcd()


@pytest.fixture(name="keeper")
def _keeper(etcd: FakeEtcd) -> Iterator[LeaseKeeper]:
    keeper = LeaseKeeper(etcd.driver(), ROOT)
    yield keeper
    keeper.close()


class States:
    """What a listener was told, and a way to wait for it."""

    def __init__(self) -> None:
        self.told: list[AnnouncementState] = []
        self._changed = threading.Condition()

    def __call__(self, state: AnnouncementState, error: Exception | None) -> None:
        with self._changed:
            self.told.append(state)
            self._changed.notify_all()

    def wait_for(self, state: AnnouncementState) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: state in self.told, PATIENCE), self.told


class HeldUp:
    """A readiness check that holds up the thread until it is told to go on."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> bool:
        self.begun.set()
        return self.go_on.wait(PATIENCE)


def lease_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("p2plb-lease")]


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_the_thread_runs_only_while_something_is_announced(etcd: FakeEtcd, keeper: LeaseKeeper) -> None:
    """No thread before the first announcement, one for all of them, none after the last."""
    assert not lease_threads()
    states = States()
    announced = [keeper.announce(instance(n), ttl=10, ready=lambda: True, on_state=states) for n in ("a", "b")]
    assert lease_threads() == ["p2plb-lease fake://etcd"]
    assert eventually(lambda: [each.state for each in announced] == [UP, UP])
    for each in announced:
        each.withdraw(PATIENCE)
        each.withdraw(PATIENCE)
        assert each.state is GONE
    assert eventually(lambda: not lease_threads())
    assert not etcd.entries()
    again = keeper.announce(instance("a"), ttl=10, ready=lambda: True, on_state=states)
    assert eventually(lambda: again.state is UP)


def test_withdrawing_waits_no_longer_than_told(etcd: FakeEtcd, keeper: LeaseKeeper) -> None:
    """F55: while the thread is held up, leaving returns when its time is up and is completed later."""
    step = HeldUp()
    announced = keeper.announce(instance("a"), ttl=10, ready=step, on_state=lambda _state, _error: None)
    assert step.begun.wait(PATIENCE)
    started = time.monotonic()
    announced.withdraw(0.05)
    assert time.monotonic() - started < PATIENCE / 2
    assert announced.state is WAITING
    step.go_on.set()
    assert eventually(lambda: announced.state is GONE)


def test_closing_withdraws_and_closes_for_good(etcd: FakeEtcd, keeper: LeaseKeeper) -> None:
    """F79: closing twice is fine; what is announced goes, and nothing can be announced after it."""
    states = States()
    announced = keeper.announce(instance(), ttl=10, ready=lambda: True, on_state=states)
    states.wait_for(UP)
    keeper.close()
    keeper.close()
    assert announced.state is GONE
    assert not etcd.entries()
    with pytest.raises(DiscoveryError, match="fake://etcd is closed"):
        keeper.announce(instance(), ttl=10, ready=lambda: True, on_state=states)


def test_closing_ends_even_if_the_thread_is_held_up(etcd: FakeEtcd, keeper: LeaseKeeper) -> None:
    """F79: close returns within a second though a step is still under way."""
    step = HeldUp()
    announced = keeper.announce(instance("a"), ttl=10, ready=step, on_state=lambda _state, _error: None)
    assert step.begun.wait(PATIENCE)
    keeper.close()
    assert announced.state is GONE
    step.go_on.set()
    assert eventually(lambda: not lease_threads())


def test_a_closed_driver_ends_the_thread(etcd: FakeEtcd) -> None:
    """Whoever closes the driver first loses no thread."""
    driver = etcd.driver()
    keeper = LeaseKeeper(driver, ROOT)
    states = States()
    announced = keeper.announce(instance(), ttl=2, ready=lambda: True, on_state=states)
    states.wait_for(UP)
    driver.close()
    assert eventually(lambda: not lease_threads())
    assert announced.state is GONE


def test_what_users_callables_raise_is_logged_and_nothing_else(
    keeper: LeaseKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    """F82: a readiness check that raises is a no, told once; a listener that raises disturbs nobody."""
    outcomes = iter([OSError("not yet"), OSError("not yet")])

    def ready() -> bool:
        for outcome in outcomes:
            raise outcome
        return True

    def listen(state: AnnouncementState, error: Exception | None) -> None:
        raise ValueError("listener")

    announced = keeper.announce(instance(), ttl=10, ready=ready, on_state=listen)
    assert eventually(lambda: announced.state is UP)
    assert eventually(lambda: "a listener to the state of users/a (http://127.0.0.1:8001) failed" in caplog.text)
    assert caplog.messages.count("asking whether users/a (http://127.0.0.1:8001) is ready failed") == 1


def test_a_defect_of_a_driver_is_an_outage(
    etcd: FakeEtcd, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception that no driver may raise is logged with its traceback and the step repeated."""
    driver = etcd.driver()
    grant = driver.grant
    defects = iter([KeyError("ID"), KeyError("ID")])

    def defective(lease: int, ttl: int, *, timeout: float) -> int:
        for defect in defects:
            raise defect
        return grant(lease, ttl, timeout=timeout)

    monkeypatch.setattr(driver, "grant", defective)
    keeper = LeaseKeeper(driver, ROOT)
    announced = keeper.announce(instance(), ttl=3, ready=lambda: True, on_state=lambda _state, _error: None)
    assert eventually(lambda: announced.state is UP)
    keeper.close()
    assert caplog.messages.count("unexpected error of the driver for fake://etcd") == 1


def test_the_happy_path_logs_nothing(keeper: LeaseKeeper, caplog: pytest.LogCaptureFixture) -> None:
    """Registering and leaving are no news to an operator."""
    caplog.set_level(logging.INFO)
    states = States()
    announced = keeper.announce(instance(), ttl=10, ready=lambda: True, on_state=states)
    states.wait_for(UP)
    announced.withdraw(PATIENCE)
    assert states.told == [UP, GONE]
    assert not caplog.records


def test_impossible_announcements_are_refused_at_once(keeper: LeaseKeeper) -> None:
    """A TTL below etcd's least, or metadata that can't be stored, is the caller's mistake."""
    with pytest.raises(ValueError, match="ttl is at least 2 seconds, not 1"):
        keeper.announce(instance(), ttl=1, ready=lambda: True, on_state=lambda _state, _error: None)


def test_an_interpreter_that_ends_is_an_error_of_discovery(
    keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F78: a thread that can't be started any more is told as what it is."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(DiscoveryError, match="the thread p2plb-lease fake://etcd can't be started"):
        keeper.announce(instance(), ttl=10, ready=lambda: True, on_state=lambda _state, _error: None)
    assert FAILED not in [each.state for each in keeper._announcements.values()]
