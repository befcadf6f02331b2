"""A node: claims that count exactly, and a latency that follows what is seen."""

import gc
import threading

import pytest

from p2plb.balancing.node import Node
from p2plb.balancing.strategies.peak import DECAY
from tests.fakes import instance, nodes


def test_what_strategies_read() -> None:
    """A node shows its instance's fields as they are now."""
    node = Node(instance("a", weight=2.0, zone="z", metadata={"k": "v"}))
    assert (node.id, node.weight, node.zone, node.metadata) == ("a", 2.0, "z", {"k": "v"})
    assert (node.in_flight, node.latency, node.retired) == (0, None, False)
    node.instance = instance("a", weight=3.0)
    assert node.weight == 3.0
    assert repr(node) == "<Node users/a http://a.example:80>"


def test_claims_count_once() -> None:
    """F63: a claim is released exactly once, however often and from wherever."""
    (node,) = nodes("a")
    first, second = node.claim(), node.claim()
    assert node.in_flight == 2
    first.release()
    first.release()
    thread = threading.Thread(target=first.release)
    thread.start()
    thread.join()
    assert node.in_flight == 1
    second.release()
    assert node.in_flight == 0


def test_a_lost_claim_does_not_count_for_ever() -> None:
    """F66: an answer that nobody closes is counted no longer than it lives."""
    (node,) = nodes("a")
    claim = node.claim()
    assert node.in_flight == 1
    del claim
    gc.collect()
    assert node.in_flight == 0


def test_latency_follows() -> None:
    """F08: the mean moves towards what is seen, the faster the longer ago the last sample was."""
    quick, slow = nodes("quick", "slow")
    for node, pause in ((quick, 0.1), (slow, DECAY)):
        node.health.sample(1.0, 0.0)
        node.health.sample(2.0, pause)
    assert quick.latency == pytest.approx(1.05)
    assert slow.latency == pytest.approx(1.632, abs=0.001)


def test_latency_and_a_clock_that_stands() -> None:
    """F51: samples at the same moment, or out of order between threads, still count a little."""
    (node,) = nodes("a")
    node.health.sample(1.0, 10.0)
    node.health.sample(2.0, 10.0)
    node.health.sample(2.0, 9.0)
    assert node.latency == pytest.approx(2.0 - 0.95**2)


@pytest.mark.parametrize(("seconds", "news"), [(0.5, False), (1.0, False), (1.5, True)])
def test_at_least(seconds: float, news: bool) -> None:
    """F63: what was given up after `seconds` is news only if that is above the mean."""
    (node,) = nodes("a")
    node.health.sample(1.0, 0.0)
    node.health.sample_at_least(seconds, 1.0)
    assert (node.latency != 1.0) is news
