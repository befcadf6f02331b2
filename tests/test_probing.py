"""Probing as data: what is picked, given what the nodes have reported."""

import math
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.probing import Probing
from p2plb.load import LoadReport
from tests.fakes import Clock, many, nodes

NOW = 1000.0


def report(node: Node, in_flight: float | None, latency: float | None, age: float = 0.0) -> Node:
    """Let a node have reported."""
    node.health.report = LoadReport(NOW - age, in_flight, latency)
    return node


def shares(some: list[Node], count: int = 400, **options: Any) -> Counter[str]:
    """Return how often each node is picked; each pick is for another call that ends at once."""
    rng = random.Random(1)
    pick = Probing(**{"explore": 0.0, **options}, clock=Clock(NOW), draw=rng.random)(some)
    return Counter(pick(Call("users")).id for _ in range(count))


def test_the_fastest_that_is_not_hot() -> None:
    """The fastest node has the most in flight, so the next one in speed is taken."""
    hot, fast, slow = nodes("hot", "fast", "slow")
    some = [report(hot, 9, 0.001), report(fast, 3, 0.010), report(slow, 1, 0.100)]
    assert shares(some) == {"fast": 400}


def test_among_equals_in_load_the_fastest() -> None:
    """If all have as many in flight, none is hot."""
    some = [report(node, 4, latency) for node, latency in zip(nodes("a", "b"), (0.02, 0.01), strict=True)]
    assert shares(some) == {"b": 400}


def test_calls_under_way_count() -> None:
    """What this client has sent since a report makes a node hotter."""
    some = [report(node, 1, latency) for node, latency in zip(nodes("a", "b"), (0.01, 0.02), strict=True)]
    assert shares(some) == {"a": 400}
    claims = [some[0].claim() for _ in range(2)]
    assert shares(some) == {"b": 400}
    for claim in claims:
        claim.release()


def test_load_is_in_proportion_to_weight() -> None:
    """Six in flight at weight 4 are fewer than three at weight 1."""
    big, small = nodes("big", weight=4.0)[0], nodes("small")[0]
    assert shares([report(big, 6, 0.02), report(small, 3, 0.01)]) == {"big": 400}


def test_an_old_report_says_nothing() -> None:
    """F18: a report is believed for a second; without two, calls in flight decide."""
    stale, busy = nodes("stale", "busy")
    some = [report(stale, 0, 0.001, age=1.1), report(busy, 50, 1.0)]
    claim = busy.claim()
    assert shares(some) == {"stale": 400}
    claim.release()
    assert set(shares(some)) == {"stale", "busy"}


def test_a_newcomer_gets_one_call() -> None:
    """F19: of whom nobody has heard gets a call at once, and no more until it has answered."""
    some = [report(node, 2, 0.01) for node in nodes("a", "b")]
    newcomer = nodes("newcomer")[0]
    assert shares([*some, newcomer]) == {"newcomer": 400}
    claim = newcomer.claim()
    assert shares([*some, newcomer])["newcomer"] == 0
    claim.release()
    newcomer.health.sample(0.01, NOW)  # it has answered, and does not report
    assert shares([*some, newcomer])["newcomer"] == 0
    assert shares([*some, newcomer], explore=0.3)["newcomer"] > 10


def test_a_newcomer_that_fails_draws_no_calls() -> None:
    """F11: who has only failed so far, however fast, has had its one call."""
    some = [report(node, 2, 0.01) for node in nodes("a", "b")]
    broken = nodes("broken")[0]
    broken.health.peak.failed(0.001, NOW)
    assert shares([*some, broken])["broken"] == 0
    assert shares([*some, broken], explore=0.3)["broken"] > 10


def test_what_is_to_be_avoided_is_no_candidate() -> None:
    """F21: a node that the call has tried is passed over, however well it reports."""
    some = [report(node, 1, latency) for node, latency in zip(nodes("a", "b", "c"), (0.01, 0.02, 0.03), strict=True)]
    call = Call("users")
    call.avoid = frozenset(some[:1])
    pick = Probing(explore=0.0, clock=Clock(NOW))(some)
    assert pick(call).id == "b"


def test_without_reports_by_weight_and_calls_in_flight() -> None:
    """Instances that do not report are used in proportion to their weight."""
    some = [*nodes("a", "b"), *nodes("big", weight=3.0)]
    for node in some:
        node.health.sample(0.01, NOW)
    found = shares(some, 5_000)
    assert found["big"] / found.total() == pytest.approx(0.6, abs=0.1)


def test_a_pool_is_small() -> None:
    """Of a hundred nodes sixteen are looked at, not always the same: equal nodes get about as many calls each."""
    some = [report(node, 1, 0.01) for number, node in enumerate(many(100))]
    found = shares(some, 2_000)
    assert len(found) == 100
    assert max(found.values()) <= 2_000 / 100 * 2


@pytest.mark.parametrize("weights", [(0.0, 5.0), (1000.0, 1.0), (math.pi, math.e)])
def test_any_weights(weights: tuple[float, float]) -> None:
    """Whatever the weights: a node is picked."""
    some = [nodes(name, weight=weight)[0] for name, weight in zip("ab", weights, strict=True)]
    assert shares(some, 50).total() == 50


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"pool": 1}, r"Probing\(pool=\) is from 2 to 64"),
        ({"pool": 2.5}, "whole number"),
        ({"max_age": 0}, r"max_age=\) is from 0.01"),
        ({"hot": 2}, r"hot=\) is from 0 to 1"),
        ({"explore": "much"}, r"explore=\) is a number"),
    ],
)
def test_bad_arguments(options: dict[str, Any], text: str) -> None:
    """What makes no sense is refused at once, with what to write."""
    with pytest.raises((ValueError, TypeError), match=text):
        Probing(**options)


def test_it_is_a_value() -> None:
    """Two with the same options are equal, whatever they are used for; options are replaced as in any dataclass."""
    assert replace(Probing(), pool=8) == Probing(pool=8)
