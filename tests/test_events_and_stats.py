"""What can be seen from outside: observers that can't do harm, and statistics that are ready for JSON."""

import dataclasses
import json
import logging
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

import p2plb
from p2plb.balancing.balancer import Balancer
from p2plb.balancing.call import Call
from p2plb.discovery.registry import RegistryStatus
from p2plb.observe.events import Event, ViewChanged, emit
from p2plb.observe.stats import NodeStats, ServiceStats, Stats, service_stats
from tests.fakes import OK, Driver, balancer_of, first_fit, instance, node_of

EVENT = ViewChanged("users", 1, ("a",), (), 1)


def test_observers_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    """F82: what an observer raises is logged, once a minute, and the next one is told all the same."""
    caplog.set_level(logging.ERROR, "p2plb")
    seen: list[Event] = []

    def broken(_event: Event) -> None:
        raise LookupError

    for _ in range(3):
        emit([broken, seen.append], EVENT)
    assert seen == [EVENT] * 3
    assert len(caplog.records) == 1
    assert "broken" in caplog.records[0].getMessage()


def test_events_are_frozen() -> None:
    """No observer can change what the next one sees."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        EVENT.nodes = 2  # type: ignore[misc]  # that it can't be set is the subject


def test_no_observer_no_event() -> None:
    """Without observers a call builds no event: nothing but its history is written down."""
    driver = Driver(balancer_of("a"), {"a": OK})
    call = driver.run()
    assert list(call.observers) == []
    assert len(call.history) == 1
    call.release()


def test_before_the_first_view() -> None:
    """A service that is still waited for has no nodes."""
    assert service_stats(Balancer("users", first_fit), 0.0) == ServiceStats(0, (), {})


def test_statistics() -> None:
    """Nodes with load, latency and ejection, and who was left out and why, as JSON."""
    balancer = balancer_of("a", "b", instance("c", state="draining"))
    a, b = node_of(balancer, "a"), node_of(balancer, "b")
    claim = a.claim()
    a.health.sample(0.25, 0.0)
    balancer.ejections.refused(b, 10.0, "ConnectError")
    found = service_stats(balancer, 10.25)
    assert found == ServiceStats(
        1,
        (
            NodeStats("a", "http://a.example:80", "up", "", 1.0, 1, 0.25, None, None),
            NodeStats("b", "http://b.example:80", "up", "", 1.0, 0, None, 0.75, "ConnectError"),
        ),
        {"c": "draining"},
    )
    stats = Stats(RegistryStatus("memory://", True, 0.0, None, 1, 0, ("users",)), {"users": found})
    shown = json.loads(json.dumps(dataclasses.asdict(stats)))
    assert shown["services"]["users"]["nodes"][1]["ejected_for"] == 0.75
    claim.release()


def test_mishaps_of_a_strategy() -> None:
    """F84: how often a strategy failed and a random node was picked is counted."""
    nothing: Any = lambda _call: None  # noqa: E731  the shortest picker that is none
    balancer = balancer_of("a", strategy=lambda _nodes: nothing)
    for _ in range(3):
        balancer.claim(Call("users"), 0.0)
    assert service_stats(balancer, 0.0).mishaps == 3


class Hanging(httpx.AsyncBaseTransport):
    """An instance that has the request and does not answer."""

    def __init__(self, reached: Callable[[], object]) -> None:
        self._reached = reached

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._reached()
        await anyio.sleep_forever()
        raise AssertionError


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_call_ends_for_its_observers_too(backend: str) -> None:
    """F63: whoever counts what has started and ended comes out even when a call is cancelled."""
    heard: list[str] = []

    async def main() -> None:
        scope = anyio.CancelScope()
        async with p2plb.AsyncClient(
            "static://users=10.0.0.7:80",
            inner=lambda _instance: Hanging(scope.cancel),
            observers=[lambda event: heard.append(type(event).__name__)],
        ) as client:
            with scope:
                await client.get("http://users/")
            assert client.stats().services["users"].nodes[0].in_flight == 0

    anyio.run(main, backend=backend)
    assert [name for name in heard if name != "ViewChanged"] == ["AttemptStarted", "AttemptEnded", "CallEnded"]
