"""Strategies that go by turns, by chance and by load: shares, worked out with randomness that a test gives."""

import random
from collections import Counter
from collections.abc import Iterable

import pytest

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.least_request import LeastRequest
from p2plb.balancing.strategies.random_choice import Random, aliases
from p2plb.balancing.strategies.round_robin import RoundRobin, WeightedRoundRobin
from p2plb.balancing.strategies.turns import LONGEST, counts, cycle
from p2plb.balancing.view import Picker, Strategy
from tests.fakes import many, nodes


@pytest.fixture(autouse=True)
def seed() -> None:
    """Each test draws the same numbers, in whichever order they run."""
    random.seed(4)


def weighted(*weights: float) -> list[Node]:
    return [nodes(f"n{number}", weight=weight)[0] for number, weight in enumerate(weights)]


def shares(pick: Picker, calls: int) -> list[int]:
    """Return how many of the calls each node had, most first."""
    return sorted(Counter(pick(Call("users")).id for _ in range(calls)).values(), reverse=True)


# --- turns -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "turns"),
    [
        ([1, 1, 1], [1, 1, 1]),
        ([7.3, 7.3], [1, 1]),
        ([0, 0], [1, 1]),
        ([5, 1, 1], [5, 1, 1]),
        ([2, 4, 0], [1, 2, 0]),
        ([0.5, 1.5], [1, 3]),
        ([1 / 3, 1], [1, 3]),
        ([0.001, 1], [1, 1000]),
        ([100, 250, 400], [2, 5, 8]),
    ],
)
def test_turns_of_a_cycle(weights: list[float], turns: list[int]) -> None:
    """Weights with a common measure have the shortest cycle that is exact; weight 0 has no turn unless all have it."""
    assert counts(weights) == turns


@pytest.mark.parametrize(
    "weights", [[0.12345, 1.0, 1000.0], [3.14159, 2.71828, 1.41421, 0.57721], [1e-10, 2e-10], [1e-10, 1.0]]
)
def test_turns_of_odd_weights(weights: list[float]) -> None:
    """Weights without a common measure are rounded to a cycle of bounded length, and none of them to nothing."""
    turns = counts(weights)
    assert sum(turns) == pytest.approx(LONGEST, abs=len(weights))
    assert min(turns) >= 1
    for turn, weight in zip(turns, weights, strict=True):
        assert turn == pytest.approx(LONGEST * weight / sum(weights), abs=1)


@pytest.mark.parametrize("weights", [[5, 1, 1], [3, 2, 1], [1, 2, 3, 10, 100]])
def test_turns_are_spread(weights: list[float]) -> None:
    """In any stretch of the cycle no weight is more than a turn or two away from its share."""
    order = cycle(weights)
    assert Counter(order) == dict(enumerate(weights))
    had = Counter[int]()
    for done, index in enumerate(order, 1):
        had[index] += 1
        assert all(abs(had[i] - done * w / sum(weights)) < 1.5 for i, w in enumerate(weights))


def test_turns_of_a_large_service() -> None:
    """The cycle of 10,000 nodes stays within bounds, whatever the weights."""
    assert cycle([1.0] * 10_000) == range(10_000)
    assert len(cycle([1.0 + (index % 997) / 997 for index in range(10_000)])) <= 50_000


@pytest.mark.parametrize("strategy", [WeightedRoundRobin(), LeastRequest()])
@pytest.mark.parametrize("weights", [(5, 1, 1), (0.5, 1.5), (1, 2, 3, 4, 5, 6)])
def test_exact_over_one_cycle(strategy: Strategy, weights: tuple[float, ...]) -> None:
    """Weighted round robin, and least request while it is idle, give each node exactly its share of one cycle."""
    turns = counts(weights)
    assert shares(strategy(weighted(*weights)), sum(turns)) == sorted(turns, reverse=True)


@pytest.mark.parametrize("strategy", [RoundRobin(), LeastRequest()])
def test_even_over_whole_cycles(strategy: Strategy) -> None:
    """F19: of 100 nodes each has the same number of calls over whole cycles."""
    assert set(shares(strategy(many(100)), 1000)) == {10}


def test_random_by_weight() -> None:
    """Shares of random picks are as the weights, within a tenth."""
    found = shares(Random()(weighted(1, 2, 5)), 8000)
    assert found == [pytest.approx(one, rel=0.1) for one in (5000, 2000, 1000)]
    assert min(shares(Random()(many(4)), 8000)) > 1800


@pytest.mark.parametrize("weights", [(1.0, 2.0), (0.0, 1.0, 3.0), (5.0, 0.001, 1000.0, 7.5), (1.0, 1.0, 4.0, 4.0)])
def test_aliases(weights: tuple[float, ...]) -> None:
    """What an index keeps and what others give it add up to its weight."""
    keeps, others = aliases(weights)
    got = [0.0] * len(weights)
    for index, (keep, other) in enumerate(zip(keeps, others, strict=True)):
        got[index] += keep
        got[other] += 1 - keep
    scale = len(weights) / sum(weights)
    assert got == pytest.approx([weight * scale for weight in weights])


# --- least request -----------------------------------------------------------------------------------------------


def scripted(values: Iterable[float]) -> LeastRequest:
    return LeastRequest(draw=iter(values).__next__)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_few_nodes_are_all_compared(size: int) -> None:
    """F08: among four nodes or fewer the idle one is found for certain."""
    some = many(size)
    claims = [node.claim() for node in some[1:]]
    assert shares(LeastRequest()(some), 50) == [50]
    del claims


@pytest.mark.parametrize(("choices", "expected"), [(2, 0.4), (3, 0.6), (5, 1.0), (100, 1.0)])
def test_choices(choices: int, expected: float) -> None:
    """The one idle node of five is found as often as it is among the choices, all different."""
    some = many(5)
    claims = [node.claim() for node in some[1:]]
    found = Counter(LeastRequest(choices)(some)(Call("users")).id for _ in range(2000))
    assert found[some[0].id] / 2000 == pytest.approx(expected, abs=0.04)
    del claims


def test_two_different_choices() -> None:
    """Whatever is drawn, the second choice is never the first again."""
    some = many(5)
    for start in range(5):
        claims = [some[start].claim()]
        for value in (0.0, 0.24, 0.25, 0.5, 0.75, 0.999999):
            pick = scripted([start / 5 + 0.01, value])(some)
            assert pick(Call("users")) is not some[start]
        del claims


@pytest.mark.parametrize(("bias", "picked"), [(1.0, "even"), (2.0, "small"), (0.5, "big")])
def test_active_request_bias(bias: float, picked: str) -> None:
    """Load counts by its power against weight: 2 of weight 1 and 8 of weight 4 are alike only if it is 1."""
    small, big = nodes("small")[0], nodes("big", weight=4.0)[0]
    claims = [small.claim() for _ in range(2)] + [big.claim() for _ in range(8)]
    found = {LeastRequest(active_request_bias=bias)([small, big])(Call("users")).id for _ in range(50)}
    assert found == ({"small", "big"} if picked == "even" else {picked})
    del claims


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"choices": 1}, ValueError, "from 2 to 100"),
        ({"choices": 2.0}, TypeError, "a whole number, not 2.0"),
        ({"active_request_bias": 0}, ValueError, "from 0.1 to 10"),
    ],
)
def test_wrong_arguments(wrong: dict[str, float], error: type[Exception], text: str) -> None:
    """What can't be is refused where it is written."""
    with pytest.raises(error, match=text):
        LeastRequest(**wrong)  # type: ignore[arg-type]  # wrong arguments are the subject
