"""What every strategy must do, alone and under `attempts`; a subclass gives the fixture `strategy`.

A strategy may be as naive as a plain function: keeping calls away from dead nodes is the balancer's work. The negative
control at the end takes that work away and sees the same check fail.
"""

from collections import Counter, deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from p2plb.balancing.balancer import Balancer
from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.view import Strategy, View
from tests.fakes import OK, REFUSED, Driver, hurried_threads, instance, many, nodes, snapshot

CALLS = 200
IN_FLIGHT = 6


class StrategyContract:
    def test_only_its_own_nodes(self, strategy: Strategy) -> None:
        """Whatever the key, the load and what is to be avoided: the pick is one of the nodes."""
        some = many(5)
        pick = strategy(some)
        for number in range(100):
            call = Call("users", key=number)
            call.avoid = frozenset(some[: number % 6])
            assert pick(call) in some

    def test_one_node(self, strategy: Strategy) -> None:
        """A single node is picked, also if it is to be avoided."""
        (only,) = nodes("only")
        pick = strategy([only])
        call = Call("users", key="k")
        assert pick(call) is only
        call.avoid = frozenset([only])
        assert pick(call) is only

    def test_all_of_weight_0(self, strategy: Strategy) -> None:
        """If all nodes have weight 0, they are used all the same."""
        some = many(3, weight=0.0)
        pick = strategy(some)
        assert {pick_and_claim(pick(Call("users", key=number))) for number in range(100)} == set(some)

    def test_everybody_is_picked(self, strategy: Strategy) -> None:
        """Calls with different keys reach all nodes."""
        some = many(4)
        pick = strategy(some)
        assert {pick_and_claim(pick(Call("users", key=number))) for number in range(200)} == set(some)

    def test_one_configuration_for_many(self, strategy: Strategy) -> None:
        """A policy is shared: pickers of two services, and of two views of one, know nothing of one another's nodes."""
        users, orders = many(6), [Node(instance(node.id, "orders")) for node in many(3)]
        pickers = [(some, strategy(some)) for some in (users, orders, users[:4])]
        for number in range(60):
            for some, pick in pickers:
                assert pick(Call(some[0].instance.service, key=number)) in some

    def test_many_threads(self, strategy: Strategy) -> None:
        """F62: one picker serves many threads at once, without a lock of theirs."""
        some = many(8)
        pick = strategy(some)

        def work(thread: int) -> set[Node]:
            return {pick(Call("users", key=(thread, number))) for number in range(300)}

        with hurried_threads(), ThreadPoolExecutor(4) as pool:
            assert all(found <= set(some) for found in pool.map(work, range(4)))

    def test_each_node_may_leave(self, strategy: Strategy) -> None:
        """Whichever node leaves, nobody is sent to it any more, and calls go on."""
        ids = ["a", "b", "c", "d"]
        for leaver in ids:
            balancer = Balancer("users", strategy)
            balancer.update(snapshot(*ids))
            stay = [one for one in ids if one != leaver]
            balancer.update(snapshot(*stay, revision=2))
            driver = drive(balancer, dead=())
            assert {str(step) for step in driver.sent} <= set(stay)

    @pytest.mark.parametrize(("size", "dead"), [(4, 1), (4, 3), (10, 9)])
    def test_dead_nodes_cost_nobody_a_call(self, strategy: Strategy, size: int, dead: int) -> None:
        """F01, F21, F22: while one node lives no call fails, and each dead one is tried a few times only."""
        ids = [node.id for node in many(size)]
        balancer = Balancer("users", strategy)
        balancer.update(snapshot(*ids))
        tried = Counter(drive(balancer, dead=ids[-dead:]).sent)
        assert max(tried[one] for one in ids[-dead:]) <= 4


class Blind(Balancer):
    """The negative control: what the strategy says is what is done."""

    def _pick(self, view: View, call: Call) -> Node:
        call.avoid = frozenset()
        return self.strategy.ask(view, call)


def drive(balancer: Balancer, *, dead: Iterable[str]) -> Driver:
    """Send 200 calls, six at a time in flight, each with a key of its own; no call may fail."""
    assert balancer.view is not None
    script = {node.id: OK for node in balancer.view.nodes} | dict.fromkeys(dead, REFUSED)
    driver = Driver(balancer, script)
    open_calls: deque[Call] = deque()
    for key in range(CALLS):
        done = len(driver.steps)
        one = Driver(balancer, script, driver.clock)
        call = one.run(one.call(key=key, repeatable=False))
        driver.steps += one.steps
        assert call.outcome is not None, "nobody was found"
        assert call.outcome.status == 200, f"call {key} failed: {driver.steps[done:]}"
        open_calls.append(call)
        if len(open_calls) > IN_FLIGHT:
            open_calls.popleft().release()
    for call in open_calls:
        call.release()
    assert not any(node.in_flight for node in balancer.view.nodes)
    return driver


def pick_and_claim(node: Node) -> Node:
    """Count one call more in flight on a picked node, for ever, as load moves strategies that look at it."""
    node._claims.add(object())
    return node
