"""Idle lanes: the youngest first, none too old, none lost, none closed twice."""

import dataclasses
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from p2plb.balancing.node import Node
from p2plb.wire.idle import ONCE_AGE, REPEATABLE_AGE, IdleLanes
from tests.fakes import instance, nodes


@dataclasses.dataclass(eq=False)
class Lane:
    """As much of a lane as the file under test knows."""

    node: Node
    name: str | None = "users"
    idle_since: float = 0.0
    living: bool = True

    def alive(self) -> bool:
        return self.living


def stacked(node: Node, ages: list[float], now: float = 100.0) -> tuple[IdleLanes[Lane], list[Lane]]:
    """Return lanes that have been idle for so long, oldest first."""
    idle, lanes = IdleLanes[Lane](), [Lane(node) for _ in ages]
    for lane, age in zip(lanes, ages, strict=True):
        assert idle.put(lane, now - age) == []
    return idle, lanes


def take(idle: IdleLanes[Lane], node: Node, name: str = "users", *, repeatable: bool = True) -> Lane | None:
    return idle.take(node, name, repeatable=repeatable, now=100.0)


def test_youngest_first() -> None:
    """A call gets the lane that came back last, then the one before."""
    (node,) = nodes("a")
    idle, lanes = stacked(node, [3.0, 2.0, 1.0])
    assert [take(idle, node) for _ in range(4)] == [*lanes[::-1], None]
    assert len(idle) == 0


def test_by_node_and_tls_name() -> None:
    """F74: a lane verified for one name never serves another, nor another node."""
    a, b = nodes("a", "b")
    idle, lanes = stacked(a, [1.0])
    assert take(idle, b) is None
    assert take(idle, a, "billing") is None
    assert take(idle, a) is lanes[0]


@pytest.mark.parametrize(
    ("age", "repeatable", "keepalive", "expiry", "used"),
    [
        (REPEATABLE_AGE - 0.1, True, None, None, True),
        (REPEATABLE_AGE + 0.1, True, None, None, False),
        (ONCE_AGE - 0.1, False, None, None, True),
        (ONCE_AGE + 0.1, False, None, None, False),
        (0.9, False, 1.0, None, True),
        (1.1, True, 1.0, None, False),
        (60.0, False, 75.0, None, True),
        (60.0, True, 75.0, 30.0, False),
        (2.0, True, None, 1.0, False),
        (0.0, True, 0.0, None, True),
        (0.1, True, 0.0, None, False),
    ],
)
def test_age(age: float, repeatable: bool, keepalive: float | None, expiry: float | None, used: bool) -> None:
    """F07: 4 s for what can be sent again, 1.5 s for what can't; a record's keepalive overrides both."""
    node = Node(instance("a", keepalive=keepalive))
    idle = IdleLanes[Lane](expiry=expiry)
    idle.put(lane := Lane(node), 100.0 - age)
    assert take(idle, node, repeatable=repeatable) is (lane if used else None)


def test_too_old_for_a_post_may_serve_a_get() -> None:
    """F07: a call that finds a lane too old leaves it for one that does not mind."""
    (node,) = nodes("a")
    idle, lanes = stacked(node, [3.0])
    assert take(idle, node, repeatable=False) is None
    assert take(idle, node) is lanes[0]


def test_dead_lanes_are_closed_by_the_next_that_comes_back() -> None:
    """A lane that its server has closed is passed over, and closed when a lane comes back, not by the call."""
    (node,) = nodes("a")
    idle, (living, dead) = stacked(node, [2.0, 1.0])
    dead.living = False
    assert take(idle, node) is living
    assert len(idle) == 0
    assert idle.put(living, 100.0) == [dead]
    assert idle.put(Lane(node), 100.0) == []


def test_two_reaped_for_one_that_comes_back() -> None:
    """F81: what a burst left behind is closed two at a time, oldest first."""
    (node,) = nodes("a")
    idle, lanes = stacked(node, [3.9, 3.8, 3.7, 3.6, 1.0])
    assert idle.put(Lane(node), 101.0) == lanes[:2]
    assert idle.reap(101.0) == lanes[2:4]
    assert idle.reap(101.0) == []
    assert len(idle) == 2


def test_reaps_lanes_of_nodes_that_left() -> None:
    """F81: the lanes of a node that has left are closed, however young."""
    gone, other = nodes("gone", "other")
    idle, lanes = stacked(gone, [1.0, 0.9])
    idle.put(kept := Lane(other), 100.0)
    gone.retired = True
    assert idle.reap(100.0) == lanes
    assert idle.reap(100.0) == []
    assert take(idle, other) is kept


def test_long_keepalives_do_not_block_the_reaping() -> None:
    """A lane whose server keeps connections for long stands aside for those behind it."""
    patient, (other,) = Node(instance("patient", keepalive=75.0)), nodes("other")
    idle = IdleLanes[Lane]()
    idle.put(kept := Lane(patient), 80.0)
    idle.put(old := Lane(other), 81.0)
    assert idle.reap(100.0) == [old]
    assert take(idle, patient) is kept


def test_keep() -> None:
    """With a bound the oldest makes room, of whichever node; 0 keeps none."""
    a, b = nodes("a", "b")
    idle = IdleLanes[Lane](keep=2)
    lanes = [Lane(a), Lane(b), Lane(a)]
    assert [idle.put(lane, 100.0) for lane in lanes] == [[], [], [lanes[0]]]
    assert IdleLanes[Lane](keep=0).put(lanes[0], 100.0) == [lanes[0]]


@pytest.mark.parametrize(("room", "closed"), [(5, 0), (3, 0), (1, 2), (0, 3), (-1, 3)])
def test_make_room(room: int, closed: int) -> None:
    """Room is made by closing the oldest."""
    (node,) = nodes("a")
    idle, lanes = stacked(node, [3.0, 2.0, 1.0])
    assert idle.make_room(room) == lanes[:closed]
    assert len(idle) == 3 - closed


KEEPALIVES = (None, 9.0, 1.0)


class Ledger(RuleBasedStateMachine):
    """Whatever is done in whichever order: each lane that was put in comes out exactly once."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = [Node(instance(f"n{number}", keepalive=keepalive)) for number, keepalive in enumerate(KEEPALIVES)]
        self.idle = IdleLanes[Lane](keep=5)
        self.now = 100.0
        self.inside: set[Lane] = set()
        self.out = Counter[int]()

    def leave(self, *lanes: Lane) -> None:
        for lane in lanes:
            assert lane in self.inside, "it is handed out once only"
            self.inside.remove(lane)

    @rule(node=st.integers(0, 2), name=st.sampled_from(["x", "y"]), living=st.booleans())
    def put(self, node: int, name: str, living: bool) -> None:
        lane = Lane(self.nodes[node], name, living=living)
        self.inside.add(lane)
        self.leave(*self.idle.put(lane, self.now))

    @rule(node=st.integers(0, 2), name=st.sampled_from(["x", "y"]), repeatable=st.booleans())
    def take(self, node: int, name: str, repeatable: bool) -> None:
        lane = self.idle.take(self.nodes[node], name, repeatable=repeatable, now=self.now)
        if lane is not None:
            assert lane.living
            assert (lane.node, lane.name) == (self.nodes[node], name)
            self.leave(lane)

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0, 10.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(node=st.integers(0, 2))
    def replace_node(self, node: int) -> None:
        self.nodes[node].retired = True
        self.nodes[node] = Node(instance(f"n{node}"))

    @rule()
    def reap(self) -> None:
        self.leave(*self.idle.reap(self.now))

    @rule(room=st.integers(0, 4))
    def make_room(self, room: int) -> None:
        self.leave(*self.idle.make_room(room))
        assert len(self.idle) <= room

    @invariant()
    def bounded(self) -> None:
        assert len(self.idle) <= 5

    def teardown(self) -> None:
        self.leave(*self.idle.make_room(0))
        assert not self.inside, "nothing is forgotten"
        assert not self.idle._stacks


class TestLedger(Ledger.TestCase):  # type: ignore[valid-type, misc]  # hypothesis makes the class at run time
    """F81: as above, over many random histories."""

    settings = settings(max_examples=60, stateful_step_count=30)
