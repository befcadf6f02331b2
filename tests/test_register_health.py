"""`healthy=`: an instance that says it is not well is marked down, and up again; the check never costs its record."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from p2plb.discovery.memory import MemoryRegistry
from p2plb.discovery.registry import AnnouncementState
from p2plb.serving.health import Health
from p2plb.serving.registration import Registration, register
from tests.contract_registry import PATIENCE, until

UP = AnnouncementState.UP
INTERVAL = 0.1
"""Seconds; the time to answer too, so it must last on a busy machine."""


class Verdicts:
    """What a check was told of, and a switch for what it says."""

    def __init__(self) -> None:
        self.says: Callable[[], object] = lambda: True
        self.told: list[bool] = []

    def __call__(self) -> object:
        return self.says()


def fail() -> object:
    raise ZeroDivisionError("secret")


def no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.fixture(name="verdicts")
def _verdicts() -> Verdicts:
    return Verdicts()


@pytest.fixture(name="health")
def _health(verdicts: Verdicts) -> Iterator[Health]:
    health = Health("users", verdicts, INTERVAL, verdicts.told.append)
    yield health
    health.stop()


def test_changes_are_told_once(health: Health, verdicts: Verdicts, caplog: pytest.LogCaptureFixture) -> None:
    """The first verdict and each other one; a check that fails is a no, and says in the log why."""
    health.start()
    until(lambda: verdicts.told == [True])
    verdicts.says = fail
    until(lambda: verdicts.told == [True, False])
    assert str(health.trouble) == "healthy() raised ZeroDivisionError"
    verdicts.says = lambda: 0
    until(lambda: str(health.trouble) == "healthy() says no")
    verdicts.says = lambda: "yes"
    until(lambda: verdicts.told == [True, False, True])
    assert health.trouble is None
    assert caplog.messages == ["users is down here: healthy() raised ZeroDivisionError"]


def test_sys_exit_in_a_check_is_a_no(health: Health, verdicts: Verdicts) -> None:
    """The user's code must not end the thread that asks."""
    verdicts.says = lambda: exit(1)  # noqa: PLR1722  what people write
    health.start()
    until(lambda: verdicts.told == [False])
    verdicts.says = lambda: True
    until(lambda: verdicts.told == [False, True])


def test_a_coroutine_is_no_answer(health: Health, verdicts: Verdicts) -> None:
    """`lambda: pool.ping()` of an async pool answers nothing; taken as a bool it would be a yes for ever."""

    async def ping() -> bool:
        return True

    verdicts.says = ping
    health.start()
    until(lambda: verdicts.told == [False])
    assert str(health.trouble).startswith("healthy() returned a coroutine")


def test_a_process_without_threads_to_spare_is_down_and_asks_again(
    health: Health, verdicts: Verdicts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit of threads a question can't be asked: that is a no, and the asking goes on."""
    health.start()
    until(lambda: verdicts.told == [True])
    with monkeypatch.context() as limit:
        limit.setattr(threading.Thread, "start", no_thread)
        until(lambda: verdicts.told == [True, False])
    assert "the thread p2plb-healthy can't be started: can't start new thread" in str(health.trouble)
    until(lambda: verdicts.told == [True, False, True])


def test_a_check_that_hangs_is_a_no_and_is_not_asked_twice(health: Health, verdicts: Verdicts) -> None:
    """No answer within the interval means down; when it comes back, so does the instance. No threads pile up."""
    go_on, asked = threading.Event(), []

    def hang() -> bool:
        asked.append(1)
        return go_on.wait(PATIENCE)

    verdicts.says = hang
    health.start()
    until(lambda: verdicts.told == [False])
    assert str(health.trouble) == "healthy() gave no answer within 0.1 s"
    time.sleep(3 * INTERVAL)
    assert len(asked) == 1
    go_on.set()
    until(lambda: verdicts.told == [False, True])


@pytest.fixture(name="registry")
def _registry() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as registry:
        yield registry


def users(registry: MemoryRegistry, healthy: Callable[[], object], **settings: Any) -> Registration:
    usual: dict[str, Any] = {"port": 8001, "ready": lambda: True, "healthy_interval": INTERVAL, "drain_grace": 0.01}
    return register("users", registry=registry, healthy=healthy, **(usual | settings))


def states(registry: MemoryRegistry) -> list[str]:
    return [instance.state for snapshot in registry.list() for instance in snapshot.instances]


def test_the_record_is_marked_down_and_up(registry: MemoryRegistry, verdicts: Verdicts) -> None:
    """The record stands all the time; what is wrong is to be seen on the registration."""
    with users(registry, verdicts) as registration:
        assert registration.wait(PATIENCE)
        assert states(registry) == ["up"]
        verdicts.says = lambda: False
        until(lambda: states(registry) == ["down"])
        assert registration.state is UP
        assert str(registration.error) == "healthy() says no"
        verdicts.says = lambda: True
        until(lambda: states(registry) == ["up"])
        assert registration.error is None


def test_who_starts_unwell_is_put_as_down(registry: MemoryRegistry) -> None:
    """Nobody sees an `up` that the instance never said."""
    seen: list[str] = []
    watch = registry.watch("users", lambda snapshot: seen.extend(each.state for each in snapshot.instances))
    with users(registry, lambda: False) as registration:
        assert registration.wait(PATIENCE)
        until(lambda: "down" in seen)
    watch.close()
    assert "up" not in seen


def test_draining_is_final(registry: MemoryRegistry, verdicts: Verdicts) -> None:
    """An instance that is leaving is not marked up again by its health."""
    verdicts.says = lambda: False
    with users(registry, verdicts) as registration:
        assert registration.wait(PATIENCE)
        registration.drain()
        verdicts.says = lambda: True
        until(lambda: registration.error is None)
        assert states(registry) == ["draining"]


def test_a_check_that_hangs_keeps_nobody_from_leaving(registry: MemoryRegistry) -> None:
    """F55: the program ends, whatever its health check is doing."""
    go_on = threading.Event()
    with users(registry, lambda: go_on.wait(PATIENCE)) as registration:
        assert registration.wait(PATIENCE)
        started = time.monotonic()
    assert time.monotonic() - started < PATIENCE / 2
    assert not states(registry)
    go_on.set()
