"""The balancer: updates that keep what is known, claims that never end on a node that has left, harmless strategies."""

import functools
import logging
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from p2plb.balancing.balancer import ASKS, Balancer
from p2plb.balancing.call import Call
from p2plb.balancing.health import Health
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.guarded import Guarded
from p2plb.balancing.strategies.least_request import LeastRequest
from p2plb.balancing.view import Picker, Strategy, View
from p2plb.observe.events import Event, ViewChanged
from tests.fakes import balancer_of, first_fit, hurried_threads, instance, node_of, snapshot


def pick(balancer: Balancer, call: Call | None = None) -> str | None:
    """Claim a node and let go; return its id."""
    call = Call("users") if call is None else call
    node = balancer.claim(call, 0.0)
    call.release()
    return None if node is None else node.id


# --- updates -----------------------------------------------------------------------------------------------------


def test_nodes_survive_updates() -> None:
    """F80: a node that stays is the same object with its statistics, and sees its new record."""
    balancer = balancer_of("a", "b")
    kept, left = node_of(balancer, "a"), node_of(balancer, "b")
    kept.health.sample(0.5, 0.0)
    claim = kept.claim()
    gone = balancer.update(snapshot(instance("a", weight=5.0), "c", revision=2))
    assert gone == (left,)
    assert node_of(balancer, "a") is kept
    assert (kept.latency, kept.in_flight, kept.weight) == (0.5, 1, 5.0)
    assert (kept.retired, left.retired) == (False, True)
    claim.release()


def test_the_next_balancer_knows_what_the_last_has_learned() -> None:
    """Latency and ejections outlive a balancer; what is known of instances that have left is forgotten."""
    known: dict[tuple[str, str], Health] = {}
    first = balancer_of("a", "b", known=known)
    node_of(first, "b").health.sample(0.5, 0.0)
    first.ejections.refused(node_of(first, "a"), 0.0, "refused")
    second = balancer_of("a", "b", known=known)
    assert node_of(second, "b").latency == 0.5
    assert pick(second) == "b"
    second.update(snapshot("b", revision=2))
    assert [key[0] for key in known] == ["b"]
    assert node_of(balancer_of("a", "b", known=known), "a").health.ejection is None


def test_another_address_is_another_node() -> None:
    """F14: an instance that comes back with another address carries no old statistics over."""
    balancer = balancer_of("a")
    old = node_of(balancer, "a")
    assert balancer.update(snapshot(instance("a", url="http://10.0.0.9:1"), revision=2)) == (old,)
    assert node_of(balancer, "a") is not old
    assert old.retired


def test_coming_back_is_a_new_node() -> None:
    """F19: an instance that left and returns begins anew."""
    balancer = balancer_of("a")
    old = node_of(balancer, "a")
    balancer.update(snapshot(revision=2))
    balancer.update(snapshot("a", revision=3))
    assert node_of(balancer, "a") is not old
    assert not node_of(balancer, "a").retired


def test_published_before_retired() -> None:
    """F62: when a node is retired, the view without it is in force already."""
    balancer = balancer_of("a", "b")
    seen: list[tuple[bool, bool]] = []
    leaver = node_of(balancer, "b")

    def strategy(nodes: Any) -> Picker:
        seen.append((leaver.retired, leaver in balancer.view.members if balancer.view else False))
        return first_fit(nodes)

    balancer.strategy = Guarded(strategy, "users", balancer.rng)
    balancer.update(snapshot("a", revision=2))
    assert seen == [(False, True)], "while the strategy works the old view serves"
    assert balancer.view is not None
    assert leaver.retired
    assert leaver not in balancer.view.members


def test_view_changes_are_told() -> None:
    """Observers hear who came and who went; one that fails harms nobody (F82)."""
    seen: list[Event] = []

    def broken(_event: Event) -> None:
        raise RuntimeError

    balancer = Balancer("users", first_fit, observers=[broken, seen.append])
    balancer.update(snapshot("a", "b"))
    balancer.update(snapshot("b", "c", "d", revision=7))
    assert seen == [
        ViewChanged("users", 1, ("a", "b"), (), 2),
        ViewChanged("users", 7, ("c", "d"), ("a",), 3),
    ]


def test_gate_opens() -> None:
    """F28: the first view wakes all who wait for it."""
    balancer = Balancer("users", first_fit)
    woken: list[int] = []
    for number in range(3):
        balancer.gate.enrol(functools.partial(woken.append, number))
    assert not balancer.ready()
    balancer.update(snapshot())
    assert balancer.ready()
    assert woken == [0, 1, 2]


def test_patience_is_shared() -> None:
    """F28: the first call's clock runs for all."""
    balancer = Balancer("users", first_fit, start_timeout=3.0)
    assert [balancer.patience(now) for now in (100.0, 101.0, 103.0, 200.0)] == [3.0, 2.0, 0.0, -97.0]


# --- picks -------------------------------------------------------------------------------------------------------


def stubborn(nodes: Sequence[Node]) -> Picker:
    return lambda _call: nodes[0]


def test_asks_three_times_then_looks() -> None:
    """A strategy that insists on a node to be avoided is asked three times; then another is drawn."""
    asked: list[Call] = []

    def counting(nodes: Sequence[Node]) -> Picker:
        def pick(call: Call) -> Node:
            asked.append(call)
            return nodes[0]

        return pick

    balancer = balancer_of("a", "b", "c", strategy=counting, rng=random.Random(1))
    call = Call("users")
    call.tried.add(node_of(balancer, "a"))
    assert {pick(balancer, call) for _ in range(50)} == {"b", "c"}
    assert len(asked) == 50 * ASKS


def test_asked_once_when_all_is_well() -> None:
    """With nothing to be avoided the strategy's first word is taken."""
    balancer = balancer_of("a", "b", strategy=stubborn)
    assert {pick(balancer) for _ in range(20)} == {"a"}


def test_ejected_before_tried() -> None:
    """F22: with all healthy ones tried the untried are next, ejected or not; with all tried the strategy decides."""
    balancer = balancer_of("a", "b", strategy=stubborn)
    a, b = node_of(balancer, "a"), node_of(balancer, "b")
    call = Call("users")
    balancer.ejections.refused(b, 0.0, "refused")
    call.tried.add(a)
    assert pick(balancer, call) == "b"
    call.tried.add(b)
    assert pick(balancer, call) == "a"


def test_the_last_one_is_never_passed_over() -> None:
    """F22: with every node ejected the strategy's answer stands."""
    balancer = balancer_of("a", "b", strategy=stubborn)
    for one in "ab":
        balancer.ejections.refused(node_of(balancer, one), 0.0, "refused")
    assert pick(balancer) == "a"


def test_others_and_untried() -> None:
    """Who is left for a call: not tried, and (for a retry) not ejected either."""
    balancer = balancer_of("a", "b")
    a, b = node_of(balancer, "a"), node_of(balancer, "b")
    call = Call("users")
    call.tried.add(a)
    assert (balancer.untried(call), balancer.others(call, 0.0)) == (True, True)
    balancer.ejections.refused(b, 0.0, "refused")
    assert (balancer.untried(call), balancer.others(call, 0.0)) == (True, False)
    call.tried.add(b)
    assert (balancer.untried(call), balancer.others(call, 0.0)) == (False, False)


def test_nobody() -> None:
    """Without a view, or with an empty one, there is no node."""
    assert pick(Balancer("users", first_fit)) is None
    assert pick(balancer_of()) is None


# --- strategies of strangers -------------------------------------------------------------------------------------


def raises(*_: Any) -> Any:
    raise LookupError("a bug")


class Twin(Node):
    """Equal in looks, but none of ours."""


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (raises, "strategy of service users failed"),
        (lambda _nodes: None, "picker of service users failed"),
        (lambda _nodes: raises, "picker of service users failed"),
        (lambda _nodes: lambda: None, "picker of service users failed"),
        (lambda _nodes: lambda _call: None, "is not one of its nodes"),
        (lambda _nodes: lambda _call: [], "picker of service users failed"),
        (lambda _nodes: lambda _call: Twin(instance("a")), "is not one of its nodes"),
    ],
)
def test_broken_strategies(broken: Strategy, says: str, caplog: pytest.LogCaptureFixture) -> None:
    """F84: what a strategy raises or makes up is logged, not once a call, and calls go to random nodes instead."""
    caplog.set_level(logging.ERROR, "p2plb")
    service = f"users-{id(broken)}"
    balancer = Balancer(service, broken)
    balancer.update(snapshot("a", "b", service=service))
    assert {pick(balancer) for _ in range(50)} == {"a", "b"}
    assert balancer.strategy.mishaps == (1 if broken is raises else 50)
    assert [says.replace("users", service) in record.getMessage() for record in caplog.records] == [True]


def test_a_node_that_left_is_foreign() -> None:
    """F84: a strategy that remembers a node which has left does not get its way."""
    first: list[Node] = []

    def clinging(nodes: Any) -> Picker:
        first.append(nodes[0])
        return lambda _call: first[0]

    balancer = balancer_of("a", strategy=clinging)
    balancer.update(snapshot("b", revision=2))
    assert pick(balancer) == "b"


# --- claim, then check -------------------------------------------------------------------------------------------


class Unchecked(Balancer):
    """The negative control: claims without looking whether the node has been retired meanwhile."""

    def claim(self, call: Call, now: float) -> Node | None:
        view = self.view
        if view is None or not view.nodes:
            return None
        node = self._pick(view, call)
        call.hold(node, node.claim())
        return node


class Churn:
    """An updater that closes what it may, and callers that look whether what they hold was closed under them.

    As the transport does: a node without claims is closed when it is retired; else the last release closes it.
    """

    def __init__(self, balancer: Balancer, callers: int = 2) -> None:
        self.balancer = balancer
        self.closed: set[Node] = set()
        self.mishaps = 0
        self.calls = 0
        self._over = False
        self._callers = [threading.Thread(target=self._call) for _ in range(callers)]

    def run(self, seconds: float) -> None:
        self.balancer.update(snapshot("a0", "b"))
        with hurried_threads():
            for thread in self._callers:
                thread.start()
            ends, number = time.monotonic() + seconds, 0
            while time.monotonic() < ends and not self.mishaps:
                number += 1
                for node in self.balancer.update(snapshot(f"a{number}", "b", revision=number)):
                    if not node.in_flight:
                        self.closed.add(node)
            self._over = True
            for thread in self._callers:
                thread.join()

    def _call(self) -> None:
        while not self._over:
            call = Call("users")
            node = self.balancer.claim(call, 0.0)
            if node in self.closed:
                self.mishaps += 1
            call.release()
            self.calls += 1


def slow_pick(nodes: Any) -> Picker:
    """Pick the node that will leave, and give the updater time to take it away."""

    def pick(_call: Call) -> Node:
        node: Node = nodes[0]
        for _ in range(20):
            pass
        return node

    return pick


def test_no_claim_on_what_is_closed() -> None:
    """F62, F81: while the list changes all the time, no claim is had on a node that was closed; none is left over."""
    churn = Churn(Balancer("users", slow_pick))
    churn.run(1.0)
    assert churn.calls > 100
    assert churn.mishaps == 0
    assert all(node.in_flight == 0 for node in churn.closed)
    assert churn.balancer.view is not None
    assert all(node.in_flight == 0 for node in churn.balancer.view.nodes)


def test_no_claim_on_what_is_closed_negative_control() -> None:
    """F62: without the check the same churn ends in a claim on a closed node."""
    churn = Churn(Unchecked("users", slow_pick))
    churn.run(20.0)
    assert churn.mishaps > 0


def test_64_threads() -> None:
    """F62: counts are exact however many threads claim and release."""
    balancer = balancer_of("a", "b", "c", strategy=LeastRequest())
    begin = threading.Barrier(64)

    def work() -> None:
        begin.wait()
        for _ in range(100):
            call = Call("users")
            assert balancer.claim(call, 0.0) is not None
            call.release()
            call.release()

    threads = [threading.Thread(target=work) for _ in range(64)]
    with hurried_threads():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert isinstance(balancer.view, View)
    assert [node.in_flight for node in balancer.view.nodes] == [0, 0, 0]
