"""The computed shard map: keys to slots, slots to owners, and what changes when instances come and go."""

import random
import subprocess
import sys
import time
from collections import Counter

import pytest

from p2plb.discovery.snapshot import Snapshot
from p2plb.instance import Instance
from p2plb.sharding.computed import Changes, Computed, Moved
from p2plb.sharding.shardmap import EMPTY, ShardMap, fill, moved, serving
from p2plb.sharding.slots import SLOTS, slot_of
from tests.fakes import instance, snapshot

KEYS = [f"user-{number}" for number in range(2000)]


def ids(count: int) -> list[str]:
    return [f"i{number}" for number in range(count)]


def owned(found: ShardMap) -> Counter[str]:
    return Counter(found.owners)


# --- keys to slots -------------------------------------------------------------------------------------------------


def test_keys_spread_over_all_slots() -> None:
    """Slots are 0 to 4,095, and keys fall into them evenly."""
    counts = Counter(slot_of(number) for number in range(20 * SLOTS))
    assert (min(counts), max(counts)) == (0, SLOTS - 1)
    assert max(counts.values()) < 60


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{user-42}.orders", "{user-42}.cart"),
        ("{user-42}.orders", "user-42"),
        ("a{x}b{y}", "x"),
        (b"{user-42}.orders", "user-42"),
        (42, "42"),
        (b"42", "42"),
        ("{{x}}", "{x"),
    ],
)
def test_keys_that_stay_together(one: object, other: object) -> None:
    """The first hash tag is all that counts, as in Redis Cluster; keys that are equal as text are equal."""
    assert slot_of(one) == slot_of(other)


@pytest.mark.parametrize("key", ["{}.orders", "{open", "close}", "}{", "{}{x}"])
def test_no_tag(key: str) -> None:
    """An empty tag or one that does not end is no tag: the whole key counts."""
    assert slot_of(key) not in {slot_of(""), slot_of("x"), slot_of(f"{key}!")}


# --- slots to owners -----------------------------------------------------------------------------------------------


def test_slots_are_spread() -> None:
    """Each instance has its share of the slots, within what chance does."""
    for count, bound in ((3, 1.05), (10, 1.15), (100, 1.6)):
        shares = owned(fill(snapshot(*ids(count))))
        assert len(shares) == count
        assert max(shares.values()) / (SLOTS / count) < bound


def test_slots_by_weight() -> None:
    """An instance owns slots in proportion to its weight."""
    shares = owned(fill(snapshot(instance("a", weight=3.0), instance("b"), instance("c", weight=0.5))))
    assert [round(shares[one] / SLOTS * 4.5, 1) for one in "abc"] == [3.0, 1.0, 0.5]


def test_one_instance_owns_all() -> None:
    """Also if its weight is 0: somebody has to."""
    assert owned(fill(snapshot(instance("a", weight=0.0)))) == {"a": SLOTS}


def test_by_id_not_by_address() -> None:
    """An instance that comes back elsewhere under its id has its keys again."""
    moved_away = fill(snapshot("a", instance("b", url="http://10.9.9.9:80")))
    assert moved_away.owners == fill(snapshot("a", "b")).owners
    assert {moved_away.owner(key).url for key in KEYS} == {"http://a.example:80", "http://10.9.9.9:80"}


@pytest.mark.parametrize("seed", range(2))
def test_a_map_does_not_tell_how_it_came_about(seed: int) -> None:
    """Filled with the help of the last one or anew, a map of the same instances is the same."""
    rng = random.Random(seed)
    last = EMPTY
    for count in (0, 20, 19, 20, 1, 18, 19):
        members = rng.sample(ids(20), count)
        now = snapshot(*(instance(one, weight=rng.choice((1.0, 1.0, 1.0, 2.5))) for one in members))
        last, fresh = fill(now, last), fill(now)
        assert last.owners == fresh.owners
        assert list(last.scores) == list(fresh.scores)


def test_a_join_takes_its_share_and_no_more() -> None:
    """F85: what moves on a join moves to the newcomer, and is its share."""
    before, after = fill(snapshot(*ids(100))), fill(snapshot(*ids(100), "new"))
    changed = moved(before, after)
    assert {new.id for _, new in changed.values() if new is not None} == {"new"}
    assert len(changed) <= 1.3 * SLOTS / 101


def test_a_leave_moves_what_was_the_leavers() -> None:
    """F85: what moves on a leave was the leaver's, and goes to many."""
    before, after = fill(snapshot(*ids(100))), fill(snapshot(*ids(100)[1:]))
    changed = moved(before, after)
    assert set(changed) == {slot for slot, owner in enumerate(before.owners) if owner == "i0"}
    assert max(Counter(new.id for _, new in changed.values() if new is not None).values()) <= 5


def test_nobody() -> None:
    """Without instances there is no owner, and everything has left."""
    full, empty = fill(snapshot("a")), fill(snapshot())
    with pytest.raises(LookupError, match="nobody owns a slot"):
        empty.owner("user-42")
    assert len(moved(full, empty)) == SLOTS
    assert set(moved(full, empty).values()) == {(instance("a"), None)}
    assert moved(EMPTY, empty) == {}


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        ([instance("a"), instance("b", state="draining"), instance("c", state="down")], ["a"]),
        ([instance("b", state="draining"), instance("c", state="down")], ["b"]),
        ([instance("b", state="resting"), instance("a")], ["a"]),
        ([instance("c", state="down")], ["c"]),
        ([instance("a", priority=1), instance("b", priority=2)], ["a"]),
        ([instance("a", weight=0.0), instance("b")], ["b"]),
        ([instance("a", weight=0.0), instance("b", priority=1)], ["b"]),
        ([], []),
    ],
)
def test_who_owns_slots(instances: list[Instance], expected: list[str]) -> None:
    """Who drains, is down, stands by or has no weight owns nothing, as long as there is anybody else."""
    assert [one.id for one in serving(instances)] == expected


# --- lookups -------------------------------------------------------------------------------------------------------


def test_replicas_are_distinct_and_begin_with_the_owner() -> None:
    """Owner first; no instance twice; all if fewer are there than were asked for."""
    found = fill(snapshot(*ids(5)))
    for key in KEYS[:200]:
        three = found.replicas(key, 3)
        assert three[0] == found.owner(key)
        assert len({one.id for one in three}) == 3
        assert three == found.replicas(key, 5)[:3]
        assert found.replicas(key, 9) == found.replicas(key, 5)


def test_the_owner_alone_is_no_ranking() -> None:
    """Where one replica is asked for, as each call does, all the others are not."""
    found = fill(snapshot(*ids(20)))
    for key in range(20):
        assert found.replicas(key, 1) == (found.owner(key),)
    assert not found._ranked


def test_the_second_owns_what_the_first_leaves() -> None:
    """The next replica is who owns the key once the owner has left, so its data may be there already."""
    found = fill(snapshot(*ids(5)))
    for key in KEYS[:15]:
        first, second = found.replicas(key, 2)
        rest = fill(snapshot(*(one for one in ids(5) if one != first.id)))
        assert rest.owner(key) == second


def test_replicas_in_zones_of_their_own() -> None:
    """While there are zones that have none, a zone has no second replica."""
    zones = {"a1": "a", "a2": "a", "a3": "a", "b1": "b", "b2": "b", "c1": "c"}
    found = fill(snapshot(*(instance(one, zone=zone) for one, zone in zones.items())))
    for key in KEYS[:200]:
        replicas = found.replicas(key, 4)
        assert replicas[0] == found.owner(key)
        assert {one.zone for one in replicas[:3]} == {"a", "b", "c"}
        assert len({one.id for one in replicas}) == 4


def test_group() -> None:
    """Keys stand with their owners, in the order given, each as often as given."""
    found = fill(snapshot(*ids(3)))
    groups = found.group([*KEYS, KEYS[0]])
    assert {key: one for one, mine in groups.items() for key in mine} == {key: found.owner(key) for key in KEYS}
    assert sum(map(len, groups.values())) == len(KEYS) + 1
    assert all(mine == sorted(mine, key=KEYS.index) for mine in groups.values() if KEYS[0] not in mine)
    assert found.group([]) == {}


def test_grouping_many_keys_is_fast() -> None:
    """100,000 keys take 0.3 s of the processor at most (here 0.1)."""
    found, keys = fill(snapshot(*ids(10))), [f"user-{number}" for number in range(100_000)]
    started = time.process_time()
    found.group(keys)
    assert time.process_time() - started < 0.3


OWNERS = """
from p2plb.sharding.shardmap import fill
from tests.fakes import snapshot
found = fill(snapshot(*{"a", "b", "c", "d", "e"}))
print(hash("a"), *(found.owner(number).id for number in range(3000)))
"""


def test_all_processes_agree() -> None:
    """F85: the owner of a key is the same whatever PYTHONHASHSEED, and whatever order things come in."""
    said = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", OWNERS],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        said.append(done.stdout.split())
    assert said[0][0] != said[1][0]  # they do differ in how they hash strings
    assert said[0][1:] == said[1][1:]


# --- the newest map ------------------------------------------------------------------------------------------------


def test_a_map_is_filled_once() -> None:
    """The map of a snapshot is made when it is first asked for, and kept until the next."""
    computed, first = Computed(), snapshot("a", "b")
    assert computed.known(first) is None
    found = computed.of(first)
    assert computed.of(first) is found
    assert computed.known(first) is found
    assert computed.known(snapshot("a", "b", revision=2)) is None


def told(*snapshots: Snapshot) -> list[Moved]:
    found: list[Moved] = []
    changes = Changes(Computed(), found.append)
    for one in snapshots:
        changes(one)
    return found


def test_changes() -> None:
    """Each change of owners is told with both sides; the first map and changes of something else are none."""
    found = told(
        snapshot("a"),
        snapshot(instance("a", metadata={"version": "2"}), revision=2),
        snapshot("a", "b", revision=3),
        snapshot(revision=4),
    )
    assert [(one.service, one.revision) for one in found] == [("users", 3), ("users", 4)]
    joined = found[0]
    assert {(old and old.id, new and new.id) for old, new in joined.slots.values()} == {("a", "b")}
    now = fill(snapshot("a", "b"))
    assert [key in joined for key in KEYS] == [now.owner(key).id == "b" for key in KEYS]
    assert len(found[1].slots) == SLOTS
