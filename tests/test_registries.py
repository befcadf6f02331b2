"""The registries against their contract, and what each of them has of its own."""

import logging
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial

import pytest

from p2plb.discovery.etcd import records
from p2plb.discovery.etcd.driver import Changed, Denied, DriverError, Entry, Frame, Unavailable, Want, WatchStream
from p2plb.discovery.etcd.registry import EtcdRegistry
from p2plb.discovery.ghosts import MassLoss
from p2plb.discovery.memory import MemoryRegistry
from p2plb.discovery.plan import Timing
from p2plb.errors import DiscoveryError
from p2plb.instance import Instance
from p2plb.testing.fake_etcd import FakeEtcd
from tests.contract_registry import Heard, RegistryContract, instance, until

ROOT = records.services_root()
QUICK = Timing(
    linger=0.02,
    read=2.0,
    open=0.5,
    idle=(0.2, 0.3),
    gap=0.005,
    first_retry=0.02,
    last_retry=0.05,
    denied=0.1,
    loss=MassLoss(keep=0.5),
)


class MemoryStage:
    def __init__(self) -> None:
        self.registry = MemoryRegistry()

    def put(self, instance: Instance) -> None:
        self.registry.put(instance)

    def remove(self, instance: Instance) -> None:
        self.registry.remove(instance.id)


class EtcdStage:
    """An etcd registry over an etcd in memory."""

    def __init__(self, timing: Timing = QUICK) -> None:
        self.etcd = FakeEtcd()
        self.registry = EtcdRegistry(self.etcd.driver(), timing=timing, rng=random.Random(7))

    def put(self, instance: Instance) -> None:
        self.etcd.put(records.key(ROOT, instance.service, instance.id), records.encode(instance))

    def remove(self, instance: Instance) -> None:
        self.etcd.delete_prefix(records.key(ROOT, instance.service, instance.id))

    def emit(self, *frames: Frame | DriverError) -> None:
        """Feed frames to the stream, which may just be between two openings."""
        until(lambda: self._emit(frames))

    def _emit(self, frames: Sequence[Frame | DriverError]) -> bool:
        with self.etcd._engine.changed:
            self.etcd.emit(*frames)
            return self.etcd.streams > 0


class TestMemory(RegistryContract):
    @pytest.fixture
    def stage(self) -> Iterator[MemoryStage]:
        stage = MemoryStage()
        yield stage
        stage.registry.close()


class TestEtcd(RegistryContract):
    @pytest.fixture
    def stage(self) -> Iterator[EtcdStage]:
        stage = EtcdStage()
        yield stage
        stage.registry.close()


@pytest.fixture
def stage() -> Iterator[EtcdStage]:
    stage = EtcdStage()
    yield stage
    stage.registry.close()


def test_one_stream_for_all_services(stage: EtcdStage) -> None:
    """However many services are watched, a registry has one watch stream, and few reopenings."""
    heard = [Heard() for _ in range(20)]
    for number, listener in enumerate(heard):
        stage.registry.watch(f"service{number}", listener)
    for listener in heard:
        listener.waits_for()
    until(lambda: stage.etcd.streams == 1)
    assert stage.registry.status().connected


def test_services_that_come_together_share_one_opening() -> None:
    """A hundred services watched in a row reopen the stream at most once in the gap."""
    stage = EtcdStage(Timing(gap=0.2))
    with stage.registry:
        heard = [Heard() for _ in range(100)]
        for number, listener in enumerate(heard):
            stage.registry.watch(f"service{number}", listener)
        for listener in heard:
            listener.waits_for()
        assert stage.etcd.calls["watch"] <= 10


def test_a_service_that_comes_while_the_stream_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that begins in the moment between deciding and opening is not forgotten until the next rotation."""
    etcd = FakeEtcd()
    driver = etcd.driver()
    original, late = driver.watch, Heard()

    def watch(wants: Sequence[Want], *, timeout: float, idle: float) -> WatchStream:
        monkeypatch.setattr(driver, "watch", original)
        registry.watch("late", late)
        return original(wants, timeout=timeout, idle=idle)

    monkeypatch.setattr(driver, "watch", watch)
    with EtcdRegistry(driver, timing=Timing(idle=(60.0, 60.0))) as registry:
        registry.watch("users", Heard())
        late.waits_for()


def test_ghosts_do_not_wait_for_the_rotation() -> None:
    """F36: a ghost's time ends when it is over, however long the stream may be silent."""
    stage = EtcdStage(Timing(idle=(60.0, 60.0), loss=MassLoss(keep=0.2)))
    with stage.registry:
        for number in (1, 2, 3):
            stage.put(instance(f"a{number}"))
        stage.registry.watch("users", heard := Heard())
        heard.waits_for("a1", "a2", "a3")
        stage.etcd.delete_prefix(b"/p2plb/")
        heard.waits_for()
        assert any(snapshot.ghosts for snapshot in heard.snapshots)


def test_nothing_is_lost_between_streams(stage: EtcdStage) -> None:
    """Events that fall between two streams are told by the next one, at every rotation and reopening."""
    stage.registry.watch("users", heard := Heard())
    heard.waits_for()
    for number in range(1, 60):
        stage.put(instance(f"a{number}"))
        if number % 6 == 0:
            stage.registry.watch(f"other{number}", Heard())
        time.sleep(0.002)
    until(lambda: len(heard.ids or ()) == 59)
    assert stage.registry.status().error is None


def test_an_idle_stream_is_rotated(stage: EtcdStage) -> None:
    """F40: a stream that is silent is opened anew, which proves that etcd lives, without a list."""
    stage.registry.watch("users", heard := Heard())
    heard.waits_for()
    until(lambda: stage.etcd.calls["watch"] >= 3)
    assert stage.etcd.calls["read"] <= 2, "the list and the look for names"
    stage.put(instance())
    heard.waits_for("a1")


def test_a_stream_that_dies_in_silence(stage: EtcdStage) -> None:
    """F40: a frozen etcd is noticed by the rotation; when it goes on, all is told."""
    stage.put(instance("a1"))
    stage.registry.watch("users", heard := Heard())
    heard.waits_for("a1")
    stage.etcd.hold()
    stage.etcd.fail("read", Unavailable("no answer"), times=None)
    stage.put(instance("a2"))
    until(lambda: not stage.registry.status().connected)
    assert heard.ids == ["a1"]
    stage.etcd.release()
    stage.etcd.heal()
    heard.waits_for("a1", "a2")
    until(lambda: stage.registry.status().connected)


def test_etcd_away_at_start(stage: EtcdStage, caplog: pytest.LogCaptureFixture) -> None:
    """F28, F30: without etcd nothing is told, nothing blocks, little is logged; it comes, and all is well."""
    stage.etcd.fail("read", Unavailable("nobody is there"), times=None)
    stage.put(instance())
    stage.registry.watch("users", heard := Heard())
    until(lambda: stage.etcd.calls["read"] > 5)
    assert heard.snapshots == []
    assert stage.registry.snapshot("users") is None
    status = stage.registry.status()
    assert (status.connected, status.age, status.error) == (False, None, "nobody is there")
    assert len(caplog.records) == 1
    stage.etcd.heal()
    heard.waits_for("a1")


def test_etcd_away_later(stage: EtcdStage) -> None:
    """F26: the last good snapshot stands as long as etcd is away; it is listed anew when it is back."""
    stage.put(instance("a1"))
    stage.registry.watch("users", heard := Heard())
    heard.waits_for("a1")
    stage.etcd.fail("read", Unavailable("gone"), times=None)
    stage.emit(Unavailable("cut"))
    until(lambda: stage.registry.status().error == "gone")
    stage.remove(instance("a1"))
    stage.put(instance("a2"))
    assert heard.ids == ["a1"]
    stage.etcd.heal()
    heard.waits_for("a2")
    assert [snapshot.instances[0].id for snapshot in heard.snapshots] == ["a1", "a2"]


def test_refused(stage: EtcdStage) -> None:
    """F45: a refusal keeps what is known and is tried again, slowly."""
    stage.put(instance("a1"))
    stage.registry.watch("users", heard := Heard())
    heard.waits_for("a1")
    stage.etcd.fail("read", Denied("no permission"), times=3)
    stage.emit(Denied("no permission"))
    until(lambda: stage.registry.status().error == "no permission")
    assert heard.ids == ["a1"]
    stage.put(instance("a2"))
    heard.waits_for("a1", "a2")


def test_wiped(stage: EtcdStage) -> None:
    """F32: a wiped etcd leaves ghosts until the instances have registered again or their time is over."""
    for number in (1, 2, 3):
        stage.put(instance(f"a{number}"))
    stage.registry.watch("users", heard := Heard())
    heard.waits_for("a1", "a2", "a3")
    stage.etcd.wipe()
    until(lambda: heard.snapshots[-1].ghosts == {"a1", "a2", "a3"})
    assert heard.ids == ["a1", "a2", "a3"]
    stage.put(instance("a2"))
    until(lambda: heard.snapshots[-1].ghosts == {"a1", "a3"})
    heard.waits_for("a2")
    assert all(snapshot.instances for snapshot in heard.snapshots)


def test_wiped_while_nobody_watched(stage: EtcdStage) -> None:
    """F32: a service that is watched again, or in a forked child, is protected by its last snapshot."""
    for number in (1, 2, 3):
        stage.put(instance(f"a{number}"))
    watch = stage.registry.watch("users", heard := Heard())
    heard.waits_for("a1", "a2", "a3")
    watch.close()
    until(lambda: not stage.registry._watcher._reducer._services)
    stage.etcd.wipe()
    stage.registry.watch("users", again := Heard())
    until(lambda: again.snapshots and again.snapshots[-1].ghosts == {"a1", "a2", "a3"})
    again.waits_for()
    assert [bool(snapshot.instances) for snapshot in again.snapshots] == [True] * (len(again.snapshots) - 1) + [False]


def test_forked_children_come_back_at_moments_of_their_own(stage: EtcdStage) -> None:
    """F56, F58: no two children roll the dice as their parent would."""
    stage.registry._watcher._rng.seed(1)
    expected = random.Random(1).random()
    stage.registry.after_fork()
    assert stage.registry._watcher._rng.random() != expected


def test_stop_is_never_overlooked(stage: EtcdStage) -> None:
    """F79: a registry that is closed at the very moment when its thread takes note of a nudge ends that thread."""

    class Late(threading.Event):
        def clear(self) -> None:
            stage.registry.close()
            super().clear()

    watcher = stage.registry._watcher
    watcher._nudged = Late()
    watcher.nudge()
    assert watcher._thread
    watcher._thread.join(10)
    assert not watcher._thread.is_alive()


def test_ghosts_stay_while_etcd_is_away(stage: EtcdStage) -> None:
    """F36: ghosts are laid only while etcd is known to live."""
    for number in (1, 2, 3):
        stage.put(instance(f"a{number}"))
    stage.registry.watch("users", heard := Heard())
    heard.waits_for("a1", "a2", "a3")
    stage.etcd.delete_prefix(b"/p2plb/")
    until(lambda: heard.snapshots[-1].ghosts)
    stage.etcd.fail("read", Unavailable("gone"), times=None)
    stage.etcd.fail("watch", Unavailable("gone"), times=None)
    over = time.monotonic() + QUICK.loss.keep + 0.1
    until(lambda: time.monotonic() > over and not stage.registry.status().connected)
    assert heard.ids == ["a1", "a2", "a3"]
    stage.etcd.heal()
    heard.waits_for()


def test_compacted_while_live(stage: EtcdStage) -> None:
    """F35: when our revision was compacted away the registry lists again and goes on."""
    stage.registry.watch("users", heard := Heard())
    heard.waits_for()
    stage.put(instance("a9", service="others"))
    stage.etcd.compact()
    until(lambda: stage.etcd.calls["watch"] >= 3)
    stage.put(instance("a1"))
    heard.waits_for("a1")
    assert stage.registry.status().error is None
    assert len(heard.snapshots) == 2, "no storm of snapshots"


def test_disorder_on_the_wire(stage: EtcdStage) -> None:
    """F42: repeated and backward frames change nothing."""
    stage.put(instance("a1"))
    stage.registry.watch("users", heard := Heard())
    heard.waits_for("a1")
    key = records.key(ROOT, "users", "a1")
    stage.emit(Changed((Entry(key, None, 1), Entry(key, records.encode(instance("a1", weight=9.0)), 1, 1))))
    stage.put(instance("a2"))
    heard.waits_for("a1", "a2")
    assert heard.snapshots[-1].instances[0].weight == 1.0


def test_nonsense_in_the_registry(stage: EtcdStage, caplog: pytest.LogCaptureFixture) -> None:
    """F46: records that can't be read are counted, logged once, and hide nobody."""
    stage.put(instance("a1"))
    stage.etcd.put(records.key(ROOT, "users", "a2"), b"\xff{")
    stage.registry.watch("users", heard := Heard())
    heard.waits_for("a1")
    stage.etcd.put(records.key(ROOT, "users", "a2"), b"[]")
    stage.put(instance("a3"))
    heard.waits_for("a1", "a3")
    assert stage.registry.status().skipped == 1
    assert stage.registry.unreadable() == (("/p2plb/services/users/a2", "the value is no JSON object"),)
    assert len([record for record in caplog.records if "passed over" in record.message]) == 1


def test_the_nearest_names(stage: EtcdStage) -> None:
    """An unknown service makes the registry learn which there are, before the listener hears of it."""
    stage.put(instance("a1", service="users"))
    stage.put(instance("a2", service="orders"))
    names: list[tuple[str, ...]] = []
    stage.registry.watch("user", lambda _snapshot: names.append(stage.registry.status().names))
    until(lambda: names)
    assert names[0] == ("orders", "users")


def test_a_defect_in_the_driver(stage: EtcdStage, caplog: pytest.LogCaptureFixture) -> None:
    """F46: whatever a driver raises, the watch goes on."""
    stage.registry.watch("users", heard := Heard())
    heard.waits_for()
    stage.emit(Changed((Entry(b"", "not bytes", 99),)))  # type: ignore[arg-type]  # a defect is the subject
    stage.emit(Changed((None,)))  # type: ignore[arg-type]  # the same
    until(lambda: "unexpectedly" in caplog.text)
    stage.put(instance())
    heard.waits_for("a1")


def test_list_raises_what_is_wrong(stage: EtcdStage) -> None:
    """An explicit `list` says why it failed, as a `DiscoveryError`."""
    stage.etcd.fail("read", Unavailable("nobody is there"))
    with pytest.raises(DiscoveryError, match="nobody is there"):
        stage.registry.list()
    with EtcdRegistry(stage.etcd.driver(), note=" (the default)") as registry:
        stage.etcd.fail("read", Unavailable("nobody is there"))
        with pytest.raises(DiscoveryError, match=r"nobody is there \(the default\)"):
            registry.list()


def test_records_outlive_their_watch(stage: EtcdStage) -> None:
    """F60: an idle service keeps its snapshot and the age of it while etcd is away."""
    stage.put(instance())
    watch = stage.registry.watch("users", heard := Heard())
    heard.waits_for("a1")
    watch.close()
    until(lambda: stage.etcd.streams == 0)
    stage.etcd.fail("read", Unavailable("gone"), times=None)
    age = stage.registry.age("users")
    assert age is not None
    stage.registry.watch("users", again := Heard())
    again.waits_for("a1")
    until(lambda: (stage.registry.age("users") or 0) > age)


def test_without_watches_the_owner_is_asked() -> None:
    """While nothing is watched the owner is asked now and then; it may close the registry on that thread."""
    etcd = FakeEtcd()
    asked = threading.Event()

    def rest() -> None:
        registry.close()
        asked.set()

    timing = Timing(idle=(0.02, 0.03), gap=0.001, linger=0.02, rest=0.02)
    registry = EtcdRegistry(etcd.driver(), timing=timing, rest=rest)
    watch = registry.watch("users", heard := Heard())
    heard.waits_for()
    watch.close()
    assert asked.wait(10)
    with pytest.raises(DiscoveryError, match="closed"):
        registry.watch("users", Heard())


def test_churn(stage: EtcdStage) -> None:
    """F19, F80, F81: four thousand changes end in the right snapshot, are coalesced, and leave no state behind."""
    stage.registry.watch("users", heard := Heard())
    heard.waits_for()
    for number in range(1, 2001):
        stage.put(instance(f"a{number}"))
        stage.remove(instance(f"a{number}"))
    stage.put(instance("a6000"))
    heard.waits_for("a6000")
    assert len(heard.snapshots) < 4_000
    service = stage.registry._watcher._reducer._services["users"]
    assert len(service.known) == 1
    assert not stage.registry._notifier._due


def test_no_thread_can_be_started(stage: EtcdStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """F78: when no thread can be started, as at the end of the interpreter, that is a `DiscoveryError`."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(DiscoveryError, match="shutdown"):
        stage.registry.watch("users", Heard())


def test_put_to_listener_is_fast(stage: EtcdStage) -> None:
    """From the put to the listener it takes no timer, only two hand-overs between threads."""
    times: list[float] = []

    def times_are_more_than(count: int) -> bool:
        return len(times) > count

    stage.registry.watch("users", lambda _snapshot: times.append(time.monotonic()))
    until(lambda: stage.etcd.streams == 1)
    delays = []
    for number in range(1, 40):
        count, start = len(times), time.monotonic()
        stage.put(instance(f"a{number}"))
        until(partial(times_are_more_than, count))
        delays.append(times[count] - start)
    assert sorted(delays)[len(delays) // 2] < 0.1, "loaded machines are slow, but there is no timer in between"


@pytest.mark.parametrize("kind", ["memory", "etcd"])
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_fork(kind: str) -> None:
    """F58, F59: a child keeps the snapshots, has none of the parent's threads and listeners, and can watch anew."""
    stage = MemoryStage() if kind == "memory" else EtcdStage()
    with stage.registry:
        stage.put(instance("a1"))
        stage.registry.watch("users", heard := Heard())
        heard.waits_for("a1")
        with stage.registry._notifier._changed:  # held by somebody at the time of the fork
            child = os.fork()
        if child == 0:
            code = 1
            try:
                known = stage.registry.snapshot("users")
                assert known is not None
                told = len(heard.snapshots)
                stage.registry.watch("users", again := Heard())
                again.waits_for("a1")
                stage.put(instance("a2"))
                again.waits_for("a1", "a2")
                assert len(heard.snapshots) == told
                stage.registry.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        stage.put(instance("a3"))
        heard.waits_for("a1", "a3")


def test_memory_forgets_what_was_announced() -> None:
    """Closing a memory registry ends its announcements."""
    registry = MemoryRegistry()
    announcement = registry.announce(instance(), ttl=10, ready=lambda: False)
    registry.close()
    assert announcement.state == "gone"
    with pytest.raises(DiscoveryError, match="closed"):
        registry.announce(instance(), ttl=10)


def test_memory_survives_a_ready_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """A `ready` that raises means no, and the error can be read; so can a broken `on_state` be borne."""
    caplog.set_level(logging.ERROR)
    answers = iter([OSError("refused"), None])

    def ready() -> bool:
        if (error := next(answers)) is not None:
            raise error
        return True

    def on_state(_state: object, _error: object) -> None:
        raise RuntimeError("boom")

    with MemoryRegistry() as registry:
        announcement = registry.announce(instance(), ttl=10, ready=ready, on_state=on_state)
        until(lambda: announcement.state == "up")
        assert str(announcement.error) == "refused"
        until(lambda: "boom" in caplog.text)
