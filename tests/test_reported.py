"""Weighted round robin by reports, as data: what instances say becomes their share of the turns."""

from collections import Counter

import pytest

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.reported import BLACKOUT, EXPIRY, PERIOD, steps
from p2plb.balancing.strategies.round_robin import WeightedRoundRobin
from p2plb.balancing.view import Picker
from p2plb.load import LoadReport
from tests.fakes import Clock, many, nodes


def report(node: Node, clock: Clock, rate: float, utilization: float, errors: float = 0.0) -> None:
    node.health.report = LoadReport(clock(), utilization=utilization, rate=rate, errors=errors)


def made(some: list[Node], clock: Clock, start: float = 0.3) -> Picker:
    return WeightedRoundRobin(reported=True, clock=clock, draw=lambda: start)(some)


def shares(pick: Picker, count: int = 6_000) -> dict[str, float]:
    found = Counter(pick(Call("users")).id for _ in range(count))
    return {name: calls / count for name, calls in found.items()}


def settle(pick: Picker, clock: Clock) -> None:
    """Let the time pass until reporters are believed."""
    pick(Call("users"))
    clock.now += PERIOD
    pick(Call("users"))
    clock.now += BLACKOUT


def test_shares_are_as_reported() -> None:
    """An instance that serves three times as much with the same processor gets three times the calls."""
    clock, some = Clock(), nodes("a", "b")
    report(some[0], clock, rate=100, utilization=0.5)
    report(some[1], clock, rate=300, utilization=0.5)
    pick = made(some, clock)
    settle(pick, clock)
    assert shares(pick) == pytest.approx({"a": 0.25, "b": 0.75}, abs=0.005)


def test_errors_count_against_an_instance() -> None:
    """F47: who fails half of its requests counts as used for half a processor more."""
    clock, some = Clock(), nodes("good", "bad")
    report(some[0], clock, rate=100, utilization=0.5)
    report(some[1], clock, rate=100, utilization=0.5, errors=50)
    pick = made(some, clock)
    settle(pick, clock)
    assert shares(pick) == pytest.approx({"good": 2 / 3, "bad": 1 / 3}, abs=0.005)


def test_a_newcomer_has_the_mean() -> None:
    """F19: an instance that does not report yet, or not for long, gets what others get on the average."""
    clock, some = Clock(), nodes("a", "b", "new")
    for node, rate in zip(some, (100, 300, 10_000), strict=True):
        report(node, clock, rate=rate, utilization=0.5)
    pick = made(some[:2], clock)
    settle(pick, clock)
    assert shares(made(some, clock)) == pytest.approx({"a": 1 / 6, "b": 3 / 6, "new": 2 / 6}, abs=0.005)


@pytest.mark.parametrize("known", [0, 1])
def test_without_reports_by_the_records(known: int) -> None:
    """As long as not two instances report, the weights of the records hold."""
    clock, some = Clock(), [*nodes("a"), *nodes("b", weight=3.0)]
    for node in some[:known]:
        report(node, clock, rate=100, utilization=0.5)
    pick = made(some, clock)
    settle(pick, clock)
    assert shares(pick) == pytest.approx({"a": 0.25, "b": 0.75}, abs=0.005)


def test_old_reports_are_dropped() -> None:
    """F18: three minutes after the last report of anybody the records' weights hold again, and a blackout follows."""
    clock, some = Clock(), nodes("a", "b")
    for node, rate in zip(some, (100, 300), strict=True):
        report(node, clock, rate=rate, utilization=0.5)
    pick = made(some, clock)
    settle(pick, clock)
    assert shares(pick)["b"] > 0.7
    clock.now += EXPIRY
    assert shares(pick)["b"] == pytest.approx(0.5, abs=0.01)
    for node, rate in zip(some, (100, 300), strict=True):
        report(node, clock, rate=rate, utilization=0.5)
    clock.now += PERIOD
    assert shares(pick)["b"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1.0, 1.0], [65_535, 65_535]),
        ([0.0, 0.0], [65_535, 65_535]),
        ([0.0, 2.0], [0, 65_535]),
        ([1e-9, 2.0], [1, 65_535]),
    ],
)
def test_steps(weights: list[float], expected: list[int]) -> None:
    """The greatest is due at each turn, nobody with a weight is left out, and all of weight 0 are equal."""
    assert steps(weights) == expected


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ({"rate": 1e6, "utilization": 1e-6}, 10 / 14),
        ({"rate": 1e6, "utilization": 5e-324}, 10 / 14),
        ({"rate": 1e-300, "utilization": 1.0, "errors": 1e6}, 0.01 / 4.01),
    ],
)
def test_one_report_cannot_take_all(said: dict[str, float], part: float) -> None:
    """F85: nonsense counts as ten times or a hundredth of what the others report, and breaks nothing."""
    clock, some = Clock(), nodes("a", "b", "c", "d", "liar")
    for node in some[:-1]:
        report(node, clock, rate=100, utilization=0.5)
    report(some[-1], clock, **said)
    pick = made(some, clock)
    settle(pick, clock)
    assert shares(pick).get("liar", 0.0) == pytest.approx(part, rel=0.05)


def test_a_turn_is_found_soon() -> None:
    """A weight beyond all others counts as ten times the mean."""
    found = steps([1.0] * 99 + [1e9])
    assert found[-1] == 65_535
    assert min(found) >= 1
    assert steps([1.0] * 99 + [200.0])[0] == pytest.approx(65_535 / (10 * 299 / 100), rel=0.001)


def test_equal_turns() -> None:
    """Equal instances get equal turns, whatever their number and the start."""
    found = shares(made(many(7), Clock(), 0.77), 7_000)
    assert max(found.values()) == min(found.values()) == pytest.approx(1 / 7)
