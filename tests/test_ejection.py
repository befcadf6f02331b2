"""Ejections: for how long a node is passed over, and why."""

import pytest

from p2plb.balancing.ejection import Ejections
from p2plb.balancing.health import Ejection, Health
from p2plb.balancing.node import Node
from tests.fakes import instance, nodes


def test_grows_with_each_refusal_in_a_row() -> None:
    """F17, F21: 1 s at first, then twice as long each time, 30 s at most."""
    (node,) = nodes("a")
    ejections, now, lengths = Ejections(), 0.0, []
    for _ in range(8):
        ejections.refused(node, now, "refused")
        until = ejections.reasons(now)[node].until
        lengths.append(until - now)
        assert ejections.avoid(until - 0.001) == {node}
        assert ejections.avoid(until) == frozenset()
        now = until
    assert lengths == [1, 2, 4, 8, 16, 30, 30, 30]


def test_refusals_at_once_are_one() -> None:
    """F01: a hundred calls that are refused together eject for one second, not for thirty."""
    (node,) = nodes("a")
    ejections = Ejections()
    for _ in range(100):
        ejections.refused(node, 5.0, "refused")
    assert ejections.reasons(5.0) == {node: Ejection(6.0, "refused")}


def test_an_answer_takes_back() -> None:
    """A node that has answered is in at once, and its next refusal counts as the first."""
    (node,) = nodes("a")
    ejections = Ejections()
    ejections.refused(node, 0.0, "refused")
    ejections.answered(node, 0.5)
    assert ejections.avoid(0.5) == frozenset()
    ejections.refused(node, 1.0, "refused")
    assert ejections.reasons(1.0)[node].until == 2.0


@pytest.mark.parametrize(("asked", "rests"), [(2.0, 2.0), (0.0, 0.0), (3600.0, 30.0)])
def test_rest(asked: float, rests: float) -> None:
    """F10: a node rests for as long as it asks, 30 s at most."""
    (node,) = nodes("a")
    ejections = Ejections()
    ejections.rest(node, asked, 10.0, "busy")
    if rests:
        assert ejections.avoid(10.0 + rests - 0.001) == {node}
    assert ejections.avoid(10.0 + rests) == frozenset()
    assert node.health.refusals == 0


def test_each_on_its_own() -> None:
    """One node's end of ejection leaves the others where they are."""
    a, b, c = nodes("a", "b", "c")
    ejections = Ejections()
    ejections.rest(a, 1.0, 0.0, "busy")
    ejections.rest(b, 3.0, 0.0, "busy")
    ejections.rest(c, 2.0, 0.0, "busy")
    assert [{n.id for n in ejections.avoid(now)} for now in (0.5, 1.5, 2.5, 3.5)] == [
        {"a", "b", "c"},
        {"b", "c"},
        {"b"},
        set(),
    ]


def test_forgets_who_has_left() -> None:
    """F80: nothing is kept of nodes that have left."""
    a, b = nodes("a", "b")
    ejections = Ejections()
    ejections.rest(a, 30.0, 0.0, "busy")
    a.retired = True
    ejections.rest(b, 1.0, 0.0, "busy")
    assert set(ejections.reasons(0.0)) == {b}


def test_reasons_in_force() -> None:
    """What is shown is what holds now."""
    a, b = nodes("a", "b")
    ejections = Ejections()
    ejections.rest(a, 1.0, 0.0, "busy")
    ejections.refused(b, 0.5, "ConnectError")
    assert ejections.reasons(1.2) == {b: Ejection(1.5, "ConnectError")}


def test_refused_to_several_clients() -> None:
    """F01: clients that share what they know and are refused at once have seen one refusal; an answer ends the row."""
    health = Health()
    first, second = (Node(instance("a"), health) for _ in range(2))
    ours, theirs = Ejections(), Ejections()
    ours.refused(first, 0.0, "refused")
    theirs.refused(second, 0.5, "refused")
    assert theirs.reasons(0.5) == {second: Ejection(1.0, "refused")}
    theirs.answered(second, 0.6)
    assert ours.avoid(1.0) == frozenset()
    ours.refused(first, 1.0, "refused")
    assert ours.reasons(1.0)[first].until == 2.0, "the first of a new row"


def test_recalled() -> None:
    """A node that is new to a client and has just refused another is passed over for the rest of its time."""
    known, other, old = nodes("known", "other", "old")
    before = Ejections()
    before.refused(known, 5.0, "refused")
    before.refused(old, 3.0, "refused")
    again = Ejections()
    again.recall([Node(node.instance, node.health) for node in (known, other, old)])
    assert [node.id for node in again.avoid(5.5)] == ["known"]
    assert again.avoid(6.0) == frozenset()
