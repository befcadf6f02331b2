"""Strategies around others, and priorities: who is left to pick from, and how many calls each group gets."""

import itertools
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from p2plb.balancing.call import Call
from p2plb.balancing.health import Health
from p2plb.balancing.node import Node
from p2plb.balancing.strategies.among import Matching, among
from p2plb.balancing.strategies.consistent_hash import ConsistentHash
from p2plb.balancing.strategies.groups import Group
from p2plb.balancing.strategies.least_request import LeastRequest
from p2plb.balancing.strategies.peak_ewma import PeakEwma
from p2plb.balancing.strategies.priorities import loads
from p2plb.balancing.strategies.random_choice import Random
from p2plb.balancing.strategies.round_robin import RoundRobin, WeightedRoundRobin
from p2plb.balancing.strategies.slow_start import SlowStart
from p2plb.balancing.strategies.subset import Subset
from p2plb.balancing.strategies.where import Where, matches, wish
from p2plb.balancing.strategies.zone_aware import ZoneAware, proportional
from p2plb.balancing.view import Picker, Strategy
from p2plb.errors import NoInstances
from tests.fakes import (
    REFUSED,
    UNAVAILABLE,
    Clock,
    Driver,
    Scripted,
    balancer_of,
    instance,
    many,
    node_of,
    nodes,
    snapshot,
)

CALLS = 4000


@pytest.fixture(autouse=True)
def seed() -> None:
    """Each test draws the same numbers, in whichever order they run."""
    random.seed(11)


def call(*avoid: Node, key: object = None) -> Call:
    made = Call("users", key=key)
    made.avoid = frozenset(avoid)
    return made


def shares(pick: Picker, *avoid: Node, calls: int = CALLS) -> Counter[str]:
    """Return how many of the calls each node had."""
    avoided = frozenset(avoid)
    found = Counter[str]()
    for _ in range(calls):
        one = call()
        one.avoid = avoided
        found[pick(one).id] += 1
    return found


def in_zones(**counts: int) -> list[Node]:
    """Return nodes of zones, `in_zones(a=2)` a0 and a1 of zone a."""
    return [nodes(f"{zone}{number}", zone=zone)[0] for zone, count in counts.items() for number in range(count)]


def by_zone(found: Counter[str]) -> dict[str, object]:
    """Return the part of the calls that each zone had, more or less."""
    zones = Counter[str]()
    for name, count in found.items():
        zones[name[0]] += count
    return {zone: pytest.approx(count / found.total(), abs=0.03) for zone, count in zones.items()}


# --- groups ------------------------------------------------------------------------------------------------------


def test_a_group_keeps_to_itself() -> None:
    """F22: what is to be avoided is passed over within the group, however stubborn its strategy is."""
    some = many(4)
    group = Group(lambda nodes: lambda _call: nodes[0], some)
    assert group.pick(call()) is some[0]
    assert {group.pick(call(*some[:3])).id for _ in range(20)} == {some[3].id}
    assert group.pick(call(*some)) is some[0]


@pytest.mark.parametrize(
    "wrap",
    [partial(ZoneAware, zone="a"), partial(Subset, size=1), SlowStart, partial(Where, where={})],
    ids=["ZoneAware", "Subset", "SlowStart", "Where"],
)
@pytest.mark.parametrize(("inner", "text"), [(LeastRequest, "write LeastRequest()"), ("rr", "such as LeastRequest()")])
def test_wrong_inner(wrap: Callable[[Any], Strategy], inner: object, text: str) -> None:
    """What is no strategy is refused where it is written."""
    with pytest.raises(TypeError, match=text.replace("(", r"\(").replace(")", r"\)")):
        wrap(inner)


# --- priorities --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("healthy", "expected"),
    [
        ([1.0, 1.0], [1.0, 0.0]),
        ([0.72, 1.0], [1.0, 0.0]),
        ([0.5, 1.0], [0.7, 0.3]),
        ([0.25, 1.0], [0.35, 0.65]),
        ([0.0, 1.0], [0.0, 1.0]),
        ([0.5, 0.1, 1.0], [0.7, 0.14, 0.16]),
        ([0.25, 0.25], [0.5, 0.5]),
        ([0.1, 0.0, 0.3], [0.25, 0.0, 0.75]),
        ([0.0, 0.0], [1.0, 0.0]),
    ],
)
def test_loads_of_levels(healthy: list[float], expected: list[float]) -> None:
    """Envoy's table: a level spills over below 71 %; what all levels together cannot take is spread as they can."""
    assert loads(healthy) == pytest.approx(expected)


def levels(*counts: int, strategy: Strategy = RoundRobin()) -> Any:  # noqa: B008  frozen
    made = [instance(f"{'pqr'[p]}{n}", priority=p) for p, count in enumerate(counts) for n in range(count)]
    return balancer_of(*made, strategy=strategy)


@pytest.mark.parametrize(("down", "expected"), [(0, {"p": 1.0}), (2, {"p": 0.84, "q": 0.16}), (5, {"q": 1.0})])
def test_priorities_spill_over(down: int, expected: dict[str, float]) -> None:
    """F21: the second level gets what the first cannot take, all of it if nobody of the first is left."""
    balancer = levels(5, 5)
    for number in range(down):
        balancer.ejections.refused(node_of(balancer, f"p{number}"), 0.0, "refused")
    found = Counter[str]()
    for _ in range(CALLS):
        one = Call("users")
        node = balancer.claim(one, 0.5)
        assert node is not None
        found[node.id] += 1
        one.release()
    assert by_zone(found) == expected
    assert not set(found) & {f"p{number}" for number in range(down)}


def test_a_call_fails_over() -> None:
    """F01: with all of the first level refusing, the same call goes on to the second."""
    balancer = levels(2, 1, strategy=ConsistentHash())
    driver = Driver(balancer, {"p0": REFUSED, "p1": REFUSED, "q0": Scripted(200)})
    call = driver.run()
    assert call.outcome is not None
    assert call.outcome.status == 200
    assert driver.sent[-1] == "q0"


# --- zones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("able", "callers", "expected"),
    [
        ({"a": 2, "b": 2}, None, {"a": 1.0, "b": 0.0}),
        ({"a": 3, "b": 1}, None, {"a": 1.0, "b": 0.0}),
        ({"a": 1, "b": 3}, None, {"a": 0.5, "b": 0.5}),
        ({"a": 1, "b": 2, "c": 3}, None, {"a": 0.5, "b": 0.0, "c": 0.5}),
        ({"b": 1, "c": 1}, None, {"b": 0.5, "c": 0.5}),
        ({"a": 2, "b": 2}, {"a": 3, "b": 1}, {"a": 2 / 3, "b": 1 / 3}),
        ({"a": 2, "b": 2}, {"b": 1}, {"a": 1.0, "b": 0.0}),
        ({"b": 2}, {"b": 1}, {"b": 0.0}),
        ({"a": 0, "b": 2}, None, {"a": 0.0, "b": 1.0}),
    ],
)
def test_proportional(able: dict[str, float], callers: dict[str, float] | None, expected: dict[str, float]) -> None:
    """Calls from zone a stay as far as a has a fair share of what all can take; the rest goes where there is more."""
    assert proportional("a", able, callers) == pytest.approx(expected)


def test_zones_together_are_fair() -> None:
    """With callers in all zones each unit of weight gets the same number of calls."""
    able = {"a": 1.0, "b": 2.0, "c": 5.0, "d": 4.0}
    got = Counter[str]()
    for home in able:
        got.update(proportional(home, able, None))
    assert {zone: got[zone] / weight for zone, weight in able.items()} == pytest.approx(dict.fromkeys(able, 1 / 3))


@pytest.mark.parametrize(
    ("counts", "lost", "expected"),
    [
        ({"a": 4, "b": 4}, 0, {"a": 1.0}),
        ({"a": 2, "b": 6}, 0, {"a": 0.5, "b": 0.5}),
        ({"a": 10, "b": 10}, 2, {"a": 1.0}),
        ({"a": 10, "b": 10}, 5, {"a": 0.82, "b": 0.18}),
        ({"a": 4, "b": 8}, 4, {"b": 1.0}),
        ({"a": 6, "b": 4}, 6, {"b": 1.0}),
        ({"a": 2, "b": 3}, 0, {"a": 0.4, "b": 0.6}),
    ],
)
def test_zone_aware(counts: dict[str, int], lost: int, expected: dict[str, float]) -> None:
    """F20: home as far as it can take it; spill-over once less than 71 % of it is left; off in panic and if few."""
    some = in_zones(**counts)
    pick = ZoneAware(RoundRobin(), "a")(some)
    found = shares(pick, *some[:lost])
    assert by_zone(found) == expected
    assert not {node.id for node in some[:lost]} & set(found)


@pytest.mark.parametrize(
    ("counts", "lost", "expected"),
    [
        ({"a": 1, "b": 9}, 0, {"a": 1.0}),
        ({"a": 2, "b": 2}, 1, {"a": 1.0}),
        ({"a": 2, "b": 2}, 2, {"b": 1.0}),
        ({"b": 1, "c": 1}, 0, {"b": 0.5, "c": 0.5}),
    ],
)
def test_zone_aware_hard(counts: dict[str, int], lost: int, expected: dict[str, float]) -> None:
    """F20: with `hard` all calls stay at home while anybody there can serve, and go anywhere if not."""
    some = in_zones(**counts)
    assert by_zone(shares(ZoneAware(RoundRobin(), "a", hard=True)(some), *some[:lost])) == expected


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"zone": ""}, "the caller's own zone, such as 'eu-1'; leave"),
        ({"zone": "a", "callers": {"a": -1}}, r"callers=\{'a': …\}\) is from 0"),
        ({"zone": "a", "min_size": -1}, r"min_size=\) is from 0"),
    ],
)
def test_wrong_zone(options: dict[str, Any], text: str) -> None:
    """What can't be is refused where it is written."""
    with pytest.raises(ValueError, match=text):
        ZoneAware(LeastRequest(), **options)
    with pytest.raises(TypeError, match="such as 'eu-1', not None"):
        ZoneAware(LeastRequest(), None)  # type: ignore[arg-type]  # the wrong argument is the subject


# --- subsets -----------------------------------------------------------------------------------------------------


def members(some: Sequence[Node], client: str, size: int = 20) -> set[str]:
    """Return the subset that a client uses."""
    seen: list[Sequence[Node]] = []

    def inner(nodes: Sequence[Node]) -> Picker:
        seen.append(nodes)
        return lambda _call: nodes[0]

    Subset(inner, size, client=client)(some)
    return {node.id for node in seen[0]}


def test_subset_changes_by_one() -> None:
    """F23: whoever joins or leaves, at most one member of a client's subset changes."""
    some = many(100)
    for client in ("one", "two"):
        now = members(some, client)
        assert len(now) == 20
        for number in range(100):
            without = members([*some[:number], *some[number + 1 :]], client)
            gone = some[number].id
            assert len(now - without) == (gone in now)
            assert len(without - now) == (gone in now)


def test_subsets_are_spread() -> None:
    """300 clients with 20 of 300 nodes each: nobody is left out, nobody has more than twice the mean."""
    some = many(300)
    found = Counter(itertools.chain.from_iterable(members(some, f"client-{number}") for number in range(300)))
    assert len(found) == 300
    assert max(found.values()) <= 2 * 20


def test_the_process_is_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a name it is the process: the same for all its clients, another one in a forked child."""
    some = many(100)

    def own() -> set[str]:
        return set(shares(Subset(RoundRobin(), 5)(some), calls=50))

    first = own()
    assert own() == first
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert own() != first


def test_outside_of_the_subset() -> None:
    """F22: with the whole subset dead the others serve."""
    balancer = balancer_of(*(node.id for node in many(10)), strategy=Subset(LeastRequest(), 2, client="me"))
    used = members(many(10), "me", 2)
    driver = Driver(balancer, {node.id: REFUSED if node.id in used else Scripted(200) for node in many(10)})
    one = driver.run()
    assert one.outcome is not None
    assert one.outcome.status == 200


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (2.5, TypeError), (True, TypeError)])
def test_wrong_size(size: Any, error: type[Exception]) -> None:
    """What can't be is refused where it is written."""
    with pytest.raises(error, match=r"Subset\(size=\) is"):
        Subset(LeastRequest(), size)
    with pytest.raises(TypeError, match="a name that no other client has"):
        Subset(LeastRequest(), 5, client=7)  # type: ignore[arg-type]  # the wrong argument is the subject


# --- slow start --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("aggression", "age", "part"),
    [(1, 0, 0.1), (1, 1, 0.1), (1, 15, 0.5), (1, 30, 1), (1, 99, 1), (2, 7.5, 0.5), (0.5, 15, 0.25), (1, -1, 0.1)],
)
def test_the_ramp(aggression: float, age: float, part: float) -> None:
    """From a tenth to all in 30 s, in a line, or faster or slower at first."""
    assert SlowStart(RoundRobin(), aggression=aggression).part(age) == pytest.approx(part)


def newcomer(inner: Strategy, *, warm: int = 4, **options: Any) -> tuple[Clock, SlowStart, list[Node]]:
    """Return a slow start that has known `warm` nodes for a while, and these with a new one at the end."""
    clock = Clock()
    slow = SlowStart(inner, clock=clock, **options)
    some = many(warm + 1)
    slow(some[:warm])
    clock.now += 1000
    return clock, slow, some


@pytest.mark.parametrize(
    "inner", [RoundRobin(), WeightedRoundRobin(), Random(), LeastRequest(), ZoneAware(RoundRobin(), "a")], ids=repr
)
def test_a_newcomer_ramps(inner: Strategy) -> None:
    """F18: the newcomer's part of its share grows with its age, in one view, around every strategy."""
    clock, slow, some = newcomer(inner)
    pick = slow(some)
    new = some[-1].id
    found = []
    for age in (0.0, 15.0, 30.0):
        clock.now = 2000.0 + age
        found.append(shares(pick)[new] / CALLS)
    assert found == pytest.approx([0.1 / 4.1, 0.5 / 4.5, 0.2], abs=0.03)
    assert found[0] < found[1] < found[2]


def test_never_at_the_start() -> None:
    """F18: whom the client knows from its own start counts as warmed up, and so does the oldest of a group."""
    clock = Clock()
    slow = SlowStart(RoundRobin(), clock=clock)
    some = many(4)
    for _ in range(2):
        assert set(shares(slow(some), calls=400).values()) == {100}
        clock.now += 5
    slow([*some, *nodes("new", "newer")])
    assert set(shares(slow(nodes("new", "newer")), calls=400).values()) == {200}


def test_the_age_outlives_views_and_clients() -> None:
    """The ramp goes on over new views, and in a second client that shares what is known of the nodes."""
    clock, slow, some = newcomer(RoundRobin())
    slow(some)
    clock.now += 30
    again = [Node(node.instance, node.health) for node in some]
    assert set(shares(slow(again), calls=500).values()) == {100}
    assert shares(slow([*again[:4], Node(some[4].instance, Health())]), calls=500)["n0004"] < 50


def test_a_newcomer_that_alone_may_serve() -> None:
    """F18: a new node serves all that nobody else may, however new it is."""
    _, slow, some = newcomer(Where(RoundRobin(), {"version": "2"}, otherwise="none"))
    some[-1].instance = instance("new", metadata={"version": "2"})
    assert shares(slow(some), calls=50) == {"new": 50}


def test_a_key_goes_to_its_next_candidate() -> None:
    """F18: under a hash a newcomer's keys go, as long as it is new, mostly where they were before."""
    clock, slow, some = newcomer(ConsistentHash())
    pick, before = slow(some), ConsistentHash()(some[:4])
    moved = [key for key in range(2000) if pick(call(key=key)).id != before(call(key=key)).id]
    assert len(moved) / 2000 == pytest.approx(0.02, abs=0.015)
    one = call(some[0], key=1)
    pick(one)
    assert one.avoid == {some[0]}, "the call is as it was"
    clock.now += 30
    assert pick(call(key=moved[0])) is some[4]


@pytest.mark.parametrize("options", [{"seconds": 0}, {"aggression": 0}, {"least": 0}, {"least": 1.5}])
def test_wrong_ramp(options: dict[str, float]) -> None:
    """What can't be is refused where it is written."""
    with pytest.raises(ValueError, match=r"SlowStart\(.*=\) is from"):
        SlowStart(RoundRobin(), **options)  # type: ignore[arg-type]  # one of several


# --- where -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "where", "fits"),
    [
        ({"version": "2"}, {"version": "2"}, True),
        ({"version": 2}, {"version": "2"}, True),
        ({"version": "20"}, {"version": "2"}, False),
        ({}, {"version": "2"}, False),
        ({"adapters": ["x", "y"]}, {"adapters": "y"}, True),
        ({"adapters": ["x", "y"]}, {"adapters": "z"}, False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, True),
        ({"a": 1, "b": 3}, {"a": 1, "b": 2}, False),
        ({"a": {"deep": 1}}, {"a": 1}, False),
        ({}, {}, True),
    ],
)
def test_matches(metadata: dict[str, Any], where: dict[str, Any], fits: bool) -> None:
    """All names must be there with the value as text, or with it in their list."""
    assert matches(metadata, wish(where, "where=")) is fits


def versions(*wanted: str) -> list[Node]:
    return [nodes(f"n{number}", metadata={"version": one})[0] for number, one in enumerate(wanted)]


@pytest.mark.parametrize("otherwise", ["all", "none"])
def test_where(otherwise: Any) -> None:
    """Those that match share the calls, and the others get none."""
    pick = Where(RoundRobin(), {"version": 2}, otherwise=otherwise)(versions("1", "2", "2"))
    assert shares(pick, calls=100) == {"n1": 50, "n2": 50}


def test_where_otherwise_all() -> None:
    """If nobody matches, or nobody who does can serve, the others do."""
    some = versions("1", "1", "1")
    assert shares(Where(RoundRobin(), {"version": "2"})(some), calls=300) == {"n0": 100, "n1": 100, "n2": 100}
    made = [instance(f"n{number}", metadata={"version": one}) for number, one in enumerate("122")]
    balancer = balancer_of(*made, strategy=Where(LeastRequest(), {"version": "2"}))
    driver = Driver(balancer, {"n0": Scripted(200), "n1": REFUSED, "n2": REFUSED})
    assert driver.run().outcome is not None
    assert driver.sent[-1] == "n0"


def test_where_otherwise_none() -> None:
    """If nobody matches, or nobody who does can serve, the call has nobody to go to."""
    where = Where(PeakEwma(), {"version": "2"}, otherwise="none")
    some = versions("1", "2")
    for pick, one in ((where(some[:1]), call()), (where(some), call(some[1]))):
        with pytest.raises(NoInstances, match="none that can serve has version=2 in its metadata"):
            pick(one)


@pytest.mark.parametrize("where_is_it", [{"priority": 1}, {"zone": "b"}])
def test_those_that_match_stand_elsewhere(where_is_it: dict[str, Any]) -> None:
    """Who alone may serve the call serves it, whatever its priority or zone; with nobody at all the call ends."""
    old = [instance(one, zone="a", metadata={"version": "1"}) for one in "abcdef"]
    new = instance("new", **{"zone": "a", **where_is_it}, metadata={"version": "2"})
    balancer = balancer_of(*old, new, strategy=ZoneAware(Where(RoundRobin(), {"version": "2"}, otherwise="none"), "a"))
    for _ in range(20):
        assert balancer.claim(call(), 0.0) is node_of(balancer, "new")
    balancer.update(snapshot(*old, instance("g", priority=1, zone="b"), revision=2))
    with pytest.raises(NoInstances, match="none that can serve has version=2"):
        balancer.claim(call(), 0.0)


def test_a_call_says_where() -> None:
    """A call sees those that match only, also when it is tried again; the policy's strategy picks among them."""
    made = [instance(f"n{number}", metadata={"version": one}) for number, one in enumerate("1222")]
    balancer = balancer_of(*made, strategy=RoundRobin())
    script = {"n0": Scripted(200), "n1": UNAVAILABLE, "n2": REFUSED, "n3": UNAVAILABLE}
    driver = Driver(balancer, script)
    driver.run(driver.call(among={"version": 2}))
    assert {step for step in driver.steps if isinstance(step, str)} <= {"n1", "n2", "n3"}
    assert len(driver.sent) > 1
    quiet = Driver(balancer_of(*made, strategy=RoundRobin()), {one.id: Scripted(200) for one in made})
    for _ in range(6):
        quiet.run(quiet.call(among={"version": "2"})).release()
    assert Counter(quiet.steps) == {"n1": 2, "n2": 2, "n3": 2}


def test_nobody_is_there_where_a_call_wants() -> None:
    """Without anybody who matches the call ends, and says what it wanted."""
    balancer = balancer_of("a", "b")
    with pytest.raises(NoInstances, match=r"none has version=2 in its metadata, as call\(where=\) asks"):
        balancer.claim(Call("users", among={"version": 2}), 0.0)


def test_a_wish_is_looked_up_once() -> None:
    """Calls after the first see the same nodes without going through them."""
    balancer = balancer_of("a", "b", strategy=RoundRobin())
    assert balancer.view is not None
    first, second = (among(balancer.view, {}) for _ in range(2))
    assert first.members is second.members


def test_wishes_are_remembered_for_a_view() -> None:
    """The picker of a wish is made once a view; of very many different wishes the oldest are forgotten."""
    asked: list[int] = []

    def counting(nodes: Sequence[Node]) -> Picker:
        asked.append(len(nodes))
        return lambda _call: nodes[0]

    matching = Matching(counting, tuple(versions("1", "2", "2")))
    for number in (2, 2, *range(1000), 2):
        found, _, _ = matching(wish({"version": number}, "where="))
        assert len(found) == {1: 1, 2: 2}.get(number, 0)
    assert len(asked) == 1001, "the first was forgotten by the end"
    assert len(matching._found) == 64


@pytest.mark.parametrize(("where", "text"), [("version", "a mapping of metadata"), ({1: 2}, "a mapping of metadata")])
def test_wrong_where(where: Any, text: str) -> None:
    """What can't be is refused where it is written."""
    with pytest.raises(TypeError, match=text):
        Where(LeastRequest(), where)
    with pytest.raises(ValueError, match="'all' or 'none', not 'some'"):
        Where(LeastRequest(), {}, otherwise="some")  # type: ignore[arg-type]  # the wrong argument is the subject
