"""Placements: shares, moves, and that everybody agrees; and the strategies that go by them."""

import itertools
import os
import random
import subprocess
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2plb.balancing.call import Call
from p2plb.balancing.node import Node
from p2plb.balancing.strategies import ring as rings
from p2plb.balancing.strategies.consistent_hash import ConsistentHash, Maglev, Rendezvous
from p2plb.balancing.strategies.hashing import GOLDEN, hash_key, scramble
from p2plb.balancing.strategies.keyed import Keyed
from p2plb.balancing.strategies.maglev import SLOTS, Table, fill
from p2plb.balancing.strategies.placement import Placement, place
from p2plb.balancing.strategies.rendezvous import Scores
from p2plb.balancing.strategies.ring import NUMBER, Ring
from p2plb.balancing.view import Picker
from tests.fakes import instance, many, nodes

KINDS: list[type[Placement]] = [Ring, Table, Scores]
KEYED: list[type[Keyed]] = [ConsistentHash, Maglev, Rendezvous]

every_kind = pytest.mark.parametrize("kind", KINDS)
every_keyed = pytest.mark.parametrize("strategy", KEYED)

NAMES = st.dictionaries(
    st.text("abc019-_", min_size=1, max_size=6), st.sampled_from([0.05, 0.5, 1.0, 1.5]), min_size=1, max_size=9
)


def alike(count: int, weight: float = 1.0) -> dict[str, float]:
    return {f"n{number:04}": weight for number in range(count)}


def without(members: Mapping[str, float], *gone: str) -> dict[str, float]:
    return {name: weight for name, weight in members.items() if name not in gone}


def owner(placement: Placement, hashed: int) -> str:
    name = placement.names[placement.owner(hashed)]
    assert name is not None
    return name


def order(placement: Placement, hashed: int) -> list[str | None]:
    return [placement.names[number] for number in placement.owners(hashed)]


def shares(placement: Placement) -> Counter[str]:
    """Return how much of all hashes each member owns, exactly but for Scores."""
    if isinstance(placement, Table):
        return Counter(owner(placement, slot) for slot in range(SLOTS))
    if isinstance(placement, Ring):
        arcs = Counter[str]()
        for before, point in itertools.pairwise([placement.points[-1] - (1 << 64), *placement.points]):
            arcs[placement.names[point & NUMBER] or ""] += (point >> 20) - (before >> 20)
        return arcs
    return Counter(owner(placement, scramble(number)) for number in range(40_000))


def unevenness(placement: Placement) -> float:
    found = shares(placement)
    parts = {name: found[name] / weight for name, weight in placement.members.items()}
    return max(parts.values()) / (found.total() / sum(placement.members.values()))


# --- the hash ----------------------------------------------------------------------------------------------------


def test_published_vectors() -> None:
    """BLAKE2b is that of RFC 7693 (appendix A), SplitMix64 gives the numbers published for the seed 1234567."""
    assert blake2b(b"abc").hexdigest().startswith("ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b7")
    drawn = [scramble((1234567 + number * GOLDEN) % 2**64) for number in range(3)]
    assert drawn == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_keys_are_equal_as_text() -> None:
    """A number, its digits and their bytes are one key; a lone surrogate from a header is no error."""
    assert hash_key(42) == hash_key("42") == hash_key(b"42")
    assert hash_key("42") != hash_key("43")
    hash_key("\udc80")


def test_maglevs_paper() -> None:
    """The table of the paper's figure 1, before and after the second backend has left."""
    walks = [(3, 4), (0, 2), (3, 1)]
    assert list(fill(7, walks, [1.0, 1.0, 1.0])) == [1, 0, 1, 0, 2, 2, 0]
    assert list(fill(7, [walks[0], walks[2]], [1.0, 1.0])) == [0, 0, 0, 0, 1, 1, 1]


# --- shares and moves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "count", "bound"), [(Ring, 10, 1.25), (Ring, 100, 1.25), (Table, 10, 1.001)])
def test_even_shares(kind: type[Placement], count: int, bound: float) -> None:
    """F85: no member owns much more than its part of all hashes."""
    assert unevenness(kind.of(alike(count))) <= bound


def test_even_shares_of_maglev() -> None:
    """Up to 1,310 members Maglev's shares differ by less than 2 %."""
    assert unevenness(Table.of(alike(100))) <= 1.001
    assert unevenness(Table.of(alike(1310))) <= 1.02


@every_kind
def test_shares_by_weight(kind: type[Placement]) -> None:
    """Shares are in proportion to weight; however the weights are scaled."""
    weights = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 0.5}
    for scale in (1.0, 10.0, 0.3):
        assert unevenness(kind.of({name: weight * scale for name, weight in weights.items()})) <= 1.2


@pytest.mark.parametrize(("kind", "bound"), [(Ring, 1.05), (Table, 2.5), (Scores, 1.05)])
def test_moves(kind: type[Placement], bound: float) -> None:
    """F85: when one of 100 leaves, the keys that move are about its own: nobody else's but with Maglev."""
    members, keys = alike(100), [scramble(number) for number in range(5000 if kind is Scores else 20_000)]
    before = kind.of(members)
    moved = []
    for leaver in ("n0000", "n0040", "n0099"):
        after = kind.of(without(members, leaver), before)
        pairs = [(owner(before, key), owner(after, key)) for key in keys]
        moved.append(sum(was != now for was, now in pairs) / len(keys))
        assert all(now != leaver for _, now in pairs)
        assert kind is Table or all(was in (now, leaver) for was, now in pairs)
    assert sum(moved) / len(moved) <= bound / 100


@every_kind
def test_heirs_are_spread(kind: type[Placement]) -> None:
    """What a member owned goes to all the others when it leaves."""
    before, after = kind.of(alike(6)), kind.of(without(alike(6), "n0002"))
    keys = [key for key in map(scramble, range(12_000)) if owner(before, key) == "n0002"]
    heirs = Counter(owner(after, key) for key in keys)
    assert max(heirs.values()) <= 1.6 * len(keys) / 5


@settings(deadline=None, max_examples=25)
@given(members=NAMES, hashed=st.integers(0, 2**64 - 1), kind=st.sampled_from(KINDS))
def test_everybody_in_order(members: dict[str, float], hashed: int, kind: type[Placement]) -> None:
    """All members come once, the owner first; without it the second is the owner (Maglev moves some more)."""
    placement = place(kind, "property", members)
    names = order(placement, hashed)
    assert sorted(map(str, names)) == sorted(members)
    assert names[0] == owner(placement, hashed)
    if len(members) > 1 and kind is not Table:
        assert owner(kind.of(without(members, str(names[0]))), hashed) == names[1]


# --- the ring ----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(steps=st.lists(NAMES, min_size=2, max_size=3))
def test_a_ring_made_from_another(steps: list[dict[str, float]]) -> None:
    """Whatever came before, the ring for the same members places each hash alike."""
    grown: Ring | None = None
    for members in steps:
        grown = Ring.of(members, grown)
        afresh = Ring.of(members)
        assert sorted(name for name in grown.names if name is not None) == sorted(members)
        assert list(grown.points) == sorted(grown.points)
        for hashed in map(scramble, range(9)):
            assert order(grown, hashed) == order(afresh, hashed)


def test_a_ring_copied_around_changes() -> None:
    """A few of many that come, go and change weight: the points are those of a ring made anew, numbers are reused."""
    members = alike(40)
    ring = Ring.of(members)
    for change in ({"n0003": 2.0}, {"new": 1.0, "newer": 0.5}, {"n0003": 0.25}):
        members = {**without(members, random.choice(list(members))), **change}
        ring = Ring.of(members, ring)
        afresh = Ring.of(members)
        assert [point >> 20 for point in ring.points] == [point >> 20 for point in afresh.points]
        assert all(order(ring, hashed) == order(afresh, hashed) for hashed in map(scramble, range(9)))
    assert len(ring.names) <= 41, "numbers are used again"


def test_two_at_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two members whose points fall on one place the one with the lesser id comes first, whatever their numbers."""
    monkeypatch.setattr(rings, "_points", lambda _name, number, _count: iter([(1 << 40) | number]))
    ring = Ring.of(dict.fromkeys("abcdefgh", 1.0))
    again = Ring.of(dict.fromkeys("abcdefgh", 1.0), Ring.of(dict.fromkeys("bxcdefgh", 1.0)))
    assert again.names[:2] == ("b", "a")
    for one in (ring, again):
        assert order(one, 0) == order(one, 1 << 63) == list("abcdefgh")
        assert owner(one, 0) == "a"


@pytest.mark.parametrize(
    ("weight", "points"), [(1.0, 160), (0.5, 80), (0.001, 1), (16.0, 2560), (17.0, 1360), (1000.0, 2500)]
)
def test_points(weight: float, points: int) -> None:
    """A weight of 1 has 160 points; heavy weights have fewer for each unit, so that a ring can't fill memory."""
    assert len(Ring.of({"a": weight}).points) == points


def test_a_ring_is_bounded() -> None:
    """Whatever the number of members and their weights, a ring has at most two million points, 16 MiB."""
    counts = rings._counts(alike(20_000, 10.0))
    assert sum(counts.values()) <= rings.MOST_POINTS
    with pytest.raises(ValueError, match="use a Subset"):
        Ring.of(dict.fromkeys(map(str, range(rings.MOST_MEMBERS + 1)), 1.0))


# --- who shares what ---------------------------------------------------------------------------------------------


@every_kind
def test_clients_share(kind: type[Placement]) -> None:
    """Clients with the same snapshot have one placement, and one that nobody has any more costs nothing."""
    first = place(kind, "shared", alike(5))
    assert place(kind, "shared", alike(5)) is first
    assert place(kind, "other", alike(5)) is not first
    assert place(kind, "shared", alike(6)) is not first
    assert place(kind, "shared", dict.fromkeys(alike(5), 0.0)).members == alike(5)


def test_groups_have_placements_of_their_own() -> None:
    """Groups of a service, such as zones, do not take each other's placement away: each goes on from its own."""
    zones = [{f"{zone}{number}": 1.0 for number in range(20)} for zone in "abc"]
    kept = [place(Ring, "zoned", zone) for zone in zones]
    again = [place(Ring, "zoned", {**zone, "a-new": 1.0}) for zone in zones]
    assert all(one.names[:20] == before.names for one, before in zip(again, kept, strict=True)), "numbers were kept"
    assert [place(Ring, "zoned", zone) for zone in zones] == kept


# --- the strategies ----------------------------------------------------------------------------------------------


def owner_of(pick: Picker, key: object) -> str:
    return pick(Call("users", key=key)).id


SHOW_OWNERS = """
from hashlib import blake2b
from tests.test_placements import KEYED, owner_of
from tests.fakes import many
for strategy in KEYED:
    pick, told = strategy()(many(7)), blake2b()
    for number in range(1500):
        told.update(owner_of(pick, f"user-{number}").encode())
    print(told.hexdigest())
"""


def test_processes_agree() -> None:
    """F85: the same nodes and keys give the same owners in every process, whatever PYTHONHASHSEED."""

    def told(seed: str) -> str:
        path = os.pathsep.join(filter(None, sys.path))
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        return subprocess.run(
            [sys.executable, "-c", SHOW_OWNERS], env=env, capture_output=True, check=True, text=True
        ).stdout

    assert told("1") == told("4711")


@every_keyed
def test_order_and_address_do_not_matter(strategy: type[Keyed]) -> None:
    """F14, F85: nodes own keys by their id."""
    some, moved = many(7), [Node(instance(node.id, url="http://10.0.0.1:9")) for node in many(7)]
    picks = [strategy()(one) for one in (some, some[::-1], moved)]
    assert all(len({owner_of(pick, key) for pick in picks}) == 1 for key in range(300))


@every_keyed
def test_the_next_one(strategy: type[Keyed]) -> None:
    """What would go to a node that is to be avoided goes to the same next one each time; if all are, to the owner."""
    some = many(5)
    pick = strategy()(some)
    heirs = Counter[str]()
    for key in range(1000):
        call = Call("users", key=key)
        call.avoid = frozenset(some[:1])
        assert pick(call) is pick(call) is not some[0]
        heirs[pick(call).id] += owner_of(pick, key) == some[0].id
    assert len(+heirs) == 4
    call = Call("users", key="k")
    call.avoid = frozenset(some)
    assert pick(call).id == owner_of(pick, "k")


@pytest.mark.parametrize("strategy", [ConsistentHash, Rendezvous])
def test_as_if_it_had_left(strategy: type[Keyed]) -> None:
    """Where keys go while their node is passed over they stay when it leaves."""
    some = many(5)
    pick, rest = strategy()(some), strategy()(some[1:])
    for key in range(500):
        call = Call("users", key=key)
        call.avoid = frozenset(some[:1])
        assert pick(call).id == owner_of(rest, key)


@every_keyed
def test_no_key(strategy: type[Keyed]) -> None:
    """Calls without a key go to all nodes by weight; or they are an error that says what to do."""
    some = [*nodes("a", "b"), *nodes("c", weight=2.0)]
    pick = strategy()(some)
    found = Counter(pick(Call("users")).id for _ in range(4000))
    assert found["c"] == pytest.approx(2000, rel=0.15)
    with pytest.raises(ValueError, match=rf'^{strategy.__name__}\(without_key="error"\): .*p2plb\.call\(key=…\)'):
        strategy(without_key="error")(some)(Call("users"))


def test_key_of_the_request_and_of_the_call() -> None:
    """The key comes from the request, asked once a call; one that a call brings along goes first; 0 and "" are keys."""
    asked = []

    def key(request: str) -> str:
        asked.append(request)
        return request

    pick = ConsistentHash(key)(many(9))
    call = Call("users", "r")
    assert len({pick(call).id for _ in range(3)} | {owner_of(pick, "r")}) == 1
    assert asked == ["r"]
    assert pick(Call("users", "r", key="k")).id == owner_of(pick, "k")
    assert len({pick(Call("users", "r", key=0)).id for _ in range(20)}) == 1
    assert len({pick(Call("users", "", key=None)).id for _ in range(20)}) == 1


async def coroutine(_request: object) -> str:
    return "key"


@every_keyed
def test_wrong_arguments(strategy: type[Keyed]) -> None:
    """What can't be meant is an error that shows what can."""
    name = strategy.__name__
    with pytest.raises(TypeError, match=rf"{name}\(key=\) is a function such as .*, not 'x-customer'"):
        strategy("x-customer")  # type: ignore[arg-type]  # the wrong argument is the subject
    with pytest.raises(TypeError, match="write def, not async def"):
        strategy(coroutine)
    with pytest.raises(ValueError, match=rf'{name}\(without_key=\) is "random" or "error", not None'):
        strategy(without_key=None)  # type: ignore[arg-type]  # the wrong argument is the subject
    for bound in (1.0, 0, "1.25", float("nan")):
        with pytest.raises((ValueError, TypeError), match=rf"{name}\(bounded_load=\)"):
            strategy(bounded_load=bound)  # type: ignore[arg-type]  # the wrong argument is the subject
    with pytest.raises(ValueError, match=rf"{name}\(slack=\)"):
        strategy(slack=-1)


def test_too_large_for_maglev(caplog: pytest.LogCaptureFixture) -> None:
    """Maglev says when its shares get uneven, and refuses more members than slots."""
    Table.of(alike(1310))
    assert caplog.records == []
    Table.of(alike(1311))
    assert "shares differ by more than 2 %: use ConsistentHash" in caplog.text
    with pytest.raises(ValueError, match="65537 slots for 65538 instances: use ConsistentHash"):
        Table.of(dict.fromkeys(map(str, range(SLOTS + 1)), 1.0))


def test_too_light_for_a_slot() -> None:
    """A member that is too light for any slot is still asked, last."""
    table = Table.of({"a": 1.0, "b": 0.000001})
    assert shares(table) == {"a": SLOTS}
    assert order(table, 7) == ["a", "b"]


# --- bounded loads -----------------------------------------------------------------------------------------------


def hot(keys: int, factor: int) -> Iterator[str]:
    """Yield keys for ever, one of them `factor` times as often as another."""
    rng = random.Random(7)
    while True:
        number = rng.randrange(keys + factor)
        yield f"k{min(number, keys)}"


@every_keyed
@pytest.mark.parametrize("weights", [(1.0,) * 12, (1.0, 2.0, 1.0, 0.5) * 3])
def test_bounded_under_a_hot_key(strategy: type[Keyed], weights: tuple[float, ...]) -> None:
    """With one key 40 times as hot as the others, no node gets more than 1.25 times its part, or nine calls."""
    some = [Node(instance(f"n{number:02}", weight=weight)) for number, weight in enumerate(weights)]
    pick, keys, total = strategy(bounded_load=1.25, slack=8)(some), hot(60, 40), sum(weights)
    rng, claims = random.Random(3), []
    for _ in range(2000):
        node = pick(Call("users", key=next(keys)))
        claims.append(node.claim())
        if len(claims) > 400:
            claims.pop(rng.randrange(len(claims))).release()
        fair = len(claims) * node.weight / total
        assert node.in_flight <= max(9, 1.25 * fair)


def test_unbounded_under_a_hot_key() -> None:
    """The negative control: without the bound the hot key's node gets far more."""
    some, keys = many(12), hot(60, 40)
    pick = ConsistentHash()(some)
    claims = [pick(Call("users", key=next(keys))).claim() for _ in range(400)]
    assert len(claims) == 400
    assert max(node.in_flight for node in some) > 2 * 1.25 * 400 / 12


@every_keyed
def test_slack(strategy: type[Keyed]) -> None:
    """A key stays on its node up to nine calls in flight, whatever the mean; then it overflows to the same ones."""
    some = many(12)
    pick = strategy(bounded_load=1.25)(some)
    home = owner_of(pick, "k")
    claims, picked = [], []
    for _ in range(40):
        node = pick(Call("users", key="k"))
        picked.append(node.id)
        claims.append(node.claim())
    assert picked[:9] == [home] * 9
    assert len(set(picked[9:18])) == 1
    assert picked[9] != home
    for claim in claims:
        claim.release()
    assert owner_of(pick, "k") == home


def test_overflow_does_not_cascade() -> None:
    """The keys of one full node are spread over all others, not laid upon its neighbour."""
    some = many(12)
    pick = ConsistentHash(bounded_load=1.25)(some)
    claims = [some[4].claim() for _ in range(30)]
    keys = [key for key in range(3000) if owner_of(ConsistentHash()(some), key) == some[4].id]
    heirs = Counter(owner_of(pick, key) for key in keys)
    assert heirs.keys() == {node.id for node in some if node is not some[4]}
    assert max(heirs.values()) <= 2 * len(keys) / 11
    for claim in claims:
        claim.release()


def test_bounds_count_who_serves() -> None:
    """Nodes that are passed over take no part in the mean; if all others are full, the emptiest takes the call."""
    some = many(4)
    pick = ConsistentHash(bounded_load=1.25, slack=0)(some)
    call = Call("users", key="k")
    call.avoid = frozenset(some[:2])
    claims = [node.claim() for node in some[2:] for _ in range(10)]
    assert len({pick(call).id for _ in range(5)}) == 1
    claims.append(some[2].claim())
    assert {pick(Call("users", key=key)) for key in range(50)} <= set(some[:2])
    for claim in claims:
        claim.release()


def test_the_points_stand_where_bisect_finds_them() -> None:
    """A hash between two points belongs to the later one, beyond the last to the first."""
    ring = Ring.of(alike(3))
    points = ring.points
    for at in (0, 17, len(points) - 1):
        assert ring.owner(points[at] & ~NUMBER) == points[at] & NUMBER
        assert bisect_left(points, points[at]) == at
    assert ring.owner((1 << 64) - 1) == points[0] & NUMBER
