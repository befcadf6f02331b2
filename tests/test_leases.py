"""A record's life in etcd when nothing goes wrong, in virtual time."""

from dataclasses import replace

import pytest

from tests.lease_world import GONE, UP, WAITING, World, instance


@pytest.fixture(name="world")
def _world() -> World:
    return World()


def test_a_record_is_put_under_a_lease_of_the_wanted_ttl(world: World) -> None:
    """Announcing puts the record at once when the instance is ready."""
    process = world.process()
    announced = process.register(instance())
    assert announced.state is WAITING
    world.run(0)
    assert announced.state is UP
    assert world.stored() == {"a": instance()}
    assert list(world.etcd.leases.values()) == [10]
    assert process.told == [UP]


def test_nothing_is_written_before_the_instance_is_ready(world: World) -> None:
    """F17: readiness is asked each 0.2 s at first, each second later, and etcd hears nothing until it is given."""
    asked: list[float] = []

    def ready() -> bool:
        asked.append(world.now)
        return world.now >= 1060

    world.process().register(instance(), ready=ready)
    world.run(59)
    assert not world.etcd.calls
    assert 45 <= sum(t < 1010 for t in asked) <= 52
    assert 45 <= sum(t >= 1010 for t in asked) <= 52
    world.run(2)
    assert "a" in world.stored()


def test_keepalives_come_at_a_third_of_the_ttl_or_a_little_sooner(world: World) -> None:
    """A minute of a 10 s lease takes 18 to 24 keepalives, and the lease never runs low."""
    world.process().register(instance())
    for _ in range(60):
        world.run(1)
        assert min(world.etcd.leases.values()) > 6
    assert 18 <= world.etcd.calls["keepalive"] <= 24


def test_what_etcd_grants_is_the_truth(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that etcd granted shorter than asked for is kept alive at a third of what was granted."""
    process = world.process()
    grant = process._driver.grant
    monkeypatch.setattr(process._driver, "grant", lambda lease, _ttl, *, timeout: grant(lease, 3, timeout=timeout))
    process.register(instance(), ttl=60)
    world.run(60)
    assert "a" in world.stored()
    assert len(world.etcd.leases) == 1
    assert process.told == [UP]


def test_records_with_one_ttl_share_a_lease(world: World) -> None:
    """A process has one lease for each TTL, whatever the number of its records."""
    process = world.process()
    for id_, ttl in (("a", 10), ("b", 10), ("c", 5)):
        process.register(instance(id_), ttl=ttl)
    world.run(1)
    assert len(world.stored()) == 3
    assert len(world.etcd.leases) == 2


def test_who_leaves_before_it_was_ready_never_talks_to_etcd(world: World) -> None:
    """Withdrawing a record that was never put ends at once."""
    process = world.process()
    announced = process.register(instance(), ready=lambda: False)
    world.run(1)
    process.withdraw(announced._publication)
    world.run(0)
    assert announced.state is GONE
    assert not world.etcd.calls


def test_an_update_is_written_at_once_and_survives_a_loss(world: World) -> None:
    """The newest record is the one that is put again."""
    announced = world.process().register(instance())
    world.run(1)
    announced.update(instance(weight=5))
    world.run(0)
    assert world.stored()["a"].weight == 5
    world.etcd.wipe()
    world.run(4)
    assert world.stored()["a"].weight == 5


def test_an_update_can_not_change_the_identity(world: World) -> None:
    """Another id or service would be another record."""
    announced = world.process().register(instance())
    with pytest.raises(ValueError, match="keeps service and id: users/a"):
        announced.update(instance("b"))


def test_lease_ids_are_63_random_bits(world: World) -> None:
    """Ids are positive as etcd's are, differ, and are not small by chance."""
    for seed in range(20):
        world.process(seed).register(instance(f"i{seed}"))
    world.run(1)
    assert len(world.etcd.leases) == 20
    assert all(0 < lease < 2**63 for lease in world.etcd.leases)
    assert max(world.etcd.leases) > 2**60


def test_a_record_keeps_its_other_fields(world: World) -> None:
    """What is written is the whole record, not only what the keeper looks at."""
    full = replace(instance(), zone="z", metadata={"version": "7"}, priority=2, keepalive=5.0, sdk="p2plb/1")
    world.process().register(full)
    world.run(0)
    assert world.stored() == {"a": full}


def test_a_forked_child_has_nothing_of_its_parents(world: World) -> None:
    """F58: the child's copy of a record is gone, it sends nothing for it, and can announce its own."""
    process = world.process()
    announced = process.register(instance("a"))
    world.run(1)
    process.after_fork()
    before = world.etcd.calls.copy()
    announced.update(instance("a", weight=9))
    announced.withdraw(60)
    world.run(8)
    assert announced.state is GONE
    assert world.etcd.calls == before
    assert world.stored() == {"a": instance("a")}
    process.register(instance("b"))
    world.run(5)
    assert set(world.stored()) == {"b"}
