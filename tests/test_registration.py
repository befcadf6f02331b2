"""The life of a registration: what it takes, where it starts, how it leaves; on registries without a network."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from p2plb.discovery.etcd.driver import Denied, Unavailable
from p2plb.discovery.etcd.registry import EtcdRegistry
from p2plb.discovery.memory import MemoryRegistry
from p2plb.discovery.registry import AnnouncementState
from p2plb.discovery.static import StaticRegistry
from p2plb.errors import RegistrationError
from p2plb.instance import Instance
from p2plb.serving.registration import Registration, register
from p2plb.testing.fake_etcd import FakeEtcd

PATIENCE = 20.0
UP, WAITING, GONE = AnnouncementState.UP, AnnouncementState.WAITING, AnnouncementState.GONE
DOWN = Unavailable("etcd is down")


def yes() -> bool:
    return True


@pytest.fixture(name="etcd")
def _etcd() -> FakeEtcd:
    return FakeEtcd()


@pytest.fixture(name="registry")
def _registry(etcd: FakeEtcd) -> Iterator[EtcdRegistry]:
    with EtcdRegistry(etcd.driver(url="etcd://127.0.0.1:2379")) as registry:
        yield registry


def users(registry: EtcdRegistry, **settings: Any) -> Registration:
    usual: dict[str, Any] = {"port": 8001, "ready": yes, "drain_grace": 0.01, "registry": registry}
    return register("users", **(usual | settings))


def stored(registry: EtcdRegistry) -> list[Instance]:
    return [instance for snapshot in registry.list() for instance in snapshot.instances]


def test_nothing_happens_before_entering(etcd: FakeEtcd, registry: EtcdRegistry) -> None:
    """A registration that is only made has no thread and asked nobody."""
    before = threading.active_count()
    registration = users(registry)
    assert registration.state is WAITING
    assert registration.instance is None
    assert not registration.wait(0)
    registration.stop()
    assert threading.active_count() == before
    assert not etcd.calls


def test_entering_records_and_leaving_removes(etcd: FakeEtcd, registry: EtcdRegistry) -> None:
    """The record has what was given, what was guessed and what is known."""
    with users(registry, zone="a", weight=2.0, metadata={"v": "7"}, keepalive=5.0, http=("1.1", "2")) as registration:
        assert registration.wait(PATIENCE)
        (instance,) = stored(registry)
        assert instance == registration.instance
        assert (instance.service, instance.url) == ("users", "http://127.0.0.1:8001")
        assert (instance.zone, instance.weight, instance.metadata) == ("a", 2.0, {"v": "7"})
        assert (instance.keepalive, instance.http) == (5.0, ("1.1", "2"))
        assert instance.sdk.startswith("p2plb/")
        assert abs((instance.started or 0) - time.time()) < 60
    assert registration.state is GONE
    assert not etcd.entries()
    assert not etcd.leases


def test_ids_are_random_and_made_at_the_start(registry: EtcdRegistry) -> None:
    """Processes that are forked from one prepared registration do not share an id."""
    with users(registry) as one, users(registry, port=8002) as other:
        assert one.instance
        assert other.instance
        assert one.instance.id != other.instance.id
    with users(registry, id="users-1") as named:
        assert named.instance
        assert named.instance.id == "users-1"


def test_entering_waits_for_nothing(etcd: FakeEtcd, registry: EtcdRegistry) -> None:
    """F28: neither a server that is not up nor an etcd that is away keeps the program waiting."""
    for method in ("grant", "keepalive", "publish", "revoke"):
        etcd.fail(method, DOWN, times=None)
    with users(registry, ready=lambda: False) as asleep, users(registry, port=8002) as cut_off:
        assert not asleep.wait(0.1)
        assert asleep.state is WAITING
        assert not cut_off.wait(0.1)
        etcd.heal()
        assert cut_off.wait(PATIENCE)


def test_draining_is_told_before_the_record_goes(registry: EtcdRegistry) -> None:
    """F02, F24: a watcher sees `draining`, then, a grace later, that the instance is gone."""
    seen: list[str] = []
    empty = threading.Event()

    def listen(snapshot: Any) -> None:
        seen.extend(each.state for each in snapshot.instances)
        if "draining" in seen and not snapshot.instances:
            empty.set()

    watch = registry.watch("users", listen)
    with users(registry, drain_grace=0.2) as registration:
        registration.wait(PATIENCE)
    assert empty.wait(PATIENCE)
    assert seen[-1] == "draining"
    watch.close()


def test_draining_twice_waits_once_and_keeps_the_record(registry: EtcdRegistry) -> None:
    """`drain` returns after the grace; the record stays, marked, until the registration stops."""
    with users(registry, drain_grace=0.3) as registration:
        registration.wait(PATIENCE)
        started = time.monotonic()
        registration.drain()
        registration.drain()
        assert 0.3 <= time.monotonic() - started < 0.6 + PATIENCE / 4
        assert [each.state for each in stored(registry)] == ["draining"]


def test_who_never_was_up_drains_without_a_wait(registry: EtcdRegistry) -> None:
    """Nobody can have seen a record that was never put."""
    started = time.monotonic()
    with users(registry, ready=lambda: False, drain_grace=PATIENCE):
        pass
    assert time.monotonic() - started < PATIENCE / 2


def test_who_drains_before_the_record_stands_is_never_up(etcd: FakeEtcd, registry: EtcdRegistry) -> None:
    """F28: a preStop hook that drains during an outage is not forgotten when etcd comes back."""
    seen: list[str] = []
    watch = registry.watch("users", lambda snapshot: seen.extend(each.state for each in snapshot.instances))
    etcd.fail("grant", DOWN, times=None)
    with users(registry, drain_grace=PATIENCE) as registration:
        assert eventually(lambda: registration.state == "retrying")
        registration.drain()
        etcd.heal()
        assert eventually(lambda: bool(seen))
    assert set(seen) == {"draining"}
    watch.close()


def test_an_update_changes_what_is_given(registry: EtcdRegistry) -> None:
    """The rest of the record stays as it is; wrong values are told at once."""
    with users(registry, zone="a") as registration:
        registration.wait(PATIENCE)
        registration.update(weight=5)
        registration.update(metadata={"v": "8"})
        with pytest.raises(ValueError, match="weight is from 0"):
            registration.update(weight=-1)
        with pytest.raises(ValueError, match="metadata takes"):
            registration.update(metadata={"v": "8" * 5000})
        with pytest.raises(ValueError, match="zone is a string of at most"):
            registration.update(zone="rack 7, " * 20)
        assert eventually(lambda: [each.metadata for each in stored(registry)] == [{"v": "8"}])
        (instance,) = stored(registry)
        assert (instance.weight, instance.zone) == (5, "a")


def test_before_the_start_there_is_nothing_to_update(registry: EtcdRegistry) -> None:
    """An update of a registration that does not run is a mistake of the program."""
    with pytest.raises(RuntimeError, match="was not started"):
        users(registry).update(weight=5)


def test_a_registration_runs_once(registry: EtcdRegistry) -> None:
    """Starting twice is one start, stopping twice one stop; after that it is used up."""
    registration = users(registry)
    assert registration.start() is registration.start()
    registration.wait(PATIENCE)
    registration.stop()
    registration.close()
    with pytest.raises(RuntimeError, match="a registration runs once"):
        registration.start()


def test_signals_are_the_main_threads_only(registry: EtcdRegistry) -> None:
    """`drain_on` elsewhere is an error that says so, and nothing is left running."""
    told: list[str] = []

    def start() -> None:
        with pytest.raises(ValueError, match="main thread only") as caught:
            users(registry, drain_on=(signal.SIGUSR1,)).start()
        told.append(str(caught.value))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join(PATIENCE)
    assert told


def test_a_signal_drains_and_is_handed_on(registry: EtcdRegistry) -> None:
    """F02: the program's own handler is called once the record is gone, whether entered by `with` or `start`."""
    left: list[list[Instance]] = []
    called = threading.Event()

    def handler(number: int, frame: object) -> None:
        left.append(stored(registry))
        called.set()

    before = signal.signal(signal.SIGUSR1, handler)
    registration = users(registry, drain_on=(signal.SIGUSR1,)).start()
    assert registration.wait(PATIENCE)
    assert len(stored(registry)) == 1
    signal.raise_signal(signal.SIGUSR1)
    assert eventually(called.is_set)
    assert left == [[]]
    registration.stop()
    assert signal.getsignal(signal.SIGUSR1) is handler
    signal.signal(signal.SIGUSR1, before)


def test_waiting_raises_what_it_can_not_heal(etcd: FakeEtcd, registry: EtcdRegistry) -> None:
    """F45: a refusal is told to whoever waits, with etcd's own words and who it was."""
    etcd.fail("publish", Denied("permission denied"), times=None)
    with users(registry, id="a") as registration, pytest.raises(RegistrationError) as caught:
        registration.wait(PATIENCE)
    text = "users/a (http://127.0.0.1:8001) was not registered in etcd://127.0.0.1:2379: permission denied"
    assert str(caught.value) == text
    assert isinstance(caught.value.__cause__, Denied)


def test_required_enters_only_when_the_record_stands(etcd: FakeEtcd, registry: EtcdRegistry) -> None:
    """With `required`, entering fails if the record does not stand in time, and leaves nothing behind."""
    with users(registry, required=True, timeout=PATIENCE) as registration:
        assert registration.state is UP
    etcd.fail("grant", DOWN, times=None)
    refused = users(registry, required=True, timeout=0.05)
    with pytest.raises(RegistrationError, match=r"was not registered in etcd:.* within 0.05 s \(retrying: etcd is"):
        refused.__enter__()
    assert refused.state is GONE


def test_switched_off_nothing_happens(etcd: FakeEtcd, monkeypatch: pytest.MonkeyPatch) -> None:
    """With P2PLB_REGISTER=0 the program runs as ever, in any thread, and etcd hears nothing of it."""
    monkeypatch.setenv("P2PLB_REGISTER", "0")
    before = signal.getsignal(signal.SIGUSR1)
    with (
        EtcdRegistry(etcd.driver()) as registry,
        users(registry, required=True, drain_on=(signal.SIGUSR1,), healthy=yes) as registration,
    ):
        assert signal.getsignal(signal.SIGUSR1) is before
        registration.update(weight=5)
        registration.drain()
        assert not registration.wait(PATIENCE)
        assert (registration.state, registration.instance, registration.error) == (GONE, None, None)
    assert not etcd.calls


def test_an_id_from_the_address_outlives_the_process(registry: EtcdRegistry) -> None:
    """Processes that announce one address make the same id of it, others another one."""
    ids = []
    for port in (8001, 8001, 8002):
        with users(registry, id="@address", port=port) as registration:
            assert registration.instance
            ids.append(registration.instance.id)
    assert ids[0] == ids[1] != ids[2]


def test_what_it_waits_for_is_told(registry: EtcdRegistry) -> None:
    """F17: a program that looks at its registration learns why it is not there yet."""
    with users(registry, ready=None, port=1) as registration:
        assert eventually(lambda: str(registration.error) == "nobody answers at 127.0.0.1:1 yet")
        assert registration.state is WAITING


def test_leaving_is_bounded_while_the_registry_hangs(etcd: FakeEtcd, registry: EtcdRegistry) -> None:
    """F55: a lease thread that is held up delays the exit by less than a second."""
    asked, go_on = threading.Event(), threading.Event()

    def ready() -> bool:
        asked.set()
        return go_on.wait(PATIENCE)

    registration = users(registry, ready=ready).start()
    asked.wait(PATIENCE)
    started = time.monotonic()
    registration.stop()
    assert time.monotonic() - started < PATIENCE / 2
    go_on.set()


def test_a_registry_that_takes_nobody_says_so_on_entering() -> None:
    """A fixed list is no place to register in."""
    with StaticRegistry({"users": ["10.0.0.7:80"]}) as registry, pytest.raises(RegistrationError, match="fixed list"):
        register("users", port=1, registry=registry).start()


def test_a_memory_registry_is_as_good() -> None:
    """Registering knows no kind of registry."""
    with MemoryRegistry() as registry:
        with register("users", port=1, registry=registry, ready=yes, drain_grace=0.01) as registration:
            assert registration.wait(PATIENCE)
            assert [len(each.instances) for each in registry.list()] == [1]
        assert not [each for each in registry.list() if each.instances]


def test_a_registry_url_is_held_only_while_registered() -> None:
    """The process's own registry for a URL serves all registrations that name it."""
    names = ("users", "orders")
    both = [register(name, port=1, registry="memory://held", ready=yes, drain_grace=0.01) for name in names]
    with both[0] as users_, both[1] as orders:
        assert users_.wait(PATIENCE)
        assert orders.wait(PATIENCE)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_async_form_does_the_same(registry: EtcdRegistry, backend: str) -> None:
    """Entering, waiting, draining and leaving block no event loop, on asyncio and trio."""

    async def main() -> None:
        async with users(registry, required=True, timeout=PATIENCE) as registration:
            assert await registration.wait_async(PATIENCE)
            assert len(stored(registry)) == 1
            await registration.drain_async()
            assert eventually(lambda: [each.state for each in stored(registry)] == ["draining"])
        assert registration.state is GONE
        assert not stored(registry)

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_task_still_leaves(registry: EtcdRegistry, backend: str) -> None:
    """F63: cancelled while waiting, it stops waiting at once, and takes its record out all the same."""

    async def main() -> None:
        with anyio.move_on_after(0.1):
            async with users(registry) as registration, users(registry, ready=lambda: False) as asleep:
                await registration.wait_async()
                await asleep.wait_async()
        assert registration.state is GONE
        assert not stored(registry)

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_async_form_fails_as_the_other_does(etcd: FakeEtcd, registry: EtcdRegistry, backend: str) -> None:
    """An entering that fails leaves nothing behind."""
    etcd.fail("grant", Denied("permission denied"), times=None)

    async def main() -> None:
        registration = users(registry, required=True, timeout=PATIENCE)
        with pytest.raises(RegistrationError, match="permission denied"):
            await registration.__aenter__()
        assert registration.state is GONE

    anyio.run(main, backend=backend)


def test_a_forked_child_is_not_registered(etcd: FakeEtcd, registry: EtcdRegistry) -> None:
    """F58: in the child the registration is over; one that was not started yet may start there."""
    running, prepared = users(registry).start(), users(registry, port=8002)
    running.wait(PATIENCE)
    hold, announcement = running._record._hold, running._record._announcement
    before = etcd.calls["revoke"]
    for each in (running, prepared):
        each._record.after_fork()
        each.after_fork()
    running.stop()
    assert running.state is GONE
    assert prepared.state is WAITING
    assert etcd.calls["revoke"] == before
    assert hold
    assert announcement
    announcement.withdraw(PATIENCE)
    hold.close()


def test_registering_logs_nothing_when_all_is_well(registry: EtcdRegistry, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing above debug on the happy path."""
    caplog.set_level(logging.INFO)
    with users(registry) as registration:
        registration.wait(PATIENCE)
    assert not caplog.messages


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()
