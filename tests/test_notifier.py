"""The notifier by itself: who is told what, and what is remembered of services that nobody watches."""

import threading
from collections.abc import Iterator

import pytest

from p2plb.discovery.notifier import MAX_LINGERING, MAX_RESTING, Notifier
from p2plb.discovery.snapshot import Snapshot
from p2plb.errors import DiscoveryError
from tests.contract_registry import PATIENCE, Heard, instance, until
from tests.fakes import Clock


@pytest.fixture
def notifier() -> Iterator[Notifier]:
    notifier = Notifier("test")
    yield notifier
    notifier.close()


def test_what_piled_up_is_not_told_after_close(notifier: Notifier) -> None:
    """F79: a listener that is closed while its snapshot waits behind a slow one hears nothing any more."""
    entered, leave = threading.Event(), threading.Event()

    def slow(_snapshot: Snapshot) -> None:
        entered.set()
        leave.wait(PATIENCE)

    notifier.subscribe("users", slow)
    notifier.publish(Snapshot("users", ()))
    assert entered.wait(PATIENCE)
    notifier.publish(Snapshot("orders", ()))
    closed = notifier.subscribe("orders", silent := Heard())
    notifier.subscribe("orders", heard := Heard())
    closed.close()
    leave.set()
    until(lambda: heard.snapshots)
    assert silent.snapshots == []


def test_services_at_rest_are_bounded(notifier: Notifier) -> None:
    """F80: of services that nobody watches any more the last 1,024 snapshots stay, of watched ones all."""
    kept = [notifier.subscribe(f"kept{number}", Heard()) for number in range(10)]
    for number in range(10):
        notifier.publish(Snapshot(f"kept{number}", ()))
    for number in range(MAX_RESTING + 50):
        subscription = notifier.subscribe(f"s{number}", Heard())
        notifier.publish(Snapshot(f"s{number}", ()))
        subscription.close()
    assert sum(notifier.snapshot(f"s{number}") is not None for number in range(MAX_RESTING + 50)) == MAX_RESTING
    assert all(notifier.snapshot(subscription.service) for subscription in kept)
    assert notifier.services == {subscription.service for subscription in kept}


def test_only_the_first_watch_of_a_service_is_news(notifier: Notifier) -> None:
    """`on_first` is called for the first listener of a service, and again after the last has left."""
    calls: list[str] = []
    first = notifier.subscribe("users", Heard(), lambda: calls.append("first"))
    second = notifier.subscribe("users", Heard(), lambda: calls.append("second"))
    first.close()
    second.close()
    notifier.subscribe("users", Heard(), lambda: calls.append("third"))
    assert calls == ["first", "third"]


def test_a_service_lingers() -> None:
    """Who comes soon after the last listener has left finds the service still watched; later it is news again."""
    clock = Clock()
    notifier = Notifier("test", linger=60.0, clock=clock)
    calls: list[str] = []
    notifier.subscribe("users", Heard(), lambda: calls.append("first")).close()
    clock.now += 59.0
    assert notifier.services == {"users"}
    notifier.subscribe("users", Heard(), lambda: calls.append("soon")).close()
    clock.now += 59.0
    assert notifier.services == {"users"}, "counted from the last listener"
    clock.now += 1.0
    assert notifier.services == frozenset()
    notifier.subscribe("users", Heard(), lambda: calls.append("later")).close()
    assert calls == ["first", "later"]
    notifier.close()
    notifier.after_fork()
    assert notifier.services == frozenset(), "a child has no watch yet"


def test_lingering_services_are_bounded() -> None:
    """F80: of ever new names only the last 64 linger."""
    notifier = Notifier("test", linger=60.0, clock=Clock())
    for number in range(MAX_LINGERING + 3):
        notifier.subscribe(f"s{number}", Heard()).close()
    assert len(notifier.services) == MAX_LINGERING
    assert f"s{MAX_LINGERING + 2}" in notifier.services
    notifier.close()


@pytest.mark.parametrize("linger", [0.0, 60.0])
def test_a_failed_first_watch_leaves_nothing(linger: float) -> None:
    """If the watch can't begin, the listener is not kept, and the next one begins it."""
    notifier = Notifier("test", linger=linger)
    calls: list[str] = []

    def fail() -> None:
        raise DiscoveryError("no thread")

    with pytest.raises(DiscoveryError):
        notifier.subscribe("users", Heard(), fail)
    assert notifier.services == frozenset()
    notifier.subscribe("users", Heard(), lambda: calls.append("next"))
    assert calls == ["next"]
    notifier.close()


def test_populated(notifier: Notifier) -> None:
    """Services with instances are known by name, watched or not; empty ones are not."""
    notifier.publish(Snapshot("users", (instance(),)))
    notifier.publish(Snapshot("nobody", ()))
    assert notifier.populated() == {"users"}
