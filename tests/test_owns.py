"""Owning, on the instance's side: the same answer as callers compute, and explicit ones where there is none."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import p2plb
from p2plb.discovery.memory import MemoryRegistry
from p2plb.discovery.registry import Registry
from p2plb.errors import DiscoveryError
from p2plb.instance import Instance
from p2plb.serving.lifetime import Registration
from p2plb.serving.owning import Here, Ownership, owns
from p2plb.sharding.shardmap import fill
from tests.fake_registry import FakeRegistry
from tests.fakes import instance, snapshot

KEYS = [f"user-{number}" for number in range(50)]


class FakeRecord:
    """A record as its ownership sees it."""

    def __init__(self, id: str = "a", service: str = "users") -> None:  # noqa: A002  the word of the record
        self.instance: Instance | None = instance(id, service)
        self.service = service
        self.fake = FakeRegistry()
        self.registry: Registry | None = self.fake


@pytest.fixture(name="registry")
def _registry() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as registry:
        yield registry


def registered(registry: MemoryRegistry, id: str, service: str = "users", port: int = 8001) -> Registration:  # noqa: A002
    """Return a registration under way in this process."""
    options: dict[str, Any] = {"drain_grace": 0.0, "ready": lambda: True, "registry": registry}
    found = p2plb.register(service, id=id, host="127.0.0.1", port=port, **options).start()
    assert found.wait(20)
    return found


def owned(timeout: float = 20) -> list[str]:
    return [key for key in KEYS if owns(key, timeout=timeout)]


def test_callers_and_the_instance_agree(registry: MemoryRegistry) -> None:
    """What an instance owns is what its callers send to it; others come and go."""
    registry.put(instance("b"))
    with registered(registry, "a"), p2plb.Client(registry, trust_env=False) as client:
        shards = p2plb.Shards(client, "users")
        assert owned() == [key for key in KEYS if shards.owner(key).id == "a"]
        assert 0 < len(owned()) < len(KEYS)
        registry.remove("b")
        settled(lambda: len(owned()) == len(KEYS))


def settled(condition: Any) -> None:
    waiting = threading.Event()
    for _ in range(4000):
        if condition():
            return
        waiting.wait(0.005)
    raise AssertionError("what was waited for has not come")


def test_who_drains_owns_nothing(registry: MemoryRegistry) -> None:
    """As soon as the record says so, callers go elsewhere: the instance agrees."""
    registry.put(instance("b"))
    with registered(registry, "a") as registration:
        assert owned()
        registration.drain()
        settled(lambda: not owned())


def test_a_process_that_is_not_registered(registry: MemoryRegistry) -> None:
    """That is a mistake of the program, also before the beginning and after the end."""
    with pytest.raises(RuntimeError, match=r"serves no service: p2plb\.register"):
        owns("user-42")
    with registered(registry, "a"):
        with pytest.raises(RuntimeError, match=r"serves not service 'orders'"):
            owns("user-42", service="orders")
        assert owns("user-42")
    with pytest.raises(RuntimeError, match="serves no service"):
        owns("user-42")


def test_several_services(registry: MemoryRegistry) -> None:
    """Which one is meant has to be said; several records of one service own together."""
    with registered(registry, "a"), registered(registry, "o", "orders", 8002):
        with pytest.raises(ValueError, match=r"serves orders, users: say which, owns\(key, service='orders'\)"):
            owns("user-42")
        assert owns("user-42", service="users", timeout=20)
    with registered(registry, "a"), registered(registry, "b", port=8002):
        settled(lambda: len(owned()) == len(KEYS))


def test_a_wrong_timeout() -> None:
    """It is checked as all arguments are."""
    with pytest.raises(TypeError, match=r"owns\(timeout=\) is a number"):
        owns("user-42", timeout=None)  # type: ignore[arg-type]  # that this fails is the subject


# --- before the list is known --------------------------------------------------------------------------------------


def test_before_the_first_list() -> None:
    """Nobody knows who owns a key: that is an error, and comes at once for whoever asks later."""
    record = FakeRecord()
    found = Ownership(record)
    for timeout in (0.01, 0.01):
        with pytest.raises(
            DiscoveryError, match="keys of service 'users' is not known: fake://: it has not answered yet"
        ):
            found.owns("user-42", timeout)
    record.fake.tell(snapshot("a", "b"))
    now = fill(snapshot("a", "b"))
    assert [found.owns(key, 0) for key in KEYS] == [now.owner(key).id == "a" for key in KEYS]
    record.fake.tell(snapshot("b", revision=2))
    assert not any(found.owns(key, 0) for key in KEYS)
    record.fake.tell(snapshot(revision=3))
    assert not found.owns("user-42", 0)
    found.close()
    assert record.fake.watched == []


def test_the_first_question_starts_one_watch() -> None:
    """A registration that is never asked watches nothing; one that has ended does not begin to."""
    record = FakeRecord()
    registry, found = record.fake, Ownership(record)
    assert registry.watched == []
    for _ in range(2):
        with pytest.raises(DiscoveryError):
            found.owns("user-42", 0)
    assert registry.watched == ["users"]
    found.close()
    ended = Ownership(record)
    ended.close()
    record.registry = None
    for one in (ended, Ownership(record)):
        with pytest.raises(DiscoveryError, match="the registration has ended"):
            one.owns("user-42", 0)
    assert registry.watched == []


def test_an_address_that_is_still_looked_for() -> None:
    """A record without an id owns nothing yet."""
    record = FakeRecord()
    found = Ownership(record)
    with pytest.raises(DiscoveryError):
        found.owns("user-42", 0)
    record.fake.tell(snapshot("a"))
    record.instance = None
    assert not found.owns("user-42", 0)
    found.close()


def test_in_a_forked_child() -> None:
    """The child is nobody's instance before it registers by itself."""
    here, record = Here(), FakeRecord()
    here.add(record)
    assert len(here.of(None)) == 1
    here.after_fork()
    with pytest.raises(RuntimeError, match="serves no service"):
        here.of(None)
    here.remove(record)
