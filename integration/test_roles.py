"""The roles of .github/SECURITY.md, made by its own commands, are enough for callers and instances, and no more."""

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import p2plb
from integration.harness.etcd import ROOT_USER, Etcd, single
from p2plb.discovery.registry import AnnouncementState
from p2plb.errors import DiscoveryError
from p2plb.instance import Instance
from tests.contract_registry import Heard, until

PASSWORD = "correct-horse"
GUIDE = Path(__file__).parents[1] / ".github" / "SECURITY.md"
ONE = Instance("one", "users", "http://127.0.0.1:8001")
OTHER = Instance("one", "orders", "http://127.0.0.1:8001")


def commands() -> list[list[str]]:
    _, block, _ = GUIDE.read_text("utf-8").split("```")
    return [shlex.split(line) for line in block.splitlines() if line.startswith("etcdctl ")]


@pytest.fixture(scope="module")
def locked() -> Iterator[Etcd]:
    with single() as node:
        node.lock(PASSWORD)
        for _, *command in commands():
            with_password = [f"{command[-1]}:{PASSWORD}"] if command[:2] == ["user", "add"] else command[-1:]
            node.ctl(f"--user={ROOT_USER}:{PASSWORD}", *command[:-1], *with_password)
        yield node


def registry(node: Etcd, user: str) -> p2plb.Registry:
    return p2plb.etcd(f"127.0.0.1:{node.port}", user=user, password=PASSWORD)


def test_an_instance_announces_its_service_and_a_caller_sees_it(locked: Etcd) -> None:
    """Write below its own service is all that an instance needs, read all that a caller needs."""
    with registry(locked, "users") as instance, registry(locked, "caller") as caller:
        watch = caller.watch("users", heard := Heard())
        announcement = instance.announce(ONE, ttl=5)
        heard.waits_for("one")
        until(lambda: announcement.state is AnnouncementState.UP)
        assert [snapshot.service for snapshot in caller.list()] == ["users"]
        announcement.withdraw(10)
        heard.waits_for()
        watch.close()


def test_a_caller_writes_nothing(locked: Etcd) -> None:
    """Who may only read can't take a service's calls."""
    with pytest.raises(subprocess.CalledProcessError) as denied:
        locked.ctl(f"--user=caller:{PASSWORD}", "put", "/p2plb/services/users/evil", "{}")
    assert "permission denied" in denied.value.stderr


def test_an_instance_stays_below_its_service(locked: Etcd) -> None:
    """An instance of one service can't take the calls of another, nor list them all."""
    with registry(locked, "users") as instance:
        announcement = instance.announce(OTHER, ttl=5)
        until(lambda: announcement.state is AnnouncementState.FAILED)
        assert "permission denied" in str(announcement.error)
        with pytest.raises(DiscoveryError, match="permission denied"):
            instance.list()
