"""Registering in a real etcd: what watchers see while instances come, go, freeze, fork and die."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.harness.etcd import Etcd, single
from integration.harness.proxy import FaultProxy
from p2plb.discovery import urls
from p2plb.discovery.registry import AnnouncementState, Registry
from p2plb.discovery.snapshot import Snapshot
from p2plb.instance import Instance
from p2plb.serving.registration import register
from p2plb.testing.etcd import free_port

ROOT = Path(__file__).parents[1]
SERVER = [sys.executable, str(ROOT / "examples/register/server.py")]
PATIENCE = 30.0
UP, RETRYING, FAILED = AnnouncementState.UP, AnnouncementState.RETRYING, AnnouncementState.FAILED


class Seen:
    """What a watcher of the service `users` was told, and a way to wait for it."""

    def __init__(self) -> None:
        self.history: list[tuple[Instance, ...]] = []
        self._changed = threading.Condition()

    def __call__(self, snapshot: Snapshot) -> None:
        with self._changed:
            self.history.append(snapshot.instances)
            self._changed.notify_all()

    @property
    def now(self) -> tuple[Instance, ...]:
        return self.history[-1] if self.history else ()

    def wait_for(self, condition: Callable[[tuple[Instance, ...]], bool], since: int = 0) -> tuple[Instance, ...]:
        """Return the first snapshot after the `since`th that meets the condition."""
        with self._changed:
            found = self._changed.wait_for(lambda: list(filter(condition, self.history[since:])), PATIENCE)
            assert found, f"not seen: {self.history}"
            return found[0]

    def wait_for_count(self, count: int, since: int = 0) -> tuple[Instance, ...]:
        return self.wait_for(lambda instances: len(instances) == count, since)


@pytest.fixture(name="url")
def _url(etcd: Etcd, prefix: str) -> str:
    return etcd.registry + prefix


@pytest.fixture(name="registry")
def _registry(url: str) -> Iterator[Registry]:
    with urls.build(url) as registry:
        yield registry


@pytest.fixture(name="seen")
def _seen(registry: Registry) -> Iterator[Seen]:
    seen = Seen()
    watch = registry.watch("users", seen)
    yield seen
    watch.close()


@contextmanager
def serving(url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the example server, registered as `users`."""
    command = [*SERVER, "--service", "users", "--registry", url, "--drain-grace", "0.3", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("P2PLB_REGISTRY", "POD_IP")}
    return kept | {"PYTHONWARNINGS": "error"}


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def yes() -> bool:
    return True


def test_a_server_drains_on_sigterm_and_dies_of_it(url: str, seen: Seen) -> None:
    """F02: watchers see up, then draining, then nothing; the process ends by SIGTERM, in silence."""
    with serving(url, "--ttl", "60") as process:
        (instance,) = seen.wait_for_count(1)
        assert instance.host == "127.0.0.1"
        up = len(seen.history)
        process.terminate()
        assert process.wait(PATIENCE) == -signal.SIGTERM
        assert process.stderr
        assert process.stderr.read() == ""
    seen.wait_for_count(0, since=up)
    states = [instances[0].state for instances in seen.history if instances]
    assert states == ["up", "draining"]


def test_a_crashed_server_is_replaced_at_once_by_its_successor(url: str, seen: Seen) -> None:
    """F16: the same id at the same address does not wait for the old lease, a minute long."""
    arguments = ("--ttl", "60", "--id", "users-1", "--port", str(free_port()))
    with serving(url, *arguments) as first:
        (old,) = seen.wait_for_count(1)
        first.kill()
    with serving(url, *arguments):
        seen.wait_for(lambda instances: any(each.started != old.started for each in instances))
        assert len(seen.now) == 1


def test_a_frozen_process_comes_back(url: str, seen: Seen) -> None:
    """F52: after a pause of twice the TTL watchers see the instance go and come back, the same one, once."""
    with serving(url, "--ttl", "2") as process:
        (instance,) = seen.wait_for_count(1)
        up = len(seen.history)
        process.send_signal(signal.SIGSTOP)
        seen.wait_for_count(0, since=up)
        time.sleep(1)
        process.send_signal(signal.SIGCONT)
        assert seen.wait_for_count(1, since=up + 1) == (instance,)
        time.sleep(1)
        assert seen.now == (instance,)


def test_a_deleted_record_is_put_back(etcd: Etcd, prefix: str, url: str, seen: Seen) -> None:
    """F53: an operator deletes everything while the lease lives."""
    with register("users", port=1, registry=url, ttl=2, ready=yes, drain_grace=0):
        (instance,) = seen.wait_for_count(1)
        up = len(seen.history)
        etcd.delete_prefix(prefix)
        seen.wait_for_count(0, since=up)
        assert seen.wait_for_count(1, since=up + 1) == (instance,)


def test_two_processes_with_one_id(url: str, seen: Seen) -> None:
    """F16: the second one fails with an error that says who has the id; the first one is not disturbed."""
    settings = {"registry": url, "id": "users-1", "ready": yes, "drain_grace": 0.0}
    with urls.build(url) as other, register("users", port=1, **settings) as first:  # type: ignore[arg-type]  # a dict of mixed values
        assert first.wait(PATIENCE)
        announced = other.announce(Instance(id="users-1", service="users", url="http://127.0.0.1:2"), ttl=2, ready=yes)
        assert eventually(lambda: announced.state is FAILED)
        assert "is registered by another process at http://127.0.0.1:1" in str(announced.error)
        assert first.state is UP
        assert {each.url for instances in seen.history for each in instances} == {"http://127.0.0.1:1"}


def test_answers_that_are_lost_change_nothing(etcd: Etcd, prefix: str, seen: Seen) -> None:
    """F54: grants and puts whose answers never arrive are repeated; what leaves stays away."""
    with FaultProxy(etcd.port) as proxy:
        proxy.reset_after(0)
        url = f"etcd://127.0.0.1:{proxy.port}{prefix}"
        with register("users", port=1, registry=url, ttl=2, ready=yes, drain_grace=0) as registration:
            assert not registration.wait(1.0)
            assert registration.state is RETRYING
            proxy.pass_through()
            assert registration.wait(PATIENCE)
            seen.wait_for_count(1)
        assert eventually(lambda: seen.now == ())
        time.sleep(0.5)
        assert seen.now == ()


def test_leaving_while_etcd_is_silent_is_bounded(etcd: Etcd, prefix: str, seen: Seen) -> None:
    """F55: nobody answers the farewell; the process ends all the same, and the TTL cleans up."""
    with FaultProxy(etcd.port) as proxy, serving(f"etcd://127.0.0.1:{proxy.port}{prefix}", "--ttl", "2") as process:
        seen.wait_for_count(1)
        up = len(seen.history)
        proxy.blackhole()
        started = time.monotonic()
        process.terminate()
        assert process.wait(PATIENCE) == -signal.SIGTERM
        assert time.monotonic() - started < 10  # 1.1 on an idle machine
        seen.wait_for_count(0, since=up)


def test_a_record_that_etcd_finds_too_large(prefix: str) -> None:
    """F57: the refusal is final and names the size; etcd is not asked again."""
    with (
        single(["--max-request-bytes", "300"]) as etcd,
        register("users", port=1, registry=etcd.registry, ready=yes, metadata={"text": "x" * 500}) as registration,
    ):
        assert eventually(lambda: registration.state is FAILED)
        assert "too large (the record has 7" in str(registration.error)


def test_a_wiped_etcd_is_filled_again(prefix: str) -> None:
    """F32: what was registered before the wipe stands again by itself."""
    with single() as etcd:
        url = etcd.registry + prefix
        with register("users", port=1, registry=url, ttl=2, ready=yes, drain_grace=0) as registration:
            assert registration.wait(PATIENCE)
            etcd.wipe()
            with urls.build(url) as registry:
                assert eventually(lambda: any(snapshot.instances for snapshot in registry.list()))


FORKING = """
import os, sys, time
import p2plb

with p2plb.register("users", port=1, registry=sys.argv[1], ttl=2, ready=lambda: True, drain_grace=0) as registration:
    assert registration.wait(30)
    if os.fork() == 0:
        if sys.argv[2] == "leave":
            sys.exit()                        # through the `with`, as a worker of multiprocessing may
        os.close(1)
        time.sleep(60)
    print("forked", flush=True)
    time.sleep(60)
"""


@contextmanager
def forking(url: str, child: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING, url, child]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "forked\n"
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_forked_child_sends_no_keepalive(url: str, seen: Seen) -> None:
    """F58: when the parent dies, its record dies with it, though a child lives on."""
    with forking(url, "stay") as parent:
        seen.wait_for_count(1)
        up = len(seen.history)
        parent.kill()
        seen.wait_for_count(0, since=up)


def test_a_forked_child_that_ends_takes_nothing_along(url: str, seen: Seen) -> None:
    """F58: a child that leaves the `with` neither drains nor removes its parent's record."""
    with forking(url, "leave"):
        seen.wait_for_count(1)
        time.sleep(1)
        assert [len(instances) for instances in seen.history if instances] == [1]
        assert [each.state for each in seen.now] == ["up"]


ENDING = """
import sys, p2plb

with p2plb.register("users", port=1, registry=sys.argv[1], ready=lambda: True, drain_grace=0) as registration:
    assert registration.wait(30)
"""


def test_a_program_that_has_left_ends_without_a_word(url: str) -> None:
    """The registry that is kept for a next user is closed at the end: no socket is found open under `-W error`."""
    command = [sys.executable, "-W", "error", "-c", ENDING, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
