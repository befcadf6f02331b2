"""The strategies: the contract that each keeps, and what is peculiar to each."""

import itertools
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

import pytest

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.consistent_hash import POINTS, ConsistentHash, Ring, hash_key
from p2plb.balancing.strategies.least_request import LeastRequest
from p2plb.balancing.strategies.peak_ewma import PeakEwma
from p2plb.balancing.strategies.random_choice import Random
from p2plb.balancing.strategies.round_robin import RoundRobin, WeightedRoundRobin
from p2plb.balancing.strategies.slow_start import SlowStart
from p2plb.balancing.strategies.subset import Subset
from p2plb.balancing.strategies.where import Where
from p2plb.balancing.strategies.zone_aware import ZoneAware
from p2plb.balancing.view import Picker, Strategy
from tests.contract_strategy import Blind, StrategyContract, drive
from tests.fakes import instance, many, nodes, snapshot


def plain_round_robin(nodes: Sequence[Node]) -> Picker:
    turn = itertools.count(random.randrange(len(nodes)))
    return lambda _call: nodes[next(turn) % len(nodes)]


def least_loaded(nodes: Sequence[Node]) -> Picker:
    return lambda _call: min(nodes, key=lambda node: node.in_flight)


def by_remainder(nodes: Sequence[Node]) -> Picker:
    return lambda call: nodes[hash_key(call.key) % len(nodes)]


STRATEGIES: dict[str, Strategy] = {
    "round robin": RoundRobin(),
    "weighted round robin": WeightedRoundRobin(),
    "random": Random(),
    "least request": LeastRequest(),
    "least request of five": LeastRequest(choices=5),
    "peak ewma": PeakEwma(),
    "zone aware": ZoneAware(LeastRequest(), "a"),
    "zone aware, hard": ZoneAware(ConsistentHash(), "a", hard=True),
    "subset": Subset(RoundRobin(), 10),
    "slow start": SlowStart(PeakEwma()),
    "where": Where(PeakEwma(), {"version": "2"}),
    "many around one": Where(ZoneAware(SlowStart(Subset(PeakEwma(), 10)), "a"), {}, otherwise="none"),
    "consistent hash": ConsistentHash(),
    "a plain round robin": plain_round_robin,
    "a plain least loaded": least_loaded,
    "a plain keyed one": by_remainder,
}


@pytest.fixture(params=STRATEGIES)
def strategy(request: pytest.FixtureRequest) -> Strategy:
    return STRATEGIES[request.param]


class TestContract(StrategyContract):
    """Every strategy, ours and plain functions."""


@pytest.mark.parametrize("naive", [least_loaded, by_remainder])
def test_negative_control(naive: Strategy) -> None:
    """Without the balancer's avoiding, one dead node of four makes the same check fail."""
    balancer = Blind("users", naive)
    balancer.update(snapshot("a", "b", "c", "d"))
    with pytest.raises(AssertionError, match=r"no end to it|failed"):
        drive(balancer, dead=["d"] if naive is by_remainder else ["a"])


def shares(pick: Picker, calls: int) -> Counter[str]:
    return Counter(pick(Call("users", key=number)).id for number in range(calls))


# --- round robin -------------------------------------------------------------------------------------------------


def test_round_robin_is_exact() -> None:
    """Over whole cycles each node has the same number of calls, whatever its weight."""
    some = [*nodes("a", "b", weight=9.0), *nodes("c")]
    assert shares(RoundRobin()(some), 300) == {"a": 100, "b": 100, "c": 100}


@pytest.mark.parametrize("strategy", [RoundRobin(), LeastRequest()])
def test_random_start(strategy: Strategy) -> None:
    """Processes do not all begin with the same node."""
    some = many(5)
    starts = {strategy(some)(Call("users")).id for _ in range(200)}
    assert len(starts) == 5


# --- least request -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 10])
def test_least_request_is_even_when_idle(size: int) -> None:
    """With nothing in flight nodes of equal weight take their turns."""
    found = shares(LeastRequest()(many(size)), size * 60)
    assert max(found.values()) <= 1.05 * 60
    assert len(found) == size


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 3.0)])
def test_least_request_prefers_the_idle(weights: tuple[float, float]) -> None:
    """F08: of two nodes the one with fewer calls in flight, in proportion to weight."""
    busy, idle = nodes("busy", weight=weights[0])[0], nodes("idle", weight=weights[1])[0]
    claims = [busy.claim() for _ in range(4)] + [idle.claim()]
    assert shares(LeastRequest()([busy, idle]), 600) == {"idle": 600}
    for claim in claims:
        claim.release()


def test_least_request_avoids_a_slow_node() -> None:
    """F08: a node on which calls pile up is given few more."""
    some = many(4)
    pile = [some[0].claim() for _ in range(50)]
    pick = LeastRequest()(some)
    assert shares(pick, 400)[some[0].id] == 0
    for claim in pile:
        claim.release()


def test_least_request_by_weight() -> None:
    """With unequal weights the idle shares are as the weights, within a tenth."""
    weights = {"a": 1.0, "b": 2.0, "c": 5.0, "d": 0.0}
    some = [nodes(one, weight=weight)[0] for one, weight in weights.items()]
    found = shares(LeastRequest()(some), 40_000)
    assert found["d"] == 0
    for one in "abc":
        assert found[one] / 40_000 == pytest.approx(weights[one] / 8.0, rel=0.1)


def test_least_request_follows_load_by_weight() -> None:
    """A node of three times the weight carries three times the calls in flight."""
    small, big = nodes("small")[0], nodes("big", weight=3.0)[0]
    pick = LeastRequest()([small, big])
    claims = [pick(Call("users")).claim() for _ in range(400)]
    assert big.in_flight / small.in_flight == pytest.approx(3.0, rel=0.1)
    for claim in claims:
        claim.release()


# --- consistent hashing ------------------------------------------------------------------------------------------


def owner(pick: Picker, key: object) -> str:
    return pick(Call("users", key=key)).id


SHOW_OWNERS = """
from tests.fakes import many
from tests.test_strategies import owner
from p2plb.balancing.strategies.consistent_hash import ConsistentHash
pick = ConsistentHash()(many(7))
print(",".join(owner(pick, f"user-{n}") for n in range(200)))
"""


def test_two_processes_agree() -> None:
    """F85: the same nodes and keys give the same owners in every process, whatever PYTHONHASHSEED."""
    pick = ConsistentHash()(many(7))
    here = ",".join(owner(pick, f"user-{number}") for number in range(200))
    there = subprocess.run(
        [sys.executable, "-c", SHOW_OWNERS],
        env={**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == here


def test_order_and_address_do_not_matter() -> None:
    """F14, F85: nodes own keys by their id."""
    some, moved = many(7), [Node(instance(node.id, url="http://10.0.0.1:9")) for node in many(7)]
    picks = [ConsistentHash()(one) for one in (some, some[::-1], moved)]
    assert all(len({owner(pick, key) for pick in picks}) == 1 for key in range(500))


@pytest.mark.parametrize("leaver", [0, 4, 9])
def test_only_the_leavers_keys_move(leaver: int) -> None:
    """F85: when a node leaves, keys of the others stay where they are; when it comes back, all is as it was."""
    some = many(10)
    before, after = ConsistentHash()(some), ConsistentHash()([*some[:leaver], *some[leaver + 1 :]])
    gone = some[leaver].id
    for key in range(4000):
        was, now = owner(before, key), owner(after, key)
        assert now != gone
        assert was in {now, gone}


def test_even_shares() -> None:
    """F85: ten nodes own about the same number of 20,000 keys."""
    found = shares(ConsistentHash()(many(10)), 20_000)
    assert len(found) == 10
    assert max(found.values()) / 2000 <= 1.35


def test_shares_by_weight() -> None:
    """A node of twice the weight owns about twice the keys."""
    found = shares(ConsistentHash()([*nodes("a", "b"), *nodes("c", weight=2.0)]), 20_000)
    assert found["c"] / 20_000 == pytest.approx(0.5, rel=0.2)


def test_the_next_on_the_ring() -> None:
    """What would go to a node that is to be avoided goes to the same next one each time, and spreads over all."""
    some = many(5)
    pick, rest = ConsistentHash()(some), ConsistentHash()(some[1:])
    heirs = Counter[str]()
    for key in range(2000):
        call = Call("users", key=key)
        call.avoid = frozenset(some[:1])
        assert pick(call).id == owner(rest, key), "as if the node were not there"
        heirs[pick(call).id] += owner(pick, key) == some[0].id
    assert len(heirs) == 4
    call = Call("users", key="k")
    call.avoid = frozenset(some)
    assert pick(call).id == owner(pick, "k"), "with all to be avoided, the owner"


def test_ring_yields_each_node_once() -> None:
    """All nodes stand on the circle, from any point on it."""
    some = many(6)
    ring = Ring(some)
    for start in (0, 1 << 63, (1 << 64) - 1):
        assert Counter(node.id for node in ring.owners(start)) == {node.id: 1 for node in some}


@pytest.mark.parametrize(
    ("weight", "points"), [(1.0, 160), (0.5, 80), (0.001, 1), (16.0, 2560), (17.0, 1360), (1000.0, 2500)]
)
def test_points(weight: float, points: int) -> None:
    """A weight of 1 has 160 points; heavy weights have fewer for each unit, so that a ring can't fill memory."""
    assert len(Ring(nodes("a", weight=weight))._points) == points
    assert POINTS == 160


def test_no_key_spreads() -> None:
    """Calls without a key go to all nodes alike."""
    pick = ConsistentHash()(many(4))
    found = Counter(pick(Call("users")).id for _ in range(4000))
    assert min(found.values()) > 800


def test_key_of_the_request_and_of_the_call() -> None:
    """The key comes from the request; the one that a call brings along goes first; 0 and "" are keys."""
    pick = ConsistentHash(lambda request: request)(many(9))
    assert pick(Call("users", "r")).id == owner(pick, "r")
    assert pick(Call("users", "r", key="k")).id == owner(pick, "k")
    assert len({pick(Call("users", "r", key=0)).id for _ in range(20)}) == 1
    assert len({pick(Call("users", "", key=None)).id for _ in range(20)}) == 1


def test_keys_are_equal_as_text() -> None:
    """A number, its digits and their bytes are one key; a lone surrogate from a header is no error."""
    assert hash_key(42) == hash_key("42") == hash_key(b"42")
    assert hash_key("42") != hash_key("43")
    hash_key("\udc80")


def test_wrong_key() -> None:
    """The name of a header is no key: the error shows what is."""
    with pytest.raises(TypeError, match=r"a function such as p2plb.header\('x-customer'\), not 'x-customer'"):
        ConsistentHash("x-customer")  # type: ignore[arg-type]  # the wrong argument is the subject
