"""Whose key it is when two processes want the same one, in virtual time."""

import logging
from dataclasses import replace

import pytest

from p2plb.discovery.etcd import records
from p2plb.errors import RegistrationError
from tests.lease_world import DOWN, FAILED, GONE, KEY, RETRYING, UP, World, instance


@pytest.fixture(name="world")
def _world() -> World:
    return World()


def test_leaving_deletes_only_our_own_key(world: World) -> None:
    """Who has taken the key over keeps it when we leave."""
    process = world.process()
    announced = process.register(instance("a"))
    process.register(instance("b"))
    world.run(1)
    rival = world.etcd.driver()
    rival.grant(7, 60, timeout=1)
    rival.publish(KEY, records.encode(instance("a", 9)), 7, timeout=1)
    process.withdraw(announced._publication)
    world.run(1)
    assert announced.state is GONE
    assert world.stored()["a"].port == 9


def test_our_own_predecessor_is_replaced_at_once(world: World) -> None:
    """F16: after a crash the same id at the same address is ours, though the old lease still lives."""
    crashed = world.process(1)
    crashed.register(instance())
    world.run(1)
    crashed.stopped = True
    announced = world.process(2).register(instance(weight=3))
    world.run(0)
    assert announced.state is UP
    world.run(60)
    assert world.stored() == {"a": instance(weight=3)}


def test_two_living_ones_at_one_address_do_not_take_turns(world: World) -> None:
    """F16: the newer one takes over, the older one stands by, and the record changes hands once."""
    older = world.process(1).register(instance(weight=1))
    world.run(5)
    newer = world.process(2).register(instance(weight=2))
    world.run(300)
    assert (older.state, newer.state) == (UP, UP)
    assert world.stored() == {"a": instance(weight=2)}
    assert world.etcd.revision == 3


def test_workers_behind_one_port_share_one_record(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Each worker registers the same address: all are up, the record is there once, and nobody complains."""
    caplog.set_level(logging.INFO)
    workers = [world.process(seed).register(instance(weight=seed)) for seed in range(1, 5)]
    world.run(30)
    settled = world.etcd.revision
    world.run(300)
    assert [worker.state for worker in workers] == [UP] * 4
    assert world.etcd.revision == settled
    assert not caplog.messages


@pytest.mark.parametrize("how", ["leaves", "dies"])
def test_a_worker_that_stands_by_takes_over(world: World, how: str) -> None:
    """The record of a port comes back within a second after the worker that kept it is gone, whatever became of it."""
    others = [world.process(seed) for seed in (1, 2)]
    for other in others:
        other.register(instance())
    last = world.process(3)
    announced = last.register(instance(weight=3))
    world.run(30)
    assert world.stored()["a"].weight == 3
    if how == "leaves":
        last.withdraw(announced._publication)
    else:
        last.stopped = True
        world.run(11)
    world.run(1.1)
    assert world.stored() == {"a": instance()}
    world.run(60)
    assert world.stored() == {"a": instance()}


@pytest.mark.parametrize("offset", [tenth / 10 for tenth in range(10)])
def test_while_a_worker_drains_and_leaves_there_is_always_a_record(world: World, offset: float) -> None:
    """Who stands by looks more than once during the usual grace of a second, whenever the other one drains."""
    world.process(1).register(instance())
    last = world.process(2)
    leaver = last.register(instance(weight=2))
    world.run(30 + offset)
    leaver.update(replace(instance(weight=2), state="draining"))
    world.run(0.9)
    last.withdraw(leaver._publication)
    world.run(0)
    assert world.stored() == {"a": instance()}


@pytest.mark.parametrize("state", ["draining", "down"])
def test_a_worker_that_is_up_takes_over_from_one_that_is_not(world: World, state: str) -> None:
    """A worker that is recycled drains, another serves on: the record is up again within a second, and stays."""
    first = world.process(1)
    first.register(instance())
    world.run(5)
    leaver = world.process(2).register(instance(weight=2))
    world.run(30)
    leaver.update(replace(instance(weight=2), state=state))
    world.run(0)
    assert world.stored()["a"].state == state
    world.run(1.1)
    assert world.stored() == {"a": instance()}
    world.run(60)
    assert world.stored() == {"a": instance()}


def test_workers_that_all_drain_leave_the_record_as_it_is(world: World) -> None:
    """When the whole server ends, nobody puts `up` over another's `draining`, nor takes that over."""
    workers = [world.process(seed).register(instance()) for seed in (1, 2, 3)]
    world.run(30)
    for worker in workers:
        worker.update(replace(instance(), state="draining"))
    world.run(0)
    settled = world.etcd.revision
    world.run(20)
    assert world.stored()["a"].state == "draining"
    assert world.etcd.revision == settled


def test_a_dead_predecessor_at_another_address_is_outlived(world: World) -> None:
    """F16: the same id on a new port waits for the lease of the dead one, then stands."""
    crashed = world.process(1)
    crashed.register(instance(port=1))
    world.run(1)
    crashed.stopped = True
    process = world.process(2)
    announced = process.register(instance(port=2))
    world.run(5)
    assert announced.state is RETRYING
    assert world.stored()["a"].port == 1
    world.run(7)
    assert announced.state is UP
    assert world.stored()["a"].port == 2


def test_a_change_while_waiting_for_a_dead_predecessor_shortens_nothing(world: World) -> None:
    """F16: a weight or a state that changes meanwhile is no reason to take the predecessor for a living rival."""
    crashed = world.process(1)
    crashed.register(instance(port=1))
    world.run(1)
    crashed.stopped = True
    announced = world.process(2).register(instance(port=2))
    for weight in (2, 3, 4):
        world.run(1)
        announced.update(instance(port=2, weight=weight))
    world.run(9)
    assert announced.state is UP
    assert world.stored() == {"a": instance(port=2, weight=4)}


def test_a_fresh_duplicate_fails_and_leaves_the_winner_alone(world: World) -> None:
    """F16: an id that another living process holds is an error that says so, within little more than the TTL."""
    world.process(1).register(instance(port=1))
    world.run(1)
    announced = world.process(2).register(instance(port=2))
    world.run(12)
    assert announced.state is FAILED
    assert isinstance(announced.error, RegistrationError)
    assert "identity taken: users/a is registered by another process at http://127.0.0.1:1" in str(announced.error)
    assert world.stored()["a"].port == 1
    assert len(world.etcd.leases) == 1


def test_a_running_duplicate_yields_logs_once_and_comes_back(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """F16: whoever lost its key to another process looks again each 30 s, and stands when the winner has left."""
    caplog.set_level(logging.WARNING)
    announced = world.process().register(instance(port=1))
    world.run(5)
    rival = world.etcd.driver()
    rival.grant(7, 1000, timeout=1)
    rival.publish(KEY, records.encode(instance(port=2)), 7, timeout=1)
    world.run(300)
    assert announced.state is RETRYING
    assert world.stored()["a"].port == 2
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "identity taken" in caplog.text
    assert world.etcd.calls["publish"] < 20
    rival.revoke(7, timeout=1)
    world.run(31)
    assert announced.state is UP
    assert world.stored()["a"].port == 1


def test_one_process_can_not_register_an_id_twice(world: World) -> None:
    """The second registration of an id in one process fails, the first one stays."""
    process = world.process()
    first, second = process.register(instance(port=1)), process.register(instance(port=2), ttl=5)
    world.run(1)
    assert (first.state, second.state) == (UP, FAILED)
    assert world.stored()["a"].port == 1


def test_an_id_can_be_registered_again_after_leaving(world: World) -> None:
    """Leaving and coming back at once, on a lease that others keep, ends with the new record."""
    process = world.process()
    process.register(instance("b"))
    old = process.register(instance("a"))
    world.run(1)
    world.etcd.fail("revoke", DOWN)
    process.withdraw(old._publication)
    world.run(0)
    new = process.register(instance("a", 9))
    world.run(20)
    assert (old.state, new.state) == (GONE, UP)
    assert world.stored()["a"].port == 9


def test_a_restored_etcd_that_knows_an_older_lease_of_ours_is_no_rival(world: World) -> None:
    """F33: a backup brings back our key under the lease that we had then."""
    announced = world.process().register(instance())
    world.run(1)
    (old,) = world.etcd.leases
    world.etcd.expire(old)
    world.run(5)
    world.etcd.driver().grant(old, 1000, timeout=1)
    world.etcd.put(KEY, records.encode(instance(weight=9)), old)
    world.run(12)
    assert announced.state is UP
    assert world.stored()["a"].weight == 1
