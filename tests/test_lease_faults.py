"""A record's life in an etcd that is away, slow to tell, wiped, or refuses us, in virtual time."""

import logging
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2plb.discovery.etcd import records
from p2plb.discovery.etcd.driver import Denied, DriverError, LeaseGone, Rejected, Unavailable
from tests.lease_world import DOWN, FAILED, GONE, KEY, RETRYING, UP, World, instance


@pytest.fixture(name="world")
def _world() -> World:
    return World()


def test_a_deleted_key_is_put_back_within_the_ttl(world: World) -> None:
    """F53: somebody deletes the key while the lease lives."""
    world.process().register(instance())
    world.run(20)
    world.etcd.delete_prefix(b"/")
    world.run(10.5)
    assert "a" in world.stored()


def test_an_expired_lease_is_replaced_at_the_next_keepalive(world: World) -> None:
    """F52: a process that was stopped for twice the TTL registers anew with its first step, and says so."""
    process = world.process()
    process.register(instance())
    world.run(5)
    (old,) = world.etcd.leases
    process.stopped = True
    world.run(20)
    assert not world.stored()
    process.stopped = False
    world.run(0)
    assert "a" in world.stored()
    assert old not in world.etcd.leases
    assert process.told == [UP, RETRYING, UP]


def test_after_a_wipe_everybody_is_back_within_a_third_of_the_ttl(world: World) -> None:
    """F32: an etcd that comes back empty is filled again, and not by all at one moment."""
    for seed in range(30):
        world.process(seed).register(instance(f"i{seed}"))
    world.run(20)
    world.etcd.wipe()
    world.run(1.2)
    assert 3 <= len(world.stored()) <= 27
    world.run(2.3)
    assert len(world.stored()) == 30


@pytest.mark.parametrize("before", [1, 5, 8])
def test_an_outage_deregisters_nobody(world: World, before: float) -> None:
    """F30: the record is presumed to stand for a TTL, then the state says that it may not; all heals by itself."""
    announced = world.process().register(instance())
    world.run(before)
    world.fail_all(DOWN)
    world.run(6)
    assert announced.state is UP
    assert announced.error is DOWN
    world.run(600)
    assert announced.state is RETRYING
    assert world.etcd.calls["keepalive"] < 600
    world.etcd.heal()
    world.run(3.4)
    assert announced.state is UP
    assert announced.error is None
    assert "a" in world.stored()


def test_after_an_outage_processes_come_back_spread(world: World) -> None:
    """F56: the retries of all processes after an outage spread over a third of the TTL instead of meeting."""
    for seed in range(40):
        world.process(seed).register(instance(f"i{seed}"))
    world.fail_all(DOWN)
    world.run(25)
    assert not world.stored()
    world.etcd.heal()
    back = []
    for _ in range(7):
        world.run(0.5)
        back.append(len(world.stored()))
    assert back[-1] == 40
    assert max(after - before for before, after in zip([0, *back], back, strict=False)) < 20


@pytest.mark.parametrize("carried_out", [True, False])
def test_an_ambiguous_put_is_simply_repeated(world: World, carried_out: bool) -> None:
    """F54: whether a put without an answer took effect or not, the record stands once in the end."""
    world.etcd.fail("publish", Unavailable("cut", ambiguous=True), carried_out=carried_out)
    announced = world.process().register(instance())
    world.run(2)
    assert announced.state is UP
    assert world.stored() == {"a": instance()}


def test_an_ambiguous_grant_is_repeated_with_the_same_id(world: World) -> None:
    """A grant without an answer leaves no second lease behind."""
    world.etcd.fail("grant", Unavailable("cut", ambiguous=True), carried_out=True)
    world.process().register(instance())
    world.run(2)
    assert len(world.etcd.leases) == 1
    assert "a" in world.stored()


def test_the_last_one_to_leave_takes_the_lease_along(world: World) -> None:
    """F54: after that a put that was still on its way finds no lease and can't resurrect the record."""
    process = world.process()
    announced = process.register(instance())
    world.run(1)
    (lease,) = world.etcd.leases
    process.withdraw(announced._publication)
    world.run(0)
    assert announced.state is GONE
    assert not world.stored()
    with pytest.raises(LeaseGone):
        world.etcd.put(KEY, b"late", lease)


def test_a_late_put_beside_others_is_deleted_after_all(world: World) -> None:
    """F54: where the lease goes on for others, a doubtful key is deleted twice."""
    process = world.process()
    process.register(instance("b"))
    world.run(1)
    (lease,) = world.etcd.leases
    world.etcd.fail("publish", Unavailable("cut", ambiguous=True))
    announced = process.register(instance("a"))
    world.run(0)
    process.withdraw(announced._publication)
    world.run(1)
    assert announced.state is GONE
    world.etcd.put(KEY, records.encode(instance("a")), lease)
    world.run(5)
    assert set(world.stored()) == {"b"}


def test_leaving_during_an_outage_ends_with_the_ttl(world: World) -> None:
    """F55: a lease that can't be revoked is not kept alive any more, and nothing is tried for ever."""
    process = world.process()
    announced = process.register(instance())
    world.run(1)
    world.fail_all(DOWN)
    process.withdraw(announced._publication)
    world.run(30)
    assert announced.state is GONE
    assert not world.etcd.leases
    assert process._next() is None


@pytest.mark.parametrize("method", ["grant", "publish"])
@pytest.mark.parametrize("error", [Denied("permission denied"), Rejected("request is too large (2,000,000 bytes)")])
def test_what_only_an_operator_can_heal_fails_a_fresh_registration(
    world: World, method: str, error: DriverError
) -> None:
    """F45, F57: refused once is refused; the error is etcd's own, and no lease is left."""
    world.etcd.fail(method, error, times=None)
    announced = world.process().register(instance())
    world.run(60)
    assert announced.state is FAILED
    assert type(announced.error) is type(error)
    assert str(announced.error).startswith(str(error))
    assert world.etcd.calls[method] == 1
    assert not world.etcd.leases


def test_a_record_that_is_too_large_is_told_with_its_size(world: World) -> None:
    """F57: etcd says only that a request is too large; the error says how large the record is."""
    world.etcd.fail("publish", Rejected("request is too large"))
    announced = world.process().register(instance())
    world.run(1)
    assert str(announced.error) == f"request is too large (the record has {len(records.encode(instance()))} bytes)"


def test_a_running_registration_outlives_a_refusal(world: World) -> None:
    """F44: rights that are lost for a while cost one try in 30 s, not the registration."""
    announced = world.process().register(instance())
    world.run(5)
    world.fail_all(Denied("permission denied"))
    world.run(300)
    assert announced.state is RETRYING
    assert isinstance(announced.error, Denied)
    assert world.etcd.calls["keepalive"] + world.etcd.calls["grant"] < 20
    world.etcd.heal()
    world.run(31)
    assert announced.state is UP
    assert "a" in world.stored()


def _stop(world: World, *, stopped: bool) -> None:
    for process in world.processes:
        process.stopped = stopped


def _expire(world: World) -> None:
    for lease in world.etcd.leases:
        world.etcd.expire(lease)


FAULTS: dict[str, Callable[[World], None]] = {
    "wait": lambda world: world.run(3),
    "down": lambda world: world.fail_all(DOWN),
    "cut": lambda world: world.etcd.fail("publish", Unavailable("cut", ambiguous=True), carried_out=True),
    "cut grant": lambda world: world.etcd.fail("grant", Unavailable("cut", ambiguous=True), carried_out=True),
    "lost": lambda world: world.etcd.fail("keepalive", Unavailable("cut", ambiguous=True)),
    "heal": lambda world: world.etcd.heal(),
    "wipe": lambda world: world.etcd.wipe(),
    "delete": lambda world: world.etcd.delete_prefix(b"/"),
    "expire": _expire,
    "stop": lambda world: _stop(world, stopped=True),
    "continue": lambda world: _stop(world, stopped=False),
}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(faults=st.lists(st.sampled_from(sorted(FAULTS)), max_size=12), seed=st.integers(0, 99))
def test_whatever_happens_all_stand_in_the_end_and_nothing_after_leaving(faults: list[str], seed: int) -> None:
    """F31 to F33, F52 to F54: after any faults each record stands again within 20 s, and none is left behind."""
    world = World()
    process = world.process(seed)
    announced = [process.register(instance(id_, ttl), ttl=ttl) for id_, ttl in (("a", 10), ("b", 10), ("c", 5))]
    for fault in faults:
        FAULTS[fault](world)
    world.etcd.heal()
    process.stopped = False
    world.run(20)
    assert set(world.stored()) == {"a", "b", "c"}
    assert all(each.state is UP for each in announced)
    for each in announced:
        process.withdraw(each._publication)
    world.run(20)
    assert not world.stored()
    assert not any(world.etcd.leases.get(lease, 0) > 10 for lease in world.etcd.leases)
    assert all(each.state is GONE for each in announced)


def test_an_outage_is_told_once_a_minute(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """F28: who starts while etcd is away goes on starting, with a warning a minute, and a word when it is over."""
    world.fail_all(DOWN)
    announced = world.process().register(instance())
    world.run(185)
    assert announced.state is RETRYING
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 4
    assert set(caplog.messages) == {"users/a (http://127.0.0.1:8001) is retrying: etcd is down"}
    caplog.set_level(logging.INFO)
    world.etcd.heal()
    world.run(10)
    assert caplog.messages[-1] == "users/a (http://127.0.0.1:8001) is up"
    told = len(caplog.messages)
    world.run(300)
    assert len(caplog.messages) == told
