"""The strategies: the contract that each keeps, and what is peculiar to each."""

import itertools
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.consistent_hash import ConsistentHash, Maglev, Rendezvous
from p2plb.balancing.strategies.hashing import hash_key
from p2plb.balancing.strategies.least_request import LeastRequest
from p2plb.balancing.strategies.peak_ewma import PeakEwma
from p2plb.balancing.strategies.probing import Probing
from p2plb.balancing.strategies.random_choice import Random
from p2plb.balancing.strategies.round_robin import RoundRobin, WeightedRoundRobin
from p2plb.balancing.strategies.slow_start import SlowStart
from p2plb.balancing.strategies.sticky import Sticky
from p2plb.balancing.strategies.subset import Subset
from p2plb.balancing.strategies.where import Where
from p2plb.balancing.strategies.zone_aware import ZoneAware
from p2plb.balancing.view import Picker, Strategy
from tests.contract_strategy import Blind, StrategyContract, drive
from tests.fakes import many, nodes, snapshot


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
    "weighted round robin, reported": WeightedRoundRobin(reported=True),
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
    "probing": Probing(),
    "consistent hash": ConsistentHash(),
    "consistent hash, bounded": ConsistentHash(bounded_load=1.25),
    "maglev": Maglev(),
    "maglev, bounded": Maglev(bounded_load=1.25, slack=0),
    "rendezvous": Rendezvous(),
    "sticky": Sticky(),
    "sticky by cookie": Sticky(cookie="p2plb"),
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


UNWEIGHTED = {"round robin", "subset", "a plain round robin", "a plain least loaded", "a plain keyed one"}
"""Round robin by intent, and a subset with round robin inside."""


@pytest.mark.parametrize("name", sorted(STRATEGIES.keys() - UNWEIGHTED))
def test_weights_are_respected(name: str) -> None:
    """With nothing in flight each node's share of many keys is its weight's, within a fifth."""
    some = [node for weight in (1.0, 2.0, 4.0) for node in nodes(f"w{weight}", f"v{weight}", weight=weight)]
    found = shares(STRATEGIES[name](some), 14_000)
    for node in some:
        assert found[node.id] == pytest.approx(1000 * node.weight, rel=0.2)


@pytest.mark.parametrize("name", sorted(STRATEGIES.keys() - {"a plain least loaded"}))
def test_shares_are_fair(name: str) -> None:
    """With equal weights and nothing in flight nobody has more than 1.35 times the mean of many keys."""
    found = shares(STRATEGIES[name](many(10)), 10_000)
    assert max(found.values()) <= 1350
    assert len(found) == 10


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
