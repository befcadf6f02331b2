"""The reducer: lists and events go in, snapshots come out, and neither disorder nor a wiped registry misleads it."""

from collections.abc import Iterable
from functools import partial

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2plb.discovery.etcd import records
from p2plb.discovery.etcd.driver import Entry
from p2plb.discovery.ghosts import MassLoss
from p2plb.discovery.reducer import Reducer
from p2plb.discovery.snapshot import Snapshot
from p2plb.instance import Instance

ROOT = records.services_root()


def reducer(rule: MassLoss | None = None) -> Reducer:
    return Reducer(partial(records.decode, ROOT, loopback=True), partial(records.service_of, ROOT), rule)


def put(
    id_: str,
    revision: int,
    *,
    port: int | None = None,
    state: str = "up",
    created: int | None = None,
    service: str = "users",
) -> Entry:
    url = f"http://10.0.0.1:{port or 8000 + int(id_[1:])}"
    value = records.encode(Instance(id=id_, service=service, url=url, state=state))
    return Entry(records.key(ROOT, service, id_), value, revision, created or revision)


def gone(id_: str, revision: int, service: str = "users") -> Entry:
    return Entry(records.key(ROOT, service, id_), None, revision)


def several(*numbers: int, revision: int = 1) -> list[Entry]:
    return [put(f"a{number}", revision + place) for place, number in enumerate(numbers)]


def ids(snapshots: Iterable[Snapshot]) -> list[str]:
    (snapshot,) = snapshots
    return [instance.id for instance in snapshot.instances]


def ghosts(snapshots: Iterable[Snapshot]) -> set[str]:
    (snapshot,) = snapshots
    return set(snapshot.ghosts)


def listed(entries: Iterable[Entry], revision: int = 10, rule: MassLoss | None = None) -> Reducer:
    made = reducer(rule)
    made.listed(["users"], entries, revision, 0.0)
    return made


def test_a_list_is_sorted_and_knows_its_revision() -> None:
    """A list becomes one snapshot for each service, instances by id, at the list's revision."""
    made = reducer()
    users, orders = made.listed(["users", "orders"], [put("a2", 3), put("a1", 5)], 9, 0.0)
    assert [instance.id for instance in users.instances] == ["a1", "a2"]
    assert (users.revision, orders.revision, orders.instances) == (9, 9, ())
    assert (made.revision, made.start("users")) == (9, 10)


def test_the_same_list_again_is_no_news() -> None:
    """Equal content gives no new snapshot, whatever the revision."""
    made = listed(several(1, 2))
    assert made.listed(["users"], several(1, 2), 20, 1.0) == []
    assert made.start("users") == 21


def test_events_change_the_snapshot() -> None:
    """Puts add and replace, deletions take out, and the snapshot has the revision of the last of them."""
    made = listed(several(1))
    (snapshot,) = made.changed([put("a2", 11), gone("a1", 12)], 0.0)
    assert ids([snapshot]) == ["a2"]
    assert snapshot.revision == 12
    assert made.start("users") == 13


def test_events_of_other_services_and_keys_are_ignored() -> None:
    """What nobody asked for changes nothing."""
    made = listed(several(1))
    foreign = Entry(b"/elsewhere/x", b"{}", 13)
    assert made.changed([put("a9", 11, service="orders"), put("a9", 12, service="users2"), foreign], 0.0) == []


def test_repeated_and_backward_events_are_dropped() -> None:
    """F42: an event counts only if it is newer than what is known of its key."""
    made = listed(several(1))
    made.changed([put("a2", 15), gone("a2", 17)], 0.0)
    assert made.changed([put("a2", 15)], 0.0) == [], "repeated after the deletion: the tombstone holds"
    assert made.changed([gone("a1", 9)], 0.0) == [], "older than the list"
    assert made.changed([put("a1", 1, state="draining")], 0.0) == []
    assert ids(made.changed([put("a2", 18)], 0.0)) == ["a1", "a2"]


def test_a_tombstone_ends_with_the_next_list() -> None:
    """F80: what was deleted is remembered only until a full list says the same."""
    made = listed([])
    for n in range(100):
        made.changed([put("a1", 11 + 2 * n), gone("a1", 12 + 2 * n)], 0.0)
    made.listed(["users"], [], 300, 0.0)
    assert made._services["users"].seen == {}
    assert made.changed([put("a1", 299)], 0.0) == []


def test_a_lower_revision_is_a_new_store() -> None:
    """F32, F33: after a wipe or a restore the guards start anew, and new events count."""
    made = listed(several(1, 2), revision=1000)
    assert ids(made.listed(["users"], [put("a1", 2)], 2, 0.0)) == ["a1"]
    assert ids(made.changed([put("a2", 3)], 0.0)) == ["a1", "a2"]
    assert made.start("users") == 4


def test_one_address_belongs_to_the_record_created_last() -> None:
    """F14: an instance that came back under another id has one share, not two."""
    made = listed([put("a1", 3, port=80), put("a2", 7, port=80)])
    assert made.changed([put("a1", 12, port=80, created=3, state="draining")], 0.0) == []
    assert ids(made.changed([put("a3", 13, port=80)], 0.0)) == ["a3"]
    assert ids(made.changed([gone("a3", 14)], 0.0)) == ["a2"]


def test_bad_records_are_skipped_and_told_once() -> None:
    """F46: a record that can't be read hides nobody else, is counted, and is news once a revision."""
    made = listed([])
    bad = Entry(records.key(ROOT, "users", "a1"), b"nonsense", 11)
    assert ids(made.changed([bad, put("a2", 12)], 0.0)) == ["a2"]
    assert made.skipped == 1
    assert [skipped.mod_revision for skipped in made.news()] == [11]
    made.listed(["users"], [bad, put("a2", 12)], 20, 0.0)
    assert made.news() == []
    made.changed([Entry(bad.key, b"still nonsense", 21)], 0.0)
    assert [skipped.mod_revision for skipped in made.news()] == [21]
    made.changed([put("a1", 22)], 0.0)
    assert made.skipped == 0


def test_a_good_record_turned_bad_is_taken_out() -> None:
    """F46: what an instance says now counts, also if it is nonsense."""
    made = listed(several(1, 2))
    assert ids(made.changed([Entry(records.key(ROOT, "users", "a1"), b"", 11)], 0.0)) == ["a2"]


def test_a_key_too_deep_is_a_bad_record() -> None:
    """F48: a strange key below a service is counted there."""
    made = listed([Entry(b"/p2plb/services/users/a/b", b"{}", 3)])
    assert made.skipped == 1


def rested(last: Snapshot, *entries: Entry) -> list[Snapshot]:
    """Return what is told of a service whose last snapshot is all that is left of an earlier watch."""
    made = Reducer(
        partial(records.decode, ROOT, loopback=True), partial(records.service_of, ROOT), last=lambda _service: last
    )
    return made.listed(["users"], entries, 100, 0.0)


def test_a_wipe_during_a_rest_is_a_mass_loss() -> None:
    """F32: after a rest or a fork the last snapshot is all that is known, and an empty list is not believed at once."""
    (last,) = reducer().listed(["users"], several(1, 2, 3, 4), 10, 0.0)
    assert ghosts(rested(last)) == {"a1", "a2", "a3", "a4"}
    assert ghosts(rested(last, put("a9", 50, port=8002, state="draining"))) == {"a1", "a3", "a4"}
    assert ids(rested(last, put("a9", 50))) == ["a9"], "somebody is there: the others may have left long ago"
    (few,) = reducer().listed(["users"], several(1, 2), 10, 0.0)
    assert ids(rested(few)) == []


def test_what_was_draining_before_a_rest_is_no_loss() -> None:
    """F24: whoever said that it leaves is not missed."""
    entries = [put(f"a{number}", number, state="draining") for number in range(1, 5)]
    (last,) = reducer().listed(["users"], entries, 10, 0.0)
    assert ids(rested(last)) == []


def test_one_removed_is_just_removed() -> None:
    """A single loss is believed at once."""
    made = listed(several(1, 2, 3, 4, 5))
    assert ids(made.changed([gone("a1", 11)], 0.0)) == ["a2", "a3", "a4", "a5"]
    assert made.due is None


def test_a_mass_loss_leaves_ghosts_for_a_while() -> None:
    """F36: more than half and at least three without a word: they stay, marked, until their time is over."""
    made = listed(several(1, 2, 3, 4))
    assert ids(made.changed([gone("a1", 11)], 100.0)) == ["a2", "a3", "a4"]
    assert ids(made.changed([gone("a2", 12)], 105.0)) == ["a3", "a4"]
    third = made.changed([gone("a3", 13)], 110.0)
    assert ids(third) == ["a1", "a2", "a3", "a4"]
    assert ghosts(third) == {"a1", "a2", "a3"}
    assert made.due == 140.0
    assert made.tick(139.9) == []
    assert ids(made.tick(140.0)) == ["a4"]
    assert made.due is None


def test_a_wiped_store_is_a_mass_loss() -> None:
    """F32: an empty list at a lower revision does not drop a service to zero; who registers again is no ghost."""
    made = listed(several(1, 2, 3))
    wiped = made.listed(["users"], [], 1, 5.0)
    assert ids(wiped) == ["a1", "a2", "a3"]
    assert ghosts(wiped) == {"a1", "a2", "a3"}
    back = made.changed([put("a2", 2)], 6.0)
    assert ghosts(back) == {"a1", "a3"}
    assert ids(back) == ["a1", "a2", "a3"]
    assert ids(made.tick(35.0)) == ["a2"]


def test_an_address_that_is_back_replaces_its_ghost() -> None:
    """F36: the same address under a new id lays the old ghost."""
    made = listed(several(1, 2, 3))
    made.changed([gone("a1", 11), gone("a2", 12), gone("a3", 13)], 0.0)
    back = made.changed([put("a7", 14, port=8001)], 1.0)
    assert ids(back) == ["a2", "a3", "a7"]
    assert ghosts(back) == {"a2", "a3"}


def test_who_left_through_draining_is_no_ghost() -> None:
    """F24: a whole fleet that says goodbye is gone, also when goodbye and deletion come in one frame."""
    made = listed(several(1, 2, 3, 4))
    goodbyes = [put(f"a{n}", 20 + n, state="draining", created=n) for n in range(1, 5)]
    made.changed(goodbyes, 0.0)
    assert ids(made.changed([gone(f"a{n}", 30 + n) for n in range(1, 5)], 1.0)) == []
    made = listed(several(1, 2, 3, 4))
    assert ids(made.changed([*goodbyes, *(gone(f"a{n}", 30 + n) for n in range(1, 5))], 0.0)) == []


def test_who_was_never_shown_is_no_ghost() -> None:
    """F36: instances that come and go within one frame were nobody's, so they are no loss."""
    made = listed(several(1))
    flapped = [*several(5, 6, 7, 8, revision=20), *(gone(f"a{n}", 30 + n) for n in (5, 6, 7, 8))]
    assert made.changed(flapped, 0.0) == []
    assert made.due is None


def test_losses_far_apart_are_no_mass_loss() -> None:
    """F36: what was lost long ago does not count."""
    made = listed(several(1, 2, 3, 4))
    for n, now in ((1, 0.0), (2, 29.0), (3, 31.0)):
        made.changed([gone(f"a{n}", 20 + n)], now)
    assert made.due is None


def test_a_fleet_replaced_without_goodbye() -> None:
    """F24: if as many newcomers are there, the lost are let go."""
    made = listed(several(1, 2, 3, 4))
    made.changed(several(11, 12, 13, 14, revision=20), 0.0)
    assert ids(made.changed([gone(f"a{n}", 30 + n) for n in range(1, 5)], 1.0)) == ["a11", "a12", "a13", "a14"]


def test_two_of_two_are_too_few_for_ghosts() -> None:
    """F36: below the least number everybody is believed."""
    made = listed(several(1, 2))
    assert ids(made.changed([gone("a1", 11), gone("a2", 12)], 0.0)) == []


def test_the_rule_is_an_argument() -> None:
    """Who wants no ghosts asks for more than all."""
    made = listed(several(1, 2, 3), rule=MassLoss(share=1.0))
    assert ids(made.changed([gone(f"a{n}", 10 + n) for n in range(1, 4)], 0.0)) == []


def test_services_that_are_not_kept_are_forgotten() -> None:
    """F80: nothing remains of a service that nobody wants."""
    made = reducer()
    made.listed(["users", "orders"], [put("a1", 3, service="orders")], 9, 0.0)
    made.keep(["users"])
    assert made.changed([gone("a1", 10, service="orders")], 0.0) == []
    assert len(made.listed(["orders"], [], 11, 0.0)) == 1, "told anew, though it says the same"


NO_GHOSTS = MassLoss(share=1.0)
CHANGES = st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["up", "draining", "gone"])), max_size=30)


def history(changes: list[tuple[int, str]]) -> tuple[list[Entry], dict[bytes, Entry]]:
    """Play changes as etcd would: the events, and the store at their end."""
    events, store = [], dict[bytes, Entry]()
    for revision, (number, state) in enumerate(changes, start=11):
        key = records.key(ROOT, "users", f"a{number}")
        if state == "gone":
            event = gone(f"a{number}", revision)
            store.pop(key, None)
        else:
            created = store[key].create_revision if key in store else revision
            event = store[key] = put(f"a{number}", revision, port=80 + number // 2, state=state, created=created)
        events.append(event)
    return events, store


@settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(CHANGES, st.data())
def test_events_in_any_disorder_equal_a_fresh_list(changes: list[tuple[int, str]], data: st.DataObject) -> None:
    """F42: repeated and reordered events, in frames of any size, leave what a list at the end shows."""
    events, store = history(changes)
    repeated = data.draw(st.lists(st.sampled_from(events), max_size=10)) if events else []
    disorder = data.draw(st.permutations(events + repeated))
    size = data.draw(st.integers(1, 7))
    told, fresh = listed([], rule=NO_GHOSTS), listed(store.values(), revision=99, rule=NO_GHOSTS)
    for start in range(0, len(disorder), size):
        told.changed(disorder[start : start + size], 0.0)
    replayed, truth = told._services["users"].snapshot, fresh._services["users"].snapshot
    assert replayed is not None
    assert truth is not None
    assert replayed.instances == truth.instances
