"""Services: balancers and watches that come with the first call, go when idle, and never keep anybody alive."""

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from p2plb.balancing.strategies.round_robin import RoundRobin
from p2plb.calling import services as module
from p2plb.calling.policy import Policy
from p2plb.calling.services import MAX_SERVICES, Services
from p2plb.discovery.memory import MemoryRegistry
from p2plb.discovery.registry import Registry
from tests.contract_registry import until
from tests.fake_registry import FakeRegistry
from tests.fakes import Clock, instance, snapshot


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


def make(
    registry: Registry | str,
    clock: Clock | None = None,
    policies: dict[str, Policy] | None = None,
    on_gone: Callable[[], object] = lambda: None,
) -> Services:
    return Services(
        registry,
        Policy(),
        policies or {},
        start_timeout=3.0,
        on_gone=on_gone,
        idle=300.0,
        clock=Clock() if clock is None else clock,
    )


def call(services: Services, service: str = "users", *, secure: bool = False) -> Any:
    return services.balancer(service, secure=secure, now=services.clock())


def ids(balancer: Any) -> list[str]:
    return [node.id for node in balancer.view.nodes]


def test_one_watch_a_service(registry: FakeRegistry) -> None:
    """Nothing is watched before the first call; then each service once, however often it is called."""
    services = make(registry)
    assert registry.watched == []
    first = call(services)
    assert call(services) is first
    call(services, "orders")
    assert registry.watched == ["orders", "users"]
    services.close()


def test_snapshots_reach_the_balancer(registry: FakeRegistry) -> None:
    """What the registry tells is in force at once; when somebody has left, the transport hears of it."""
    heard: list[str] = []
    services = make(registry, on_gone=lambda: heard.append("gone"))
    balancer = call(services)
    registry.tell(snapshot("a", "b"))
    assert (ids(balancer), heard) == (["a", "b"], [])
    registry.tell(snapshot("b", revision=2))
    assert (ids(balancer), heard) == (["b"], ["gone"])
    services.close()


def test_policies_by_service(registry: FakeRegistry) -> None:
    """Each service has its own policy, or the default."""
    orders = Policy(strategy=RoundRobin(), only=lambda one: one.id == "b")
    services = make(registry, policies={"orders": orders})
    assert services.policy("orders") is orders
    assert services.policy("users") == Policy()
    chosen = call(services, "orders")
    registry.tell(snapshot("a", "b", service="orders"))
    assert ids(chosen) == ["b"]
    services.close()


def test_https_has_a_balancer_of_its_own(registry: FakeRegistry) -> None:
    """F73: a call that asked for https meets only nodes that are recorded with it."""
    services = make(registry)
    plain, secure = call(services), call(services, secure=True)
    registry.tell(snapshot("a", instance("s", url="https://s.example")))
    assert (ids(plain), ids(secure)) == (["a", "s"], ["s"])
    assert list(services.stats().services) == ["users", "https://users"]
    services.close()


def test_idle_services_are_dropped(registry: FakeRegistry) -> None:
    """F80: who is not called for 300 s loses view and watch; who is called stays."""
    clock = Clock()
    services = make(registry, clock)
    old, kept = call(services, "old"), call(services, "kept")
    for _ in range(4):
        clock.now += 100.0
        assert call(services, "kept") is kept
    assert registry.watched == ["kept"]
    assert list(services.stats().services) == ["kept"]
    assert call(services, "old") is not old
    assert registry.watched == ["kept", "old"]
    services.close()


def test_never_more_than_the_bound(registry: FakeRegistry) -> None:
    """F80: a program that calls ever new names holds no more than 1,024 of them, the last ones called."""
    clock = Clock()
    services = make(registry, clock)
    for number in range(MAX_SERVICES + 3):
        clock.now += 0.001
        call(services, f"s{number}")
    assert len(registry.watches) == MAX_SERVICES
    assert {"s0", "s1", "s2"}.isdisjoint(registry.watched)
    assert f"s{MAX_SERVICES + 2}" in registry.watched
    services.close()
    assert registry.watched == []


def test_close_and_again(registry: FakeRegistry) -> None:
    """F79: closing ends all watches and is idempotent; a later call begins anew; a given registry stays open."""
    services = make(registry)
    first = call(services)
    registry.tell(snapshot("a"))
    services.close()
    services.close()
    assert registry.watched == []
    assert not registry.closed
    assert services.stats().services == {}
    assert call(services) is not first
    assert registry.watched == ["users"]
    services.close()


def test_closed_before_the_first_view(registry: FakeRegistry) -> None:
    """F79: who waits for a first view goes on waiting when the transport is closed, but not when that is for ever."""
    services = make(registry)
    waits = call(services)
    services.close()
    assert registry.watched == ["users"]
    assert not waits.ready()
    del waits
    assert registry.watched == [], "nobody waits any more"
    waits = call(services)
    services.final = True
    services.close()
    assert registry.watched == []
    assert waits.ready()


def test_dropped_clients_are_not_kept_alive(registry: FakeRegistry) -> None:
    """F80: the registry keeps no client alive that its owner dropped without closing it, nor its watch."""

    class Owner:
        """As a transport does: it has the services, and the services call it."""

        def __init__(self) -> None:
            self.services = make(registry, on_gone=self.mark)

        def mark(self) -> None:
            """Nodes have left."""

    owner = Owner()
    call(owner.services)
    registry.tell(snapshot("a"))
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None
    assert registry.watched == []
    registry.tell(snapshot(revision=2))


def test_forked(registry: FakeRegistry) -> None:
    """F58, F59: a child begins anew with locks of its own, and closes nothing of its parent's."""
    services = make(registry)
    first = call(services)
    services._lock.acquire()
    services.after_fork()
    gc.collect()
    assert registry.watched == ["users"], "the parent's watch is left alone"
    assert call(services) is not first
    assert registry.watched == ["users", "users"]
    services.close()


def test_a_wrong_url_is_an_error_at_once() -> None:
    """A wrong registry is an error where the client is made."""
    with pytest.raises(ValueError, match="a registry URL starts with etcd://"):
        make("telnet://h")


# --- on a registry with threads ----------------------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as made:
        yield made


def test_on_a_real_registry(memory: MemoryRegistry) -> None:
    """Instances that come and go reach the balancer, on another thread; after close nothing does."""
    services = make(memory)
    memory.put(instance("a"))
    balancer = call(services)
    until(lambda: balancer.view is not None and ids(balancer) == ["a"])
    memory.put(instance("b"))
    until(lambda: ids(balancer) == ["a", "b"])
    memory.remove("a")
    until(lambda: ids(balancer) == ["b"])
    services.close()
    memory.put(instance("c"))
    assert ids(balancer) == ["b"]


def test_explains_with_the_registry_s_names(memory: MemoryRegistry) -> None:
    """Why nobody can serve a call, with the names that the registry knows."""
    services = make(memory)
    memory.put(instance("a", "users"))
    balancer = call(services, "user")
    until(lambda: balancer.view is not None)
    assert "did you mean 'users'?" in services.explain(balancer)
    services.close()


def test_statistics_after_close_hold_nothing() -> None:
    """F79: whoever looks at a closed client's statistics does not open its registry again."""
    services = make("memory://test-services")
    hold = services._hold
    services.close()
    assert services.stats().services == {}
    assert services.registry is hold.registry
    assert services._hold is hold
    call(services)
    assert services._hold is not hold
    services.close()


def test_idle_time() -> None:
    """The defaults that the documentation names."""
    assert (module.IDLE, MAX_SERVICES) == (300.0, 1024)
