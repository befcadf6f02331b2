"""What every registry that can be written to must do; a subclass gives the fixture `stage`.

Nothing here sleeps: the tests wait for conditions, with deadlines that a loaded machine meets as well.
"""

import threading
import time
from collections.abc import Callable
from typing import Protocol

import pytest

from p2plb.discovery.registry import AnnouncementState, Registry
from p2plb.discovery.snapshot import Snapshot
from p2plb.errors import DiscoveryError
from p2plb.instance import Instance

PATIENCE = 10.0


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for a condition; fail if it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def instance(id_: str = "a1", service: str = "users", state: str = "up", weight: float = 1.0) -> Instance:
    port = 8000 + int(id_[1:])
    return Instance(id=id_, service=service, url=f"http://127.0.0.1:{port}", state=state, weight=weight)


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []

    def __call__(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    @property
    def ids(self) -> list[str] | None:
        return [instance.id for instance in self.snapshots[-1].instances] if self.snapshots else None

    def waits_for(self, *ids: str) -> None:
        until(lambda: self.ids == list(ids))


class Stage(Protocol):
    """A registry under test, and the means to write to it as others would."""

    registry: Registry

    def put(self, instance: Instance) -> None: ...

    def remove(self, instance: Instance) -> None: ...


class RegistryContract:
    def test_watch_tells_what_is_there_and_what_comes(self, stage: Stage) -> None:
        """A listener hears of the instances that are there, that come, change and go."""
        stage.put(instance("a1"))
        stage.registry.watch("users", heard := Heard())
        heard.waits_for("a1")
        stage.put(instance("a2"))
        heard.waits_for("a1", "a2")
        stage.put(instance("a2", state="draining"))
        until(lambda: heard.snapshots[-1].instances[1].state == "draining")
        stage.remove(instance("a1"))
        heard.waits_for("a2")

    def test_an_unknown_service_is_an_empty_snapshot(self, stage: Stage) -> None:
        """The registry's answer "nobody" is told as well."""
        stage.registry.watch("nobody", heard := Heard())
        heard.waits_for()
        assert stage.registry.snapshot("nobody") is not None

    def test_a_service_is_not_its_neighbour(self, stage: Stage) -> None:
        """F48: `users2` is none of the business of who watches `users`."""
        stage.put(instance("a1", service="users2"))
        stage.registry.watch("users", heard := Heard())
        stage.put(instance("a2"))
        heard.waits_for("a2")

    def test_a_second_listener_hears_the_last_snapshot_at_once(self, stage: Stage) -> None:
        """Who watches a known service gets what is known."""
        stage.put(instance())
        stage.registry.watch("users", first := Heard())
        first.waits_for("a1")
        stage.registry.watch("users", second := Heard())
        second.waits_for("a1")
        assert second.snapshots[0].instances == first.snapshots[-1].instances

    def test_several_services(self, stage: Stage) -> None:
        """Services watched one after the other are all kept fresh."""
        heard = [Heard() for _ in range(5)]
        for number, listener in enumerate(heard):
            stage.registry.watch(f"service{number}", listener)
        for number in range(5):
            stage.put(instance(f"a{number + 1}", service=f"service{number}"))
        for number, listener in enumerate(heard):
            listener.waits_for(f"a{number + 1}")

    def test_a_closed_watch_hears_nothing(self, stage: Stage) -> None:
        """After `close` a listener is left alone, others are not; the last snapshot stays."""
        closed = stage.registry.watch("users", silent := Heard())
        stage.registry.watch("users", heard := Heard())
        silent.waits_for()
        closed.close()
        closed.close()
        told = len(silent.snapshots)
        stage.put(instance())
        heard.waits_for("a1")
        assert len(silent.snapshots) == told
        assert stage.registry.snapshot("users") is not None

    def test_watched_again(self, stage: Stage) -> None:
        """F60: a service that was left and is watched again is shown as last known, then as it is."""
        stage.put(instance("a1"))
        first = stage.registry.watch("users", heard := Heard())
        heard.waits_for("a1")
        first.close()
        stage.registry.watch("users", again := Heard())
        again.waits_for("a1")
        stage.put(instance("a2"))
        again.waits_for("a1", "a2")

    @pytest.mark.parametrize("error", [RuntimeError, SystemExit])
    def test_a_listener_that_raises(
        self, stage: Stage, error: type[BaseException], caplog: pytest.LogCaptureFixture
    ) -> None:
        """F82: what a listener raises is logged and harms nobody."""

        def broken(_snapshot: Snapshot) -> None:
            raise error("boom")

        stage.registry.watch("users", broken)
        stage.registry.watch("users", heard := Heard())
        stage.put(instance())
        heard.waits_for("a1")
        until(lambda: "boom" in caplog.text)

    def test_a_slow_listener_delays_no_snapshot(self, stage: Stage) -> None:
        """F82: while a listener takes its time the snapshots go on, and of what piled up it hears the newest only."""
        entered, leave = threading.Event(), threading.Event()
        heard = Heard()

        def slow(snapshot: Snapshot) -> None:
            entered.set()
            leave.wait(PATIENCE)
            heard(snapshot)

        stage.registry.watch("users", slow)
        assert entered.wait(PATIENCE)
        for number in range(1, 21):
            stage.put(instance(f"a{number}"))
        until(lambda: len((stage.registry.snapshot("users") or Snapshot("", ())).instances) == 20)
        leave.set()
        until(lambda: heard.snapshots and len(heard.snapshots[-1].instances) == 20)
        assert len(heard.snapshots) < 10

    def test_list_shows_all_services(self, stage: Stage) -> None:
        """`list` asks now, without a watch, and sorts by name."""
        stage.put(instance("a1", service="users"))
        stage.put(instance("a2", service="orders"))
        snapshots = stage.registry.list()
        assert [(snapshot.service, [each.id for each in snapshot.instances]) for snapshot in snapshots] == [
            ("orders", ["a2"]),
            ("users", ["a1"]),
        ]

    def test_announce_and_withdraw(self, stage: Stage) -> None:
        """An announced instance is seen, changed and taken out."""
        stage.registry.watch("users", heard := Heard())
        told: list[AnnouncementState] = []
        announcement = stage.registry.announce(instance(), ttl=10, on_state=lambda state, _error: told.append(state))
        heard.waits_for("a1")
        until(lambda: announcement.state is AnnouncementState.UP)
        announcement.update(instance(weight=3.0))
        until(lambda: heard.snapshots[-1].instances[0].weight == 3.0)
        announcement.withdraw(PATIENCE)
        announcement.withdraw(PATIENCE)
        heard.waits_for()
        until(lambda: told == [AnnouncementState.UP, AnnouncementState.GONE])

    def test_withdrawing_leaves_the_same_id_of_other_services(self, stage: Stage) -> None:
        """An id is one of its service; elsewhere it is another instance's."""
        users, orders = [stage.registry.announce(instance(service=name), ttl=10) for name in ("users", "orders")]
        until(lambda: users.state is orders.state is AnnouncementState.UP)
        users.withdraw(PATIENCE)
        until(lambda: [each.service for each in stage.registry.list() if each.instances] == ["orders"])
        assert orders.state is AnnouncementState.UP
        orders.withdraw(PATIENCE)

    def test_withdrawing_leaves_what_another_has_put_in_its_place(self, stage: Stage) -> None:
        """F16: of two announcements with one id only one stands, and withdrawing the other takes nothing out."""
        weights = (1.0, 2.0)
        both = {each: stage.registry.announce(instance(weight=each), ttl=10) for each in weights}
        settled = (AnnouncementState.UP, AnnouncementState.FAILED, AnnouncementState.GONE)
        until(lambda: all(each.state in settled for each in both.values()))
        (standing,) = stage.registry.list()[0].instances
        winner = both.pop(standing.weight)
        for loser in both.values():
            loser.withdraw(PATIENCE)
        assert stage.registry.list()[0].instances == (standing,)
        winner.withdraw(PATIENCE)
        until(lambda: not any(each.instances for each in stage.registry.list()))

    def test_announced_only_when_ready(self, stage: Stage) -> None:
        """F17: the record is put when `ready` says yes, on a thread that is not the caller's."""
        ready = threading.Event()
        askers: set[str] = set()

        def is_ready() -> bool:
            askers.add(threading.current_thread().name)
            return ready.is_set()

        stage.registry.watch("users", heard := Heard())
        announcement = stage.registry.announce(instance(), ttl=10, ready=is_ready)
        until(lambda: askers)
        assert announcement.state is AnnouncementState.WAITING
        assert heard.ids in (None, [])
        ready.set()
        heard.waits_for("a1")
        assert threading.current_thread().name not in askers
        announcement.withdraw(PATIENCE)

    @pytest.mark.parametrize("error", [RuntimeError, SystemExit])
    def test_a_ready_that_raises(self, stage: Stage, error: type[BaseException]) -> None:
        """F82: what `ready` raises means no, and ends none of the threads on which others depend."""
        answers = iter([error("boom"), None])

        def is_ready() -> bool:
            if (failure := next(answers)) is not None:
                raise failure
            return True

        announcement = stage.registry.announce(instance(), ttl=10, ready=is_ready)
        until(lambda: announcement.state is AnnouncementState.UP)
        announcement.withdraw(PATIENCE)

    def test_status(self, stage: Stage) -> None:
        """The status says where, how fresh and which services."""
        stage.put(instance())
        stage.registry.watch("users", heard := Heard())
        heard.waits_for("a1")
        until(lambda: stage.registry.status().connected)
        status = stage.registry.status()
        assert status.url.startswith(stage.registry.url)
        assert status.error is None
        assert status.age is not None
        assert status.names == ("users",)
        assert stage.registry.age("users") is not None
        assert stage.registry.age("strangers") is None

    def test_wrong_names_are_refused(self, stage: Stage) -> None:
        """A name that can't be a service is an error at once."""
        with pytest.raises(ValueError, match="service name"):
            stage.registry.watch("../users", Heard())

    def test_close_from_a_listener(self, stage: Stage) -> None:
        """F79: a listener may close the registry; closing again is fine, and afterwards nobody can watch."""
        closed = threading.Event()

        def close(_snapshot: Snapshot) -> None:
            stage.registry.close()
            closed.set()

        stage.registry.watch("users", close)
        assert closed.wait(PATIENCE)
        stage.registry.close()
        with pytest.raises(DiscoveryError, match="closed"):
            stage.registry.watch("users", Heard())
        assert not stage.registry.status().connected

    def test_close_is_quick_and_starts_nothing(self, stage: Stage) -> None:
        """F79: `close` on a watching registry takes less than a second (here: any sane time) and ends its threads."""
        before = set(threading.enumerate())
        stage.registry.watch("users", heard := Heard())
        heard.waits_for()
        start = time.monotonic()
        stage.registry.close()
        assert time.monotonic() - start < 3.0
        until(lambda: set(threading.enumerate()) <= before)
