"""A record whose address is still to be found out: it begins at once, and what was wanted meanwhile is kept."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from p2plb.discovery.etcd.registry import EtcdRegistry
from p2plb.discovery.registry import AnnouncementState
from p2plb.errors import RegistrationError
from p2plb.instance import Instance
from p2plb.serving.record import Record, Terms
from p2plb.serving.registration import register
from p2plb.testing.fake_etcd import FakeEtcd
from tests.contract_registry import PATIENCE, until

UP, WAITING, FAILED = AnnouncementState.UP, AnnouncementState.WAITING, AnnouncementState.FAILED


@pytest.fixture(name="registry")
def _registry() -> Iterator[EtcdRegistry]:
    """Lend a registry on a machine that has a name, so that finding the way there asks DNS."""
    with EtcdRegistry(FakeEtcd().driver(url="etcd://etcd.example:2379")) as registry:
        yield registry


class Resolver:
    """A guess of the own address that takes as long as a test wants."""

    def __init__(self, *answers: str | Exception) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()
        self._answers = iter(answers)

    def __call__(self, registry: str) -> str:
        self.asked.set()
        assert self.go_on.wait(PATIENCE)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def record(registry: EtcdRegistry, resolver: Callable[[str], str]) -> Record:
    options: dict[str, Any] = {"port": 8001, "ready": lambda: True, "registry": registry}
    terms: Terms = register("users", **options)._record._terms
    return Record(replace(terms, guess=resolver, guess_again=0.01), lambda: None)


def stored(registry: EtcdRegistry) -> list[Instance]:
    return [instance for snapshot in registry.list() for instance in snapshot.instances]


def leave(one: Record) -> None:
    one.bar()
    one.withdraw()
    one.close()


def test_dns_keeps_nobody_from_starting(registry: EtcdRegistry, caplog: pytest.LogCaptureFixture) -> None:
    """F28: the address is looked for again and again, with one warning a minute; a change meanwhile is kept.

    A wrong one is refused as at any other time, and spoils nothing.
    """
    resolver = Resolver(*[RegistrationError("can't be told")] * 3, "10.0.0.7")
    one = record(registry, resolver)
    one.begin()
    assert resolver.asked.wait(PATIENCE)
    assert (one.state, one.instance) == (WAITING, None)
    one.change({"weight": 5})
    with pytest.raises(ValueError, match="zone is a string of at most"):
        one.change({"zone": "rack 7, " * 20})
    resolver.go_on.set()
    until(lambda: one.state is UP)
    assert [(each.url, each.weight) for each in stored(registry)] == [("http://10.0.0.7:8001", 5)]
    assert one.error is None
    assert caplog.messages == ["users is not registered yet: can't be told"]
    leave(one)


def test_who_leaves_meanwhile_is_not_registered(registry: EtcdRegistry) -> None:
    """F79: a resolver that answers late puts nothing into the registry."""
    resolver = Resolver("10.0.0.7")
    one = record(registry, resolver)
    one.begin()
    assert resolver.asked.wait(PATIENCE)
    leave(one)
    resolver.go_on.set()
    until(lambda: not any("p2plb-locate" in each.name for each in threading.enumerate()))
    assert one.instance is None
    assert not stored(registry)


def test_an_address_that_nobody_would_believe_is_a_failure(
    registry: EtcdRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """F47: nobody waits for the thread that finds it out, so state and log tell."""
    resolver = Resolver("169.254.1.1")
    resolver.go_on.set()
    one = record(registry, resolver)
    one.begin()
    until(lambda: one.state is FAILED)
    assert "169.254.1.1 is no address of an instance" in str(one.error)
    assert caplog.messages == ["users can't be registered"]
    leave(one)


def test_what_a_record_is_announced_by_shows_no_password() -> None:
    """The URL of a registry may hold one."""
    terms = register("users", port=8001, registry="etcd://root:secret@127.0.0.1:2379")._record._terms
    assert "secret" not in repr(terms)
