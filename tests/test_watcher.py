"""What the watch thread does next, told as data: no thread, no clock, no etcd."""

import random

import pytest

from p2plb.discovery.etcd.driver import Closed, Compacted, Denied, DriverError, LeaseGone, Unavailable
from p2plb.discovery.plan import List, Open, Park, Plan, Sleep, Timing

USERS, BOTH = frozenset({"users"}), frozenset({"users", "orders"})
DOWN = Unavailable("down")


def plan(timing: Timing | None = None, seed: int = 1) -> Plan:
    return Plan(timing or Timing(), random.Random(seed))


def watching(services: frozenset[str] = USERS, now: float = 0.0) -> Plan:
    """Return a plan that has listed and opened."""
    made = plan()
    made.next(services, now)
    made.listed(services, now)
    made.next(services, now)
    made.opened()
    return made


def test_nothing_wanted() -> None:
    """Without a wanted service there is nothing to do."""
    assert plan().next(frozenset(), 0.0) == Park()


def test_list_then_open() -> None:
    """First everything is read, then the stream is opened, to be rotated after 13 to 15 s of silence."""
    made = plan()
    assert made.next(USERS, 0.0) == List(USERS)
    made.listed(USERS, 0.0)
    action = made.next(USERS, 0.0)
    assert isinstance(action, Open)
    assert action.services == USERS
    assert 13.0 <= action.idle <= 15.0


def test_a_planned_end_resumes() -> None:
    """F40: after a silent stream the next one is opened without a list."""
    assert isinstance(watching().next(USERS, 14.0), Open)


def test_a_new_service_is_read_alone_and_joins() -> None:
    """More services: only the new ones are listed, then one stream has all."""
    made = watching()
    assert made.next(BOTH, 1.0) == List(frozenset({"orders"}))
    made.listed(frozenset({"orders"}), 1.0)
    action = made.next(BOTH, 1.0)
    assert isinstance(action, Open)
    assert action.services == BOTH


def test_streams_are_opened_at_most_once_in_the_gap() -> None:
    """Services that come one after the other share an opening."""
    action = watching(now=5.0).next(BOTH, 5.01)
    assert isinstance(action, Sleep)
    assert action.seconds == pytest.approx(0.04)


def test_a_dropped_service_must_be_read_again() -> None:
    """What was not watched for a while is not resumed."""
    made = watching(BOTH)
    made.next(USERS, 20.0)
    assert made.next(BOTH, 40.0) == List(frozenset({"orders"}))


def test_parking_forgets() -> None:
    """After a time without any watch everything is read again."""
    made = watching()
    made.next(frozenset(), 20.0)
    assert made.next(USERS, 40.0) == List(USERS)


def test_after_the_resync_time_everything_is_read() -> None:
    """F33: a full list now and then nets what events did not tell; 300 s give or take a fifth."""
    for seed in range(50):
        made = plan(seed=seed)
        made.listed(USERS, 0.0)
        assert not made.overdue(239.9)
        assert made.overdue(360.1)
        assert made.next(USERS, 361.0) == List(USERS)
        made.listed(USERS, 361.0)
        assert not made.overdue(600.0)


def test_ghosts_shorten_the_silence() -> None:
    """F36: the stream is opened anew when a ghost is due, since only a living etcd may lay it."""
    made = plan()
    made.listed(USERS, 0.0)
    action = made.next(USERS, 100.0, due=103.0)
    assert isinstance(action, Open)
    assert action.idle == pytest.approx(3.0)
    overdue = made.next(USERS, 200.0, due=103.0)
    assert isinstance(overdue, Open)
    assert overdue.idle == Timing().gap


@pytest.mark.parametrize("error", [DOWN, Closed("x"), LeaseGone("x"), DriverError("x")])
def test_an_unplanned_end_lists_again(error: DriverError) -> None:
    """F31: a stream that broke is never resumed; the first pause is anything up to a second."""
    made = watching()
    made.failed(error, 100.0)
    pause = made.next(USERS, 100.0)
    assert isinstance(pause, Sleep)
    assert 0.0 < pause.seconds <= 1.0
    assert made.next(USERS, 101.0) == List(USERS)


def test_compaction_lists_at_once() -> None:
    """F35: a compacted revision is no outage; if it happens again without a stream in between, it is."""
    made = watching()
    made.failed(Compacted("x"), 100.0)
    assert made.next(USERS, 100.0) == List(USERS)
    made.listed(USERS, 100.0)
    made.next(USERS, 100.0)
    made.failed(Compacted("x"), 100.1)
    assert isinstance(made.next(USERS, 100.1), Sleep)


def test_a_refusal_waits_for_an_operator() -> None:
    """F45: no permission, no haste; also a new service does not hurry it."""
    made = watching()
    made.failed(Denied("x"), 100.0)
    assert made.next(BOTH, 101.0) == Sleep(59.0)
    assert made.next(USERS, 160.0) == List(USERS)


def outage(made: Plan, seconds: float) -> list[float]:
    """Play an outage; return the pauses."""
    pauses, now = [], 0.0
    while now < seconds:
        made.failed(DOWN, now)
        action = made.next(USERS, now)
        assert isinstance(action, Sleep)
        pauses.append(action.seconds)
        now += action.seconds
    return pauses


def test_pauses_grow_with_the_outage() -> None:
    """F30, F56: up to 1 s while it is young, under 2 s in the first minute, never above 30 s."""
    for seed in range(20):
        assert max(outage(plan(seed=seed), 30.0)) <= 1.0
        assert max(outage(plan(seed=seed), 60.0)) < 2.0
        hours = outage(plan(seed=seed), 4 * 3600.0)
        assert 20.0 < max(hours) <= 30.0
        assert len(hours) < 1500


def test_first_pauses_are_spread() -> None:
    """F56: a thousand clients that lose etcd at once come back evenly over the second."""
    pauses = []
    for seed in range(1000):
        made = plan(seed=seed)
        made.failed(DOWN, 0.0)
        action = made.next(USERS, 0.0)
        assert isinstance(action, Sleep)
        pauses.append(action.seconds)
    for tenth in range(10):
        assert 60 < sum(tenth / 10 <= pause < (tenth + 1) / 10 for pause in pauses) < 145


def test_a_stream_ends_the_outage() -> None:
    """After a success the pauses are short again; a list alone is none."""
    made = plan()
    outage(made, 3600.0)
    made.listed(USERS, 3600.0)
    made.opened()
    made.failed(DOWN, 3700.0)
    action = made.next(USERS, 3700.0)
    assert isinstance(action, Sleep)
    assert action.seconds <= 1.0
